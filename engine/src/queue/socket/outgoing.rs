//! What the two transmit queues share: flows with their sockets, buffers, and the fate of packets.
#![forbid(unsafe_code)]

use std::io;
use std::os::fd::{AsFd, AsRawFd};
use std::sync::Arc;
use std::thread;
use std::time::{Duration, Instant};

use nix::poll::{PollFd, PollFlags, ppoll};
use nix::sys::socket::MsgFlags;
use nix::sys::time::TimeSpec;
use socket2::Socket;

use super::BATCH;
use super::offload::{Offload, Segmentation};
use super::setup;
use super::slots::Slots;
use super::verdict::{TRIES, Verdict};
use crate::error::Result;
use crate::profile::payload::Payload;
use crate::queue::spec::{Flow, Interface, TxSpec};
use crate::queue::{Completed, QueueError, Run, Stamper, TxCaps};
use crate::sys;

/// Full buffers of several packets in one batch.
const SUPER_BATCH: usize = 16;

/// Bytes of one batch with segmentation offload: enough that the system call does not matter, and well within a CPU's
/// second-level cache.
const BATCH_BYTES: usize = 128 << 10;

/// How long a message waits for room that packets leave.
const ROOM_COMES: Duration = Duration::from_secs(1);

/// The sending side of a queue, without the way of handing over.
#[derive(Debug)]
pub(super) struct Outgoing {
    pub(super) flows: Vec<Flow>,
    /// One connected socket for each flow.
    pub(super) sockets: Vec<Socket>,
    pub(super) slots: Slots,
    /// Known since the last reap.
    pub(super) done: Completed,
    /// The flow whose socket had no room.
    pub(super) blocked: Option<u16>,
    pub(super) segmentation: Segmentation,
    /// What the queue can take, whether or not segmentation is refused later.
    caps: TxCaps,
    payload: Arc<Payload>,
    interface: Option<Interface>,
}

impl Outgoing {
    /// Opens the sockets of `spec`, and buffers for `batches` batches.
    pub(super) fn open(spec: &TxSpec, batches: usize) -> Result<Self> {
        Self::adopt(spec, setup::senders(spec)?, spec.head_len(), batches)
    }

    /// The same with sockets that are open and connected already, one for each flow of `spec`, for packets with headers of `head` bytes.
    pub(super) fn adopt(spec: &TxSpec, sockets: Vec<Socket>, head: usize, batches: usize) -> Result<Self> {
        let segmentation = segmentation(spec, &sockets);
        let port = |socket: &Socket| Some(socket.local_addr().ok()?.as_socket()?.port());
        segmentation.offload().set_source_ports(sockets.iter().filter_map(port).collect());
        let segments = segmentation.limit();
        let size = usize::from(segments) * usize::from(spec.max_payload);
        let caps = TxCaps { batch: batch(spec, segments), segments, max_payload: spec.max_payload };
        Ok(Self {
            flows: spec.flows.clone(),
            sockets,
            slots: Slots::new(batches * BATCH, size, head, &spec.payload)?,
            done: Completed::default(),
            blocked: None,
            segmentation,
            caps,
            payload: Arc::clone(&spec.payload),
            interface: spec.interface.clone(),
        })
    }

    /// What the queue can take.
    pub(super) fn caps(&self) -> TxCaps {
        self.caps
    }

    /// How many packets may leave as one buffer, and whether that was refused.
    pub(super) fn offload(&self) -> Offload {
        self.segmentation.offload()
    }

    /// Writes the packets of `run` from number `from` of it on into buffer `slot`, as many as may be there together. Returns
    /// how many.
    ///
    /// # Panics
    /// When the run's payload is shorter than its headers or longer than the queue was opened for.
    #[inline]
    pub(super) fn write(&mut self, slot: usize, run: &Run, from: u16, stamper: &Stamper) -> u16 {
        assert!(run.len <= self.caps.max_payload, "payload length of the run");
        let count = self.fitting(run, from);
        let stream = self.flows[usize::from(run.flow)].stream;
        let part = Run { count, first_seq: run.first_seq + u64::from(from), ..*run };
        self.slots.write(slot, &part, stream, &self.payload, stamper);
        count
    }

    /// How many packets of `run` from number `from` of it on may leave as one buffer.
    #[inline]
    pub(super) fn fitting(&self, run: &Run, from: u16) -> u16 {
        let limit = self.segmentation.limit();
        // What fits with the longest payload fits with any; more of shorter ones is no use.
        limit.min(self.caps.segments).min(run.count - from)
    }

    /// The kernel took buffer `slot`. Returns how many packets it holds.
    #[inline]
    pub(super) fn taken(&mut self, slot: usize) -> u16 {
        let count = self.slots.content(slot).count;
        if count == 1 {
            self.segmentation.single(true);
        }
        self.done.packets += u64::from(count);
        count
    }

    /// Decides about a buffer of `segments` packets that the kernel refused for the `tries`th time.
    pub(super) fn judge(&mut self, flow: u16, errno: i32, tries: u8, segments: u16) -> Fate {
        match Verdict::of(errno) {
            Verdict::Later => {
                self.blocked = Some(flow);
                Fate::Later
            }
            Verdict::Earlier => Fate::Again,
            Verdict::Unsure if tries < TRIES => Fate::Again,
            Verdict::Unsure | Verdict::Refused => match self.interface_lost(flow) {
                Some(lost) if errno == libc::ENETUNREACH => Fate::Stop(lost),
                _ if segments > 1 => {
                    self.segmentation.refused(errno, segments);
                    Fate::Smaller
                }
                _ => {
                    self.segmentation.single(false);
                    self.done.failed += 1;
                    Fate::Failed
                }
            },
            Verdict::Gone | Verdict::Broken => Fate::Stop(errno),
        }
    }

    /// Waits until the socket that had no room has some.
    pub(super) fn wait_for_room(&mut self, limit: Duration) -> std::result::Result<(), QueueError> {
        let Some(flow) = self.blocked.take() else { return Ok(()) };
        wait_for(&self.sockets[usize::from(flow)], PollFlags::POLLOUT, limit)
    }

    /// Whether the interface was deleted or set down: the errno that says so.
    fn interface_lost(&self, flow: u16) -> Option<i32> {
        setup::interface_lost(&self.sockets[usize::from(flow)], self.interface.as_ref())
    }

    /// Whether the interface that the queue was opened on was deleted. A system call: not for the hot path.
    pub(super) fn interface_gone(&self) -> bool {
        !self.sockets.is_empty() && self.interface_lost(0) == Some(libc::ENODEV)
    }

    /// Sends one datagram as it is.
    pub(super) fn send_message(&self, flow: u16, payload: &[u8]) -> std::result::Result<(), QueueError> {
        self.insist(flow, |socket| socket.send(payload))
    }

    /// The next datagram that has come to the flow's socket.
    pub(super) fn answer(&self, flow: u16) -> Option<Vec<u8>> {
        next_datagram(&self.sockets[usize::from(flow)])
    }

    /// Has `send` send one datagram: again where the error was of an earlier one, and after a while where there was no room.
    pub(super) fn insist(
        &self,
        flow: u16,
        send: impl Fn(&Socket) -> io::Result<usize>,
    ) -> std::result::Result<(), QueueError> {
        let socket = &self.sockets[usize::from(flow)];
        let mut tries = 0;
        let end = Instant::now() + ROOM_COMES;
        loop {
            let Err(source) = send(socket) else { return Ok(()) };
            let verdict = Verdict::of(source.raw_os_error().unwrap_or(0));
            if verdict == Verdict::Later && Instant::now() < end {
                thread::sleep(Duration::from_millis(1));
                continue;
            }
            tries += 1;
            if tries == TRIES || !matches!(verdict, Verdict::Earlier | Verdict::Unsure) {
                return Err(QueueError { call: "send", source });
            }
        }
    }
}

/// What happens to a packet, or a buffer of several, that the kernel refused.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Fate {
    /// The same again, when there is room.
    Later,
    /// The same again at once.
    Again,
    /// The same again in smaller buffers.
    Smaller,
    /// It never leaves; counted.
    Failed,
    /// The queue is of no more use, with this errno.
    Stop(i32),
}

/// Packets of one batch: whole buffers.
fn batch(spec: &TxSpec, segments: u16) -> u16 {
    if segments == 1 {
        return BATCH as u16;
    }
    let fit = BATCH_BYTES / usize::from(spec.max_payload);
    let buffers = (fit / usize::from(segments)).clamp(1, SUPER_BATCH);
    // At most 16 times 128.
    buffers as u16 * segments
}

/// What `spec` wants and the kernel has.
fn segmentation(spec: &TxSpec, sockets: &[Socket]) -> Segmentation {
    let around = if spec.flows.iter().any(|flow| flow.destination.is_ipv6()) { 48 } else { 28 };
    let fits = (u16::MAX - around) / spec.max_payload.max(1);
    let ipv6 = around == 48;
    // The kernel does not cut segments into fragments.
    let whole = sockets.iter().all(|socket| setup::leaves_whole(socket, ipv6, spec.max_payload));
    let most = if whole { spec.segments.most().min(fits) } else { 1 };
    let refused = sockets.first().filter(|_| most > 1).and_then(|socket| {
        sys::socket::get_int(socket.as_fd(), libc::SOL_UDP, libc::UDP_SEGMENT).err()?.raw_os_error()
    });
    Segmentation::new(most, refused)
}

/// The next datagram that has come to `socket`, at most its first 2048 bytes.
pub(crate) fn next_datagram(socket: &Socket) -> Option<Vec<u8>> {
    let mut buffer = [0; 2048];
    let length = nix::sys::socket::recv(socket.as_raw_fd(), &mut buffer, MsgFlags::MSG_DONTWAIT).ok()?;
    Some(buffer[..length].to_vec())
}

/// Waits until `socket` is ready, at most for `limit`; a signal ends the wait early.
pub(super) fn wait_for(
    socket: &Socket,
    ready: PollFlags,
    limit: Duration,
) -> std::result::Result<(), QueueError> {
    match ppoll(&mut [PollFd::new(socket.as_fd(), ready)], Some(TimeSpec::from_duration(limit)), None) {
        Ok(_) | Err(nix::errno::Errno::EINTR) => Ok(()),
        Err(error) => Err(QueueError { call: "ppoll", source: io::Error::from(error) }),
    }
}
