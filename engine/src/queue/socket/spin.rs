//! Looking again and again for a moment before sleeping.
//!
//! A receiver that is quicker than its sender would fall asleep after each packet, and the sender would pay for waking it up: a third of its
//! time with single packets over veth (0.19 against 0.27 Mpps).
#![forbid(unsafe_code)]

use std::time::Duration;

use crate::clock;

/// How long to look: longer than waking up takes, shorter than the pauses of a stream that leaves a CPU idle.
const SPIN_NS: u64 = 40_000;

/// Short waits in a row that make looking worth while; it is given up the first time that it was in vain. Where sender and receiver
/// share a CPU it always is.
const SHORT_WAITS: u32 = 16;

/// What is known of the waits of one receiver.
#[derive(Debug, Default)]
pub(super) struct Spin {
    short_waits: u32,
}

impl Spin {
    /// Calls `look` until it finds something, for a moment and at most for `limit`, if that has been worth while. What `look` found, or `None`
    /// when it is time to sleep.
    #[inline]
    pub(super) fn find<T>(
        &mut self,
        limit: Duration,
        mut look: impl FnMut() -> Result<Option<T>, crate::queue::QueueError>,
    ) -> Result<Option<T>, crate::queue::QueueError> {
        if self.short_waits < SHORT_WAITS {
            return Ok(None);
        }
        let patience = limit.min(Duration::from_nanos(SPIN_NS)).as_nanos() as u64;
        let end_ns = clock::tai_ns() + patience;
        loop {
            let found = look()?;
            if found.is_some() {
                return Ok(found);
            }
            if clock::tai_ns() >= end_ns {
                self.short_waits = 0;
                return Ok(None);
            }
            std::hint::spin_loop();
        }
    }

    /// Calls `sleep`, and learns from how long it took.
    pub(super) fn sleep<T>(&mut self, sleep: impl FnOnce() -> T) -> T {
        let begin_ns = clock::tai_ns();
        let slept = sleep();
        let short = clock::tai_ns().saturating_sub(begin_ns) < SPIN_NS;
        self.short_waits = if short { self.short_waits.saturating_add(1) } else { 0 };
        slept
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn it_looks_after_short_waits_and_gives_up_when_in_vain() {
        let mut spin = Spin::default();
        let limit = Duration::from_secs(1);
        let mut looks = 0;
        let mut find = |spin: &mut Spin, at: u32| {
            looks = 0;
            let found = spin.find(limit, || {
                looks += 1;
                Ok((looks == at).then_some(()))
            });
            (found.unwrap().is_some(), looks)
        };
        assert_eq!(find(&mut spin, 1), (false, 0), "not before it is known to be worth while");
        // What sleeps for no time at all may still be interrupted, on a busy machine.
        while spin.short_waits < SHORT_WAITS {
            spin.sleep(|| ());
        }
        assert_eq!(find(&mut spin, 1), (true, 1));
        let (found, looked) = find(&mut spin, u32::MAX);
        assert!(!found && looked > 0);
        assert_eq!(find(&mut spin, 1), (false, 0), "it was in vain");
    }
}
