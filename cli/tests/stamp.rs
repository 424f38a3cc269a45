//! Round trips by STAMP: both ends against each other with a middle that drops by rule and counts, and each against a peer that was written
//! from the RFCs alone.

use std::io::{BufRead, BufReader, Write};
use std::process::{Child, Stdio};

use serde_json::Value;
use wirerate_engine::lab::{Host, Lab, Netns};

use common::witness::Dissection;
use common::{Running, report_on};

mod common;

const PEER: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/stamp_peer.py");

/// Drops what comes into `port` of the middle and matches, and counts it under `name`.
fn drop_by_rule(middle: &Netns, name: &str, port: &str, expression: &str) {
    let script = format!(
        "add table netdev dropper\n\
         add counter netdev dropper {name}\n\
         add chain netdev dropper {name} {{ type filter hook ingress device \"{port}\" priority 10; }}\n\
         add rule netdev dropper {name} {expression} counter name {name} drop\n"
    );
    let mut nft = middle.command("nft").args(["-f", "-"]).stdin(Stdio::piped()).spawn().expect("nftables");
    nft.stdin.take().expect("piped").write_all(script.as_bytes()).unwrap();
    assert!(nft.wait().unwrap().success(), "{script}");
}

fn dropped(middle: &Netns, name: &str) -> u64 {
    let mut nft = middle.command("nft");
    let output = nft.args(["--json", "list", "counter", "netdev", "dropper", name]).output().unwrap();
    let listed: Value = serde_json::from_slice(&output.stdout).expect("JSON");
    listed["nftables"][1]["counter"]["packets"].as_u64().expect("a counter")
}

/// The peer on `host`, killed when dropped.
struct Peer(Child);

impl Peer {
    fn reflecting(host: &Host, args: &[&str]) -> Self {
        let mut child = host
            .command("python3")
            .args([PEER, "reflect", &host.ipv4.to_string(), "862"])
            .args(args)
            .stdout(Stdio::piped())
            .spawn()
            .expect("python3");
        let mut line = String::new();
        BufReader::new(child.stdout.take().expect("piped")).read_line(&mut line).unwrap();
        assert_eq!(line, "ready\n");
        Self(child)
    }
}

impl Drop for Peer {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

fn peer(host: &Host, args: &[&str]) -> Value {
    let output = host.command("python3").arg(PEER).args(args).output().expect("python3");
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    serde_json::from_slice(&output.stdout).expect("JSON")
}

/// Ends a reflector as Ctrl-C does; its report.
fn end(reflector: Running) -> Value {
    reflector.signal("INT");
    reflector.report()
}

fn number(report: &Value, pointer: &str) -> u64 {
    report.pointer(pointer).and_then(Value::as_u64).unwrap_or_else(|| panic!("{pointer}: {report}"))
}

#[test]
fn loss_there_and_back_is_what_the_rules_dropped() {
    common::require_root!();
    let lab = Lab::bridge(1).unwrap();
    let receiver = &lab.receivers[0];
    // By the lowest byte of the sender's number: byte 3 of its packet, byte 27 of the answer, behind 8 bytes of UDP.
    for (name, port, expression) in [
        ("there", &lab.sender.port, "udp dport 862 @th,88,8 & 0x07 == 0x03"),
        ("back", &receiver.port, "udp sport 862 @th,280,8 & 0x0f == 0x05"),
    ] {
        drop_by_rule(&lab.middle, name, port, expression);
    }
    let (mut there, mut back) = (0, 0);
    for address in [receiver.ipv4.to_string(), receiver.ipv6.to_string()] {
        let reflector = Running::ready_on(receiver, &["reflect"]);
        let report = report_on(&lab.sender, &["stamp", &address, "--count", "256", "--rate", "500"]);
        let reflected = end(reflector);
        let new = (dropped(&lab.middle, "there") - there, dropped(&lab.middle, "back") - back);
        (there, back) = (there + new.0, back + new.1);
        assert_eq!(new, (32, 16), "the rules saw other packets");
        assert_eq!((number(&report, "/tx/packets"), number(&report, "/loss/lost")), (256, 48), "{report}");
        let split = |way: &str| number(&report, &format!("/loss/split/{way}"));
        assert_eq!((split("forward"), split("backward"), split("unplaced")), (32, 16, 0), "{report}");
        assert_eq!(report["reflector"]["mode"], "stateful");
        let session = &reflected["sessions"][0];
        let of = |key: &str| session[key].as_u64().unwrap();
        assert_eq!((of("unique"), of("lost"), of("answered")), (224, 32, 224), "{reflected}");
        assert_eq!(session["ssid"], report["ssid"]);
        assert_eq!(session["source"], report["source"]);
    }
    // A stateless reflector repeats the numbers: the same loss, and nobody says where.
    let reflector = Running::ready_on(receiver, &["reflect", "--stateless"]);
    let args =
        ["stamp", &receiver.ipv4.to_string(), "--count", "64", "--rate", "500", "--reflector", "stateless"];
    let report = report_on(&lab.sender, &args);
    assert_eq!(number(&report, "/loss/lost"), 8 + 4);
    assert!(report["loss"].get("split").is_none() && report["loss"]["no_split"].is_string(), "{report}");
    assert!(end(reflector).get("sessions").is_none());
}

#[test]
fn the_kernels_times_are_in_order_and_the_schedule_is_kept() {
    common::require_root!();
    let lab = Lab::bridge(1).unwrap();
    let receiver = &lab.receivers[0];
    let reflector = Running::ready_on(receiver, &["reflect"]);
    let address = receiver.ipv4.to_string();
    let args = ["stamp", &address, "--count", "300", "--rate", "500", "--length", "1472", "--dscp", "EF"];
    let report = report_on(&lab.sender, &args);
    assert_eq!((number(&report, "/rx/answered"), number(&report, "/loss/lost")), (300, 0), "{report}");
    // Who stamped each packet is said of every one; the kernel stamps all that leave.
    let by = |way: &str, who: &str| number(&report, &format!("/timestamps/{way}/{who}"));
    assert_eq!(by("transmit", "kernel"), 300, "{report}");
    assert_eq!(by("receive", "kernel") + by("receive", "user"), 300);
    assert!(by("receive", "kernel") > 0);
    // On one clock T1 ≤ T2 ≤ T3 ≤ T4: nothing came out negative, and a round trip is no longer from the kernel than from the schedule.
    assert_eq!(number(&report, "/times/negative"), 0);
    for key in ["rtt_ns", "rtt_from_schedule_ns", "reflector_ns", "departure_lag_ns"] {
        assert_eq!(number(&report, &format!("/times/{key}/count")), 300);
    }
    for key in ["variation_ns", "variation_forward_ns", "variation_backward_ns"] {
        assert_eq!(number(&report, &format!("/times/{key}/count")), 299);
    }
    assert!(number(&report, "/times/rtt_ns/min") <= number(&report, "/times/rtt_from_schedule_ns/min"));
    assert!(
        report["times"]["rtt_ns"].get("p99").is_some() && report["times"]["rtt_ns"].get("p999").is_none()
    );
    // One clock is ahead of itself by nothing, as far as can be told.
    let (offset, error) =
        (&report["times"]["clock_offset_ns"], number(&report, "/times/clock_offset_error_ns"));
    assert!(offset.as_i64().unwrap().unsigned_abs() <= error, "{report}");
    // Half of the shortest round trip, which its distribution holds to 0.1 %.
    let shortest = number(&report, "/times/rtt_ns/min");
    assert!((shortest / 2..=shortest / 2 + shortest / 500 + 1).contains(&error), "{report}");
    assert_eq!(number(&report, "/reflector/ttl_min"), 255, "no router between");
    let reflected = end(reflector);
    assert_eq!((number(&reflected, "/received"), number(&reflected, "/answered")), (300, 300));
    // The program's own times do as well.
    let reflector = Running::ready_on(receiver, &["reflect", "--timestamps", "user", "--format", "ptp"]);
    let args = [
        "stamp",
        &address,
        "--count",
        "20",
        "--rate",
        "200",
        "--timestamps",
        "user",
        "--expect-loss-below",
        "0",
    ];
    let report = report_on(&lab.sender, &args);
    assert_eq!(number(&report, "/timestamps/transmit/user"), 20);
    assert_eq!((number(&report, "/times/negative"), number(&report, "/times/rtt_ns/count")), (0, 20));
    assert_eq!(
        (&report["reflector"]["format"], &report["verdict"]["outcome"]),
        (&"ptp".into(), &"pass".into())
    );
    assert_eq!(number(&end(reflector), "/receive_timestamps/user"), 20);
}

#[test]
fn our_reflector_answers_a_sender_written_from_the_rfc() {
    common::require_root!();
    let lab = Lab::bridge(1).unwrap();
    let receiver = &lab.receivers[0];
    for (theirs, ours) in [("ntp", "ntp"), ("ptp", "ntp"), ("ntp", "ptp")] {
        let reflector = Running::ready_on(receiver, &["reflect", "--format", ours]);
        for address in [receiver.ipv4.to_string(), receiver.ipv6.to_string()] {
            let answers = peer(&lab.sender, &["send", &address, "862", theirs, "5"]);
            for (n, answer) in answers.as_array().unwrap().iter().enumerate() {
                let of = |key: &str| number(answer, &format!("/{key}"));
                assert_eq!((of("seq"), of("sender_seq")), (n as u64, n as u64), "{answer}");
                assert_eq!((of("t1"), of("ssid"), of("mbz")), (of("sent_t1"), 4711, 0), "{answer}");
                assert_eq!(of("sender_error") >> 14 & 1, u64::from(theirs == "ptp"));
                assert_eq!(of("error") >> 14 & 1, u64::from(ours == "ptp"));
                assert_ne!(of("error") & 0xff, 0, "a multiplier of 0 is corrupt");
                // A plain socket's TTL.
                assert_eq!((of("ttl"), of("length")), (64, of("sent_length")), "{answer}");
                // Padding is known, the other is not; values stay.
                assert_eq!(answer["tlvs"], "00010005313233343580fa0003616263", "{answer}");
                assert!(of("t2") <= of("t3") && of("t3") <= of("t4"), "{answer}");
                if theirs == ours {
                    assert!(of("sent_t1") <= of("t2"), "{answer}");
                }
            }
        }
        assert_eq!(number(&end(reflector), "/answered"), 10);
    }
}

#[test]
fn our_sender_is_answered_by_a_reflector_written_from_the_rfc() {
    common::require_root!();
    let lab = Lab::bridge(1).unwrap();
    let receiver = &lab.receivers[0];
    let address = receiver.ipv4.to_string();
    for (theirs, ours, mode) in
        [("ntp", "ntp", "stateful"), ("ptp", "ntp", "stateless"), ("ntp", "ptp", "stateful")]
    {
        // Of each ten one is lost on the way there.
        let reflector = Peer::reflecting(receiver, &[theirs, mode, "10"]);
        let args = [
            "stamp",
            &address,
            "--count",
            "95",
            "--rate",
            "200",
            "--format",
            ours,
            "--length",
            "100",
            "--timeout",
            "1s",
        ];
        let report = report_on(&lab.sender, &args);
        assert_eq!((number(&report, "/rx/answered"), number(&report, "/loss/lost")), (86, 9), "{report}");
        assert_eq!(
            (number(&report, "/times/rtt_ns/count"), number(&report, "/times/negative")),
            (86, 0),
            "{report}"
        );
        assert_eq!(
            (&report["reflector"]["format"], &report["reflector"]["ssid"]),
            (&theirs.into(), &true.into())
        );
        assert_eq!(number(&report, "/reflector/ttl_min"), 63);
        if mode == "stateful" {
            assert_eq!(number(&report, "/loss/split/forward"), 9, "{report}");
            assert_eq!(number(&report, "/loss/split/backward"), 0);
        } else {
            assert!(report["loss"].get("split").is_none());
        }
        drop(reflector);
    }
}

#[test]
fn what_is_no_request_is_not_answered_and_counted() {
    common::require_root!();
    let lab = Lab::bridge(1).unwrap();
    let receiver = &lab.receivers[0];
    let address = receiver.ipv4.to_string();
    let reflector = Running::ready_on(receiver, &["reflect"]);
    let hex = |bytes: &[u8]| bytes.iter().map(|b| format!("{b:02x}")).collect::<String>();
    let mut request = vec![0; 44];
    (request[3], request[11], request[13]) = (9, 1, 1);
    let mut answer = request.clone();
    (answer[23], answer[37]) = (1, 1);
    let mut corrupt = request.clone();
    corrupt[13] = 0;
    let mut authenticated = vec![0; 112];
    authenticated[3] = 9;
    let twamp = [&request[..14], &[0xaa; 27][..]].concat();
    let datagrams = [
        hex(&request),
        hex(&answer),
        hex(&answer[..41]),
        hex(&corrupt),
        hex(&authenticated),
        hex(&request[..40]),
        hex(&request[..13]),
        hex(&twamp),
    ];
    let mut args = vec!["raw", address.as_str(), "862"];
    args.extend(datagrams.iter().map(String::as_str));
    let answers = peer(&lab.sender, &args);
    let lengths: Vec<usize> =
        answers.as_array().unwrap().iter().map(|a| a.as_str().unwrap().len() / 2).collect();
    assert_eq!(lengths, [44, 41], "as long as the question: {answers}");
    let report = end(reflector);
    let ignored = |key: &str| number(&report, &format!("/ignored/{key}"));
    assert_eq!(
        (ignored("answers"), ignored("corrupt"), ignored("authenticated"), ignored("short")),
        (2, 1, 1, 2)
    );
    assert_eq!((number(&report, "/received"), number(&report, "/answered")), (16, 10), "{report}");
}

#[test]
fn tshark_reads_what_both_ends_write() {
    common::require_root!();
    let lab = Lab::bridge(1).unwrap();
    let receiver = &lab.receivers[0];
    let reflector = Running::ready_on(receiver, &["reflect"]);
    let capture = Dissection::begin(&lab.middle, &receiver.port, "udp port 862");
    let args = [
        "stamp",
        &receiver.ipv4.to_string(),
        "--count",
        "10",
        "--rate",
        "100",
        "--length",
        "64",
        "--dscp",
        "46",
    ];
    report_on(&lab.sender, &args);
    end(reflector);
    let rows = capture.end(&[
        "udp.dstport",
        "twamp.test.seq_number",
        "twamp.test.error_estimate.z",
        "twamp.test.sender_seq_number",
        "twamp.test.sender_ttl",
        "ip.dsfield.dscp",
        "ip.ttl",
        "_ws.malformed",
    ]);
    assert_eq!(rows.len(), 20);
    for (n, pair) in rows.chunks(2).enumerate() {
        let n = n.to_string();
        // Without a control session tshark takes a request for an answer, and shows both of its estimates.
        assert_eq!(
            (&*pair[0][0], &pair[0][1], pair[0][2].split(',').next()),
            ("862", &n, Some("0")),
            "{pair:?}"
        );
        assert_eq!((&pair[1][1], &pair[1][3], &pair[1][4]), (&n, &n, &"255".to_owned()), "{pair:?}");
        for row in pair {
            assert_eq!(row[5..], ["46".to_owned(), "255".to_owned(), String::new()], "{row:?}");
        }
    }
}

#[test]
fn errors_say_what_to_do() {
    for (args, code, words) in [
        (&["stamp", "127.0.0.1", "--length", "45"][..], 2, "48 to 65507"),
        (&["stamp", "127.0.0.1", "--rate", "20000"], 2, "10000pps"),
        (&["stamp", "239.1.2.3", "--count", "1"], 2, "one other end"),
        (&["stamp", "127.0.0.1:0"], 2, "65535"),
        (&["stamp", "127.0.0.1", "--timeout", "2m"], 2, "60s"),
        (&["reflect", "192.0.2.77:8620"], 2, "ip address"),
        (&["reflect", "--stateful", "--stateless"], 2, "cannot be used with"),
    ] {
        common::run(common::wirerate(args)).expect(code, &[words]);
    }
}

#[test]
fn a_closed_port_is_said_and_an_ordinary_user_is_told_of_the_port() {
    common::require_root!();
    let lab = Lab::bridge(1).unwrap();
    let receiver = &lab.receivers[0];
    let target = format!("{}:8700", receiver.ipv4);
    let args = ["stamp", &target, "--count", "5", "--rate", "50", "--timeout", "500ms", "--json"];
    let ended = common::run(common::wirerate_on(&lab.sender, &args));
    ended.expect(1, &["nobody listens"]);
    assert_eq!((number(&ended.json(), "/loss/lost"), number(&ended.json(), "/rx/packets")), (5, 0));
    let nobody = common::Nobody::new();
    let mut command = nobody.become_by(receiver.command("setpriv"));
    command.args(["reflect", "--duration", "100ms"]);
    common::run(command).expect(4, &["cap_net_bind_service"]);
    let mut command = nobody.become_by(receiver.command("setpriv"));
    command.args(["reflect", ":8620", "--duration", "100ms", "--json"]);
    assert_eq!(common::run(command).code, 0);
}
