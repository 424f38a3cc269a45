//! What a socket has room for.
#![forbid(unsafe_code)]

use std::os::fd::AsFd;

use socket2::Socket;

use crate::sys;

/// A lower bound for the bytes that a socket has room for, so that it is seldom asked.
#[derive(Debug, Clone, Copy)]
pub(super) struct Room {
    bytes: i64,
}

impl Room {
    /// What `socket` has room for, when none of its packets is queued and not yet submitted.
    pub(super) fn of(socket: &Socket) -> Self {
        // Without SO_MEMINFO (Linux 4.12) there is no io_uring either.
        let bytes = sys::socket::memory(socket.as_fd()).map_or(0, |memory| {
            i64::from(memory[libc::SK_MEMINFO_SNDBUF as usize])
                - i64::from(memory[libc::SK_MEMINFO_WMEM_ALLOC as usize])
        });
        Self { bytes }
    }

    /// Reserves room for a buffer of this cost, when there surely is.
    #[inline]
    pub(super) fn take(&mut self, cost: i64) -> bool {
        let enough = self.bytes >= cost;
        if enough {
            self.bytes -= cost;
        }
        enough
    }

    /// Reserves room as the kernel does, which takes a buffer of any size when there is room at all.
    #[inline]
    pub(super) fn take_first(&mut self, cost: i64) -> bool {
        let enough = self.bytes > 0;
        self.bytes -= cost;
        enough
    }
}

/// At most what the kernel charges a socket for a buffer of `count` packets with `len` bytes of payload: headers, the end-of-buffer
/// structure and rounding up to a slab size, and the buffer's own structure. The payload of several packets lies in pages, and is
/// charged as it is.
#[inline]
pub(in crate::queue::socket) fn cost(len: u16, count: u16) -> i64 {
    let (len, count) = (u32::from(len), u32::from(count));
    i64::from(if count > 1 { len * count + 2048 } else { (len + 512).next_power_of_two() + 512 })
}
