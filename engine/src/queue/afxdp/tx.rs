//! Sending frames: runs of packets into a TX ring, and their frames back from the completion ring.
#![forbid(unsafe_code)]

mod fragments;

use std::io;
use std::mem;
use std::sync::Arc;
use std::thread;
use std::time::{Duration, Instant};

use super::sizes;
use super::socket::{Sizes, Socket};
use super::umem::{self, Frames, LARGE_CHUNK, SMALL_CHUNK, WriteFrame};
use super::{Granted, Kernel, Woken};
use crate::error::{Error, Result};
use crate::packet::checksum;
use crate::packet::ethernet;
use crate::packet::frame::{BodySums, Headers, MAX_HEADERS, Marks, payload_sum};
use crate::packet::{ip, probe, udp};
use crate::profile::payload::Payload;
use crate::queue::headers::{HeaderKind, Headers as Written};
use crate::queue::ring::{Consumer, Desc, Producer};
use crate::queue::{Completed, QueueError, Run, Stamper, Transmit, Tuning, TxCaps, TxSpec, Wait};
use crate::sys::xsk::Which;
use fragments::Cut;

/// Packets handed over with one system call. More of them gain nothing where it was measured, and make longer bursts.
const BATCH: u16 = 64;
/// Between two looks at the completion ring while waiting: the kernel does not say when something arrives there.
const PAUSE: Duration = Duration::from_micros(50);

/// A transmit queue that writes frames.
#[derive(Debug)]
pub struct FrameTx<K> {
    kernel: K,
    ring: Producer<Desc>,
    completion: Consumer<u64>,
    /// With what each was last written for.
    frames: Frames<Holds>,
    /// By flow.
    flows: Vec<Flow>,
    body: Body,
    max_payload: u16,
    /// Most descriptors that a frame takes.
    span: u32,
    /// How packets above the MTU leave, if they may.
    cut: Option<Cut>,
    in_flight: usize,
    /// Frames under way that `in_flight` does not count: messages, and fragments but for the last of each packet.
    uncounted: usize,
    /// Completed since the last reap.
    completed: u64,
    /// Of those completed or to be completed, dropped by the kernel.
    refused: u64,
}

/// What a frame was last written for: flow, length of the payload and length of the headers, where the payload begins, and which fragment, if it is one;
/// in one number, so that they are compared at once.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(crate) struct Holds(u64);

/// Nothing that can be used again.
const NOTHING: Holds = Holds(0);

impl Holds {
    #[inline]
    fn new(flow: u16, len: u16, headers: usize) -> Self {
        Self((headers as u64) << 32 | u64::from(len) << 16 | u64::from(flow))
    }

    /// Whether a packet is under way when such a frame is.
    #[inline]
    fn counts(self) -> bool {
        self != NOTHING && !self.is_followed()
    }

    /// Whether the payload lies in the same place, and so is the same but for its probe header.
    #[inline]
    fn same_body(self, other: Self) -> bool {
        self.0 >> 16 == other.0 >> 16
    }
}

/// What a queue needs for the longest of its frames.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Layout {
    pub chunk: u32,
    pub span: u32,
    /// Frames; their chunks fit the rings.
    pub frames: u32,
}

impl Layout {
    /// For the flows of a queue and its longest payload, a message of the end of a stream, and rings of `ring` slots.
    pub(crate) fn new(flows: &[(Headers, u16)], spec: &TxSpec, ring: u32) -> Self {
        let longest = |(headers, _): &(Headers, u16)| {
            let whole = headers.len() + usize::from(spec.max_payload);
            let cut = fragments::mtu(spec).map_or(usize::MAX, |mtu| headers.link_len() + mtu as usize);
            whole.min(cut).max(headers.len() + probe::MESSAGE_LEN)
        };
        // MAX_HEADERS and a u16 are less than a u32.
        let longest = flows.iter().map(longest).max().unwrap_or(0) as u32;
        let chunk = if longest <= SMALL_CHUNK { SMALL_CHUNK } else { LARGE_CHUNK };
        let span = longest.div_ceil(chunk);
        Self { chunk, span, frames: ring / span }
    }
}

/// The headers of all flows of a queue.
pub(crate) fn flows(spec: &TxSpec, source_mac: [u8; 6]) -> Result<Vec<(Headers, u16)>> {
    let marks = Marks::from(spec);
    spec.flows
        .iter()
        .map(|flow| {
            let headers = Headers::new(flow, source_mac, marks)?;
            if spec.max_payload > headers.max_payload() {
                return Err(Error::usage(format!(
                    "flow {} → {}: {} bytes are more than a UDP datagram carries",
                    flow.source, flow.destination, spec.max_payload
                ))
                .fix(format!("use --length {} or less", headers.max_payload())));
            }
            Ok((headers, flow.stream))
        })
        .collect()
}

impl FrameTx<Socket> {
    /// Opens a queue on the calling thread, which is to be pinned already: that is where its memory will lie.
    ///
    /// # Errors
    /// `Usage` when the spec cannot be written into frames (no interface, a flow without source), `Environment` when the MTU is too small or the
    /// kernel refuses: see [`Socket::bind`].
    pub fn open(spec: &TxSpec) -> Result<Self> {
        let Some(interface) = &spec.interface else {
            return Err(
                Error::usage("AF_XDP needs an interface to send on").fix("name it with --iface, see ip link")
            );
        };
        let flows = flows(spec, interface.mac)?;
        let slots = sizes::tx(interface);
        let layout = Layout::new(&flows, spec, slots);
        match fragments::mtu(spec) {
            Some(mtu) => fragments::check(&flows, spec.max_payload, mtu, layout.frames)?,
            None => fits_mtu(spec, interface.mtu, &interface.name)?,
        }
        let Tuning { huge_pages, .. } = spec.tuning;
        let memory = umem::create(layout.chunk, layout.span, layout.frames, 1, slots, huge_pages)?;
        let sizes = Sizes { rx: 1, tx: slots, fill: 1, completion: slots };
        let socket = Socket::bind(interface, spec.queue, &memory, sizes, layout.span > 1, spec.tuning)?;
        let ring = socket.map_packets(Which::Tx)?.producer();
        let completion = socket.map_addresses(Which::Completion)?.consumer();
        Ok(Self::new(socket, ring, completion, memory.frames, flows, spec))
    }

    /// What the kernel granted.
    pub fn granted(&self) -> &Granted {
        self.kernel.granted()
    }
}

fn fits_mtu(spec: &TxSpec, mtu: u32, name: &str) -> Result<()> {
    let ip = if spec.flows.iter().any(|f| f.destination.is_ipv6()) { ip::V6_LEN } else { ip::V4_LEN };
    let longest = ip + udp::HEADER_LEN + usize::from(spec.max_payload);
    if longest <= mtu as usize {
        return Ok(());
    }
    Err(Error::environment(format!(
        "{name}: a payload of {} bytes makes IP packets of {longest} bytes, more than the MTU of {mtu}",
        spec.max_payload
    ))
    .fix(format!("ip link set {name} mtu {longest}, or use a smaller --length")))
}

impl<K: Kernel> FrameTx<K> {
    /// A queue whose rings and frames are there already.
    pub(crate) fn new(
        kernel: K,
        ring: Producer<Desc>,
        completion: Consumer<u64>,
        frames: Frames<Holds>,
        flows: Vec<(Headers, u16)>,
        spec: &TxSpec,
    ) -> Self {
        let span = frames.span();
        Self {
            kernel,
            ring,
            completion,
            frames,
            cut: Cut::of(spec, &flows),
            flows: flows.into_iter().map(Flow::new).collect(),
            body: Body::new(spec),
            max_payload: spec.max_payload,
            span,
            in_flight: 0,
            uncounted: 0,
            completed: 0,
            refused: 0,
        }
    }

    /// Takes frames back that the kernel is done with.
    #[inline]
    fn collect(&mut self) {
        if self.completion.available(1) == 0 {
            return;
        }
        let before = self.frames.free();
        self.frames.take_back_all(self.completion.filled(u32::MAX));
        let mut packets = self.frames.free() - before;
        if self.uncounted > 0 {
            let others = self.frames.last_notes(packets).filter(|holds| !holds.counts()).count();
            self.uncounted -= others;
            packets -= others;
        }
        self.in_flight -= packets;
        self.completed += packets as u64;
        self.completion.release();
    }

    /// Has the kernel take what is in the ring, as long as it gets on with it.
    #[inline]
    fn kick(&mut self) -> std::result::Result<(), QueueError> {
        let mut pending = self.ring.pending();
        while pending > 0 && (self.ring.needs_wakeup() || self.kernel.polls()) {
            let woken = self.kernel.wake_tx().map_err(broken)?;
            if woken == Woken::Refused {
                self.note_refusal();
            }
            let left = self.ring.pending();
            if matches!(woken, Woken::Done | Woken::Later) || left == pending {
                break;
            }
            pending = left;
        }
        Ok(())
    }

    /// Takes packets off the front of `runs` as long as there are frames and slots; returns how many.
    #[inline]
    fn take(&mut self, runs: &[Run], stamper: &Stamper) -> usize {
        match stamper.kind() {
            HeaderKind::Probe => self.take_with(runs, |stream, first| stamper.series(stream, first)),
            HeaderKind::Rtp(rtp) => self.take_with(runs, |stream, first| stamper.plain(rtp, stream, first)),
            HeaderKind::Probed(rtp) => {
                self.take_with(runs, |stream, first| stamper.probed(rtp, stream, first))
            }
            HeaderKind::Iperf2(header) => self.take_with(runs, |_, first| stamper.iperf2(header, first)),
            HeaderKind::Iperf3(header) => self.take_with(runs, |_, first| stamper.iperf3(header, first)),
        }
    }

    #[inline]
    fn take_with<W: Written>(&mut self, runs: &[Run], written: impl Fn(u16, u64) -> W) -> usize {
        let wanted = runs.iter().map(|run| u32::from(run.count)).sum::<u32>();
        let slots = self.ring.reserve(wanted.saturating_mul(self.span));
        let room = if self.span == 1 { slots } else { slots / self.span };
        // There are fewer frames than 2³².
        let count = room.min(wanted).min(self.frames.free() as u32);
        // All of them at once: then those that come back in order are used in order, and the streams' turns may find their own.
        let mut frames = self.frames.lend_last(count as usize, self.ring.slots());
        let anew = self.body.varies() || W::SUM_VARIES;
        let size = frames.size();
        let mut left = count;
        for run in runs {
            let count = left.min(run.count.into());
            if count == 0 {
                break;
            }
            left -= count;
            let flow = &mut self.flows[usize::from(run.flow)];
            let start = flow.headers.len();
            let end = start + usize::from(run.len);
            assert!(end <= size && start + W::LEN <= end, "{run:?}");
            let wanted = Holds::new(run.flow, run.len, start);
            let packets = Packets {
                written: written(flow.stream, run.first_seq),
                // What no frame holds, so that each is written anew.
                usable: if anew { Holds(u64::MAX) } else { wanted },
                wanted,
                start,
                run,
                flow,
                body: &self.body,
            };
            // A frame is shorter than 2³² bytes.
            frames.run(count, end.max(ethernet::MIN_LEN) as u32, packets);
        }
        drop(frames);
        self.in_flight += count as usize;
        count as usize
    }
}

/// Headers and number of a stream.
#[derive(Debug)]
struct Flow {
    headers: Headers,
    stream: u16,
    /// The headers as they were written last, and for which length of the payload, where it does not vary.
    ready: [u8; MAX_HEADERS],
    ready_for: Option<u16>,
}

impl Flow {
    fn new((headers, stream): (Headers, u16)) -> Self {
        Self { headers, stream, ready: [0; MAX_HEADERS], ready_for: None }
    }

    /// Writes the headers for the body of `len` bytes of payload, which does not vary and whose sum is `sum`.
    #[inline]
    fn write(&mut self, bytes: &mut [u8], len: u16, sum: impl FnOnce() -> u64) {
        if self.ready_for != Some(len) {
            self.headers.write(&mut self.ready, len, sum());
            self.ready_for = Some(len);
        }
        // Of a length that is known: a few wide stores.
        match self.headers.len() {
            V4 => copy::<V4>(&self.ready, bytes),
            V6 => copy::<V6>(&self.ready, bytes),
            V4_TAGGED => copy::<V4_TAGGED>(&self.ready, bytes),
            _ => copy::<MAX_HEADERS>(&self.ready, bytes),
        }
    }
}

/// Bytes of the headers over IPv4 and IPv6, without and with a tag.
const V4: usize = ethernet::HEADER_LEN + ip::V4_LEN + udp::HEADER_LEN;
const V6: usize = ethernet::HEADER_LEN + ip::V6_LEN + udp::HEADER_LEN;
const V4_TAGGED: usize = V4 + ethernet::TAG_LEN;
const _: () = assert!(MAX_HEADERS == V6 + ethernet::TAG_LEN);

#[inline(always)]
fn copy<const LEN: usize>(from: &[u8; MAX_HEADERS], to: &mut [u8]) {
    to[..LEN].copy_from_slice(&from[..LEN]);
}

/// Packets of a run to be written into frames.
struct Packets<'a, W> {
    written: W,
    usable: Holds,
    wanted: Holds,
    start: usize,
    run: &'a Run,
    flow: &'a mut Flow,
    body: &'a Body,
}

impl<W: Written> WriteFrame<Holds> for Packets<'_, W> {
    #[inline(always)]
    fn write(&mut self, n: u32, noted: &mut Holds, bytes: &mut [u8]) {
        if *noted != self.usable {
            let same = noted.same_body(self.wanted);
            self.body.surround(bytes, self.flow, self.run, n, same);
            *noted = self.wanted;
        }
        self.written.emit(&mut bytes[self.start..self.start + W::LEN]);
        if W::SUM_VARIES {
            let payload = &bytes[self.start..self.start + usize::from(self.run.len)];
            let sum = checksum::sum(payload);
            self.flow.headers.write(bytes, self.run.len, sum);
        }
    }
}

/// What follows the headers that are written for each packet.
#[derive(Debug)]
struct Body {
    /// Bytes of those headers.
    head: usize,
    payload: Arc<Payload>,
    /// Absent when the payload varies.
    sums: Option<BodySums>,
}

impl Body {
    fn new(spec: &TxSpec) -> Self {
        let payload = Arc::clone(&spec.payload);
        let head = spec.head_len();
        let longest = usize::from(spec.max_payload).saturating_sub(head);
        let sums = (!payload.varies()).then(|| BodySums::new(&payload, longest));
        Self { head, payload, sums }
    }

    /// Whether each packet has another.
    #[inline]
    fn varies(&self) -> bool {
        self.sums.is_none()
    }

    /// Writes what the frame of packet `n` of `run` has around the headers in it, whose sum is taken for that of a
    /// probe header. `same`: the body in it is that of another packet in the same place. Not where it is called: there registers are few.
    #[cold]
    #[inline(never)]
    fn surround(&self, bytes: &mut [u8], flow: &mut Flow, run: &Run, n: u32, same: bool) {
        match &self.sums {
            Some(sums) if same => {
                flow.write(bytes, run.len, || sums.payload_sum(usize::from(run.len) - self.head));
            }
            _ => self.fill(bytes, flow, run, n),
        }
    }

    /// As [`surround`](Self::surround), with the body.
    #[inline(never)]
    fn fill(&self, bytes: &mut [u8], flow: &mut Flow, run: &Run, n: u32) {
        let (start, len) = (flow.headers.len(), usize::from(run.len));
        let (body, end) = (start + self.head..start + len, start + len);
        self.payload.fill(run.first_seq + u64::from(n), &mut bytes[body.clone()]);
        if end < ethernet::MIN_LEN {
            bytes[end..ethernet::MIN_LEN].fill(0);
        }
        let sum = match &self.sums {
            Some(sums) => sums.payload_sum(len - self.head),
            None => payload_sum(&bytes[body]),
        };
        flow.headers.write(bytes, run.len, sum);
    }
}

fn broken(source: io::Error) -> QueueError {
    QueueError { call: "sendto (AF_XDP)", source }
}

impl<K: Kernel> Transmit for FrameTx<K> {
    fn caps(&self) -> TxCaps {
        TxCaps { batch: BATCH, segments: 1, max_payload: self.max_payload }
    }

    fn submit(&mut self, runs: &[Run], stamper: &mut Stamper) -> std::result::Result<usize, QueueError> {
        self.collect();
        stamper.refresh();
        for run in runs {
            assert!(usize::from(run.len) >= self.body.head && run.len <= self.max_payload, "{run:?}");
        }
        let taken = if self.cut.is_some() { self.take_each(runs, stamper) } else { self.take(runs, stamper) };
        self.ring.commit();
        match self.kick() {
            // Taken is taken, their numbers are used; a queue that is broken says so again at the next call.
            Err(error) if taken == 0 => Err(error),
            _ => Ok(taken),
        }
    }

    fn reap(&mut self, wait: Wait) -> std::result::Result<Completed, QueueError> {
        self.kick()?;
        self.collect();
        if self.kernel.polls() && self.completed == 0 && self.in_flight > 0 {
            // Without interrupts nobody else has the driver look for what was sent.
            self.kernel.wake_tx().map_err(broken)?;
            self.collect();
        }
        if let Wait::For(at_most) = wait
            && self.completed == 0
            && self.in_flight > 0
        {
            let deadline = Instant::now() + at_most;
            while self.completed == 0 {
                let left = deadline.saturating_duration_since(Instant::now());
                if left.is_zero() {
                    // Nothing came back: is the interface still there?
                    self.kernel.wake_tx().map_err(broken)?;
                    break;
                }
                thread::sleep(PAUSE.min(left));
                self.kick()?;
                self.collect();
            }
        }
        let completed = mem::take(&mut self.completed);
        let failed = self.refused.min(completed);
        self.refused -= failed;
        Ok(Completed { packets: completed - failed, failed })
    }

    fn in_flight(&self) -> usize {
        self.in_flight
    }

    fn send_message(&mut self, flow: u16, payload: &[u8]) -> std::result::Result<(), QueueError> {
        let refuse =
            |code| QueueError { call: "message in a frame", source: io::Error::from_raw_os_error(code) };
        self.kick()?;
        self.is_cut_done();
        self.collect();
        let headers = &self.flows[usize::from(flow)].headers;
        let (start, end) = (headers.len(), headers.len() + payload.len());
        if end > self.frames.size() as usize || payload.len() > usize::from(headers.max_payload()) {
            return Err(refuse(libc::EMSGSIZE));
        }
        if self.ring.reserve(self.span) < self.span {
            return Err(refuse(libc::ENOBUFS));
        }
        let last = self.frames.free().wrapping_sub(1);
        let Some(mut frame) = self.frames.take(last) else { return Err(refuse(libc::ENOBUFS)) };
        self.uncounted += 1;
        let (holds, bytes) = self.frames.open(&mut frame);
        *holds = NOTHING;
        bytes[start..end].copy_from_slice(payload);
        if end < ethernet::MIN_LEN {
            bytes[end..ethernet::MIN_LEN].fill(0);
        }
        // Checked against max_payload above.
        headers.write(bytes, payload.len() as u16, checksum::sum(payload));
        let alone = self.ring.pending() == 0;
        let refused = self.refused;
        // Shorter than a frame.
        let len = end.max(ethernet::MIN_LEN) as u32;
        let ring = &mut self.ring;
        self.frames.lend(frame, len, |desc| ring.write(desc));
        self.ring.commit();
        self.kick()?;
        if alone && self.refused > refused {
            self.refused = refused;
            return Err(refuse(libc::EBUSY));
        }
        Ok(())
    }
}
