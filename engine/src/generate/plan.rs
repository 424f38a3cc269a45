//! From a configuration to what each worker does: addresses, frames, pace, CPU.
#![forbid(unsafe_code)]

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::sync::Arc;
use std::time::Duration;

use super::config::{SendConfig, SizeSpec};
use super::iperf2;
use super::rtp;
use super::schedule::Schedule;
use super::stamped;
use super::txtime::{self, Ahead};
use super::worker::TxJob;
use crate::backend::{self, Backend, Settled};
use crate::error::{Error, Result};
use crate::host::cpu::Cpus;
use crate::host::irq::Direction;
use crate::host::nic::Nic;
use crate::host::placement::{Device, Place, Request, place};
use crate::host::qdisc::TimedQdisc;
use crate::host::sched::Policy;
use crate::host::{files, neighbour, route};
use crate::multicast::mac;
use crate::pacing::MAX_BURST;
use crate::profile::mix::{Mix, Turn};
use crate::profile::rate::Rate;
use crate::profile::segments::Segments;
use crate::profile::size::{Framing, Sizes};
use crate::queue::spec::{Flow, Interface, TxSpec};

/// First of the source ports that are used when none is asked for and the queue writes the frames itself (RFC 6335 §6).
const FIRST_EPHEMERAL: u16 = 49_152;

/// Streams of each NIC queue, where there are several and nobody says how many: the NIC at the far end spreads packets over its own queues by a
/// hash of addresses and ports (RSS), and this many ports leave none of them idle.
const STREAMS_PER_QUEUE: usize = 8;

/// Streams of one run at most.
const MAX_STREAMS: u16 = 4096;

/// How long a neighbour may take to answer.
const NEIGHBOUR_PATIENCE: Duration = Duration::from_secs(3);

/// What one worker does, and where.
#[derive(Debug)]
pub(crate) struct WorkerPlan {
    pub place: Place,
    pub policy: Policy,
    pub spec: TxSpec,
    pub job: TxJob,
    pub load: Load,
}

/// A worker's part of the offered load.
#[derive(Debug)]
pub(crate) struct Load {
    pub sizes: Sizes,
    /// Packets a second; `None`: as many as possible.
    pub pps: Option<f64>,
    /// Packets in all.
    pub limit: Option<u64>,
}

/// What all workers do.
#[derive(Debug)]
pub(crate) struct Plan {
    pub backend: Backend,
    pub why: String,
    pub interface: Option<Interface>,
    /// Packets a second that were asked for, all workers together; `None`: as many as possible.
    pub pps: Option<f64>,
    /// What lets packets go at times of their own, and how far ahead of these they are handed over.
    pub timed: Option<(TimedQdisc, Ahead)>,
    pub workers: Vec<WorkerPlan>,
}

/// Settles everything that can be settled before a queue is opened.
pub(crate) fn plan(config: &SendConfig) -> Result<Plan> {
    files::allow_all();
    let target = config.target;
    let ipv6 = target.is_ipv6();
    let (choice, reason) = txtime::choice(config);
    let Settled { backend, why, interface: used } =
        backend::settle(choice, Direction::Transmit, config.interface.as_deref(), || {
            backend::way_out(target.destination.ip())
        })?;
    let why = reason.unwrap_or(why);
    // A frame is what it is said to be; a payload may be cut.
    let fragment = config.rtp.is_none()
        && !(config.iperf2 && backend.is_below_sockets())
        && !config.dont_fragment
        && backend != Backend::Xdp
        && matches!(config.sizes, SizeSpec::Length(_));
    let way_out = used.clone().or_else(|| backend::way_out(target.destination.ip()));
    let mtu = way_out.as_ref().map(|i| i.mtu).filter(|_| fragment);
    let framing = Framing { ipv6, vlan: config.vlan.is_some(), mtu };
    let sizes = config.sizes.resolve(framing)?;
    if let Some(interface) = used.as_ref().filter(|_| !fragment) {
        check_sizes(ipv6, interface, &sizes)?;
    }
    if config.vlan.is_some() && !backend.is_below_sockets() {
        return Err(Error::usage("--vlan: sockets cannot write VLAN tags").fix("use --backend afxdp"));
    }

    rtp::check(config, backend, &sizes)?;
    iperf2::check(config, backend, &sizes)?;
    let run = random_run()?;
    let flows = flows(config, backend, used.as_ref(), run)?;
    let queues: Vec<usize> = match backend {
        Backend::Afxdp if config.queues.is_empty() => vec![0],
        // The driver sends by the queue of the CPU that the packet was made on.
        Backend::Xdp if config.queues.is_empty() => (0..config.workers).collect(),
        Backend::Afxdp | Backend::Xdp => config.queues.clone(),
        Backend::Uring | Backend::Mmsg => {
            if !config.queues.is_empty() {
                return Err(
                    Error::usage("--queues: only afxdp has NIC queues").fix("use --workers for sockets")
                );
            }
            (0..config.workers).collect()
        }
    };
    if queues.len() > flows.len() {
        return Err(Error::usage(format!("{} workers have only {} streams", queues.len(), flows.len()))
            .fix(format!("add --streams {} or more", queues.len())));
    }
    let nic = used.as_ref().map(Nic::of).unwrap_or_default();
    if let (Backend::Afxdp, Some(interface)) = (backend, &used) {
        Nic::require_queues(&interface.name, &queues, nic.queues.tx)?;
    }
    let pps = match config.rtp.as_ref().and_then(|rtp| rtp.ptime) {
        Some(ptime) => Some(rtp::pps(ptime, flows.len())?),
        None => config.rate.pps(&sizes, nic.speed_bps)?,
    };
    let rtp = config.rtp.as_ref().map(|rtp| rtp::headers(rtp, pps, flows.len())).transpose()?;
    let iperf2 = iperf2::test(config, &sizes, pps, flows.len());
    check_burst(config, backend)?;
    check_busy_poll(config, backend)?;
    let timed = txtime::settle(config, backend, way_out.as_ref(), pps, flows.len())?;
    stamped::check(config, backend, flows.len())?;
    let segments =
        if timed.is_some() || config.tuning.kernel_stamps { Segments::Off } else { config.segments };
    let count = [config.count, config.bytes.map(|b| packets_for(b, &sizes))].into_iter().flatten().min();
    let places = {
        let nic_queue = |&queue: &usize| backend.is_below_sockets().then_some(queue as u32);
        let request = Request {
            queues: &queues.iter().map(nic_queue).collect::<Vec<_>>(),
            direction: Direction::Transmit,
            wanted: &config.cpus,
            on_irq_cpu: config.on_irq_cpu,
        };
        place(&Cpus::read()?, &Device::of(&nic), &request)?
    };

    let total = flows.len() as u64;
    let workers = queues.len();
    let plans = queues.iter().zip(places).enumerate().map(|(w, (&queue, place))| {
        let mine: Vec<Flow> = flows.iter().skip(w).step_by(workers).copied().collect();
        let share = mine.len() as u64;
        // The streams that a worker has decide its share of the rate and of the count.
        let pps = pps.map(|pps| pps * share as f64 / total as f64);
        let before: u64 = (0..w).map(|v| flows.len().saturating_sub(v).div_ceil(workers) as u64).sum();
        let part = |c: u64, streams: u64| (u128::from(c) * u128::from(streams) / u128::from(total)) as u64;
        let limit = count.map(|c| part(c, before + share) - part(c, before));
        let streams = mine.iter().map(|f| f.stream).collect();
        let told = iperf2.as_ref().map(|test| test.of_worker(backend, &mine));
        WorkerPlan {
            place,
            policy: config.policy,
            spec: TxSpec {
                interface: used.clone(),
                queue: queue as u32,
                flows: mine,
                ttl: config.effective_ttl(),
                dscp: config.dscp,
                fragment,
                vlan: config.vlan,
                rtp,
                iperf2: iperf2.is_some(),
                payload: Arc::clone(&config.payload),
                max_payload: sizes.max(),
                segments,
                txtime: timed.map(|(qdisc, _)| qdisc),
                tuning: config.tuning,
            },
            job: TxJob {
                run,
                rtp,
                iperf2: told,
                schedule: Schedule::new(sizes.clone(), streams, pps, limit)
                    .in_bursts(config.burst)
                    .ahead(timed.map(|(_, ahead)| ahead)),
                duration: config.duration,
            },
            load: Load { sizes: sizes.clone(), pps, limit },
        }
    });
    Ok(Plan { backend, why, interface: used.clone(), pps, timed, workers: plans.collect() })
}

/// Only AF_XDP sockets have the driver transmit; a UDP socket that polls does so to receive.
fn check_busy_poll(config: &SendConfig, backend: Backend) -> Result<()> {
    if config.tuning.busy_poll.is_none() || backend == Backend::Afxdp {
        return Ok(());
    }
    let name = backend.name();
    Err(Error::usage(format!("--busy-poll: --backend {name} has no driver to poll when it sends"))
        .fix("leave it out, or use --backend afxdp"))
}

fn check_burst(config: &SendConfig, backend: Backend) -> Result<()> {
    let Some(burst) = config.burst else { return Ok(()) };
    if config.rate == Rate::Max {
        Err(Error::usage(format!("--burst {burst}: without a pace there is no silence between bursts"))
            .fix("give a --rate, or leave --burst out"))
    } else if !(1..=MAX_BURST).contains(&burst) {
        Err(Error::usage(format!("--burst {burst}: from 1 to {MAX_BURST} packets are possible")))
    } else if backend == Backend::Xdp {
        Err(Error::usage("--burst: the generator in the kernel paces packet by packet")
            .fix("use another --backend"))
    } else {
        Ok(())
    }
}

/// Where nothing is to be cut, every datagram is one frame.
fn check_sizes(ipv6: bool, interface: &Interface, sizes: &Sizes) -> Result<()> {
    let around = if ipv6 { 48 } else { 28 };
    let packet = u32::from(sizes.max()) + around;
    if packet <= interface.mtu {
        return Ok(());
    }
    Err(Error::usage(format!(
        "{}: a payload of {} bytes makes an IP packet of {packet}, above the MTU of {}",
        interface.name,
        sizes.max(),
        interface.mtu
    ))
    .fix(format!(
        "use --length {} or less, or raise the MTU: ip link set dev {} mtu {packet}",
        interface.mtu.saturating_sub(around),
        interface.name
    )))
}

fn packets_for(bytes: u64, sizes: &Sizes) -> u64 {
    (bytes as f64 / sizes.mean()).ceil().max(1.0) as u64
}

fn random_run() -> Result<u32> {
    let bits = getrandom::u32().map_err(|e| Error::failed(format!("no random numbers: {e}")))?;
    // 0 stands for "no run" in reports of other formats.
    Ok((bits >> 8).max(1))
}

/// The addresses of every stream.
fn flows(config: &SendConfig, backend: Backend, used: Option<&Interface>, run: u32) -> Result<Vec<Flow>> {
    let target = config.target;
    if config.groups > MAX_STREAMS {
        return Err(Error::usage(format!(
            "--groups {}: one run sends to {MAX_STREAMS} groups at most, a stream each",
            config.groups
        ))
        .fix("run several senders, each with its own groups"));
    }
    let source_ports: Vec<u16> = config.source_ports.clone().map_or_else(Vec::new, Iterator::collect);
    let port = target.destination.port();
    let destination_ports: Vec<u16> = config.destination_ports.clone().unwrap_or(port..=port).collect();
    let mix = mix(config)?;
    let turns = mix.as_ref().map_or(&[][..], Mix::turns);
    let streams = config.streams.unwrap_or_else(|| {
        let most =
            source_ports.len().max(turns.len()).max(destination_ports.len()).max(usize::from(config.groups));
        let spread = if config.queues.len() > 1 { config.queues.len() * STREAMS_PER_QUEUE } else { 1 };
        most.max(config.workers).max(spread).min(usize::from(MAX_STREAMS)) as u16
    });
    let unspecified =
        if target.is_ipv6() { IpAddr::V6(Ipv6Addr::UNSPECIFIED) } else { IpAddr::V4(Ipv4Addr::UNSPECIFIED) };
    (0..streams)
        .map(|stream| {
            let n = usize::from(stream);
            let port = destination_ports[n % destination_ports.len()];
            let destination = match turns.get(n % turns.len().max(1)) {
                Some(Turn::Host(n)) => config.between[usize::from(*n)],
                Some(Turn::Group(n)) => SocketAddr::new(nth_address(target.destination.ip(), *n)?, port),
                None => SocketAddr::new(nth_address(target.destination.ip(), stream % config.groups)?, port),
            };
            let address = destination.ip();
            let mut source_ip = target.source.unwrap_or(unspecified);
            let mut source_port =
                if source_ports.is_empty() { 0 } else { source_ports[n % source_ports.len()] };
            let mut destination_mac = [0; 6];
            if backend.is_below_sockets() {
                let interface = used.expect("it was chosen for an interface");
                let route = route::route_to(address, Some(interface.index), target.source)?;
                source_ip = target.source.unwrap_or(route.source);
                destination_mac = match mac::of_group(address) {
                    Some(mac) => mac,
                    None => neighbour::next_hop(interface, &route, address, NEIGHBOUR_PATIENCE)?,
                };
                if source_port == 0 {
                    source_port = FIRST_EPHEMERAL + ((run as u16).wrapping_add(stream)) % 16_000;
                }
            }
            Ok(Flow { stream, source: SocketAddr::new(source_ip, source_port), destination, destination_mac })
        })
        .collect()
}

/// The order of groups and single hosts.
fn mix(config: &SendConfig) -> Result<Option<Mix>> {
    let wrong = |what: String, fix: &str| Err(Error::usage(what).fix(fix));
    if config.between.is_empty() {
        return Ok(None);
    }
    if let Some(other) = config.between.iter().find(|other| other.is_ipv6() != config.target.is_ipv6()) {
        return wrong(
            format!("--between {other}: it is of another IP version than {}", config.target.destination.ip()),
            "name addresses of the target's",
        );
    }
    if config.rtp.is_some() || config.iperf2 {
        return wrong(
            "--between: there is no RTP, and no iperf 2, of several kinds of targets".to_owned(),
            "send two streams",
        );
    }
    if config.destination_ports.is_some() {
        return wrong("--between: every target names its port".to_owned(), "leave --dst-port out");
    }
    Ok(config.mix())
}

/// The address `n` after `first`.
pub(crate) fn nth_address(first: IpAddr, n: u16) -> Result<IpAddr> {
    let next = match first {
        IpAddr::V4(a) => a.to_bits().checked_add(u32::from(n)).map(|bits| Ipv4Addr::from_bits(bits).into()),
        IpAddr::V6(a) => a.to_bits().checked_add(u128::from(n)).map(|bits| Ipv6Addr::from_bits(bits).into()),
    };
    next.filter(|a: &IpAddr| a.is_multicast() == first.is_multicast()).ok_or_else(|| {
        Error::usage(format!("--groups: {n} addresses after {first} the range ends")).fix("start lower")
    })
}
