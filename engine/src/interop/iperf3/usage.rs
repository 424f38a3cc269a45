//! CPU time of this process, as iperf3 tells it: percent of the time that has passed.
#![forbid(unsafe_code)]

use std::time::Instant;

use nix::sys::resource::{UsageWho, getrusage};
use nix::sys::time::TimeValLike;

use super::event::Cpu;

/// Where a measurement begins.
#[derive(Debug)]
pub(super) struct Usage {
    at: Instant,
    user_us: i64,
    system_us: i64,
}

impl Usage {
    /// Here.
    pub(super) fn begin() -> Self {
        let (user_us, system_us) = now();
        Self { at: Instant::now(), user_us, system_us }
    }

    /// Since then.
    pub(super) fn since(&self) -> Cpu {
        let (user_us, system_us) = now();
        let percent = |us: i64| us as f64 / self.at.elapsed().as_secs_f64().max(1e-6) / 1e4;
        let (user, system) = (percent(user_us - self.user_us), percent(system_us - self.system_us));
        Cpu { total: user + system, user, system }
    }
}

fn now() -> (i64, i64) {
    getrusage(UsageWho::RUSAGE_SELF).map_or((0, 0), |usage| {
        (usage.user_time().num_microseconds(), usage.system_time().num_microseconds())
    })
}
