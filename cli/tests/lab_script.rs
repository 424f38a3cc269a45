//! scripts/lab: a lab to play in, with names, made and removed.

mod common;

use std::path::Path;
use std::process::Command;

use common::{Ended, Running, run};

const GROUP: &str = "udp://239.1.2.3:5001";
const NAMES: [&str; 4] = ["wr-mid", "wr-send", "wr-recv1", "wr-recv2"];

fn lab(args: &[&str]) -> Ended {
    run(command(args))
}

fn command(args: &[&str]) -> Command {
    let mut command = Command::new(Path::new(env!("CARGO_MANIFEST_DIR")).join("../scripts/lab"));
    command.args(args);
    command
}

fn namespaces() -> String {
    String::from_utf8(Command::new("ip").args(["netns", "list"]).output().unwrap().stdout).unwrap()
}

/// Removes the lab, whatever happens.
struct Down;

impl Drop for Down {
    fn drop(&mut self) {
        let _ = command(&["down"]).status();
    }
}

#[test]
fn up_show_enter_down() {
    common::require_root!();
    if namespaces().contains("wr-mid") {
        // Somebody plays in it; it is not for a test to remove.
        return common::skipped("scripts/lab down first");
    }
    let down = Down;
    let up = lab(&["up"]);
    up.expect(0, &[]);
    NAMES.iter().for_each(|name| assert!(up.stdout.contains(name) && namespaces().contains(name), "{name}"));
    lab(&["up"]).expect(1, &["it is up already", "scripts/lab down"]);
    let show = lab(&["show"]);
    show.expect(0, &[]);
    for word in ["10.77.0.1/24", "10.77.0.2/24", "10.77.0.3/24", "fd77::2/64", "br0"] {
        assert!(show.stdout.contains(word), "{word}: {}", show.stdout);
    }
    for backend in ["uring", "afxdp"] {
        let options = ["--iface", "wr0", "--backend", backend];
        let receivers = ["recv1", "recv2"].map(|host| {
            let mut recv = vec!["enter", host, common::WIRERATE, "recv", GROUP];
            recv.extend(options);
            Running::ready(command(&recv), &[])
        });
        let mut send = vec!["enter", "send", common::WIRERATE, "send", GROUP, "--count", "500", "--quiet"];
        send.extend(options);
        lab(&send).expect(0, &[]);
        for receiver in receivers {
            assert_eq!(receiver.report()["rx"]["unique"], 500, "{backend}");
        }
    }
    drop(down);
    NAMES.iter().for_each(|name| assert!(!namespaces().contains(name), "{name} is left"));
    lab(&["down"]).expect(0, &[]);
}

#[test]
fn what_it_does_not_know() {
    lab(&[]).expect(2, &["scripts/lab up", "scripts/lab down"]);
    lab(&["sideways"]).expect(2, &["scripts/lab up"]);
}
