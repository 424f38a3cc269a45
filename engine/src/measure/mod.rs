//! From arrivals to figures.
#![forbid(unsafe_code)]

pub mod delay;
pub mod gaps;
pub mod handover;
pub mod jitter;
pub mod latency;
pub mod media;
pub mod sequence;
pub mod tally;
