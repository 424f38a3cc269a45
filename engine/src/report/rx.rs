//! From receive workers' tallies to the report's `rx`.
#![forbid(unsafe_code)]

use std::net::{IpAddr, SocketAddr};

use hdrhistogram::Histogram;
use rustc_hash::FxHashMap;

use super::clock::Compared;
use super::groups::Groups;
use super::media;
use super::pattern;
use super::rates::{Rates, distribution, per_second};
use super::{
    Clock, Clocks, Distribution, IntervalRx, Ipdv, Iperf, Jitter, LossPeriods, NicClock, ReorderingExtent,
    Rx, Stream, Timestamps, Warning,
};
use crate::interop::iperf2::server::Row;
use crate::measure::delay::{Spread, Steps};
use crate::measure::tally::{
    Format, Pair, RxCounters, RxTally, StreamKey, StreamTally, gap_histogram, latency_histogram,
};
use crate::packet::probe::End;
use crate::queue::{QueueLoss, StampCounts};

/// Adds up what the receive workers hand over.
#[derive(Debug)]
pub struct RxCollector {
    /// The last totals of each worker.
    workers: Vec<Worker>,
    latency: Histogram<u64>,
    gaps: Histogram<u64>,
    spreads: FxHashMap<(IpAddr, u32), Spread>,
    steps: Steps,
    wire: Histogram<u64>,
    pairs: Vec<Pair>,
    as_iperf2: Vec<Row>,
    /// Latencies since the last interval.
    recent: Histogram<u64>,
    /// Totals at the last interval.
    reported: RxCounters,
    /// Intervals of media delivery indices by then.
    reported_mdi: u64,
    late_is_told: bool,
    kernel_stamps: bool,
    nic_clock: Option<NicClock>,
    clocks: Clocks,
    /// CLOCK_TAI in ns when the receiver was ready.
    ready_ns: u64,
    /// Where packets are wanted to come to.
    asked: Vec<SocketAddr>,
}

#[derive(Debug, Default, Clone)]
struct Worker {
    at_ns: u64,
    counters: RxCounters,
    streams: Vec<StreamTally>,
    negative_latency: u64,
    untracked: u64,
    contended: u64,
    stamps: StampCounts,
    pairs_missing: u64,
    messages: u64,
    losses: Vec<QueueLoss>,
}

impl Default for RxCollector {
    fn default() -> Self {
        Self {
            workers: Vec::new(),
            latency: latency_histogram(),
            gaps: gap_histogram(),
            spreads: FxHashMap::default(),
            steps: Steps::default(),
            wire: latency_histogram(),
            pairs: Vec::new(),
            as_iperf2: Vec::new(),
            recent: latency_histogram(),
            reported: RxCounters::default(),
            reported_mdi: 0,
            late_is_told: true,
            kernel_stamps: false,
            nic_clock: None,
            clocks: Clocks::default(),
            ready_ns: u64::MAX,
            asked: Vec::new(),
        }
    }
}

impl RxCollector {
    /// A collector of nothing.
    pub fn new() -> Self {
        Self::default()
    }

    /// The tallies come from a sink, which cannot tell a datagram that is late from a copy.
    pub fn leave_out_late(&mut self) {
        self.late_is_told = false;
    }

    /// Groups and ports that packets are wanted to come to; those of a single one need no naming.
    pub fn ask(&mut self, destinations: Vec<SocketAddr>) {
        self.asked = destinations;
    }

    /// The receiver is ready at `ready_ns` (CLOCK_TAI): what a sender that begins later sent is wanted from its first packet on.
    pub fn ready(&mut self, ready_ns: u64) {
        self.ready_ns = ready_ns;
    }

    /// Takes in a worker's tally: its totals replace those of its last one, its latencies and gaps are added.
    pub fn absorb(&mut self, tally: &RxTally) {
        if self.workers.len() <= tally.worker {
            self.workers.resize(tally.worker + 1, Worker::default());
        }
        let worker = &mut self.workers[tally.worker];
        worker.at_ns = tally.at_ns;
        worker.counters = tally.counters;
        worker.streams.clone_from(&tally.streams);
        worker.losses.clone_from(&tally.losses);
        worker.negative_latency = tally.negative_latency;
        worker.untracked = tally.untracked;
        worker.contended = tally.contended;
        worker.stamps = tally.stamps;
        worker.pairs_missing = tally.pairs_missing;
        worker.messages = tally.messages;
        self.clocks.hear(&tally.clocks);
        for sender in &tally.spreads {
            self.spreads.entry((sender.source, sender.run)).or_default().add(&sender.spread);
        }
        self.steps.add(&tally.steps);
        self.wire.add(&tally.wire).expect("all latency histograms have the same bounds");
        self.pairs.extend_from_slice(&tally.pairs);
        self.as_iperf2.extend_from_slice(&tally.as_iperf2);
        self.gaps.add(&tally.gaps).expect("all gap histograms have the same bounds");
        for histogram in [&mut self.latency, &mut self.recent] {
            histogram.add(&tally.latency).expect("all latency histograms have the same bounds");
        }
    }

    /// All workers' totals. What one of them missed may have come to another: `counted` knows better.
    pub fn totals(&self) -> RxCounters {
        self.workers.iter().fold(RxCounters::default(), |mut sum, worker| {
            sum.add(&worker.counters);
            sum
        })
    }

    /// As [`totals`](Self::totals), with what is missing told by the streams, of each of which several workers may have seen a part.
    fn counted(&self) -> RxCounters {
        let mut counted = self.totals();
        if self.workers.len() > 1 {
            (counted.lost, counted.lost_tail, counted.before_start) = (0, 0, 0);
            for RxCounters { lost, lost_tail, before_start, .. } in self.streams().iter().map(|s| s.counters)
            {
                counted.lost = counted.lost.saturating_add(lost);
                counted.lost_tail = counted.lost_tail.saturating_add(lost_tail);
                counted.before_start = counted.before_start.saturating_add(before_start);
            }
        }
        counted
    }

    /// CLOCK_TAI in ns up to which all that arrived is known: what came since still lies in a queue, or in a tally that was not handed over. 0 at first.
    pub fn known_until_ns(&self) -> u64 {
        self.workers.iter().map(|worker| worker.at_ns).min().unwrap_or(0)
    }

    /// Datagrams of recognised formats that worker number `worker` received.
    pub fn worker_packets(&self, worker: usize) -> u64 {
        self.workers.get(worker).map_or(0, |w| w.counters.packets)
    }

    /// The kernel was asked to say when packets arrived.
    pub fn expect_kernel_stamps(&mut self) {
        self.kernel_stamps = true;
    }

    /// The NIC was asked, and this is its clock up to now: what is known of the clocks is as much less exact.
    pub fn by_nic(&mut self, clock: NicClock) {
        self.clocks.arrivals_off_by(clock.error_ns);
        self.nic_clock = Some(clock);
    }

    fn timestamps(&self) -> Timestamps {
        let mut stamps = StampCounts::default();
        self.workers.iter().for_each(|worker| stamps.add(worker.stamps));
        let by_nic = |count| self.nic_clock.map(|_| count);
        Timestamps {
            source: match (self.nic_clock, self.kernel_stamps) {
                (Some(_), _) => "nic",
                (None, true) => "kernel",
                (None, false) => "user",
            },
            nic: by_nic(stamps.nic),
            kernel: by_nic(stamps.kernel),
            missing: self.kernel_stamps.then_some(stamps.missing),
            implausible: by_nic(stamps.implausible),
            nic_clock: self.nic_clock,
        }
    }

    /// The pairs that came since the last call.
    pub(crate) fn take_pairs(&mut self) -> Vec<Pair> {
        std::mem::take(&mut self.pairs)
    }

    /// The lines of iperf 2's server that came since the last call, in the order in which they were due.
    pub(crate) fn take_iperf2(&mut self) -> Vec<Row> {
        let mut rows = std::mem::take(&mut self.as_iperf2);
        rows.sort_by_key(|row| row.figures.stamp_ns);
        rows
    }

    /// Pairs that found no room on the way here.
    pub(crate) fn pairs_missing(&self) -> u64 {
        self.workers.iter().map(|w| w.pairs_missing).sum()
    }

    /// Latencies since the last interval.
    pub(super) fn recent(&self) -> &Histogram<u64> {
        &self.recent
    }

    /// What is known of the clocks.
    pub fn clocks(&mut self) -> &mut Clocks {
        &mut self.clocks
    }

    /// The report's `clock`.
    pub fn clock(&self) -> Clock {
        self.clocks.finish(self.compared())
    }

    /// The clocks of all senders whose packets carry a time of ours, against this host's.
    fn compared(&self) -> Option<Compared> {
        let streams = self.workers.iter().flat_map(|worker| &worker.streams);
        let timed = streams.filter(|s| s.key.format == Format::Wirerate && s.counters.packets > 0);
        self.clocks.compare(timed.map(|s| (s.key.source.ip(), s.key.run)))
    }

    /// Whether arrival minus departure is a latency, for every sender.
    pub(super) fn latency_is_told(&self) -> bool {
        self.compared().is_some_and(|compared| compared.relation.supports_latency())
    }

    /// Messages that arrived.
    pub fn messages(&self) -> u64 {
        self.workers.iter().map(|w| w.messages).sum()
    }

    /// What the kernel dropped at the workers' queues, added up by place and reason.
    pub fn losses(&self) -> Vec<QueueLoss> {
        let mut sums: Vec<QueueLoss> = Vec::new();
        for loss in self.workers.iter().flat_map(|w| &w.losses) {
            match sums.iter_mut().find(|s| (s.place, s.reason) == (loss.place, loss.reason)) {
                Some(sum) => sum.packets += loss.packets,
                None => sums.push(*loss),
            }
        }
        sums
    }

    /// What came since the last call (or the start), which was `span_ns` ago.
    pub fn interval(&mut self, span_ns: u64) -> IntervalRx {
        let now = self.counted();
        let last = std::mem::replace(&mut self.reported, now);
        let packets = now.packets.saturating_sub(last.packets);
        let has_media = self.workers.iter().flat_map(|w| &w.streams).any(|s| s.media.is_some());
        let (mdi, reported_mdi) =
            if has_media { media::worst(&self.streams(), self.reported_mdi) } else { (None, 0) };
        self.reported_mdi = reported_mdi;
        let interval = IntervalRx {
            packets,
            lost: now.lost.cast_signed().saturating_sub_unsigned(last.lost),
            pps: per_second(packets, span_ns),
            payload_bps: per_second(
                now.payload_bytes.saturating_sub(last.payload_bytes).saturating_mul(8),
                span_ns,
            ),
            latency_ns: distribution(&self.recent).filter(|_| self.latency_is_told()),
            mdi,
        };
        self.recent.reset();
        interval
    }

    /// The streams of all workers; those that several workers saw are put together.
    pub fn streams(&self) -> Vec<StreamTally> {
        let mut index: FxHashMap<StreamKey, usize> = FxHashMap::default();
        let mut all: Vec<StreamTally> = Vec::new();
        for stream in self.workers.iter().flat_map(|w| &w.streams) {
            match index.get(&stream.key) {
                Some(at) => merge(&mut all[*at], stream, self.ready_ns),
                None => {
                    index.insert(stream.key, all.len());
                    all.push(stream.clone());
                }
            }
        }
        all.sort_by_key(|s| (s.key.format, s.key.destination, s.key.source, s.key.run, s.key.stream));
        all
    }

    /// The report's `rx`.
    pub fn finish(&self) -> Rx {
        let c = self.counted();
        let rates = Rates::new(c.packets, c.frames, c.frame_bytes, c.payload_bytes, c.first_ns, c.last_ns);
        let tallies = self.streams();
        let restarts = pattern::restarts(&tallies);
        let detail = pattern::sum(&tallies);
        let is_media = |s: &StreamTally| matches!(s.key.format, Format::Rtp | Format::Ts);
        let read_by_iperf = || detail.as_ref().filter(|_| !tallies.iter().all(is_media));
        let streams: Vec<Stream> = tallies
            .iter()
            .zip(&restarts)
            .map(|(tally, restart_of)| Stream { restart_of: *restart_of, ..stream(tally, self.late_is_told) })
            .collect();
        Rx {
            packets: c.packets,
            unique: c.unique,
            fragments: (c.frames > c.packets).then_some(c.frames),
            frame_bytes: c.frame_bytes,
            payload_bytes: c.payload_bytes,
            duration_ns: rates.duration_ns,
            pps: rates.pps,
            l1_bps: rates.l1_bps,
            l2_bps: rates.l2_bps,
            payload_bps: rates.payload_bps,
            lost: c.lost,
            lost_tail: c.lost_tail,
            before_start: c.before_start,
            duplicate: c.duplicate,
            reordered: c.reordered,
            late: self.late_is_told.then_some(c.late),
            corrupt: c.corrupt,
            foreign: c.foreign,
            messages: self.messages(),
            timestamps: self.timestamps(),
            latency_ns: distribution(&self.latency).filter(|_| self.latency_is_told()),
            wire_latency_ns: distribution(&self.wire).filter(|_| self.latency_is_told()),
            inter_arrival_ns: distribution(&self.gaps),
            restarts: restarts.iter().flatten().count() as u64,
            loss_periods: detail.as_ref().and_then(|d| LossPeriods::new(&d.loss)),
            reordering: detail.as_ref().and_then(|d| ReorderingExtent::new(&d.reordering)),
            as_iperf3: read_by_iperf().map(|d| Iperf::from(&d.as_iperf3)),
            as_iperf2: read_by_iperf().map(|d| Iperf::from(&d.as_iperf2)),
            jitter_ns: streams.iter().filter_map(|s| s.jitter_ns).max_by_key(|j| (j.rfc3550, j.max)),
            // The lowest is where it is counted from, however coarsely the others are told.
            pdv_ns: distribution(&self.pdv()).map(|pdv| Distribution { min: 0, ..pdv }),
            ipdv_ns: distribution(&self.steps.sizes).map(|magnitude| Ipdv {
                min: self.steps.lowest,
                max: self.steps.highest,
                magnitude,
            }),
            rtp: media::sources(&tallies),
            groups: Groups::of(&self.asked, &tallies),
            streams,
        }
    }

    /// Each packet's delay above the lowest of its sender's.
    fn pdv(&self) -> Histogram<u64> {
        let mut all = latency_histogram();
        self.spreads.values().for_each(|spread| spread.above_lowest(&mut all));
        all
    }

    /// What a reader must know before believing the figures.
    pub fn warnings(&self) -> Vec<Warning> {
        let sum = |field: fn(&Worker) -> u64| self.workers.iter().map(field).sum::<u64>();
        let mut warnings: Vec<Warning> =
            self.compared().and_then(|compared| compared.warning()).into_iter().collect();
        let negative = if warnings.is_empty() { sum(|w| w.negative_latency) } else { 0 };
        let mut warn = |count: u64, code, text: &str, fix: Option<&str>| {
            if count > 0 {
                let text = format!("{count} {text}");
                warnings.push(Warning { code, text, fix: fix.map(str::to_owned) });
            }
        };
        warn(
            negative,
            "clock-disagreement",
            "datagrams arrived before they were sent by the clocks of the two hosts; latency is not to be believed",
            Some("synchronise both hosts' clocks with PTP or NTP"),
        );
        warn(
            self.totals().undecided,
            "undecided-duplicates",
            "datagrams were counted as duplicates that may have come very late instead: too many gaps lay between",
            None,
        );
        warn(
            sum(|w| w.untracked),
            "too-many-streams",
            "datagrams belonged to more streams than are followed (65536 by one worker, 4096 by --backend xdp); they are in no other count",
            Some("use fewer streams, or --format raw"),
        );
        let assumed =
            |s: &StreamTally| s.media.as_ref().and_then(|m| m.rtp).is_some_and(|rtp| rtp.clock_assumed);
        warn(
            self.streams().iter().filter(|s| assumed(s)).count() as u64,
            "clock-assumed",
            "RTP streams have a dynamic payload type whose clock nobody told: their jitter is that of a clock of 90000 Hz",
            Some("name it: --payload-type 96=48000, or --clock-rate 48000 for all"),
        );
        warn(
            sum(|w| w.contended),
            "contended-streams",
            "datagrams arrived but are in no count, and seem lost: another CPU held their stream for too long",
            Some("see that no two CPUs receive one stream, and that the hypervisor does not take CPUs away"),
        );
        let stamps = self.timestamps();
        let unstamped = stamps.kernel.unwrap_or(0) + stamps.missing.unwrap_or(0);
        warn(
            if stamps.nic == Some(0) { unstamped } else { 0 },
            "no-nic-stamps",
            "datagrams came, and the NIC stamped none of them: their times are the kernel's",
            Some(
                "see that no other program has changed what the NIC stamps (hwstamp_ctl -i IF); with --backend afxdp try mmsg, as not every driver tells XDP programs",
            ),
        );
        warnings
    }
}

/// Adds what another worker saw of the stream. Its numbers are one sequence: what is a gap to the one may have come to the other.
fn merge(into: &mut StreamTally, other: &StreamTally, ready_ns: u64) {
    let (a, b) = (into.counters, other.counters);
    // Numbers up to the highest that came.
    let known = |c: &RxCounters| c.before_start + c.unique + c.lost;
    let known = known(&a).max(known(&b));
    let same_end = into.end.is_some() == other.end.is_some();
    into.end = into.end.or(other.end);
    let c = &mut into.counters;
    c.add(&b);
    c.before_start = match (a.unique, b.unique) {
        _ if into.end.is_some_and(|end| end.first_ns >= ready_ns) => 0,
        (0, _) => b.before_start,
        (_, 0) => a.before_start,
        _ => a.before_start.min(b.before_start),
    };
    c.lost = known.saturating_sub(c.before_start + c.unique);
    c.lost_tail = into.end.map_or(0, |end| end.issued.saturating_sub(known));
    into.jitter_ns = match (into.jitter_ns, other.jitter_ns) {
        (Some((a, a_max)), Some((b, b_max))) => Some((a.max(b), a_max.max(b_max))),
        (a, b) => a.or(b),
    };
    into.ended_ns = into.ended_ns.max(other.ended_ns);
    // Nobody knows in which order the parts of two workers came, and a worker that did not hear the end knows of no tail.
    into.detail = match (a.unique, b.unique) {
        (_, 0) if same_end => into.detail.take(),
        (0, _) if same_end => other.detail.clone(),
        _ => None,
    };
    // A flow's packets come to one worker, but for fragments: the figures are those of the worker that saw more.
    if b.packets > a.packets {
        into.media.clone_from(&other.media);
    }
}

fn stream(tally: &StreamTally, late_is_told: bool) -> Stream {
    let (key, c) = (&tally.key, &tally.counters);
    let detail = tally.detail.as_deref();
    // RTP's first number is drawn at random.
    let counted_from_0 = key.format != Format::Rtp;
    Stream {
        id: key.stream,
        run: if key.format == Format::Wirerate { key.run } else { 0 },
        format: key.format.name(),
        source: key.source,
        group: key.destination.ip(),
        port: key.destination.port(),
        packets: c.packets,
        unique: c.unique,
        lost: c.lost,
        lost_tail: c.lost_tail,
        before_start: c.before_start,
        duplicate: c.duplicate,
        reordered: c.reordered,
        late: late_is_told.then_some(c.late),
        corrupt: c.corrupt,
        jitter_ns: tally.jitter_ns.map(|(rfc3550, max)| Jitter { rfc3550, max }),
        sent: tally.end.map(|End { issued, failed, .. }| issued.saturating_sub(failed)),
        first_number: detail.filter(|_| counted_from_0).and_then(|d| d.first_number),
        restart_of: None,
        loss_periods: detail.and_then(|d| LossPeriods::new(&d.loss)),
        reordering: detail.and_then(|d| ReorderingExtent::new(&d.reordering)),
        as_iperf3: detail.filter(|_| counted_from_0).map(|d| Iperf::from(&d.as_iperf3)),
        as_iperf2: detail.filter(|_| counted_from_0).map(|d| Iperf::from(&d.as_iperf2)),
        rtp: tally.media.as_ref().and_then(|m| m.rtp.as_ref()).map(media::rtp),
        ts: tally.media.as_ref().and_then(|m| m.ts.as_ref()).map(media::ts),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::clock::Claim;
    use crate::measure::tally::SenderClock;

    const CLAIM: Claim =
        Claim { host: 1, synchronised: false, tai_offset_s: 0, estimated_error_us: 0, max_error_us: 0 };

    /// On the sender's host.
    fn collector() -> RxCollector {
        let mut collector = RxCollector::new();
        collector.clocks().note(Some(CLAIM));
        collector
    }

    fn key(stream: u16) -> StreamKey {
        StreamKey {
            format: Format::Wirerate,
            run: 7,
            stream,
            source: "10.0.0.1:40000".parse().unwrap(),
            destination: "239.1.2.3:5001".parse().unwrap(),
        }
    }

    fn tally(worker: usize, packets: u64, lost: u64) -> RxTally {
        let counters = RxCounters {
            packets,
            unique: packets,
            lost,
            payload_bytes: packets * 18,
            frame_bytes: packets * 64,
            frames: packets,
            first_ns: 1000,
            last_ns: 1000 + packets.saturating_sub(1) * 1000,
            ..RxCounters::default()
        };
        let mut tally = RxTally::new(worker);
        tally.counters = counters;
        tally.streams.push(StreamTally {
            key: key(3),
            counters,
            jitter_ns: Some((worker as u64, 9)),
            end: (worker == 1).then_some(End { issued: 100, failed: 2, first_ns: 1, last_ns: 2 }),
            announced: 0,
            ended_ns: 0,
            detail: None,
            media: None,
        });
        tally.messages = 3;
        tally.clocks.push(SenderClock { source: key(3).source.ip(), run: 7, claim: CLAIM });
        tally.latency.record_n(5000, packets).unwrap();
        tally.gaps.record_n(1000, packets.saturating_sub(1)).unwrap();
        tally.losses.push(QueueLoss { place: "socket", reason: "full", packets: 2 });
        tally
    }

    #[test]
    fn totals_replace_histograms_add_workers_sum() {
        let mut collector = collector();
        collector.absorb(&tally(0, 10, 20));
        collector.absorb(&tally(1, 5, 3));
        let first = collector.interval(1_000_000_000);
        assert_eq!((first.packets, first.lost, first.pps, first.payload_bps), (15, 15, 15, 15 * 18 * 8));
        assert_eq!(first.latency_ns.unwrap().count, 15);
        // The later tally of worker 0 holds what the earlier one did, and late arrivals have filled some of the gaps.
        collector.absorb(&tally(0, 20, 10));
        let second = collector.interval(500_000_000);
        assert_eq!((second.packets, second.lost, second.pps), (10, -10, 20));
        assert_eq!(second.latency_ns.unwrap().count, 20);
        let rx = collector.finish();
        assert_eq!((rx.packets, rx.lost, rx.lost_tail, rx.duration_ns), (25, 5, 70, 19_000));
        assert_eq!(rx.messages, 6);
        assert_eq!(rx.latency_ns.unwrap().count, 35);
        assert_eq!(rx.inter_arrival_ns.unwrap().count, 9 + 4 + 19);
        assert_eq!(rx.streams.len(), 1, "one stream seen by two workers");
        let s = &rx.streams[0];
        assert_eq!((s.id, s.run, s.packets, s.sent), (3, 7, 25, Some(98)));
        assert_eq!((s.jitter_ns.unwrap().rfc3550, rx.jitter_ns.unwrap().max), (1, 9));
        assert_eq!(collector.losses(), [QueueLoss { place: "socket", reason: "full", packets: 4 }]);
        assert_eq!((collector.worker_packets(0), collector.worker_packets(9)), (20, 0));
    }

    #[test]
    fn a_stream_that_several_workers_saw_is_one_sequence() {
        let part = |worker, before_start, unique, lost, end| {
            let mut tally = tally(worker, unique, lost);
            tally.counters.before_start = before_start;
            tally.streams[0].counters = tally.counters;
            tally.streams[0].end = end;
            tally
        };
        let end = Some(End { issued: 100, failed: 0, first_ns: 50, last_ns: 60 });
        let figures = |parts: &[RxTally], ready_ns| {
            let mut collector = collector();
            collector.ready(ready_ns);
            parts.iter().for_each(|part| collector.absorb(part));
            let rx = collector.finish();
            assert_eq!(rx.streams[0].lost, rx.lost);
            assert_eq!(rx.before_start + rx.unique + rx.lost + rx.lost_tail, 100);
            [rx.before_start, rx.unique, rx.lost, rx.lost_tail]
        };
        // All odd numbers came to the one, all even ones to the other, up to 79.
        let halves = [part(0, 0, 40, 39, None), part(1, 1, 40, 39, end)];
        assert_eq!(figures(&halves, 51), [0, 80, 0, 20]);
        // One of them heard nothing but the end.
        let alone = [part(0, 0, 0, 0, end), part(1, 10, 85, 5, None)];
        assert_eq!(figures(&alone, 51), [10, 85, 5, 0]);
        // The sender began when the receiver was ready: what came before the first that arrived is lost.
        assert_eq!(figures(&alone, 50), [0, 85, 15, 0]);
    }

    #[test]
    fn nothing_received_is_zeros_and_absences() {
        let mut collector = collector();
        let rx = collector.finish();
        assert_eq!((rx.packets, rx.pps, rx.l1_bps), (0, 0, 0));
        assert!(
            rx.latency_ns.is_none()
                && rx.inter_arrival_ns.is_none()
                && rx.jitter_ns.is_none()
                && rx.streams.is_empty()
        );
        assert_eq!(collector.interval(0).pps, 0);
        assert!(collector.warnings().is_empty());
        collector.absorb(&tally(0, 1, 0));
        assert_eq!(collector.finish().payload_bps, 0, "one packet has no rate");
    }

    #[test]
    fn a_latency_is_told_only_where_the_clocks_support_it() {
        let told = |claim: Option<Claim>| {
            let mut collector = collector();
            let mut tally = tally(0, 10, 0);
            tally.clocks.clear();
            tally.negative_latency = 1;
            let source = key(3).source.ip();
            tally.clocks.extend(claim.map(|claim| SenderClock { source, run: 7, claim }));
            collector.absorb(&tally);
            let interval = collector.interval(1).latency_ns.is_some();
            let rx = collector.finish();
            assert_eq!(rx.latency_ns.is_some(), interval);
            assert!(rx.jitter_ns.is_some() && rx.inter_arrival_ns.is_some(), "these need no common clock");
            let codes: Vec<_> = collector.warnings().iter().map(|w| w.code).collect();
            (interval, collector.clock().relation.unwrap(), codes)
        };
        assert_eq!(told(Some(CLAIM)), (true, "same-host", vec!["clock-disagreement"]));
        assert_eq!(told(Some(Claim { host: 2, ..CLAIM })), (false, "undisciplined", vec!["clocks-apart"]));
        assert_eq!(told(None), (false, "unknown", vec!["clock-unknown"]));
    }

    fn collector_by_nic() -> RxCollector {
        let mut collector = collector();
        collector.expect_kernel_stamps();
        collector.by_nic(NicClock {
            phc: 0,
            read: "plain",
            offset_ns: 1,
            faster_ppb: 2,
            error_ns: 3,
            comparisons: 2,
            steps: 0,
        });
        collector
    }

    #[test]
    fn what_spoils_the_figures_is_said() {
        let mut collector = collector();
        let mut bad = tally(0, 1, 0);
        bad.negative_latency = 3;
        bad.untracked = 4;
        bad.contended = 6;
        bad.counters.undecided = 5;
        collector.absorb(&bad);
        let codes: Vec<_> = collector.warnings().iter().map(|w| w.code).collect();
        assert_eq!(
            codes,
            ["clock-disagreement", "undecided-duplicates", "too-many-streams", "contended-streams"]
        );
        assert!(collector.warnings()[0].text.starts_with("3 datagrams"));
        let mut collector = collector_by_nic();
        let mut tally = tally(0, 5, 0);
        tally.stamps = StampCounts { kernel: 4, missing: 1, ..StampCounts::default() };
        collector.absorb(&tally);
        let warnings = collector.warnings();
        let warning = warnings.iter().find(|w| w.code == "no-nic-stamps").expect("none was stamped");
        assert!(warning.text.starts_with("5 datagrams"), "{}", warning.text);
        tally.stamps.nic = 1;
        collector.absorb(&tally);
        assert!(collector.warnings().iter().all(|w| w.code != "no-nic-stamps"));
        let told = collector.finish().timestamps;
        assert_eq!((told.source, told.nic, told.kernel, told.missing), ("nic", Some(1), Some(4), Some(1)));
    }
}
