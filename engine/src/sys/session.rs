//! A child in a session of its own (setsid(2)).

use std::os::unix::process::CommandExt;
use std::process::Command;

/// Makes the child of `command` the leader of a session and of a process group: the terminal's Ctrl-C does not reach it, it cannot ask at the
/// terminal, and all that it starts can be ended together.
pub fn of_its_own(command: &mut Command) {
    // SAFETY: between fork and exec setsid is called, which is async-signal-safe and touches no memory.
    unsafe {
        command.pre_exec(|| nix::unistd::setsid().map(|_| ()).map_err(Into::into));
    }
}
