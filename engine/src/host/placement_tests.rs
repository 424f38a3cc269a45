use std::fs;
use std::sync::LazyLock;

use tempfile::TempDir;

use super::super::topology::Topology;
use super::*;
use crate::Kind;

/// A machine of files: two nodes of four CPUs and two cores each, CPU 9 offline, a NIC `ens1` on node 1.
struct Machine {
    root: TempDir,
}

impl Machine {
    fn new(isolated: &str) -> Self {
        let machine = Self { root: TempDir::new().unwrap() };
        machine.write("sys/devices/system/cpu/present", "0-9");
        machine.write("sys/devices/system/cpu/online", "0-7");
        machine.write("sys/devices/system/cpu/isolated", isolated);
        for cpu in 0..8 {
            let first = cpu / 4 * 4 + cpu % 2;
            let path = format!("sys/devices/system/cpu/cpu{cpu}/topology/thread_siblings_list");
            machine.write(&path, &format!("{first},{}", first + 2));
        }
        machine.write("sys/devices/system/node/node0/cpulist", "0-3");
        machine.write("sys/devices/system/node/node1/cpulist", "4-7");
        machine.write("sys/devices/system/node/online", "0-1");
        machine.write("sys/class/net/ens1/device/numa_node", "1");
        machine.write("proc/interrupts", "      CPU0  CPU1\nNMI:  0  0  Non-maskable interrupts\n");
        machine
    }

    fn write(&self, path: &str, text: &str) {
        let path = self.root.path().join(path);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(path, format!("{text}\n")).unwrap();
    }

    /// Adds an interrupt of the NIC.
    fn irq(&self, number: u32, name: &str, cpus: &str) {
        self.write(&format!("sys/class/net/ens1/device/msi_irqs/{number}"), "msix");
        self.write(&format!("proc/irq/{number}/smp_affinity_list"), "0-7");
        self.write(&format!("proc/irq/{number}/effective_affinity_list"), cpus);
        let path = self.root.path().join("proc/interrupts");
        let table = fs::read_to_string(&path).unwrap();
        fs::write(path, format!("{table} {number}:  5  7  PCI-MSIX-0000:3b:00.0 2-edge {name}\n")).unwrap();
    }

    fn cpus(&self) -> Cpus {
        let topology = Topology::read(self.root.path());
        Cpus { allowed: topology.online.clone(), topology }
    }

    fn device(&self) -> Device {
        let device = self.root.path().join("sys/class/net/ens1/device");
        Device {
            node: super::super::read_number(device.join("numa_node")),
            irqs: QueueIrq::read(self.root.path(), &device),
        }
    }

    fn place(&self, request: &Request<'_>) -> Vec<Place> {
        place(&self.cpus(), &self.device(), request).unwrap()
    }
}

fn receivers(queues: &[Option<u32>]) -> Request<'_> {
    Request { queues, direction: Direction::Receive, wanted: &[], on_irq_cpu: false }
}

fn senders(queues: &[Option<u32>]) -> Request<'_> {
    Request { direction: Direction::Transmit, ..receivers(queues) }
}

fn numbers(places: &[Place]) -> Vec<usize> {
    places.iter().map(|p| p.cpu).collect()
}

const SOCKETS: [Option<u32>; 10] = [None; 10];

#[test]
fn the_tree_is_read() {
    let machine = Machine::new("6-7");
    machine.irq(41, "mlx5_comp1@pci:0000:3b:00.0", "5");
    machine.irq(40, "mlx5_comp0@pci:0000:3b:00.0", "4");
    machine.irq(39, "mlx5_async0@pci:0000:3b:00.0", "0");
    let topology = machine.cpus().topology;
    assert_eq!((topology.present.len(), topology.online.len()), (10, 8));
    assert_eq!(topology.isolated, [6, 7]);
    assert_eq!((topology.node_of(3), topology.node_of(4), topology.node_of(9)), (Some(0), Some(1), None));
    assert_eq!((topology.core_of(2), topology.core_of(5), topology.core_of(7)), (0, 5, 5));
    let device = machine.device();
    assert_eq!(device.node, Some(1));
    let irqs: Vec<_> = device.irqs.iter().map(|i| (i.irq, i.queue, i.cpus.clone())).collect();
    assert_eq!(irqs, [(40, 0, vec![4]), (41, 1, vec![5])]);
}

#[test]
fn a_tree_without_anything_leaves_the_mask() {
    let empty = TempDir::new().unwrap();
    let cpus = Cpus { allowed: vec![3, 5], topology: Topology::read(empty.path()) };
    let places = place(&cpus, &Device::default(), &receivers(&SOCKETS[..3])).unwrap();
    assert_eq!(numbers(&places), [3, 5, 3]);
    assert_eq!(places[0].why, "first free one of 3,5");
    assert_eq!(places[2].why, "shared with another worker");
    let none = Cpus { allowed: vec![], ..cpus };
    let error = place(&none, &Device::default(), &receivers(&SOCKETS[..1])).unwrap_err();
    assert_eq!(error.kind, Kind::Environment);
}

#[test]
fn the_nics_node_then_cores_then_siblings() {
    let machine = Machine::new("");
    // Cores of node 1 are 4+6 and 5+7, of node 0 0+2 and 1+3: no core twice while another is free.
    assert_eq!(numbers(&machine.place(&receivers(&SOCKETS[..9]))), [4, 5, 0, 1, 6, 7, 2, 3, 4]);
    assert_eq!(numbers(&machine.place(&senders(&SOCKETS[..4]))), [7, 6, 3, 2]);
    let places = machine.place(&receivers(&SOCKETS[..9]));
    assert_eq!((places[0].numa_node, places[0].why.as_str()), (Some(1), "node 1 as the NIC"));
    assert_eq!(places[2].why, "node 0, not 1 as the NIC");
    assert_eq!(places[4].why, "node 1 as the NIC, its core is shared with another worker");
    assert_eq!(places[8].why, "node 1 as the NIC, shared with another worker");
}

#[test]
fn isolated_ones_of_the_nics_node_first() {
    let machine = Machine::new("1,6-7");
    let places = machine.place(&receivers(&SOCKETS[..3]));
    assert_eq!(numbers(&places), [6, 7, 1]);
    assert_eq!(places[0].why, "node 1 as the NIC, isolated");
    assert_eq!(places[2].why, "node 0, not 1 as the NIC, isolated");
}

#[test]
fn away_from_the_queues_interrupt_or_on_it() {
    let machine = Machine::new("");
    machine.irq(40, "ens1-TxRx-0", "4");
    machine.irq(41, "ens1-TxRx-1", "5");
    let queues = [Some(0), Some(1)];
    let places = machine.place(&receivers(&queues));
    assert_eq!(numbers(&places), [6, 7], "neither serves an interrupt of the NIC");
    assert_eq!(places[1].why, "node 1 as the NIC, away from interrupt 41 on CPU 5");
    let request = Request { on_irq_cpu: true, ..receivers(&queues) };
    let places = machine.place(&request);
    assert_eq!(numbers(&places), [4, 5]);
    assert_eq!(places[0].why, "node 1 as the NIC, serves the queue's interrupt 40");
    // A queue whose interrupt nobody knows gets what is best otherwise.
    let places = machine.place(&Request { queues: &[Some(7)], ..request });
    assert_eq!(places[0].why, "node 1 as the NIC, the queue's interrupt is not known");
}

#[test]
fn each_direction_has_its_own_interrupt() {
    let machine = Machine::new("4-5");
    machine.irq(50, "virtio2-input.0", "4");
    machine.irq(51, "virtio2-output.0", "5");
    let on = |request: Request<'_>| machine.place(&Request { on_irq_cpu: true, ..request })[0].cpu;
    assert_eq!((on(receivers(&[Some(0)])), on(senders(&[Some(0)]))), (4, 5));
    // Both are isolated and serve one; a worker's own disturbs it more.
    assert_eq!(machine.place(&receivers(&[Some(0)]))[0].cpu, 5);
    assert_eq!(machine.place(&senders(&[Some(0)]))[0].cpu, 4);
}

#[test]
fn what_was_asked_for_is_taken_in_its_order() {
    let machine = Machine::new("6");
    let request = Request { wanted: &[5, 2], ..receivers(&SOCKETS[..3]) };
    let places = machine.place(&request);
    assert_eq!(numbers(&places), [5, 2, 5]);
    assert_eq!((places[1].why.as_str(), places[1].numa_node), ("asked for", Some(0)));
}

#[test]
fn cpus_that_nothing_can_run_on_are_named() {
    let machine = Machine::new("");
    let cpus = Cpus { allowed: (0..6).collect(), ..machine.cpus() };
    for (cpu, what, fix) in [
        (99, "CPU 99 does not exist: this machine has 0-9", "choose from 0-5"),
        (9, "CPU 9 is offline", "echo 1 > /sys/devices/system/cpu/cpu9/online"),
        (7, "CPU 7 is not one of those that this process may use, 0-5", "taskset"),
    ] {
        let request = Request { wanted: &[0, cpu], ..receivers(&SOCKETS[..1]) };
        let error = place(&cpus, &machine.device(), &request).unwrap_err();
        assert_eq!((error.kind, error.what.as_str()), (Kind::Usage, what));
        assert!(error.fix.as_deref().is_some_and(|f| f.contains(fix)), "{error}");
    }
}

proptest::proptest! {
    #[test]
    fn no_core_is_shared_while_another_is_free(
        isolated in proptest::collection::btree_set(0usize..8, 0..8), workers in 1usize..10, sends: bool,
    ) {
        static TREE: LazyLock<Cpus> = LazyLock::new(|| Machine::new("").cpus());
        let mut cpus = TREE.clone();
        cpus.topology.isolated = isolated.into_iter().collect();
        let request = if sends { senders(&SOCKETS[..workers]) } else { receivers(&SOCKETS[..workers]) };
        let device = Device { node: Some(1), irqs: vec![] };
        let chosen = numbers(&place(&cpus, &device, &request).unwrap());
        let different = |of: &dyn Fn(usize) -> usize| {
            chosen.iter().map(|&c| of(c)).collect::<std::collections::BTreeSet<_>>().len()
        };
        proptest::prop_assert_eq!(different(&|c| cpus.topology.core_of(c)), workers.min(4));
        proptest::prop_assert_eq!(different(&|c| c), workers.min(8));
    }
}
