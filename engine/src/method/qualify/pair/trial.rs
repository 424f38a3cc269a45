//! One trial over agents: receivers, first frames, senders, frames in flight, what all of them say.
#![forbid(unsafe_code)]

use std::time::{Duration, Instant};

use serde_json::Value;

use super::outage::{self, Down};
use super::{LEARNING, Pair, SOURCE_PORT, health_seen};
use crate::control::Stop;
use crate::error::Result;
use crate::method::ports::crew::Job;
use crate::method::ports::read;
use crate::method::qualify::link::{Moment, Outage, PortSeen, Seen, Trial};
use crate::report::{Distribution, Warning};

/// Time between interim results, by which frames are seen to arrive.
const INTERVAL: Duration = Duration::from_millis(100);

/// Frames of one round of learning, at this rate.
const ROUND_FRAMES: u64 = 3;
const ROUND_PPS: f64 = 300.0;

/// How long frames of one round are waited for.
const ROUND: Duration = Duration::from_millis(450);

/// Frames in one direction.
struct Way {
    /// The port that sends.
    from: usize,
    /// The port that receives.
    to: usize,
    /// The receiver.
    receiver: Job,
    /// Whether a first frame came.
    learned: bool,
}

pub(super) fn run(pair: &mut Pair, trial: &Trial, stop: &Stop) -> Result<Seen> {
    let mut ways = receivers(pair, trial)?;
    let ready = Instant::now();
    learn(pair, trial, &mut ways, stop)?;
    let before = pair.look()?;
    let offset = ready.elapsed();
    let down = match &trial.outage {
        Some(Outage::Made { interface, down }) => Some(Down::plan(interface, *down)?),
        _ => None,
    };
    let jobs = senders(pair, trial, &ways)?;
    match &trial.outage {
        None => {
            // Ends a sender that does not keep the pace.
            let patience = longest(trial) + Duration::from_secs(30);
            pair.crew.until_ended(&jobs, patience, stop)?;
        }
        Some(_) => {
            let receivers: Vec<Job> = ways.iter().map(|way| way.receiver).collect();
            outage::follow(&mut pair.crew, &jobs, &receivers, down, trial.duration, stop)?;
        }
    }
    let sent = pair.crew.reports(&jobs)?;
    pair.crew.listen_for(pair.options.residual, stop)?;
    // Before the receivers end, whose programs may touch the interface.
    let after = pair.look()?;
    let receivers: Vec<Job> = ways.iter().map(|way| way.receiver).collect();
    let received = pair.crew.reports(&receivers)?;
    let mut seen = Seen {
        ports: ways
            .iter()
            .zip(sent.iter().zip(&received))
            .map(|(way, (sent, received))| port(way, trial, sent, received, offset))
            .collect(),
        interrupted: stop.is_requested(),
        warnings: pair.crew.take_warnings(),
        health: health_seen(pair, before, after),
    };
    if let Some(most) = sent.iter().map(read::segments).max().filter(|most| *most > 1) {
        seen.warnings.push(Warning {
            code: "segments",
            text: format!("senders handed over up to {most} datagrams as one buffer: in software that is one frame for much of the way"),
            fix: Some("--segments off".to_owned()),
        });
    }
    pair.crew.listen_for(pair.options.restabilise, stop)?;
    Ok(seen)
}

/// The time after which a sender gives up.
fn longest(trial: &Trial) -> Duration {
    trial.duration.mul_f64(1.2) + Duration::from_secs(1)
}

fn words(fixed: &[(&str, String)]) -> Vec<String> {
    fixed.iter().flat_map(|(name, value)| [(*name).to_owned(), value.clone()]).collect()
}

/// Starts the receivers, and waits until they are ready.
fn receivers(pair: &mut Pair, trial: &Trial) -> Result<Vec<Way>> {
    let interval = trial.time_line.unwrap_or(INTERVAL).min(Duration::from_secs(1)).max(INTERVAL);
    let mut ways = Vec::new();
    for back in trial.direction.ways() {
        let (from, to) = if *back { (1, 0) } else { (0, 1) };
        let mut command = vec!["recv".to_owned(), format!("udp://{}", pair.target(to))];
        command.extend(words(&[
            ("--iface", pair.crew.ports[to].interface.clone()),
            ("--backend", pair.options.recv_backend.clone()),
            ("--segments", pair.options.segments.clone()),
            ("--interval", format!("{}ns", interval.as_nanos())),
            ("--format", "wirerate".to_owned()),
            ("--kernel-drops", if pair.options.kernel_drops { "on" } else { "off" }.to_owned()),
        ]));
        command.extend(["--keep".to_owned(), "--quiet".to_owned()]);
        let receiver = pair.crew.start(to, &command)?;
        ways.push(Way { from, to, receiver, learned: false });
    }
    let jobs: Vec<Job> = ways.iter().map(|way| way.receiver).collect();
    pair.crew.ready(&jobs)?;
    Ok(ways)
}

/// The datapath of senders. In both directions at once an interface sends beside a receiver, which may have its queues.
fn send_backend(pair: &Pair, trial: &Trial) -> String {
    let asked = &pair.options.send_backend;
    let sockets = |name: &str| matches!(name, "mmsg" | "uring");
    if trial.direction.ways().len() > 1 && !sockets(asked) { "mmsg".to_owned() } else { asked.clone() }
}

fn send(pair: &mut Pair, trial: &Trial, way: &Way, pps: f64, count: u64, learning: bool) -> Result<Job> {
    let port = SOURCE_PORT + if learning { LEARNING } else { 0 };
    let duration = if learning { Duration::from_secs(10) } else { longest(trial) };
    let mut command = vec!["send".to_owned(), format!("udp://{}", pair.target(way.to))];
    command.extend(words(&[
        ("--iface", pair.crew.ports[way.from].interface.clone()),
        ("--backend", send_backend(pair, trial)),
        ("--segments", pair.options.segments.clone()),
        ("--rate", format!("{:.3}pps", pps.max(0.001))),
        ("--frame-size", trial.size.list.to_string()),
        ("--count", count.to_string()),
        ("--duration", format!("{}ns", duration.as_nanos())),
        ("--src-port", port.to_string()),
        ("--ttl", pair.options.ttl.to_string()),
        ("--interval", format!("{}ns", INTERVAL.as_nanos())),
        // Nothing is read of it, and it takes the kernel a third of a second of a CPU to begin and to end.
        ("--kernel-drops", "off".to_owned()),
    ]));
    command.push("--quiet".to_owned());
    pair.crew.start(way.from, &command)
}

/// Sends a few frames again and again until one has come to each receiver, or the time for that is over.
fn learn(pair: &mut Pair, trial: &Trial, ways: &mut [Way], stop: &Stop) -> Result<()> {
    let begun = Instant::now();
    let mut first = true;
    while ways.iter().any(|way| !way.learned)
        && !stop.is_requested()
        && (first || begun.elapsed() < pair.options.link_wait)
    {
        // One round at least, however short the wait.
        first = false;
        let mut jobs = Vec::new();
        for way in ways.iter().filter(|way| !way.learned) {
            jobs.push(send(pair, trial, way, ROUND_PPS, ROUND_FRAMES, true)?);
        }
        pair.crew.until_ended(&jobs, Duration::from_secs(60), stop)?;
        pair.crew.reports(&jobs)?;
        let round = Instant::now();
        while round.elapsed() < ROUND && ways.iter().any(|way| !way.learned) {
            pair.crew.listen()?;
            for way in ways.iter_mut() {
                way.learned |= pair.crew.packets(way.receiver) > 0;
            }
        }
    }
    Ok(())
}

/// Starts the trial's senders.
fn senders(pair: &mut Pair, trial: &Trial, ways: &[Way]) -> Result<Vec<Job>> {
    ways.iter().map(|way| send(pair, trial, way, trial.pps, trial.frames(), false)).collect()
}

/// What the reports of a sender and a receiver say of one way.
fn port(way: &Way, trial: &Trial, sent: &Value, received: &Value, offset: Duration) -> PortSeen {
    let streams = read::streams(received, |port| port == SOURCE_PORT);
    let sum = |of: fn(&read::Stream) -> u64| streams.iter().map(of).sum::<u64>();
    let details = received["rx"]["streams"].as_array().map_or(&[][..], Vec::as_slice);
    let own = |stream: &&Value| {
        let source = stream["source"].as_str().unwrap_or_default();
        source.rsplit(':').next() == Some(&SOURCE_PORT.to_string())
    };
    let periods = || details.iter().filter(own).map(|stream| &stream["loss_periods"]);
    let highest = |name: &str| periods().filter_map(|periods| periods[name]["max"].as_u64()).max();
    PortSeen {
        offered: read::offered(std::slice::from_ref(sent)),
        received: sum(|stream| stream.unique),
        duplicate: sum(|stream| stream.duplicate),
        reordered: sum(|stream| stream.reordered),
        lost_in_host: read::lost_in_host(received),
        learned: way.learned,
        latency_ns: read::latency(received),
        jitter_ns: received["rx"]["jitter_ns"]["max"].as_u64(),
        longest_loss: highest("length_packets").unwrap_or(0),
        outage_by_stamps_ns: highest("sent_gap_ns"),
        outage_by_arrivals_ns: highest("outage_ns"),
        time_line: trial.time_line.map_or_else(Vec::new, |_| time_line(received, offset)),
    }
}

/// The intervals of a receiver's report from the trial's beginning on.
fn time_line(report: &Value, offset: Duration) -> Vec<Moment> {
    let offset = offset.as_nanos() as u64;
    let intervals = report["intervals"].as_array().map_or(&[][..], Vec::as_slice);
    intervals
        .iter()
        .filter_map(|interval| {
            let (start, end) = (interval["start_ns"].as_u64()?, interval["end_ns"].as_u64()?);
            (end > offset).then_some(())?;
            let rx = &interval["rx"];
            Some(Moment {
                start_ns: start.saturating_sub(offset),
                end_ns: end - offset,
                received: rx["packets"].as_u64()?,
                lost: rx["lost"].as_i64().unwrap_or(0),
                pps: rx["pps"].as_u64().unwrap_or(0),
                latency_ns: distribution(&rx["latency_ns"]),
            })
        })
        .collect()
}

fn distribution(told: &Value) -> Option<Distribution> {
    read::latency(&serde_json::json!({"rx": {"latency_ns": told}}))
}
