//! A qualification as text that a person reads.

use std::fmt::Write as _;

use comfy_table::Table;
use wirerate_engine::host::health::{Finding, Severity, Snapshot};
use wirerate_engine::method::qualify::report::{
    BackToBack, Measurement, PortHealth, Report, Soak, TestReport, TrialReport,
};
use wirerate_engine::method::qualify::{Test, way};
use wirerate_engine::method::search::Purpose;

use super::replicate::{bound, painted, table, validity};
use super::{bits, count, outcome, pps, time};

/// Rows of a time line that are shown; the whole of it is in the JSON.
const SHOWN: usize = 20;

/// One line for a trial that has ended.
pub fn trial_line(trial: &TrialReport) -> String {
    let why = trial.reasons.first().map_or(String::new(), |reason| format!(": {reason}"));
    let health = trial.health.first().map_or(String::new(), |finding| format!("; {}", finding.text));
    format!("  {} at {}{why}{health}", validity(trial.validity), rate(trial.intended_pps))
}

/// One line for a measurement that has ended.
pub fn measured_line(test: Test, m: &Measurement) -> String {
    format!("{test}, {} bytes, {}: {}: {}", m.sizes, way(m.direction), painted(m.outcome), m.why)
}

/// The whole report.
pub fn report(report: &Report) -> String {
    let mut text = String::new();
    let ports = &report.ports;
    let speed = ports.speed_bps.map_or("not told".to_owned(), bits);
    let _ = writeln!(
        text,
        "tx         {}\nrx         {}\nspeed      {speed}\nsegments   {}",
        ports.tx, ports.rx, ports.segments
    );
    for test in &report.tests {
        let _ = writeln!(text, "\n{} ({}): {}", test.title, test.section, painted(test.outcome));
        let _ = writeln!(text, "{}", figures(test));
        for m in &test.measurements {
            let _ = writeln!(
                text,
                "  {} bytes, {}: {}: {}",
                m.sizes,
                way(m.direction),
                outcome(m.outcome),
                m.why
            );
        }
        text += &trials(test);
    }
    for reserved in &report.reserved {
        let _ = writeln!(text, "\n{} ({}): not run: {}", reserved.name, reserved.section, reserved.why);
    }
    text += &health(&report.health);
    if let Some(failure) = &report.failure {
        let _ = writeln!(text, "\nended before its time: {failure}");
    } else if report.interrupted {
        let _ = writeln!(text, "\nended before its time: it was asked to");
    }
    let _ = writeln!(text);
    for check in &report.verdict.checks {
        let _ = writeln!(
            text,
            "check      {}: {}: {} (wanted: {})",
            check.name,
            painted(check.outcome),
            check.got,
            check.want
        );
    }
    let _ = writeln!(text, "verdict    {}", painted(report.verdict.outcome));
    text
}

fn rate(value: f64) -> String {
    pps(value.round() as u64)
}

fn or_none(value: Option<String>) -> String {
    value.unwrap_or_else(|| "-".to_owned())
}

/// The figures of a test, a row for each measurement, port or load.
fn figures(test: &TestReport) -> Table {
    let ms = test.measurements.iter();
    let size = |m: &Measurement| vec![m.sizes.clone(), way(m.direction).to_owned()];
    match test.name {
        Test::Throughput => table(
            &["frame", "direction", "throughput", "L2", "L1", "of line rate", "exact to", "bounded by"],
            ms.map(|m| {
                let t = m.throughput.as_ref();
                let of_line = t.and_then(|t| Some(format!("{:.2} %", t.pps? * 100.0 / t.line_pps?)));
                let mut row = size(m);
                row.extend([
                    or_none(t.and_then(|t| t.pps).map(rate)),
                    or_none(t.and_then(|t| t.l2_bps).map(bits)),
                    or_none(t.and_then(|t| t.l1_bps).map(bits)),
                    or_none(of_line),
                    or_none(t.map(|t| rate(t.resolution_pps))),
                    t.map_or("-", |t| bound(t.bound)).to_owned(),
                ]);
                row
            }),
        ),
        Test::Latency => table(
            &["frame", "direction", "port", "offered", "min", "mean", "p50", "p99", "max", "jitter"],
            ms.flat_map(|m| {
                m.latency.iter().map(|port| {
                    let l = &port.latency_ns;
                    let mut row = size(m);
                    row.extend([port.port.clone(), rate(port.offered_pps)]);
                    row.extend([
                        time(l.min),
                        time(l.mean),
                        time(l.p50),
                        or_none(l.p99.map(time)),
                        time(l.max),
                    ]);
                    row.push(or_none(port.jitter_ns.map(time)));
                    row
                })
            }),
        ),
        Test::FrameLoss => table(
            &["frame", "direction", "load", "intended", "offered", "sent", "received", "lost", "trial"],
            ms.flat_map(|m| {
                m.loss_curve.iter().map(|point| {
                    let mut row = size(m);
                    row.extend([
                        format!("{:.4} %", point.percent).replace(".0000", ""),
                        rate(point.intended_pps),
                        rate(point.offered_pps),
                        count(point.sent),
                        count(point.received),
                        format!("{:.4} %", point.loss_percent),
                        validity(point.validity).to_owned(),
                    ]);
                    row
                })
            }),
        ),
        Test::BackToBack => table(
            &[
                "frame",
                "direction",
                "rate in a burst",
                "mean",
                "lowest",
                "highest",
                "buffer",
                "corrected",
                "bounded by",
            ],
            ms.map(|m| {
                let mut row = size(m);
                row.extend(m.back_to_back.as_ref().map_or_else(Vec::new, burst_row));
                row
            }),
        ),
        Test::Reset => table(
            &[
                "frame",
                "direction",
                "port",
                "offered",
                "missing",
                "by loss",
                "by stamps",
                "by arrivals",
                "exact to",
            ],
            ms.filter_map(|m| {
                let reset = m.reset.as_ref()?;
                let mut row = size(m);
                row.extend([
                    reset.port.clone(),
                    rate(reset.offered_pps),
                    count(reset.lost_frames),
                    time(reset.by_loss_ns),
                    or_none(reset.by_stamps_ns.map(time)),
                    or_none(reset.by_arrivals_ns.map(time)),
                    time(reset.granularity_ns),
                ]);
                Some(row)
            }),
        ),
        Test::Y1564 => table(
            &[
                "frame",
                "direction",
                "step",
                "port",
                "offered",
                "received",
                "lost",
                "delay",
                "variation",
                "outcome",
            ],
            ms.flat_map(|m| {
                m.service.iter().map(|step| {
                    let mut row = size(m);
                    row.extend([
                        step.name.clone(),
                        step.port.clone(),
                        bits(step.offered_bps),
                        bits(step.received_bps),
                        format!("{:.4} %", step.loss_percent),
                        or_none(step.delay_ns.map(time)),
                        or_none(step.delay_variation_ns.map(time)),
                        outcome(step.outcome).to_owned(),
                    ]);
                    row
                })
            }),
        ),
        Test::Soak => table(
            &["frame", "direction", "port", "from", "to", "received", "lost", "rate", "latency p50, max"],
            ms.filter_map(|m| Some((m, m.soak.as_ref()?))).flat_map(|(m, soak)| time_line(size(m), soak)),
        ),
        Test::RoundTrip => table(
            &["frame", "sent", "answered", "lost", "there", "back", "min", "mean", "p99", "max"],
            ms.filter_map(|m| {
                let trip = m.round_trip.as_ref()?;
                let rtt = |of: fn(&wirerate_engine::report::Distribution) -> u64| {
                    or_none(trip.rtt_ns.as_ref().map(|rtt| time(of(rtt))))
                };
                Some(vec![
                    m.sizes.clone(),
                    count(trip.sent),
                    count(trip.answered),
                    count(trip.lost),
                    or_none(trip.lost_forward.map(count)),
                    or_none(trip.lost_backward.map(count)),
                    rtt(|rtt| rtt.min),
                    rtt(|rtt| rtt.mean),
                    or_none(trip.rtt_ns.and_then(|rtt| rtt.p99).map(time)),
                    rtt(|rtt| rtt.max),
                ])
            }),
        ),
    }
}

fn burst_row(burst: &BackToBack) -> Vec<String> {
    vec![
        rate(burst.burst_pps),
        or_none(burst.mean_frames.map(|mean| format!("{mean:.1} frames"))),
        or_none(burst.min_frames.map(count)),
        or_none(burst.max_frames.map(count)),
        or_none(burst.implied_buffer_ns.map(time)),
        or_none(burst.corrected_buffer_ns.map(time)),
        bound(burst.bound).to_owned(),
    ]
}

/// Intervals with loss first of all, then the others, as many as fit.
fn time_line(size: Vec<String>, soak: &Soak) -> Vec<Vec<String>> {
    let lossy = soak.intervals.iter().filter(|interval| interval.lost != 0);
    let clean = soak.intervals.iter().filter(|interval| interval.lost == 0);
    let mut shown: Vec<_> = lossy.chain(clean).take(SHOWN).collect();
    shown.sort_by_key(|interval| interval.start_ns);
    shown
        .into_iter()
        .map(|interval| {
            let mut row = size.clone();
            row.extend([
                interval.port.clone(),
                time(interval.start_ns),
                time(interval.end_ns),
                count(interval.received),
                interval.lost.to_string(),
                pps(interval.pps),
                or_none(interval.latency_ns.map(|l| format!("{}, {}", time(l.p50), time(l.max)))),
            ]);
            row
        })
        .collect()
}

/// The path of searches, and of whatever took more than one trial.
fn trials(test: &TestReport) -> String {
    let mut text = String::new();
    if matches!(test.name, Test::FrameLoss | Test::Y1564) {
        return text;
    }
    for m in test.measurements.iter().filter(|m| m.trials.len() > 1) {
        let _ = writeln!(text, "  trials with {} bytes, {}:", m.sizes, way(m.direction));
        for trial in &m.trials {
            let why = trial.reasons.first().map_or(String::new(), |reason| format!(": {reason}"));
            let load = match trial.burst_frames {
                Some(frames) => format!("{} frames", count(frames)),
                None => rate(trial.intended_pps),
            };
            let offered =
                trial.ports.iter().map(|port| rate(port.offered.pps)).collect::<Vec<_>>().join(", ");
            let _ = writeln!(
                text,
                "    {load:>14} intended, {offered:>14} offered, {} {}{why}",
                match trial.purpose {
                    Purpose::Search => "search, ",
                    Purpose::Confirm => "final,  ",
                },
                validity(trial.validity)
            );
        }
    }
    text
}

/// What was found of both ports, with what to do next.
fn health(ports: &[PortHealth]) -> String {
    let mut text = String::new();
    for port in ports {
        let _ = writeln!(text, "\nhealth of {}: {}", port.port, state(&port.state));
        for finding in &port.findings {
            text += &finding_lines(finding);
        }
        if port.findings.is_empty() {
            let _ = writeln!(text, "  nothing moved that should not");
        }
    }
    text
}

fn finding_lines(finding: &Finding) -> String {
    let severity = match finding.severity {
        Severity::Note => "note",
        Severity::Warn => "warning",
        Severity::Fail => "FAIL",
    };
    let mut text = format!("  {severity}: {}\n", finding.text);
    for (part, next) in finding.suspects.iter().zip(&finding.next) {
        let _ = writeln!(text, "    {}: {next}", part.name());
    }
    text
}

fn state(port: &Snapshot) -> String {
    let mut parts =
        vec![port.driver.clone().or_else(|| port.kind.clone()).unwrap_or_else(|| "no driver".to_owned())];
    parts.extend(port.link.speed_bps.map(bits));
    parts.extend(port.link.duplex.map(|duplex| format!("{} duplex", duplex.name())));
    parts.extend(port.rings.map(|rings| format!("rings {} rx, {} tx", rings.rx, rings.tx)));
    parts.extend(port.pcie.map(|pcie| format!("PCIe {} GT/s x{}", pcie.speed_gtps, pcie.width)));
    parts.extend(port.temperatures.iter().map(|sensor| format!("{} {:.0} °C", sensor.name, sensor.celsius)));
    parts.join(", ")
}
