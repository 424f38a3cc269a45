//! `wirerate compare`.

use std::fs;
use std::path::PathBuf;
use std::sync::Arc;

use serde_json::json;
use wirerate_engine::Error;
use wirerate_engine::agent::Say;
use wirerate_engine::method::compare::baseline::Earlier;
use wirerate_engine::method::compare::{self, Params, Progress};
use wirerate_engine::method::ports::{Place, Reach};
use wirerate_engine::profile::rate::{Layer, Rate};

use crate::args::compare::Compare;
use crate::output::{Sink, say};
use crate::signals::stop_on_signals;
use crate::text::{self, compare as render};
use crate::{Result, Status};

/// What is sent when nobody says: payload bits a second.
const RATE: f64 = 100e6;

/// UDP payload that fits into any Ethernet frame, a tunnel's headers included.
const LENGTH: u32 = 1400;

/// Compares, and reports.
pub fn run(args: &Compare) -> Result<Status> {
    let params = params(args)?;
    params.check()?;
    let mut sink = Sink::of_method(&args.results, compare::report::SCHEMA)?;
    // Before the agents start: they get signals of a terminal, too, and end by themselves.
    let stop = stop_on_signals()?;
    let quiet = args.results.quiet;
    let tell: Say = Arc::new(move |line: &str| {
        if !quiet {
            say(line);
        }
    });
    let mut ready = false;
    let ended = compare::run(&params, reach(&args.from), reach(&args.to), &tell, &stop, &mut |progress| {
        if !ready && matches!(progress, Progress::Begins(..)) {
            ready = true;
            sink.line(&json!({"event": "ready"}));
        }
        told(&mut sink, params.rounds, &progress);
    })?;
    sink.result(&ended.report, render::report)?;
    if let Some(failure) = ended.failure {
        return Err(failure);
    }
    if ended.report.tools.iter().all(|tool| tool.trials.iter().all(|trial| trial.failure.is_some()))
        && !ended.report.interrupted
    {
        return Err(Error::failed("no tool gave any figures"));
    }
    Ok(Status::of(ended.report.verdict.as_ref()))
}

fn reach(place: &Place) -> (String, Reach) {
    (place.interface.clone(), place.command.clone().map_or(Reach::Here, Reach::Typed))
}

fn params(args: &Compare) -> Result<Params> {
    let earlier = args.baseline.as_ref().map(read).transpose()?;
    let old = earlier.as_ref().and_then(|earlier| earlier.tools.first());
    let rate = match (args.rate, old) {
        (Some(rate), _) => rate,
        (None, Some(old)) => old.rate_bps.map_or(Rate::Max, |bps| Rate::Bits(bps, Layer::Payload)),
        (None, None) => Rate::Bits(RATE, Layer::Payload),
    };
    let headers = if args.ipv6 { 66 } else { 46 };
    let length = match (args.length, args.frame_size) {
        (Some(length), _) => length,
        (None, Some(frame)) => frame.saturating_sub(headers),
        (None, None) => old.and_then(|old| old.length).unwrap_or(LENGTH),
    };
    Ok(Params {
        tools: args.tools.clone(),
        rate,
        length,
        duration: args.duration,
        rounds: args.rounds,
        port: args.port,
        segments: args.segments.to_string(),
        ipv6: args.ipv6,
        iperf3: args.iperf3.clone(),
        iperf2: args.iperf2.clone(),
        answer: args.agent_timeout,
        earlier,
        not_worse: args.expect_not_worse,
    })
}

fn read(path: &PathBuf) -> Result<Earlier> {
    let name = path.display().to_string();
    let bytes =
        fs::read(path).map_err(|e| Error::usage(format!("--baseline {name}: cannot be read")).because(e))?;
    Earlier::read(&name, &String::from_utf8_lossy(&bytes))
}

fn told(sink: &mut Sink, rounds: u32, progress: &Progress<'_>) {
    match progress {
        Progress::Begins(tool, round, left) => {
            sink.progress(|| {
                format!("round {round} of {rounds}: {tool}; {} left", text::replicate::left(*left))
            });
        }
        Progress::Trial(tool, trial) => {
            sink.line(&json!({"event": "trial", "tool": tool.name(), "trial": trial}));
            sink.progress(|| render::trial_line(trial));
        }
        Progress::Warning(warning) => {
            sink.line(&json!({"event": "warning", "warning": warning}));
            say(&text::warning(warning));
        }
    }
}
