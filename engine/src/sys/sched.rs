//! The scheduling policy of the calling thread (sched(7)).

use std::io;

/// Makes the calling thread run under SCHED_FIFO at `priority`, 1 to 99.
///
/// # Errors
/// EPERM without CAP_SYS_NICE where RLIMIT_RTPRIO is lower, or in a cgroup without real-time budget; EINVAL for
/// other priorities.
pub fn fifo(priority: u8) -> io::Result<()> {
    let parameters = libc::sched_param { sched_priority: priority.into() };
    // SAFETY: the parameters are live; 0 is the calling thread.
    let answer = unsafe { libc::sched_setscheduler(0, libc::SCHED_FIFO, &raw const parameters) };
    if answer < 0 { Err(io::Error::last_os_error()) } else { Ok(()) }
}

/// Whether the calling thread runs under SCHED_FIFO.
pub fn is_fifo() -> bool {
    // SAFETY: no memory is involved; 0 is the calling thread.
    unsafe { libc::sched_getscheduler(0) == libc::SCHED_FIFO }
}
