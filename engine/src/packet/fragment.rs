//! IP fragments of datagrams that are longer than the MTU allows (RFC 791 §3.2, RFC 8200 §4.5).
#![forbid(unsafe_code)]

use super::checksum::finish;
use super::frame::{Headers, V4_CHECK, V4_TOTAL, V6_PAYLOAD};
use super::ip;
use super::udp;

/// IPv6 fragment header, bytes.
pub const V6_HEADER: usize = 8;

/// Its number as a next header (RFC 8200 §4.5), and where that of the IPv6 header lies.
const V6_FRAGMENT: u8 = 44;
const V6_NEXT: usize = 6;

/// Where identification and flags with offset lie in an IPv4 header, and those flags.
const V4_IDENTIFICATION: std::ops::Range<usize> = 4..6;
const V4_FRAGMENT: std::ops::Range<usize> = 6..8;
const V4_DONT: u16 = 0x4000;
const V4_MORE: u16 = 0x2000;

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

    /// IP header of a fragment, bytes; with IPv6's fragment header.
    pub fn fragment_header(self) -> usize {
        self.header() + if self.ipv6 { V6_HEADER } else { 0 }
    }

    /// Most bytes of a datagram, whose header counts, in one fragment but the last; at least one unit, however small the MTU.
    pub fn room(self) -> usize {
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

impl Headers {
    /// What cuts their datagrams for an MTU in bytes.
    pub fn cutter(&self, mtu: u32) -> Cutter {
        Cutter::new(!self.v4, mtu)
    }

    /// Writes what stands before `piece` of a datagram to the start of `frame`: Ethernet and IP header, and IPv6's fragment header. The pieces of a
    /// datagram have one `identification`, of which IPv4 has room for the lower half. Returns how long they are.
    ///
    /// # Panics
    /// When `frame` is shorter than that, or the piece too long for an IP packet.
    #[inline]
    pub fn write_fragment(&self, frame: &mut [u8], piece: Piece, identification: u32) -> usize {
        let ip_at = self.link_len();
        let ip_len = if self.v4 { ip::V4_LEN } else { ip::V6_LEN };
        let behind = ip_at + ip_len;
        frame[..behind].copy_from_slice(&self.bytes[..behind]);
        let (before, extension) = frame.split_at_mut(behind);
        let ip = &mut before[ip_at..];
        if self.v4 {
            let total = piece.len.checked_add(ip::V4_LEN as u16).expect("a piece that fits an IP packet");
            let fragment = (piece.offset / UNIT as u16) | if piece.more { V4_MORE } else { 0 };
            let identification = identification as u16;
            ip[V4_TOTAL].copy_from_slice(&total.to_be_bytes());
            ip[V4_IDENTIFICATION].copy_from_slice(&identification.to_be_bytes());
            ip[V4_FRAGMENT].copy_from_slice(&fragment.to_be_bytes());
            // Of a whole datagram, and so with the flag that forbids to cut it.
            let sum = self.ip_sum - u64::from(V4_DONT)
                + [total, identification, fragment].into_iter().map(u64::from).sum::<u64>();
            ip[V4_CHECK].copy_from_slice(&finish(sum).to_be_bytes());
            return behind;
        }
        let payload = piece.len.checked_add(V6_HEADER as u16).expect("a piece that fits an IP packet");
        ip[V6_PAYLOAD].copy_from_slice(&payload.to_be_bytes());
        ip[V6_NEXT] = V6_FRAGMENT;
        // A multiple of the unit, whose lower bits are for flags.
        let fragment = piece.offset | u16::from(piece.more);
        let extension = &mut extension[..V6_HEADER];
        extension[..2].copy_from_slice(&[ip::UDP, 0]);
        extension[2..4].copy_from_slice(&fragment.to_be_bytes());
        extension[4..].copy_from_slice(&identification.to_be_bytes());
        behind + V6_HEADER
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
