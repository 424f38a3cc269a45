//! RTP as others see it: ffmpeg and GStreamer play it, tshark and tcpdump count it, and our own receiver accounts for every packet.

use std::path::Path;
use std::process::{Child, Command, Stdio};

use serde_json::Value;
use tempfile::TempDir;
use wirerate_engine::lab::{Host, INTERFACE, Lab};

mod common;

use common::witness::{Dissection, Tcpdump};
use common::{Ended, Running, report_on, run};

/// Makes `file` with ffmpeg's `args`.
fn ffmpeg_makes(directory: &TempDir, file: &str, args: &str) -> String {
    let path = directory.path().join(file).to_str().expect("UTF-8").to_owned();
    let mut ffmpeg = Command::new("ffmpeg");
    ffmpeg.args(["-hide_banner", "-loglevel", "error", "-y"]).args(args.split_whitespace()).arg(&path);
    run(ffmpeg).expect(0, &[]);
    path
}

/// ffmpeg playing an RTP session on `host` until it hears goodbye.
struct Player {
    child: Child,
    _sdp: TempDir,
}

impl Player {
    /// Starts it, and waits until it has its sockets on `port` and the next.
    fn start(host: &Host, media: &str, payload_type: u8, port: u16) -> Self {
        let sdp = tempfile::tempdir().unwrap();
        let file = sdp.path().join("session.sdp");
        let address = host.ipv4;
        let text = format!(
            "v=0\no=- 0 0 IN IP4 {address}\ns=-\nc=IN IP4 {address}\nt=0 0\nm={media} {port} RTP/AVP {payload_type}\n"
        );
        std::fs::write(&file, text).unwrap();
        let child = host
            .command("ffmpeg")
            .args(["-hide_banner", "-loglevel", "warning", "-stats", "-xerror", "-err_detect", "explode"])
            .args(["-protocol_whitelist", "file,udp,rtp", "-i"])
            .arg(&file)
            // A second summary for what was decoded; errors alone stay on standard error.
            .args(["-f", "framecrc", "-"])
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .expect("ffmpeg is installed");
        for port in [port, port + 1] {
            wait_for_socket(host, port);
        }
        Self { child, _sdp: sdp }
    }

    /// Waits for its end; each line is a decoded frame: stream, time, duration, bytes.
    fn end(self) -> (Vec<Vec<u64>>, String) {
        let mut child = self.child;
        let (stdout, stderr) = (child.stdout.take().unwrap(), child.stderr.take().unwrap());
        let read = |mut from: Box<dyn std::io::Read + Send>| {
            std::thread::spawn(move || {
                let mut text = String::new();
                from.read_to_string(&mut text).map(|_| text)
            })
        };
        let (stdout, stderr) = (read(Box::new(stdout)), read(Box::new(stderr)));
        let status = common::wait(&mut child);
        let (stdout, stderr) = (stdout.join().unwrap().unwrap(), stderr.join().unwrap().unwrap());
        assert!(status.success(), "ffmpeg: {stderr}");
        let frames = stdout
            .lines()
            .filter(|line| !line.starts_with('#'))
            .map(|line| line.split(',').take(5).map(|field| field.trim().parse().unwrap_or(0)).collect());
        (frames.collect(), stderr)
    }
}

/// Waits until a UDP socket is bound to `port` on `host`.
fn wait_for_socket(host: &Host, port: u16) {
    common::eventually(&format!("a socket at port {port}"), || {
        let mut ss = host.command("ss");
        ss.args(["-Hnuln", &format!("sport = :{port}")]);
        !run(ss).stdout.trim().is_empty()
    });
}

fn send(lab: &Lab, target: &str, args: &[&str]) -> Value {
    let mut all = vec!["send", target, "--iface", INTERFACE];
    all.extend(args);
    report_on(&lab.sender, &all)
}

/// What ffmpeg says besides its progress and its opinions on a file's time base.
fn complaints(stderr: &str) -> Vec<&str> {
    let harmless = ["size=", "frame=", "Guessed Channel Layout", "Last message repeated", "deprecated"];
    stderr
        .split(['\n', '\r'])
        .filter(|line| !line.trim().is_empty() && !harmless.iter().any(|word| line.contains(word)))
        .collect()
}

#[test]
fn sound_plays_in_ffmpeg_sample_by_sample() {
    common::require_root!();
    let lab = Lab::bridge(1).unwrap();
    let host = &lab.receivers[0];
    let directory = tempfile::tempdir().unwrap();
    // 3.01 s: the last packet is half full, and filled up with silence.
    let file = ffmpeg_makes(
        &directory,
        "sine.wav",
        "-f lavfi -i sine=frequency=440:sample_rate=8000:duration=3.01 -c:a pcm_mulaw -ac 1",
    );
    for backend in ["uring", "mmsg", "afxdp"] {
        let player = Player::start(host, "audio", 0, 5004);
        let tcpdump = Tcpdump::count(&lab.middle, "s0", "udp dst port 5004");
        let target = format!("rtp://{}:5004", host.ipv4);
        let report = send(&lab, &target, &["--backend", backend, "--payload-file", &file]);
        assert_eq!(report["tx"]["packets"], 151, "{backend}");
        assert_eq!(report["config"]["rtp"]["payload_type"], 0);
        assert_eq!(report["config"]["rtp"]["ptime_ns"], 20_000_000);
        assert_eq!(report["rtcp"]["bye_sent"], 1, "{backend}: {}", report["rtcp"]);
        assert_eq!(tcpdump.end().matched, 151, "no more on the port of RTP than RTP");
        let (frames, stderr) = player.end();
        assert!(complaints(&stderr).is_empty(), "{backend}: {stderr}");
        let bytes: u64 = frames.iter().map(|frame| frame[4]).sum();
        // Decoded to 16 bits.
        assert_eq!((frames.len(), bytes), (151, 151 * 320), "{backend}");
    }
}

#[test]
fn a_transport_stream_plays_in_ffmpeg_frame_by_frame() {
    common::require_root!();
    let lab = Lab::bridge(1).unwrap();
    let host = &lab.receivers[0];
    let directory = tempfile::tempdir().unwrap();
    let file = ffmpeg_makes(
        &directory,
        "test.ts",
        "-f lavfi -i testsrc2=size=320x240:rate=25:duration=4 -c:v mpeg2video -b:v 800k -muxrate 1.2M -f mpegts",
    );
    let packets = std::fs::metadata(&file).unwrap().len().div_ceil(1316);
    for backend in ["uring", "afxdp"] {
        let player = Player::start(host, "video", 33, 5004);
        let target = format!("rtp://{}:5004", host.ipv4);
        let report = send(&lab, &target, &["--backend", backend, "--payload-file", &file]);
        assert_eq!(report["tx"]["packets"], packets, "{backend}");
        assert_eq!(report["config"]["rtp"]["payload_type"], 33);
        let (frames, stderr) = player.end();
        assert!(complaints(&stderr).is_empty(), "{backend}: {stderr}");
        // 25 frames a second for 4 s; ffmpeg shows the last of them only when another follows.
        assert_eq!(frames.len(), 99, "{backend}");
    }
}

#[test]
fn gstreamer_takes_every_packet() {
    common::require_root!();
    let lab = Lab::bridge(1).unwrap();
    let host = &lab.receivers[0];
    let mut gst = host.command("gst-launch-1.0");
    gst.args(["-e", "-v", "udpsrc", "port=5004", "timeout=2000000000"])
        .arg("caps=application/x-rtp,media=audio,clock-rate=8000,encoding-name=PCMU,payload=0")
        .args(["!", "rtpjitterbuffer", "name=buffer", "!", "rtppcmudepay", "!", "mulawdec", "!"])
        .args(["fakesink", "silent=false", "num-buffers=200", "sync=false"])
        .stdout(Stdio::piped())
        .stderr(Stdio::piped());
    let child = gst.spawn().expect("gstreamer is installed");
    wait_for_socket(host, 5004);
    let target = format!("rtp://{}:5004", host.ipv4);
    send(&lab, &target, &["--backend", "mmsg", "--payload-type", "pcmu", "--no-probe", "--count", "210"]);
    let output = child.wait_with_output().unwrap();
    let said = String::from_utf8_lossy(&output.stdout);
    // It ends by itself with the 200th buffer, each of 160 samples.
    assert!(output.status.success(), "{said}{}", String::from_utf8_lossy(&output.stderr));
    assert!(said.matches("(320 bytes").count() >= 200, "{said}");
    assert!(!said.contains("lost"), "{said}");
}

/// What RTP's headers are to be, over every datapath: numbers across the wrap, time stamps by the pace, markers, streams in turn.
#[test]
fn headers_are_as_asked_for() {
    common::require_root!();
    let lab = Lab::bridge(1).unwrap();
    let host = &lab.receivers[0];
    for (backend, probe) in [("uring", true), ("mmsg", false), ("afxdp", true), ("afxdp", false)] {
        let wire = Dissection::begin(
            &lab.middle,
            "s0",
            "udp dst port 5004 and udp[8] == 0x80 and udp[9] & 0x7f < 64",
        );
        let target = format!("rtp://{}:5004", host.ipv4);
        let mut args =
            vec!["--backend", backend, "--payload-type", "pcma", "--streams", "3", "--count", "1500"];
        args.extend(["--ptime", "10ms", "--ssrc", "0xfffffffe", "--first-seq", "65300"]);
        args.extend(["--first-timestamp", "4294960000", "--marker", "100", "--rtcp", "off"]);
        if !probe {
            args.push("--no-probe");
        }
        let report = send(&lab, &target, &args);
        assert_eq!(report["tx"]["packets"], 1500);
        assert!(report["rtcp"].is_null(), "{report}");
        let rows = wire.end(&["udp.payload", "udp.checksum.status", "ip.checksum.status", "udp.length"]);
        let mut next = [0u64; 3];
        for row in &rows {
            let bytes: Vec<u8> =
                (0..12).map(|at| u8::from_str_radix(&row[0][2 * at..2 * at + 2], 16).unwrap()).collect();
            let four =
                |at: usize| u32::from_be_bytes([bytes[at], bytes[at + 1], bytes[at + 2], bytes[at + 3]]);
            let stream = usize::try_from(four(8).wrapping_sub(0xffff_fffe)).unwrap();
            let n = next[stream];
            next[stream] += 1;
            assert_eq!(bytes[1] & 0x7f, 8, "payload type");
            assert_eq!(bytes[1] & 0x80 != 0, (n + 1) % 100 == 0, "marker of packet {n}");
            assert_eq!(u64::from(u16::from_be_bytes([bytes[2], bytes[3]])), (65_300 + n) % 65_536);
            assert_eq!(u64::from(four(4)), (4_294_960_000 + 80 * n) % (1 << 32), "time stamp of packet {n}");
            assert_eq!(row[3], "100", "8 of UDP, 12 of RTP, 80 of sound");
            // A frame of AF_XDP has its checksums; a socket's are the NIC's to fill in.
            if backend == "afxdp" {
                assert_eq!([row[1].as_str(), row[2].as_str()], ["1", "1"], "{backend}, probe: {probe}");
            }
        }
        assert_eq!(next, [500; 3], "{backend}, probe: {probe}");
    }
}

#[test]
fn our_receiver_accounts_for_every_packet() {
    common::require_root!();
    let lab = Lab::bridge(1).unwrap();
    let host = &lab.receivers[0];
    for (backend, target) in [
        ("uring", format!("rtp://{}:5004", host.ipv4)),
        ("mmsg", format!("rtp://[{}]:5004", host.ipv6)),
        ("afxdp", "rtp://239.1.2.3:5004".to_owned()),
    ] {
        let receiver =
            Running::ready_on(host, &["recv", &target, "--iface", INTERFACE, "--backend", backend]);
        if target.contains("239.") {
            lab.wait_for_members([239, 1, 2, 3].into(), 1).unwrap();
        }
        // Messages are RTCP.
        let filter = if target.contains('[') {
            "ip6 and udp dst port 5004 and (ip6[49] < 192 or ip6[49] > 223)"
        } else {
            "udp dst port 5004 and (udp[9] < 192 or udp[9] > 223)"
        };
        let tcpdump = Tcpdump::count(&lab.middle, "s0", filter);
        let args = [
            "--backend",
            backend,
            "--streams",
            "2",
            "--count",
            "4000",
            "--rate",
            "4kpps",
            "--length",
            "200",
            "--first-seq",
            "65000",
        ];
        let sent = send(&lab, &target, &args);
        let report = receiver.report();
        let rx = &report["rx"];
        assert_eq!((&sent["tx"]["packets"], &rx["unique"]), (&4000.into(), &4000.into()), "{backend}: {rx}");
        assert_eq!(tcpdump.end().matched, 4000, "{backend}: no more than RTP, beside RTCP");
        for field in ["lost", "lost_tail", "duplicate", "reordered", "corrupt", "foreign", "before_start"] {
            assert_eq!(rx[field], 0, "{backend} {field}: {rx}");
        }
        for stream in rx["streams"].as_array().unwrap() {
            assert_eq!((&stream["format"], &stream["sent"]), (&"wirerate".into(), &2000.into()), "{stream}");
            let rtp = &stream["rtp"];
            assert_eq!(
                (&rtp["wraps"], &rtp["expected"], &rtp["probe_mismatches"]),
                (&1.into(), &2000.into(), &0.into()),
                "{rtp}"
            );
        }
        assert!(rx["latency_ns"]["count"].as_u64() == Some(4000), "{rx}");
        let path = &report["ledger"]["paths"][0];
        assert_eq!(
            (&path["sent"], &path["received"], &path["unaccounted"]),
            (&4000.into(), &4000.into(), &0.into()),
            "{path}"
        );
    }
}

fn refused(args: &[&str]) -> Ended {
    run(common::wirerate(args))
}

#[test]
fn what_cannot_be_sent_is_refused() {
    let directory = tempfile::tempdir().unwrap();
    let file = directory.path().join("x.wav");
    std::fs::write(&file, b"RIFF\0\0\0\0WAVEfmt \x10\0\0\0\x01\0\x01\0").unwrap();
    let file: &Path = &file;
    refused(&["send", "rtp://127.0.0.1:5004", "--payload-file", file.to_str().unwrap()])
        .expect(2, &["WAV", "ffmpeg"]);
    refused(&["send", "rtp://127.0.0.1:5004", "--length", "20"]).expect(2, &["20", "30", "--no-probe"]);
    refused(&["send", "rtp://127.0.0.1:5004", "--payload-type", "70"]).expect(2, &["70", "RFC 5761"]);
    refused(&["send", "127.0.0.1:5004", "--ssrc", "1"]).expect(2, &["--ssrc", "rtp://"]);
    refused(&["recv", "127.0.0.1:5004", "--rtcp", "off"]).expect(2, &["--rtcp", "rtp://"]);
    refused(&["send", "rtp://127.0.0.1:5004", "--iface", "lo", "--backend", "xdp"])
        .expect(2, &["xdp", "RTP"]);
}
