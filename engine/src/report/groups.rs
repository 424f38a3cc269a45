//! How packets came to each of many groups, in few words; the streams tell the rest.
#![forbid(unsafe_code)]

use std::cmp::Reverse;
use std::collections::BTreeMap;
use std::net::{IpAddr, SocketAddr};

use serde::Serialize;

use crate::measure::tally::StreamTally;

/// Groups that are named one by one at most.
const NAMED: usize = 16;

/// The groups (or addresses) and ports that a receiver was asked for, where these are several.
#[derive(Debug, Clone, Serialize)]
pub struct Groups {
    /// How many.
    pub asked: u64,
    /// Those that packets came to.
    pub heard: u64,
    /// Those of which packets were lost, as far as their senders' numbers say.
    pub with_loss: u64,
    /// Packets of the group that got the fewest.
    pub least_packets: u64,
    /// Packets of the group that got the most.
    pub most_packets: u64,
    /// The 16 worst at most: those with the most loss, then those that were not heard.
    pub worst: Vec<GroupLoss>,
}

/// One of them.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct GroupLoss {
    /// Its address.
    pub group: IpAddr,
    /// Its UDP port.
    pub port: u16,
    /// Packets that came.
    pub packets: u64,
    /// Packets that did not.
    pub lost: u64,
}

impl Groups {
    /// Of `asked`, by what came; `None` of a single one.
    pub(super) fn of(asked: &[SocketAddr], streams: &[StreamTally]) -> Option<Self> {
        if asked.len() < 2 {
            return None;
        }
        // Scopes of link-local groups are not the same at both ends.
        let key = |address: SocketAddr| (address.ip(), address.port());
        let mut groups: BTreeMap<_, (u64, u64)> = asked.iter().map(|&a| (key(a), (0, 0))).collect();
        for stream in streams {
            if let Some((packets, lost)) = groups.get_mut(&key(stream.key.destination)) {
                let c = &stream.counters;
                *packets = packets.saturating_add(c.packets);
                *lost = lost.saturating_add(c.lost).saturating_add(c.lost_tail);
            }
        }
        let all = || groups.values();
        let mut worst: Vec<_> = groups
            .iter()
            .filter(|(_, (packets, lost))| *packets == 0 || *lost > 0)
            .map(|(&(group, port), &(packets, lost))| GroupLoss { group, port, packets, lost })
            .collect();
        worst.sort_by_key(|group| Reverse(group.lost));
        worst.truncate(NAMED);
        Some(Self {
            asked: groups.len() as u64,
            heard: all().filter(|(packets, _)| *packets > 0).count() as u64,
            with_loss: all().filter(|(_, lost)| *lost > 0).count() as u64,
            least_packets: all().map(|(packets, _)| *packets).min().unwrap_or(0),
            most_packets: all().map(|(packets, _)| *packets).max().unwrap_or(0),
            worst,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::measure::tally::{Format, RxCounters, StreamKey};

    fn stream(group: &str, stream: u16, packets: u64, lost: u64) -> StreamTally {
        let key = StreamKey {
            format: Format::Wirerate,
            run: 1,
            stream,
            source: "10.0.0.1:4000".parse().unwrap(),
            destination: group.parse().unwrap(),
        };
        StreamTally {
            key,
            counters: RxCounters { packets, unique: packets, lost, ..RxCounters::default() },
            jitter_ns: None,
            end: None,
            announced: 0,
            ended_ns: 0,
            detail: None,
            media: None,
        }
    }

    #[test]
    fn the_worst_are_named_and_all_are_counted() {
        let asked: Vec<SocketAddr> = (1..=100).map(|n| ([239, 1, 1, n], 5001).into()).collect();
        let mut streams: Vec<_> =
            (1..=90u8).map(|n| stream(&format!("239.1.1.{n}:5001"), 0, 10 + u64::from(n), 0)).collect();
        // A second stream of a group, with loss; one of a group that nobody asked for.
        streams.push(stream("239.1.1.7:5001", 1, 5, 3));
        streams.push(stream("239.9.9.9:5001", 1, 1, 9));
        let groups = Groups::of(&asked, &streams).unwrap();
        assert_eq!((groups.asked, groups.heard, groups.with_loss), (100, 90, 1));
        assert_eq!((groups.least_packets, groups.most_packets), (0, 100));
        let seven = GroupLoss { group: [239, 1, 1, 7].into(), port: 5001, packets: 22, lost: 3 };
        assert_eq!(groups.worst[0], seven);
        assert_eq!(groups.worst.len(), 11);
        assert!(groups.worst[1..].iter().all(|group| group.packets == 0));
        assert!(Groups::of(&asked[..1], &streams).is_none());
    }
}
