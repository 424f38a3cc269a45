//! Which set of members and which counter each group has: the numbers that stand in the XDP program's maps.
//!
//! Sets are shared by all groups with the same members, so that joining a group whose new members are together in another takes one short system call: putting a new
//! map of devices into the array of sets has the kernel wait until no program runs any more, some milliseconds. A counter that a group gave up is used again after a
//! while, when its last frames are counted for sure.
#![forbid(unsafe_code)]

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::net::IpAddr;
use std::time::{Duration, Instant};

use wirerate_ebpf_types::replicate::Way;

use super::counters::{Count, Key};
use crate::error::{Error, Result};
use crate::multicast::snoop::Entry;

/// A program that began before a group was changed has long ended after this time.
const QUARANTINE: Duration = Duration::from_secs(1);

/// Where a source in a group goes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct To {
    pub set: u32,
    pub counter: u32,
    pub ports: BTreeSet<usize>,
    /// The set is to be made first.
    pub new_set: bool,
    /// Some sources have entries beside this one.
    pub sources: bool,
}

/// A change of a group's entries.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Change {
    pub source: Option<IpAddr>,
    /// `None`: there is no entry any more.
    pub to: Option<To>,
}

/// What is to be done for a group.
#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct Changes {
    /// In this order.
    pub changes: Vec<Change>,
    /// Counters to be set to 0 before.
    pub cleared: Vec<u32>,
}

#[derive(Debug)]
struct Set {
    ports: BTreeSet<usize>,
    used_by: usize,
}

/// See the module.
#[derive(Debug)]
pub(super) struct Ways {
    live: BTreeMap<IpAddr, BTreeMap<Option<IpAddr>, To>>,
    sets: Vec<Set>,
    most_sets: u32,
    by_ports: BTreeMap<BTreeSet<usize>, u32>,
    fresh_counters: std::ops::Range<u32>,
    /// Given up, with what they have counted for, the oldest first.
    retired: VecDeque<(Instant, u32, Key)>,
    settled: BTreeMap<Key, Count>,
}

impl Ways {
    pub(super) fn new(most_sets: u32, counters: u32) -> Self {
        Self {
            live: BTreeMap::new(),
            sets: Vec::new(),
            most_sets,
            by_ports: BTreeMap::new(),
            fresh_counters: 0..counters,
            retired: VecDeque::new(),
            settled: BTreeMap::new(),
        }
    }

    /// What was counted by counters that are used again.
    pub(super) fn settled(&self) -> BTreeMap<Key, Count> {
        self.settled.clone()
    }

    /// The counters in use, and what for.
    pub(super) fn counting(&self) -> impl Iterator<Item = (u32, Key)> + '_ {
        let live = self.live.iter().flat_map(|(group, ways)| {
            ways.iter().map(|(source, to)| (to.counter, (*group, *source, to.ports.clone())))
        });
        live.chain(self.retired.iter().map(|(_, counter, key)| (*counter, key.clone())))
    }

    /// Makes the ways of `group` those of `entries`; `read` reads a counter that is to be used again.
    ///
    /// # Errors
    /// Failed, when there are more sets or counters in use than the maps hold, and as `read`.
    pub(super) fn change(
        &mut self,
        group: IpAddr,
        entries: &[Entry],
        read: impl Fn(u32) -> Result<Count>,
    ) -> Result<Changes> {
        let mut changes = Changes::default();
        let mut old = self.live.remove(&group).unwrap_or_default();
        let mut new = BTreeMap::new();
        let some_have = entries.iter().any(|entry| entry.source.is_some());
        for entry in entries {
            let sources = some_have && entry.source.is_none();
            if old.get(&entry.source).is_some_and(|to| to.ports == entry.ports)
                && let Some(same) = old.remove(&entry.source)
            {
                let to = To { new_set: false, sources, ..same };
                if same.sources != sources {
                    changes.changes.push(Change { source: entry.source, to: Some(to.clone()) });
                }
                new.insert(entry.source, to);
                continue;
            }
            let (set, new_set) = self.set_for(&entry.ports)?;
            let counter = self.counter(&read, &mut changes.cleared)?;
            let to = To { set, counter, ports: entry.ports.clone(), new_set, sources };
            changes.changes.push(Change { source: entry.source, to: Some(to.clone()) });
            new.insert(entry.source, to);
        }
        let now = Instant::now();
        for (source, to) in old {
            // One that has a successor is replaced, others are taken away; those come last, so that a source falls to the rest only once that is right.
            if !new.contains_key(&source) {
                changes.changes.push(Change { source, to: None });
            }
            if let Some(set) = self.sets.get_mut(to.set as usize) {
                set.used_by -= 1;
            }
            self.retired.push_back((now, to.counter, (group, source, to.ports)));
        }
        if !new.is_empty() {
            self.live.insert(group, new);
        }
        Ok(changes)
    }

    /// The set with these members, and whether it has to be made.
    fn set_for(&mut self, ports: &BTreeSet<usize>) -> Result<(u32, bool)> {
        if ports.is_empty() {
            return Ok((Way::NOBODY, false));
        }
        if let Some(&number) = self.by_ports.get(ports) {
            self.sets[number as usize].used_by += 1;
            return Ok((number, false));
        }
        let number = if self.sets.len() < self.most_sets as usize {
            self.sets.push(Set { ports: ports.clone(), used_by: 1 });
            self.sets.len() as u32 - 1
        } else {
            let unused = self.sets.iter().position(|set| set.used_by == 0).ok_or_else(|| {
                Error::failed(format!("replicator: groups have more than {} sets of members", self.most_sets))
            })?;
            let set = &mut self.sets[unused];
            self.by_ports.remove(&set.ports);
            *set = Set { ports: ports.clone(), used_by: 1 };
            unused as u32
        };
        self.by_ports.insert(ports.clone(), number);
        Ok((number, true))
    }

    fn counter(&mut self, read: impl Fn(u32) -> Result<Count>, cleared: &mut Vec<u32>) -> Result<u32> {
        let oldest_is_over = self.retired.front().is_some_and(|(since, ..)| since.elapsed() >= QUARANTINE);
        if !oldest_is_over && let Some(fresh) = self.fresh_counters.next() {
            return Ok(fresh);
        }
        let (_, counter, key) = self
            .retired
            .pop_front()
            .ok_or_else(|| Error::failed("replicator: no counter is left for another group"))?;
        let count = read(counter)?;
        let settled = self.settled.entry(key).or_default();
        settled.frames += count.frames;
        settled.bytes += count.bytes;
        cleared.push(counter);
        Ok(counter)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn entry(source: Option<&str>, ports: &[usize]) -> Entry {
        Entry { source: source.map(|s| s.parse().unwrap()), ports: ports.iter().copied().collect() }
    }

    fn group(n: u8) -> IpAddr {
        IpAddr::from([239, 0, 0, n])
    }

    fn ten(_: u32) -> Result<Count> {
        Ok(Count { frames: 10, bytes: 600 })
    }

    #[test]
    fn groups_with_the_same_members_share_a_set() {
        let mut ways = Ways::new(8, 8);
        let first = ways.change(group(1), &[entry(None, &[0, 2])], ten).unwrap();
        let second = ways.change(group(2), &[entry(None, &[0, 2])], ten).unwrap();
        let [a, b] = [first, second].map(|c| c.changes[0].to.clone().unwrap());
        assert_eq!((a.set, a.new_set, b.set, b.new_set), (0, true, 0, false));
        assert_ne!(a.counter, b.counter);
        assert_eq!(ways.change(group(2), &[entry(None, &[0, 2])], ten).unwrap(), Changes::default());
    }

    #[test]
    fn a_member_more_is_another_set_and_another_counter() {
        let mut ways = Ways::new(8, 8);
        ways.change(group(1), &[entry(None, &[0])], ten).unwrap();
        let more = ways.change(group(1), &[entry(None, &[0, 1])], ten).unwrap();
        let to = more.changes[0].to.clone().unwrap();
        assert_eq!((more.changes.len(), to.set, to.counter, to.new_set), (1, 1, 1, true));
        let nobody = ways.change(group(1), &[], ten).unwrap();
        assert_eq!(nobody.changes, [Change { source: None, to: None }]);
        assert_eq!(ways.counting().count(), 2, "what was counted is not forgotten");
    }

    #[test]
    fn what_a_counter_had_counted_stays_when_it_is_used_again() {
        let mut ways = Ways::new(8, 1);
        ways.change(group(1), &[entry(None, &[0])], ten).unwrap();
        assert!(ways.change(group(2), &[entry(None, &[0])], ten).is_err());
        ways.change(group(1), &[], ten).unwrap();
        let again = ways.change(group(3), &[entry(None, &[1])], ten).unwrap();
        assert_eq!(again.cleared, [0]);
        let key = (group(1), None, BTreeSet::from([0]));
        assert_eq!(ways.settled()[&key], Count { frames: 10, bytes: 600 });
    }

    #[test]
    fn a_set_that_nobody_uses_makes_room() {
        let mut ways = Ways::new(2, 16);
        ways.change(group(1), &[entry(None, &[1])], ten).unwrap();
        ways.change(group(2), &[entry(None, &[2])], ten).unwrap();
        assert!(ways.change(group(3), &[entry(None, &[3])], ten).is_err());
        ways.change(group(1), &[], ten).unwrap();
        let third = ways.change(group(3), &[entry(None, &[3])], ten).unwrap();
        assert_eq!(third.changes[0].to.clone().unwrap().set, 0);
        // The set of group 1 is gone, and would be made again.
        ways.change(group(2), &[], ten).unwrap();
        let first = ways.change(group(1), &[entry(None, &[1])], ten).unwrap();
        assert!(first.changes[0].to.clone().unwrap().new_set);
    }

    #[test]
    fn sources_come_before_the_rest_and_go_after_it() {
        let mut ways = Ways::new(8, 8);
        let both = [entry(Some("10.0.0.1"), &[0, 1]), entry(None, &[1])];
        let sources: Vec<_> =
            ways.change(group(1), &both, ten).unwrap().changes.iter().map(|c| c.source).collect();
        assert_eq!(sources, [Some("10.0.0.1".parse().unwrap()), None]);
        let rest = ways.change(group(1), &[entry(None, &[0, 1])], ten).unwrap();
        assert!(rest.changes[0].to.is_some() && rest.changes[1].to.is_none());
        // The rest has the same members, and is told that a source goes elsewhere.
        let one = [entry(Some("10.0.0.1"), &[0]), entry(None, &[0, 1])];
        let told = ways.change(group(1), &one, ten).unwrap().changes;
        let flags: Vec<_> =
            told.iter().map(|c| (c.source.is_some(), c.to.as_ref().unwrap().sources)).collect();
        assert_eq!(flags, [(true, false), (false, true)]);
    }
}
