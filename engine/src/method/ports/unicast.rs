//! Unicast frames beside the multicast ones: to all member ports, or, to burden a device, between ports of their own in full mesh (RFC 3918 §8,
//! RFC 2285 §3.3.3).
#![forbid(unsafe_code)]

use std::net::SocketAddr;
use std::time::Duration;

use serde_json::Value;

use super::crew::Job;
use super::trial::{Load, beside, receiver, start as send};
use super::{LEARNING, Ports, SOURCE_PORT, UNICAST, read};
use crate::error::Result;
use crate::method::bed::{Offered, PortSeen, Trial};

/// First source port of unicast frames.
const FIRST: u16 = SOURCE_PORT + 2 * LEARNING;

/// What unicast takes in a trial: a receiver at each port that gets some.
pub(super) struct Receivers {
    jobs: Vec<(usize, Job)>,
}

/// From which port to which frames go, the same number on each way. With `to_members` never between burdening ports.
fn ways(ports: &Ports, to_members: bool) -> Vec<(usize, usize)> {
    let burden = ports.burden.clone();
    if burden.is_empty() || to_members {
        let (first, count) = (ports.senders.start, ports.senders.len());
        return ports.members.clone().enumerate().map(|(n, member)| (first + n % count, member)).collect();
    }
    burden
        .clone()
        .flat_map(|from| burden.clone().filter(move |to| *to != from).map(move |to| (from, to)))
        .collect()
}

/// Where unicast frames to a port go.
pub(super) fn address(ports: &Ports, at: usize) -> SocketAddr {
    let port = ports.options.group.destination.port().wrapping_add(UNICAST).max(1);
    SocketAddr::new(ports.crew.ports[at].address, port)
}

fn target(ports: &Ports, at: usize) -> String {
    format!("udp://{}", address(ports, at))
}

/// The frames of a class by itself.
#[derive(Debug, Clone, Copy)]
pub(super) struct Frames {
    pub bytes: u32,
    /// A second, on all ways together.
    pub pps: f64,
    /// On each way; `None`: until they are ended.
    pub count: Option<u64>,
    /// The longest time that they are sent for.
    pub duration: Duration,
    /// Whether they only let the device learn addresses.
    pub learning: bool,
}

/// Starts senders on all ways: where each sends to, and what it runs.
pub(super) fn start(ports: &mut Ports, to_members: bool, frames: Frames) -> Result<Vec<(usize, Job)>> {
    let ways = ways(ports, to_members);
    let mut jobs = Vec::new();
    for (n, &(at, to)) in ways.iter().enumerate() {
        let load = Load {
            at,
            target: target(ports, to),
            groups: None,
            frame_bytes: frames.bytes,
            pps: frames.pps / ways.len() as f64,
            count: frames.count,
            duration: frames.duration,
            source_port: FIRST + if frames.learning { LEARNING } else { 0 } + n as u16,
            between: None,
        };
        jobs.push((to, send(ports, &load)?));
    }
    Ok(jobs)
}

/// Frames of a trial on each way.
pub(super) fn count(ports: &Ports, trial: &Trial) -> u64 {
    trial.unicast_frames(ways(ports, trial.interleaved).len())
}

impl Receivers {
    /// Starts them; [`jobs`](Self::jobs) are not ready yet.
    pub(super) fn start(ports: &mut Ports, to_members: bool) -> Result<Self> {
        let mut ends: Vec<usize> = ways(ports, to_members).into_iter().map(|(_, to)| to).collect();
        ends.sort_unstable();
        ends.dedup();
        let mut jobs = Vec::new();
        for at in ends {
            let words = receiver(ports, at, target(ports, at), beside(&ports.options.recv_backend));
            jobs.push((at, ports.crew.start(at, &words)?));
        }
        Ok(Self { jobs })
    }

    /// None.
    pub(super) fn none() -> Self {
        Self { jobs: Vec::new() }
    }

    /// What runs at them.
    pub(super) fn jobs(&self) -> Vec<Job> {
        self.jobs.iter().map(|(_, job)| *job).collect()
    }

    /// Whether frames have come to the member port `at`, if any should, and to all burdening ports.
    pub(super) fn have_heard(&self, ports: &Ports, at: usize) -> bool {
        let matters = |end: usize| end == at || ports.burden.contains(&end);
        self.jobs.iter().filter(|(end, _)| matters(*end)).all(|(_, job)| ports.crew.packets(*job) > 0)
    }

    /// Ends them, and puts what they got beside what `sent` says was sent to each, or, where frames were of one stream with the multicast, beside what that stream
    /// says of itself: into the `members` that got some. Gives what burdening ports were sent and got.
    pub(super) fn read(
        &self,
        ports: &mut Ports,
        sent: &[(usize, Value)],
        of_one_stream: Option<Offered>,
        members: &mut [PortSeen],
    ) -> Result<Option<(u64, u64)>> {
        let reports = ports.crew.reports(&self.jobs())?;
        let mut burden = None;
        for ((at, _), report) in self.jobs.iter().zip(&reports) {
            let streams =
                read::streams(report, |port| !(FIRST + LEARNING..FIRST + 2 * LEARNING).contains(&port));
            let received: u64 = streams.iter().map(|stream| stream.unique).sum();
            let to_it = match of_one_stream {
                None => {
                    let own: Vec<Value> =
                        sent.iter().filter(|(to, _)| to == at).map(|(_, report)| report.clone()).collect();
                    read::offered(&own).frames
                }
                // A port that did not hear all streams had its even share.
                Some(all) => {
                    let told: u64 = streams.iter().filter_map(|stream| stream.sent).sum();
                    told.max(all.frames / members.len().max(1) as u64)
                }
            };
            match at.checked_sub(ports.members.start).and_then(|n| members.get_mut(n)) {
                Some(member) => {
                    member.unicast = Some((to_it, received));
                    member.lost_in_host += read::lost_in_host(report);
                }
                None => {
                    let (before, came) = burden.unwrap_or((0, 0));
                    burden = Some((before + to_it, came + received));
                }
            }
        }
        Ok(burden)
    }
}
