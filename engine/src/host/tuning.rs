//! How the machine is tuned, as far as it bears on packets at line rate. What a machine does not tell is absent.
#![forbid(unsafe_code)]

use std::collections::BTreeMap;
use std::path::Path;

use serde::Serialize;

use super::cpu::{format_cpu_list, parse_cpu_list};
use super::{read_line, read_number};

/// Frequency, idle states, huge pages, kernel command line.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize)]
pub struct Tuning {
    /// Frequency governors, and the CPUs that have each, as a list: `performance` → `0-7`.
    pub governors: BTreeMap<String, String>,
    /// Time to wake from the deepest idle state that is not disabled on CPU 0, in µs.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub deepest_idle_us: Option<u32>,
    /// CPUs that share a core with a lower one (hyper-threads), as a list.
    pub sibling_cpus: String,
    /// CPUs without the timer tick while one task runs (`nohz_full=`), as a list.
    pub nohz_full_cpus: String,
    /// Huge pages of the default size.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub huge_pages: Option<HugePages>,
    /// The IOMMU translates for the kernel's own drivers too: neither `iommu=pt` nor off.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub iommu_translates: Option<bool>,
}

/// Huge pages of the default size.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
pub struct HugePages {
    /// In the pool.
    pub total: u64,
    /// Of them, unused.
    pub free: u64,
    /// Size of one in bytes.
    pub size_bytes: u64,
}

impl Tuning {
    /// Reads it from `/proc` and `/sys` under `root`, which is `/` but in tests.
    pub fn read(root: &Path) -> Self {
        let cpus = root.join("sys/devices/system/cpu");
        let list = |name: &str| read_line(cpus.join(name)).and_then(|l| parse_cpu_list(&l).ok());
        let online = list("online").unwrap_or_default();
        Self {
            governors: governors(&cpus, &online),
            deepest_idle_us: deepest_idle(&cpus.join("cpu0/cpuidle")),
            sibling_cpus: format_cpu_list(&siblings(&cpus, &online)),
            nohz_full_cpus: format_cpu_list(&list("nohz_full").unwrap_or_default()),
            huge_pages: huge_pages(&root.join("proc/meminfo")),
            iommu_translates: iommu_translates(root),
        }
    }
}

fn governors(cpus: &Path, online: &[usize]) -> BTreeMap<String, String> {
    let mut by_name: BTreeMap<String, Vec<usize>> = BTreeMap::new();
    for &cpu in online {
        if let Some(governor) = read_line(cpus.join(format!("cpu{cpu}/cpufreq/scaling_governor"))) {
            by_name.entry(governor).or_default().push(cpu);
        }
    }
    by_name.into_iter().map(|(name, cpus)| (name, format_cpu_list(&cpus))).collect()
}

fn deepest_idle(states: &Path) -> Option<u32> {
    let states = std::fs::read_dir(states).ok()?.flatten().map(|entry| entry.path());
    states
        .filter(|s| read_number(s.join("disable")) != Some(1))
        .filter_map(|s| read_number(s.join("latency")))
        .max()
}

fn siblings(cpus: &Path, online: &[usize]) -> Vec<usize> {
    let is_second = |cpu: usize| {
        let path = cpus.join(format!("cpu{cpu}/topology/thread_siblings_list"));
        let core = read_line(path).and_then(|l| parse_cpu_list(&l).ok()).unwrap_or_default();
        core.first().is_some_and(|&first| first < cpu)
    };
    online.iter().copied().filter(|&cpu| is_second(cpu)).collect()
}

/// The pool of huge pages, as the file `meminfo` has it.
pub(crate) fn huge_pages(meminfo: &Path) -> Option<HugePages> {
    let text = std::fs::read_to_string(meminfo).ok()?;
    let field = |name: &str| -> Option<u64> {
        let line = text.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(':'))?;
        line.split_whitespace().next()?.parse().ok()
    };
    Some(HugePages {
        total: field("HugePages_Total")?,
        free: field("HugePages_Free")?,
        size_bytes: field("Hugepagesize")?.checked_mul(1024)?,
    })
}

/// Groups say that an IOMMU is at work; the command line, or the kernel's default, whether it passes the host through.
fn iommu_translates(root: &Path) -> Option<bool> {
    let groups = std::fs::read_dir(root.join("sys/kernel/iommu_groups")).ok()?;
    let mut types = groups.flatten().filter_map(|group| read_line(group.path().join("type")));
    Some(types.any(|kind| kind.starts_with("DMA")))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn tree(files: &[(&str, &str)]) -> tempfile::TempDir {
        let root = tempfile::tempdir().unwrap();
        for (path, text) in files {
            let path = root.path().join(path);
            std::fs::create_dir_all(path.parent().unwrap()).unwrap();
            std::fs::write(path, text).unwrap();
        }
        root
    }

    #[test]
    fn a_machine_that_tells_nothing() {
        assert_eq!(Tuning::read(tree(&[]).path()), Tuning::default());
    }

    #[test]
    fn a_server() {
        const CPU: &str = "sys/devices/system/cpu";
        let mut files = vec![
            (format!("{CPU}/online"), "0-3\n"),
            (format!("{CPU}/nohz_full"), "2-3\n"),
            (format!("{CPU}/cpu0/cpuidle/state0/latency"), "2\n"),
            (format!("{CPU}/cpu0/cpuidle/state1/latency"), "133\n"),
            (format!("{CPU}/cpu0/cpuidle/state2/latency"), "890\n"),
            (format!("{CPU}/cpu0/cpuidle/state2/disable"), "1\n"),
            (
                "proc/meminfo".to_owned(),
                "MemTotal: 5 kB\nHugePages_Total:   64\nHugePages_Free: 60\nHugepagesize:  2048 kB\n",
            ),
            ("sys/kernel/iommu_groups/0/type".to_owned(), "DMA-FQ\n"),
        ];
        for (cpu, governor, core) in [
            (0, "performance\n", "0,2\n"),
            (1, "powersave\n", "1,3\n"),
            (2, "performance\n", "0,2\n"),
            (3, "powersave\n", "1,3\n"),
        ] {
            files.push((format!("{CPU}/cpu{cpu}/cpufreq/scaling_governor"), governor));
            files.push((format!("{CPU}/cpu{cpu}/topology/thread_siblings_list"), core));
        }
        let files = files.iter().map(|(path, text)| (path.as_str(), *text)).collect::<Vec<_>>();
        let tuning = Tuning::read(tree(&files).path());
        assert_eq!(
            tuning.governors,
            [("performance".to_owned(), "0,2".to_owned()), ("powersave".to_owned(), "1,3".to_owned())].into()
        );
        assert_eq!(tuning.deepest_idle_us, Some(133), "the deepest is disabled");
        assert_eq!(tuning.sibling_cpus, "2-3");
        assert_eq!(tuning.nohz_full_cpus, "2-3");
        assert_eq!(tuning.huge_pages, Some(HugePages { total: 64, free: 60, size_bytes: 2 << 20 }));
        assert_eq!(tuning.iommu_translates, Some(true));
        let passed = tree(&[("sys/kernel/iommu_groups/0/type", "identity\n")]);
        assert_eq!(Tuning::read(passed.path()).iommu_translates, Some(false));
    }
}
