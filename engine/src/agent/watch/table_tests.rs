use super::*;
use crate::multicast::message::{Message, Version};

const JOINED: u64 = 1000;

fn target(text: &str) -> Target {
    text.parse().unwrap()
}

/// An IP packet with a UDP datagram of `bytes` bytes.
fn data(source: &str, group: &str, bytes: u16) -> Vec<u8> {
    let (source, destination) = (source.parse().unwrap(), group.parse().unwrap());
    let ip =
        crate::packet::ip::Ip { source, destination, dscp: 0, ttl: 1, protocol: UDP, payload_len: bytes + 8 };
    let mut packet = vec![0; ip.emitted_len() + 8];
    ip.emit(&mut packet);
    packet
}

fn told(version: Version, body: Body, source: &str) -> Vec<u8> {
    Message { version, body }.packet(source.parse().unwrap()).unwrap()
}

fn record(kind: RecordKind, group: &str, sources: &[&str]) -> Body {
    let sources = sources.iter().map(|s| s.parse().unwrap()).collect();
    Body::Report(vec![Record::new(kind, group.parse().unwrap(), sources)])
}

/// Lets a group be joined and left, by these messages, with a packet every 10 ns from 905 to 2095.
fn watched(group: &str, join: &[u8], leave: &[u8], source: &str) -> GroupMoments {
    let target = target(group);
    let address = target.destination.ip().to_string();
    let mut table = Table::default();
    table.expect(&target).unwrap();
    let packet = data(source, &address, 100);
    let mut events: Vec<(u64, &[u8], bool)> =
        (905..2100).step_by(10).map(|at| (at, &packet[..], false)).collect();
    events.extend([(JOINED + 50, join, true), (JOINED + 60, join, true), (JOINED + 850, leave, true)]);
    events.push((JOINED + 900, leave, true));
    // Another host's, and data of our own.
    events.extend([(910, join, false), (1700, leave, false), (1701, &packet, true)]);
    events.sort_by_key(|(at, ..)| *at);
    for (at, packet, outgoing) in events {
        if at == JOINED + 5 {
            table.joined(&target, JOINED).unwrap();
        }
        if at == JOINED + 805 {
            table.left(&target, JOINED + 800);
        }
        table.saw(packet, outgoing, at);
    }
    let mut look = table.look();
    assert_eq!(look.others, Others::default());
    assert_eq!(look.reports, 4);
    look.groups.remove(0)
}

#[test]
fn a_group_comes_and_goes() {
    use RecordKind::{Allow, Block, ToExclude, ToInclude};
    let (v4, v6) = ("239.1.2.3", "ff15::1");
    let address = |text: &str| text.parse().unwrap();
    for (group, version, join, leave) in [
        ("239.1.2.3:5", Version::Igmp3, record(ToExclude, v4, &[]), record(ToInclude, v4, &[])),
        ("239.1.2.3:5", Version::Igmp2, Body::Join(address(v4)), Body::Leave(address(v4))),
        (
            "10.0.0.1@239.1.2.3:5",
            Version::Igmp3,
            record(Allow, v4, &["10.0.0.1"]),
            record(Block, v4, &["10.0.0.1"]),
        ),
        (
            "10.0.0.1@239.1.2.3:5",
            Version::Igmp3,
            record(Allow, v4, &["10.0.0.1"]),
            record(ToInclude, v4, &[]),
        ),
        ("[ff15::1]:5", Version::Mld2, record(ToExclude, v6, &[]), record(ToInclude, v6, &[])),
        ("[ff15::1]:5", Version::Mld1, Body::Join(address(v6)), Body::Leave(address(v6))),
    ] {
        let (host, source) =
            if version.is_ipv6() { ("fe80::2", "fd00::1") } else { ("10.0.0.2", "10.0.0.1") };
        let moments = watched(group, &told(version, join, host), &told(version, leave, host), source);
        assert_eq!(moments.join_asked_ns, Some(1000), "{group}");
        assert_eq!(
            (moments.join_reported_ns, moments.first_data_ns),
            (Some(1050), Some(1055)),
            "{group} {version}"
        );
        assert_eq!(
            (moments.leave_reported_ns, moments.last_data_ns),
            (Some(1850), Some(2095)),
            "{group} {version}"
        );
        assert_eq!((moments.join_delay_ns, moments.leave_delay_ns), (Some(5), Some(245)), "{group}");
        let counts =
            [moments.packets_before, moments.packets_asked, moments.packets_member, moments.packets_after];
        assert_eq!(counts, [10, 5, 80, 25], "{group} {version}");
        assert_eq!((moments.packets(), moments.bytes), (120, 12_000));
        assert_eq!(moments.join_message.as_deref(), Some(version.name()));
        assert_eq!(moments.leave_message.as_deref(), Some(version.name()));
    }
}

#[test]
fn what_is_joined_anew_begins_anew() {
    let mut table = Table::default();
    let group = target("239.1.2.3:5");
    let join = told(Version::Igmp2, Body::Join(group.destination.ip()), "10.0.0.2");
    let leave = told(Version::Igmp2, Body::Leave(group.destination.ip()), "10.0.0.2");
    for at in [0, 100] {
        table.joined(&group, at).unwrap();
        table.saw(&join, true, at + 1);
        table.saw(&data("10.0.0.1", "239.1.2.3", 1), false, at + 2);
        table.left(&group, at + 3);
        table.saw(&leave, true, at + 4);
    }
    let look = table.look();
    assert_eq!(look.groups.len(), 1);
    assert_eq!((look.groups[0].join_reported_ns, look.groups[0].packets()), (Some(101), 1));
    assert_eq!((look.groups[0].leave_reported_ns, look.groups[0].leave_delay_ns), (Some(104), Some(0)));
}

#[test]
fn what_nobody_asked_for_is_counted() {
    let mut table = Table::default();
    table.joined(&target("10.0.0.1@232.1.1.1:5"), 0).unwrap();
    for n in 0..100 {
        table.saw(&data("10.0.0.9", &format!("239.0.0.{n}"), 10), false, 1);
        table.saw(&data("10.0.0.9", "232.1.1.1", 10), false, 1);
    }
    let look = table.look();
    assert_eq!((look.others.packets, look.others.bytes, look.others.groups.len()), (200, 2000, NAMED));
    assert_eq!(look.groups[0].packets(), 0);
}

proptest::proptest! {
    #[test]
    fn no_packet_panics(mut packet: Vec<u8>, first: u8, outgoing: bool) {
        if let Some(byte) = packet.first_mut() {
            *byte = first;
        }
        let mut table = Table::default();
        table.joined(&target("239.1.2.3:5"), 0).unwrap();
        table.saw(&packet, outgoing, 1);
    }
}
