//! Plots of one test: what was found for each size of frames, and the way that each search took.

use super::super::super::page::Figure;
use super::super::super::plots::{Bar, SECONDS, Series, Timeline, Trial, bars, path, timeline};
use super::super::super::view::View;
use super::super::super::words::{self, Unit};
use super::super::times;

/// Searches of one test that are plotted; the table has the trials of all.
const SEARCHES: usize = 12;

/// Plots of a test.
pub fn of(name: &str, measurements: &[View<'_>]) -> Vec<Figure> {
    let mut all = Vec::new();
    all.extend(by_size(
        measurements,
        "throughput",
        "Throughput",
        "The highest load that is valid, for each measurement.",
        Unit::Packets,
        &[("", "throughput/pps")],
    ));
    all.extend(by_size(
        measurements,
        "forwarded",
        "Offered and forwarded",
        "At the fixed load, all member ports together.",
        Unit::Packets,
        &[("offered", "forwarding/offered_pps"), ("forwarded", "forwarding/forwarded_pps")],
    ));
    all.extend(by_size(
        measurements,
        "latency-groups",
        "Mean latency of a port and group",
        "The lowest and the highest, and the same without the burden where there was one.",
        Unit::Time,
        &[
            ("lowest", "latency/min_ns"),
            ("highest", "latency/max_ns"),
            ("lowest, no burden", "baseline/min_ns"),
            ("highest, no burden", "baseline/max_ns"),
        ],
    ));
    all.extend(by_size(
        measurements,
        "capacity",
        "Groups that were forwarded",
        "To every member port, and nowhere else.",
        Unit::Count,
        &[("", "capacity/groups")],
    ));
    all.extend(delays(measurements));
    for m in measurements {
        all.extend(loss_curve(m));
        all.extend(soak(m));
        let ports = m.list("latency");
        let named: Vec<(&str, String)> = ports
            .iter()
            .enumerate()
            .map(|(n, p)| (p.text("port"), format!("latency/{n}/latency_ns")))
            .collect();
        let names: Vec<(&str, &str)> = named.iter().map(|(title, name)| (*title, name.as_str())).collect();
        let title = format!("Latency by percentile, {}", measured(m));
        all.extend(times::figure(m, "latency", &title, "Of each receiving port.", &names));
        let answers = [("round trip", "round_trip/rtt_ns")];
        all.extend(times::figure(m, "latency", &format!("Round trips, {}", measured(m)), "", &answers));
    }
    let searched = measurements.iter().filter(|m| is_search(name, m)).take(SEARCHES);
    all.extend(searched.filter_map(search));
    all
}

/// A measurement in few words.
pub fn measured(m: &View<'_>) -> String {
    let bytes = m.whole("frame_bytes").unwrap_or(0);
    let sizes = m.text("sizes");
    let size = if sizes.is_empty() || sizes == bytes.to_string() {
        format!("{bytes} bytes")
    } else {
        sizes.to_owned()
    };
    let groups = m.whole("groups").map_or(String::new(), |g| format!(", {g} groups"));
    let direction = m.text("direction");
    let direction = if direction.is_empty() { String::new() } else { format!(", {direction}") };
    format!("{size}{groups}{direction}")
}

fn by_size(
    measurements: &[View<'_>],
    kind: &'static str,
    title: &str,
    caption: &str,
    unit: Unit,
    parts: &[(&str, &str)],
) -> Option<Figure> {
    let all = measurements
        .iter()
        .flat_map(|m| {
            parts.iter().filter_map(|(part, name)| {
                let value = m.get(name)?;
                let label = if part.is_empty() {
                    measured(m)
                } else {
                    format!("{} B {part}", m.whole("frame_bytes")?)
                };
                Some(Bar::new(label, value.value().as_f64()?, words::value(&value)))
            })
        })
        .take(40)
        .collect();
    bars(kind, title, caption, unit, all)
}

fn delays(measurements: &[View<'_>]) -> Vec<Figure> {
    [
        ("join", "join_ns", "From the join to the first frame"),
        ("leave", "leave_ns", "From the leave to the last frame"),
    ]
    .into_iter()
    .filter_map(|(kind, name, title)| {
        let all = measurements
            .iter()
            .flat_map(|m| m.list("delays").into_iter().map(move |d| (m.clone(), d)))
            .filter_map(|(m, d)| {
                let most = d.get(&format!("{name}/max"))?;
                let label = format!("{} {} B", d.text("port"), m.whole("frame_bytes").unwrap_or(0));
                Some(Bar::new(label, most.value().as_f64()?, words::value(&most)))
            })
            .take(40)
            .collect();
        bars(kind, title, "The longest of all groups, at each port.", Unit::Time, all)
    })
    .collect()
}

fn is_search(name: &str, m: &View<'_>) -> bool {
    let trials = m.list("trials");
    name != "capacity" && trials.len() > 1 && trials.iter().any(|t| t.text("purpose") == "search")
}

/// The way of one search.
fn search(m: &View<'_>) -> Option<Figure> {
    let trials: Vec<Trial> = m
        .list("trials")
        .iter()
        .filter_map(|t| {
            let validity = match t.text("validity") {
                "valid" => "valid",
                "invalid" => "invalid",
                _ => "inconclusive",
            };
            let load = if t.get("burst_frames").is_some() { "burst_frames" } else { "intended_pps" };
            Some(Trial { load: t.number(load)?, validity })
        })
        .collect();
    let bursts = m.list("trials").iter().any(|t| t.get("burst_frames").is_some());
    let unit = if bursts { Unit::Count } else { Unit::Packets };
    let title = format!("Search, {}", measured(m));
    path(&title, "The load of each trial, and what it said of it.", unit, &trials)
}

fn loss_curve(m: &View<'_>) -> Option<Figure> {
    let points: Vec<(f64, f64)> = m
        .list("loss_curve")
        .iter()
        .filter_map(|p| Some((p.number("percent")?, p.number("loss_percent")?)))
        .collect();
    timeline(Timeline {
        kind: "loss-curve",
        title: "Frame loss by load",
        unit: Unit::Percent,
        axis: "load in percent of the highest",
        steps: false,
        caption: format!("{}: frames lost of those sent.", measured(m)),
        series: vec![Series { name: "lost".to_owned(), points }],
    })
}

fn soak(m: &View<'_>) -> Vec<Figure> {
    let intervals = m.list("soak/intervals");
    let mut ports: Vec<&str> = intervals.iter().map(|i| i.text("port")).collect();
    ports.sort_unstable();
    ports.dedup();
    let all = |name: &str| {
        ports
            .iter()
            .take(4)
            .map(|port| {
                let its: Vec<View<'_>> =
                    intervals.iter().filter(|i| i.text("port") == *port).cloned().collect();
                times::series(&its, port, name)
            })
            .collect()
    };
    [
        ("rate", "Frame rate received", Unit::Packets, "pps"),
        ("loss", "Loss", Unit::Count, "lost"),
        ("latency-time", "Latency, 99 %", Unit::Time, "latency_ns/p99"),
    ]
    .into_iter()
    .filter_map(|(kind, title, unit, name)| {
        let (axis, caption) = (SECONDS, "Of each interval, at each receiving port.".to_owned());
        timeline(Timeline { kind, title, unit, axis, steps: kind == "loss", caption, series: all(name) })
    })
    .collect()
}
