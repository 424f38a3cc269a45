//! `wirerate replicator`.

use std::fmt::Write as _;

use serde_json::json;
use wirerate_engine::replicator::{self, By, Config, Event, Membership, Report, SCHEMA};

use crate::args::replicator::{By as Told, Replicator};
use crate::output::ReadyFd;
use crate::signals::stop_on_signals;
use crate::stamp::{open, warn};
use crate::text::{count, time};
use crate::{Result, Status};

/// Copies until it is asked to stop, and reports.
pub fn run(args: &Replicator) -> Result<Status> {
    let config = Config {
        from: args.from.clone(),
        to: args.to.clone(),
        by: match args.by {
            Told::Xdp => By::Xdp,
            Told::Afxdp => By::Afxdp,
            Told::Socket => By::Socket,
        },
        membership: Membership {
            querier: !args.no_querier,
            interval: args.query_interval,
            most_groups: args.most_groups as usize,
        },
        duration: args.duration,
    };
    let mut sink = open(&args.output, SCHEMA)?;
    let mut ready = ReadyFd::open(args.ready_fd)?;
    let stop = stop_on_signals()?;
    let mut last = 0;
    let report = replicator::run(&config, args.output.interval, &stop, &mut |event| match event {
        Event::Ready => {
            ready.tell();
            sink.line(&json!({"event": "ready"}));
        }
        Event::Interval(report) => {
            sink.line(&json!({"event": "interval", "interval": report}));
            let now = report.fate("replicated");
            if now > last {
                sink.progress(|| line(report));
            }
            last = now;
        }
    })?;
    for warning in &report.warnings {
        warn(&mut sink, warning);
    }
    sink.result(&report, render)?;
    Ok(Status::Finished)
}

fn line(report: &Report) -> String {
    let mut text = format!(
        "{:>7.1} s  copied {:>10}",
        report.duration_ns as f64 / 1e9,
        count(report.fate("replicated"))
    );
    for port in &report.ports {
        let _ = write!(text, "  {} {}", port.interface, count(port.frames));
    }
    text
}

fn render(report: &Report) -> String {
    let mut text = String::new();
    let _ = writeln!(
        text,
        "replicator {} from {} for {}",
        report.by,
        report.from.join(", "),
        time(report.duration_ns)
    );
    for fate in report.frames.iter().filter(|fate| fate.frames > 0 || fate.fate == "replicated") {
        let what = match fate.fate {
            "replicated" => "copied to members",
            "no-member" => "dropped: nobody has joined",
            "no-socket" => "dropped: nothing takes them",
            "lost" => "lost before they were seen",
            "passed" => "left to the kernel: no group's",
            "control" => "left to the kernel: IGMP, MLD and groups of the link",
            "tagged" => "left to the kernel: with a VLAN tag",
            "malformed" => "left to the kernel: malformed",
            other => other,
        };
        let _ = writeln!(text, "frames     {} {what}", count(fate.frames));
    }
    for port in &report.ports {
        let _ = write!(text, "port       {}: {} copies", port.interface, count(port.frames));
        if port.refused > 0 {
            let why = port.reason.as_deref().unwrap_or("unknown");
            let _ = write!(text, ", {} refused ({why})", count(port.refused));
        }
        let _ = writeln!(text, "; {} groups joined now", port.groups);
    }
    for group in &report.groups {
        let source = group.source.map_or_else(String::new, |source| format!(" from {source}"));
        let _ = writeln!(
            text,
            "group      {}{source}: {} frames to {}",
            group.group,
            count(group.frames),
            group.ports.join(", ")
        );
    }
    let m = &report.memberships;
    let _ = writeln!(
        text,
        "members    {} reports, {} malformed, {} queries sent, {} without room",
        count(m.reports),
        count(m.malformed),
        count(m.queries),
        count(m.refused)
    );
    text
}
