//! How a caller follows and ends a run.
#![forbid(unsafe_code)]

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use crate::error::Error;
use crate::interop::iperf2::server::Row;
use crate::queue::QueueLoss;
use crate::report::{Interval, Report, Warning};

/// A request to end a run early, shared by the caller, its signal handlers and the workers.
#[derive(Debug, Clone, Default)]
pub struct Stop(Arc<AtomicBool>);

impl Stop {
    /// Asks the run to end and report.
    pub fn request(&self) {
        self.0.store(true, Ordering::Relaxed);
    }

    /// Whether somebody asked.
    #[inline]
    pub fn is_requested(&self) -> bool {
        self.0.load(Ordering::Relaxed)
    }

    /// The flag itself, for `signal_hook::flag::register`.
    pub fn flag(&self) -> Arc<AtomicBool> {
        Arc::clone(&self.0)
    }
}

/// What a run tells while it goes on.
#[derive(Debug)]
pub enum Event<'a> {
    /// What sockets were granted, before [`Ready`](Self::Ready): bytes of receive buffer of the smallest, as the kernel has it, where a run is received by
    /// sockets.
    Buffer(usize),
    /// Joined, attached and bound: packets sent from now on are counted.
    Ready,
    /// A line that iperf 2's server would have printed, where those are asked for.
    Iperf2(&'a Row),
    /// An interval has passed.
    Interval(&'a Interval),
    /// Something that a reader should know.
    Warning(&'a Warning),
}

/// What a run came to. When it failed on the way, what had been measured by then is still in the report.
#[derive(Debug)]
pub struct Outcome {
    /// The report.
    pub report: Report,
    /// What the kernel dropped at the receive queues. It is in the report's ledger, when it has one.
    pub losses: Vec<QueueLoss>,
    /// Why it ended before it should.
    pub failure: Option<Error>,
}
