//! What the kernel drops of one run's own packets, from the moment that the run is ready until the path is quiet.
#![forbid(unsafe_code)]

use std::net::SocketAddr;
use std::thread;
use std::time::Duration;

use super::watch::{DropCount, Side, Watch, difference};
use crate::error::{Error, Result};
use crate::host::privilege::{Privileges, Purpose, SETCAP};

/// Time between two readings that have to be equal.
const PAUSE: Duration = Duration::from_millis(20);

/// Readings at most: other traffic to the same destinations may go on for ever.
const READINGS: usize = 10;

/// A watch with its baseline.
#[derive(Debug)]
pub(crate) struct Witness {
    watch: Watch,
    before: Vec<DropCount>,
}

impl Witness {
    /// Watches datagrams to `destinations` on behalf of `side`.
    ///
    /// # Errors
    /// Environment, when this process may not or this kernel cannot.
    pub(crate) fn start(side: Side, destinations: &[SocketAddr]) -> Result<Self> {
        if !Privileges::read().allows(Purpose::Drops) {
            return Err(Error::environment("counting the kernel's drops takes CAP_BPF and CAP_PERFMON")
                .fix(format!("run as root, or: {SETCAP}")));
        }
        Ok(Self { watch: Watch::start_on(side, destinations)?, before: Vec::new() })
    }

    /// What was dropped before now is not of this run.
    ///
    /// # Errors
    /// As [`Watch::read`].
    pub(crate) fn begin(&mut self) -> Result<()> {
        self.before = self.watch.read()?;
        Ok(())
    }

    /// What was dropped since it began, of watched destinations and at XDP; waits until two readings are equal.
    /// Interfaces have names if they are in the calling thread's namespace.
    ///
    /// # Errors
    /// As [`Watch::read`].
    pub(crate) fn settled(&self) -> Result<Vec<DropCount>> {
        let mut last = self.now()?;
        for _ in 1..READINGS {
            thread::sleep(PAUSE);
            let next = self.now()?;
            let same = difference(&last, &next).is_empty();
            last = next;
            if same {
                break;
            }
        }
        Ok(last)
    }

    fn now(&self) -> Result<Vec<DropCount>> {
        let mut drops = difference(&self.before, &self.watch.read()?);
        drops.retain(|drop| drop.port.is_some() || matches!(drop.place, "xdp" | "xsk"));
        Ok(drops)
    }
}
