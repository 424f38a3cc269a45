//! What carries packets to the members that the control loop knows of.
#![forbid(unsafe_code)]

use std::net::IpAddr;
use std::os::fd::BorrowedFd;

use crate::error::Result;
use crate::multicast::snoop::{Entry, Table};

/// A forwarding plane.
pub trait Plane: Send {
    /// From now on packets of `group` go where `entries` say ([`Table::entries`]), and nowhere else; without entries, nowhere.
    ///
    /// # Errors
    /// When the kernel refuses; the control loop ends then.
    fn forward(&mut self, group: IpAddr, entries: &[Entry]) -> Result<()>;

    /// What becomes readable when the plane wants to be asked to [`look`](Self::look).
    fn wakes(&self) -> Vec<BorrowedFd<'_>> {
        Vec::new()
    }

    /// Looks after what is the plane's own.
    ///
    /// # Errors
    /// As [`forward`](Self::forward).
    fn look(&mut self, _table: &Table) -> Result<()> {
        Ok(())
    }
}
