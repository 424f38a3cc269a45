//! A device that is only computed, with the faults that methods have to find.

use std::time::Duration;

use super::{Bed, DelayTrial, DelaysSeen, GroupSeen, Layout, Moments, Offered, PortSeen, Seen, Trial};
use crate::control::Stop;
use crate::error::{Error, Result};
use crate::report::Distribution;

/// A device and its ports. By default it has no fault.
#[derive(Debug, Clone)]
pub struct Device {
    /// Member ports.
    pub members: usize,
    /// Whether there is a port that does not join.
    pub stranger: bool,
    /// A member port that loses one frame in so many.
    pub drops: Option<(usize, u64)>,
    /// Unicast frames lost, one in so many, at every port.
    pub drops_unicast: Option<u64>,
    /// Groups that the forwarding database holds.
    pub most_groups: u32,
    /// With more groups than this it begins to flood, for good.
    pub gives_up_above: u32,
    /// Frames go to every port, joined or not.
    pub floods: bool,
    /// Frames come twice at this port.
    pub doubles: Option<usize>,
    /// A port whose joins take effect only after this time.
    pub late: Option<(usize, Duration)>,
    /// Leaves never take effect at this port.
    pub never_leaves: Option<usize>,
    /// Frames a second that the device takes in; more is lost, at all ports alike.
    pub most_pps: f64,
    /// Frames a second that the sender can offer.
    pub sender_pps: f64,
    /// A port whose host loses so many of the frames that reached it.
    pub loses_itself: Option<(usize, u64)>,
    /// Latency at the first port; each further one has 1 µs more.
    pub latency_ns: u64,
    /// Added to all latencies under unicast load.
    pub burden_ns: u64,
    /// How long members are waited for before a trial.
    pub patience: Duration,
    /// Calls after which a port's agent is gone.
    pub dies_after: Option<u32>,
    /// Calls after which the stop is requested, in the middle of a trial.
    pub stopped_after: Option<u32>,
    /// Calls so far.
    pub calls: u32,
}

impl Default for Device {
    fn default() -> Self {
        Self {
            members: 3,
            stranger: true,
            drops: None,
            drops_unicast: None,
            most_groups: u32::MAX,
            gives_up_above: u32::MAX,
            floods: false,
            doubles: None,
            late: None,
            never_leaves: None,
            most_pps: f64::INFINITY,
            sender_pps: f64::INFINITY,
            loses_itself: None,
            latency_ns: 10_000,
            burden_ns: 0,
            patience: Duration::from_secs(2),
            dies_after: None,
            stopped_after: None,
            calls: 0,
        }
    }
}

fn constant(ns: u64, count: u64) -> Option<Distribution> {
    (count > 0).then_some(Distribution {
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
    })
}

impl Device {
    fn begin(&mut self, stop: &Stop) -> Result<()> {
        self.calls += 1;
        if self.dies_after.is_some_and(|n| self.calls > n) {
            return Err(Error::failed("member m2: its agent ended").fix("see whether its host still runs"));
        }
        if self.stopped_after.is_some_and(|n| self.calls > n) {
            stop.request();
        }
        Ok(())
    }

    fn offered(&self, pps: f64, frames: u64) -> Offered {
        let real = pps.min(self.sender_pps);
        // A sender that is too slow sends less in the same time.
        Offered { frames: (frames as f64 * real / pps) as u64, refused: 0, pps: real }
    }

    fn latency_of(&self, port: usize, burdened: bool) -> u64 {
        self.latency_ns + port as u64 * 1000 + if burdened { self.burden_ns } else { 0 }
    }

    fn reach(&self, port: usize, group: u32, trial: &Trial, sent: u64) -> u64 {
        let load = trial.multicast_pps.min(self.sender_pps) + trial.unicast_pps;
        let mut reached = sent;
        if load > self.most_pps {
            reached = (sent as f64 * self.most_pps / load) as u64;
        }
        if let Some((at, late)) = self.late
            && at == port
            && late > self.patience
        {
            let missed = (late - self.patience).as_secs_f64() / trial.duration.as_secs_f64();
            reached = reached.saturating_sub((sent as f64 * missed.min(1.0)).ceil() as u64);
        }
        if let Some((at, one_in)) = self.drops
            && at == port
        {
            // One in so many of all groups' frames.
            let before = |group: u32| sent * u64::from(group) / one_in;
            reached = reached.saturating_sub(before(group + 1) - before(group));
        }
        if let Some((at, lost)) = self.loses_itself
            && at == port
        {
            reached = reached.saturating_sub(lost / u64::from(trial.groups));
        }
        reached
    }
}

impl Bed for Device {
    fn layout(&self) -> Layout {
        Layout {
            senders: vec!["s1".into()],
            members: (1..=self.members).map(|n| format!("m{n}")).collect(),
            stranger: self.stranger.then(|| "x1".into()),
            burden: Vec::new(),
            membership: "IGMPv3".into(),
            segments: "off".into(),
            device: Some("memory".into()),
        }
    }

    fn overhead(&self) -> Duration {
        Duration::from_secs(3)
    }

    fn trial(&mut self, trial: &Trial, stop: &Stop) -> Result<Seen> {
        self.begin(stop)?;
        self.floods |= trial.groups > self.gives_up_above;
        let multicast = self.offered(trial.multicast_pps, trial.multicast_frames());
        let each = multicast.frames / u64::from(trial.groups);
        let sent = vec![each; trial.groups as usize];
        let burdened = trial.unicast_pps > 0.0;
        let unicast_each = trial.unicast_frames(self.members);
        let ports: Vec<PortSeen> = (0..self.members)
            .map(|port| {
                let latency = self.latency_of(port, burdened);
                let groups: Vec<GroupSeen> = (0..trial.groups)
                    .map(|group| {
                        let held = group < self.most_groups || self.floods;
                        let received = if held { self.reach(port, group, trial, each) } else { 0 };
                        GroupSeen {
                            received,
                            duplicate: if self.doubles == Some(port) { received } else { 0 },
                            reordered: 0,
                            latency_ns: trial.latency_by_group.then(|| constant(latency, received)).flatten(),
                        }
                    })
                    .collect();
                let received = groups.iter().map(|g| g.received).sum();
                let late = self.late.filter(|late| late.0 == port).map_or(Duration::ZERO, |late| late.1);
                PortSeen {
                    groups,
                    latency_ns: constant(latency, received),
                    unicast: burdened.then(|| {
                        (unicast_each, unicast_each - self.drops_unicast.map_or(0, |n| unicast_each / n))
                    }),
                    lost_in_host: self.loses_itself.filter(|l| l.0 == port).map_or(0, |l| l.1),
                    learned: trial.groups <= self.most_groups && late <= self.patience,
                    learned_after: (late <= self.patience).then_some(late),
                }
            })
            .collect();
        Ok(Seen {
            multicast,
            unicast: burdened.then(|| self.offered(trial.unicast_pps, unicast_each * self.members as u64)),
            leaked: self.stranger.then_some(if self.floods { multicast.frames } else { 0 }),
            sent,
            ports,
            burden: None,
            interrupted: stop.is_requested(),
            warnings: Vec::new(),
        })
    }

    fn delays(&mut self, trial: &DelayTrial, stop: &Stop) -> Result<DelaysSeen> {
        self.begin(stop)?;
        let gap = (1e9 * f64::from(trial.groups) / trial.multicast_pps) as u64;
        let late = self.late.filter(|late| late.0 == trial.port).map_or(Duration::ZERO, |late| late.1);
        let burden = if trial.unicast_pps > 0.0 { self.burden_ns } else { 0 };
        let delay = late.as_nanos() as u64 + if trial.filled { 50_000 } else { 100_000 } + burden;
        let (joined, left) = (1_000_000_000_000, 1_010_000_000_000);
        let stays = self.never_leaves == Some(trial.port) || self.floods;
        let groups = (0..trial.groups)
            .map(|group| {
                let comes = (group < self.most_groups && late < trial.patience) || self.floods;
                Moments {
                    joined_ns: Some(joined),
                    first_ns: comes
                        .then_some(joined + if self.floods { 1 } else { delay.div_ceil(gap) * gap }),
                    left_ns: Some(left),
                    last_ns: comes.then_some(if stays {
                        left + trial.patience.as_nanos() as u64
                    } else {
                        left + gap
                    }),
                    after_leave: match (comes, stays) {
                        (false, _) => 0,
                        (true, false) => 1,
                        (true, true) => trial.patience.as_nanos() as u64 / gap,
                    },
                    before_join: if self.floods { 100 } else { 0 },
                }
            })
            .collect();
        Ok(DelaysSeen {
            groups,
            multicast: self.offered(trial.multicast_pps, trial.multicast_pps as u64),
            unicast: (trial.unicast_pps > 0.0)
                .then(|| self.offered(trial.unicast_pps, trial.unicast_pps as u64)),
            interrupted: stop.is_requested(),
            warnings: Vec::new(),
        })
    }
}
