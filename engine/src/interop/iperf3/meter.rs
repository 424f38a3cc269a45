//! Intervals and ends of a test, from what its streams have counted.
#![forbid(unsafe_code)]

use std::time::{Duration, Instant};

use super::data::{Count, Data};
use super::event::{Interval, Stream, StreamEnd, StreamInterval, Totals};
use super::results::{Results, StreamResult};

/// A last interval shorter than this part of the others is left out, as in iperf3.
const LEAST_PART: f64 = 0.1;

/// When what is told of a test.
#[derive(Debug)]
pub(super) struct Meter {
    test: u64,
    /// Zero: no intervals.
    interval: Duration,
    /// Of the test, or of its omitted beginning while that lasts.
    begun: Instant,
    /// When the omitted beginning ends, while it lasts.
    omit_until: Option<Instant>,
    /// The last interval's end, and what had been counted then.
    last: (Instant, Vec<Count>),
    /// Intervals since `begun`.
    told: u32,
    /// What the omitted beginning came to.
    omitted: Vec<Count>,
    ended: Option<Instant>,
}

impl Meter {
    /// Begins now.
    pub(super) fn begin(test: u64, interval: Duration, omit: Duration, streams: usize) -> Self {
        let now = Instant::now();
        Self {
            test,
            interval,
            begun: now,
            omit_until: (!omit.is_zero()).then(|| now + omit),
            last: (now, vec![Count::default(); streams]),
            told: 0,
            omitted: vec![Count::default(); streams],
            ended: None,
        }
    }

    /// Whether the omitted beginning lasts.
    pub(super) fn omits(&self) -> bool {
        self.omit_until.is_some()
    }

    /// How long the test lasts, without its omitted beginning.
    pub(super) fn lasted(&self) -> Duration {
        self.begun.elapsed()
    }

    /// Payload in bytes and datagrams of the direction that has more, without the omitted beginning.
    pub(super) fn most(&self, counts: &[Count], streams: &[Stream]) -> (u64, u64) {
        let of = |sender: bool| {
            let all = self.totals(counts).into_iter().zip(streams).filter(|(_, s)| s.sender == sender);
            all.fold((0, 0), |(bytes, packets), (t, _)| (bytes + t.bytes, packets + t.packets))
        };
        let (sent, received) = (of(true), of(false));
        (sent.0.max(received.0), sent.1.max(received.1))
    }

    /// When there is something to do next.
    pub(super) fn due(&self) -> Option<Instant> {
        let next = (!self.interval.is_zero()).then(|| self.begun + self.interval * (self.told + 1));
        [next, self.omit_until].into_iter().flatten().min()
    }

    /// What there is to tell by now.
    pub(super) fn look(&mut self, now: Instant, data: &Data) -> Option<Interval> {
        if self.ended.is_some() || self.due().is_none_or(|due| due > now) {
            return None;
        }
        let counts = data.counts();
        if let Some(until) = self.omit_until.filter(|&until| until <= now) {
            let interval = self.interval(now, &counts);
            data.forget_jitter();
            self.omit_until = None;
            (self.begun, self.told) = (until, 0);
            self.last = (now, counts.clone());
            self.omitted = counts;
            return interval;
        }
        self.told = (now.duration_since(self.begun).as_secs_f64() / self.interval.as_secs_f64()) as u32;
        self.interval(now, &counts)
    }

    /// The time of the data is over, with these counts: the last interval.
    pub(super) fn end(&mut self, now: Instant, counts: &[Count]) -> Option<Interval> {
        if self.ended.is_some() {
            return None;
        }
        let interval = self.interval(now, counts);
        self.ended = Some(now);
        interval
    }

    /// What this end says of each stream.
    pub(super) fn totals(&self, counts: &[Count]) -> Vec<Totals> {
        counts
            .iter()
            .zip(&self.omitted)
            .map(|(count, omitted)| Totals {
                bytes: count.bytes - omitted.bytes.min(count.bytes),
                packets: count.packets - omitted.packets.min(count.packets),
                lost: difference(count.lost, omitted.lost),
                out_of_order: count.out_of_order - omitted.out_of_order.min(count.out_of_order),
                jitter: count.jitter,
                seconds: self.seconds(),
            })
            .collect()
    }

    /// The same as it travels.
    pub(super) fn results(&self, counts: &[Count]) -> Vec<StreamResult> {
        counts
            .iter()
            .zip(&self.omitted)
            .map(|(count, omitted)| StreamResult {
                bytes: count.bytes - omitted.bytes.min(count.bytes),
                packets: count.packets,
                omitted_packets: Some(omitted.packets),
                errors: count.lost.try_into().unwrap_or(i64::MAX),
                omitted_errors: Some(omitted.lost.try_into().unwrap_or(i64::MAX)),
                jitter: count.jitter,
                seconds: self.seconds(),
            })
            .collect()
    }

    /// What both ends say of each stream, of which the other may not have said anything.
    pub(super) fn ends(&self, counts: &[Count], peer: Option<&Results>) -> Vec<StreamEnd> {
        let theirs = |place: usize| {
            Some(peer?.streams.get(place)?.totals(self.omitted.get(place).map_or(0, |o| o.packets)))
        };
        (0..).zip(self.totals(counts)).map(|(n, own)| StreamEnd { own, peer: theirs(n) }).collect()
    }

    fn seconds(&self) -> f64 {
        self.ended.unwrap_or_else(Instant::now).saturating_duration_since(self.begun).as_secs_f64()
    }

    fn interval(&mut self, now: Instant, counts: &[Count]) -> Option<Interval> {
        let lasted = now.saturating_duration_since(self.last.0).as_secs_f64();
        if self.interval.is_zero() || lasted < self.interval.as_secs_f64() * LEAST_PART {
            return None;
        }
        let seconds = |at: Instant| at.saturating_duration_since(self.begun).as_secs_f64();
        let streams = counts.iter().zip(&self.last.1).map(|(now, before)| since(now, before)).collect();
        let interval = Interval {
            test: self.test,
            start: seconds(self.last.0),
            end: seconds(now),
            omitted: self.omits(),
            streams,
        };
        self.last = (now, counts.to_vec());
        Some(interval)
    }
}

fn since(now: &Count, before: &Count) -> StreamInterval {
    StreamInterval {
        bytes: now.bytes - before.bytes.min(now.bytes),
        packets: now.packets - before.packets.min(now.packets),
        lost: difference(now.lost, before.lost),
        out_of_order: now.out_of_order - before.out_of_order.min(now.out_of_order),
        jitter: now.jitter,
    }
}

fn difference(now: u64, before: u64) -> i64 {
    let signed = |n: u64| i64::try_from(n).unwrap_or(i64::MAX);
    signed(now) - signed(before)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_short_last_interval_is_left_out() {
        let mut meter = Meter::begin(1, Duration::from_secs(1), Duration::ZERO, 1);
        let begun = meter.begun;
        let count = |bytes| [Count { bytes, packets: bytes / 10, ..Count::default() }];
        let first = meter.interval(begun + Duration::from_secs(1), &count(100)).unwrap();
        assert_eq!((first.streams[0].bytes, first.streams[0].packets, first.omitted), (100, 10, false));
        assert!(meter.end(begun + Duration::from_millis(1050), &count(110)).is_none());
        let totals = meter.totals(&count(110));
        assert_eq!((totals[0].bytes, totals[0].seconds), (110, 1.05));
        assert!(meter.end(begun + Duration::from_secs(9), &count(110)).is_none(), "it ended");
    }

    #[test]
    fn what_was_omitted_is_taken_off() {
        let mut meter = Meter::begin(1, Duration::from_secs(1), Duration::from_secs(2), 1);
        assert!(meter.omits());
        meter.omitted = vec![Count { bytes: 30, packets: 3, lost: 2, ..Count::default() }];
        let count = [Count { bytes: 100, packets: 10, lost: 1, ..Count::default() }];
        let totals = meter.totals(&count)[0];
        assert_eq!((totals.bytes, totals.packets, totals.lost), (70, 7, -1));
        let result = meter.results(&count)[0];
        assert_eq!((result.bytes, result.packets, result.omitted_packets), (70, 10, Some(3)));
        assert_eq!(result.totals(0).packets, 7);
    }
}
