//! What iperf3 and iperf 2 would have printed for the same arrivals, by their arithmetic, which is not ours.
//!
//! Both count whatever is not higher than the highest number so far as out of order, copies too, and take each off what they hold for lost. iperf3 does
//! so at once and while there is something to take it off; what comes after the last arrival it cannot know. iperf 2 does so at the
//! end, and its last message, which has a number like a datagram, shows it the tail.
#![forbid(unsafe_code)]

/// The figures of one of them for one stream.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct AsIperf {
    /// Lost datagrams.
    pub lost: u64,
    /// Datagrams out of order.
    pub out_of_order: u64,
    /// Datagrams of which these were lost.
    pub packets: u64,
    /// Jitter in ns, where it is the same in all versions.
    pub jitter_ns: Option<u64>,
}

/// What iperf's arithmetic needs of a stream.
#[derive(Debug, Clone, Copy)]
pub(super) struct Arrived {
    /// One more than the highest number that arrived; 0 before.
    pub(super) next: u64,
    pub(super) unique: u64,
    pub(super) duplicate: u64,
    pub(super) reordered: u64,
    /// iperf3's count of what is lost, see [`Iperf3Lost`].
    pub(super) iperf3: Iperf3Lost,
    /// Numbers that the sender has issued, if its end was heard.
    pub(super) issued: Option<u64>,
}

/// iperf3's running count of lost datagrams.
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct Iperf3Lost(pub(super) u64);

impl Iperf3Lost {
    /// So many numbers were jumped over.
    pub(super) fn jumped(&mut self, count: u64) {
        self.0 += count;
    }

    /// A datagram came that was not higher than the highest.
    pub(super) fn not_higher(&mut self) {
        self.0 = self.0.saturating_sub(1);
    }
}

impl Arrived {
    /// As iperf3 counts (`iperf_udp_recv`): datagrams are numbers up to the highest.
    pub(super) fn as_iperf3(&self) -> AsIperf {
        AsIperf {
            lost: self.iperf3.0,
            out_of_order: self.reordered + self.duplicate,
            packets: self.next,
            jitter_ns: None,
        }
    }

    /// As iperf 2.1 and 2.2 count: the last message is a datagram, too.
    pub(super) fn as_iperf2(&self) -> AsIperf {
        let numbers = self.next.max(self.issued.unwrap_or(0));
        AsIperf {
            lost: numbers.saturating_sub(self.unique + self.duplicate),
            out_of_order: self.reordered + self.duplicate,
            packets: numbers + u64::from(self.issued.is_some()),
            jitter_ns: None,
        }
    }
}

impl AsIperf {
    /// Lost in percent, as both print it; 0 without datagrams.
    pub fn lost_percent(&self) -> f64 {
        if self.packets == 0 { 0.0 } else { self.lost as f64 * 100.0 / self.packets as f64 }
    }
}
