//! The lab itself: every host reaches every other, and nothing stays behind.

use wirerate_engine::lab::{INTERFACE, Lab};

mod common;

#[test]
fn hosts_reach_each_other_through_the_bridge() {
    common::require_root!();
    let lab = Lab::bridge(2).unwrap();
    for receiver in &lab.receivers {
        let socket = receiver.netns.run(|| std::net::UdpSocket::bind((receiver.ipv6, 5001)).unwrap());
        socket.set_read_timeout(Some(std::time::Duration::from_secs(5))).unwrap();
        lab.sender.netns.run(|| {
            let s = std::net::UdpSocket::bind("[::]:0").unwrap();
            s.send_to(b"hello", (receiver.ipv6, 5001)).unwrap();
        });
        let mut buffer = [0; 16];
        let (n, from) = socket.recv_from(&mut buffer).unwrap();
        assert_eq!(&buffer[..n], b"hello");
        assert_eq!(from.ip(), lab.sender.ipv6);
    }
}

#[test]
fn commands_run_inside() {
    common::require_root!();
    let lab = Lab::bridge(1).unwrap();
    let output =
        lab.sender.command("ip").args(["-brief", "address", "show", "dev", INTERFACE]).output().unwrap();
    assert!(String::from_utf8_lossy(&output.stdout).contains(&lab.sender.ipv4.to_string()));
    let output = lab.sender.command("ls").arg("/sys/class/net").output().unwrap();
    assert_eq!(
        String::from_utf8_lossy(&output.stdout).split_whitespace().collect::<Vec<_>>(),
        ["lo", INTERFACE]
    );
}
