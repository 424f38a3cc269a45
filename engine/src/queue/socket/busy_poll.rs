//! Running the driver from the receiver's own system calls instead of its interrupts (Documentation/networking/napi.rst).
#![forbid(unsafe_code)]

use std::os::fd::{AsFd, OwnedFd};

use socket2::Socket;

use crate::error::{Error, Result};
use crate::sys;

/// A receiving socket that was asked to poll, for whoever reports what came of it.
#[derive(Debug)]
pub struct Polled(OwnedFd);

impl Polled {
    /// Notes `socket`.
    pub(super) fn of(socket: &Socket) -> Result<Self> {
        let fd = socket.as_fd().try_clone_to_owned();
        fd.map(Self)
            .map_err(|error| Error::environment("dup of a socket").because(error).fix("raise ulimit -n"))
    }

    /// Whether its packets came by a driver's NAPI, which a program can run; `false` also when none came.
    pub fn has_napi(&self) -> bool {
        sys::socket::get_int(self.0.as_fd(), libc::SOL_SOCKET, libc::SO_INCOMING_NAPI_ID)
            .is_ok_and(|id| id != 0)
    }
}

/// Has the calls that read `socket` poll its driver, `budget` packets at a time.
pub(super) fn begin(socket: &Socket, budget: u16) -> Result<Polled> {
    sys::xsk::set_busy_poll(socket.as_fd(), budget).map_err(|error| {
        let refused = Error::environment("--busy-poll: the kernel refused it (CAP_NET_ADMIN, Linux 5.11)");
        refused
            .because(error)
            .fix("run as root, or leave out --busy-poll, or use --backend uring, which needs no privilege")
    })?;
    Polled::of(socket)
}
