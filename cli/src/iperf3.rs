//! `wirerate iperf3`: iperf3's command line, text, JSON and exit status over the engine's server and client.

mod options;
mod out;
mod reporter;
mod secrets;
mod signals;
mod text;
mod units;
mod values;

#[cfg(test)]
mod golden;

use std::io::Write as _;
use std::process::ExitCode;
use std::{fs, io};

use wirerate_engine::Error;
use wirerate_engine::interop::iperf3::output::Identity;
use wirerate_engine::interop::iperf3::{Failure, run as run_client, serve};
use wirerate_engine::sys::daemon;

use crate::args::iperf3::Iperf3;
use crate::{Result, Status};

use options::Task;
use out::Out;
use reporter::Reporter;

/// Serves, or runs a test. What goes wrong is told here, in iperf3's words, and its status is 1.
pub fn run(args: &Iperf3) -> Result<Status> {
    let identity = Identity::own();
    let told = options::read(args).and_then(|(task, printing)| {
        let out = Out::open(args.logfile.as_deref(), &printing)?;
        Ok((task, printing, out))
    });
    let (task, printing, out) = match told {
        Ok((Task::Version, ..)) => {
            // Nobody who stopped reading misses it.
            _ = io::stdout().write_all(text::versions(&identity).as_bytes());
            return Ok(Status::Finished);
        }
        Ok(told) => told,
        Err(why) => {
            _ = writeln!(
                io::stderr(),
                "iperf3: parameter error - {why}\n\nTry `wirerate iperf3 --help` for more information."
            );
            return Ok(Status::Failed);
        }
    };
    if args.daemon {
        daemon::detach().map_err(|e| Error::failed("unable to become a daemon").because(e))?;
    }
    let _number = args.pidfile.as_deref().map(PidFile::write).transpose()?;
    let (stop, signal) = signals::stop_by_signal()?;
    let mut reporter = Reporter::new(printing, identity, out, signal.clone());
    let ended: std::result::Result<(), Failure> = match &task {
        Task::Serve(config) => serve(config, &stop, &mut |event| reporter.tell(event)),
        Task::Run(config) => run_client(config, &stop, &mut |event| reporter.tell(event)),
        Task::Version => Ok(()),
    };
    if signal.came() {
        // As with 3.18 and later: who ends a test that way wanted to.
        reporter.interrupted();
        return Ok(Status::Finished);
    }
    match ended {
        Ok(()) => Ok(Status::Finished),
        Err(failure) => {
            reporter.untold(&failure);
            Ok(Status::Failed)
        }
    }
}

/// How a command line ends that the definition refuses: with iperf3's status where it is iperf3's, else with this program's.
pub fn exit_status(error: &clap::Error) -> ExitCode {
    // Somebody who stopped reading still gets the exit status.
    _ = error.print();
    let iperf3 = std::env::args_os().nth(1).is_some_and(|command| command == "iperf3");
    let status = match error.exit_code() {
        2 if iperf3 => Status::Failed.into(),
        code => u8::try_from(code).unwrap_or(1),
    };
    ExitCode::from(status)
}

/// A file with the process's number, for as long as the process runs.
struct PidFile<'a>(&'a str);

impl<'a> PidFile<'a> {
    fn write(path: &'a str) -> Result<Self> {
        fs::write(path, format!("{}\n", std::process::id()))
            .map_err(|e| Error::failed(format!("-I {path}: cannot be written")).because(e))?;
        Ok(Self(path))
    }
}

impl Drop for PidFile<'_> {
    fn drop(&mut self) {
        // Somebody else may have removed it.
        _ = fs::remove_file(self.0);
    }
}
