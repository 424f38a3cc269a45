//! The page of a result that has no page of its own, and what is left of one that has: every figure by its name.

use super::super::page::{Cell, Page, Section, Table};
use super::super::plots::{Bar, bars};
use super::super::view::View;
use super::super::words::{self, Unit};
use super::{checks, of_outcome, subtitle, verdict, warnings};

/// Columns of a list of objects at most.
const COLUMNS: usize = 14;
/// Depth to which objects are looked into.
const DEEPEST: usize = 12;

/// The page of any result.
pub fn page(view: &View<'_>, schema: &str) -> Page {
    let command = schema.trim_start_matches("wirerate.").split('/').next().unwrap_or_default();
    let mut page = Page { title: format!("wirerate {command}"), subtitle: subtitle(view), ..Page::default() };
    let outcome = view.text("outcome");
    page.verdict =
        if outcome.is_empty() { verdict(view, String::new()) } else { of_outcome(outcome, String::new()) };
    page.sections = vec![checks(view), warnings(view), drops(view)];
    page.sections.extend(rest(view, &["schema", "started_at", "warnings", "verdict", "outcome"]));
    page
}

/// Places where packets were dropped, of a result that has a list of them.
fn drops(view: &View<'_>) -> Section {
    let mut section = Section::new("Drops by place");
    let all = view
        .list("drops")
        .iter()
        .take(24)
        .filter_map(|drop| {
            let packets = drop.get("packets")?;
            let name = format!("{} {}", drop.text("place"), drop.text("interface"));
            Some(Bar::new(name.trim(), packets.value().as_f64()?, words::value(&packets)))
        })
        .collect();
    section.figures.extend(bars("drops", "Packets dropped", "At each place.", Unit::Count, all));
    section
}

/// What is left: the parts but those in `shown`, a section each.
pub fn rest(view: &View<'_>, shown: &[&str]) -> Vec<Section> {
    let mut sections = Vec::new();
    let mut single = Table::new("", &[]);
    for (name, part) in view.parts().into_iter().filter(|(name, _)| !shown.contains(&name.as_str())) {
        if part.value().is_object() || part.value().is_array() {
            let mut section = Section::new(capital(&words::title(&name)));
            section.tables = tables(&part);
            sections.push(section);
        } else if !part.value().is_null() {
            single.row(vec![Cell::text(words::title(&name)), Cell::of(&part)]);
        }
    }
    if !single.rows.is_empty() {
        let mut section = Section::new("Also");
        section.tables.push(single);
        sections.insert(0, section);
    }
    sections
}

fn capital(name: &str) -> String {
    let mut chars = name.chars();
    chars.next().map_or(String::new(), |first| first.to_uppercase().chain(chars).collect())
}

/// Tables of a part: its figures by their names, and its lists.
fn tables(part: &View<'_>) -> Vec<Table> {
    let mut all = Vec::new();
    if part.value().is_array() {
        all.extend(list("", &part.list_here()));
        return all;
    }
    let mut figures = Table::new("", &[]);
    scalars(&mut figures, "", part);
    if !figures.rows.is_empty() {
        all.push(figures);
    }
    lists(&mut all, "", part, 0);
    all
}

/// Lists of objects within an object.
fn lists(all: &mut Vec<Table>, name: &str, part: &View<'_>, depth: usize) {
    if depth > DEEPEST {
        return;
    }
    for (child, value) in part.parts() {
        let name = join(name, &words::title(&child));
        if value.value().is_object() {
            lists(all, &name, &value, depth + 1);
        } else if value.value().is_array() {
            all.extend(list(&capital(&name), &value.list_here()));
        }
    }
}

/// A table of objects, of what they have in figures and texts; none of other things.
pub fn list(caption: &str, items: &[View<'_>]) -> Option<Table> {
    let mut names: Vec<String> = Vec::new();
    for item in items {
        columns(item, "", 0, &mut names);
    }
    names.truncate(COLUMNS);
    if names.is_empty() {
        return None;
    }
    let titles: Vec<String> = names.iter().map(|name| words::title(name).replace('/', " ")).collect();
    let mut table = Table::new(caption, &titles.iter().map(String::as_str).collect::<Vec<_>>());
    for item in items {
        table.row(names.iter().map(|name| Cell::at(item, name)).collect());
    }
    Some(table)
}

/// Names of what an object has in figures and texts, those within it as `latency_ns/p50`.
fn columns(item: &View<'_>, before: &str, depth: usize, names: &mut Vec<String>) {
    for (name, part) in item.parts() {
        let name = if before.is_empty() { name } else { format!("{before}/{name}") };
        if names.contains(&name) || names.len() >= COLUMNS {
            continue;
        }
        if part.value().is_object() {
            if depth < 2 {
                columns(&part, &name, depth + 1, names);
            }
        } else if plain(&part) {
            names.push(name);
        }
    }
}

/// Figures and texts, and lists of these.
fn plain(part: &View<'_>) -> bool {
    match part.value().as_array() {
        Some(items) => !items.is_empty() && items.iter().all(|i| !i.is_object() && !i.is_array()),
        None => !part.value().is_object() && !part.value().is_null(),
    }
}

/// Rows of all figures and texts within a part, by their names.
pub fn scalars(table: &mut Table, name: &str, part: &View<'_>) {
    scalars_within(table, name, part, 0);
}

fn scalars_within(table: &mut Table, name: &str, part: &View<'_>, depth: usize) {
    if depth > DEEPEST {
        return;
    }
    if plain(part) {
        table.row(vec![Cell::text(name), Cell::of(part)]);
        return;
    }
    for (child, value) in part.parts() {
        scalars_within(table, &join(name, &words::title(&child)), &value, depth + 1);
    }
}

fn join(before: &str, name: &str) -> String {
    if before.is_empty() { name.to_owned() } else { format!("{before}, {name}") }
}
