//! Multicast routers on a link, as their PIM tells: who is there, and what each wants of which neighbour.
#![forbid(unsafe_code)]

use std::collections::BTreeMap;
use std::net::IpAddr;

use crate::packet::pim::{FOR_EVER, Heard, Hello, JoinPrune, Message, Source};

/// Routers of one link that were heard.
#[derive(Debug, Default)]
pub struct Routers {
    routers: BTreeMap<IpAddr, Router>,
}

/// A router.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct Router {
    /// Its last greeting; `None` when only other messages were heard.
    pub hello: Option<Hello>,
    /// When it is believed to have gone; `None`: never, or nothing is known of it.
    pub expires_ns: Option<u64>,
    /// What it wants.
    pub joins: BTreeMap<Join, Wanted>,
}

/// A group, and a source or all of them.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct Join {
    /// The group.
    pub group: IpAddr,
    /// The source, or (*,G) with its rendezvous point.
    pub source: Source,
}

/// Who is asked, and until when that holds.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Wanted {
    /// The neighbour that is asked.
    pub upstream: IpAddr,
    /// `None`: for ever.
    pub expires_ns: Option<u64>,
}

fn after(at_ns: u64, holdtime_s: u16) -> Option<u64> {
    (holdtime_s != FOR_EVER).then(|| at_ns.saturating_add(u64::from(holdtime_s) * 1_000_000_000))
}

impl Routers {
    /// Takes in what was heard at `at_ns`. What a router has to ignore changes nothing.
    pub fn hear(&mut self, at_ns: u64, heard: &Heard) {
        if !heard.is_valid() {
            return;
        }
        match &heard.message {
            Message::Hello(hello) if hello.holdtime_s == Some(0) => {
                self.routers.remove(&heard.source);
            }
            Message::Hello(hello) => {
                let router = self.routers.entry(heard.source).or_default();
                let before = router.hello.as_ref().and_then(|hello| hello.generation);
                // It has started anew, and forgotten what it wanted (RFC 7761 §4.3.1).
                if before.is_some() && before != hello.generation {
                    router.joins.clear();
                }
                // Without the option: 3.5 × 30 s (§4.11).
                router.expires_ns = after(at_ns, hello.holdtime_s.unwrap_or(105));
                router.hello = Some(hello.clone());
            }
            Message::JoinPrune(message) => {
                join(self.routers.entry(heard.source).or_default(), at_ns, message);
            }
            Message::Other(_) => {}
        }
    }

    /// Forgets what has ended by `now_ns`.
    pub fn expire(&mut self, now_ns: u64) {
        let lasts = |expires_ns: Option<u64>| expires_ns.is_none_or(|at| at > now_ns);
        self.routers.retain(|_, router| lasts(router.expires_ns));
        for router in self.routers.values_mut() {
            router.joins.retain(|_, wanted| lasts(wanted.expires_ns));
        }
        self.routers.retain(|_, router| router.hello.is_some() || !router.joins.is_empty());
    }

    /// All of them, by address.
    pub fn iter(&self) -> impl Iterator<Item = (&IpAddr, &Router)> {
        self.routers.iter()
    }
}

fn join(router: &mut Router, at_ns: u64, message: &JoinPrune) {
    for group in &message.groups {
        for source in &group.pruned {
            router.joins.remove(&Join { group: group.group, source: *source });
        }
        for source in &group.joined {
            let wanted = Wanted { upstream: message.upstream, expires_ns: after(at_ns, message.holdtime_s) };
            router.joins.insert(Join { group: group.group, source: *source }, wanted);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::multicast::message::Defect;
    use crate::packet::pim::Group;

    const SECOND: u64 = 1_000_000_000;

    fn ip(text: &str) -> IpAddr {
        text.parse().unwrap()
    }

    fn says(message: Message) -> Heard {
        Heard { source: ip("10.0.0.2"), destination: ip("224.0.0.13"), message, defects: Vec::new() }
    }

    fn source(address: &str, wildcard: bool) -> Source {
        Source { address: ip(address), wildcard, rpt: wildcard }
    }

    fn asks(joined: &[Source], pruned: &[Source]) -> Heard {
        let group =
            Group { group: ip("239.1.1.1"), prefix_len: 32, joined: joined.into(), pruned: pruned.into() };
        says(Message::JoinPrune(JoinPrune { upstream: ip("10.0.0.1"), holdtime_s: 210, groups: vec![group] }))
    }

    fn joined(routers: &Routers) -> Vec<Source> {
        routers.iter().flat_map(|(_, router)| router.joins.keys().map(|join| join.source)).collect()
    }

    #[test]
    fn joins_hold_until_pruned_or_over() {
        let (all, one) = (source("10.9.9.9", true), source("10.1.1.1", false));
        let mut routers = Routers::default();
        routers.hear(0, &asks(&[all, one], &[]));
        assert_eq!(joined(&routers), [one, all]);
        routers.hear(100 * SECOND, &asks(&[all], &[one]));
        assert_eq!(joined(&routers), [all]);
        routers.expire(309 * SECOND);
        assert_eq!(joined(&routers), [all]);
        routers.expire(310 * SECOND);
        assert_eq!(routers.iter().count(), 0, "it never said that it is there");
    }

    #[test]
    fn a_router_that_starts_anew_or_goes_wants_nothing() {
        let hello = |generation, holdtime_s| {
            says(Message::Hello(Hello {
                generation: Some(generation),
                holdtime_s: Some(holdtime_s),
                ..Hello::default()
            }))
        };
        let all = source("10.9.9.9", true);
        let mut routers = Routers::default();
        routers.hear(0, &hello(1, 105));
        routers.hear(0, &asks(&[all], &[]));
        routers.hear(SECOND, &hello(1, 105));
        assert_eq!(joined(&routers), [all]);
        routers.hear(SECOND, &hello(2, 105));
        assert_eq!((joined(&routers), routers.iter().count()), (vec![], 1));
        routers.expire(105 * SECOND);
        assert_eq!(routers.iter().count(), 1);
        routers.hear(106 * SECOND, &hello(2, 0));
        assert_eq!(routers.iter().count(), 0);
        routers.hear(0, &hello(2, FOR_EVER));
        routers.expire(u64::MAX);
        assert_eq!(routers.iter().count(), 1);
    }

    #[test]
    fn what_is_damaged_changes_nothing() {
        let mut heard = asks(&[source("10.1.1.1", false)], &[]);
        heard.defects.push(Defect::Checksum);
        let mut routers = Routers::default();
        routers.hear(0, &heard);
        assert_eq!(routers.iter().count(), 0);
    }
}
