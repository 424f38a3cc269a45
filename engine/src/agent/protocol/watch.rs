//! Requests and events of a watch.
#![forbid(unsafe_code)]

use std::net::IpAddr;

use serde::{Deserialize, Serialize};

use super::Failure;

/// The value of [`Look::schema`].
pub const WATCH_SCHEMA: &str = "wirerate.watch/1";

/// What to watch.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct WatchSpec {
    /// The interface, by name.
    pub interface: String,
    /// UDP port of the data.
    pub port: u16,
    /// Groups that are not joined, whose packets are to be told apart from those of any other: targets as users type them.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub groups: Vec<String>,
}

/// Groups to join or to leave, in this order.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Groups {
    /// Targets as users type them: `udp://239.1.2.3:5001`, `udp://10.0.0.1@232.1.2.3:5001`. The port is that of the watch.
    pub groups: Vec<String>,
    /// So many a second; absent: as fast as the kernel takes them.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub rate: Option<f64>,
}

/// How a request to join or leave ended.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Moved {
    /// How many were joined or left, in their order.
    pub groups: u64,
    /// Why not all.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub failure: Option<Failure>,
}

/// What a watch has seen. Its report is the last of these.
///
/// Packets are as the kernel hands them over: several datagrams that left as one buffer (segmentation offload) may come as one, and `bytes` tells
/// their length. Of a datagram in fragments only the first counts.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Look {
    /// [`WATCH_SCHEMA`].
    pub schema: String,
    /// The interface.
    pub interface: String,
    /// UDP port of the data.
    pub port: u16,
    /// Memberships that are held now.
    pub joined: u64,
    /// Sockets that hold them.
    pub sockets: u64,
    /// IGMP and MLD messages of this host: reports, joins, leaves.
    pub reports: u64,
    /// IGMP and MLD queries.
    pub queries: u64,
    /// Packets that passed and were not seen, because this host was too slow.
    pub missed: u64,
    /// Each group that was joined or named.
    pub groups: Vec<GroupMoments>,
    /// Data to all other groups.
    pub others: Others,
}

/// When what happened to a group. Times are CLOCK_TAI in ns, those of packets by the kernel's stamps; absent: it did not happen.
///
/// A group that is joined anew begins anew.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct GroupMoments {
    /// The group.
    pub group: IpAddr,
    /// The only source that is wanted.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub source: Option<IpAddr>,
    /// The kernel was asked to join.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub join_asked_ns: Option<u64>,
    /// The first message that said so passed the wire. Members of IGMPv2 and MLDv1 keep silent when they hear another one's.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub join_reported_ns: Option<u64>,
    /// Protocol of that message: `IGMPv3`, …
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub join_message: Option<String>,
    /// The first data packet behind that message; behind the request as long as there is no message.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub first_data_ns: Option<u64>,
    /// The kernel was asked to leave.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub leave_asked_ns: Option<u64>,
    /// The first message that said so passed the wire.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub leave_reported_ns: Option<u64>,
    /// Protocol of that message.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub leave_message: Option<String>,
    /// The last data packet.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub last_data_ns: Option<u64>,
    /// Data packets before the kernel was asked to join, or of a group that never was joined.
    pub packets_before: u64,
    /// Between the request and the message.
    pub packets_asked: u64,
    /// From the message that joined to the one that left.
    pub packets_member: u64,
    /// Behind the message that left.
    pub packets_after: u64,
    /// UDP payload of all of them.
    pub bytes: u64,
    /// From the message that joined to the first data packet.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub join_delay_ns: Option<u64>,
    /// From the message that left to the last data packet behind it; 0 when none came.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub leave_delay_ns: Option<u64>,
}

impl GroupMoments {
    /// A group to which nothing has happened yet.
    pub fn new(group: IpAddr, source: Option<IpAddr>) -> Self {
        Self {
            group,
            source,
            join_asked_ns: None,
            join_reported_ns: None,
            join_message: None,
            first_data_ns: None,
            leave_asked_ns: None,
            leave_reported_ns: None,
            leave_message: None,
            last_data_ns: None,
            packets_before: 0,
            packets_asked: 0,
            packets_member: 0,
            packets_after: 0,
            bytes: 0,
            join_delay_ns: None,
            leave_delay_ns: None,
        }
    }

    /// All data packets.
    pub fn packets(&self) -> u64 {
        self.packets_before + self.packets_asked + self.packets_member + self.packets_after
    }
}

/// Data to groups that nobody asked for.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Others {
    /// Packets.
    pub packets: u64,
    /// Their UDP payload.
    pub bytes: u64,
    /// The first 32 of these groups.
    pub groups: Vec<IpAddr>,
}
