//! The state of a NIC and its link around a trial: what it was before, what it is after, and what that means.
//!
//! [`Snapshot::take`] reads all that the kernel and the driver tell of an interface and changes nothing. [`compare()`] judges two of them by [`Limits`]: a counter of damaged or
//! lost packets that moved fails, with what to look at next, always in the order cable, port, card, rings, CPU. [`inspect`] judges one by itself, before a trial begins.
//!
//! What a driver does not tell is absent, never zero: a veth has no rings, a guest is not told of the slot that its NIC sits in.
//!
//! All of it is plain data, so that the far end of a test can send its own.
#![forbid(unsafe_code)]

pub mod class;
mod compare;
mod finding;
mod limits;
mod module;
mod queues;
mod snapshot;
mod state;
mod take;

pub use compare::compare;
pub use finding::{Finding, Moved, Part, Severity, worst};
pub use limits::{Limits, Speed};
pub use module::Module;
pub use queues::{Share, shares};
pub use snapshot::{
    Autonegotiation, Counters, Duplex, Interrupt, LinkState, Pause, PcieLink, Rings, Snapshot, Temperature,
};
pub use state::inspect;
