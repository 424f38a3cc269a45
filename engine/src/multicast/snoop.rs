//! Who is a member of what behind each port, learnt from the membership reports that arrive there: the state that a snooping switch (RFC 4541) or a
//! multicast router (RFC 9776 §6, RFC 9777 §7) keeps.
//!
//! Hosts that speak IGMPv3 or MLDv2 never keep silent because another has spoken, so each is followed by itself, and its port gets nothing from the moment
//! on at which the last of them has left. Of hosts that speak an older version only one may answer for all; they count as one, and when one says that it
//! leaves, the others are asked ([`Table::hear`] says so) and have [`LAST_MEMBER_TIME`] to object.
#![forbid(unsafe_code)]

use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;
use std::time::{Duration, Instant};

/// How long hosts of older versions may take to object to a leave: two queries a second apart (RFC 9776 §8.8 to §8.10).
pub const LAST_MEMBER_TIME: Duration = Duration::from_secs(2);

/// Hosts that are followed one by one in a group behind a port; further ones are taken for older hosts, and are let go by time only.
const HOSTS: usize = 256;

/// Sources that are kept for a host in a group; a report that names more counts as one for any source.
const SOURCES: usize = 256;

/// Whether packets of `group` never leave their link, and so go to every port whatever is reported: 224.0.0.0/24 (RFC 4541 §2.1.2) and IPv6 scopes up to the link
/// (RFC 4291 §2.7).
pub fn stays_on_link(group: IpAddr) -> bool {
    match group {
        IpAddr::V4(v4) => v4.octets()[..3] == [224, 0, 0],
        IpAddr::V6(v6) => v6.is_multicast() && v6.octets()[1] & 0x0f <= 2,
    }
}

/// What a host says of a group.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Said {
    /// It wants these sources and no others (IS_IN, TO_IN); none at all: it leaves.
    Include(Vec<IpAddr>),
    /// It wants all sources but these (IS_EX, TO_EX).
    Exclude(Vec<IpAddr>),
    /// It wants these sources, too (ALLOW).
    Allow(Vec<IpAddr>),
    /// It wants these sources no longer (BLOCK).
    Block(Vec<IpAddr>),
    /// It is a member, in an older version (IGMPv1 and v2 report, MLDv1 report).
    Member,
    /// It leaves, in an older version (IGMPv2 leave, MLDv1 done).
    Leaves,
}

/// What a host said, and where.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Claim {
    /// The port, from 0.
    pub port: usize,
    /// The host that spoke.
    pub host: IpAddr,
    /// The group that it spoke of.
    pub group: IpAddr,
    /// What it said.
    pub said: Said,
}

/// What came of it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Effect {
    /// Packets of the group have other ways to go than before.
    pub changed: bool,
    /// Hosts of older versions at that port are to be asked whether one of them is still a member.
    pub ask: bool,
}

/// Where packets go: those of a source, or of every source that has no entry of its own.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct Entry {
    /// The source; `None`: any other.
    pub source: Option<IpAddr>,
    /// Ports, from 0.
    pub ports: BTreeSet<usize>,
}

/// What one host, or all that speak an older version together, want of a group.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Wants {
    /// All sources but `sources`, instead of only those.
    exclude: bool,
    sources: BTreeSet<IpAddr>,
    expires: Instant,
}

impl Wants {
    fn wants(&self, source: IpAddr) -> bool {
        self.sources.contains(&source) != self.exclude
    }
}

/// Who wants a group behind one port; `None`: hosts of an older version.
type Hosts = BTreeMap<Option<IpAddr>, Wants>;

/// The memberships behind all ports.
#[derive(Debug, Clone)]
pub struct Table {
    ports: usize,
    /// How long a report holds.
    lifetime: Duration,
    most_groups: usize,
    groups: BTreeMap<IpAddr, BTreeMap<usize, Hosts>>,
    refused: u64,
}

impl Table {
    /// Nobody is a member of anything. A report holds for `lifetime`; groups beyond `most_groups` are refused and counted.
    pub fn new(ports: usize, lifetime: Duration, most_groups: usize) -> Self {
        Self { ports, lifetime, most_groups, groups: BTreeMap::new(), refused: 0 }
    }

    /// Reports of groups for which there was no room.
    pub fn refused(&self) -> u64 {
        self.refused
    }

    /// The groups that somebody is a member of.
    pub fn groups(&self) -> impl Iterator<Item = IpAddr> + '_ {
        self.groups.keys().copied()
    }

    /// Takes what a host said. Claims from ports that there are not, and of addresses that are no groups or groups of the link, change nothing.
    pub fn hear(&mut self, claim: &Claim, now: Instant) -> Effect {
        let Claim { port, host, group, ref said } = *claim;
        let follows = group.is_multicast() && !stays_on_link(group) && host.is_ipv4() == group.is_ipv4();
        if port >= self.ports || !follows {
            return Effect::default();
        }
        if !self.groups.contains_key(&group) && self.groups.len() >= self.most_groups {
            self.refused += u64::from(!matches!(said, Said::Leaves | Said::Block(_)));
            return Effect::default();
        }
        let before = self.entries(group);
        let expires = now + self.lifetime;
        let hosts = self.groups.entry(group).or_default().entry(port).or_default();
        let mut ask = false;
        match said {
            Said::Member => {
                hosts.insert(None, Wants { exclude: true, sources: BTreeSet::new(), expires });
            }
            Said::Leaves => {
                // One that followed a newer version until now says so, too.
                hosts.remove(&Some(host));
                if let Some(older) = hosts.get_mut(&None) {
                    older.expires = older.expires.min(now + LAST_MEMBER_TIME);
                    ask = true;
                }
            }
            newer => {
                let key =
                    if hosts.contains_key(&Some(host)) || hosts.len() < HOSTS { Some(host) } else { None };
                let wants = hosts.entry(key).or_insert_with(|| Wants {
                    exclude: false,
                    sources: BTreeSet::new(),
                    expires,
                });
                apply(wants, newer, key.is_none());
                wants.expires = expires;
                if !wants.exclude && wants.sources.is_empty() {
                    hosts.remove(&key);
                }
            }
        }
        self.tidy(group);
        Effect { changed: self.entries(group) != before, ask }
    }

    /// Forgets what was not repeated in time; the groups whose packets have other ways to go now.
    pub fn expire(&mut self, now: Instant) -> Vec<IpAddr> {
        let due: Vec<IpAddr> = self
            .groups
            .iter()
            .filter(|(_, ports)| ports.values().flat_map(Hosts::values).any(|wants| wants.expires <= now))
            .map(|(group, _)| *group)
            .collect();
        due.into_iter()
            .filter(|&group| {
                let before = self.entries(group);
                if let Some(ports) = self.groups.get_mut(&group) {
                    for hosts in ports.values_mut() {
                        hosts.retain(|_, wants| wants.expires > now);
                    }
                }
                self.tidy(group);
                self.entries(group) != before
            })
            .collect()
    }

    /// Forgets everything that was heard at `port`; the groups whose packets have other ways to go now.
    pub fn forget_port(&mut self, port: usize) -> Vec<IpAddr> {
        let groups: Vec<IpAddr> =
            self.groups.iter().filter(|(_, ports)| ports.contains_key(&port)).map(|(g, _)| *g).collect();
        for &group in &groups {
            if let Some(ports) = self.groups.get_mut(&group) {
                ports.remove(&port);
            }
            self.tidy(group);
        }
        groups
    }

    fn tidy(&mut self, group: IpAddr) {
        if let Some(ports) = self.groups.get_mut(&group) {
            ports.retain(|_, hosts| !hosts.is_empty());
            if ports.is_empty() {
                self.groups.remove(&group);
            }
        }
    }

    /// Where packets of `group` go: an entry for each source that goes other ways than the rest, and one for the rest, last. None at all when
    /// nobody is a member.
    pub fn entries(&self, group: IpAddr) -> Vec<Entry> {
        let Some(ports) = self.groups.get(&group) else { return Vec::new() };
        let of = |wanted: &dyn Fn(&Wants) -> bool| -> BTreeSet<usize> {
            ports.iter().filter(|(_, hosts)| hosts.values().any(wanted)).map(|(port, _)| *port).collect()
        };
        let rest = of(&|wants| wants.exclude);
        let named: BTreeSet<IpAddr> =
            ports.values().flat_map(Hosts::values).flat_map(|w| w.sources.iter().copied()).collect();
        let mut entries: Vec<Entry> = named
            .into_iter()
            .map(|source| Entry { source: Some(source), ports: of(&|wants| wants.wants(source)) })
            .filter(|entry| entry.ports != rest)
            .collect();
        entries.push(Entry { source: None, ports: rest });
        entries
    }

    /// The ports behind which somebody wants packets of `group` from `source`; `None`: from any source.
    pub fn ports(&self, group: IpAddr, source: Option<IpAddr>) -> BTreeSet<usize> {
        let Some(ports) = self.groups.get(&group) else { return BTreeSet::new() };
        let wanted = |wants: &Wants| match source {
            Some(source) => wants.wants(source),
            None => true,
        };
        ports.iter().filter(|(_, hosts)| hosts.values().any(wanted)).map(|(port, _)| *port).collect()
    }
}

/// Changes what a host wants by what it says. Of a host that stands for several, nothing is taken away.
fn apply(wants: &mut Wants, said: &Said, stands_for_several: bool) {
    let addresses = |list: &[IpAddr]| list.iter().copied().collect::<BTreeSet<_>>();
    if stands_for_several {
        let takes = !matches!(said, Said::Block(_)) && *said != Said::Include(Vec::new());
        wants.exclude |= takes;
        return;
    }
    match said {
        Said::Include(sources) => {
            wants.exclude = false;
            wants.sources = addresses(sources);
        }
        Said::Exclude(sources) => {
            wants.exclude = true;
            wants.sources = addresses(sources);
        }
        Said::Allow(sources) if wants.exclude => wants.sources.retain(|s| !sources.contains(s)),
        Said::Allow(sources) => wants.sources.extend(sources),
        Said::Block(sources) if wants.exclude => wants.sources.extend(sources),
        Said::Block(sources) => wants.sources.retain(|s| !sources.contains(s)),
        Said::Member | Said::Leaves => {}
    }
    if wants.sources.len() > SOURCES {
        wants.exclude = true;
        wants.sources.clear();
    }
}

#[cfg(test)]
#[path = "snoop_tests.rs"]
mod tests;
