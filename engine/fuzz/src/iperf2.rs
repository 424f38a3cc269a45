//! iperf 2 datagrams: no bytes panic, and a recognised flow reads the datagram that it was recognised by.

use wirerate_engine::interop::iperf2::client::Answer;
use wirerate_engine::interop::iperf2::{Datagram, recognise};

/// Reads `payload`, with and without a wall clock.
pub fn check(payload: &[u8]) {
    if let Some(answer) = Answer::parse(payload) {
        // Seconds and microseconds of 32 bits each.
        assert!(answer.duration_ns < 1 << 63 && payload.len() >= 56);
    }
    let Some((flow, datagram)) = recognise(payload, None) else {
        assert_eq!(recognise(payload, Some(1_800_000_000)), None);
        return;
    };
    let Datagram::Data { sent_ns, .. } = datagram else { panic!("an end opens no flow") };
    assert_eq!(flow.read(payload), Some(datagram));
    assert_eq!(recognise(payload, Some(sent_ns / 1_000_000_000)), Some((flow, datagram)));
    assert_eq!(recognise(payload, Some(sent_ns / 1_000_000_000 + 100_000)), None);
}
