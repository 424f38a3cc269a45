//! IPv4 (RFC 791) and IPv6 (RFC 8200) headers.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use super::checksum;

/// IPv4 header without options, bytes.
pub const V4_LEN: usize = 20;
/// IPv6 header without extension headers, bytes.
pub const V6_LEN: usize = 40;
/// Protocol number of UDP.
pub const UDP: u8 = 17;

/// What this code writes into an IP header and reads from one, of either version.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Ip {
    /// Source address.
    pub source: IpAddr,
    /// Destination address, of the same version.
    pub destination: IpAddr,
    /// DSCP (RFC 2474), 0 to 63. The ECN bits are written as 0.
    pub dscp: u8,
    /// TTL or hop limit.
    pub ttl: u8,
    /// Protocol, or next header.
    pub protocol: u8,
    /// Bytes behind the header.
    pub payload_len: u16,
}

impl Ip {
    /// Bytes that [`emit`](Self::emit) writes.
    pub fn emitted_len(&self) -> usize {
        if self.destination.is_ipv4() { V4_LEN } else { V6_LEN }
    }

    /// Writes the header to the start of `packet`. IPv4 gets DF and identification 0 (RFC 6864 §4.1: a datagram that
    /// is never fragmented needs none) and its checksum; IPv6 gets flow label 0.
    ///
    /// # Panics
    /// When `packet` is shorter than [`emitted_len`](Self::emitted_len), when the addresses are of different versions, or when
    /// an IPv4 packet would be longer than 65,535 bytes.
    pub fn emit(&self, packet: &mut [u8]) {
        match (self.source, self.destination) {
            (IpAddr::V4(source), IpAddr::V4(destination)) => {
                let total = u16::try_from(V4_LEN).ok().and_then(|n| self.payload_len.checked_add(n));
                let header = &mut packet[..V4_LEN];
                header[0] = 0x45;
                header[1] = self.dscp << 2;
                header[2..4]
                    .copy_from_slice(&total.expect("an IPv4 packet of at most 65,535 bytes").to_be_bytes());
                header[4..6].fill(0);
                header[6..8].copy_from_slice(&0x4000u16.to_be_bytes());
                header[8] = self.ttl;
                header[9] = self.protocol;
                header[10..12].fill(0);
                header[12..16].copy_from_slice(&source.octets());
                header[16..20].copy_from_slice(&destination.octets());
                let check = checksum::finish(checksum::sum(header));
                header[10..12].copy_from_slice(&check.to_be_bytes());
            }
            (IpAddr::V6(source), IpAddr::V6(destination)) => {
                let header = &mut packet[..V6_LEN];
                header[0..4].copy_from_slice(&(6 << 28 | u32::from(self.dscp) << 22).to_be_bytes());
                header[4..6].copy_from_slice(&self.payload_len.to_be_bytes());
                header[6] = self.protocol;
                header[7] = self.ttl;
                header[8..24].copy_from_slice(&source.octets());
                header[24..40].copy_from_slice(&destination.octets());
            }
            (source, destination) => panic!("{source} and {destination} are of different IP versions"),
        }
    }

    /// Reads the IPv4 header at the start of `packet`; also returns its length, with options. `None` when it is none, when the
    /// packet is longer than what is there, and for a fragment: only a whole datagram has a transport header to read.
    #[inline]
    pub fn parse_v4(packet: &[u8]) -> Option<(Self, usize)> {
        let header: &[u8; V4_LEN] = packet.first_chunk()?;
        let len = usize::from(header[0] & 0x0f) * 4;
        let total = u16::from_be_bytes([header[2], header[3]]);
        let more_or_offset = u16::from_be_bytes([header[6], header[7]]) & 0x3fff;
        if header[0] >> 4 != 4 || len < V4_LEN || usize::from(total) > packet.len() || more_or_offset != 0 {
            return None;
        }
        let ip = Self {
            source: Ipv4Addr::new(header[12], header[13], header[14], header[15]).into(),
            destination: Ipv4Addr::new(header[16], header[17], header[18], header[19]).into(),
            dscp: header[1] >> 2,
            ttl: header[8],
            protocol: header[9],
            // len is at most 60.
            payload_len: total.checked_sub(len as u16)?,
        };
        Some((ip, len))
    }

    /// Reads the IPv6 header at the start of `packet`; also returns its length. `None` when it is none, or when the packet is longer
    /// than what is there. Extension headers are not followed.
    #[inline]
    pub fn parse_v6(packet: &[u8]) -> Option<(Self, usize)> {
        let header: &[u8; V6_LEN] = packet.first_chunk()?;
        let payload_len = u16::from_be_bytes([header[4], header[5]]);
        if header[0] >> 4 != 6 || usize::from(payload_len) > packet.len() - V6_LEN {
            return None;
        }
        let address = |at: usize| -> Option<IpAddr> {
            let octets: &[u8; 16] = header.get(at..)?.first_chunk()?;
            Some(Ipv6Addr::from(*octets).into())
        };
        let ip = Self {
            source: address(8)?,
            destination: address(24)?,
            dscp: (header[0] << 2 | header[1] >> 6) & 0x3f,
            ttl: header[7],
            protocol: header[6],
            payload_len,
        };
        Some((ip, V6_LEN))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn ip() -> impl Strategy<Value = Ip> {
        let addresses = prop_oneof![
            any::<([u8; 4], [u8; 4])>().prop_map(|(a, b)| (IpAddr::from(a), IpAddr::from(b))),
            any::<([u8; 16], [u8; 16])>().prop_map(|(a, b)| (IpAddr::from(a), IpAddr::from(b))),
        ];
        (addresses, 0u8..64, any::<u8>(), any::<u8>(), 0u16..2000).prop_map(
            |((source, destination), dscp, ttl, protocol, payload_len)| Ip {
                source,
                destination,
                dscp,
                ttl,
                protocol,
                payload_len,
            },
        )
    }

    proptest! {
        #[test]
        fn reads_what_it_wrote(ip in ip()) {
            let len = ip.emitted_len();
            let mut packet = vec![0xaa; len + usize::from(ip.payload_len)];
            ip.emit(&mut packet);
            let parse = if ip.source.is_ipv4() { Ip::parse_v4 } else { Ip::parse_v6 };
            prop_assert_eq!(parse(&packet), Some((ip, len)));
            prop_assert_eq!(parse(&packet[..packet.len() - 1]), None);
            if ip.source.is_ipv4() {
                prop_assert_eq!(checksum::fold(checksum::sum(&packet[..len])), 0xffff);
            }
        }
    }

    #[test]
    fn fragments_are_not_whole_datagrams() {
        let any = IpAddr::from([10, 0, 0, 1]);
        let ip = Ip { source: any, destination: any, dscp: 0, ttl: 1, protocol: UDP, payload_len: 8 };
        let mut packet = [0; 28];
        ip.emit(&mut packet);
        for (flags, whole) in [(0x40, true), (0x00, true), (0x20, false), (0x01, false)] {
            packet[6] = flags;
            assert_eq!(Ip::parse_v4(&packet).is_some(), whole, "flags {flags:#x}");
        }
    }
}
