//! Distributions of times.

use super::super::page::{Cell, Figure, Table};
use super::super::plots::{Percentile, Series, percentiles};
use super::super::view::View;
use super::super::words;

/// Names of what a distribution is made of, in reports and for people.
const PARTS: [(&str, &str); 8] = [
    ("min", "lowest"),
    ("p50", "50 %"),
    ("p90", "90 %"),
    ("p99", "99 %"),
    ("p999", "99.9 %"),
    ("p9999", "99.99 %"),
    ("p99999", "99.999 %"),
    ("max", "highest"),
];

/// The distribution at a part, as it is plotted.
fn plotted(view: &View<'_>, title: &str, name: &str) -> Option<Percentile> {
    let times = view.get(name)?;
    let values = PARTS.map(|(part, _)| times.number(part));
    values.iter().any(Option::is_some).then(|| Percentile { name: title.to_owned(), values })
}

/// Plots those that are there.
pub fn figure(
    view: &View<'_>,
    kind: &'static str,
    title: &str,
    caption: &str,
    names: &[(&str, &str)],
) -> Option<Figure> {
    let all: Vec<Percentile> = names.iter().filter_map(|(title, name)| plotted(view, title, name)).collect();
    percentiles(kind, title, caption, &all)
}

/// Tabulates those that are there: as people read them, and in whole ns.
pub fn table(view: &View<'_>, caption: &str, names: &[(&str, &str)]) -> Option<Table> {
    let here: Vec<(&str, View<'_>)> =
        names.iter().filter_map(|(title, name)| Some((*title, view.get(name)?))).collect();
    if here.is_empty() {
        return None;
    }
    let mut columns = vec!["share of the times that is not above"];
    for (title, _) in &here {
        columns.extend([*title, "in ns"]);
    }
    let mut table = Table::new(caption, &columns);
    for (part, title) in [("count", "times measured"), ("mean", "mean")].into_iter().chain(PARTS) {
        if here.iter().all(|(_, times)| times.get(part).is_none()) {
            continue;
        }
        let mut row = vec![Cell::text(title)];
        for (_, times) in &here {
            if part == "count" {
                row.extend([Cell::at(times, part), Cell::default()]);
            } else {
                row.extend([Cell::at(times, part), Cell::exact(times, part)]);
            }
        }
        table.row(row);
    }
    Some(table)
}

/// A part of every interval over time, where intervals have it. Intervals end at their `end_ns`.
pub fn series(intervals: &[View<'_>], title: &str, name: &str) -> Series {
    let points = intervals
        .iter()
        .filter_map(|interval| Some((words::seconds(interval.number("end_ns")?), interval.number(name)?)))
        .collect();
    Series { name: title.to_owned(), points }
}
