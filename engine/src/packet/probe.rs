//! The probe header: 18 bytes at the start of every payload that wirerate sends, which is all the
//! payload that a minimum Ethernet frame with IPv4 and UDP has.
//!
//! ```text
//! bytes  0..2   check      makes the ones' complement sum of the header CHECK_SUM
//!        2      version (high 4 bits) and kind (low 4 bits)
//!        3..6   run        drawn at random for each start of a sender
//!        6..8   stream
//!        8..13  sequence   counts from 0, low 40 bits
//!       13..18  time       CLOCK_TAI in ns when the packet was handed over, low 40 bits (18 minutes)
//! ```
//!
//! All big-endian. Because every header has the same sum, the UDP checksum of a stream's packets of one
//! size is a constant: it is computed once and never touched again, over IPv4 and IPv6. And because
//! the sum is known, every receiver can tell a probe from anyone else's datagram.

use super::checksum::{fold, sum};

/// Length of the probe header in bytes.
pub const LEN: usize = 18;

/// What the nine 16-bit words of every probe header add up to in ones' complement ("wr").
pub const CHECK_SUM: u16 = 0x7772;

/// The version this code speaks.
pub const VERSION: u8 = 1;

/// Payload bytes that an end-of-stream message needs.
pub const END_LEN: usize = LEN + 32;

const FORTY_BITS: u64 = (1 << 40) - 1;
/// Highest run number: 24 bits.
pub const MAX_RUN: u32 = (1 << 24) - 1;

/// What a probe packet is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// One packet of the stream.
    Data,
    /// The stream has ended; an [`End`] follows the header.
    End,
}

/// The fields of a probe header. Sequence and time are the low 40 bits as they stand in the packet;
/// [`unwrap40`] makes them whole.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Probe {
    /// What it is.
    pub kind: Kind,
    /// The sender's run, 24 bits.
    pub run: u32,
    /// The stream within the run.
    pub stream: u16,
    /// Low 40 bits of the sequence number. In an end-of-stream message: of the next number.
    pub sequence: u64,
    /// Low 40 bits of CLOCK_TAI in ns.
    pub time: u64,
}

/// Why a payload is not a probe packet.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum NotAProbe {
    /// Shorter than the header.
    Short,
    /// The check does not fit.
    Check,
    /// The check fits; version or kind are not ones that this code knows.
    Version,
}

impl Probe {
    /// Writes the header into the first [`LEN`] bytes of `payload`.
    ///
    /// # Panics
    /// When `payload` is shorter than [`LEN`].
    #[inline]
    pub fn emit(&self, payload: &mut [u8]) {
        let header: &mut [u8; LEN] = (&mut payload[..LEN]).try_into().expect("sliced to the length");
        let kind = match self.kind {
            Kind::Data => 0,
            Kind::End => 1,
        };
        header[2] = VERSION << 4 | kind;
        header[3..6].copy_from_slice(&self.run.to_be_bytes()[1..]);
        header[6..8].copy_from_slice(&self.stream.to_be_bytes());
        header[8..13].copy_from_slice(&self.sequence.to_be_bytes()[3..]);
        header[13..18].copy_from_slice(&self.time.to_be_bytes()[3..]);
        let rest = fold(sum(&header[2..]));
        // Subtraction in ones' complement is addition of the complement.
        let check = fold(u64::from(CHECK_SUM) + u64::from(!rest));
        header[0..2].copy_from_slice(&check.to_be_bytes());
    }

    /// Reads the header at the start of `payload`.
    ///
    /// # Errors
    /// Says what does not fit; a payload that fails here was not written by this version of wirerate, or was
    /// changed on the way.
    #[inline]
    pub fn parse(payload: &[u8]) -> Result<Self, NotAProbe> {
        let header: &[u8; LEN] = payload.first_chunk().ok_or(NotAProbe::Short)?;
        if fold(sum(header)) != CHECK_SUM {
            return Err(NotAProbe::Check);
        }
        Self::fields(header)
    }

    /// Reads the fields without looking at the check: for telling a corrupt probe from a foreign packet.
    ///
    /// # Errors
    /// When the payload is short, or version and kind are unknown.
    pub fn parse_unchecked(payload: &[u8]) -> Result<Self, NotAProbe> {
        Self::fields(payload.first_chunk().ok_or(NotAProbe::Short)?)
    }

    #[inline]
    fn fields(header: &[u8; LEN]) -> Result<Self, NotAProbe> {
        let kind = match header[2] {
            b if b == VERSION << 4 => Kind::Data,
            b if b == VERSION << 4 | 1 => Kind::End,
            _ => return Err(NotAProbe::Version),
        };
        let forty = |b: &[u8]| u64::from_be_bytes([0, 0, 0, b[0], b[1], b[2], b[3], b[4]]);
        Ok(Self {
            kind,
            run: u32::from_be_bytes([0, header[3], header[4], header[5]]),
            stream: u16::from_be_bytes([header[6], header[7]]),
            sequence: forty(&header[8..13]),
            time: forty(&header[13..18]),
        })
    }
}

/// What a sender says when a stream has ended, after the probe header.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct End {
    /// Sequence numbers used: 0 to `issued - 1`.
    pub issued: u64,
    /// How many of those the sender's own host refused, so that they never left it.
    pub failed: u64,
    /// CLOCK_TAI in ns of the first packet.
    pub first_ns: u64,
    /// CLOCK_TAI in ns of the last packet.
    pub last_ns: u64,
}

impl End {
    /// Writes the fields behind the header of a payload of at least [`END_LEN`] bytes.
    ///
    /// # Panics
    /// When `payload` is shorter than [`END_LEN`].
    pub fn emit(&self, payload: &mut [u8]) {
        for (place, field) in payload[LEN..END_LEN].chunks_exact_mut(8).zip([
            self.issued,
            self.failed,
            self.first_ns,
            self.last_ns,
        ]) {
            place.copy_from_slice(&field.to_be_bytes());
        }
    }

    /// Reads the fields behind the header; `None` when the payload is too short.
    pub fn parse(payload: &[u8]) -> Option<Self> {
        let body: &[u8; END_LEN - LEN] = payload.get(LEN..)?.first_chunk()?;
        let field = |n: usize| u64::from_be_bytes(body[n * 8..n * 8 + 8].try_into().expect("eight bytes"));
        Some(Self { issued: field(0), failed: field(1), first_ns: field(2), last_ns: field(3) })
    }
}

/// The whole number nearest to `near` whose low 40 bits are `low`.
#[inline]
pub fn unwrap40(low: u64, near: u64) -> u64 {
    const HALF: u64 = 1 << 39;
    let candidate = (near & !FORTY_BITS) | (low & FORTY_BITS);
    if candidate > near && candidate - near > HALF {
        candidate.saturating_sub(FORTY_BITS + 1)
    } else if near > candidate && near - candidate > HALF {
        candidate.saturating_add(FORTY_BITS + 1)
    } else {
        candidate
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn probe() -> impl Strategy<Value = Probe> {
        (any::<bool>(), 0..=MAX_RUN, any::<u16>(), 0..=FORTY_BITS, 0..=FORTY_BITS).prop_map(
            |(end, run, stream, sequence, time)| Probe {
                kind: if end { Kind::End } else { Kind::Data },
                run,
                stream,
                sequence,
                time,
            },
        )
    }

    proptest! {
        #[test]
        fn every_header_reads_back_and_has_the_one_sum(p in probe()) {
            let mut bytes = [0xaa; LEN];
            p.emit(&mut bytes);
            prop_assert_eq!(fold(sum(&bytes)), CHECK_SUM);
            prop_assert_eq!(Probe::parse(&bytes), Ok(p));
        }

        #[test]
        fn any_single_changed_byte_is_seen(p in probe(), at in 0..LEN, flip in 1u8..=255) {
            let mut bytes = [0; LEN];
            p.emit(&mut bytes);
            bytes[at] ^= flip;
            prop_assert!(Probe::parse(&bytes) != Ok(p));
            prop_assert!(Probe::parse(&bytes).is_err());
        }

        #[test]
        fn no_bytes_panic(bytes in proptest::collection::vec(any::<u8>(), 0..80)) {
            let _ = Probe::parse(&bytes);
            let _ = End::parse(&bytes);
        }

        #[test]
        fn unwrapping_finds_the_number_again(whole in (1u64 << 40)..(1 << 60), off in -(1i64 << 38)..(1 << 38)) {
            prop_assert_eq!(unwrap40(whole & FORTY_BITS, whole.wrapping_add_signed(off)), whole);
        }
    }

    #[test]
    fn the_bytes_on_the_wire() {
        let mut bytes = [0; LEN];
        let p = Probe { kind: Kind::Data, run: 0x01_0203, stream: 0x0405, sequence: 0x06, time: 0x07 };
        p.emit(&mut bytes);
        assert_eq!(bytes[2..], [0x10, 1, 2, 3, 4, 5, 0, 0, 0, 0, 6, 0, 0, 0, 0, 7]);
    }

    #[test]
    fn all_zeros_is_not_a_probe() {
        assert_eq!(Probe::parse(&[0; 64]), Err(NotAProbe::Check));
    }

    #[test]
    fn end_reads_back() {
        let end = End { issued: 1_000_000, failed: 3, first_ns: 5, last_ns: u64::MAX };
        let mut bytes = [0; END_LEN];
        end.emit(&mut bytes);
        assert_eq!(End::parse(&bytes), Some(end));
        assert_eq!(End::parse(&bytes[..END_LEN - 1]), None);
    }
}
