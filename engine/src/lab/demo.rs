//! The demonstration: one sender, two members of a group, through each datapath, paced and at full speed; every
//! packet accounted for, and the bridge's port counters beside our own as a witness.
#![forbid(unsafe_code)]

use std::net::{Ipv4Addr, SocketAddr};
use std::sync::mpsc;
use std::thread;
use std::time::Duration;

use serde::Serialize;

use super::places::Places;
use super::{Host, INTERFACE, Lab, ip};
use crate::backend::Choice;
use crate::control::{Event, Outcome, Stop};
use crate::drops::watch::Side;
use crate::drops::witness::Witness;
use crate::error::{Error, Result};
use crate::generate::{self, SendConfig};
use crate::host::cpu::Cpus;
use crate::ledger::{self, Losses};
use crate::observe::{self, RecvConfig};
use crate::profile::rate::Rate;
use crate::profile::segments::Segments;
use crate::report::{Path, Report};
use crate::target::{Scheme, Target};

/// The group of the demonstration: administratively scoped (RFC 2365), and not one that bridges always flood.
const GROUP: (Ipv4Addr, u16) = (Ipv4Addr::new(239, 1, 2, 3), 5001);

/// How long members may take to end after the sender has.
const PATIENCE: Duration = Duration::from_secs(2);

/// What to show.
#[derive(Debug, Clone)]
pub struct DemoConfig {
    /// Datapaths, one after the other.
    pub backends: Vec<Choice>,
    /// Time of each scene.
    pub duration: Duration,
    /// Rate of the paced scenes in packets a second.
    pub pps: u64,
}

/// What was shown.
#[derive(Debug, Clone, Serialize)]
pub struct Demo {
    /// Each datapath at each rate.
    pub scenes: Vec<Scene>,
}

/// One datapath at one rate.
#[derive(Debug, Clone, Serialize)]
pub struct Scene {
    /// `afxdp`, `uring`, `mmsg`.
    pub backend: &'static str,
    /// Offered load, as typed.
    pub rate: String,
    /// The sender's report.
    pub sender: Report,
    /// Each member of the group.
    pub members: Vec<Member>,
}

/// One member of the group.
#[derive(Debug, Clone, Serialize)]
pub struct Member {
    /// The bridge's port towards it.
    pub port: String,
    /// Packets that left by that port, by the bridge's own count, with end-of-stream messages and the bridge's own queries.
    pub port_packets: u64,
    /// The member's report.
    pub report: Report,
    /// Where the packets went.
    pub path: Path,
}

/// Runs every scene in a lab of its own making. Where the process may, the kernel tells what it drops anywhere in it.
///
/// # Errors
/// When the lab cannot be made or a scene cannot be started.
pub fn run(config: &DemoConfig, stop: &Stop, on_progress: &mut dyn FnMut(&str)) -> Result<Demo> {
    run_in(&Lab::bridge(2)?, config, stop, on_progress)
}

/// As [`run`], in a lab that is there already.
///
/// # Errors
/// When a scene cannot be started.
pub fn run_in(
    lab: &Lab,
    config: &DemoConfig,
    stop: &Stop,
    on_progress: &mut dyn FnMut(&str),
) -> Result<Demo> {
    let mut witness = Witness::start(Side::Any, &[SocketAddr::from(GROUP)]).ok();
    let mut scenes = Vec::new();
    for &backend in &config.backends {
        for rate in [Rate::Pps(config.pps as f64), Rate::Max] {
            if stop.is_requested() {
                return Ok(Demo { scenes });
            }
            scenes.push(scene(lab, witness.as_mut(), config, backend, rate, stop, on_progress)?);
        }
    }
    Ok(Demo { scenes })
}

fn scene(
    lab: &Lab,
    mut witness: Option<&mut Witness>,
    config: &DemoConfig,
    backend: Choice,
    rate: Rate,
    stop: &Stop,
    on_progress: &mut dyn FnMut(&str),
) -> Result<Scene> {
    let target = Target { scheme: Scheme::Udp, source: None, destination: SocketAddr::from(GROUP) };
    let cpus = Cpus::read()?.allowed;
    let before = port_counts(lab)?;
    if let Some(witness) = &mut witness {
        witness.begin()?;
    }
    let members_stop = Stop::default();
    let (sender, members) = thread::scope(|scope| {
        let (ready, readiness) = mpsc::channel();
        let members: Vec<_> = lab
            .receivers
            .iter()
            .enumerate()
            .map(|(n, host)| {
                let recv = RecvConfig {
                    interface: Some(INTERFACE.to_owned()),
                    backend,
                    // The last CPU is the sender's, as long as there is another.
                    // One watch sees the whole lab.
                    kernel_drops: false,
                    cpus: vec![cpus[n % cpus.len().saturating_sub(1).max(1)]],
                    ..RecvConfig::new(target)
                };
                let (ready, stop) = (ready.clone(), members_stop.clone());
                scope.spawn(move || {
                    let ended = inside(host, || {
                        observe::run(&recv, &stop, &mut |event| {
                            if matches!(event, Event::Ready) {
                                let _ = ready.send(true);
                            }
                        })
                    });
                    let _ = ready.send(false);
                    ended
                })
            })
            .collect();
        drop(ready);
        for _ in &members {
            // The first word of each: that it is ready, or that it has ended before.
            if readiness.recv() != Ok(true) {
                // One could not start; its error is found below, and the others need not wait for packets.
                members_stop.request();
            }
        }
        // Members that cannot be reached show in the table.
        let _ = lab.wait_for_members(GROUP.0.into(), members.len());
        let send = SendConfig {
            interface: Some(INTERFACE.to_owned()),
            backend,
            cpus: vec![cpus[cpus.len() - 1]],
            // The ports count buffers, and are to be compared with packets.
            segments: Segments::Off,
            kernel_drops: false,
            rate,
            duration: Some(config.duration),
            ..SendConfig::new(target)
        };
        on_progress(&format!("{} at {rate}: {} to {GROUP:?}", name(backend), lab.sender.ipv4));
        let sender = if members_stop.is_requested() {
            Err(Error::failed("a member could not start"))
        } else {
            inside(&lab.sender, || generate::run(&send, stop, &mut |_| {}))
        };
        let waiting = std::time::Instant::now();
        while members.iter().any(|m| !m.is_finished()) && waiting.elapsed() < PATIENCE {
            thread::sleep(Duration::from_millis(20));
        }
        members_stop.request();
        let members: Vec<_> = members.into_iter().map(|m| m.join().map_err(|_| defect())).collect();
        (sender, members)
    });
    let members = members.into_iter().map(|m| m.and_then(finished)).collect::<Result<Vec<_>>>()?;
    let sender = finished(sender)?.report;
    let after = port_counts(lab)?;
    let places = witness.map_or_else(|| Ok(Places::default()), |w| Places::of(lab, &w.settled()?))?;
    let members = members
        .into_iter()
        .zip(&lab.receivers)
        .zip(before.iter().zip(after))
        .map(|((outcome, host), (before, after))| {
            member(lab, host, &sender, outcome, &places, after - before)
        })
        .collect();
    let backend = sender.backend.as_ref().map_or("", |b| b.name);
    Ok(Scene { backend, rate: rate.to_string(), sender, members })
}

/// Runs `work` in the calling thread, moved into the host's namespace for good: threads that it starts begin there.
fn inside(host: &Host, work: impl FnOnce() -> Result<Outcome> + Send) -> Result<Outcome> {
    host.netns.run(work)
}

fn finished(outcome: Result<Outcome>) -> Result<Outcome> {
    let mut outcome = outcome?;
    outcome.failure.take().map_or(Ok(outcome), Err)
}

fn defect() -> Error {
    Error::failed("a member panicked (a defect)")
}

fn name(backend: Choice) -> &'static str {
    match backend {
        Choice::Auto => "auto",
        Choice::Afxdp => "afxdp",
        Choice::Uring => "uring",
        Choice::Mmsg => "mmsg",
        Choice::Xdp => "xdp",
    }
}

fn port_counts(lab: &Lab) -> Result<Vec<u64>> {
    lab.receivers.iter().map(|host| ip::transmitted(&lab.middle, &host.port)).collect()
}

fn member(
    lab: &Lab,
    host: &Host,
    sender: &Report,
    outcome: Outcome,
    places: &Places,
    port_packets: u64,
) -> Member {
    let Outcome { report, losses, .. } = outcome;
    let (sent, refused, messages) =
        sender.tx.as_ref().map_or((0, 0, 0), |tx| (tx.packets + tx.errors, tx.errors, tx.messages));
    let (received, heard) = report.rx.as_ref().map_or((0, 0), |rx| (rx.unique, rx.messages));
    let afxdp = report.backend.as_ref().is_some_and(|b| b.xdp != "none");
    let (towards, here) = places.of_member(host);
    let losses_at = |kernel| Losses { afxdp, queue: &losses, kernel, other_formats: false, runs: None };
    let on_the_way = |kernel| losses_at(kernel).on_the_way(|drop| drop.interface.clone());
    let sending = on_the_way(&places.sending);
    let mut drops = ledger::refusals(refused, ledger::total(&sending));
    drops.extend(sending);
    for kernel in [&places.shared, &towards, &here] {
        drops.extend(on_the_way(kernel));
    }
    drops.extend(losses_at(&here).at_the_queue(Some(&format!("receiver {INTERFACE}"))));
    let mut path = ledger::path(lab.sender.ipv4.to_string(), host.ipv4.to_string(), sent, received, drops);
    let known: u64 =
        [&places.sending, &places.shared, &towards, &here].map(|k| ledger::messages_in(k)).iter().sum();
    ledger::take_off_messages(&mut path, messages.saturating_sub(heard + known));
    Member { port: host.port.clone(), port_packets, report, path }
}
