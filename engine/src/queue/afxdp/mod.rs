//! AF_XDP: frames straight between this program and a queue of the NIC, past the kernel's network stack.
//!
//! # Who owns a frame
//!
//! All frames of a queue lie in one piece of memory, the UMEM, which the kernel (and with zero-copy the NIC) reads and writes. Four
//! rings say whose turn it is. A frame that is ours is in the list of free frames, which nobody but
//! [`Frames`](umem::Frames) can change, or it is a [`Frame`](umem::Frame) token taken out of it, a value that cannot be copied. Handing the frame over takes it off the list
//! or consumes the token, and only the ring in which the kernel gives the frame back puts it into the list again. So a frame that the kernel may be reading
//! cannot be named, let alone written.
//!
//! ```text
//!            this program                         kernel, NIC
//!
//!   free list ── template, stamp ──▶ TX ring ──────▶ sends
//!       ▲                                              │
//!       └───────────────────── completion ring ◀───────┘
//!
//!   Sink ◀── headers ◀── address ◀── RX ring ◀────── receives
//!                           │                          ▲
//!                           └──────▶ fill ring ────────┘
//! ```
//!
//! A received frame is only looked at, and goes back before the next is: its bytes borrow all of the frames meanwhile, so it needs no token.
//!
//! # Sending
//!
//! A frame remembers which flow and size it was last written for. Sending another packet of the same flow and size in it
//! takes stamping 18 bytes: the checksums are right whatever they say (see [`probe`](crate::packet::probe)). A packet longer than a chunk of the UMEM
//! lies in several consecutive chunks and takes as many descriptors.
//!
//! A packet above the MTU leaves in fragments, each in a frame of its own. Fragments that arrive go to the kernel, which puts them together, and come back by
//! sockets that the worker of the first queue looks at, too: [`reassembly`].
//!
//! # The other side of the rings
//!
//! [`tx`] and [`rx`] are written for any [`Kernel`]: [`socket::Socket`] is the real one, `queue::memory` plays one in plain memory, so what
//! tests and benches run is the datapath that runs.
//!
//! xsk-rs makes UMEM and socket; the rings are mapped a second time through the descriptor, because its own ring functions
//! are calls into C that cannot be inlined. It always makes all four rings, so the ones that a direction does not need have one slot. Which packets reach an RX socket is the
//! XDP program's decision, not this module's.

mod bound;
mod last;
pub mod ntuple;
pub mod raw;
pub mod reassembly;
pub mod rx;
pub mod sizes;
pub mod socket;
pub mod steer;
pub mod tx;
pub mod umem;

use std::io;
use std::time::Duration;

use crate::queue::QueueLoss;

/// A transmit queue on AF_XDP.
pub type AfxdpTx = tx::FrameTx<socket::Socket>;
/// A receive queue on AF_XDP.
pub type AfxdpRx = rx::FrameRx<socket::Socket>;
pub use reassembly::ReassemblingRx;

/// What the kernel granted a socket, as read back from it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Granted {
    /// The NIC reads and writes the frames itself. Otherwise the kernel copies each packet.
    pub zero_copy: bool,
    /// Why zero-copy was refused, in the kernel's words.
    pub refused: Option<String>,
    /// System calls poll the driver, as asked for.
    pub busy_poll: bool,
    /// The frames lie in huge pages.
    pub huge_pages: bool,
    /// The NUMA node that the frames lie on, where the kernel has nodes.
    pub memory_node: Option<u32>,
}

/// What became of waking the kernel's transmit side.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Woken {
    /// It took what was there, or is at it.
    Done,
    /// It stopped before the ring was empty: call again.
    More,
    /// It dropped one packet instead of sending it, and stopped: call again.
    Refused,
    /// It can take nothing at the moment.
    Later,
}

/// Whoever has the other end of the rings.
pub trait Kernel {
    /// Has it look at the TX ring.
    ///
    /// # Errors
    /// When the queue is broken; ENXIO and ENETDOWN when the interface is gone or down.
    fn wake_tx(&mut self) -> io::Result<Woken>;

    /// Has it look at the fill ring, and at whether the interface is still there.
    ///
    /// # Errors
    /// As [`wake_tx`](Self::wake_tx).
    fn wake_rx(&mut self) -> io::Result<()>;

    /// Whether it works only when woken, and is to be woken for received packets and completions, too (busy polling).
    fn polls(&self) -> bool {
        false
    }

    /// Whether it may refuse single packets when woken ([`Woken::Refused`]).
    fn refuses(&self) -> bool {
        false
    }

    /// Waits until there is something in the RX ring.
    ///
    /// # Errors
    /// When waiting is not possible.
    fn wait_rx(&mut self, at_most: Duration) -> io::Result<()>;

    /// Appends the packets that it dropped at this queue.
    fn losses(&mut self, losses: &mut Vec<QueueLoss>);
}
