//! How packets were lost and reordered, and what iperf would have made of it.
#![forbid(unsafe_code)]

use rustc_hash::FxHashMap;
use serde::Serialize;

use crate::measure::iperf::AsIperf;
use crate::measure::loss::Loss;
use crate::measure::reorder::Reordering;
use crate::measure::sequence::Detail;
use crate::measure::spread;
use crate::measure::tally::{Format, StreamTally};

/// How whole numbers are distributed: exact in all but the buckets, each of which reaches to twice the one before.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Spread {
    /// How many numbers.
    pub count: u64,
    /// Lowest.
    pub min: u64,
    /// Mean, rounded down.
    pub mean: u64,
    /// Highest.
    pub max: u64,
    /// Sum.
    pub sum: u64,
    /// How many in each range that has any, in rising order.
    pub buckets: Vec<Bucket>,
}

/// Numbers of one range.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
pub struct Bucket {
    /// Highest number of the range (0, 1, 3, 7, 15 …); it begins above that of the range before.
    pub up_to: u64,
    /// How many.
    pub count: u64,
}

/// Loss as runs of consecutive packets (RFC 3357).
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct LossPeriods {
    /// Lengths of the loss periods in packets; the sum is what was lost, in gaps and at the end.
    pub length_packets: Spread,
    /// From the last packet of a loss period to the first of the next, in sequence numbers; absent with a single one.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub distance_packets: Option<Spread>,
    /// Time from the last arrival before a gap to the first after it. What was lost before the first arrival or after the last has none.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub outage_ns: Option<Spread>,
    /// The same by the stamps in the packets on both sides of each gap; absent where they have none.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub sent_gap_ns: Option<Spread>,
    /// Packets in the lengths that came after all, when their loss period had already been closed.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub refilled: Option<u64>,
}

/// How far out of order packets came (RFC 4737). Copies are left out.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct ReorderingExtent {
    /// Reordering extent: arrivals since the first with a higher number.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub extent_packets: Option<Spread>,
    /// Late-time offset: time since the first arrival with a higher number.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub late_ns: Option<Spread>,
    /// Reordered packets of which neither is known any more.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub unplaced: Option<u64>,
    /// n-reordering: arrivals right before a reordered packet that all have higher numbers.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub n_packets: Option<Spread>,
    /// Reordered packets with at least three of them, which TCP takes for lost.
    pub three_or_more: u64,
    /// Reordered packets with more of them than are remembered: their n is too small.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub at_least: Option<u64>,
}

/// What an iperf would have printed.
#[derive(Debug, Clone, Copy, PartialEq, Serialize)]
pub struct Iperf {
    /// Lost datagrams.
    pub lost: u64,
    /// Datagrams, as it counts them.
    pub packets: u64,
    /// Lost of them, in percent.
    pub lost_percent: f64,
    /// Datagrams out of order.
    pub out_of_order: u64,
    /// Jitter (iperf3); of several streams, the mean.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub jitter_ns: Option<u64>,
}

impl Spread {
    fn new(spread: &spread::Spread) -> Option<Self> {
        let (min, max) = spread.range()?;
        let buckets = spread.buckets().map(|(up_to, count)| Bucket { up_to, count }).collect();
        Some(Self { count: spread.count(), min, mean: spread.mean(), max, sum: spread.sum(), buckets })
    }
}

impl LossPeriods {
    /// `None` when nothing was lost.
    pub(super) fn new(loss: &Loss) -> Option<Self> {
        Some(Self {
            length_packets: Spread::new(&loss.lengths)?,
            distance_packets: Spread::new(&loss.distances),
            outage_ns: Spread::new(&loss.outages_ns),
            sent_gap_ns: Spread::new(&loss.sent_gaps_ns),
            refilled: above_zero(loss.refilled),
        })
    }
}

impl ReorderingExtent {
    /// `None` when nothing was reordered.
    pub(super) fn new(reordering: &Reordering) -> Option<Self> {
        let Reordering { extents, late_ns, unplaced, n, three, at_least } = reordering;
        (extents.count() + unplaced > 0).then(|| Self {
            extent_packets: Spread::new(extents),
            late_ns: Spread::new(late_ns),
            unplaced: above_zero(*unplaced),
            n_packets: Spread::new(n),
            three_or_more: *three,
            at_least: above_zero(*at_least),
        })
    }
}

impl From<&AsIperf> for Iperf {
    fn from(iperf: &AsIperf) -> Self {
        let AsIperf { lost, out_of_order, packets, jitter_ns } = *iperf;
        Self { lost, packets, lost_percent: iperf.lost_percent(), out_of_order, jitter_ns }
    }
}

fn above_zero(count: u64) -> Option<u64> {
    (count > 0).then_some(count)
}

/// The details of all streams as one; `None` when those of any are not known.
pub(super) fn sum(streams: &[StreamTally]) -> Option<Detail> {
    let mut sum = Detail::default();
    let mut jitter = (0u64, 0u64);
    let mut count = 0;
    for stream in streams.iter().filter(|s| !matches!(s.key.format, Format::Raw | Format::Ts)) {
        let detail = stream.detail.as_ref()?;
        sum.loss.add(&detail.loss);
        sum.reordering.add(&detail.reordering);
        count += 1;
        if stream.key.format == Format::Rtp {
            // Whose numbers iperf does not read.
            continue;
        }
        add(&mut sum.as_iperf3, &detail.as_iperf3);
        add(&mut sum.as_iperf2, &detail.as_iperf2);
        jitter = (jitter.0.saturating_add(detail.as_iperf3.jitter_ns.unwrap_or(0)), jitter.1 + 1);
    }
    sum.as_iperf3.jitter_ns = jitter.0.checked_div(jitter.1);
    (count > 0).then_some(sum)
}

fn add(sum: &mut AsIperf, one: &AsIperf) {
    sum.lost += one.lost;
    sum.out_of_order += one.out_of_order;
    sum.packets += one.packets;
}

/// The run of which each stream is a restart: that of the last stream before it from the same address, of the same number, to the same
/// destination, if all that came of that one came before all that came of this one.
pub(super) fn restarts(streams: &[StreamTally]) -> Vec<Option<u32>> {
    let has_runs = |s: &StreamTally| s.key.format == Format::Wirerate && s.counters.packets > 0;
    let mut order: Vec<usize> = (0..streams.len()).filter(|n| has_runs(&streams[*n])).collect();
    order.sort_by_key(|n| streams[*n].counters.first_ns);
    let mut restart_of = vec![None; streams.len()];
    // Of each place, the stream heard last.
    let mut latest: FxHashMap<_, usize> = FxHashMap::default();
    for at in order {
        let StreamTally { key, counters, .. } = &streams[at];
        // A sender that is started again most often has another port.
        let place = (key.format, key.source.ip(), key.destination, key.stream);
        let before = latest.entry(place).or_insert(at);
        let old = &streams[*before];
        if old.key.run != key.run && old.counters.last_ns < counters.first_ns {
            restart_of[at] = Some(old.key.run);
        }
        if old.counters.last_ns <= counters.last_ns {
            *before = at;
        }
    }
    restart_of
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::measure::tally::{RxCounters, StreamKey};

    /// A stream of `run` from port `port`, heard from `first_ns` to `last_ns`.
    fn heard(run: u32, port: u16, stream: u16, first_ns: u64, last_ns: u64) -> StreamTally {
        StreamTally {
            key: StreamKey {
                format: Format::Wirerate,
                run,
                stream,
                source: ([10, 0, 0, 1], port).into(),
                destination: ([10, 0, 0, 2], 5001).into(),
            },
            counters: RxCounters { packets: 1, first_ns, last_ns, ..RxCounters::default() },
            jitter_ns: None,
            end: None,
            announced: 0,
            ended_ns: 0,
            detail: None,
            media: None,
        }
    }

    #[test]
    fn a_restart_begins_when_the_old_run_is_over() {
        let streams = [
            heard(1, 4000, 0, 100, 200),
            heard(2, 4001, 0, 300, 400),
            // Another stream, one that ran beside it, and the next run.
            heard(3, 4002, 1, 300, 400),
            heard(4, 4003, 0, 350, 390),
            heard(5, 4001, 0, 500, 600),
        ];
        assert_eq!(restarts(&streams), [None, Some(1), None, None, Some(2)]);
        assert_eq!(restarts(&[]), []);
    }

    #[test]
    fn figures_of_streams_add_up() {
        let with = |lost: u64, jitter_ns| {
            let mut detail = Detail::default();
            detail.loss.lost(5, 4 + lost);
            detail.as_iperf3 = AsIperf { lost, out_of_order: 1, packets: 100, jitter_ns: Some(jitter_ns) };
            StreamTally { detail: Some(Box::new(detail)), ..heard(1, 1, 1, 1, 2) }
        };
        let all = sum(&[with(3, 10), with(7, 30)]).unwrap();
        let iperf3 = Iperf::from(&all.as_iperf3);
        assert_eq!((iperf3.lost, iperf3.packets, iperf3.jitter_ns), (10, 200, Some(20)));
        assert!((iperf3.lost_percent - 5.0).abs() < 1e-9);
        let periods = LossPeriods::new(&all.loss).unwrap();
        assert_eq!((periods.length_packets.count, periods.length_packets.sum), (2, 10));
        assert_eq!(periods.distance_packets, None, "streams have numbers of their own");
        assert!(sum(&[with(3, 10), heard(1, 1, 1, 1, 2)]).is_none());
    }
}
