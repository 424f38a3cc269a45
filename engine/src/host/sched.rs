//! How the scheduler is to treat a worker: `--sched`, and memory that is never paged out.
#![forbid(unsafe_code)]

use std::fmt;
use std::str::FromStr;

use nix::sys::mman::{MlockAllFlags, mlockall};
use nix::sys::resource::{RLIM_INFINITY, Resource, getrlimit};

use super::privilege::{Capability, Privileges};
use super::read_number;
use crate::error::{Error, Result};
use crate::sys;

/// The priority of `fifo` without a number: above what is at 1, below the kernel's own threads at 99 and threaded interrupts at 50.
const PRIORITY: u8 = 40;

/// Scheduling policy of the workers.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum Policy {
    /// As every other task: SCHED_OTHER.
    #[default]
    Other,
    /// Before all others, until it waits: SCHED_FIFO at this priority, 1 to 99.
    Fifo(u8),
}

impl FromStr for Policy {
    type Err = Error;

    fn from_str(text: &str) -> Result<Self> {
        let fix = "write other, fifo or fifo:PRIORITY with a priority from 1 to 99";
        let wrong = || Error::usage(format!("scheduling policy {text:?} is not known")).fix(fix);
        match text.split_once(':').unwrap_or((text, "")) {
            ("other", "") if text == "other" => Ok(Self::Other),
            ("fifo", "") if text == "fifo" => Ok(Self::Fifo(PRIORITY)),
            ("fifo", priority) => match priority.parse() {
                Ok(priority @ 1..=99) => Ok(Self::Fifo(priority)),
                _ => Err(wrong()),
            },
            _ => Err(wrong()),
        }
    }
}

impl fmt::Display for Policy {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Other => f.write_str("other"),
            Self::Fifo(priority) => write!(f, "fifo:{priority}"),
        }
    }
}

impl Policy {
    /// Gives the calling thread this policy.
    ///
    /// # Errors
    /// Environment, with the ways to be allowed it, when the kernel refuses.
    pub fn apply(self) -> Result<()> {
        match self {
            Self::Other => Ok(()),
            Self::Fifo(priority) => sys::sched::fifo(priority).map_err(|e| {
                Error::environment(format!("--sched {self}: SCHED_FIFO is refused")).because(e).fix(format!(
                    "give CAP_SYS_NICE (setcap, root) or a limit: ulimit -r {priority}; where both are there, the cgroup lacks \
                     real-time budget: cpu.rt_runtime_us (cgroup v1), or run it in the root cgroup"
                ))
            }),
        }
    }

    /// Milliseconds of every second for which the kernel stops a worker of this policy that never waits, so that others get
    /// their CPU (kernel.sched_rt_runtime_us); `None`: never.
    pub fn throttled_ms(self) -> Option<u64> {
        let read = |name: &str| read_number::<i64>(format!("/proc/sys/kernel/sched_rt_{name}_us"));
        throttled_ms(self, read("runtime")?, read("period")?)
    }
}

fn throttled_ms(policy: Policy, runtime_us: i64, period_us: i64) -> Option<u64> {
    let stopped = u64::try_from(period_us.checked_sub(runtime_us).filter(|_| runtime_us >= 0)?).ok()?;
    let share = (stopped * 1000).checked_div(period_us.unsigned_abs())?;
    (policy != Policy::Other && share > 0).then_some(share)
}

/// Keeps all memory of this process, also what it will have, from being paged out, where that cannot make an allocation fail: with
/// CAP_IPC_LOCK or without a limit of locked memory. Whether it did.
pub fn lock_memory() -> bool {
    let unlimited = getrlimit(Resource::RLIMIT_MEMLOCK).is_ok_and(|(soft, _)| soft == RLIM_INFINITY);
    if !unlimited && !Privileges::read().has(Capability::CapIpcLock) {
        return false;
    }
    // On fault: memory that is never touched stays unused.
    let on_fault = MlockAllFlags::from_bits_retain(libc::MCL_ONFAULT);
    mlockall(MlockAllFlags::MCL_CURRENT | MlockAllFlags::MCL_FUTURE | on_fault).is_ok()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::Kind;

    #[test]
    fn policies_as_typed() {
        for (text, policy) in [
            ("other", Policy::Other),
            ("fifo", Policy::Fifo(40)),
            ("fifo:1", Policy::Fifo(1)),
            ("fifo:99", Policy::Fifo(99)),
        ] {
            assert_eq!(text.parse::<Policy>().unwrap(), policy);
            assert_eq!(policy.to_string().parse::<Policy>().unwrap(), policy);
        }
        for text in ["", "fifo:", "fifo:0", "fifo:100", "fifo:x", "rr", "other:1", "other:", "FIFO"] {
            let error = text.parse::<Policy>().unwrap_err();
            assert!(error.kind == Kind::Usage && error.fix.is_some(), "{text}: {error}");
        }
    }

    #[test]
    fn fifo_is_granted_or_refused_with_a_reason() {
        // In a thread of its own, which takes the policy with it when it ends.
        std::thread::spawn(|| match Policy::Fifo(1).apply() {
            Ok(()) => assert!(sys::sched::is_fifo()),
            Err(error) => {
                assert!(!sys::sched::is_fifo());
                assert_eq!(error.kind, Kind::Environment);
                assert!(error.what.contains("fifo:1") && error.fix.is_some(), "{error}");
            }
        })
        .join()
        .unwrap();
        assert!(!sys::sched::is_fifo());
    }

    #[test]
    fn how_long_the_kernel_stops_it() {
        let fifo = Policy::Fifo(1);
        assert_eq!(throttled_ms(fifo, 950_000, 1_000_000), Some(50));
        assert_eq!(throttled_ms(fifo, -1, 1_000_000), None);
        assert_eq!(throttled_ms(fifo, 1_000_000, 1_000_000), None);
        assert_eq!(throttled_ms(fifo, 0, 0), None);
        assert_eq!(throttled_ms(Policy::Other, 950_000, 1_000_000), None);
    }
}
