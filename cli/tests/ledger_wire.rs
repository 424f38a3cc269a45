//! The wire is a place between two physical ports only: whatever else is named as the sender's port is refused, with what it is.

mod common;

use common::{Nobody, ip, run, wirerate_on};
use wirerate_engine::lab::{Host, INTERFACE, Lab};

/// A receiver that is told where its sender is.
fn told(host: &Host, sender: &str, more: &str) -> common::Ended {
    let line = format!(
        "recv 10.77.0.11:5001 --backend mmsg --duration 100ms --quiet --sender-iface {sender} {more}"
    );
    run(wirerate_on(host, &line.split_whitespace().collect::<Vec<_>>()))
}

#[test]
fn what_has_no_port_is_refused() {
    common::require_root!();
    let lab = Lab::bridge(1).unwrap();
    let host = &lab.receivers[0];
    ip(&host.netns, "link add link wr0 name mv0 type macvlan");
    ip(&host.netns, "tuntap add dev tap0 mode tap");
    ip(&host.netns, "link add br0 type bridge");
    let here = format!("--iface {INTERFACE}");
    for (sender, kind) in [("wr0", "veth"), ("mv0", "macvlan"), ("tap0", "tun"), ("br0", "bridge")] {
        told(host, sender, &here)
            .expect(2, &[&format!("--sender-iface: {sender} is a virtual interface ({kind})"), "fix: "]);
    }
    told(host, "lo", &here).expect(2, &["--sender-iface: lo is the loopback interface"]);
    told(host, "absent", &here).expect(2, &["absent: no such interface"]);
    told(host, "wr0@absent", &here).expect(2, &["absent: no such network namespace", "ip netns list"]);
    told(host, "wr0@", &here).expect(2, &["IF or IF@NETNS"]);
    // The sender's namespace, by a process that lives there.
    let mut there = lab.sender.command("sleep").arg("60").spawn().unwrap();
    let port = format!("wr0@{}", there.id());
    common::eventually("the process is there", || {
        let inode = std::fs::read_link(format!("/proc/{}/ns/net", there.id())).unwrap();
        inode.to_string_lossy().contains(&lab.sender.netns.inode().unwrap().to_string())
    });
    told(host, &port, &here).expect(2, &["--sender-iface: wr0 is a virtual interface (veth)"]);
    told(host, &format!("s0@{}", there.id()), &here).expect(2, &["s0: no such interface"]);
    let nobody = Nobody::new();
    let mut command = nobody.become_by(host.command("setpriv"));
    let line =
        format!("recv 10.77.0.11:5001 {here} --backend mmsg --duration 100ms --quiet --sender-iface {port}");
    command.args(line.split_whitespace());
    run(command).expect(4, &["network namespace cannot be", "fix: run as root"]);
    there.kill().unwrap();
    there.wait().unwrap();
}
