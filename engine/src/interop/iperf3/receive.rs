//! A worker that receives streams of a test.
#![forbid(unsafe_code)]

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use super::arrivals::Arrivals;
use super::counters::Received;
use super::header::{Counters, Header};
use crate::control::Stop;
use crate::queue::socket::{ManyRx, Takes};
use crate::queue::{QueueError, RxMeta, Wait};

/// Longest wait: whoever asks it to stop waits no longer.
const PATIENCE: Duration = Duration::from_millis(5);

/// When it is stopped, silence of this time says that nothing more is on its way.
const SILENCE: Duration = Duration::from_millis(10);

/// A sender that goes on is not listened to for longer than this after it was stopped. Far more than a datagram is on its way; a thread that did not get to run
/// for some time has a buffer to empty.
const LONGEST_END: Duration = Duration::from_secs(1);

/// What one worker receives: one entry for each of its sockets.
#[derive(Debug)]
pub(super) struct ReceiveJob {
    pub(super) counters: Counters,
    pub(super) received: Vec<Arc<Received>>,
    /// Set where the omitted beginning ends.
    pub(super) forget_jitter: Arc<AtomicBool>,
}

struct Streams {
    counters: Counters,
    arrivals: Vec<Arrivals>,
    touched: Vec<bool>,
}

impl Takes for Streams {
    #[inline]
    fn run(&mut self, socket: usize, meta: &RxMeta, buf: &[u8], stride: usize, count: usize) {
        let arrived_us = meta.arrived_ns / 1000;
        let arrivals = &mut self.arrivals[socket];
        for datagram in buf.chunks(stride.max(1)).take(count) {
            // A hello that came twice is too short, and everything else that is no data.
            if let Some(header) = Header::read(datagram, self.counters) {
                arrivals.enter(header, datagram.len(), arrived_us);
            }
        }
        self.touched[socket] = true;
    }
}

/// Receives until `stop` is requested and silence follows. What arrives is in the job's counters.
pub(super) fn run(mut queue: ManyRx, job: &ReceiveJob, stop: &Stop) -> Result<(), QueueError> {
    let count = job.received.len();
    let mut streams = Streams {
        counters: job.counters,
        arrivals: vec![Arrivals::default(); count],
        touched: vec![false; count],
    };
    let mut stopped: Option<(Instant, Instant)> = None;
    loop {
        let taken = queue.poll(&mut streams, Wait::For(PATIENCE))?;
        if job.forget_jitter.load(Ordering::Relaxed) && job.forget_jitter.swap(false, Ordering::Relaxed) {
            streams.arrivals.iter_mut().for_each(Arrivals::forget_jitter);
        }
        for n in 0..count {
            if std::mem::take(&mut streams.touched[n]) {
                job.received[n].publish(&streams.arrivals[n]);
            }
        }
        if stop.is_requested() {
            let now = Instant::now();
            let (began, heard) = stopped.get_or_insert((now, now));
            if taken > 0 {
                *heard = now;
            }
            let silent = taken == 0 && *heard + SILENCE <= now;
            if silent || *began + LONGEST_END <= now {
                return Ok(());
            }
        }
    }
}
