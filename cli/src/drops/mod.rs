//! `wirerate drops`.

mod live;
mod rows;
mod screen;

use std::time::{Duration, Instant};

use comfy_table::{CellAlignment, Table, presets};
use serde_json::{Value, json};
use wirerate_engine::drops::{DropCount, Watch, current_netns_inode, difference};
use wirerate_engine::host::interface;

use crate::args::Drops;
use crate::output::{self, ReadyFd, say};
use crate::signals::stop_on_signals;
use crate::text::count;
use crate::{Result, Status};

/// How often a signal is looked for.
const PATIENCE: Duration = Duration::from_millis(50);

/// Counts until the time is up or a signal comes, and reports.
pub fn run(args: &Drops) -> Result<Status> {
    for name in &args.interfaces {
        interface::lookup(name)?;
    }
    if args.watch {
        return live::run(args);
    }
    let mut ready = ReadyFd::open(args.ready_fd)?;
    let stop = stop_on_signals()?;
    let watch = Watch::start()?;
    for missing in watch.missing() {
        say(&format!("not counted on this kernel: {missing}"));
    }
    let start = Instant::now();
    let first = watch.read()?;
    ready.tell();
    let mut last = first.clone();
    let mut next = args.interval;
    while !stop.is_requested() && args.duration.is_none_or(|d| start.elapsed() < d) {
        std::thread::sleep(PATIENCE);
        if start.elapsed() >= next {
            next += args.interval;
            let now = watch.read()?;
            if !args.quiet {
                for drop in wanted(difference(&last, &now), &args.interfaces) {
                    say(&line(start.elapsed(), &drop));
                }
            }
            last = now;
        }
    }
    let drops = wanted(difference(&first, &watch.read()?), &args.interfaces);
    if args.json {
        output::print(&output::pretty(&report(&drops, watch.missing(), start.elapsed())))?;
    } else {
        output::print(&render(&drops))?;
    }
    Ok(Status::Finished)
}

/// Those on the interfaces asked for, which are of this namespace, most packets first; all of them when none is.
fn wanted(mut drops: Vec<DropCount>, interfaces: &[String]) -> Vec<DropCount> {
    let here = current_netns_inode().unwrap_or(0);
    drops.retain(|d| {
        let asked = d.interface.as_ref().is_some_and(|i| interfaces.contains(i));
        interfaces.is_empty() || (d.netns_inode == here && asked)
    });
    drops.sort_by(|a, b| b.packets.cmp(&a.packets).then_with(|| a.reason.cmp(&b.reason)));
    drops
}

/// The interface, or where it is when it has no name here.
fn interface_of(drop: &DropCount) -> String {
    match (&drop.interface, drop.ifindex) {
        (Some(name), _) => name.clone(),
        (None, 0) => "-".to_owned(),
        (None, index) => format!("index {index}"),
    }
}

/// The kernel's reason, and where it gave none its function.
fn reason_of(drop: &DropCount) -> String {
    drop.symbol.as_ref().map_or_else(|| drop.reason.clone(), |symbol| format!("{} {symbol}", drop.reason))
}

fn namespace_of(drop: &DropCount, here: u64) -> String {
    match drop.netns_inode {
        0 => "-".to_owned(),
        inode if inode == here => "this".to_owned(),
        inode => inode.to_string(),
    }
}

fn line(elapsed: Duration, drop: &DropCount) -> String {
    format!(
        "{:>7.1} s  {:<12} {:<10} {:<28} {:>12} packets",
        elapsed.as_secs_f64(),
        interface_of(drop),
        drop.place,
        reason_of(drop),
        count(drop.packets)
    )
}

fn render(drops: &[DropCount]) -> String {
    if drops.is_empty() {
        return "no packet was dropped\n".to_owned();
    }
    let here = current_netns_inode().unwrap_or(0);
    let mut table = Table::new();
    table.load_style(presets::UTF8_FULL_CONDENSED);
    table.set_header(["namespace", "interface", "place", "reason", "packets", "buffers"]);
    for column in [4, 5] {
        table.column_mut(column).expect("a column of the header").set_cell_alignment(CellAlignment::Right);
    }
    for drop in drops {
        table.add_row([
            namespace_of(drop, here),
            interface_of(drop),
            drop.place.to_owned(),
            reason_of(drop),
            count(drop.packets),
            count(drop.skbs),
        ]);
    }
    format!("{table}\n")
}

fn report(drops: &[DropCount], missing: &[String], elapsed: Duration) -> Value {
    let drops: Vec<Value> = drops
        .iter()
        .map(|d| {
            let mut drop = json!({
                "netns": Some(d.netns_inode).filter(|&inode| inode > 0),
                "ifindex": Some(d.ifindex).filter(|&index| index > 0),
                "interface": d.interface,
                "place": d.place,
                "reason": d.reason,
                "symbol": d.symbol,
                "packets": d.packets,
                "buffers": d.skbs,
            });
            // What a place does not have is absent.
            drop.as_object_mut().expect("an object").retain(|_, value| !value.is_null());
            drop
        })
        .collect();
    json!({
        "schema": "wirerate.drops/1",
        "duration_ns": elapsed.as_nanos() as u64,
        "drops": drops,
        "not_counted": missing,
    })
}
