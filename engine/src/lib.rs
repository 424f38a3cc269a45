//! wirerate's engine: generates, receives and accounts for UDP, multicast and RTP packets.
//!
//! Data moves one way, in the order of the modules below: a [`target`] and a [`profile`] become
//! packets ([`packet`]) at a pace ([`pacing`]); workers in [`generate`] hand them to a [`queue`];
//! workers in [`observe`] take them from one, and [`measure`] turns arrivals into tallies.
//! [`drops`] reads every other place where a packet can be lost, [`ledger`] adds it all up, and
//! [`report`] is the plain data that comes out. [`method`] puts runs together to benchmarks. ARCHITECTURE.md has the picture.

pub mod agent;
pub mod backend;
pub mod clock;
pub mod control;
pub mod doctor;
pub mod drops;
pub mod error;
pub mod generate;
pub mod host;
pub mod interop;
pub mod lab;
pub mod ledger;
pub mod linktest;
pub mod measure;
pub mod method;
pub mod multicast;
pub mod observe;
pub mod pacing;
pub mod packet;
pub mod profile;
pub mod queue;
pub mod replicator;
pub mod report;
pub mod rtcp;
pub mod stamp;
pub mod sys;
pub mod target;
pub mod verdict;

mod advice;
mod worker;
#[cfg(test)]
mod worker_tests;

pub use error::{Error, Kind};
