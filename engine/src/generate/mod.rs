//! Sending: from a configuration to packets, and to a report of them.
#![forbid(unsafe_code)]

mod config;
pub mod kernel;
mod plan;
pub(crate) mod schedule;
mod send;
mod source;
pub(crate) mod worker;

pub use config::{SendConfig, SizeSpec};
pub use send::run;

pub(crate) use plan::nth_address;
pub(crate) use send::explain;
pub(crate) use worker::END_MESSAGES;
