//! Header views and emitters of what is on the wire.
#![forbid(unsafe_code)]

pub mod checksum;
pub mod probe;
