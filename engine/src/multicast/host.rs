//! The side of a member, for reports of our own: RFC 9776 §5 and §7.2, RFC 9777 §6 and §8.2. Any number of groups of one family; pure, time comes with what
//! happened, and what has to be said is handed out.
#![forbid(unsafe_code)]

use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;

use super::memberships::SourceFilter;
use super::message::{Body, Heard, Message, Query, Record, RecordKind, Version, pack};
use super::state::{Mode, Timers};
use crate::rtcp::random::Random;

const MS: u64 = 1_000_000;

/// Reports of a change are repeated within this time (RFC 9776 §8.11).
const UNSOLICITED_MS: u64 = 1_000;
/// The same for the versions before (RFC 2236 §8.10, RFC 2710 §7.10).
const UNSOLICITED_OLD_MS: u64 = 10_000;

/// What is wanted of a group, as a mode and a set.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Filter {
    mode: Mode,
    sources: BTreeSet<IpAddr>,
}

impl Filter {
    fn nobody() -> Self {
        Self { mode: Mode::Include, sources: BTreeSet::new() }
    }

    fn is_nobody(&self) -> bool {
        self.mode == Mode::Include && self.sources.is_empty()
    }

    fn of(filter: &SourceFilter) -> Self {
        let (mode, sources) = filter.parts();
        Self { mode, sources: sources.iter().copied().collect() }
    }
}

/// A change that is still being told.
#[derive(Debug)]
struct Change {
    /// The mode changed: the whole filter is told. Otherwise the sources below are.
    mode: bool,
    allow: BTreeSet<IpAddr>,
    block: BTreeSet<IpAddr>,
    left: u8,
    due_ns: u64,
}

/// An answer to a query for this group.
#[derive(Debug)]
struct Answer {
    due_ns: u64,
    /// The sources that were asked for; none when it was for the whole group.
    sources: BTreeSet<IpAddr>,
}

#[derive(Debug)]
struct Held {
    filter: Filter,
    change: Option<Change>,
    answer: Option<Answer>,
    /// Of the versions before: nobody else has reported the group after us.
    last_reporter: bool,
}

/// A member of groups of one family.
#[derive(Debug)]
pub struct Host {
    newest: Version,
    follow: bool,
    timers: Timers,
    groups: BTreeMap<IpAddr, Held>,
    /// When all groups are reported, in answer to a general query.
    general_ns: Option<u64>,
    /// An older querier, and until when it is believed to be there.
    older: Option<(Version, u64)>,
    random: Random,
    /// When changes are told again: one time for all of them, so that they share packets.
    repeat_ns: u64,
    /// Queries that were answered, or will be.
    queries: u64,
}

impl Host {
    /// A member of nothing. It speaks `version`, or, when it is to `follow`, that of the oldest querier heard (§7.2.1). `seed` decides when it answers.
    pub fn new(version: Version, follow: bool, seed: u64) -> Self {
        Self {
            newest: version,
            follow,
            timers: Timers::default(),
            groups: BTreeMap::new(),
            general_ns: None,
            older: None,
            random: Random::new(seed),
            repeat_ns: 0,
            queries: 0,
        }
    }

    /// The version that it speaks at `now_ns`.
    pub fn version(&self, now_ns: u64) -> Version {
        match self.older {
            Some((older, until)) if until > now_ns => older.min(self.newest),
            _ => self.newest,
        }
    }

    /// Groups that are held.
    pub fn len(&self) -> usize {
        self.groups.values().filter(|held| !held.filter.is_nobody()).count()
    }

    /// Whether none is.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Queries that were answered.
    pub fn queries_answered(&self) -> u64 {
        self.queries
    }

    /// Whether a change is still to be told.
    pub fn is_telling(&self) -> bool {
        self.groups.values().any(|held| held.change.is_some())
    }

    /// Joins or leaves, or changes who is wanted: told at once, and again as often as messages may be lost (§5.1).
    pub fn set(&mut self, now_ns: u64, group: IpAddr, filter: &SourceFilter) {
        let wanted = Filter::of(filter);
        let left = self.timers.robustness.max(1);
        let held = self.groups.entry(group).or_insert_with(|| Held {
            filter: Filter::nobody(),
            change: None,
            answer: None,
            last_reporter: true,
        });
        let before = std::mem::replace(&mut held.filter, wanted);
        if before == held.filter {
            return;
        }
        let change = held.change.get_or_insert_with(|| Change {
            mode: false,
            allow: BTreeSet::new(),
            block: BTreeSet::new(),
            left,
            due_ns: now_ns,
        });
        (change.left, change.due_ns) = (left, now_ns);
        change.mode |= before.mode != held.filter.mode;
        let (gone, new) = (&before.sources - &held.filter.sources, &held.filter.sources - &before.sources);
        let (allow, block) = if held.filter.mode == Mode::Include { (new, gone) } else { (gone, new) };
        change.allow = &(&change.allow | &allow) - &block;
        change.block = &(&change.block | &block) - &allow;
    }

    /// Leaves everything.
    pub fn leave_all(&mut self, now_ns: u64) {
        let groups: Vec<IpAddr> = self.groups.keys().copied().collect();
        let nobody = SourceFilter::Include(Vec::new());
        groups.into_iter().for_each(|group| self.set(now_ns, group, &nobody));
    }

    /// Takes in what another host or a router said.
    pub fn hear(&mut self, now_ns: u64, heard: &Heard) {
        if !heard.is_valid() {
            return;
        }
        match &heard.message.body {
            Body::Query(query) => self.asked(now_ns, heard.message.version, query),
            // With the versions before one report is enough (RFC 2236 §3).
            Body::Join(group) if !self.version(now_ns).names_sources() => {
                if let Some(held) = self.groups.get_mut(group) {
                    (held.answer, held.last_reporter) = (None, false);
                }
            }
            _ => {}
        }
    }

    fn asked(&mut self, now_ns: u64, version: Version, query: &Query) {
        if query.robustness > 0 {
            self.timers.robustness = query.robustness;
        }
        if query.interval_s > 0 {
            self.timers.query_interval_ms = u64::from(query.interval_s) * 1000;
        }
        if query.group.is_none() {
            self.timers.response_ms = u64::from(query.max_response_ms);
            if self.follow && !version.names_sources() {
                // §8.12: as long as its next queries may take.
                self.older = Some((version, now_ns + self.timers.membership_ms() * MS));
            }
        }
        let within_ns = u64::from(query.max_response_ms) * MS;
        // §5.2: an answer to everything that is due sooner does for this, too.
        let due_ns = now_ns + (self.random.unit() * within_ns as f64) as u64;
        if self.general_ns.is_some_and(|general| general <= due_ns) {
            return;
        }
        let Some(group) = query.group else {
            self.queries += u64::from(!self.is_empty());
            if self.version(now_ns).names_sources() {
                self.general_ns = Some(due_ns);
                return;
            }
            // Each group at its own time.
            for held in self.groups.values_mut().filter(|held| !held.filter.is_nobody()) {
                let due_ns = now_ns + (self.random.unit() * within_ns as f64) as u64;
                let due_ns = held.answer.as_ref().map_or(due_ns, |answer| answer.due_ns.min(due_ns));
                held.answer = Some(Answer { due_ns, sources: BTreeSet::new() });
            }
            return;
        };
        let Some(held) = self.groups.get_mut(&group).filter(|held| !held.filter.is_nobody()) else { return };
        self.queries += 1;
        let sources: BTreeSet<IpAddr> = query.sources.iter().copied().collect();
        held.answer = Some(match held.answer.take() {
            None => Answer { due_ns, sources },
            Some(pending) => {
                let all = sources.is_empty() || pending.sources.is_empty();
                let sources = if all { BTreeSet::new() } else { &pending.sources | &sources };
                Answer { due_ns: due_ns.min(pending.due_ns), sources }
            }
        });
    }

    /// When [`due`](Self::due) has something to say next.
    pub fn next_ns(&self) -> Option<u64> {
        let of = |held: &Held| {
            let change = held.change.as_ref().map(|change| change.due_ns);
            let answer = held.answer.as_ref().map(|answer| answer.due_ns);
            change.into_iter().chain(answer).min()
        };
        self.groups.values().filter_map(of).chain(self.general_ns).min()
    }

    /// What has to be said at `now_ns`, in packets of at most `mtu` bytes.
    pub fn due(&mut self, now_ns: u64, mtu: usize) -> Vec<Message> {
        let version = self.version(now_ns);
        if self.older.is_some_and(|(_, until)| until <= now_ns) {
            self.older = None;
        }
        let general = self.general_ns.take_if(|due| *due <= now_ns).is_some();
        let (mut states, mut changes, mut messages) = (Vec::new(), Vec::new(), Vec::new());
        let old = !version.names_sources();
        let unsolicited_ns = (if old { UNSOLICITED_OLD_MS } else { UNSOLICITED_MS } * MS) as f64;
        if self.repeat_ns <= now_ns {
            self.repeat_ns = now_ns + 1 + (self.random.unit() * unsolicited_ns) as u64;
        }
        for (group, held) in &mut self.groups {
            let answer = held.answer.take_if(|answer| general || answer.due_ns <= now_ns);
            if !held.filter.is_nobody() && (general || answer.is_some()) {
                if old {
                    held.last_reporter = true;
                    messages.push(Message { version, body: Body::Join(*group) });
                } else {
                    let asked = answer.filter(|_| !general).map(|answer| answer.sources).unwrap_or_default();
                    states.extend(state(*group, &held.filter, &asked));
                }
            }
            let Some(change) = held.change.as_mut().filter(|change| change.due_ns <= now_ns) else {
                continue;
            };
            change.left -= 1;
            // Reports of the versions before have a packet each: better not all at once.
            change.due_ns =
                if old { now_ns + (self.random.unit() * unsolicited_ns) as u64 } else { self.repeat_ns };
            let left = change.left;
            if !old {
                changes.extend(change_records(*group, &held.filter, change));
            } else if !held.filter.is_nobody() {
                held.last_reporter = true;
                messages.push(Message { version, body: Body::Join(*group) });
            } else {
                // A leave is said once, and by the last reporter; IGMPv1 has none.
                if held.last_reporter && version != Version::Igmp1 {
                    messages.push(Message { version, body: Body::Leave(*group) });
                }
                change.left = 0;
            }
            if left == 0 || change.left == 0 {
                held.change = None;
            }
        }
        self.groups.retain(|_, held| held.change.is_some() || !held.filter.is_nobody());
        messages.extend(pack(version, changes, mtu));
        messages.extend(pack(version, states, mtu));
        messages
    }
}

/// The answer to a query for the group, or for some of its sources (§5.2).
fn state(group: IpAddr, filter: &Filter, asked: &BTreeSet<IpAddr>) -> Option<Record> {
    if asked.is_empty() {
        let kind = match filter.mode {
            Mode::Include => RecordKind::IsInclude,
            Mode::Exclude => RecordKind::IsExclude,
        };
        return Some(Record::new(kind, group, filter.sources.iter().copied().collect()));
    }
    let wanted: Vec<IpAddr> = match filter.mode {
        Mode::Include => asked & &filter.sources,
        Mode::Exclude => asked - &filter.sources,
    }
    .into_iter()
    .collect();
    (!wanted.is_empty()).then(|| Record::new(RecordKind::IsInclude, group, wanted))
}

fn change_records(group: IpAddr, filter: &Filter, change: &Change) -> Vec<Record> {
    let record =
        |kind, sources: &BTreeSet<IpAddr>| Record::new(kind, group, sources.iter().copied().collect());
    if change.mode {
        let kind = match filter.mode {
            Mode::Include => RecordKind::ToInclude,
            Mode::Exclude => RecordKind::ToExclude,
        };
        return vec![record(kind, &filter.sources)];
    }
    [(RecordKind::Allow, &change.allow), (RecordKind::Block, &change.block)]
        .into_iter()
        .filter(|(_, sources)| !sources.is_empty())
        .map(|(kind, sources)| record(kind, sources))
        .collect()
}

#[cfg(test)]
#[path = "host_tests.rs"]
mod tests;
