//! The sink of a receive worker: tells datagrams apart and counts them.
#![forbid(unsafe_code)]

mod media;

use std::fmt;
use std::sync::Arc;

use rustc_hash::FxHashMap;

use self::media::Candidates;
use super::FormatChoice;
use super::ahead::Ahead;
use super::moment::{Moment, sender_place};
use super::pairs::Pairs;
use super::rtcp::Inbox;
use super::senders::Senders;
use super::stream::{Stream, transit};
use super::turns::Turns;
use crate::interop::iperf2;
use crate::interop::iperf2::server::{Row, Server};
use crate::measure::delay::{Spreads, Steps};
use crate::measure::gaps::Gaps;
use crate::measure::latency::Recorder;
use crate::measure::media::MediaSpec;
use crate::measure::sequence::{Arrival, MAX_NUMBER};
use crate::measure::tally::{Format, Pair, RxCounters, RxTally, StreamKey};
use crate::packet::ends::Ends;
use crate::packet::follow_up;
use crate::packet::probe::{self, Header, Kind, Message, Probe, time_bits, unwrap40};
use crate::profile::payload::Payload;
use crate::queue::{RxMeta, Sink};

/// Most streams that one worker follows: as many as one run of a sender can have.
pub const MAX_STREAMS: usize = 65_536;

/// Places for streams that are found without hashing; as many again as there are streams, once there are more.
const RECENT: usize = 64;

/// Called with every datagram, before it is looked at.
pub type Hexdump = Box<dyn FnMut(&RxMeta, &[u8]) + Send>;

/// What an observer is to do.
#[derive(Debug, Clone, Default)]
pub struct ObserverSpec {
    /// What the datagrams are expected to be.
    pub format: FormatChoice,
    /// CLOCK_TAI in ns when the queue was joined, attached and bound. Of a sender that started later, everything
    /// that is missing was lost.
    pub ready_ns: u64,
    /// What must follow the probe header, for `--verify-payload`.
    pub verify: Option<Arc<Payload>>,
    /// What is known of media streams.
    pub media: MediaSpec,
    /// Takes RTCP that comes on the port of RTP (RFC 5761).
    pub inbox: Option<Inbox>,
    /// Wants the lines that iperf 2's server would print, made so.
    pub as_iperf2: Option<iperf2::server::Spec>,
}

/// Counts what one worker receives. Nothing is allocated for a datagram but for the first of a stream and for the first that
/// comes out of order in it.
///
/// A datagram with a good probe header is counted by its stream, also when its stream is new. One with a bad check is `corrupt` when
/// its version byte is right and a stream of the same source, destination and run has had such lengths; its number stays
/// missing. So is one whose header is good while its body differs under `--verify-payload`. Everything
/// else is `foreign`.
///
/// Messages are counted apart. An end of a stream never heard whose sender was done before this
/// receiver was ready is ignored: it is a late copy of somebody else's end.
///
/// Packets that a sender wrote in one batch differ in their number only, and they often arrive together. So while the next header is, byte
/// for byte, the one that has to follow, it has been checked, and nothing but its coming is noted; what that
/// means for the figures is worked out once for all of them, to the same result. Where streams take turns, that is so for what follows from the times of sending and
/// arrival.
pub struct Observer {
    spec: ObserverSpec,
    hexdump: Option<Hexdump>,
    streams: Vec<Stream>,
    /// Where in `streams`.
    index: FxHashMap<StreamKey, usize>,
    /// The first stream heard of each run, by its key with stream 0.
    runs: FxHashMap<StreamKey, usize>,
    /// The stream of the last datagram: most often that of the next, too.
    last: usize,
    /// Where in `streams`, by [`place`](Self::place): streams that take turns are found without hashing, however many. Its length is a power of two.
    recent: Vec<u32>,
    /// Streams that have not ended.
    live: usize,
    packets: u64,
    foreign: u64,
    untracked: u64,
    messages: u64,
    senders: Senders,
    latency: Recorder,
    spreads: Spreads,
    steps: Steps,
    pairs: Pairs,
    gaps: Gaps,
    last_arrival_ns: u64,
    /// What has to follow in the stream `last`; closed while anything else may.
    ahead: Ahead,
    /// What has to follow in others, while nothing is foreseen in that.
    turns: Turns,
    /// When the datagrams arrived of which it is asked whether they follow there.
    turns_arrived_ns: u64,
    /// When the last datagrams were sent and arrived, where they went the short way.
    moment: Moment,
    /// Flows that may turn out to be media streams.
    candidates: Candidates,
    /// Of a good probe header nothing but its number is looked at: neither what is behind it nor whether it is one by chance.
    only_numbers: bool,
    /// An RTP source was recognised: what looks like a probe by chance may be its packet.
    rtp_heard: bool,
    /// A transport stream was: what is out of sync may be its datagram.
    ts_heard: bool,
}

impl fmt::Debug for Observer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Observer")
            .field("spec", &self.spec)
            .field("streams", &self.streams.len())
            .field("packets", &self.packets())
            .finish_non_exhaustive()
    }
}

impl Observer {
    /// An observer that has seen nothing.
    pub fn new(spec: ObserverSpec) -> Self {
        let probes = matches!(spec.format, FormatChoice::Auto | FormatChoice::Wirerate);
        Self {
            only_numbers: probes && spec.verify.is_none() && spec.as_iperf2.is_none(),
            spec,
            hexdump: None,
            streams: Vec::new(),
            index: FxHashMap::default(),
            runs: FxHashMap::default(),
            last: 0,
            recent: vec![0; RECENT],
            live: 0,
            packets: 0,
            foreign: 0,
            untracked: 0,
            messages: 0,
            senders: Senders::default(),
            latency: Recorder::default(),
            spreads: Spreads::default(),
            steps: Steps::default(),
            pairs: Pairs::default(),
            gaps: Gaps::default(),
            last_arrival_ns: 0,
            ahead: Ahead::default(),
            turns: Turns::new(RECENT),
            turns_arrived_ns: 0,
            moment: Moment::default(),
            candidates: Candidates::default(),
            rtp_heard: false,
            ts_heard: false,
        }
    }

    /// Shows every datagram to `hexdump` from now on.
    pub fn set_hexdump(&mut self, hexdump: Hexdump) {
        self.close();
        self.look_at_all();
        self.hexdump = Some(hexdump);
    }

    /// A number is not all that has to be looked at from now on.
    fn look_at_all(&mut self) {
        self.only_numbers = false;
        self.turns.enter(&mut self.streams);
        self.turns.reset(self.recent.len());
    }

    /// Remembers when packets arrived, for senders that tell later when they left; packet by packet, too, if `each`.
    pub fn pair(&mut self, each: bool) {
        self.pairs = Pairs::wanted(each);
    }

    /// The queue became ready at `ready_ns` of CLOCK_TAI.
    pub fn set_ready(&mut self, ready_ns: u64) {
        self.spec.ready_ns = ready_ns;
    }

    /// Datagrams of recognised formats so far: unique and duplicate.
    pub fn packets(&self) -> u64 {
        self.packets + self.moment.count + self.ahead.count()
    }

    /// Streams heard whose end has not been.
    pub fn streams_live(&self) -> usize {
        self.live
    }

    /// Whether streams have been heard, and the end of each. Never with `raw`.
    pub fn all_ended(&self) -> bool {
        !self.streams.is_empty() && self.live == 0
    }

    /// CLOCK_TAI in ns of the last datagram of a recognised format; 0 before.
    pub fn last_arrival_ns(&self) -> u64 {
        self.last_arrival_ns
    }

    /// Fills `into` with the totals and with the latencies and gaps since the last call; what it held of those is gone. Leaves
    /// `worker`, `at_ns` and `losses`, which the worker knows.
    pub fn tally(&mut self, into: &mut RxTally) {
        self.settle();
        self.enter();
        self.turns.enter(&mut self.streams);
        let foreign = self.foreign + self.candidates.datagrams();
        into.counters = RxCounters { foreign, ..RxCounters::default() };
        for (n, stream) in self.streams.iter().enumerate() {
            // Streams only become more: memory of the last time is used again.
            let spare = into.streams.get_mut(n).and_then(|last| last.media.take());
            let tally = stream.tally(spare);
            into.counters.add(&tally.counters);
            match into.streams.get_mut(n) {
                Some(last) => *last = tally,
                None => into.streams.push(tally),
            }
        }
        into.streams.truncate(self.streams.len());
        into.untracked = self.untracked;
        into.messages = self.messages;
        self.senders.tell(&mut into.clocks);
        into.negative_latency = self.latency.negative();
        self.latency.hand_over(&mut into.latency);
        self.spreads.hand_over(&mut into.spreads);
        self.steps.hand_over(&mut into.steps);
        self.pairs.hand_over(into);
        self.gaps.hand_over(&mut into.gaps);
        into.as_iperf2.clear();
        if self.spec.as_iperf2.is_some() {
            self.lines(&mut into.as_iperf2);
        }
    }

    /// Appends iperf's lines that are new.
    fn lines(&mut self, into: &mut Vec<Row>) {
        for stream in &mut self.streams {
            let flow = stream.key_of_test();
            if let Some(server) = &mut stream.as_iperf2 {
                into.extend(server.take().map(|figures| Row { flow, figures }));
            }
        }
    }

    /// It is `now_ns` (CLOCK_TAI): iperf's lines are made of intervals in which nothing came, too.
    pub fn pass(&mut self, now_ns: u64) {
        if self.spec.as_iperf2.is_some() {
            self.streams
                .iter_mut()
                .filter_map(|s| s.as_iperf2.as_mut())
                .for_each(|server| server.pass(now_ns));
        }
    }

    /// As [`tally`](Self::tally), with how each stream was lost and reordered. That takes a look at all that is missing, and memory: it is for the end.
    pub fn last_tally(&mut self, into: &mut RxTally) {
        self.streams.iter_mut().filter_map(|s| s.as_iperf2.as_mut()).for_each(|server| server.finish());
        self.tally(into);
        for (tally, stream) in into.streams.iter_mut().zip(&self.streams) {
            tally.detail = stream.detail();
        }
    }

    /// Counts a datagram; `more`: others of its stream lie behind it in its buffer.
    #[inline(never)]
    fn datagram(&mut self, meta: &RxMeta, payload: &[u8], more: bool) {
        self.close();
        if !self.follows(meta, payload, more) {
            self.carefully(meta, payload);
        }
    }

    /// Counts a datagram that has the next number of a stream whose place is known, where nothing else is asked of it: the same as
    /// [`carefully`](Self::carefully), with less to look at. Whether it was one.
    #[inline(always)]
    fn follows(&mut self, meta: &RxMeta, payload: &[u8], more: bool) -> bool {
        if !self.only_numbers {
            return false;
        }
        let Ok(probe) = Probe::parse(payload) else { return false };
        let place = self.place(probe.run, probe.stream);
        let at = self.recent[place] as usize;
        self.turns.forget(place, &mut self.streams);
        let stream = match self.streams.get(at) {
            Some(stream) if probe.kind == Kind::Data && stream.is_next(meta, &probe) => stream,
            _ => return false,
        };
        let sender = sender_place(stream.sender);
        if self.moment.arrived_ns != meta.arrived_ns || !self.moment.is(time_bits(probe.time), sender) {
            self.begin(Moment::new(probe.time, meta.arrived_ns, sender));
        }
        self.moment.count += 1;
        let step = self.streams[at].next(meta, payload.len(), self.moment.transit);
        self.steps.record(step);
        if std::mem::replace(&mut self.last, at) == at || more {
            self.look_ahead(&probe, meta, payload.len());
        } else {
            let header = Header::of(&probe);
            self.turns.remember(place, || self.streams[at].turn(meta, header, payload.len(), at));
        }
        true
    }

    /// Counts a datagram if it is the next one of a stream that is known by its turn, and not of the one that the last was of, which may go on; whether it was.
    #[inline(always)]
    fn take_turn(&mut self, ends: &Ends, payload: &[u8]) -> bool {
        let (Some(header), Ok(length)) = (Header::read(payload), u16::try_from(payload.len())) else {
            return false;
        };
        let Some(turn) = self.turns.of(header) else { return false };
        if !turn.is(header, length, ends) || self.last == usize::from(turn.at) {
            return false;
        }
        if !self.moment.is(header.time_bits(), turn.sender) {
            let moment = Moment::new(header.time(), self.turns_arrived_ns, turn.sender);
            return self.take_turn_at(moment, ends, payload);
        }
        let Some(step) = turn.take(&self.moment) else { return false };
        self.last = turn.at.into();
        self.moment.count += 1;
        self.steps.record(step);
        true
    }

    /// As [`take_turn`](Self::take_turn), of a datagram of another moment.
    #[inline(never)]
    fn take_turn_at(&mut self, moment: Moment, ends: &Ends, payload: &[u8]) -> bool {
        self.begin(moment);
        self.take_turn(ends, payload)
    }

    #[inline(never)]
    fn look_ahead(&mut self, probe: &Probe, meta: &RxMeta, length: usize) {
        self.ahead = Ahead::after(probe, meta, length);
    }

    /// Other datagrams come from now on than those of the last moment.
    #[inline(never)]
    fn begin(&mut self, moment: Moment) {
        self.enter();
        self.last_arrival_ns = moment.arrived_ns;
        self.gaps.mark(moment.arrived_ns);
        self.moment = moment;
    }

    /// Enters what follows from their moment for datagrams that are counted otherwise.
    fn enter(&mut self) {
        let Moment { sender, sent_ns, arrived_ns, .. } = self.moment;
        let count = std::mem::take(&mut self.moment.count);
        if count > 0 {
            self.latency.record(sent_ns, arrived_ns, count);
            self.spreads.record(sender, self.moment.transit, count);
            self.packets += count;
        }
    }

    #[inline(never)]
    fn carefully(&mut self, meta: &RxMeta, payload: &[u8]) {
        self.enter();
        self.moment.close();
        if let Some(hexdump) = &mut self.hexdump {
            hexdump(meta, payload);
        }
        match self.spec.format {
            FormatChoice::Auto | FormatChoice::Wirerate => match Probe::parse(payload) {
                Ok(_) if self.rtp_heard && self.is_known_rtp(meta, payload) => self.other(meta, payload),
                Ok(probe) if probe.kind == Kind::Data => self.probe(meta, payload, &probe),
                Ok(probe) => self.message(meta, payload, &probe),
                Err(_) => self.other(meta, payload),
            },
            FormatChoice::Iperf2 | FormatChoice::Rtp | FormatChoice::Ts => self.other(meta, payload),
            FormatChoice::Raw => self.raw(meta, payload),
        }
    }

    fn probe(&mut self, meta: &RxMeta, payload: &[u8], probe: &Probe) {
        let before = self.last;
        let Some(at) = self.stream(&probe_key(meta, probe)) else { return };
        let stream = &mut self.streams[at];
        let number = match stream.tracker.unique() {
            0 => probe.sequence,
            _ => unwrap40(probe.sequence, stream.tracker.near()),
        };
        if let Some(expected) = &self.spec.verify
            && !expected.matches(number, &payload[probe::LEN..])
        {
            stream.corrupt += 1;
            return;
        }
        let sent_ns = unwrap40(probe.time, meta.arrived_ns);
        let (arrival, step) = stream.numbered(meta, payload.len(), number, sent_ns);
        if arrival != Arrival::Duplicate {
            self.latency.record(sent_ns, meta.arrived_ns, 1);
        }
        self.vary(at, arrival, step, transit(sent_ns, meta.arrived_ns));
        if let Some(server) = &mut self.streams[at].as_iperf2 {
            let id = number.saturating_add(1);
            server.datagram(id, transit(sent_ns, meta.arrived_ns), meta.arrived_ns, payload.len());
        }
        self.packets += 1;
        self.last_arrival_ns = meta.arrived_ns;
        // Those that follow as foreseen have the same time.
        self.gaps.mark(meta.arrived_ns);
        // Where streams take turns it would never come true.
        let looks_ahead = before == at && arrival == Arrival::InOrder && number < MAX_NUMBER / 2;
        if looks_ahead
            && self.spec.verify.is_none()
            && self.spec.as_iperf2.is_none()
            && self.hexdump.is_none()
        {
            let sender = sender_place(self.streams[at].sender);
            self.moment = Moment::new(probe.time, meta.arrived_ns, sender);
            self.look_ahead(probe, meta, payload.len());
        }
    }

    /// Enters the delay variation of a datagram of the stream at `at`.
    #[inline]
    fn vary(&mut self, at: usize, arrival: Arrival, step: Option<i64>, transit: i64) {
        if let Some(step) = step {
            self.steps.record(step);
        }
        if arrival != Arrival::Duplicate
            && let Some(sender) = self.streams[at].sender
        {
            self.spreads.record(sender, transit, 1);
        }
    }

    /// Enters what came as foreseen.
    #[inline(never)]
    fn settle(&mut self) {
        let count = self.ahead.take_count();
        if count > 0 {
            let (meta, length) = self.ahead.alike();
            self.streams[self.last].numbered_alike(meta, length, count);
            self.steps.record_none(count);
            self.moment.count += count;
        }
    }

    /// Enters what came as foreseen, and foresees nothing any more.
    #[inline]
    fn close(&mut self) {
        if self.ahead.count() > 0 {
            self.settle();
        }
        self.ahead.close();
    }

    #[cold]
    fn message(&mut self, meta: &RxMeta, payload: &[u8], probe: &Probe) {
        if probe.kind == Kind::FollowUp {
            return self.follow_up(meta, payload, probe);
        }
        // The check covers the header only; what the body says must at least agree with it.
        let agrees = |message: &Message| {
            let end = &message.end;
            unwrap40(probe.sequence, end.issued) == end.issued && end.first_ns <= end.last_ns
        };
        let Some(message) = Message::parse(payload).filter(agrees) else {
            return self.corrupt_or_foreign(meta, payload);
        };
        if probe.kind == Kind::Announce {
            self.messages += 1;
            return self.senders.hear(meta, probe.run, message.clock);
        }
        let key = probe_key(meta, probe);
        if message.end.last_ns < self.spec.ready_ns && !self.index.contains_key(&key) {
            return;
        }
        let Some(at) = self.stream(&key) else { return };
        self.messages += 1;
        self.senders.hear(meta, probe.run, message.clock);
        if self.streams[at].ended(&message, meta.arrived_ns, self.spec.ready_ns) {
            self.live -= 1;
            if let Some(server) = &mut self.streams[at].as_iperf2 {
                server.end_after(message.end.issued);
            }
        }
    }

    fn follow_up(&mut self, meta: &RxMeta, payload: &[u8], probe: &Probe) {
        let Some(pairs) = follow_up::read(probe, payload) else {
            return self.corrupt_or_foreign(meta, payload);
        };
        self.messages += 1;
        let Some(&at) = self.index.get(&probe_key(meta, probe)) else { return };
        let stream = &mut self.streams[at];
        let Some(arrivals) = &mut stream.arrivals else { return };
        for departed in pairs {
            let number = unwrap40(departed.sequence, stream.tracker.near());
            if let Some(arrived_ns) = arrivals.take(number) {
                let (run, stream) = (probe.run, probe.stream);
                self.pairs.enter(Pair {
                    run,
                    stream,
                    sequence: number,
                    sent_ns: departed.tai_ns,
                    arrived_ns,
                });
            }
        }
    }

    fn raw(&mut self, meta: &RxMeta, payload: &[u8]) {
        let Some(at) = self.stream(&flow_key(Format::Raw, meta)) else { return };
        self.streams[at].unnumbered(meta, payload.len());
        self.counted(meta);
    }

    /// Everything that has no good probe header.
    fn other(&mut self, meta: &RxMeta, payload: &[u8]) {
        let taken = match self.spec.format {
            FormatChoice::Auto => self.media(meta, payload) || self.iperf2(meta, payload),
            FormatChoice::Rtp | FormatChoice::Ts => self.media(meta, payload),
            FormatChoice::Iperf2 => self.iperf2(meta, payload),
            FormatChoice::Wirerate | FormatChoice::Raw => false,
        };
        if !taken {
            self.corrupt_or_foreign(meta, payload);
        }
    }

    /// Counts the datagram if it is iperf's; whether it was.
    fn iperf2(&mut self, meta: &RxMeta, payload: &[u8]) -> bool {
        let key = flow_key(Format::Iperf2, meta);
        let known = self.known(&key).and_then(|at| Some((at, self.streams[at].iperf2?)));
        let (at, datagram) = match known {
            Some((at, flow)) => match flow.read(payload) {
                Some(datagram) => (at, datagram),
                None => return false,
            },
            None => {
                // Leap seconds between CLOCK_TAI and the wall clock do not matter here.
                let now = (self.spec.format == FormatChoice::Auto).then_some(meta.arrived_ns / 1_000_000_000);
                let Some((flow, datagram)) = iperf2::recognise(payload, now) else { return false };
                let Some(at) = self.create(&key, Some(flow)) else { return true };
                (at, datagram)
            }
        };
        match datagram {
            iperf2::Datagram::Data { number, sent_ns } => {
                let at = match self.streams[at].restarted(number, sent_ns, meta.arrived_ns) {
                    true => match self.start_again(at) {
                        Some(at) => at,
                        None => return true,
                    },
                    false => at,
                };
                let (arrival, step) = self.streams[at].numbered(meta, payload.len(), number, sent_ns);
                if arrival == Arrival::InOrder {
                    self.streams[at].newest_sent_ns = sent_ns;
                }
                self.vary(at, arrival, step, transit(sent_ns, meta.arrived_ns));
                self.as_iperf2(at, |server, first, offset_ns| {
                    let transit_ns = transit(sent_ns, meta.arrived_ns).saturating_sub(offset_ns);
                    server.datagram(number.saturating_add(first), transit_ns, meta.arrived_ns, payload.len());
                });
                self.counted(meta);
            }
            iperf2::Datagram::End { issued, sent_ns } => {
                self.as_iperf2(at, |server, first, offset_ns| {
                    let transit_ns = transit(sent_ns, meta.arrived_ns).saturating_sub(offset_ns);
                    server.end(issued.saturating_add(first), transit_ns, meta.arrived_ns, payload.len());
                });
                if self.streams[at].iperf2_ended(issued, meta.arrived_ns) {
                    self.live -= 1;
                }
            }
        }
        true
    }

    /// Has iperf's server, if its lines are wanted, know of a datagram of iperf's stream at `at`; told what its identifiers begin with, and the clock's offset.
    fn as_iperf2(&mut self, at: usize, tell: impl FnOnce(&mut Server, u64, i64)) {
        let stream = &mut self.streams[at];
        if let (Some(server), Some(flow), Some(spec)) =
            (&mut stream.as_iperf2, stream.iperf2, self.spec.as_iperf2)
        {
            tell(server, flow.first_id(), spec.tai_minus_utc_ns);
        }
    }

    /// A new stream in the place of the iperf stream at `at`, whose test is over.
    fn start_again(&mut self, at: usize) -> Option<usize> {
        let Stream { key, iperf2, restarts, .. } = self.streams[at];
        let was_live = self.streams[at].is_live();
        if let Some(server) = &mut self.streams[at].as_iperf2 {
            server.finish();
        }
        let new = self.create(&key, iperf2)?;
        self.live -= usize::from(was_live);
        self.streams[new].restarts = restarts + 1;
        Some(new)
    }

    fn corrupt_or_foreign(&mut self, meta: &RxMeta, payload: &[u8]) {
        match self.corrupt_stream(meta, payload) {
            Some(at) => self.streams[at].corrupt += 1,
            None => self.foreign += 1,
        }
    }

    /// The stream that a datagram with a bad header was of, as far as what is left of it says.
    fn corrupt_stream(&self, meta: &RxMeta, payload: &[u8]) -> Option<usize> {
        if !matches!(self.spec.format, FormatChoice::Auto | FormatChoice::Wirerate) {
            return None;
        }
        let key = probe_key(meta, &Probe::parse_unchecked(payload).ok()?);
        // The stream number may be what was changed: then any stream of the run has to do.
        let at = *self.index.get(&key).or_else(|| self.runs.get(&StreamKey { stream: 0, ..key }))?;
        self.streams[at].has_length(payload.len()).then_some(at)
    }

    #[inline]
    fn counted(&mut self, meta: &RxMeta) {
        self.packets += 1;
        self.last_arrival_ns = meta.arrived_ns;
        self.gaps.mark(meta.arrived_ns);
    }

    /// The place of the stream of `key`, a new one if need be; `None` when there are too many.
    #[inline]
    fn stream(&mut self, key: &StreamKey) -> Option<usize> {
        match self.known(key) {
            None => self.create(key, None),
            at => at,
        }
    }

    #[inline]
    fn known(&mut self, key: &StreamKey) -> Option<usize> {
        let place = self.place(key.run, key.stream);
        self.turns.forget(place, &mut self.streams);
        let at = self.recent[place] as usize;
        if self.streams.get(at).is_some_and(|stream| stream.key == *key) {
            self.last = at;
            return Some(at);
        }
        let at = *self.index.get(key)?;
        self.recent[place] = at as u32;
        self.last = at;
        Some(at)
    }

    /// The place of a stream in `recent`. The streams of one run have places of their own.
    #[inline]
    fn place(&self, run: u32, stream: u16) -> usize {
        usize::from(probe::place(run, stream)) & (self.recent.len() - 1)
    }

    #[cold]
    fn create(&mut self, key: &StreamKey, iperf2: Option<iperf2::Flow>) -> Option<usize> {
        let at = self.streams.len();
        if at == MAX_STREAMS {
            self.untracked += 1;
            return None;
        }
        let mut stream = Stream::new(*key, iperf2);
        stream.arrivals = self.pairs.arrivals(at);
        if matches!(key.format, Format::Wirerate | Format::Iperf2) {
            stream.sender = self.spreads.place(key.source.ip(), key.run);
            stream.as_iperf2 = self.spec.as_iperf2.map(|spec| Box::new(Server::new(spec)));
        }
        self.streams.push(stream);
        self.index.insert(*key, at);
        self.runs.entry(StreamKey { stream: 0, ..*key }).or_insert(at);
        self.live += 1;
        self.last = at;
        if self.streams.len() > self.recent.len() {
            self.recent = vec![0; 2 * self.recent.len()];
            self.turns.enter(&mut self.streams);
            self.turns.reset(self.recent.len());
            for (at, stream) in self.streams.iter().enumerate() {
                let place = self.place(stream.key.run, stream.key.stream);
                self.recent[place] = at as u32;
            }
        }
        let place = self.place(key.run, key.stream);
        self.recent[place] = at as u32;
        Some(at)
    }
}

impl Sink for Observer {
    #[inline]
    fn run(&mut self, meta: &RxMeta, buf: &[u8], stride: usize, count: usize) {
        if count == 1 {
            return self.datagram(meta, &buf[..stride.min(buf.len())], false);
        }
        let from = |n: usize| n.saturating_mul(stride).min(buf.len());
        let mut n = 0;
        while n < count {
            let payload = &buf[from(n)..from(n + 1)];
            n += 1;
            self.datagram(meta, payload, n < count);
            n += self.ahead.take_run(&buf[from(n)..], stride, count - n);
        }
    }

    #[inline]
    fn more<'a>(&mut self, meta: &RxMeta, mut payloads: impl Iterator<Item = &'a [u8]>) {
        while let Some(other) = self.ahead.take_each(&mut payloads) {
            self.datagram(meta, other, false);
        }
    }

    #[inline]
    fn turns(&mut self, arrived_ns: u64) -> bool {
        self.turns.look();
        self.turns_arrived_ns = arrived_ns;
        if self.moment.arrived_ns != arrived_ns {
            self.moment.close();
        }
        // What is foreseen is of the stream of the last datagram, and goes first.
        !self.ahead.is_open()
    }

    #[inline(always)]
    fn turn(&mut self, ends: &Ends, payload: &[u8]) -> bool {
        self.take_turn(ends, payload)
    }
}

fn probe_key(meta: &RxMeta, probe: &Probe) -> StreamKey {
    StreamKey { run: probe.run, stream: probe.stream, ..flow_key(Format::Wirerate, meta) }
}

fn flow_key(format: Format, meta: &RxMeta) -> StreamKey {
    StreamKey { format, run: 0, stream: 0, source: meta.source, destination: meta.destination }
}

#[cfg(test)]
#[path = "observer_tests.rs"]
mod tests;
