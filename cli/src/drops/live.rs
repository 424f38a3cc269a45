//! `wirerate drops --watch`.

use std::time::{Duration, Instant};

use serde_json::json;
use wirerate_engine::drops::{Watch, current_netns_inode, difference};
use wirerate_engine::host::{counters, interface};

use super::rows::{Row, Rows};
use super::screen::Screen;
use super::{PATIENCE, render, report, wanted};
use crate::args::Drops;
use crate::output::{self, ReadyFd, say};
use crate::signals::stop_on_signals;
use crate::text::{count, pps};
use crate::{Result, Status};

/// Shows the places until the time is up or a signal comes, and then the totals.
pub fn run(args: &Drops) -> Result<Status> {
    let mut ready = ReadyFd::open(args.ready_fd)?;
    let stop = stop_on_signals()?;
    let watch = Watch::start()?;
    let links = interface::list()?;
    let asked = |name: &String| args.interfaces.is_empty() || args.interfaces.contains(name);
    let interfaces: Vec<(String, u32)> =
        links.into_iter().map(|link| (link.name, link.index)).filter(|(name, _)| asked(name)).collect();
    if !args.json_lines {
        watch.missing().iter().for_each(|missing| say(&format!("not counted on this kernel: {missing}")));
    }
    let here = current_netns_inode()?;
    let start = Instant::now();
    let (first, counted) = (watch.read()?, counters::read(&interfaces));
    let new_rows = |rows: &mut Rows, span: Duration| -> Result<Vec<Row>> {
        let drops = wanted(difference(&first, &watch.read()?), &args.interfaces);
        let counters = counters::difference(&counted, &counters::read(&interfaces));
        Ok(rows.next(&drops, &counters, here, span))
    };
    let mut rows = Rows::default();
    let screen = if args.json_lines { None } else { Screen::take() };
    if args.json_lines {
        line(&json!({"event": "ready"}));
    }
    ready.tell();
    let (mut last, mut failure) = (Duration::ZERO, None);
    if let Some(screen) = &screen {
        screen.draw(&[], Duration::ZERO);
    }
    while !stop.is_requested() && args.duration.is_none_or(|d| start.elapsed() < d) {
        std::thread::sleep(PATIENCE);
        let elapsed = start.elapsed();
        if elapsed < last + args.interval {
            continue;
        }
        match new_rows(&mut rows, elapsed - last) {
            Ok(rows) => show(&rows, elapsed, screen.as_ref(), args),
            Err(error) => {
                failure = Some(error);
                break;
            }
        }
        last = elapsed;
    }
    // The terminal as it was, before anything else is said.
    drop(screen);
    if let Some(error) = failure {
        return Err(error);
    }
    let drops = wanted(difference(&first, &watch.read()?), &args.interfaces);
    let counters = counters::difference(&counted, &counters::read(&interfaces));
    if args.json_lines {
        line(&json!({"event": "report", "report": report(&drops, watch.missing(), start.elapsed())}));
        return Ok(Status::Finished);
    }
    let mut text = render(&drops);
    for counter in &counters {
        let on = counter.interface.as_ref().map_or(String::new(), |name| format!(" on {name}"));
        text += &format!(
            "{} by {}{on}: {} ({}, {})\n",
            count(counter.packets),
            counter.source,
            counter.name,
            counter.place,
            counter.what
        );
    }
    output::print(&text)?;
    Ok(Status::Finished)
}

/// Draws the rows, or prints those that rose.
fn show(rows: &[Row], elapsed: Duration, screen: Option<&Screen>, args: &Drops) {
    if let Some(screen) = screen {
        screen.draw(rows, elapsed);
    } else if args.json_lines {
        line(&json!({"event": "drops", "elapsed_ns": elapsed.as_nanos() as u64, "rows": rows}));
    } else {
        for row in rows.iter().filter(|row| row.pps > 0) {
            let _ = output::print(&format!(
                "{:>7.1} s  {:<8} {:<12} {:<12} {:<10} {:<32} {:>12}  {:>12} packets\n",
                elapsed.as_secs_f64(),
                row.source,
                row.namespace,
                row.interface,
                row.place,
                row.reason,
                pps(row.pps),
                count(row.packets)
            ));
        }
    }
}

/// Somebody who stopped reading lines ends nothing.
fn line(value: &serde_json::Value) {
    let _ = output::print(&format!("{value}\n"));
}
