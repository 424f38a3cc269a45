//! Making a ring, and why there is none.
#![forbid(unsafe_code)]

use std::fs;
use std::io;
use std::os::fd::RawFd;
use std::time::Duration;

use io_uring::types::{Napi, SubmitArgs, Timespec};
use io_uring::{IoUring, Probe, opcode};

use crate::error::{Error, Result};
use crate::queue::QueueError;

/// How long a wait runs the driver before it sleeps, in µs: longer than the pauses of a steady stream.
const BUSY_POLL_US: u32 = 1000;

/// Whether the io_uring queues work here, or why not.
///
/// # Errors
/// The reason, for a person: the sysctl, a seccomp filter, the kernel's age.
pub fn available() -> std::result::Result<(), String> {
    let ring = make(8, 16).map_err(|error| why_not(&error))?;
    let mut probe = Probe::new();
    ring.submitter()
        .register_probe(&mut probe)
        .map_err(|error| format!("io_uring cannot be asked what it supports: {error}"))?;
    // Multishot recvmsg cannot be probed for; it came with the same kernel, 6.0, as this one.
    if probe.is_supported(opcode::SendZc::CODE) {
        Ok(())
    } else {
        Err(format!("io_uring of kernel {} has no multishot recvmsg (Linux 6.0)", kernel_release()))
    }
}

/// Why `io_uring_setup` failed.
fn why_not(error: &io::Error) -> String {
    match error.raw_os_error() {
        Some(libc::EPERM) => match fs::read_to_string("/proc/sys/kernel/io_uring_disabled").unwrap_or_default().trim() {
            "2" => "io_uring is switched off for everybody (sysctl kernel.io_uring_disabled=2)".into(),
            "1" => "io_uring is for CAP_SYS_ADMIN and the group of sysctl kernel.io_uring_group only (kernel.io_uring_disabled=1)".into(),
            _ => "io_uring is refused by a security policy, as container runtimes do by seccomp (EPERM)".into(),
        },
        Some(libc::EACCES) => "io_uring is refused by a security module (EACCES)".into(),
        Some(libc::ENOSYS) => format!(
            "io_uring is not in this kernel ({}), or a seccomp filter hides it (ENOSYS)",
            kernel_release()
        ),
        Some(libc::ENOMEM) => "no memory for an io_uring: raise the memory-lock limit (ulimit -l)".into(),
        Some(libc::EMFILE | libc::ENFILE) => "no io_uring: too many open files (ulimit -n)".into(),
        _ => format!("no io_uring: {error}"),
    }
}

fn kernel_release() -> String {
    fs::read_to_string("/proc/sys/kernel/osrelease").unwrap_or_default().trim().to_owned()
}

/// Makes a ring with `entries` submissions and `completions`.
pub(super) fn open(entries: u32, completions: u32) -> Result<IoUring> {
    make(entries, completions)
        .map_err(|error| Error::environment(why_not(&error)).because(error).fix("use --backend mmsg"))
}

fn make(entries: u32, completions: u32) -> io::Result<IoUring> {
    // The work of a completion is done in our own system calls and nowhere else (Linux 6.1); before that without interrupts
    // between CPUs (5.19); before that as it comes.
    let deferred = IoUring::builder()
        .setup_single_issuer()
        .setup_defer_taskrun()
        .setup_coop_taskrun()
        .setup_taskrun_flag()
        .setup_submit_all()
        .setup_cqsize(completions)
        .build(entries);
    if !unknown_flags(&deferred) {
        return deferred;
    }
    let cooperative = IoUring::builder()
        .setup_coop_taskrun()
        .setup_taskrun_flag()
        .setup_submit_all()
        .setup_cqsize(completions)
        .build(entries);
    if !unknown_flags(&cooperative) {
        return cooperative;
    }
    IoUring::builder().setup_cqsize(completions).build(entries)
}

fn unknown_flags(ring: &io::Result<IoUring>) -> bool {
    ring.as_ref().is_err_and(|error| error.raw_os_error() == Some(libc::EINVAL))
}

/// Has each wait for completions run the drivers that the ring's sockets receive from, with the kernel's budget of 8 packets.
pub(super) fn busy_poll(ring: &IoUring) -> Result<()> {
    let mut napi = Napi::new().set_busy_poll_timeout(BUSY_POLL_US).set_prefer_busy_poll(true);
    ring.submitter().register_napi(&mut napi).map_err(|error| {
        Error::environment(
            "--busy-poll: not with this kernel's io_uring (Linux 6.9, CONFIG_NET_RX_BUSY_POLL)",
        )
        .because(error)
        .fix("leave out --busy-poll, or use --backend mmsg")
    })
}

/// Gives the ring the descriptors by index, which saves their look-up in each request; without, they are named.
pub(super) fn register(ring: &IoUring, descriptors: &[RawFd]) -> bool {
    ring.submitter().register_files(descriptors).is_ok()
}

/// Gives the descriptors up. The kernel takes a ring apart after its last descriptor was closed, at its leisure; until then
/// the sockets would stay open, and their ports in use.
pub(super) fn release(ring: &IoUring, registered: bool) {
    if registered {
        // Fails only when there is none.
        let _ = ring.submitter().unregister_files();
    }
}

/// Submits what is queued, without waiting.
pub(super) fn submit(ring: &IoUring) -> std::result::Result<(), QueueError> {
    tolerate(ring.submit())
}

/// Submits what is queued and waits for one completion, at most for `limit`.
pub(super) fn submit_and_wait(ring: &IoUring, limit: Duration) -> std::result::Result<(), QueueError> {
    let limit = Timespec::from(limit);
    tolerate(ring.submitter().submit_with_args(1, &SubmitArgs::new().timespec(&limit)))
}

fn tolerate(answer: io::Result<usize>) -> std::result::Result<(), QueueError> {
    match answer {
        Ok(_) => Ok(()),
        Err(source) => match source.raw_os_error() {
            // The time is up, a signal came, or completions have to be taken first.
            Some(libc::ETIME | libc::EINTR | libc::EAGAIN | libc::EBUSY) => Ok(()),
            _ => Err(QueueError { call: "io_uring_enter", source }),
        },
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reasons_are_for_people() {
        assert!(why_not(&io::Error::from_raw_os_error(libc::ENOSYS)).contains("not in this kernel"));
        assert!(why_not(&io::Error::from_raw_os_error(libc::EPERM)).contains("io_uring is"));
        assert!(why_not(&io::Error::from_raw_os_error(libc::ENOMEM)).contains("ulimit -l"));
    }
}
