//! What a replicator tells: plain data, described by docs/replicator.schema.json.
#![forbid(unsafe_code)]

use std::net::IpAddr;
use std::time::Duration;

use serde::Serialize;

use super::By;
use super::control::State;
use super::counters::Counts;
use crate::queue::spec::Interface;
use crate::report::Warning;

/// Name and version of the report's schema.
pub const SCHEMA: &str = "wirerate.replicator/1";

/// What was copied.
#[derive(Debug, Clone, Serialize)]
pub struct Report {
    /// `wirerate.replicator/1`.
    pub schema: &'static str,
    /// `xdp`, `afxdp` or `socket`.
    pub by: &'static str,
    /// Interfaces that groups arrive on.
    pub from: Vec<String>,
    /// For how long, ns.
    pub duration_ns: u64,
    /// Frames that arrived, by what became of them.
    pub frames: Vec<Fate>,
    /// Interfaces that members are behind.
    pub ports: Vec<Port>,
    /// What was copied of each group.
    pub groups: Vec<Group>,
    /// The membership messages that were read and sent.
    pub memberships: Memberships,
    /// What a reader should know.
    pub warnings: Vec<Warning>,
}

/// Frames with one fate.
#[derive(Debug, Clone, Serialize)]
pub struct Fate {
    /// `replicated`; `no-member`: dropped, nobody wants it; `passed`, `control`, `tagged`, `malformed`: left to the kernel; `no-socket`: dropped, nothing takes it;
    /// `lost`: before the replicator saw it.
    pub fate: &'static str,
    /// How many.
    pub frames: u64,
}

/// Copies for one port.
#[derive(Debug, Clone, Serialize)]
pub struct Port {
    /// The interface.
    pub interface: String,
    /// Copies that it took.
    pub frames: u64,
    /// Copies that it did not take.
    pub refused: u64,
    /// Why, the last time.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub reason: Option<String>,
    /// Groups that somebody behind it is a member of now.
    pub groups: u64,
}

/// What was copied of a group to the same ports.
#[derive(Debug, Clone, Serialize)]
pub struct Group {
    /// The group.
    pub group: IpAddr,
    /// The one source; absent: all those that have no line of their own.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub source: Option<IpAddr>,
    /// The ports that a copy each was made for.
    pub ports: Vec<String>,
    /// Frames that arrived; datagrams, where `socket` passes several on as one buffer.
    pub frames: u64,
    /// Their bytes, without FCS.
    pub bytes: u64,
}

/// Membership messages.
#[derive(Debug, Clone, Serialize)]
pub struct Memberships {
    /// Reports taken in.
    pub reports: u64,
    /// What could not be read, or a receiver has to ignore.
    pub malformed: u64,
    /// Queries sent, on all ports.
    pub queries: u64,
    /// Reports of groups for which there was no room.
    pub refused: u64,
}

impl Report {
    pub(super) fn new(
        by: By,
        from: &[Interface],
        to: &[Interface],
        elapsed: Duration,
        state: &State,
        counts: Counts,
    ) -> Self {
        let name = |port: usize| to.get(port).map_or_else(|| port.to_string(), |i| i.name.clone());
        let members = |port: usize| {
            state.table.groups().filter(|group| state.table.ports(*group, None).contains(&port)).count()
                as u64
        };
        Self {
            schema: SCHEMA,
            by: by.name(),
            from: from.iter().map(|i| i.name.clone()).collect(),
            duration_ns: u64::try_from(elapsed.as_nanos()).unwrap_or(u64::MAX),
            frames: counts.fates.into_iter().map(|(fate, frames)| Fate { fate, frames }).collect(),
            ports: counts
                .ports
                .into_iter()
                .enumerate()
                .map(|(port, count)| Port {
                    interface: name(port),
                    frames: count.frames,
                    refused: count.refused,
                    reason: count.reason,
                    groups: members(port),
                })
                .collect(),
            groups: counts
                .groups
                .into_iter()
                .filter(|(_, count)| count.frames > 0)
                .map(|((group, source, ports), count)| Group {
                    group,
                    source,
                    ports: ports.into_iter().map(name).collect(),
                    frames: count.frames,
                    bytes: count.bytes,
                })
                .collect(),
            memberships: Memberships {
                reports: state.reports,
                malformed: state.malformed,
                queries: state.queries,
                refused: state.table.refused(),
            },
            warnings: Vec::new(),
        }
    }

    /// Frames with this fate.
    pub fn fate(&self, fate: &str) -> u64 {
        self.frames.iter().filter(|f| f.fate == fate).map(|f| f.frames).sum()
    }
}
