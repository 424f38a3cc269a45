//! IP fragments of datagrams that are longer than the MTU allows (RFC 791 §3.2, RFC 8200 §4.5).
#![forbid(unsafe_code)]

use super::ip;
use super::udp;

/// IPv6 fragment header, bytes.
pub const V6_HEADER: usize = 8;

/// All fragments but the last carry a multiple of this, which offsets count in.
const UNIT: usize = 8;

/// Cuts datagrams for one IP version and MTU.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Cutter {
    ipv6: bool,
    mtu: u32,
}

/// A piece of a datagram: UDP header and payload, from `offset` on.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Piece {
    /// Bytes of the datagram before it.
    pub offset: u16,
    /// Its bytes.
    pub len: u16,
    /// Whether others follow.
    pub more: bool,
}

impl Cutter {
    /// For IPv6, or IPv4 without options, over links of this MTU in bytes.
    pub fn new(ipv6: bool, mtu: u32) -> Self {
        Self { ipv6, mtu }
    }

    fn header(self) -> usize {
        if self.ipv6 { ip::V6_LEN } else { ip::V4_LEN }
    }

    /// IP header of a fragment, bytes.
    pub fn fragment_header(self) -> usize {
        self.header() + if self.ipv6 { V6_HEADER } else { 0 }
    }

    /// Most bytes of a datagram in one fragment but the last; at least one unit, however small the MTU.
    fn room(self) -> usize {
        let room = (self.mtu as usize).saturating_sub(self.fragment_header());
        (room / UNIT * UNIT).max(UNIT)
    }

    /// Whether a datagram with `payload_len` bytes of UDP payload leaves whole.
    #[inline]
    pub fn fits(self, payload_len: u16) -> bool {
        self.header() + udp::HEADER_LEN + usize::from(payload_len) <= self.mtu as usize
    }

    /// IP packets that a datagram with `payload_len` bytes of UDP payload leaves in.
    #[inline]
    pub fn packets(self, payload_len: u16) -> u64 {
        if self.fits(payload_len) { 1 } else { self.pieces(payload_len).count() as u64 }
    }

    /// The fragments of a datagram with `payload_len` bytes of UDP payload, which does not [fit](Self::fits).
    pub fn pieces(self, payload_len: u16) -> impl Iterator<Item = Piece> {
        let total = udp::HEADER_LEN + usize::from(payload_len);
        // The last fragment need not be a multiple of the unit.
        let last_room = (self.mtu as usize).saturating_sub(self.fragment_header()).max(UNIT);
        let room = self.room();
        let mut offset = 0;
        std::iter::from_fn(move || {
            let left = total - offset;
            if left == 0 {
                return None;
            }
            let len = if left <= last_room { left } else { room };
            // A datagram of more than 65,535 bytes does not exist: the payload is at most 65,527.
            let piece = Piece { offset: offset as u16, len: len as u16, more: len < left };
            offset += len;
            Some(piece)
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn two_kilobytes_are_two_fragments() {
        let v4 = Cutter::new(false, 1500);
        assert!(v4.fits(1472) && !v4.fits(1473));
        let pieces = v4.pieces(2000).collect::<Vec<_>>();
        assert_eq!(
            pieces,
            [Piece { offset: 0, len: 1480, more: true }, Piece { offset: 1480, len: 528, more: false }]
        );
        assert_eq!((v4.packets(1472), v4.packets(1473), v4.packets(65_507)), (1, 2, 45));
        let v6 = Cutter::new(true, 1500);
        assert!(v6.fits(1452) && !v6.fits(1453));
        let pieces = v6.pieces(1453).collect::<Vec<_>>();
        assert_eq!(
            pieces,
            [Piece { offset: 0, len: 1448, more: true }, Piece { offset: 1448, len: 13, more: false }]
        );
    }

    proptest! {
        #[test]
        fn pieces_cover_the_datagram_once(payload in 0u16..=65_507, ipv6: bool, mtu in 0u32..70_000) {
            let cutter = Cutter::new(ipv6, mtu);
            let mut at = 0;
            let mut ended = false;
            for piece in cutter.pieces(payload) {
                prop_assert!(!ended);
                prop_assert_eq!(usize::from(piece.offset), at);
                prop_assert_eq!(at % UNIT, 0);
                prop_assert!(piece.len > 0);
                if mtu >= 1280 {
                    prop_assert!(cutter.fragment_header() + usize::from(piece.len) <= mtu as usize);
                }
                at += usize::from(piece.len);
                ended = !piece.more;
            }
            prop_assert!(ended);
            prop_assert_eq!(at, usize::from(payload) + udp::HEADER_LEN);
        }
    }
}
