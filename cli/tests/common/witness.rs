//! Witnesses that know nothing of the program: nftables, tcpdump, tshark and `ip -s link`. They stand in the lab's
//! middle, where no XDP program hides packets from them.
#![allow(dead_code, reason = "not every test file needs everything")]

use std::io::{BufRead, BufReader, Lines, Write};
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStderr, Command, Stdio};
use std::time::{Duration, Instant};

use serde_json::Value;
use wirerate_engine::lab::Netns;

/// How long a witness may take to have seen what has already happened.
const PATIENCE: Duration = Duration::from_secs(10);

/// Where nftables counts.
#[derive(Debug, Clone, Copy)]
pub enum At<'a> {
    /// What arrives at the port.
    Into(&'a str),
    /// What leaves by the port.
    OutOf(&'a str),
}

/// Has nftables count, from now on, what matches each expression at its place. The counters' names are for
/// [`nft_packets`].
pub fn nft_count(middle: &Netns, counters: &[(&str, At<'_>, &str)]) {
    let mut script = "add table netdev witness\n".to_owned();
    for (name, at, expression) in counters {
        let (hook, device) = match at {
            At::Into(device) => ("ingress", device),
            At::OutOf(device) => ("egress", device),
        };
        script += &format!(
            "add counter netdev witness {name}\n\
             add chain netdev witness {name} {{ type filter hook {hook} device \"{device}\" priority 0; }}\n\
             add rule netdev witness {name} {expression} counter name {name}\n"
        );
    }
    let mut nft =
        middle.command("nft").args(["-f", "-"]).stdin(Stdio::piped()).spawn().expect("nftables is installed");
    nft.stdin.take().expect("piped").write_all(script.as_bytes()).unwrap();
    assert!(nft.wait().unwrap().success(), "{script}");
}

/// Packets that the counter `name` of [`nft_count`] has counted.
pub fn nft_packets(middle: &Netns, name: &str) -> u64 {
    let listed = json(middle.command("nft").args(["--json", "list", "counter", "netdev", "witness", name]));
    listed["nftables"][1]["counter"]["packets"].as_u64().expect("a counter of that name")
}

/// Ends the counting of [`nft_count`].
pub fn nft_forget(middle: &Netns) {
    let status = middle.command("nft").args(["delete", "table", "netdev", "witness"]).status().unwrap();
    assert!(status.success());
}

/// Packets that `port` has received and transmitted, as `ip -s link` has it.
pub fn link_packets(netns: &Netns, port: &str) -> (u64, u64) {
    let links = json(netns.command("ip").args(["-json", "-stats", "link", "show", "dev", port]));
    let packets = |direction: &str| links[0]["stats64"][direction]["packets"].as_u64().expect("a counter");
    (packets("rx"), packets("tx"))
}

/// A command that prints JSON and succeeds.
fn json(command: &mut Command) -> Value {
    let output = command.stderr(Stdio::inherit()).output().expect("it is installed");
    assert!(output.status.success(), "{command:?}");
    serde_json::from_slice(&output.stdout).expect("JSON")
}

/// A running tcpdump, killed when dropped.
pub struct Tcpdump {
    child: Child,
    said: Lines<BufReader<ChildStderr>>,
    /// What it had counted when it began: packets that came between its socket's opening and the filter's setting are
    /// in the kernel's count.
    before: Captured,
}

/// tcpdump's own account.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Captured {
    /// Read from the kernel.
    pub captured: u64,
    /// Matched by the filter, read or not.
    pub matched: u64,
    /// Not read, because tcpdump was too slow.
    pub missed: u64,
}

impl Tcpdump {
    /// Counts what passes `port` and matches `filter`; returns when it has begun.
    pub fn count(netns: &Netns, port: &str, filter: &str) -> Self {
        Self::write(netns, port, filter, Path::new("/dev/null"), &["--snapshot-length=64"])
    }

    /// Writes what passes `port` and matches `filter` to `file`; returns when it has begun.
    pub fn capture(netns: &Netns, port: &str, filter: &str, file: &Path) -> Self {
        Self::write(netns, port, filter, file, &["--immediate-mode"])
    }

    /// As [`capture`](Self::capture), with times in ns: the host's own, as the kernel stamped the packets.
    pub fn stamped(netns: &Netns, port: &str, filter: &str, file: &Path) -> Self {
        Self::write(netns, port, filter, file, &["--immediate-mode", "--time-stamp-precision=nano"])
    }

    fn write(netns: &Netns, port: &str, filter: &str, file: &Path, more: &[&str]) -> Self {
        let mut child = netns
            .command("tcpdump")
            .args(["-i", port, "-n", "-p", "-B", "65536", "-Z", "root"])
            .args(more)
            .arg("-w")
            .arg(file)
            .arg(filter)
            .stderr(Stdio::piped())
            .spawn()
            .expect("tcpdump is installed");
        let mut said = BufReader::new(child.stderr.take().expect("piped")).lines();
        let begun = said.find(|line| line.as_ref().is_ok_and(|line| line.contains("listening on")));
        assert!(begun.is_some(), "tcpdump did not begin");
        let mut dump = Self { child, said, before: Captured::default() };
        dump.before = dump.ask("USR1");
        dump
    }

    /// Ends it once it has read all that it saw; its account.
    pub fn end(mut self) -> Captured {
        let deadline = Instant::now() + PATIENCE;
        loop {
            let so_far = self.ask("USR1");
            if so_far.captured + so_far.missed == so_far.matched || Instant::now() > deadline {
                break;
            }
            std::thread::sleep(Duration::from_millis(50));
        }
        let account = self.ask("INT");
        self.child.wait().unwrap();
        account
    }

    /// Sends a signal that makes it tell its counts, on one line or on three.
    fn ask(&mut self, signal: &str) -> Captured {
        let id = self.child.id().to_string();
        assert!(Command::new("kill").args(["-s", signal, &id]).status().unwrap().success());
        let mut said = String::new();
        while !said.contains("dropped by kernel") {
            said += &self.said.next().expect("tcpdump tells its counts").unwrap();
            said += "\n";
        }
        let number = |what: &str| -> u64 {
            let before = &said[..said.find(what).unwrap_or_else(|| panic!("{what}: {said}"))];
            // One packet is "1 packet".
            let before = before.trim_end().trim_end_matches('s').trim_end_matches("packet").trim_end();
            let digits = before.rsplit(|c: char| !c.is_ascii_digit()).next().unwrap();
            digits.parse().unwrap_or_else(|_| panic!("{what}: {said}"))
        };
        Captured {
            captured: number("captured") - self.before.captured,
            matched: number("received by filter") - self.before.matched,
            missed: number("dropped by kernel") - self.before.missed,
        }
    }
}

impl Drop for Tcpdump {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// What tshark reads in each packet of a capture: one row a packet, one text a field; checksums are verified.
pub fn dissect(capture: &Path, fields: &[&str]) -> Vec<Vec<String>> {
    let mut tshark = Command::new("tshark");
    tshark.arg("-r").arg(capture).args(["-o", "udp.check_checksum:TRUE", "-o", "ip.check_checksum:TRUE"]);
    // STAMP's port is not among those that its dissector (that of TWAMP-Test) looks at by itself.
    tshark.args(["-d", "udp.port==862,twamp.test"]);
    tshark.args(["-T", "fields", "-E", "separator=;"]);
    for field in fields {
        tshark.args(["-e", field]);
    }
    let output = tshark.output().expect("tshark is installed");
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    let text = String::from_utf8(output.stdout).unwrap();
    text.lines().map(|line| line.split(';').map(str::to_owned).collect()).collect()
}

/// Each packet of a capture of [`Tcpdump::stamped`]: CLOCK_REALTIME in ns, and the frame. Read by hand, as tshark rounds nothing but prints fractions.
pub fn stamped_frames(capture: &Path) -> Vec<(u64, Vec<u8>)> {
    let bytes = std::fs::read(capture).unwrap();
    let word = |at: usize| u32::from_ne_bytes(bytes[at..at + 4].try_into().unwrap());
    assert_eq!(word(0), 0xa1b2_3c4d, "a capture of this machine with times in ns (pcap-savefile(5))");
    let (mut at, mut frames) = (24, Vec::new());
    while at < bytes.len() {
        let (seconds, nanos, length) = (word(at), word(at + 4), word(at + 8) as usize);
        let frame = bytes[at + 16..at + 16 + length].to_vec();
        frames.push((u64::from(seconds) * 1_000_000_000 + u64::from(nanos), frame));
        at += 16 + length;
    }
    frames
}

/// A capture in a directory of its own, dissected when it has ended.
pub struct Dissection {
    tcpdump: Tcpdump,
    directory: tempfile::TempDir,
}

impl Dissection {
    /// Begins to capture what passes `port` and matches `filter`.
    pub fn begin(netns: &Netns, port: &str, filter: &str) -> Self {
        let directory = tempfile::tempdir().unwrap();
        let tcpdump = Tcpdump::capture(netns, port, filter, &Self::file(&directory));
        Self { tcpdump, directory }
    }

    /// Ends the capture and gives the `fields` of each packet as tshark has them.
    pub fn end(self, fields: &[&str]) -> Vec<Vec<String>> {
        let account = self.tcpdump.end();
        assert_eq!(account.missed, 0, "{account:?}");
        let rows = dissect(&Self::file(&self.directory), fields);
        assert_eq!(rows.len() as u64, account.matched, "{account:?}");
        rows
    }

    fn file(directory: &tempfile::TempDir) -> PathBuf {
        directory.path().join("witness.pcap")
    }
}
