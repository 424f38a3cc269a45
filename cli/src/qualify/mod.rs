//! `wirerate qualify`.

mod profile;

use std::sync::Arc;
use std::time::Duration;

use serde_json::json;
use wirerate_engine::Error;
use wirerate_engine::agent::Say;
use wirerate_engine::host::health::Limits;
use wirerate_engine::method::ports::{Place, Reach};
use wirerate_engine::method::qualify::isolate::Isolated;
use wirerate_engine::method::qualify::link::Link;
use wirerate_engine::method::qualify::pair::{self, Options, Pair};
use wirerate_engine::method::qualify::params::RFC_SIZES;
use wirerate_engine::method::qualify::{
    self as method, Ended, Expectations, Params, Progress, Service, Size, Test, Tolerance, round_trip,
};
use wirerate_engine::packet::stamp::PORT;
use wirerate_engine::profile::rate::Rate;
use wirerate_engine::report::Outcome;

use crate::args::KernelDrops;
use crate::args::qualify::{Qualify, Switch, Tests};
use crate::args::stamp::resolve;
use crate::output::{Sink, say};
use crate::signals::stop_on_signals;
use crate::text::{self, qualify as render};
use crate::{Result, Status};

/// Smallest frame of IPv6 with its headers and the probe.
const IPV6_LEAST: u32 = 84;

/// Runs the tests, and reports.
pub fn run(typed: &Qualify) -> Result<Status> {
    let read = typed.profile.as_deref().map(profile::read).transpose()?;
    let (args, limits) = match &read {
        Some(read) => (&read.arguments, read.limits.clone()),
        None => (typed, Limits::default()),
    };
    let mut params = params(args, limits)?;
    // What is wrong whatever the speed of the link is told before agents start.
    if !has_percentages(&params) {
        params.check()?;
    }
    let mut sink = Sink::of_method(&args.results, method::report::SCHEMA)?;
    // Before the agents start: they get signals of a terminal, too, and end by themselves.
    let stop = stop_on_signals()?;
    let ended = if let Some(reflector) = &args.reflector {
        let target = resolve(reflector, PORT).map_err(|why| {
            Error::usage(format!("--reflector {reflector}: {why}"))
                .fix("name an address, as 192.0.2.1 or [2001:db8::1]:862")
        })?;
        sink.line(&json!({"event": "ready"}));
        let here = "this host".to_owned();
        round_trip::run(&params, target, here, &stop, &mut |progress| told(&mut sink, &progress))?
    } else {
        let (mut pair, _isolated) = open(args)?;
        params.speed_bps = pair.layout().speed_bps;
        params.check()?;
        pair.takes(&params.sizes)?;
        sink.line(&json!({"event": "ready", "ports": pair.layout()}));
        method::run(&params, &mut pair, &stop, &mut |progress| told(&mut sink, &progress))?
    };
    give(&mut sink, ended)
}

/// Gives the result, and how the command ends.
fn give(sink: &mut Sink, ended: Ended) -> Result<Status> {
    sink.result(&ended.report, render::report)?;
    if let Some(failure) = ended.failure {
        return Err(failure);
    }
    Ok(match ended.report.verdict.outcome {
        Outcome::Pass => Status::Finished,
        Outcome::Fail => Status::VerdictFail,
        Outcome::Inconclusive => Status::Inconclusive,
    })
}

fn has_percentages(params: &Params) -> bool {
    let rates = [Some(params.min_rate), Some(params.max_rate), params.initial_rate, params.rate];
    let expected = params.expect.throughput;
    rates.into_iter().chain([expected]).flatten().any(|rate| matches!(rate, Rate::Percent(_)))
}

/// The tests, in no order.
fn tests(args: &Qualify) -> Vec<Test> {
    let mut tests = Vec::new();
    for given in &args.tests {
        match given {
            Tests::All => tests.extend(Test::ALL.into_iter().filter(|test| *test != Test::RoundTrip)),
            Tests::Rfc2544 => tests.extend(Test::DEFAULT),
            Tests::One(test) => tests.push(*test),
        }
    }
    match (tests.is_empty(), args.reflector.is_some()) {
        (true, true) => vec![Test::RoundTrip],
        (true, false) => Test::DEFAULT.to_vec(),
        (false, _) => tests,
    }
}

fn sizes(args: &Qualify) -> Vec<Size> {
    let mut sizes: Vec<Size> = args.frame_size.iter().map(|size| size.0.clone()).collect();
    if sizes.is_empty() && args.imix.is_empty() {
        sizes = match (args.quick, args.ipv6) {
            (true, _) => vec![Size::one(512)],
            (false, ipv6) => {
                RFC_SIZES.map(|size| Size::one(if ipv6 { size.max(IPV6_LEAST) } else { size })).to_vec()
            }
        };
    }
    sizes.extend(args.imix.iter().cloned());
    sizes
}

fn params(args: &Qualify, health: Limits) -> Result<Params> {
    let tests = tests(args);
    if tests.contains(&Test::RoundTrip) && args.reflector.is_none() {
        return Err(Error::usage("round-trip takes a reflector").fix("name it: --reflector 192.0.2.1"));
    }
    let defaults = Params::default();
    let quick = |time: Duration| if args.quick { Duration::from_secs(1) } else { time };
    let service = args.cir.map(|cir_bps| Service {
        cir_bps,
        eir_bps: args.eir.unwrap_or(0.0),
        steps: args.service_steps,
        step: args.step_time.unwrap_or_else(|| quick(Duration::from_secs(60))),
        performance: args.performance_time.unwrap_or_else(|| quick(Duration::from_secs(900))),
        policing_margin_percent: args.policing_margin,
        policing: args.policing == Switch::On,
    });
    Ok(Params {
        tests,
        sizes: sizes(args),
        directions: args.direction.list(),
        min_rate: args.min_rate,
        max_rate: args.max_rate,
        initial_rate: args.initial_rate,
        rate: args.rate,
        resolution_percent: args.resolution.unwrap_or(if args.quick { 5.0 } else { 0.5 }),
        backoff: args.backoff / 100.0,
        confirmations: args.confirm,
        retries: args.retries,
        trial: args.search_trial.unwrap_or_else(|| {
            let short = quick(defaults.trial);
            args.trial.map_or(short, |whole| whole.min(short))
        }),
        final_trial: args.trial.unwrap_or_else(|| quick(defaults.final_trial)),
        tolerance: Tolerance {
            loss_percent: args.loss_tolerance,
            duplicates: args.duplicate_tolerance,
            reordered: args.reorder_tolerance.0,
            latency: args.latency_tolerance,
            jitter: args.jitter_tolerance,
            // A pause of a busy host is a greater share of a short trial.
            offered_percent: args.offered_tolerance.unwrap_or(if args.quick { 5.0 } else { 2.0 }),
        },
        loss_step_percent: args.loss_step,
        bursts: args.bursts.unwrap_or(if args.quick { 3 } else { defaults.bursts }),
        longest_burst: args.longest_burst.unwrap_or_else(|| quick(defaults.longest_burst)),
        burst_resolution: args.burst_resolution,
        reset_link: args.reset_link.clone(),
        reset_down: args.reset_down,
        reset_wait: args.reset_wait,
        service,
        soak: args
            .duration
            .unwrap_or_else(|| if args.quick { Duration::from_secs(10) } else { defaults.soak }),
        soak_interval: args.interval.min(Duration::from_secs(1)),
        health,
        expect: Expectations {
            throughput: args.expect_throughput,
            latency: args.expect_latency,
            loss_percent: args.expect_loss_below,
            burst_frames: args.expect_burst,
            reset: args.expect_reset,
            round_trip: args.expect_round_trip,
        },
        ipv6: args.ipv6,
        speed_bps: None,
    })
}

fn options(args: &Qualify) -> Options {
    let defaults = Options::default();
    let short = |time: Duration| if args.quick { Duration::from_millis(300) } else { time };
    Options {
        port: args.port,
        ipv6: args.ipv6,
        ttl: args.ttl,
        recv_backend: args.backend.name(),
        send_backend: args.send_backend.unwrap_or(args.backend).name(),
        segments: args.segments.to_string(),
        kernel_drops: args.kernel_drops == KernelDrops::On,
        link_wait: args.link_wait,
        residual: args.drain.unwrap_or_else(|| short(defaults.residual)),
        restabilise: args.rest.unwrap_or_else(|| short(defaults.restabilise)),
        answer: args.agent_timeout,
    }
}

/// Both ports, and what has to be put back when they are no longer needed.
fn open(args: &Qualify) -> Result<(Pair, Option<Isolated>)> {
    let quiet = args.results.quiet;
    let say: Say = Arc::new(move |line: &str| {
        if !quiet {
            say(line);
        }
    });
    let named = |place: &Option<Place>, name: &str| {
        place
            .clone()
            .ok_or_else(|| Error::usage(format!("{name}: no port")).fix(format!("name it: {name} eth1")))
    };
    let (tx, rx) = (named(&args.tx, "--tx")?, named(&args.rx, "--rx")?);
    let isolated = match (args.isolate, &rx.command) {
        (false, _) => None,
        (true, Some(_)) => {
            return Err(Error::usage("--isolate: --rx is not an interface of this host and namespace")
                .fix("leave --isolate out"));
        }
        (true, None) => Some(Isolated::begin(&rx.interface)?),
    };
    let rx = match &isolated {
        Some(isolated) => (rx.interface, Reach::Made(isolated.agent())),
        None => pair::reach(&rx, args.far.as_deref()),
    };
    let pair = Pair::open(pair::reach(&tx, None), rx, options(args), &say)?;
    Ok((pair, isolated))
}

fn told(sink: &mut Sink, progress: &Progress<'_>) {
    match progress {
        Progress::Begins(what, left) => {
            sink.line(&json!({"event": "begins", "what": what, "left_ns": left.as_nanos() as u64}));
            sink.progress(|| format!("{what}; {} left", text::replicate::left(*left)));
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
            crate::output::say(&text::warning(warning));
        }
    }
}
