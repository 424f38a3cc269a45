//! What a watch at a port tells: when groups begin and end to come after joins and leaves, and what comes to a port that did not join.
#![forbid(unsafe_code)]

use std::time::{Duration, Instant};

use super::crew::{Job, Watching};
use super::trial::{self, Load};
use super::{GROUPS_OF_A_SENDER, Ports, parts, read};
use crate::agent::protocol::{GroupMoments, Look};
use crate::control::Stop;
use crate::error::Result;
use crate::method::bed::{DelayTrial, DelaysSeen, Moments};
use crate::profile::size::Framing;
use crate::target::Target;

/// How long traffic flows before a join, and between the last first frame and the leave.
const FLOWS: Duration = Duration::from_millis(300);

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
    let under_test = ports.members.start + trial.port;
    let receivers = if trial.unicast_pps > 0.0 { trial::unicast_receivers(ports)? } else { Vec::new() };
    let (multicast, unicast) = send(ports, trial)?;
    let all: Vec<Job> = multicast.iter().chain(&unicast).copied().collect();
    ports.crew.until_begun(&all, BEGIN, stop)?;

    // MFDB state 1: another member is in the groups, and gets them.
    let other = if trial.filled {
        let next = (trial.port + 1) % ports.members.len();
        let watching = ports.crew.watch(ports.members.start + next, data_port, &targets)?;
        ports.crew.join(&watching, &targets)?;
        wait(ports, &watching, trial.patience, stop, |look, _| has_begun(look))?;
        Some(watching)
    } else {
        None
    };

    let watching = ports.crew.watch(under_test, data_port, &targets)?;
    ports.crew.listen_for(FLOWS, stop)?;
    ports.crew.join(&watching, &targets)?;
    wait(ports, &watching, trial.patience, stop, |look, _| has_begun(look))?;
    ports.crew.listen_for(FLOWS, stop)?;
    leave(ports, &watching, &targets, trial, stop)?;
    if let Some(other) = other {
        // The next trial finds an empty database again.
        leave(ports, &other, &targets, trial, stop)?;
        ports.crew.watched(other)?;
    }
    let look = ports.crew.watched(watching)?;
    let reports = ports.crew.reports(&multicast)?;
    let unicast_reports = ports.crew.reports(&unicast)?;
    ports.crew.finish(&receivers)?;
    let moments = targets.iter().map(|target| {
        let of_group = |group: &&GroupMoments| group.group == target.destination.ip();
        look.groups.iter().find(of_group).map(moments).unwrap_or_default()
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
            };
            multicast.push(trial::start(ports, &load)?);
        }
    }
    let unicast = if trial.unicast_pps > 0.0 {
        trial::start_unicast(ports, trial.frame_bytes, trial.unicast_pps, None, duration)?
    } else {
        Vec::new()
    };
    Ok((multicast, unicast.into_iter().map(|(_, job)| job).collect()))
}

/// Leaves, and waits until nothing comes any more.
fn leave(
    ports: &mut Ports,
    watching: &Watching,
    targets: &[Target],
    trial: &DelayTrial,
    stop: &Stop,
) -> Result<()> {
    ports.crew.leave(watching, targets)?;
    let gap = Duration::from_secs_f64(f64::from(trial.groups) / trial.multicast_pps);
    let quiet = QUIET.max(gap * 3);
    // The report of a leave may leave a moment later, and frames with it.
    let mut last: (u64, Option<Instant>) = (0, None);
    wait(ports, watching, trial.patience, stop, |look, now| {
        let packets = look.groups.iter().map(GroupMoments::packets).sum();
        if packets != last.0 || last.1.is_none() {
            last = (packets, Some(now));
        }
        let told = look.groups.iter().all(|group| group.leave_reported_ns.is_some());
        told && last.1.is_some_and(|since| now - since >= quiet)
    })
}

/// Looks again and again until `done`, at most for `patience`.
fn wait(
    ports: &mut Ports,
    watching: &Watching,
    patience: Duration,
    stop: &Stop,
    mut done: impl FnMut(&Look, Instant) -> bool,
) -> Result<()> {
    let start = Instant::now();
    loop {
        let look = ports.crew.look(watching)?;
        if done(&look, Instant::now()) || start.elapsed() >= patience || stop.is_requested() {
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
