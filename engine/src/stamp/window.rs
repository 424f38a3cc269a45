//! Packets that are still waited for.
#![forbid(unsafe_code)]

use std::collections::VecDeque;

use super::figures::RoundTrip;

/// A packet that was sent.
#[derive(Debug, Clone, Copy)]
pub(super) struct Sent {
    /// When it was to leave, CLOCK_TAI in ns, as all of them.
    pub(super) intended_ns: u64,
    /// T1 by this program.
    pub(super) user_ns: u64,
    /// T1 by the kernel.
    pub(super) kernel_ns: Option<u64>,
    /// T1 by the NIC's own clock.
    pub(super) hardware_ns: Option<u64>,
    /// T1 as it stands in the packet.
    pub(super) timestamp: u64,
    answered: bool,
    trip: Option<RoundTrip>,
}

impl Sent {
    pub(super) fn new(intended_ns: u64, user_ns: u64, timestamp: u64) -> Self {
        Self {
            intended_ns,
            user_ns,
            kernel_ns: None,
            hardware_ns: None,
            timestamp,
            answered: false,
            trip: None,
        }
    }
}

/// The last packets that were sent, by their numbers: as many as were sent in the time that an answer is waited for.
#[derive(Debug, Default)]
pub(super) struct Window {
    /// The number of the first.
    base: u32,
    packets: VecDeque<Sent>,
    unanswered: u64,
}

impl Window {
    /// The number of the next packet.
    pub(super) fn next(&self) -> u32 {
        self.base + self.packets.len() as u32
    }

    pub(super) fn push(&mut self, sent: Sent) {
        self.packets.push_back(sent);
        self.unanswered += 1;
    }

    fn index(&self, number: u32) -> Option<usize> {
        number.checked_sub(self.base).map(|n| n as usize)
    }

    /// The packet with this number, while it is waited for.
    pub(super) fn get(&mut self, number: u32) -> Option<&mut Sent> {
        let index = self.index(number)?;
        self.packets.get_mut(index)
    }

    /// It was answered; `trip` is what its times came to, if they could be read.
    pub(super) fn answer(&mut self, number: u32, trip: Option<RoundTrip>) {
        if let Some(sent) = self.get(number)
            && !std::mem::replace(&mut sent.answered, true)
        {
            sent.trip = trip;
            self.unanswered -= 1;
        }
    }

    /// The round trips of this packet and of those before and behind it, in order, as far as there are any.
    pub(super) fn neighbours(&self, number: u32) -> impl Iterator<Item = (RoundTrip, RoundTrip)> {
        let trip = |index: Option<usize>| self.packets.get(index?)?.trip;
        let at = self.index(number);
        let (before, this, after) =
            (trip(at.and_then(|n| n.checked_sub(1))), trip(at), trip(at.map(|n| n + 1)));
        [before.zip(this), this.zip(after)].into_iter().flatten()
    }

    /// Waits no longer for what was sent `timeout` ns ago; how many of those nobody answered. One that was answered stays as long as the one
    /// behind it may need it.
    pub(super) fn expire(&mut self, now_ns: u64, timeout: u64) -> u64 {
        let mut overdue = 0;
        while let Some(first) = self.packets.front()
            && now_ns.saturating_sub(first.user_ns) >= timeout
        {
            overdue += u64::from(!first.answered);
            self.packets.pop_front();
            self.base += 1;
        }
        self.unanswered -= overdue;
        overdue
    }

    /// When the first is no longer waited for.
    pub(super) fn next_expiry(&self, timeout: u64) -> u64 {
        self.packets.front().map_or(u64::MAX, |first| first.user_ns.saturating_add(timeout))
    }

    /// Whether nothing is waited for.
    pub(super) fn is_answered(&self) -> bool {
        self.unanswered == 0
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn packets_are_waited_for_and_no_longer() {
        let mut window = Window::default();
        for n in 0..5 {
            assert_eq!(window.next(), n);
            window.push(Sent::new(0, 100 * u64::from(n), 7));
        }
        let trip = RoundTrip { t1: 1, t2: 2, t3: 3, t4: 4 };
        window.answer(0, Some(trip));
        window.answer(0, Some(trip));
        window.answer(2, Some(trip));
        assert_eq!(window.neighbours(2).count(), 0, "1 is missing");
        window.answer(1, Some(trip));
        assert_eq!(window.neighbours(1).count(), 2);
        window.answer(4, None);
        assert!(!window.is_answered());
        assert_eq!((window.next_expiry(1000), window.expire(1299, 1000)), (1000, 0));
        assert!(window.get(2).is_none() && window.get(3).is_some());
        assert_eq!(window.expire(1300, 1000), 1);
        assert!(window.is_answered() && window.get(4).is_some());
        assert_eq!(window.next(), 5);
    }
}
