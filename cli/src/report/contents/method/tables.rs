//! Tables of one test: its figures, what each port came to, every trial.

use super::super::super::page::{Cell, Table};
use super::super::super::view::View;
use super::super::super::words;
use super::super::generic;
use super::figures::measured;

/// Parts of a measurement with tables or columns of their own.
const ELSEWHERE: [&str; 7] = ["frame_bytes", "groups", "outcome", "why", "trials", "sizes", "direction"];

/// Tables of a test.
pub fn of(measurements: &[View<'_>]) -> Vec<Table> {
    let mut all = Vec::new();
    for m in measurements {
        // What was found, whatever it is: every figure by its name.
        let mut table = Table::new(format!("Found, {}", measured(m)), &[]);
        for (name, part) in m.parts().into_iter().filter(|(name, _)| !ELSEWHERE.contains(&name.as_str())) {
            generic::scalars(&mut table, &words::title(&name), &part);
        }
        if !table.rows.is_empty() {
            all.push(table);
        }
        for (name, title) in [
            ("delays", "Joins and leaves"),
            ("loss_curve", "Loss by load"),
            ("service", "Steps of the service test"),
            ("soak/intervals", "Intervals"),
        ] {
            all.extend(generic::list(&format!("{title}, {}", measured(m)), &m.list(name)));
        }
    }
    all.extend(trials(measurements));
    all
}

/// Every trial.
fn trials(measurements: &[View<'_>]) -> Option<Table> {
    let mut table = Table::new(
        "Trials",
        &[
            "measurement",
            "purpose",
            "load intended",
            "port with the greatest loss",
            "sent",
            "received",
            "lost",
            "validity",
            "why",
        ],
    );
    for m in measurements {
        for t in m.list("trials") {
            let worst = t.list("ports").into_iter().max_by_key(|p| p.whole("lost").unwrap_or(0));
            let of_port = |name: &str| worst.as_ref().map_or_else(Cell::default, |port| Cell::at(port, name));
            table.row(vec![
                Cell::text(measured(m)),
                Cell::at(&t, "purpose"),
                Cell::at(&t, if t.get("burst_frames").is_some() { "burst_frames" } else { "intended_pps" }),
                of_port("port"),
                of_port("sent"),
                of_port("received"),
                of_port("lost"),
                Cell::at(&t, "validity"),
                Cell::at(&t, "reasons"),
            ]);
        }
    }
    (!table.rows.is_empty()).then_some(table)
}
