//! `sendmmsg` and `recvmmsg`: up to 64 datagrams in one system call, on any kernel.

mod many;
mod rx;
mod tx;

pub use many::{ManyRx, Takes};
pub use rx::MmsgRx;
pub use tx::MmsgTx;
