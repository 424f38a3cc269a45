//! What the collector knows of those that send: workers that own a queue, and workers whose packets the kernel makes.
#![forbid(unsafe_code)]

use crate::error::Result;
use crate::measure::handover::Emptier;
use crate::measure::tally::TxTally;
use crate::queue::QueueError;
use crate::worker::Worker;

/// A source of packets on one CPU, ready to begin.
pub(crate) trait Generate {
    /// Lets it begin; `start_ns` (CLOCK_TAI) is the start that all share.
    fn go(&mut self, start_ns: u64);

    /// Gives what it has counted to `absorb`; called every few tens of milliseconds.
    fn sample(&mut self, absorb: &mut dyn FnMut(&TxTally));

    /// Whether it has ended.
    fn is_finished(&self) -> bool;

    /// Waits for its end and gives the last of what it counted to `absorb`. Returns the packets that it sent, and the reason when it broke.
    ///
    /// # Errors
    /// When it panicked or never began.
    fn join(self: Box<Self>, absorb: &mut dyn FnMut(&TxTally)) -> Result<(u64, Option<QueueError>)>;
}

/// A worker that owns a queue and hands its tallies over.
pub(crate) struct QueueWorker {
    pub worker: Worker<TxTally>,
    pub tallies: Emptier<TxTally>,
}

impl Generate for QueueWorker {
    fn go(&mut self, start_ns: u64) {
        self.worker.go(start_ns);
    }

    fn sample(&mut self, absorb: &mut dyn FnMut(&TxTally)) {
        self.tallies.drain(|tally| absorb(tally));
    }

    fn is_finished(&self) -> bool {
        self.worker.is_finished()
    }

    fn join(mut self: Box<Self>, absorb: &mut dyn FnMut(&TxTally)) -> Result<(u64, Option<QueueError>)> {
        self.sample(absorb);
        let (last, failure) = self.worker.join()?;
        absorb(&last);
        Ok((last.packets, failure))
    }
}
