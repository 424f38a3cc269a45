//! Plain data shared by the eBPF programs and the engine: map keys and values, all `repr(C)`
//! without padding, so that both sides read the same bytes.
//!
//! Numbers are in the byte order of the machine unless a field says otherwise.
#![no_std]

pub mod drops;
pub mod generate;
pub mod replicate;
pub mod sink;
pub mod steer;
