//! A benchmark of replication as text that a person reads.

use std::fmt::Write as _;
use std::time::Duration;

use comfy_table::{CellAlignment, Table, presets};
use wirerate_engine::method::rfc3918::Test;
use wirerate_engine::method::rfc3918::report::{
    Latency, Measurement, PortDelays, PortReport, Report, Spread, TestReport, TrialReport,
};
use wirerate_engine::method::search::{Bound, Purpose, Validity};
use wirerate_engine::report::Outcome;

use super::{bits, count, outcome, pps, time};

/// How long it will take, roughly.
pub fn left(time: Duration) -> String {
    let seconds = time.as_secs();
    match seconds {
        0..60 => format!("about {} s", seconds.max(1)),
        60..3600 => format!("about {} min", seconds.div_ceil(60)),
        _ => format!("about {} h {} min", seconds / 3600, seconds % 3600 / 60),
    }
}

/// One line for a trial that has ended.
pub fn trial_line(trial: &TrialReport) -> String {
    let why = trial.reasons.first().map_or(String::new(), |reason| format!(": {reason}"));
    format!("  {} at {}{why}", validity(trial.validity), pps(trial.intended_pps.round() as u64))
}

/// One line for a measurement that has ended.
pub fn measured_line(test: Test, m: &Measurement) -> String {
    format!("{test}, {} bytes, {} groups: {}: {}", m.frame_bytes, m.groups, painted(m.outcome), m.why)
}

/// The whole report.
pub fn report(report: &Report) -> String {
    let mut text = String::new();
    let ports = &report.ports;
    let burden = if ports.burden.is_empty() {
        String::new()
    } else {
        format!("burden     {}, unicast in full mesh\n", ports.burden.join(", "))
    };
    let device = ports.device.as_ref().map_or(String::new(), |device| format!("device     {device}\n"));
    let _ = write!(
        text,
        "{device}senders    {}\nmembers    {} by {}\nstranger   {}\n{burden}segments   {}{}\n",
        ports.senders.join(", "),
        ports.members.join(", "),
        ports.membership,
        ports.stranger.as_deref().unwrap_or("none: leakage is not looked for"),
        ports.segments,
        if ports.segments == "off" {
            ": every frame is a buffer of its own"
        } else {
            ": several frames may be one buffer, which a device in software copies as one; not comparable with off"
        }
    );
    for test in &report.tests {
        let _ = writeln!(text, "\n{} (RFC 3918 §{}): {}", test.title, test.section, painted(test.outcome));
        let _ = writeln!(text, "{}", figures(test, &report.ports.segments));
        for measurement in &test.measurements {
            let _ = writeln!(
                text,
                "  {} bytes, {} groups: {}: {}",
                measurement.frame_bytes,
                measurement.groups,
                outcome(measurement.outcome),
                measurement.why
            );
        }
        let worst = worst_ports(test);
        if !worst.is_empty() {
            let _ = writeln!(text, "{worst}");
        }
        let trials = trials(test);
        if !trials.is_empty() {
            let _ = writeln!(text, "{trials}");
        }
    }
    for reserved in &report.reserved {
        let _ =
            writeln!(text, "\n{} (RFC 3918 §{}): not run: {}", reserved.name, reserved.section, reserved.why);
    }
    if let Some(failure) = &report.failure {
        let _ = writeln!(text, "\nended before its time: {failure}");
    } else if report.interrupted {
        let _ = writeln!(text, "\nended before its time: it was asked to");
    }
    let _ = writeln!(text, "\nverdict    {}", painted(report.outcome));
    text
}

/// The figures of a test, a row for each measurement or port.
fn figures(test: &TestReport, segments: &str) -> Table {
    let ms = test.measurements.iter();
    let size = |m: &Measurement| vec![m.frame_bytes.to_string(), m.groups.to_string()];
    match test.name {
        Test::Throughput | Test::Mixed => table(
            &[
                "frame",
                "groups",
                "throughput",
                "multicast",
                "unicast",
                "aggregated",
                "L2",
                "bounded by",
                "segments",
            ],
            ms.map(|m| {
                let t = m.throughput.as_ref();
                let rate = |value: Option<f64>| value.map_or("-".to_owned(), |v| pps(v.round() as u64));
                let mut row = size(m);
                row.extend([
                    rate(t.and_then(|t| t.pps)),
                    rate(t.and_then(|t| t.multicast_pps)),
                    rate(t.and_then(|t| t.unicast_pps)),
                    rate(t.and_then(|t| t.aggregated_pps)),
                    t.and_then(|t| t.aggregated_l2_bps).map_or("-".to_owned(), bits),
                    t.map_or("-", |t| bound(t.bound)).to_owned(),
                    segments.to_owned(),
                ]);
                row
            }),
        ),
        Test::Matrix => table(
            &["frame", "groups", "offered", "forwarded", "worst loss", "segments"],
            ms.map(|m| {
                let mut row = size(m);
                row.extend(m.forwarding.as_ref().map_or_else(Vec::new, |f| {
                    vec![
                        pps(f.offered_pps.round() as u64),
                        pps(f.forwarded_pps.round() as u64),
                        format!("{:.4} %", f.worst_loss_percent),
                        segments.to_owned(),
                    ]
                }));
                row
            }),
        ),
        Test::Latency | Test::BurdenedLatency => table(
            &[
                "frame",
                "groups",
                "load",
                "offered",
                "lowest mean",
                "highest mean",
                "min/max",
                "skew",
                "segments",
            ],
            ms.flat_map(|m| {
                [
                    ("multicast", &m.baseline),
                    (if m.baseline.is_some() { "and unicast" } else { "multicast" }, &m.latency),
                ]
                .into_iter()
                .filter_map(|(load, latency)| Some(latency_row(size(m), load, latency.as_ref()?, segments)))
            }),
        ),
        Test::JoinLeave | Test::BurdenedJoin => table(
            &[
                "frame",
                "groups",
                "port",
                "database",
                "load",
                "join",
                "leave",
                "exact to",
                "after leave",
                "before join",
                "segments",
            ],
            ms.flat_map(|m| m.delays.iter().map(|d| delay_row(size(m), d, segments))),
        ),
        Test::Capacity => table(
            &["frame", "up to", "groups", "fails at", "bounded by", "segments"],
            ms.map(|m| {
                let mut row = size(m);
                row.extend(m.capacity.as_ref().map_or_else(Vec::new, |c| {
                    let failed = c.failed.map_or("-".to_owned(), |failed| failed.to_string());
                    vec![c.groups.to_string(), failed, bound(c.bound).to_owned(), segments.to_owned()]
                }));
                row
            }),
        ),
    }
}

fn latency_row(mut row: Vec<String>, load: &str, l: &Latency, segments: &str) -> Vec<String> {
    row.extend([
        load.to_owned(),
        pps(l.offered_pps.round() as u64),
        time(l.min_ns),
        time(l.max_ns),
        time(l.min_max_ns),
        time(l.skew_ns),
        segments.to_owned(),
    ]);
    row
}

fn delay_row(mut row: Vec<String>, d: &PortDelays, segments: &str) -> Vec<String> {
    let spread = |spread: Option<Spread>, never: u32| match (spread, never) {
        (None, _) => "never".to_owned(),
        (Some(s), 0) if s.min == s.max => time(s.max),
        (Some(s), 0) => format!("{} to {}", time(s.min), time(s.max)),
        (Some(s), never) => format!("up to {}, {never} never", time(s.max)),
    };
    row.extend([
        d.port.clone(),
        if d.filled { "filled" } else { "empty" }.to_owned(),
        if d.burdened { "and unicast" } else { "multicast" }.to_owned(),
        spread(d.join_ns, d.never_joined),
        spread(d.leave_ns, d.never_left),
        time(d.granularity_ns),
        count(d.after_leave),
        count(d.before_join),
        segments.to_owned(),
    ]);
    row
}

/// What each port got in the last trial of each measurement, and its worst group.
fn worst_ports(test: &TestReport) -> String {
    let rows: Vec<Vec<String>> = test
        .measurements
        .iter()
        .filter_map(|m| m.trials.last().map(|trial| (m, trial)))
        .flat_map(|(m, trial)| trial.ports.iter().map(move |port| port_row(m, trial, port)))
        .collect();
    if rows.is_empty() {
        return String::new();
    }
    let headers = [
        "frame",
        "groups",
        "port",
        "sent",
        "received",
        "lost",
        "worst group",
        "its loss",
        "copies",
        "rate",
        "latency p50, max",
        "leaked",
    ];
    format!("  last trial of each, by port:\n{}", table(&headers, rows.into_iter()))
}

fn port_row(m: &Measurement, trial: &TrialReport, port: &PortReport) -> Vec<String> {
    let by_group = port.groups.iter().filter_map(|group| group.latency_ns);
    let latency = port.latency_ns.or_else(|| by_group.max_by_key(|latency| latency.max));
    vec![
        m.frame_bytes.to_string(),
        trial.groups.to_string(),
        port.port.clone(),
        count(port.sent),
        count(port.received),
        count(port.lost),
        if port.lost == 0 { "-".to_owned() } else { port.worst_group.to_string() },
        format!("{:.4} %", port.worst_loss_percent),
        count(port.duplicate),
        pps(port.forwarded_pps.round() as u64),
        latency.map_or("-".to_owned(), |l| format!("{}, {}", time(l.p50), time(l.max))),
        trial.leaked.map_or("-".to_owned(), count),
    ]
}

/// The path of a search.
fn trials(test: &TestReport) -> String {
    let mut text = String::new();
    for measurement in test.measurements.iter().filter(|m| m.trials.len() > 1) {
        let _ = writeln!(text, "  trials with {} bytes:", measurement.frame_bytes);
        for trial in &measurement.trials {
            let why = trial.reasons.first().map_or(String::new(), |reason| format!(": {reason}"));
            let _ = writeln!(
                text,
                "    {:>5} groups {:>14} intended, {:>14} offered, {} {}{why}",
                trial.groups,
                pps(trial.intended_pps.round() as u64),
                pps((trial.multicast.pps + trial.unicast.map_or(0.0, |unicast| unicast.pps)).round() as u64),
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

pub(super) fn table(headers: &[&str], rows: impl Iterator<Item = Vec<String>>) -> Table {
    let mut table = Table::new();
    table.load_style(presets::UTF8_FULL_CONDENSED);
    table.set_header(headers);
    for mut row in rows {
        row.resize(headers.len(), "-".to_owned());
        table.add_row(row);
    }
    for column in table.column_iter_mut() {
        column.set_cell_alignment(CellAlignment::Right);
    }
    table
}

pub(super) fn bound(bound: Bound) -> &'static str {
    match bound {
        Bound::Device => "device",
        Bound::Range => "range",
        Bound::Sender => "sender",
        Bound::Unsettled => "unsettled",
    }
}

pub(super) fn validity(validity: Validity) -> &'static str {
    match validity {
        Validity::Valid => "valid",
        Validity::Invalid => "invalid",
        Validity::Inconclusive => "inconclusive",
    }
}

pub(super) fn painted(what: Outcome) -> String {
    let style = match what {
        Outcome::Pass => anstyle::AnsiColor::Green,
        Outcome::Fail => anstyle::AnsiColor::Red,
        Outcome::Inconclusive => anstyle::AnsiColor::Yellow,
    }
    .on_default()
    .bold();
    format!("{style}{}{style:#}", outcome(what))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_that_are_left() {
        for (seconds, text) in
            [(0, "about 1 s"), (59, "about 59 s"), (61, "about 2 min"), (3700, "about 1 h 1 min")]
        {
            assert_eq!(left(Duration::from_secs(seconds)), text);
        }
    }
}
