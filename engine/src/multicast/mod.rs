//! What multicast needs beyond unicast.
#![forbid(unsafe_code)]

pub mod mac;
