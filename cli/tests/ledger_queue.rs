//! What a receiver is too slow for has its place: its socket, or its AF_XDP ring, whatever the sender's buffers hold.

mod common;

use std::time::Duration;

use common::scene::{BRIDGED, SENDERS, Sender, balanced, interrupted, number, path, receiver, snmp, told};
use wirerate_engine::lab::Lab;

const PAUSE: Duration = Duration::from_millis(700);

/// Places and reasons without numbers.
fn places(report: &serde_json::Value) -> Vec<(String, String)> {
    told(&path(report)["drops"]).into_iter().map(|(place, reason, _)| (place, reason)).collect()
}

fn of_socket() -> Vec<(String, String)> {
    vec![("socket".to_owned(), "SOCKET_RCVBUFF".to_owned())]
}

#[test]
fn a_receiver_that_stands_still() {
    common::require_root!();
    for (sender, backend) in
        [(SENDERS[0], "mmsg"), (SENDERS[0], "uring"), (SENDERS[1], "mmsg"), (SENDERS[2], "uring")]
    {
        let what = format!("{sender:?} to {backend}");
        let lab = Lab::bridge(1).unwrap();
        let segments = if sender.gso { "auto" } else { "off" };
        let netns = &lab.receivers[0].netns;
        let before = snmp(netns, "Udp", "RcvbufErrors");
        let options = format!("--segments {segments} --receive-buffer 1M");
        let receiver = receiver(&lab.receivers[0], BRIDGED, backend, &options);
        let count = 20_000;
        let sent = interrupted(&receiver, PAUSE, || sender.send(&lab.sender, BRIDGED, 20_000, count, ""));
        let report = receiver.report();
        let missing = balanced(&report, count, &what);
        assert!(missing > 0, "{what}");
        assert_eq!(places(&report), of_socket(), "{what}");
        if !sender.gso {
            let messages = number(&sent["tx"]["messages"]) - number(&report["rx"]["messages"]);
            assert_eq!(snmp(netns, "Udp", "RcvbufErrors") - before, missing + messages, "{what}");
        }
    }
}

#[test]
fn a_socket_buffer_that_is_tiny() {
    common::require_root!();
    for sender in [SENDERS[0], SENDERS[1], SENDERS[3]] {
        for backend in ["mmsg", "uring"] {
            let what = format!("{sender:?} to {backend}");
            let lab = Lab::bridge(1).unwrap();
            let receiver = receiver(&lab.receivers[0], BRIDGED, backend, "--receive-buffer 2304");
            let netns = &lab.receivers[0].netns;
            let before = snmp(netns, "Udp", "RcvbufErrors");
            let count = 4000;
            let sent = interrupted(&receiver, Duration::from_millis(100), || {
                sender.send(&lab.sender, BRIDGED, 10_000, count, "")
            });
            let report = receiver.report();
            let missing = balanced(&report, count, &what);
            assert!(missing > 0, "{what}");
            assert_eq!(places(&report), of_socket(), "{what}");
            if !sender.gso {
                let messages = number(&sent["tx"]["messages"]) - number(&report["rx"]["messages"]);
                assert_eq!(snmp(netns, "Udp", "RcvbufErrors") - before, missing + messages, "{what}");
            }
        }
    }
}

/// Stops a receiver with a ring of so many slots and so many frames; the reasons that its ledger names.
fn stopped(sender: Sender, ring: u32, frames: u32) -> Vec<(String, String)> {
    let what = format!("{sender:?}, {ring} slots, {frames} frames");
    let lab = Lab::bridge(1).unwrap();
    let options = format!("--ring-size {ring} --frames {frames}");
    let receiver = receiver(&lab.receivers[0], BRIDGED, "afxdp", &options);
    let count = 10_000;
    interrupted(&receiver, PAUSE, || sender.send(&lab.sender, BRIDGED, 10_000, count, ""));
    let report = receiver.report();
    let missing = balanced(&report, count, &what);
    // What came while it stood still, but for what the ring or the frames hold.
    assert!(missing > 1000, "{what}: {missing}");
    places(&report)
}

#[test]
fn a_ring_that_is_tiny() {
    common::require_root!();
    for sender in SENDERS {
        assert_eq!(stopped(sender, 64, 4096), [("xsk".to_owned(), "rx_ring_full".to_owned())], "{sender:?}");
    }
}

#[test]
fn a_fill_ring_that_starves() {
    common::require_root!();
    for sender in SENDERS {
        assert_eq!(
            stopped(sender, 4096, 64),
            [("xsk".to_owned(), "rx_fill_ring_empty".to_owned())],
            "{sender:?}"
        );
    }
}
