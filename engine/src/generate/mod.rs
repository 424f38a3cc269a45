//! Sending: from a configuration to packets, and to a report of them.
#![forbid(unsafe_code)]

mod announce;
mod config;
mod follow_up;
mod iperf2;
pub mod kernel;
mod plan;
mod rtp;
pub(crate) mod schedule;
mod send;
mod source;
mod stamped;
pub(crate) mod txtime;
mod watched;
pub(crate) mod worker;

pub use config::{SendConfig, SizeSpec};
pub use iperf2::Ends;
pub use send::run;

pub(crate) use plan::nth_address;
pub(crate) use send::explain;
pub(crate) use worker::END_MESSAGES;

use crate::control::Stop;
use crate::measure::handover::handover;
use crate::measure::tally::TxTally;
use crate::profile::size::Sizes;
use crate::queue::{QueueError, Transmit};

/// Sends `count` packets, `pps` a second, on the first `streams` flows of a queue that is open already: a worker on the calling thread, as it is in
/// [`run`], to be counted and measured by itself. Returns its totals, with the reason when the queue broke.
pub fn send_on<T: Transmit>(
    queue: T,
    sizes: Sizes,
    streams: u16,
    pps: Option<f64>,
    count: u64,
) -> (Box<TxTally>, Option<QueueError>) {
    let schedule = schedule::Schedule::new(sizes, (0..streams).collect(), pps, Some(count));
    let (filler, _) = handover(|| TxTally::new(0));
    worker::run(
        queue,
        worker::TxJob { run: 1, rtp: None, iperf2: None, schedule, duration: None },
        filler,
        &Stop::default(),
    )
}
