//! Whether a trial is valid: by loss, leakage, latency and the sender's load together, at every port and in every group.
#![forbid(unsafe_code)]

use super::super::bed::{GroupSeen, PortSeen, Seen, Trial};
use super::super::search::{Purpose, Validity};
use super::params::Tolerance;
use super::report::{GroupReport, PortReport, TrialReport, UnicastReport};

/// What a trial shows, and whether that is valid.
pub fn judge(
    trial: &Trial,
    seen: &Seen,
    members: &[String],
    tolerance: &Tolerance,
    purpose: Purpose,
) -> TrialReport {
    let ports: Vec<PortReport> =
        seen.ports.iter().zip(members).map(|(port, name)| port_report(port, name, seen)).collect();
    let mut report = TrialReport {
        purpose,
        frame_bytes: trial.frame_bytes,
        groups: trial.groups,
        duration_ns: trial.duration.as_nanos() as u64,
        intended_pps: trial.multicast_pps + trial.unicast_pps,
        multicast: seen.multicast,
        unicast: seen.unicast,
        validity: Validity::Valid,
        reasons: Vec::new(),
        leaked: seen.leaked,
        burden: seen.burden.map(|(sent, received)| UnicastReport { sent, received }),
        ports,
    };
    let doubts = doubts(trial, seen, &report, tolerance);
    let (validity, reasons) = if doubts.is_empty() {
        let faults = faults(trial, &report, tolerance);
        (if faults.is_empty() { Validity::Valid } else { Validity::Invalid }, faults)
    } else {
        (Validity::Inconclusive, doubts)
    };
    (report.validity, report.reasons) = (validity, reasons);
    report
}

/// What keeps a trial from saying anything of the device.
fn doubts(trial: &Trial, seen: &Seen, report: &TrialReport, tolerance: &Tolerance) -> Vec<String> {
    let mut doubts = Vec::new();
    if seen.interrupted {
        doubts.push("it was ended early".to_owned());
    }
    let classes = [
        ("multicast", trial.multicast_pps, Some(seen.multicast)),
        ("unicast", trial.unicast_pps, seen.unicast),
    ];
    for (class, intended, offered) in classes {
        let offered = offered.unwrap_or_default();
        if intended > 0.0 && offered.pps < intended * (1.0 - tolerance.offered_percent / 100.0) {
            doubts.push(format!(
                "the sender offered {:.0} of {intended:.0} {class} frames a second",
                offered.pps
            ));
        }
    }
    for (port, seen) in report.ports.iter().zip(&seen.ports) {
        // What the host lost by itself hides what the device did.
        let unicast_lost = seen.unicast.map_or(0, |(sent, received)| sent.saturating_sub(received));
        let lost = port.lost + unicast_lost;
        if port.lost_in_host > 0 && lost > 0 {
            doubts.push(format!(
                "{}: {} of {lost} missing frames were lost in this port's own host",
                port.port,
                port.lost_in_host.min(lost)
            ));
        }
    }
    doubts
}

/// What the device did wrong.
fn faults(trial: &Trial, report: &TrialReport, tolerance: &Tolerance) -> Vec<String> {
    let mut lossy: Vec<&PortReport> =
        report.ports.iter().filter(|port| port.worst_loss_percent > tolerance.loss_percent).collect();
    lossy.sort_by(|a, b| b.worst_loss_percent.total_cmp(&a.worst_loss_percent));
    let mut faults: Vec<String> = lossy
        .iter()
        .map(|port| {
            format!(
                "{}: lost {} of {} frames, in {} of {} groups; most in group {}, {:.4} %",
                port.port,
                port.lost,
                port.sent,
                port.groups_with_loss,
                trial.groups,
                port.worst_group,
                port.worst_loss_percent
            )
        })
        .collect();
    for port in &report.ports {
        if let Some(unicast) = port.unicast {
            let lost = unicast.sent.saturating_sub(unicast.received);
            let percent = percent(lost, unicast.sent);
            if percent > tolerance.loss_percent {
                faults.push(format!(
                    "{}: lost {lost} of {} unicast frames, {percent:.4} %",
                    port.port, unicast.sent
                ));
            }
        }
        if port.duplicate > tolerance.leaked {
            faults.push(format!("{}: {} frames came more than once", port.port, port.duplicate));
        }
        let highest =
            port.latency_ns.into_iter().chain(port.groups.iter().filter_map(|group| group.latency_ns));
        if let (Some(limit), Some(highest)) = (tolerance.latency, highest.map(|latency| latency.max).max())
            && u128::from(highest) > limit.as_nanos()
        {
            faults.push(format!(
                "{}: a latency of {:.3} ms, above {:.3} ms",
                port.port,
                highest as f64 / 1e6,
                limit.as_secs_f64() * 1e3
            ));
        }
    }
    if let Some(leaked) = report.leaked.filter(|leaked| *leaked > tolerance.leaked) {
        faults.push(format!("{leaked} frames came to the port that did not join"));
    }
    faults
}

fn port_report(port: &PortSeen, name: &str, seen: &Seen) -> PortReport {
    let mut worst = (0, 0.0);
    let mut with_loss = 0;
    let mut sum = GroupSeen::default();
    let mut lost = 0;
    let mut groups = Vec::new();
    for (n, (&sent, group)) in seen.sent.iter().zip(&port.groups).enumerate() {
        let missing = sent.saturating_sub(group.received);
        let percent = percent(missing, sent);
        if percent > worst.1 {
            worst = (n as u32, percent);
        }
        with_loss += u32::from(missing > 0);
        lost += missing;
        sum.received += group.received;
        sum.duplicate += group.duplicate;
        sum.reordered += group.reordered;
        if missing > 0 || group.duplicate > 0 || group.latency_ns.is_some() {
            groups.push(GroupReport {
                group: n as u32,
                sent,
                received: group.received,
                duplicate: group.duplicate,
                latency_ns: group.latency_ns,
            });
        }
    }
    let sent: u64 = seen.sent.iter().sum();
    PortReport {
        port: name.to_owned(),
        sent,
        received: sum.received,
        lost,
        duplicate: sum.duplicate,
        reordered: sum.reordered,
        lost_in_host: port.lost_in_host,
        forwarded_pps: if sent == 0 { 0.0 } else { seen.multicast.pps * sum.received as f64 / sent as f64 },
        worst_group: worst.0,
        worst_loss_percent: worst.1,
        groups_with_loss: with_loss,
        learned: port.learned,
        learned_after_ns: port.learned_after.map(|time| time.as_nanos() as u64),
        unicast: port.unicast.map(|(sent, received)| UnicastReport { sent, received }),
        latency_ns: port.latency_ns,
        groups,
    }
}

fn percent(part: u64, whole: u64) -> f64 {
    if whole == 0 { 0.0 } else { part as f64 * 100.0 / whole as f64 }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;
    use crate::control::Stop;
    use crate::method::bed::Bed;
    use crate::method::bed::memory::Device;

    fn trial() -> Trial {
        Trial {
            frame_bytes: 64,
            groups: 4,
            multicast_pps: 4000.0,
            unicast_pps: 0.0,
            interleaved: false,
            duration: Duration::from_secs(1),
            latency_by_group: false,
        }
    }

    fn judged(mut device: Device, trial: &Trial, tolerance: &Tolerance) -> TrialReport {
        let seen = device.trial(trial, &Stop::default()).unwrap();
        judge(trial, &seen, &device.layout().members, tolerance, Purpose::Search)
    }

    #[test]
    fn a_device_without_a_fault_is_valid() {
        let report = judged(Device::default(), &trial(), &Tolerance::default());
        assert_eq!(report.validity, Validity::Valid, "{:?}", report.reasons);
        assert_eq!(report.ports.iter().map(|p| (p.sent, p.received)).collect::<Vec<_>>(), [(4000, 4000); 3]);
    }

    #[test]
    fn loss_is_judged_by_port_and_group_and_not_on_the_sum() {
        // 4 frames of one port's 4000: of all 12000 it were a third.
        let device = Device { drops: Some((1, 1000)), ..Device::default() };
        for (tolerated, validity) in
            [(0.0, Validity::Invalid), (0.09, Validity::Invalid), (0.1, Validity::Valid)]
        {
            let tolerance = Tolerance { loss_percent: tolerated, ..Tolerance::default() };
            let report = judged(device.clone(), &trial(), &tolerance);
            assert_eq!(report.validity, validity, "{tolerated}");
            if validity == Validity::Invalid {
                assert_eq!(report.reasons.len(), 1, "{:?}", report.reasons);
                assert!(report.reasons[0].starts_with("m2: lost 4 of 4000"), "{:?}", report.reasons);
            }
        }
    }

    #[test]
    fn each_fault_is_named_by_itself() {
        let tolerance = Tolerance { latency: Some(Duration::from_micros(11)), ..Tolerance::default() };
        let cases = [
            (Device { floods: true, ..Device::default() }, "4000 frames came to the port that did not join"),
            (
                Device { doubles: Some(2), latency_ns: 1000, ..Device::default() },
                "m3: 4000 frames came more than once",
            ),
            (Device::default(), "m3: a latency of 0.012 ms, above 0.011 ms"),
            (
                Device { most_groups: 3, ..Device::default() },
                "m1: lost 1000 of 4000 frames, in 1 of 4 groups; most in group 3, 100.0000 %",
            ),
        ];
        for (device, reason) in cases {
            let report = judged(device, &trial(), &tolerance);
            assert_eq!(report.validity, Validity::Invalid);
            assert!(report.reasons.iter().any(|r| r == reason), "{reason}: {:?}", report.reasons);
        }
    }

    #[test]
    fn what_is_the_tester_s_own_is_no_verdict_on_the_device() {
        let slow = Device { sender_pps: 3000.0, drops: Some((0, 10)), ..Device::default() };
        let own = Device { loses_itself: Some((1, 40)), ..Device::default() };
        for device in [slow, own] {
            let report = judged(device, &trial(), &Tolerance::default());
            assert_eq!(report.validity, Validity::Inconclusive, "{:?}", report.reasons);
        }
    }

    #[test]
    fn unicast_counts_too() {
        let trial = Trial { unicast_pps: 3000.0, ..trial() };
        let device = Device { drops_unicast: Some(100), ..Device::default() };
        let report = judged(device, &trial, &Tolerance::default());
        assert!(report.reasons[0].starts_with("m1: lost 10 of 1000 unicast frames"), "{:?}", report.reasons);
    }
}
