//! What is on the page of a result, by its schema.

mod compare;
mod generic;
mod ledger;
mod method;
mod run;
mod stamp;
mod times;

use super::document::{Document, State};
use super::page::{Cell, Page, Section, Table, Verdict};
use super::view::View;

/// The page of a result, or of as much of it as there is.
pub fn page(document: &Document) -> Page {
    let view = View::new(&document.value);
    let mut page = match document.schema() {
        "wirerate.report/1" => run::page(&view, document.state),
        "wirerate.replicate/1" | "wirerate.qualify/1" => method::page(&view, document.state),
        "wirerate.stamp/1" => stamp::page(&view, document.state),
        "wirerate.compare/1" => compare::page(&view, document.state),
        other => generic::page(&view, other),
    };
    page.schema = document.schema().to_owned();
    page.sections.push(all_warnings(&view));
    page.notes.extend(document.notes.iter().cloned());
    if document.state == State::Running {
        page.verdict.class = "running";
        page.verdict.word = "running".to_owned();
    }
    page.sections.retain(|section| !section.is_empty());
    page
}

/// When and where, as all results with these parts say it.
fn subtitle(view: &View<'_>) -> Vec<String> {
    let mut lines = Vec::new();
    let started = view.text("started_at");
    if !started.is_empty() {
        lines.push(format!("Started {started}"));
    }
    let kernel = view.text("host/kernel");
    if !kernel.is_empty() {
        let cpus = view.whole("host/cpus").map_or(String::new(), |n| format!(", {n} CPUs"));
        lines.push(format!("Linux {kernel}{cpus}"));
    }
    lines
}

/// The verdict of a run, where something was expected of it.
fn verdict(view: &View<'_>, otherwise: String) -> Verdict {
    let Some(verdict) = view.get("verdict") else {
        return Verdict { class: "none", word: String::new(), why: otherwise };
    };
    let missed: Vec<String> = verdict
        .list("checks")
        .iter()
        .filter(|check| check.text("outcome") != "pass")
        .map(|check| {
            format!("{}: wanted {}, got {}", check.text("name"), check.text("want"), check.text("got"))
        })
        .collect();
    let why = if missed.is_empty() { otherwise } else { missed.join("; ") };
    of_outcome(verdict.text("outcome"), why)
}

/// The verdict that a word says.
fn of_outcome(word: &str, why: String) -> Verdict {
    match super::words::class(word) {
        "" => Verdict { class: "none", word: word.to_owned(), why },
        class => Verdict { class, word: word.to_owned(), why },
    }
}

/// What was expected, and what came.
fn checks(view: &View<'_>) -> Section {
    let mut section = Section::new("What was expected");
    let checks = view.list("verdict/checks");
    if !checks.is_empty() {
        let mut table = Table::new("", &["check", "wanted", "got", "outcome"]);
        for check in &checks {
            table.row(["name", "want", "got", "outcome"].map(|name| Cell::at(check, name)).into());
        }
        section.tables.push(table);
    }
    section
}

/// What a reader should know before believing the figures: one of each kind, and how many there are of it.
fn warnings(view: &View<'_>) -> Section {
    let mut section = Section::new("Know this before you believe the figures");
    let warnings = view.list("warnings");
    let count = |code: &str| warnings.iter().filter(|w| w.text("code") == code).count();
    let mut codes: Vec<&str> = Vec::new();
    let mut table = Table::new("", &["what", "what to do", "code", "such warnings"]);
    for warning in &warnings {
        let code = warning.text("code");
        if !codes.contains(&code) {
            codes.push(code);
            let mut row: Vec<Cell> = ["text", "fix", "code"].map(|name| Cell::at(warning, name)).into();
            row.push(Cell { number: true, ..Cell::text(count(code).to_string()) });
            table.row(row);
        }
    }
    if !warnings.is_empty() {
        section.tables.push(table);
    }
    if warnings.len() > codes.len() {
        section.text.push("One of each kind; all are at the end.".to_owned());
    }
    section
}

/// All warnings, where there are several of one kind.
fn all_warnings(view: &View<'_>) -> Section {
    let mut section = Section::new("All warnings");
    let warnings = view.list("warnings");
    let mut codes: Vec<&str> = warnings.iter().map(|w| w.text("code")).collect();
    codes.sort_unstable();
    codes.dedup();
    if warnings.len() > codes.len() {
        let mut table = Table::new("", &["code", "what"]);
        warnings.iter().for_each(|w| table.row(["code", "text"].map(|name| Cell::at(w, name)).into()));
        section.tables.push(table);
    }
    section
}

/// Names and values, a row each; those that are there.
fn facts(view: &View<'_>, caption: &str, names: &[(&str, &str)]) -> Option<Table> {
    let mut table = Table::new(caption, &[]);
    for (title, name) in names {
        if let Some(part) = view.get(name) {
            table.row(vec![Cell::text(*title), Cell::of(&part)]);
        }
    }
    (!table.rows.is_empty()).then_some(table)
}
