//! From arrivals to figures.
#![forbid(unsafe_code)]

pub mod delay;
pub mod gaps;
pub mod handover;
pub mod iperf;
pub mod jitter;
pub mod latency;
pub mod loss;
pub mod media;
pub mod missing;
pub mod reorder;
pub mod sequence;
pub mod spread;
pub mod tally;
