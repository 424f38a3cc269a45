//! What traffic looks like: how fast, how large, with what inside.
#![forbid(unsafe_code)]

pub mod imix;
pub mod media;
pub mod mix;
pub mod payload;
pub mod rate;
pub mod rtp;
pub mod segments;
pub mod size;
