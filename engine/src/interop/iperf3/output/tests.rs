//! What real iperf3 printed (engine/tests/data/iperf3, 3.12 and 3.22, on a path that loses one datagram in seven), beside what is made of the same events.

use std::net::SocketAddr;
use std::time::{Duration, UNIX_EPOCH};

use serde_json::{Value, json};

use super::super::config::{Amount, Direction};
use super::super::event::{
    Begin, Cpu, End, Event, Interval, Parameters, ServerOutput, Stream, StreamEnd, StreamInterval, Totals,
};
use super::recorder::gmt;
use super::{Identity, Recorder, layout};

fn captured(text: &str) -> Value {
    serde_json::from_str(text).expect("iperf3 prints JSON")
}

fn number(value: &Value) -> f64 {
    value.as_f64().expect("a number")
}

fn whole(value: &Value) -> u64 {
    value.as_u64().expect("a whole number")
}

/// The events that a captured object tells of, fed to a recorder. What an end did not tell of each stream is taken from `sums`.
fn replayed(real: &Value, client: bool) -> Recorder {
    let start = &real["start"];
    let test = &start["test_start"];
    let direction = match (whole(&test["reverse"]), test["bidir"].as_u64().unwrap_or(0)) {
        (1, _) => Direction::Reverse,
        (_, 1) => Direction::Bidirectional,
        _ => Direction::Normal,
    };
    let identity = Identity {
        version: start["version"].as_str().unwrap().to_owned(),
        system_info: start["system_info"].as_str().unwrap().to_owned(),
    };
    let interval = Duration::from_secs_f64(test["interval"].as_f64().unwrap_or(1.0));
    let mut recorder = Recorder::new(client, &identity, interval, true);
    let peer = if client { &start["connecting_to"] } else { &start["accepted_connection"] };
    let (host, port) = (peer["host"].as_str().unwrap(), whole(&peer["port"]) as u16);
    if client {
        recorder.event(&Event::Connecting { host, port });
    }
    let stamp = &start["timestamp"];
    let at = match stamp["timemillisecs"].as_u64() {
        Some(milliseconds) => UNIX_EPOCH + Duration::from_millis(milliseconds),
        None => UNIX_EPOCH + Duration::from_secs(whole(&stamp["timesecs"])),
    };
    let (local, remote) = ("127.0.0.1:1".parse().unwrap(), format!("{host}:{port}").parse().unwrap());
    let cookie = start["cookie"].as_str().unwrap();
    recorder.event(&Event::Accepted { test: 1, local, remote, cookie, mss: 32_768, at });
    let sockets = start["connected"].as_array().unwrap();
    let half = sockets.len() / 2;
    let streams: Vec<Stream> = sockets
        .iter()
        .enumerate()
        .map(|(index, s)| {
            let address = |host: &str, port: &str| -> SocketAddr {
                format!("{}:{}", s[host].as_str().unwrap(), s[port]).parse().unwrap()
            };
            let sender = match direction {
                Direction::Normal => client,
                Direction::Reverse => !client,
                Direction::Bidirectional => (index < half) == client,
            };
            Stream {
                id: 1,
                socket: s["socket"].as_i64().unwrap() as i32,
                local: address("local_host", "local_port"),
                remote: address("remote_host", "remote_port"),
                sender,
            }
        })
        .collect();
    let amount = match (whole(&test["bytes"]), whole(&test["blocks"])) {
        (0, 0) => Amount::Seconds(whole(&test["duration"]) as u32),
        (0, blocks) => Amount::Blocks(blocks),
        (bytes, _) => Amount::Bytes(bytes),
    };
    let parameters = Parameters {
        direction,
        parallel: whole(&test["num_streams"]) as u16,
        length: whole(&test["blksize"]) as u16,
        amount,
        omit: whole(&test["omit"]) as u32,
        bandwidth: whole(&test["target_bitrate"]),
        burst: 0,
        fq_rate: 0,
        window: whole(&start["sock_bufsize"]) as u32,
        tos: whole(&test["tos"]) as u8,
        flow_label: 0,
        dont_fragment: false,
        counters_64bit: false,
        gso: false,
        gro: false,
        repeating_payload: false,
        zero_copy: false,
        skip_rx_copy: false,
        get_server_output: false,
        server_affinity: None,
        title: real["title"].as_str().map(str::to_owned),
        extra_data: real["extra_data"].as_str().map(str::to_owned),
        client_version: None,
        user: None,
    };
    recorder.event(&Event::Parameters { test: 1, parameters: &parameters });
    recorder.event(&Event::Begin(&Begin {
        test: 1,
        streams: streams.clone(),
        send_buffer: whole(&start["sndbuf_actual"]) as u32,
        receive_buffer: whole(&start["rcvbuf_actual"]) as u32,
        datapath: String::new(),
        at,
    }));
    for passed in real["intervals"].as_array().unwrap() {
        let of = passed["streams"].as_array().unwrap();
        recorder.event(&Event::Interval(&Interval {
            test: 1,
            start: number(&of[0]["start"]),
            end: number(&of[0]["end"]),
            omitted: of[0]["omitted"].as_bool().unwrap(),
            streams: of
                .iter()
                .map(|s| StreamInterval {
                    bytes: whole(&s["bytes"]),
                    packets: whole(&s["packets"]),
                    lost: s["lost_packets"].as_i64().unwrap_or(0),
                    out_of_order: 0,
                    jitter: s["jitter_ms"].as_f64().unwrap_or(0.0) / 1e3,
                })
                .collect(),
        }));
    }
    let end = &real["end"];
    let parallel = f64::from(parameters.parallel);
    let ends = end["streams"].as_array().unwrap().iter().zip(&streams).map(|(s, stream)| {
        let udp = &s["udp"];
        let reverse = direction == Direction::Bidirectional && stream.sender != client;
        let of = |name: &str| &end[if reverse { format!("{name}_bidir_reverse") } else { name.to_owned() }];
        let (sent, received) = (of("sum_sent"), of("sum_received"));
        let seconds = |of: &Value| number(&of["seconds"]);
        let sender = Totals {
            bytes: whole(&udp["bytes"]),
            packets: whole(&udp["packets"]),
            seconds: seconds(sent),
            ..Totals::default()
        };
        let receiver = Totals {
            // Of several streams only the sum is told.
            bytes: (number(&received["bytes"]) / parallel) as u64,
            packets: (number(&received["packets"]) / parallel) as u64,
            lost: udp["lost_packets"].as_i64().unwrap(),
            out_of_order: 0,
            jitter: number(&udp["jitter_ms"]) / 1e3,
            seconds: seconds(received),
        };
        let (own, peer) = if stream.sender { (sender, receiver) } else { (receiver, sender) };
        StreamEnd { own, peer: client.then_some(peer) }
    });
    let cpu = |side: &str| {
        let of = |part: &str| number(&end["cpu_utilization_percent"][format!("{side}_{part}")]);
        Cpu { total: of("total"), user: of("user"), system: of("system") }
    };
    recorder.event(&Event::End(&End {
        test: 1,
        streams: ends.collect(),
        cpu: cpu("host"),
        peer_cpu: client.then(|| cpu("remote")),
        server_output: real["server_output_text"].as_str().map(|text| ServerOutput::Text(text.to_owned())),
    }));
    recorder
}

/// A text with its numbers taken out: keys, their order and the layout.
fn bones(text: &str) -> String {
    let (mut bones, mut quoted) = (String::new(), false);
    for c in text.chars() {
        quoted ^= c == '"';
        if !quoted && (c.is_ascii_digit() || ".-+".contains(c) || (c == 'e' && bones.ends_with('#'))) {
            if !bones.ends_with('#') {
                bones.push('#');
            }
        } else {
            bones.push(c);
        }
    }
    bones
}

/// Panics unless `ours` has what `real` has: the same keys, numbers to within rounding. `more` may be ours alone.
fn same(real: &Value, ours: &Value, path: &str, more: &[&str]) {
    match (real, ours) {
        (Value::Object(real), Value::Object(ours)) => {
            let kept: Vec<&String> = ours.keys().filter(|key| !more.contains(&key.as_str())).collect();
            assert_eq!(real.keys().collect::<Vec<_>>(), kept, "keys of {path}");
            for (key, value) in real {
                same(value, &ours[key], &format!("{path}.{key}"), more);
            }
        }
        (Value::Array(real), Value::Array(ours)) => {
            assert_eq!(real.len(), ours.len(), "{path}");
            for (index, (real, ours)) in real.iter().zip(ours).enumerate() {
                same(real, ours, &format!("{path}[{index}]"), more);
            }
        }
        (Value::Number(real), Value::Number(ours)) => {
            let (real, ours) = (real.as_f64().unwrap(), ours.as_f64().unwrap());
            assert!((real - ours).abs() <= 1e-4 * real.abs() + 1e-9, "{path}: {real} is {ours} here");
        }
        _ => assert_eq!(real, ours, "{path}"),
    }
}

/// Keys of 3.22 that 3.12 has not.
const NEWER: [&str; 7] = ["timemillisecs", "fq_rate", "bidir", "fqrate", "interval", "gso", "gro"];

macro_rules! data {
    ($name:literal) => {
        include_str!(concat!("../../../../tests/data/iperf3/", $name))
    };
}

#[test]
fn what_a_client_prints_is_what_iperf3_prints() {
    for (name, text, more) in [
        ("3.22", data!("lossy-client-3.22.json"), &[][..]),
        ("3.12", data!("lossy-client-3.12.json"), &NEWER[..]),
        ("-R", data!("reverse-client-3.22.json"), &[][..]),
        ("-O", data!("omit-client-3.22.json"), &[][..]),
        ("-T", data!("title-client-3.22.json"), &[][..]),
    ] {
        let real = captured(text);
        let recorder = replayed(&real, true);
        let ours = serde_json::to_value(recorder.output()).unwrap();
        same(&real, &ours, name, more);
        if more.is_empty() {
            assert_eq!(bones(&(layout::printed(recorder.output()) + "\n")), bones(text), "{name}");
        }
    }
}

#[test]
fn both_ways_the_sums_are_kept_apart() {
    let real = captured(data!("bidir-client-3.22.json"));
    let mut ours = serde_json::to_value(replayed(&real, true).output()).unwrap();
    // Each stream of iperf3's has an interval of its own, and what two of them received is an odd number.
    for (real, ours) in
        real["intervals"].as_array().unwrap().iter().zip(ours["intervals"].as_array_mut().unwrap())
    {
        for (real, ours) in
            real["streams"].as_array().unwrap().iter().zip(ours["streams"].as_array_mut().unwrap())
        {
            assert_eq!(real["bytes"], ours["bytes"]);
            ours.clone_from(real);
        }
    }
    for key in ["sum_received", "sum_received_bidir_reverse"] {
        let (real, ours) = (&real["end"][key], &mut ours["end"][key]);
        for field in ["packets", "bytes", "bits_per_second"] {
            let (real, ours) = (number(&real[field]), number(&ours[field]));
            assert!((real - ours).abs() < 0.005 * real, "{key}.{field}");
        }
        ours.clone_from(real);
    }
    same(&real, &ours, "--bidir", &[]);
}

#[test]
fn a_server_that_sends_prints_what_iperf3_prints() {
    let real = captured(data!("reverse-server-3.12.json"));
    let ours = serde_json::to_value(replayed(&real, false).output()).unwrap();
    let sorted = |value: &Value| {
        let mut keys: Vec<String> = value.as_object().unwrap().keys().cloned().collect();
        keys.retain(|key| !NEWER.contains(&key.as_str()));
        keys.sort();
        keys
    };
    assert_eq!(sorted(&real["start"]), sorted(&ours["start"]));
    same(&real["intervals"], &ours["intervals"], "intervals", &[]);
    same(&real["end"], &ours["end"], "end", &[]);
}

#[test]
fn a_server_that_receives_tells_what_arrived_where_iperf3_has_zeros() {
    let identity = Identity { version: "iperf 3.22".to_owned(), system_info: String::new() };
    let mut recorder = Recorder::new(false, &identity, Duration::from_secs(1), true);
    let address = "127.0.0.1:5201".parse().unwrap();
    let stream = Stream { id: 1, socket: 5, local: address, remote: address, sender: false };
    recorder.event(&Event::Begin(&Begin {
        test: 1,
        streams: vec![stream],
        send_buffer: 0,
        receive_buffer: 0,
        datapath: String::new(),
        at: UNIX_EPOCH,
    }));
    let own =
        Totals { bytes: 900_000, packets: 1000, lost: 100, out_of_order: 1, jitter: 1e-6, seconds: 1.0 };
    let cpu = Cpu { total: 0.0, user: 0.0, system: 0.0 };
    let streams = vec![StreamEnd { own, peer: None }];
    recorder.event(&Event::End(&End { test: 1, streams, cpu, peer_cpu: None, server_output: None }));
    let end = serde_json::to_value(&recorder.output().end).unwrap();
    for of in [&end["sum"], &end["streams"][0]["udp"], &end["sum_received"]] {
        let [bytes, lost, share] = ["bytes", "lost_packets", "lost_percent"].map(|key| &of[key]);
        assert_eq!((bytes, lost, share), (&json!(900_000), &json!(100), &json!(10)));
        assert_eq!(of["bits_per_second"], json!(7_200_000));
    }
    assert_eq!(end["sum_sent"]["bytes"], 0, "nobody told");
}

#[test]
fn lines_of_a_stream_of_events_are_iperf3s() {
    let lines: Vec<&str> = data!("interrupted-client-3.22.jsonl").lines().collect();
    let real: Vec<Value> = lines.iter().map(|line| captured(line)).collect();
    let of = |name: &str| -> Vec<Value> {
        real.iter().filter(|line| line["event"] == name).map(|line| line["data"].clone()).collect()
    };
    let whole = json!({
        "start": of("start")[0], "intervals": of("interval"), "end": of("end")[0],
    });
    let recorder = replayed(&whole, true);
    let output = recorder.output();
    let mut ours = vec![layout::event("start", &output.start)];
    ours.extend(output.intervals.iter().map(|interval| layout::event("interval", interval)));
    ours.push(layout::event("error", &"interrupt - the client has terminated by signal Interrupt(2)"));
    ours.push(layout::event("end", &output.end));
    assert_eq!(bones(&ours.join("\n")), bones(&lines.join("\n")));
    assert_eq!(layout::printed(&json!([])), "[]");
}

#[test]
fn a_refused_client_has_the_first_keys_only() {
    let real = captured(data!("refused-client-3.22.json"));
    let identity = Identity {
        version: "iperf 3.22".to_owned(),
        system_info: real["start"]["system_info"].as_str().unwrap().to_owned(),
    };
    let mut recorder = Recorder::new(true, &identity, Duration::from_secs(1), true);
    recorder.fail(real["error"].as_str().unwrap());
    assert_eq!(layout::printed(recorder.output()) + "\n", data!("refused-client-3.22.json"));
    assert!(Identity::own().version.starts_with("iperf 3.22 (wirerate "));
}

#[test]
fn days_of_the_calendar() {
    for (seconds, text) in [
        (0, "Thu, 01 Jan 1970 00:00:00 GMT"),
        (951_827_696, "Tue, 29 Feb 2000 12:34:56 GMT"),
        (1_795_971_866, "Sun, 29 Nov 2026 17:04:26 GMT"),
        (4_107_542_399, "Sun, 28 Feb 2100 23:59:59 GMT"),
        (4_107_542_400, "Mon, 01 Mar 2100 00:00:00 GMT"),
    ] {
        assert_eq!(gmt(seconds), text);
    }
}
