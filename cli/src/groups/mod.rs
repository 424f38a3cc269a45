//! `wirerate groups`.

mod text;

use std::net::IpAddr;

use serde_json::json;
use wirerate_engine::Error;
use wirerate_engine::host::interface;
use wirerate_engine::multicast::listen::{self, Config, Event};
use wirerate_engine::multicast::memberships::{SourceFilter, Wanted};
use wirerate_engine::multicast::message::Version;
use wirerate_engine::multicast::report::{Line, Report};
use wirerate_engine::multicast::state::Timers;
use wirerate_engine::multicast::station::{self, By, Join, Query};
use wirerate_engine::target::Target;

use crate::args::groups::{Groups, Speak};
use crate::output::{Form, ReadyFd, Sink, say};
use crate::signals::stop_on_signals;
use crate::text::warning;
use crate::{Result, Status};

/// Shows memberships: this host's, those on the wire, or those of a capture.
pub fn run(args: &Groups) -> Result<Status> {
    let mut sink = Sink::new(args.output.as_deref(), Form::of(args.json, args.json_lines), args.quiet)?;
    let (report, failure) = report(args, &mut sink)?;
    sink.result(&report, text::report)?;
    failure.map_or(Ok(Status::Finished), Err)
}

/// The report, and why it ended before it should.
fn report(args: &Groups, sink: &mut Sink) -> Result<(Report, Option<Error>)> {
    if let Some(file) = &args.pcap {
        let report = listen::read(file, &mut |event| tell(sink, None, text::lines, &event))?;
        return Ok((report, None));
    }
    if args.join.is_some() || args.querier {
        return station(args, sink);
    }
    if args.watch {
        let mut ready = ReadyFd::open(args.ready_fd)?;
        let interface = args.iface.as_deref().map(interface::lookup).transpose()?;
        let config = Config { interface, duration: args.duration };
        let stop = stop_on_signals()?;
        let report =
            listen::watch(&config, &stop, &mut |event| tell(sink, Some(&mut ready), text::lines, &event))?;
        return Ok((report, None));
    }
    if args.duration.is_some() || args.ready_fd.is_some() {
        return Err(Error::usage("groups: --duration and --ready-fd are for something that lasts")
            .fix("add --watch, --join or --querier, or leave them out to see this host's own memberships"));
    }
    Ok((listen::host(args.iface.as_deref())?, None))
}

fn station(args: &Groups, sink: &mut Sink) -> Result<(Report, Option<Error>)> {
    let name = args.iface.as_deref().expect("clap asks for it");
    let config = station::Config {
        interface: interface::require_up(name)?.interface(),
        duration: args.duration,
        join: args.join.as_ref().map(|target| join(args, target)).transpose()?,
        query: if args.querier { Some(query(args, name)?) } else { None },
    };
    let mut ready = ReadyFd::open(args.ready_fd)?;
    let stop = stop_on_signals()?;
    let outcome =
        station::run(&config, &stop, &mut |event| tell(sink, Some(&mut ready), text::brief, &event))?;
    Ok((outcome.report, outcome.failure))
}

fn join(args: &Groups, target: &Target) -> Result<Join> {
    let mut wanted = Wanted::range(target, args.groups)?;
    let filter = match (&args.include[..], &args.exclude[..]) {
        ([], []) => None,
        (include, []) => Some(SourceFilter::Include(include.to_vec())),
        (_, exclude) => Some(SourceFilter::Exclude(exclude.to_vec())),
    };
    if let Some(filter) = filter {
        if target.source.is_some() {
            return Err(
                Error::usage("groups: SOURCE@ and a list of sources").fix("use --include for all of them")
            );
        }
        wanted.iter_mut().for_each(|wanted| wanted.filter = filter.clone());
    }
    let version = args.speak.map(version);
    let ipv6 = target.is_ipv6();
    if let Some(version) = version.filter(|version| version.is_ipv6() != ipv6) {
        return Err(Error::usage(format!("--speak {version}: it has no groups of the target's IP version"))
            .fix("name a version of the other protocol"));
    }
    if version.is_some_and(|version| !version.names_sources()) && station::names_sources(&wanted) {
        return Err(Error::usage("--speak: this version cannot name sources")
            .fix("use igmpv3 or mldv2, or join the whole group"));
    }
    let by = if args.emit { By::Emitted } else { By::Kernel };
    Ok(Join { wanted, rate: args.rate, by, version })
}

fn query(args: &Groups, name: &str) -> Result<Query> {
    let interval_ms = args.query_interval.as_millis() as u64;
    let response_ms = args.response_time.map_or(10_000.min(interval_ms / 2), |time| time.as_millis() as u64);
    if response_ms >= interval_ms {
        return Err(Error::usage(format!("--response-time {response_ms} ms is not less than the interval"))
            .fix("make --query-interval longer"));
    }
    let versions = match args.speak.map(version) {
        Some(version) => vec![version],
        None => {
            let link = interface::link(name)?;
            let link_local = interface::addresses(link.index)?.iter().any(|address| match address.ip {
                IpAddr::V6(v6) => v6.is_unicast_link_local() && !address.tentative,
                IpAddr::V4(_) => false,
            });
            if !link_local {
                say(&format!("{name} has no link-local IPv6 address (yet): no MLD queries"));
            }
            [Version::Igmp3, Version::Mld2].into_iter().filter(|v| link_local || !v.is_ipv6()).collect()
        }
    };
    let timers = Timers {
        robustness: args.robustness,
        query_interval_ms: interval_ms,
        response_ms,
        // A leave is to be done with before the next general query.
        last_member_ms: 1_000.min(response_ms),
    };
    Ok(Query { versions, timers })
}

fn version(speak: Speak) -> Version {
    match speak {
        Speak::Igmpv1 => Version::Igmp1,
        Speak::Igmpv2 => Version::Igmp2,
        Speak::Igmpv3 => Version::Igmp3,
        Speak::Mldv1 => Version::Mld1,
        Speak::Mldv2 => Version::Mld2,
    }
}

fn tell(sink: &mut Sink, ready: Option<&mut ReadyFd>, shown: fn(&Line) -> String, event: &Event<'_>) {
    match event {
        Event::Ready => {
            sink.line(&json!({"event": "ready"}));
            if let Some(ready) = ready {
                ready.tell();
            }
        }
        Event::Message(line) => {
            sink.line(&json!({"event": "message", "message": line}));
            sink.passage(|| shown(line));
        }
        Event::Warning(what) => {
            sink.line(&json!({"event": "warning", "warning": what}));
            say(&warning(what));
        }
    }
}
