//! MPEG-2 transport stream packets (ISO/IEC 13818-1 §2.4.3), and of the program specific information (§2.4.4) what fits one packet.
//!
//! ```text
//! byte 0     0x47
//!      1..3  transport error, payload unit start, priority, PID 13
//!      3     scrambling 2, adaptation field, payload, continuity counter 4
//!      4..   adaptation field: length, flags, PCR 33 + reserved 6 + extension 9, …; then payload
//! ```

/// Every packet's length, bytes.
pub const LEN: usize = 188;

/// The first byte of every packet.
pub const SYNC: u8 = 0x47;

/// PID of the program association table.
pub const PAT: u16 = 0;

/// PID of packets that hold nothing.
pub const NULL: u16 = 0x1fff;

/// Units of the program clock reference in a second, Hz.
pub const PCR_HZ: u64 = 27_000_000;

/// The PCR begins anew after this many units: 2^33 times 300.
pub const PCR_WRAP: u64 = (1 << 33) * 300;

/// A transport stream packet.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Ts<'a> {
    /// A demodulator or receiver before us could not correct it.
    pub transport_error: bool,
    /// A section or an elementary packet begins in it.
    pub unit_start: bool,
    /// Packet identifier, 13 bits.
    pub pid: u16,
    /// Its payload is scrambled.
    pub scrambled: bool,
    /// Counts the packets of a PID that have a payload, 4 bits.
    pub continuity: u8,
    /// The counter may jump here, and the clock.
    pub discontinuity: bool,
    /// Program clock reference, in units of [`PCR_HZ`].
    pub pcr: Option<u64>,
    /// What follows the adaptation field; absent when the packet has none.
    pub payload: Option<&'a [u8]>,
}

/// Why 188 bytes are no packet.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum NotTs {
    /// They do not begin with [`SYNC`].
    Sync,
    /// The adaptation field is longer than the packet.
    Adaptation,
}

impl<'a> Ts<'a> {
    /// Reads a packet.
    ///
    /// # Errors
    /// Says what does not fit.
    #[inline]
    pub fn parse(packet: &'a [u8; LEN]) -> Result<Self, NotTs> {
        if packet[0] != SYNC {
            return Err(NotTs::Sync);
        }
        let (has_adaptation, has_payload) = (packet[3] & 0x20 != 0, packet[3] & 0x10 != 0);
        let (mut rest, mut discontinuity, mut pcr) = (&packet[4..], false, None);
        if has_adaptation {
            let (field, behind) =
                rest[1..].split_at_checked(usize::from(rest[0])).ok_or(NotTs::Adaptation)?;
            if let Some(flags) = field.first() {
                discontinuity = flags & 0x80 != 0;
                if flags & 0x10 != 0 {
                    pcr = Some(read_pcr(
                        field.get(1..).and_then(<[u8]>::first_chunk).ok_or(NotTs::Adaptation)?,
                    ));
                }
            }
            rest = behind;
        }
        Ok(Self {
            transport_error: packet[1] & 0x80 != 0,
            unit_start: packet[1] & 0x40 != 0,
            pid: u16::from_be_bytes([packet[1] & 0x1f, packet[2]]),
            scrambled: packet[3] & 0xc0 != 0,
            continuity: packet[3] & 0x0f,
            discontinuity,
            pcr,
            payload: has_payload.then_some(rest),
        })
    }

    /// The section that begins in the packet, as far as the packet has it: from its table identifier on.
    fn section(&self) -> Option<&'a [u8]> {
        let payload = self.payload.filter(|_| self.unit_start)?;
        let (&pointer, rest) = payload.split_first()?;
        let section = rest.get(usize::from(pointer)..)?;
        let len = usize::from(u16::from_be_bytes([*section.get(1)? & 0x0f, *section.get(2)?]));
        Some(&section[..section.len().min(3 + len)])
    }

    /// The programs of a program association table that begins in the packet: number and PID of its map. Program 0 leads to the network's
    /// information.
    pub fn programs(&self) -> Option<impl Iterator<Item = (u16, u16)> + 'a> {
        let section = self.section().filter(|section| section[0] == 0x00 && section.len() >= 12)?;
        // Four bytes of check at the end.
        let entries = section[8..section.len() - 4].chunks_exact(4);
        Some(entries.map(|e| (u16::from_be_bytes([e[0], e[1]]), u16::from_be_bytes([e[2] & 0x1f, e[3]]))))
    }

    /// The PID of a program's clock, where a program map table begins in the packet; 0x1fff is none.
    pub fn clock_pid(&self) -> Option<u16> {
        let section = self.section().filter(|section| section[0] == 0x02 && section.len() >= 10)?;
        Some(u16::from_be_bytes([section[8] & 0x1f, section[9]]))
    }
}

fn read_pcr(bytes: &[u8; 6]) -> u64 {
    let word = u64::from(u32::from_be_bytes([bytes[0], bytes[1], bytes[2], bytes[3]]));
    let base = word << 1 | u64::from(bytes[4] >> 7);
    // An extension above 299 is none, and must not lead out of the range.
    (base * 300 + u64::from(u16::from_be_bytes([bytes[4] & 1, bytes[5]]))) % PCR_WRAP
}

/// Packets in `payload` when it is nothing but transport stream packets that begin with [`SYNC`]; 0 when it is not.
pub fn aligned_packets(payload: &[u8]) -> usize {
    let (packets, rest) = payload.as_chunks::<LEN>();
    if rest.is_empty() && packets.iter().all(|packet| packet[0] == SYNC) { packets.len() } else { 0 }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn header_adaptation_field_and_clock() {
        let mut packet = [0xff; LEN];
        packet[..4].copy_from_slice(&[SYNC, 0x41, 0x23, 0x3a]);
        // Base 2^32 + 3, extension 299.
        packet[4..12].copy_from_slice(&[7, 0x90, 0x80, 0, 0, 1, 0xff, 0x2b]);
        let ts = Ts::parse(&packet).unwrap();
        assert_eq!((ts.pid, ts.continuity, ts.unit_start, ts.transport_error), (0x123, 10, true, false));
        assert_eq!(
            (ts.pcr, ts.discontinuity, ts.scrambled),
            (Some(((1 << 32) + 3) * 300 + 299), true, false)
        );
        assert_eq!(ts.payload.map(<[u8]>::len), Some(LEN - 12));
        packet[4] = 184;
        assert_eq!(Ts::parse(&packet), Err(NotTs::Adaptation));
        packet[4] = 183;
        assert_eq!(Ts::parse(&packet).unwrap().payload, Some(&[][..]));
        packet[0] = 0x48;
        assert_eq!(Ts::parse(&packet), Err(NotTs::Sync));
    }

    #[test]
    fn tables_of_one_packet() {
        let mut packet = [0xff; LEN];
        packet[..4].copy_from_slice(&[SYNC, 0x40, 0, 0x10]);
        // Pointer; table 0, length 17, stream 1, version, section 0 of 0; programs 0 and 1; check.
        packet[4..25]
            .copy_from_slice(&[0, 0, 0xb0, 17, 0, 1, 0xc1, 0, 0, 0, 0, 0xe0, 16, 0, 1, 0xf0, 0, 1, 2, 3, 4]);
        let ts = Ts::parse(&packet).unwrap();
        assert_eq!(ts.programs().unwrap().collect::<Vec<_>>(), [(0, 16), (1, 0x1000)]);
        assert_eq!(ts.clock_pid(), None);
        packet[4..15].copy_from_slice(&[0, 2, 0xb0, 18, 0, 1, 0xc1, 0, 0, 0xe1, 0]);
        let ts = Ts::parse(&packet).unwrap();
        assert_eq!((ts.clock_pid(), ts.programs().is_none()), (Some(0x100), true));
    }

    #[test]
    fn whole_packets_in_sync() {
        let mut bytes = vec![0; 7 * LEN];
        (0..7).for_each(|n| bytes[n * LEN] = SYNC);
        assert_eq!(aligned_packets(&bytes), 7);
        assert_eq!(aligned_packets(&bytes[..7 * LEN - 1]), 0);
        bytes[LEN] = 0;
        assert_eq!((aligned_packets(&bytes), aligned_packets(&[])), (0, 0));
    }

    proptest! {
        #[test]
        fn no_bytes_panic(bytes in prop::collection::vec(any::<u8>(), LEN), flags: u8) {
            let mut packet: [u8; LEN] = bytes.try_into().unwrap();
            packet[0] = SYNC;
            for third in [packet[3], flags | 0x30, flags & 0xcf | 0x10] {
                packet[3] = third;
                packet[1] |= 0x40;
                for table in [packet[5], 0, 2] {
                    packet[5] = table;
                    if let Ok(ts) = Ts::parse(&packet) {
                        ts.programs().map(Iterator::count);
                        ts.clock_pid();
                    }
                }
            }
        }
    }
}
