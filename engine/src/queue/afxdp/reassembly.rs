//! A receive queue for frames, and for what the kernel puts together out of fragments, which the XDP program passes to it: one worker sees both, so that
//! a stream of packets above and below the MTU is counted as one.
#![forbid(unsafe_code)]

use std::time::Duration;

use super::AfxdpRx;
use crate::error::{Error, Result};
use crate::queue::socket::ReassembledRx;
use crate::queue::{QueueError, QueueLoss, Receive, Sink, StampCounts, Wait};

/// Batches of frames between two looks for the other packets, when frames keep coming: a look is a system call.
const BATCHES: u32 = 32;

/// How long the driver is polled for frames at once: nobody tells meanwhile that other packets have come.
const BUSY: Duration = Duration::from_micros(100);

/// The AF_XDP socket of a NIC queue, and with one of them the sockets for all that comes in fragments.
#[derive(Debug)]
pub struct ReassemblingRx {
    frames: AfxdpRx,
    reassembled: Option<ReassembledRx>,
    /// Batches until the next look.
    batches: u32,
    /// Whether the last look found some.
    found: bool,
}

impl ReassemblingRx {
    /// Both together.
    ///
    /// # Errors
    /// When no more descriptors are to be had.
    pub fn new(mut frames: AfxdpRx, reassembled: Option<ReassembledRx>) -> Result<Self> {
        if let Some(reassembled) = &reassembled {
            let fd = reassembled.fd().try_clone_to_owned().map_err(|e| Error::failed("dup").because(e))?;
            frames.wait_for_too(fd);
        }
        Ok(Self { frames, reassembled, batches: 0, found: false })
    }
}

impl Receive for ReassemblingRx {
    fn poll<S: Sink>(&mut self, sink: &mut S, wait: Wait) -> std::result::Result<usize, QueueError> {
        let Some(reassembled) = &mut self.reassembled else { return self.frames.poll(sink, wait) };
        let wait = match wait {
            Wait::For(_) if self.found => Wait::No,
            Wait::For(at_most) if self.frames.granted().busy_poll => Wait::For(at_most.min(BUSY)),
            wait => wait,
        };
        let whole = self.frames.poll(sink, wait)?;
        if whole > 0 && self.batches > 0 {
            self.batches -= 1;
            return Ok(whole);
        }
        self.batches = BATCHES;
        let others = reassembled.take(sink)?;
        self.found = others > 0;
        Ok(whole + others)
    }

    fn stamps(&self) -> StampCounts {
        let mut stamps = self.frames.stamps();
        stamps.add(self.reassembled.as_ref().map(ReassembledRx::stamps).unwrap_or_default());
        stamps
    }

    fn losses(&mut self, losses: &mut Vec<QueueLoss>) {
        self.frames.losses(losses);
        if let Some(reassembled) = &mut self.reassembled {
            reassembled.losses(losses);
        }
    }
}
