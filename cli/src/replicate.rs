//! `wirerate replicate`.

use std::sync::Arc;
use std::time::Duration;

use serde_json::json;
use wirerate_engine::Error;
use wirerate_engine::agent::Say;
use wirerate_engine::lab::device::{self, Device};
use wirerate_engine::lab::{Host, INTERFACE};
use wirerate_engine::method::bed::Bed;
use wirerate_engine::method::ports::{Options, Place, Ports, Reach};
use wirerate_engine::method::rfc3918::{self, Params, Progress, Test, Tolerance};
use wirerate_engine::report::Outcome;

use crate::args::KernelDrops;
use crate::args::replicate::{Replicate, Tests};
use crate::output::{Sink, say};
use crate::signals::stop_on_signals;
use crate::text::{self, replicate as render};
use crate::{Result, Status};

/// Frame sizes of IPv6, whose headers and the probe take 84 bytes.
const IPV6_FRAMES: [u32; 7] = [84, 128, 256, 512, 1024, 1280, 1518];

/// Runs the tests, and reports.
pub fn run(args: &Replicate) -> Result<Status> {
    let params = params(args);
    params.check()?;
    let mut sink = Sink::of_method(&args.results, rfc3918::report::SCHEMA)?;
    // Before the agents start: they get signals of a terminal, too, and end by themselves.
    let stop = stop_on_signals()?;
    let quiet = args.results.quiet;
    let tell: Say = Arc::new(move |line: &str| {
        if !quiet {
            say(line);
        }
    });
    // Keeps the lab for as long as its ports are used.
    let (_device, mut ports) = open(args, &tell)?;
    let most = params.groups.iter().copied().chain(capacity(&params)).max().unwrap_or(1);
    ports.prepare(most)?;
    sink.line(&json!({"event": "ready", "ports": ports.layout()}));
    let ended = rfc3918::run(&params, &mut ports, &stop, &mut |progress| told(&mut sink, &progress))?;
    sink.result(&ended.report, render::report)?;
    if let Some(failure) = ended.failure {
        return Err(failure);
    }
    Ok(match ended.report.outcome {
        Outcome::Pass => Status::Finished,
        Outcome::Fail => Status::VerdictFail,
        Outcome::Inconclusive => Status::Inconclusive,
    })
}

fn capacity(params: &Params) -> Option<u32> {
    params.tests.contains(&Test::Capacity).then_some(params.most_groups)
}

fn params(args: &Replicate) -> Params {
    let mut tests: Vec<Test> = Vec::new();
    for given in &args.tests {
        match given {
            Tests::All => tests.extend(Test::ALL),
            Tests::One(test) => tests.push(*test),
        }
    }
    let defaults = Params::default();
    let quick = |time: Duration| if args.quick { Duration::from_secs(1) } else { time };
    let frame_sizes = match (&args.frame_size[..], args.quick, args.group.is_ipv6()) {
        ([], true, _) => vec![512],
        ([], false, true) => IPV6_FRAMES.to_vec(),
        ([], false, false) => defaults.frame_sizes.clone(),
        (given, ..) => given.to_vec(),
    };
    Params {
        tests,
        frame_sizes,
        groups: args.groups.clone(),
        min_rate: args.min_rate,
        max_rate: args.max_rate,
        initial_rate: args.initial_rate,
        rate: args.rate,
        resolution_percent: args.resolution.unwrap_or(if args.quick { 10.0 } else { 1.0 }),
        backoff: args.backoff / 100.0,
        confirmations: args.confirm,
        trial: args.search_trial.unwrap_or_else(|| {
            let short = quick(defaults.trial);
            args.trial.map_or(short, |whole| whole.min(short))
        }),
        final_trial: args.trial.unwrap_or_else(|| quick(defaults.final_trial)),
        tolerance: Tolerance {
            loss_percent: args.loss_tolerance,
            leaked: args.leakage_tolerance,
            latency: args.latency_tolerance,
            // A pause of a busy host is a greater share of a short trial.
            offered_percent: args.offered_tolerance.unwrap_or(if args.quick { 10.0 } else { 2.0 }),
            join: args.join_tolerance,
            leave: args.leave_tolerance,
        },
        unicast_percent: args.unicast_share,
        step: args.step,
        first_groups: args.capacity_from.unwrap_or(args.step).min(args.capacity_max),
        most_groups: args.capacity_max,
        patience: args.patience,
        ipv6: args.group.is_ipv6(),
    }
}

fn options(args: &Replicate) -> Options {
    let mut options = Options::new(args.group);
    options.ttl = args.ttl;
    options.recv_backend = args.backend.name();
    options.send_backend = args.send_backend.unwrap_or(args.backend).name();
    options.segments = args.segments.to_string();
    options.kernel_drops = args.kernel_drops == KernelDrops::On;
    options.join_wait = args.join_wait;
    options.answer = args.agent_timeout;
    let short = |time: Duration| if args.quick { Duration::from_millis(300) } else { time };
    options.residual = args.drain.unwrap_or_else(|| short(options.residual));
    options.restabilise = args.rest.unwrap_or_else(|| short(options.restabilise));
    options
}

fn open(args: &Replicate, say: &Say) -> Result<(Option<Device>, Ports)> {
    if !args.group.is_group() {
        return Err(Error::usage(format!("--group {}: not a multicast group", args.group))
            .fix("name the first of the groups, as 239.18.0.1:5001 or [ff15::18:1]:5001"));
    }
    let Some(kind) = args.device else {
        let reach = |place: &Place| {
            let reach = place.command.clone().map_or(Reach::Here, Reach::Typed);
            (place.interface.clone(), reach)
        };
        let all = |places: &[Place]| places.iter().map(reach).collect();
        let stranger = args.stranger.as_ref().map(reach);
        return Ok((
            None,
            Ports::open(
                all(&args.senders),
                all(&args.member_ports),
                stranger,
                all(&args.burden),
                options(args),
                say,
            )?,
        ));
    };
    if let Some(why) = kind.cannot(args.group.destination.ip(), args.group.source) {
        return Err(
            Error::usage(format!("--device {kind}: {why}")).fix("name another --group, as 239.18.0.1:5001")
        );
    }
    // Who burdens the device is connected as senders are.
    let options_of_device = device::Options { senders: 1 + args.burden_ports, ..device::Options::default() };
    let device = Device::build(kind, usize::from(args.members), &options_of_device)?;
    let reach = |host: &Host| {
        let mut command = host.command("/proc/self/exe");
        command.arg("agent");
        (INTERFACE.to_owned(), Reach::Made(command))
    };
    let mut ports = Ports::open(
        device.senders[..1].iter().map(reach).collect(),
        device.members.iter().map(reach).collect(),
        Some(reach(&device.stranger)),
        device.senders[1..].iter().map(reach).collect(),
        options(args),
        say,
    )?;
    ports.name_device(format!("{kind}: {}", kind.about()));
    Ok((Some(device), ports))
}

fn told(sink: &mut Sink, progress: &Progress<'_>) {
    match progress {
        Progress::Begins(what, left) => {
            sink.progress(|| format!("{what}; {} left", render::left(*left)));
        }
        Progress::Trial(test, trial) => {
            sink.line(&json!({"event": "trial", "test": test, "trial": trial}));
            sink.progress(|| render::trial_line(trial));
        }
        Progress::Measured(test, measurement) => {
            sink.line(&json!({"event": "measurement", "test": test, "measurement": measurement}));
            sink.progress(|| render::measured_line(*test, measurement));
        }
        Progress::Warning(warning) => {
            sink.line(&json!({"event": "warning", "warning": warning}));
            say(&text::warning(warning));
        }
    }
}
