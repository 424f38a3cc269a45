//! Ethernet headers with up to two VLAN tags (IEEE 802.3 §3.2, 802.1Q §9.6).

/// Header without tags, bytes.
pub const HEADER_LEN: usize = 14;
/// One VLAN tag, bytes.
pub const TAG_LEN: usize = 4;
/// Frame check sequence, which user space never sees, bytes.
pub const FCS_LEN: usize = 4;
/// Shortest frame without its FCS, bytes; shorter ones are padded with zeros.
pub const MIN_LEN: usize = 60;
/// Highest usable VLAN identifier (802.1Q table 9-2 reserves 4095).
pub const MAX_VLAN: u16 = 4094;

/// EtherType of IPv4.
pub const IPV4: u16 = 0x0800;
/// EtherType of IPv6.
pub const IPV6: u16 = 0x86dd;
/// EtherType of an 802.1Q tag.
const C_TAG: u16 = 0x8100;
/// EtherType of an 802.1ad service tag.
const S_TAG: u16 = 0x88a8;

/// An Ethernet header.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Ethernet {
    /// Destination address.
    pub destination: [u8; 6],
    /// Source address.
    pub source: [u8; 6],
    /// VLAN identifier of the outermost tag; emitted as 802.1Q with priority 0.
    pub vlan: Option<u16>,
    /// What follows.
    pub ethertype: u16,
}

impl Ethernet {
    /// Bytes that [`emit`](Self::emit) writes.
    pub fn emitted_len(&self) -> usize {
        HEADER_LEN + if self.vlan.is_some() { TAG_LEN } else { 0 }
    }

    /// Writes the header to the start of `frame`.
    ///
    /// # Panics
    /// When `frame` is shorter than [`emitted_len`](Self::emitted_len).
    pub fn emit(&self, frame: &mut [u8]) {
        frame[0..6].copy_from_slice(&self.destination);
        frame[6..12].copy_from_slice(&self.source);
        let mut at = 12;
        if let Some(vlan) = self.vlan {
            frame[at..at + 2].copy_from_slice(&C_TAG.to_be_bytes());
            frame[at + 2..at + 4].copy_from_slice(&(vlan & 0x0fff).to_be_bytes());
            at += TAG_LEN;
        }
        frame[at..at + 2].copy_from_slice(&self.ethertype.to_be_bytes());
    }

    /// Reads the header at the start of `frame`; also returns its length, with its tags. `None` when the frame ends in it or
    /// has more than two tags.
    #[inline]
    pub fn parse(frame: &[u8]) -> Option<(Self, usize)> {
        let addresses: &[u8; 12] = frame.first_chunk()?;
        let mut at = addresses.len();
        let mut vlan = None;
        let word = |at: usize| Some(u16::from_be_bytes(*frame.get(at..)?.first_chunk()?));
        let mut ethertype = word(at)?;
        for _ in 0..2 {
            if ethertype != C_TAG && ethertype != S_TAG {
                break;
            }
            let control = word(at + 2)?;
            vlan = vlan.or(Some(control & 0x0fff));
            at += TAG_LEN;
            ethertype = word(at)?;
        }
        if ethertype == C_TAG || ethertype == S_TAG {
            return None;
        }
        let (destination, source) = addresses.split_at(6);
        let header = Self {
            destination: destination.try_into().expect("split at six"),
            source: source.try_into().expect("twelve less six"),
            vlan,
            ethertype,
        };
        Some((header, at + 2))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn two_tags_are_skipped_and_three_are_too_many() {
        let mut frame = vec![0; 12];
        frame.extend([0x88, 0xa8, 0, 7, 0x81, 0, 0, 9, 8, 0]);
        let (header, len) = Ethernet::parse(&frame).unwrap();
        assert_eq!((header.vlan, header.ethertype, len), (Some(7), IPV4, 22));
        frame.splice(12..12, [0x81, 0, 0, 1]);
        assert_eq!(Ethernet::parse(&frame), None);
    }

    proptest! {
        #[test]
        fn reads_what_it_wrote(destination: [u8; 6], source: [u8; 6], vlan in proptest::option::of(0u16..4096), six: bool) {
            let header = Ethernet { destination, source, vlan, ethertype: if six { IPV6 } else { IPV4 } };
            let mut bytes = vec![0xaa; header.emitted_len()];
            header.emit(&mut bytes);
            prop_assert_eq!(Ethernet::parse(&bytes), Some((header, bytes.len())));
            prop_assert_eq!(Ethernet::parse(&bytes[..bytes.len() - 1]), None);
        }
    }
}
