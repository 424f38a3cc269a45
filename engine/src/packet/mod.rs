//! Header views and emitters of what is on the wire.
#![forbid(unsafe_code)]

pub mod checksum;
pub mod ends;
pub mod ethernet;
pub mod follow_up;
pub mod fragment;
pub mod frame;
pub mod igmp;
pub mod ip;
pub mod mld;
pub mod pim;
pub mod probe;
pub mod ptp;
pub mod rtcp;
pub mod rtp;
pub mod stamp;
pub mod ts;
pub mod udp;
