//! What RFC 3550 says of one source, beside the exact count of its numbers: expected and lost (A.3), jitter (A.8), and what its headers hold.

use super::clock_rates::{ClockRates, Known};
use super::few::Few;
use super::validity::{Seen, Validity};
use crate::packet::probe::Probe;
use crate::packet::rtp::{Header, Rtp};

/// How far a time stamp may be from where the arrival says that it has to be before the sender is taken to have restarted, in ns.
const MAX_RESTART_SKEW_NS: i64 = 10_000_000_000;

/// How far the time stamp of the packet that follows may be from where its arrival says that it has to be, in ns, before it is a discontinuity.
pub const MAX_SKEW_NS: i64 = 1_000_000_000;

const SECOND_NS: u64 = 1_000_000_000;

/// The figures of one source, as they are handed over.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Figures {
    /// Synchronization source.
    pub ssrc: u32,
    /// [`MIN_SEQUENTIAL`](super::validity::MIN_SEQUENTIAL) packets have come in sequence.
    pub valid: bool,
    /// Payload type of the last packet.
    pub payload_type: u8,
    /// Bit `n`: payload type `n` has come.
    pub payload_types: u128,
    /// Packets with another payload type than the one before.
    pub payload_type_changes: u64,
    /// Clock of the last payload type, Hz.
    pub clock_hz: u32,
    /// Nobody said so.
    pub clock_assumed: bool,
    /// Packets that arrived, copies among them, as A.3 counts them.
    pub received: u64,
    /// Highest number less first number and one (A.3), of all sequences.
    pub expected: u64,
    /// The highest number, extended by wraps (§6.4.1), of the last sequence.
    pub highest: u64,
    /// How often the number went over 2^16.
    pub wraps: u64,
    /// How often the sender began another sequence.
    pub restarts: u64,
    /// A.8, in units of the time stamp.
    pub jitter: u64,
    /// Its highest value.
    pub max_jitter: u64,
    /// Packets with the marker.
    pub markers: u64,
    /// What packets carried behind their headers, without padding.
    pub media_bytes: u64,
    /// Packets with padding.
    pub padded: u64,
    /// Padding.
    pub padding_bytes: u64,
    /// Packets with contributing sources.
    pub mixed: u64,
    /// Contributing sources, the first of them.
    pub csrcs: Few<u32, 16>,
    /// Packets with a header extension.
    pub extended: u64,
    /// Profiles of extensions, the first of them.
    pub profiles: Few<u16, 4>,
    /// Bit `n`: element `n` of RFC 8285 has come.
    pub elements: [u64; 4],
    /// Smallest and largest difference of the time stamps of two consecutive packets, in units.
    pub steps: Option<(i64, i64)>,
    /// Consecutive packets whose time stamps are not where their arrival says, by [`MAX_SKEW_NS`].
    pub discontinuities: u64,
    /// Packets with wirerate's probe whose number in it and in RTP are not as far apart as in the first.
    pub probe_mismatches: u64,
}

impl Figures {
    /// Packets lost as A.3 has it: negative when copies outnumber them.
    pub fn cumulative_lost(&self) -> i64 {
        self.expected.cast_signed().saturating_sub_unsigned(self.received)
    }

    /// The fraction lost as A.3 has it, of the whole time, in 256ths.
    pub fn fraction_lost(&self) -> u8 {
        let lost = self.cumulative_lost().max(0).cast_unsigned();
        (lost * 256).checked_div(self.expected).map_or(0, |fraction| fraction.min(255) as u8)
    }
}

/// What becomes of a packet.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Verdict {
    /// By its number.
    pub seen: Seen,
    /// The time of its time stamp by the sender's clock, in ns since somewhere.
    pub sent_ns: u64,
    /// It has the number after that of the packet before it.
    pub follows: bool,
    /// That is another clock, or the same begun anew: its time does not compare with those before.
    pub anew: bool,
}

/// The last packet of the sequence.
#[derive(Debug, Clone, Copy)]
struct Last {
    arrived_ns: u64,
    timestamp: u32,
    number: u64,
}

/// One source as a receiver follows it.
#[derive(Debug)]
pub struct Source {
    figures: Figures,
    validity: Validity,
    /// First number of the sequence, and numbers expected of those before it.
    base: u64,
    expected_before: u64,
    last: Last,
    /// The last time stamp, and without wrap-around, counted from when this clock was first heard, at `since_ns`.
    timestamp: u32,
    extended: i64,
    since_ns: u64,
    transit: Option<i64>,
    /// 16 times the jitter, as in A.8.
    scaled: u64,
    probe_offset: Option<u64>,
}

impl Source {
    /// The source whose first packet has this header, and arrived at `arrived_ns`. It is then to be given to [`arrive`](Self::arrive).
    pub fn new(header: &Header, arrived_ns: u64, clocks: &ClockRates) -> Self {
        let (clock_hz, known) = clocks.of(header.payload_type);
        let validity = Validity::new(header.sequence);
        let figures = Figures {
            ssrc: header.ssrc,
            valid: false,
            payload_type: header.payload_type,
            payload_types: 0,
            payload_type_changes: 0,
            clock_hz,
            clock_assumed: known == Known::Assumed,
            received: 0,
            expected: 0,
            highest: 0,
            wraps: 0,
            restarts: 0,
            jitter: 0,
            max_jitter: 0,
            markers: 0,
            media_bytes: 0,
            padded: 0,
            padding_bytes: 0,
            mixed: 0,
            csrcs: Few::default(),
            extended: 0,
            profiles: Few::default(),
            elements: [0; 4],
            steps: None,
            discontinuities: 0,
            probe_mismatches: 0,
        };
        Self {
            figures,
            validity,
            base: validity.highest(),
            expected_before: 0,
            last: Last { arrived_ns, timestamp: header.timestamp, number: validity.highest() },
            timestamp: header.timestamp,
            extended: 0,
            since_ns: arrived_ns,
            transit: None,
            scaled: 0,
            probe_offset: None,
        }
    }

    /// The figures so far.
    pub fn figures(&self) -> Figures {
        Figures {
            valid: self.validity.is_valid(),
            expected: self.expected(),
            // RFC 3550 counts cycles from 0.
            highest: self.validity.highest() - super::validity::FIRST_CYCLE,
            wraps: self.validity.wraps(),
            jitter: self.scaled >> 4,
            ..self.figures
        }
    }

    fn expected(&self) -> u64 {
        self.expected_before + self.validity.highest() + 1 - self.base
    }

    /// Packets that arrived, copies among them.
    pub fn received(&self) -> u64 {
        self.figures.received
    }

    /// Takes in a packet that arrived at `arrived_ns`.
    #[inline]
    pub fn arrive(&mut self, rtp: &Rtp<'_>, arrived_ns: u64, clocks: &ClockRates) -> Verdict {
        let header = &rtp.header;
        let mut anew = header.payload_type != self.figures.payload_type && self.change_type(header, clocks);
        let (last, hz, expected) = (self.last, self.figures.clock_hz, self.expected());
        let skew_ns = || skew(&last, header.timestamp, arrived_ns, hz);
        let seen = match self.figures.received {
            0 => Seen::Number(self.validity.highest()),
            _ => self.validity.arrive(header.sequence, || !anew && skew_ns().abs() < MAX_RESTART_SKEW_NS),
        };
        let number = match seen {
            Seen::Doubtful => return Verdict { seen, sent_ns: 0, follows: false, anew },
            Seen::Number(number) => number,
            Seen::Restart(number) => {
                // The one before was the first of this sequence, and is counted now.
                (self.expected_before, self.base) = (expected, number - 1);
                self.figures.received += 1;
                self.figures.restarts += 1;
                anew = true;
                number
            }
        };
        let follows = number == last.number + 1 && !anew;
        if anew {
            (self.timestamp, self.extended, self.since_ns) = (header.timestamp, 0, arrived_ns);
            self.transit = None;
        } else if follows {
            let step = i64::from(header.timestamp.wrapping_sub(last.timestamp).cast_signed());
            let (least, most) = self.figures.steps.unwrap_or((step, step));
            self.figures.steps = Some((least.min(step), most.max(step)));
            self.figures.discontinuities += u64::from(skew_ns().abs() > MAX_SKEW_NS);
        }
        if anew || number >= last.number {
            self.last = Last { arrived_ns, timestamp: header.timestamp, number };
        }
        let sent_ns = self.time(header.timestamp, arrived_ns);
        self.look(rtp);
        Verdict { seen, sent_ns, follows, anew }
    }

    /// The packet has another payload type than the one before; whether its clock is another, too.
    #[cold]
    fn change_type(&mut self, header: &Header, clocks: &ClockRates) -> bool {
        let (clock_hz, known) = clocks.of(header.payload_type);
        let another = clock_hz != self.figures.clock_hz;
        self.figures.payload_type = header.payload_type;
        self.figures.payload_type_changes += 1;
        (self.figures.clock_hz, self.figures.clock_assumed) = (clock_hz, known == Known::Assumed);
        another
    }

    /// Takes the time stamp into A.8; its time in ns by the sender's clock.
    #[inline]
    fn time(&mut self, timestamp: u32, arrived_ns: u64) -> u64 {
        let hz = i64::from(self.figures.clock_hz);
        let step = timestamp.wrapping_sub(std::mem::replace(&mut self.timestamp, timestamp));
        self.extended += i64::from(step.cast_signed());
        let arrived = units(arrived_ns.saturating_sub(self.since_ns), hz.cast_unsigned()).cast_signed();
        let transit = arrived.wrapping_sub(self.extended);
        if let Some(before) = self.transit.replace(transit) {
            let difference = transit.wrapping_sub(before).unsigned_abs().min(1 << 56);
            self.scaled = self.scaled + difference - ((self.scaled + 8) >> 4);
            self.figures.max_jitter = self.figures.max_jitter.max(self.scaled >> 4);
        }
        let (seconds, rest) = (self.extended.div_euclid(hz), self.extended.rem_euclid(hz));
        let ns = seconds.wrapping_mul(SECOND_NS.cast_signed()) + rest * SECOND_NS.cast_signed() / hz;
        ns.cast_unsigned()
    }

    /// Enters what the headers hold.
    #[inline]
    fn look(&mut self, rtp: &Rtp<'_>) {
        let figures = &mut self.figures;
        figures.received += 1;
        figures.payload_types |= 1 << rtp.header.payload_type;
        figures.markers += u64::from(rtp.header.marker);
        figures.media_bytes += rtp.payload.len() as u64;
        figures.padded += u64::from(rtp.padding > 0);
        figures.padding_bytes += u64::from(rtp.padding);
        let csrcs = rtp.csrcs();
        figures.mixed += u64::from(csrcs.len() > 0);
        csrcs.for_each(|csrc| figures.csrcs.see(csrc));
        if let Some(extension) = rtp.extension {
            figures.extended += 1;
            figures.profiles.see(extension.profile);
            for element in extension.elements() {
                figures.elements[usize::from(element.id / 64)] |= 1 << (element.id % 64);
            }
        }
    }

    /// Compares the number of `probe` with the packet's, `number`.
    pub fn check_probe(&mut self, probe: &Probe, number: u64) {
        let offset = number.wrapping_sub(probe.sequence) & ((1 << 40) - 1);
        self.figures.probe_mismatches += u64::from(*self.probe_offset.get_or_insert(offset) != offset);
    }
}

/// `ns` in units of a clock, rounded down.
#[inline]
fn units(ns: u64, hz: u64) -> u64 {
    (ns / SECOND_NS).wrapping_mul(hz).wrapping_add(ns % SECOND_NS * hz / SECOND_NS)
}

/// How far `timestamp` is from where the arrival says that it has to be, in ns.
#[inline]
fn skew(last: &Last, timestamp: u32, arrived_ns: u64, hz: u32) -> i64 {
    let step = i64::from(timestamp.wrapping_sub(last.timestamp).cast_signed());
    // Up to 2^31 times 10^9: within 63 bits.
    let step_ns = step * SECOND_NS.cast_signed() / i64::from(hz);
    step_ns.wrapping_sub(arrived_ns.wrapping_sub(last.arrived_ns).cast_signed()).max(-i64::MAX)
}

#[cfg(test)]
#[path = "rtp_tests.rs"]
mod tests;
