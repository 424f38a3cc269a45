//! What a watch at a port tells: when groups begin and end to come after joins and leaves, and what comes to a port that did not join.
#![forbid(unsafe_code)]

use std::net::IpAddr;
use std::time::{Duration, Instant};

use super::crew::{Job, Watching};
use super::trial::{self, Load};
use super::unicast::{self, Receivers};
use super::{GROUPS_OF_A_SENDER, Ports, parts, read};
use crate::agent::protocol::{GroupMoments, Look};
use crate::control::Stop;
use crate::error::Result;
use crate::method::bed::{DelayTrial, DelaysSeen, Moments};
use crate::profile::size::Framing;
use crate::target::Target;

/// How long traffic flows at least without coming anywhere before a join, and between the last first frame and the leave.
const FLOWS: Duration = Duration::from_millis(300);

/// Of the frames that a sender should send in a time, those that it has to have told of before the time counts: it tells of them up to an interval later.
const TOLD: f64 = 0.6;

/// How long a sender may take to begin.
const BEGIN: Duration = Duration::from_secs(10);

/// Between two looks.
const LOOK: Duration = Duration::from_millis(50);

/// At least for this long nothing has to come after a leave until it is over.
const QUIET: Duration = Duration::from_millis(500);

/// Begins to count the frames of `groups` groups at the port that did not join, if there is one.
pub(super) fn begin_to_count(ports: &mut Ports, groups: u32) -> Result<Option<Watching>> {
    let Some(at) = ports.stranger else { return Ok(None) };
    let targets = targets(ports, groups)?;
    ports.crew.watch(at, ports.options.group.destination.port(), &targets).map(Some)
}

/// Frames that were counted by now.
pub(super) fn counted(
    ports: &mut Ports,
    watching: Option<&Watching>,
    frame_bytes: u32,
) -> Result<Option<u64>> {
    let Some(watching) = watching else { return Ok(None) };
    let look = ports.crew.look(watching)?;
    Ok(Some(frames(&look, ports.options.group.is_ipv6(), frame_bytes)))
}

/// Ends the counting.
pub(super) fn end_counting(ports: &mut Ports, watching: Option<Watching>) -> Result<()> {
    match watching {
        Some(watching) => ports.crew.watched(watching).map(drop),
        None => Ok(()),
    }
}

/// Frames of all groups: a buffer of several datagrams is told by its length.
fn frames(look: &Look, ipv6: bool, frame_bytes: u32) -> u64 {
    let overhead = u64::from(Framing { ipv6, ..Framing::default() }.overhead());
    let payload = u64::from(frame_bytes).saturating_sub(overhead).max(1);
    look.groups.iter().map(|group| group.packets().max(group.bytes / payload)).sum()
}

fn targets(ports: &Ports, groups: u32) -> Result<Vec<Target>> {
    (0..groups).map(|n| ports.target(n)?.parse()).collect()
}

/// Times joins and leaves; what a failed trial leaves running is ended.
pub(super) fn run(ports: &mut Ports, trial: &DelayTrial, stop: &Stop) -> Result<DelaysSeen> {
    let result = attempt(ports, trial, stop);
    if result.is_err() {
        ports.crew.abandon();
    }
    result
}

fn attempt(ports: &mut Ports, trial: &DelayTrial, stop: &Stop) -> Result<DelaysSeen> {
    let targets = targets(ports, trial.groups)?;
    let data_port = ports.options.group.destination.port();
    let receivers =
        if trial.unicast_pps > 0.0 { Receivers::start(ports, false)? } else { Receivers::none() }.jobs();
    ports.crew.ready(&receivers)?;
    let (multicast, unicast) = send(ports, trial)?;
    let all: Vec<Job> = multicast.iter().chain(&unicast).copied().collect();
    ports.crew.until_begun(&all, BEGIN, stop)?;

    // MFDB state 0: nobody is in the groups, which what is left of an earlier trial may be. RFC 3918 §6.1 asks that it be seen.
    let traffic = Traffic { jobs: &multicast, trial };
    let watches = ports
        .members
        .clone()
        .map(|at| ports.crew.watch(at, data_port, &targets))
        .collect::<Result<Vec<_>>>()?;
    let left_over = empty(ports, &watches, &watches[trial.port], &traffic, stop)?;
    // MFDB state 1: another member is in them, and gets them.
    let other = trial.filled.then(|| &watches[(trial.port + 1) % watches.len()]);
    if let Some(other) = other {
        ports.crew.join(other, &targets)?;
        wait(ports, other, trial.patience, stop, has_begun)?;
    }
    let watching = &watches[trial.port];
    ports.crew.join(watching, &targets)?;
    wait(ports, watching, trial.patience, stop, has_begun)?;
    traffic.go_on(ports, FLOWS, stop)?;
    leave(ports, watching, &targets, &traffic, stop)?;
    if let Some(other) = other {
        // The next trial finds an empty database again.
        leave(ports, other, &targets, &traffic, stop)?;
    }
    let mut looks = Vec::new();
    for watch in watches {
        looks.push(ports.crew.watched(watch)?);
    }
    let look = looks.swap_remove(trial.port);
    let reports = ports.crew.reports(&multicast)?;
    let unicast_reports = ports.crew.reports(&unicast)?;
    ports.crew.finish(&receivers)?;
    let moments = targets.iter().map(|target| {
        let of_group = |group: &&GroupMoments| group.group == target.destination.ip();
        let mut moments = look.groups.iter().find(of_group).map(moments).unwrap_or_default();
        let before = left_over.iter().find(|(group, _)| *group == target.destination.ip());
        moments.before_join -= before.map_or(0, |(_, packets)| (*packets).min(moments.before_join));
        moments
    });
    let seen = DelaysSeen {
        groups: moments.collect(),
        multicast: read::offered(&reports),
        unicast: (trial.unicast_pps > 0.0).then(|| read::offered(&unicast_reports)),
        interrupted: stop.is_requested(),
        warnings: ports.crew.take_warnings(),
    };
    ports.crew.listen_for(ports.options.restabilise, stop)?;
    Ok(seen)
}

/// Starts traffic that goes on until it is ended.
fn send(ports: &mut Ports, trial: &DelayTrial) -> Result<(Vec<Job>, Vec<Job>)> {
    // No sender is left alone for ever, should this end of it go away.
    let duration = trial.patience * 4 + Duration::from_secs(120);
    let senders = ports.senders.clone();
    let mut multicast = Vec::new();
    for at in senders.clone() {
        for (part, (first, count)) in parts(trial.groups, GROUPS_OF_A_SENDER).into_iter().enumerate() {
            let share = f64::from(count) / f64::from(trial.groups) / senders.len() as f64;
            let load = Load {
                at,
                target: ports.target(first)?,
                groups: Some(count),
                frame_bytes: trial.frame_bytes,
                pps: trial.multicast_pps * share,
                count: None,
                duration,
                source_port: trial::source_port(at, part),
                between: None,
            };
            multicast.push(trial::start(ports, &load)?);
        }
    }
    let unicast = if trial.unicast_pps > 0.0 {
        let frames = unicast::Frames {
            bytes: trial.frame_bytes,
            pps: trial.unicast_pps,
            count: None,
            duration,
            learning: false,
        };
        unicast::start(ports, false, frames)?
    } else {
        Vec::new()
    };
    Ok((multicast, unicast.into_iter().map(|(_, job)| job).collect()))
}

/// What the senders send meanwhile.
struct Traffic<'a> {
    jobs: &'a [Job],
    trial: &'a DelayTrial,
}

impl Traffic<'_> {
    /// Frames that the senders have told of.
    fn told(&self, ports: &Ports) -> u64 {
        self.jobs.iter().map(|job| ports.crew.packets(*job)).sum()
    }

    /// Frames that they have to tell of before it is certain that they have sent for this time: a sender may be held up, and silence is its own then.
    fn of(&self, time: Duration) -> u64 {
        ((self.trial.multicast_pps * time.as_secs_f64() * TOLD) as u64).max(u64::from(self.trial.groups))
    }

    /// Waits until they have sent for this time.
    fn go_on(&self, ports: &mut Ports, time: Duration, stop: &Stop) -> Result<()> {
        let (start, before) = (Instant::now(), self.told(ports));
        ports.crew.listen_for(time, stop)?;
        while self.told(ports) - before < self.of(time) && start.elapsed() < BEGIN && !stop.is_requested() {
            ports.crew.listen()?;
        }
        Ok(())
    }
}

/// Leaves, and waits until nothing comes any more, although frames are sent.
fn leave(
    ports: &mut Ports,
    watching: &Watching,
    targets: &[Target],
    traffic: &Traffic<'_>,
    stop: &Stop,
) -> Result<()> {
    ports.crew.leave(watching, targets)?;
    // The report of a leave may leave a moment later, and frames with it.
    let told = |look: &Look| look.groups.iter().all(|group| group.leave_reported_ns.is_some());
    until_quiet(ports, &[watching], QUIET, told, traffic, stop).map(drop)
}

/// Waits until frames that are sent come to no member any more: what had come by then of each group to the port under test. When they never cease, none: the device floods.
fn empty(
    ports: &mut Ports,
    watches: &[Watching],
    under_test: &Watching,
    traffic: &Traffic<'_>,
    stop: &Stop,
) -> Result<Vec<(IpAddr, u64)>> {
    let all: Vec<&Watching> = watches.iter().collect();
    if !until_quiet(ports, &all, FLOWS, |_| true, traffic, stop)? {
        return Ok(Vec::new());
    }
    let look = ports.crew.look(under_test)?;
    Ok(look.groups.iter().map(|group| (group.group, group.packets())).collect())
}

/// Waits until frames that are sent have not come to these ports for this time at least, and `holds` says yes of each; whether that was so within the trial's patience.
fn until_quiet(
    ports: &mut Ports,
    watches: &[&Watching],
    time: Duration,
    holds: impl Fn(&Look) -> bool,
    traffic: &Traffic<'_>,
    stop: &Stop,
) -> Result<bool> {
    let gap = Duration::from_secs_f64(f64::from(traffic.trial.groups) / traffic.trial.multicast_pps);
    let quiet = time.max(gap * 3);
    // When it was seen that something had come, and what the senders had told of by then.
    let mut last: Option<(u64, Instant, u64)> = None;
    let start = Instant::now();
    loop {
        let mut packets = 0;
        let mut all = true;
        for watching in watches {
            let look = ports.crew.look(watching)?;
            packets += look.groups.iter().map(GroupMoments::packets).sum::<u64>();
            all &= holds(&look);
        }
        let (now, sent) = (Instant::now(), traffic.told(ports));
        let (_, since, before) = last.filter(|last| last.0 == packets).unwrap_or((packets, now, sent));
        last = Some((packets, since, before));
        if all && now - since >= quiet && sent - before >= traffic.of(quiet) {
            return Ok(true);
        }
        if start.elapsed() >= traffic.trial.patience || stop.is_requested() {
            return Ok(false);
        }
        ports.crew.listen_for(LOOK, stop)?;
    }
}

/// Looks again and again until `done`, at most for `patience`.
fn wait(
    ports: &mut Ports,
    watching: &Watching,
    patience: Duration,
    stop: &Stop,
    done: impl Fn(&Look) -> bool,
) -> Result<()> {
    let start = Instant::now();
    loop {
        let look = ports.crew.look(watching)?;
        if done(&look) || start.elapsed() >= patience || stop.is_requested() {
            return Ok(());
        }
        ports.crew.listen_for(LOOK, stop)?;
    }
}

fn has_begun(look: &Look) -> bool {
    look.groups.iter().all(|group| group.join_reported_ns.is_some() && group.first_data_ns.is_some())
}

fn moments(group: &GroupMoments) -> Moments {
    Moments {
        joined_ns: group.join_reported_ns,
        // Without a report there is nothing that a first frame would answer.
        first_ns: group.join_reported_ns.and(group.first_data_ns),
        left_ns: group.leave_reported_ns,
        last_ns: group.last_data_ns,
        after_leave: group.packets_after,
        before_join: group.packets_before + group.packets_asked,
    }
}
