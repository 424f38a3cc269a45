//! Probe headers and ends: no bytes panic, and what reads back is written again as it was.

use wirerate_engine::packet::probe::{End, LEN, Probe};

/// Reads `payload`.
pub fn check(payload: &[u8]) {
    let unchecked = Probe::parse_unchecked(payload);
    if let Some(end) = End::parse(payload) {
        let mut again = payload.to_vec();
        end.emit(&mut again);
        assert_eq!(again, payload);
    }
    if let Ok(probe) = Probe::parse(payload) {
        assert_eq!(unchecked, Ok(probe));
        let mut again = [0; LEN];
        probe.emit(&mut again);
        // The check has two forms of zero; all else must be equal.
        assert_eq!(again[2..], payload[2..LEN]);
        assert_eq!(Probe::parse(&again), Ok(probe));
    }
}
