//! A link seen from one port only: round trips to a STAMP reflector (RFC 8762), for each size of frames.
#![forbid(unsafe_code)]

use std::net::SocketAddr;
use std::time::Duration;

use super::link::{Direction, Layout};
use super::report::{Measurement, Report, RoundTrip, TestReport};
use super::{Ended, Params, Progress, Size, Test, verdict, worst};
use crate::control::Stop;
use crate::error::{Error, Result};
use crate::packet::stamp::{Format, LEN, tlv};
use crate::report::Outcome;
use crate::stamp::sender::{self, Config, MAX_PPS, Numbering};
use crate::stamp::{Timestamps, report as stamp};

/// Packets a second, where nobody named a rate.
const PPS: f64 = 100.0;

/// What cannot be known from one port.
const UNKNOWN: [&str; 4] = [
    "throughput of either direction: a reflector answers each packet, and is no line-rate receiver",
    "one-way delay: there and back are told together, unless both clocks are kept",
    "on which way frames were out of order or copied",
    "the other port's counters and its link",
];

/// Runs round trips of each size.
///
/// # Errors
/// As [`super::run`].
pub fn run(
    params: &Params,
    reflector: SocketAddr,
    port: String,
    stop: &Stop,
    tell: &mut dyn FnMut(Progress<'_>),
) -> Result<Ended> {
    if params.tests != [Test::RoundTrip] {
        return Err(Error::usage("a reflector is good for round trips only: other tests take two ports")
            .fix("leave --tests out, or name --tx and --rx"));
    }
    let layout = Layout {
        tx: port,
        rx: format!("reflector {reflector}"),
        speed_bps: None,
        segments: "off".to_owned(),
    };
    let mut report = Report::begin(params, layout);
    let mut test = TestReport::begin(Test::RoundTrip);
    let mut failure = None;
    let left = |n: usize| params.final_trial * (params.sizes.len() - n) as u32;
    for (n, size) in params.sizes.iter().enumerate() {
        let mut measurement = Measurement::begin(size, Direction::Both);
        let config = configuration(params, reflector, size)?;
        tell(Progress::Begins(
            &format!("round-trip: {} bytes, {:.0} packets/s to {reflector}", size.name, config.pps),
            left(n),
        ));
        match sender::run(&config, stop, &mut |_| {}) {
            Ok(ended) => {
                failure = ended.failure;
                let trip = trip(reflector, &ended.report);
                let (outcome, why) = conclusion(params, &trip);
                measurement.round_trip = Some(trip);
                measurement.conclude(outcome, why);
            }
            Err(error) => {
                measurement.conclude(Outcome::Inconclusive, format!("it was not finished: {}", error.what));
                failure = Some(error);
            }
        }
        if stop.is_requested() {
            measurement.conclude(Outcome::Inconclusive, "it was ended early".to_owned());
        }
        tell(Progress::Measured(Test::RoundTrip, &measurement));
        test.measurements.push(measurement);
        if failure.is_some() || stop.is_requested() {
            break;
        }
    }
    test.outcome = worst(test.measurements.iter().map(|m| m.outcome));
    report.tests.push(test);
    report.interrupted = stop.is_requested();
    report.failure = failure.as_ref().map(|error| error.what.clone());
    report.verdict = verdict(params, &report);
    Ok(Ended { report, failure })
}

fn configuration(params: &Params, target: SocketAddr, size: &Size) -> Result<Config> {
    let payload = usize::from(size.sizes(target.is_ipv6())?.max());
    // The packet of RFC 8762 is longer than the smallest frame, and padding has a header of its own.
    let length = if payload < LEN + tlv::HEADER_LEN { LEN } else { payload };
    Ok(Config {
        target,
        pps: params.fixed_load(size)?.unwrap_or(PPS).min(MAX_PPS),
        count: None,
        duration: Some(params.final_trial),
        length: length as u16,
        dscp: 0,
        timestamps: Timestamps::Kernel,
        format: Format::Ntp,
        timeout: Duration::from_secs(2),
        reflector: Numbering::Auto,
        interval: Duration::from_secs(1),
    })
}

fn trip(reflector: SocketAddr, report: &stamp::Report) -> RoundTrip {
    RoundTrip {
        reflector: reflector.to_string(),
        sent: report.tx.packets,
        answered: report.rx.answered,
        lost: report.tx.packets.saturating_sub(report.rx.answered),
        lost_forward: report.loss.split.map(|split| split.forward),
        lost_backward: report.loss.split.map(|split| split.backward),
        rtt_ns: report.times.rtt_ns,
        unknown: UNKNOWN.to_vec(),
    }
}

fn conclusion(params: &Params, trip: &RoundTrip) -> (Outcome, String) {
    if trip.sent == 0 {
        return (Outcome::Inconclusive, "nothing was sent".to_owned());
    }
    let Some(rtt) = trip.rtt_ns else {
        return (
            Outcome::Fail,
            format!("none of {} packets was answered: is the reflector there?", trip.sent),
        );
    };
    let lost = super::judge::percent(trip.lost, trip.sent);
    let us = |ns: u64| ns as f64 / 1e3;
    let figures = format!(
        "mean {:.1} µs, highest {:.1} µs; {} of {} packets without an answer",
        us(rtt.mean),
        us(rtt.max),
        trip.lost,
        trip.sent
    );
    let slow = params.expect.round_trip.is_some_and(|limit| u128::from(rtt.mean) > limit.as_nanos());
    let outcome = if slow || lost > params.tolerance.loss_percent { Outcome::Fail } else { Outcome::Pass };
    (outcome, figures)
}
