//! What a receiving socket knows of each datagram: who sent it, and where to.
#![forbid(unsafe_code)]

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, SocketAddrV6};

use crate::queue::RxMeta;

/// Room for a source address of either version.
pub(super) const NAME_LEN: usize = size_of::<libc::sockaddr_in6>();

/// Room for the control messages of one datagram: IPV6_PKTINFO is the largest (16 + 20, aligned).
pub(super) const CONTROL_LEN: usize = 64;

/// What the datagrams of one socket have in common.
#[derive(Debug, Clone, Copy)]
pub(super) struct Addressing {
    destination: SocketAddr,
    overhead: u16,
}

impl Addressing {
    /// For a socket bound to `destination`.
    pub(super) fn new(destination: SocketAddr) -> Self {
        // Ethernet 14, IP without options, UDP 8, FCS 4. The socket sees no frames; the kernel takes VLAN tags off.
        let ip = if destination.is_ipv6() { 40 } else { 20 };
        Self { destination, overhead: 14 + ip + 8 + 4 }
    }

    /// Bytes of control messages to ask for: none when the socket is bound to an address.
    pub(super) fn control_len(&self) -> usize {
        if self.destination.ip().is_unspecified() { CONTROL_LEN } else { 0 }
    }

    /// The meta data of a datagram with this source address and these control messages, as the kernel wrote them.
    #[inline]
    pub(super) fn meta(&self, name: &[u8], control: &[u8], arrived_ns: u64) -> RxMeta {
        let mut destination = self.destination;
        if let Some(address) = packet_destination(control) {
            destination.set_ip(address);
        }
        RxMeta {
            source: socket_address(name).unwrap_or(SocketAddr::new(Ipv4Addr::UNSPECIFIED.into(), 0)),
            destination,
            arrived_ns,
            overhead: self.overhead,
        }
    }
}

/// Reads a `sockaddr_in` or `sockaddr_in6`.
#[inline]
fn socket_address(bytes: &[u8]) -> Option<SocketAddr> {
    let family = i32::from(u16::from_ne_bytes(*bytes.first_chunk()?));
    let port = u16::from_be_bytes(*bytes.get(2..)?.first_chunk()?);
    match family {
        libc::AF_INET => {
            let address: [u8; 4] = *bytes.get(4..)?.first_chunk()?;
            Some(SocketAddr::new(Ipv4Addr::from(address).into(), port))
        }
        libc::AF_INET6 => {
            let address: [u8; 16] = *bytes.get(8..)?.first_chunk()?;
            let scope = u32::from_ne_bytes(*bytes.get(24..)?.first_chunk()?);
            Some(SocketAddrV6::new(Ipv6Addr::from(address), port, 0, scope).into())
        }
        _ => None,
    }
}

/// The destination address in an IP_PKTINFO or IPV6_PKTINFO message.
#[inline]
fn packet_destination(mut control: &[u8]) -> Option<IpAddr> {
    const HEADER: usize = size_of::<libc::cmsghdr>();
    while control.len() >= HEADER {
        let len = usize::from_ne_bytes(*control.first_chunk()?);
        let int = |at: usize| control.get(at..)?.first_chunk().map(|b| i32::from_ne_bytes(*b));
        let (level, kind) = (int(HEADER - 8)?, int(HEADER - 4)?);
        let data = control.get(HEADER..len)?;
        match (level, kind) {
            // struct in_pktinfo: index, local address, destination address of the header.
            (libc::IPPROTO_IP, libc::IP_PKTINFO) => {
                let address: [u8; 4] = *data.get(8..)?.first_chunk()?;
                return Some(Ipv4Addr::from(address).into());
            }
            (libc::IPPROTO_IPV6, libc::IPV6_PKTINFO) => {
                let address: [u8; 16] = *data.first_chunk()?;
                return Some(Ipv6Addr::from(address).into());
            }
            _ => control = control.get(len.next_multiple_of(size_of::<usize>())..)?,
        }
    }
    None
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn addresses_as_the_kernel_writes_them() {
        for text in ["192.0.2.1:5001", "[2001:db8::1]:65535", "[fe80::1%3]:7"] {
            let address: SocketAddr = text.parse().unwrap();
            let native = socket2::SockAddr::from(address);
            // socket2 shows no bytes, so the layout is written out.
            let mut bytes = vec![];
            bytes.extend(native.family().to_ne_bytes());
            bytes.extend(address.port().to_be_bytes());
            match address {
                SocketAddr::V4(v4) => bytes.extend(v4.ip().octets()),
                SocketAddr::V6(v6) => {
                    bytes.extend([0; 4]);
                    bytes.extend(v6.ip().octets());
                    bytes.extend(v6.scope_id().to_ne_bytes());
                }
            }
            assert_eq!(socket_address(&bytes), Some(address));
        }
    }

    proptest::proptest! {
        #[test]
        fn no_bytes_panic(name in proptest::collection::vec(proptest::num::u8::ANY, 0..40),
                          control in proptest::collection::vec(proptest::num::u8::ANY, 0..80),
                          len in 0usize..100, level in 0i32..50, kind in 0i32..60) {
            let _ = socket_address(&name);
            let _ = packet_destination(&control);
            let mut message = vec![];
            message.extend(len.to_ne_bytes());
            message.extend(level.to_ne_bytes());
            message.extend(kind.to_ne_bytes());
            message.extend(&control);
            let _ = packet_destination(&message);
        }
    }

    #[test]
    fn a_message_of_length_zero_ends_the_search() {
        assert_eq!(packet_destination(&[0; 64]), None);
    }
}
