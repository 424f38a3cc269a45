//! The sessions of a stateful session-reflector: what tells one from another, and its count of answers.
#![forbid(unsafe_code)]

use std::net::{IpAddr, SocketAddr};

use rustc_hash::FxHashMap;

use super::report;
use crate::measure::sequence::{Tracker, When};
use crate::measure::tally::RxCounters;

/// Most sessions at a time.
pub(super) const MAX_SESSIONS: usize = 4096;

/// A session that was silent for this long has ended: as REFWAIT of TWAMP (RFC 5357 §4.2).
const SILENCE_NS: u64 = 900_000_000_000;

/// What identifies a session: its addresses and ports, of which ours is the socket's, and its identifier (RFC 8972 §3).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(super) struct Key {
    pub(super) source: SocketAddr,
    pub(super) destination: IpAddr,
    pub(super) ssid: u16,
}

/// What is followed of one: packets up to 4,096 numbers out of order are told from copies.
#[derive(Debug, Default)]
pub(super) struct Session {
    packets: Tracker<64, 64>,
    answered: u64,
    last_ns: u64,
}

impl Session {
    /// The number of the next answer.
    pub(super) fn next(&self) -> u32 {
        // It begins anew where its field does.
        self.answered as u32
    }

    /// That answer has left.
    pub(super) fn answered(&mut self) {
        self.answered += 1;
    }
}

/// All sessions that are followed.
#[derive(Debug, Default)]
pub(super) struct Sessions(FxHashMap<Key, Session>);

impl Sessions {
    /// The session of a packet with the sender's number `sequence` that came at `now_ns`; `None` when there are too many.
    pub(super) fn arrive(&mut self, key: Key, sequence: u32, now_ns: u64) -> Option<&mut Session> {
        let is_over = |session: &Session| now_ns.saturating_sub(session.last_ns) > SILENCE_NS;
        match self.0.get(&key) {
            // The same sender begins anew.
            Some(session) if is_over(session) => _ = self.0.remove(&key),
            Some(_) => {}
            None if self.0.len() >= MAX_SESSIONS => {
                self.0.retain(|_, session| !is_over(session));
                if self.0.len() >= MAX_SESSIONS {
                    return None;
                }
            }
            None => {}
        }
        let session = self.0.entry(key).or_default();
        session.last_ns = now_ns;
        // Of the times only patterns are made, which are not told here.
        session.packets.arrive(sequence.into(), &When::default());
        Some(session)
    }

    /// For the report, in the order of their addresses.
    pub(super) fn report(&self, most: usize) -> Vec<report::Session> {
        let mut keys: Vec<&Key> = self.0.keys().collect();
        keys.sort_unstable_by_key(|key| (key.source, key.destination, key.ssid));
        let described = |key: &Key| {
            let session = &self.0[key];
            let mut counters = RxCounters::default();
            session.packets.counters(&mut counters);
            report::Session {
                source: key.source,
                destination: key.destination,
                ssid: key.ssid,
                unique: counters.unique,
                duplicate: counters.duplicate,
                reordered: counters.reordered,
                // A session begins with 0, and whoever hears it from the start misses what came before its first.
                lost: counters.lost + counters.before_start,
                answered: session.answered,
            }
        };
        keys.into_iter().take(most).map(described).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn key(port: u16) -> Key {
        Key { source: SocketAddr::from(([10, 0, 0, 1], port)), destination: [10, 0, 0, 2].into(), ssid: 7 }
    }

    #[test]
    fn each_session_has_its_count() {
        let mut sessions = Sessions::default();
        for (port, sequence, number) in [(1, 0, 0), (1, 2, 1), (2, 0, 0), (1, 3, 2)] {
            let session = sessions.arrive(key(port), sequence, 5).unwrap();
            assert_eq!(session.next(), number);
            session.answered();
        }
        let report = sessions.report(10);
        assert_eq!((report[0].unique, report[0].lost, report[0].answered), (3, 1, 3));
        assert_eq!((report[1].unique, report[1].lost, report[1].answered), (1, 0, 1));
        assert_eq!(sessions.report(1).len(), 1);
    }

    #[test]
    fn the_silent_make_room_and_begin_anew() {
        let mut sessions = Sessions::default();
        for port in 1..=MAX_SESSIONS as u16 {
            sessions.arrive(key(port), 0, 10).unwrap().answered();
        }
        assert!(sessions.arrive(key(u16::MAX), 0, 10).is_none());
        assert_eq!(sessions.arrive(key(1), 1, 10 + SILENCE_NS).unwrap().next(), 1);
        assert_eq!(sessions.arrive(key(2), 0, 11 + SILENCE_NS).unwrap().next(), 0);
        assert!(sessions.arrive(key(u16::MAX), 0, 11 + SILENCE_NS).is_some());
    }
}
