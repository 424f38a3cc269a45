//! The receive workers of one run, with all that they hold open: queues, memberships, the XDP program.
#![forbid(unsafe_code)]

use std::net::SocketAddr;
use std::os::fd::OwnedFd;

use super::config::RecvConfig;
use super::observer::Observer;
use super::sink::{self, KernelSink, Place, Program};
use super::source::{Observe, Workers};
use super::worker;
use crate::advice::interrupts_between_polls;
use crate::backend::{self, Backend, Choice, Settled};
use crate::control::Stop;
use crate::error::{Error, Result};
use crate::generate::nth_address;
use crate::host::cpu::Cpus;
use crate::host::files;
use crate::host::irq::Direction;
use crate::host::nic::Nic;
use crate::host::nic_clock::NicClock;
use crate::host::placement::{Device, Request, place};
use crate::measure::handover::handover;
use crate::measure::tally::RxTally;
use crate::multicast::memberships::{Memberships, Wanted};
use crate::queue::Receive;
use crate::queue::afxdp::ntuple::Placed;
use crate::queue::afxdp::steer::{Rule, Steer};
use crate::queue::afxdp::{AfxdpRx, ReassemblingRx};
use crate::queue::outage::{Downtime, Patient};
use crate::queue::socket::busy_poll::Polled;
use crate::queue::socket::offload::Offload;
use crate::queue::socket::{MmsgRx, ReassembledRx, UringRx};
use crate::queue::spec::{Interface, RxSpec};
use crate::report::{self, Warning};
use crate::target::Target;
use crate::worker::{Granted, start};

/// Sockets that receive in one run at most: each has a thread of its own.
const MAX_SOCKETS: usize = 256;

/// Bytes of receive buffer that a pause of some milliseconds does not fill at any rate that a socket can take.
const ENOUGH_BUFFER: usize = 4 << 20;

/// Longest UDP payload that fits IPv4.
const MAX_PAYLOAD: u16 = 65_507;

/// Opened and waiting for the start.
pub(crate) struct Team {
    pub source: Box<dyn Observe>,
    pub interface: Option<Interface>,
    pub backend: report::Backend,
    pub steer: Option<Steer>,
    /// Why the kernel does not put fragments together for this run, where frames are received.
    pub not_reassembled: Option<String>,
    pub warnings: Vec<Warning>,
    /// Bytes of receive buffer of the smallest socket.
    pub buffer: Option<usize>,
    /// How long the link was down.
    pub downtime: Downtime,
    /// Sockets that were to poll their drivers.
    pub polled: Vec<Polled>,
    /// The clock that the NIC stamps by, where it is to.
    pub nic_clock: Option<NicClock>,
    /// Rules in the NIC, removed with this.
    _placed: Option<Placed>,
    /// Held open: the kernel answers queries as long as they are.
    _memberships: Option<Memberships>,
}

/// What a worker tells of its queue once it is open.
struct Opened {
    granted: Granted,
    /// For the XSKMAP, with AF_XDP.
    fd: Option<OwnedFd>,
    /// Bytes of receive buffer, with sockets.
    buffer: Option<usize>,
    /// Why it does not receive what comes in fragments, if it was to.
    not_reassembled: Option<String>,
    /// The socket, when it polls the driver.
    polled: Option<Polled>,
}

/// Opens everything that `config` asks for.
pub(crate) fn open(config: &RecvConfig) -> Result<Team> {
    if config.backend == Choice::Xdp {
        sink::require(config)?;
    }
    files::allow_all();
    let targets = targets(config)?;
    let Settled { backend, why, interface } =
        backend::settle(stamped(config)?, Direction::Receive, config.interface.as_deref(), || {
            backend::way_in(config.target.destination.ip())
        })?;
    let why = match config.backend {
        Choice::Auto if config.nic_stamps => "sockets read the stamps of most NICs".to_owned(),
        _ => why,
    };
    let mut team = Team {
        source: Box::new(Workers::default()),
        interface,
        backend: report::Backend {
            name: backend.name(),
            mode: "plain",
            xdp: "none",
            segments: None,
            zero_copy_send: None,
            payload_touched: None,
            why,
        },
        steer: None,
        not_reassembled: None,
        warnings: Vec::new(),
        buffer: None,
        downtime: Downtime::default(),
        polled: Vec::new(),
        nic_clock: None,
        _placed: None,
        _memberships: None,
    };
    match backend {
        Backend::Afxdp => open_afxdp(&mut team, config, &targets)?,
        Backend::Uring => open_sockets(&mut team, config, &targets, |spec| {
            let mut queue = UringRx::open(spec)?;
            let opened = socket(queue.offload(), queue.receive_buffer(), queue.take_polled());
            Ok((queue, opened))
        })?,
        Backend::Mmsg => open_sockets(&mut team, config, &targets, |spec| {
            let mut queue = MmsgRx::open(spec)?;
            let opened = socket(queue.offload(), queue.receive_buffer(), queue.take_polled());
            Ok((queue, opened))
        })?,
        Backend::Xdp => open_sink(&mut team, config, &targets)?,
    }
    Ok(team)
}

/// The datapath to settle on: the sinks of `xdp` do not read the NIC's stamps.
fn stamped(config: &RecvConfig) -> Result<Choice> {
    let refuse = |what: &str, fix: &str| Err(Error::usage(format!("--timestamps nic: {what}")).fix(fix));
    match config.backend {
        backend if !config.nic_stamps => Ok(backend),
        Choice::Xdp => {
            refuse("the sinks of xdp do not read the stamps of the NIC", "use --backend mmsg, uring or afxdp")
        }
        _ if config.interface.is_none() => refuse("each NIC has a clock of its own", "name it with --iface"),
        // By AF_XDP it takes more of kernel and driver.
        Choice::Auto => Ok(Choice::Mmsg),
        backend => Ok(backend),
    }
}

fn socket(offload: Offload, buffer: usize, polled: Option<Polled>) -> Opened {
    Opened {
        granted: Granted::receiving(offload),
        fd: None,
        buffer: Some(buffer),
        not_reassembled: None,
        polled,
    }
}

/// Every group and port asked for.
fn targets(config: &RecvConfig) -> Result<Vec<Target>> {
    let first = config.target.destination;
    let ports = config.destination_ports.clone().unwrap_or(first.port()..=first.port());
    let mut targets = Vec::new();
    for n in 0..config.groups {
        let address = nth_address(first.ip(), n)?;
        for port in ports.clone() {
            let mut destination = first;
            destination.set_ip(address);
            destination.set_port(port);
            targets.push(Target { destination, ..config.target });
        }
    }
    Ok(targets)
}

/// What each socket receives: a target, and how many groups from its on. One socket has all groups of a port where these are more than the workers that there may be,
/// by default as many as this process has CPUs: more would only take turns.
fn shares(config: &RecvConfig, targets: &[Target]) -> Result<Vec<(Target, u16)>> {
    let workers = match config.workers {
        Some(workers) => workers,
        None => Cpus::read()?.allowed.len(),
    };
    if !config.target.is_group() || targets.len() <= workers {
        return Ok(targets.iter().map(|&target| (target, 1)).collect());
    }
    // The first group with each of its ports stands before the others.
    let first = targets.iter().take_while(|target| target.destination.ip() == targets[0].destination.ip());
    Ok(first.map(|&target| (target, config.groups)).collect())
}

/// Every destination asked for.
pub(crate) fn destinations(config: &RecvConfig) -> Result<Vec<SocketAddr>> {
    Ok(targets(config)?.iter().map(|target| target.destination).collect())
}

fn open_sockets<Q: Receive + 'static>(
    team: &mut Team,
    config: &RecvConfig,
    targets: &[Target],
    open: fn(&RxSpec) -> Result<(Q, Opened)>,
) -> Result<()> {
    if !config.queues.is_empty() {
        return Err(
            Error::usage("--queues: only afxdp has NIC queues").fix("leave it out, or use --backend afxdp")
        );
    }
    let shares = shares(config, targets)?;
    if shares.len() > MAX_SOCKETS {
        return Err(Error::usage(format!(
            "{} addresses and ports are more than the {MAX_SOCKETS} sockets of one run",
            shares.len()
        ))
        .fix("receive fewer, or use --backend afxdp"));
    }
    if let Some(interface) = team.interface.as_ref().filter(|_| config.nic_stamps) {
        team.nic_clock = Some(NicClock::begin(interface)?);
    }
    let specs = shares.into_iter().map(|(target, groups)| (0, target, groups)).collect();
    let opened = open_each(team, config, specs, open)?;
    let smallest = opened.iter().filter_map(|o| o.buffer).min();
    team.buffer = smallest;
    team.warnings
        .extend(smallest.and_then(|bytes| small_buffer(bytes, config.tuning.receive_buffer.is_some())));
    let offloads = || opened.iter().filter_map(|o| o.granted.offload.as_ref());
    team.backend.segments = offloads().map(Offload::segments).max();
    team.backend.payload_touched = Some(true);
    team.warnings.extend(offloads().find_map(Offload::refused).map(gro_refused));
    if config.tuning.busy_poll.is_some() {
        team.warnings.extend(team.interface.as_ref().and_then(interrupts_between_polls));
    }
    team.polled.extend(opened.into_iter().filter_map(|o| o.polled));
    Ok(())
}

/// A warning when the kernel delivers datagrams one by one though more were wanted.
fn gro_refused(error: std::io::Error) -> Warning {
    Warning {
        code: "gro-refused",
        text: format!("receive offload was refused ({error}): datagrams come one by one, more slowly"),
        fix: Some("it takes Linux 5.0".to_owned()),
    }
}

/// A warning when sockets were granted too small a receive buffer; `asked` says that somebody wants one of that size.
fn small_buffer(bytes: usize, asked: bool) -> Option<Warning> {
    let fix =
        if asked { "raise --receive-buffer" } else { "sysctl -w net.core.rmem_max=67108864, or run as root" };
    (bytes < ENOUGH_BUFFER).then(|| Warning {
        code: "small-buffer",
        text: format!(
            "the kernel granted a receive buffer of {} KiB: a short pause of this program loses packets",
            bytes >> 10
        ),
        fix: Some(fix.to_owned()),
    })
}

fn open_sink(team: &mut Team, config: &RecvConfig, targets: &[Target]) -> Result<()> {
    let interface = team.interface.clone().expect("xdp was chosen for an interface");
    let rules: Vec<Rule> = targets.iter().map(Rule::from).collect();
    let program = Program::attach(&interface, &rules, config.sink)?;
    (team.backend.mode, team.backend.xdp) = program.place().names();
    team.backend.payload_touched = Some(false);
    team.backend.why = format!("{}; {}", team.backend.why, program.why());
    if program.place() == Place::XdpGeneric {
        team.warnings.push(generic(&interface, program.why()));
    }
    join(team, &interface, config)?;
    team.source = Box::new(KernelSink::new(program, interface.name));
    Ok(())
}

/// A warning that XDP is not native, and why.
fn generic(interface: &Interface, refusal: &str) -> Warning {
    Warning {
        code: "generic-xdp",
        text: format!("{}: the driver refused native XDP ({refusal}); generic XDP is slower", interface.name),
        fix: None,
    }
}

/// Holds memberships for what no socket receives.
fn join(team: &mut Team, interface: &Interface, config: &RecvConfig) -> Result<()> {
    if config.target.is_group() {
        let mut memberships = Memberships::new(interface);
        let wanted = Wanted::range(&config.target, config.groups.into())?;
        memberships.join_all(&wanted, None, &Stop::default(), &mut |_| {})?;
        team._memberships = Some(memberships);
    }
    Ok(())
}

fn open_afxdp(team: &mut Team, config: &RecvConfig, targets: &[Target]) -> Result<()> {
    let interface = team.interface.clone().expect("afxdp was chosen for an interface");
    let nic = Nic::of(&interface);
    Nic::require_queues(&interface.name, &config.queues, nic.queues.rx)?;
    let queues: Vec<u32> = if config.queues.is_empty() {
        (0..nic.queues.rx.max(1)).collect()
    } else {
        config.queues.iter().map(|&q| q as u32).collect()
    };
    let rules: Vec<Rule> =
        targets.iter().map(|t| Rule { destination: t.destination, source: t.source }).collect();
    if config.nic_stamps {
        team.nic_clock = Some(NicClock::begin(&interface)?);
    }
    let attach = match (config.nic_stamps, config.tuning.kernel_stamps) {
        (true, _) => Steer::attach_asking_nic,
        (false, true) => Steer::attach_stamping,
        (false, false) => Steer::attach,
    };
    let mut steer = attach(&interface, &rules)?;
    if let Some(refusal) = steer.why() {
        team.warnings.push(generic(&interface, refusal));
    }
    if config.tuning.busy_poll.is_some() {
        team.warnings.extend(interrupts_between_polls(&interface));
    }
    if config.steer && queues.len() < nic.queues.rx as usize {
        direct(team, &interface, targets, &queues);
    }
    let specs = queues.iter().map(|&queue| (queue, targets[0], 1)).collect();
    // One of the workers receives what comes in fragments.
    let (first, fragmented) = (queues[0], shares(config, targets)?);
    let opened = open_each(team, config, specs, move |spec| {
        let targets = if spec.queue == first { &fragmented[..] } else { &[] };
        open_frames(spec, targets)
    })?;
    team.not_reassembled = opened.iter().find_map(|o| o.not_reassembled.clone());
    for (&queue, opened) in queues.iter().zip(&opened) {
        let socket = opened.fd.as_ref().expect("an AF_XDP socket has a descriptor");
        steer.set_socket(queue, socket)?;
    }
    team.steer = Some(steer);
    join(team, &interface, config)
}

/// Opens an AF_XDP socket, and others for what comes to `targets` in fragments. Without these the run goes on: most streams have none.
fn open_frames(spec: &RxSpec, targets: &[(Target, u16)]) -> Result<(ReassemblingRx, Opened)> {
    let frames = AfxdpRx::open(spec)?;
    let reassembled = match targets.len() {
        0 => Ok(None),
        1..=MAX_SOCKETS => ReassembledRx::open(spec, targets).map(Some).map_err(|error| error.to_string()),
        many => Err(format!("{many} addresses and ports are more than the {MAX_SOCKETS} sockets of one run")),
    };
    let (reassembled, not_reassembled) = match reassembled {
        Ok(reassembled) => (reassembled, None),
        Err(why) => (None, Some(why)),
    };
    let granted = Granted::of(frames.granted());
    let fd = frames.fd().try_clone_to_owned().map_err(|e| Error::failed("dup").because(e))?;
    let queue = ReassemblingRx::new(frames, reassembled)?;
    Ok((queue, Opened { granted, fd: Some(fd), buffer: None, not_reassembled, polled: None }))
}

/// Has the NIC direct what is wanted to `queues`, which are not all that it has.
fn direct(team: &mut Team, interface: &Interface, targets: &[Target], queues: &[u32]) {
    let destinations: Vec<SocketAddr> = targets.iter().map(|t| t.destination).collect();
    match Placed::place(interface, &destinations, queues) {
        Ok(placed) => team._placed = Some(placed),
        Err(refusal) => {
            let name = &interface.name;
            team.warnings.push(Warning {
                code: "not-directed",
                text: format!(
                    "{name}: the NIC takes no rule that directs packets to the queues of --queues ({refusal}): those that it puts into other \
                     queues are not received, and count as no-socket"
                ),
                fix: Some(format!("receive on all queues, leaving --queues out, or try: ethtool -K {name} ntuple on")),
            });
        }
    }
}

fn open_each<Q: Receive + 'static>(
    team: &mut Team,
    config: &RecvConfig,
    specs: Vec<(u32, Target, u16)>,
    open: impl Fn(&RxSpec) -> Result<(Q, Opened)> + Clone + Send + 'static,
) -> Result<Vec<Opened>> {
    let device = team.interface.as_ref().map(|i| Device::of(&Nic::of(i))).unwrap_or_default();
    let below_sockets = team.backend.name == Backend::Afxdp.name();
    let request = Request {
        queues: &specs.iter().map(|(queue, ..)| below_sockets.then_some(*queue)).collect::<Vec<_>>(),
        direction: Direction::Receive,
        wanted: &config.cpus,
        on_irq_cpu: config.on_irq_cpu,
    };
    let places = place(&Cpus::read()?, &device, &request)?;
    let mut all = Vec::new();
    let mut workers = Workers {
        stop: Stop::default(),
        interface: team.interface.as_ref().map(|i| i.name.clone()),
        ..Workers::default()
    };
    for (n, ((queue, target, groups), place)) in specs.into_iter().zip(places).enumerate() {
        let (filler, emptier) = handover(move || RxTally::new(n));
        let spec = RxSpec {
            interface: team.interface.clone(),
            queue,
            target,
            groups,
            max_payload: MAX_PAYLOAD,
            segments: config.segments,
            nic_clock: team.nic_clock.as_ref().map(NicClock::shared),
            tuning: config.tuning,
        };
        let (stop, config, downtime) = (workers.stop.clone(), config.clone(), team.downtime.clone());
        let open = open.clone();
        let (worker, opened) = start(
            format!("recv {n}"),
            (place.cpu, config.policy),
            move || open(&spec),
            move |queue: Q, ready_ns| {
                let queue = Patient::new(queue, downtime);
                let mut observer = Observer::new(config.observer(ready_ns));
                if let Some(inspect) = config.inspect {
                    observer.set_hexdump(Box::new(inspect));
                }
                if config.tuning.kernel_stamps {
                    observer.pair(config.packets.is_some());
                }
                worker::run(queue, observer, filler, &stop)
            },
        )?;
        workers.workers.push(worker);
        workers.emptiers.push(emptier);
        let memory_node = opened.granted.memory_node;
        workers.places.push(report::Worker::at(queue.max(n as u32), place, memory_node));
        team.backend.mode = opened.granted.mode;
        for text in &opened.granted.notes {
            team.warnings.push(Warning { code: "datapath", text: text.clone(), fix: None });
        }
        all.push(opened);
    }
    team.source = Box::new(workers);
    Ok(all)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_small_buffer_is_said() {
        let warning = small_buffer(212_992, false).unwrap();
        assert_eq!(warning.code, "small-buffer");
        assert!(warning.text.contains("208 KiB"), "{}", warning.text);
        assert!(warning.fix.is_some_and(|fix| fix.contains("net.core.rmem_max=67108864")));
        let asked = small_buffer(4096, true).unwrap();
        assert_eq!(asked.fix.as_deref(), Some("raise --receive-buffer"));
        assert_eq!(small_buffer(ENOUGH_BUFFER, false), None);
    }
}
