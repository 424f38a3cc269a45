//! Sending with `sendmmsg`.
#![expect(unsafe_code, reason = "sendmmsg takes pointers to the messages")]

use std::io;
use std::mem;
use std::os::fd::AsRawFd;

use crate::error::Result;
use crate::queue::socket::BATCH;
use crate::queue::socket::outgoing::{Fate, Outgoing};
use crate::queue::{Completed, QueueError, Run, Stamper, Transmit, TxCaps, TxSpec, Wait};

/// How often in a row a socket may hand out errors of earlier datagrams before the queue does something else.
const ERRORS_IN_A_ROW: u32 = 16;

/// A transmit queue over `sendmmsg`, one call for each run of a flow. The kernel has taken or refused every packet when
/// [`submit`](Transmit::submit) returns: nothing is ever in flight.
///
/// It stays on the thread that opened it.
#[derive(Debug)]
pub struct MmsgTx {
    outgoing: Outgoing,
    /// One for each buffer; only lengths change.
    vectors: Box<[libc::iovec]>,
    /// Points to the vector of the same index.
    messages: Box<[libc::mmsghdr]>,
}

impl MmsgTx {
    /// Opens a connected socket for each flow.
    ///
    /// # Errors
    /// Usage: TTL, DSCP or payload size do not fit. Environment: interface missing or down, no address or
    /// route, source port in use.
    pub fn open(spec: &TxSpec) -> Result<Self> {
        let mut outgoing = Outgoing::open(spec, BATCH)?;
        let mut vectors: Box<[libc::iovec]> = (0..BATCH)
            .map(|slot| libc::iovec { iov_base: outgoing.slots.address_mut(slot).cast(), iov_len: 0 })
            .collect();
        let messages = vectors.iter_mut().map(message).collect();
        Ok(Self { outgoing, vectors, messages })
    }

    /// Whether the interface that the queue was opened on was deleted. A system call: not for the hot path.
    pub fn interface_gone(&self) -> bool {
        self.outgoing.interface_gone()
    }

    /// Sends buffers `from..to`, which hold packets of `flow`. Returns how many have a known fate.
    fn send(&mut self, flow: u16, from: usize, to: usize) -> std::result::Result<usize, QueueError> {
        let fd = self.outgoing.sockets[usize::from(flow)].as_raw_fd();
        let mut next = from;
        let mut tries = 0;
        let mut errors = 0;
        while next < to {
            let messages = &mut self.messages[next..to];
            // At most 64 of them.
            let count = messages.len() as u32;
            // SAFETY: the messages and the vectors they point to are owned by self; each vector is a buffer of the slots
            // with a length that was written.
            let sent = unsafe { libc::sendmmsg(fd, messages.as_mut_ptr(), count, libc::MSG_DONTWAIT) };
            if sent > 0 {
                let sent = sent.unsigned_abs() as usize;
                self.outgoing.done.packets += sent as u64;
                next += sent;
                tries = 0;
                continue;
            }
            let error = io::Error::last_os_error();
            tries += 1;
            errors += 1;
            match self.outgoing.judge(flow, error.raw_os_error().unwrap_or(0), tries) {
                Fate::Again if errors < ERRORS_IN_A_ROW => {}
                Fate::Again | Fate::Later => break,
                Fate::Failed => {
                    next += 1;
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
        Ok(next - from)
    }
}

impl Transmit for MmsgTx {
    fn caps(&self) -> TxCaps {
        TxCaps { batch: BATCH as u16, max_payload: self.outgoing.max_payload }
    }

    fn submit(&mut self, runs: &[Run], stamper: &mut Stamper) -> std::result::Result<usize, QueueError> {
        stamper.refresh();
        self.outgoing.blocked = None;
        let mut taken = 0;
        for run in runs {
            let count = usize::from(run.count).min(BATCH - taken);
            for offset in 0..count {
                self.outgoing.write(taken + offset, run, offset, stamper);
                self.vectors[taken + offset].iov_len = usize::from(run.len);
            }
            let sent = self.send(run.flow, taken, taken + count)?;
            taken += sent;
            if sent < usize::from(run.count) {
                break;
            }
        }
        Ok(taken)
    }

    /// Nothing is ever under way; after a socket had no room it waits for some.
    fn reap(&mut self, wait: Wait) -> std::result::Result<Completed, QueueError> {
        let done = mem::take(&mut self.outgoing.done);
        if let Wait::For(limit) = wait
            && done == Completed::default()
        {
            self.outgoing.wait_for_room(limit)?;
        }
        Ok(done)
    }

    fn in_flight(&self) -> usize {
        0
    }

    fn send_message(&mut self, flow: u16, payload: &[u8]) -> std::result::Result<(), QueueError> {
        self.outgoing.send_message(flow, payload)
    }
}

/// A message of one buffer to the address that the socket is connected to.
fn message(vector: &mut libc::iovec) -> libc::mmsghdr {
    // SAFETY: all zeros is a valid mmsghdr: no address, no control messages.
    let mut message: libc::mmsghdr = unsafe { mem::zeroed() };
    message.msg_hdr.msg_iov = vector;
    message.msg_hdr.msg_iovlen = 1;
    message
}
