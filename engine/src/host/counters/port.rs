//! What has left a physical port and what has come to it, by its own counters.
//!
//! The counters of the MAC are taken where a driver has them under a name that is known; else those that the kernel has of every interface (`struct rtnl_link_stats64`). A NIC says in several ways
//! that it dropped what had arrived, some of them twice: what has arrived is rather counted twice than left out, so that nothing is ever said to be lost before it came.
#![forbid(unsafe_code)]

use netlink_packet_core::NLM_F_DUMP;
use netlink_packet_route::link::{LinkMessage, Stats64};

use super::{meaning, of_link};
use crate::error::{Error, Result};
use crate::host::interface::Link;
use crate::host::netlink::{self, Rtnl};
use crate::host::nic::Nic;
use crate::sys::ethtool::Ethtool;

/// Counters of the MAC of packets that left, the first of which a driver has all: mlx5, sfc, i40e, ice, ixgbe.
const LEFT: [&[&str]; 5] = [
    &["tx_packets_phy"],
    &["port_tx_packets"],
    &["port.tx_unicast", "port.tx_multicast", "port.tx_broadcast"],
    &["tx_unicast.nic", "tx_multicast.nic", "tx_broadcast.nic"],
    &["tx_pkts_nic"],
];

/// The same of packets that came.
const CAME: [&[&str]; 5] = [
    &["rx_packets_phy"],
    &["port_rx_packets"],
    &["port.rx_unicast", "port.rx_multicast", "port.rx_broadcast"],
    &["rx_unicast.nic", "rx_multicast.nic", "rx_broadcast.nic"],
    &["rx_pkts_nic"],
];

/// Drivers of interfaces that have no port, or share one with others.
const NO_PORT: [&str; 10] =
    ["virtio_net", "vmxnet3", "vif", "hv_netvsc", "ena", "gve", "iavf", "igbvf", "ixgbevf", "fm10k"];

/// The counters of a port at one moment.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Reading {
    kernel: Stats64,
    driver: Vec<(String, u64)>,
}

/// What the counters of a port moved by.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Moved {
    /// Packets that left.
    pub left: u64,
    /// The counter that says so, the first of them where it takes several.
    pub left_by: &'static str,
    /// Packets that came without an error.
    pub came: u64,
    /// The counter that says so.
    pub came_by: &'static str,
    /// Packets that came and that the NIC dropped, by the kernel's names.
    pub dropped: Vec<(&'static str, u64)>,
    /// The most that may have come and been dropped, whoever says so: not less than `dropped`.
    pub dropped_at_most: u64,
}

/// The counters of this interface of the calling thread's namespace; `None` when it is gone.
pub fn read(name: &str, index: u32) -> Option<Reading> {
    // First the driver's: being asked for these, most fetch all from the NIC.
    let driver = Ethtool::open(name).and_then(|e| e.statistics()).unwrap_or_default();
    let links = netlink::route(&Rtnl::GetLink(LinkMessage::default()), NLM_F_DUMP).ok()?;
    let kernel = links.iter().find_map(|answer| of_link(answer, index))?;
    Some(Reading { kernel, driver })
}

impl Reading {
    /// What was counted since `before`; `None` when something was set back.
    pub fn since(&self, before: &Self) -> Option<Moved> {
        let kernel = |field: fn(&Stats64) -> u64| field(&self.kernel).checked_sub(field(&before.kernel));
        let driver = |name: &str| {
            let of = |reading: &Self| reading.driver.iter().find(|(n, _)| n == name).map(|(_, value)| *value);
            of(self)?.checked_sub(of(before)?)
        };
        let of_mac = |choices: &[&[&'static str]]| {
            let sum = |names: &&[&'static str]| {
                Some((names[0], names.iter().map(|name| driver(name)).sum::<Option<u64>>()?))
            };
            choices.iter().find_map(sum)
        };
        let (left_by, left) = match of_mac(&LEFT) {
            Some(found) => found,
            // What the host could not send is in no counter of the cable.
            None => ("tx_packets", kernel(|s| s.tx_packets)?.saturating_sub(kernel(|s| s.tx_errors)?)),
        };
        let (came_by, came) = match of_mac(&CAME) {
            Some(found) => found,
            None => ("rx_packets", kernel(|s| s.rx_packets)?),
        };
        let dropped = dropped(
            [kernel(|s| s.rx_missed_errors)?, kernel(|s| s.rx_fifo_errors)?, kernel(|s| s.rx_over_errors)?],
            [kernel(|s| s.rx_crc_errors)?, kernel(|s| s.rx_frame_errors)?, kernel(|s| s.rx_length_errors)?],
            kernel(|s| s.rx_errors)?,
        );
        let told: u64 = dropped.iter().map(|(_, packets)| packets).sum();
        let by_driver: u64 = self
            .driver
            .iter()
            .filter(|(name, _)| meaning::of(name).is_some_and(|means| means.place == "nic-rx"))
            .filter_map(|(name, _)| driver(name))
            .sum();
        let dropped_at_most = by_driver.max(told + kernel(|s| s.rx_dropped)?);
        Some(Moved { left, left_by, came, came_by, dropped, dropped_at_most })
    }
}

/// What the NIC dropped, each packet once: there was `no_room` (missed, FIFO, over), it was `damaged` (CRC, alignment, length), or it is among all `errors` only. Counters of missing room that rose by the
/// same number are one that a driver tells by several names.
fn dropped(no_room: [u64; 3], damaged: [u64; 3], errors: u64) -> Vec<(&'static str, u64)> {
    let [missed, fifo, over] = no_room;
    let fifo = if fifo == missed { 0 } else { fifo };
    let over = if over == missed || over == fifo { 0 } else { over };
    let [crc, frame, length] = damaged;
    // Overruns are among the errors in some drivers.
    let rest = errors.saturating_sub(crc + frame + length + fifo + over);
    let all = [
        ("rx_missed_errors", missed),
        ("rx_fifo_errors", fifo),
        ("rx_over_errors", over),
        ("rx_crc_errors", crc),
        ("rx_frame_errors", frame),
        ("rx_length_errors", length),
        ("rx_errors", rest),
    ];
    all.into_iter().filter(|(_, packets)| *packets > 0).collect()
}

/// Makes sure that the interface is a physical port with counters of its own, which nothing else on this or another machine shares.
///
/// # Errors
/// Usage, with what it is instead.
pub fn require(link: &Link) -> Result<()> {
    let nic = Nic::read(link);
    let shares = nic.directory.as_ref().is_some_and(|device| device.join("physfn").exists());
    match why_not(link.kind.as_deref(), link.loopback, &nic, shares) {
        None => Ok(()),
        Some(why) => Err(Error::usage(format!("--sender-iface: {} {why}", link.name))
            .fix("it compares the counters of two physical ports with a cable between them: leave it out elsewhere, the ledger of one host is whole without it")),
    }
}

fn why_not(kind: Option<&str>, loopback: bool, nic: &Nic, shares: bool) -> Option<String> {
    let driver = nic.driver.as_deref();
    match kind {
        Some(kind) => Some(format!("is a virtual interface ({kind}), which has no port")),
        None if loopback => Some("is the loopback interface, which has no port".to_owned()),
        None if nic.bus.is_none() && nic.directory.is_none() => {
            Some("has no device on a bus: it is no physical port".to_owned())
        }
        None if shares || driver.is_some_and(|driver| NO_PORT.contains(&driver)) => Some(format!(
            "is a virtual function or a guest's interface ({}), which has no port of its own",
            driver.unwrap_or("no driver")
        )),
        None => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn reading(driver: &[(&str, u64)], set: impl FnOnce(&mut Stats64)) -> Reading {
        let mut kernel = Stats64::default();
        set(&mut kernel);
        Reading { kernel, driver: driver.iter().map(|(name, value)| ((*name).to_owned(), *value)).collect() }
    }

    #[test]
    fn the_kernels_counters_where_there_is_nothing_better() {
        let before = reading(&[], |s| (s.tx_packets, s.rx_packets, s.rx_missed_errors) = (10, 20, 3));
        let after = reading(&[("rx_queue_0_drops", 2)], |s| {
            (s.tx_packets, s.tx_errors, s.rx_packets) = (110, 1, 220);
            (s.rx_missed_errors, s.rx_crc_errors, s.rx_errors, s.rx_dropped) = (8, 2, 4, 6);
        });
        let moved = after.since(&before).unwrap();
        assert_eq!(
            (moved.left, moved.left_by, moved.came, moved.came_by),
            (99, "tx_packets", 200, "rx_packets")
        );
        assert_eq!(moved.dropped, [("rx_missed_errors", 5), ("rx_crc_errors", 2), ("rx_errors", 2)]);
        assert_eq!(moved.dropped_at_most, 9 + 6);
        assert_eq!(before.since(&after), None, "set back");
    }

    #[test]
    fn those_of_the_mac_where_the_driver_tells_them() {
        let counters = |n: u64| {
            reading(&[("tx_packets_phy", n), ("rx_packets_phy", 2 * n), ("rx_discards_phy", n / 10)], |s| {
                s.tx_packets = n / 2;
            })
        };
        let moved = counters(300).since(&counters(100)).unwrap();
        assert_eq!((moved.left, moved.left_by, moved.came), (200, "tx_packets_phy", 400));
        assert_eq!((moved.dropped, moved.dropped_at_most), (vec![], 20));
        let casts = |n: u64| {
            let names = ["port.rx_unicast", "port.rx_multicast", "port.rx_broadcast"];
            reading(&names.map(|name| (name, n)), |_| ())
        };
        let moved = casts(3).since(&casts(1)).unwrap();
        assert_eq!((moved.came, moved.came_by, moved.left_by), (6, "port.rx_unicast", "tx_packets"));
    }

    #[test]
    fn one_packet_is_dropped_once() {
        assert_eq!(dropped([7, 7, 7], [0; 3], 7), [("rx_missed_errors", 7), ("rx_errors", 7)]);
        assert_eq!(dropped([7, 2, 2], [0; 3], 2), [("rx_missed_errors", 7), ("rx_fifo_errors", 2)]);
        assert_eq!(dropped([0; 3], [1, 2, 3], 6).iter().map(|(_, n)| n).sum::<u64>(), 6);
        assert_eq!(dropped([0; 3], [0; 3], 0), []);
    }

    #[test]
    fn what_is_no_port() {
        let nic = |driver: &str, bus: Option<&str>| Nic {
            driver: Some(driver.to_owned()),
            bus: bus.map(str::to_owned),
            ..Nic::default()
        };
        let pci = Some("0000:01:00.0");
        assert_eq!(why_not(None, false, &nic("igb", pci), false), None);
        for (kind, loopback, nic, shares, why) in [
            (Some("veth"), false, nic("veth", None), false, "(veth)"),
            (Some("macvlan"), false, nic("macvlan", None), false, "(macvlan)"),
            (Some("tun"), false, nic("tun", Some("tap")), false, "(tun)"),
            (None, true, nic("", None), false, "loopback"),
            (None, false, nic("dummy", None), false, "no device"),
            (None, false, nic("virtio_net", pci), false, "virtio_net"),
            (None, false, nic("mlx5_core", pci), true, "virtual function"),
        ] {
            let said = why_not(kind, loopback, &nic, shares).expect(why);
            assert!(said.contains(why), "{said}");
        }
    }
}
