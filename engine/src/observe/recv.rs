//! One run of a receiver, from its configuration to its report.
#![forbid(unsafe_code)]

use std::time::Duration;

use super::config::RecvConfig;
use super::ending::Ending;
use super::team::{self, Team};
use crate::clock::{self, Steadiness};
use crate::control::{Event, Outcome, Stop};
use crate::error::{Error, Result};
use crate::generate::explain;
use crate::host::interface;
use crate::ledger;
use crate::queue::afxdp::steer::Mode;
use crate::report::{self, Interval, Report, RxCollector, Warning};
use crate::worker::Worker;

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
    let workers_stop = Stop::default();
    let mut team = team::open(config, &workers_stop)?;
    let mut report = Report::begin("recv", config.describe(), team.interface.as_ref());
    report.backend = Some(team.backend.clone());
    for warning in std::mem::take(&mut team.warnings) {
        report.warn(warning, on_event);
    }

    let mut collector = RxCollector::new();
    let mut clocks = Steadiness::begin();
    let start_ns = clock::tai_ns();
    team.workers.iter_mut().for_each(|w| w.go(start_ns));
    on_event(Event::Ready);

    let mut failure = None;
    let ending = Ending::new(config, start_ns);
    let period_ns = config.interval.as_nanos() as u64;
    let (mut interval_start, mut looked_ns) = (0, start_ns);
    while !team.workers.iter().any(Worker::is_finished) {
        std::thread::sleep(COLLECT);
        team.emptiers.iter().for_each(|e| e.drain(|t| collector.absorb(t)));
        let now_ns = clock::tai_ns();
        if now_ns - start_ns >= interval_start + period_ns {
            push_interval(&mut report, &mut collector, interval_start, now_ns - start_ns, on_event);
            interval_start = now_ns - start_ns;
            look_at_clock(&mut clocks, &mut report, on_event);
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
        if failure.is_some() || stop.is_requested() || ending.has_come(&collector, now_ns) {
            break;
        }
    }
    workers_stop.request();
    if let Some(error) = finish_workers(&mut team, &mut collector, &mut report) {
        failure.get_or_insert(error);
    }
    look_at_clock(&mut clocks, &mut report, on_event);
    push_interval(&mut report, &mut collector, interval_start, clock::tai_ns() - start_ns, on_event);
    conclude(&mut report, &collector, &team, on_event);
    Ok(Outcome { report, failure })
}

fn finish_workers(team: &mut Team, collector: &mut RxCollector, report: &mut Report) -> Option<Error> {
    let mut failure = None;
    for ((worker, emptier), place) in team.workers.drain(..).zip(&team.emptiers).zip(&team.places) {
        let ended = worker.join();
        emptier.drain(|t| collector.absorb(t));
        match ended {
            Ok((last, broken)) => {
                collector.absorb(&last);
                report.workers.push(report::Worker { packets: last.counters.packets, ..place.clone() });
                if let Some(broken) = broken {
                    failure = Some(explain(&broken, team.interface.as_ref().map(|i| i.name.as_str())));
                }
            }
            Err(error) => failure = Some(error),
        }
    }
    failure
}

fn push_interval(
    report: &mut Report,
    collector: &mut RxCollector,
    start_ns: u64,
    end_ns: u64,
    on_event: &mut dyn FnMut(Event<'_>),
) {
    let interval = Interval { start_ns, end_ns, tx: None, rx: Some(collector.interval(end_ns - start_ns)) };
    if interval.rx.as_ref().is_some_and(|rx| rx.packets > 0) {
        on_event(Event::Interval(&interval));
        report.intervals.push(interval);
    }
}

fn look_at_clock(clocks: &mut Steadiness, report: &mut Report, on_event: &mut dyn FnMut(Event<'_>)) {
    if let Some(what) = clocks.look() {
        let text = format!("{what} during the run: latencies before and after do not compare");
        let fix = Some("let the time daemon settle before measuring (chronyc waitsync)".to_owned());
        report.warn(Warning { code: "clock-step", text, fix }, on_event);
    }
}

/// Adds what is known at the end only.
fn conclude(report: &mut Report, collector: &RxCollector, team: &Team, on_event: &mut dyn FnMut(Event<'_>)) {
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
    report.ledger = ledger::of_receiver(collector, team.interface.as_ref().map(|i| i.name.as_str()));
    if let (Some(backend), Some(steer)) = (&mut report.backend, &team.steer) {
        backend.xdp = match steer.mode() {
            Mode::Native => "native",
            Mode::Generic => "generic",
        };
    }
    report.rx = Some(rx);
}
