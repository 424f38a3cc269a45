//! Every test against a device with each fault: the verdict that the fault deserves.

use std::time::Duration;

use super::report::{Report, Throughput};
use super::{Params, Progress, Test, Tolerance, run};
use crate::control::Stop;
use crate::method::bed::memory::Device;
use crate::method::search::Bound;
use crate::profile::rate::Rate;
use crate::report::Outcome;

fn params(tests: &[Test]) -> Params {
    Params {
        tests: tests.to_vec(),
        frame_sizes: vec![64],
        groups: vec![10],
        min_rate: Rate::Pps(1_000.0),
        max_rate: Rate::Pps(100_000.0),
        trial: Duration::from_secs(10),
        most_groups: 200,
        ..Params::default()
    }
}

fn bench(device: &Device, params: &Params) -> Report {
    let ended = run(params, &mut device.clone(), &Stop::default(), &mut |_| {}).unwrap();
    assert!(ended.failure.is_none());
    ended.report
}

fn outcome(device: &Device, test: Test) -> (Outcome, String) {
    let report = bench(device, &params(&[test]));
    assert_eq!(report.outcome, report.tests[0].measurements[0].outcome);
    (report.outcome, report.tests[0].measurements[0].why.clone())
}

fn good() -> Device {
    Device::default()
}

#[test]
fn a_device_without_a_fault_passes_all() {
    let report = bench(&good(), &params(&Test::ALL));
    let told: Vec<_> = report.tests.iter().map(|t| (t.name, t.outcome)).collect();
    assert_eq!(told, Test::ALL.map(|test| (test, Outcome::Pass)));
    assert_eq!(report.reserved[0].section, "4.4");
}

#[test]
fn each_fault_gets_the_verdict_that_it_deserves() {
    use Outcome::{Fail, Inconclusive, Pass};
    use Test::*;
    let lossy = Device { drops: Some((1, 1000)), ..good() };
    let flooding = Device { floods: true, ..good() };
    let few = Device { most_groups: 4, ..good() };
    let late = Device { late: Some((2, Duration::from_secs(60))), ..good() };
    let slow = Device { sender_pps: 500.0, ..good() };
    let stays = Device { never_leaves: Some(0), ..good() };
    let own = Device { loses_itself: Some((0, 1000)), ..good() };
    let deaf = Device { drops_unicast: Some(50), ..good() };
    type Case<'a> = (&'a str, &'a Device, &'a [(Test, Outcome, &'a str)]);
    let cases: &[Case<'_>] = &[
        (
            "one port loses 1 in 1000",
            &lossy,
            &[
                (Throughput, Fail, "m2: lost"),
                (Mixed, Fail, "m2: lost"),
                (Matrix, Fail, "m2: lost"),
                (Latency, Fail, "m2: lost"),
                (BurdenedLatency, Fail, "m2: lost"),
                // What RFC 3918 asks of these is no more than that frames come.
                (Capacity, Pass, "200 groups"),
                (JoinLeave, Pass, "joins took"),
            ],
        ),
        (
            "flooding",
            &flooding,
            &[
                (Throughput, Fail, "did not join"),
                (Mixed, Fail, "did not join"),
                (Matrix, Fail, "did not join"),
                (Latency, Fail, "did not join"),
                (Capacity, Fail, "did not join"),
                (JoinLeave, Fail, "before the join"),
                (BurdenedLatency, Fail, "did not join"),
                (BurdenedJoin, Fail, "before the join"),
            ],
        ),
        (
            "four groups only",
            &few,
            &[
                (Throughput, Fail, "in 6 of 10 groups"),
                (Matrix, Fail, "in 6 of 10 groups"),
                (Capacity, Fail, "4 groups"),
                (JoinLeave, Fail, "6 of 10 groups never came"),
            ],
        ),
        (
            "a member joins a minute late",
            &late,
            &[
                (Throughput, Fail, "m3: lost"),
                (Matrix, Fail, "m3: lost"),
                (JoinLeave, Fail, "m3 (database empty): 10 of 10 groups never came"),
            ],
        ),
        (
            "the sender is too slow",
            &slow,
            &[
                (Throughput, Inconclusive, "the sender offered 500 of"),
                (Mixed, Inconclusive, "the sender could not offer more"),
                (Matrix, Inconclusive, "the sender offered 500 of 1000"),
                (Latency, Inconclusive, "the sender offered"),
                (Capacity, Inconclusive, "the sender offered"),
                (JoinLeave, Inconclusive, "the sender offered"),
            ],
        ),
        (
            "leaves are not heard",
            &stays,
            &[(JoinLeave, Fail, "m1 (database filled): 10 of 10 groups went on"), (Throughput, Pass, "")],
        ),
        (
            "a member's host is too slow",
            &own,
            &[(Matrix, Inconclusive, "m1: 1000 of 1000 missing frames were lost in this port's own host")],
        ),
        (
            "unicast is lost",
            &deaf,
            &[(Mixed, Fail, "unicast"), (BurdenedLatency, Fail, "unicast"), (Throughput, Pass, "")],
        ),
    ];
    for (fault, device, verdicts) in cases {
        for (test, wanted, words) in *verdicts {
            let (got, why) = outcome(device, *test);
            assert_eq!(got, *wanted, "{fault}, {test}: {why}");
            assert!(why.contains(words), "{fault}, {test}: {words:?} is missing in {why}");
        }
    }
}

#[test]
fn tolerances_are_what_they_say() {
    let lossy = Device { drops: Some((1, 1000)), ..good() };
    let tolerant = |tolerance| Params { tolerance, ..params(&[Test::Matrix]) };
    for (percent, outcome) in [(0.05, Outcome::Fail), (0.2, Outcome::Pass)] {
        let tolerance = Tolerance { loss_percent: percent, ..Tolerance::default() };
        assert_eq!(bench(&lossy, &tolerant(tolerance)).outcome, outcome);
    }
    let late = Device { late: Some((2, Duration::from_secs(1))), ..good() };
    for (join, outcome) in [(500, Outcome::Fail), (2000, Outcome::Pass)] {
        let tolerance = Tolerance { join: Some(Duration::from_millis(join)), ..Tolerance::default() };
        let report = bench(&late, &Params { tolerance, ..params(&[Test::JoinLeave]) });
        assert_eq!(report.outcome, outcome, "{}", report.tests[0].measurements[0].why);
    }
}

#[test]
fn a_rate_limit_is_the_throughput() {
    let device = Device { most_pps: 31_415.0, ..good() };
    let report = bench(&device, &params(&[Test::Throughput, Test::Mixed, Test::Latency]));
    let throughput =
        |test: usize| -> &Throughput { report.tests[test].measurements[0].throughput.as_ref().unwrap() };
    for test in [0, 1] {
        let found = throughput(test).pps.unwrap();
        assert!((30_415.0..=31_415.0).contains(&found), "{found}");
        assert_eq!(throughput(test).bound, Bound::Device);
    }
    let mixed = throughput(1);
    assert_eq!(mixed.multicast_pps.unwrap(), mixed.unicast_pps.unwrap());
    let aggregated = throughput(0).aggregated_pps.unwrap();
    assert!((aggregated / throughput(0).pps.unwrap() - 3.0).abs() < 0.001, "three members");
    // Latency is measured at what was found.
    let latency = report.tests[2].measurements[0].latency.as_ref().unwrap();
    assert_eq!(Some(latency.offered_pps), throughput(0).pps);
    assert_eq!(report.outcome, Outcome::Pass);
}

#[test]
fn a_group_limit_is_found_exactly() {
    for limit in [1, 63, 64, 65, 199] {
        let device = Device { most_groups: limit, ..good() };
        let report = bench(&device, &Params { groups: vec![64], ..params(&[Test::Capacity]) });
        let measurement = &report.tests[0].measurements[0];
        let capacity = measurement.capacity.as_ref().unwrap();
        assert_eq!((capacity.groups, capacity.failed), (limit, Some(limit + 1)), "{}", measurement.why);
        assert_eq!(report.outcome, if limit < 64 { Outcome::Fail } else { Outcome::Pass });
    }
}

#[test]
fn a_device_that_does_not_get_over_too_many_groups_is_told() {
    let device = Device { gives_up_above: 64, ..good() };
    // (first, step): what is known in the end.
    for (first, step, groups, failed) in [(60, 1, 64, 65), (64, 16, 64, 80), (40, 40, 40, 80), (100, 1, 0, 1)]
    {
        let params = Params { groups: vec![64], first_groups: first, step, ..params(&[Test::Capacity]) };
        let report = bench(&device, &params);
        let measurement = &report.tests[0].measurements[0];
        let capacity = measurement.capacity.as_ref().unwrap();
        assert_eq!((capacity.groups, capacity.failed), (groups, Some(failed)), "{}", measurement.why);
        assert_eq!(capacity.bound, Bound::Device);
        let told = ["did not get over 80 groups", "before 100 were tried is not known"];
        assert_eq!(told.iter().any(|words| measurement.why.contains(words)), step != 1 || first == 100);
        assert_eq!(report.outcome, if groups < 64 { Outcome::Fail } else { Outcome::Pass });
    }
}

#[test]
fn latency_has_a_figure_for_each_port_and_group_and_its_skew() {
    let report = bench(&good(), &params(&[Test::Latency]));
    let measurement = &report.tests[0].measurements[0];
    let latency = measurement.latency.as_ref().unwrap();
    assert_eq!(
        (latency.min_ns, latency.max_ns, latency.min_max_ns, latency.skew_ns),
        (10_000, 12_000, 2_000, 2_000)
    );
    for port in &measurement.trials[0].ports {
        assert_eq!(port.groups.iter().filter(|group| group.latency_ns.is_some()).count(), 10);
    }
    let device = Device { burden_ns: 7_000, ..good() };
    let report = bench(&device, &params(&[Test::BurdenedLatency]));
    let measurement = &report.tests[0].measurements[0];
    assert_eq!(
        measurement.baseline.as_ref().unwrap().min_ns + 7_000,
        measurement.latency.as_ref().unwrap().min_ns
    );
}

#[test]
fn what_was_measured_before_an_end_is_kept() {
    for (device, failed) in [
        (Device { dies_after: Some(3), ..good() }, true),
        (Device { stopped_after: Some(3), ..good() }, false),
    ] {
        let params = Params { groups: vec![1, 2, 3, 4, 5], ..params(&[Test::Matrix]) };
        let ended = run(&params, &mut device.clone(), &Stop::default(), &mut |_| {}).unwrap();
        assert_eq!(ended.failure.is_some(), failed);
        assert_eq!(ended.report.interrupted, !failed);
        let outcomes: Vec<_> = ended.report.tests[0].measurements.iter().map(|m| m.outcome).collect();
        let pass = Outcome::Pass;
        assert_eq!(outcomes, [pass, pass, pass, Outcome::Inconclusive]);
        assert_eq!(ended.report.outcome, Outcome::Inconclusive);
    }
    // In the middle of a search, its trials.
    let device = Device { dies_after: Some(2), most_pps: 5000.0, ..good() };
    let ended =
        run(&params(&[Test::Throughput]), &mut device.clone(), &Stop::default(), &mut |_| {}).unwrap();
    assert_eq!(ended.report.tests[0].measurements[0].trials.len(), 2);
    assert!(ended.report.failure.unwrap().contains("its agent ended"));
}

#[test]
fn the_time_that_is_left_only_shrinks_where_nothing_is_searched() {
    let mut left = Vec::new();
    let params = Params { groups: vec![1, 2, 3], ..params(&[Test::Matrix, Test::JoinLeave]) };
    run(&params, &mut good(), &Stop::default(), &mut |progress| {
        if let Progress::Begins(_, time) = progress {
            left.push(time);
        }
    })
    .unwrap();
    assert!(left.is_sorted_by(|a, b| a > b), "{left:?}");
    assert!(left[0] > Duration::from_secs(180));
}

#[test]
fn every_message_says_which_port_and_how_many() {
    let (_, why) = outcome(&Device { drops: Some((0, 10)), most_groups: 5, ..good() }, Test::Matrix);
    assert!(why.contains("m1: lost") && why.contains("m2: lost") && why.contains("m3: lost"), "{why}");
}
