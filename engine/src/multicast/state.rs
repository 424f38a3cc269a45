//! What a router knows of a link's members, by what it hears: RFC 9776 §6 and §7.3, RFC 9777 §7 and §8.3. One link and one of IGMP and MLD; pure, time comes
//! with what happened.
//!
//! Beside the RFC's state, which is that of all hosts together, each host's own last word is kept. With the versions that suppress reports (IGMPv1, IGMPv2,
//! MLDv1) a host may be silent because it heard another: there the hosts are those that were heard, and there may be more.
#![forbid(unsafe_code)]

use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;

use serde::Serialize;

use super::message::{Body, Heard, Query, Record, RecordKind, Version};

const MS: u64 = 1_000_000;

/// The values that all timers follow from (RFC 9776 §8).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
pub struct Timers {
    /// Robustness variable: how often a message may be lost.
    pub robustness: u8,
    /// Between general queries, in ms.
    pub query_interval_ms: u64,
    /// Time to answer a general query, in ms.
    pub response_ms: u64,
    /// Time to answer a query for a group, in ms.
    pub last_member_ms: u64,
}

impl Default for Timers {
    fn default() -> Self {
        Self { robustness: 2, query_interval_ms: 125_000, response_ms: 10_000, last_member_ms: 1_000 }
    }
}

impl Timers {
    /// How long a member is believed without a word from it (§8.4).
    pub fn membership_ms(&self) -> u64 {
        u64::from(self.robustness) * self.query_interval_ms + self.response_ms
    }

    /// How long a silent querier is believed to be there (§8.5).
    pub fn other_querier_ms(&self) -> u64 {
        u64::from(self.robustness) * self.query_interval_ms + self.response_ms / 2
    }

    /// How long after a leave the last member is believed gone (§8.8, §8.9).
    pub fn leave_ms(&self) -> u64 {
        u64::from(self.robustness) * self.last_member_ms
    }
}

/// How a list of sources is meant.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Mode {
    /// What these send, and nothing else.
    Include,
    /// What all others send.
    Exclude,
}

/// What one host has told of a group.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Reporter {
    /// The version of its last report.
    pub version: Version,
    /// How `sources` are meant.
    pub mode: Mode,
    /// The sources of its filter.
    pub sources: BTreeSet<IpAddr>,
    /// When it was first heard of this group, in ns.
    pub first_ns: u64,
    /// When it was last, in ns.
    pub last_ns: u64,
    /// How many messages or records told of this group.
    pub reports: u64,
}

/// What is known of a group.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Group {
    /// The link's filter mode.
    pub mode: Mode,
    /// When exclude mode ends, in ns; 0 in include mode.
    pub expires_ns: u64,
    /// Sources, and until when they are asked for, in ns; 0: in exclude mode, one that nobody wants.
    pub sources: BTreeMap<IpAddr, u64>,
    /// The oldest version that a member speaks, when it is not the newest, and until when it is believed to be there.
    pub older: Option<(Version, u64)>,
    /// The hosts that told of it and have not left.
    pub reporters: BTreeMap<IpAddr, Reporter>,
}

impl Group {
    fn new() -> Self {
        Self {
            mode: Mode::Include,
            expires_ns: 0,
            sources: BTreeMap::new(),
            older: None,
            reporters: BTreeMap::new(),
        }
    }

    /// Sources that are asked for.
    pub fn wanted(&self) -> impl Iterator<Item = IpAddr> {
        self.sources.iter().filter(|(_, until)| **until > 0).map(|(source, _)| *source)
    }

    /// Sources that nobody wants, in exclude mode.
    pub fn unwanted(&self) -> impl Iterator<Item = IpAddr> {
        self.sources.iter().filter(|(_, until)| **until == 0).map(|(source, _)| *source)
    }
}

/// The router that asks.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Querier {
    /// Its address; of several the lowest is the querier (§6.6.2).
    pub address: IpAddr,
    /// The version that it speaks.
    pub version: Version,
    /// When it last asked, in ns.
    pub last_ns: u64,
    /// How many general queries it sent.
    pub queries: u64,
}

/// A query that a querier has to send because of what it heard.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Question {
    /// For this group.
    pub group: IpAddr,
    /// For these of its sources; for the group as a whole when there is none.
    pub sources: Vec<IpAddr>,
}

/// The state of one link for one of IGMP and MLD.
#[derive(Debug, Clone, Default)]
pub struct Link {
    /// As the querier tells them, or the RFC's own.
    pub timers: Timers,
    /// Whose queries were heard last.
    pub querier: Option<Querier>,
    /// By group.
    pub groups: BTreeMap<IpAddr, Group>,
}

impl Link {
    /// Takes in a message that was heard at `now_ns`, and says what a querier asks next. Messages that a receiver has to ignore change nothing.
    pub fn hear(&mut self, now_ns: u64, heard: &Heard) -> Vec<Question> {
        self.expire(now_ns);
        if !heard.is_valid() {
            return Vec::new();
        }
        let version = heard.message.version;
        let one = |kind, group: &IpAddr| vec![Record::new(kind, *group, Vec::new())];
        let records = match &heard.message.body {
            Body::Query(query) => {
                self.asked(now_ns, heard.source, version, query);
                return Vec::new();
            }
            Body::Report(records) => records.clone(),
            Body::Join(group) => one(RecordKind::IsExclude, group),
            Body::Leave(group) => one(RecordKind::ToInclude, group),
        };
        let usable = |record: &Record| record.group.is_multicast();
        let mut questions = Vec::new();
        for record in records.into_iter().filter(usable) {
            self.reporter(now_ns, heard.source, version, &record);
            questions.extend(self.record(now_ns, version, record));
        }
        questions
    }

    /// Ends what has not been renewed by `now_ns`.
    pub fn expire(&mut self, now_ns: u64) {
        let silence_ns = self.timers.membership_ms() * MS;
        if self.querier.as_ref().is_some_and(|q| q.last_ns + self.timers.other_querier_ms() * MS < now_ns) {
            self.querier = None;
        }
        self.groups.retain(|_, group| {
            group.older.take_if(|(_, until)| *until <= now_ns);
            group.reporters.retain(|_, reporter| reporter.last_ns + silence_ns > now_ns);
            if group.mode == Mode::Exclude && group.expires_ns <= now_ns {
                group.mode = Mode::Include;
                group.expires_ns = 0;
                group.sources.retain(|_, until| *until > 0);
            }
            match group.mode {
                Mode::Include => group.sources.retain(|_, until| *until > now_ns),
                Mode::Exclude => {
                    group.sources.values_mut().filter(|until| **until <= now_ns).for_each(|until| *until = 0);
                }
            }
            group.mode == Mode::Exclude || !group.sources.is_empty()
        });
    }

    /// When something expires next, in ns.
    pub fn next_expiry_ns(&self) -> Option<u64> {
        let groups = self.groups.values();
        groups.flat_map(|g| g.sources.values().copied().chain([g.expires_ns])).filter(|ns| *ns > 0).min()
    }

    /// Shortens timers as a query for `group`, and of it `sources`, makes all routers do (§6.6.1): members have `within_ms` to contradict.
    pub fn lower(&mut self, now_ns: u64, group: IpAddr, sources: &[IpAddr], within_ms: u64) {
        let Some(group) = self.groups.get_mut(&group) else { return };
        let until = now_ns + within_ms * MS;
        if sources.is_empty() {
            group.expires_ns = group.expires_ns.min(until);
        }
        for source in sources {
            if let Some(at) = group.sources.get_mut(source) {
                *at = (*at).min(until);
            }
        }
    }

    fn asked(&mut self, now_ns: u64, source: IpAddr, version: Version, query: &Query) {
        if query.robustness > 0 {
            self.timers.robustness = query.robustness;
        }
        if query.interval_s > 0 {
            self.timers.query_interval_ms = u64::from(query.interval_s) * 1000;
        }
        if let Some(group) = query.group {
            if !query.suppress {
                let within_ms = u64::from(query.max_response_ms) * u64::from(self.timers.robustness.max(1));
                self.lower(now_ns, group, &query.sources, within_ms);
            }
            return;
        }
        self.timers.response_ms = u64::from(query.max_response_ms);
        // A snooping switch without an address asks from the unspecified one and takes no part in the election.
        if source.is_unspecified() {
            return;
        }
        match &mut self.querier {
            Some(querier) if querier.address < source => {}
            Some(querier) if querier.address == source => {
                *querier = Querier { version, last_ns: now_ns, queries: querier.queries + 1, ..*querier };
            }
            other => *other = Some(Querier { address: source, version, last_ns: now_ns, queries: 1 }),
        }
    }

    /// Keeps what this host itself wants.
    fn reporter(&mut self, now_ns: u64, host: IpAddr, version: Version, record: &Record) {
        let sources = || record.sources.iter().copied().collect::<BTreeSet<_>>();
        let group = self.groups.entry(record.group).or_insert_with(Group::new);
        let reporter = group.reporters.entry(host).or_insert_with(|| Reporter {
            version,
            mode: Mode::Include,
            sources: BTreeSet::new(),
            first_ns: now_ns,
            last_ns: now_ns,
            reports: 0,
        });
        (reporter.version, reporter.last_ns) = (version, now_ns);
        reporter.reports += 1;
        match record.kind {
            RecordKind::ToInclude => (reporter.mode, reporter.sources) = (Mode::Include, sources()),
            RecordKind::IsExclude | RecordKind::ToExclude => {
                (reporter.mode, reporter.sources) = (Mode::Exclude, sources());
            }
            // An answer to a query for some sources says MODE_IS_INCLUDE of these, whatever the host's mode (§5.2): it is no more than "allow".
            RecordKind::IsInclude | RecordKind::Allow | RecordKind::Block => {
                let adds = (record.kind != RecordKind::Block) == (reporter.mode == Mode::Include);
                for source in &record.sources {
                    if adds {
                        reporter.sources.insert(*source);
                    } else {
                        reporter.sources.remove(source);
                    }
                }
            }
        }
        if reporter.mode == Mode::Include && reporter.sources.is_empty() {
            group.reporters.remove(&host);
        }
    }

    /// The tables of §6.4.1 and §6.4.2, in the RFC's letters.
    fn record(&mut self, now_ns: u64, version: Version, mut record: Record) -> Vec<Question> {
        let timers = self.timers;
        let until = now_ns + timers.membership_ms() * MS;
        let name = record.group;
        let group = self.groups.entry(name).or_insert_with(Group::new);
        if !version.names_sources() {
            let older = group.older.map_or(version, |(older, _)| older.min(version));
            group.older = Some((older, until));
        }
        // §7.3.2: while an old host is there, the group is theirs: nobody's BLOCK, exclude list or, for the oldest, leave counts.
        if let Some((older, _)) = group.older {
            match record.kind {
                RecordKind::Block => return self.nothing(name),
                RecordKind::ToExclude | RecordKind::IsExclude => record.sources.clear(),
                RecordKind::ToInclude if older == Version::Igmp1 => return self.nothing(name),
                _ => {}
            }
        }
        let named: BTreeSet<IpAddr> = record.sources.iter().copied().collect();
        let mut questions = Vec::new();
        let mut ask = |sources: Vec<IpAddr>, all: bool| {
            if all || !sources.is_empty() {
                questions.push(Question { group: name, sources });
            }
        };
        match (group.mode, record.kind) {
            (Mode::Include, RecordKind::IsInclude | RecordKind::Allow | RecordKind::ToInclude) => {
                if record.kind == RecordKind::ToInclude {
                    ask(group.wanted().filter(|s| !named.contains(s)).collect(), false);
                }
                group.sources.extend(named.iter().map(|source| (*source, until)));
            }
            (Mode::Include, RecordKind::Block) => {
                ask(group.wanted().filter(|s| named.contains(s)).collect(), false);
            }
            (Mode::Include, RecordKind::IsExclude | RecordKind::ToExclude) => {
                group.sources.retain(|source, _| named.contains(source));
                if record.kind == RecordKind::ToExclude {
                    ask(group.wanted().collect(), false);
                }
                for source in named {
                    group.sources.entry(source).or_insert(0);
                }
                (group.mode, group.expires_ns) = (Mode::Exclude, until);
            }
            (Mode::Exclude, RecordKind::IsInclude | RecordKind::Allow | RecordKind::ToInclude) => {
                if record.kind == RecordKind::ToInclude {
                    ask(group.wanted().filter(|s| !named.contains(s)).collect(), false);
                    ask(Vec::new(), true);
                }
                group.sources.extend(named.iter().map(|source| (*source, until)));
            }
            (Mode::Exclude, RecordKind::Block) => {
                let y: BTreeSet<IpAddr> = group.unwanted().collect();
                for source in named.difference(&y) {
                    group.sources.entry(*source).or_insert(group.expires_ns);
                }
                ask(named.difference(&y).copied().collect(), false);
            }
            (Mode::Exclude, RecordKind::IsExclude | RecordKind::ToExclude) => {
                let fresh = if record.kind == RecordKind::IsExclude { until } else { group.expires_ns };
                group.sources.retain(|source, _| named.contains(source));
                for source in &named {
                    group.sources.entry(*source).or_insert(fresh);
                }
                if record.kind == RecordKind::ToExclude {
                    ask(group.wanted().collect(), false);
                }
                group.expires_ns = until;
            }
        }
        if group.mode == Mode::Include && group.sources.is_empty() {
            self.groups.remove(&name);
        }
        questions
    }

    /// A record that is not taken in leaves no group behind.
    fn nothing(&mut self, name: IpAddr) -> Vec<Question> {
        if self.groups.get(&name).is_some_and(|g| g.mode == Mode::Include && g.sources.is_empty()) {
            self.groups.remove(&name);
        }
        Vec::new()
    }
}

#[cfg(test)]
#[path = "state_tests.rs"]
mod tests;
