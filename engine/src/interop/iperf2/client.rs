//! What iperf 2's client sends, and what its server answers to the end: 2.1.8's headers.
//!
//! ```text
//! datagram     id low 32 · seconds · microseconds · id high 32
//! client       flags · threads · port · buffer length · window · amount
//! extension    type · length · flags 2 × 16 · version high · version low · reserved 16 · TOS 16 · rate low · rate high · prefetch
//! ```
//!
//! Identifiers count from 1. The end has minus the next one, and is as long as the datagrams of the test. A server of unicast answers it with its
//! figures; a client that hears no answer repeats it, one further each time.
#![forbid(unsafe_code)]

use serde::Serialize;

use super::{LEN_BIT, SEQNO64, word};

/// Bytes of the headers.
pub const LEN: usize = 76;

/// The client header has an extension.
const EXTEND: u32 = 0x4000_0000;

/// The server's answer has figures.
const ANSWER: u32 = 0x8000_0000;

/// The shortest answer: a datagram header and the figures of 32 bits.
const ANSWER_LEN: usize = 16 + 40;

/// Where the high words of the answer's counts are, if it has them.
const HIGH_WORDS: usize = ANSWER_LEN + 60;

/// The version that is told: 2.1.8, as it tells itself.
const VERSION: [u32; 2] = [0x0002_0001, 0x0008_0003];

/// A test as its client describes it to the server.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Test {
    /// The server's port.
    pub port: u16,
    /// UDP payload of a datagram in bytes; of the longest, if they differ.
    pub length: u16,
    /// How much is sent.
    pub amount: Amount,
    /// Bits of payload a second of one stream, or 0.
    pub rate_bps: u64,
    /// The byte of DSCP and ECN.
    pub tos: u8,
}

/// How much a test sends.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Amount {
    /// For this time, in hundredths of a second.
    Time(u32),
    /// Bytes; more than 31 bits hold are told as that.
    Bytes(u64),
}

/// The headers of a test's datagrams.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ClientHeader {
    bytes: [u8; LEN],
    length: u16,
    tai_minus_utc_ns: i64,
}

impl ClientHeader {
    /// Of `test`, whose datagrams are sent at times of CLOCK_TAI, which is so many ns ahead of the wall clock.
    pub fn new(test: &Test, tai_minus_utc_ns: i64) -> Self {
        let amount = match test.amount {
            Amount::Time(hundredths) => i32::try_from(hundredths).unwrap_or(i32::MAX).wrapping_neg(),
            Amount::Bytes(bytes) => i32::try_from(bytes).unwrap_or(i32::MAX),
        };
        let mut bytes = [0; LEN];
        let flags = EXTEND | SEQNO64 | LEN_BIT | (LEN as u32) << 1;
        let base = [flags, 1, test.port.into(), test.length.into(), 0, amount.cast_unsigned()];
        // 24 bits of the rate's high word, above 8 that stand for its fraction.
        let rate = [test.rate_bps as u32, ((test.rate_bps >> 32) as u32) << 8];
        let extension = [0, 0, 0, VERSION[0], VERSION[1], test.tos.into(), rate[0], rate[1], 0];
        for (place, word) in bytes[16..].chunks_exact_mut(4).zip(base.into_iter().chain(extension)) {
            place.copy_from_slice(&word.to_be_bytes());
        }
        Self { bytes, length: test.length, tai_minus_utc_ns }
    }

    /// The seconds and microseconds that stand for `now_ns` of CLOCK_TAI.
    #[inline]
    pub fn time(&self, now_ns: u64) -> (u32, u32) {
        let now_ns = now_ns.saturating_add_signed(self.tai_minus_utc_ns.saturating_neg());
        // 32 bits of seconds last until 2106.
        ((now_ns / 1_000_000_000) as u32, (now_ns % 1_000_000_000 / 1000) as u32)
    }

    /// Writes the headers with this identifier and time to the start of `payload`.
    ///
    /// # Panics
    /// When `payload` is shorter than [`LEN`].
    #[inline]
    pub fn emit(&self, payload: &mut [u8], id: i64, (seconds, micros): (u32, u32)) {
        let payload = &mut payload[..LEN];
        payload.copy_from_slice(&self.bytes);
        let id = id.cast_unsigned();
        payload[0..4].copy_from_slice(&(id as u32).to_be_bytes());
        payload[4..8].copy_from_slice(&seconds.to_be_bytes());
        payload[8..12].copy_from_slice(&micros.to_be_bytes());
        payload[12..16].copy_from_slice(&((id >> 32) as u32).to_be_bytes());
    }

    /// The end of a stream that has sent `issued` datagrams, sent at `now_ns` of CLOCK_TAI for the time number `repetition`, from 0.
    pub fn end(&self, issued: u64, repetition: u32, now_ns: u64) -> Vec<u8> {
        let mut payload: Vec<u8> = (b'0'..=b'9').cycle().take(usize::from(self.length).max(LEN)).collect();
        let id =
            i64::try_from(issued).unwrap_or(i64::MAX).saturating_add(1).saturating_add(repetition.into());
        self.emit(&mut payload, -id, self.time(now_ns));
        payload
    }
}

/// What a server says of a stream in answer to its end.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
pub struct Answer {
    /// UDP payload that it received, the end's too.
    pub bytes: u64,
    /// Time from the first datagram to the last, in ns.
    pub duration_ns: u64,
    /// Lost datagrams, by iperf's arithmetic.
    pub lost: u64,
    /// Datagrams out of order, copies too.
    pub out_of_order: u64,
    /// Datagrams of which these were lost: the end is one.
    pub packets: u64,
    /// Jitter in ns.
    pub jitter_ns: u64,
}

impl Answer {
    /// Reads an answer; `None` when it is none.
    pub fn parse(payload: &[u8]) -> Option<Self> {
        if payload.len() < ANSWER_LEN || word(payload, 16) & ANSWER == 0 {
            return None;
        }
        let low = |n: usize| u64::from(word(payload, 16 + 4 * n));
        let long = word(payload, 16) & SEQNO64 != 0 && payload.len() >= HIGH_WORDS + 12;
        let high = |n: usize| if long { u64::from(word(payload, HIGH_WORDS + 4 * n)) << 32 } else { 0 };
        let time_ns = |at: usize| low(at) * 1_000_000_000 + low(at + 1) * 1000;
        Some(Self {
            bytes: low(1) << 32 | low(2),
            duration_ns: time_ns(3),
            lost: high(0) | low(5),
            out_of_order: high(1) | low(6),
            packets: high(2) | low(7),
            jitter_ns: time_ns(8),
        })
    }
}

#[cfg(test)]
mod tests {
    use super::super::{Datagram, recognise};
    use super::*;
    use proptest::prelude::*;

    const NOW: u64 = 0x6b00_882b * 1_000_000_000 + 0xea1e * 1000;

    fn header(length: u16) -> ClientHeader {
        let test = Test { port: 5001, length, amount: Amount::Time(200), rate_bps: 100, tos: 0 };
        ClientHeader::new(&test, 0)
    }

    #[test]
    fn they_are_those_of_2_1_8() {
        // The first datagram of the capture: 76 bytes behind Ethernet, IPv4 and UDP.
        let pcap: &[u8] = include_bytes!("../../../tests/vectors/iperf2_218_mcast_vectors.pcap");
        let mut written = [0; LEN];
        let header = header(200);
        header.emit(&mut written, 1, header.time(NOW));
        assert_eq!(written, pcap[24 + 16 + 42..][..LEN]);
    }

    #[test]
    fn what_is_sent_is_what_is_read() {
        let header = header(1470);
        let mut payload = vec![0; 1470];
        let far = (1u64 << 33) + 7;
        header.emit(&mut payload, far as i64 + 1, header.time(NOW));
        let (flow, data) = recognise(&payload, Some(NOW / 1_000_000_000)).unwrap();
        assert_eq!(data, Datagram::Data { number: far, sent_ns: NOW });
        for repetition in [0, 9] {
            let end = header.end(far, repetition, NOW);
            let issued = far + u64::from(repetition);
            assert_eq!((end.len(), flow.read(&end)), (1470, Some(Datagram::End { issued, sent_ns: NOW })));
        }
        // In front of the wall clock by 37 s.
        let ahead = ClientHeader { tai_minus_utc_ns: 37_000_000_000, ..header };
        assert_eq!(ahead.time(NOW + 37_000_000_000), header.time(NOW));
        let bytes =
            Test { port: 1, length: 80, amount: Amount::Bytes(1 << 40), rate_bps: 10 << 32, tos: 0xb8 };
        let header = ClientHeader::new(&bytes, 0);
        assert_eq!((word(&header.bytes, 36), word(&header.bytes, 68)), (0x7fff_ffff, 10 << 8));
    }

    #[test]
    fn an_answer_is_read() {
        let mut bytes = [0u8; 128];
        let fields = [0x8800_0000u32, 1, 2, 3, 4, 5, 6, 7, 0, 8];
        for (place, field) in bytes[16..].chunks_exact_mut(4).zip(fields) {
            place.copy_from_slice(&field.to_be_bytes());
        }
        bytes[HIGH_WORDS + 11] = 1;
        let answer = Answer {
            bytes: (1 << 32) + 2,
            duration_ns: 3_000_004_000,
            lost: 5,
            out_of_order: 6,
            packets: (1 << 32) + 7,
            jitter_ns: 8000,
        };
        assert_eq!(Answer::parse(&bytes), Some(answer));
        // Before 2.0.13 counts had 32 bits.
        assert_eq!(Answer::parse(&bytes[..ANSWER_LEN]), Some(Answer { packets: 7, ..answer }));
        assert_eq!(Answer::parse(&bytes[..ANSWER_LEN - 1]), None);
        bytes[16] = 0;
        assert_eq!(Answer::parse(&bytes), None);
    }

    proptest! {
        #[test]
        fn no_answer_panics(bytes in prop::collection::vec(any::<u8>(), 0..140)) {
            let _ = Answer::parse(&bytes);
        }
    }
}
