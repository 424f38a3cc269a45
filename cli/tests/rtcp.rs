//! RTCP as others see it: tshark dissects it without a word of warning, GStreamer answers it, and both of our ends tell each other loss and
//! round-trip time.

use std::io::Write as _;
use std::process::{Child, Stdio};

use wirerate_engine::lab::{Host, INTERFACE, Lab, Netns};

mod common;

use common::witness::{At, Dissection, nft_forget, nft_packets};
use common::{Running, report_on, run};

/// What tshark has to say of a capture's RTP and RTCP: layers and expert information, by packet.
fn fields() -> [&'static str; 12] {
    [
        "_ws.expert.message",
        "rtcp.pt",
        "rtcp.senderssrc",
        "rtcp.sender.packetcount",
        "rtcp.sender.octetcount",
        "rtcp.timestamp.rtp",
        "rtcp.sdes.type",
        "rtcp.ssrc.fraction",
        "rtcp.ssrc.cum_nr",
        "rtcp.ssrc.lsr",
        "rtcp.ssrc.dlsr",
        "rtcp.length_check",
    ]
}

/// Has the kernel fill in checksums, which it leaves to the NIC and a veth has none of.
fn without_offload(host: &Host) {
    let mut ethtool = host.command("ethtool");
    ethtool.args(["-K", INTERFACE, "tx", "off"]);
    run(ethtool).expect(0, &[]);
}

#[test]
fn tshark_reads_our_reports_without_a_warning() {
    common::require_root!();
    let lab = Lab::bridge(1).unwrap();
    let host = &lab.receivers[0];
    let target = format!("rtp://{}:5004", host.ipv4);
    without_offload(&lab.sender);
    let wire = Dissection::begin(&lab.middle, "s0", "udp dst port 5005");
    let args = [
        "send",
        &target,
        "--iface",
        INTERFACE,
        "--payload-type",
        "pcmu",
        "--streams",
        "20",
        "--count",
        "2000",
    ];
    let mut args = args.to_vec();
    args.extend(["--rtcp-interval", "500ms", "--ssrc", "1000", "--first-timestamp", "0"]);
    let report = report_on(&lab.sender, &args);
    let rows = wire.end(&fields());
    // 20 streams are two datagrams, at 0, 0.5, 1, 1.5 s and at the end.
    assert!(rows.len() >= 8 && rows.len().is_multiple_of(2), "{rows:?}");
    let sent = report["rtcp"]["sr_sent"].as_u64().unwrap();
    assert_eq!(rows.len() as u64 * 10, sent, "{}", report["rtcp"]);
    for row in &rows {
        assert_eq!(row[0], "", "what tshark objects to: {row:?}");
        assert_eq!(row[11], "1", "the lengths add up: {row:?}");
        let kinds: Vec<&str> = row[1].split(',').collect();
        assert_eq!(kinds[0], "200", "a report comes first");
        assert!(kinds.contains(&"202"), "each says its name");
    }
    let last: Vec<&Vec<String>> = rows.iter().filter(|row| row[1].contains("203")).collect();
    assert_eq!(last.len(), 2, "goodbye once for each");
    let numbers =
        |row: &[String], at: usize| -> Vec<u64> { row[at].split(',').map(|n| n.parse().unwrap()).collect() };
    for row in last {
        // 20 streams of 100 packets with 160 octets.
        assert!(numbers(row, 3).iter().all(|&packets| packets == 100), "{row:?}");
        assert!(numbers(row, 4).iter().all(|&octets| octets == 16_000), "{row:?}");
        // 99 packets of 160 units after the first, or a little later.
        assert!(numbers(row, 5).iter().all(|&units| (99 * 160..99 * 160 + 8000).contains(&units)), "{row:?}");
    }
}

/// A pipeline of GStreamer on `host`, killed when dropped.
struct Pipeline(Child);

impl Pipeline {
    fn start(host: &Host, elements: &str) -> Self {
        let mut gst = host.command("gst-launch-1.0");
        gst.arg("-e").args(elements.split_whitespace()).stdin(Stdio::null()).stdout(Stdio::null());
        Self(gst.spawn().expect("gstreamer is installed"))
    }
}

impl Drop for Pipeline {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

fn wait_for_socket(host: &Host, port: u16) {
    common::eventually("a socket of the peer", || {
        let mut ss = host.command("ss");
        ss.args(["-Hnuln", &format!("sport = :{port}")]);
        !run(ss).stdout.trim().is_empty()
    });
}

#[test]
fn gstreamer_answers_our_reports() {
    common::require_root!();
    let lab = Lab::bridge(1).unwrap();
    let host = &lab.receivers[0];
    let sender = lab.sender.ipv4;
    let _peer = Pipeline::start(
        host,
        &format!(
            "rtpbin name=r \
             udpsrc port=5004 caps=application/x-rtp,media=audio,clock-rate=8000,encoding-name=PCMU,payload=0 ! r.recv_rtp_sink_0 \
             r. ! rtppcmudepay ! fakesink sync=false \
             udpsrc port=5005 caps=application/x-rtcp ! r.recv_rtcp_sink_0 \
             r.send_rtcp_src_0 ! udpsink host={sender} port=7001 sync=false async=false"
        ),
    );
    wait_for_socket(host, 5005);
    let target = format!("rtp://{}:5004", host.ipv4);
    let args =
        ["send", &target, "--iface", INTERFACE, "--src-port", "7000", "--payload-type", "pcmu", "--no-probe"];
    let args = [&args[..], &["--count", "500", "--rtcp-interval", "500ms"]].concat();
    let report = report_on(&lab.sender, &args);
    let rtcp = &report["rtcp"];
    assert!(rtcp["rr_received"].as_u64().unwrap() > 0, "{rtcp}");
    assert_eq!((&rtcp["malformed"], &rtcp["collisions"]), (&0.into(), &0.into()), "{rtcp}");
    let peer = &rtcp["peers"][0];
    // While it waits for a second packet in sequence it counts the first twice.
    assert!((-1..=0).contains(&peer["lost"].as_i64().unwrap()) && peer["fraction_lost"] == 0.0, "{rtcp}");
    assert!(peer["cname"].is_string(), "{rtcp}");
    assert!(rtcp["rtt_ns"]["count"].as_u64().unwrap() > 0, "{rtcp}");
}

#[test]
fn we_understand_the_reports_of_gstreamer() {
    common::require_root!();
    let lab = Lab::bridge(1).unwrap();
    let host = &lab.receivers[0];
    let target = format!("rtp://{}:5004", host.ipv4);
    let receiver =
        Running::ready_on(host, &["recv", &target, "--iface", INTERFACE, "--rtcp-interval", "300ms"]);
    let (to, sender) = (host.ipv4, lab.sender.ipv4);
    let wire = Dissection::begin(&lab.middle, "r1", &format!("udp dst port 5005 and src host {sender}"));
    let _peer = Pipeline::start(
        &lab.sender,
        &format!(
            "rtpbin name=r audiotestsrc is-live=true num-buffers=400 samplesperbuffer=160 ! audio/x-raw,rate=8000,channels=1 ! \
             mulawenc ! rtppcmupay min-ptime=20000000 max-ptime=20000000 ! r.send_rtp_sink_0 \
             r.send_rtp_src_0 ! udpsink host={to} port=5004 \
             r.send_rtcp_src_0 ! udpsink host={to} port=5005 sync=false async=false"
        ),
    );
    let report = receiver.report();
    let rtcp = &report["rtcp"];
    let heard = wire.end(&["rtcp.pt", "rtcp.sender.packetcount", "rtcp.senderssrc"]);
    let reports = heard.iter().filter(|row| row[0].starts_with("200")).count() as u64;
    assert!(reports > 0, "GStreamer reports within 3.1 s: {heard:?}");
    assert_eq!(rtcp["sr_received"], reports, "{rtcp}");
    assert!(rtcp["rr_sent"].as_u64().unwrap() > 0, "{rtcp}");
    assert_eq!(rtcp["bye_received"], 1, "nothing else ended it: {rtcp}");
    let said = &rtcp["senders"][0];
    let last = heard.iter().rev().find(|row| row[0].starts_with("200")).unwrap();
    assert_eq!(said["packets"].to_string(), last[1]);
    assert_eq!(format!("{:#010x}", said["ssrc"].as_u64().unwrap()), last[2]);
    assert!(said["cname"].as_str().unwrap().contains('@'), "{said}");
}

/// Both ends ours: loss, round-trip time and goodbye, to one receiver and to a group, over IPv4 and IPv6, on a port of its own and on that of RTP.
#[test]
fn both_ends_tell_each_other_what_they_see() {
    common::require_root!();
    let lab = Lab::bridge(1).unwrap();
    let host = &lab.receivers[0];
    without_offload(&lab.sender);
    without_offload(host);
    let source = lab.sender.ipv4;
    for (backend, target, more) in [
        ("uring", format!("rtp://{}:5004", host.ipv4), &[][..]),
        ("mmsg", format!("rtp://[{}]:5004", host.ipv6), &["--rtcp-mux"][..]),
        ("afxdp", "rtp://239.1.2.3:5004".to_owned(), &[]),
        ("mmsg", format!("rtp://{source}@232.1.2.3:5004"), &[]),
    ] {
        let receiver =
            ["recv", &target, "--iface", INTERFACE, "--backend", backend, "--rtcp-interval", "400ms"];
        let receiver = Running::ready_on(host, &[&receiver[..], more].concat());
        if let Some(group) = ["239.1.2.3", "232.1.2.3"].into_iter().find(|group| target.contains(group)) {
            lab.wait_for_members(group.parse().unwrap(), 1).unwrap();
        }
        // Every tenth RTP packet, and nothing of RTCP.
        let rule = "udp dport 5004 @th,64,8 == 0x80 @th,72,8 & 0x7f == 96 numgen inc mod 10 == 9 counter name lost drop";
        let rule = ("lost", At::Into("s0"), rule);
        nft_drop(&lab.middle, rule);
        let rtcp = if target.contains('[') {
            "ip6 and udp portrange 5004-5005 and ip6[49] >= 192 and ip6[49] <= 223"
        } else {
            "udp portrange 5004-5005 and udp[9] >= 192 and udp[9] <= 223"
        };
        let wire = Dissection::begin(&lab.middle, "r1", rtcp);
        let args = [
            "send",
            &target,
            "--iface",
            INTERFACE,
            "--backend",
            backend,
            "--no-probe",
            "--rtcp-interval",
            "400ms",
        ];
        let args = [
            &args[..],
            &["--count", "1500", "--rate", "500pps", "--length", "200", "--first-seq", "65000"],
            more,
        ]
        .concat();
        let sent = report_on(&lab.sender, &args);
        let lost = nft_packets(&lab.middle, "lost");
        nft_forget(&lab.middle);
        // Nobody told it an end: it ends with the sender's goodbye.
        let received = receiver.report();
        assert_eq!(lost, 150, "{target}");
        let (at_sender, at_receiver) = (&sent["rtcp"], &received["rtcp"]);
        assert_eq!(received["rx"]["packets"], 1350, "{target}: {}", received["rx"]);
        for row in wire.end(&["_ws.expert.message", "rtcp.pt", "rtcp.length_check", "udp.srcport"]) {
            assert_eq!((row[0].as_str(), row[2].as_str()), ("", "1"), "{target}: {row:?}");
        }
        for (rtcp, counts) in [
            (at_sender, ["sr_sent", "rr_received", "bye_sent"]),
            (at_receiver, ["rr_sent", "sr_received", "bye_received"]),
        ] {
            for count in counts {
                assert!(rtcp[count].as_u64().unwrap() > 0, "{target} {count}: {rtcp}");
            }
            for count in ["malformed", "collisions", "errors"] {
                assert_eq!(rtcp[count], 0, "{target} {count}: {rtcp}");
            }
        }
        assert_eq!(at_sender["sr_sent"], at_receiver["sr_received"], "{target}");
        let peer = &at_sender["peers"][0];
        assert_eq!(peer["ssrc"], at_receiver["ssrc"], "{target}: {at_sender}");
        assert_eq!(peer["cname"], at_receiver["cname"], "{target}: {at_sender}");
        // What it says is of some time before the end: a tenth of what had been expected.
        let expected = peer["highest_seq"].as_i64().unwrap() - 65_000 + 1;
        let told = peer["lost"].as_i64().unwrap();
        assert!(expected > 500 && (expected / 10 - told).abs() <= 1, "{target}: {told} of {expected}");
        let fraction = peer["fraction_lost"].as_f64().unwrap();
        assert!((0.08..0.12).contains(&fraction), "{target}: {fraction}");
        assert!(at_sender["rtt_ns"]["count"].as_u64().unwrap() > 0, "{target}: {at_sender}");
        let said = &at_receiver["senders"][0];
        assert_eq!(
            (&said["packets"], &said["octets"], &said["left"]),
            (&1500.into(), &(1500 * 188).into(), &true.into()),
            "{target}"
        );
    }
}

/// Drops what matches at the place, and counts it.
fn nft_drop(middle: &Netns, (name, at, expression): (&str, At<'_>, &str)) {
    let At::Into(device) = at else { panic!("into a port") };
    let script = format!(
        "add table netdev witness\nadd counter netdev witness {name}\n\
         add chain netdev witness {name} {{ type filter hook ingress device \"{device}\" priority 0; }}\n\
         add rule netdev witness {name} {expression}\n"
    );
    let mut nft = middle.command("nft");
    let mut nft = nft.args(["-f", "-"]).stdin(Stdio::piped()).spawn().expect("nftables is installed");
    nft.stdin.take().expect("piped").write_all(script.as_bytes()).unwrap();
    assert!(nft.wait().unwrap().success(), "{script}");
}
