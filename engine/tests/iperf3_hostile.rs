//! A server of iperf3's protocol among strangers: it goes on, answers nobody who has not proved an address, and keeps little of what they send.
#![forbid(unsafe_code)]

#[path = "iperf3/harness.rs"]
mod harness;
#[path = "iperf3/raw.rs"]
mod raw;

use std::net::UdpSocket;
use std::time::Duration;

use harness::Served;
use raw::{Raw, parameters, results, whole_test};
use serde_json::json;
use wirerate_engine::interop::iperf3::Code;

/// What arrives at `socket` within a moment.
fn heard(socket: &UdpSocket) -> usize {
    socket.set_read_timeout(Some(Duration::from_millis(300))).unwrap();
    let mut bytes = [0; 2000];
    let mut count = 0;
    while count < 1000 && socket.recv(&mut bytes).is_ok() {
        count += 1;
    }
    count
}

#[test]
fn whatever_is_said_the_server_goes_on() {
    let served = Served::start("127.0.0.1", |_| {});
    // No cookie.
    for bytes in [&b"GET / HTTP/1.1\r\n\r\n"[..], &[0; 37], &[0xff; 100], &[b'a'; 37]] {
        let mut raw = Raw::connect(served.address);
        raw.say(bytes);
        assert_eq!(raw.byte(), None, "closed without a word");
    }
    // No parameters.
    let deep = "[".repeat(8000);
    let longest = format!("\"{}\"", "x".repeat(8189));
    let with_length = |text: &str| [&(text.len() as u32).to_be_bytes()[..], text.as_bytes()].concat();
    for bytes in [
        vec![0xff; 4],
        vec![0; 4],
        8193u32.to_be_bytes().to_vec(),
        with_length("{"),
        with_length("[]"),
        with_length("null"),
        with_length(&deep),
        with_length(&longest),
    ] {
        let mut raw = Raw::greeted(served.address);
        raw.say(&bytes);
        assert_eq!(raw.error(), Some(Code::ReceiveParameters.number()), "{:?}", &bytes[..4]);
    }
    for (key, value, code) in [
        ("parallel", json!(1_000_000), Code::Streams),
        ("parallel", json!(-1), Code::Streams),
        ("len", json!(1), Code::UdpLength),
        ("len", json!(1e300), Code::UdpLength),
        ("time", json!(1e18), Code::Duration),
        ("window", json!(u64::MAX), Code::BufferSize),
        ("burst", json!(0), Code::Burst),
        ("server_affinity", json!(1000), Code::Affinity),
        ("bidirectional", json!(true), Code::ReverseBidirectional),
    ] {
        let mut asked = parameters();
        asked[key] = value;
        asked["reverse"] = (code == Code::ReverseBidirectional).into();
        let mut raw = Raw::greeted(served.address);
        raw.say_json(&asked);
        assert_eq!(raw.error(), Some(code.number()), "{asked}");
    }
    // Wrong states where hellos are awaited, and where data flows.
    for state in [0u8, 2, 4, 9, 10, 13, 16, 0x7f, 0xff, 0xfe] {
        let mut raw = Raw::asked(served.address, &parameters());
        raw.say(&[state]);
        assert_eq!(raw.error(), Some(Code::Message.number()), "state {state}");
    }
    for state in [0u8, 9, 13, 14, 16, 0x80] {
        let mut raw = Raw::asked(served.address, &parameters());
        let _stream = raw.stream("127.0.0.1");
        assert_eq!((raw.byte(), raw.byte()), (Some(1), Some(2)));
        raw.say(&[state]);
        assert_eq!(raw.error(), Some(Code::Message.number()), "state {state}");
    }
    // No results.
    let mut other = results(1);
    other["streams"][0]["id"] = 7.into();
    for (said, code) in [
        (vec![0xff; 4], Code::ReceiveResults),
        (1_000_000u32.to_be_bytes().to_vec(), Code::ReceiveResults),
        (with_length("{\"streams\": 5}"), Code::ReceiveResults),
        (with_length(&other.to_string()), Code::StreamId),
    ] {
        let mut raw = Raw::asked(served.address, &parameters());
        let _stream = raw.stream("127.0.0.1");
        assert_eq!((raw.byte(), raw.byte()), (Some(1), Some(2)));
        raw.say(&[4]);
        assert_eq!(raw.byte(), Some(13));
        raw.say(&said);
        assert_eq!(raw.error(), Some(code.number()));
    }
    whole_test(served.address);
    served.stop().unwrap();
}

#[test]
fn nothing_goes_to_an_address_that_proved_nothing() {
    let served = Served::start("127.0.0.1", |_| {});
    // No test awaits anything.
    let stranger = UdpSocket::bind("127.0.0.1:0").unwrap();
    stranger.send_to(b"9876", served.address).unwrap();
    assert_eq!(heard(&stranger), 0);

    let mut asked = parameters();
    (asked["reverse"], asked["bandwidth"]) = (true.into(), 100_000_000.into());
    let mut raw = Raw::asked(served.address, &asked);
    // Another address than that of the control connection.
    let other = raw.hello("127.0.0.2");
    assert_eq!(heard(&other), 0);
    let stream = raw.stream("127.0.0.1");
    // All streams stand.
    let late = raw.hello("127.0.0.1");
    assert_eq!((raw.byte(), raw.byte()), (Some(1), Some(2)));
    assert_eq!((heard(&other), heard(&late)), (0, 0));
    let mut bytes = [0; 2000];
    assert_eq!(stream.recv(&mut bytes).ok(), Some(1000), "data goes where the hello came from");
    // The data ends with the control connection: what is told after that, nothing follows.
    drop(raw);
    served.failure();
    stream.set_nonblocking(true).unwrap();
    while stream.recv(&mut bytes).is_ok() {}
    stream.set_nonblocking(false).unwrap();
    assert_eq!(heard(&stream), 0);
    served.stop().unwrap();
}

#[test]
fn a_flood_of_connections_keeps_nobody_out() {
    let served = Served::start("127.0.0.1", |config| config.max_tests = 4);
    let descriptors = || std::fs::read_dir("/proc/self/fd").unwrap().count();
    let before = descriptors();
    let mut flood = Vec::new();
    for n in 0..300 {
        let mut raw = Raw::connect(served.address);
        // Nothing, a part of a cookie, or no end to it; an earlier one may be closed by now.
        let _ = std::io::Write::write(&mut raw.stream, &vec![b'a'; n % 37]);
        flood.push(raw);
    }
    whole_test(served.address);
    let held = descriptors() - before - flood.len();
    assert!(held < 100, "{held} descriptors at the server");
    drop(flood);
    // Tests that name themselves and stay silent take places, and no more than there are.
    let named: Vec<Raw> = (0..4).map(|_| Raw::greeted(served.address)).collect();
    let mut refused = Raw::connect(served.address);
    refused.say(&[&[b'a'; 36][..], &[0]].concat());
    assert_eq!(refused.byte(), Some(0xff));
    drop(named);
    // The next is the sixth.
    served.until(|told| matches!(told, harness::Told::Listening(_, 6)).then_some(()));
    whole_test(served.address);
    served.stop().unwrap();
}

#[test]
fn tests_of_one_address_do_not_take_each_others_streams() {
    let served = Served::start("127.0.0.1", |_| {});
    let mut first = Raw::asked(served.address, &parameters());
    let mut second = Raw::greeted(served.address);
    second.say_json(&parameters());
    // The second is not asked for its streams before the first has them.
    second.stream.set_read_timeout(Some(Duration::from_millis(300))).unwrap();
    assert_eq!(second.byte(), None);
    second.stream.set_read_timeout(Some(Duration::from_secs(20))).unwrap();
    let one = first.stream("127.0.0.1");
    assert_eq!(second.byte(), Some(10));
    let two = second.stream("127.0.0.1");
    assert_eq!((first.byte(), first.byte()), (Some(1), Some(2)));
    assert_eq!((second.byte(), second.byte()), (Some(1), Some(2)));
    (1..=5).for_each(|number| assert!(one.send(&raw::datagram(number, 1000)).is_ok()));
    (1..=9).for_each(|number| assert!(two.send(&raw::datagram(number, 1000)).is_ok()));
    assert_eq!(first.finish(5)["streams"][0]["packets"].as_u64(), Some(5));
    assert_eq!(second.finish(9)["streams"][0]["packets"].as_u64(), Some(9));
    served.stop().unwrap();
}
