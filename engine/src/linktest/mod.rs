//! The link test: counters before, traffic, counters after; any counter of errors that moved is a fault.
//!
//! ```text
//!  choose ─▶ calibrate ─▶ Snapshot before ─▶ traffic: tcp (real iperf3), udp, multicast, ptp ─▶ wait ─▶ Snapshot after ─▶ compare ─▶ report
//!                              └ the same at the far end, where there is an agent: its own link test without traffic ┘
//! ```
//!
//! Packets of UDP and multicast are those of `send` and `recv`, run by agents: one here, one at the far end.
#![forbid(unsafe_code)]

mod far;
mod ptp;
pub mod report;
mod run;
mod select;
mod tcp;
mod transfer;

use std::net::SocketAddr;
use std::time::Duration;

pub use report::Report;
pub use run::run;

use crate::error::Error;
use crate::host::health::Limits;
use crate::report::Warning;

/// What to test, and by what.
#[derive(Debug, Clone)]
pub struct Config {
    /// Interface under test; `None`: the first that may have a cable.
    pub interface: Option<String>,
    /// How long each kind of traffic lasts; without any, how long is waited between the counters.
    pub duration: Duration,
    /// TCP by a real iperf3.
    pub tcp: Option<Tcp>,
    /// UDP to this address.
    pub udp: Option<SocketAddr>,
    /// UDP to this group.
    pub multicast: Option<SocketAddr>,
    /// PTP's group and ports: what arrives, and what is sent to it.
    pub ptp: bool,
    /// Traffic goes from the far end to here instead.
    pub reverse: bool,
    /// Offered load of UDP and multicast, as `send --rate` has it; `None`: nine tenths of what the calibration found, or else of the link's speed.
    pub rate: Option<String>,
    /// UDP payload in bytes, as `send --length` has it.
    pub length: Option<u32>,
    /// Datapath at both ends, as `--backend` of `send` and `recv` has it; `None`: sockets, which leave the interface as it is.
    pub backend: Option<String>,
    /// The command that starts an agent at the far end.
    pub far: Option<String>,
    /// The interface at the far end; `None`: the one in this link's network.
    pub far_interface: Option<String>,
    /// How long each direction is calibrated before the counters are read; `None`: not at all.
    pub calibrate: Option<Duration>,
    /// How long drivers get to bring their counters up to date; `None`: two seconds, or a fifth of one where there is no device.
    pub settle: Option<Duration>,
    /// What is expected of the interface, and how far counters may move; at both ends.
    pub limits: Limits,
}

/// TCP by a real iperf3.
#[derive(Debug, Clone)]
pub struct Tcp {
    /// The server: an address and a port.
    pub server: SocketAddr,
    /// Where the program is; `None`: in PATH.
    pub program: Option<String>,
    /// Streams.
    pub streams: u32,
}

/// What is told while a test goes on.
#[derive(Debug)]
pub enum Event<'a> {
    /// The counters are read: what moves from now on is found.
    Ready,
    /// A step has begun or ended.
    Step(&'a str),
    /// Some seconds of a step have passed.
    Progress(&'a str),
    /// Something that a reader should know.
    Warning(&'a Warning),
}

/// What a test came to. When traffic failed on the way, the counters up to then are still compared.
#[derive(Debug)]
pub struct Outcome {
    /// The report, with its verdict.
    pub report: Report,
    /// Why traffic could not be sent, or not for as long as it should.
    pub failure: Option<Error>,
}
