//! What a user without any privilege gets: both socket datapaths, and a clear word where more is needed.

use std::process::{Command, Output};

use serde_json::Value;
use wirerate_engine::lab::Netns;

mod common;

use common::{Nobody, Running};

/// A namespace with nothing but loopback, and the program where everybody may run it.
struct Place {
    netns: Netns,
    nobody: Nobody,
}

impl Place {
    fn new() -> Self {
        let netns = Netns::new().unwrap();
        assert!(netns.command("ip").args(["link", "set", "lo", "up"]).status().unwrap().success());
        Self { netns, nobody: Nobody::new() }
    }

    /// The program as nobody, in the namespace.
    fn command(&self) -> Command {
        self.nobody.become_by(self.netns.command("setpriv"))
    }

    /// The same where io_uring is refused.
    fn contained(&self) -> Command {
        let mut command = self.command();
        common::contained::refuse_io_uring(&mut command);
        command
    }
}

/// Sends 500 packets over loopback from one to the other; both reports.
fn traffic(target: &str, backend: &str, command: &dyn Fn() -> Command) -> (Value, Value) {
    let receiver = Running::ready(command(), &["recv", target, "--backend", backend]);
    let output = command()
        .args(["send", target, "--backend", backend, "--count", "500", "--json", "--quiet"])
        .output()
        .unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    let sent: Value = serde_json::from_slice(&output.stdout).unwrap();
    let received = receiver.report();
    assert_eq!(sent["tx"]["packets"], 500, "{target} {backend}");
    let rx = &received["rx"];
    for (field, expected) in
        [("unique", 500), ("packets", 500), ("lost", 0), ("lost_tail", 0), ("foreign", 0)]
    {
        assert_eq!(rx[field], expected, "{target} {backend} {field}: {rx}");
    }
    assert_eq!(received["ledger"]["paths"][0]["unaccounted"], 0);
    (sent, received)
}

/// It could not run here: exit status 4, and a text on standard error that holds all of `words`.
fn refused(output: &Output, words: &[&str]) {
    let said = String::from_utf8_lossy(&output.stderr);
    assert_eq!(output.status.code(), Some(4), "{said}");
    assert!(output.stdout.is_empty());
    for word in words {
        assert!(said.contains(word), "{word}: {said}");
    }
}

#[test]
fn io_uring_needs_no_privilege() {
    common::require_root!();
    let place = Place::new();
    for target in ["udp://127.0.0.1:5001", "udp://[::1]:5001"] {
        for (asked, sends, receives) in
            [("uring", "uring", "uring"), ("auto", "uring", "mmsg"), ("mmsg", "mmsg", "mmsg")]
        {
            let (sent, received) = traffic(target, asked, &|| place.command());
            for (report, taken) in [(&sent, sends), (&received, receives)] {
                assert_eq!(report["backend"]["name"], taken, "{target} {asked}: {}", report["backend"]);
                let why = report["backend"]["why"].as_str().unwrap();
                assert!(asked != "auto" || why.contains("cap_net_raw"), "{why}");
            }
        }
    }
}

#[test]
fn afxdp_says_what_it_needs() {
    common::require_root!();
    let place = Place::new();
    for command in ["send", "recv"] {
        let args = [command, "udp://127.0.0.1:5001", "--iface", "lo", "--backend", "afxdp"];
        let output = place.command().args(args).output().unwrap();
        refused(
            &output,
            &["needs cap_net_raw, cap_net_admin, cap_bpf", "sudo setcap cap_net_raw,cap_net_admin,cap_bpf"],
        );
    }
    let output = place.command().args(["drops", "--duration", "1s"]).output().unwrap();
    refused(&output, &["CAP_BPF", "CAP_PERFMON"]);
}

#[test]
fn where_io_uring_is_refused_auto_takes_mmsg_and_says_why() {
    common::require_root!();
    let place = Place::new();
    let (sent, received) = traffic("udp://127.0.0.1:5001", "auto", &|| place.contained());
    for report in [sent, received] {
        assert_eq!(report["backend"]["name"], "mmsg");
        let why = report["backend"]["why"].as_str().unwrap();
        assert!(why.contains("io_uring") && why.contains("security policy"), "{why}");
    }
    for command in ["send", "recv"] {
        let args = [command, "udp://127.0.0.1:5001", "--backend", "uring"];
        let output = place.contained().args(args).output().unwrap();
        refused(&output, &["--backend uring", "security policy", "mmsg"]);
    }
}
