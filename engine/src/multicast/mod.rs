//! Multicast: who gets what.
#![forbid(unsafe_code)]

pub mod membership;
