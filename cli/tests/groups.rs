//! `groups` on a link with a bridge that snoops: its forwarding table, read by iproute2, is the witness of who is a member.

use std::thread::sleep;
use std::time::{Duration, Instant};

use serde_json::{Value, json};
use wirerate_engine::lab::{INTERFACE, Lab};

mod common;

use common::Running;

/// Long enough for the slowest machine; states are waited for, never times asserted.
const PATIENCE: Duration = Duration::from_secs(40);

/// The bridge's table: `-details` shows sources.
fn table(lab: &Lab) -> Value {
    let output = lab.middle.command("bridge").args(["-json", "-details", "mdb", "show"]).output().unwrap();
    serde_json::from_slice(&output.stdout).unwrap()
}

/// Entries of a port for groups that begin so.
fn entries(lab: &Lab, port: &str, prefix: &str) -> Vec<Value> {
    let table = table(lab);
    let all = table[0]["mdb"].as_array().cloned().unwrap_or_default();
    let of = |entry: &Value| {
        entry["port"] == port && entry["grp"].as_str().is_some_and(|group| group.starts_with(prefix))
    };
    all.into_iter().filter(of).collect()
}

/// Groups, whatever entries they have for single sources.
fn groups(lab: &Lab, port: &str, prefix: &str) -> usize {
    entries(lab, port, prefix).iter().filter(|entry| entry.get("src").is_none()).count()
}

fn until(what: &str, mut holds: impl FnMut() -> bool) {
    let start = Instant::now();
    while !holds() {
        assert!(start.elapsed() < PATIENCE, "{what}: not within {PATIENCE:?}");
        sleep(Duration::from_millis(100));
    }
}

fn bridge(lab: &Lab, options: &str) {
    common::ip(&lab.middle, &format!("link set br0 type bridge {options}"));
}

/// In hundredths of a second: asks every 2 s, believes members for 5 s.
const SHORT: &str = "mcast_hash_max 16384 mcast_query_interval 200 mcast_query_response_interval 100 \
    mcast_membership_interval 500 mcast_last_member_interval 50";

#[test]
fn thousands_of_groups_are_held_and_left() {
    common::require_root!();
    let lab = Lab::bridge(1).unwrap();
    bridge(&lab, SHORT);
    let member = &lab.receivers[0];
    let join = |first: &'static str, number: &'static str| {
        ["groups", "--join", first, "--groups", number, "--iface", INTERFACE]
    };
    let kernel = Running::ready_on(member, &join("239.9.0.1", "1000"));
    let kernel6 = Running::ready_on(member, &join("ff15::9:0:1", "100"));
    let emitted = Running::ready_on(&lab.sender, &[&join("239.10.0.1", "3000")[..], &["--emit"]].concat());
    let emitted6 = Running::ready_on(&lab.sender, &[&join("ff15::10:0:1", "100")[..], &["--emit"]].concat());
    let all = |what: &str| {
        for (port, prefix, number) in [
            ("r1", "239.9.", 1000),
            ("r1", "ff15::9:", 100),
            ("s0", "239.10.", 3000),
            ("s0", "ff15::10:", 100),
        ] {
            until(&format!("{number} groups {prefix} {what}"), || groups(&lab, port, prefix) == number);
        }
    };
    all("joined");
    // Longer than a silent member is believed.
    sleep(Duration::from_secs(6));
    all("still there");
    for running in [&kernel, &kernel6, &emitted, &emitted6] {
        running.signal("INT");
    }
    let [kernel, emitted] = [kernel, emitted].map(|running| running.report()["joined"].clone());
    assert_eq!((&kernel["by"], &kernel["held"]), (&json!("kernel"), &json!(1000)));
    // Twenty to a socket unless somebody raised that.
    assert!(kernel["sockets"].as_u64().unwrap() <= 50, "{kernel}");
    assert_eq!((&emitted["by"], &emitted["held"]), (&json!("emitted"), &json!(3000)));
    assert!(emitted["queries_answered"].as_u64().unwrap() >= 2, "{emitted}");
    // 182 records to a packet: joins and leaves twice, and a few answers.
    assert!(emitted["reports_sent"].as_u64().unwrap() < 600, "{emitted}");
    for running in [kernel6, emitted6] {
        running.report();
    }
    until("everything left", || {
        ["239.9.", "239.10.", "ff15::9:", "ff15::10:"]
            .iter()
            .all(|prefix| groups(&lab, "r1", prefix) + groups(&lab, "s0", prefix) == 0)
    });
}

#[test]
fn source_filters_are_as_asked_for() {
    common::require_root!();
    let lab = Lab::bridge(1).unwrap();
    let member = &lab.receivers[0];
    for emit in [false, true] {
        for (group, sources) in
            [("239.11.0.1", ["10.1.1.1", "10.1.1.2"]), ("ff15::11:1", ["2001:db8::1", "2001:db8::2"])]
        {
            for mode in ["include", "exclude"] {
                let (option, list) = (format!("--{mode}"), sources.join(","));
                let mut args = vec!["groups", "--join", group, &option, &list, "--iface", INTERFACE];
                args.extend(emit.then_some("--emit"));
                let running = Running::ready_on(member, &args);
                until(&format!("{args:?}"), || {
                    entries(&lab, "r1", group).iter().filter(|entry| entry.get("src").is_none()).any(
                        |entry| {
                            let named: Vec<&str> = entry["source_list"]
                                .as_array()
                                .into_iter()
                                .flatten()
                                .filter_map(|source| source["address"].as_str())
                                .collect();
                            entry["filter_mode"] == mode
                                && sources.iter().all(|source| named.contains(source))
                        },
                    )
                });
                if !emit {
                    let report = common::report_on(member, &["groups", "--iface", INTERFACE]);
                    let own = report["host"][0]["groups"].as_array().unwrap();
                    let own = own.iter().find(|own| own["group"] == group).expect("it is joined");
                    assert_eq!((&own["mode"], &own["users"]), (&json!(mode), &json!(1)), "{own}");
                    assert_eq!(own["sources"].as_array().unwrap().len(), 2, "{own}");
                    assert_eq!(own["in_link_filter"], true);
                }
                running.signal("INT");
                running.report();
                until("left", || groups(&lab, "r1", group) == 0);
            }
        }
    }
}

#[test]
fn what_passes_is_told_in_both_directions() {
    common::require_root!();
    let lab = Lab::bridge(1).unwrap();
    let member = &lab.receivers[0];
    let watch = Running::ready(
        lab.middle.command(env!("CARGO_BIN_EXE_wirerate")),
        &["groups", "--watch", "--iface", "r1"],
    );
    let own = Running::ready_on(member, &["groups", "--watch", "--iface", INTERFACE]);
    let joined = Running::ready_on(member, &["groups", "--join", "10.1.1.1@232.1.1.1", "--iface", INTERFACE]);
    lab.wait_for_members("232.1.1.1".parse().unwrap(), 1).unwrap();
    // Its own settings are a thread's affair: /proc/sys/net is of the namespace of who reads it.
    let setting = || {
        member
            .netns
            .run(|| std::fs::read_to_string("/proc/sys/net/ipv4/conf/wr0/force_igmp_version").unwrap())
    };
    let old = Running::ready_on(
        member,
        &["groups", "--join", "239.12.0.1", "--speak", "igmpv2", "--iface", INTERFACE],
    );
    assert_eq!(setting().trim(), "2");
    lab.wait_for_members("239.12.0.1".parse().unwrap(), 1).unwrap();
    old.signal("INT");
    old.report();
    assert_eq!(setting().trim(), "0");
    joined.signal("INT");
    joined.report();
    until("left", || groups(&lab, "r1", "232.1.1.1") == 0);
    let said = |running: Running, direction: &str| {
        running.signal("INT");
        let mut running = running;
        let mut messages = Vec::new();
        let report = running.wait_for("report")["report"].clone();
        for event in running.events.iter().filter(|event| event["event"] == "message") {
            let message = &event["message"];
            // The bridge sends its queries for a group to all systems, and is told so.
            assert!(message["defects"] == json!([]) || message["says"][0]["type"] == "query", "{message}");
            if message["direction"] == direction && message["source"] == member.ipv4.to_string() {
                for said in message["says"].as_array().unwrap() {
                    let (version, group) = (message["version"].as_str(), said["group"].as_str());
                    let what = said["record"].as_str().or(said["type"].as_str());
                    messages.push([version, what, group].map(Option::unwrap).join(" "));
                }
            }
        }
        (messages, report)
    };
    for (running, direction) in [(watch, "in"), (own, "out")] {
        let (messages, report) = said(running, direction);
        for expected in [
            "IGMPv3 ALLOW 232.1.1.1",
            "IGMPv2 join 239.12.0.1",
            "IGMPv2 leave 239.12.0.1",
            "IGMPv3 BLOCK 232.1.1.1",
        ] {
            assert!(messages.iter().any(|message| message == expected), "{expected}: {messages:?}");
        }
        let links = report["heard"]["links"].as_array().unwrap();
        assert!(links.iter().any(|link| link["querier"]["address"].is_string()), "{report}");
    }
}

#[test]
fn reports_of_older_versions_are_learnt_from() {
    common::require_root!();
    let lab = Lab::bridge(1).unwrap();
    for (group, version) in [("239.14.0.1", "igmpv2"), ("ff15::14:1", "mldv1")] {
        let args =
            ["groups", "--join", group, "--groups", "3", "--emit", "--speak", version, "--rate", "100"];
        let running = Running::ready_on(&lab.receivers[0], &[&args[..], &["--iface", INTERFACE]].concat());
        let prefix = group.trim_end_matches('1');
        until(version, || groups(&lab, "r1", prefix) == 3);
        running.signal("INT");
        let report = running.report();
        // Joins, perhaps repeated, and a leave for each.
        assert!(
            (6..20).contains(&report["joined"]["reports_sent"].as_u64().unwrap()),
            "{}",
            report["joined"]
        );
        until("left", || groups(&lab, "r1", prefix) == 0);
    }
}

#[test]
fn an_interface_that_vanishes_ends_it_with_what_was_heard() {
    common::require_root!();
    let lab = Lab::bridge(1).unwrap();
    let args = ["groups", "--join", "239.15.0.1", "--groups", "2", "--iface", INTERFACE];
    let emitted = Running::ready_on(&lab.receivers[0], &[&args[..], &["--emit"]].concat());
    let kernel = Running::ready_on(&lab.receivers[0], &args);
    let mut both = [emitted, kernel];
    for running in &mut both {
        running.wait_for("message");
    }
    common::ip(&lab.middle, "link delete r1");
    for running in both {
        let (report, ended) = running.end();
        assert_eq!(ended.code, 1, "{}", ended.stderr);
        assert!(ended.stderr.contains(INTERFACE), "{}", ended.stderr);
        let report = report.expect("what was heard is told");
        assert_eq!(report["joined"]["held"], 2);
        assert!(report["heard"]["reports"].as_u64().unwrap() > 0);
    }
}

#[test]
fn a_bridge_without_a_querier_learns_by_ours() {
    common::require_root!();
    let lab = Lab::bridge(2).unwrap();
    bridge(&lab, &format!("{SHORT} mcast_querier 0"));
    let member = Running::ready_on(
        &lab.receivers[0],
        &["groups", "--join", "239.13.0.1", "--groups", "5", "--iface", INTERFACE],
    );
    let ours = || groups(&lab, "r1", "239.13.");
    until("joined", || ours() == 5);
    // Nobody asks, so nobody answers.
    until("forgotten", || ours() == 0);
    let querier =
        ["groups", "--querier", "--query-interval", "2s", "--response-time", "500ms", "--iface", INTERFACE];
    let lower = Running::ready_on(&lab.sender, &querier);
    let higher = Running::ready_on(&lab.receivers[1], &querier);
    // A member of our own on the querier's host is asked, too.
    let beside =
        Running::ready_on(&lab.sender, &["groups", "--join", "239.16.0.1", "--emit", "--iface", INTERFACE]);
    until("learnt", || ours() == 5);
    sleep(Duration::from_secs(6));
    until("still there", || ours() + groups(&lab, "s0", "239.16.") == 6);
    beside.signal("INT");
    assert!(beside.report()["joined"]["queries_answered"].as_u64().unwrap() >= 1);
    let table = table(&lab);
    let routers = table[0]["router"]["br0"].as_array().cloned().unwrap_or_default();
    assert!(routers.iter().any(|router| router["port"] == "s0"), "{table}");
    member.signal("INT");
    member.report();
    until("left", || ours() == 0);
    lower.signal("INT");
    let first = lower.report();
    higher.signal("INT");
    let second = higher.report();
    let elected = |report: &Value| {
        let all = report["queried"]["elected"].as_array().unwrap().clone();
        all.into_iter().find(|one| one["family"] == "ipv4").unwrap()
    };
    let address = lab.sender.ipv4.to_string();
    assert_eq!(elected(&first), json!({"family": "ipv4", "address": address, "is_querier": true}));
    assert_eq!(elected(&second)["other"], json!(address));
    assert!(first["queried"]["specific"].as_u64().unwrap() >= 5, "{}", first["queried"]);
}

#[test]
fn an_ordinary_user_is_told_what_is_missing() {
    common::require_root!();
    let lab = Lab::bridge(1).unwrap();
    let nobody = common::Nobody::new();
    for (args, code) in [(&["groups", "--watch"][..], 4), (&["groups", "--iface", INTERFACE], 0)] {
        let mut command = nobody.become_by(lab.sender.command("setpriv"));
        command.args(args);
        let ended = common::run(command);
        assert_eq!(ended.code, code, "{args:?}: {}", ended.stderr);
        assert_eq!(ended.stderr.contains("CAP_NET_RAW"), code == 4, "{}", ended.stderr);
    }
}
