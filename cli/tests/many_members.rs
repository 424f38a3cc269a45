//! Many members on one host: on one interface, and each in a namespace of its own.

mod common;

use common::{Running, require_root, run, wirerate};
use wirerate_engine::lab::{INTERFACE, Lab};

const MEMBERS: usize = 32;

#[test]
fn members_on_one_interface_each_get_everything() {
    require_root!();
    let lab = Lab::bridge(1).unwrap();
    let host = &lab.receivers[0];
    let line = format!("recv 239.66.1.1:5001 --iface {INTERFACE} --backend mmsg --kernel-drops off");
    let members: Vec<_> =
        (0..MEMBERS).map(|_| Running::ready_on(host, &line.split_whitespace().collect::<Vec<_>>())).collect();
    lab.wait_for_members([239, 66, 1, 1].into(), 1).unwrap();
    common::report_on(
        &lab.sender,
        &[
            "send",
            "239.66.1.1:5001",
            "--iface",
            INTERFACE,
            "--backend",
            "mmsg",
            "--rate",
            "500pps",
            "--count",
            "250",
        ],
    );
    for (n, member) in members.into_iter().enumerate() {
        let rx = member.report()["rx"].take();
        assert_eq!((&rx["unique"], &rx["lost_tail"]), (&250.into(), &0.into()), "member {n}");
    }
}

#[test]
fn members_in_namespaces_behind_one_device() {
    require_root!();
    let line = format!(
        "replicate --device macvlan --members {MEMBERS} --test throughput --quick --trial 500ms --search-trial 500ms --groups 2 --frame-size 128 \
         --min-rate 100pps --max-rate 100pps --offered-tolerance 90% --resolution 60% --backend mmsg --json --quiet"
    );
    let ended = run(wirerate(&line.split_whitespace().collect::<Vec<_>>()));
    assert!(ended.code == 0 || ended.code == 5, "{}{}", ended.stderr, ended.stdout);
    let report = ended.json();
    let trials = report["tests"][0]["measurements"][0]["trials"].as_array().unwrap();
    let last = trials.last().unwrap();
    let ports = last["ports"].as_array().unwrap_or_else(|| panic!("{last:#}"));
    assert_eq!(ports.len(), MEMBERS, "{last:#}");
    assert!(report["warnings"].as_array().unwrap().iter().any(|w| w["code"] == "members-unwatched"));
}
