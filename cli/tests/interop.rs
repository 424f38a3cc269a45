//! Real peers: iperf 2 and a plain Python sender; tcpdump and tshark look at what passes.
use std::process::Stdio;
use wirerate_engine::lab::{INTERFACE, Lab};
mod common;
use common::Running;
#[test]
fn explore() {
    common::require_root!();
    let lab = Lab::bridge(2).unwrap();
    for backend in ["uring", "afxdp"] {
        let mut s = lab.receivers[0]
            .command("iperf")
            .args(["-s", "-u", "-B", "239.1.2.3", "-i", "1", "-e"])
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        let mut s2 = lab.receivers[1]
            .command("iperf")
            .args(["-s", "-u", "-B", "239.1.2.3", "-i", "1", "-y", "C"])
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        std::thread::sleep(std::time::Duration::from_secs(1));
        let sent = common::report_on(
            &lab.sender,
            &[
                "send",
                "udp://239.1.2.3:5001",
                "--iface",
                INTERFACE,
                "--backend",
                backend,
                "--count",
                "500",
                "--rate",
                "1kpps",
            ],
        );
        eprintln!("{}", sent["tx"]);
        std::thread::sleep(std::time::Duration::from_secs(2));
        for c in [&mut s, &mut s2] {
            std::process::Command::new("kill").args(["-s", "INT", &c.id().to_string()]).status().unwrap();
        }
        std::thread::sleep(std::time::Duration::from_secs(1));
        for c in [&mut s, &mut s2] {
            c.kill().unwrap();
        }
        eprintln!("{}", String::from_utf8_lossy(&s.wait_with_output().unwrap().stdout));
        eprintln!("{}", String::from_utf8_lossy(&s2.wait_with_output().unwrap().stdout));
    }
    let r = Running::ready_on(
        &lab.receivers[0],
        &["recv", "udp://239.1.2.3:5001", "--iface", INTERFACE, "--backend", "uring", "--idle", "5s"],
    );
    let o = lab
        .sender
        .command("iperf")
        .args(["-c", "239.1.2.3", "-u", "-b", "2M", "-l", "200", "-n", "100000", "-e"])
        .output()
        .unwrap();
    eprintln!("{}", String::from_utf8_lossy(&o.stdout));
    eprintln!("{}", String::from_utf8_lossy(&o.stderr));
    eprintln!("{:#}", r.report()["rx"]);
}
