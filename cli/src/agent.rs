//! `wirerate agent`: what a near end asks for, read as if a user had typed it.

use clap::Parser;
use wirerate_engine::Error;
use wirerate_engine::agent::protocol::{Event, Failure};
use wirerate_engine::agent::serve::{self, Job};
use wirerate_engine::control::Stop;
use wirerate_engine::host::health::Snapshot;
use wirerate_engine::interop::peer;
use wirerate_engine::method::compare;
use wirerate_engine::report::Warning;
use wirerate_engine::stamp::{reflector, sender};

use crate::args::linktest::Linktest;
use crate::args::stamp::{Reflect, Results, Stamp};
use crate::args::{Cli, Command, Output, Recv, Send};
use crate::output::{plain, told, told_warning};
use crate::signals::stop_on_signals;
use crate::{Result, Status, linktest, recv, reflect, send, stamp};

/// How events are told.
type Tell<'a> = &'a mut dyn FnMut(Event);

/// Serves until standard input ends.
pub fn run() -> Result<Status> {
    let stop = stop_on_signals()?;
    serve::serve(std::io::stdin(), std::io::stdout(), &parse, &stop)?;
    Ok(Status::Finished)
}

/// Makes a job of what a user would type behind `wirerate`, and of `health IFACE`, which tells what an interface is like.
fn parse(words: &[String]) -> std::result::Result<Job, Failure> {
    if let [command, rest @ ..] = words
        && command == "health"
    {
        let [interface] = rest else {
            let mut failure = Failure::usage("health: one interface is asked for");
            failure.fix = Some("health IFACE, as health eth1".to_owned());
            return Err(failure);
        };
        let interface = interface.clone();
        return Ok(job(move |_, tell| {
            tell(Event::Report { report: plain(&Snapshot::take(&interface)?) });
            Ok(Status::Finished)
        }));
    }
    if let Some(job) = peer::job(words).or_else(|| compare::job(words)) {
        return job;
    }
    let cli = Cli::try_parse_from(std::iter::once("wirerate").chain(words.iter().map(String::as_str)))
        .map_err(|e| Failure::usage(e.to_string()))?;
    match cli.command {
        Command::Send(args) => {
            refuse(&output(&args.output))?;
            Ok(job(move |stop, tell| run_send(&args, stop, tell)))
        }
        Command::Recv(args) => {
            refuse(&output(&args.output))?;
            refuse(&[
                ("--ready-fd", args.ready_fd.is_some()),
                ("--hexdump", args.hexdump),
                ("--as", args.as_iperf2.is_some()),
                ("--pcap", args.pcap.is_some()),
                ("--packets", args.packets.is_some()),
                ("--hlog", args.hlog.is_some()),
            ])?;
            Ok(job(move |stop, tell| run_recv(&args, stop, tell)))
        }
        Command::Stamp(args) => {
            refuse(&results(&args.output))?;
            Ok(job(move |stop, tell| run_stamp(&args, stop, tell)))
        }
        Command::Reflect(args) => {
            refuse(&results(&args.output))?;
            refuse(&[("--ready-fd", args.ready_fd.is_some())])?;
            Ok(job(move |stop, tell| run_reflect(&args, stop, tell)))
        }
        Command::Linktest(args) => {
            refuse(&results(&args.output))?;
            refuse(&[("--far", args.far.is_some()), ("--limits", args.limits.is_some())])?;
            Ok(job(move |stop, tell| run_linktest(&args, stop, tell)))
        }
        Command::Demo(_)
        | Command::Drops(_)
        | Command::Doctor(_)
        | Command::Qualify(_)
        | Command::Replicate(_)
        | Command::Compare(_)
        | Command::Replicator(_)
        | Command::Groups(_)
        | Command::Report(_)
        | Command::Iperf3(_)
        | Command::Agent(_) => {
            let name = words.first().map_or("", String::as_str);
            let mut failure = Failure::usage(format!("{name}: an agent does not run it"));
            failure.fix = Some("ask for send, recv, stamp, reflect, linktest or health".to_owned());
            Err(failure)
        }
    }
}

fn job(work: impl FnOnce(&Stop, Tell<'_>) -> Result<Status> + std::marker::Send + 'static) -> Job {
    Box::new(move |stop, tell| match work(stop, tell) {
        Ok(status) => status.into(),
        Err(error) => {
            tell(Event::Error(Failure::from(&error)));
            Status::from(error.kind).into()
        }
    })
}

fn output(args: &Output) -> [(&'static str, bool); 4] {
    [
        ("--output", args.output.is_some()),
        ("--json", args.json),
        ("--json-lines", args.json_lines),
        ("--web", args.web.web.is_some()),
    ]
}

fn results(args: &Results) -> [(&'static str, bool); 4] {
    [
        ("--output", args.output.is_some()),
        ("--json", args.json),
        ("--json-lines", args.json_lines),
        ("--web", args.web.web.is_some()),
    ]
}

/// Refuses options by which a command would write or read files, or print: an agent only tells events.
fn refuse(options: &[(&str, bool)]) -> std::result::Result<(), Failure> {
    match options.iter().find(|(_, given)| *given) {
        None => Ok(()),
        Some((name, _)) => {
            let mut failure = Failure::usage(format!("{name}: an agent tells all that it finds by events"));
            failure.fix = Some(format!("leave {name} out, or run the command itself on that host"));
            Err(failure)
        }
    }
}

fn run_send(args: &Send, stop: &Stop, tell: Tell<'_>) -> Result<Status> {
    let ended = send::plan(args)?(stop, &mut |event| told(&event).into_iter().for_each(&mut *tell))?;
    tell(Event::Report { report: plain(&ended.report) });
    ended.status()
}

fn run_recv(args: &Recv, stop: &Stop, tell: Tell<'_>) -> Result<Status> {
    let ended = recv::plan(args)?(stop, &mut |event| told(&event).into_iter().for_each(&mut *tell))?;
    tell(Event::Report { report: plain(&ended.report) });
    ended.status()
}

fn run_stamp(args: &Stamp, stop: &Stop, tell: Tell<'_>) -> Result<Status> {
    let config = stamp::configuration(args)?;
    let mut ended = sender::run(&config, stop, &mut |event| tell(stamp::told(&event)))?;
    stamp::judge(args, &mut ended);
    tell(Event::Report { report: plain(&ended.report) });
    stamp::status(ended)
}

fn run_reflect(args: &Reflect, stop: &Stop, tell: Tell<'_>) -> Result<Status> {
    let config = reflect::configuration(args);
    let ended = reflector::run(&config, stop, &mut |event| tell(reflect::told(event)))?;
    ended.report.warnings.iter().for_each(|warning: &Warning| tell(told_warning(warning)));
    tell(Event::Report { report: plain(&ended.report) });
    ended.failure.map_or(Ok(Status::Finished), |failure: Error| Err(failure))
}

fn run_linktest(args: &Linktest, stop: &Stop, tell: Tell<'_>) -> Result<Status> {
    let config = linktest::configuration(args)?;
    let ended = wirerate_engine::linktest::run(&config, stop, &mut |event| {
        linktest::told(&event).into_iter().for_each(&mut *tell);
    })?;
    tell(Event::Report { report: plain(&ended.report) });
    linktest::status(ended)
}
