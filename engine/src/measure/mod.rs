//! From arrivals to figures.
#![forbid(unsafe_code)]

pub mod tally;
