//! The page of a method that searches by trials: `replicate` (RFC 3918) and `qualify` (RFC 2544).

mod figures;
mod tables;

use super::super::document::State;
use super::super::page::{Cell, Headline, Page, Section, Table};
use super::super::view::View;
use super::super::words;
use super::{checks, facts, generic, of_outcome, subtitle, verdict, warnings};

/// The page of a benchmark.
pub fn page(view: &View<'_>, state: State) -> Page {
    let qualify = view.text("schema").starts_with("wirerate.qualify/");
    let tests = view.list("tests");
    let mut page = Page { subtitle: subtitle(view), ..Page::default() };
    page.title =
        if qualify { "Qualification of a link" } else { "Multicast replication (RFC 3918)" }.to_owned();
    let device = view.text("ports/device");
    if !device.is_empty() {
        page.subtitle.push(format!("Device: {device}"));
    }
    let why = why(&tests, state);
    page.verdict = if view.get("verdict").is_some() {
        verdict(view, why)
    } else {
        of_outcome(view.text("outcome"), why)
    };
    let failure = view.text("failure");
    if !failure.is_empty() {
        page.notes.push(format!("It ended before it should: {failure}"));
    } else if view.get("interrupted").is_some_and(|i| i.value() == true) {
        page.notes.push("It was ended early; this is what was known by then.".to_owned());
    }
    page.headline = headline(&tests);
    page.sections = vec![checks(view), warnings(view), results(&tests)];
    page.sections.extend(tests.iter().map(test));
    page.sections.push(ports(view));
    page.sections.extend(generic::rest(
        view,
        &[
            "schema",
            "started_at",
            "tests",
            "ports",
            "warnings",
            "outcome",
            "verdict",
            "failure",
            "interrupted",
        ],
    ));
    page
}

fn why(tests: &[View<'_>], state: State) -> String {
    let count = |word: &str| tests.iter().filter(|t| t.text("outcome") == word).count();
    if state == State::Complete {
        let parts: Vec<String> = ["pass", "fail", "inconclusive"]
            .iter()
            .map(|word| (count(word), word))
            .filter(|(n, _)| *n > 0)
            .map(|(n, word)| format!("{n} {word}"))
            .collect();
        format!("Of {} tests: {}.", tests.len(), parts.join(", "))
    } else {
        let trials: usize =
            tests.iter().flat_map(|t| t.list("measurements")).map(|m| m.list("trials").len()).sum();
        let last = tests.last().map_or(String::new(), |t| format!(", now {}", t.text("name")));
        format!("{trials} trials so far{last}")
    }
}

fn headline(tests: &[View<'_>]) -> Vec<Headline> {
    let mut all: Vec<Headline> = Vec::new();
    for test in tests {
        // The greatest throughput and the longest delays say most in one number.
        let best =
            test.list("measurements").into_iter().filter(|m| m.number("throughput/pps").is_some()).max_by(
                |a, b| {
                    let pps = |m: &View<'_>| m.number("throughput/pps").unwrap_or(0.0);
                    pps(a).total_cmp(&pps(b))
                },
            );
        if let Some(best) = best
            && let Some(pps) = best.get("throughput/pps")
        {
            let bytes = best.whole("frame_bytes").unwrap_or(0);
            let note = format!("frames of {bytes} bytes, {}", test.text("name"));
            all.push(Headline { name: "highest throughput", cell: Cell::of(&pps), note });
        }
    }
    all.truncate(4);
    all
}

/// Every measurement in a line.
fn results(tests: &[View<'_>]) -> Section {
    let mut section = Section::new("Results");
    let mut table = Table::new("", &["test", "frame, bytes", "groups or sizes", "outcome", "why"]);
    for test in tests {
        for m in test.list("measurements") {
            let groups =
                if m.get("groups").is_some() { Cell::at(&m, "groups") } else { Cell::at(&m, "sizes") };
            let name = if test.text("title").is_empty() { test.text("name") } else { test.text("title") };
            let direction = m.text("direction");
            let name = if direction.is_empty() { name.to_owned() } else { format!("{name}, {direction}") };
            table.row(vec![
                Cell::text(name),
                Cell::at(&m, "frame_bytes"),
                groups,
                Cell::at(&m, "outcome"),
                Cell::at(&m, "why"),
            ]);
        }
    }
    if !table.rows.is_empty() {
        section.tables.push(table);
    }
    section
}

/// One test.
fn test(test: &View<'_>) -> Section {
    let title = if test.text("title").is_empty() { test.text("name") } else { test.text("title") };
    let mut section = Section::new(title);
    let described = test.text("section");
    if !described.is_empty() {
        let outcome = test.text("outcome");
        let rfc = if described.starts_with(|c: char| c.is_ascii_digit()) { "RFC 3918 §" } else { "" };
        section.text.push(format!("{rfc}{described}: {outcome}"));
    }
    let measurements = test.list("measurements");
    section.figures = figures::of(test.text("name"), &measurements);
    section.tables = tables::of(&measurements);
    section
}

fn ports(view: &View<'_>) -> Section {
    let mut section = Section::new("Ports");
    if let Some(ports) = view.get("ports") {
        let named: Vec<(String, String)> =
            ports.parts().into_iter().map(|(name, _)| (words::title(&name), name)).collect();
        let names: Vec<(&str, &str)> =
            named.iter().map(|(title, name)| (title.as_str(), name.as_str())).collect();
        section.tables.extend(facts(&ports, "", &names));
    }
    section
}
