//! A link that is only computed, with the faults that a qualification has to find.

use super::super::super::bed::Offered;
use super::{HealthSeen, Layout, Link, Moment, Outage, PortSeen, Seen, Trial};
use crate::control::Stop;
use crate::error::{Error, Result};
use crate::host::health::Snapshot;
use crate::report::Distribution;

/// A link between two ports. By default it has no fault.
#[derive(Debug, Clone)]
pub struct Wire {
    /// Speed that the ports tell.
    pub speed_bps: Option<u64>,
    /// Frames a second that pass, each way; more is lost once the buffer is full.
    pub most_pps: f64,
    /// Frames that wait for room.
    pub buffer: u64,
    /// One frame in so many is lost forward.
    pub drops: Option<u64>,
    /// One frame in so many is lost on the way back.
    pub drops_back: Option<u64>,
    /// Frames above so many a second are dropped as by a policer: no more pass; `None`: no policer.
    pub polices_pps: Option<f64>,
    /// Copies at the second port.
    pub duplicates: u64,
    /// Frames out of order at the second port.
    pub reorders: u64,
    /// Frames a second that a sender can offer.
    pub sender_pps: f64,
    /// Frames that the sender's host refuses.
    pub refuses: u64,
    /// Frames that the second port's host loses.
    pub loses_itself: u64,
    /// Latency; jitter is a tenth of it.
    pub latency_ns: u64,
    /// Whether clocks compare.
    pub clocks: bool,
    /// An outage that is there where one is awaited.
    pub outage_ns: u64,
    /// Invalid trials that happen by chance before the link is as it is.
    pub noise: u32,
    /// Trials after which a port's agent is gone.
    pub dies_after: Option<u32>,
    /// Trials after which the stop is requested, in the middle of one.
    pub stopped_after: Option<u32>,
    /// Trials so far.
    pub calls: u32,
    /// Damaged frames of each trial, by the second port's counter.
    pub damages: u64,
    /// All damaged frames so far.
    pub damaged: u64,
}

impl Default for Wire {
    fn default() -> Self {
        Self {
            speed_bps: Some(1_000_000_000),
            most_pps: f64::INFINITY,
            buffer: 0,
            drops: None,
            drops_back: None,
            polices_pps: None,
            duplicates: 0,
            reorders: 0,
            sender_pps: f64::INFINITY,
            refuses: 0,
            loses_itself: 0,
            latency_ns: 10_000,
            clocks: true,
            outage_ns: 0,
            noise: 0,
            dies_after: None,
            stopped_after: None,
            calls: 0,
            damages: 0,
            damaged: 0,
        }
    }
}

fn constant(ns: u64, count: u64) -> Distribution {
    Distribution {
        count,
        min: ns,
        mean: ns,
        p50: ns,
        p90: None,
        p99: None,
        p999: None,
        p9999: None,
        p99999: None,
        max: ns,
    }
}

impl Wire {
    /// The second port's counter of damaged frames rises with each trial.
    fn moved(&mut self) -> Vec<HealthSeen> {
        let (before, after) = (self.damaged, self.damaged + self.damages);
        self.damaged = after;
        ["a", "b"]
            .map(|port| {
                let (before, after) = if port == "b" { (before, after) } else { (0, 0) };
                HealthSeen { port: port.to_owned(), before: port_with(before), after: port_with(after) }
            })
            .to_vec()
    }

    /// What one port receives of a trial.
    fn port(&mut self, trial: &Trial, back: bool) -> PortSeen {
        let asked = trial.frames();
        let pps = trial.pps.min(self.sender_pps);
        // A sender that is too slow sends a burst whole, and of a load less in the same time.
        let frames = match trial.burst {
            Some(frames) => frames,
            None => (asked as f64 * pps / trial.pps).round() as u64,
        };
        let offered = Offered { frames, refused: self.refuses, pps };
        let mut received = frames;
        if pps > self.most_pps {
            // What leaves while it comes, and what waits.
            let through = (frames as f64 * self.most_pps / pps) as u64 + self.buffer;
            received = received.min(through);
        }
        if let Some(policed) = self.polices_pps.filter(|policed| pps > *policed) {
            received = received.min((frames as f64 * policed / pps) as u64);
        }
        let one_in = if back { self.drops_back } else { self.drops };
        received -= one_in.map_or(0, |n| received / n);
        if self.noise > 0 {
            self.noise -= 1;
            received = received.saturating_sub(1);
        }
        let (mut longest_loss, mut outage) = (frames - received, None);
        let down = match &trial.outage {
            Some(Outage::Made { down, .. }) => down.as_nanos() as u64,
            Some(Outage::Awaited) => self.outage_ns,
            None => 0,
        };
        if down > 0 {
            longest_loss = (down as f64 * pps / 1e9) as u64;
            received = received.saturating_sub(longest_loss);
            outage = Some(((longest_loss + 1) as f64 * 1e9 / pps) as u64);
        }
        let lost_in_host = if back { 0 } else { self.loses_itself };
        let received = received.saturating_sub(lost_in_host);
        let moment = |start_ns| Moment {
            start_ns,
            end_ns: start_ns + 1,
            received,
            lost: (frames - received).cast_signed(),
            pps: 1,
            latency_ns: None,
        };
        PortSeen {
            offered,
            received,
            duplicate: if back { 0 } else { self.duplicates },
            reordered: if back { 0 } else { self.reorders },
            lost_in_host,
            learned: true,
            latency_ns: (self.clocks && received > 0).then(|| constant(self.latency_ns, received)),
            jitter_ns: Some(self.latency_ns / 10),
            longest_loss,
            outage_by_stamps_ns: outage,
            outage_by_arrivals_ns: outage,
            time_line: trial.time_line.map_or_else(Vec::new, |_| vec![moment(0), moment(1)]),
        }
    }
}

impl Link for Wire {
    fn layout(&self) -> Layout {
        Layout {
            tx: "a".to_owned(),
            rx: "b".to_owned(),
            speed_bps: self.speed_bps,
            segments: "off".to_owned(),
        }
    }

    fn overhead(&self) -> std::time::Duration {
        std::time::Duration::ZERO
    }

    fn health(&self) -> Vec<(String, Snapshot)> {
        ["a", "b"].map(|name| (name.to_owned(), port_with(0))).to_vec()
    }

    fn trial(&mut self, trial: &Trial, stop: &Stop) -> Result<Seen> {
        self.calls += 1;
        if self.dies_after.is_some_and(|n| self.calls > n) {
            return Err(Error::failed("rx: its agent ended").fix("see whether its host still runs"));
        }
        if self.stopped_after.is_some_and(|n| self.calls > n) {
            stop.request();
        }
        let ports = trial.direction.ways().iter().map(|back| self.port(trial, *back)).collect();
        Ok(Seen { ports, interrupted: stop.is_requested(), warnings: Vec::new(), health: self.moved() })
    }
}

/// A port that is up, with so many damaged frames.
fn port_with(damaged: u64) -> Snapshot {
    let mut port = Snapshot { interface: "eth1".to_owned(), ..Snapshot::default() };
    port.link.up = true;
    port.link.carrier = true;
    port.counters.rtnl.insert("rx_crc_errors".to_owned(), damaged);
    port
}
