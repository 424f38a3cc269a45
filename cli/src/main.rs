//! wirerate's command line: arguments to engine configuration, report to text.
#![forbid(unsafe_code)]

mod args;
mod demo;
mod doctor;
mod drops;
mod iperf2;
mod output;
mod recv;
mod reflect;
mod rtp;
mod send;
mod signals;
mod stamp;
mod text;

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

impl From<Status> for ExitCode {
    fn from(status: Status) -> Self {
        Self::from(match status {
            Status::Finished => 0,
            Status::Failed => 1,
            Status::Usage => 2,
            Status::VerdictFail => 3,
            Status::Environment => 4,
            Status::Inconclusive => 5,
        })
    }
}

fn main() -> ExitCode {
    let cli = Cli::parse();
    let ended = match &cli.command {
        Command::Demo(args) => demo::run(args),
        Command::Send(args) => send::run(args),
        Command::Recv(args) => recv::run(args),
        Command::Drops(args) => drops::run(args),
        Command::Doctor(args) => doctor::run(args),
        Command::Stamp(args) => stamp::run(args),
        Command::Reflect(args) => reflect::run(args),
    };
    match ended {
        Ok(status) => status.into(),
        Err(error) => {
            output::complain(&error);
            let status = match error.kind {
                Kind::Failed => Status::Failed,
                Kind::Usage => Status::Usage,
                Kind::Environment => Status::Environment,
            };
            status.into()
        }
    }
}

/// The engine's result; what went wrong becomes the exit status in [`main`].
type Result<T> = std::result::Result<T, Error>;
