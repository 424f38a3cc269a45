//! Sending with io_uring.
#![expect(unsafe_code, reason = "requests that point into buffers")]

use std::collections::VecDeque;
use std::io;
use std::marker::PhantomData;
use std::mem::{self, ManuallyDrop};
use std::os::fd::{AsFd, AsRawFd, RawFd};
use std::time::Duration;

use io_uring::types::{Fd, Fixed};
use io_uring::{IoUring, opcode, squeue};
use socket2::Socket;

use super::ring;
use crate::error::Result;
use crate::queue::socket::BATCH;
use crate::queue::socket::outgoing::{Fate, Outgoing};
use crate::queue::{Completed, QueueError, Run, Stamper, Transmit, TxCaps, TxSpec, Wait};
use crate::sys;

/// Buffers: four batches, so that a batch is made while others are under way.
const SLOTS: u16 = 4 * BATCH as u16;

/// A transmit queue over io_uring: one system call for a batch of up to 64 packets of whichever flows.
///
/// A batch is never larger than what the sockets have room for. Otherwise a packet could be refused for lack of room and the
/// next one, a moment later, be taken: the sender would reorder its own stream.
///
/// It stays on the thread that opened it: the ring belongs to that thread.
pub struct UringTx {
    ring: IoUring,
    outgoing: ManuallyDrop<Outgoing>,
    fixed: bool,
    /// Buffers that hold nothing under way.
    free: Vec<u16>,
    /// Buffers whose packet was refused and is to be sent again.
    again: VecDeque<u16>,
    /// How often the packet in each buffer was refused.
    tries: Box<[u8]>,
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
        let outgoing = Outgoing::open(spec, usize::from(SLOTS))?;
        let ring = ring::open(u32::from(SLOTS), 2 * u32::from(SLOTS))?;
        let descriptors: Vec<RawFd> = outgoing.sockets.iter().map(AsRawFd::as_raw_fd).collect();
        let fixed = ring::register(&ring, &descriptors);
        let rooms = outgoing.sockets.iter().map(Room::of).collect();
        Ok(Self {
            ring,
            outgoing: ManuallyDrop::new(outgoing),
            fixed,
            free: (0..SLOTS).rev().collect(),
            again: VecDeque::with_capacity(usize::from(SLOTS)),
            tries: vec![0; usize::from(SLOTS)].into_boxed_slice(),
            rooms,
            stopped: None,
            _thread: PhantomData,
        })
    }

    /// Whether the interface that the queue was opened on was deleted. A system call: not for the hot path.
    pub fn interface_gone(&self) -> bool {
        self.outgoing.interface_gone()
    }

    /// Queues the request that sends buffer `slot`.
    fn push(&mut self, slot: u16) {
        let content = self.outgoing.slots.content(usize::from(slot));
        let address = self.outgoing.slots.address(usize::from(slot));
        let len = u32::from(content.len);
        let flow = usize::from(content.flow);
        // Refused rather than parked: a parked packet would be overtaken.
        let entry: squeue::Entry = if self.fixed {
            opcode::Send::new(Fixed(u32::from(content.flow)), address, len).flags(libc::MSG_DONTWAIT).build()
        } else {
            let fd = Fd(self.outgoing.sockets[flow].as_raw_fd());
            opcode::Send::new(fd, address, len).flags(libc::MSG_DONTWAIT).build()
        };
        let entry = entry.user_data(u64::from(slot));
        // SAFETY: the buffer is not written or freed before its completion is seen: it is in neither `free` nor `again`, and
        // Drop waits.
        let pushed = unsafe { self.ring.submission().push(&entry) };
        pushed.expect("the submission queue has an entry for each buffer");
    }

    /// Takes completions.
    fn collect(&mut self) {
        for completion in self.ring.completion() {
            // Only slots are ever put there.
            let slot = completion.user_data() as u16;
            if completion.result() >= 0 {
                self.outgoing.done.packets += 1;
                self.free.push(slot);
                continue;
            }
            let content = self.outgoing.slots.content(usize::from(slot));
            let tries = &mut self.tries[usize::from(slot)];
            *tries = tries.saturating_add(1);
            match self.outgoing.judge(content.flow, -completion.result(), *tries) {
                Fate::Later | Fate::Again => self.again.push_back(slot),
                Fate::Failed => self.free.push(slot),
                Fate::Stop(errno) => {
                    // Taken, and never to leave.
                    self.outgoing.done.failed += 1;
                    self.free.push(slot);
                    self.stopped = Some(errno);
                }
            }
        }
    }

    /// Sends again what was refused.
    fn send_again(&mut self) -> std::result::Result<(), QueueError> {
        for _ in 0..self.again.len() {
            let Some(slot) = self.again.pop_front() else { break };
            self.push(slot);
        }
        ring::submit(&self.ring)?;
        self.collect();
        Ok(())
    }

    /// Requests that the kernel has not answered.
    fn unanswered(&self) -> usize {
        usize::from(SLOTS) - self.free.len() - self.again.len()
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
        TxCaps { batch: BATCH as u16, max_payload: self.outgoing.max_payload }
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
        let mut taken = 0;
        'runs: for run in runs {
            let flow = usize::from(run.flow);
            for offset in 0..usize::from(run.count) {
                if taken == BATCH {
                    break 'runs;
                }
                if !self.rooms[flow].take(run.len) {
                    // Packets that are queued and not yet submitted are not in the socket's figures.
                    if taken > 0 {
                        break 'runs;
                    }
                    self.rooms[flow] = Room::of(&self.outgoing.sockets[flow]);
                    if !self.rooms[flow].take_first(run.len) {
                        self.outgoing.blocked = Some(run.flow);
                        break 'runs;
                    }
                }
                let Some(slot) = self.free.pop() else { break 'runs };
                self.outgoing.write(usize::from(slot), run, offset, stamper);
                self.tries[usize::from(slot)] = 0;
                self.push(slot);
                taken += 1;
            }
        }
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
                if self.unanswered() > 0 {
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
        usize::from(SLOTS) - self.free.len()
    }

    fn send_message(&mut self, flow: u16, payload: &[u8]) -> std::result::Result<(), QueueError> {
        self.outgoing.send_message(flow, payload)
    }
}

impl Drop for UringTx {
    fn drop(&mut self) {
        // The kernel answers at once when it may not wait; this is for the case that it ever does not.
        for _ in 0..10 {
            self.collect();
            if self.unanswered() == 0 {
                ring::release(&self.ring, self.fixed);
                // SAFETY: no request points into the buffers, and self is not used again.
                unsafe { ManuallyDrop::drop(&mut self.outgoing) };
                return;
            }
            let _ = ring::submit_and_wait(&self.ring, Duration::from_millis(100));
        }
        // Leaked: a request may still read the buffers.
    }
}

/// A lower bound for the bytes that a socket has room for, so that it is seldom asked.
#[derive(Debug, Clone, Copy)]
struct Room {
    bytes: i64,
}

impl Room {
    /// What `socket` has room for, when none of its packets is queued and not yet submitted.
    fn of(socket: &Socket) -> Self {
        // Without SO_MEMINFO (Linux 4.12) there is no io_uring either.
        let bytes = sys::socket::memory(socket.as_fd()).map_or(0, |memory| {
            i64::from(memory[libc::SK_MEMINFO_SNDBUF as usize])
                - i64::from(memory[libc::SK_MEMINFO_WMEM_ALLOC as usize])
        });
        Self { bytes }
    }

    /// Reserves room for one packet with `len` bytes of payload, when there surely is.
    #[inline]
    fn take(&mut self, len: u16) -> bool {
        let cost = cost(len);
        let enough = self.bytes >= cost;
        if enough {
            self.bytes -= cost;
        }
        enough
    }

    /// Reserves room for one packet as the kernel does, which takes one of any size when there is room at all.
    #[inline]
    fn take_first(&mut self, len: u16) -> bool {
        let enough = self.bytes > 0;
        self.bytes -= cost(len);
        enough
    }
}

/// At most what the kernel charges a socket for a packet: headers, the end-of-buffer structure and rounding up to a
/// slab size, and the packet's own structure.
#[inline]
pub(in crate::queue::socket) fn cost(len: u16) -> i64 {
    i64::from((u32::from(len) + 512).next_power_of_two() + 512)
}
