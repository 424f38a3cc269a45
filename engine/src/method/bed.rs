//! What a method asks of its ports: run one trial, time joins and leaves. Who reaches the ports, and how, is the bed's affair.
#![forbid(unsafe_code)]

#[cfg(test)]
pub mod memory;

use std::time::Duration;

use serde::Serialize;

use crate::control::Stop;
use crate::error::Result;
use crate::profile::mix::Mix;
use crate::report::{Distribution, Warning};

/// The ports around a device under test.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Layout {
    /// Where frames come from (ingress).
    pub senders: Vec<String>,
    /// Where members are (egress).
    pub members: Vec<String>,
    /// The port that joins nothing, if there is one.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub stranger: Option<String>,
    /// Ports that burden the device with unicast frames, in full mesh; without some the senders do, towards the members.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub burden: Vec<String>,
    /// How members say so: `IGMPv3`, `MLDv2`; without a version where none was seen to (RFC 3918 §3.1.1).
    pub membership: String,
    /// The most datagrams in one buffer: `off`, `auto` or a number. With more than one, what is replicated are super-packets.
    pub segments: String,
    /// What the device under test is, where the bed knows.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub device: Option<String>,
}

/// One trial: all members join all groups, then the senders send for a time.
#[derive(Debug, Clone, PartialEq)]
pub struct Trial {
    /// Frame size with FCS.
    pub frame_bytes: u32,
    /// Consecutive groups.
    pub groups: u32,
    /// Multicast frames a second, all groups and senders together.
    pub multicast_pps: f64,
    /// Unicast frames a second, to all member ports in turn; 0: none.
    pub unicast_pps: f64,
    /// Whether unicast frames stand between the multicast ones, strictly in turn and from the same ports (RFC 3918 §4.1); else they come from senders of
    /// their own.
    pub interleaved: bool,
    /// How long is sent.
    pub duration: Duration,
    /// Whether latencies are wanted for each group, too.
    pub latency_by_group: bool,
}

impl Trial {
    /// Multicast frames that it takes, a whole number for each group, at least one.
    pub fn multicast_frames(&self) -> u64 {
        let each = self.multicast_pps * self.duration.as_secs_f64() / f64::from(self.groups.max(1));
        u64::from(self.groups.max(1)) * (each.round() as u64).max(1)
    }

    /// Unicast frames to each of `members` ports.
    pub fn unicast_frames(&self, members: usize) -> u64 {
        if self.unicast_pps <= 0.0 {
            return 0;
        }
        let each = self.unicast_pps * self.duration.as_secs_f64() / members.max(1) as f64;
        (each.round() as u64).max(1)
    }
}

/// The order of frames to groups and to ports, `percent` of them to ports: of as many groups as one sender takes.
pub(crate) fn mix(groups: u32, ports: usize, percent: f64) -> Mix {
    let groups = groups.clamp(1, MOST_GROUPS_OF_A_SENDER) as u16;
    Mix::new(groups, u16::try_from(ports).unwrap_or(u16::MAX), percent)
}

/// The most groups to which one run of a sender sends.
pub(crate) const MOST_GROUPS_OF_A_SENDER: u32 = 1024;

/// Frames of one class (RFC 2432 §3.1) that were sent.
#[derive(Debug, Clone, Copy, Default, PartialEq, Serialize)]
pub struct Offered {
    /// Frames.
    pub frames: u64,
    /// Frames that the sender's host refused.
    pub refused: u64,
    /// Frames a second, from the first to the last.
    pub pps: f64,
}

/// What one trial came to.
#[derive(Debug, Clone, Default)]
pub struct Seen {
    /// Multicast frames sent.
    pub multicast: Offered,
    /// Unicast frames sent.
    pub unicast: Option<Offered>,
    /// Frames sent to each group.
    pub sent: Vec<u64>,
    /// Every member port, in the layout's order.
    pub ports: Vec<PortSeen>,
    /// Unicast frames that burdening ports sent each other, and that came.
    pub burden: Option<(u64, u64)>,
    /// Frames of the groups at the port that did not join.
    pub leaked: Option<u64>,
    /// Whether the trial was cut short.
    pub interrupted: bool,
    /// What the ports warned of.
    pub warnings: Vec<Warning>,
}

/// What one member port received.
#[derive(Debug, Clone, Default)]
pub struct PortSeen {
    /// Each group.
    pub groups: Vec<GroupSeen>,
    /// Latency of all multicast frames, where clocks allow to tell it.
    pub latency_ns: Option<Distribution>,
    /// Unicast frames sent to it, and received.
    pub unicast: Option<(u64, u64)>,
    /// Of the frames that are missing, those that reached the port's host, and were lost in it: no fault of the device.
    pub lost_in_host: u64,
    /// Whether every group was seen to arrive before the trial began.
    pub learned: bool,
    /// Time from the joins until every group was seen.
    pub learned_after: Option<Duration>,
}

/// What one port received of one group.
#[derive(Debug, Clone, Copy, Default)]
pub struct GroupSeen {
    /// Different frames.
    pub received: u64,
    /// Copies.
    pub duplicate: u64,
    /// Frames that came after a later one.
    pub reordered: u64,
    /// Latency, where asked for.
    pub latency_ns: Option<Distribution>,
}

/// Joins and leaves at one port, while traffic flows.
#[derive(Debug, Clone, PartialEq)]
pub struct DelayTrial {
    /// Frame size with FCS.
    pub frame_bytes: u32,
    /// Consecutive groups, joined at once.
    pub groups: u32,
    /// Multicast frames a second, all groups together.
    pub multicast_pps: f64,
    /// Unicast frames a second besides, to all member ports in turn; 0: none.
    pub unicast_pps: f64,
    /// The member port that joins and leaves, by its place in the layout.
    pub port: usize,
    /// Whether another member port is in the groups before, so that the device's forwarding database (MFDB) has them.
    pub filled: bool,
    /// How long a first or a last frame is waited for.
    pub patience: Duration,
}

/// Moments of one group at one port: CLOCK_TAI in ns, as taken on the wire by the kernel.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Moments {
    /// The membership report left.
    pub joined_ns: Option<u64>,
    /// The first frame after it came.
    pub first_ns: Option<u64>,
    /// The report or message that leaves left.
    pub left_ns: Option<u64>,
    /// The last frame came.
    pub last_ns: Option<u64>,
    /// Frames after `left_ns`.
    pub after_leave: u64,
    /// Frames before `joined_ns`: the device forwarded what nobody had asked for.
    pub before_join: u64,
}

/// What joins and leaves came to.
#[derive(Debug, Clone, Default)]
pub struct DelaysSeen {
    /// Each group.
    pub groups: Vec<Moments>,
    /// Multicast frames sent.
    pub multicast: Offered,
    /// Unicast frames sent.
    pub unicast: Option<Offered>,
    /// Whether it was cut short.
    pub interrupted: bool,
    /// What the ports warned of.
    pub warnings: Vec<Warning>,
}

/// The ports, and whoever reaches them.
pub trait Bed {
    /// The ports.
    fn layout(&self) -> Layout;

    /// Time that a trial takes besides its duration: joining, waiting for members, waiting for frames in flight.
    fn overhead(&self) -> Duration;

    /// Runs one trial.
    ///
    /// # Errors
    /// When a port cannot be reached any more, or refuses what it is asked to do; what the trial had seen is lost.
    fn trial(&mut self, trial: &Trial, stop: &Stop) -> Result<Seen>;

    /// Times joins and leaves.
    ///
    /// # Errors
    /// As [`trial`](Self::trial).
    fn delays(&mut self, trial: &DelayTrial, stop: &Stop) -> Result<DelaysSeen>;
}
