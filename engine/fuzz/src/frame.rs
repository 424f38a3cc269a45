//! Frames from the wire: no bytes panic, and what is found lies within the frame.

use wirerate_engine::packet::frame::parse_udp;
use wirerate_engine::packet::udp::{self, Checksum};

/// Reads `frame`.
pub fn check(frame: &[u8]) {
    let Some(found) = parse_udp(frame) else { return };
    let payload = found.payload.clone();
    assert!(frame.get(payload.clone()).is_some());
    assert_eq!(usize::from(found.overhead), payload.start);
    assert_eq!(found.source.is_ipv4(), found.destination.is_ipv4());
    let datagram = &frame[payload.start - udp::HEADER_LEN..payload.end];
    let checksum = udp::verify(found.source.ip(), found.destination.ip(), datagram);
    assert!(found.source.is_ipv4() || checksum != Checksum::Absent);
    // Padding behind the datagram changes nothing.
    let mut padded = frame.to_vec();
    padded.push(0);
    assert_eq!(parse_udp(&padded), Some(found));
}
