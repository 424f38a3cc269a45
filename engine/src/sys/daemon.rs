//! Running in the background (`daemon(3)`).

use std::io;

/// Goes on as a process of its own session, whose parent has ended with status 0: standard streams lead nowhere, the working directory stays. To be called before any
/// thread is started.
///
/// # Errors
/// The system's, when there is no further process to be had.
pub fn detach() -> io::Result<()> {
    nix::unistd::daemon(true, false).map_err(Into::into)
}
