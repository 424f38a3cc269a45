//! Qualification of a NIC or of a link: the tests of RFC 2544 over two ports, a service activation test in the manner of ITU-T Y.1564, a long
//! run, round trips to a reflector.
//!
//! Every trial has the same procedure (RFC 2544 §23): the receiver is ready, frames are seen to come, the sender sends for a time, frames in
//! flight are waited for, both ports are read. A trial is judged by loss, copies, order and delay together ([`judge`]); one to which the tester itself
//! was not equal is inconclusive, and so is what rests on it.
#![forbid(unsafe_code)]

pub mod judge;
pub mod link;
pub mod params;
pub mod report;

pub use params::{Expectations, Params, Service, Size, Test, Tolerance};
