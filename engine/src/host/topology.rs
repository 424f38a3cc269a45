//! The CPUs of the machine: which there are, which are online or isolated, which share a core, and their NUMA nodes.
#![forbid(unsafe_code)]

use std::collections::BTreeMap;
use std::path::Path;

use super::cpu::parse_cpu_list;
use super::read_line;

/// CPUs as /sys/devices/system tells of them (Documentation/admin-guide/cputopology.rst). What it does not tell is empty.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Topology {
    /// CPUs that are there.
    pub present: Vec<usize>,
    /// Those of them that are in use.
    pub online: Vec<usize>,
    /// Those that the scheduler leaves alone (`isolcpus=`, isolated cpuset partitions).
    pub isolated: Vec<usize>,
    /// NUMA node of each CPU.
    pub nodes: BTreeMap<usize, u32>,
    /// The first CPU of the core that each online CPU is a hyper-thread of.
    pub cores: BTreeMap<usize, usize>,
}

impl Topology {
    /// Reads it; `root` is `/`, or a directory with a `sys` like the kernel's in it.
    pub fn read(root: &Path) -> Self {
        let cpus = root.join("sys/devices/system/cpu");
        let list = |path: &Path| read_line(path).and_then(|l| parse_cpu_list(&l).ok()).unwrap_or_default();
        let online = list(&cpus.join("online"));
        let core = |cpu: usize| {
            let siblings = list(&cpus.join(format!("cpu{cpu}/topology/thread_siblings_list")));
            siblings.first().copied().unwrap_or(cpu)
        };
        Self {
            present: list(&cpus.join("present")),
            isolated: list(&cpus.join("isolated")),
            nodes: nodes(&root.join("sys/devices/system/node")),
            cores: online.iter().map(|&cpu| (cpu, core(cpu))).collect(),
            online,
        }
    }

    /// NUMA node of `cpu`, where the machine has nodes.
    pub fn node_of(&self, cpu: usize) -> Option<u32> {
        self.nodes.get(&cpu).copied()
    }

    /// A name for the core of `cpu`: its first CPU.
    pub fn core_of(&self, cpu: usize) -> usize {
        self.cores.get(&cpu).copied().unwrap_or(cpu)
    }
}

fn nodes(directory: &Path) -> BTreeMap<usize, u32> {
    let mut nodes = BTreeMap::new();
    for entry in std::fs::read_dir(directory).into_iter().flatten().flatten() {
        let name = entry.file_name();
        let Some(node) = name.to_str().and_then(|n| n.strip_prefix("node")?.parse().ok()) else { continue };
        let list = read_line(entry.path().join("cpulist")).and_then(|l| parse_cpu_list(&l).ok());
        nodes.extend(list.unwrap_or_default().into_iter().map(|cpu| (cpu, node)));
    }
    nodes
}
