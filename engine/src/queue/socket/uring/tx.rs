//! Sending with io_uring.
#![expect(unsafe_code, reason = "requests that point into buffers")]

use std::collections::VecDeque;
use std::io;
use std::marker::PhantomData;
use std::mem::{self, ManuallyDrop};
use std::os::fd::{AsRawFd, RawFd};
use std::time::{Duration, Instant};

use io_uring::types::{Fd, Fixed};
use io_uring::{IoUring, cqueue, opcode, squeue};
use socket2::Socket;

use super::ring;
use super::room::{Room, cost};
use super::zero_copy::{self, ZeroCopy};
use crate::error::Result;
use crate::queue::socket::BATCH;
use crate::queue::socket::messages::Messages;
use crate::queue::socket::offload::Offload;
use crate::queue::socket::outgoing::{Fate, Outgoing};
use crate::queue::socket::slots::Content;
use crate::queue::socket::verdict::Verdict;
use crate::queue::{Completed, QueueError, Run, Stamper, Transmit, TxCaps, TxSpec, Wait};

/// Batches that there are buffers for, so that one is made while others are under way.
const BATCHES: usize = 4;

/// How long the end waits for the kernel to give buffers back.
const LAST_ANSWERS: Duration = Duration::from_secs(1);

/// A transmit queue over io_uring: one system call for a batch of buffers, of one packet or several, of whichever flows.
///
/// A batch is never larger than what the sockets have room for. Otherwise a packet could be refused for lack of room and the
/// next one, a moment later, be taken: the sender would reorder its own stream.
///
/// It stays on the thread that opened it: the ring belongs to that thread.
pub struct UringTx {
    ring: IoUring,
    outgoing: ManuallyDrop<Outgoing>,
    /// One for each buffer.
    messages: ManuallyDrop<Messages>,
    fixed: bool,
    zero_copy: ZeroCopy,
    /// Buffers that hold nothing under way; those of low numbers are used before others.
    free: Vec<u16>,
    /// Buffers that the kernel has not answered.
    unanswered: usize,
    /// Buffers that were refused and are to be sent again.
    again: VecDeque<u16>,
    /// How often each buffer was refused.
    tries: Box<[u8]>,
    /// How many packets of each buffer have a known fate, when it is sent packet by packet.
    known: Box<[u16]>,
    /// Packets in buffers that are not free.
    in_flight: usize,
    rooms: Vec<Room>,
    /// The errno after which the queue is of no more use.
    stopped: Option<i32>,
    /// The ring belongs to the thread that made it.
    _thread: PhantomData<*const ()>,
}

impl UringTx {
    /// Opens a connected socket for each flow, and a ring for them all.
    ///
    /// # Errors
    /// Usage: TTL, DSCP or payload size do not fit. Environment: no io_uring here; interface missing or down, no address or
    /// route, source port in use.
    pub fn open(spec: &TxSpec) -> Result<Self> {
        Self::with(spec, Outgoing::open(spec, BATCHES)?)
    }

    /// The same with sockets that are open and connected already, one for each flow of `spec`, for packets with headers of `head` bytes.
    ///
    /// # Errors
    /// Environment: no io_uring here. Failed: no memory.
    pub fn adopt(spec: &TxSpec, sockets: Vec<Socket>, head: usize) -> Result<Self> {
        Self::with(spec, Outgoing::adopt(spec, sockets, head, BATCHES)?)
    }

    fn with(spec: &TxSpec, mut outgoing: Outgoing) -> Result<Self> {
        let slots = (BATCHES * BATCH) as u16;
        let messages = Messages::new(&mut outgoing.slots, usize::from(slots));
        let ring = ring::open(u32::from(slots), 2 * u32::from(slots))?;
        let descriptors: Vec<RawFd> = outgoing.sockets.iter().map(AsRawFd::as_raw_fd).collect();
        let fixed = ring::register(&ring, &descriptors);
        let rooms = outgoing.sockets.iter().map(Room::of).collect();
        let wanted = spec.tuning.zero_copy && outgoing.caps().segments > 1;
        let told = outgoing.offload();
        // SAFETY: Drop unregisters the slots before it frees them, or leaks them.
        let zero_copy = unsafe { ZeroCopy::new(&ring, &mut outgoing.slots, wanted, told) };
        Ok(Self {
            ring,
            outgoing: ManuallyDrop::new(outgoing),
            messages: ManuallyDrop::new(messages),
            fixed,
            zero_copy,
            unanswered: 0,
            free: (0..slots).rev().collect(),
            again: VecDeque::with_capacity(usize::from(slots)),
            tries: vec![0; usize::from(slots)].into_boxed_slice(),
            known: vec![0; usize::from(slots)].into_boxed_slice(),
            in_flight: 0,
            rooms,
            stopped: None,
            _thread: PhantomData,
        })
    }

    /// Whether the interface that the queue was opened on was deleted. A system call: not for the hot path.
    pub fn interface_gone(&self) -> bool {
        self.outgoing.interface_gone()
    }

    /// How many packets leave as one buffer, now and later.
    pub fn offload(&self) -> Offload {
        self.outgoing.offload()
    }

    /// Queues the request that sends buffer `slot`.
    fn push(&mut self, slot: u16) {
        let content = self.outgoing.slots.content(usize::from(slot));
        let flow = usize::from(content.flow);
        // Refused rather than parked: a parked packet would be overtaken.
        let entry: squeue::Entry = if content.count == 1 {
            let (address, len) =
                (self.outgoing.slots.packet(usize::from(slot), 0).as_ptr(), content.bytes() as u32);
            if self.fixed {
                opcode::Send::new(Fixed(u32::from(content.flow)), address, len)
                    .flags(libc::MSG_DONTWAIT)
                    .build()
            } else {
                let fd = Fd(self.outgoing.sockets[flow].as_raw_fd());
                opcode::Send::new(fd, address, len).flags(libc::MSG_DONTWAIT).build()
            }
        } else {
            self.messages.set(usize::from(slot), content);
            let message = self.messages.address(usize::from(slot));
            let again = self.tries[usize::from(slot)] > 0;
            let zero_copy = self.zero_copy.ask(slot, content, again);
            let flags = libc::MSG_DONTWAIT as u32;
            let fd = Fd(self.outgoing.sockets[flow].as_raw_fd());
            match (self.fixed, zero_copy) {
                (true, true) => {
                    zero_copy::request(opcode::SendMsgZc::new(Fixed(u32::from(content.flow)), message))
                }
                (false, true) => zero_copy::request(opcode::SendMsgZc::new(fd, message)),
                (true, false) => {
                    opcode::SendMsg::new(Fixed(u32::from(content.flow)), message).flags(flags).build()
                }
                (false, false) => opcode::SendMsg::new(fd, message).flags(flags).build(),
            }
        };
        let entry = entry.user_data(u64::from(slot));
        // SAFETY: the buffer is not written or freed before its completion is seen: it is in neither `free` nor `again`, and
        // Drop waits.
        let pushed = unsafe { self.ring.submission().push(&entry) };
        pushed.expect("the submission queue has an entry for each buffer");
        self.unanswered += 1;
    }

    /// Takes completions.
    fn collect(&mut self) {
        for completion in self.ring.completion() {
            // Only slots are ever put there.
            let slot = completion.user_data() as u16;
            if cqueue::notif(completion.flags()) {
                if self.zero_copy.notified(slot, completion.result()) {
                    self.free.push(slot);
                }
                continue;
            }
            self.unanswered -= 1;
            if cqueue::more(completion.flags()) {
                self.zero_copy.promised(slot);
            }
            if completion.result() >= 0 {
                let packets = self.outgoing.taken(usize::from(slot));
                self.in_flight -= usize::from(packets);
                free(&mut self.free, &mut self.zero_copy, slot);
                continue;
            }
            let errno = -completion.result();
            let Content { flow, count, .. } = self.outgoing.slots.content(usize::from(slot));
            let tries = &mut self.tries[usize::from(slot)];
            *tries = tries.saturating_add(1);
            if self.zero_copy.refused(slot)
                && matches!(Verdict::of(errno), Verdict::Unsure | Verdict::Refused | Verdict::Broken)
            {
                // It may be about the way of sending: the next try, by copy, tells.
                self.again.push_back(slot);
                continue;
            }
            match self.outgoing.judge(flow, errno, *tries, count) {
                Fate::Later | Fate::Again | Fate::Smaller => self.again.push_back(slot),
                Fate::Failed => {
                    self.in_flight -= 1;
                    free(&mut self.free, &mut self.zero_copy, slot);
                }
                Fate::Stop(errno) => {
                    // Taken, and never to leave.
                    self.outgoing.done.failed += u64::from(count);
                    self.in_flight -= usize::from(count);
                    free(&mut self.free, &mut self.zero_copy, slot);
                    self.stopped = Some(errno);
                }
            }
        }
    }

    /// Sends again what was refused.
    fn send_again(&mut self) -> std::result::Result<(), QueueError> {
        for _ in 0..self.again.len() {
            let Some(&slot) = self.again.front() else { break };
            let count = self.outgoing.slots.content(usize::from(slot)).count;
            let begun = self.known[usize::from(slot)] > 0;
            if count > 1 && (begun || count > self.outgoing.segmentation.limit()) {
                // Those before it go first.
                ring::submit(&self.ring)?;
                if !self.send_one_by_one(usize::from(slot)) {
                    break;
                }
                self.again.pop_front();
                free(&mut self.free, &mut self.zero_copy, slot);
            } else {
                self.again.pop_front();
                self.push(slot);
            }
        }
        ring::submit(&self.ring)?;
        self.collect();
        Ok(())
    }

    /// Sends the packets of buffer `slot`, which was refused as a whole, each by itself. Returns whether all have a known fate.
    #[cold]
    fn send_one_by_one(&mut self, slot: usize) -> bool {
        let Content { flow, count, .. } = self.outgoing.slots.content(slot);
        let mut tries = 0;
        while self.known[slot] < count {
            let packet = self.outgoing.slots.packet(slot, self.known[slot]);
            match self.outgoing.sockets[usize::from(flow)].send(packet) {
                Ok(_) => {
                    self.outgoing.segmentation.single(true);
                    self.outgoing.done.packets += 1;
                }
                Err(error) => {
                    tries += 1;
                    match self.outgoing.judge(flow, error.raw_os_error().unwrap_or(0), tries, 1) {
                        Fate::Later => return false,
                        Fate::Again | Fate::Smaller => continue,
                        Fate::Failed => {}
                        Fate::Stop(errno) => {
                            let rest = count - self.known[slot];
                            self.outgoing.done.failed += u64::from(rest);
                            self.in_flight -= usize::from(rest);
                            self.stopped = Some(errno);
                            return true;
                        }
                    }
                }
            }
            tries = 0;
            self.known[slot] += 1;
            self.in_flight -= 1;
        }
        true
    }

    /// What stopped it, told once: a link that went down may come back, and what stays wrong says so again.
    fn check(&mut self) -> std::result::Result<(), QueueError> {
        match self.stopped.take() {
            None => Ok(()),
            Some(errno) => Err(QueueError { call: "send", source: io::Error::from_raw_os_error(errno) }),
        }
    }
}

impl Transmit for UringTx {
    fn caps(&self) -> TxCaps {
        self.outgoing.caps()
    }

    fn submit(&mut self, runs: &[Run], stamper: &mut Stamper) -> std::result::Result<usize, QueueError> {
        self.check()?;
        if !self.again.is_empty() {
            // Numbers that were refused go before new ones.
            self.send_again()?;
            return Ok(0);
        }
        stamper.refresh();
        self.outgoing.blocked = None;
        let (mut taken, mut left) = (0, BATCH);
        'runs: for run in runs {
            let flow = usize::from(run.flow);
            let mut of_run = 0;
            while of_run < run.count {
                if left == 0 {
                    break 'runs;
                }
                let cost = cost(run.len, self.outgoing.fitting(run, of_run));
                if !self.rooms[flow].take(cost) {
                    // Packets that are queued and not yet submitted are not in the socket's figures.
                    if taken > 0 {
                        break 'runs;
                    }
                    self.rooms[flow] = Room::of(&self.outgoing.sockets[flow]);
                    if !self.rooms[flow].take_first(cost) {
                        self.outgoing.blocked = Some(run.flow);
                        break 'runs;
                    }
                }
                let Some(slot) = self.free.pop() else { break 'runs };
                let written = self.outgoing.write(usize::from(slot), run, of_run, stamper);
                self.tries[usize::from(slot)] = 0;
                self.known[usize::from(slot)] = 0;
                self.push(slot);
                left -= 1;
                of_run += written;
                taken += usize::from(written);
            }
        }
        self.in_flight += taken;
        if taken > 0 {
            ring::submit(&self.ring)?;
            self.collect();
        }
        Ok(taken)
    }

    fn reap(&mut self, wait: Wait) -> std::result::Result<Completed, QueueError> {
        self.collect();
        if self.outgoing.done == Completed::default() {
            if let Wait::For(limit) = wait {
                if self.unanswered > 0 || (self.free.is_empty() && self.zero_copy.awaited() > 0) {
                    ring::submit_and_wait(&self.ring, limit)?;
                    self.collect();
                } else {
                    self.outgoing.wait_for_room(limit)?;
                }
            }
            if !self.again.is_empty() {
                self.send_again()?;
            }
        }
        let done = mem::take(&mut self.outgoing.done);
        if done == Completed::default() {
            self.check()?;
        }
        Ok(done)
    }

    fn in_flight(&self) -> usize {
        self.in_flight
    }

    fn send_message(&mut self, flow: u16, payload: &[u8]) -> std::result::Result<(), QueueError> {
        self.outgoing.send_message(flow, payload)
    }

    fn answer(&mut self, flow: u16) -> Option<Vec<u8>> {
        self.outgoing.answer(flow)
    }
}

impl Drop for UringTx {
    fn drop(&mut self) {
        // The kernel answers at once when it may not wait; what was not copied it gives back when it has left.
        let end = Instant::now() + LAST_ANSWERS;
        loop {
            self.collect();
            if self.unanswered == 0 && self.zero_copy.awaited() == 0 {
                ring::release(&self.ring, self.fixed);
                if self.zero_copy.unregister(&self.ring).is_err() {
                    return;
                }
                // SAFETY: no request points into buffers or headers, the kernel has given the buffers up, and self is not used again.
                unsafe {
                    ManuallyDrop::drop(&mut self.messages);
                    ManuallyDrop::drop(&mut self.outgoing);
                }
                return;
            }
            let Some(left) = end.checked_duration_since(Instant::now()) else { break };
            let _ = ring::submit_and_wait(&self.ring, left);
        }
        // Leaked: a request may still read the buffers.
    }
}

/// The fate of the packets in buffer `slot` is known: it is free as soon as nothing reads it.
#[inline]
fn free(free: &mut Vec<u16>, zero_copy: &mut ZeroCopy, slot: u16) {
    if zero_copy.settle(slot) {
        free.push(slot);
    }
}
