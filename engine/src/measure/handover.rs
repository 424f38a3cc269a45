//! How tallies get from a worker to the collector without a lock or an allocation: boxes go round between two
//! bounded queues. When the collector has not yet returned one, the worker goes on adding to the one it has.
#![forbid(unsafe_code)]

use std::sync::Arc;

use crossbeam::queue::ArrayQueue;

/// Boxes in circulation beside the one that the worker fills.
const SPARE: usize = 3;

#[derive(Debug)]
struct Loop<T> {
    empty: ArrayQueue<Box<T>>,
    full: ArrayQueue<Box<T>>,
}

/// The worker's end.
#[derive(Debug)]
pub struct Filler<T> {
    tally: Box<T>,
    queues: Arc<Loop<T>>,
}

/// The collector's end.
#[derive(Debug)]
pub struct Emptier<T> {
    queues: Arc<Loop<T>>,
}

/// Both ends of a circulation of tallies made by `make`.
pub fn handover<T>(make: impl Fn() -> T) -> (Filler<T>, Emptier<T>) {
    let queues = Arc::new(Loop { empty: ArrayQueue::new(SPARE), full: ArrayQueue::new(SPARE + 1) });
    for _ in 0..SPARE {
        let fits = queues.empty.push(Box::new(make()));
        debug_assert!(fits.is_ok());
    }
    (Filler { tally: Box::new(make()), queues: Arc::clone(&queues) }, Emptier { queues })
}

impl<T> Filler<T> {
    /// The tally being filled.
    #[inline]
    pub fn tally(&mut self) -> &mut T {
        &mut self.tally
    }

    /// Whether [`hand_over`](Self::hand_over) will: only this end takes empty ones.
    pub fn can_hand_over(&self) -> bool {
        !self.queues.empty.is_empty()
    }

    /// Hands the tally over and goes on with an empty one; false when none is free, and the tally stays.
    pub fn hand_over(&mut self) -> bool {
        let Some(empty) = self.queues.empty.pop() else { return false };
        let full = std::mem::replace(&mut self.tally, empty);
        // There are SPARE + 1 boxes in all, and as many places.
        let fits = self.queues.full.push(full);
        debug_assert!(fits.is_ok());
        true
    }

    /// The last tally, when the worker ends.
    pub fn finish(self) -> Box<T> {
        self.tally
    }
}

impl<T> Emptier<T> {
    /// Gives every tally handed over to `absorb`, oldest first, which leaves it empty, and returns it to the worker.
    pub fn drain(&self, mut absorb: impl FnMut(&mut T)) {
        while let Some(mut full) = self.queues.full.pop() {
            absorb(&mut full);
            let fits = self.queues.empty.push(full);
            debug_assert!(fits.is_ok());
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nothing_is_lost_when_the_collector_is_slow() {
        let (mut filler, emptier) = handover(|| 0u64);
        let mut collected = 0;
        for round in 1..=1000u64 {
            *filler.tally() += round;
            let can = filler.can_hand_over();
            assert_eq!(filler.hand_over(), can);
            if round % 17 == 0 {
                emptier.drain(|t| collected += std::mem::take(t));
            }
        }
        emptier.drain(|t| collected += std::mem::take(t));
        assert_eq!(collected + *filler.finish(), 500_500);
    }

    #[test]
    fn order_is_kept_across_threads() {
        let (mut filler, emptier) = handover(Vec::<u32>::new);
        let worker = std::thread::spawn(move || {
            for n in 0..10_000 {
                filler.tally().push(n);
                filler.hand_over();
            }
            filler.finish()
        });
        let mut seen = Vec::new();
        while !worker.is_finished() {
            emptier.drain(|t| seen.append(t));
        }
        let last = worker.join().unwrap();
        emptier.drain(|t| seen.append(t));
        seen.extend(*last);
        assert_eq!(seen, (0..10_000).collect::<Vec<_>>());
    }
}
