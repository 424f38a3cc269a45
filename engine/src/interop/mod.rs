//! Other tools' formats on the wire.
#![forbid(unsafe_code)]

pub mod iperf2;
pub mod iperf3;
pub mod peer;
