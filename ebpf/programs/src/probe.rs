//! The probe header (`packet::probe` of the engine) as three numbers, which is how it is checked and read fastest.

/// Length of the header.
pub const LEN: usize = 18;

/// Length of what follows it in a message at least.
pub const END_LEN: usize = 32;

/// Length of what follows it in a message that tells of the sender's clock, too.
pub const MESSAGE_LEN: usize = 64;

/// What follows it, as numbers; zeros for what is not there.
pub type Message = [u64; MESSAGE_LEN / 8];

/// The ones' complement sum of its words, as these are in memory.
const SUM: u64 = 0x7772_u16.to_be() as u64;

const DATA: u64 = 0x10;
const END: u64 = 0x11;
const ANNOUNCE: u64 = 0x12;
const FOLLOW_UP: u64 = 0x13;

const FORTY_BITS: u64 = (1 << 40) - 1;

/// What a header says that it heads.
#[derive(Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    Data,
    End,
    Announce,
    FollowUp,
    /// Nothing that this version knows.
    Unknown,
}

/// The bytes 0 to 8, 8 to 16 and 16 to 18, as they are in memory.
#[repr(C)]
#[derive(Clone, Copy)]
pub struct Header(pub u64, pub u64, pub u64);

impl Header {
    /// From the words in memory.
    #[inline(always)]
    pub fn of_words(w: [u16; LEN / 2]) -> Self {
        let join = |a: u16, b: u16, c: u16, d: u16| {
            let (a, b, c, d) = (a.to_le(), b.to_le(), c.to_le(), d.to_le());
            u64::from_le(u64::from(a) | u64::from(b) << 16 | u64::from(c) << 32 | u64::from(d) << 48)
        };
        Self(join(w[0], w[1], w[2], w[3]), join(w[4], w[5], w[6], w[7]), u64::from(w[8]))
    }

    /// Whether the check fits.
    #[inline(always)]
    pub fn is_good(&self) -> bool {
        const HALF: u64 = u32::MAX as u64;
        let mut sum = (self.0 & HALF) + (self.0 >> 32) + (self.1 & HALF) + (self.1 >> 32) + self.2;
        sum = (sum & 0xffff) + (sum >> 16);
        sum = (sum & 0xffff) + (sum >> 16);
        sum = (sum & 0xffff) + (sum >> 16);
        sum == SUM
    }

    /// The header of the next datagram of the stream, sent at the same time, where it is easily told: the number is one more in its last byte, and
    /// the check one less in its first, as both bytes are the first of a word of the sum.
    #[inline(always)]
    pub fn successor(&self) -> Option<Self> {
        let (first, second) = (u64::from_le(self.0), u64::from_le(self.1));
        if first & 0xff == 0 || (second >> 32) & 0xff == 0xff {
            return None;
        }
        Some(Self((first - 1).to_le(), (second + (1 << 32)).to_le(), self.2))
    }

    #[inline(always)]
    pub fn equals(&self, other: &Self) -> bool {
        (self.0 ^ other.0) | (self.1 ^ other.1) | (self.2 ^ other.2) == 0
    }

    /// Version, kind, run and stream: the same for all data of a stream.
    #[inline(always)]
    pub fn identity(&self) -> u64 {
        u64::from_be(self.0) & 0xffff_ffff_ffff
    }

    /// The identity of the data of stream `stream` of `run`.
    #[inline(always)]
    pub fn identity_of(run: u32, stream: u16) -> u64 {
        DATA << 40 | u64::from(run) << 16 | u64::from(stream)
    }

    #[inline(always)]
    pub fn kind(&self) -> Kind {
        match self.identity() >> 40 {
            DATA => Kind::Data,
            END => Kind::End,
            ANNOUNCE => Kind::Announce,
            FOLLOW_UP => Kind::FollowUp,
            _ => Kind::Unknown,
        }
    }

    #[inline(always)]
    pub fn run(&self) -> u32 {
        (self.identity() >> 16) as u32 & 0xff_ffff
    }

    #[inline(always)]
    pub fn stream(&self) -> u16 {
        self.identity() as u16
    }

    /// Whether the sequence number is a multiple of 64.
    #[inline(always)]
    pub fn begins_word(&self) -> bool {
        (u64::from_le(self.1) >> 32) & 63 == 0
    }

    /// Low 40 bits of the sequence number.
    #[inline(always)]
    pub fn sequence(&self) -> u64 {
        u64::from_be(self.1) >> 24
    }

    /// Low 40 bits of CLOCK_TAI in ns.
    #[inline(always)]
    pub fn time(&self) -> u64 {
        (u64::from_be(self.1) & 0xff_ffff) << 16 | u64::from(u16::from_be(self.2 as u16))
    }
}

/// How far the number with the low 40 bits `low` is above `near`, if it is the nearest to it.
#[inline(always)]
pub fn above40(low: u64, near: u64) -> i64 {
    (low.wrapping_sub(near & FORTY_BITS) << 24).cast_signed() >> 24
}
