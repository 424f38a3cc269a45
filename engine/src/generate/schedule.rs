//! Which packet comes next, and when: streams taken in turn, sizes by sequence number, pace by the pacer.
#![forbid(unsafe_code)]

use super::txtime::Ahead;
use crate::pacing::{Departures, MAX_BURST, Pacer};
use crate::profile::size::{Sizes, Wire};
use crate::queue::Run;

/// The packets of one worker, in order. Streams take turns of a fixed number of packets, so that one counter tells
/// everything: with turns of `t`, packet `k` is in round `k / (t × streams)`, and within it in the turn of stream
/// `k % (t × streams) / t`, the `k % t`th there. A turn is one packet where packets leave one by one.
#[derive(Debug)]
pub(crate) struct Schedule {
    sizes: Sizes,
    /// Stream numbers, in the order of the queue's flows.
    streams: Vec<u16>,
    /// Packets a second; `None`: as fast as the queue takes them.
    pps: Option<f64>,
    /// Packets that leave back to back before a silence; `None`: as they become due.
    burst: Option<u32>,
    /// How far ahead of their times packets are handed over, with these; `None`: they leave when they are due.
    ahead: Option<Ahead>,
    /// Holds the rate, from the start on.
    pacer: Option<Pacer>,
    /// Packets to send in all.
    limit: u64,
    next: u64,
    /// Packets that a stream sends in its turn.
    turn: u64,
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
        Self { sizes, streams, pps, burst: None, ahead: None, pacer: None, limit, next: 0, turn: 1 }
    }

    /// The same in bursts of this many packets, 1 to [`MAX_BURST`], if any.
    pub(crate) fn in_bursts(self, burst: Option<u32>) -> Self {
        Self { burst, ..self }
    }

    /// The same, each packet handed over ahead of its time, with that.
    pub(crate) fn ahead(self, ahead: Option<Ahead>) -> Self {
        Self { ahead, ..self }
    }

    /// How far ahead of its time a packet is handed over, in ns.
    pub(crate) fn lead_ns(&self) -> u64 {
        self.ahead.map_or(0, |ahead| ahead.lead_ns)
    }

    /// The times of the packets that are due, where packets have such, if they are handed over at `now_ns`.
    #[inline]
    pub(crate) fn departures(&self, now_ns: u64) -> Option<Departures> {
        let (ahead, pacer) = (self.ahead?, self.pacer.as_ref()?);
        Some(pacer.departures(now_ns + ahead.head_start_ns))
    }

    /// Starts the clock of the pace. `segments` packets of a stream may leave as one buffer: so many are a turn, but with a
    /// pace no more than its burst, or streams of a low rate would come in trains. What makes a buffer is waited for.
    pub(crate) fn start(&mut self, now_ns: u64, segments: u16) {
        let segments = u32::from(segments);
        self.turn = segments.into();
        let Some(pps) = self.pps else { return };
        if let Some(ahead) = self.ahead {
            let (most, together) = ahead.packets(pps);
            let most = most.clamp(1.0, f64::from(MAX_BURST)) as u32;
            let together = (together as u32).clamp(1, most);
            self.pacer = Some(Pacer::with_burst(pps, most, now_ns).together(together));
            return;
        }
        let pacer = match self.burst {
            None => Pacer::new(pps, now_ns),
            Some(burst) => Pacer::with_burst(pps, burst, now_ns),
        };
        let turn = pacer.burst().min(segments);
        self.turn = turn.into();
        self.pacer = Some(pacer.together(self.burst.unwrap_or(turn)));
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

    /// Fills `runs` with the packets that are due at `now_ns`, at most `batch` of them and no more runs than there is capacity for.
    #[inline]
    pub(crate) fn due(&mut self, now_ns: u64, batch: u16, runs: &mut Vec<Run>) {
        runs.clear();
        let mut left = self.limit - self.next;
        let allowed = self.pacer.as_mut().map_or(u64::MAX, |pacer| {
            pacer.expect(left);
            u64::from(pacer.due(now_ns))
        });
        left = allowed.min(u64::from(batch)).min(left);
        // A single stream has turn after turn, which are one.
        let streams = self.streams.len() as u64;
        let turn = if streams == 1 { u64::MAX } else { self.turn };
        let (round, within) = (self.next / self.turn / streams, self.next % (self.turn * streams));
        // The number with which the turn of each stream begins, whose turn it is, and how far.
        let mut begin = if streams == 1 { 0 } else { round * turn };
        let (mut flow, mut of_turn) =
            if streams == 1 { (0, self.next) } else { (within / turn, within % turn) };
        while left > 0 && runs.len() < runs.capacity() {
            let first_seq = begin + of_turn;
            let (len, count) = self.sizes.run_at(first_seq, left.min(turn - of_turn) as u16);
            runs.push(Run { flow: flow as u16, len, count, first_seq });
            left -= u64::from(count);
            of_turn += u64::from(count);
            if of_turn == turn {
                (of_turn, flow) = (0, flow + 1);
                if flow == streams {
                    (flow, begin) = (0, begin + turn);
                }
            }
        }
    }

    /// The streams, one for each flow.
    pub(crate) fn streams(&self) -> &[u16] {
        &self.streams
    }

    /// How long the packets that are due have been so, in ns, where there is a pace.
    pub(crate) fn late_ns(&self) -> Option<u64> {
        self.pacer.as_ref().map(Pacer::late_ns)
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
        // Where all are of one size, they need not be looked at.
        let (runs, one) = match self.sizes.one() {
            Some(one) => (&[][..], Some(one)),
            None => (runs, None),
        };
        if let Some((len, wire)) = one {
            bytes.payload_bytes = left * u64::from(len);
            bytes.wire = Wire { frames: left * wire.frames, bytes: left * wire.bytes };
        }
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

    /// Packets that a stream sends in its turn, known from the [start](Self::start) on.
    pub(crate) fn turn(&self) -> u64 {
        self.turn
    }

    /// Flow, stream number and how many numbers were used, of every stream that sent anything.
    pub(crate) fn issued(&self) -> impl Iterator<Item = (u16, u16, u64)> + '_ {
        let streams = self.streams.len() as u64;
        self.streams.iter().zip(0u16..).map(move |(&stream, flow)| {
            (flow, stream, issued_of(self.next, self.turn, streams, u64::from(flow)))
        })
    }
}

/// How many of a worker's first `packets` were of its flow number `flow`, where each of `streams` sends `turn` packets in its turn.
pub(crate) fn issued_of(packets: u64, turn: u64, streams: u64, flow: u64) -> u64 {
    let round = turn * streams;
    let (rounds, within) = (packets / round, packets % round);
    rounds * turn + within.saturating_sub(flow * turn).min(turn)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::profile::size::{Framing, SizeList};
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn every_stream_gets_every_number_once_and_in_order(
            streams in 1u16..6, turn in 1u16..9, batch in 1u16..40, capacity in 1usize..20,
            cycle in prop::collection::vec(18u32..20, 1..4), takes in prop::collection::vec(0usize..50, 1..60),
        ) {
            let sizes = Sizes::from_lengths(&SizeList::Cycle(cycle), Framing::default()).unwrap();
            let mut schedule = Schedule::new(sizes.clone(), (0..streams).collect(), None, Some(600));
            schedule.start(0, turn);
            let mut runs = Vec::with_capacity(capacity);
            let mut next = vec![0u64; usize::from(streams)];
            let (mut sent, mut last) = (0u64, None);
            for take in takes {
                schedule.due(0, batch, &mut runs);
                prop_assert!(runs.len() <= runs.capacity());
                let offered: usize = runs.iter().map(|run| usize::from(run.count)).sum();
                prop_assert!(offered <= usize::from(batch));
                prop_assert!(offered > 0 || schedule.is_done());
                let taken = take.min(offered);
                let mut left = taken;
                for run in &runs {
                    for n in 0..left.min(usize::from(run.count)) as u64 {
                        let expected = &mut next[usize::from(run.flow)];
                        prop_assert_eq!(run.first_seq + n, *expected);
                        prop_assert_eq!(sizes.length_of(*expected), run.len);
                        // Streams change only when a turn is over.
                        if last.is_some_and(|last| last != run.flow) {
                            prop_assert_eq!(*expected % u64::from(turn), 0);
                        }
                        *expected += 1;
                        last = Some(run.flow);
                    }
                    left = left.saturating_sub(usize::from(run.count));
                }
                schedule.took(taken, &runs);
                sent += taken as u64;
                let issued: Vec<u64> = schedule.issued().map(|(_, _, issued)| issued).collect();
                prop_assert_eq!(&issued, &next);
                prop_assert_eq!(issued.iter().sum::<u64>(), sent);
                prop_assert!(next.iter().max().unwrap() - next.iter().min().unwrap() <= u64::from(turn));
            }
        }
    }

    #[test]
    fn a_turn_is_no_longer_than_a_burst() {
        let sizes = Sizes::from_lengths(&SizeList::Cycle(vec![100]), Framing::default()).unwrap();
        for (pps, turn) in [(Some(1000.0), 1), (Some(500_000.0), 50), (None, 128)] {
            let mut schedule = Schedule::new(sizes.clone(), vec![0, 1], pps, None);
            schedule.start(0, 128);
            assert_eq!(schedule.turn, turn);
        }
    }
}
