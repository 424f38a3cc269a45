//! tshark's view of media streams in a capture, and RFC 3550's appendix A.8 over its rows.
#![allow(dead_code, reason = "not every test file needs everything")]

use std::path::Path;
use std::process::{Command, Stdio};

use wirerate_engine::lab::Netns;

/// UDP port of the tests' media streams.
pub const PORT: &str = "5004";

/// Has nftables drop every `n`th datagram to [`PORT`] that comes into the middle from the sender, the fourth of each `n` first. Counted are all,
/// and those dropped.
pub fn drop_every(middle: &Netns, n: u32) {
    let script = format!(
        "add table netdev loss\n\
         add counter netdev loss seen\n\
         add counter netdev loss dropped\n\
         add chain netdev loss in {{ type filter hook ingress device \"s0\" priority 0; }}\n\
         add rule netdev loss in udp dport {PORT} counter name seen\n\
         add rule netdev loss in udp dport {PORT} numgen inc mod {n} == 3 counter name dropped drop\n"
    );
    let mut nft =
        middle.command("nft").args(["-f", "-"]).stdin(Stdio::piped()).spawn().expect("nftables is installed");
    std::io::Write::write_all(&mut nft.stdin.take().expect("piped"), script.as_bytes()).unwrap();
    assert!(nft.wait().unwrap().success(), "{script}");
}

/// What [`drop_every`] counted: all, and dropped. It drops no more.
pub fn dropped(middle: &Netns) -> (u64, u64) {
    let packets = |name: &str| {
        let listed = middle
            .command("nft")
            .args(["--json", "list", "counter", "netdev", "loss", name])
            .output()
            .unwrap();
        let listed: serde_json::Value = serde_json::from_slice(&listed.stdout).expect("JSON");
        listed["nftables"][1]["counter"]["packets"].as_u64().expect("a counter of that name")
    };
    let counts = (packets("seen"), packets("dropped"));
    assert!(middle.command("nft").args(["delete", "table", "netdev", "loss"]).status().unwrap().success());
    counts
}

/// Datagrams that were dropped between the first and the last that were not: the fourth of each `n` is, so that the last may be.
pub fn dropped_within((all, dropped): (u64, u64), n: u64) -> u64 {
    assert_eq!(dropped, (all + n - 4) / n, "{dropped} of {all}");
    dropped - u64::from(all % n == 4)
}

/// A stream in tshark's table of RTP streams.
#[derive(Debug)]
pub struct TsharkStream {
    pub ssrc: u32,
    pub packets: u64,
    pub lost: i64,
    /// Highest jitter in ms; where tshark knows the clock.
    pub max_jitter_ms: f64,
}

/// What tshark says of the one RTP stream in `capture`.
pub fn tshark_stream(capture: &Path) -> TsharkStream {
    let table = tshark(capture, &["-q", "-z", "rtp,streams"]);
    let mut rows = table.lines().filter(|line| line.contains(" 0x"));
    let row = rows.next().unwrap_or_else(|| panic!("a stream: {table}"));
    assert!(rows.next().is_none(), "one stream: {table}");
    let (_, behind) = row.split_once(" 0x").unwrap();
    let words: Vec<&str> = behind.split_whitespace().collect();
    // The payload's name may have blanks: what comes before the share lost is the count of those.
    let share = words.iter().position(|word| word.starts_with('(')).unwrap_or_else(|| panic!("{row}"));
    let number = |at: usize| words[at].parse().unwrap_or_else(|_| panic!("{at}: {row}"));
    TsharkStream {
        ssrc: u32::from_str_radix(words[0], 16).unwrap(),
        packets: number(share - 2),
        lost: words[share - 1].parse().unwrap(),
        max_jitter_ms: words[share + 6].parse().unwrap(),
    }
}

/// A packet of RTP as tshark reads it.
#[derive(Debug, Clone, Copy)]
pub struct Row {
    pub arrived_ns: u64,
    pub sequence: u16,
    pub timestamp: u32,
}

/// The packets of RTP in `capture`.
pub fn rows(capture: &Path) -> Vec<Row> {
    let fields =
        ["-T", "fields", "-e", "frame.time_epoch", "-e", "rtp.seq", "-e", "rtp.timestamp", "-Y", "rtp"];
    let text = tshark(capture, &fields);
    let row = |line: &str| {
        let fields: Vec<&str> = line.split_whitespace().collect();
        let (seconds, fraction) = fields[0].split_once('.').unwrap();
        assert_eq!(fraction.len(), 9, "{line}");
        let number = |text: &str| text.parse::<u64>().unwrap();
        Row {
            arrived_ns: number(seconds) * 1_000_000_000 + number(fraction),
            sequence: number(fields[1]) as u16,
            timestamp: number(fields[2]) as u32,
        }
    };
    text.lines().map(row).collect()
}

/// Jitter by A.8 as it is printed, at the end and its highest, in units of a clock of `hz`.
pub fn jitter(rows: &[Row], hz: u64) -> (u64, u64) {
    let (mut transit, mut jitter, mut highest) = (None, 0u32, 0);
    for row in rows {
        let since = u128::from(row.arrived_ns - rows[0].arrived_ns);
        let arrived = (since * u128::from(hz) / 1_000_000_000) as u32;
        let now = arrived.wrapping_sub(row.timestamp).cast_signed();
        if let Some(before) = transit.replace(now) {
            let d = now.wrapping_sub(before).unsigned_abs();
            jitter = jitter + d - ((jitter + 8) >> 4);
            highest = highest.max(jitter >> 4);
        }
    }
    (u64::from(jitter >> 4), u64::from(highest))
}

/// Numbers that are missing between the first and the highest, by a set: no wrap-around is expected beyond one.
pub fn missing(rows: &[Row]) -> u64 {
    let first = rows[0].sequence;
    let numbers: std::collections::BTreeSet<u16> =
        rows.iter().map(|row| row.sequence.wrapping_sub(first)).collect();
    u64::from(*numbers.last().unwrap()) + 1 - numbers.len() as u64
}

/// Continuity errors that tshark finds in the transport stream of `capture`: one text a packet that has some.
pub fn tshark_transport_packets(capture: &Path, decode: &str) -> Vec<(u16, u8, bool)> {
    let fields = [
        "-T",
        "fields",
        "-E",
        "occurrence=a",
        "-e",
        "mp2t.pid",
        "-e",
        "mp2t.cc",
        "-e",
        "mp2t.afc",
        "-Y",
        "mp2t",
    ];
    let decode = format!("udp.port=={PORT},{decode}");
    let output =
        Command::new("tshark").arg("-r").arg(capture).args(["-d", &decode]).args(fields).output().unwrap();
    let text = String::from_utf8(output.stdout).unwrap();
    let number = |text: &str| match text.strip_prefix("0x") {
        Some(hex) => u64::from_str_radix(hex, 16).unwrap(),
        None => text.parse().unwrap(),
    };
    let mut packets = Vec::new();
    for line in text.lines() {
        let columns: Vec<Vec<u64>> =
            line.split('\t').map(|column| column.split(',').map(number).collect()).collect();
        for ((pid, cc), afc) in columns[0].iter().zip(&columns[1]).zip(&columns[2]) {
            packets.push((*pid as u16, *cc as u8, afc & 1 == 1));
        }
    }
    packets
}

/// Breaks in the counters of packets with a payload, and how many they show missing, with the one copy that is allowed; null packets have none.
pub fn continuity(packets: &[(u16, u8, bool)]) -> (u64, u64) {
    let (mut last, mut copied) = (std::collections::BTreeMap::new(), std::collections::BTreeSet::new());
    let (mut errors, mut missing) = (0, 0);
    for &(pid, cc, _) in packets.iter().filter(|(pid, _, payload)| *payload && *pid != 0x1fff) {
        let Some(before) = last.insert(pid, cc) else { continue };
        let ahead = (cc + 16 - before) % 16;
        if ahead == 0 && copied.insert(pid) {
            continue;
        }
        copied.remove(&pid);
        if ahead != 1 {
            errors += 1;
            missing += u64::from(ahead.saturating_sub(1));
        }
    }
    (errors, missing)
}

fn tshark(capture: &Path, more: &[&str]) -> String {
    let output = Command::new("tshark")
        .arg("-r")
        .arg(capture)
        .args(["-d", &format!("udp.port=={PORT},rtp")])
        .args(more)
        .output()
        .expect("tshark is installed");
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    String::from_utf8(output.stdout).unwrap()
}

/// Starts a peer that sends in the sender's namespace and waits for its end, which must be a success.
pub fn send(mut command: Command) {
    let output = command.stdin(Stdio::null()).output().unwrap_or_else(|e| panic!("{command:?}: {e}"));
    assert!(output.status.success(), "{command:?}: {}", String::from_utf8_lossy(&output.stderr));
}
