//! Datagrams that were sent at one time and arrived at one time.
#![forbid(unsafe_code)]

use super::stream::transit;
use crate::packet::probe::unwrap40;

/// No header has such a time.
const NEVER: u64 = u64::MAX;

/// What datagrams of a batch have in common, of whatever streams they are: their sender, and both their times. What follows from these is entered once for all of
/// them.
#[derive(Debug)]
pub(super) struct Moment {
    /// Low 40 bits of the sending time, as headers have it; [`NEVER`]: no datagram is of this moment any more.
    time: u64,
    /// The place of the sender among those whose delay variation is measured.
    pub(super) sender: Option<u8>,
    pub(super) sent_ns: u64,
    pub(super) arrived_ns: u64,
    /// Came, and not yet entered.
    pub(super) count: u64,
}

impl Default for Moment {
    fn default() -> Self {
        Self { time: NEVER, sender: None, sent_ns: 0, arrived_ns: 0, count: 0 }
    }
}

impl Moment {
    /// That of a datagram whose header has `time`, and which arrived at `arrived_ns`; none has been counted.
    pub(super) fn new(time: u64, arrived_ns: u64, sender: Option<u8>) -> Self {
        Self { time, sender, sent_ns: unwrap40(time, arrived_ns), arrived_ns, count: 0 }
    }

    /// Whether it is that of such a datagram.
    #[inline]
    pub(super) fn is(&self, time: u64, arrived_ns: u64, sender: Option<u8>) -> bool {
        self.time == time && self.arrived_ns == arrived_ns && self.sender == sender
    }

    /// Arrival minus departure in ns.
    #[inline]
    pub(super) fn transit(&self) -> i64 {
        transit(self.sent_ns, self.arrived_ns)
    }

    /// No datagram is of this moment any more.
    pub(super) fn close(&mut self) {
        self.time = NEVER;
    }
}
