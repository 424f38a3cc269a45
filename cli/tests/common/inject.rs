//! Faults that nftables makes in the lab's middle, and counts.
#![allow(dead_code, reason = "not every test file needs everything")]

use std::io::Write;
use std::process::Stdio;

use serde_json::Value;
use wirerate_engine::lab::{Host, INTERFACE, Netns};

/// Rules on what the middle gets from the sender, with a counter of what is dropped and one of what is sent twice.
pub struct Injection<'a> {
    middle: &'a Netns,
}

impl<'a> Injection<'a> {
    /// Sets the rules. In each, `LOSE` stands for "count as lost and drop", `COPY` for "count as copied and send a second time to the first receiver".
    pub fn begin(middle: &'a Netns, rules: &[&str]) -> Self {
        let mut script = "add table netdev inject\n\
             add counter netdev inject lost\n\
             add counter netdev inject copied\n\
             add chain netdev inject c { type filter hook ingress device \"s0\" priority 0; }\n"
            .to_owned();
        for rule in rules {
            let rule = rule
                .replace("LOSE", "counter name lost drop")
                .replace("COPY", "counter name copied dup to \"r1\"");
            script += &format!("add rule netdev inject c {rule}\n");
        }
        let mut nft = middle
            .command("nft")
            .args(["-f", "-"])
            .stdin(Stdio::piped())
            .spawn()
            .expect("nftables is installed");
        nft.stdin.take().expect("piped").write_all(script.as_bytes()).unwrap();
        assert!(nft.wait().unwrap().success(), "{script}");
        Self { middle }
    }

    /// What was dropped so far, and what was copied: skbs.
    pub fn packets(&self) -> (u64, u64) {
        let packets = |name| self.counter(name)["packets"].as_u64().expect("a number");
        (packets("lost"), packets("copied"))
    }

    /// IP bytes of what was dropped so far; the headers of a super-packet stand in them once.
    pub fn lost_bytes(&self) -> u64 {
        self.counter("lost")["bytes"].as_u64().expect("a number")
    }

    fn counter(&self, name: &str) -> Value {
        let output = self
            .middle
            .command("nft")
            .args(["--json", "list", "counter", "netdev", "inject", name])
            .output()
            .unwrap();
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
        let mut listed: Value = serde_json::from_slice(&output.stdout).expect("JSON");
        listed["nftables"][1]["counter"].take()
    }
}

/// What the receiver's ledger says was dropped in `middle`, and anywhere else; all that is missing must be one or the other.
#[track_caller]
pub fn told(report: &Value, middle: &Netns) -> (u64, u64) {
    let middle = middle.inode().unwrap();
    let (mut there, mut elsewhere) = (0, 0);
    for path in report["ledger"]["paths"].as_array().expect("a ledger") {
        assert_eq!(path["unaccounted"], 0, "{path:#}");
        for drop in path["drops"].as_array().expect("drops") {
            let packets = drop["packets"].as_u64().expect("a number");
            *if drop["netns"] == middle { &mut there } else { &mut elsewhere } += packets;
        }
    }
    (there, elsewhere)
}

impl Drop for Injection<'_> {
    fn drop(&mut self) {
        let deleted = self.middle.command("nft").args(["delete", "table", "netdev", "inject"]).status();
        assert!(std::thread::panicking() || deleted.is_ok_and(|status| status.success()));
    }
}

/// Has the stack cut super-packets before they leave `host`, as a NIC does: what passes on is single packets, and a rule hits each by itself.
pub fn split_super_packets(host: &Host) {
    let status = host
        .command("ethtool")
        .args(["-K", INTERFACE, "tx-udp-segmentation", "off"])
        .status()
        .expect("ethtool is installed");
    assert!(status.success());
}
