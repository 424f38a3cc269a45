//! Rules in the NIC that direct the packets of a run to the queues that it receives on, where the NIC has such rules.
//!
//! They are removed when [`Placed`] is dropped: at the end of a run, also one that was interrupted. A process that is killed leaves them
//! behind, as the kernel does not know whose they are; `ethtool -n IF` shows them and `ethtool -N IF delete N` removes one.
#![forbid(unsafe_code)]

use std::io;
use std::net::SocketAddr;

use crate::queue::spec::Interface;
use crate::sys::ethtool::Ethtool;

/// Rules that were placed.
#[derive(Debug)]
pub struct Placed {
    nic: Ethtool,
    locations: Vec<u32>,
}

impl Placed {
    /// Directs UDP to each of `destinations` to one of `queues`, in turn. On an error none of the rules stays.
    ///
    /// # Errors
    /// EOPNOTSUPP where the NIC has no rules or `ethtool -K IF ntuple on` was not said; what else the driver answers.
    pub fn place(interface: &Interface, destinations: &[SocketAddr], queues: &[u32]) -> io::Result<Self> {
        let mut placed = Self { nic: Ethtool::open(&interface.name)?, locations: Vec::new() };
        for (destination, queue) in destinations.iter().zip(queues.iter().cycle()) {
            placed.locations.push(placed.nic.insert_rule(*destination, *queue)?);
        }
        Ok(placed)
    }
}

impl Drop for Placed {
    fn drop(&mut self) {
        for location in self.locations.drain(..) {
            // Nothing is left to be done should the interface be gone, or somebody have removed it.
            let _ = self.nic.remove_rule(location);
        }
    }
}
