//! RTCP datagrams: no bytes panic, and reports that were read are written so that they read the same.

use wirerate_engine::packet::rtcp::{Compound, Packet, is_rtcp, parse};

/// Reads `datagram`.
pub fn check(datagram: &[u8]) {
    let Ok(packets) = parse(datagram) else { return };
    assert!(is_rtcp(datagram) && !packets.is_empty());
    for packet in packets {
        let mut again = Compound::new();
        match &packet {
            Packet::Sr { ssrc, info, blocks } => again.sender_report(*ssrc, info, blocks),
            Packet::Rr { ssrc, blocks } => again.receiver_report(*ssrc, blocks),
            Packet::Sdes(_) | Packet::Bye { .. } | Packet::Other(_) => continue,
        }
        assert_eq!(parse(again.bytes()), Ok(vec![packet]));
    }
}
