//! The second step of a packet's time, as PTP has it (IEEE 1588 §11.4): a packet cannot carry the time at which it left the host, so a message after it
//! does. Behind the probe header come pairs of big-endian numbers of 64 bits: a sequence number, and CLOCK_TAI in ns when the kernel gave that
//! packet to the driver. The header's sequence is how many there are.

use super::probe::{Kind, LEN, Probe};

/// Most pairs of one message: it fits the smallest MTU that IPv6 allows.
pub const MOST: usize = 64;

const PAIR: usize = 16;

/// A packet, and when it left.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Departed {
    /// Its sequence number; in a message from a queue the low 40 bits.
    pub sequence: u64,
    /// CLOCK_TAI in ns.
    pub tai_ns: u64,
}

/// The message of `run` and `stream` that tells of the first [`MOST`] of `departed`.
pub fn written(run: u32, stream: u16, departed: &[Departed], now_ns: u64) -> Vec<u8> {
    let departed = &departed[..departed.len().min(MOST)];
    let mut payload = vec![0; LEN + departed.len() * PAIR];
    let sequence = departed.len() as u64;
    Probe { kind: Kind::FollowUp, run, stream, sequence, time: now_ns }.emit(&mut payload);
    for (pair, one) in payload[LEN..].chunks_exact_mut(PAIR).zip(departed) {
        pair[..8].copy_from_slice(&one.sequence.to_be_bytes());
        pair[8..].copy_from_slice(&one.tai_ns.to_be_bytes());
    }
    payload
}

/// What the payload with this header tells of; `None` when it has not the length that the header says.
pub fn read<'a>(probe: &Probe, payload: &'a [u8]) -> Option<impl Iterator<Item = Departed> + 'a> {
    let pairs = payload.get(LEN..)?;
    let fits = probe.sequence <= MOST as u64 && pairs.len() as u64 == probe.sequence * PAIR as u64;
    let number = |half: &[u8]| half.first_chunk().map_or(0, |bytes| u64::from_be_bytes(*bytes));
    fits.then(|| {
        pairs
            .chunks_exact(PAIR)
            .map(move |pair| Departed { sequence: number(pair), tai_ns: number(&pair[8..]) })
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn pairs_read_back(pairs in prop::collection::vec(any::<(u64, u64)>(), 0..MOST), cut in 1usize..20) {
            let departed: Vec<_> = pairs.iter().map(|&(sequence, tai_ns)| Departed { sequence, tai_ns }).collect();
            let payload = written(7, 3, &departed, 9);
            let probe = Probe::parse(&payload).unwrap();
            prop_assert_eq!((probe.kind, probe.run, probe.stream), (Kind::FollowUp, 7, 3));
            prop_assert_eq!(read(&probe, &payload).unwrap().collect::<Vec<_>>(), departed);
            prop_assert!(read(&probe, &payload[..payload.len().saturating_sub(cut)]).is_none());
        }

        #[test]
        fn no_bytes_panic(bytes in prop::collection::vec(any::<u8>(), 0..200), sequence: u64) {
            let probe = Probe { kind: Kind::FollowUp, run: 0, stream: 0, sequence, time: 0 };
            if let Some(pairs) = read(&probe, &bytes) {
                pairs.for_each(drop);
            }
        }
    }
}
