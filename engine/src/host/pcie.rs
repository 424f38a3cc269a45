//! The PCI Express link of a device: what it negotiated, and what it could.
#![forbid(unsafe_code)]

use std::path::Path;

use serde::Serialize;

use super::{read_line, read_number};

/// Share of a link's bits that is left for large packets. A transaction of 256 bytes has some 24 more of headers and framing (0.91);
/// descriptors, doorbells and flow control take the rest. Small packets get less, as each needs its own descriptor.
const LARGE_PACKETS: f64 = 0.8;

/// A PCI Express link.
#[derive(Debug, Clone, Copy, PartialEq, Serialize)]
pub struct Pcie {
    /// Transfers per lane in use, in GT/s.
    pub speed_gtps: f64,
    /// Lanes in use.
    pub width: u32,
    /// The fastest that the device can, in GT/s.
    pub max_speed_gtps: f64,
    /// Lanes of the device.
    pub max_width: u32,
}

impl Eq for Pcie {}

impl Pcie {
    /// Of the device whose directory in /sys this is; none where it is not on PCI Express, or a guest is not told.
    pub fn read(device: &Path) -> Option<Self> {
        let speed = |name| parse_speed(&read_line(device.join(name))?);
        let width = |name| read_number::<u32>(device.join(name)).filter(|lanes| (1..=32).contains(lanes));
        Some(Self {
            speed_gtps: speed("current_link_speed")?,
            width: width("current_link_width")?,
            max_speed_gtps: speed("max_link_speed")?,
            max_width: width("max_link_width")?,
        })
    }

    /// Bits a second of large packets that it carries in each direction, about.
    pub fn usable_bps(&self) -> u64 {
        (usable(self.speed_gtps, self.width)) as u64
    }
}

fn usable(gtps: f64, lanes: u32) -> f64 {
    // 8b/10b up to 5 GT/s, 128b/130b from 8 GT/s on.
    let coding = if gtps < 8.0 { 0.8 } else { 128.0 / 130.0 };
    gtps * 1e9 * coding * f64::from(lanes) * LARGE_PACKETS
}

/// `8.0 GT/s PCIe`.
fn parse_speed(text: &str) -> Option<f64> {
    let (number, unit) = text.split_once(' ')?;
    number.parse().ok().filter(|&s: &f64| s > 0.0 && s < 1000.0 && unit.starts_with("GT/s"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_card_in_a_slot_that_is_too_small() {
        let device = tempfile::tempdir().unwrap();
        assert_eq!(Pcie::read(device.path()), None);
        for (name, text) in [
            ("current_link_speed", "8.0 GT/s PCIe\n"),
            ("current_link_width", "4\n"),
            ("max_link_speed", "16.0 GT/s PCIe\n"),
            ("max_link_width", "16\n"),
        ] {
            std::fs::write(device.path().join(name), text).unwrap();
        }
        let link = Pcie::read(device.path()).unwrap();
        assert_eq!(link, Pcie { speed_gtps: 8.0, width: 4, max_speed_gtps: 16.0, max_width: 16 });
        // 31.5 Gbit/s raw.
        assert!((25_000_000_000..26_000_000_000).contains(&link.usable_bps()), "{}", link.usable_bps());
    }

    #[test]
    fn what_guests_say() {
        assert_eq!(parse_speed("Unknown"), None);
        assert_eq!(parse_speed("Unknown speed"), None);
        assert_eq!(parse_speed("2.5 GT/s PCIe"), Some(2.5));
        assert_eq!(parse_speed("NaN GT/s"), None);
        assert_eq!(parse_speed("inf GT/s"), None);
    }
}
