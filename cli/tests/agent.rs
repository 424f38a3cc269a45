//! Tests whose ports are agents: what a near end gets is what the commands themselves would have said.

use std::collections::BTreeMap;
use std::process::Command;
use std::time::{Duration, Instant};

use serde_json::Value;
use wirerate_engine::agent::protocol::Event;
use wirerate_engine::agent::{Agent, Task};
use wirerate_engine::lab::{INTERFACE, Lab};
use wirerate_engine::{Kind, clock};

mod common;

use common::PATIENCE;
use common::agents::{agent_on, launch};
use common::witness::{At, nft_count, nft_packets};

/// Starts a command whose words are in one text.
fn start(agent: &mut Agent, words: &str) -> Task {
    agent.start(&words.split_whitespace().collect::<Vec<_>>()).unwrap()
}

fn report(agent: &mut Agent, task: Task) -> Value {
    agent.report(task, PATIENCE).unwrap()
}

#[test]
fn two_groups_to_two_agents_at_once() {
    common::require_root!();
    let lab = Lab::bridge(2).unwrap();
    let mut sender = agent_on(&lab.sender, "s");
    let mut members = vec![agent_on(&lab.receivers[0], "m1"), agent_on(&lab.receivers[1], "m2")];
    // What is of one host and what is not is known.
    assert_eq!(members[0].hello().boot_id, sender.hello().boot_id);
    assert_ne!(members[0].hello().netns, sender.hello().netns);
    let interface = members[0].hello().interface(INTERFACE).unwrap().clone();
    assert!(interface.addresses.contains(&"10.77.0.11/24".to_owned()), "{interface:?}");
    assert_eq!((interface.mtu, interface.up, interface.kind.as_deref()), (1500, true, Some("veth")));

    let groups = ["239.1.2.3:5001", "[ff15::3]:5002"];
    let tasks: Vec<Vec<Task>> = members
        .iter_mut()
        .map(|m| groups.map(|group| start(m, &format!("recv {group} --iface {INTERFACE}"))).to_vec())
        .collect();
    for (member, tasks) in members.iter_mut().zip(&tasks) {
        tasks.iter().for_each(|task| member.ready(*task, PATIENCE).unwrap());
    }
    for group in ["239.1.2.3", "ff15::3"] {
        lab.wait_for_members(group.parse().unwrap(), 2).unwrap();
    }
    let counted = |port, family| format!("udp dport {port} udp length {}", 508 + family);
    let (v4, v6) = (counted(5001, 0), counted(5002, 1));
    nft_count(
        &lab.middle,
        &[
            ("r1v4", At::OutOf("r1"), v4.as_str()),
            ("r1v6", At::OutOf("r1"), v6.as_str()),
            ("r2v4", At::OutOf("r2"), v4.as_str()),
            ("r2v6", At::OutOf("r2"), v6.as_str()),
        ],
    );
    let options = format!("--iface {INTERFACE} --rate 5kpps --segments off");
    let sends = [
        start(&mut sender, &format!("send {} --length 500 --count 1500 {options}", groups[0])),
        start(&mut sender, &format!("send {} --length 501 --count 2500 {options}", groups[1])),
    ];
    let sent = sends.map(|task| report(&mut sender, task));
    assert_eq!((&sent[0]["tx"]["packets"], &sent[1]["tx"]["packets"]), (&1500.into(), &2500.into()));
    for (n, (member, tasks)) in members.iter_mut().zip(&tasks).enumerate() {
        for ((task, family), packets) in tasks.iter().zip(["v4", "v6"]).zip([1500, 2500]) {
            let rx = report(member, *task)["rx"].clone();
            assert_eq!(nft_packets(&lab.middle, &format!("r{}{family}", n + 1)), packets);
            assert_eq!((&rx["unique"], &rx["lost"]), (&packets.into(), &0.into()), "{rx}");
        }
    }
    members.into_iter().for_each(|member| member.end().unwrap());
    sender.end().unwrap();
}

#[test]
fn events_are_those_of_json_lines() {
    let mut agent = launch("here").command(common::wirerate(&["agent"])).unwrap();
    let pong = agent.ping(PATIENCE).unwrap();
    assert!(pong.asked_ns <= pong.there_ns && pong.there_ns <= pong.answered_ns, "{pong:?}");
    let task = start(&mut agent, "recv 127.0.0.1:5021 --interval 100ms --keep");
    agent.ready(task, PATIENCE).unwrap();
    let (mut seen, start_ns) = (BTreeMap::<String, u64>::new(), clock::tai_ns());
    let deadline = Instant::now() + PATIENCE;
    while seen.get("interval").is_none_or(|n| *n < 2) && Instant::now() < deadline {
        let sent = start(&mut agent, "send 127.0.0.1:5021 --count 10");
        report(&mut agent, sent);
        while let Some((of, event)) = agent.next_event(Duration::ZERO).unwrap() {
            let event = serde_json::to_value(&event).unwrap();
            if of == task {
                *seen.entry(event["event"].as_str().unwrap().to_owned()).or_default() += 1;
            }
        }
    }
    assert!(seen["interval"] >= 2 && seen["ready"] == 1, "{seen:?} after {}", clock::tai_ns() - start_ns);
    // The same with its own lines: the parts of the reports are the same ones.
    agent.stop(task).unwrap();
    let ended = agent.finish(task, PATIENCE).unwrap();
    let told = ended.report.unwrap();
    assert_eq!((ended.status, ended.failure.is_none()), (0, true));
    let mut own =
        common::Running::ready(Command::new(common::WIRERATE), &["recv", "127.0.0.1:5022", "--keep"]);
    let sent = start(&mut agent, "send 127.0.0.1:5022 --count 10");
    report(&mut agent, sent);
    own.wait_for("interval");
    own.signal("INT");
    let own = own.report();
    let keys = |report: &Value| report.as_object().unwrap().keys().cloned().collect::<Vec<_>>();
    assert_eq!(keys(&told), keys(&own));
    assert_eq!(keys(&told["rx"]), keys(&own["rx"]));
    let mut rest = Vec::new();
    while let Some((_, event)) = agent.next_event(Duration::ZERO).unwrap() {
        rest.push(event);
    }
    assert!(rest.contains(&Event::End { status: 0 }), "{rest:?}");
}

#[test]
fn a_reflector_and_a_sender_of_stamp() {
    let mut agent = launch("here").command(common::wirerate(&["agent"])).unwrap();
    let reflector = start(&mut agent, "reflect 127.0.0.1:5023");
    agent.ready(reflector, PATIENCE).unwrap();
    let sender = start(&mut agent, "stamp 127.0.0.1:5023 --count 20 --rate 200");
    let sent = report(&mut agent, sender);
    assert_eq!((&sent["tx"]["packets"], &sent["rx"]["answered"]), (&20.into(), &20.into()));
    agent.stop(reflector).unwrap();
    assert_eq!(report(&mut agent, reflector)["answered"], 20);
}

#[test]
fn an_agent_says_of_arguments_what_the_command_line_says() {
    let mut agent = launch("m1").command(common::wirerate(&["agent"])).unwrap();
    for (words, kind) in [
        // clap's own, one of a value's parser, one of several options together, one of the engine when it runs.
        ("recv 127.0.0.1:5024 --format nonsense", Kind::Usage),
        ("recv 127.0.0.1", Kind::Usage),
        ("recv 127.0.0.1:5024 --sink tc", Kind::Usage),
        ("recv 127.0.0.1:5024 --iface nix0", Kind::Usage),
        ("send 127.0.0.1:5024 --rate 1x", Kind::Usage),
        ("nonsense", Kind::Usage),
    ] {
        let ended = common::run(common::wirerate(&words.split_whitespace().collect::<Vec<_>>()));
        let task = start(&mut agent, words);
        let error = agent.ready(task, PATIENCE).unwrap_err();
        assert_eq!(error.kind, kind, "{words}: {error}");
        let said = ended.stderr.trim().trim_start_matches("wirerate: ");
        assert_eq!(error.to_string().trim(), format!("m1: {said}"), "{words}");
        assert_eq!(i32::from(agent.finish(task, PATIENCE).unwrap().status), ended.code, "{words}");
    }
    for (words, option) in [
        ("recv 127.0.0.1:5024 --output /tmp/x", "--output"),
        ("recv 127.0.0.1:5024 --hexdump", "--hexdump"),
        ("recv 127.0.0.1:5024 --hlog /tmp/x", "--hlog"),
        ("recv 127.0.0.1:5024 --pcap /tmp/x", "--pcap"),
        ("recv 127.0.0.1:5024 --packets /tmp/x --timestamps kernel", "--packets"),
        ("recv 127.0.0.1:5024 --ready-fd 1", "--ready-fd"),
        ("send 127.0.0.1:5024 --json", "--json"),
        ("reflect --ready-fd 1", "--ready-fd"),
        ("doctor", "an agent does not run it"),
        ("agent", "an agent does not run it"),
    ] {
        let task = start(&mut agent, words);
        let error = agent.report(task, PATIENCE).unwrap_err();
        assert_eq!(error.kind, Kind::Usage);
        assert!(error.to_string().contains(option), "{words}: {error}");
    }
    agent.end().unwrap();
}
