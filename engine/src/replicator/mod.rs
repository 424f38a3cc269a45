//! A replicator: copies what arrives for a group on one interface to those interfaces behind which somebody has joined it.
//!
//! ```text
//!              ┌──────────────── control ◀── reports ──┐
//!              │   snoop::Table ─▶ Plane               │   ▲ queries
//!              │                    │                  │   │
//!  groups ─▶ from ───── xdp │ afxdp │ socket ──────▶ to, to, …
//! ```
//!
//! It works on layer 2, as a switch that snoops does: addresses and TTL stay as they are, and whatever is no group's packet is left to the kernel. Who is a member is
//! learnt from IGMP and MLD by [`control`], which is the same for every datapath, and for other devices of the lab; the datapaths are [`Plane`](plane::Plane)s.
#![forbid(unsafe_code)]

mod afxdp;
pub mod control;
mod counters;
mod filter;
pub mod plane;
mod report;
mod socket;
mod ways;
pub mod xdp;

use std::time::{Duration, Instant};

pub use control::{Control, Membership};
pub use report::{Fate, Group, Memberships, Port, Report, SCHEMA};

use crate::control::Stop;
use crate::error::{Error, Result};
use crate::host::{interface, netdev};
use crate::queue::spec::Interface;

/// What makes the copies.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum By {
    /// An XDP program, in the kernel.
    Xdp,
    /// AF_XDP sockets: one for each RX queue, one for each port.
    Afxdp,
    /// Packet sockets, which pass buffers of several segments on as they are.
    Socket,
}

impl By {
    /// Its name, as typed.
    pub fn name(self) -> &'static str {
        match self {
            Self::Xdp => "xdp",
            Self::Afxdp => "afxdp",
            Self::Socket => "socket",
        }
    }
}

/// What to replicate, and how.
#[derive(Debug, Clone)]
pub struct Config {
    /// Interfaces that groups arrive on.
    pub from: Vec<String>,
    /// Interfaces that members are behind.
    pub to: Vec<String>,
    /// What makes the copies.
    pub by: By,
    /// How memberships are kept.
    pub membership: Membership,
    /// End after this time; `None`: when asked to stop.
    pub duration: Option<Duration>,
}

/// A replicator at work. It ends when it is dropped.
#[derive(Debug)]
pub struct Replicator {
    by: By,
    from: Vec<Interface>,
    to: Vec<Interface>,
    started: Instant,
    // The control loop ends before what it works on.
    control: Control,
    datapath: Datapath,
}

#[derive(Debug)]
enum Datapath {
    Xdp(xdp::Handle),
    Afxdp(xdp::Handle, counters::Workers),
    Socket(counters::Workers),
}

impl Replicator {
    /// Begins, in the calling thread's network namespace.
    ///
    /// # Errors
    /// Usage: an interface that is not there, is named twice or is both a source and a member's. Environment: without CAP_NET_ADMIN and CAP_NET_RAW, and for `xdp` and
    /// `afxdp` CAP_BPF and CAP_PERFMON; where the kernel refuses; `xdp`: where a member's interface takes no redirected frames.
    pub fn start(config: &Config) -> Result<Self> {
        let (from, to) = interfaces(config)?;
        let (control, datapath) = match config.by {
            By::Xdp => {
                to.iter().try_for_each(takes_redirected)?;
                let (plane, handle) = xdp::start(&from, &to, config.membership.most_groups)?;
                (Control::start(&to, config.membership, plane)?, Datapath::Xdp(handle))
            }
            By::Afxdp => {
                let (plane, handle, workers) = afxdp::start(&from, &to, config.membership.most_groups)?;
                (Control::start(&to, config.membership, plane)?, Datapath::Afxdp(handle, workers))
            }
            By::Socket => {
                let (plane, workers) = socket::start(&from, &to)?;
                (Control::start(&to, config.membership, plane)?, Datapath::Socket(workers))
            }
        };
        Ok(Self { by: config.by, from, to, started: Instant::now(), control, datapath })
    }

    /// Who is a member.
    pub fn control(&self) -> &Control {
        &self.control
    }

    /// What was copied so far.
    ///
    /// # Errors
    /// Failed, when the kernel refuses to show its counters, or the control loop or a worker has failed, and why.
    pub fn report(&self) -> Result<Report> {
        let counts = match &self.datapath {
            Datapath::Xdp(handle) => handle.counts()?,
            Datapath::Socket(workers) => workers.counts()?,
            Datapath::Afxdp(handle, workers) => {
                let mut counts = workers.counts()?;
                // What the program has handed over is counted by the workers.
                for (fate, frames) in handle.fates()?.into_iter().filter(|(fate, _)| *fate != "replicated") {
                    match counts.fates.iter_mut().find(|(known, _)| *known == fate) {
                        Some((_, sum)) => *sum += frames,
                        None => counts.fates.push((fate, frames)),
                    }
                }
                counts
            }
        };
        let warnings = match &self.datapath {
            Datapath::Xdp(handle) | Datapath::Afxdp(handle, _) => handle.warnings(),
            Datapath::Socket(_) => Vec::new(),
        };
        let state = self.control.state();
        if let Some(failure) = &state.failure {
            return Err(Error::failed(format!(
                "replicator: memberships are not followed any more: {failure}"
            )));
        }
        let elapsed = self.started.elapsed();
        Ok(Report { warnings, ..Report::new(self.by, &self.from, &self.to, elapsed, &state, counts) })
    }
}

/// What a run tells while it goes on.
#[derive(Debug)]
pub enum Event<'a> {
    /// Groups are copied from now on.
    Ready,
    /// Some time has passed.
    Interval(&'a Report),
}

/// Replicates until it is asked to stop or the time is over.
///
/// # Errors
/// As [`Replicator::start`] and [`Replicator::report`].
pub fn run(
    config: &Config,
    interval: Duration,
    stop: &Stop,
    on_event: &mut dyn FnMut(Event<'_>),
) -> Result<Report> {
    let replicator = Replicator::start(config)?;
    on_event(Event::Ready);
    let ended = |elapsed| config.duration.is_some_and(|duration| elapsed >= duration);
    let mut next = interval;
    while !stop.is_requested() && !ended(replicator.started.elapsed()) {
        std::thread::sleep(Duration::from_millis(20));
        if replicator.started.elapsed() >= next {
            next += interval;
            on_event(Event::Interval(&replicator.report()?));
        }
    }
    replicator.report()
}

fn interfaces(config: &Config) -> Result<(Vec<Interface>, Vec<Interface>)> {
    for (what, names) in [("--from", &config.from), ("--to", &config.to)] {
        if names.is_empty() {
            return Err(Error::usage(format!("{what}: name an interface")));
        }
    }
    let mut all: Vec<&String> = config.from.iter().chain(&config.to).collect();
    all.sort();
    if let Some(pair) = all.windows(2).find(|pair| pair[0] == pair[1]) {
        return Err(Error::usage(format!("{}: named twice", pair[0]))
            .fix("name each interface once, in --from or in --to"));
    }
    let find =
        |names: &[String]| names.iter().map(|name| interface::lookup(name)).collect::<Result<Vec<_>>>();
    Ok((find(&config.from)?, find(&config.to)?))
}

/// The kernel silently leaves out an interface that it cannot redirect to.
fn takes_redirected(port: &Interface) -> Result<()> {
    match netdev::xdp_features(port.index) {
        Some(features) if !features.redirect_target => Err(Error::environment(format!(
            "{}: it takes no frames that XDP redirects",
            port.name
        ))
        .fix("a veth takes them while its other end has GRO on (`ethtool -K … gro on`) or a native XDP program; elsewhere use --by afxdp or --by socket")),
        _ => Ok(()),
    }
}
