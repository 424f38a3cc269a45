//! When groups come and go, as a watch tells it, and as tcpdump has stamped the same packets at the same port.

use std::fs;

use wirerate_engine::agent::protocol::{GroupMoments, Look, WatchSpec};
use wirerate_engine::clock;
use wirerate_engine::lab::{INTERFACE, Lab};
use wirerate_engine::target::Target;

mod common;

use common::PATIENCE;
use common::agents::agent_on;
use common::memberships::{Said, by_group};
use common::witness::Tcpdump;

const GROUPS: u16 = 50;

/// The same moments, out of what the capture tells.
fn expected(asked: &GroupMoments, seen: &[(u64, Said)], tai_minus_utc_ns: i64) -> GroupMoments {
    let tai: Vec<(u64, Said)> =
        seen.iter().map(|(at, said)| (at.saturating_add_signed(tai_minus_utc_ns), *said)).collect();
    let first = |wanted: Said, from: Option<u64>| {
        tai.iter().find(|(at, said)| *said == wanted && Some(*at) >= from).map(|(at, _)| *at)
    };
    let data: Vec<u64> = tai.iter().filter(|(_, said)| *said == Said::Data).map(|(at, _)| *at).collect();
    let (join, leave) = (first(Said::Join, asked.join_asked_ns), first(Said::Leave, asked.leave_asked_ns));
    let within = |from: Option<u64>, to: Option<u64>| {
        data.iter().filter(|at| from.is_none_or(|from| **at >= from) && to.is_none_or(|to| **at < to)).count()
            as u64
    };
    GroupMoments {
        join_reported_ns: join,
        first_data_ns: first(Said::Data, join),
        leave_reported_ns: leave,
        last_data_ns: data.last().copied(),
        packets_before: within(None, asked.join_asked_ns),
        packets_asked: within(asked.join_asked_ns, join),
        packets_member: within(join, leave),
        packets_after: within(leave, None),
        ..asked.clone()
    }
}

fn scene(lab: &Lab, first: &str, protocol: &str) {
    let host = &lab.receivers[0];
    let (mut sender, mut member) = (agent_on(&lab.sender, "s"), agent_on(host, "m1"));
    let directory = tempfile::tempdir().unwrap();
    let file = directory.path().join("port.pcap");
    let first: Target = first.parse().unwrap();
    let groups: Vec<Target> = (0..GROUPS)
        .map(|n| {
            let mut target = first;
            target.destination.set_ip(match first.destination.ip() {
                std::net::IpAddr::V4(v4) => std::net::Ipv4Addr::from(u32::from(v4) + u32::from(n)).into(),
                std::net::IpAddr::V6(v6) => std::net::Ipv6Addr::from(u128::from(v6) + u128::from(n)).into(),
            });
            target
        })
        .collect();
    let spec = WatchSpec {
        interface: INTERFACE.to_owned(),
        port: 5001,
        groups: groups.iter().map(ToString::to_string).collect(),
    };
    let watch = member.watch(&spec).unwrap();
    member.ready(watch, PATIENCE).unwrap();
    let filter = "udp port 5001 or igmp or ip6[6] = 0 or ip6[6] = 58";
    let tcpdump = Tcpdump::stamped(&host.netns, INTERFACE, filter, &file);
    let words = format!(
        "send {first} --groups {GROUPS} --iface {INTERFACE} --rate 2500pps --length 100 --segments off --duration 60s"
    );
    let traffic = sender.start(&words.split_whitespace().collect::<Vec<_>>()).unwrap();
    sender.ready(traffic, PATIENCE).unwrap();

    member.join(watch, &groups, Some(500.0)).unwrap();
    assert_eq!(member.moved(watch, PATIENCE).unwrap(), u64::from(GROUPS));
    let mut look = member.look(watch, PATIENCE).unwrap();
    assert_eq!(look.joined, u64::from(GROUPS));
    let all = |look: &Look, holds: fn(&GroupMoments) -> bool| {
        look.groups.len() == usize::from(GROUPS) && look.groups.iter().all(holds)
    };
    common::eventually("every group has come", || {
        look = member.look(watch, PATIENCE).unwrap();
        all(&look, |group| group.join_reported_ns.is_some() && group.packets_member > 0)
    });
    member.leave(watch, &groups, None).unwrap();
    assert_eq!(member.moved(watch, PATIENCE).unwrap(), u64::from(GROUPS));
    common::eventually("every group was left", || {
        look = member.look(watch, PATIENCE).unwrap();
        all(&look, |group| group.leave_reported_ns.is_some())
    });
    assert_eq!(look.joined, 0);
    sender.stop(traffic).unwrap();
    let sent = sender.report(traffic, PATIENCE).unwrap();
    assert!(sent["tx"]["packets"].as_u64().unwrap() > 0);
    let seen = member.watched(watch, PATIENCE).unwrap();
    let account = tcpdump.end();
    assert_eq!((account.missed, seen.missed), (0, 0));

    let addresses: Vec<String> = member
        .hello()
        .interface(INTERFACE)
        .unwrap()
        .addresses
        .iter()
        .map(|address| address.split('/').next().unwrap().to_owned())
        .collect();
    let captured = by_group(&file, &addresses);
    let tai_minus_utc_ns = clock::tai_minus_utc_ns();
    assert_eq!(seen.groups.len(), usize::from(GROUPS));
    for group in &seen.groups {
        let packets = &captured[&group.group.to_string()];
        let expected = expected(group, packets, tai_minus_utc_ns);
        assert_eq!(*group, expected, "{protocol} {packets:?}");
        assert_eq!(group.join_message.as_deref(), Some(protocol));
        assert_eq!(group.leave_message.as_deref(), Some(protocol));
        assert!(group.join_delay_ns.is_some() && group.leave_delay_ns.is_some());
        assert_eq!(
            group.join_delay_ns.unwrap(),
            group.first_data_ns.unwrap() - group.join_reported_ns.unwrap()
        );
    }
    sender.end().unwrap();
    member.end().unwrap();
}

#[test]
fn moments_are_those_of_tcpdump() {
    common::require_root!();
    let lab = Lab::bridge(1).unwrap();
    scene(&lab, "239.11.0.1:5001", "IGMPv3");
    scene(&lab, "[ff15::11:1]:5001", "MLDv2");
    lab.receivers[0].netns.run(|| {
        fs::write(format!("/proc/sys/net/ipv4/conf/{INTERFACE}/force_igmp_version"), "2").unwrap();
        fs::write(format!("/proc/sys/net/ipv6/conf/{INTERFACE}/force_mld_version"), "1").unwrap();
    });
    scene(&lab, "239.12.0.1:5001", "IGMPv2");
    scene(&lab, "[ff15::12:1]:5001", "MLDv1");
}

#[test]
fn a_port_that_joined_nothing_tells_what_leaks() {
    common::require_root!();
    let lab = Lab::bridge(1).unwrap();
    let mut off = lab.middle.command("ip");
    off.args(["link", "set", "br0", "type", "bridge", "mcast_snooping", "0"]);
    assert!(off.status().unwrap().success());
    let (mut sender, mut member) = (agent_on(&lab.sender, "s"), agent_on(&lab.receivers[0], "m1"));
    let spec = WatchSpec {
        interface: INTERFACE.to_owned(),
        port: 5001,
        groups: vec!["239.1.2.3:5001".to_owned(), "10.77.0.9@239.1.2.4:5001".to_owned()],
    };
    let watch = member.watch(&spec).unwrap();
    member.ready(watch, PATIENCE).unwrap();
    // Fragments count once, by their first; another port and unicast do not.
    for words in [
        "239.1.2.3:5001 --count 100 --length 200",
        "239.1.2.4:5001 --count 70 --length 2000",
        "[ff15::9]:5001 --count 30 --length 2000",
        "239.1.2.3:5002 --count 10",
        "10.77.0.11:5001 --count 10",
    ] {
        let words = format!("send {words} --iface {INTERFACE} --segments off");
        let task = sender.start(&words.split_whitespace().collect::<Vec<_>>()).unwrap();
        sender.report(task, PATIENCE).unwrap();
    }
    let seen = member.watched(watch, PATIENCE).unwrap();
    // End-of-stream messages come behind the data of each stream.
    let group = &seen.groups[0];
    assert!((100..110).contains(&group.packets_before), "{group:?}");
    assert_eq!((group.packets(), group.join_asked_ns), (group.packets_before, None));
    // Another source's packets are not those of the channel.
    assert_eq!(seen.groups[1].packets(), 0);
    assert!((100..120).contains(&seen.others.packets), "{:?}", seen.others);
    assert_eq!(seen.others.groups.len(), 2);
    assert_eq!(seen.missed, 0);
}

#[test]
fn what_a_watch_cannot_do_is_said() {
    common::require_root!();
    let lab = Lab::bridge(1).unwrap();
    let mut member = agent_on(&lab.receivers[0], "m1");
    let spec =
        |interface: &str| WatchSpec { interface: interface.to_owned(), port: 5001, groups: Vec::new() };
    let none = member.watch(&spec("nix0")).unwrap();
    let error = member.ready(none, PATIENCE).unwrap_err();
    assert!(error.to_string().contains("m1: nix0: no such interface"), "{error}");

    let watch = member.watch(&spec(INTERFACE)).unwrap();
    member.ready(watch, PATIENCE).unwrap();
    for (target, joins, words) in [
        ("239.1.2.3:5002", true, "this watch is of port 5001"),
        ("10.0.0.1:5001", true, "is not a multicast group"),
        ("239.1.2.3:5001", false, "was not joined"),
    ] {
        let targets = [target.parse().unwrap()];
        let asked =
            if joins { member.join(watch, &targets, None) } else { member.leave(watch, &targets, None) };
        asked.unwrap();
        let error = member.moved(watch, PATIENCE).unwrap_err();
        assert!(error.to_string().contains(words), "{error}");
    }
    // It goes on, and tells what it saw when its interface goes away.
    let target: Target = "239.1.2.3:5001".parse().unwrap();
    member.join(watch, &[target], None).unwrap();
    assert_eq!(member.moved(watch, PATIENCE).unwrap(), 1);
    common::eventually("the report has left", || {
        member.look(watch, PATIENCE).unwrap().groups[0].join_reported_ns.is_some()
    });
    common::ip(&lab.middle, "link delete r1");
    let ended = member.finish(watch, PATIENCE).unwrap();
    let failure = ended.failure.unwrap().to_string();
    assert!(failure.contains("m1: wr0: the interface went down or away"), "{failure}");
    assert_eq!(ended.report.unwrap()["groups"][0]["group"], "239.1.2.3");
    assert_eq!(ended.status, 1);
}

#[test]
fn two_thousand_groups() {
    common::require_root!();
    let lab = Lab::bridge(1).unwrap();
    let mut member = agent_on(&lab.receivers[0], "m1");
    let spec = WatchSpec { interface: INTERFACE.to_owned(), port: 5001, groups: Vec::new() };
    let watch = member.watch(&spec).unwrap();
    member.ready(watch, PATIENCE).unwrap();
    let targets: Vec<Target> =
        (0..2000).map(|n| format!("239.20.{}.{}:5001", n / 250, n % 250 + 1).parse().unwrap()).collect();
    member.join(watch, &targets, None).unwrap();
    assert_eq!(member.moved(watch, PATIENCE).unwrap(), 2000);
    let mut look = member.look(watch, PATIENCE).unwrap();
    common::eventually("all were told to the routers", || {
        look = member.look(watch, PATIENCE).unwrap();
        look.groups.iter().all(|group| group.join_reported_ns.is_some())
    });
    assert_eq!((look.joined, look.groups.len()), (2000, 2000));
    let listed = common::ip(&lab.receivers[0].netns, &format!("-4 maddress show dev {INTERFACE}"));
    assert_eq!(listed.matches("239.20.").count(), 2000);
    member.leave(watch, &targets, None).unwrap();
    assert_eq!(member.moved(watch, PATIENCE).unwrap(), 2000);
    member.end().unwrap();
}
