//! The page of a session of round trips.

use super::super::document::State;
use super::super::page::{Cell, Headline, Page, Section};
use super::super::plots::{SECONDS, Timeline, timeline, waterfall};
use super::super::view::View;
use super::super::words::{self, Unit};
use super::{checks, facts, generic, subtitle, times, verdict, warnings};
use crate::text;

/// The page of a session.
pub fn page(view: &View<'_>, state: State) -> Page {
    let intervals = view.list("intervals");
    let mut page = Page {
        title: format!("Round trips to {}", view.text("config/target")).trim_end_matches(" to ").to_owned(),
        subtitle: subtitle(view),
        ..Page::default()
    };
    let why = match (view.whole("loss/lost"), view.whole("tx/packets"), state) {
        (Some(lost), Some(sent), State::Complete) => {
            let share =
                view.number("loss/percent").map_or(String::new(), |p| format!(": {}", words::percent(p)));
            format!("{} of {} packets were never answered{share}.", text::count(lost), text::count(sent))
        }
        _ => {
            let end = intervals.last().and_then(|i| i.number("end_ns")).unwrap_or(0.0);
            format!("{:.1} s so far", words::seconds(end))
        }
    };
    page.verdict = verdict(view, why);
    for (name, part) in [
        ("sent, packets", "tx/packets"),
        ("answered in time", "rx/answered"),
        ("lost", "loss/lost"),
        ("round trip, 50 %", "times/rtt_ns/p50"),
        ("round trip, 99 %", "times/rtt_ns/p99"),
    ] {
        if let Some(part) = view.get(part) {
            page.headline.push(Headline { name, cell: Cell::of(&part), note: String::new() });
        }
    }
    page.sections =
        vec![checks(view), warnings(view), over_time(&intervals), distribution(view), packets(view)];
    page.sections.extend(generic::list("", &intervals).map(|table| {
        let mut section = Section::new("Intervals");
        section.tables.push(table);
        section
    }));
    page.sections.extend(generic::rest(
        view,
        &["schema", "started_at", "warnings", "verdict", "intervals", "tx", "rx", "loss"],
    ));
    page
}

fn over_time(intervals: &[View<'_>]) -> Section {
    let mut section = Section::new("Over time");
    let all = |names: &[(&str, &str)]| {
        names.iter().map(|(title, name)| times::series(intervals, title, name)).collect::<Vec<_>>()
    };
    section.figures.extend(timeline(Timeline {
        kind: "latency-time",
        title: "Round trip",
        unit: Unit::Time,
        axis: SECONDS,
        steps: false,
        caption: "Of each interval.".to_owned(),
        series: all(&[("50 %", "rtt_ns/p50"), ("99 %", "rtt_ns/p99"), ("highest", "rtt_ns/max")]),
    }));
    section.figures.extend(timeline(Timeline {
        kind: "loss",
        title: "Packets without an answer",
        unit: Unit::Count,
        axis: SECONDS,
        steps: true,
        caption: "Of each interval.".to_owned(),
        series: all(&[("lost", "lost")]),
    }));
    section
}

fn distribution(view: &View<'_>) -> Section {
    let mut section = Section::new("Times");
    let trips = [("round trip", "times/rtt_ns"), ("from the schedule", "times/rtt_from_schedule_ns")];
    let ways = [
        ("one way, there", "times/one_way_forward_ns"),
        ("one way, back", "times/one_way_backward_ns"),
        ("variation", "times/variation_ns"),
        ("time in the reflector", "times/reflector_ns"),
    ];
    let caption = "The time that this share of the packets did not exceed.";
    section.figures.extend(times::figure(view, "latency", "Round trip by percentile", caption, &trips));
    section.figures.extend(times::figure(
        view,
        "ways",
        "Parts of the round trip by percentile",
        caption,
        &ways,
    ));
    section.tables.extend(times::table(view, "Round trip", &trips));
    section.tables.extend(times::table(view, "Parts of it", &ways));
    section
}

fn packets(view: &View<'_>) -> Section {
    let mut section = Section::new("Where packets went");
    let whole = |name: &str| view.whole(name).unwrap_or(0);
    if let (Some(sent), Some(answered)) = (view.whole("tx/packets"), view.whole("rx/answered")) {
        let mut places: Vec<(String, u64)> = Vec::new();
        if view.get("loss/split").is_some() {
            places.push(("on the way there".to_owned(), whole("loss/split/forward")));
            places.push(("on the way back".to_owned(), whole("loss/split/backward")));
            places.push(("either way, at the end".to_owned(), whole("loss/split/unplaced")));
        } else {
            places.push(("lost, either way".to_owned(), whole("loss/lost")));
        }
        places.push(("answered too late".to_owned(), whole("rx/late")));
        places.retain(|(_, packets)| *packets > 0);
        section.figures.extend(waterfall("From sent to answered", sent, &places, 0, answered));
    }
    section.tables.extend(facts(
        view,
        "",
        &[
            ("sent, packets", "tx/packets"),
            ("refused by this host", "tx/errors"),
            ("refused on the way (ICMP)", "tx/refused"),
            ("answered in time", "rx/answered"),
            ("late", "rx/late"),
            ("duplicate", "rx/duplicate"),
            ("reordered", "rx/reordered"),
            ("foreign", "rx/foreign"),
            ("dropped at our socket", "rx/dropped_here"),
            ("lost", "loss/lost"),
            ("lost, of those sent", "loss/percent"),
            ("lost on the way there", "loss/split/forward"),
            ("lost on the way back", "loss/split/backward"),
            ("why no way is known", "loss/no_split"),
        ],
    ));
    section
}
