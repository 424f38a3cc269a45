//! What iperf 2.1's server prints of a flow, by its own arithmetic (`reporter_handle_packet_server_udp`, `reporter_transfer_protocol_server_udp`).
//!
//! Identifiers count from 1: one of 0, as 2.0.5 begins with, is not counted. The end is a datagram like the others. What was jumped over is lost; what is not
//! higher than the highest is out of order, copies too, and is taken off the losses of its interval, which do not fall below 0. Jitter is the filter of RFC 1889 over
//! the wall clocks of both ends, from a transit time of 0 on.
//!
//! One thing is left out: after a silence of an interval the server counts its own time-out as a datagram out of order.
#![forbid(unsafe_code)]

use crate::measure::tally::StreamKey;

/// The share of an interval that the last one must have lasted to have a line of its own.
const PARTIAL: f64 = 0.25;

/// Shortest interval, in ns.
const MIN_INTERVAL_NS: u64 = 1_000_000;

/// How lines are made.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Spec {
    /// Time between lines of a flow, in ns.
    pub interval_ns: u64,
    /// CLOCK_TAI less the wall clock, in ns: iperf's times are of the wall clock.
    pub tai_minus_utc_ns: i64,
}

/// What a line is of.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Span {
    /// The flow has begun; there are no figures.
    Begin,
    /// An interval.
    Interval,
    /// The whole flow, which is over.
    Whole,
}

/// The figures of one line.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Figures {
    /// What they are of.
    pub span: Span,
    /// Its start, in ns since the flow's first datagram.
    pub start_ns: u64,
    /// Its end.
    pub end_ns: u64,
    /// So many lines, each an interval later than the one before, say the same: of intervals without a datagram. At least 1.
    pub lines: u64,
    /// When the next line is due by the wall clock, in ns since 1970: what iperf has for a line's time.
    pub stamp_ns: u64,
    /// UDP payload.
    pub bytes: u64,
    /// Jitter so far, in ns.
    pub jitter_ns: f64,
    /// Lost.
    pub lost: u64,
    /// Datagrams of which these were lost.
    pub total: u64,
    /// Out of order, copies too.
    pub out_of_order: u64,
}

/// A line of a flow.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Row {
    /// Whose.
    pub flow: StreamKey,
    /// What it says.
    pub figures: Figures,
}

#[derive(Debug, Clone, Copy, Default)]
struct Counts {
    bytes: u64,
    lost: u64,
    out_of_order: u64,
    /// The highest identifier.
    highest: u64,
}

/// One flow as the server has it.
#[derive(Debug)]
pub struct Server {
    spec: Spec,
    now: Counts,
    /// At the last line.
    then: Counts,
    /// CLOCK_TAI in ns of the first datagram; 0 before.
    first_ns: u64,
    last_ns: u64,
    /// When the next line is due.
    next_ns: u64,
    datagrams: u64,
    jitter_ns: f64,
    transit_ns: f64,
    over: bool,
    lines: Vec<Figures>,
}

impl Server {
    /// A flow of which nothing came.
    pub fn new(spec: Spec) -> Self {
        Self {
            spec: Spec { interval_ns: spec.interval_ns.max(MIN_INTERVAL_NS), ..spec },
            now: Counts::default(),
            then: Counts::default(),
            first_ns: 0,
            last_ns: 0,
            next_ns: 0,
            datagrams: 0,
            jitter_ns: 0.0,
            transit_ns: 0.0,
            over: false,
            lines: Vec::new(),
        }
    }

    /// A datagram of `bytes` of payload with this identifier arrived at `arrived_ns` (CLOCK_TAI), `transit_ns` after it was sent by the wall clocks of both ends.
    pub fn datagram(&mut self, id: u64, transit_ns: i64, arrived_ns: u64, bytes: usize) {
        if self.over {
            return;
        }
        if self.first_ns == 0 {
            (self.first_ns, self.next_ns) = (arrived_ns, arrived_ns.saturating_add(self.spec.interval_ns));
            self.lines.push(self.figures(Span::Begin, 0, 0, &Counts::default()));
        }
        self.pass(arrived_ns);
        self.last_ns = self.last_ns.max(arrived_ns);
        if id == 0 {
            return;
        }
        self.now.bytes += bytes as u64;
        self.jump(id);
        self.datagrams += 1;
        let transit_ns = transit_ns as f64;
        self.jitter_ns += ((transit_ns - self.transit_ns).abs() - self.jitter_ns) / 16.0;
        self.transit_ns = transit_ns;
    }

    /// The flow's end arrived, which is a datagram, too.
    pub fn end(&mut self, id: u64, transit_ns: i64, arrived_ns: u64, bytes: usize) {
        // An end opens no flow.
        if self.first_ns > 0 {
            self.datagram(id, transit_ns, arrived_ns, bytes);
            self.finish();
        }
    }

    /// The flow is over, and its sender has sent the identifiers up to `highest`, of which the last may be missing.
    pub fn end_after(&mut self, highest: u64) {
        if !self.over && highest > self.now.highest {
            self.now.lost = self.now.lost.saturating_add(highest - self.now.highest);
            self.now.highest = highest;
        }
        self.finish();
    }

    /// It is `now_ns` (CLOCK_TAI): lines that are due are made.
    pub fn pass(&mut self, now_ns: u64) {
        if self.first_ns == 0 || self.over || now_ns <= self.next_ns {
            return;
        }
        self.interval(1);
        // What is left of a silence.
        let silent = now_ns.saturating_sub(self.next_ns.saturating_add(1)) / self.spec.interval_ns
            + u64::from(now_ns > self.next_ns);
        if silent > 0 {
            self.interval(silent);
        }
    }

    /// The flow is over.
    pub fn finish(&mut self) {
        if self.first_ns == 0 || self.over {
            return;
        }
        self.over = true;
        let (start_ns, end_ns) = (self.begun_ns(), self.last_ns - self.first_ns);
        let lasted = end_ns.saturating_sub(start_ns) as f64;
        if self.datagrams == 1 {
            self.jitter_ns = 0.0;
        }
        if self.now.bytes > self.then.bytes && lasted > PARTIAL * self.spec.interval_ns as f64 {
            let then = self.then;
            self.lines.push(self.figures(Span::Interval, start_ns, end_ns, &then));
        }
        self.lines.push(self.figures(Span::Whole, 0, end_ns, &Counts::default()));
    }

    /// The lines that were made since the last call.
    pub fn take(&mut self) -> std::vec::Drain<'_, Figures> {
        self.lines.drain(..)
    }

    /// Numbers up to this one have been sent.
    fn jump(&mut self, id: u64) {
        if id > self.now.highest {
            self.now.lost = self.now.lost.saturating_add(id - self.now.highest - 1);
            self.now.highest = id;
        } else {
            self.now.out_of_order += 1;
        }
    }

    /// Where the interval that has no line yet begins, in ns since the first datagram.
    fn begun_ns(&self) -> u64 {
        self.next_ns.saturating_sub(self.spec.interval_ns).saturating_sub(self.first_ns)
    }

    /// The line of the interval that is over, and of those after it in which nothing came.
    fn interval(&mut self, lines: u64) {
        if self.datagrams == 1 {
            self.jitter_ns = 0.0;
        }
        let start_ns = self.begun_ns();
        let (end_ns, interval_ns) = (self.next_ns - self.first_ns, self.spec.interval_ns);
        self.next_ns = self.next_ns.saturating_add(interval_ns);
        let then = std::mem::replace(&mut self.then, self.now);
        let figures = self.figures(Span::Interval, start_ns, end_ns, &then);
        self.next_ns = self.next_ns.saturating_add(interval_ns.saturating_mul(lines - 1));
        self.lines.push(Figures { lines, ..figures });
    }

    fn figures(&self, span: Span, start_ns: u64, end_ns: u64, then: &Counts) -> Figures {
        let now = &self.now;
        let out_of_order = now.out_of_order - then.out_of_order;
        Figures {
            span,
            start_ns,
            end_ns,
            lines: 1,
            stamp_ns: self.next_ns.saturating_add_signed(self.spec.tai_minus_utc_ns.saturating_neg()),
            bytes: now.bytes - then.bytes,
            jitter_ns: self.jitter_ns,
            lost: (now.lost - then.lost).saturating_sub(out_of_order),
            total: now.highest - then.highest,
            out_of_order,
        }
    }
}

#[cfg(test)]
#[path = "server_tests.rs"]
mod tests;
