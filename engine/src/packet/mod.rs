//! Header views and emitters of what is on the wire.
#![forbid(unsafe_code)]

pub mod checksum;
pub mod ethernet;
pub mod fragment;
pub mod frame;
pub mod ip;
pub mod probe;
pub mod rtcp;
pub mod rtp;
pub mod udp;
