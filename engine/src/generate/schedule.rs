//! Which packet comes next, and when: streams taken in turn, sizes by sequence number, pace by the pacer.
#![forbid(unsafe_code)]

use crate::pacing::Pacer;
use crate::profile::size::{Sizes, Wire};
use crate::queue::Run;

/// The packets of one worker, in order. Packet `k` is number `k / streams` of stream `k % streams`, so that one
/// counter tells everything.
#[derive(Debug)]
pub(crate) struct Schedule {
    sizes: Sizes,
    /// Stream numbers, in the order of the queue's flows.
    streams: Vec<u16>,
    /// Packets a second; `None`: as fast as the queue takes them.
    pps: Option<f64>,
    /// Holds the rate, from the start on.
    pacer: Option<Pacer>,
    /// Packets to send in all.
    limit: u64,
    next: u64,
}

/// What packets that a queue took come to.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(crate) struct Took {
    pub payload_bytes: u64,
    /// Their frames.
    pub wire: Wire,
}

impl Schedule {
    pub(crate) fn new(sizes: Sizes, streams: Vec<u16>, pps: Option<f64>, limit: Option<u64>) -> Self {
        assert!(!streams.is_empty(), "a worker has a stream");
        let limit = limit.unwrap_or(u64::MAX);
        Self { sizes, streams, pps, pacer: None, limit, next: 0 }
    }

    /// Starts the clock of the pace.
    pub(crate) fn start(&mut self, now_ns: u64) {
        self.pacer = self.pps.map(|pps| Pacer::new(pps, now_ns));
    }

    #[inline]
    pub(crate) fn is_paced(&self) -> bool {
        self.pps.is_some()
    }

    #[inline]
    pub(crate) fn is_done(&self) -> bool {
        self.next >= self.limit
    }

    /// Fills `runs` with the packets that are due at `now_ns`, at most `batch`.
    #[inline]
    pub(crate) fn due(&mut self, now_ns: u64, batch: usize, runs: &mut Vec<Run>) {
        runs.clear();
        let allowed = self.pacer.as_mut().map_or(u64::MAX, |p| u64::from(p.due(now_ns)));
        let count = allowed.min(batch as u64).min(self.limit - self.next);
        let streams = self.streams.len() as u64;
        for k in self.next..self.next + count {
            let (flow, seq) = ((k % streams) as u16, k / streams);
            let len = self.sizes.length_of(seq);
            match runs.last_mut() {
                Some(run) if run.flow == flow && run.len == len => run.count += 1,
                _ => runs.push(Run { flow, len, count: 1, first_seq: seq }),
            }
        }
    }

    /// When the next packet is due, in ns; 0 when there is no pace.
    pub(crate) fn next_ns(&self) -> u64 {
        self.pacer.as_ref().map_or(0, Pacer::next_ns)
    }

    /// The queue took `taken` packets off the front of `runs`.
    #[inline]
    pub(crate) fn took(&mut self, taken: usize, runs: &[Run]) -> Took {
        let mut left = taken as u64;
        let mut bytes = Took::default();
        for run in runs {
            let n = left.min(u64::from(run.count));
            let wire = self.sizes.wire_of(run.first_seq);
            bytes.payload_bytes += n * u64::from(run.len);
            bytes.wire.frames += n * wire.frames;
            bytes.wire.bytes += n * wire.bytes;
            left -= n;
            if left == 0 {
                break;
            }
        }
        self.next += taken as u64;
        if let Some(pacer) = &mut self.pacer {
            pacer.sent(taken as u32);
        }
        bytes
    }

    /// Flow, stream number and how many numbers were used, of every stream that sent anything.
    pub(crate) fn issued(&self) -> impl Iterator<Item = (u16, u16, u64)> + '_ {
        let streams = self.streams.len() as u64;
        self.streams.iter().enumerate().map(move |(flow, &stream)| {
            let issued = (self.next + streams - 1 - flow as u64) / streams;
            (flow as u16, stream, issued)
        })
    }
}
