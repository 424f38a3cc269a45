//! The bed of real ports, each reached by an [agent](crate::agent): interfaces of this host, of network namespaces, containers, other hosts.
//!
//! A trial is what a person would type at each port: `recv` at the members, then `send` at the senders. Members are waited for with
//! frames of their own ("learning", RFC 2544 §23) that the device forwards as it will forward the trial's, and that the source port tells from these.
#![forbid(unsafe_code)]

pub(in crate::method) mod crew;
mod delays;
mod place;
pub(in crate::method) mod read;
mod trial;
mod unicast;

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::ops::Range;
use std::process::Command;
use std::time::{Duration, Instant};

use super::bed::{Bed, DelayTrial, DelaysSeen, Layout, Seen, Trial};
use crate::agent::{Agent, Launch, Say};
use crate::control::Stop;
use crate::error::{Error, Result};
use crate::host::files;
use crate::target::Target;
use crew::Crew;
pub use place::Place;

/// Groups of one `recv`: the most that `--groups` takes. Two runs at one port would each get what the other wants, too.
const GROUPS_OF_A_RECEIVER: u32 = 16_384;

/// Groups of one `send`: the most that `--groups` takes.
const GROUPS_OF_A_SENDER: u32 = super::bed::MOST_GROUPS_OF_A_SENDER;

/// Member ports whose hosts' kernels are asked what they drop. Each that asks takes a third of a second and 30 MB at its start, and makes every packet that this machine drops cost another
/// microsecond: with hundreds of members on one machine that would be all that it does.
const WATCHED_MEMBERS: usize = 16;

/// Groups whose latencies can be told one by one: each takes a run of its own at each port.
pub const MOST_GROUPS_WITH_LATENCY: u32 = 32;

/// Source port of the first sender's first trial frames. Each sender has eight for trials, and eight for learning.
const SOURCE_PORT: u16 = 20_000;

/// Frames that wait for the members come from ports this much higher.
const LEARNING: u16 = 1_000;

/// How long a first membership report is waited for.
const FIRST_REPORT: Duration = Duration::from_secs(2);

/// What follows the group's port: where unicast frames go.
const UNICAST: u16 = 1;

/// How an agent is reached.
#[derive(Debug)]
pub enum Reach {
    /// In this network namespace.
    Here,
    /// By what a user typed.
    Typed(String),
    /// By a command of the program's own, as for a namespace without a name.
    Made(Command),
}

/// How ports are used.
#[derive(Debug, Clone)]
pub struct Options {
    /// The first group and its UDP port.
    pub group: Target,
    /// TTL of what is sent: above the number of hops (RFC 3918 §3.1.4).
    pub ttl: u8,
    /// `--backend` of senders.
    pub send_backend: String,
    /// `--backend` of members.
    pub recv_backend: String,
    /// `--segments` of both.
    pub segments: String,
    /// Whether members' kernels are asked what they drop, so that it is not taken for the device's loss.
    pub kernel_drops: bool,
    /// How long members are waited for before a trial.
    pub join_wait: Duration,
    /// How long frames in flight are waited for after it (RFC 2544 §23: 2 s).
    pub residual: Duration,
    /// How long the device is left alone before the next (RFC 2544 §23: 5 s).
    pub restabilise: Duration,
    /// How long an agent may take to answer; twice that to join.
    pub answer: Duration,
}

impl Options {
    /// The defaults of RFC 2544, for groups from `group` on.
    pub fn new(group: Target) -> Self {
        Self {
            group,
            ttl: 64,
            send_backend: "auto".to_owned(),
            recv_backend: "auto".to_owned(),
            segments: "off".to_owned(),
            kernel_drops: true,
            join_wait: Duration::from_secs(10),
            residual: Duration::from_secs(2),
            restabilise: Duration::from_secs(5),
            answer: Duration::from_secs(15),
        }
    }
}

/// A port with its agent.
#[derive(Debug)]
pub(in crate::method) struct Port {
    pub(in crate::method) name: String,
    pub(in crate::method) interface: String,
    pub(in crate::method) agent: Agent,
    /// Its address of the groups' family.
    pub(in crate::method) address: IpAddr,
}

impl Port {
    /// Looks whether it can send what members of source-specific groups want (RFC 4607).
    fn sends_as(&self, source: IpAddr) -> Result<()> {
        let there = self.agent.hello().interface(&self.interface).map_or(&[][..], |i| &i.addresses);
        let is_it = |text: &String| text.split('/').next().and_then(|t| t.parse().ok()) == Some(source);
        if there.iter().any(is_it) {
            return Ok(());
        }
        Err(Error::usage(format!(
            "{}: the groups are of the source {source}, which is not its address",
            self.name
        ))
        .fix(format!("name one sender, and {} as the source of --group", self.address)))
    }
}

/// Ports around a device.
#[derive(Debug)]
pub struct Ports {
    options: Options,
    senders: Range<usize>,
    members: Range<usize>,
    stranger: Option<usize>,
    /// Ports that exchange unicast frames.
    burden: Range<usize>,
    crew: Crew,
    /// What the device is, where that is known.
    device: Option<String>,
    /// The protocol by which members join, where one was seen to.
    membership: Option<String>,
}

impl Ports {
    /// Starts the agents of all ports, and looks whether each has its interface. Unicast frames of burdened tests go between the ports `burden`, of which there are several or
    /// none: then from the senders to the members.
    ///
    /// # Errors
    /// When an agent cannot be started, an interface is not there or down, or has no address of the groups' family.
    pub fn open(
        senders: Vec<(String, Reach)>,
        members: Vec<(String, Reach)>,
        stranger: Option<(String, Reach)>,
        burden: Vec<(String, Reach)>,
        options: Options,
        say: &Say,
    ) -> Result<Self> {
        if senders.is_empty() || members.is_empty() {
            return Err(Error::usage("a sender and a member are needed at least")
                .fix("name them, as --sender eth1 --member eth2 --member eth3 --stranger eth4"));
        }
        if senders.len() > 64 {
            return Err(Error::usage(format!("{} senders are more than 64", senders.len())).fix("name fewer"));
        }
        if burden.len() == 1 || burden.len() > 8 {
            return Err(Error::usage(format!("{} burdening ports: from 2 to 8 make a mesh", burden.len()))
                .fix("name several, as --burden eth5 --burden eth6"));
        }
        // Pipes and namespaces of hundreds of members.
        files::allow_all();
        let (s, m) = (senders.len(), members.len());
        let names = (1..=s).map(|n| format!("s{n}")).chain((1..=m).map(|n| format!("m{n}")));
        let names = names.chain(stranger.is_some().then(|| "x1".to_owned()));
        let names = names.chain((1..=burden.len()).map(|n| format!("b{n}")));
        let has_stranger = stranger.is_some();
        let (b, first) = (burden.len(), s + m + usize::from(has_stranger));
        let reaches = senders.into_iter().chain(members).chain(stranger).chain(burden);
        let ipv6 = options.group.is_ipv6();
        let ports = names
            .zip(reaches)
            .map(|(name, (interface, reach))| open(name, interface, reach, ipv6, options.answer, say))
            .collect::<Result<Vec<_>>>()?;
        if let Some(source) = options.group.source {
            ports[..s].iter().try_for_each(|port| port.sends_as(source))?;
        }
        Ok(Self {
            senders: 0..s,
            members: s..s + m,
            stranger: has_stranger.then_some(s + m),
            burden: first..first + b,
            crew: Crew::new(ports, options.answer),
            options,
            device: None,
            membership: None,
        })
    }

    /// Names the device, for the report.
    pub fn name_device(&mut self, device: String) {
        self.device = Some(device);
    }

    /// Looks whether so many groups fit behind the first, and by which protocol a member joins: in a group behind them, so that the device
    /// knows nothing of theirs.
    ///
    /// # Errors
    /// `Usage` when the range ends before; when a member cannot join.
    pub fn prepare(&mut self, groups: u32) -> Result<()> {
        let probe: Target = self.target(groups)?.parse()?;
        let watching =
            self.crew.watch(self.members.start, probe.destination.port(), std::slice::from_ref(&probe))?;
        self.crew.join(&watching, std::slice::from_ref(&probe))?;
        let start = Instant::now();
        while self.membership.is_none() && start.elapsed() < FIRST_REPORT {
            let look = self.crew.look(&watching)?;
            self.membership = look.groups.iter().find_map(|group| group.join_message.clone());
        }
        self.crew.watched(watching).map(drop)
    }

    /// Group number `n`, from 0.
    fn group(&self, n: u32) -> Result<SocketAddr> {
        let first = self.options.group.destination;
        let address = match first.ip() {
            IpAddr::V4(a) => a.to_bits().checked_add(n).map(|bits| IpAddr::from(Ipv4Addr::from_bits(bits))),
            IpAddr::V6(a) => {
                a.to_bits().checked_add(u128::from(n)).map(|bits| IpAddr::from(Ipv6Addr::from_bits(bits)))
            }
        };
        let address = address.filter(IpAddr::is_multicast).ok_or_else(|| {
            Error::usage(format!(
                "{} groups behind {}: the range of multicast ends before",
                n + 1,
                first.ip()
            ))
            .fix("begin lower with --group, as 239.1.0.1:5001")
        })?;
        Ok(SocketAddr::new(address, first.port()))
    }

    /// Which group an address is, from 0.
    fn number_of(&self, group: IpAddr) -> Option<usize> {
        let distance = match (self.options.group.destination.ip(), group) {
            (IpAddr::V4(a), IpAddr::V4(b)) => u128::from(b.to_bits().checked_sub(a.to_bits())?),
            (IpAddr::V6(a), IpAddr::V6(b)) => b.to_bits().checked_sub(a.to_bits())?,
            _ => return None,
        };
        usize::try_from(distance).ok()
    }

    /// What `send` and `recv` are told of `count` groups from number `first` on.
    fn target(&self, first: u32) -> Result<String> {
        let source = self.options.group.source.map_or(String::new(), |source| match source {
            IpAddr::V6(_) => format!("[{source}]@"),
            IpAddr::V4(_) => format!("{source}@"),
        });
        Ok(format!("udp://{source}{}", self.group(first)?))
    }

    /// Name of the port `at`.
    fn name(&self, at: usize) -> &str {
        &self.crew.ports[at].name
    }
}

/// Starts the agent of a port, and looks whether it has its interface, with an address.
pub(in crate::method) fn open(
    name: String,
    interface: String,
    reach: Reach,
    ipv6: bool,
    answer: Duration,
    say: &Say,
) -> Result<Port> {
    let told = name.clone();
    let say = std::sync::Arc::clone(say);
    let launch = Launch {
        say: Some(std::sync::Arc::new(move |line: &str| say(&format!("{told}: {line}")))),
        timeout: answer,
        ..Launch::new(name.clone())
    };
    let agent = match reach {
        Reach::Here => launch.here(),
        Reach::Typed(command) => launch.command_line(&command),
        Reach::Made(command) => launch.command(command),
    }?;
    let Some(found) = agent.hello().interface(&interface) else {
        let there: Vec<&str> = agent.hello().interfaces.iter().map(|i| i.name.as_str()).collect();
        return Err(Error::environment(format!("{name}: no interface {interface} there"))
            .fix(format!("it has {}", there.join(", "))));
    };
    if !found.up {
        return Err(Error::environment(format!("{name}: {interface} is down"))
            .fix(format!("ip link set {interface} up, and see that the cable is in")));
    }
    let address = found
        .addresses
        .iter()
        .filter_map(|text| text.split('/').next()?.parse::<IpAddr>().ok())
        .filter(|address| address.is_ipv6() == ipv6)
        // A link-local address is taken where there is no other.
        .min_by_key(|address| matches!(address, IpAddr::V6(v6) if v6.is_unicast_link_local()));
    let Some(address) = address else {
        let family = if ipv6 { "IPv6" } else { "IPv4" };
        return Err(Error::environment(format!("{name}: {interface} has no {family} address"))
            .fix(format!("ip address add ADDRESS/PREFIX dev {interface}")));
    };
    Ok(Port { name, interface, agent, address })
}

/// Parts of at most `most` of `groups` consecutive groups: first number and count.
fn parts(groups: u32, most: u32) -> Vec<(u32, u32)> {
    (0..groups.div_ceil(most)).map(|n| (n * most, most.min(groups - n * most))).collect()
}

impl Bed for Ports {
    fn layout(&self) -> Layout {
        let names = |range: &Range<usize>| {
            range
                .clone()
                .map(|at| {
                    let port = &self.crew.ports[at];
                    format!("{} ({} on {})", port.name, port.interface, port.agent.hello().host)
                })
                .collect()
        };
        Layout {
            senders: names(&self.senders),
            members: self.members.clone().map(|at| self.name(at).to_owned()).collect(),
            stranger: self.stranger.map(|at| self.name(at).to_owned()),
            burden: self.burden.clone().map(|at| self.name(at).to_owned()).collect(),
            membership: self
                .membership
                .clone()
                .unwrap_or_else(|| if self.options.group.is_ipv6() { "MLD" } else { "IGMP" }.to_owned()),
            segments: self.options.segments.clone(),
            device: self.device.clone(),
        }
    }

    fn overhead(&self) -> Duration {
        // Programs start, groups are seen, programs end.
        Duration::from_millis(1500) + self.options.residual + self.options.restabilise
    }

    fn trial(&mut self, trial: &Trial, stop: &Stop) -> Result<Seen> {
        trial::run(self, trial, stop)
    }

    fn delays(&mut self, trial: &DelayTrial, stop: &Stop) -> Result<DelaysSeen> {
        delays::run(self, trial, stop)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn groups_in_parts() {
        assert_eq!(parts(1, 256), [(0, 1)]);
        assert_eq!(parts(256, 256), [(0, 256)]);
        assert_eq!(parts(600, 256), [(0, 256), (256, 256), (512, 88)]);
        assert_eq!(parts(3, 1), [(0, 1), (1, 1), (2, 1)]);
    }
}
