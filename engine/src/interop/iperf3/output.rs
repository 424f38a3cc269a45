//! What iperf3 prints with `-J` and `--json-stream`, as plain data: the keys of 3.22, which are those of 3.12 and some more.
//!
//! A [`Recorder`] makes an [`Output`] of the events of one test; [`sums`] has the arithmetic, which text needs, too; [`layout`] writes objects the way iperf3
//! does, for scripts that read them by lines. What differs from iperf3's figures is said where it is made, and in docs/iperf3.md.
#![forbid(unsafe_code)]

pub mod layout;
pub mod model;
mod recorder;
pub mod sums;

#[cfg(test)]
mod tests;

pub use model::Output;
pub use recorder::{Identity, Recorder};
