//! A receiver's arithmetic, which is iperf3's and not ours: what is lost behind the last datagram is not seen, and a copy takes a loss off.
#![forbid(unsafe_code)]

use super::header::Header;

/// What has arrived of a stream (`iperf_udp_recv`).
#[derive(Debug, Clone, Copy, PartialEq, Default)]
pub struct Arrivals {
    /// Payload in bytes.
    pub bytes: u64,
    /// Datagrams, copies too.
    pub datagrams: u64,
    /// The highest number.
    pub highest: u64,
    /// Numbers that were passed over, less those that were not higher than the highest.
    pub lost: u64,
    /// Datagrams whose number was not higher than the highest.
    pub out_of_order: u64,
    /// Jitter in seconds (RFC 1889 §6.3.1).
    pub jitter: f64,
    /// Arrival minus sending of the last one in µs, by whatever clocks; `None` before the first.
    pub(super) transit_us: Option<i64>,
}

impl Arrivals {
    /// A datagram of `len` bytes has arrived.
    #[inline]
    pub fn enter(&mut self, header: Header, len: usize, arrived_us: u64) {
        self.bytes += len as u64;
        self.datagrams += 1;
        if header.number > self.highest {
            self.lost += header.number - self.highest - 1;
            self.highest = header.number;
        } else {
            self.out_of_order += 1;
            self.lost = self.lost.saturating_sub(1);
        }
        // Both are far below 2⁶³.
        let transit = arrived_us.cast_signed().wrapping_sub(header.sent_us.cast_signed());
        if let Some(last) = self.transit_us.replace(transit) {
            let change = transit.wrapping_sub(last).unsigned_abs() as f64 / 1e6;
            self.jitter += (change - self.jitter) / 16.0;
        }
    }

    /// The omitted beginning is over: jitter counts anew.
    pub fn forget_jitter(&mut self) {
        self.jitter = 0.0;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn after(numbers: &[u64]) -> Arrivals {
        let mut arrivals = Arrivals::default();
        for (n, &number) in numbers.iter().enumerate() {
            let sent_us = n as u64 * 1000;
            arrivals.enter(Header { number, sent_us }, 100, sent_us + 5);
        }
        arrivals
    }

    #[test]
    fn a_copy_takes_a_loss_off_and_the_tail_is_not_seen() {
        let gaps = after(&[1, 2, 5, 6]);
        assert_eq!((gaps.highest, gaps.lost, gaps.out_of_order), (6, 2, 0));
        let late = after(&[1, 2, 5, 3, 6]);
        assert_eq!((late.highest, late.lost, late.out_of_order), (6, 1, 1));
        let copies = after(&[1, 2, 5, 5, 5, 5]);
        assert_eq!((copies.lost, copies.out_of_order), (0, 3));
        assert_eq!(gaps.bytes, 400);
        assert_eq!(gaps.jitter, 0.0);
    }

    #[test]
    fn jitter_is_the_filter_of_rfc_1889() {
        let mut arrivals = Arrivals::default();
        for (number, arrived_us) in [(1, 10), (2, 1026), (3, 2010)] {
            arrivals.enter(Header { number, sent_us: (number - 1) * 1000 }, 100, arrived_us);
        }
        // 16 µs, then 16 µs the other way.
        let first = 16e-6 / 16.0;
        assert!((arrivals.jitter - (first + (16e-6 - first) / 16.0)).abs() < 1e-12);
    }
}
