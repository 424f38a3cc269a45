//! Probe headers, ends and follow-ups: no bytes panic, and what reads back is written again as it was.

use wirerate_engine::packet::follow_up;
use wirerate_engine::packet::probe::{LEN, MESSAGE_LEN, Message, Probe};

/// Reads `payload`.
pub fn check(payload: &[u8]) {
    let unchecked = Probe::parse_unchecked(payload);
    if let Some(message) = Message::parse(payload) {
        let mut again = [0; MESSAGE_LEN];
        message.emit(&mut again);
        // Bits that say nothing, and what a shorter body leaves out, are written as 0.
        assert_eq!(Message::parse(&again), Some(message));
    }
    if let Ok(probe) = Probe::parse(payload) {
        assert_eq!(unchecked, Ok(probe));
        let mut again = [0; LEN];
        probe.emit(&mut again);
        // The check has two forms of zero; all else must be equal.
        assert_eq!(again[2..], payload[2..LEN]);
        assert_eq!(Probe::parse(&again), Ok(probe));
        let departed = follow_up::read(&probe, payload).map_or(0, Iterator::count);
        assert!(departed <= payload.len());
    }
}
