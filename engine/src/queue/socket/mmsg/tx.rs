//! Sending with `sendmmsg`.
#![expect(unsafe_code, reason = "sendmmsg takes pointers to the messages")]

use std::io;
use std::mem;
use std::os::fd::AsRawFd;

use socket2::Socket;

use crate::error::Result;
use crate::packet::follow_up::Departed;
use crate::queue::socket::BATCH;
use crate::queue::socket::messages::Messages;
use crate::queue::socket::offload::Offload;
use crate::queue::socket::outgoing::{Fate, Outgoing};
use crate::queue::socket::stamps::Stamps;
use crate::queue::socket::timed::Timed;
use crate::queue::{Completed, QueueError, Run, Stamper, Transmit, TxCaps, TxSpec, Wait};

/// How often in a row a socket may hand out errors of earlier datagrams before the queue does something else.
const ERRORS_IN_A_ROW: u32 = 16;

/// A transmit queue over `sendmmsg`, one call for each run of a flow. The kernel has taken or refused every packet when
/// [`submit`](Transmit::submit) returns: nothing is in flight but packets that leave at a time of their own.
///
/// It stays on the thread that opened it.
#[derive(Debug)]
pub struct MmsgTx {
    outgoing: Outgoing,
    /// One for each buffer.
    messages: Messages,
    /// Where packets leave at times of their own.
    timed: Option<Timed>,
    /// Where the kernel says when packets left.
    stamps: Option<Stamps>,
}

impl MmsgTx {
    /// Opens a connected socket for each flow.
    ///
    /// # Errors
    /// Usage: TTL, DSCP or payload size do not fit. Environment: interface missing or down, no address or
    /// route, source port in use.
    pub fn open(spec: &TxSpec) -> Result<Self> {
        Self::with(spec, Outgoing::open(spec, 1)?)
    }

    /// The same with sockets that are open and connected already, one for each flow of `spec`, for packets with headers of `head` bytes.
    ///
    /// # Errors
    /// Failed, when there is no memory.
    pub fn adopt(spec: &TxSpec, sockets: Vec<Socket>, head: usize) -> Result<Self> {
        Self::with(spec, Outgoing::adopt(spec, sockets, head, 1)?)
    }

    fn with(spec: &TxSpec, mut outgoing: Outgoing) -> Result<Self> {
        let messages = match spec.txtime {
            Some(_) => Messages::timed(&mut outgoing.slots, BATCH),
            None => Messages::new(&mut outgoing.slots, BATCH),
        };
        let stamps = spec.tuning.kernel_stamps.then(|| Stamps::of(&outgoing.sockets)).transpose()?;
        Ok(Self { outgoing, messages, timed: spec.txtime.map(Timed::new), stamps })
    }

    /// How many packets leave as one buffer, now and later.
    pub fn offload(&self) -> Offload {
        self.outgoing.offload()
    }

    /// Whether the interface that the queue was opened on was deleted. A system call: not for the hot path.
    pub fn interface_gone(&self) -> bool {
        self.outgoing.interface_gone()
    }

    /// Sends buffers `from..to`, which hold packets of `flow`. Returns how many packets have a known fate.
    fn send(&mut self, flow: u16, from: usize, to: usize) -> std::result::Result<usize, QueueError> {
        let fd = self.outgoing.sockets[usize::from(flow)].as_raw_fd();
        let mut next = from;
        let mut known = 0;
        let mut tries = 0;
        let mut errors = 0;
        while next < to {
            let messages = self.messages.range(next, to);
            // At most 64 of them.
            let count = messages.len() as u32;
            // SAFETY: the messages and the vectors they point to are owned by self; each vector is a buffer of the slots
            // with a length that was written.
            let sent = unsafe { libc::sendmmsg(fd, messages.as_mut_ptr(), count, libc::MSG_DONTWAIT) };
            if sent > 0 {
                for _ in 0..sent {
                    let packets = self.outgoing.taken(next);
                    known += usize::from(packets);
                    next += 1;
                }
                tries = 0;
                continue;
            }
            let error = io::Error::last_os_error();
            tries += 1;
            errors += 1;
            let segments = self.outgoing.slots.content(next).count;
            match self.outgoing.judge(flow, error.raw_os_error().unwrap_or(0), tries, segments) {
                Fate::Again if errors < ERRORS_IN_A_ROW => {}
                // What was not taken comes again, in smaller buffers where it has to.
                Fate::Again | Fate::Later | Fate::Smaller => break,
                Fate::Failed => {
                    next += 1;
                    known += 1;
                    tries = 0;
                }
                // What is wrong stays wrong: the next call reports it, this one what was sent before.
                Fate::Stop(_) if next > 0 => break,
                Fate::Stop(errno) => {
                    let source = io::Error::from_raw_os_error(errno);
                    return Err(QueueError { call: "sendmmsg", source });
                }
            }
        }
        Ok(known)
    }
}

impl Transmit for MmsgTx {
    fn caps(&self) -> TxCaps {
        self.outgoing.caps()
    }

    fn submit(&mut self, runs: &[Run], stamper: &mut Stamper) -> std::result::Result<usize, QueueError> {
        stamper.refresh();
        self.outgoing.blocked = None;
        let offset_ns = self.timed.as_ref().map(Timed::offset_ns);
        let (mut taken, mut from, mut last_ns) = (0, 0, 0);
        for run in runs {
            let mut written = 0;
            let mut to = from;
            while written < run.count && to < BATCH {
                // With a time each packet is a buffer by itself.
                let departs_ns = stamper.depart(to);
                written += self.outgoing.write(to, run, written, stamper);
                self.messages.set(to, self.outgoing.slots.content(to));
                if let (Some(departs_ns), Some(offset_ns)) = (departs_ns, offset_ns) {
                    self.messages.leave_at(to, departs_ns.saturating_sub(offset_ns));
                    last_ns = departs_ns;
                }
                to += 1;
            }
            let sent = self.send(run.flow, from, to)?;
            if let Some(stamps) = &mut self.stamps {
                stamps.taken(run.flow, sent);
            }
            taken += sent;
            if sent < usize::from(run.count) {
                break;
            }
            from = to;
        }
        if let Some(timed) = &mut self.timed {
            timed.taken(mem::take(&mut self.outgoing.done.packets), last_ns);
        }
        Ok(taken)
    }

    /// After a socket had no room it waits for some, and at the end of a run for the last packet's time.
    fn reap(&mut self, wait: Wait) -> std::result::Result<Completed, QueueError> {
        let mut done = mem::take(&mut self.outgoing.done);
        if let Some(timed) = &mut self.timed {
            let passed = timed.reap(&self.outgoing.sockets);
            done.packets += passed.packets;
            done.failed += passed.failed;
        }
        if let Wait::For(limit) = wait
            && done == Completed::default()
        {
            match &self.timed {
                Some(timed) if self.outgoing.blocked.is_none() => timed.wait(limit),
                _ => self.outgoing.wait_for_room(limit)?,
            }
        }
        Ok(done)
    }

    fn in_flight(&self) -> usize {
        self.timed.as_ref().map_or(0, Timed::in_flight)
    }

    fn send_message(&mut self, flow: u16, payload: &[u8]) -> std::result::Result<(), QueueError> {
        match &self.timed {
            None => self.outgoing.send_message(flow, payload),
            Some(timed) => self.outgoing.insist(flow, |socket| timed.send_now(socket, payload)),
        }
    }

    fn answer(&mut self, flow: u16) -> Option<Vec<u8>> {
        self.outgoing.answer(flow)
    }

    #[inline]
    fn awaits_stamps(&self) -> usize {
        self.stamps.as_ref().map_or(0, Stamps::awaited)
    }

    fn stamps(&mut self, into: &mut Vec<(u16, Departed)>) {
        if let Some(stamps) = &mut self.stamps {
            stamps.collect(&self.outgoing.sockets, into);
        }
    }
}
