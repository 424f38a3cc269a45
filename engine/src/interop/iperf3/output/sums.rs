//! iperf3's arithmetic over streams and over both ends.
#![forbid(unsafe_code)]

use super::super::event::{Interval, Stream, StreamEnd, Totals};

/// Bits a second of so many bytes in so many seconds.
pub fn rate(bytes: u64, seconds: f64) -> f64 {
    if seconds > 0.0 { bytes as f64 * 8.0 / seconds } else { 0.0 }
}

/// Lost of so many, in percent. Nothing of nothing is nothing.
pub fn percent(lost: i64, packets: u64) -> f64 {
    if packets > 0 { 100.0 * lost as f64 / packets as f64 } else { 0.0 }
}

/// Figures of an interval: of a stream, or of several together.
#[derive(Debug, Clone, Copy, PartialEq, Default)]
pub struct Span {
    /// Begin in seconds.
    pub start: f64,
    /// End in seconds.
    pub end: f64,
    /// Payload in bytes.
    pub bytes: u64,
    /// As [`super::super::StreamInterval::packets`].
    pub packets: u64,
    /// Lost.
    pub lost: i64,
    /// Jitter in seconds; of several: the mean.
    pub jitter: f64,
}

impl Span {
    /// How long, in seconds.
    pub fn seconds(&self) -> f64 {
        self.end - self.start
    }

    /// Bits of payload a second.
    pub fn rate(&self) -> f64 {
        rate(self.bytes, self.seconds())
    }

    /// Lost, in percent.
    pub fn lost_percent(&self) -> f64 {
        percent(self.lost, self.packets)
    }

    /// Of stream `index` of an interval.
    pub fn of(interval: &Interval, index: usize) -> Self {
        let figures = interval.streams.get(index).copied().unwrap_or_default();
        Self {
            start: interval.start,
            end: interval.end,
            bytes: figures.bytes,
            packets: figures.packets,
            lost: figures.lost,
            jitter: figures.jitter,
        }
    }

    /// Of all streams that send, or all that receive, together.
    pub fn together(interval: &Interval, streams: &[Stream], sender: bool) -> Self {
        let mut sum = Self { start: interval.start, end: interval.end, ..Self::default() };
        let mut number = 0.0;
        for (figures, stream) in interval.streams.iter().zip(streams) {
            if stream.sender == sender {
                sum.bytes += figures.bytes;
                sum.packets += figures.packets;
                sum.lost += figures.lost;
                sum.jitter += figures.jitter;
                number += 1.0;
            }
        }
        if number > 0.0 {
            sum.jitter /= number;
        }
        sum
    }
}

/// What both ends say of a stream, or of several together.
#[derive(Debug, Clone, Copy, PartialEq, Default)]
pub struct Both {
    /// By the sender; `None` when it did not tell.
    pub sent: Option<Totals>,
    /// By the receiver; `None` when it did not tell.
    pub received: Option<Totals>,
}

impl Both {
    /// Of a stream.
    pub fn of(stream: &Stream, end: &StreamEnd) -> Self {
        if stream.sender {
            Self { sent: Some(end.own), received: end.peer }
        } else {
            Self { sent: end.peer, received: Some(end.own) }
        }
    }

    /// Of all streams that send, or all that receive, together. The times are those of the first.
    pub fn together(streams: &[Stream], ends: &[StreamEnd], sender: bool) -> Self {
        let all: Vec<Self> = streams
            .iter()
            .zip(ends)
            .filter(|(stream, _)| stream.sender == sender)
            .map(|(stream, end)| Self::of(stream, end))
            .collect();
        Self { sent: sum(all.iter().map(|b| b.sent)), received: sum(all.iter().map(|b| b.received)) }
    }

    /// As they count for iperf3's lines of both ends mixed: what an end did not tell is nothing, over the time that the other took.
    pub fn sides(&self) -> (Totals, Totals) {
        let nothing = |other: Option<Totals>| Totals {
            seconds: other.map_or(0.0, |totals| totals.seconds),
            ..Totals::default()
        };
        (
            self.sent.unwrap_or_else(|| nothing(self.received)),
            self.received.unwrap_or_else(|| nothing(self.sent)),
        )
    }

    /// Lost, in percent of what the sender sent, or of the highest number where it did not tell.
    pub fn lost_percent(&self) -> f64 {
        let packets = self.sent.or(self.received).map_or(0, |totals| totals.packets);
        percent(self.received.map_or(0, |totals| totals.lost), packets)
    }
}

/// All of them together, with the mean jitter and the first one's time; `None` as soon as one is.
fn sum(totals: impl Iterator<Item = Option<Totals>>) -> Option<Totals> {
    let all: Vec<Totals> = totals.collect::<Option<_>>()?;
    let first = all.first()?;
    let mut sum = Totals { seconds: first.seconds, ..Totals::default() };
    for one in &all {
        sum.bytes += one.bytes;
        sum.packets += one.packets;
        sum.lost += one.lost;
        sum.out_of_order += one.out_of_order;
        sum.jitter += one.jitter;
    }
    sum.jitter /= all.len() as f64;
    Some(sum)
}
