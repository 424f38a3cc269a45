//! Methods: how trials follow one another, and what they prove. [`search`] finds the highest valid load, [`bed`] is what a method asks
//! of its ports, [`ports`] are real ones, [`rfc3918`] are the tests of IP multicast, [`qualify`] those of a link between two ports, [`compare`] sets
//! other tools beside ours.
#![forbid(unsafe_code)]

pub mod bed;
pub mod compare;
pub mod ports;
pub mod qualify;
pub mod rfc3918;
pub mod search;
