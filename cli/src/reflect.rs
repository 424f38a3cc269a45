//! `wirerate reflect`.

use std::fmt::Write as _;

use serde_json::json;
use wirerate_engine::agent::protocol;
use wirerate_engine::stamp::reflector::{self, Config, Event};
use wirerate_engine::stamp::report::{REFLECT_SCHEMA, Reflected};

use crate::args::stamp::{Listen, Reflect};
use crate::output::ReadyFd;
use crate::signals::stop_on_signals;
use crate::stamp::{by, format, open, taken_by, warn};
use crate::text::{count, time};
use crate::{Result, Status};

/// Reflects until it is asked to stop, and reports.
pub fn run(args: &Reflect) -> Result<Status> {
    let config = configuration(args);
    let mut sink = open(&args.output, REFLECT_SCHEMA)?;
    let mut ready = ReadyFd::open(args.ready_fd)?;
    let stop = stop_on_signals()?;
    let mut last = 0;
    let ended = reflector::run(&config, &stop, &mut |event| {
        sink.line(&told(event));
        match event {
            Event::Ready => ready.tell(),
            Event::Interval { end_ns, received, answered } => {
                if received > last {
                    let seconds = end_ns as f64 / 1e9;
                    sink.progress(|| {
                        format!(
                            "{seconds:>7.1} s  received {:>9}  answered {:>9}",
                            count(received),
                            count(answered)
                        )
                    });
                }
                last = received;
            }
        }
    })?;
    for warning in &ended.report.warnings {
        warn(&mut sink, warning);
    }
    sink.result(&ended.report, render)?;
    ended.failure.map_or(Ok(Status::Finished), Err)
}

/// Where to listen, and how to answer.
pub fn configuration(args: &Reflect) -> Config {
    let everywhere = [Listen::everywhere()];
    let listen = if args.addresses.is_empty() { &everywhere[..] } else { &args.addresses };
    Config {
        addresses: listen.iter().flat_map(|l| l.sockets(args.port)).collect(),
        stateful: !args.stateless,
        timestamps: by(args.timestamps),
        format: format(args.format),
        max_pps: args.max_pps,
        answer_short: args.answer_short,
        duration: args.duration,
        interval: args.output.interval,
    }
}

/// What happens meanwhile, as a line tells it.
pub fn told(event: Event) -> protocol::Event {
    match event {
        Event::Ready => protocol::Event::Ready,
        Event::Interval { end_ns, received, answered } => protocol::Event::Interval {
            interval: json!({"end_ns": end_ns, "received": received, "answered": answered}),
        },
    }
}

fn render(report: &Reflected) -> String {
    let mut text = String::new();
    let addresses: Vec<String> = report.addresses.iter().map(ToString::to_string).collect();
    let _ = writeln!(text, "reflector  {} for {}", addresses.join(", "), time(report.duration_ns));
    let _ = writeln!(text, "answered   {} of {} datagrams", count(report.answered), count(report.received));
    let i = &report.ignored;
    for (number, what) in [
        (i.short, "too short"),
        (i.corrupt, "corrupt"),
        (i.authenticated, "authenticated"),
        (i.answers, "answers of another reflector"),
        (i.group, "to a group"),
        (i.limited, "above the highest rate"),
        (i.sessions, "of too many sessions"),
        (i.errors, "answers refused by this host"),
        (report.dropped_here, "dropped at our sockets"),
    ] {
        if number > 0 {
            let _ = writeln!(text, "  not      {} {what}", count(number));
        }
    }
    let _ = writeln!(text, "stamps     T2: {}", taken_by(report.receive_timestamps));
    for s in report.sessions.iter().flatten() {
        let _ = writeln!(
            text,
            "session    {} → {}, identifier {}: {} packets, {} lost, {} duplicate, {} reordered; {} answers",
            s.source,
            s.destination,
            s.ssid,
            count(s.unique),
            count(s.lost),
            count(s.duplicate),
            count(s.reordered),
            count(s.answered)
        );
    }
    text
}
