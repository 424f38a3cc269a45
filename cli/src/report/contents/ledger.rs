//! Where packets went.

use super::super::page::{Cell, Section, Table};
use super::super::plots::waterfall;
use super::super::view::View;

/// Paths that are plotted; all are in the table.
const PLOTTED: usize = 8;
/// Places of one plot; the smaller ones are put together.
const PLACES: usize = 9;

/// From sent to received, for each path.
pub fn section(view: &View<'_>) -> Section {
    let mut section = Section::new("Where packets went");
    let Some(ledger) = view.get("ledger") else { return section };
    let mut paths = ledger.list("paths");
    // Those with the most to tell first.
    paths.sort_by_key(|path| {
        std::cmp::Reverse(path.whole("sent").unwrap_or(0).saturating_sub(path.whole("received").unwrap_or(0)))
    });
    let mut table = Table::new("Packets of each path", &["path", "place", "interface", "reason", "packets"]);
    for (number, path) in paths.iter().enumerate() {
        let name = format!("{} → {}", path.text("sender"), path.text("receiver"));
        let (sent, received) = (path.whole("sent"), path.whole("received"));
        if let (Some(sent), Some(received)) = (sent, received)
            && number < PLOTTED
        {
            let title = format!("From sent to received: {name}");
            section.figures.extend(waterfall(
                &title,
                sent,
                &places(path),
                path.signed("unaccounted").unwrap_or(0),
                received,
            ));
        }
        rows(&mut table, path, &name, &[("sent", "sent")]);
        rows_of_drops(&mut table, path, &name);
        rows(&mut table, path, &name, &[("unaccounted", "unaccounted"), ("received", "received")]);
    }
    if let Some(sending) = ledger.get("sending") {
        let name = "this sender";
        if let Some(sent) = sending.whole("sent") {
            let places = places(&sending);
            let lost: u64 = places.iter().map(|(_, packets)| *packets).fold(0, u64::saturating_add);
            section.figures.extend(waterfall(
                "From handed over to left, as far as this host can see",
                sent,
                &places,
                0,
                sent.saturating_sub(lost),
            ));
        }
        rows(&mut table, &sending, name, &[("sent", "sent")]);
        rows_of_drops(&mut table, &sending, name);
    }
    if !table.rows.is_empty() {
        section.tables.push(table);
    }
    if paths.len() > PLOTTED {
        section
            .text
            .push(format!("The {PLOTTED} paths with the greatest loss are plotted; the table has all."));
    }
    let evidence = ledger.list("evidence");
    if !evidence.is_empty() {
        let mut table = Table::new(
            "Counters of interfaces and machine that rose meanwhile, everybody's packets",
            &["where", "counter", "by"],
        );
        for counter in &evidence {
            let texts: Vec<(String, View<'_>)> = counter.parts();
            let number = texts.iter().find(|(_, part)| part.value().is_number());
            let words: Vec<&str> = texts.iter().filter_map(|(_, part)| part.value().as_str()).collect();
            table.row(vec![
                Cell::text(words.first().copied().unwrap_or_default()),
                Cell::text(words.get(1..).unwrap_or_default().join(" ")),
                number.map_or_else(Cell::default, |(_, part)| Cell::of(part)),
            ]);
        }
        section.tables.push(table);
    }
    section
}

fn rows(table: &mut Table, path: &View<'_>, name: &str, parts: &[(&str, &str)]) {
    for (part, title) in parts {
        if path.get(part).is_some() {
            table.row(vec![
                Cell::text(name),
                Cell::text(*title),
                Cell::default(),
                Cell::default(),
                Cell::at(path, part),
            ]);
        }
    }
}

fn rows_of_drops(table: &mut Table, path: &View<'_>, name: &str) {
    for drop in path.list("drops") {
        let reason = if drop.text("symbol").is_empty() { "reason" } else { "symbol" };
        table.row(vec![
            Cell::text(name),
            Cell::at(&drop, "place"),
            Cell::at(&drop, "interface"),
            Cell::at(&drop, reason),
            Cell::at(&drop, "packets"),
        ]);
    }
}

/// Places with what was lost there, in the order of the result; the smallest together where there are many.
fn places(path: &View<'_>) -> Vec<(String, u64)> {
    let mut places: Vec<(String, u64)> = path
        .list("drops")
        .iter()
        .filter_map(|drop| {
            let interface = drop.text("interface");
            let name = format!("{} {interface}", drop.text("place")).trim().to_owned();
            Some((name, drop.whole("packets")?))
        })
        .collect();
    // What was lost at one place for several reasons is told apart by these.
    let names: Vec<String> = places.iter().map(|(name, _)| name.clone()).collect();
    for (drop, (name, _)) in
        path.list("drops").iter().filter(|d| d.whole("packets").is_some()).zip(&mut places)
    {
        if names.iter().filter(|other| *other == name).count() > 1 {
            *name = format!("{} {}", drop.text("place"), drop.text("reason"));
        }
    }
    if places.len() > PLACES {
        let mut sizes: Vec<u64> = places.iter().map(|(_, packets)| *packets).collect();
        sizes.sort_unstable_by(|a, b| b.cmp(a));
        let least = sizes[PLACES - 2];
        let (mut kept, mut others, mut rest) = (Vec::new(), 0u64, 0usize);
        for (name, packets) in places {
            if packets >= least && kept.len() < PLACES - 1 {
                kept.push((name, packets));
            } else {
                others = others.saturating_add(packets);
                rest += 1;
            }
        }
        kept.push((format!("{rest} other places"), others));
        places = kept;
    }
    places
}
