//! UDP headers (RFC 768) and their checksum over IPv4 and IPv6 (RFC 8200 §8.1).

use std::net::IpAddr;

use super::checksum::{finish, fold, pseudo_sum, sum};
use super::ip;

/// UDP header, bytes.
pub const HEADER_LEN: usize = 8;

/// A UDP header.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Udp {
    /// Source port.
    pub source: u16,
    /// Destination port.
    pub destination: u16,
    /// Header and payload, bytes.
    pub len: u16,
    /// The checksum field.
    pub checksum: u16,
}

impl Udp {
    /// Writes the header to the start of `datagram`.
    ///
    /// # Panics
    /// When `datagram` is shorter than [`HEADER_LEN`].
    pub fn emit(&self, datagram: &mut [u8]) {
        for (place, field) in datagram[..HEADER_LEN].chunks_exact_mut(2).zip([
            self.source,
            self.destination,
            self.len,
            self.checksum,
        ]) {
            place.copy_from_slice(&field.to_be_bytes());
        }
    }

    /// Reads the header at the start of `datagram`, the payload of an IP packet. `None` when its length is less than a header or more
    /// than what is there.
    #[inline]
    pub fn parse(datagram: &[u8]) -> Option<Self> {
        let header: &[u8; HEADER_LEN] = datagram.first_chunk()?;
        let word = |at: usize| u16::from_be_bytes([header[at], header[at + 1]]);
        let udp = Self { source: word(0), destination: word(2), len: word(4), checksum: word(6) };
        (HEADER_LEN..=datagram.len()).contains(&usize::from(udp.len)).then_some(udp)
    }
}

/// The checksum field of a datagram whose pseudo-header, header and payload add up to `sum`: a computed 0 is sent as 0xffff,
/// because 0 says that there is none.
#[inline]
pub const fn checksum(sum: u64) -> u16 {
    match finish(sum) {
        0 => 0xffff,
        check => check,
    }
}

/// What a received checksum says.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Checksum {
    /// It fits.
    Good,
    /// The sender computed none (IPv4 only).
    Absent,
    /// Only the pseudo-header's sum is there: the sending kernel left the rest to a NIC that never came (CHECKSUM_PARTIAL
    /// over veth).
    NotFilledIn,
    /// It does not fit: the datagram was changed on the way.
    Bad,
}

/// Checks the checksum of `datagram`, a UDP header and its payload without padding.
pub fn verify(source: IpAddr, destination: IpAddr, datagram: &[u8]) -> Checksum {
    let Some(udp) = Udp::parse(datagram) else { return Checksum::Bad };
    if udp.checksum == 0 {
        // RFC 8200 §8.1: over IPv6 a receiver must discard it.
        return if destination.is_ipv4() { Checksum::Absent } else { Checksum::Bad };
    }
    let pseudo = pseudo_sum(source, destination, ip::UDP, u32::from(udp.len));
    if fold(pseudo + sum(&datagram[..usize::from(udp.len)])) == 0xffff {
        Checksum::Good
    } else if udp.checksum == fold(pseudo) {
        Checksum::NotFilledIn
    } else {
        Checksum::Bad
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const A: IpAddr = IpAddr::V4(std::net::Ipv4Addr::new(192, 0, 2, 1));
    const B: IpAddr = IpAddr::V4(std::net::Ipv4Addr::new(192, 0, 2, 2));

    fn datagram(payload: &[u8]) -> Vec<u8> {
        let len = (HEADER_LEN + payload.len()) as u16;
        let mut udp = Udp { source: 1000, destination: 2000, len, checksum: 0 };
        let mut bytes = vec![0; HEADER_LEN];
        bytes.extend(payload);
        udp.emit(&mut bytes);
        udp.checksum = checksum(pseudo_sum(A, B, ip::UDP, u32::from(len)) + sum(&bytes));
        udp.emit(&mut bytes);
        bytes
    }

    #[test]
    fn a_computed_zero_is_sent_as_ones() {
        // The payload word that makes everything before it add up to 0xffff.
        let mut bytes = datagram(&[0, 0]);
        let word = u16::from_be_bytes([bytes[6], bytes[7]]);
        bytes = datagram(&word.to_be_bytes());
        assert_eq!(bytes[6..8], [0xff, 0xff]);
        assert_eq!(verify(A, B, &bytes), Checksum::Good);
    }

    #[test]
    fn the_four_answers() {
        let mut bytes = datagram(b"hello");
        assert_eq!(verify(A, B, &bytes), Checksum::Good);
        bytes[9] ^= 1;
        assert_eq!(verify(A, B, &bytes), Checksum::Bad);
        let len = bytes.len() as u16;
        bytes[6..8].copy_from_slice(&fold(pseudo_sum(A, B, ip::UDP, u32::from(len))).to_be_bytes());
        assert_eq!(verify(A, B, &bytes), Checksum::NotFilledIn);
        bytes[6..8].fill(0);
        assert_eq!(verify(A, B, &bytes), Checksum::Absent);
        let v6 = IpAddr::V6(std::net::Ipv6Addr::LOCALHOST);
        assert_eq!(verify(v6, v6, &bytes), Checksum::Bad);
    }

    proptest! {
        #[test]
        fn any_changed_bit_is_seen(payload in proptest::collection::vec(any::<u8>(), 0..100), at: prop::sample::Index, bit in 0u8..8) {
            let mut bytes = datagram(&payload);
            prop_assert_eq!(verify(A, B, &bytes), Checksum::Good);
            let at = at.index(bytes.len());
            bytes[at] ^= 1u8 << bit;
            prop_assert_ne!(verify(A, B, &bytes), Checksum::Good);
        }

        #[test]
        fn no_bytes_panic(bytes in proptest::collection::vec(any::<u8>(), 0..80)) {
            verify(A, B, &bytes);
        }
    }
}
