//! The interrupts of a NIC's queues, and the CPUs that serve them.
//!
//! Which interrupt is which queue's only its name in /proc/interrupts tells, and every driver has names of its own:
//! `mlx5_comp3@pci:0000:3b:00.0`, `i40e-ens1f0-TxRx-3`, `eth0-rx-3`, `virtio2-input.3`.
#![forbid(unsafe_code)]

use std::fs;
use std::path::Path;

use super::cpu::parse_cpu_list;
use super::read_line;

/// What a queue's interrupt, or its worker, is for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Direction {
    /// Packets that arrive.
    Receive,
    /// Packets that leave.
    Transmit,
}

/// The interrupt of a queue.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct QueueIrq {
    /// Its number.
    pub irq: u32,
    /// The NIC queue.
    pub queue: u32,
    /// What for; `None`: both directions.
    pub direction: Option<Direction>,
    /// The CPUs that it is delivered to.
    pub cpus: Vec<usize>,
}

impl QueueIrq {
    /// The interrupts of the queues of the device whose directory in /sys is `device`; `root` is `/`, or a directory with a `proc`
    /// like the kernel's in it. Interrupts whose names tell no queue are left out.
    pub fn read(root: &Path, device: &Path) -> Vec<Self> {
        let table = fs::read_to_string(root.join("proc/interrupts")).unwrap_or_default();
        let mut all: Vec<Self> = fs::read_dir(device.join("msi_irqs"))
            .into_iter()
            .flatten()
            .flatten()
            .filter_map(|entry| {
                let irq = entry.file_name().to_str()?.parse().ok()?;
                let (queue, direction) = queue_of(name_of(&table, irq)?)?;
                Some(Self { irq, queue, direction, cpus: served_by(root, irq) })
            })
            .collect();
        all.sort_by_key(|i| (i.queue, i.irq));
        all
    }

    /// Whether it is that of NIC queue `queue` in this direction.
    pub fn is_of(&self, queue: u32, direction: Direction) -> bool {
        self.queue == queue && self.direction.is_none_or(|d| d == direction)
    }
}

/// The CPUs that the interrupt is delivered to: where the kernel tells, those that it chose from its mask.
fn served_by(root: &Path, irq: u32) -> Vec<usize> {
    let directory = root.join(format!("proc/irq/{irq}"));
    ["effective_affinity_list", "smp_affinity_list"]
        .iter()
        .find_map(|name| parse_cpu_list(&read_line(directory.join(name))?).ok())
        .unwrap_or_default()
}

/// The name of the interrupt's action in the text of /proc/interrupts: the last word of its line.
fn name_of(table: &str, irq: u32) -> Option<&str> {
    let lines = table.lines().filter_map(|line| line.trim_start().split_once(':'));
    let (_, rest) = lines.into_iter().find(|(number, _)| number.parse() == Ok(irq))?;
    rest.split_whitespace().next_back()
}

/// The queue and direction that an interrupt's name tells of.
pub(super) fn queue_of(name: &str) -> Option<(u32, Option<Direction>)> {
    // mlx5 and others add where the device is.
    let name = name.split_once('@').map_or(name, |(name, _)| name).to_ascii_lowercase();
    let words = name.trim_end_matches(|c: char| c.is_ascii_digit());
    let queue = name[words.len()..].parse().ok()?;
    let ends = |suffixes: &[&str]| suffixes.iter().any(|s| words.ends_with(s));
    if ends(&["txrx-", "tx-rx-", "rxtx-", "rx-tx-", "comp", "-q", "-queue", "-queue-"]) {
        Some((queue, None))
    } else if ends(&["rx-", "input.", "rx."]) {
        Some((queue, Some(Direction::Receive)))
    } else if ends(&["tx-", "output.", "tx."]) {
        Some((queue, Some(Direction::Transmit)))
    } else {
        None
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_that_drivers_give() {
        use Direction::{Receive, Transmit};
        for (name, queue) in [
            ("mlx5_comp3@pci:0000:3b:00.0", Some((3, None))),
            ("i40e-ens1f0-TxRx-11", Some((11, None))),
            ("ens1f0-TxRx-3", Some((3, None))),
            ("eth0-Tx-Rx-0", Some((0, None))),
            ("eth0-rx-2", Some((2, Some(Receive)))),
            ("eth0-tx-2", Some((2, Some(Transmit)))),
            ("virtio2-input.0", Some((0, Some(Receive)))),
            ("virtio2-output.15", Some((15, Some(Transmit)))),
            ("virtio2-config", None),
            ("mlx5_async0@pci:0000:3b:00.0", None),
            ("i40e-0000:3b:00.0:misc", None),
            ("eth0", None),
            ("nvme0q3", None),
            ("", None),
            ("eth0-rx-99999999999", None),
        ] {
            assert_eq!(queue_of(name), queue, "{name}");
        }
    }

    #[test]
    fn names_stand_at_the_end_of_their_lines() {
        let table = "           CPU0       CPU1\n 38:  0  4697  PCI-MSIX-0000:00:03.0   1-edge      virtio2-input.0\n\
                     139:  0  1  PCI-MSIX  2-edge   virtio2-output.0\nNMI:  0  0  Non-maskable interrupts\n";
        assert_eq!(name_of(table, 38), Some("virtio2-input.0"));
        assert_eq!(name_of(table, 139), Some("virtio2-output.0"));
        assert_eq!(name_of(table, 39), None);
    }

    proptest::proptest! {
        #[test]
        fn any_table_is_read(text in "[ 0-9:a-zé\n-]{0,80}", irq in 0u32..10) {
            let _ = name_of(&text, irq).and_then(queue_of);
        }
    }
}
