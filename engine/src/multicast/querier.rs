//! The side of the router that asks, for links that have none: RFC 9776 §6.6 and §8, RFC 9777 §7.6. One family; pure, as [`host`](super::host) is.
#![forbid(unsafe_code)]

use std::net::IpAddr;

use super::message::{Body, Heard, Message, Query, Version};
use super::state::{Link, Question, Timers};

const MS: u64 = 1_000_000;

/// A query for a group that is still to be repeated.
#[derive(Debug)]
struct Asking {
    question: Question,
    left: u8,
    due_ns: u64,
}

/// A querier: it asks unless one with a lower address does.
#[derive(Debug)]
pub struct Querier {
    version: Version,
    address: IpAddr,
    timers: Timers,
    /// What it knows of the members.
    link: Link,
    /// Queries of the start that are left (§8.7).
    startup: u8,
    general_ns: u64,
    /// Who asks instead, and until when it is believed to be there.
    other: Option<(IpAddr, u64)>,
    asking: Vec<Asking>,
    /// General queries sent.
    pub general: u64,
    /// Other queries sent.
    pub specific: u64,
}

impl Querier {
    /// One with this address, which begins to ask at `now_ns`. The unspecified address takes no part in elections, as that of a snooping switch.
    pub fn new(version: Version, address: IpAddr, timers: Timers, now_ns: u64) -> Self {
        Self {
            version,
            address,
            timers,
            link: Link { timers, ..Link::default() },
            startup: timers.robustness.max(1),
            general_ns: now_ns,
            other: None,
            asking: Vec::new(),
            general: 0,
            specific: 0,
        }
    }

    /// Its own address.
    pub fn address(&self) -> IpAddr {
        self.address
    }

    /// Who asks instead of it.
    pub fn other(&self) -> Option<IpAddr> {
        self.other.map(|(address, _)| address)
    }

    /// Takes in what others said.
    pub fn hear(&mut self, now_ns: u64, heard: &Heard) {
        let questions = self.link.hear(now_ns, heard);
        if matches!(heard.message.body, Body::Query(_)) && heard.is_valid() {
            // The lower address asks (§6.6.2), and is followed in its timers, which the link has taken over.
            let lower = heard.source < self.address || self.address.is_unspecified();
            if lower && !heard.source.is_unspecified() {
                self.other = Some((heard.source, now_ns + self.link.timers.other_querier_ms() * MS));
                self.asking.clear();
            } else {
                self.link.timers = self.timers;
            }
        }
        if self.other.is_some() {
            return;
        }
        for question in questions {
            // The versions before cannot ask for sources.
            if self.version == Version::Igmp1
                || (!self.version.names_sources() && !question.sources.is_empty())
            {
                continue;
            }
            let within_ms = self.timers.leave_ms();
            self.link.lower(now_ns, question.group, &question.sources, within_ms);
            self.asking.retain(|asking| asking.question != question);
            self.asking.push(Asking { question, left: self.timers.robustness.max(1), due_ns: now_ns });
        }
    }

    /// When [`due`](Self::due) has something to say or to end next.
    pub fn next_ns(&self) -> Option<u64> {
        let specific = self.asking.iter().map(|asking| asking.due_ns);
        specific.chain([self.other.map_or(self.general_ns, |(_, until)| until)]).min()
    }

    /// The queries that are to be sent at `now_ns`.
    pub fn due(&mut self, now_ns: u64) -> Vec<Message> {
        self.link.expire(now_ns);
        if let Some((_, until)) = self.other {
            if until > now_ns {
                return Vec::new();
            }
            // It fell silent: its place is taken, by our own timers.
            (self.other, self.link.timers) = (None, self.timers);
            self.general_ns = now_ns;
        }
        let mut messages = Vec::new();
        if self.general_ns <= now_ns {
            messages.push(self.query(Query {
                max_response_ms: u32::try_from(self.timers.response_ms).unwrap_or(u32::MAX),
                ..Query::default()
            }));
            self.startup = self.startup.saturating_sub(1);
            let interval_ms = self.timers.query_interval_ms;
            // §8.6: a quarter of the interval between the first ones.
            let interval_ms = if self.startup > 0 { interval_ms / 4 } else { interval_ms };
            self.general_ns = now_ns + interval_ms * MS;
            self.general += 1;
        }
        let mut asked = Vec::new();
        for asking in self.asking.iter_mut().filter(|asking| asking.due_ns <= now_ns) {
            asking.left -= 1;
            asking.due_ns = now_ns + self.timers.last_member_ms * MS;
            asked.push(asking.question.clone());
        }
        self.asking.retain(|asking| asking.left > 0);
        for Question { group, sources } in asked {
            for (sources, suppress) in self.split(now_ns, group, sources) {
                messages.push(self.query(Query {
                    group: Some(group),
                    sources,
                    suppress: suppress && self.version.names_sources(),
                    max_response_ms: u32::try_from(self.timers.last_member_ms).unwrap_or(u32::MAX),
                    ..Query::default()
                }));
                self.specific += 1;
            }
        }
        messages
    }

    /// Members that answered meanwhile are not to be put in question again: the S flag (§6.6.3.1, §6.6.3.2).
    fn split(&self, now_ns: u64, group: IpAddr, sources: Vec<IpAddr>) -> Vec<(Vec<IpAddr>, bool)> {
        let late = now_ns + self.timers.leave_ms() * MS;
        let Some(state) = self.link.groups.get(&group) else { return vec![(sources, false)] };
        if sources.is_empty() {
            return vec![(sources, state.expires_ns > late)];
        }
        let renewed = |source: &IpAddr| state.sources.get(source).is_some_and(|until| *until > late);
        let (renewed, others): (Vec<_>, Vec<_>) = sources.into_iter().partition(renewed);
        [(renewed, true), (others, false)].into_iter().filter(|(sources, _)| !sources.is_empty()).collect()
    }

    fn query(&self, query: Query) -> Message {
        let query = if self.version.names_sources() {
            let interval_s = u32::try_from(self.timers.query_interval_ms.div_ceil(1000)).unwrap_or(u32::MAX);
            // QRV has three bits; 0 stands for what does not fit.
            let robustness = if self.timers.robustness > 7 { 0 } else { self.timers.robustness };
            Query { robustness, interval_s, ..query }
        } else {
            query
        };
        Message { version: self.version, body: Body::Query(query) }
    }
}

#[cfg(test)]
#[path = "querier_tests.rs"]
mod tests;
