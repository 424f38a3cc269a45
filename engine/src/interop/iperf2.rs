//! iperf 2's UDP datagrams, as far as a receiver needs them.
//!
//! ```text
//! 2.0.10 and later   id low 32 · seconds · microseconds · id high 32 · client header
//! before             id 32     · seconds · microseconds              · client header
//! client header      flags · threads · port · buffer length · window · amount, then extensions
//! ```
//!
//! All 32-bit, big-endian; the time is the sender's wall clock. With the flag `SEQNO64` the identifier is 64 bits wide and counts from 1; 2.0.5
//! counts from 0. A negative identifier is the end: minus what the next would have been, and one further at each repetition.
//! A multicast client sends it once and waits for no answer.
//!
//! There is no magic number. A flow is taken for iperf's only when a datagram that is not its end has a whole client
//! header and everything in it is plausible ([`recognise`]); every version sends that header in each datagram, and later ones
//! of the flow must have the same flags ([`Flow::read`]). Datagrams too short for the client header (`iperf -l` below 40)
//! are not recognised.
#![forbid(unsafe_code)]

pub mod client;
pub mod server;

/// The identifier is 64 bits wide.
const SEQNO64: u32 = 0x0800_0000;
/// The flags carry the length of the headers, in `LEN_MASK`.
const LEN_BIT: u32 = 0x0001_0000;
const LEN_MASK: u32 = 0x0000_01fe;
/// Flags that iperf 2 uses: the high byte, the length and "run now".
const KNOWN_FLAGS: u32 = 0xff00_0000 | LEN_BIT | LEN_MASK | 0x0000_0001;

/// Client header without extensions.
const CLIENT_HEADER: usize = 24;

/// How far the sender's wall clock may be from ours for a flow to be recognised, in seconds.
const MAX_CLOCK_DIFFERENCE: u64 = 86_400;

/// A flow that has been recognised: where its fields lie.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Flow {
    flags: u32,
}

/// What a datagram of a flow says.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Datagram {
    /// One of the test's datagrams.
    Data {
        /// Sequence number, counted from 0 for every version.
        number: u64,
        /// The sender's wall clock, in ns since 1970.
        sent_ns: u64,
    },
    /// The test is over.
    End {
        /// Datagrams sent; when earlier copies of the end were lost, up to their number too many.
        issued: u64,
        /// The sender's wall clock, in ns since 1970.
        sent_ns: u64,
    },
}

/// Recognises the first datagram heard of a flow. `now_seconds` is our wall clock; without it the sender's time
/// may be anything, for a user who says that it is iperf.
pub fn recognise(payload: &[u8], now_seconds: Option<u64>) -> Option<(Flow, Datagram)> {
    [true, false].into_iter().find_map(|wide| {
        let flow = plausible(payload, wide, now_seconds)?;
        match flow.read(payload)? {
            // An end is often heard late, from a test that is long over: it opens no flow.
            Datagram::End { .. } => None,
            data => Some((flow, data)),
        }
    })
}

fn plausible(payload: &[u8], wide: bool, now_seconds: Option<u64>) -> Option<Flow> {
    let base = if wide { 16 } else { 12 };
    if payload.len() < base + CLIENT_HEADER {
        return None;
    }
    let field = |n: usize| word(payload, base + 4 * n);
    let flags = field(0);
    if (flags & SEQNO64 != 0) != wide || flags & !KNOWN_FLAGS != 0 {
        return None;
    }
    let headers = ((flags & LEN_MASK) >> 1) as usize;
    if flags & LEN_BIT != 0 && headers < base + CLIENT_HEADER {
        return None;
    }
    let threads = (1..=1024).contains(&field(1));
    let port = (1..=65_535).contains(&field(2));
    // The old layout has hardly a flag to recognise it by, so its length must be exact.
    let length = field(3) as usize;
    let length = if wide { (1..=65_535).contains(&length) } else { length == payload.len() };
    let clock =
        now_seconds.is_none_or(|now| u64::from(word(payload, 4)).abs_diff(now) <= MAX_CLOCK_DIFFERENCE);
    (threads && port && length && clock).then_some(Flow { flags })
}

impl Flow {
    /// The first identifier of a test.
    pub fn first_id(&self) -> u64 {
        u64::from(self.flags & SEQNO64 != 0)
    }

    /// Reads a datagram of this flow; `None` when it is none.
    #[inline]
    pub fn read(&self, payload: &[u8]) -> Option<Datagram> {
        let wide = self.flags & SEQNO64 != 0;
        let base = if wide { 16 } else { 12 };
        if payload.len() < base + 4 || word(payload, base) != self.flags {
            return None;
        }
        let (seconds, microseconds) = (word(payload, 4), word(payload, 8));
        if microseconds >= 1_000_000 {
            return None;
        }
        let low = word(payload, 0);
        let id = if wide {
            (u64::from(word(payload, 12)) << 32 | u64::from(low)).cast_signed()
        } else {
            i64::from(low.cast_signed())
        };
        let first = i64::from(wide);
        let sent_ns = u64::from(seconds) * 1_000_000_000 + u64::from(microseconds) * 1000;
        if id < 0 {
            return Some(Datagram::End { issued: id.unsigned_abs() - u64::from(wide), sent_ns });
        }
        let number = u64::try_from(id - first).ok()?;
        Some(Datagram::Data { number, sent_ns })
    }
}

#[inline]
fn word(bytes: &[u8], at: usize) -> u32 {
    u32::from_be_bytes([bytes[at], bytes[at + 1], bytes[at + 2], bytes[at + 3]])
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const SECONDS: u64 = 0x6b00_882b;

    /// UDP destination port and payload of every packet of a capture of Ethernet and IPv4 without options.
    fn capture() -> Vec<(u16, Vec<u8>)> {
        let pcap: &[u8] = include_bytes!("../../tests/vectors/iperf2_218_mcast_vectors.pcap");
        let (mut rest, mut packets) = (&pcap[24..], vec![]);
        while !rest.is_empty() {
            let length = u32::from_le_bytes(rest[8..12].try_into().unwrap()) as usize;
            let frame = &rest[16..16 + length];
            packets.push((u16::from_be_bytes([frame[36], frame[37]]), frame[42..].to_vec()));
            rest = &rest[16 + length..];
        }
        packets
    }

    /// A datagram as 2.0.5 makes it: no flags, identifiers from 0.
    fn old(id: i32, length: usize) -> Vec<u8> {
        let mut bytes = vec![b'5'; length];
        let fields = [id, SECONDS as i32, 500_000, 0, 1, 5001, length as i32, 0, -1000];
        for (place, field) in bytes.chunks_exact_mut(4).zip(fields) {
            place.copy_from_slice(&field.to_be_bytes());
        }
        bytes
    }

    #[test]
    fn every_datagram_of_2_1_8_is_read_in_order_and_the_end_says_how_many() {
        for (port, count) in [(5001, 202), (5002, 22)] {
            let packets: Vec<_> = capture().into_iter().filter(|(p, _)| *p == port).map(|(_, b)| b).collect();
            let (flow, first) = recognise(&packets[0], Some(SECONDS)).unwrap();
            assert_eq!(flow.read(&packets[0]), Some(first));
            let mut last_ns = 0;
            for (number, packet) in packets[..packets.len() - 1].iter().enumerate() {
                // A receiver that joins in the middle recognises any of them.
                assert_eq!(recognise(packet, Some(SECONDS)).map(|(f, _)| f), Some(flow));
                match flow.read(packet) {
                    Some(Datagram::Data { number: n, sent_ns }) => {
                        assert_eq!(n, number as u64);
                        assert!(sent_ns > last_ns);
                        last_ns = sent_ns;
                    }
                    other => panic!("{other:?}"),
                }
            }
            let end = flow.read(packets.last().unwrap());
            assert!(
                matches!(end, Some(Datagram::End { issued, sent_ns }) if issued == count && sent_ns > last_ns)
            );
            assert_eq!(recognise(packets.last().unwrap(), Some(SECONDS)), None, "an end opens no flow");
        }
    }

    #[test]
    fn version_2_0_5_counts_from_0_without_64_bits() {
        let (flow, data) = recognise(&old(0, 1470), Some(SECONDS)).unwrap();
        let sent_ns = SECONDS * 1_000_000_000 + 500_000_000;
        assert_eq!(data, Datagram::Data { number: 0, sent_ns });
        assert_eq!(flow.read(&old(7, 1470)), Some(Datagram::Data { number: 7, sent_ns }));
        assert_eq!(flow.read(&old(-8, 1470)), Some(Datagram::End { issued: 8, sent_ns }));
        assert_eq!(flow.first_id(), 0);
        assert_eq!(recognise(&old(-8, 1470), Some(SECONDS)), None);
    }

    /// A datagram as 2.2.1 makes it: a client header of 40 bytes with a time of barriers at its end, and its flags.
    fn newest(id: i64, length: usize) -> Vec<u8> {
        let mut bytes = vec![b'2'; length];
        let fields =
            [id as u32, SECONDS as u32, 250_000, (id >> 32) as u32, 0x4801_00a0, 1, 5001, length as u32, 0];
        let extension = [-100i32 as u32, 0, 0, 0, 0x0002_0002, 0x0001_0003, 0, 1_048_576, 0, 0, 0];
        for (place, field) in bytes.chunks_exact_mut(4).zip(fields.into_iter().chain(extension)) {
            place.copy_from_slice(&field.to_be_bytes());
        }
        bytes
    }

    #[test]
    fn version_2_2_counts_from_1_with_64_bits() {
        let sent_ns = SECONDS * 1_000_000_000 + 250_000_000;
        // Short ones cut the header off (`iperf -l`).
        for length in [1470, 80, 40] {
            let (flow, data) = recognise(&newest(1, length), Some(SECONDS)).unwrap();
            assert_eq!((data, flow.first_id()), (Datagram::Data { number: 0, sent_ns }, 1));
            let far = 1i64 << 33;
            assert_eq!(
                flow.read(&newest(far + 1, length)),
                Some(Datagram::Data { number: far as u64, sent_ns })
            );
            assert_eq!(
                flow.read(&newest(-far - 1, length)),
                Some(Datagram::End { issued: far as u64, sent_ns })
            );
            assert_eq!(recognise(&newest(-5, length), Some(SECONDS)), None);
        }
    }

    #[test]
    fn what_does_not_fit_is_not_iperf() {
        let good = capture().remove(0).1;
        for (at, bytes, why) in [
            (4, 0x1000_0000u32, "years from now"),
            (8, 1_000_000, "microseconds"),
            (16, 0x4812_0098, "unknown flags"),
            (16, 0x4801_0010, "header length"),
            (20, 0, "threads"),
            (24, 70_000, "port"),
            (28, 0, "buffer length"),
        ] {
            let mut bad = good.clone();
            bad[at..at + 4].copy_from_slice(&bytes.to_be_bytes());
            assert_eq!(recognise(&bad, Some(SECONDS)), None, "{why}");
        }
        assert_eq!(recognise(&good[..39], Some(SECONDS)), None);
        assert_eq!(recognise(&good, Some(SECONDS + 86_400 * 2)), None);
        assert!(recognise(&good, None).is_some());
        assert_eq!(recognise(&[0; 1470], Some(0)), None, "zeros");
        assert_eq!(recognise(b"0123456789".repeat(20).as_slice(), None), None, "digits");
        let mut other_length = old(3, 1470);
        other_length.truncate(1400);
        assert_eq!(recognise(&other_length, Some(SECONDS)), None);
    }

    proptest! {
        #[test]
        fn no_bytes_panic(bytes in prop::collection::vec(any::<u8>(), 0..120), flags: u32) {
            let _ = recognise(&bytes, None);
            let _ = Flow { flags }.read(&bytes);
        }

        #[test]
        fn foreign_bytes_are_not_taken_for_it(bytes in prop::collection::vec(any::<u8>(), 40..200)) {
            prop_assert_eq!(recognise(&bytes, Some(SECONDS)), None);
        }

        #[test]
        fn identifiers_of_64_bits(id in 1..i64::MAX) {
            let mut bytes = capture().remove(0).1;
            let flow = recognise(&bytes, None).unwrap().0;
            bytes[0..4].copy_from_slice(&(id as u32).to_be_bytes());
            bytes[12..16].copy_from_slice(&((id >> 32) as u32).to_be_bytes());
            let data = flow.read(&bytes);
            let fits = matches!(data, Some(Datagram::Data { number, .. }) if number == id as u64 - 1);
            prop_assert!(fits);
            bytes[0..4].copy_from_slice(&(-id as u32).to_be_bytes());
            bytes[12..16].copy_from_slice(&((-id >> 32) as u32).to_be_bytes());
            let end = flow.read(&bytes);
            let fits = matches!(end, Some(Datagram::End { issued, .. }) if issued == id as u64 - 1);
            prop_assert!(fits);
        }
    }
}
