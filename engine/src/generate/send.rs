//! One run of a sender, from its configuration to its report.
#![forbid(unsafe_code)]

use std::collections::BTreeSet;
use std::net::IpAddr;
use std::time::Duration;

use super::config::SendConfig;
use super::plan::{self, Plan, WorkerPlan};
use super::worker;
use crate::advice::{LinkWatch, interrupts_between_polls};
use crate::backend::Backend;
use crate::clock;
use crate::control::{Event, Outcome, Stop};
use crate::error::{Error, Result};
use crate::host::{cpu, neighbour};
use crate::measure::handover::{Emptier, handover};
use crate::measure::tally::TxTally;
use crate::queue::afxdp::AfxdpTx;
use crate::queue::outage::{Downtime, Patient};
use crate::queue::socket::{MmsgTx, UringTx};
use crate::queue::spec::{Interface, TxSpec};
use crate::queue::{QueueError, Transmit};
use crate::report::{self, Interval, Report, Tx, TxCollector};
use crate::worker::{Granted, Worker, start};

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
    let mut team = open(plan, stop)?;
    report.backend = Some(report::Backend {
        name: backend.name(),
        mode: team.granted.mode,
        xdp: "none",
        segments: None,
        payload_touched: None,
        why,
    });
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
    on_event(Event::Ready);

    let mut collector = TxCollector::new();
    let start_ns = clock::tai_ns();
    team.workers.iter_mut().for_each(|w| w.go(start_ns));
    let period_ns = config.interval.as_nanos() as u64;
    let mut interval_start = 0;
    while team.workers.iter().any(|w| !w.is_finished()) {
        std::thread::sleep(COLLECT);
        team.emptiers.iter().for_each(|e| e.drain(|t| collector.absorb(t)));
        let now = clock::tai_ns() - start_ns;
        if now >= interval_start + period_ns {
            push_interval(&mut report, &mut collector, interval_start, now, on_event);
            interval_start = now;
        }
    }
    let mut failure = None;
    for (n, (worker, emptier)) in team.workers.into_iter().zip(&team.emptiers).enumerate() {
        emptier.drain(|t| collector.absorb(t));
        match worker.join() {
            Ok((last, broken)) => {
                collector.absorb(&last);
                report.workers.push(report::Worker { packets: last.packets, ..team.places[n].clone() });
                if let Some(broken) = broken {
                    failure = Some(explain(&broken, interface.as_ref().map(|i| i.name.as_str())));
                }
            }
            Err(error) => failure = Some(error),
        }
    }
    push_interval(&mut report, &mut collector, interval_start, clock::tai_ns() - start_ns, on_event);
    if let Some(warning) = link.warning(team.downtime.total()) {
        report.warn(warning, on_event);
    }
    let tx = collector.finish();
    if tx.packets > 0 {
        look_for_neighbours(&destinations, interface.as_ref(), &mut report, on_event);
    }
    if let Some(warning) = asked_pps.and_then(|pps| offered_less(pps, &tx)) {
        report.warn(warning, on_event);
    }
    report.tx = Some(tx);
    Ok(Outcome { report, losses: Vec::new(), failure })
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
            "lower --rate, or spread the load: more --workers and --streams (sockets), more --queues (afxdp), --cpus \
             that nothing else uses"
                .to_owned(),
        ),
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

/// Workers that have opened their queues.
struct Team {
    workers: Vec<Worker<TxTally>>,
    emptiers: Vec<Emptier<TxTally>>,
    places: Vec<report::Worker>,
    granted: Granted,
    downtime: Downtime,
}

fn open(plan: Plan, stop: &Stop) -> Result<Team> {
    match plan.backend {
        Backend::Afxdp => open_each(plan.workers, stop, |spec| {
            let queue = AfxdpTx::open(spec)?;
            let granted = Granted::of(queue.granted());
            Ok((queue, granted))
        }),
        Backend::Uring => open_each(plan.workers, stop, |spec| Ok((UringTx::open(spec)?, Granted::plain()))),
        Backend::Mmsg => open_each(plan.workers, stop, |spec| Ok((MmsgTx::open(spec)?, Granted::plain()))),
        Backend::Xdp => Err(Error::usage("--backend xdp does not send yet")),
    }
}

fn open_each<T: Transmit + 'static>(
    plans: Vec<WorkerPlan>,
    stop: &Stop,
    open: fn(&TxSpec) -> Result<(T, Granted)>,
) -> Result<Team> {
    let mut team = Team {
        workers: Vec::new(),
        emptiers: Vec::new(),
        places: Vec::new(),
        granted: Granted::plain(),
        downtime: Downtime::default(),
    };
    for (n, WorkerPlan { cpu, spec, job }) in plans.into_iter().enumerate() {
        let (filler, emptier) = handover(move || TxTally::new(n));
        let stop = stop.clone();
        let downtime = team.downtime.clone();
        let queue = spec.queue;
        let (worker, granted) = start(
            format!("send {n}"),
            cpu,
            move || open(&spec),
            move |queue: T, _| worker::run(Patient::new(queue, downtime), job, filler, &stop),
        )?;
        team.workers.push(worker);
        team.emptiers.push(emptier);
        let memory_node = granted.memory_node;
        team.places.push(report::Worker {
            queue,
            cpu,
            numa_node: cpu::node_of(cpu),
            memory_node,
            packets: 0,
        });
        team.granted = granted;
    }
    Ok(team)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::report::Burst;

    fn tx(packets: u64, errors: u64, duration_ns: u64) -> Tx {
        Tx {
            packets,
            frame_bytes: 0,
            payload_bytes: 0,
            duration_ns,
            pps: 0,
            l1_bps: 0,
            l2_bps: 0,
            payload_bps: 0,
            errors,
            messages: 5,
            burst: Burst { p50: 0, p99: 0, max: 0 },
        }
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
