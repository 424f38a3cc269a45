//! Media streams that ffmpeg sends, with losses in the middle: what we say of them is what tshark says of the same packets.

use std::net::IpAddr;
use std::path::Path;

use serde_json::Value;
use wirerate_engine::lab::{INTERFACE, Lab};

mod common;
#[path = "common/media.rs"]
mod media;

use common::Running;
use common::witness::Tcpdump;

const GROUP: [u8; 4] = [239, 1, 2, 3];
/// Every so many packets one is dropped.
const EVERY: u32 = 9;

/// What one run came to.
struct Seen {
    live: Value,
    capture: std::path::PathBuf,
    _directory: tempfile::TempDir,
    /// Dropped in the middle between the first and the last packet that came through.
    dropped: u64,
}

/// Has ffmpeg send `what` to `url` while `recv` receives `target`, with one in [`EVERY`] packets dropped on the way.
fn sent_by_ffmpeg(what: &str, url: &str, target: &str, backend: &str, more: &[&str]) -> Seen {
    let lab = Lab::bridge(1).unwrap();
    let directory = tempfile::tempdir().unwrap();
    let capture = directory.path().join("witness.pcap");
    let args = [&["recv", target, "--iface", INTERFACE, "--backend", backend, "--idle", "3s"], more].concat();
    let receiver = Running::ready_on(&lab.receivers[0], &args);
    lab.wait_for_members(IpAddr::from(GROUP), 1).unwrap();
    let tcpdump = Tcpdump::capture(&lab.middle, "r1", "udp dst port 5004", &capture);
    media::drop_every(&lab.middle, EVERY);
    let mut ffmpeg = lab.sender.command("ffmpeg");
    ffmpeg
        .args(["-hide_banner", "-loglevel", "error", "-nostdin", "-re", "-f", "lavfi"])
        .args(what.split_whitespace())
        .arg(url);
    media::send(ffmpeg);
    let dropped = media::dropped_within(media::dropped(&lab.middle), EVERY.into());
    assert_eq!(tcpdump.end().missed, 0);
    let live = receiver.report();
    Seen { live, capture, _directory: directory, dropped }
}

/// The same figures from the capture.
fn offline(capture: &Path, target: &str, more: &[&str]) -> Value {
    let capture = capture.to_str().unwrap();
    let args = [&["recv", target, "--pcap", capture, "--json", "--quiet"], more].concat();
    let ended = common::run(common::wirerate(&args));
    assert_eq!(ended.code, 0, "{}", ended.stderr);
    ended.json()
}

/// What tshark, the injected loss, the live receiver and the analysis of the capture say of one RTP stream: the same.
fn agree(seen: &Seen, target: &str, hz: u64, more: &[&str]) -> Value {
    let (tshark, rows) = (media::tshark_stream(&seen.capture), media::rows(&seen.capture));
    assert_eq!((rows.len() as u64, media::missing(&rows)), (tshark.packets, tshark.lost.cast_unsigned()));
    assert_eq!(tshark.lost.cast_unsigned(), seen.dropped, "tshark, and what nftables dropped");
    let from_capture = offline(&seen.capture, target, more);
    for (way, report) in [("live", &seen.live), ("from the capture", &from_capture)] {
        let (rx, stream) = (&report["rx"], &report["rx"]["streams"][0]);
        assert_eq!(rx["streams"].as_array().unwrap().len(), 1, "{way}: {rx}");
        assert_eq!(
            (&rx["packets"], &rx["lost"]),
            (&tshark.packets.into(), &seen.dropped.into()),
            "{way}: {rx}"
        );
        for field in ["duplicate", "reordered", "foreign", "corrupt", "before_start", "lost_tail"] {
            assert_eq!(rx[field], 0, "{way} {field}: {rx}");
        }
        let rtp = &stream["rtp"];
        assert_eq!(
            (&stream["format"], &rtp["ssrc"]),
            (&"rtp".into(), &tshark.ssrc.into()),
            "{way}: {stream}"
        );
        assert_eq!(rtp["expected"], tshark.packets + seen.dropped, "{way}");
        assert_eq!((&rtp["cumulative_lost"], &rtp["valid"]), (&tshark.lost.into(), &true.into()), "{way}");
        assert_eq!(rtp["clock_hz"], hz, "{way}");
        // Every ninth is lost: single packets, so far apart, and iperf has no say in it.
        assert_eq!(stream["loss_periods"]["length_packets"]["sum"], seen.dropped, "{way}: {stream}");
        assert_eq!(stream["loss_periods"]["distance_packets"]["max"], EVERY, "{way}: {stream}");
        assert!(stream["as_iperf3"].is_null() && rx["as_iperf3"].is_null(), "{way}: {rx}");
    }
    let stream = &from_capture["rx"]["streams"][0];
    let (jitter, highest) = media::jitter(&rows, hz);
    assert_eq!(
        (&stream["rtp"]["jitter_units"], &stream["rtp"]["jitter_max_units"]),
        (&jitter.into(), &highest.into())
    );
    if tshark.max_jitter_ms > 0.0 {
        // tshark's is a sum of fractions of ms printed with three digits; ours rounds each sixteenth to a ns and the time stamp to a ns.
        let ours_ms = stream["jitter_ns"]["max"].as_f64().unwrap() / 1e6;
        assert!((ours_ms - tshark.max_jitter_ms).abs() <= 0.001, "{ours_ms} and {tshark:?}");
    }
    from_capture
}

#[test]
fn pcmu_and_opus() {
    common::require_root!();
    let url = "rtp://239.1.2.3:5004?ttl=2";
    let target = "rtp://239.1.2.3:5004";
    let pcmu = "-i sine=frequency=440:sample_rate=8000 -t 3 -c:a pcm_mulaw -f rtp -packet_size 172";
    let seen = sent_by_ffmpeg(pcmu, url, target, "mmsg", &[]);
    let report = agree(&seen, target, 8000, &[]);
    assert_eq!(report["rx"]["streams"][0]["rtp"]["payload_types"][0]["name"], "PCMU");
    assert!(!report["warnings"].to_string().contains("clock-assumed"));
    let opus = "-i sine=frequency=440:sample_rate=48000 -t 3 -c:a libopus -f rtp";
    let seen = sent_by_ffmpeg(opus, url, target, "uring", &["--payload-type", "97=48000"]);
    let report = agree(&seen, target, 48_000, &["--payload-type", "97=48000"]);
    assert_eq!(report["rx"]["streams"][0]["rtp"]["timestamp_step_min_units"], 960);
    // Of the clock nobody has said anything here, and the figures are not silent about it.
    let report = offline(&seen.capture, "udp://239.1.2.3:5004", &[]);
    assert_eq!(report["rx"]["lost"], seen.dropped, "recognised by itself");
    assert_eq!(report["rx"]["streams"][0]["rtp"]["clock_assumed"], true);
    assert!(report["warnings"].to_string().contains("clock-assumed"), "{}", report["warnings"]);
}

/// What the counters of a transport stream show missing is what tshark's rows of the same capture show.
fn continuity_agrees(seen: &Seen, report: &Value, decode: &str) {
    let packets = media::tshark_transport_packets(&seen.capture, decode);
    let (errors, missing) = media::continuity(&packets);
    assert!(errors > 0, "something was lost, so the counters must show it");
    let ts = &report["rx"]["streams"][0]["ts"];
    assert_eq!(ts["packets"], packets.len(), "{ts}");
    assert_eq!(
        (&ts["continuity_errors"], &ts["missing_at_least"]),
        (&errors.into(), &missing.into()),
        "{ts}"
    );
    assert!(missing <= seen.dropped * 7, "a counter never shows more than was lost");
    for field in ["sync_errors", "transport_errors", "malformed", "untracked"] {
        assert_eq!(ts[field], 0, "{field}: {ts}");
    }
    assert_eq!(ts["programs"][0]["number"], 1, "{ts}");
    assert!(ts["pats"].as_u64().unwrap() > 0 && ts["pmts"].as_u64().unwrap() > 0, "{ts}");
}

const VIDEO: &str = "-i testsrc2=size=320x240:rate=25 -t 4 -c:v mpeg2video -b:v 1M -muxrate 2M";

#[test]
fn a_transport_stream_in_rtp() {
    common::require_root!();
    let target = "rtp://239.1.2.3:5004";
    let what = format!("{VIDEO} -f rtp_mpegts");
    let seen = sent_by_ffmpeg(&what, "rtp://239.1.2.3:5004?ttl=2", target, "afxdp", &[]);
    let report = agree(&seen, target, 90_000, &[]);
    for report in [&report, &seen.live] {
        continuity_agrees(&seen, report, "rtp");
        let mdi = &report["rx"]["streams"][0]["ts"]["mdi"];
        assert!(mdi["intervals"].as_u64().unwrap() > 0, "{mdi}");
        assert!(mdi["media_loss_rate_max_pps"].as_u64().unwrap() > 0, "one in nine was lost: {mdi}");
        assert!(report["intervals"].as_array().unwrap().iter().any(|i| i["rx"]["mdi"].is_object()));
    }
}

#[test]
fn a_transport_stream_over_udp_is_recognised_and_says_no_more_than_it_knows() {
    common::require_root!();
    let target = "udp://239.1.2.3:5004";
    let what = format!("{VIDEO} -f mpegts");
    let seen = sent_by_ffmpeg(&what, "udp://239.1.2.3:5004?pkt_size=1316&ttl=2", target, "mmsg", &[]);
    let from_capture = offline(&seen.capture, target, &["--media-rate", "2M"]);
    for report in [&seen.live, &from_capture] {
        let rx = &report["rx"];
        assert_eq!((&rx["streams"][0]["format"], &rx["foreign"]), (&"ts".into(), &0.into()), "{rx}");
        // It has no numbers: nothing is called lost.
        assert_eq!((&rx["lost"], &rx["reordered"], &rx["duplicate"]), (&0.into(), &0.into(), &0.into()));
        continuity_agrees(&seen, report, "mp2t");
    }
    let ts = &from_capture["rx"]["streams"][0]["ts"];
    assert_eq!(ts["mdi"]["media_rate_bps"], 2_000_000, "{ts}");
    // ffmpeg fills the stream up to the rate that it was told; of the packets that fill it nobody counts those that are missing.
    let rate = ts["pcr"]["rate_bps"].as_u64().unwrap();
    assert!((1_500_000..=2_020_000).contains(&rate), "{ts}");
}
