//! Real tools of others, driven: iperf3 and iperf 2 as they are installed, as children that end with us.
//!
//! A tool is found and asked what it can ([`tool`]), started as server or client ([`iperf3`], [`iperf2`]) at a [`Place`], and what it says is read as plain
//! data, by its own arithmetic: nothing here corrects a figure.
//!
//! ```no_run
//! use wirerate_engine::control::Stop;
//! use wirerate_engine::interop::peer::{Place, iperf3};
//!
//! # fn main() -> wirerate_engine::error::Result<()> {
//! let stop = Stop::default();
//! let (mut here, mut there) = (Place::Here, Place::Prefix(vec!["ip".into(), "netns".into(), "exec".into(), "b".into()]));
//! let server = iperf3::Server::new(5201).start(&mut there)?;
//! let client = iperf3::Client { udp: true, bits_per_second: Some(10e6), ..iperf3::Client::new("192.0.2.2".parse().unwrap()) };
//! let (result, cpu) = client.run(&mut here, &stop)?;
//! let theirs = server.finish(&mut there, &stop)?;
//! # Ok(()) }
//! ```
#![forbid(unsafe_code)]

mod far;
pub mod iperf2;
pub mod iperf3;
mod run;
pub mod tool;

use crate::agent::{Agent, Task};
use crate::control::Stop;
use crate::error::Result;

pub use far::job;
pub use run::{Cpu, Ended, Listens, Spec, Transport};
pub use tool::{Kind, Tool};

/// Where a tool is run.
#[derive(Debug)]
pub enum Place<'a> {
    /// Here, in the network namespace of the calling thread.
    Here,
    /// Here, behind a command that runs what follows it: `ip netns exec b`. Behind one that leads to another host (`ssh host`) it is not known when a server
    /// listens, nor what CPU time it takes.
    Prefix(Vec<String>),
    /// Where an agent is.
    Agent(&'a mut Agent),
}

/// A tool that runs at a place.
#[derive(Debug)]
pub enum Running {
    /// A child of this process.
    Child(Box<run::Child>),
    /// A task of an agent.
    Task(Task),
}

impl Place<'_> {
    /// Starts a tool; a server listens when this returns.
    ///
    /// # Errors
    /// Environment when it cannot be started; failed, with what it said, when it ends before it listens.
    pub fn start(&mut self, spec: &Spec) -> Result<Running> {
        match self {
            Self::Here => Ok(Running::Child(Box::new(run::Child::start(spec, &[])?))),
            Self::Prefix(words) => Ok(Running::Child(Box::new(run::Child::start(spec, words)?))),
            Self::Agent(agent) => far::start(agent, spec).map(Running::Task),
        }
    }

    /// Waits until what runs has ended by itself, or its time is over, or `stop` is requested: then it is asked to end, and killed if that does not help.
    ///
    /// # Errors
    /// When the agent is gone.
    pub fn finish(&mut self, running: Running, stop: &Stop) -> Result<Ended> {
        match (self, running) {
            (_, Running::Child(child)) => Ok(child.finish(stop)),
            (Self::Agent(agent), Running::Task(task)) => far::finish(agent, task, stop),
            (_, Running::Task(_)) => unreachable!("a task is only started at an agent"),
        }
    }

    /// Asks what runs to end, as Ctrl-C would, and waits for it.
    ///
    /// # Errors
    /// When the agent is gone.
    pub fn end(&mut self, running: Running) -> Result<Ended> {
        let stop = Stop::default();
        stop.request();
        self.finish(running, &stop)
    }

    /// Looks for a tool there: at `program`, or in PATH and where administrators' tools are.
    ///
    /// # Errors
    /// Environment when it is not there or does not say what it is.
    pub fn find(&mut self, kind: Kind, program: Option<&str>) -> Result<Tool> {
        match self {
            Self::Here => Tool::find(kind, program, &[]),
            Self::Prefix(words) => Tool::find(kind, program, words),
            Self::Agent(agent) => far::find(agent, kind, program),
        }
    }
}
