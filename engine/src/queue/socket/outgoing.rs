//! What the two transmit queues share: flows with their sockets, buffers, and the fate of packets.
#![forbid(unsafe_code)]

use std::io;
use std::os::fd::AsFd;
use std::sync::Arc;
use std::time::Duration;

use nix::poll::{PollFd, PollFlags, ppoll};
use nix::sys::time::TimeSpec;
use socket2::Socket;

use super::setup;
use super::slots::{Content, Slots};
use super::verdict::{TRIES, Verdict};
use crate::error::Result;
use crate::packet::probe;
use crate::profile::payload::Payload;
use crate::queue::spec::{Flow, Interface, TxSpec};
use crate::queue::{Completed, QueueError, Run, Stamper};

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
    pub(super) max_payload: u16,
    payload: Arc<Payload>,
    interface: Option<Interface>,
}

impl Outgoing {
    /// Opens the sockets of `spec` and `slots` buffers.
    pub(super) fn open(spec: &TxSpec, slots: usize) -> Result<Self> {
        let sockets = setup::senders(spec)?;
        Ok(Self {
            flows: spec.flows.clone(),
            sockets,
            slots: Slots::new(slots, spec.max_payload, &spec.payload),
            done: Completed::default(),
            blocked: None,
            max_payload: spec.max_payload,
            payload: Arc::clone(&spec.payload),
            interface: spec.interface.clone(),
        })
    }

    /// Writes packet `offset` of `run` into buffer `slot`.
    ///
    /// # Panics
    /// When the run's payload is shorter than a probe header or longer than the queue was opened for.
    #[inline]
    pub(super) fn write(&mut self, slot: usize, run: &Run, offset: usize, stamper: &Stamper) {
        assert!(
            usize::from(run.len) >= probe::LEN && run.len <= self.max_payload,
            "payload length of the run"
        );
        let stream = self.flows[usize::from(run.flow)].stream;
        let content = Content { flow: run.flow, len: run.len };
        self.slots.write(slot, content, &self.payload, stamper, stream, run.first_seq + offset as u64);
    }

    /// Decides about a packet that the kernel refused for the `tries`th time.
    pub(super) fn judge(&mut self, flow: u16, errno: i32, tries: u8) -> Fate {
        match Verdict::of(errno) {
            Verdict::Later => {
                self.blocked = Some(flow);
                Fate::Later
            }
            Verdict::Earlier => Fate::Again,
            Verdict::Unsure if tries < TRIES => Fate::Again,
            Verdict::Unsure | Verdict::Refused => match self.interface_lost(flow) {
                Some(lost) if errno == libc::ENETUNREACH => Fate::Stop(lost),
                _ => {
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
        let socket = &self.sockets[usize::from(flow)];
        let mut tries = 0;
        loop {
            tries += 1;
            let Err(source) = socket.send(payload) else { return Ok(()) };
            let verdict = Verdict::of(source.raw_os_error().unwrap_or(0));
            if tries == TRIES || !matches!(verdict, Verdict::Earlier | Verdict::Unsure) {
                return Err(QueueError { call: "send", source });
            }
        }
    }
}

/// What happens to a packet that the kernel refused.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Fate {
    /// The same again, when there is room.
    Later,
    /// The same again at once.
    Again,
    /// It never leaves; counted.
    Failed,
    /// The queue is of no more use, with this errno.
    Stop(i32),
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
