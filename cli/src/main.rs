//! wirerate's command line: arguments to engine configuration, report to text.
#![forbid(unsafe_code)]

mod agent;
mod args;
mod compare;
mod demo;
mod doctor;
mod drops;
mod groups;
mod iperf2;
mod iperf3;
mod linktest;
mod output;
mod qualify;
mod recv;
mod reflect;
mod replicate;
mod replicator;
mod report;
mod rtp;
mod send;
mod signals;
mod stamp;
mod task;
mod text;
mod web;

use std::process::ExitCode;

use clap::Parser;
use wirerate_engine::report::{Outcome, Verdict};
use wirerate_engine::{Error, Kind};

use args::{Cli, Command};

/// How a command ended, as an exit status.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Status {
    Finished,
    Failed,
    Usage,
    VerdictFail,
    Environment,
    Inconclusive,
    /// A link test found a difference.
    Difference,
}

impl Status {
    fn of(verdict: Option<&Verdict>) -> Self {
        match verdict.map(|v| v.outcome) {
            None | Some(Outcome::Pass) => Self::Finished,
            Some(Outcome::Fail) => Self::VerdictFail,
            Some(Outcome::Inconclusive) => Self::Inconclusive,
        }
    }
}

impl From<Status> for u8 {
    fn from(status: Status) -> Self {
        match status {
            Status::Finished => 0,
            Status::Failed => 1,
            Status::Usage => 2,
            Status::VerdictFail => 3,
            Status::Environment => 4,
            Status::Inconclusive => 5,
            Status::Difference => wirerate_engine::linktest::report::DIFFERENCE,
        }
    }
}

impl From<Status> for ExitCode {
    fn from(status: Status) -> Self {
        Self::from(u8::from(status))
    }
}

impl From<Kind> for Status {
    fn from(kind: Kind) -> Self {
        match kind {
            Kind::Failed => Self::Failed,
            Kind::Usage => Self::Usage,
            Kind::Environment => Self::Environment,
        }
    }
}

fn main() -> ExitCode {
    let cli = match Cli::try_parse() {
        Ok(cli) => cli,
        Err(error) => return iperf3::exit_status(&error),
    };
    let ended = match &cli.command {
        Command::Demo(args) => demo::run(args),
        Command::Send(args) => send::run(args),
        Command::Recv(args) => recv::run(args),
        Command::Drops(args) => drops::run(args),
        Command::Doctor(args) => doctor::run(args),
        Command::Stamp(args) => stamp::run(args),
        Command::Reflect(args) => reflect::run(args),
        Command::Qualify(args) => qualify::run(args),
        Command::Replicate(args) => replicate::run(args),
        Command::Compare(args) => compare::run(args),
        Command::Replicator(args) => replicator::run(args),
        Command::Groups(args) => groups::run(args),
        Command::Report(args) => report::run(args),
        Command::Iperf3(args) => iperf3::run(args),
        Command::Linktest(args) => linktest::run(args),
        Command::Agent(_) => agent::run(),
    };
    match ended {
        Ok(status) => status.into(),
        Err(error) => {
            output::complain(&error);
            Status::from(error.kind).into()
        }
    }
}

/// The engine's result; what went wrong becomes the exit status in [`main`].
type Result<T> = std::result::Result<T, Error>;
