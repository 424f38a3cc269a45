//! What a container's runtime forbids.

use std::collections::BTreeMap;
use std::os::unix::process::CommandExt;
use std::process::Command;

use seccompiler::{BpfProgram, SeccompAction, SeccompFilter, apply_filter};

/// The numbers of io_uring_setup, io_uring_enter and io_uring_register, the same on every architecture.
const IO_URING: [i64; 3] = [425, 426, 427];

/// Refuses io_uring to `command` and all that it starts, as container runtimes do by default.
#[expect(unsafe_code, reason = "a filter can only be installed between fork and exec")]
pub fn refuse_io_uring(command: &mut Command) {
    let filter = SeccompFilter::new(
        BTreeMap::from(IO_URING.map(|call| (call, vec![]))),
        SeccompAction::Allow,
        SeccompAction::Errno(1), // EPERM
        std::env::consts::ARCH.try_into().unwrap(),
    );
    let program = BpfProgram::try_from(filter.unwrap()).unwrap();
    // SAFETY: apply_filter makes two system calls, prctl and seccomp, and does not allocate where they succeed.
    unsafe {
        command.pre_exec(move || apply_filter(&program).map_err(std::io::Error::other));
    }
}
