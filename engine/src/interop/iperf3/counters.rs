//! Counts that a worker writes and the control thread reads, without a lock.
#![forbid(unsafe_code)]

use std::sync::atomic::{AtomicU64, Ordering, fence};

use super::arrivals::Arrivals;

/// What a worker has sent, all of its streams together.
#[derive(Debug, Default)]
#[repr(align(64))]
pub(super) struct Sent {
    /// Numbers used.
    pub(super) issued: AtomicU64,
    /// Packets that a stream sends in its turn; 0 before the start.
    pub(super) turn: AtomicU64,
    /// Packets that this host refused.
    pub(super) failed: AtomicU64,
}

/// What a stream has received. One writer; a reader gets all figures of one moment.
#[derive(Debug, Default)]
#[repr(align(64))]
pub(super) struct Received {
    /// Odd while figures are written.
    version: AtomicU64,
    figures: [AtomicU64; 6],
}

impl Received {
    /// Writes the figures.
    #[inline]
    pub(super) fn publish(&self, arrivals: &Arrivals) {
        let version = self.version.load(Ordering::Relaxed);
        self.version.store(version + 1, Ordering::Relaxed);
        fence(Ordering::Release);
        let &Arrivals { bytes, datagrams, highest, lost, out_of_order, jitter, .. } = arrivals;
        let figures = [bytes, datagrams, highest, lost, out_of_order, jitter.to_bits()];
        for (place, figure) in self.figures.iter().zip(figures) {
            place.store(figure, Ordering::Relaxed);
        }
        self.version.store(version + 2, Ordering::Release);
    }

    /// Reads them.
    pub(super) fn read(&self) -> Arrivals {
        loop {
            let before = self.version.load(Ordering::Acquire);
            let [bytes, datagrams, highest, lost, out_of_order, jitter] =
                [0, 1, 2, 3, 4, 5].map(|n: usize| self.figures[n].load(Ordering::Relaxed));
            fence(Ordering::Acquire);
            if before.is_multiple_of(2) && self.version.load(Ordering::Relaxed) == before {
                let jitter = f64::from_bits(jitter);
                return Arrivals { bytes, datagrams, highest, lost, out_of_order, jitter, transit_us: None };
            }
            std::hint::spin_loop();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::interop::iperf3::header::Header;

    #[test]
    fn figures_are_of_one_moment() {
        let received = Received::default();
        std::thread::scope(|scope| {
            scope.spawn(|| {
                let mut arrivals = Arrivals::default();
                for number in 1..=20_000 {
                    arrivals.enter(Header { number, sent_us: number }, 10, number);
                    received.publish(&arrivals);
                }
            });
            loop {
                let read = received.read();
                assert_eq!((read.bytes, read.datagrams), (read.highest * 10, read.highest));
                if read.highest == 20_000 {
                    break;
                }
            }
        });
    }
}
