//! CPUs: which this process may use, lists of them, and pinning a worker to one.
#![forbid(unsafe_code)]

use std::io;
use std::path::Path;

use nix::sched::{CpuSet, sched_getaffinity, sched_setaffinity};
use nix::unistd::Pid;

use super::read_line;
use super::topology::Topology;
use crate::error::{Error, Result};

/// The CPUs of the machine, and those of them that this process may use.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Cpus {
    /// CPUs that the calling thread may run on: its mask, capped by the cpuset.
    pub allowed: Vec<usize>,
    /// All of them.
    pub topology: Topology,
}

impl Cpus {
    /// Reads them.
    ///
    /// # Errors
    /// When the kernel does not tell the thread's CPU mask.
    pub fn read() -> Result<Self> {
        let mask =
            mask().map_err(|e| Error::environment("cannot read this process's CPU mask").because(e))?;
        let topology = Topology::read(Path::new("/"));
        let allowed = with_isolated(mask, &topology.isolated, &topology.online);
        Ok(Self { allowed, topology })
    }
}

/// CPUs that are online, whether or not this process may use them.
pub fn online() -> usize {
    read_line("/sys/devices/system/cpu/online").and_then(|l| parse_cpu_list(&l).ok()).map_or(1, |l| l.len())
}

/// Pins the calling thread to `cpu`, and looks whether it took.
///
/// # Errors
/// Environment, naming the CPU, when the kernel or the cpuset refuses.
pub fn pin(cpu: usize) -> Result<()> {
    let taken = core_affinity::set_for_current(core_affinity::CoreId { id: cpu });
    let reason = io::Error::last_os_error();
    match mask() {
        Ok(now) if taken && now == [cpu] => Ok(()),
        Ok(now) => {
            let error = Error::environment(format!("cannot pin a worker to CPU {cpu}"))
                .fix(format!("choose from CPUs {}", format_cpu_list(&now)));
            Err(if taken { error } else { error.because(reason) })
        }
        Err(e) => Err(Error::environment(format!("cannot pin a worker to CPU {cpu}")).because(e)),
    }
}

/// Parses the kernel's list format, `2-5,8`: ascending and without doubles. An empty text is an empty list.
///
/// # Errors
/// Usage, naming the part that is no number or range.
pub fn parse_cpu_list(text: &str) -> Result<Vec<usize>> {
    parse_list(text, "CPU", CpuSet::count() - 1)
}

/// As [`parse_cpu_list`], for things called `what`, numbered up to `most`.
///
/// # Errors
/// As [`parse_cpu_list`].
pub fn parse_list(text: &str, what: &str, most: usize) -> Result<Vec<usize>> {
    let mut cpus = Vec::new();
    for part in text.trim().split(',').filter(|_| !text.trim().is_empty()) {
        let wrong =
            |why: &str| Error::usage(format!("{what} list {text}: {part:?} {why}")).fix("write it as 2-5,8");
        let number =
            |digits: &str| digits.trim().parse::<usize>().map_err(|_| wrong(&format!("is no {what} number")));
        let (first, last) = match part.split_once('-') {
            Some((first, last)) => (number(first)?, number(last)?),
            None => (number(part)?, number(part)?),
        };
        if first > last {
            return Err(wrong("runs backwards"));
        }
        if last > most {
            return Err(wrong(&format!("is beyond the last possible {what}, {most}")));
        }
        cpus.extend(first..=last);
    }
    cpus.sort_unstable();
    cpus.dedup();
    Ok(cpus)
}

/// The kernel's list format of ascending CPUs: `2-5,8`.
pub fn format_cpu_list(cpus: &[usize]) -> String {
    let mut parts = Vec::new();
    for chunk in cpus.chunk_by(|a, b| a + 1 == *b) {
        match chunk {
            [one] => parts.push(one.to_string()),
            [first, .., last] => parts.push(format!("{first}-{last}")),
            [] => {}
        }
    }
    parts.join(",")
}

/// The calling thread's mask; the kernel caps it by the cpuset.
fn mask() -> io::Result<Vec<usize>> {
    let set = sched_getaffinity(Pid::from_raw(0))?;
    Ok((0..CpuSet::count()).filter(|cpu| set.is_set(*cpu).unwrap_or(false)).collect())
}

/// On a machine booted with `isolcpus=` every process starts with a mask that lacks the isolated CPUs, though it may use
/// them. Where nothing but that narrowed the mask, they are added, as far as the cpuset lets a thread move there.
fn with_isolated(mut mask: Vec<usize>, isolated: &[usize], online: &[usize]) -> Vec<usize> {
    let narrowed = online.iter().any(|cpu| !isolated.contains(cpu) && !mask.contains(cpu));
    if !narrowed && isolated.iter().any(|cpu| !mask.contains(cpu)) {
        mask.extend(reachable(isolated));
        mask.sort_unstable();
        mask.dedup();
    }
    mask
}

/// Those of `cpus` that a thread of this process may move to, found out by one that tries.
fn reachable(cpus: &[usize]) -> Vec<usize> {
    let attempt = || -> io::Result<Vec<usize>> {
        let mut set = CpuSet::new();
        for cpu in cpus {
            set.set(*cpu)?;
        }
        sched_setaffinity(Pid::from_raw(0), &set)?;
        mask()
    };
    std::thread::scope(|scope| scope.spawn(attempt).join().map(io::Result::unwrap_or_default))
        .unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lists_as_the_kernel_writes_them() {
        for (text, cpus) in
            [("", vec![]), ("0", vec![0]), ("2-5,8\n", vec![2, 3, 4, 5, 8]), ("8,2-3,3", vec![2, 3, 8])]
        {
            assert_eq!(parse_cpu_list(text).unwrap(), cpus, "{text:?}");
        }
        assert_eq!(format_cpu_list(&[2, 3, 4, 5, 8]), "2-5,8");
    }

    #[test]
    fn bad_lists_are_named() {
        for (text, says) in [
            ("a", "is no CPU number"),
            ("1,,2", "is no CPU number"),
            ("5-2", "backwards"),
            ("0-99999999999", "beyond"),
            ("-3", "is no CPU number"),
        ] {
            let error = parse_cpu_list(text).unwrap_err();
            assert!(error.what.contains(says), "{text}: {error}");
        }
    }

    #[test]
    fn isolation_alone_narrows_nothing_that_was_asked_for() {
        // A mask that somebody narrowed stays as it is.
        assert_eq!(with_isolated(vec![0], &[3], &[0, 1, 2, 3]), [0]);
        assert_eq!(with_isolated(vec![0, 1], &[], &[0, 1]), [0, 1]);
    }

    proptest::proptest! {
        #[test]
        fn lists_round_trip(cpus in proptest::collection::btree_set(0usize..1024, 0..60)) {
            let cpus = cpus.into_iter().collect::<Vec<_>>();
            proptest::prop_assert_eq!(parse_cpu_list(&format_cpu_list(&cpus)).unwrap(), cpus);
        }

        #[test]
        fn any_text_is_parsed_or_refused(text in "[0-9,\\- a\n]{0,30}") {
            if let Ok(cpus) = parse_cpu_list(&text) {
                proptest::prop_assert_eq!(parse_cpu_list(&format_cpu_list(&cpus)).unwrap(), cpus);
            }
        }
    }
}
