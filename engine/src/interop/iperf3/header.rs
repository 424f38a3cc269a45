//! iperf3's UDP datagrams: the handshake of a stream, and its data.
//!
//! ```text
//! hello, reply   "9876" from the client, "6789" back; before 3.12 two native-endian numbers
//! data           seconds · microseconds · number (32 bits each, or 64 for the number, big-endian) · payload
//! ```
//!
//! Numbers count from 1. The time is the sender's CLOCK_MONOTONIC.
#![forbid(unsafe_code)]

/// What a client opens a stream with.
pub const HELLO: [u8; 4] = *b"9876";

/// What the server answers.
pub const REPLY: [u8; 4] = *b"6789";

/// What servers before 3.12 answer, on a little-endian machine: 987654321.
const OLD_REPLY: [u8; 4] = 987_654_321u32.to_le_bytes();

/// Whether a datagram is a server's answer to a hello.
pub fn is_reply(datagram: &[u8]) -> bool {
    let old_big = 987_654_321u32.to_be_bytes();
    [REPLY, OLD_REPLY, old_big].iter().any(|reply| datagram == reply)
}

/// Width of the numbers.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Counters {
    /// 32 bits.
    Narrow,
    /// 64 bits (`--udp-counters-64bit`).
    Wide,
}

impl Counters {
    /// Wide or narrow.
    pub fn of(wide: bool) -> Self {
        if wide { Self::Wide } else { Self::Narrow }
    }

    /// Bytes of the header.
    pub fn head_len(self) -> usize {
        match self {
            Self::Narrow => 12,
            Self::Wide => 16,
        }
    }
}

/// What the headers of a sender have in common.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct SenderHeader {
    counters: Counters,
    tai_minus_monotonic_ns: u64,
}

impl SenderHeader {
    /// For a sender that stamps by CLOCK_TAI, which is so many ns ahead of CLOCK_MONOTONIC.
    pub fn new(counters: Counters, tai_minus_monotonic_ns: u64) -> Self {
        Self { counters, tai_minus_monotonic_ns }
    }

    /// The seconds and microseconds that stand for `now_ns` of CLOCK_TAI.
    #[inline]
    pub fn time(&self, now_ns: u64) -> [u8; 8] {
        let ns = now_ns.saturating_sub(self.tai_minus_monotonic_ns);
        // 32 bits of seconds since the machine was switched on.
        let (seconds, micros) = ((ns / 1_000_000_000) as u32, (ns % 1_000_000_000 / 1000) as u32);
        let mut time = [0; 8];
        time[..4].copy_from_slice(&seconds.to_be_bytes());
        time[4..].copy_from_slice(&micros.to_be_bytes());
        time
    }

    /// Writes a header with this number, counted from 1.
    ///
    /// # Panics
    /// When `payload` is shorter than the header.
    #[inline]
    pub fn emit(&self, payload: &mut [u8], number: u64, time: [u8; 8]) {
        payload[..8].copy_from_slice(&time);
        match self.counters {
            Counters::Narrow => payload[8..12].copy_from_slice(&(number as u32).to_be_bytes()),
            Counters::Wide => payload[8..16].copy_from_slice(&number.to_be_bytes()),
        }
    }
}

/// A datagram's header.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Header {
    /// Its number, counted from 1.
    pub number: u64,
    /// The sender's time in µs; it wraps after 136 years.
    pub sent_us: u64,
}

impl Header {
    /// Reads the header of a datagram; `None` when that is too short for one.
    #[inline]
    pub fn read(datagram: &[u8], counters: Counters) -> Option<Self> {
        let word = |at: usize| {
            datagram.get(at..).and_then(|rest| rest.first_chunk()).map(|b| u64::from(u32::from_be_bytes(*b)))
        };
        let sent_us = word(0)? * 1_000_000 + word(4)?;
        let number = match counters {
            Counters::Narrow => word(8)?,
            Counters::Wide => word(8)? << 32 | word(12)?,
        };
        Some(Self { number, sent_us })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn what_is_sent_is_what_is_read() {
        for (counters, number) in [(Counters::Narrow, 7), (Counters::Wide, (1 << 33) + 5)] {
            let header = SenderHeader::new(counters, 5);
            let mut bytes = [0; 16];
            header.emit(&mut bytes, number, header.time(3_000_004_005));
            let read = Header::read(&bytes, counters).unwrap();
            assert_eq!(read, Header { number, sent_us: 3_000_004 });
        }
        assert_eq!(Header::read(&[0; 11], Counters::Narrow), None);
        assert_eq!(Header::read(&[0; 15], Counters::Wide), None);
    }

    #[test]
    fn replies_of_all_versions_are_known() {
        assert!(is_reply(b"6789") && is_reply(&[0xb1, 0x68, 0xde, 0x3a]));
        assert!(!is_reply(b"9876") && !is_reply(b"67890") && !is_reply(b""));
    }

    proptest! {
        #[test]
        fn no_datagram_panics(bytes in prop::collection::vec(any::<u8>(), 0..40)) {
            let _ = Header::read(&bytes, Counters::Narrow);
            let _ = Header::read(&bytes, Counters::Wide);
        }
    }
}
