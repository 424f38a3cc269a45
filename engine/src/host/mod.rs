//! The machine under the measurement: interfaces, routes, neighbours, CPUs, NICs, kernel and privileges.
//!
//! Everything is asked of the network namespace that the calling thread is in, over netlink and ioctl: /sys shows
//! the namespace that it was mounted in, and is believed only where it is seen to speak of the same device.
#![forbid(unsafe_code)]

pub mod counters;
pub mod cpu;
pub(crate) mod files;
pub mod health;
pub mod interface;
pub mod irq;
pub mod kernel;
pub mod namespace;
pub mod neighbour;
pub(crate) mod netdev;
mod netlink;
pub mod nic;
pub mod nic_clock;
pub mod pcie;
pub mod placement;
pub mod privilege;
pub mod qdisc;
pub mod reach;
pub mod route;
pub mod sched;
pub mod topology;
pub mod tuning;

use std::path::Path;

/// The first line of a small file under /proc or /sys, without surrounding space; none where it is absent or empty.
fn read_line(path: impl AsRef<Path>) -> Option<String> {
    let text = std::fs::read_to_string(path).ok()?;
    let line = text.lines().next()?.trim();
    (!line.is_empty()).then(|| line.to_owned())
}

/// A number from a small file under /proc or /sys.
pub(crate) fn read_number<T: std::str::FromStr>(path: impl AsRef<Path>) -> Option<T> {
    read_line(path)?.parse().ok()
}
