//! What a NIC and its driver offer. What a driver does not tell is absent.
#![forbid(unsafe_code)]

use std::path::PathBuf;

use serde::Serialize;

use super::interface::{self, Link};
use super::netdev;
use super::pcie::Pcie;
use super::{read_line, read_number};
use crate::error::{Error, Result};
use crate::queue::spec::Interface;
use crate::sys::ethtool::Ethtool;
use crate::sys::hwstamp::Capability;

pub use super::netdev::XdpFeatures;

/// A NIC, or what stands for one.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize)]
pub struct Nic {
    /// Kernel driver.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub driver: Option<String>,
    /// Firmware version.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub firmware: Option<String>,
    /// Address on its bus, such as `0000:00:03.0`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub bus: Option<String>,
    /// Link speed; absent on a link that is down or virtual.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub speed_bps: Option<u64>,
    /// NUMA node.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub numa_node: Option<u32>,
    /// Queues.
    pub queues: Queues,
    /// Descriptor rings.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub rings: Option<Rings>,
    /// Offloads.
    pub offloads: Offloads,
    /// XDP features; absent before kernel 6.3.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub xdp: Option<XdpFeatures>,
    /// Time stamps of its own on what it receives; absent where it has none.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub stamps: Option<Stamps>,
    /// Its link to the machine; absent where it is none, or a guest is not told.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub pcie: Option<Pcie>,
    /// Pause frames; absent where the driver has none.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub pause: Option<Pause>,
    /// How interrupts and polling take turns; absent where /sys does not speak of this interface.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub napi: Option<Napi>,
    /// Its directory in /sys, where it is seen to be of the same device.
    #[serde(skip)]
    pub directory: Option<PathBuf>,
    /// Interrupts, and the CPUs that serve them.
    pub interrupts: Vec<Interrupt>,
}

/// How a NIC stamps what it receives.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
pub struct Stamps {
    /// Its clock is /dev/ptpN.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub phc: Option<u32>,
    /// Whether it can stamp every packet, not only those of PTP.
    pub all: bool,
}

/// Queues in use and possible.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize)]
pub struct Queues {
    /// Receive queues in use.
    pub rx: u32,
    /// Transmit queues in use.
    pub tx: u32,
    /// The most receive queues that can be set.
    pub max_rx: u32,
    /// The most transmit queues that can be set.
    pub max_tx: u32,
}

/// Descriptor rings: entries in use and possible.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
pub struct Rings {
    /// Entries of a receive ring.
    pub rx: u32,
    /// Entries of a transmit ring.
    pub tx: u32,
    /// The largest receive ring that can be set.
    pub max_rx: u32,
    /// The largest transmit ring that can be set.
    pub max_tx: u32,
}

/// Pause frames in use.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
pub struct Pause {
    /// Stops sending when the other end tells it to.
    pub rx: bool,
    /// Tells the other end to stop.
    pub tx: bool,
}

/// What keeps interrupts off while a program polls (Documentation/networking/napi.rst).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
pub struct Napi {
    /// Empty polls before interrupts are switched on again.
    pub defer_hard_irqs: u32,
    /// Time of the timer that stands in for them.
    pub gro_flush_timeout_ns: u64,
}

/// Offloads; each is absent where the kernel does not know it.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize)]
pub struct Offloads {
    /// `tx-generic-segmentation`: GSO.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub gso: Option<bool>,
    /// `rx-gro`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub gro: Option<bool>,
    /// `rx-gro-hw`: the NIC merges.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub gro_hw: Option<bool>,
    /// `rx-udp-gro-forwarding`: UDP is merged without a socket that asks for it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub udp_gro_forwarding: Option<bool>,
    /// `tx-udp-segmentation`: the NIC splits UDP super-packets.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub tx_udp_segmentation: Option<bool>,
    /// `tx-checksum-ip-generic` or the checksums by protocol.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub tx_checksum: Option<bool>,
    /// `rx-checksum`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub rx_checksum: Option<bool>,
}

/// An interrupt of a NIC.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Interrupt {
    /// Its number.
    pub irq: u32,
    /// The CPUs that it is delivered to, as a list: `2-5`.
    pub cpus: String,
}

impl Nic {
    /// What is known of the device behind `interface`; nothing when it is gone.
    pub fn of(interface: &Interface) -> Self {
        interface::by_index(interface.index).ok().flatten().map(|link| Self::read(&link)).unwrap_or_default()
    }

    /// What is known of the device behind `link`, an interface of the calling thread's network namespace.
    pub fn read(link: &Link) -> Self {
        let mut nic = Self {
            // What the device was made with; a driver with channels says how many it uses.
            queues: Queues {
                rx: link.rx_queues,
                tx: link.tx_queues,
                max_rx: link.rx_queues,
                max_tx: link.tx_queues,
            },
            xdp: netdev::xdp_features(link.index),
            ..Self::default()
        };
        if let Ok(ethtool) = Ethtool::open(&link.name) {
            nic.ask_driver(&ethtool);
        }
        if let Some(device) = device_directory(link, nic.bus.as_deref()) {
            // -1: the machine has no nodes, or the firmware does not say.
            nic.numa_node = read_number::<i32>(device.join("numa_node")).and_then(|n| n.try_into().ok());
            nic.interrupts = interrupts(&device);
            nic.pcie = Pcie::read(&device);
            nic.directory = Some(device);
        }
        nic.napi = own_directory(link).and_then(|entry| napi(&entry));
        nic
    }

    /// Whether all of `queues` are below `count`, the number of queues in use of the interface called `name`.
    ///
    /// # Errors
    /// Usage, naming those that there are.
    pub fn require_queues(name: &str, queues: &[usize], count: u32) -> Result<()> {
        match queues.iter().find(|&&queue| count > 0 && queue >= count as usize) {
            None => Ok(()),
            Some(queue) => Err(Error::usage(format!(
                "--queues: {name} has no queue {queue}, only the queues 0 to {}",
                count - 1
            ))
            .fix(format!("choose one of these, or see what ethtool -l {name} says of more"))),
        }
    }

    fn ask_driver(&mut self, ethtool: &Ethtool) {
        if let Ok(driver) = ethtool.driver() {
            self.driver = Some(driver.name).filter(|n| !n.is_empty());
            self.firmware = driver.firmware;
            self.bus = driver.bus;
        }
        if let Ok(c) = ethtool.channels() {
            self.queues = Queues { rx: c.rx, tx: c.tx, max_rx: c.max_rx, max_tx: c.max_tx };
        }
        self.rings = ethtool.rings().ok().filter(|r| r.rx > 0 || r.tx > 0).map(|r| Rings {
            rx: r.rx,
            tx: r.tx,
            max_rx: r.max_rx,
            max_tx: r.max_tx,
        });
        let stamps = ethtool.stamp_capability().ok().filter(Capability::stamps_received);
        self.stamps = stamps.map(|can| Stamps { phc: can.phc, all: can.stamps_all() });
        self.pause = ethtool.pause().ok().map(|p| Pause { rx: p.rx, tx: p.tx });
        self.speed_bps = ethtool.speed_mbps().ok().flatten().map(|mbps| u64::from(mbps) * 1_000_000);
        if let Ok(features) = ethtool.features() {
            self.offloads = offloads(&features);
        }
    }
}

fn offloads(features: &[(String, bool)]) -> Offloads {
    let state = |name: &str| features.iter().find(|(n, _)| n == name).map(|(_, on)| *on);
    let either = |names: &[&str]| names.iter().filter_map(|n| state(n)).reduce(|a, b| a || b);
    Offloads {
        gso: state("tx-generic-segmentation"),
        gro: state("rx-gro"),
        gro_hw: state("rx-gro-hw"),
        udp_gro_forwarding: state("rx-udp-gro-forwarding"),
        tx_udp_segmentation: state("tx-udp-segmentation"),
        tx_checksum: either(&["tx-checksum-ip-generic", "tx-checksum-ipv4", "tx-checksum-ipv6"]),
        rx_checksum: state("rx-checksum"),
    }
}

/// The device's own directory in /sys: by its PCI address, which is the same in every namespace; otherwise by the interface's
/// entry, when index and hardware address show that /sys speaks of the same one.
fn device_directory(link: &Link, bus: Option<&str>) -> Option<PathBuf> {
    let is_address = |b: &&str| b.bytes().all(|c| c.is_ascii_hexdigit() || matches!(c, b':' | b'.'));
    if let Some(bus) = bus.filter(is_address) {
        let directory = PathBuf::from("/sys/bus/pci/devices").join(bus);
        if directory.exists() {
            return Some(directory);
        }
    }
    own_directory(link).map(|entry| entry.join("device")).filter(|d| d.exists())
}

/// The interface's entry in /sys, when that speaks of the same one.
fn own_directory(link: &Link) -> Option<PathBuf> {
    let entry = PathBuf::from("/sys/class/net").join(&link.name);
    let mac = link.mac.map(|mac| mac.map(|byte| format!("{byte:02x}")).join(":"));
    let same =
        read_number(entry.join("ifindex")) == Some(link.index) && read_line(entry.join("address")) == mac;
    same.then_some(entry)
}

fn napi(entry: &std::path::Path) -> Option<Napi> {
    Some(Napi {
        defer_hard_irqs: read_number(entry.join("napi_defer_hard_irqs"))?,
        gro_flush_timeout_ns: read_number(entry.join("gro_flush_timeout"))?,
    })
}

fn interrupts(device: &std::path::Path) -> Vec<Interrupt> {
    let numbers = std::fs::read_dir(device.join("msi_irqs")).into_iter().flatten().flatten();
    let mut interrupts = numbers
        .filter_map(|entry| {
            let irq = entry.file_name().to_str()?.parse().ok()?;
            Some(Interrupt { irq, cpus: super::kernel::irq_cpus(irq)? })
        })
        .collect::<Vec<_>>();
    interrupts.sort_by_key(|i| i.irq);
    interrupts
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn offloads_by_name() {
        let features = [
            ("rx-gro", true),
            ("tx-udp-segmentation", false),
            ("tx-checksum-ipv4", false),
            ("tx-checksum-ipv6", true),
        ]
        .map(|(name, on)| (name.to_owned(), on));
        let offloads = offloads(&features);
        assert_eq!(offloads.gro, Some(true));
        assert_eq!(offloads.tx_udp_segmentation, Some(false));
        assert_eq!(offloads.tx_checksum, Some(true));
        assert_eq!(offloads.rx_checksum, None);
    }
}
