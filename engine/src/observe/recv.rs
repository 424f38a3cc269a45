//! One run of a receiver, from its configuration to its report.
#![forbid(unsafe_code)]

use std::time::Duration;

use super::cable::Watched;
use super::config::RecvConfig;
use super::ending::Ending;
use super::rtcp::ReceiverRtcp;
use super::team::{self, Team};
use crate::advice::LinkWatch;
use crate::clock::{self, Steadiness};
use crate::control::{Event, Outcome, Stop};
use crate::drops::current_netns_inode;
use crate::drops::watch::Side;
use crate::drops::witness::Witness;
use crate::error::{Error, Result};
use crate::host::{interface, sched};
use crate::ledger::cable::Known;
use crate::ledger::evidence::Evidence;
use crate::ledger::{self, Seen};
use crate::queue::afxdp::steer::{Mode, SteerCount, Verdict};
use crate::queue::socket::busy_poll::Polled;
use crate::report::{self, HistogramLog, Interval, PacketTable, Report, RxCollector, Warning};

/// How often the collector looks.
const COLLECT: Duration = Duration::from_millis(20);

/// How often the collector looks whether the interface is still there: a socket is told nothing when it goes.
const LOOK_AT_INTERFACE_NS: u64 = 200_000_000;

/// Receives as `config` says until it is done or `stop` is requested, telling `on_event` when it is ready and of
/// each interval.
///
/// # Errors
/// What prevents it from starting. A failure on the way is in the outcome, beside what was measured by then.
pub fn run(config: &RecvConfig, stop: &Stop, on_event: &mut dyn FnMut(Event<'_>)) -> Result<Outcome> {
    let mut witness =
        config.kernel_drops.then(|| team::destinations(config).and_then(|d| Witness::start(Side::Any, &d)));
    let mut team = team::open(config)?;
    let mut report = Report::begin("recv", config.describe(), team.interface.as_ref());
    report.backend = Some(team.backend.clone());
    report.host.memory_locked = sched::lock_memory();
    report.warn_of_policy(config.policy, on_event);
    for warning in std::mem::take(&mut team.warnings) {
        report.warn(warning, on_event);
    }

    let port = config.sender_port.as_ref();
    let cable = port.map(|port| Watched::begin(port, team.interface.as_ref())).transpose()?;
    let mut rtcp = ReceiverRtcp::open(config, team.interface.as_ref(), &mut report, on_event);
    if let Some(Ok(watching)) = &mut witness {
        watching.begin()?;
    }
    let evidence = Evidence::begin(team.interface.as_ref());
    let mut collector = RxCollector::new();
    collector.ask(team::destinations(config)?);
    if team.source.sunk().is_some() {
        collector.leave_out_late();
        // The sink is in the kernel.
        collector.expect_kernel_stamps();
    }
    if config.tuning.kernel_stamps {
        collector.expect_kernel_stamps();
    }
    if let Some(clock) = &team.nic_clock {
        collector.by_nic(clock.describe());
    }
    let mut table = config.packets.as_deref().map(PacketTable::create).transpose()?;
    let mut hlog = config.hlog.as_deref().map(HistogramLog::create).transpose()?;
    let mut clocks = Steadiness::begin();
    collector.clocks().look();
    let link = LinkWatch::begin(team.interface.as_ref());
    let start_ns = clock::tai_ns();
    collector.ready(start_ns);
    team.source.go(start_ns)?;
    if let Some(bytes) = team.buffer {
        // The kernel doubles it for its own overhead, and tells it so.
        on_event(Event::Buffer(2 * bytes));
    }
    on_event(Event::Ready);

    let mut failure = None;
    let ending = Ending::new(config, start_ns);
    let period_ns = config.interval.as_nanos() as u64;
    let (mut interval_start, mut looked_ns) = (0, start_ns);
    while !team.source.has_ended() {
        std::thread::sleep(COLLECT);
        if let Err(error) = team.source.sample(&mut collector) {
            failure = Some(error);
            break;
        }
        if let Some(table) = &mut table {
            table.add(&collector.take_pairs());
        }
        tell_iperf2(&mut collector, on_event);
        let now_ns = clock::tai_ns();
        rtcp.look(&collector, now_ns);
        if let Some(warning) = team.nic_clock.as_mut().and_then(|clock| clock.look(now_ns)) {
            report.warn(warning, on_event);
        }
        if now_ns - start_ns >= interval_start + period_ns {
            push_interval(
                &mut report,
                &mut collector,
                &mut hlog,
                interval_start,
                now_ns - start_ns,
                on_event,
            );
            interval_start = now_ns - start_ns;
            look_at_clock(&mut clocks, &mut collector, &mut report, on_event);
        }
        if now_ns >= looked_ns + LOOK_AT_INTERFACE_NS {
            looked_ns = now_ns;
            failure = team.interface.as_ref().filter(|i| !interface::exists(i.index)).map(|i| {
                Error::failed(format!(
                    "{}: the interface went away during the run; the report covers the time before",
                    i.name
                ))
            });
        }
        if failure.is_some() || stop.is_requested() || ending.has_come(&collector, now_ns, &rtcp) {
            break;
        }
    }
    if let Some(error) = team.source.finish(&mut collector, &mut report) {
        failure.get_or_insert(error);
    }
    tell_iperf2(&mut collector, on_event);
    if let Some(clock) = &mut team.nic_clock {
        if let Some(warning) = clock.end() {
            report.warn(warning, on_event);
        }
        collector.by_nic(clock.describe());
    }
    report.rtcp = rtcp.finish(&collector);
    look_at_clock(&mut clocks, &mut collector, &mut report, on_event);
    if let Some(warning) = link.warning(team.downtime.total()) {
        report.warn(warning, on_event);
    }
    if let Some(warning) = polled_in_vain(&team.polled, &collector) {
        report.warn(warning, on_event);
    }
    let end_ns = clock::tai_ns() - start_ns;
    push_interval(&mut report, &mut collector, &mut hlog, interval_start, end_ns, on_event);
    if let Some(mut table) = table {
        table.add(&collector.take_pairs());
        if let Some(warning) = table.finish(collector.pairs_missing()) {
            report.warn(warning, on_event);
        }
    }
    if let Some(warning) = hlog.and_then(|log| log.finish(&collector)) {
        report.warn(warning, on_event);
    }
    conclude(&mut report, &collector, &team, witness, cable.as_ref(), on_event);
    if let Some(ledger) = &mut report.ledger {
        ledger.evidence = evidence.rise();
    }
    Ok(Outcome { report, losses: collector.losses(), failure })
}

/// Tells of iperf's lines that are new.
pub(super) fn tell_iperf2(collector: &mut RxCollector, on_event: &mut dyn FnMut(Event<'_>)) {
    collector.take_iperf2().iter().for_each(|row| on_event(Event::Iperf2(row)));
}

fn push_interval(
    report: &mut Report,
    collector: &mut RxCollector,
    hlog: &mut Option<HistogramLog>,
    start_ns: u64,
    end_ns: u64,
    on_event: &mut dyn FnMut(Event<'_>),
) {
    if let Some(log) = hlog {
        log.add(collector, start_ns, end_ns);
    }
    let interval = Interval { start_ns, end_ns, tx: None, rx: Some(collector.interval(end_ns - start_ns)) };
    if interval.rx.as_ref().is_some_and(|rx| rx.packets > 0) {
        on_event(Event::Interval(&interval));
        report.intervals.push(interval);
    }
}

/// A warning when packets came, and by nothing that a program can poll.
fn polled_in_vain(polled: &[Polled], collector: &RxCollector) -> Option<Warning> {
    if polled.is_empty() || polled.iter().any(Polled::has_napi) || collector.finish().packets == 0 {
        return None;
    }
    Some(Warning {
        code: "no-napi",
        text: "--busy-poll changed nothing: packets came by an interface without a driver that can be polled (loopback, veth)"
            .to_owned(),
        fix: Some("leave it out, or receive on a NIC; on a veth: ethtool -K IF gro on".to_owned()),
    })
}

fn look_at_clock(
    clocks: &mut Steadiness,
    collector: &mut RxCollector,
    report: &mut Report,
    on_event: &mut dyn FnMut(Event<'_>),
) {
    collector.clocks().look();
    if let Some(what) = clocks.look() {
        collector.clocks().stepped();
        let text = format!("{what} during the run: latencies before and after do not compare");
        let fix = Some("let the time daemon settle before measuring (chronyc waitsync)".to_owned());
        report.warn(Warning { code: "clock-step", text, fix }, on_event);
    }
}

/// Adds what is known at the end only.
fn conclude(
    report: &mut Report,
    collector: &RxCollector,
    team: &Team,
    witness: Option<Result<Witness>>,
    cable: Option<&Watched>,
    on_event: &mut dyn FnMut(Event<'_>),
) {
    let rx = collector.finish();
    if rx.packets == 0 {
        let (text, fix) = match (rx.corrupt, rx.foreign) {
            (0, 0) => (
                "nothing arrived".to_owned(),
                "check the group, the port and --iface here, and --ttl at the sender; wirerate doctor looks at this \
                  machine",
            ),
            (0, n) => (
                format!("nothing of a known format arrived, but {n} foreign datagrams did"),
                "--format raw counts them",
            ),
            (n, _) => (
                format!("nothing arrived as it was sent: {n} datagrams were corrupt"),
                "--hexdump shows them; with --verify-payload, name the sender's --payload or --payload-file",
            ),
        };
        report.warn(Warning { code: "nothing-heard", text, fix: Some(fix.to_owned()) }, on_event);
    }
    for warning in collector.warnings() {
        report.warn(warning, on_event);
    }
    let afxdp = team.steer.is_some();
    let interface = team.interface.as_ref();
    // Without /proc the kernel's drops are not known either.
    let here = current_netns_inode().unwrap_or(0);
    let mut kernel = witness.map(|witness| witness.and_then(|w| w.settled()));
    if let (Some(Ok(drops)), Some(sunk)) = (&mut kernel, team.source.sunk()) {
        ledger::leave_out_sunk(drops, sunk, here, interface.map(|i| i.index));
    }
    let seen = Seen {
        afxdp,
        here,
        interface: interface.map(|i| (i.name.as_str(), i.index)),
        kernel: kernel.as_ref().and_then(|k| k.as_deref().ok()).unwrap_or_default(),
    };
    report.ledger = ledger::of_receiver(collector, seen);
    if let Some(warning) = ledger::without_end(collector) {
        report.warn(warning, on_event);
    }
    if let (Some(ledger), Some(cable)) = (&mut report.ledger, cable)
        && let Some(warning) = cable.tell(ledger, Known::of(collector))
    {
        report.warn(warning, on_event);
    }
    if let Some(Err(unseen)) = kernel {
        // Not a word where nothing is missing: most users have no such privileges.
        let unaccounted = report.ledger.iter().flat_map(|l| &l.paths).map(|p| p.unaccounted).max();
        if let Some(packets @ 1..) = unaccounted {
            let text = format!(
                "{packets} packets are unaccounted, and the kernel could not tell its own drops: {}",
                unseen.what
            );
            report.warn(Warning { code: "kernel-drops-unseen", text, fix: unseen.fix }, on_event);
        }
    }
    if let (Some(backend), Some(steer)) = (&mut report.backend, &team.steer) {
        backend.xdp = match steer.mode() {
            Mode::Native => "native",
            Mode::Generic => "generic",
        };
        let counts = steer.counts().unwrap_or_default();
        report.steer = steered(&counts, team.interface.as_ref().map_or("", |i| &i.name));
        if let Some(warning) = of_fragments(&counts, team.not_reassembled.as_deref(), rx.reordered) {
            report.warn(warning, on_event);
        }
    }
    report.clock = Some(collector.clock());
    report.rx = Some(rx);
}

/// A warning when fragments came and the sockets that would have received what the kernel makes of them could not be opened, or when these receive a part of
/// streams of which packets were `reordered`.
fn of_fragments(counts: &[SteerCount], unseen: Option<&str>, reordered: u64) -> Option<Warning> {
    let fragments: u64 = counts.iter().filter(|c| c.verdict == Verdict::Fragment).map(|c| c.packets).sum();
    match unseen {
        _ if fragments == 0 => None,
        Some(why) => Some(Warning {
            code: "fragments-unseen",
            text: format!("{fragments} fragments came, and no socket receives what they are parts of: {why}"),
            fix: Some("use --backend uring".to_owned()),
        }),
        None => (reordered > 0).then(|| Warning {
            code: "two-ways",
            text: format!(
                "packets in fragments came by the kernel and all others by AF_XDP: {reordered} count as reordered, of which these ways may have made \
                 the most"
            ),
            fix: Some("use --backend uring where the order matters".to_owned()),
        }),
    }
}

/// The counters of the program on `interface`; none when the kernel does not show them, which costs nothing that was measured.
pub(crate) fn steered(counts: &[SteerCount], interface: &str) -> Vec<report::Steered> {
    let steered = counts.iter().map(|count| report::Steered {
        interface: interface.to_owned(),
        queue: count.queue,
        verdict: count.name(),
        packets: count.packets,
        frame_bytes: count.bytes,
    });
    steered.collect()
}
