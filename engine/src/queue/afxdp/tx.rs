//! Sending frames: runs of packets into a TX ring, and their frames back from the completion ring.
#![forbid(unsafe_code)]

use std::io;
use std::mem;
use std::sync::Arc;
use std::thread;
use std::time::{Duration, Instant};

use super::sizes;
use super::socket::{Sizes, Socket};
use super::umem::{self, Frame, Frames, LARGE_CHUNK, SMALL_CHUNK};
use super::{Granted, Kernel, Woken};
use crate::error::{Error, Result};
use crate::packet::checksum;
use crate::packet::ethernet;
use crate::packet::frame::{BodySums, Headers, Marks, payload_sum};
use crate::packet::{ip, probe, udp};
use crate::profile::payload::Payload;
use crate::queue::ring::{Consumer, Desc, Producer};
use crate::queue::{Completed, QueueError, Run, Stamper, Transmit, Tuning, TxCaps, TxSpec, Wait};
use crate::sys::xsk::Which;

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
    frames: Frames,
    free: Vec<Frame>,
    /// By frame: what it was last written for.
    holds: Vec<Holds>,
    /// By flow.
    flows: Vec<(Headers, u16)>,
    payload: Arc<Payload>,
    /// Absent when the payload varies.
    sums: Option<BodySums>,
    max_payload: u16,
    /// Most descriptors that a packet takes.
    span: u32,
    in_flight: usize,
    /// Completed since the last reap.
    completed: u64,
    /// Of those completed or to be completed, dropped by the kernel.
    refused: u64,
}

/// What a frame was last written for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Holds {
    flow: u16,
    /// 0: nothing that can be used again.
    len: u16,
    /// Length of the headers: where the payload begins.
    headers: u8,
}

const NOTHING: Holds = Holds { flow: 0, len: 0, headers: 0 };

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
    pub(crate) fn new(flows: &[(Headers, u16)], max_payload: u16, ring: u32) -> Self {
        let headers = flows.iter().map(|(h, _)| h.len()).max().unwrap_or(0);
        // MAX_HEADERS and a u16 are less than a u32.
        let longest = (headers + usize::from(max_payload).max(probe::END_LEN)) as u32;
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
        fits_mtu(spec, interface.mtu, &interface.name)?;
        let slots = sizes::tx(interface);
        let layout = Layout::new(&flows, spec.max_payload, slots);
        let Tuning { huge_pages, .. } = spec.tuning;
        let memory = umem::create(layout.chunk, layout.span, layout.frames, 1, slots, huge_pages)?;
        let sizes = Sizes { rx: 1, tx: slots, fill: 1, completion: slots };
        let socket = Socket::bind(interface, spec.queue, &memory, sizes, layout.span > 1, spec.tuning)?;
        let ring = socket.map_packets(Which::Tx)?.producer();
        let completion = socket.map_addresses(Which::Completion)?.consumer();
        Ok(Self::new(socket, ring, completion, memory.frames, memory.free, flows, spec))
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
    /// A queue whose rings and frames are there already; `free` are all of the frames.
    pub(crate) fn new(
        kernel: K,
        ring: Producer<Desc>,
        completion: Consumer<u64>,
        frames: Frames,
        free: Vec<Frame>,
        flows: Vec<(Headers, u16)>,
        spec: &TxSpec,
    ) -> Self {
        let longest_body = usize::from(spec.max_payload).saturating_sub(probe::LEN);
        let span = frames.span();
        Self {
            kernel,
            ring,
            completion,
            holds: vec![NOTHING; free.len()],
            frames,
            free,
            flows,
            payload: Arc::clone(&spec.payload),
            sums: (!spec.payload.varies()).then(|| BodySums::new(&spec.payload, longest_body)),
            max_payload: spec.max_payload,
            span,
            in_flight: 0,
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
        while let Some(address) = self.completion.read() {
            let Some(frame) = self.frames.take_back(address) else { continue };
            // A message holds nothing and is not counted.
            if self.holds[frame.index()].len > 0 {
                self.in_flight -= 1;
                self.completed += 1;
            }
            self.free.push(frame);
        }
        self.completion.release();
    }

    /// Has the kernel take what is in the ring, as long as it gets on with it.
    #[inline]
    fn kick(&mut self) -> std::result::Result<(), QueueError> {
        let mut pending = self.ring.pending();
        while pending > 0 && (self.ring.needs_wakeup() || self.kernel.polls()) {
            let woken = self.kernel.wake_tx().map_err(broken)?;
            if woken == Woken::Refused {
                self.refused += 1;
            }
            let left = self.ring.pending();
            if matches!(woken, Woken::Done | Woken::Later) || left == pending {
                break;
            }
            pending = left;
        }
        Ok(())
    }

    /// Writes what packet `sequence` of `run` has before its stamp; returns the payload's place and the frame's length.
    #[inline]
    fn write(&mut self, frame: &mut Frame, run: &Run, sequence: u64) -> (usize, usize) {
        let headers = &self.flows[usize::from(run.flow)].0;
        let start = headers.len();
        let end = start + usize::from(run.len);
        let held = &mut self.holds[frame.index()];
        // MAX_HEADERS fits a byte.
        let wanted = Holds { flow: run.flow, len: run.len, headers: start as u8 };
        if *held != wanted || self.sums.is_none() {
            let same_body = held.len == run.len && held.headers == wanted.headers;
            let bytes = self.frames.bytes_mut(frame);
            let sum = match &self.sums {
                Some(sums) => {
                    if !same_body {
                        self.payload.fill(sequence, &mut bytes[start + probe::LEN..end]);
                    }
                    sums.payload_sum(run.len)
                }
                None => {
                    self.payload.fill(sequence, &mut bytes[start + probe::LEN..end]);
                    payload_sum(&bytes[start + probe::LEN..end])
                }
            };
            if !same_body && end < ethernet::MIN_LEN {
                bytes[end..ethernet::MIN_LEN].fill(0);
            }
            headers.write(bytes, run.len, sum);
            *held = wanted;
        }
        (start, end)
    }

    #[inline]
    fn hand_over(&mut self, frame: Frame, len: usize) {
        // A frame is shorter than 2³² bytes.
        let len = len.max(ethernet::MIN_LEN) as u32;
        let ring = &mut self.ring;
        self.frames.lend(frame, len, |desc| ring.write(desc));
    }
}

fn broken(source: io::Error) -> QueueError {
    QueueError { call: "sendto (AF_XDP)", source }
}

impl<K: Kernel> Transmit for FrameTx<K> {
    fn caps(&self) -> TxCaps {
        TxCaps { batch: BATCH, max_payload: self.max_payload }
    }

    fn submit(&mut self, runs: &[Run], stamper: &mut Stamper) -> std::result::Result<usize, QueueError> {
        self.collect();
        stamper.refresh();
        let mut taken = 0;
        'runs: for run in runs {
            let stream = self.flows[usize::from(run.flow)].1;
            assert!(usize::from(run.len) >= probe::LEN && run.len <= self.max_payload, "{run:?}");
            for nth in 0..u64::from(run.count) {
                if self.ring.reserve(self.span) < self.span {
                    break 'runs;
                }
                let Some(mut frame) = self.free.pop() else { break 'runs };
                let sequence = run.first_seq + nth;
                let (start, end) = self.write(&mut frame, run, sequence);
                stamper.stamp(&mut self.frames.bytes_mut(&mut frame)[start..end], stream, sequence);
                self.hand_over(frame, end);
                taken += 1;
            }
        }
        self.in_flight += taken;
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
        self.collect();
        let headers = &self.flows[usize::from(flow)].0;
        let (start, end) = (headers.len(), headers.len() + payload.len());
        if end > self.frames.size() as usize || payload.len() > usize::from(headers.max_payload()) {
            return Err(refuse(libc::EMSGSIZE));
        }
        if self.ring.reserve(self.span) < self.span {
            return Err(refuse(libc::ENOBUFS));
        }
        let Some(mut frame) = self.free.pop() else { return Err(refuse(libc::ENOBUFS)) };
        self.holds[frame.index()] = NOTHING;
        let bytes = self.frames.bytes_mut(&mut frame);
        bytes[start..end].copy_from_slice(payload);
        if end < ethernet::MIN_LEN {
            bytes[end..ethernet::MIN_LEN].fill(0);
        }
        // Checked against max_payload above.
        headers.write(bytes, payload.len() as u16, checksum::sum(payload));
        let alone = self.ring.pending() == 0;
        let refused = self.refused;
        self.hand_over(frame, end);
        self.ring.commit();
        self.kick()?;
        if alone && self.refused > refused {
            self.refused = refused;
            return Err(refuse(libc::EBUSY));
        }
        Ok(())
    }
}
