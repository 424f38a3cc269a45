//! Probe headers and ends: no bytes panic, and what reads back is written again as it was.
#![no_main]

use libfuzzer_sys::fuzz_target;
use wirerate_engine::packet::probe::{End, LEN, Probe};

fuzz_target!(|payload: &[u8]| {
    let _ = Probe::parse_unchecked(payload);
    let _ = End::parse(payload);
    if let Ok(probe) = Probe::parse(payload) {
        let mut again = [0; LEN];
        probe.emit(&mut again);
        // The check has two forms of zero; all else must be equal.
        assert_eq!(again[2..], payload[2..LEN]);
        assert_eq!(Probe::parse(&again), Ok(probe));
    }
});
