//! Which packet comes next, and when: streams taken in turn, sizes by sequence number, pace by the pacer.
#![forbid(unsafe_code)]

use crate::pacing::Pacer;
use crate::profile::size::Sizes;
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
    /// Packets that leave back to back before a silence; `None`: as they become due.
    burst: Option<u32>,
    /// Holds the rate, from the start on.
    pacer: Option<Pacer>,
    /// Packets to send in all.
    limit: u64,
    next: u64,
}

/// Bytes of packets that a queue took.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(crate) struct Took {
    pub payload_bytes: u64,
    /// Everything else of their frames, FCS included.
    pub overhead_bytes: u64,
}

/// Smallest Ethernet frame, FCS included (IEEE 802.3 §4A.4.2).
const MIN_FRAME: u64 = 64;

impl Schedule {
    pub(crate) fn new(sizes: Sizes, streams: Vec<u16>, pps: Option<f64>, limit: Option<u64>) -> Self {
        assert!(!streams.is_empty(), "a worker has a stream");
        let limit = limit.unwrap_or(u64::MAX);
        Self { sizes, streams, pps, burst: None, pacer: None, limit, next: 0 }
    }

    /// The same in bursts of this many packets, 1 to [`MAX_BURST`](crate::pacing::MAX_BURST), if any.
    pub(crate) fn in_bursts(self, burst: Option<u32>) -> Self {
        Self { burst, ..self }
    }

    /// Starts the clock of the pace.
    pub(crate) fn start(&mut self, now_ns: u64) {
        self.pacer = self.pps.map(|pps| match self.burst {
            None => Pacer::new(pps, now_ns),
            Some(burst) => Pacer::with_burst(pps, burst, now_ns).together(burst),
        });
    }

    #[inline]
    pub(crate) fn is_paced(&self) -> bool {
        self.pps.is_some()
    }

    /// Whether packets of a burst that has begun are still due.
    #[inline]
    pub(crate) fn is_burst_open(&self) -> bool {
        self.pacer.as_ref().is_some_and(Pacer::is_burst_open)
    }

    /// Time is up: what is due now is the last, also when it is less than a burst.
    pub(crate) fn close(&mut self) {
        if let Some(pacer) = &mut self.pacer {
            pacer.expect(0);
        }
    }

    #[inline]
    pub(crate) fn is_done(&self) -> bool {
        self.next >= self.limit
    }

    /// Fills `runs` with the packets that are due at `now_ns`, at most `batch`.
    #[inline]
    pub(crate) fn due(&mut self, now_ns: u64, batch: usize, runs: &mut Vec<Run>) {
        runs.clear();
        let left = self.limit - self.next;
        let allowed = self.pacer.as_mut().map_or(u64::MAX, |pacer| {
            pacer.expect(left);
            u64::from(pacer.due(now_ns))
        });
        let count = allowed.min(batch as u64).min(left);
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
        let overhead = u64::from(self.sizes.overhead());
        let mut left = taken as u64;
        let mut bytes = Took::default();
        for run in runs {
            let n = left.min(u64::from(run.count));
            let len = u64::from(run.len);
            bytes.payload_bytes += n * len;
            bytes.overhead_bytes += n * ((len + overhead).max(MIN_FRAME) - len);
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
