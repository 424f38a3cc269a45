//! What multicast needs beyond unicast: who gets what, and by which hardware address.
#![forbid(unsafe_code)]

pub mod mac;
pub mod membership;
pub mod message;
