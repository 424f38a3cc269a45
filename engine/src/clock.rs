//! The one clock: `CLOCK_TAI`, the clock of PTP, monotonic across leap seconds and the same in
//! user space and in eBPF (`bpf_ktime_get_tai_ns`). Nanoseconds since 1970-01-01 TAI.
#![forbid(unsafe_code)]

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

fn read(id: ClockId) -> u64 {
    let t = clock_gettime(id).expect("Linux has had this clock since 3.10");
    t.tv_sec().unsigned_abs() * 1_000_000_000 + t.tv_nsec().unsigned_abs()
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
    }
}
