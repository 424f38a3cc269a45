//! `sendmmsg` and `recvmmsg`: up to 64 datagrams in one system call, on any kernel.

mod rx;
mod tx;

pub use rx::MmsgRx;
pub use tx::MmsgTx;
