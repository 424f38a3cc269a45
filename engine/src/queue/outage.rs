//! A link that goes down in the middle of a run and comes back: a NIC that is reset, an interface set down and up.
//!
//! AF_XDP sockets and UDP sockets both outlive it. While it lasts the kernel answers ENETDOWN, which [`Patient`] bears for a while; an
//! interface that is deleted answers otherwise, and ends the run at once.
#![forbid(unsafe_code)]

use std::mem;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use crate::packet::follow_up::Departed;

use super::{
    Completed, QueueError, QueueLoss, Receive, Run, Sink, StampCounts, Stamper, Transmit, TxCaps, Wait,
};

/// How long a link may be down before the queue counts as broken.
const PATIENCE: Duration = Duration::from_secs(5);
/// Between two full batches that are refused: without a rate, the numbers used meanwhile stay near those that a link takes.
const BATCH_PAUSE: Duration = Duration::from_micros(50);
/// Between two looks when there is nothing else to do.
const LOOK: Duration = Duration::from_millis(1);

/// How long a link was down so far, as the queue sees it that saw the most; shared with whoever writes the report.
#[derive(Debug, Clone, Default)]
pub struct Downtime(Arc<AtomicU64>);

impl Downtime {
    /// From the first refusal of each outage to its last.
    pub fn total(&self) -> Duration {
        Duration::from_nanos(self.0.load(Ordering::Relaxed))
    }

    fn raise(&self, total: Duration) {
        self.0.fetch_max(u64::try_from(total.as_nanos()).unwrap_or(u64::MAX), Ordering::Relaxed);
    }
}

/// An outage under way.
#[derive(Debug, Clone, Copy)]
struct Outage {
    since: Instant,
    /// When it was last seen.
    seen: Instant,
}

/// A queue that goes on when its link comes back within five seconds.
#[derive(Debug)]
pub struct Patient<Q> {
    queue: Q,
    outage: Option<Outage>,
    /// Of all outages so far.
    down: Duration,
    downtime: Downtime,
    /// Packets refused meanwhile and not yet told: their numbers are used, as those of an open-loop sender are.
    refused: usize,
}

impl<Q> Patient<Q> {
    /// Around `queue`.
    pub fn new(queue: Q, downtime: Downtime) -> Self {
        Self { queue, outage: None, down: Duration::ZERO, downtime, refused: 0 }
    }

    /// Whether `error` is one to be borne: the link is down, and has not been for too long.
    fn bears(&mut self, error: &QueueError) -> bool {
        if !error.is_link_down() {
            return false;
        }
        let now = Instant::now();
        let outage = self.outage.get_or_insert(Outage { since: now, seen: now });
        self.down += now - outage.seen;
        self.downtime.raise(self.down);
        outage.seen = now;
        now - outage.since < PATIENCE
    }
}

impl<T: Transmit> Transmit for Patient<T> {
    fn caps(&self) -> TxCaps {
        self.queue.caps()
    }

    fn submit(&mut self, runs: &[Run], stamper: &mut Stamper) -> Result<usize, QueueError> {
        match self.queue.submit(runs, stamper) {
            Err(error) if self.bears(&error) => {
                let count: usize = runs.iter().map(|run| usize::from(run.count)).sum();
                self.refused += count;
                if count >= usize::from(self.caps().batch) {
                    thread::sleep(BATCH_PAUSE);
                }
                Ok(count)
            }
            done => done,
        }
    }

    fn reap(&mut self, wait: Wait) -> Result<Completed, QueueError> {
        let done = match self.queue.reap(wait) {
            Err(error) if self.bears(&error) => {
                if wait != Wait::No {
                    thread::sleep(LOOK);
                }
                Completed::default()
            }
            Ok(done) => {
                if done.packets > 0 {
                    // What left shows that the link is up again.
                    self.outage = None;
                }
                done
            }
            Err(error) => return Err(error),
        };
        let refused = mem::take(&mut self.refused) as u64;
        Ok(Completed { packets: done.packets, failed: done.failed + refused })
    }

    fn in_flight(&self) -> usize {
        self.queue.in_flight() + self.refused
    }

    fn answer(&mut self, flow: u16) -> Option<Vec<u8>> {
        self.queue.answer(flow)
    }

    #[inline]
    fn awaits_stamps(&self) -> usize {
        self.queue.awaits_stamps()
    }

    fn stamps(&mut self, into: &mut Vec<(u16, Departed)>) {
        self.queue.stamps(into);
    }

    fn send_message(&mut self, flow: u16, payload: &[u8]) -> Result<(), QueueError> {
        loop {
            match self.queue.send_message(flow, payload) {
                Err(error) if self.bears(&error) => thread::sleep(LOOK),
                done => return done,
            }
        }
    }
}

impl<R: Receive> Receive for Patient<R> {
    fn poll<S: Sink>(&mut self, sink: &mut S, wait: Wait) -> Result<usize, QueueError> {
        match self.queue.poll(sink, wait) {
            Err(error) if self.bears(&error) => {
                if let Wait::For(at_most) = wait {
                    thread::sleep(at_most);
                }
                Ok(0)
            }
            Ok(count) => {
                // Whoever waited in vain has asked whether the link is there.
                if count > 0 || wait != Wait::No {
                    self.outage = None;
                }
                Ok(count)
            }
            done => done,
        }
    }

    fn losses(&mut self, losses: &mut Vec<QueueLoss>) {
        self.queue.losses(losses);
    }

    fn stamps(&self) -> StampCounts {
        self.queue.stamps()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::io;

    /// Answers each call with the next of these: an errno, or 0 for all well.
    struct Scripted(Vec<i32>);

    impl Scripted {
        fn next(&mut self) -> Result<(), QueueError> {
            match self.0.pop() {
                None | Some(0) => Ok(()),
                Some(errno) => {
                    Err(QueueError { call: "scripted", source: io::Error::from_raw_os_error(errno) })
                }
            }
        }
    }

    impl Transmit for Scripted {
        fn caps(&self) -> TxCaps {
            TxCaps { batch: 8, max_payload: 100, segments: 1 }
        }
        fn submit(&mut self, runs: &[Run], _: &mut Stamper) -> Result<usize, QueueError> {
            self.next().map(|()| usize::from(runs[0].count))
        }
        fn reap(&mut self, _: Wait) -> Result<Completed, QueueError> {
            self.next().map(|()| Completed { packets: 1, failed: 0 })
        }
        fn in_flight(&self) -> usize {
            0
        }
        fn send_message(&mut self, _: u16, _: &[u8]) -> Result<(), QueueError> {
            self.next()
        }
    }

    const RUN: Run = Run { flow: 0, len: 18, count: 8, first_seq: 0 };

    #[test]
    fn packets_meanwhile_are_failures_and_it_goes_on() {
        let script = vec![0, 0, libc::ENETDOWN, libc::ENETDOWN, libc::ENETDOWN];
        let mut queue = Patient::new(Scripted(script), Downtime::default());
        let mut stamper = Stamper::new(1);
        assert_eq!(queue.submit(&[RUN], &mut stamper).unwrap(), 8);
        assert_eq!(queue.submit(&[RUN], &mut stamper).unwrap(), 8);
        assert_eq!(queue.in_flight(), 16);
        assert_eq!(queue.reap(Wait::No).unwrap(), Completed { packets: 0, failed: 16 });
        assert_eq!(queue.in_flight(), 0);
        assert!(queue.outage.is_some() && queue.downtime.total() > Duration::ZERO);
        assert_eq!(queue.submit(&[RUN], &mut stamper).unwrap(), 8);
        assert_eq!(queue.reap(Wait::No).unwrap(), Completed { packets: 1, failed: 0 });
        assert!(queue.outage.is_none());
    }

    #[test]
    fn a_deleted_interface_ends_at_once_and_nothing_is_forgotten() {
        let mut queue = Patient::new(Scripted(vec![libc::ENXIO, libc::ENETDOWN]), Downtime::default());
        let mut stamper = Stamper::new(1);
        assert_eq!(queue.submit(&[RUN], &mut stamper).unwrap(), 8);
        let error = queue.reap(Wait::No).unwrap_err();
        assert!(error.is_interface_gone() && !error.is_link_down());
        assert_eq!(queue.in_flight(), 8, "the worker counts these as errors");
    }

    #[test]
    fn patience_ends() {
        let mut queue = Patient::new(Scripted(vec![libc::ENETDOWN]), Downtime::default());
        let since = Instant::now().checked_sub(PATIENCE).unwrap();
        queue.outage = Some(Outage { since, seen: since });
        assert!(queue.send_message(0, b"end").unwrap_err().is_link_down());
        assert!(queue.downtime.total() >= PATIENCE);
    }
}
