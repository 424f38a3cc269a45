//! deploy/: the scene of containers, without containers.

mod common;

use std::path::{Path, PathBuf};
use std::process::Command;

use common::{Ended, run};
use serde_json::Value;

fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("..")
}

fn scene(args: &[&str]) -> Command {
    let mut command = Command::new(root().join("deploy/scene"));
    command.arg("--namespaces").args(args).env("WIRERATE", common::WIRERATE);
    command
}

/// Removes what a scene made, whatever happens.
struct Clean;

impl Drop for Clean {
    fn drop(&mut self) {
        let _ = scene(&["clean"]).status();
    }
}

/// The JSON report in what one of them said.
fn report(name: &str) -> Value {
    let log = std::fs::read_to_string(root().join(format!("target/scene/{name}.log"))).unwrap();
    let begin = log.find("{\n").unwrap_or_else(|| panic!("{name}: {log}"));
    serde_json::from_str(&log[begin..]).unwrap()
}

/// With `.env` as it is, where io_uring is refused: datagrams of 2 KiB are two fragments each, and nobody reports 224.0.0.1.
#[test]
fn one_sender_two_receivers_as_the_env_file_says() {
    common::require_root!();
    if Path::new("/run/netns/wr-mid").exists() {
        return common::skipped("scripts/lab down first");
    }
    let clean = Clean;
    let mut command = scene(&["run", "--json"]);
    common::contained::refuse_io_uring(&mut command);
    run(command).expect(0, &["two receivers have joined"]);
    let sent = report("sender");
    assert_eq!(sent["backend"]["name"], "mmsg", "{}", sent["backend"]);
    assert_eq!(sent["config"]["target"], "udp://224.0.0.1:5001");
    let (packets, fragments) = (&sent["tx"]["packets"], &sent["tx"]["fragments"]);
    assert_eq!(sent["tx"]["payload_bytes"].as_u64(), packets.as_u64().map(|n| n * 2048));
    assert_eq!(fragments.as_u64(), packets.as_u64().map(|n| 2 * n));
    for name in ["receiver1", "receiver2"] {
        let received = report(name);
        assert_eq!(received["backend"]["name"], "mmsg", "{}", received["backend"]);
        assert_eq!(received["config"]["receive_buffer_bytes"], 4096);
        let path = &received["ledger"]["paths"][0];
        assert_eq!((&path["sent"], &path["unaccounted"]), (packets, &0.into()), "{name}: {path}");
        assert!(received["rx"]["unique"].as_u64().unwrap() > 0, "{name}: {}", received["rx"]);
    }
    let logs = run(scene(&["logs"]));
    logs.expect(0, &[]);
    assert!(["== sender", "== receiver1", "== receiver2"].iter().all(|head| logs.stdout.contains(head)));
    drop(clean);
    assert!(!root().join("target/scene").exists() && !Path::new("/run/netns/wr-mid").exists());
    run(scene(&["logs"])).expect(4, &["there are none"]);
}

fn entrypoint(env: &[(&str, &str)], args: &[&str]) -> Ended {
    let mut command = Command::new(root().join("deploy/entrypoint"));
    command.env_clear().env("PATH", std::env::var_os("PATH").unwrap()).envs(env.iter().copied()).args(args);
    run(command)
}

/// What the environment becomes; `echo` stands for the program.
#[test]
fn the_environment_becomes_arguments() {
    let file = root().join("Cargo.toml");
    let file = file.to_str().unwrap();
    for (env, command) in [
        (
            &[
                ("ROLE", "client"),
                ("SERVER_ADDR", "192.0.2.1"),
                ("TTL", "2"),
                ("LENGTH", "200"),
                ("UDP", "u"),
            ][..],
            "send udp://192.0.2.1:5001 --ttl 2 --duration 10s --length 200 --rate 1M --interval 1s"
                .to_owned(),
        ),
        (
            &[
                ("ROLE", "sender"),
                ("MULTICAST", "239.1.2.3"),
                ("PORT", "6000"),
                ("BANDWIDTH", "10M"),
                ("TIME", "3"),
                ("FILE", file),
            ],
            format!(
                "send udp://239.1.2.3:6000 --payload-file {file} --ttl 1 --duration 3s --length 1400 --rate 10M --interval 1s"
            ),
        ),
        (
            &[("ROLE", "server"), ("WINDOW", "8K"), ("INTERVAL", "2")],
            "recv udp://0.0.0.0:5001 --receive-buffer 8192 --interval 2s".to_owned(),
        ),
        (
            &[("ROLE", "receiver"), ("MULTICAST", "239.1.2.3"), ("WINDOW", "1K")],
            "recv udp://239.1.2.3:5001 --receive-buffer 2304 --interval 1s".to_owned(),
        ),
    ] {
        let ended = entrypoint(&[env, &[("WIRERATE", "echo")]].concat(), &["--quiet"]);
        ended.expect(0, &[]);
        assert_eq!(ended.stdout.trim_end(), format!("{command} --quiet"));
    }
    for (env, words) in [
        (&[("ROLE", "both")][..], &["ROLE=both", "server", "client"][..]),
        (&[("ROLE", "client")], &["MULTICAST", "SERVER_ADDR"]),
        (&[("ROLE", "client"), ("MULTICAST", "239.1.2.3"), ("LENGTH", "200K")], &["LENGTH=200K", "65507"]),
        (&[("ROLE", "client"), ("MULTICAST", "239.1.2.3"), ("LENGTH", "2k2")], &["LENGTH=2k2", "2K"]),
        (&[("ROLE", "server"), ("PROTOCOL", "tcp")], &["PROTOCOL=tcp", "UDP"]),
    ] {
        entrypoint(&[env, &[("WIRERATE", "echo")]].concat(), &[]).expect(2, words);
    }
}
