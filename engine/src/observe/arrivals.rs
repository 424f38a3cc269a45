//! When the last packets of a stream arrived, for messages that tell later when they left.
#![forbid(unsafe_code)]

/// Packets that are remembered: at 100,000 a second some 40 ms.
const REMEMBERED: usize = 4096;

/// Streams of one worker that remember.
pub(super) const MOST_STREAMS: usize = 64;

/// The arrivals of one stream by number.
#[derive(Debug)]
pub(super) struct Arrivals(Box<[(u64, u64)]>);

impl Arrivals {
    pub(super) fn new() -> Self {
        // No number is as high.
        Self(vec![(u64::MAX, 0); REMEMBERED].into_boxed_slice())
    }

    /// The packet with this number arrived.
    #[inline]
    pub(super) fn put(&mut self, number: u64, arrived_ns: u64) {
        self.0[number as usize % REMEMBERED] = (number, arrived_ns);
    }

    /// When it did, once: `None` when it did not, has been forgotten or asked for.
    pub(super) fn take(&mut self, number: u64) -> Option<u64> {
        let slot = &mut self.0[number as usize % REMEMBERED];
        (slot.0 == number).then(|| std::mem::replace(slot, (u64::MAX, 0)).1)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_last_are_remembered_and_told_once() {
        let mut arrivals = Arrivals::new();
        let last = REMEMBERED as u64 + 9;
        (0..=last).for_each(|number| arrivals.put(number, number + 100));
        assert_eq!((arrivals.take(9), arrivals.take(10)), (None, Some(110)));
        assert_eq!(
            (arrivals.take(10), arrivals.take(last), arrivals.take(last + 1)),
            (None, Some(last + 100), None)
        );
    }
}
