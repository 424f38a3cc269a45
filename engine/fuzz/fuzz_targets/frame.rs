//! Frames from the wire: no bytes panic, and what is found lies within the frame.
#![no_main]

use libfuzzer_sys::fuzz_target;
use wirerate_engine::packet::frame::parse_udp;

fuzz_target!(|frame: &[u8]| {
    if let Some(found) = parse_udp(frame) {
        assert!(frame.get(found.payload.clone()).is_some());
        assert!(usize::from(found.overhead) + found.payload.len() <= frame.len());
    }
});
