//! The maps of the sinks, which count the packets of streams and drop them.

use crate::steer::Address;

/// Streams that are followed at most, as many as one run of a sender has.
pub const STREAMS: u32 = 4096;

/// Streams that each CPU finds again without a hash: a stream's place is its number, modulo this.
pub const RECENT: u32 = 64;

/// Words of a stream's window, of 64 numbers each: the last 32,768 numbers, or up to 63 fewer.
pub const WORDS: usize = 512;

/// Latency buckets: 64 for each power of two, from 0 to [`MAX_LATENCY_NS`].
pub const BUCKETS: usize = 2048;

/// The longest latency that is told, in ns: 137 s.
pub const MAX_LATENCY_NS: u64 = (1 << 37) - 1;

/// Buckets of latencies below this are 1 ns wide.
const EXACT: u64 = 64;

/// [`StreamKey::class`] of a stream.
pub const STREAM: u8 = 0;

/// [`StreamKey::class`] of the first stream of a run, found by its key with stream 0.
pub const RUN: u8 = 1;

/// What tells one stream from another.
#[repr(C)]
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Hash)]
pub struct StreamKey {
    /// Who sends it.
    pub source: Address,
    /// Where to.
    pub destination: Address,
    /// UDP source port.
    pub source_port: u16,
    /// UDP destination port.
    pub port: u16,
    /// Stream number.
    pub stream: u16,
    /// IP version, 4 or 6.
    pub version: u8,
    /// [`STREAM`] or [`RUN`].
    pub class: u8,
    /// The sender's run.
    pub run: u32,
}

/// The figures of one stream. Who has set `lock` writes; the engine reads without it, and may see a datagram half counted as long as
/// they come.
#[repr(C)]
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Stream {
    /// Which.
    pub key: StreamKey,
    /// 1 while a CPU counts.
    pub lock: u32,
    /// First number that arrived. Nothing is said by this and the next while `unique` is 0.
    pub base: u64,
    /// Highest number that arrived.
    pub highest: u64,
    /// Different numbers that arrived.
    pub unique: u64,
    /// Of these, the ones below `base`.
    pub unique_before_base: u64,
    /// Numbers that arrived again.
    pub duplicate: u64,
    /// Of `unique`, those that arrived after a higher one.
    pub reordered: u64,
    /// Of `duplicate`, those that may have been late instead: the window had passed them, and some were missing.
    pub undecided: u64,
    /// Datagrams with a bad check that were of this stream.
    pub corrupt: u64,
    /// UDP payload of all but corrupt ones, bytes.
    pub payload_bytes: u64,
    /// Their frames with FCS, bytes.
    pub frame_bytes: u64,
    /// CLOCK_TAI in ns of the first arrival; 0 before.
    pub first_ns: u64,
    /// CLOCK_TAI in ns of the last arrival.
    pub last_ns: u64,
    /// Shortest payload, and longest.
    pub shortest: u32,
    /// Longest payload.
    pub longest: u32,
    /// Arrival minus sending time of the last datagram, in ns.
    pub transit: u64,
    /// RFC 3550 jitter in ns, 16 times as large.
    pub jitter: u64,
    /// Its highest value.
    pub max_jitter: u64,
    /// Messages that arrived: of the end, and announcements once the stream was known.
    pub messages: u64,
    /// What the first of them said: numbers used, those that the sender's host refused, times of the first and the last packet.
    pub end: [u64; 4],
    /// CLOCK_TAI in ns when it arrived; 0 before.
    pub ended_ns: u64,
    /// What the last message said of the sender's clock, and how many announcements there were; zeros when no message said anything.
    pub clock: [u64; 4],
}

/// Which of the last numbers of a stream arrived.
#[repr(C)]
#[derive(Debug, Clone, Copy)]
pub struct Window {
    /// Bit `n % 64` of word `n / 64 % WORDS` stands for number `n`, if the word's tag says so.
    pub bits: [u64; WORDS],
    /// `n / 64 / WORDS + 1` of the numbers that the word stands for: a word is cleared when it is next used, never
    /// in advance.
    pub tags: [u32; WORDS],
}

/// What one CPU has counted that is of no stream, and the latencies of all.
#[repr(C)]
#[derive(Debug, Clone, Copy)]
pub struct Share {
    /// Datagrams of streams, without corrupt ones.
    pub packets: u64,
    /// Datagrams that are not ours.
    pub foreign: u64,
    /// Datagrams of streams beyond [`STREAMS`]; in no other count.
    pub untracked: u64,
    /// Datagrams that found their stream held by another CPU for too long; in no other count.
    pub contended: u64,
    /// Datagrams that seemed to arrive before they were sent.
    pub negative_latency: u64,
    /// Most datagrams in one buffer.
    pub segments: u64,
    /// 0, which the verifier does not know: it takes a variable that begins with a number for a constant, though the callback of a loop changes it, and
    /// leaves out what other numbers would lead to (Linux 6.18).
    pub zero: u64,
    /// Datagrams by [`bucket_of`] their latency.
    pub latency: [u64; BUCKETS],
}

/// The bucket of a latency.
#[inline(always)]
pub const fn bucket_of(latency_ns: u64) -> usize {
    if latency_ns < EXACT {
        return latency_ns as usize;
    }
    let latency_ns = if latency_ns > MAX_LATENCY_NS { MAX_LATENCY_NS } else { latency_ns };
    let power = 63 - latency_ns.leading_zeros();
    let within = (latency_ns >> (power - 6)) & (EXACT - 1);
    ((power - 5) as usize) * EXACT as usize + within as usize
}

/// The middle of a bucket, in ns: within 0.8 % of all in it.
pub const fn middle_of(bucket: usize) -> u64 {
    let bucket = bucket as u64;
    if bucket < 2 * EXACT {
        return bucket;
    }
    let shift = bucket / EXACT - 1;
    ((EXACT + bucket % EXACT) << shift) + (1 << (shift - 1))
}

const _: () = assert!(size_of::<StreamKey>() == 44 && size_of::<Stream>() == 48 + 12 * 8 + 8 + 13 * 8);
const _: () = assert!(size_of::<Window>() == 12 * WORDS && size_of::<Share>() == 8 * (7 + BUCKETS));
// Each latency is in the bucket whose middle is near it, and the last bucket is the last.
const _: () = assert!(bucket_of(MAX_LATENCY_NS) == BUCKETS - 1 && bucket_of(u64::MAX) == BUCKETS - 1);
const _: () = {
    let mut bucket = 0;
    while bucket < BUCKETS {
        assert!(bucket_of(middle_of(bucket)) == bucket);
        bucket += 1;
    }
};
