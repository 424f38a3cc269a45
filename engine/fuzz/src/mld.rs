//! IPv6 packets with MLD: no bytes panic, and what was read is written so that it reads the same.

use std::net::{IpAddr, Ipv6Addr};

use super::igmp;

/// Reads `packet`.
pub fn check(packet: &[u8]) {
    igmp::again(packet, IpAddr::V6(Ipv6Addr::new(0xfe80, 0, 0, 0, 0, 0, 0, 1)));
}
