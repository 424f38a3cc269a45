//! A worker that sends the streams of a test.
#![forbid(unsafe_code)]

use std::sync::atomic::Ordering::Relaxed;
use std::time::Duration;

use super::counters::Sent;
use super::header::SenderHeader;
use crate::clock::{self, Quick};
use crate::control::Stop;
use crate::generate::schedule::Schedule;
use crate::queue::{QueueError, Run, Stamper, Transmit, Wait};

/// How long packets that are with the kernel may take once the last was submitted.
const DRAIN_NS: u64 = 500_000_000;

/// How often the clock is compared.
const ANCHOR_NS: u64 = 50_000_000;

/// Longest sleep: whoever asks it to stop waits no longer.
const PATIENCE_NS: u64 = 5_000_000;

/// Time before a packet is due at which sleeping ends and spinning begins: what a timer may be late.
const SPIN_NS: u64 = 60_000;

/// Runs submitted at once.
const MAX_RUNS: usize = 64;

/// What one worker is to send.
#[derive(Debug)]
pub(super) struct SendJob {
    pub(super) schedule: Schedule,
    pub(super) header: SenderHeader,
    /// From the first packet; `None`: until it is stopped.
    pub(super) duration: Option<Duration>,
}

/// Sends until the schedule is done, the time is up or `stop` is requested, and waits for the queue to drain. What it does is in `sent`.
pub(super) fn run<T: Transmit>(
    mut queue: T,
    mut job: SendJob,
    sent: &Sent,
    stop: &Stop,
) -> Result<(), QueueError> {
    // A timer that is 50 µs late by default would turn a paced stream into small bursts.
    let _ = nix::sys::prctl::set_timerslack(1);
    let result = send(&mut queue, &mut job, sent, stop);
    let end_ns = clock::tai_ns() + DRAIN_NS;
    while queue.in_flight() > 0 && clock::tai_ns() < end_ns {
        let Ok(done) = queue.reap(Wait::For(Duration::from_millis(1))) else { break };
        sent.failed.fetch_add(done.failed, Relaxed);
    }
    // What the kernel never gave back never left, as far as anyone can tell.
    sent.failed.fetch_add(queue.in_flight() as u64, Relaxed);
    result
}

fn send<T: Transmit>(queue: &mut T, job: &mut SendJob, sent: &Sent, stop: &Stop) -> Result<(), QueueError> {
    let mut stamper = Stamper::new(0).with_iperf3(job.header);
    let caps = queue.caps();
    let mut runs: Vec<Run> = Vec::with_capacity(usize::from(caps.batch).min(MAX_RUNS));
    let start_ns = stamper.refresh();
    job.schedule.start(start_ns, caps.segments);
    sent.turn.store(job.schedule.turn(), Relaxed);
    let duration = job.duration.map(|d| u64::try_from(d.as_nanos()).unwrap_or(u64::MAX));
    let deadline_ns = duration.map_or(u64::MAX, |duration| start_ns.saturating_add(duration));
    let mut anchor_ns = start_ns + ANCHOR_NS;
    let mut time = Quick::new();
    let mut issued = 0;
    loop {
        let now_ns = time.now_ns();
        if now_ns >= anchor_ns {
            anchor_ns = now_ns + ANCHOR_NS;
            time.anchor();
        }
        let time_is_up = now_ns >= deadline_ns;
        if (time_is_up && !job.schedule.is_paced()) || stop.is_requested() || job.schedule.is_done() {
            return Ok(());
        }
        if time_is_up {
            job.schedule.close();
        }
        // What is due before the deadline leaves, also when this thread comes late.
        job.schedule.due(now_ns.min(deadline_ns - 1), caps.batch, &mut runs);
        let taken = if runs.is_empty() { 0 } else { queue.submit(&runs, &mut stamper)? };
        if taken > 0 {
            job.schedule.took(taken, &runs);
            issued += taken as u64;
            sent.issued.store(issued, Relaxed);
        } else if time_is_up {
            return Ok(());
        }
        // With no room, the queue says when there is.
        let wait = taken == 0 && !runs.is_empty();
        let done = queue.reap(if wait { Wait::For(Duration::from_millis(1)) } else { Wait::No })?;
        if done.failed > 0 {
            sent.failed.fetch_add(done.failed, Relaxed);
        }
        if runs.is_empty() {
            let due_ns = job.schedule.next_ns().min(deadline_ns).min(now_ns + PATIENCE_NS);
            wait_until(&time, due_ns);
        }
    }
}

fn wait_until(time: &Quick, due_ns: u64) {
    while let Some(left) = due_ns.checked_sub(time.now_ns()).filter(|&left| left > 0) {
        if left > SPIN_NS {
            std::thread::sleep(Duration::from_nanos(left - SPIN_NS));
        } else {
            std::hint::spin_loop();
        }
    }
}
