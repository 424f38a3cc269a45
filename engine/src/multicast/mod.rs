//! What multicast needs beyond unicast: who gets what, and by which hardware address.
#![forbid(unsafe_code)]

pub mod host;
pub mod listen;
pub mod mac;
pub mod membership;
pub mod memberships;
pub mod message;
pub mod own;
pub mod querier;
pub mod report;
pub mod routers;
pub mod snoop;
pub mod state;
pub mod station;
pub mod version;
