//! What passed, by group. Pure: packets and times come in, figures go out.
#![forbid(unsafe_code)]

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use rustc_hash::FxHashMap;

use super::MOST_GROUPS;
use super::joins::key;
use crate::agent::protocol::{GroupMoments, Look, Others, WATCH_SCHEMA};
use crate::error::{Error, Result};
use crate::multicast::message::{self, Body, Heard, Record, RecordKind};
use crate::packet::ip::UDP;
use crate::target::Target;

/// Groups that nobody asked for and that are named in a report.
const NAMED: usize = 32;

/// Groups that are watched, and what came of others.
#[derive(Debug, Default)]
pub(super) struct Table {
    groups: Vec<GroupMoments>,
    places: FxHashMap<(IpAddr, Option<IpAddr>), usize>,
    others: Others,
    queries: u64,
    reports: u64,
}

/// A UDP datagram to a group.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Datagram {
    source: IpAddr,
    group: IpAddr,
    /// UDP payload.
    bytes: u64,
}

impl Table {
    /// Watches a group that is not joined, unless it is watched already.
    pub(super) fn expect(&mut self, target: &Target) -> Result<usize> {
        let (group, source) = key(target);
        if let Some(place) = self.places.get(&(group, source)) {
            return Ok(*place);
        }
        if self.groups.len() >= MOST_GROUPS {
            return Err(Error::usage(format!("{target}: {MOST_GROUPS} groups are watched already")));
        }
        self.groups.push(GroupMoments::new(group, source));
        self.places.insert((group, source), self.groups.len() - 1);
        Ok(self.groups.len() - 1)
    }

    /// The kernel was asked to join. What was known of an earlier membership is forgotten.
    pub(super) fn joined(&mut self, target: &Target, asked_ns: u64) -> Result<()> {
        let place = self.expect(target)?;
        let group = &mut self.groups[place];
        // What came before the first time still counts.
        if group.join_asked_ns.is_some() {
            *group = GroupMoments::new(group.group, group.source);
        }
        group.join_asked_ns = Some(asked_ns);
        Ok(())
    }

    /// The kernel was asked to leave.
    pub(super) fn left(&mut self, target: &Target, asked_ns: u64) {
        if let Some(place) = self.places.get(&key(target)) {
            self.groups[*place].leave_asked_ns = Some(asked_ns);
        }
    }

    /// A packet passed.
    pub(super) fn saw(&mut self, packet: &[u8], outgoing: bool, at_ns: u64) {
        if let Some(datagram) = datagram(packet) {
            // Data that this host sends is no business of a member.
            if !outgoing {
                self.data(&datagram, at_ns);
            }
        } else if let Ok(heard) = message::parse(packet) {
            match (&heard.message.body, outgoing) {
                (Body::Query(_), _) => self.queries += 1,
                (_, true) => self.report(&heard, at_ns),
                (_, false) => {}
            }
        }
    }

    fn data(&mut self, datagram: &Datagram, at_ns: u64) {
        let channel = self.places.get(&(datagram.group, Some(datagram.source)));
        match channel.or_else(|| self.places.get(&(datagram.group, None))) {
            Some(place) => self.groups[*place].came(datagram.bytes, at_ns),
            None => {
                let others = &mut self.others;
                others.packets += 1;
                others.bytes += datagram.bytes;
                if others.groups.len() < NAMED && !others.groups.contains(&datagram.group) {
                    others.groups.push(datagram.group);
                }
            }
        }
    }

    /// This host told its routers and switches of memberships.
    fn report(&mut self, heard: &Heard, at_ns: u64) {
        self.reports += 1;
        let name = heard.message.version.name();
        match &heard.message.body {
            Body::Join(group) => self.said(*group, None, true, name, at_ns),
            Body::Leave(group) => self.said(*group, None, false, name, at_ns),
            Body::Report(records) => {
                for Record { kind, group, sources } in records {
                    let joins = match kind {
                        RecordKind::IsExclude | RecordKind::ToExclude => {
                            self.said(*group, None, true, name, at_ns);
                            continue;
                        }
                        RecordKind::IsInclude | RecordKind::Allow => true,
                        RecordKind::Block => false,
                        // Of sources that it goes on to want, and of the group as a whole, which it leaves.
                        RecordKind::ToInclude => {
                            self.said(*group, None, false, name, at_ns);
                            true
                        }
                    };
                    for source in sources {
                        self.said(*group, Some(*source), joins, name, at_ns);
                    }
                }
            }
            Body::Query(_) => {}
        }
    }

    fn said(&mut self, group: IpAddr, source: Option<IpAddr>, joins: bool, by: &str, at_ns: u64) {
        let place = self.places.get(&(group, source)).copied();
        // The last source of a group is left by leaving the group.
        let last =
            || (!joins && source.is_none()).then(|| self.groups.iter().position(|g| g.is_leaving(group)));
        if let Some(place) = place.or_else(|| last().flatten()) {
            self.groups[place].said(joins, by, at_ns);
        }
    }

    /// What is known by now.
    pub(super) fn look(&self) -> Look {
        Look {
            schema: WATCH_SCHEMA.to_owned(),
            interface: String::new(),
            port: 0,
            joined: 0,
            sockets: 0,
            reports: self.reports,
            queries: self.queries,
            missed: 0,
            groups: self.groups.iter().map(GroupMoments::concluded).collect(),
            others: self.others.clone(),
        }
    }
}

impl GroupMoments {
    /// A channel that is being left.
    fn is_leaving(&self, group: IpAddr) -> bool {
        self.group == group
            && self.source.is_some()
            && self.leave_asked_ns.is_some()
            && self.leave_reported_ns.is_none()
    }

    fn came(&mut self, bytes: u64, at_ns: u64) {
        self.bytes += bytes;
        self.last_data_ns = self.last_data_ns.max(Some(at_ns));
        // Packets of several CPUs may be read in another order than that of their stamps.
        let is_after = |moment: Option<u64>| moment.is_some_and(|moment| at_ns >= moment);
        if !is_after(self.join_asked_ns) {
            self.packets_before += 1;
            return;
        }
        if self.join_reported_ns.is_none() || is_after(self.join_reported_ns) {
            self.first_data_ns = Some(self.first_data_ns.map_or(at_ns, |first| first.min(at_ns)));
        }
        if is_after(self.leave_reported_ns) {
            self.packets_after += 1;
        } else if is_after(self.join_reported_ns) {
            self.packets_member += 1;
        } else {
            self.packets_asked += 1;
        }
    }

    fn said(&mut self, joins: bool, by: &str, at_ns: u64) {
        // Messages are repeated, and answer queries: the first behind the request is the one.
        let is_first = |asked: Option<u64>, said: Option<u64>| {
            asked.is_some_and(|asked| at_ns >= asked) && said.is_none()
        };
        if joins && is_first(self.join_asked_ns, self.join_reported_ns) {
            self.join_reported_ns = Some(at_ns);
            self.join_message = Some(by.to_owned());
            // What came since the request came too early to be its answer.
            self.first_data_ns = self.first_data_ns.filter(|first| *first >= at_ns);
        } else if !joins && is_first(self.leave_asked_ns, self.leave_reported_ns) {
            self.leave_reported_ns = Some(at_ns);
            self.leave_message = Some(by.to_owned());
        }
    }

    fn concluded(&self) -> Self {
        let since = |from: Option<u64>, to: Option<u64>| to?.checked_sub(from?);
        let mut group = self.clone();
        group.join_delay_ns = since(self.join_reported_ns, self.first_data_ns);
        group.leave_delay_ns = match self.leave_reported_ns {
            None => None,
            // Nothing came behind it.
            Some(_) if self.packets_after == 0 => Some(0),
            Some(_) => since(self.leave_reported_ns, self.last_data_ns),
        };
        group
    }
}

/// The datagram in an IP packet of which the headers are there.
fn datagram(packet: &[u8]) -> Option<Datagram> {
    let length = |at: usize| packet.get(at..at + 2).map(|b| u64::from(u16::from_be_bytes([b[0], b[1]])));
    let v4 = |at: usize| packet.get(at..at + 4)?.first_chunk::<4>().map(|b| IpAddr::from(Ipv4Addr::from(*b)));
    let v6 =
        |at: usize| packet.get(at..at + 16)?.first_chunk::<16>().map(|b| IpAddr::from(Ipv6Addr::from(*b)));
    let first = *packet.first()?;
    match first >> 4 {
        4 if packet.get(9) == Some(&UDP) => {
            let headers = u64::from(first & 0xf) * 4 + 8;
            Some(Datagram { source: v4(12)?, group: v4(16)?, bytes: length(2)?.saturating_sub(headers) })
        }
        6 => {
            let headers = match (packet.get(6)?, packet.get(40)) {
                (&UDP, _) => 8,
                // The first fragment.
                (44, Some(&UDP)) => 16,
                _ => return None,
            };
            Some(Datagram { source: v6(8)?, group: v6(24)?, bytes: length(4)?.saturating_sub(headers) })
        }
        _ => None,
    }
}

#[cfg(test)]
#[path = "table_tests.rs"]
mod tests;
