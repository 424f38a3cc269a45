//! The page of `send` and `recv`.

use super::super::document::State;
use super::super::page::{Cell, Headline, Page, Section, Table};
use super::super::plots::{Bar, SECONDS, Timeline, bars, timeline};
use super::super::view::View;
use super::super::words::{self, Unit};
use super::{checks, facts, generic, ledger, subtitle, times, verdict, warnings};
use crate::text;

/// Intervals in the table of a run that goes on.
const NEWEST: usize = 40;

/// The page of a run.
pub fn page(view: &View<'_>, state: State) -> Page {
    let intervals = view.list("intervals");
    let mut page = Page {
        title: format!("{} {}", view.text("command"), view.text("config/target")).trim().to_owned(),
        subtitle: subtitle(view),
        ..Page::default()
    };
    let backend = view.text("backend/name");
    if !backend.is_empty() {
        let nics: Vec<&str> = view.list("host/nic").iter().map(|nic| nic.text("name")).collect();
        let by = if nics.is_empty() { String::new() } else { format!(" on {}", nics.join(", ")) };
        page.subtitle.push(format!("Datapath {backend} ({}){by}", view.text("backend/mode")));
    }
    page.verdict = verdict(view, summary(view, &intervals, state));
    page.headline = headline(view, &intervals);
    page.sections = vec![
        checks(view),
        warnings(view),
        over_time(&intervals),
        latency(view, &intervals),
        ledger::section(view),
        totals(view),
        workers(view),
        streams(view),
        table_of_intervals(&intervals, state),
    ];
    page.sections.extend(generic::rest(
        view,
        &[
            "schema",
            "command",
            "started_at",
            "warnings",
            "verdict",
            "intervals",
            "tx",
            "rx",
            "ledger",
            "workers",
        ],
    ));
    page
}

/// Lost, and of how many: by the receiver's own counts.
fn loss(view: &View<'_>) -> Option<(u64, u64)> {
    let rx = view.get("rx")?;
    let lost = rx.whole("lost")?.saturating_add(rx.whole("lost_tail").unwrap_or(0));
    Some((lost, lost.saturating_add(rx.whole("unique")?)))
}

fn summary(view: &View<'_>, intervals: &[View<'_>], state: State) -> String {
    if state != State::Complete {
        let end = intervals.last().and_then(|i| i.number("end_ns")).unwrap_or(0.0);
        return format!("{:.1} s so far", words::seconds(end));
    }
    if let Some((lost, offered)) = loss(view) {
        let share = if offered > 0 { lost as f64 * 100.0 / offered as f64 } else { 0.0 };
        return match lost {
            0 => format!("Nothing was lost of {} packets.", text::count(offered)),
            _ => format!(
                "{} of {} packets were lost: {}.",
                text::count(lost),
                text::count(offered),
                words::percent(share)
            ),
        };
    }
    match (view.whole("tx/packets"), view.whole("tx/errors")) {
        (Some(packets), Some(errors)) if errors > 0 => {
            format!(
                "{} packets were sent, and {} refused by this host.",
                text::count(packets),
                text::count(errors)
            )
        }
        (Some(packets), _) => format!("{} packets were sent.", text::count(packets)),
        _ => String::new(),
    }
}

fn headline(view: &View<'_>, intervals: &[View<'_>]) -> Vec<Headline> {
    let mut all = Vec::new();
    let mut add = |name, part: Option<View<'_>>, note: String| {
        if let Some(part) = part {
            all.push(Headline { name, cell: Cell::of(&part), note });
        }
    };
    let rate = |view: &View<'_>, side: &str| {
        view.get(&format!("{side}/pps")).map_or(String::new(), |pps| words::value(&pps))
    };
    if view.get("tx").is_some() || view.get("rx").is_some() {
        add("sent, packets", view.get("tx/packets"), String::new());
        add("rate sent, UDP payload", view.get("tx/payload_bps"), rate(view, "tx"));
        add("received, packets", view.get("rx/packets"), String::new());
        add("rate received, UDP payload", view.get("rx/payload_bps"), rate(view, "rx"));
        if let Some((lost, offered)) = loss(view) {
            let share = if offered > 0 { lost as f64 * 100.0 / offered as f64 } else { 0.0 };
            add("lost in gaps", view.get("rx/lost"), format!("{} with the tail", words::percent(share)));
        }
        add("latency, 99 %", view.get("rx/latency_ns/p99"), String::new());
        add("refused by this host", view.get("tx/errors").filter(|e| e.value() != 0), String::new());
        return all;
    }
    // Of a run that goes on, the last interval is all that is known of its rate.
    if let Some(last) = intervals.last() {
        for side in ["tx", "rx"] {
            add("rate now, UDP payload", last.get(&format!("{side}/payload_bps")), rate(last, side));
        }
        add("latency now, 99 %", last.get("rx/latency_ns/p99"), String::new());
    }
    let sum = |name: &str| intervals.iter().filter_map(|i| i.signed(name)).fold(0i64, i64::saturating_add);
    for (name, part) in [
        ("sent so far, packets", "tx/packets"),
        ("received so far, packets", "rx/packets"),
        ("lost so far", "rx/lost"),
    ] {
        if intervals.iter().any(|i| i.get(part).is_some()) {
            let text = words::exact(&sum(part).into());
            all.push(Headline {
                name,
                cell: Cell { text, number: true, ..Cell::default() },
                note: String::new(),
            });
        }
    }
    all
}

fn over_time(intervals: &[View<'_>]) -> Section {
    let mut section = Section::new("Over time");
    let both = |part: &str| {
        vec![
            times::series(intervals, "sent", &format!("tx/{part}")),
            times::series(intervals, "received", &format!("rx/{part}")),
        ]
    };
    let plots = [
        ("rate", "Rate of UDP payload", Unit::Bits, both("payload_bps"), "Of each interval."),
        ("packets", "Packet rate", Unit::Packets, both("pps"), "Of each interval."),
        (
            "loss",
            "Loss",
            Unit::Count,
            vec![
                times::series(intervals, "lost", "rx/lost"),
                times::series(intervals, "refused by this host", "tx/errors"),
            ],
            "Packets of each interval; below zero where late packets filled earlier gaps.",
        ),
    ];
    for (kind, title, unit, series, caption) in plots {
        section.figures.extend(timeline(Timeline {
            kind,
            title,
            unit,
            axis: SECONDS,
            steps: kind == "loss",
            caption: caption.to_owned(),
            series,
        }));
    }
    section.figures.extend(timeline(Timeline {
        kind: "latency-time",
        title: "One-way latency",
        unit: Unit::Time,
        axis: SECONDS,
        steps: false,
        caption: "Of each interval.".to_owned(),
        series: vec![
            times::series(intervals, "50 %", "rx/latency_ns/p50"),
            times::series(intervals, "99 %", "rx/latency_ns/p99"),
            times::series(intervals, "highest", "rx/latency_ns/max"),
        ],
    }));
    section
}

fn latency(view: &View<'_>, intervals: &[View<'_>]) -> Section {
    let mut section = Section::new("Times");
    let one_way = [
        ("one-way latency", "rx/latency_ns"),
        ("from driver to driver", "rx/wire_latency_ns"),
        ("delay variation (PDV)", "rx/pdv_ns"),
    ];
    let apart = [
        ("arrivals apart", "rx/inter_arrival_ns"),
        ("departures apart", "tx/inter_departure_ns"),
        ("later than planned", "tx/lateness_ns"),
    ];
    section.figures.extend(times::figure(
        view,
        "latency",
        "Latency by percentile",
        "The time that this share of the packets did not exceed.",
        &one_way,
    ));
    section.figures.extend(times::figure(
        view,
        "gaps",
        "Spacing by percentile",
        "From one batch of packets to the next.",
        &apart,
    ));
    section.tables.extend(times::table(view, "Latency", &one_way));
    section.tables.extend(times::table(view, "Spacing", &apart));
    section.tables.extend(facts(
        view,
        "Jitter",
        &[("RFC 3550, at the end", "rx/jitter_ns/rfc3550"), ("RFC 3550, highest", "rx/jitter_ns/max")],
    ));
    if view.get("rx").is_some() && view.get("rx/latency_ns").is_none() && !intervals.is_empty() {
        section.text.push("There is no one-way latency: the packets carry no time, or the clocks of the two ends cannot be compared.".to_owned());
    }
    section
}

fn totals(view: &View<'_>) -> Section {
    let mut section = Section::new("Totals");
    let rates = [
        ("packets", "packets"),
        ("time from the first to the last", "duration_ns"),
        ("packet rate", "pps"),
        ("rate of UDP payload", "payload_bps"),
        ("rate of frames (L2)", "l2_bps"),
        ("rate on the line (L1)", "l1_bps"),
        ("UDP payload, bytes", "payload_bytes"),
        ("frames with FCS, bytes", "frame_bytes"),
        ("refused by this host", "errors"),
        ("different packets", "unique"),
        ("lost in gaps", "lost"),
        ("lost at the end", "lost_tail"),
        ("before the start", "before_start"),
        ("duplicate", "duplicate"),
        ("reordered", "reordered"),
        ("late", "late"),
        ("corrupt", "corrupt"),
        ("foreign", "foreign"),
        ("fragments", "fragments"),
        ("end-of-stream messages", "messages"),
    ];
    for (side, caption) in [("tx", "Sent"), ("rx", "Received")] {
        if let Some(part) = view.get(side) {
            section.tables.extend(facts(&part, caption, &rates));
        }
    }
    section
}

fn workers(view: &View<'_>) -> Section {
    let mut section = Section::new("Workers");
    let workers = view.list("workers");
    if workers.is_empty() {
        return section;
    }
    let all = workers
        .iter()
        .take(64)
        .map(|w| {
            let packets = w.whole("packets").unwrap_or(0);
            let name =
                format!("queue {}, CPU {}", w.whole("queue").unwrap_or(0), w.whole("cpu").unwrap_or(0));
            Bar::new(name, packets as f64, text::count(packets))
        })
        .collect();
    section.figures.extend(bars(
        "workers",
        "Balance of the workers",
        "Packets of each worker.",
        Unit::Count,
        all,
    ));
    let mut table = Table::new("", &["queue", "CPU", "packets", "why there"]);
    for worker in &workers {
        table.row(["queue", "cpu", "packets", "why"].map(|name| Cell::at(worker, name)).into());
    }
    section.tables.push(table);
    section
}

fn streams(view: &View<'_>) -> Section {
    let mut section = Section::new("Streams");
    let mut streams = view.list("rx/streams");
    if streams.is_empty() {
        return section;
    }
    let lost = |s: &View<'_>| s.whole("lost").unwrap_or(0).saturating_add(s.whole("lost_tail").unwrap_or(0));
    streams.sort_by_key(|s| std::cmp::Reverse(lost(s)));
    let mut table = Table::new(
        "Those with the greatest loss first",
        &[
            "stream",
            "format",
            "source",
            "group or address",
            "port",
            "packets",
            "lost",
            "lost at the end",
            "duplicate",
            "reordered",
            "jitter",
        ],
    );
    for stream in &streams {
        let names = [
            "id",
            "format",
            "source",
            "group",
            "port",
            "packets",
            "lost",
            "lost_tail",
            "duplicate",
            "reordered",
            "jitter_ns/rfc3550",
        ];
        table.row(names.map(|name| Cell::at(stream, name)).into());
    }
    section.tables.push(table);
    section
}

fn table_of_intervals(intervals: &[View<'_>], state: State) -> Section {
    let mut section = Section::new("Intervals");
    let columns: Vec<(&str, &str)> = [
        ("sent, packets", "tx/packets"),
        ("refused", "tx/errors"),
        ("packet rate sent", "tx/pps"),
        ("payload rate sent", "tx/payload_bps"),
        ("received, packets", "rx/packets"),
        ("lost", "rx/lost"),
        ("packet rate received", "rx/pps"),
        ("payload rate received", "rx/payload_bps"),
        ("latency 50 %", "rx/latency_ns/p50"),
        ("latency 99 %", "rx/latency_ns/p99"),
        ("latency, highest", "rx/latency_ns/max"),
    ]
    .into_iter()
    .filter(|(_, name)| intervals.iter().any(|i| i.get(name).is_some()))
    .collect();
    if columns.is_empty() {
        return section;
    }
    let mut titles = vec!["from, s", "to, s"];
    titles.extend(columns.iter().map(|(title, _)| *title));
    let mut table = Table::new("", &titles);
    // While it goes on, what is new stands where it is seen.
    let shown: Vec<&View<'_>> = if state == State::Running {
        intervals.iter().rev().take(NEWEST).collect()
    } else {
        intervals.iter().collect()
    };
    if state == State::Running && intervals.len() > NEWEST {
        section.text.push(format!("The newest {NEWEST} of {}, the newest first.", intervals.len()));
    }
    for interval in shown {
        let time = |name: &str| {
            let text = interval.number(name).map_or(String::new(), |ns| format!("{:.3}", words::seconds(ns)));
            Cell { text, ..Cell::at(interval, name) }
        };
        let mut row = vec![time("start_ns"), time("end_ns")];
        row.extend(columns.iter().map(|(_, name)| Cell::at(interval, name)));
        table.row(row);
    }
    section.tables.push(table);
    section
}
