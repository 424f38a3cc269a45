//! What the tests conclude, by a link that is only computed.

use proptest::prelude::*;

use super::super::search::{Bound, Validity};
use super::link::memory::Wire;
use super::report::Report;
use super::*;
use crate::profile::rate::Rate;

fn params(test: Test) -> Params {
    Params {
        tests: vec![test],
        sizes: vec![Size::one(64)],
        min_rate: Rate::Pps(100.0),
        max_rate: Rate::Pps(10_000.0),
        resolution_percent: 0.5,
        trial: Duration::from_secs(1),
        final_trial: Duration::from_secs(2),
        bursts: 3,
        ..Params::default()
    }
}

fn ran(params: &Params, mut wire: Wire) -> Ended {
    run(params, &mut wire, &Stop::default(), &mut |_| {}).unwrap()
}

fn first(report: &Report) -> &Measurement {
    &report.tests[0].measurements[0]
}

fn throughput_of(wire: Wire) -> (Outcome, Option<f64>, Bound, String) {
    let ended = ran(&params(Test::Throughput), wire);
    let m = first(&ended.report);
    let t = m.throughput.clone().unwrap();
    assert_eq!(ended.report.verdict.outcome, m.outcome);
    (m.outcome, t.pps, t.bound, m.why.clone())
}

#[test]
fn throughput_is_found_and_bounded() {
    assert_eq!(throughput_of(Wire::default()).2, Bound::Range);
    let (outcome, pps, bound, _) = throughput_of(Wire { most_pps: 6_300.0, ..Wire::default() });
    assert!((6_250.0..=6_300.0).contains(&pps.unwrap()), "{pps:?}");
    assert_eq!((outcome, bound), (Outcome::Pass, Bound::Device));
}

#[test]
fn a_sender_that_is_too_slow_is_neither_pass_nor_fail() {
    let (outcome, pps, bound, why) = throughput_of(Wire { sender_pps: 5_000.0, ..Wire::default() });
    assert_eq!((outcome, bound), (Outcome::Inconclusive, Bound::Sender), "{why}");
    assert!(pps.unwrap() >= 4_950.0);
    let (outcome, pps, ..) = throughput_of(Wire { sender_pps: 50.0, ..Wire::default() });
    assert_eq!((outcome, pps), (Outcome::Inconclusive, None));
    // In every test, whatever the link loses besides.
    for drops in [None, Some(10)] {
        for test in [Test::Latency, Test::FrameLoss, Test::BackToBack, Test::Reset, Test::Y1564, Test::Soak] {
            let params = Params {
                rate: Some(Rate::Pps(1000.0)),
                service: Some(service(512_000.0, 256_000.0)),
                ..params(test)
            };
            let wire = Wire { sender_pps: 20.0, drops, outage_ns: 1_000_000, ..Wire::default() };
            let ended = ran(&params, wire);
            assert_eq!(
                ended.report.verdict.outcome,
                Outcome::Inconclusive,
                "{test}: {}",
                first(&ended.report).why
            );
        }
    }
}

#[test]
fn a_link_that_loses_at_any_load_fails() {
    let (outcome, pps, _, why) = throughput_of(Wire { drops: Some(50), ..Wire::default() });
    assert_eq!((outcome, pps), (Outcome::Fail, None));
    assert!(why.contains("lost 2 of 100 frames") || why.contains("lost 4 of 200 frames"), "{why}");
}

#[test]
fn what_is_expected_decides() {
    let expecting = |pps, wire| {
        let mut params = params(Test::Throughput);
        params.expect.throughput = Some(Rate::Pps(pps));
        ran(&params, wire).report.verdict.outcome
    };
    let device = || Wire { most_pps: 6_000.0, ..Wire::default() };
    assert_eq!(expecting(5_900.0, device()), Outcome::Pass);
    assert_eq!(expecting(6_100.0, device()), Outcome::Fail);
    let slow = || Wire { sender_pps: 6_000.0, ..Wire::default() };
    // It bore as much as is expected, though more could not be offered.
    assert_eq!(expecting(5_800.0, slow()), Outcome::Pass);
    assert_eq!(expecting(7_000.0, slow()), Outcome::Inconclusive);
}

#[test]
fn retries_take_chance_out() {
    let noisy = || Wire { noise: 2, ..Wire::default() };
    assert_eq!(throughput_of(noisy()).2, Bound::Device, "the highest load is taken for lossy");
    let ended = ran(&Params { retries: 2, ..params(Test::Throughput) }, noisy());
    let m = first(&ended.report);
    assert_eq!(m.throughput.as_ref().unwrap().bound, Bound::Range);
    assert_eq!(m.trials.iter().filter(|trial| trial.validity == Validity::Invalid).count(), 2);
}

#[test]
fn the_loss_curve_ends_after_two_clean_loads() {
    let ended = ran(&params(Test::FrameLoss), Wire { most_pps: 7_500.0, ..Wire::default() });
    let m = first(&ended.report);
    let curve: Vec<_> = m.loss_curve.iter().map(|p| (p.percent, p.sent, p.received)).collect();
    assert_eq!(
        curve,
        [
            (100.0, 20_000, 15_000),
            (90.0, 18_000, 15_000),
            (80.0, 16_000, 15_000),
            (70.0, 14_000, 14_000),
            (60.0, 12_000, 12_000),
        ]
    );
    assert_eq!(m.outcome, Outcome::Pass, "{}", m.why);
    assert!(m.why.contains("none from 70 % of that down"), "{}", m.why);
    // A link that always loses something has a curve, and fails.
    let ended = ran(&params(Test::FrameLoss), Wire { drops: Some(100), ..Wire::default() });
    let m = first(&ended.report);
    assert_eq!((m.outcome, m.loss_curve.len()), (Outcome::Fail, 10), "{}", m.why);
    assert!(m.loss_curve.iter().all(|p| (p.loss_percent - 1.0).abs() < 1e-9));
    let mut expecting = params(Test::FrameLoss);
    expecting.expect.loss_percent = Some(20.0);
    let ended = ran(&expecting, Wire { most_pps: 7_500.0, ..Wire::default() });
    assert_eq!(first(&ended.report).outcome, Outcome::Fail);
}

#[test]
fn bursts_tell_a_buffer() {
    let mut both = params(Test::BackToBack);
    both.tests.push(Test::Throughput);
    let wire = Wire { most_pps: 5_000.0, buffer: 300, ..Wire::default() };
    let ended = ran(&both, wire);
    let m = &ended.report.tests[1].measurements[0];
    let found = m.back_to_back.clone().unwrap();
    assert_eq!(found.bound, Bound::Device);
    // Of 600 frames half leave meanwhile, and 300 wait.
    assert!(found.bursts.iter().all(|burst| (598..=601).contains(&burst.unwrap())), "{found:?}");
    let frames = found.corrected_buffer_frames.unwrap();
    assert!((frames - 300.0).abs() < 40.0, "{found:?}");
    let ended = ran(&params(Test::BackToBack), Wire::default());
    let found = first(&ended.report).back_to_back.clone().unwrap();
    assert_eq!((found.bound, found.max_frames, found.implied_buffer_ns), (Bound::Range, Some(20_000), None));
}

#[test]
fn a_reset_is_measured_in_frames_and_in_time() {
    let reset = |outage_ns, expect| {
        let mut params = params(Test::Reset);
        params.rate = Some(Rate::Pps(1000.0));
        params.reset_wait = Duration::from_secs(5);
        params.expect.reset = expect;
        let ended = ran(&params, Wire { outage_ns, ..Wire::default() });
        let m = first(&ended.report).clone();
        (m.outcome, m.reset.unwrap(), m.why)
    };
    let (outcome, found, why) = reset(500_000_000, None);
    assert_eq!((outcome, found.lost_frames, found.by_loss_ns), (Outcome::Pass, 500, 500_000_000), "{why}");
    assert_eq!(found.by_stamps_ns, Some(501_000_000));
    assert_eq!(reset(500_000_000, Some(Duration::from_millis(400))).0, Outcome::Fail);
    assert_eq!(reset(500_000_000, Some(Duration::from_millis(600))).0, Outcome::Pass);
    let (outcome, _, why) = reset(0, None);
    assert_eq!(outcome, Outcome::Inconclusive, "{why}");
}

fn service(cir_bps: f64, eir_bps: f64) -> Service {
    Service {
        cir_bps,
        eir_bps,
        steps: 4,
        step: Duration::from_secs(1),
        performance: Duration::from_secs(2),
        policing_margin_percent: 5.0,
        policing: true,
    }
}

#[test]
fn services() {
    // 1000 and 500 frames of 64 bytes a second.
    let run_with = |wire| {
        let params = Params { service: Some(service(512_000.0, 256_000.0)), ..params(Test::Y1564) };
        let m = first(&ran(&params, wire).report).clone();
        (m.outcome, m.service.len(), m.why)
    };
    let policed = |pps| Wire { polices_pps: Some(pps), ..Wire::default() };
    let (outcome, steps, why) = run_with(policed(1500.0));
    assert_eq!((outcome, steps), (Outcome::Pass, 7), "{why}");
    let (outcome, steps, why) = run_with(Wire::default());
    assert_eq!((outcome, steps), (Outcome::Fail, 6), "no policer: {why}");
    assert!(why.starts_with("policing: ") && why.contains("nothing is held back"), "{why}");
    let (outcome, _, why) = run_with(policed(990.0));
    assert_eq!(outcome, Outcome::Fail);
    assert!(why.starts_with("100 % of CIR: "), "{why}");
    let (outcome, _, why) = run_with(policed(1010.0));
    assert_eq!(outcome, Outcome::Pass, "the excess rate is no promise: {why}");
    let slow = Wire { sender_pps: 1200.0, polices_pps: Some(1500.0), ..Wire::default() };
    assert_eq!(run_with(slow).0, Outcome::Inconclusive);
}

#[test]
fn a_soak_has_a_time_line() {
    let params = Params { rate: Some(Rate::Pps(1000.0)), ..params(Test::Soak) };
    let ended = ran(&params, Wire { drops: Some(1000), ..Wire::default() });
    let m = first(&ended.report);
    let soak = m.soak.as_ref().unwrap();
    assert_eq!(
        (m.outcome, soak.intervals.len(), soak.intervals_with_loss),
        (Outcome::Fail, 2, 2),
        "{}",
        m.why
    );
    let none = Params { rate: None, ..params };
    let ended = ran(&none, Wire::default());
    assert_eq!(ended.report.verdict.outcome, Outcome::Inconclusive, "{:?}", ended.report.verdict);
}

#[test]
fn what_was_known_survives_a_port_that_dies_and_an_interruption() {
    for direction in [Direction::Forward, Direction::Reverse, Direction::Both] {
        let params = Params { directions: vec![direction], ..params(Test::Throughput) };
        let ended = ran(&params, Wire { most_pps: 5_000.0, dies_after: Some(3), ..Wire::default() });
        assert!(ended.failure.unwrap().what.contains("its agent ended"));
        assert_eq!(first(&ended.report).trials.len(), 3);
        assert_eq!(ended.report.verdict.outcome, Outcome::Inconclusive);
        let ended = ran(&params, Wire { most_pps: 5_000.0, stopped_after: Some(3), ..Wire::default() });
        assert!(ended.failure.is_none() && ended.report.interrupted);
        assert_eq!(first(&ended.report).trials.len(), 4);
        assert_eq!(ended.report.verdict.outcome, Outcome::Inconclusive);
    }
}

#[test]
fn each_direction_and_each_size_has_its_measurement() {
    let mut params = params(Test::Throughput);
    params.directions = vec![Direction::Forward, Direction::Reverse];
    params.sizes = vec![Size::one(64), Size::mix("7:64,4:594,1:1518").unwrap()];
    let ended = ran(&params, Wire { drops_back: Some(10), ..Wire::default() });
    let got: Vec<_> = ended.report.tests[0]
        .measurements
        .iter()
        .map(|m| (m.direction, m.sizes.as_str(), m.outcome, m.trials[0].ports[0].port.clone()))
        .collect();
    let (b, a) = ("b".to_owned(), "a".to_owned());
    assert_eq!(
        got,
        [
            (Direction::Forward, "64", Outcome::Pass, b.clone()),
            (Direction::Forward, "7:64,4:594,1:1518", Outcome::Pass, b),
            (Direction::Reverse, "64", Outcome::Fail, a.clone()),
            (Direction::Reverse, "7:64,4:594,1:1518", Outcome::Fail, a),
        ]
    );
}

#[test]
fn a_counter_that_moves_fails_the_verdict() {
    let ended = ran(&params(Test::Throughput), Wire { damages: 2, ..Wire::default() });
    let report = &ended.report;
    assert_eq!((report.tests[0].outcome, report.verdict.outcome), (Outcome::Pass, Outcome::Fail));
    let check = report.verdict.checks.last().unwrap();
    assert_eq!((check.name, check.outcome), ("health", Outcome::Fail));
    assert!(check.got.contains("next: "), "{}", check.got);
    let trials = &first(report).trials;
    assert!(trials.iter().all(|trial| trial.health[0].code == "crc" && trial.health[0].packets() == 2));
    let found = &report.health[1].findings[0];
    assert_eq!((found.code.as_str(), found.packets()), ("crc", 2 * trials.len() as u64));
    let mut lenient = params(Test::Throughput);
    lenient.health.allow.insert("rx_crc_*".to_owned(), 100);
    assert_eq!(ran(&lenient, Wire { damages: 2, ..Wire::default() }).report.verdict.outcome, Outcome::Pass);
}

proptest! {
    #[test]
    fn any_throughput_is_found_to_the_resolution(most in 150.0_f64..9_900.0) {
        let (outcome, pps, _, why) = throughput_of(Wire { most_pps: most, ..Wire::default() });
        prop_assert_eq!(outcome, Outcome::Pass, "{}", why);
        let pps = pps.unwrap();
        // A loss of less than one frame in a trial of two seconds is none.
        prop_assert!(pps <= most + 1.0 && most - pps <= 51.0, "{} of {}", pps, most);
    }

    #[test]
    fn any_buffer_is_found(buffer in 1_u64..5_000) {
        let wire = Wire { most_pps: 5_000.0, buffer, ..Wire::default() };
        let ended = ran(&Params { bursts: 2, ..params(Test::BackToBack) }, wire);
        let found = first(&ended.report).back_to_back.clone().unwrap();
        for burst in found.bursts {
            prop_assert!(burst.unwrap().abs_diff(2 * buffer) <= 2, "{:?} of {}", burst, 2 * buffer);
        }
    }

    #[test]
    fn a_loss_curve_falls(most in 500.0_f64..12_000.0) {
        let ended = ran(&params(Test::FrameLoss), Wire { most_pps: most, ..Wire::default() });
        let curve = &first(&ended.report).loss_curve;
        prop_assert!(curve.windows(2).all(|two| two[1].loss_percent <= two[0].loss_percent + 1e-9));
        prop_assert!((2..=10).contains(&curve.len()));
    }
}
