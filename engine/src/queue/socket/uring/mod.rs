//! io_uring: batches of all flows in one system call, and one standing receive request.

mod buf_ring;
mod ring;
mod room;
mod rx;
mod tx;
mod zero_copy;

pub use ring::available;
pub use rx::UringRx;
pub use tx::UringTx;

#[cfg(test)]
pub(super) use room::cost;
