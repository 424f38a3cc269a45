//! Ethernet, IPv4, IPv6 and UDP headers each by itself: no bytes panic, and what was read is written so that it reads the same.

use wirerate_engine::packet::checksum::{fold, sum};
use wirerate_engine::packet::ethernet::Ethernet;
use wirerate_engine::packet::ip::{Ip, V4_LEN};
use wirerate_engine::packet::udp::{HEADER_LEN, Udp};

/// Reads `bytes` as each of them.
pub fn check(bytes: &[u8]) {
    if let Some((ethernet, len)) = Ethernet::parse(bytes) {
        assert!(len <= bytes.len());
        let mut again = vec![0; ethernet.emitted_len()];
        ethernet.emit(&mut again);
        assert_eq!(Ethernet::parse(&again), Some((ethernet, again.len())));
    }
    for (ip, len) in [Ip::parse_v4(bytes), Ip::parse_v6(bytes)].into_iter().flatten() {
        assert!(len + usize::from(ip.payload_len) <= bytes.len());
        let mut again = vec![0; ip.emitted_len() + usize::from(ip.payload_len)];
        ip.emit(&mut again);
        let read = if ip.source.is_ipv4() {
            assert_eq!(fold(sum(&again[..V4_LEN])), 0xffff, "the header's checksum");
            Ip::parse_v4(&again)
        } else {
            Ip::parse_v6(&again)
        };
        assert_eq!(read, Some((ip, ip.emitted_len())));
    }
    if let Some(udp) = Udp::parse(bytes) {
        assert!((HEADER_LEN..=bytes.len()).contains(&usize::from(udp.len)));
        let mut again = vec![0; usize::from(udp.len)];
        udp.emit(&mut again);
        assert_eq!(Udp::parse(&again), Some(udp));
        assert_eq!(again[..HEADER_LEN], bytes[..HEADER_LEN]);
    }
}
