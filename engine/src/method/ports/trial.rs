//! One trial over agents: join, wait for the members, send, wait for what is in flight, read.
#![forbid(unsafe_code)]

use std::net::SocketAddr;
use std::time::{Duration, Instant};

use serde_json::Value;

use super::crew::Job;
use super::unicast::{self, Receivers};
use super::{
    GROUPS_OF_A_RECEIVER, GROUPS_OF_A_SENDER, LEARNING, MOST_GROUPS_WITH_LATENCY, Ports, SOURCE_PORT,
    WATCHED_MEMBERS, parts, read,
};
use crate::control::Stop;
use crate::error::Result;
use crate::method::bed::{self, GroupSeen, PortSeen, Seen, Trial};
use crate::profile::mix::Mix;
use crate::report::Warning;

/// Time between interim results, by which groups are seen to arrive, and senders to have begun.
const INTERVAL: &str = "100ms";

/// How long frames of one round of learning are waited for.
const ROUND: Duration = Duration::from_millis(450);

/// Frames a second of learning, of all groups together.
const LEARNING_PPS: f64 = 2_000.0;

/// Runs a trial; what a failed one leaves running is ended.
pub(super) fn run(ports: &mut Ports, trial: &Trial, stop: &Stop) -> Result<Seen> {
    let result = attempt(ports, trial, stop);
    if result.is_err() {
        ports.crew.abandon();
    }
    result
}

/// What runs at one member port.
struct Member {
    at: usize,
    /// A `recv` for each part of the groups.
    multicast: Vec<Job>,
}

fn attempt(ports: &mut Ports, trial: &Trial, stop: &Stop) -> Result<Seen> {
    let (members, receivers) = join(ports, trial)?;
    let joined = Instant::now();
    let stranger = super::delays::begin_to_count(ports, trial.groups)?;
    let learned = learn(ports, trial, &members, &receivers, joined, stop)?;
    let counted_before = super::delays::counted(ports, stranger.as_ref(), trial.frame_bytes)?;
    let sent = send(ports, trial, stop)?;
    ports.crew.listen_for(ports.options.residual, stop)?;
    let leaked = super::delays::counted(ports, stranger.as_ref(), trial.frame_bytes)?
        .zip(counted_before)
        .map(|(after, before)| after.saturating_sub(before));
    super::delays::end_counting(ports, stranger)?;
    let mut seen = read_all(ports, trial, &members, &receivers, &sent)?;
    for (port, learned) in seen.ports.iter_mut().zip(learned) {
        (port.learned, port.learned_after) = (learned.is_some(), learned);
    }
    seen.leaked = leaked;
    seen.interrupted = stop.is_requested();
    seen.warnings.extend(ports.crew.take_warnings());
    if ports.members.len() > WATCHED_MEMBERS {
        seen.warnings.push(Warning {
            code: "members-unwatched",
            text: format!(
                "of {} members only what their sockets and queues lost is known to be lost in their hosts: what their kernels dropped before counts as the device's loss",
                ports.members.len()
            ),
            fix: Some(format!("use {WATCHED_MEMBERS} members at most to have the kernels asked")),
        });
    }
    ports.crew.listen_for(ports.options.restabilise, stop)?;
    Ok(seen)
}

/// Starts the receivers of all members, and waits until they have joined.
fn join(ports: &mut Ports, trial: &Trial) -> Result<(Vec<Member>, Receivers)> {
    let asked = ports.options.recv_backend.clone();
    let (backend, most) = way_to_receive(&asked, trial);
    let mut members = Vec::new();
    let mut all = Vec::new();
    for at in ports.members.clone() {
        let mut multicast = Vec::new();
        for (first, count) in parts(trial.groups, most) {
            let mut words = receiver(ports, at, ports.target(first)?, backend);
            words.extend(["--groups".to_owned(), count.to_string()]);
            if trial.latency_by_group && matches!(backend, "mmsg" | "uring") {
                words.extend(["--timestamps".to_owned(), "kernel".to_owned()]);
            }
            multicast.push(ports.crew.start(at, &words)?);
        }
        all.extend(multicast.iter().copied());
        members.push(Member { at, multicast });
    }
    let receivers =
        if trial.unicast_pps > 0.0 { Receivers::start(ports, trial.interleaved)? } else { Receivers::none() };
    all.extend(receivers.jobs());
    ports.crew.ready(&all)?;
    Ok((members, receivers))
}

/// The datapath of a member, and how many groups one run takes. One program has an interface for itself where it is below the sockets, or may be: then
/// there is one run, and no latency of each group by itself.
fn way_to_receive<'a>(asked: &'a str, trial: &Trial) -> (&'a str, u32) {
    let by_group = trial.latency_by_group && trial.groups <= MOST_GROUPS_WITH_LATENCY;
    match asked {
        _ if by_group && !matches!(asked, "afxdp" | "xdp") => (beside(asked), 1),
        _ => (asked, GROUPS_OF_A_RECEIVER),
    }
}

/// The datapath of a run beside another one on the same interface: sockets, whatever the other has.
pub(super) fn beside(asked: &str) -> &str {
    if asked == "uring" { asked } else { "mmsg" }
}

pub(super) fn receiver(ports: &Ports, at: usize, target: String, backend: &str) -> Vec<String> {
    let fixed = ["--keep", "--interval", INTERVAL, "--quiet", "--format", "wirerate"];
    let mut words = vec!["recv".to_owned(), target];
    words.extend(["--iface".to_owned(), ports.crew.ports[at].interface.clone()]);
    words.extend(["--backend".to_owned(), backend.to_owned()]);
    words.extend(["--segments".to_owned(), ports.options.segments.clone()]);
    if !ports.options.kernel_drops || ports.members.len() > WATCHED_MEMBERS {
        words.extend(["--kernel-drops".to_owned(), "off".to_owned()]);
    }
    words.extend(fixed.map(str::to_owned));
    words
}

/// A `send` at the sender `at`.
#[derive(Debug)]
pub(super) struct Load {
    pub at: usize,
    pub target: String,
    pub groups: Option<u32>,
    pub frame_bytes: u32,
    pub pps: f64,
    pub count: Option<u64>,
    pub duration: Duration,
    pub source_port: u16,
    /// Unicast frames between those to the groups: where to, and how many of all in percent.
    pub between: Option<(Vec<String>, f64)>,
}

/// Starts sending.
pub(super) fn start(ports: &mut Ports, load: &Load) -> Result<Job> {
    let options = &ports.options;
    // Unicast goes beside the multicast.
    let backend =
        if load.groups.is_some() { options.send_backend.as_str() } else { beside(&options.send_backend) };
    let mut words = vec!["send".to_owned(), load.target.clone()];
    let mut add = |name: &str, value: String| words.extend([name.to_owned(), value]);
    add("--iface", ports.crew.ports[load.at].interface.clone());
    add("--backend", backend.to_owned());
    add("--segments", options.segments.clone());
    add("--rate", format!("{:.3}pps", load.pps.max(0.001)));
    add("--frame-size", load.frame_bytes.to_string());
    add("--duration", format!("{}ns", load.duration.as_nanos()));
    add("--src-port", load.source_port.to_string());
    add("--ttl", options.ttl.to_string());
    add("--interval", INTERVAL.to_owned());
    // Nothing is read of it, and it takes the kernel a third of a second of a CPU to begin and to end.
    add("--kernel-drops", "off".to_owned());
    if let Some(groups) = load.groups {
        add("--groups", groups.to_string());
    }
    if let Some(count) = load.count {
        add("--count", count.to_string());
    }
    if let Some((hosts, percent)) = &load.between {
        words.extend(["--between".to_owned(), hosts.join(",")]);
        words.extend(["--between-share".to_owned(), format!("{percent}%")]);
    }
    words.push("--quiet".to_owned());
    ports.crew.start(load.at, &words)
}

/// The source ports of a sender: trials from 0, learning behind them.
pub(super) fn source_port(sender: usize, which: usize) -> u16 {
    SOURCE_PORT + (sender * 8 + which % 8) as u16
}

/// Whether a frame of a trial came from this port.
fn is_of_trial(port: u16) -> bool {
    (SOURCE_PORT..SOURCE_PORT + LEARNING).contains(&port)
}

/// Sends a frame of each group again and again until one of each has come to each member in one round, and of unicast, where there will be some, one; how long that took, for each
/// member. `None`: it did not happen in time.
fn learn(
    ports: &mut Ports,
    trial: &Trial,
    members: &[Member],
    receivers: &Receivers,
    joined: Instant,
    stop: &Stop,
) -> Result<Vec<Option<Duration>>> {
    let mut learned: Vec<Option<Duration>> = vec![None; members.len()];
    let first = ports.senders.start;
    let mut left_over = true;
    while learned.contains(&None)
        && !stop.is_requested()
        && (left_over || joined.elapsed() < ports.options.join_wait)
    {
        // One round at least, however short the wait.
        left_over = false;
        let heard = |ports: &Ports, member: &Member| -> u64 {
            member.multicast.iter().map(|job| ports.crew.packets(*job)).sum()
        };
        let before: Vec<u64> = members.iter().map(|member| heard(ports, member)).collect();
        let mut jobs = Vec::new();
        for (part, (group, count)) in parts(trial.groups, GROUPS_OF_A_SENDER).into_iter().enumerate() {
            let load = Load {
                at: first,
                target: ports.target(group)?,
                groups: Some(count),
                frame_bytes: trial.frame_bytes,
                pps: LEARNING_PPS,
                count: Some(u64::from(count)),
                duration: Duration::from_secs(10),
                source_port: source_port(0, part) + LEARNING,
                between: None,
            };
            jobs.push(start(ports, &load)?);
        }
        if trial.unicast_pps > 0.0 {
            let once = unicast::Frames {
                bytes: trial.frame_bytes,
                pps: LEARNING_PPS.min(trial.unicast_pps),
                count: Some(1),
                duration: Duration::from_secs(10),
                learning: true,
            };
            jobs.extend(unicast::start(ports, trial.interleaved, once)?.into_iter().map(|(_, job)| job));
        }
        ports.crew.until_ended(&jobs, Duration::from_secs(60), stop)?;
        ports.crew.finish(&jobs)?;
        let round = Instant::now();
        while round.elapsed() < ROUND {
            ports.crew.listen()?;
            for (n, member) in members.iter().enumerate() {
                let unicast = receivers.have_heard(ports, member.at);
                let all = heard(ports, member) - before[n] >= u64::from(trial.groups);
                if learned[n].is_none() && all && unicast {
                    learned[n] = Some(joined.elapsed());
                }
            }
            if !learned.contains(&None) {
                break;
            }
        }
    }
    Ok(learned)
}

/// What senders report.
struct Sent {
    /// Of multicast, or of both.
    multicast: Vec<Value>,
    /// Of unicast by itself, with the port to which they sent.
    unicast: Vec<(usize, Value)>,
    /// Unicast frames of all, where both are of one stream.
    share: Option<f64>,
    /// Streams of each sender to each group.
    repeats: u32,
}

/// Sends the trial's frames.
fn send(ports: &mut Ports, trial: &Trial, stop: &Stop) -> Result<Sent> {
    // Ends a sender that does not keep the pace.
    let duration = trial.duration.mul_f64(1.2) + Duration::from_secs(1);
    let senders = ports.senders.clone();
    let share = senders.len() as f64;
    let frames_of_group = trial.multicast_frames() / u64::from(trial.groups);
    let mut multicast = Vec::new();
    let mut unicast: Vec<(usize, Job)> = Vec::new();
    let percent = 100.0 * trial.unicast_pps / (trial.unicast_pps + trial.multicast_pps);
    let hosts: Vec<String> =
        ports.members.clone().map(|at| unicast::address(ports, at).to_string()).collect();
    let interleaved = trial.interleaved && trial.unicast_pps > 0.0;
    let mix = interleaved.then(|| bed::mix(trial.groups, hosts.len(), percent));
    for at in senders.clone() {
        // What cannot be divided among senders is the first ones'.
        let each = frames_of_group / senders.len() as u64
            + u64::from((at as u64) < frames_of_group % senders.len() as u64);
        if each == 0 {
            continue;
        }
        for (part, (first, count)) in parts(trial.groups, GROUPS_OF_A_SENDER).into_iter().enumerate() {
            let mut pps = trial.multicast_pps;
            let mut frames = each * u64::from(count);
            if interleaved {
                pps += trial.unicast_pps;
                // The order as a whole, so often that each group has its frames.
                let mix = bed::mix(count, hosts.len(), percent);
                frames = each.div_ceil(u64::from(mix.repeats())) * mix.turns().len() as u64;
            }
            let load = Load {
                at,
                target: ports.target(first)?,
                groups: Some(count),
                frame_bytes: trial.frame_bytes,
                pps: pps * f64::from(count) / f64::from(trial.groups) / share,
                count: Some(frames),
                duration,
                source_port: source_port(at, part),
                between: interleaved.then(|| (hosts.clone(), percent)),
            };
            multicast.push(start(ports, &load)?);
        }
    }
    if trial.unicast_pps > 0.0 && !interleaved {
        let frames = unicast::Frames {
            bytes: trial.frame_bytes,
            pps: trial.unicast_pps,
            count: Some(unicast::count(ports, trial)),
            duration,
            learning: false,
        };
        unicast = unicast::start(ports, false, frames)?;
    }
    let all: Vec<Job> = multicast.iter().copied().chain(unicast.iter().map(|(_, job)| *job)).collect();
    ports.crew.until_ended(&all, duration + Duration::from_secs(30), stop)?;
    let reports = ports.crew.reports(&multicast)?;
    let jobs: Vec<Job> = unicast.iter().map(|(_, job)| *job).collect();
    let unicast_reports = ports.crew.reports(&jobs)?;
    Ok(Sent {
        multicast: reports,
        unicast: unicast.iter().map(|(n, _)| *n).zip(unicast_reports).collect(),
        share: mix.as_ref().map(Mix::hosts_share),
        repeats: mix.as_ref().map_or(1, Mix::repeats),
    })
}

fn read_all(
    ports: &mut Ports,
    trial: &Trial,
    members: &[Member],
    receivers: &Receivers,
    sent: &Sent,
) -> Result<Seen> {
    let Sent { multicast, unicast, share, .. } = sent;
    let mut seen = Seen { multicast: read::offered(multicast), ..Seen::default() };
    if let Some(share) = share {
        let (first, second) = read::classes(seen.multicast, *share);
        (seen.multicast, seen.unicast) = (first, Some(second));
    } else if trial.unicast_pps > 0.0 {
        let reports: Vec<Value> = unicast.iter().map(|(_, report)| report.clone()).collect();
        seen.unicast = Some(read::offered(&reports));
    }
    if let Some(most) = multicast.iter().map(read::segments).max().filter(|most| *most > 1) {
        seen.warnings.push(Warning {
            code: "segments",
            text: format!(
                "senders handed over up to {most} datagrams as one buffer: where the device copies it whole, that is one copy, not {most}"
            ),
            fix: Some("--segments off".to_owned()),
        });
    }
    // What a stream's sender says of itself is exact; a group that nobody heard of had its even share.
    let mut numbers: Vec<u64> = vec![0; trial.groups as usize];
    let mut told: Vec<Vec<((SocketAddr, u64), u64)>> = vec![Vec::new(); trial.groups as usize];
    for (n, member) in members.iter().enumerate() {
        let reports = ports.crew.reports(&member.multicast)?;
        let mut port = PortSeen {
            groups: vec![GroupSeen::default(); trial.groups as usize],
            lost_in_host: reports.iter().map(read::lost_in_host).sum(),
            latency_ns: if let [report] = &reports[..] { read::latency(report) } else { None },
            ..PortSeen::default()
        };
        for report in &reports {
            let streams = read::streams(report, is_of_trial);
            let by_group = trial.latency_by_group && member.multicast.len() == trial.groups as usize;
            for stream in &streams {
                let Some(number) = ports.number_of(stream.group).filter(|n| *n < numbers.len()) else {
                    continue;
                };
                read::add(&mut port.groups[number], stream);
                if by_group {
                    port.groups[number].latency_ns = read::latency(report);
                }
                if let Some(count) = stream.sent
                    && !told[number].iter().any(|(known, _)| *known == (stream.source, stream.id))
                {
                    told[number].push(((stream.source, stream.id), count));
                }
            }
        }
        debug_assert_eq!(member.at, ports.members.start + n);
        seen.ports.push(port);
    }
    let even = seen.multicast.frames / u64::from(trial.groups.max(1));
    let streams = ports.senders.len() * sent.repeats as usize;
    for (sent, told) in numbers.iter_mut().zip(&told) {
        let sum: u64 = told.iter().map(|(_, count)| count).sum();
        // A sender that was not heard by anybody is in the even share only.
        *sent = if told.len() == streams { sum } else { sum.max(even) };
    }
    let mut reached = std::mem::take(&mut seen.ports);
    let of_one_stream = seen.unicast.filter(|_| share.is_some());
    seen.burden = receivers.read(ports, unicast, of_one_stream, &mut reached)?;
    seen.ports = reached;
    seen.sent = numbers;
    Ok(seen)
}
