//! What the sinks have in common: finds the stream of a datagram and counts it there, as `observe::Observer` of the engine does
//! for the datagrams that come to user space.
//!
//! A stream is held by one CPU at a time, by a lock of one word, for as long as it counts one buffer. So a stream may move from
//! CPU to CPU, or come on several at once, and nothing that is told of it becomes uncertain.

use core::ptr;
use core::sync::atomic::{AtomicU32, Ordering};

use aya_ebpf::bindings::{BPF_F_NO_PREALLOC, BPF_NOEXIST};
use aya_ebpf::helpers::generated::bpf_loop;
use aya_ebpf::macros::map;
use aya_ebpf::maps::{Array, HashMap, PerCpuArray};
use wirerate_ebpf_types::sink::{
    MAX_LATENCY_NS, RECENT, RUN, STREAM, STREAMS, Share, Stream, StreamKey, WORDS, Window, bucket_of,
};

use crate::packet::Packet;
use crate::probe::{Header, Kind, Message, above40};

/// Where a stream, or the first stream of a run, is in [`SINK_STREAMS`]. The loader sets the size of this and the next two.
#[map]
static SINK_INDEX: HashMap<StreamKey, u32> = HashMap::with_max_entries(1, BPF_F_NO_PREALLOC);

/// The streams, in the order in which they came.
#[map]
static SINK_STREAMS: Array<Stream> = Array::with_max_entries(1, 0);

/// The windows of the streams.
#[map]
static SINK_WINDOWS: Array<Window> = Array::with_max_entries(1, 0);

/// How many streams there are; more than [`STREAMS`] when some found no room.
#[map]
static SINK_COUNT: Array<u32> = Array::with_max_entries(1, 0);

/// Where the stream is that this CPU had last at a place.
#[map]
static SINK_RECENT: PerCpuArray<u32> = PerCpuArray::with_max_entries(RECENT, 0);

/// What is of no stream, and the latencies.
#[map]
static SINK_SHARES: PerCpuArray<Share> = PerCpuArray::with_max_entries(1, 0);

/// CLOCK_TAI in ns since when the engine has been ready; `u64::MAX` before. The end of a stream never heard whose sender was
/// done by then is a late copy.
#[map]
static SINK_READY: Array<u64> = Array::with_max_entries(1, 0);

/// Smallest frame with FCS.
const MIN_FRAME: u64 = 64;

/// How often a stream that is held is tried: longer than any CPU holds it, if no hypervisor takes that CPU away.
const TRIES: u32 = 1 << 20;

/// Longest difference in transit that counts as jitter, in ns.
const MAX_DIFFERENCE: u64 = 1 << 56;

/// This CPU's share.
#[inline(always)]
pub fn share() -> Option<*mut Share> {
    SINK_SHARES.get_ptr_mut(0)
}

/// Counts the datagrams of one buffer, all of one flow.
#[repr(C)]
pub struct Sink {
    /// The flow; run and stream are those of the datagram that was last looked for.
    key: StreamKey,
    /// Bytes of a frame that are not payload: headers and FCS.
    overhead: u32,
    /// CLOCK_TAI in ns.
    now: u64,
    share: *mut Share,
    /// The stream that is held, if it is not null, and its window.
    stream: *mut Stream,
    window: *mut Window,
    /// The identity of its data.
    identity: u64,
    /// Those that follow the last.
    pub ahead: Ahead,
}

/// Datagrams that follow the one before in all that is counted: the next number, sent and received at the same time, as long. They are
/// counted together, which gives what counting them one by one gives.
#[repr(C)]
#[derive(Clone, Copy)]
pub struct Ahead {
    /// The header that has to follow; [`NOTHING`] when none is foreseen.
    next: Header,
    /// Payload of all datagrams of the buffer but the last.
    length: u32,
    /// Datagrams that came and are not yet counted; their numbers are in one word of the window.
    run: u32,
    /// The stream's jitter with them: they took as long as the one before, so it only decays.
    jitter: u64,
}

/// No header is this: its kind is none.
const NOTHING: Header = Header(0, 0, 0);

impl Ahead {
    /// Whether the datagram is the one that has to follow; then it will be counted with those before it.
    #[inline(always)]
    pub fn take(&mut self, header: &Header, length: u32) -> bool {
        if length != self.length || !header.equals(&self.next) || header.begins_word() {
            return false;
        }
        let Some(next) = header.successor() else { return false };
        self.next = next;
        self.run += 1;
        self.jitter -= (self.jitter + 8) >> 4;
        true
    }
}

impl Sink {
    /// For the datagrams of a buffer with the headers of `packet`, which arrived at `now`, each but the last with `stride` bytes of
    /// payload, or 0 when there is but one; `share` is what [`share`] gives.
    #[inline(always)]
    pub fn new(share: *mut Share, packet: &Packet, overhead: u32, stride: u32, now: u64) -> Self {
        let rule = &packet.rule;
        // SAFETY: this CPU's own element.
        let zero = unsafe { (*share).zero };
        let key = StreamKey {
            source: rule.source,
            destination: rule.destination,
            source_port: packet.source_port,
            port: rule.port,
            stream: 0,
            version: rule.version,
            class: STREAM,
            run: 0,
        };
        Self {
            key,
            overhead,
            now,
            share,
            stream: ptr::null_mut(),
            window: ptr::null_mut(),
            identity: 0,
            ahead: Ahead { next: Header(zero, zero, zero), length: stride, run: zero as u32, jitter: 0 },
        }
    }

    /// Holds the stream of `header` if this CPU had it lately; then a rule has selected the flow before.
    #[inline(always)]
    pub fn recall(&mut self, header: &Header) -> bool {
        if !header.is_good() || header.kind() != Kind::Data {
            return false;
        }
        (self.key.run, self.key.stream) = (header.run(), header.stream());
        let Some(index) = SINK_RECENT.get_ptr(u32::from(self.key.stream) % RECENT) else { return false };
        // SAFETY: this CPU's own element.
        let index = unsafe { *index };
        let Some(stream) = SINK_STREAMS.get_ptr(index) else { return false };
        // SAFETY: the pointer is to an element of the map; keys do not change once they can be found.
        let same = unsafe { is_same(&raw const (*stream).key, &raw const self.key) };
        same && self.hold(index)
    }

    /// Lets go of the stream that is held.
    #[inline(always)]
    pub fn release(&mut self) {
        if !self.stream.is_null() {
            self.settle();
            self.ahead.next = NOTHING;
            // SAFETY: an element of the map, held by this CPU.
            unsafe { lock_of(self.stream) }.swap(0, Ordering::Release);
            self.stream = ptr::null_mut();
        }
    }

    /// The buffer held `count` datagrams.
    #[inline(always)]
    pub fn buffer_of(&mut self, count: u32) {
        // SAFETY: this CPU's own element.
        let share = unsafe { &mut *self.share };
        if share.segments < u64::from(count) {
            share.segments = u64::from(count);
        }
    }

    /// Takes in a datagram with a payload of `length` bytes, which begins with `header` unless it is too short; `body` reads what
    /// follows that in a message.
    #[inline(always)]
    pub fn datagram(&mut self, header: Option<Header>, length: u32, body: impl Fn() -> Option<Message>) {
        let Some(header) = header else { return self.foreign() };
        self.settle();
        self.ahead.next = NOTHING;
        match if header.is_good() { header.kind() } else { Kind::Unknown } {
            Kind::Data => {
                let held = !self.stream.is_null() && self.identity == header.identity();
                if held || self.find(&header, true) {
                    self.count(&header, length);
                }
            }
            Kind::End | Kind::Announce => match body() {
                Some(message) if agrees(&header, &message) => self.message(&header, &message),
                _ => self.corrupt_or_foreign(&header, length),
            },
            // The sink keeps no times of single packets to compare with.
            Kind::FollowUp => {
                if self.find(&header, true) {
                    // SAFETY: an element that this CPU holds.
                    unsafe { (*self.stream).messages += 1 };
                }
            }
            Kind::Unknown => self.corrupt_or_foreign(&header, length),
        }
    }

    #[inline(always)]
    fn foreign(&mut self) {
        // SAFETY: this CPU's own element.
        unsafe { (*self.share).foreign += 1 };
    }

    /// Holds the stream of `header`, a new one if need be and `create`.
    #[inline(always)]
    fn find(&mut self, header: &Header, create: bool) -> bool {
        (self.key.run, self.key.stream) = (header.run(), header.stream());
        let index = match self.index() {
            Some(index) => index,
            None if create => match self.create() {
                Some(index) => index,
                None => {
                    // SAFETY: this CPU's own element.
                    unsafe { (*self.share).untracked += 1 };
                    return false;
                }
            },
            None => return false,
        };
        if !self.hold(index) {
            // SAFETY: this CPU's own element.
            unsafe { (*self.share).contended += 1 };
            return false;
        }
        if let Some(recent) = SINK_RECENT.get_ptr_mut(u32::from(self.key.stream) % RECENT) {
            // SAFETY: this CPU's own element.
            unsafe { *recent = index };
        }
        true
    }

    #[inline(always)]
    fn index(&self) -> Option<u32> {
        // SAFETY: elements are never removed.
        unsafe { SINK_INDEX.get(self.key) }.copied()
    }

    /// Has `work` done with the key that stands for all streams of the run. The stack has no room for a second one.
    #[inline(always)]
    fn with_run<T>(&mut self, work: impl FnOnce(&StreamKey) -> T) -> T {
        let stream = self.key.stream;
        (self.key.stream, self.key.class) = (0, RUN);
        let done = work(&self.key);
        (self.key.stream, self.key.class) = (stream, STREAM);
        done
    }

    /// A new stream for `key`.
    #[inline(always)]
    fn create(&mut self) -> Option<u32> {
        let count = SINK_COUNT.get_ptr_mut(0)?;
        // SAFETY: an element of the map, which only this instruction and the next change.
        if unsafe { ptr::read_volatile(count) } >= STREAMS {
            return None;
        }
        // Relaxed would be an addition that gives nothing back (LLVM 22).
        // SAFETY: valid and aligned, and all writers are atomic.
        let index = unsafe { AtomicU32::from_ptr(count) }.fetch_add(1, Ordering::AcqRel);
        let stream = SINK_STREAMS.get_ptr_mut(index)?;
        // SAFETY: an element of the map that nobody else knows yet.
        unsafe { (*stream).key = self.key };
        if SINK_INDEX.insert(self.key, index, u64::from(BPF_NOEXIST)).is_err() {
            // Another CPU was faster, or memory ran out: a stream without a version does not count.
            // SAFETY: an element of the map that nobody else knows.
            unsafe { (*stream).key.version = 0 };
            return self.index();
        }
        self.with_run(|run| SINK_INDEX.insert(run, index, u64::from(BPF_NOEXIST)).is_ok());
        Some(index)
    }

    /// Holds the stream at `index` in place of the one that is held.
    #[inline(always)]
    fn hold(&mut self, index: u32) -> bool {
        self.release();
        let Some(stream) = SINK_STREAMS.get_ptr_mut(index) else { return false };
        let Some(window) = SINK_WINDOWS.get_ptr_mut(index) else { return false };
        if !acquire(stream) {
            return false;
        }
        // SAFETY: an element of the map; keys do not change once they can be found.
        let key = unsafe { &(*stream).key };
        self.identity = Header::identity_of(key.run, key.stream);
        (self.stream, self.window) = (stream, window);
        true
    }

    /// Counts those that followed.
    #[inline(always)]
    fn settle(&mut self) {
        if self.ahead.run != 0 {
            settle(self);
        }
    }

    /// Counts a datagram of the stream that is held.
    #[inline(always)]
    fn count(&mut self, header: &Header, length: u32) {
        // SAFETY: this CPU's own element, and elements that it holds.
        let (share, stream, window) = unsafe { (&mut *self.share, &mut *self.stream, &mut *self.window) };
        share.packets += 1;
        let frame = u64::from(length) + u64::from(self.overhead);
        stream.payload_bytes += u64::from(length);
        stream.frame_bytes += if frame < MIN_FRAME { MIN_FRAME } else { frame };
        if stream.first_ns == 0 {
            stream.first_ns = self.now;
            stream.shortest = length;
        }
        stream.last_ns = self.now;
        if length < stream.shortest {
            stream.shortest = length;
        }
        if length > stream.longest {
            stream.longest = length;
        }
        if !arrive(stream, window, header.sequence()) {
            return;
        }
        let transit = above40(header.time(), self.now).wrapping_neg();
        jitter(stream, transit.cast_unsigned());
        if above40(header.sequence(), stream.highest) == 0 {
            (self.ahead.next, self.ahead.jitter) = (header.successor().unwrap_or(NOTHING), stream.jitter);
        }
        latency(share, transit, 1);
    }

    #[inline(always)]
    fn message(&mut self, header: &Header, message: &Message) {
        let ready = SINK_READY.get_ptr(0);
        // SAFETY: an element of the map; the engine writes it once.
        let ready = ready.map_or(u64::MAX, |ready| unsafe { ptr::read_volatile(ready) });
        let is_end = header.kind() == Kind::End;
        if !self.find(header, !is_end || message[3] >= ready) {
            return;
        }
        // SAFETY: an element that this CPU holds.
        let stream = unsafe { &mut *self.stream };
        stream.messages += 1;
        if message[4] != 0 {
            stream.clock = [message[4], message[5], message[6], message[7]];
        }
        if is_end && stream.ended_ns == 0 {
            stream.ended_ns = self.now;
            stream.end = [message[0], message[1], message[2], message[3]];
        }
    }

    /// A datagram whose header is bad, or whose end message makes no sense.
    #[inline(always)]
    fn corrupt_or_foreign(&mut self, header: &Header, length: u32) {
        if header.kind() == Kind::Unknown {
            return self.foreign();
        }
        (self.key.run, self.key.stream) = (header.run(), header.stream());
        // The stream number may be what was changed: then any stream of the run has to do.
        // SAFETY: elements are never removed.
        let of_run = |run: &StreamKey| unsafe { SINK_INDEX.get(run) }.copied();
        let found = self.index().or_else(|| self.with_run(of_run));
        let Some(index) = found else { return self.foreign() };
        if !self.hold(index) {
            // SAFETY: this CPU's own element.
            unsafe { (*self.share).contended += 1 };
            return;
        }
        // SAFETY: an element that this CPU holds.
        let stream = unsafe { &mut *self.stream };
        if stream.shortest <= length && length <= stream.longest {
            stream.corrupt += 1;
        } else {
            self.foreign();
        }
    }
}

/// Counts those that followed, at least one.
#[inline(always)]
fn settle(sink: &mut Sink) {
    let run = u64::from(sink.ahead.run);
    if sink.stream.is_null() || sink.window.is_null() {
        return;
    }
    sink.ahead.run = 0;
    // SAFETY: this CPU's own element, and elements that it holds.
    let (share, stream, window) = unsafe { (&mut *sink.share, &mut *sink.stream, &mut *sink.window) };
    share.packets += run;
    let length = u64::from(sink.ahead.length);
    let frame = length + u64::from(sink.overhead);
    stream.payload_bytes += run * length;
    stream.frame_bytes += run * if frame < MIN_FRAME { MIN_FRAME } else { frame };
    mark_run(window, stream.highest + 1, run);
    stream.highest += run;
    stream.unique += run;
    stream.jitter = sink.ahead.jitter;
    latency(share, stream.transit.cast_signed(), run);
}

/// Whether what an end-of-stream message says agrees with its header.
#[inline(always)]
fn agrees(header: &Header, end: &Message) -> bool {
    above40(header.sequence(), end[0]) == 0 && end[2] <= end[3]
}

/// # Safety
/// Both are readable.
#[inline(always)]
unsafe fn is_same(a: *const StreamKey, b: *const StreamKey) -> bool {
    const KEY_WORDS: usize = size_of::<StreamKey>() / 4;
    let (a, b) = (a.cast::<[u32; KEY_WORDS]>(), b.cast::<[u32; KEY_WORDS]>());
    let mut difference = 0;
    for word in 0..KEY_WORDS {
        // SAFETY: readable, says the caller, and a key is words without padding.
        difference |= unsafe { (*a)[word] ^ (*b)[word] };
    }
    difference == 0
}

/// # Safety
/// `stream` is an element of the map.
#[inline(always)]
unsafe fn lock_of<'a>(stream: *mut Stream) -> &'a AtomicU32 {
    // SAFETY: valid and aligned, and only changed by atomic instructions.
    unsafe { AtomicU32::from_ptr(&raw mut (*stream).lock) }
}

/// Whether this CPU holds the stream now. It does not end the wait that the CPU which holds it is interrupted: that one does not
/// take a packet meanwhile, because both do so with softirqs off.
#[inline(always)]
fn acquire(stream: *mut Stream) -> bool {
    // SAFETY: an element of the map.
    let free = unsafe { lock_of(stream) }.compare_exchange(0, 1, Ordering::Acquire, Ordering::Relaxed);
    free.is_ok() || acquire_patiently(stream)
}

#[inline(always)]
fn acquire_patiently(stream: *mut Stream) -> bool {
    let mut attempt = Attempt { stream, held: 0 };
    // SAFETY: the function is one that the kernel can call with this context.
    unsafe { bpf_loop(TRIES, _sink_try as *mut _, (&raw mut attempt).cast(), 0) };
    attempt.held != 0
}

#[repr(C)]
struct Attempt {
    stream: *mut Stream,
    held: u64,
}

/// Tries once to hold the stream of an [`Attempt`]; 1 ends the loop. Its name begins as it does so that it stays local to the
/// object, as the kernel wants of what it calls back.
#[unsafe(no_mangle)]
#[inline(never)]
extern "C" fn _sink_try(_: u32, attempt: *mut Attempt) -> i64 {
    // SAFETY: the context that the loop was called with.
    let attempt = unsafe { &mut *attempt };
    // SAFETY: an element of the map.
    let free =
        unsafe { lock_of(attempt.stream) }.compare_exchange(0, 1, Ordering::Acquire, Ordering::Relaxed);
    attempt.held = u64::from(free.is_ok());
    i64::from(free.is_ok())
}

/// Takes in the number with the low 40 bits `low`; whether it is the first of that number. `measure::sequence` tells the same, but for
/// numbers that come after the window has passed them.
#[inline(always)]
fn arrive(stream: &mut Stream, window: &mut Window, low: u64) -> bool {
    if stream.unique == 0 {
        (stream.base, stream.highest, stream.unique) = (low, low, 1);
        return mark(window, low);
    }
    let above = above40(low, stream.highest);
    let number = stream.highest.wrapping_add_signed(above);
    if above > 0 {
        stream.highest = number;
        stream.unique += 1;
        return mark(window, number);
    }
    // Below 0 there is nothing.
    let number = if number > stream.highest { 0 } else { number };
    if (stream.highest >> 6) - (number >> 6) >= WORDS as u64 {
        let within = stream.unique - stream.unique_before_base;
        let complete = within == stream.highest - stream.base + 1;
        stream.duplicate += 1;
        stream.undecided += u64::from(number < stream.base || !complete);
        return false;
    }
    if !mark(window, number) {
        stream.duplicate += 1;
        return false;
    }
    stream.unique += 1;
    stream.reordered += 1;
    stream.unique_before_base += u64::from(number < stream.base);
    true
}

/// Sets the bit of `number`; whether it was clear.
#[inline(always)]
fn mark(window: &mut Window, number: u64) -> bool {
    let at = (number >> 6) as usize % WORDS;
    let tag = ((number >> 6) / WORDS as u64) as u32 + 1;
    let bit = 1 << (number % 64);
    let bits = if window.tags[at] == tag { window.bits[at] } else { 0 };
    window.tags[at] = tag;
    window.bits[at] = bits | bit;
    bits & bit == 0
}

/// Sets the bits of `count` numbers from `first` on, all of one word, which are above all that came before.
#[inline(always)]
fn mark_run(window: &mut Window, first: u64, count: u64) {
    let at = (first >> 6) as usize % WORDS;
    let tag = ((first >> 6) / WORDS as u64) as u32 + 1;
    let bits = if window.tags[at] == tag { window.bits[at] } else { 0 };
    window.tags[at] = tag;
    window.bits[at] = bits | (u64::MAX >> (64 - count)) << (first % 64);
}

/// Enters `count` datagrams that took `transit` ns.
#[inline(always)]
fn latency(share: &mut Share, transit: i64, count: u64) {
    if transit < 0 {
        share.negative_latency += count;
        return;
    }
    let bucket = bucket_of(transit.cast_unsigned() & (MAX_LATENCY_NS << 3 | 7));
    // It is in bounds by what it comes from, which the compiler knows and the verifier forgets.
    // SAFETY: a variable.
    let bucket = unsafe { ptr::read_volatile(&raw const bucket) };
    share.latency[bucket & (share.latency.len() - 1)] += count;
}

/// Interarrival jitter (RFC 3550 §6.4.1), as `measure::jitter` has it.
#[inline(always)]
fn jitter(stream: &mut Stream, transit: u64) {
    if stream.unique > 1 {
        let difference = transit.wrapping_sub(stream.transit).cast_signed();
        let difference = if difference < 0 { difference.wrapping_neg() } else { difference }.cast_unsigned();
        let difference = if difference > MAX_DIFFERENCE { MAX_DIFFERENCE } else { difference };
        let jitter = stream.jitter + difference - ((stream.jitter + 8) >> 4);
        stream.jitter = jitter;
        if jitter > stream.max_jitter {
            stream.max_jitter = jitter;
        }
    }
    stream.transit = transit;
}
