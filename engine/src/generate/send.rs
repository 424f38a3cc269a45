//! One run of a sender, from its configuration to its report.
#![forbid(unsafe_code)]

use std::collections::BTreeSet;
use std::net::IpAddr;
use std::time::Duration;

use serde_json::json;

use super::config::SendConfig;
use super::kernel::worker::KernelWorker;
use super::kernel::{self, Pace};
use super::plan::{self, Plan, WorkerPlan};
use super::rtp::SenderRtcp;
use super::source::{Generate, QueueWorker};
use super::txtime::Ahead;
use super::watched::Watched;
use super::worker;
use crate::advice::{LinkWatch, interrupts_between_polls};
use crate::backend::Backend;
use crate::clock;
use crate::control::{Event, Outcome, Stop};
use crate::error::{Error, Result};
use crate::host::placement::Place;
use crate::host::qdisc::TimedQdisc;
use crate::host::{neighbour, sched};
use crate::measure::handover::handover;
use crate::measure::tally::TxTally;
use crate::queue::afxdp::AfxdpTx;
use crate::queue::outage::{Downtime, Patient};
use crate::queue::socket::offload::Offload;
use crate::queue::socket::{MmsgTx, UringTx};
use crate::queue::spec::{Interface, TxSpec};
use crate::queue::{QueueError, Transmit};
use crate::report::{self, Clocks, Interval, Report, Tx, TxCollector};
use crate::worker::{Granted, start};

/// How often the collector looks.
const COLLECT: Duration = Duration::from_millis(20);

/// Packets after the first from which on the rate of a run is judged: one late packet of a few is no rate.
const MIN_INTERVALS: f64 = 100.0;

/// Sends as `config` says until it is done or `stop` is requested, telling `on_event` of each interval.
///
/// # Errors
/// What prevents it from starting. A failure on the way is in the outcome, beside what was sent by then.
pub fn run(config: &SendConfig, stop: &Stop, on_event: &mut dyn FnMut(Event<'_>)) -> Result<Outcome> {
    let plan = plan::plan(config)?;
    let mut report = Report::begin("send", config.describe(), plan.interface.as_ref());
    let (backend, why, interface) = (plan.backend, plan.why.clone(), plan.interface.clone());
    let destinations = destinations(&plan);
    let asked_pps = plan.pps;
    if let Some(pps) = asked_pps {
        report.config["rate_pps"] = pps.into();
    }
    let timed = plan.timed;
    if let Some((qdisc, ahead)) = timed {
        report.config["txtime"] = json!({
            "qdisc": qdisc.kind, "clock": qdisc.clock, "lead_ns": ahead.lead_ns,
        });
    }
    let mut rtcp = SenderRtcp::open(config, &plan)?;
    let mut watched = Watched::begin(config, &plan);
    let mut team = open(plan, stop)?;
    watched.note_ports(&team.offloads);
    report.backend = Some(report::Backend {
        name: backend.name(),
        mode: team.granted.mode,
        xdp: "none",
        segments: most_segments(&team.offloads),
        zero_copy_send: None,
        payload_touched: None,
        why,
    });
    report.host.memory_locked = sched::lock_memory();
    report.warn_of_policy(config.policy, on_event);
    for text in std::mem::take(&mut team.granted.notes) {
        report.warn(report::Warning { code: "datapath", text, fix: None }, on_event);
    }
    if backend == Backend::Afxdp
        && config.tuning.busy_poll.is_some()
        && let Some(warning) = interface.as_ref().and_then(interrupts_between_polls)
    {
        report.warn(warning, on_event);
    }
    let link = LinkWatch::begin(interface.as_ref());
    let mut clocks = Clocks::default();
    clocks.look();
    on_event(Event::Ready);

    let mut refusal = Refusal::default();
    let mut collector = TxCollector::new();
    let start_ns = clock::tai_ns();
    team.sources.iter_mut().for_each(|source| source.go(start_ns));
    let period_ns = config.interval.as_nanos() as u64;
    let mut interval_start = 0;
    while team.sources.iter().any(|source| !source.is_finished()) {
        std::thread::sleep(COLLECT);
        team.sources
            .iter_mut()
            .for_each(|source| source.sample(&mut |tally| absorb(tally, &mut collector, &mut rtcp)));
        rtcp.iter().for_each(SenderRtcp::update);
        refusal.look(&team.offloads, &mut report, on_event);
        let now = clock::tai_ns() - start_ns;
        if now >= interval_start + period_ns {
            push_interval(&mut report, &mut collector, interval_start, now, on_event);
            interval_start = now;
        }
    }
    let mut failure = None;
    for (source, place) in team.sources.into_iter().zip(team.places) {
        match source.join(&mut |tally| absorb(tally, &mut collector, &mut rtcp)) {
            Ok((packets, broken)) => {
                report.workers.push(report::Worker { packets, ..place });
                if let Some(broken) = broken {
                    failure = Some(explain(&broken, interface.as_ref().map(|i| i.name.as_str())));
                }
            }
            Err(error) => failure = Some(error),
        }
    }
    report.rtcp = rtcp.map(SenderRtcp::finish);
    push_interval(&mut report, &mut collector, interval_start, clock::tai_ns() - start_ns, on_event);
    refusal.look(&team.offloads, &mut report, on_event);
    if let Some(backend) = &mut report.backend {
        backend.segments = most_segments(&team.offloads);
        backend.zero_copy_send = team.offloads.iter().any(Offload::zero_copy).then_some(true);
    }
    if let Some(warning) = link.warning(team.downtime.total()) {
        report.warn(warning, on_event);
    }
    let tx = collector.finish();
    if let unanswered @ 1.. = collector.unanswered() {
        let text = format!(
            "no iperf server answered the end of {unanswered} streams: what it received is not known"
        );
        let fix = "start it before the sender: iperf -s -u (without --no-udp-fin)".to_owned();
        report.warn(report::Warning { code: "iperf2-unanswered", text, fix: Some(fix) }, on_event);
    }
    if tx.packets > 0 {
        look_for_neighbours(&destinations, interface.as_ref(), &mut report, on_event);
    }
    if let Some(warning) = asked_pps.and_then(|pps| offered_less(pps, &tx)) {
        report.warn(warning, on_event);
    }
    if let Some(warning) = timed.and_then(|(qdisc, ahead)| behind_time(&tx, &qdisc, &ahead)) {
        report.warn(warning, on_event);
    }
    if backend == Backend::Xdp && tx.errors > 0 {
        report.warn(no_room(interface.as_ref(), &tx), on_event);
    }
    clocks.look();
    report.clock = Some(clocks.finish(None));
    report.ledger = Some(watched.ledger(&tx));
    report.tx = Some(tx);
    Ok(Outcome { report, losses: Vec::new(), failure })
}

/// Takes in what a worker has counted.
fn absorb(tally: &TxTally, collector: &mut TxCollector, rtcp: &mut Option<SenderRtcp>) {
    collector.absorb(tally);
    if let Some(rtcp) = rtcp {
        rtcp.absorb(tally);
    }
}

/// The largest hand-over, in packets.
fn most_segments(offloads: &[Offload]) -> Option<u16> {
    offloads.iter().map(Offload::segments).max()
}

/// Says once that segmentation offload was refused.
#[derive(Debug, Default)]
struct Refusal {
    said: bool,
}

impl Refusal {
    fn look(&mut self, offloads: &[Offload], report: &mut Report, on_event: &mut dyn FnMut(Event<'_>)) {
        if self.said {
            return;
        }
        let Some(error) = offloads.iter().find_map(Offload::refused) else { return };
        self.said = true;
        let text = format!(
            "segmentation offload was refused ({error}): since then packets leave one by one, more slowly"
        );
        let fix = match error.raw_os_error() {
            Some(libc::ENOPROTOOPT) => "it takes Linux 4.18",
            Some(libc::EPERM) => {
                "look for a firewall rule by length: nft list ruleset; or use --segments off"
            }
            Some(libc::EIO) => "look for IPsec on the route: ip xfrm policy; or use --segments off",
            _ => "look at the route (ip route get ADDRESS) and its MTU, or use --segments off",
        };
        report.warn(report::Warning { code: "gso-refused", text, fix: Some(fix.to_owned()) }, on_event);
    }
}

/// A warning when less than 99 % of the rate asked for was offered. What this host refused was offered, too.
fn offered_less(asked_pps: f64, tx: &Tx) -> Option<report::Warning> {
    let offered = tx.packets + tx.errors;
    // The first packet begins the time that `duration_ns` is, so that it is of no interval.
    let (intervals, seconds) = (offered.saturating_sub(1) as f64, tx.duration_ns as f64 / 1e9);
    if intervals < MIN_INTERVALS || seconds <= 0.0 || intervals / seconds >= asked_pps * 0.99 {
        return None;
    }
    Some(report::Warning {
        code: "offered-load",
        text: format!(
            "asked for {:.2} kpps, offered {:.2} kpps: this host did not keep up",
            asked_pps / 1e3,
            intervals / seconds / 1e3
        ),
        fix: Some(
            "lower --rate, or spread the load: more --workers and --streams (sockets, xdp), more --queues (afxdp), --cpus \
             that nothing else uses"
                .to_owned(),
        ),
    })
}

/// A warning when more than one packet of a hundred was handed over after its time.
fn behind_time(tx: &Tx, qdisc: &TimedQdisc, ahead: &Ahead) -> Option<report::Warning> {
    let (overdue, all) = (tx.overdue?, tx.packets + tx.errors);
    if overdue * 100 <= all {
        return None;
    }
    let what_then = if qdisc.head_start_ns == 0 { "left late" } else { "were put off" };
    let fix = if ahead.is_shortened() {
        "spread the rate over more --streams, or raise fq's limits: tc qdisc replace dev IF root fq limit 100000 flow_limit 10000"
    } else {
        "leave the sender a CPU of its own (--cpus), or use --sched fifo"
    };
    Some(report::Warning {
        code: "overdue",
        text: format!(
            "{overdue} of {all} packets were handed over after their time, {} µs ahead at most, and {what_then}",
            ahead.lead_ns / 1000
        ),
        fix: Some(fix.to_owned()),
    })
}

fn push_interval(
    report: &mut Report,
    collector: &mut TxCollector,
    start_ns: u64,
    end_ns: u64,
    on_event: &mut dyn FnMut(Event<'_>),
) {
    let interval = Interval { start_ns, end_ns, tx: Some(collector.interval(end_ns - start_ns)), rx: None };
    if interval.tx.as_ref().is_some_and(|tx| tx.packets + tx.errors > 0) {
        on_event(Event::Interval(&interval));
        report.intervals.push(interval);
    }
}

/// The unicast addresses that sockets send to. AF_XDP and XDP resolved their own before it began.
fn destinations(plan: &Plan) -> BTreeSet<IpAddr> {
    let flows = plan.workers.iter().filter(|_| !plan.backend.is_below_sockets()).flat_map(|w| &w.spec.flows);
    flows.map(|flow| flow.destination.ip()).filter(|ip| !ip.is_multicast()).collect()
}

/// Warns of packets that were sent to nobody: the kernel takes them, and drops them when no neighbour answers.
fn look_for_neighbours(
    destinations: &BTreeSet<IpAddr>,
    interface: Option<&Interface>,
    report: &mut Report,
    on_event: &mut dyn FnMut(Event<'_>),
) {
    let index = interface.map(|i| i.index);
    let mut missing = destinations.iter().filter_map(|&ip| neighbour::unanswered(ip, index)).fuse();
    let Some((hop, name)) = missing.next() else { return };
    let more = match missing.count() {
        0 => String::new(),
        n => format!(", nor for {n} more"),
    };
    let text = format!(
        "no neighbour answers for {hop} on {name}{more}: this host counts packets to it as sent, and drops them"
    );
    let fix = format!(
        "check that {hop} is up and on this link (ip neigh show dev {name}), or add a route by a gateway"
    );
    report.warn(report::Warning { code: "no-neighbour", text, fix: Some(fix) }, on_event);
}

/// Says what a broken queue means to the user.
pub(crate) fn explain(broken: &QueueError, interface: Option<&str>) -> Error {
    match interface {
        Some(name) if broken.is_interface_gone() => Error::failed(format!(
            "{name}: the interface went away or down during the run ({broken}); the report covers the time before"
        )),
        Some(name) => Error::failed(format!("{name}: the datapath broke during the run: {broken}")),
        None => Error::failed(format!("the datapath broke during the run: {broken}")),
    }
}

/// A warning of packets that the kernel made and the interface did not take.
fn no_room(interface: Option<&Interface>, tx: &Tx) -> report::Warning {
    let name = interface.map_or("the interface", |i| i.name.as_str());
    report::Warning {
        code: "refused",
        text: format!(
            "{name} took {} packets and refused {}: they found no room in its ring and never left",
            tx.packets, tx.errors
        ),
        fix: Some(
            "lower --rate until nothing is refused; on a veth, let its other end receive on another CPU"
                .to_owned(),
        ),
    }
}

/// Everything that is ready to send.
struct Team {
    sources: Vec<Box<dyn Generate>>,
    places: Vec<report::Worker>,
    granted: Granted,
    /// Of each worker with sockets.
    offloads: Vec<Offload>,
    downtime: Downtime,
}

impl Team {
    fn new(granted: Granted) -> Self {
        Self {
            sources: Vec::new(),
            places: Vec::new(),
            granted,
            offloads: Vec::new(),
            downtime: Downtime::default(),
        }
    }

    fn add(&mut self, source: Box<dyn Generate>, queue: u32, place: Place, memory_node: Option<u32>) {
        self.sources.push(source);
        self.places.push(report::Worker::at(queue, place, memory_node));
    }
}

fn open(plan: Plan, stop: &Stop) -> Result<Team> {
    match plan.backend {
        Backend::Afxdp => open_each(plan.workers, stop, |spec| {
            let queue = AfxdpTx::open(spec)?;
            let granted = Granted::of(queue.granted());
            Ok((queue, granted))
        }),
        Backend::Uring => open_each(plan.workers, stop, |spec| {
            let queue = UringTx::open(spec)?;
            let granted = Granted::sending(queue.offload());
            Ok((queue, granted))
        }),
        Backend::Mmsg => open_each(plan.workers, stop, |spec| {
            let queue = MmsgTx::open(spec)?;
            let granted = Granted::sending(queue.offload());
            Ok((queue, granted))
        }),
        Backend::Xdp => open_kernel(plan, stop),
    }
}

/// Workers whose packets the kernel makes.
fn open_kernel(plan: Plan, stop: &Stop) -> Result<Team> {
    let interface = plan.interface.as_ref().expect("it was chosen for an interface");
    kernel::require_redirect_target(interface)?;
    let mut team = Team::new(Granted { mode: "live", ..Granted::none() });
    for (n, WorkerPlan { place, policy, spec, job, load }) in plan.workers.into_iter().enumerate() {
        if load.sizes.min() != load.sizes.max() {
            return Err(Error::usage("--backend xdp: the kernel's generator makes packets of one size")
                .fix("give one --frame-size or --length, or use --backend afxdp"));
        }
        let pace = Pace { pps: load.pps, limit: load.limit, duration: job.duration };
        let queue = spec.queue;
        let source = KernelWorker::start(n, (place.cpu, policy), spec, job.run, pace, stop)?;
        team.add(Box::new(source), queue, place, None);
    }
    Ok(team)
}

fn open_each<T: Transmit + 'static>(
    plans: Vec<WorkerPlan>,
    stop: &Stop,
    open: fn(&TxSpec) -> Result<(T, Granted)>,
) -> Result<Team> {
    let mut team = Team::new(Granted::none());
    for (n, WorkerPlan { place, policy, spec, job, .. }) in plans.into_iter().enumerate() {
        let (filler, tallies) = handover(move || TxTally::new(n));
        let stop = stop.clone();
        let downtime = team.downtime.clone();
        let queue = spec.queue;
        let (worker, granted) = start(
            format!("send {n}"),
            (place.cpu, policy),
            move || open(&spec),
            move |queue: T, _| worker::run(Patient::new(queue, downtime), job, filler, &stop),
        )?;
        let memory_node = granted.memory_node;
        team.add(Box::new(QueueWorker { worker, tallies }), queue, place, memory_node);
        team.offloads.extend(granted.offload.clone());
        team.granted = granted;
    }
    Ok(team)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::host::qdisc::TxClock;
    use crate::report::Burst;

    fn tx(packets: u64, errors: u64, duration_ns: u64) -> Tx {
        Tx {
            packets,
            fragments: None,
            frame_bytes: 0,
            payload_bytes: 0,
            duration_ns,
            pps: 0,
            l1_bps: 0,
            l2_bps: 0,
            payload_bps: 0,
            errors,
            messages: 5,
            iperf2: Vec::new(),
            overdue: None,
            burst: Burst { p50: 0, p99: 0, max: 0 },
            inter_departure_ns: None,
            lateness_ns: None,
        }
    }

    #[test]
    fn packets_behind_their_time_are_said() {
        let fq = TimedQdisc {
            kind: "fq",
            clock: TxClock::Monotonic,
            deadline: false,
            head_start_ns: 0,
            limit: 10_000,
            flow_limit: 100,
            horizon_ns: 10_000_000_000,
        };
        let said = |overdue, pps| {
            let tx = Tx { overdue, ..tx(990, 10, 1_000_000_000) };
            behind_time(&tx, &fq, &Ahead::new(&fq, pps, pps))
        };
        assert_eq!(said(None, 1e3), None, "no times, none behind them");
        assert_eq!(said(Some(10), 1e3), None, "one of a hundred will do");
        let held_up = said(Some(11), 1e3).unwrap();
        assert!(held_up.text.starts_with("11 of 1000 packets") && held_up.text.contains("4000 µs"));
        assert!(held_up.fix.unwrap().contains("--sched fifo"));
        let shortened = said(Some(11), 1e6).unwrap();
        assert!(shortened.text.contains(" 50 µs ahead") && shortened.fix.unwrap().contains("flow_limit"));
    }

    #[test]
    fn less_than_asked_for_is_said() {
        const SECOND: u64 = 1_000_000_000;
        let warning = offered_less(20_000.0, &tx(13_641, 0, SECOND)).unwrap();
        assert_eq!(warning.code, "offered-load");
        assert!(warning.text.starts_with("asked for 20.00 kpps, offered 13.64 kpps: "), "{}", warning.text);
        assert_eq!(offered_less(20_000.0, &tx(19_801, 0, SECOND)), None, "99 % will do");
        assert_eq!(offered_less(20_000.0, &tx(10_000, 10_000, SECOND)), None, "refused is offered");
        assert_eq!(offered_less(20_000.0, &tx(10, 0, SECOND)), None, "too few to have a rate");
        assert_eq!(offered_less(20_000.0, &tx(1, 0, 0)), None);
    }
}
