//! The one clock: `CLOCK_TAI`, the clock of PTP, monotonic across leap seconds and the same in
//! user space and in eBPF (`bpf_ktime_get_tai_ns`). Nanoseconds since 1970-01-01 TAI.
#![forbid(unsafe_code)]

mod claim;
pub mod device;
mod quick;
mod relation;

pub use claim::Claim;
pub use quick::Quick;
pub use relation::{Relation, relation};

use nix::time::{ClockId, clock_gettime};

/// Nanoseconds of `CLOCK_TAI`; no system call where the vDSO serves the clock source.
pub fn tai_ns() -> u64 {
    read(ClockId::CLOCK_TAI)
}

/// Nanoseconds that CLOCK_TAI is ahead of UTC (`CLOCK_REALTIME`) now: whole seconds once a time daemon has
/// told the kernel, 0 before.
pub fn tai_minus_utc_ns() -> i64 {
    let utc = read(ClockId::CLOCK_REALTIME);
    let tai = read(ClockId::CLOCK_TAI);
    let difference = tai.cast_signed() - utc.cast_signed();
    // The two readings are some nanoseconds apart; the offset is in whole seconds.
    (difference + 500_000_000).div_euclid(1_000_000_000) * 1_000_000_000
}

/// Nanoseconds that CLOCK_TAI is ahead of CLOCK_MONOTONIC now, to within the time of two readings: what was not slewed but set changes it.
pub fn tai_minus_monotonic_ns() -> u64 {
    tai_ns().saturating_sub(read(ClockId::CLOCK_MONOTONIC))
}

fn read(id: ClockId) -> u64 {
    let t = clock_gettime(id).expect("Linux has had this clock since 3.10");
    t.tv_sec().unsigned_abs() * 1_000_000_000 + t.tv_nsec().unsigned_abs()
}

/// Watches that CLOCK_TAI goes on evenly: neither stepped nor its offset to UTC changed.
#[derive(Debug)]
pub struct Steadiness {
    offset_ns: i64,
    ahead_of_boot_ns: i64,
}

/// Two readings of different clocks may be this far apart on a busy machine, and slewing (up to 500 ppm) adds to it.
const STEP_NS: i64 = 20_000_000;

impl Steadiness {
    /// Remembers how the clocks stand now.
    pub fn begin() -> Self {
        Self { offset_ns: tai_minus_utc_ns(), ahead_of_boot_ns: ahead_of_boot_ns() }
    }

    /// What happened to CLOCK_TAI since the last look, if anything did; the next look compares with now.
    pub fn look(&mut self) -> Option<String> {
        let now = Self::begin();
        let offset = now.offset_ns - self.offset_ns;
        let step = now.ahead_of_boot_ns - self.ahead_of_boot_ns;
        *self = now;
        if offset != 0 {
            Some(format!("the offset of CLOCK_TAI to UTC changed by {} s", offset / 1_000_000_000))
        } else if step.abs() > STEP_NS {
            Some(format!("CLOCK_TAI stepped by {} ms", step / 1_000_000))
        } else {
            None
        }
    }
}

fn ahead_of_boot_ns() -> i64 {
    tai_ns().cast_signed() - read(ClockId::CLOCK_BOOTTIME).cast_signed()
}

#[cfg(test)]
mod tests {
    #[test]
    fn tai_is_within_a_minute_of_utc_and_moves_on() {
        let a = super::tai_ns();
        let b = super::tai_ns();
        assert!(b >= a);
        assert!(super::tai_minus_utc_ns().abs() < 60_000_000_000);
        assert_eq!(super::tai_minus_utc_ns() % 1_000_000_000, 0);
        assert_eq!(super::Steadiness::begin().look(), None);
    }
}
