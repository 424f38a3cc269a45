//! Queues over UDP sockets: no privileges, every interface, the kernel's own network stack.
//!
//! Two ways to the same sockets ([`setup`]): [`uring`] hands batches of all flows over in one system call and
//! receives by one standing request; [`mmsg`] makes one `sendmmsg` for each run and one `recvmmsg` for each batch, for
//! kernels and containers that refuse io_uring.
//!
//! What both have in common:
//! - A datagram is handed over when `send` took it. A full queueing discipline or a neighbour that does not answer drops
//!   it later, and the kernel tells the socket nothing: those are in the drop counters (QDISC_DROP, NEIGH_FAILED).
//! - An ICMP error for an earlier datagram comes back from a later `send`. That datagram did not leave and is
//!   sent again; the error counts nothing.
//! - With segmentation offload ([`offload`]) a buffer of up to 128 packets is handed over or refused as a whole; with receive offload it
//!   arrives as one, and the kernel says how long each packet is.
//! - `losses` reads the socket's own counter (SO_MEMINFO). It says SOCKET_RCVBUFF, and that is nearly always the reason, but
//!   the kernel counts a datagram with a wrong UDP checksum in the same place. A buffer of several packets counts once there.
//! - A receiving socket is told nothing when its interface is deleted: ask `interface_gone` now and then.

pub mod mmsg;
pub mod setup;
pub mod uring;

pub mod busy_poll;

mod explain;
mod groups;
mod messages;
pub mod offload;
mod outgoing;
mod reassembled;
mod received;
mod slots;
mod spin;
mod stamps;
mod timed;
mod verdict;

pub use mmsg::{ManyRx, MmsgRx, MmsgTx, Takes};
pub(crate) use outgoing::next_datagram;
pub use reassembled::ReassembledRx;
pub use uring::{UringRx, UringTx, available};

use std::os::fd::AsFd;

use socket2::Socket;

use super::QueueLoss;
use crate::sys;

/// Buffers handed over at once; without segmentation offload these are packets.
pub const BATCH: usize = 64;

/// Follows a socket's drop counter, which is 32 bits wide.
#[derive(Debug, Default)]
struct SocketDrops {
    last: u32,
    total: u64,
}

impl SocketDrops {
    fn read(&mut self, socket: &Socket, losses: &mut Vec<QueueLoss>) {
        // Only a descriptor that is no socket fails here.
        let Ok(memory) = sys::socket::memory(socket.as_fd()) else { return };
        self.advance(memory[libc::SK_MEMINFO_DROPS as usize]);
        losses.push(QueueLoss { place: "socket", reason: "SOCKET_RCVBUFF", packets: self.total });
    }

    fn advance(&mut self, now: u32) {
        self.total += u64::from(now.wrapping_sub(self.last));
        self.last = now;
    }
}

#[cfg(test)]
mod tests;
