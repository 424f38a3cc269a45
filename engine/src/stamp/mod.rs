//! Round trips by STAMP (RFC 8762): a [session-sender](sender) and a [session-reflector](reflector), each on one thread with plain sockets.
//!
//! The sender's packets leave by an open-loop schedule, whatever became of those before: an answer that is late delays no packet, and each round trip is
//! also measured from the time at which its packet was to leave. So a stall of this host or of the path is seen by all packets that it hit.
#![forbid(unsafe_code)]

mod figures;
mod loss;
mod net;
pub mod reflector;
pub mod report;
pub mod sender;
mod session;
mod window;

use crate::clock;
use crate::packet::stamp::{ErrorEstimate, Format};
use crate::sys::timex;

/// Who takes the times.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Timestamps {
    /// The kernel, as packets pass between it and the driver, or the NIC.
    #[default]
    Kernel,
    /// This program, before it hands a packet over and after it got one.
    User,
}

impl Timestamps {
    /// The name that selects it.
    pub fn name(self) -> &'static str {
        match self {
            Self::Kernel => "kernel",
            Self::User => "user",
        }
    }
}

/// The clock of this host: CLOCK_TAI, and how far UTC, which the kernel's stamps are in, is behind it.
#[derive(Debug, Clone, Copy)]
struct Clock {
    tai_minus_utc_ns: i64,
}

impl Clock {
    fn read() -> Self {
        Self { tai_minus_utc_ns: clock::tai_minus_utc_ns() }
    }

    /// CLOCK_TAI at a time of CLOCK_REALTIME.
    fn tai_ns(self, utc_ns: u64) -> u64 {
        utc_ns.saturating_add_signed(self.tai_minus_utc_ns)
    }

    /// A time of CLOCK_TAI as it stands in a packet.
    fn encode(self, tai_ns: u64, format: Format) -> u64 {
        match format {
            Format::Ntp => Format::Ntp.encode(tai_ns.saturating_add_signed(-self.tai_minus_utc_ns)),
            Format::Ptp => Format::Ptp.encode(tai_ns),
        }
    }

    /// A time in a packet as one of CLOCK_TAI, near `near_ns`.
    fn decode(self, bits: u64, format: Format, near_ns: u64) -> Option<u64> {
        let ns = format.decode(bits, near_ns)?;
        Some(if format == Format::Ntp { self.tai_ns(ns) } else { ns })
    }
}

/// A clock that nobody keeps is taken to be this far off, as the kernel does.
const UNKEPT_NS: u64 = 16_000_000_000;

/// What the kernel says of the clock now.
fn error_estimate(format: Format) -> ErrorEstimate {
    match timex::read() {
        Ok(state) => ErrorEstimate::new(u64::from(state.max_error_us) * 1000, state.synchronised, format),
        Err(_) => ErrorEstimate::new(UNKEPT_NS, false, format),
    }
}
