//! From transmit workers' tallies to the report's `tx`.
#![forbid(unsafe_code)]

use hdrhistogram::Histogram;

use super::rates::{Rates, distribution, per_second};
use super::{Burst, IntervalTx, IperfServer, Tx};
use crate::generate::Ends;
use crate::measure::tally::{TxTally, burst_histogram, gap_histogram, latency_histogram};

/// Adds up what the transmit workers hand over.
#[derive(Debug)]
pub struct TxCollector {
    /// The last totals of each worker.
    workers: Vec<Totals>,
    burst: Histogram<u64>,
    gaps: Histogram<u64>,
    lateness: Histogram<u64>,
    iperf2: Ends,
    /// Totals at the last interval.
    reported: Totals,
}

/// Counts of one worker or of all.
#[derive(Debug, Clone, Copy, Default)]
struct Totals {
    packets: u64,
    errors: u64,
    payload_bytes: u64,
    frame_bytes: u64,
    frames: u64,
    messages: u64,
    overdue: Option<u64>,
    first_ns: u64,
    last_ns: u64,
}

impl Totals {
    fn of(tally: &TxTally) -> Self {
        // The tally's bytes are of refused packets, too; of the others they are a share, exact where all have one size.
        let share = |bytes: u64| {
            let all = u128::from(tally.packets) + u128::from(tally.errors);
            let part = (u128::from(bytes) * u128::from(tally.packets)).checked_div(all).unwrap_or(0);
            u64::try_from(part).expect("a part is no larger than the whole")
        };
        Self {
            packets: tally.packets,
            errors: tally.errors,
            payload_bytes: share(tally.payload_bytes),
            frame_bytes: share(tally.frame_bytes),
            frames: share(tally.frames),
            messages: tally.messages,
            overdue: tally.overdue,
            first_ns: tally.first_ns,
            last_ns: tally.last_ns,
        }
    }

    fn add(&mut self, other: &Self) {
        self.packets += other.packets;
        self.errors += other.errors;
        self.payload_bytes += other.payload_bytes;
        self.frame_bytes += other.frame_bytes;
        self.frames += other.frames;
        self.messages += other.messages;
        self.overdue = match (self.overdue, other.overdue) {
            (None, one) | (one, None) => one,
            (Some(a), Some(b)) => Some(a + b),
        };
        self.first_ns = match (self.first_ns, other.first_ns) {
            (0, first) | (first, 0) => first,
            (a, b) => a.min(b),
        };
        self.last_ns = self.last_ns.max(other.last_ns);
    }
}

impl Default for TxCollector {
    fn default() -> Self {
        Self {
            workers: Vec::new(),
            burst: burst_histogram(),
            gaps: gap_histogram(),
            lateness: latency_histogram(),
            iperf2: Ends::default(),
            reported: Totals::default(),
        }
    }
}

impl TxCollector {
    /// A collector of nothing.
    pub fn new() -> Self {
        Self::default()
    }

    /// Takes in a worker's tally: its totals replace those of its last one, its bursts and gaps are added.
    pub fn absorb(&mut self, tally: &TxTally) {
        if self.workers.len() <= tally.worker {
            self.workers.resize(tally.worker + 1, Totals::default());
        }
        self.workers[tally.worker] = Totals::of(tally);
        self.iperf2.answers.extend_from_slice(&tally.iperf2.answers);
        self.iperf2.unanswered += tally.iperf2.unanswered;
        self.burst.add(&tally.burst).expect("all burst histograms have the same bounds");
        self.lateness.add(&tally.lateness).expect("all latency histograms have the same bounds");
        self.gaps.add(&tally.gaps).expect("all gap histograms have the same bounds");
    }

    fn totals(&self) -> Totals {
        self.workers.iter().fold(Totals::default(), |mut sum, worker| {
            sum.add(worker);
            sum
        })
    }

    /// Packets handed over so far.
    pub fn packets(&self) -> u64 {
        self.totals().packets
    }

    /// Packets that this host refused so far.
    pub fn errors(&self) -> u64 {
        self.totals().errors
    }

    /// Packets that worker number `worker` handed over.
    pub fn worker_packets(&self, worker: usize) -> u64 {
        self.workers.get(worker).map_or(0, |w| w.packets)
    }

    /// Streams whose iperf server should have answered their end, and did not.
    pub fn unanswered(&self) -> u64 {
        self.iperf2.unanswered
    }

    /// What was sent since the last call (or the start), which was `span_ns` ago.
    pub fn interval(&mut self, span_ns: u64) -> IntervalTx {
        let now = self.totals();
        let last = std::mem::replace(&mut self.reported, now);
        let packets = now.packets.saturating_sub(last.packets);
        let payload = now.payload_bytes.saturating_sub(last.payload_bytes);
        IntervalTx {
            packets,
            errors: now.errors.saturating_sub(last.errors),
            pps: per_second(packets, span_ns),
            payload_bps: per_second(payload.saturating_mul(8), span_ns),
        }
    }

    /// The report's `tx`.
    pub fn finish(&self) -> Tx {
        let t = self.totals();
        let rates = Rates::new(t.packets, t.frames, t.frame_bytes, t.payload_bytes, t.first_ns, t.last_ns);
        Tx {
            packets: t.packets,
            fragments: (t.frames > t.packets).then_some(t.frames),
            frame_bytes: t.frame_bytes,
            payload_bytes: t.payload_bytes,
            duration_ns: rates.duration_ns,
            pps: rates.pps,
            l1_bps: rates.l1_bps,
            l2_bps: rates.l2_bps,
            payload_bps: rates.payload_bps,
            errors: t.errors,
            messages: t.messages,
            iperf2: self.iperf2.answers.iter().map(|&(stream, said)| IperfServer { stream, said }).collect(),
            overdue: t.overdue,
            burst: Burst {
                p50: self.burst.value_at_quantile(0.5),
                p99: self.burst.value_at_quantile(0.99),
                max: self.burst.max(),
            },
            inter_departure_ns: distribution(&self.gaps),
            lateness_ns: distribution(&self.lateness),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn tally(worker: usize, packets: u64, errors: u64) -> TxTally {
        let mut tally = TxTally::new(worker);
        tally.packets = packets;
        tally.errors = errors;
        tally.payload_bytes = (packets + errors) * 18;
        tally.frame_bytes = (packets + errors) * 64;
        tally.frames = packets + errors;
        tally.messages = 3;
        tally.first_ns = 1_000_000 * (worker as u64 + 1);
        tally.last_ns = tally.first_ns + 1_000_000_000;
        tally.burst.record_n(4, packets / 4).unwrap();
        tally.gaps.record_n(2_000, packets / 4 - 1).unwrap();
        tally
    }

    #[test]
    fn workers_sum_and_refused_packets_have_no_bytes() {
        let mut collector = TxCollector::new();
        collector.absorb(&tally(0, 500, 10));
        collector.absorb(&tally(1, 500, 0));
        assert_eq!(collector.interval(500_000_000).pps, 2000);
        collector.absorb(&tally(0, 1501, 20));
        let interval = collector.interval(1_000_000_000);
        assert_eq!((interval.packets, interval.errors, interval.payload_bps), (1001, 10, 1001 * 18 * 8));
        let tx = collector.finish();
        assert_eq!((tx.packets, tx.errors, tx.messages), (2001, 20, 6));
        assert_eq!((tx.payload_bytes, tx.frame_bytes), (2001 * 18, 2001 * 64));
        assert_eq!((tx.duration_ns, tx.pps), (1_001_000_000, 1998));
        assert_eq!((tx.burst.p50, tx.burst.p99, tx.burst.max), (4, 4, 4));
        assert_eq!(tx.overdue, None, "no packet had a time");
        collector.absorb(&TxTally { overdue: Some(4), ..tally(0, 1501, 20) });
        assert_eq!(collector.finish().overdue, Some(4));
        collector.absorb(&TxTally { overdue: Some(5), ..tally(1, 500, 0) });
        assert_eq!(collector.finish().overdue, Some(9));
        let gaps = tx.inter_departure_ns.unwrap();
        assert_eq!(gaps.count, 124 + 124 + 374, "what is new of each worker");
        assert!(gaps.p50.abs_diff(2_000) <= 20 && gaps.mean.abs_diff(2_000) <= 20);
        assert_eq!((collector.worker_packets(0), collector.errors()), (1501, 20));
    }

    #[test]
    fn nothing_sent_is_zeros() {
        let mut collector = TxCollector::new();
        collector.absorb(&TxTally::new(2));
        let tx = collector.finish();
        assert_eq!((tx.packets, tx.pps, tx.l1_bps, tx.duration_ns, tx.burst.max), (0, 0, 0, 0, 0));
        assert!(tx.inter_departure_ns.is_none());
        assert_eq!(collector.interval(0).pps, 0);
    }
}
