//! What is known of an interface at one moment, as plain data.
#![forbid(unsafe_code)]

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use super::module::Module;

/// An interface at one moment. What the driver does not tell is absent.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub struct Snapshot {
    /// The interface's name.
    pub interface: String,
    /// Its index in the network namespace.
    pub index: u32,
    /// Kind of a virtual device: `veth`, `bridge`, …
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub kind: Option<String>,
    /// Kernel driver.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub driver: Option<String>,
    /// Firmware version.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub firmware: Option<String>,
    /// Address on its bus, such as `0000:00:03.0`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub bus: Option<String>,
    /// The largest IP packet, in bytes.
    pub mtu: u32,
    /// The link.
    pub link: LinkState,
    /// Descriptor rings.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub rings: Option<Rings>,
    /// Receive queues in use.
    pub rx_queues: u32,
    /// Transmit queues in use.
    pub tx_queues: u32,
    /// Pause frames (IEEE 802.3 annex 31B).
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub pause: Option<Pause>,
    /// Offloads by the names that `ethtool -k` shows, and whether each is on.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub offloads: BTreeMap<String, bool>,
    /// What the card's own sensors say.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub temperatures: Vec<Temperature>,
    /// The plugged module (SFP, QSFP), where it can be read.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub module: Option<Module>,
    /// The card's link to the machine.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub pcie: Option<PcieLink>,
    /// Interrupts of the device, and how often each CPU has taken them.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub interrupts: Vec<Interrupt>,
    /// Every counter.
    pub counters: Counters,
}

/// The state of a link.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct LinkState {
    /// Administratively up.
    pub up: bool,
    /// The lower layer is up: a cable, a peer.
    pub carrier: bool,
    /// How often the link has come up or gone down, ever.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub carrier_changes: Option<u64>,
    /// How often it has gone down, ever.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub carrier_downs: Option<u64>,
    /// Speed in bit/s; absent on a link that is down or virtual.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub speed_bps: Option<u64>,
    /// Duplex; absent where the driver does not know.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub duplex: Option<Duplex>,
    /// Whether speed and duplex are negotiated.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub autonegotiation: Option<Autonegotiation>,
}

/// Whether both ends of a link may send at once.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Duplex {
    /// One at a time: collisions are part of it.
    Half,
    /// Both at once.
    Full,
}

impl Duplex {
    /// `half` or `full`.
    pub fn name(self) -> &'static str {
        match self {
            Self::Half => "half",
            Self::Full => "full",
        }
    }
}

/// Whether speed and duplex are negotiated.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Autonegotiation {
    /// By both ends.
    On,
    /// Set by hand.
    Off,
}

/// Descriptor rings: entries in use and possible.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
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
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Pause {
    /// Negotiated with the other end.
    pub autonegotiation: bool,
    /// Stops sending when the other end tells it to.
    pub rx: bool,
    /// Tells the other end to stop.
    pub tx: bool,
}

/// A sensor of the card.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Temperature {
    /// What it measures, as the driver calls it.
    pub name: String,
    /// Degrees Celsius.
    pub celsius: f64,
    /// Where the driver's own alarm begins.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub high_celsius: Option<f64>,
}

/// The PCI Express link of the card, and what the card needs of it. Both directions have the same width and speed.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub struct PcieLink {
    /// Transfers per lane in use, in GT/s.
    pub speed_gtps: f64,
    /// Lanes in use.
    pub width: u32,
    /// The fastest that the card can, in GT/s.
    pub max_speed_gtps: f64,
    /// Lanes of the card.
    pub max_width: u32,
    /// Bits a second of large packets that it carries in each direction, about.
    pub usable_bps: u64,
    /// Bits a second that the port needs in each direction at line rate; absent while the link's speed is not known.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub needed_bps: Option<u64>,
}

/// An interrupt of the device.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Interrupt {
    /// Its number.
    pub irq: u32,
    /// The name of its action in /proc/interrupts.
    pub name: String,
    /// The NIC queue that it is for, where its name tells.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub queue: Option<u32>,
    /// How often each CPU has taken it; CPUs that never did are left out.
    pub taken: BTreeMap<usize, u64>,
}

/// Every counter that the machine keeps of the interface, by the names of those who keep it.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Counters {
    /// The kernel's (`ip -s link`, struct rtnl_link_stats64).
    pub rtnl: BTreeMap<String, u64>,
    /// The driver's (`ethtool -S`).
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub ethtool: BTreeMap<String, u64>,
    /// Packets dropped by the interface's queueing disciplines, by kind and handle (`tc -s qdisc`).
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub qdisc: BTreeMap<String, u64>,
    /// Packets of any interface that found a CPU's receive queue full (/proc/net/softnet_stat).
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub softnet_dropped: Option<u64>,
}
