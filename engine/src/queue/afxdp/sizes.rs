//! How many slots the rings of an AF_XDP socket have.
//!
//! A ring that is much larger than needed costs cache: its frames are used one after the other. One that is smaller than the NIC's own runs dry:
//! a driver that copies nothing fills its ring from ours.
#![forbid(unsafe_code)]

use crate::queue::spec::Interface;
use crate::sys::ethtool::Ethtool;

/// Fewest slots of the TX and the completion ring.
pub(crate) const TX: u32 = 2048;
/// Fewest slots of the RX ring, and frames. What arrives while the worker is off its CPU waits there.
pub(crate) const RX: u32 = 8192;
/// Most slots of any ring.
const MOST: u32 = 32_768;

/// Slots of a TX ring on `interface`: at least those of the NIC, which may give frames back only when its own ring is full.
pub(crate) fn tx(interface: &Interface) -> u32 {
    ring(TX, nic(interface).map_or(0, |r| r.tx))
}

/// Slots of an RX ring on `interface`: twice those of the NIC, so that as many frames wait here as it holds.
pub(crate) fn rx(interface: &Interface) -> u32 {
    ring(RX, nic(interface).map_or(0, |r| r.rx).saturating_mul(2))
}

/// A virtual device has no rings to tell.
fn nic(interface: &Interface) -> Option<crate::sys::ethtool::Rings> {
    Ethtool::open(&interface.name).and_then(|e| e.rings()).ok()
}

/// A power of two, as rings have.
fn ring(least: u32, wanted: u32) -> u32 {
    wanted.clamp(least, MOST).next_power_of_two()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rings_are_powers_of_two_within_bounds() {
        assert_eq!(ring(TX, 0), TX);
        assert_eq!(ring(TX, 511), TX);
        assert_eq!(ring(TX, 4096), 4096);
        assert_eq!(ring(RX, 8194), 16_384);
        assert_eq!(ring(RX, u32::MAX), MOST);
    }
}
