//! One stream as a receive worker sees it.
#![forbid(unsafe_code)]

mod media;
mod volume;

use self::media::MediaStream;
use self::volume::Volume;
use super::arrivals::Arrivals;
use super::moment::sender_place;
use super::turns::Turn;
use crate::interop::iperf2;
use crate::measure::jitter::Jitter;
use crate::measure::media::MediaFigures;
use crate::measure::sequence::{Arrival, Detail, MAX_NUMBER, Tracker, When};
use crate::measure::tally::{Format, RxCounters, StreamKey, StreamTally};
use crate::packet::ends::ends;
use crate::packet::probe::{End, Header, Message, Number, Probe};
use crate::queue::{PLAIN_OVERHEAD, RxMeta};

/// Silence in ns after which iperf may have been started again without an end having been heard.
const SILENCE_NS: u64 = 1_000_000_000;

/// The bits of a number that a header has, and those that no number has before it comes near the highest.
const TOLD: u64 = ((1 << 40) - 1) | !(MAX_NUMBER / 2 - 1);

/// The figures of one stream.
#[derive(Debug)]
pub(super) struct Stream {
    pub(super) key: StreamKey,
    /// How to read it, when it is iperf's.
    pub(super) iperf2: Option<iperf2::Flow>,
    /// How often iperf has been started again on this flow before.
    pub(super) restarts: u32,
    /// iperf's time of the datagram with the highest number.
    pub(super) newest_sent_ns: u64,
    pub(super) tracker: Tracker,
    /// As iperf 2's server has it, where somebody wants its lines.
    pub(super) as_iperf2: Option<Box<iperf2::server::Server>>,
    pub(super) corrupt: u64,
    jitter: Jitter,
    /// The place of its sender among those whose delay variation is measured.
    pub(super) sender: Option<u8>,
    /// When the last of them arrived, where somebody will ask.
    pub(super) arrivals: Option<Arrivals>,
    /// Transit time of the datagram with the highest number.
    newest: i64,
    /// Jitter as iperf has it, which takes copies in: from the first copy on.
    with_copies: Option<Box<Jitter>>,
    /// Datagrams, where they have no numbers (`raw`).
    unnumbered: u64,
    volume: Volume,
    first_ns: u64,
    last_ns: u64,
    end: Option<End>,
    announced: u64,
    ended_ns: u64,
    /// What it is besides, when it is a media stream.
    media: Option<Box<MediaStream>>,
}

impl Stream {
    pub(super) fn new(key: StreamKey, iperf2: Option<iperf2::Flow>) -> Self {
        Self {
            key,
            iperf2,
            restarts: 0,
            newest_sent_ns: 0,
            tracker: Tracker::default(),
            as_iperf2: None,
            corrupt: 0,
            jitter: Jitter::default(),
            sender: None,
            arrivals: None,
            newest: 0,
            with_copies: None,
            unnumbered: 0,
            volume: Volume::default(),
            first_ns: 0,
            last_ns: 0,
            end: None,
            announced: 0,
            ended_ns: 0,
            media: None,
        }
    }

    /// Takes in datagram `number`, sent at `sent_ns` by the sender's clock. Tells, too, by how much its delay differs from that of the
    /// number before it, where that was the last to come in order.
    #[inline]
    pub(super) fn numbered(
        &mut self,
        meta: &RxMeta,
        length: usize,
        number: u64,
        sent_ns: u64,
    ) -> (Arrival, Option<i64>) {
        let transit = transit(sent_ns, meta.arrived_ns);
        // How long the sender took is how long nothing came, less what delays differ by.
        let silence_ns = meta.arrived_ns.saturating_sub(self.last_ns);
        let when = When {
            first_ns: self.first_ns,
            last_ns: self.last_ns,
            now_ns: meta.arrived_ns,
            sent_gap_ns: Some(silence_ns.saturating_add_signed(self.newest.saturating_sub(transit))),
        };
        self.count(meta, length, 1);
        let follows = number == self.tracker.next() && self.tracker.unique() > 0;
        let arrival = self.tracker.arrive(number, &when);
        if arrival == Arrival::Duplicate {
            self.with_copies.get_or_insert_with(|| Box::new(self.jitter));
        } else {
            self.jitter.arrive(sent_ns, meta.arrived_ns);
            if let Some(arrivals) = &mut self.arrivals {
                arrivals.put(number, meta.arrived_ns);
            }
        }
        if let Some(jitter) = &mut self.with_copies {
            jitter.arrive(sent_ns, meta.arrived_ns);
        }
        let mut step = None;
        if arrival == Arrival::InOrder {
            let before = std::mem::replace(&mut self.newest, transit);
            step = follows.then(|| transit.saturating_sub(before));
        }
        (arrival, step)
    }

    /// Whether this datagram of a run with probe headers is the one that comes next, and neither the first nor one of the last that can be.
    #[inline]
    pub(super) fn is_next(&self, meta: &RxMeta, probe: &Probe) -> bool {
        let (key, next) = (&self.key, self.tracker.next());
        next & TOLD == probe.sequence
            && (key.run, key.stream) == (probe.run, probe.stream)
            && self.tracker.unique() > 0
            && key.format == Format::Wirerate
            && key.source == meta.source
            && key.destination == meta.destination
    }

    /// Takes in the datagram that comes next, as [`numbered`](Self::numbered). Tells by how much its delay differs from that of the number before it.
    #[inline]
    pub(super) fn next(&mut self, meta: &RxMeta, length: usize, transit: i64) -> i64 {
        self.count(meta, length, 1);
        if self.arrivals.is_some() || self.with_copies.is_some() {
            self.besides(meta, transit);
        }
        self.tracker.follow(1);
        self.jitter.arrive_after(transit);
        transit.saturating_sub(std::mem::replace(&mut self.newest, transit))
    }

    /// What comes next after a datagram of a single plain frame that came in order, with this header, if it is all that has to be looked at; `at` is where this stream is.
    pub(super) fn turn(&self, meta: &RxMeta, header: Header, length: usize, at: usize) -> Option<Turn> {
        let plain = (meta.overhead, meta.frames) == (PLAIN_OVERHEAD, 1);
        let simple =
            self.arrivals.is_none() && self.with_copies.is_none() && self.tracker.next() < MAX_NUMBER / 4;
        let jitter =
            self.jitter.smoothed().filter(|jitter| plain && simple && jitter.transit() == self.newest)?;
        Some(Turn {
            constant: header.constant() | u64::from(u16::try_from(length).ok()?),
            next: Number::new(self.tracker.next()),
            last_ns: self.last_ns,
            jitter,
            ends: ends(meta.source, meta.destination)?,
            at: at.try_into().ok()?,
            sender: sender_place(self.sender),
        })
    }

    /// Takes in what came since by its turns.
    pub(super) fn take_turns(&mut self, turn: &Turn) {
        let count = turn.next.since(Number::new(self.tracker.next()));
        if count > 0 {
            self.volume.add_alike(count);
            self.tracker.follow(count);
            self.last_ns = turn.last_ns;
            self.newest = turn.jitter.transit();
            self.jitter.resume(turn.jitter);
        }
    }

    /// What few streams need of the datagram that comes next.
    #[inline(never)]
    fn besides(&mut self, meta: &RxMeta, transit: i64) {
        if let Some(arrivals) = &mut self.arrivals {
            arrivals.put(self.tracker.next(), meta.arrived_ns);
        }
        if let Some(jitter) = &mut self.with_copies {
            jitter.arrive_after(transit);
        }
    }

    /// The sender's clock is another from now on.
    fn begin_clock_anew(&mut self) {
        self.jitter.begin_anew();
        if let Some(jitter) = &mut self.with_copies {
            jitter.begin_anew();
        }
    }

    /// Takes in `count` datagrams with the numbers that come next, otherwise like the last one in all that is figured here.
    #[inline]
    pub(super) fn numbered_alike(&mut self, meta: &RxMeta, length: usize, count: u64) {
        self.count(meta, length, count);
        if let Some(arrivals) = &mut self.arrivals {
            let next = self.tracker.next();
            (next..next + count).for_each(|number| arrivals.put(number, meta.arrived_ns));
        }
        self.tracker.follow(count);
        self.jitter.arrive_alike(count);
        if let Some(jitter) = &mut self.with_copies {
            jitter.arrive_alike(count);
        }
    }

    /// Takes in a datagram without a number.
    #[inline]
    pub(super) fn unnumbered(&mut self, meta: &RxMeta, length: usize) {
        self.count(meta, length, 1);
        self.unnumbered += 1;
    }

    #[inline]
    fn count(&mut self, meta: &RxMeta, length: usize, count: u64) {
        self.volume.add(meta, length, count);
        if self.first_ns == 0 {
            self.first_ns = meta.arrived_ns;
        }
        self.last_ns = meta.arrived_ns;
    }

    /// Whether datagrams of this stream have had such a length.
    pub(super) fn has_length(&self, length: usize) -> bool {
        self.volume.spans(length)
    }

    /// The sender's end was heard; whether for the first time. `ready_ns`: when this receiver was ready.
    pub(super) fn ended(&mut self, message: &Message, now_ns: u64, ready_ns: u64) -> bool {
        if self.end.is_some() {
            return false;
        }
        let end = message.end;
        self.announced = message.announced;
        self.tracker.end(end.issued, end.first_ns >= ready_ns);
        self.end = Some(end);
        self.ended_ns = now_ns;
        true
    }

    /// iperf's end was heard; whether for the first time.
    pub(super) fn iperf2_ended(&mut self, issued: u64, now_ns: u64) -> bool {
        self.tracker.end_at_most(issued);
        let first = self.end.is_none();
        if first {
            self.ended_ns = now_ns;
        }
        let issued = self.tracker.issued().unwrap_or(issued);
        self.end = Some(End { issued, ..End::default() });
        first
    }

    /// Whether iperf's datagram `number` is of another test, which began after this one. It goes back in number and yet was sent later than all of this
    /// one, which neither a copy nor a datagram out of order was; and the clock that says so could have been set, but hardly while nothing came.
    pub(super) fn restarted(&self, number: u64, sent_ns: u64, now_ns: u64) -> bool {
        number < self.tracker.next()
            && sent_ns > self.newest_sent_ns
            && (self.end.is_some() || now_ns.saturating_sub(self.last_ns) >= SILENCE_NS)
    }

    /// What tells it from others, tests of iperf on the same flow too: iperf has no number of its runs.
    pub(super) fn key_of_test(&self) -> StreamKey {
        StreamKey { run: self.key.run + self.restarts, ..self.key }
    }

    /// Whether its end is still to come.
    pub(super) fn is_live(&self) -> bool {
        self.end.is_none()
    }

    /// The figures so far; those of a media stream in `spare`, if there is one.
    pub(super) fn tally(&self, spare: Option<Box<MediaFigures>>) -> StreamTally {
        let volume = self.volume.sums();
        let mut counters = RxCounters {
            corrupt: self.corrupt,
            payload_bytes: volume.payload_bytes,
            frame_bytes: volume.frame_bytes,
            frames: volume.frames,
            first_ns: self.first_ns,
            last_ns: self.last_ns,
            ..RxCounters::default()
        };
        if matches!(self.key.format, Format::Raw | Format::Ts) {
            counters.packets = self.unnumbered;
            counters.unique = self.unnumbered;
        } else {
            self.tracker.counters(&mut counters);
        }
        let media = self.media_figures(&mut counters, spare);
        StreamTally {
            key: self.key_of_test(),
            counters,
            jitter_ns: self.jitter.value(),
            end: self.end,
            announced: self.announced,
            ended_ns: self.ended_ns,
            detail: None,
            media,
        }
    }

    /// How it was lost and reordered so far; `None` where datagrams have no numbers.
    pub(super) fn detail(&self) -> Option<Box<Detail>> {
        // Of several sequences, one after the other, there is no one detail.
        let one_sequence = self.media.as_ref().is_none_or(|media| !media.has_restarted());
        if matches!(self.key.format, Format::Raw | Format::Ts) || !one_sequence {
            return None;
        }
        let mut detail = self.tracker.detail();
        let jitter = self.with_copies.as_deref().unwrap_or(&self.jitter);
        detail.as_iperf3.jitter_ns = jitter.value().map(|(now, _)| now);
        Some(Box::new(detail))
    }
}

/// Arrival minus departure in ns, by two clocks that may differ by any amount.
#[inline]
pub(super) fn transit(sent_ns: u64, arrived_ns: u64) -> i64 {
    arrived_ns.wrapping_sub(sent_ns).cast_signed()
}
