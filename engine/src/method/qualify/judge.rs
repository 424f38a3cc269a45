//! Whether a trial is valid: by loss, copies, order, delay and the sender's load together, at every receiving port.
#![forbid(unsafe_code)]

use super::super::search::{Purpose, Validity};
use super::link::{PortSeen, Seen, Trial};
use super::params::Tolerance;
use super::report::{PortReport, TrialReport};

/// What a trial shows, and whether that is valid. `ports` are the names of the receiving ports.
pub fn judge(
    trial: &Trial,
    seen: &Seen,
    ports: &[String],
    tolerance: &Tolerance,
    purpose: Purpose,
) -> TrialReport {
    let mut report = TrialReport {
        purpose,
        frame_bytes: trial.size.mean_bytes().round() as u32,
        duration_ns: trial.duration.as_nanos() as u64,
        intended_pps: trial.pps,
        burst_frames: trial.burst,
        validity: Validity::Valid,
        reasons: Vec::new(),
        ports: seen.ports.iter().zip(ports).map(|(port, name)| port_report(port, name)).collect(),
        health: Vec::new(),
    };
    let doubts = doubts(trial, seen, &report, tolerance);
    let (validity, reasons) = if doubts.is_empty() {
        let faults = faults(&report, tolerance);
        (if faults.is_empty() { Validity::Valid } else { Validity::Invalid }, faults)
    } else {
        (Validity::Inconclusive, doubts)
    };
    (report.validity, report.reasons) = (validity, reasons);
    report
}

/// What keeps a trial from saying anything of the link.
fn doubts(trial: &Trial, seen: &Seen, report: &TrialReport, tolerance: &Tolerance) -> Vec<String> {
    let mut doubts = Vec::new();
    if seen.interrupted {
        doubts.push("it was ended early".to_owned());
    }
    if report.ports.is_empty() {
        doubts.push("no port told what it received".to_owned());
    }
    let least = 1.0 - tolerance.offered_percent / 100.0;
    let frames = trial.frames();
    for port in &report.ports {
        let name = &port.port;
        // Frames that a link which is down makes a host refuse were due, too.
        let due = if trial.outage.is_some() {
            port.offered.frames + port.offered.refused
        } else {
            port.offered.frames
        };
        let pps = port.offered.pps * due as f64 / port.offered.frames.max(1) as f64;
        // Of two frames on, there is a rate; fewer are judged by their number.
        if pps < trial.pps * least && frames > 1 {
            doubts.push(format!("{name}: its sender offered {pps:.0} of {:.0} frames a second", trial.pps));
        } else if (due as f64) < frames as f64 * least && trial.outage.is_none() {
            doubts.push(format!("{name}: its sender offered {due} of {frames} frames"));
        }
        // A link that is made to go down makes a sender's host refuse frames.
        if port.offered.refused > 0 && trial.outage.is_none() {
            doubts.push(format!("{name}: its sender's own host refused {} frames", port.offered.refused));
        }
        if port.lost_in_host > 0 && port.lost > 0 {
            doubts.push(format!(
                "{name}: {} of {} missing frames were lost in this port's own host",
                port.lost_in_host.min(port.lost),
                port.lost
            ));
        }
        if tolerance.latency.is_some() && port.latency_ns.is_none() && port.received > 0 {
            doubts.push(format!("{name}: clocks do not allow to tell a latency, of which one is asked for"));
        }
    }
    doubts
}

/// What the link did wrong.
fn faults(report: &TrialReport, tolerance: &Tolerance) -> Vec<String> {
    let mut lossy: Vec<&PortReport> =
        report.ports.iter().filter(|port| port.loss_percent > tolerance.loss_percent).collect();
    lossy.sort_by(|a, b| b.loss_percent.total_cmp(&a.loss_percent));
    let mut faults: Vec<String> = lossy
        .iter()
        .map(|port| {
            format!("{}: lost {} of {} frames, {:.4} %", port.port, port.lost, port.sent, port.loss_percent)
        })
        .collect();
    for port in &report.ports {
        let name = &port.port;
        if port.duplicate > tolerance.duplicates {
            faults.push(format!("{name}: {} frames came more than once", port.duplicate));
        }
        if tolerance.reordered.is_some_and(|most| port.reordered > most) {
            faults.push(format!("{name}: {} frames came out of order", port.reordered));
        }
        let above = |limit: Option<std::time::Duration>, ns: Option<u64>| {
            limit.zip(ns).filter(|(limit, ns)| u128::from(*ns) > limit.as_nanos())
        };
        let ms = |ns: f64| ns / 1e6;
        if let Some((limit, ns)) = above(tolerance.latency, port.latency_ns.map(|latency| latency.max)) {
            faults.push(format!(
                "{name}: a latency of {:.3} ms, above {:.3} ms",
                ms(ns as f64),
                limit.as_secs_f64() * 1e3
            ));
        }
        if let Some((limit, ns)) = above(tolerance.jitter, port.jitter_ns) {
            faults.push(format!(
                "{name}: a jitter of {:.3} ms, above {:.3} ms",
                ms(ns as f64),
                limit.as_secs_f64() * 1e3
            ));
        }
    }
    faults
}

fn port_report(port: &PortSeen, name: &str) -> PortReport {
    let sent = port.offered.frames;
    let lost = sent.saturating_sub(port.received);
    PortReport {
        port: name.to_owned(),
        offered: port.offered,
        sent,
        received: port.received,
        lost,
        loss_percent: percent(lost, sent),
        duplicate: port.duplicate,
        reordered: port.reordered,
        lost_in_host: port.lost_in_host,
        forwarded_pps: if sent == 0 { 0.0 } else { port.offered.pps * port.received as f64 / sent as f64 },
        learned: port.learned,
        latency_ns: port.latency_ns,
        jitter_ns: port.jitter_ns,
    }
}

pub(super) fn percent(part: u64, whole: u64) -> f64 {
    if whole == 0 { 0.0 } else { part as f64 * 100.0 / whole as f64 }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;
    use crate::control::Stop;
    use crate::method::qualify::link::memory::Wire;
    use crate::method::qualify::link::{Direction, Link};
    use crate::method::qualify::params::Size;

    fn trial() -> Trial {
        Trial {
            size: Size::one(64),
            direction: Direction::Both,
            pps: 4000.0,
            burst: None,
            duration: Duration::from_secs(1),
            time_line: None,
            outage: None,
        }
    }

    fn judged(mut wire: Wire, tolerance: &Tolerance) -> TrialReport {
        let trial = trial();
        let seen = wire.trial(&trial, &Stop::default()).unwrap();
        judge(&trial, &seen, &["b".to_owned(), "a".to_owned()], tolerance, Purpose::Search)
    }

    #[test]
    fn a_wire_without_a_fault_is_valid() {
        let report = judged(Wire::default(), &Tolerance::default());
        assert_eq!(report.validity, Validity::Valid, "{:?}", report.reasons);
        assert_eq!(report.ports.iter().map(|p| (p.sent, p.received)).collect::<Vec<_>>(), [(4000, 4000); 2]);
    }

    #[test]
    fn loss_is_judged_at_each_port_and_not_on_the_sum() {
        for (tolerated, validity) in
            [(0.0, Validity::Invalid), (0.09, Validity::Invalid), (0.1, Validity::Valid)]
        {
            let wire = Wire { drops_back: Some(1000), ..Wire::default() };
            let tolerance = Tolerance { loss_percent: tolerated, ..Tolerance::default() };
            let report = judged(wire, &tolerance);
            assert_eq!(report.validity, validity, "{tolerated}");
            if validity == Validity::Invalid {
                assert_eq!(report.reasons, ["a: lost 4 of 4000 frames, 0.1000 %"]);
            }
        }
    }

    #[test]
    fn each_fault_is_named_by_itself() {
        let strict = Tolerance {
            latency: Some(Duration::from_micros(9)),
            jitter: Some(Duration::from_nanos(5)),
            ..Tolerance::default()
        };
        for (wire, reason) in [
            (Wire { duplicates: 3, ..Wire::default() }, "b: 3 frames came more than once"),
            (Wire { reorders: 2, ..Wire::default() }, "b: 2 frames came out of order"),
            (Wire::default(), "b: a latency of 0.010 ms, above 0.009 ms"),
            (Wire::default(), "a: a jitter of 0.001 ms, above 0.000 ms"),
        ] {
            let report = judged(wire, &strict);
            assert_eq!(report.validity, Validity::Invalid);
            assert!(report.reasons.iter().any(|r| r == reason), "{reason}: {:?}", report.reasons);
        }
        let lax = Tolerance { duplicates: 3, reordered: None, ..Tolerance::default() };
        let report = judged(Wire { duplicates: 3, reorders: 2, ..Wire::default() }, &lax);
        assert_eq!(report.validity, Validity::Valid, "{:?}", report.reasons);
    }

    #[test]
    fn what_is_the_tester_s_own_is_no_verdict_on_the_link() {
        for wire in [
            Wire { sender_pps: 3000.0, drops: Some(10), ..Wire::default() },
            Wire { sender_pps: 3000.0, ..Wire::default() },
            Wire { loses_itself: 40, ..Wire::default() },
            Wire { refuses: 5, drops: Some(10), ..Wire::default() },
        ] {
            let report = judged(wire, &Tolerance::default());
            assert_eq!(report.validity, Validity::Inconclusive, "{:?}", report.reasons);
        }
        let tolerance = Tolerance { latency: Some(Duration::from_secs(1)), ..Tolerance::default() };
        let report = judged(Wire { clocks: false, ..Wire::default() }, &tolerance);
        assert_eq!(report.validity, Validity::Inconclusive);
    }
}
