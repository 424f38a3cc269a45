//! iperf3's protocol against stock iperf3, both ways, over loopback: both ends state the same.
#![forbid(unsafe_code)]

#[path = "iperf3/harness.rs"]
mod harness;

use std::path::PathBuf;

use harness::{Served, StockServer, Told, client, end_of, has_gsro, run, stock, streams};
use wirerate_engine::interop::iperf3::{
    Amount, Backend, ClientConfig, Code, Control, Direction, End, Totals,
};

/// Options of a stock client, and the streams that there are then: of each whether the server sends.
const CASES: &[(&[&str], &[bool])] = &[
    (&[], &[false]),
    (&["-R"], &[true]),
    (&["--bidir"], &[false, true]),
    (&["-P", "4"], &[false; 4]),
    (&["-P", "2", "-R"], &[true; 2]),
    (&["-P", "2", "--bidir"], &[false, false, true, true]),
    (&["--udp-counters-64bit"], &[false]),
    (&["-R", "--udp-counters-64bit"], &[true]),
];

/// What both ends say of each stream fits together: whoever received has each datagram up to the highest but those that it holds for lost. A stock receiver
/// loses some when it does not get to run, as its buffers are small; ours does not.
fn assert_whole(end: &End, senders: &[bool], stock: bool) {
    assert_eq!(end.streams.len(), senders.len(), "{end:?}");
    for (stream, &sends) in end.streams.iter().zip(senders) {
        let peer = stream.peer.unwrap_or_else(|| panic!("the peer's figures: {end:?}"));
        let (sent, received): (Totals, Totals) = if sends { (stream.own, peer) } else { (peer, stream.own) };
        assert!(sent.packets > 0 && received.packets <= sent.packets, "{end:?}");
        assert_eq!(sent.bytes, sent.packets * 1000, "{end:?}");
        assert_eq!(
            received.bytes.cast_signed(),
            (received.packets.cast_signed() - received.lost) * 1000,
            "{end:?}"
        );
        if !(sends && stock) {
            assert_eq!((received.packets, received.lost), (sent.packets, 0), "{end:?}");
        }
    }
}

/// What iperf3 prints of each stream is what both ends say of it. A server prints before it knows the client's figures, and then has no bytes of what it received.
fn assert_printed(json: &serde_json::Value, end: &End) {
    assert_eq!(json["error"], serde_json::Value::Null, "{json}");
    for ((_, bytes, packets, lost), stream) in streams(json).into_iter().zip(&end.streams) {
        let both = [stream.own, stream.peer.expect("told")];
        assert!(bytes == 0 || both.iter().any(|totals| totals.bytes == bytes), "{json}\n{end:?}");
        assert!(both.iter().any(|totals| totals.packets == packets), "{json}\n{end:?}");
        assert!(both.iter().any(|totals| totals.lost == lost), "{json}\n{end:?}");
    }
}

fn interop_with_our_server(address: &str, iperf3: &PathBuf, cases: &[(&[&str], &[bool])]) {
    let served = Served::start(address, |_| {});
    for (args, senders) in cases {
        let args: Vec<&str> = args.iter().copied().chain(["-b", "10M", "-t", "1"]).collect();
        let json = client(iperf3, served.address, &args);
        let end = served.end();
        assert_whole(&end, senders, true);
        assert_printed(&json, &end);
        let cpu = &json["end"]["cpu_utilization_percent"]["remote_total"];
        assert!((cpu.as_f64().unwrap() - end.cpu.total).abs() < 1e-6, "{json}");
    }
    served.stop().unwrap();
}

#[test]
fn stock_clients_and_our_server_state_the_same() {
    for iperf3 in stock() {
        interop_with_our_server("127.0.0.1", &iperf3, CASES);
        interop_with_our_server("::1", &iperf3, &CASES[..3]);
        if has_gsro(&iperf3) {
            interop_with_our_server(
                "127.0.0.1",
                &iperf3,
                &[(&["--gsro"], &[false]), (&["--gsro", "-R"], &[true])],
            );
        }
    }
}

/// Nothing was lost; each end has left out what it held for the omitted beginning, which ended a moment earlier or later there.
fn assert_omitted(end: &End, streams: usize) {
    assert_eq!(end.streams.len(), streams, "{end:?}");
    for stream in &end.streams {
        for totals in [stream.own, stream.peer.expect("told")] {
            assert_eq!(totals.lost, 0, "{end:?}");
            assert_eq!(totals.bytes, totals.packets * 1000, "{end:?}");
        }
    }
}

fn config(port: u16, change: impl FnOnce(&mut ClientConfig)) -> ClientConfig {
    let mut config = ClientConfig::new("127.0.0.1");
    (config.port, config.length, config.bandwidth) = (port, Some(1000), 10_000_000);
    config.amount = Amount::Seconds(1);
    change(&mut config);
    config
}

#[test]
fn our_client_and_stock_servers_state_the_same() {
    type Change = fn(&mut ClientConfig);
    let cases: &[(Change, &[bool])] = &[
        (|_| {}, &[false]),
        (|c| c.backend = Backend::Mmsg, &[false]),
        (|c| c.direction = Direction::Reverse, &[true]),
        (|c| c.direction = Direction::Bidirectional, &[false, true]),
        (|c| c.parallel = 4, &[false; 4]),
        (|c| (c.parallel, c.direction) = (2, Direction::Bidirectional), &[false, false, true, true]),
        (|c| c.counters_64bit = true, &[false]),
        (|c| (c.counters_64bit, c.direction) = (true, Direction::Reverse), &[true]),
        (|c| (c.amount, c.tos, c.get_server_output) = (Amount::Blocks(500), 0x28, true), &[false]),
        (|c| (c.amount, c.window) = (Amount::Bytes(700_000), Some(100_000)), &[false]),
    ];
    for iperf3 in stock() {
        for (n, (change, server_sends)) in cases.iter().enumerate() {
            let server = StockServer::start(&iperf3, "127.0.0.1", &[]);
            let config = config(server.port, change);
            let (told, result) = run(&config, &Control::default());
            assert_eq!(result, Ok(()), "{told:?}");
            let end = end_of(&told);
            let senders: Vec<bool> = server_sends.iter().map(|&server| !server).collect();
            if matches!(config.amount, Amount::Seconds(_)) {
                assert_whole(&end, &senders, true);
            }
            match config.amount {
                Amount::Blocks(blocks) => assert_eq!(end.streams[0].own.packets, blocks),
                Amount::Bytes(bytes) => assert_eq!(end.streams[0].own.bytes, bytes),
                Amount::Seconds(_) => {}
            }
            assert_eq!(end.server_output.is_some(), config.get_server_output);
            let begun = told.iter().any(|told| matches!(told, Told::Begin(_)));
            assert!(begun && matches!(told.last(), Some(Told::Done(1))), "{told:?}");
            let json = server.json();
            assert_printed(&json, &end);
            assert_eq!(json["start"]["test_start"]["blksize"], 1000, "case {n}: {json}");
        }
    }
}

#[test]
fn ours_with_ours_over_either_ip_version_with_all_that_a_test_can_ask_for() {
    for address in ["127.0.0.1", "::1"] {
        let served = Served::start(address, |_| {});
        let direction = Direction::Bidirectional;
        let mut config = config(served.address.port(), |c| (c.parallel, c.direction) = (3, direction));
        config.host = address.to_owned();
        (config.gsro, config.omit, config.get_server_output) = (true, 1, true);
        (config.burst, config.tos, config.dont_fragment) = (10, 0xb8, true);
        (config.title, config.repeating_payload) = (Some("title".to_owned()), true);
        let (told, result) = run(&config, &Control::default());
        assert_eq!(result, Ok(()), "{told:?}");
        let end = end_of(&told);
        assert_omitted(&end, 6);
        assert!(end.server_output.is_some());
        let omitted = told.iter().filter(|told| matches!(told, Told::Interval(i) if i.omitted)).count();
        assert_eq!(omitted, 1, "{told:?}");
        let parameters = served.until(|told| match told {
            Told::Parameters(_, parameters) => Some(parameters),
            _ => None,
        });
        assert_eq!(parameters.title.as_deref(), Some("title"));
        assert_omitted(&served.end(), 6);
        served.stop().unwrap();
    }
}

#[test]
fn several_clients_are_served_at_once() {
    let served = Served::start("127.0.0.1", |config| config.max_tests = 3);
    let port = served.address.port();
    let clients: Vec<_> = (0..3)
        .map(|n| {
            std::thread::spawn(move || {
                let config = config(port, |c| {
                    c.parallel = n + 1;
                    if n == 1 {
                        c.direction = Direction::Reverse;
                    }
                });
                run(&config, &Control::default())
            })
        })
        .collect();
    for _ in 0..3 {
        served.until(|told| matches!(told, Told::Begin(_)).then_some(()));
    }
    for (n, client) in clients.into_iter().enumerate() {
        let (told, result) = client.join().unwrap();
        assert_eq!(result, Ok(()), "{told:?}");
        assert_whole(&end_of(&told), &vec![n != 1; n + 1], false);
    }
    served.until(|told| matches!(told, Told::Listening(_, 4)).then_some(()));
    served.stop().unwrap();
}

#[test]
fn a_server_that_is_not_there_is_said() {
    let (told, result) = run(&config(1, |_| {}), &Control::default());
    let failure = result.unwrap_err();
    assert_eq!((failure.code, failure.errno), (Code::Connect, Some(libc::ECONNREFUSED)));
    assert!(matches!(told.last(), Some(Told::Failed(1, _))));
}
