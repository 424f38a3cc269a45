//! The page of a comparison: tools side by side, and what limits each.

use super::super::document::State;
use super::super::page::{Cell, Page, Section, Table};
use super::super::plots::{Bar, bars};
use super::super::view::View;
use super::super::words::{self, Unit};
use super::{checks, facts, generic, subtitle, verdict, warnings};

/// The page of a comparison.
pub fn page(view: &View<'_>, state: State) -> Page {
    let tools = view.list("tools");
    let mut page = Page {
        title: "Tools side by side on one path".to_owned(),
        subtitle: subtitle(view),
        ..Page::default()
    };
    let rounds = view.get("config/rounds").map_or(String::new(), |rounds| words::value(&rounds));
    let why = match state {
        State::Complete => format!("{} tools, {rounds} rounds.", tools.len()),
        _ => "not all rounds are there yet".to_owned(),
    };
    page.verdict = verdict(view, why);
    page.sections = vec![checks(view), warnings(view), side_by_side(&tools), limits(&tools), load(view)];
    page.sections.extend(generic::rest(
        view,
        &["schema", "started_at", "warnings", "verdict", "tools", "config", "from", "to", "interrupted"],
    ));
    page.sections.extend(tools.iter().map(rounds_of));
    page
}

/// Medians of all rounds, a row for each tool.
fn side_by_side(tools: &[View<'_>]) -> Section {
    let mut section = Section::new("What each tool came to");
    for (kind, title, name, unit, caption) in [
        (
            "delivered",
            "Delivered",
            "delivered_bps",
            Unit::Bits,
            "Payload that arrived, the median of the rounds.",
        ),
        (
            "loss",
            "Loss, as proven",
            "loss_proven_percent",
            Unit::Percent,
            "By witnesses that no tool can change, the median of the rounds.",
        ),
    ] {
        let all = tools
            .iter()
            .filter_map(|tool| {
                let median = tool.get(&format!("summary/{name}/median"))?;
                Some(Bar::new(tool.text("name"), median.value().as_f64()?, words::value(&median)))
            })
            .collect();
        section.figures.extend(bars(kind, title, caption, unit, all));
    }
    let mut table = Table::new(
        "Medians",
        &[
            "tool",
            "offered",
            "delivered",
            "loss stated",
            "loss proven",
            "jitter",
            "CPU s/GB, sender",
            "CPU s/GB, receiver",
        ],
    );
    for tool in tools {
        let mut row = vec![Cell::at(tool, "name")];
        row.extend(
            [
                "offered_bps",
                "delivered_bps",
                "loss_stated_percent",
                "loss_proven_percent",
                "jitter_ns",
                "sender_cpu_s_per_gb",
                "receiver_cpu_s_per_gb",
            ]
            .map(|name| Cell::at(tool, &format!("summary/{name}/median"))),
        );
        table.row(row);
    }
    section.tables.push(table);
    section
}

/// What held each tool back, and by what that is known.
fn limits(tools: &[View<'_>]) -> Section {
    let mut section = Section::new("What limits each");
    let mut table = Table::new("", &["tool", "limited by", "which means", "evidence"]);
    for tool in tools {
        let evidence = tool.list("limit/evidence");
        let evidence: Vec<&str> = evidence.iter().filter_map(|line| line.value().as_str()).collect();
        let mut row: Vec<Cell> = ["name", "limit/by", "limit/text"].map(|name| Cell::at(tool, name)).into();
        row.push(Cell::text(evidence.join("; ")));
        table.row(row);
    }
    section.tables.push(table);
    section
}

/// The path, and what was asked of it.
fn load(view: &View<'_>) -> Section {
    let mut section = Section::new("Path and load");
    section.tables.extend(facts(
        view,
        "",
        &[
            ("from, interface", "from/interface"),
            ("from, address", "from/address"),
            ("from, host", "from/host"),
            ("to, interface", "to/interface"),
            ("to, address", "to/address"),
            ("to, host", "to/host"),
            ("rate asked for", "config/rate"),
            ("payload", "config/payload_bps"),
            ("UDP payload of each packet, bytes", "config/length_bytes"),
            ("duration of a trial", "config/duration_ns"),
            ("rounds", "config/rounds"),
            ("ended early", "interrupted"),
        ],
    ));
    section
}

/// What each round of a tool was.
fn rounds_of(tool: &View<'_>) -> Section {
    let mut section = Section::new(format!("Rounds of {}", tool.text("name")));
    section.tables.extend(facts(
        tool,
        "",
        &[("sender", "sender"), ("receiver", "receiver"), ("jitter is", "jitter_is")],
    ));
    section.tables.extend(generic::list("", &tool.list("trials")));
    section
}
