//! RTP that GStreamer sends, with losses in the middle: what we say of it is what tshark says of the same packets.

use std::net::IpAddr;

use serde_json::Value;
use wirerate_engine::lab::{INTERFACE, Lab};

mod common;
#[path = "common/media.rs"]
mod media;

use common::Running;
use common::witness::Tcpdump;

const EVERY: u32 = 9;
const TARGET: &str = "rtp://239.1.2.3:5004";

/// Has a GStreamer pipeline send, and compares the receiver's, the capture's and tshark's figures; the live report.
fn agrees(pipeline: &str, backend: &str, hz: u64, more: &[&str]) -> Value {
    let lab = Lab::bridge(1).unwrap();
    let directory = tempfile::tempdir().unwrap();
    let capture = directory.path().join("witness.pcap");
    let args = [&["recv", TARGET, "--iface", INTERFACE, "--backend", backend, "--idle", "3s"], more].concat();
    let receiver = Running::ready_on(&lab.receivers[0], &args);
    lab.wait_for_members(IpAddr::from([239, 1, 2, 3]), 1).unwrap();
    let tcpdump = Tcpdump::capture(&lab.middle, "r1", "udp dst port 5004", &capture);
    media::drop_every(&lab.middle, EVERY);
    let mut gstreamer = lab.sender.command("gst-launch-1.0");
    gstreamer.arg("-q").args(pipeline.split_whitespace());
    gstreamer.args(["!", "udpsink", "host=239.1.2.3", "port=5004", "auto-multicast=false", "ttl-mc=2"]);
    media::send(gstreamer);
    let dropped = media::dropped_within(media::dropped(&lab.middle), EVERY.into());
    assert_eq!(tcpdump.end().missed, 0);
    let live = receiver.report();
    let args = [&["recv", TARGET, "--pcap", capture.to_str().unwrap(), "--json", "--quiet"], more].concat();
    let ended = common::run(common::wirerate(&args));
    assert_eq!(ended.code, 0, "{}", ended.stderr);
    let from_capture = ended.json();
    let (tshark, rows) = (media::tshark_stream(&capture), media::rows(&capture));
    assert!(dropped > 0 && tshark.lost.cast_unsigned() == dropped, "{tshark:?}, {dropped} dropped");
    for (way, report) in [("live", &live), ("from the capture", &from_capture)] {
        let (rx, rtp) = (&report["rx"], &report["rx"]["streams"][0]["rtp"]);
        assert_eq!((&rx["packets"], &rx["lost"]), (&tshark.packets.into(), &dropped.into()), "{way}: {rx}");
        assert_eq!(
            (&rx["reordered"], &rx["duplicate"], &rx["foreign"]),
            (&0.into(), &0.into(), &0.into()),
            "{way}"
        );
        assert_eq!((&rtp["ssrc"], &rtp["clock_hz"]), (&tshark.ssrc.into(), &hz.into()), "{way}: {rtp}");
        assert_eq!(
            (&rtp["expected"], &rtp["cumulative_lost"]),
            (&(tshark.packets + dropped).into(), &dropped.into()),
            "{way}"
        );
        let highest = rows.last().unwrap().sequence;
        assert_eq!(rtp["highest_sequence"].as_u64().unwrap() as u16, highest, "{way}: {rtp}");
    }
    let (jitter, highest) = media::jitter(&rows, hz);
    let rtp = &from_capture["rx"]["streams"][0]["rtp"];
    assert_eq!((&rtp["jitter_units"], &rtp["jitter_max_units"]), (&jitter.into(), &highest.into()), "{rtp}");
    live
}

#[test]
fn pcmu() {
    common::require_root!();
    let pipeline = "audiotestsrc num-buffers=150 is-live=true samplesperbuffer=160 ! audio/x-raw,rate=8000,channels=1 \
                    ! mulawenc ! rtppcmupay";
    let report = agrees(pipeline, "mmsg", 8000, &[]);
    assert_eq!(report["rx"]["streams"][0]["rtp"]["payload_types"][0]["name"], "PCMU");
}

#[test]
fn video_of_a_dynamic_type() {
    common::require_root!();
    let pipeline = "videotestsrc num-buffers=75 is-live=true ! video/x-raw,width=320,height=240,framerate=25/1 ! vp8enc deadline=1 \
                    ! rtpvp8pay";
    let report = agrees(pipeline, "afxdp", 90_000, &["--clock-rate", "90000"]);
    let rtp = &report["rx"]["streams"][0]["rtp"];
    // The last packet of each frame has the marker, and some of those were dropped.
    let markers = rtp["markers"].as_u64().unwrap();
    assert!(markers > 0 && markers <= 75, "{rtp}");
    assert_eq!((&rtp["clock_assumed"], &rtp["payload_types"][0]["number"]), (&false.into(), &96.into()));
}

#[test]
fn a_transport_stream() {
    common::require_root!();
    let pipeline = "audiotestsrc num-buffers=300 is-live=true samplesperbuffer=960 ! audio/x-raw,rate=48000,channels=2 ! opusenc ! opusparse \
                    ! mpegtsmux alignment=7 ! rtpmp2tpay";
    let report = agrees(pipeline, "uring", 90_000, &[]);
    let ts = &report["rx"]["streams"][0]["ts"];
    assert_eq!((&ts["sync_errors"], &ts["malformed"]), (&0.into(), &0.into()), "{ts}");
    assert!(ts["continuity_errors"].as_u64().unwrap() > 0 && ts["packets"].as_u64().unwrap() > 0, "{ts}");
    assert_eq!(ts["programs"][0]["number"], 1, "{ts}");
}
