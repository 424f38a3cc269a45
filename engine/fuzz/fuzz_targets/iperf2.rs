//! iperf 2 datagrams: no bytes panic, and a recognised flow reads the datagram that it was recognised by.
#![no_main]

use libfuzzer_sys::fuzz_target;
use wirerate_engine::interop::iperf2::{Datagram, recognise};

fuzz_target!(|payload: &[u8]| {
    if let Some((flow, datagram)) = recognise(payload, None) {
        assert!(matches!(datagram, Datagram::Data { .. }));
        assert_eq!(flow.read(payload), Some(datagram));
    }
});
