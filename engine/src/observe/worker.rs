//! The receive worker: one thread, one CPU, one queue, compiled once for each kind of queue.
#![forbid(unsafe_code)]

use std::time::Duration;

use super::observer::Observer;
use crate::clock;
use crate::control::Stop;
use crate::measure::handover::Filler;
use crate::measure::tally::RxTally;
use crate::queue::{QueueError, Receive, Wait};

/// How often a tally is handed over.
const HANDOVER_NS: u64 = 50_000_000;

/// How long to wait for packets before looking at the clock and the stop flag again.
const PATIENCE: Duration = Duration::from_millis(10);

/// How long packets that lie in the queue at the end are still taken.
const DRAIN_NS: u64 = 200_000_000;

/// Receives until `stop` is requested. Returns the last tally, with the reason when the queue broke.
pub(crate) fn run<R: Receive>(
    mut queue: R,
    mut observer: Observer,
    mut tallies: Filler<RxTally>,
    stop: &Stop,
) -> (Box<RxTally>, Option<QueueError>) {
    let mut handover_ns = clock::tai_ns() + HANDOVER_NS;
    let mut failure = None;
    while !stop.is_requested() {
        if let Err(error) = queue.poll(&mut observer, Wait::For(PATIENCE)) {
            failure = Some(error);
            break;
        }
        let now_ns = clock::tai_ns();
        // With a slow collector, what is new stays with the observer.
        if now_ns >= handover_ns && tallies.can_hand_over() {
            handover_ns = now_ns + HANDOVER_NS;
            observer.pass(now_ns);
            observer.tally(tallies.tally());
            fill(&mut queue, tallies.tally(), now_ns);
            tallies.hand_over();
        }
    }
    if failure.is_none() {
        let end_ns = clock::tai_ns() + DRAIN_NS;
        while clock::tai_ns() < end_ns {
            match queue.poll(&mut observer, Wait::No) {
                Ok(0) => break,
                Ok(_) => {}
                Err(error) => {
                    failure = Some(error);
                    break;
                }
            }
        }
    }
    observer.last_tally(tallies.tally());
    fill(&mut queue, tallies.tally(), clock::tai_ns());
    (tallies.finish(), failure)
}

fn fill<R: Receive>(queue: &mut R, tally: &mut RxTally, now_ns: u64) {
    tally.at_ns = now_ns;
    tally.stamps = queue.stamps();
    tally.losses.clear();
    queue.losses(&mut tally.losses);
}
