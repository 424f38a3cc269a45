//! Source and destination of a datagram as its headers have them: few bytes, which are compared at once.
#![forbid(unsafe_code)]

use std::net::SocketAddr;

/// Addresses and ports of a datagram over IPv4, as they stand in a frame: the end of an IPv4 header without options, and the beginning of the UDP header behind it.
pub type Ends = [u8; 12];

/// Those of a datagram from `source` to `destination`; `None` where these are not of IPv4.
pub fn ends(source: SocketAddr, destination: SocketAddr) -> Option<Ends> {
    let (SocketAddr::V4(source), SocketAddr::V4(destination)) = (source, destination) else { return None };
    let mut ends = [0; 12];
    ends[0..4].copy_from_slice(&source.ip().octets());
    ends[4..8].copy_from_slice(&destination.ip().octets());
    ends[8..10].copy_from_slice(&source.port().to_be_bytes());
    ends[10..12].copy_from_slice(&destination.port().to_be_bytes());
    Some(ends)
}
