//! Reads a snapshot: rtnetlink, the SIOCETHTOOL requests that change nothing, and /sys where it is seen to speak of the same device.
#![forbid(unsafe_code)]

use std::collections::BTreeMap;
use std::fs;
use std::path::Path;

use netlink_packet_core::NLM_F_DUMP;
use netlink_packet_route::link::{LinkAttribute, LinkMessage, Stats64};
use netlink_packet_route::tc::TcMessage;

use super::module::Module;
use super::snapshot::{
    Autonegotiation, Counters, Duplex, Interrupt, LinkState, Pause, PcieLink, Rings, Snapshot, Temperature,
};
use crate::error::{Error, Result};
use crate::host::counters;
use crate::host::interface::{self, Link};
use crate::host::irq;
use crate::host::netlink::{self, Rtnl};
use crate::host::nic::Nic;
use crate::host::{read_line, read_number};
use crate::sys::ethtool::Ethtool;

impl Snapshot {
    /// All that is told of the interface called `name` of the calling thread's network namespace, now. Nothing is changed. The counters are read last, one after the other and not at
    /// one instant.
    ///
    /// # Errors
    /// Usage when there is no such interface; Environment when the kernel cannot be asked.
    pub fn take(name: &str) -> Result<Self> {
        let link = interface::link(name)?;
        let nic = Nic::read(&link);
        let mut taken = Self {
            interface: link.name.clone(),
            index: link.index,
            kind: link.kind.clone(),
            driver: nic.driver,
            firmware: nic.firmware,
            bus: nic.bus,
            mtu: link.mtu,
            link: LinkState { up: link.up, carrier: link.carrier, ..LinkState::default() },
            rings: nic.rings.map(|r| Rings { rx: r.rx, tx: r.tx, max_rx: r.max_rx, max_tx: r.max_tx }),
            rx_queues: nic.queues.rx,
            tx_queues: nic.queues.tx,
            ..Self::default()
        };
        let ethtool = Ethtool::open(name).ok();
        if let Some(ethtool) = &ethtool {
            ask_driver(&mut taken, ethtool);
        }
        if let Some(device) = &nic.directory {
            taken.temperatures = temperatures(device);
            taken.interrupts = interrupts(Path::new("/"), device);
        }
        taken.pcie = nic.pcie.map(|link| PcieLink {
            speed_gtps: link.speed_gtps,
            width: link.width,
            max_speed_gtps: link.max_speed_gtps,
            max_width: link.max_width,
            usable_bps: link.usable_bps(),
            needed_bps: taken.link.speed_bps,
        });
        taken.count(&link, ethtool.as_ref())?;
        Ok(taken)
    }

    /// Only the counters and the link's state anew, as a step within a trial asks for them: without what takes a driver long to tell.
    ///
    /// # Errors
    /// As of [`Snapshot::take`].
    pub fn recount(&self) -> Result<Self> {
        let link = interface::link(&self.interface)?;
        let mut taken = self.clone();
        (taken.link.up, taken.link.carrier) = (link.up, link.carrier);
        taken.count(&link, Ethtool::open(&self.interface).ok().as_ref())?;
        Ok(taken)
    }

    fn count(&mut self, link: &Link, ethtool: Option<&Ethtool>) -> Result<()> {
        // First the driver's: being asked for these, most fetch all from the NIC.
        let driver = ethtool.and_then(|e| e.statistics().ok()).unwrap_or_default();
        let answers = netlink::route(&Rtnl::GetLink(LinkMessage::default()), NLM_F_DUMP).map_err(|e| {
            Error::environment(format!("{}: cannot ask the kernel for its counters over netlink", link.name))
                .because(e)
        })?;
        let attributes = answers.iter().find_map(|answer| match answer {
            Rtnl::NewLink(message) if message.header.index == link.index => Some(&message.attributes),
            _ => None,
        });
        let Some(attributes) = attributes else {
            return Err(Error::failed(format!("{}: the interface is gone", link.name))
                .fix("look for it with ip link, and for its driver in dmesg"));
        };
        let mut counters = Counters::default();
        for attribute in attributes {
            match attribute {
                LinkAttribute::Stats64(statistics) => counters.rtnl = of_kernel(statistics),
                LinkAttribute::CarrierChanges(n) => self.link.carrier_changes = Some(u64::from(*n)),
                LinkAttribute::CarrierDownCount(n) => self.link.carrier_downs = Some(u64::from(*n)),
                _ => {}
            }
        }
        for (name, value) in driver {
            add(&mut counters.ethtool, name, value);
        }
        let qdiscs =
            netlink::route(&Rtnl::GetQueueDiscipline(TcMessage::default()), NLM_F_DUMP).unwrap_or_default();
        for (kind, drops) in qdiscs.iter().filter_map(|answer| counters::of_qdisc(answer, link.index)) {
            add(&mut counters.qdisc, kind, drops);
        }
        counters.softnet_dropped =
            fs::read_to_string("/proc/net/softnet_stat").ok().map(|text| counters::softnet_dropped(&text));
        self.counters = counters;
        Ok(())
    }
}

fn ask_driver(taken: &mut Snapshot, ethtool: &Ethtool) {
    if let Ok(told) = ethtool.link_settings() {
        taken.link.speed_bps = told.speed_mbps.map(|mbps| u64::from(mbps) * 1_000_000);
        taken.link.duplex = told.full_duplex.map(|full| if full { Duplex::Full } else { Duplex::Half });
        // A virtual device that negotiates nothing has no speed either.
        taken.link.autonegotiation = told
            .speed_mbps
            .map(|_| if told.autonegotiation { Autonegotiation::On } else { Autonegotiation::Off });
    }
    taken.pause =
        ethtool.pause().ok().map(|p| Pause { autonegotiation: p.autonegotiation, rx: p.rx, tx: p.tx });
    taken.offloads = ethtool.features().unwrap_or_default().into_iter().collect();
    taken.module = ethtool.module().ok().and_then(|(kind, bytes)| Module::decode(kind, &bytes));
}

/// Adds a counter; a name that is there already gets a number, as some drivers and queueing disciplines have one twice.
fn add(map: &mut BTreeMap<String, u64>, name: String, value: u64) {
    let mut free = name.clone();
    let mut number = 1u64;
    while map.contains_key(&free) {
        number += 1;
        free = format!("{name} #{number}");
    }
    map.entry(free).or_insert(value);
}

/// The sensors of the device whose directory in /sys is `device` (Documentation/hwmon/sysfs-interface.rst): thousandths of a degree.
fn temperatures(device: &Path) -> Vec<Temperature> {
    let entries = |path: &Path| -> Vec<_> {
        let mut found: Vec<_> =
            fs::read_dir(path).into_iter().flatten().flatten().map(|entry| entry.path()).collect();
        found.sort();
        found
    };
    let mut all = Vec::new();
    for monitor in entries(&device.join("hwmon")) {
        for input in entries(&monitor) {
            let sensor = input.file_name().and_then(|name| name.to_str()?.strip_suffix("_input"));
            let Some(sensor) = sensor.filter(|sensor| sensor.starts_with("temp")) else { continue };
            let degrees = |suffix: &str| {
                read_number::<i32>(monitor.join(format!("{sensor}_{suffix}"))).map(|n| f64::from(n) / 1000.0)
            };
            let Some(celsius) = degrees("input") else { continue };
            all.push(Temperature {
                name: read_line(monitor.join(format!("{sensor}_label"))).unwrap_or_else(|| sensor.to_owned()),
                celsius,
                high_celsius: degrees("crit").or_else(|| degrees("max")),
            });
        }
    }
    all
}

/// The interrupts of the device whose directory in /sys is `device`; `root` is `/`, or a directory with a `proc` like the kernel's in it.
fn interrupts(root: &Path, device: &Path) -> Vec<Interrupt> {
    let table = fs::read_to_string(root.join("proc/interrupts")).unwrap_or_default();
    let mut all: Vec<Interrupt> = fs::read_dir(device.join("msi_irqs"))
        .into_iter()
        .flatten()
        .flatten()
        .filter_map(|entry| interrupt(&table, entry.file_name().to_str()?.parse().ok()?))
        .collect();
    all.sort_by_key(|interrupt| interrupt.irq);
    all
}

/// Interrupt `irq` of the text of /proc/interrupts: the first line names the CPUs that are online, each other line has one count for each.
fn interrupt(table: &str, irq: u32) -> Option<Interrupt> {
    let mut lines = table.lines();
    let cpus: Vec<usize> =
        lines.next()?.split_whitespace().filter_map(|cpu| cpu.strip_prefix("CPU")?.parse().ok()).collect();
    let line = lines.find_map(|line| {
        let (number, rest) = line.trim_start().split_once(':')?;
        (number.parse() == Ok(irq)).then_some(rest)
    })?;
    let mut words = line.split_whitespace();
    let counts: Vec<u64> = words.by_ref().take(cpus.len()).map_while(|word| word.parse().ok()).collect();
    let name = line.split_whitespace().next_back()?.to_owned();
    if counts.len() != cpus.len() {
        return None;
    }
    let queue = irq::queue_of(&name).map(|(queue, _)| queue);
    let taken = cpus.into_iter().zip(counts).filter(|(_, count)| *count > 0).collect();
    Some(Interrupt { irq, name, queue, taken })
}

/// The kernel's counters by the names that they have in linux/if_link.h.
fn of_kernel(s: &Stats64) -> BTreeMap<String, u64> {
    [
        ("rx_packets", s.rx_packets),
        ("tx_packets", s.tx_packets),
        ("rx_bytes", s.rx_bytes),
        ("tx_bytes", s.tx_bytes),
        ("rx_errors", s.rx_errors),
        ("tx_errors", s.tx_errors),
        ("rx_dropped", s.rx_dropped),
        ("tx_dropped", s.tx_dropped),
        ("multicast", s.multicast),
        ("collisions", s.collisions),
        ("rx_length_errors", s.rx_length_errors),
        ("rx_over_errors", s.rx_over_errors),
        ("rx_crc_errors", s.rx_crc_errors),
        ("rx_frame_errors", s.rx_frame_errors),
        ("rx_fifo_errors", s.rx_fifo_errors),
        ("rx_missed_errors", s.rx_missed_errors),
        ("tx_aborted_errors", s.tx_aborted_errors),
        ("tx_carrier_errors", s.tx_carrier_errors),
        ("tx_fifo_errors", s.tx_fifo_errors),
        ("tx_heartbeat_errors", s.tx_heartbeat_errors),
        ("tx_window_errors", s.tx_window_errors),
        ("rx_nohandler", s.rx_nohandler),
        ("rx_otherhost_dropped", s.rx_otherhost_dropped),
    ]
    .map(|(name, value)| (name.to_owned(), value))
    .into()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn interrupts_by_cpu() {
        let table = "           CPU0       CPU2\n 38:  7  4697  PCI-MSIX-0000:00:03.0   1-edge      virtio2-input.0\n\
                     139:  0  1  PCI-MSIX  2-edge   virtio2-config\n 7: 3\nNMI:  0  0  Non-maskable interrupts\n";
        let first = interrupt(table, 38).unwrap();
        assert_eq!((first.name.as_str(), first.queue), ("virtio2-input.0", Some(0)));
        assert_eq!(first.taken, BTreeMap::from([(0, 7), (2, 4697)]));
        let second = interrupt(table, 139).unwrap();
        assert_eq!((second.queue, second.taken), (None, BTreeMap::from([(2, 1)])));
        assert_eq!((interrupt(table, 7), interrupt(table, 8), interrupt("", 1)), (None, None, None));
    }

    #[test]
    fn sensors_of_a_card() {
        let device = tempfile::tempdir().unwrap();
        assert_eq!(temperatures(device.path()), []);
        let monitor = device.path().join("hwmon/hwmon3");
        fs::create_dir_all(&monitor).unwrap();
        for (name, text) in [
            ("temp1_input", "61000\n"),
            ("temp1_crit", "105000\n"),
            ("temp2_input", "-1500\n"),
            ("temp2_label", "Module\n"),
            ("in0_input", "3300\n"),
            ("temp3_input", "rubbish\n"),
        ] {
            fs::write(monitor.join(name), text).unwrap();
        }
        let all = temperatures(device.path());
        assert_eq!(all.len(), 2, "{all:?}");
        assert_eq!((all[0].name.as_str(), all[0].celsius, all[0].high_celsius), ("temp1", 61.0, Some(105.0)));
        assert_eq!((all[1].name.as_str(), all[1].celsius, all[1].high_celsius), ("Module", -1.5, None));
    }

    #[test]
    fn a_name_that_is_there_twice() {
        let mut map = BTreeMap::new();
        for value in 1..=3 {
            add(&mut map, "fq 0:".to_owned(), value);
        }
        assert_eq!(
            map,
            BTreeMap::from([("fq 0:", 1), ("fq 0: #2", 2), ("fq 0: #3", 3)].map(|(n, v)| (n.to_owned(), v)))
        );
    }

    #[test]
    fn loopback_tells_little() {
        let lo = Snapshot::take("lo").unwrap();
        assert_eq!((lo.rings, lo.pcie, lo.link.duplex, &lo.module), (None, None, None, &None));
        assert!(lo.counters.ethtool.is_empty() && lo.counters.rtnl.contains_key("rx_dropped"));
        let text = serde_json::to_string(&lo).unwrap();
        assert!(!text.contains("null"), "{text}");
        assert_eq!(serde_json::from_str::<Snapshot>(&text).unwrap(), lo);
        assert!(Snapshot::take("wr-absent").is_err());
    }

    proptest::proptest! {
        #[test]
        fn any_table_is_read(text in "[ 0-9:CPUa-zé\n-]{0,80}", irq in 0u32..10) {
            let _ = interrupt(&text, irq);
        }
    }
}
