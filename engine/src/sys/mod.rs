//! System calls that no well-kept crate wraps safely for what is done here.
#![expect(unsafe_code, reason = "this room exists to keep unsafe calls in one place")]

pub mod bpf;
pub mod child;
pub mod daemon;
pub mod ethtool;
mod ethtool_module;
pub mod ethtool_rules;
mod ethtool_stats;
pub mod hwstamp;
pub mod interrupt;
pub mod localtime;
pub mod mroute;
pub mod netns;
pub mod packet;
pub mod phc;
pub mod sched;
pub mod session;
pub mod socket;
pub mod tap;
pub mod timestamping;
pub mod timex;
pub mod tsc;
pub mod xsk;
