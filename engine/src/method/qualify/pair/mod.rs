//! The link between two real ports, each reached by an [agent](crate::agent): interfaces of this host, of network namespaces, of other hosts.
//!
//! A trial is what a person would type at each port: `recv` at the one, then `send` at the other, and `health` at both, before and after. Frames
//! that are sent first let the way between them learn addresses; their source port tells them from the trial's.
#![forbid(unsafe_code)]

mod outage;
mod trial;

use std::net::{IpAddr, SocketAddr};
use std::time::Duration;

use super::link::{HealthSeen, Layout, Link, Seen, Trial};
use super::params::Size;
use crate::agent::Say;
use crate::control::Stop;
use crate::error::{Error, Result};
use crate::host::files;
use crate::host::health::Snapshot;
use crate::method::ports::crew::Crew;
use crate::method::ports::{Place, Reach, open};

/// Source port of a trial's frames.
const SOURCE_PORT: u16 = 20_000;

/// Frames that only let the way learn come from a port this much higher.
const LEARNING: u16 = 1_000;

/// Bytes of a frame that are none of the IP packet's: Ethernet header and FCS.
const AROUND: u32 = 18;

/// How ports are used.
#[derive(Debug, Clone)]
pub struct Options {
    /// UDP port that frames go to.
    pub port: u16,
    /// Whether addresses are IPv6.
    pub ipv6: bool,
    /// TTL or hop limit of what is sent.
    pub ttl: u8,
    /// `--backend` of senders.
    pub send_backend: String,
    /// `--backend` of receivers.
    pub recv_backend: String,
    /// `--segments` of both.
    pub segments: String,
    /// Whether receivers' kernels are asked what they drop, so that it is not taken for the link's loss.
    pub kernel_drops: bool,
    /// How long first frames are waited for before a trial.
    pub link_wait: Duration,
    /// How long frames in flight are waited for after it (RFC 2544 §23: 2 s).
    pub residual: Duration,
    /// How long the link is left alone before the next (RFC 2544 §23: 5 s).
    pub restabilise: Duration,
    /// How long an agent may take to answer.
    pub answer: Duration,
}

impl Default for Options {
    fn default() -> Self {
        Self {
            port: 5001,
            ipv6: false,
            ttl: 64,
            send_backend: "auto".to_owned(),
            recv_backend: "auto".to_owned(),
            segments: "off".to_owned(),
            kernel_drops: true,
            link_wait: Duration::from_secs(10),
            residual: Duration::from_secs(2),
            restabilise: Duration::from_secs(5),
            answer: Duration::from_secs(15),
        }
    }
}

/// Two ports with their agents. The first is number 0.
#[derive(Debug)]
pub struct Pair {
    options: Options,
    crew: Crew,
    /// The ports as they were at the beginning.
    first: Vec<Snapshot>,
}

impl Pair {
    /// Starts the agents of both ports, and looks whether each has its interface, and whether frames between them would leave this host.
    ///
    /// # Errors
    /// When an agent cannot be started, an interface is not there or down, has no address of the family, or both are in one network namespace, whose kernel takes frames
    /// between them by the loopback interface.
    pub fn open(tx: (String, Reach), rx: (String, Reach), options: Options, say: &Say) -> Result<Self> {
        files::allow_all();
        let ports = [("tx", tx), ("rx", rx)]
            .into_iter()
            .map(|(name, (interface, reach))| {
                open(name.to_owned(), interface, reach, options.ipv6, options.answer, say)
            })
            .collect::<Result<Vec<_>>>()?;
        let there = |at: usize| {
            let hello = ports[at].agent.hello();
            (hello.boot_id.clone(), hello.netns)
        };
        if there(0) == there(1) {
            let (a, b) = (&ports[0].interface, &ports[1].interface);
            return Err(Error::environment(format!(
                "{a} and {b} are in one network namespace: its kernel takes frames between them by the loopback interface, and not by the link"
            ))
            .fix(format!(
                "--isolate, which puts {b} into a namespace of its own for the time of the run; or do that yourself and name it as --rx '{b}@ip netns exec NAME wirerate agent'"
            )));
        }
        let crew = Crew::new(ports, options.answer);
        let mut pair = Self { options, crew, first: Vec::new() };
        pair.first = pair.look()?;
        Ok(pair)
    }

    /// What both ports are like, now.
    fn look(&mut self) -> Result<Vec<Snapshot>> {
        let jobs = (0..2)
            .map(|at| {
                let words = ["health".to_owned(), self.crew.ports[at].interface.clone()];
                self.crew.start(at, &words)
            })
            .collect::<Result<Vec<_>>>()?;
        self.crew.until_ended(&jobs, self.options.answer, &Stop::default())?;
        let reports = self.crew.reports(&jobs)?;
        let read = |report| {
            serde_json::from_value(report).map_err(|e| {
                Error::failed(format!("a port's agent told its health in words that are not understood: {e}"))
                    .fix("run the same version of wirerate at both ends")
            })
        };
        reports.into_iter().map(read).collect()
    }

    /// Whether both ports take frames as large as these.
    ///
    /// # Errors
    /// Environment, with what to do about it.
    pub fn takes(&self, sizes: &[Size]) -> Result<()> {
        let largest = sizes.iter().map(Size::largest).max().unwrap_or(0);
        for port in &self.crew.ports {
            let mtu = port.agent.hello().interface(&port.interface).map_or(u32::MAX, |found| found.mtu);
            if largest > mtu.saturating_add(AROUND) {
                return Err(Error::environment(format!(
                    "{}: frames of {largest} bytes do not fit its MTU of {mtu}",
                    port.name
                ))
                .fix(format!("ip link set {} mtu {}", port.interface, largest - AROUND)));
            }
        }
        Ok(())
    }

    /// Where frames to port `at` go.
    fn target(&self, at: usize) -> SocketAddr {
        SocketAddr::new(self.address(at), self.options.port)
    }

    fn address(&self, at: usize) -> IpAddr {
        self.crew.ports[at].address
    }

    fn name(&self, at: usize) -> String {
        let port = &self.crew.ports[at];
        format!("{} ({} on {})", port.name, port.interface, port.agent.hello().host)
    }
}

impl Link for Pair {
    fn layout(&self) -> Layout {
        let speeds = self.first.iter().filter_map(|port| port.link.speed_bps);
        Layout {
            tx: self.name(0),
            rx: self.name(1),
            speed_bps: speeds.min(),
            segments: self.options.segments.clone(),
        }
    }

    fn overhead(&self) -> Duration {
        // Programs start, first frames are seen, programs end.
        Duration::from_millis(1200) + self.options.residual + self.options.restabilise
    }

    fn health(&self) -> Vec<(String, Snapshot)> {
        self.first.iter().enumerate().map(|(at, port)| (self.name(at), port.clone())).collect()
    }

    fn trial(&mut self, trial: &Trial, stop: &Stop) -> Result<Seen> {
        let result = trial::run(self, trial, stop);
        if result.is_err() {
            self.crew.abandon();
        }
        result
    }
}

/// How a port that a user typed is reached; `far` is the command of one that names none.
pub fn reach(place: &Place, far: Option<&str>) -> (String, Reach) {
    let command = place.command.as_deref().or(far);
    (place.interface.clone(), command.map_or(Reach::Here, |command| Reach::Typed(command.to_owned())))
}

/// What two looks at both ports are together.
fn health_seen(pair: &Pair, before: Vec<Snapshot>, after: Vec<Snapshot>) -> Vec<HealthSeen> {
    before
        .into_iter()
        .zip(after)
        .enumerate()
        .map(|(at, (before, after))| HealthSeen { port: pair.name(at), before, after })
        .collect()
}
