//! How the kernel's clock is kept (`adjtimex(2)`).

use std::io;
use std::mem;

/// What the kernel tells of its clock.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct State {
    /// Neither STA_UNSYNC nor TIME_ERROR: a daemon keeps the clock.
    pub synchronised: bool,
    /// Seconds that CLOCK_TAI is ahead of UTC.
    pub tai_offset_s: i32,
    /// Estimated error in µs.
    pub estimated_error_us: u32,
    /// Highest error in µs.
    pub max_error_us: u32,
}

/// Reads it; needs no privilege.
///
/// # Errors
/// The kernel's own; EPERM where a seccomp filter forbids the call.
pub fn read() -> io::Result<State> {
    // SAFETY: all zeros is a valid timex, whose modes of 0 ask to change nothing.
    let mut timex: libc::timex = unsafe { mem::zeroed() };
    // SAFETY: the structure is live, and the kernel fills it.
    let state = unsafe { libc::adjtimex(&raw mut timex) };
    if state < 0 {
        return Err(io::Error::last_os_error());
    }
    let micros = |error: i64| u32::try_from(error.max(0)).unwrap_or(u32::MAX);
    Ok(State {
        synchronised: state != libc::TIME_ERROR && timex.status & libc::STA_UNSYNC == 0,
        tai_offset_s: timex.tai,
        estimated_error_us: micros(timex.esterror),
        max_error_us: micros(timex.maxerror),
    })
}
