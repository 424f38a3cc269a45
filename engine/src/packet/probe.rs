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

use super::checksum::fold;
use crate::clock::Claim;

/// Length of the probe header in bytes.
pub const LEN: usize = 18;

/// What the nine 16-bit words of every probe header add up to in ones' complement ("wr").
pub const CHECK_SUM: u16 = 0x7772;

/// The version this code speaks.
pub const VERSION: u8 = 1;

/// Payload bytes that a message needs at least.
pub const END_LEN: usize = LEN + 32;

/// Payload bytes of the messages that this code sends.
pub const MESSAGE_LEN: usize = END_LEN + 32;

const FORTY_BITS: u64 = (1 << 40) - 1;
/// Highest run number: 24 bits.
pub const MAX_RUN: u32 = (1 << 24) - 1;

/// What a probe packet is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// One packet of the stream.
    Data,
    /// The stream has ended; a [`Message`] follows the header.
    End,
    /// The stream goes on, or is about to begin; a [`Message`] follows the header.
    Announce,
    /// When packets of the stream left; pairs follow the header ([`follow_up`](super::follow_up)).
    FollowUp,
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
    /// Low 40 bits of the sequence number. In a message: of the next number.
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
        self.words().write(header);
    }

    /// The header with its check.
    #[inline]
    fn words(&self) -> Words {
        let kind = match self.kind {
            Kind::Data => 0,
            Kind::End => 1,
            Kind::Announce => 2,
            Kind::FollowUp => 3,
        };
        let fields = u64::from(VERSION << 4 | kind) << 40
            | u64::from(self.run & MAX_RUN) << 16
            | u64::from(self.stream);
        let mut words = Words {
            first: fields,
            second: self.sequence << 24 | (self.time & FORTY_BITS) >> 16,
            third: self.time as u16,
        };
        // Subtraction in ones' complement is addition of the complement.
        let check = fold(u64::from(CHECK_SUM) + u64::from(!words.sum()));
        words.first |= u64::from(check) << 48;
        words
    }

    /// Reads the header at the start of `payload`.
    ///
    /// # Errors
    /// Says what does not fit; a payload that fails here was not written by this version of wirerate, or was
    /// changed on the way.
    #[inline]
    pub fn parse(payload: &[u8]) -> Result<Self, NotAProbe> {
        let words = Words::read(payload.first_chunk().ok_or(NotAProbe::Short)?);
        if !words.is_checked() {
            return Err(NotAProbe::Check);
        }
        words.fields()
    }

    /// Reads the fields without looking at the check: for telling a corrupt probe from a foreign packet.
    ///
    /// # Errors
    /// When the payload is short, or version and kind are unknown.
    pub fn parse_unchecked(payload: &[u8]) -> Result<Self, NotAProbe> {
        Words::read(payload.first_chunk().ok_or(NotAProbe::Short)?).fields()
    }
}

/// A header as it stands in a packet: for comparing it with what it has to be, before its fields are read.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Header(Words);

impl Header {
    /// The first [`LEN`] bytes of `payload`; `None` when it is shorter.
    #[inline(always)]
    pub fn read(payload: &[u8]) -> Option<Self> {
        payload.first_chunk().map(|header| Self(Words::read(header)))
    }

    /// That of `probe`.
    #[inline]
    pub fn of(probe: &Probe) -> Self {
        Self(probe.words())
    }

    /// Whether the check fits.
    #[inline(always)]
    pub fn is_checked(self) -> bool {
        self.0.is_checked()
    }

    /// What is the same in all headers of a kind, run and stream, and tells them from all others. The low 16 bits are 0.
    #[inline(always)]
    pub fn constant(self) -> u64 {
        self.0.first << 16
    }

    /// See [`place`].
    #[inline(always)]
    pub fn place(self) -> u16 {
        place((self.0.first >> 16) as u32, self.0.first as u16)
    }

    /// Whether this is the sequence number.
    #[inline(always)]
    pub fn has_number(self, number: Number) -> bool {
        (self.0.second ^ number.0) >> 24 == 0
    }

    /// See [`time_bits`].
    #[inline(always)]
    pub fn time_bits(self) -> u64 {
        self.0.second << 40 | u64::from(self.0.third)
    }

    /// See [`Probe::time`].
    #[inline]
    pub fn time(self) -> u64 {
        (self.0.second & 0xff_ffff) << 16 | u64::from(self.0.third)
    }
}

/// A time of a header, its bits where reading them takes the least: each time has others.
#[inline]
pub fn time_bits(time: u64) -> u64 {
    time >> 16 << 40 | time & 0xffff
}

/// The sequence number that comes next, as headers have it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Number(u64);

impl Number {
    /// The low 40 bits of `number`.
    #[inline]
    pub fn new(number: u64) -> Self {
        Self(number << 24)
    }

    /// Goes on to the next.
    #[inline(always)]
    pub fn advance(&mut self) {
        self.0 = self.0.wrapping_add(1 << 24);
    }

    /// How many numbers there are from `earlier` on up to this one.
    #[inline]
    pub fn since(self, earlier: Self) -> u64 {
        self.0.wrapping_sub(earlier.0) >> 24
    }
}

/// A number by which to look for a stream: those of one run differ.
#[inline(always)]
pub fn place(run: u32, stream: u16) -> u16 {
    run as u16 ^ stream
}

/// A header in three numbers as they stand in it, big-endian.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Words {
    /// Check, version and kind, run, stream.
    first: u64,
    /// Sequence, and the upper 24 bits of the time.
    second: u64,
    /// The lower 16 bits of the time.
    third: u16,
}

impl Words {
    #[inline]
    fn read(header: &[u8; LEN]) -> Self {
        let eight = |at: usize| u64::from_be_bytes(header[at..at + 8].try_into().expect("eight bytes"));
        Self { first: eight(0), second: eight(8), third: u16::from_be_bytes([header[16], header[17]]) }
    }

    #[inline]
    fn write(self, header: &mut [u8; LEN]) {
        header[0..8].copy_from_slice(&self.first.to_be_bytes());
        header[8..16].copy_from_slice(&self.second.to_be_bytes());
        header[16..18].copy_from_slice(&self.third.to_be_bytes());
    }

    /// The ones' complement sum of the 16-bit words: that of wider words, folded.
    #[inline]
    fn sum(self) -> u16 {
        let (sum, carry) = self.first.overflowing_add(self.second);
        // With a carry the sum is small enough for one more.
        let sum = sum + u64::from(carry);
        fold((sum >> 32) + (sum & 0xffff_ffff) + u64::from(self.third))
    }

    /// Whether the sum is [`CHECK_SUM`]. Folding keeps the remainder modulo 0xffff, and no other sum has that of CHECK_SUM, so it is enough to ask for this: with the
    /// complement of CHECK_SUM added, none remains.
    #[inline]
    fn is_checked(self) -> bool {
        let (sum, carry) = self.first.overflowing_add(self.second);
        let (sum, again) =
            sum.overflowing_add(u64::from(carry) + u64::from(self.third) + u64::from(!CHECK_SUM));
        (sum + u64::from(again)).is_multiple_of(0xffff)
    }

    #[inline]
    fn fields(self) -> Result<Probe, NotAProbe> {
        const DATA: u8 = VERSION << 4;
        const END: u8 = VERSION << 4 | 1;
        const ANNOUNCE: u8 = VERSION << 4 | 2;
        const FOLLOW_UP: u8 = VERSION << 4 | 3;
        let kind = match (self.first >> 40) as u8 {
            DATA => Kind::Data,
            END => Kind::End,
            ANNOUNCE => Kind::Announce,
            FOLLOW_UP => Kind::FollowUp,
            _ => return Err(NotAProbe::Version),
        };
        Ok(Probe {
            kind,
            run: (self.first >> 16) as u32 & MAX_RUN,
            stream: self.first as u16,
            sequence: self.second >> 24,
            time: (self.second & 0xff_ffff) << 16 | u64::from(self.third),
        })
    }
}

/// The headers of consecutive packets of a stream with one and the same time, as a batch has them: from one to the next only
/// the sequence number and the check change, most often in one byte each. So writing one takes three stores, and comparing with one
/// that arrived three comparisons, which see as much as [`Probe::parse`] does.
#[derive(Debug, Clone, Copy)]
pub struct Series {
    /// [`Words::first`] and [`Words::second`] as they lie in memory, read little-endian.
    first: u64,
    second: u64,
    third: u16,
    /// How often stepping in one byte is still right.
    steps: u32,
}

impl Series {
    /// The series that begins with the header of `probe`.
    #[inline]
    pub fn new(probe: &Probe) -> Self {
        let words = probe.words();
        Self::at(words.first.swap_bytes(), words.second.swap_bytes(), words.third.to_be())
    }

    #[inline]
    fn at(first: u64, second: u64, third: u16) -> Self {
        // The lowest byte of the sequence number takes a carry after 255, and the upper byte of the check falls as the
        // other rises. A check of 0 is written 0xffff, so it is left alone near that, too.
        let until_carry = 0xff - (second >> 32) as u8;
        let until_borrow = (first as u8).saturating_sub(1);
        Self { first, second, third, steps: until_carry.min(until_borrow).into() }
    }

    /// Writes the header into the first [`LEN`] bytes of `payload` and goes on to the next.
    ///
    /// # Panics
    /// When `payload` is shorter than [`LEN`].
    #[inline]
    pub fn emit(&mut self, payload: &mut [u8]) {
        let header: &mut [u8; LEN] = (&mut payload[..LEN]).try_into().expect("sliced to the length");
        header[0..8].copy_from_slice(&self.first.to_le_bytes());
        header[8..16].copy_from_slice(&self.second.to_le_bytes());
        header[16..18].copy_from_slice(&self.third.to_le_bytes());
        self.advance();
    }

    /// Whether `payload` begins with the header; goes on to the next if it does.
    #[inline]
    pub fn take(&mut self, payload: &[u8]) -> bool {
        let Some(header) = payload.first_chunk::<LEN>() else { return false };
        let eight = |at: usize| u64::from_le_bytes(header[at..at + 8].try_into().expect("eight bytes"));
        let third = u16::from_le_bytes([header[16], header[17]]);
        if eight(0) != self.first || eight(8) != self.second || third != self.third {
            return false;
        }
        self.advance();
        true
    }

    /// How many headers this one has gone on since it was `earlier`.
    #[inline]
    pub fn since(&self, earlier: &Self) -> u64 {
        let number = |series: &Self| series.second.swap_bytes() >> 24;
        number(self).wrapping_sub(number(earlier)) & FORTY_BITS
    }

    #[inline]
    fn advance(&mut self) {
        let (steps, carries) = self.steps.overflowing_sub(1);
        if carries {
            let (first, second) = carried(self.first, self.second, self.third);
            *self = Self::at(first, second, self.third);
            return;
        }
        self.steps = steps;
        // The upper byte of the check is the first of the header, the lowest of the sequence number the fifth of its half.
        self.first -= 1;
        self.second += 1 << 32;
    }
}

/// The two halves of the header that follows the one given by a series' fields. Numbers in, numbers out: a series in a loop stays in registers.
#[cold]
fn carried(first: u64, second: u64, third: u16) -> (u64, u64) {
    let words = Words { first: first.swap_bytes(), second: second.swap_bytes(), third: u16::from_be(third) };
    match words.fields() {
        Ok(probe) => {
            let words = Probe { sequence: probe.sequence + 1, ..probe }.words();
            (words.first.swap_bytes(), words.second.swap_bytes())
        }
        Err(_) => unreachable!("made from a probe"),
    }
}

/// What a sender says when a stream has ended.
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

/// What follows the header of a message: eight big-endian numbers of 64 bits.
///
/// ```text
/// 0..4  issued, failed, first and last time, as they stand at the moment ([`End`])
/// 4..7  the sender's clock ([`Claim`]); its host 0: nothing is said
///    7  messages of this stream before its end: announcements and follow-ups
/// ```
///
/// A body that ends after the fourth is one of a sender that says nothing of its clock.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Message {
    /// What was sent: in all when the stream has ended, so far before.
    pub end: End,
    /// What the sender's clock is.
    pub clock: Option<Claim>,
    /// Messages sent on this stream that are not of its end.
    pub announced: u64,
}

impl Message {
    /// Writes the fields behind the header of a payload of at least [`MESSAGE_LEN`] bytes.
    ///
    /// # Panics
    /// When `payload` is shorter than [`MESSAGE_LEN`].
    pub fn emit(&self, payload: &mut [u8]) {
        let End { issued, failed, first_ns, last_ns } = self.end;
        let [host, state, error] = self.clock.map_or([0; 3], |claim| claim.words());
        let words = [issued, failed, first_ns, last_ns, host, state, error, self.announced];
        for (place, field) in payload[LEN..MESSAGE_LEN].chunks_exact_mut(8).zip(words) {
            place.copy_from_slice(&field.to_be_bytes());
        }
    }

    /// Reads the fields behind the header; `None` when the payload is too short.
    pub fn parse(payload: &[u8]) -> Option<Self> {
        let body = payload.get(LEN..)?;
        let field = |n: usize| body.get(n * 8..)?.first_chunk().map(|bytes| u64::from_be_bytes(*bytes));
        let end = End { issued: field(0)?, failed: field(1)?, first_ns: field(2)?, last_ns: field(3)? };
        let Some(announced) = field(7) else { return Some(Self { end, ..Self::default() }) };
        Some(Self { end, clock: Claim::of_words([field(4)?, field(5)?, field(6)?]), announced })
    }
}

/// The whole number nearest to `near` whose low 40 bits are `low`.
#[inline]
pub fn unwrap40(low: u64, near: u64) -> u64 {
    // The distance, its 40 bits made signed.
    let distance = (low.wrapping_sub(near) << 24).cast_signed() >> 24;
    near.saturating_add_signed(distance)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn probe() -> impl Strategy<Value = Probe> {
        (0..4usize, 0..=MAX_RUN, any::<u16>(), 0..=FORTY_BITS, 0..=FORTY_BITS).prop_map(
            |(kind, run, stream, sequence, time)| Probe {
                kind: [Kind::Data, Kind::End, Kind::Announce, Kind::FollowUp][kind],
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
            prop_assert_eq!(fold(super::super::checksum::sum(&bytes)), CHECK_SUM);
            prop_assert_eq!(Probe::parse(&bytes), Ok(p));
        }

        #[test]
        fn a_series_is_its_headers_one_by_one(p in probe(), near_the_end: bool, count in 1u64..1000) {
            let first = if near_the_end { FORTY_BITS - p.sequence % 1000 } else { p.sequence };
            let p = Probe { sequence: first, ..p };
            let (mut written, mut expected) = (Series::new(&p), Series::new(&p));
            for n in 0..count {
                let (mut one, mut other) = ([0xaa; LEN], [0; LEN]);
                Probe { sequence: (first + n) & FORTY_BITS, ..p }.emit(&mut one);
                written.emit(&mut other);
                prop_assert_eq!(one, other, "header {}", n);
                for at in 0..LEN {
                    one[at] ^= 1 << (n % 8);
                    prop_assert!(!expected.take(&one), "header {} changed in byte {}", n, at);
                    one[at] ^= 1 << (n % 8);
                }
                prop_assert!(!expected.take(&one[..LEN - 1]));
                prop_assert!(expected.take(&one), "header {}", n);
                prop_assert_eq!(expected.since(&Series::new(&p)), n + 1);
            }
        }

        #[test]
        fn a_header_is_compared_as_its_fields_are(p in probe(), q in probe(), same: bool, number: u64) {
            let q = if same { Probe { sequence: q.sequence, ..p } } else { q };
            let [a, b] = [p, q].map(|probe| Header::of(&probe));
            let mut bytes = [0; LEN];
            p.emit(&mut bytes);
            prop_assert_eq!(Header::read(&bytes), Some(a));
            prop_assert!(a.is_checked());
            let fields = |p: &Probe| (p.kind, p.run, p.stream);
            prop_assert_eq!(a.constant() == b.constant(), fields(&p) == fields(&q));
            prop_assert_eq!(a.place(), place(p.run, p.stream));
            prop_assert_eq!(a.time(), p.time);
            prop_assert_eq!(a.time_bits() == b.time_bits(), p.time == q.time);
            prop_assert_eq!(a.time_bits(), time_bits(p.time));
            let mut next = Number::new(number);
            (0..3).for_each(|_| next.advance());
            let third = number.wrapping_add(3);
            prop_assert_eq!(next, Number::new(third));
            prop_assert_eq!(next.since(Number::new(number)), 3);
            prop_assert_eq!(a.has_number(next), p.sequence == third & FORTY_BITS);
            prop_assert!(a.has_number(Number::new(p.sequence)));
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
        fn no_bytes_panic(bytes in proptest::collection::vec(any::<u8>(), 0..120)) {
            let _ = Probe::parse(&bytes);
            let _ = Message::parse(&bytes);
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
    fn messages_read_back_with_a_clock_and_without() {
        let end = End { issued: 1_000_000, failed: 3, first_ns: 5, last_ns: u64::MAX };
        let clock = Claim {
            host: 7,
            synchronised: true,
            tai_offset_s: -37,
            estimated_error_us: 5,
            max_error_us: u32::MAX,
        };
        for clock in [Some(clock), Some(Claim { synchronised: false, ..clock }), None] {
            let message = Message { end, clock, announced: 9 };
            let mut bytes = [0; MESSAGE_LEN];
            message.emit(&mut bytes);
            assert_eq!(Message::parse(&bytes), Some(message));
            let without = Message { end, clock: None, announced: 0 };
            assert_eq!(Message::parse(&bytes[..END_LEN]), Some(without));
            assert_eq!(Message::parse(&bytes[..MESSAGE_LEN - 1]), Some(without));
            assert_eq!(Message::parse(&bytes[..END_LEN - 1]), None);
        }
    }
}
