//! Children that end with whoever started them, and what CPU time they took.

use std::io;
use std::os::unix::process::CommandExt;
use std::process::{Command, ExitStatus};
use std::time::Duration;

use nix::libc;
use std::os::unix::process::ExitStatusExt;

/// CPU time of a process and of those of its own children that it waited for, as the kernel charged it (getrusage(2)). What interrupts did
/// meanwhile, soft ones among them, is charged to nobody.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct CpuTime {
    /// In the program.
    pub user: Duration,
    /// In the kernel, on its behalf.
    pub system: Duration,
}

impl CpuTime {
    /// Both.
    pub fn total(self) -> Duration {
        self.user + self.system
    }

    fn of(usage: &libc::rusage) -> Self {
        let time = |t: libc::timeval| {
            Duration::from_secs(u64::try_from(t.tv_sec).unwrap_or(0))
                + Duration::from_micros(u64::try_from(t.tv_usec).unwrap_or(0))
        };
        Self { user: time(usage.ru_utime), system: time(usage.ru_stime) }
    }
}

/// The kernel kills the child of `command` when the thread that starts it ends, and it leads a process group of its own: the terminal's Ctrl-C
/// does not reach it.
pub fn dies_with_us(command: &mut Command) {
    command.process_group(0);
    // SAFETY: between fork and exec prctl is called, which is async-signal-safe; PR_SET_PDEATHSIG takes a signal number and touches no memory.
    unsafe {
        command.pre_exec(|| {
            if libc::prctl(libc::PR_SET_PDEATHSIG, libc::SIGKILL) != 0 {
                return Err(io::Error::last_os_error());
            }
            Ok(())
        });
    }
}

/// Takes the exit status of the child `pid`, with the CPU time it took; waits for its end.
///
/// # Errors
/// When it is no child of this process, or somebody else has waited for it.
pub fn reap(pid: u32) -> io::Result<(ExitStatus, CpuTime)> {
    let mut status = 0;
    loop {
        // SAFETY: wait4 writes to both, which live for the call; all-zero bytes are a valid rusage.
        let (reaped, usage) = unsafe {
            let mut usage: libc::rusage = std::mem::zeroed();
            (libc::wait4(pid.cast_signed(), &raw mut status, 0, &raw mut usage), usage)
        };
        if reaped == pid.cast_signed() {
            return Ok((ExitStatus::from_raw(status), CpuTime::of(&usage)));
        }
        let error = io::Error::last_os_error();
        if error.kind() != io::ErrorKind::Interrupted {
            return Err(error);
        }
    }
}

/// CPU time of this process so far, all of its threads.
pub fn of_this_process() -> CpuTime {
    // SAFETY: getrusage writes to `usage`, which lives for the call; all-zero bytes are a valid rusage. It does not fail for RUSAGE_SELF.
    let usage = unsafe {
        let mut usage: libc::rusage = std::mem::zeroed();
        libc::getrusage(libc::RUSAGE_SELF, &raw mut usage);
        usage
    };
    CpuTime::of(&usage)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_child_is_reaped_with_its_status_and_its_time() {
        let mut command = Command::new("sh");
        command.args(["-c", "exit 7"]);
        dies_with_us(&mut command);
        #[expect(clippy::zombie_processes, reason = "reap waits for it")]
        let child = command.spawn().expect("there is a shell");
        let (status, _) = reap(child.id()).expect("our child");
        assert_eq!(status.code(), Some(7));
        assert!(reap(child.id()).is_err(), "nobody can be reaped twice");
        assert!(of_this_process().total() > Duration::ZERO);
    }
}
