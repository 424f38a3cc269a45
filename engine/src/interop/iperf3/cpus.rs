//! Which CPUs the workers of tests run on: those that fewest others of this process run on.
#![forbid(unsafe_code)]

use std::sync::{Arc, Mutex, PoisonError};

use super::failure::{Code, Failure};
use crate::host::cpu::Cpus;

/// The CPUs that this process may use, and how many workers run on each.
#[derive(Debug, Clone)]
pub(super) struct Pool(Arc<Mutex<Vec<(usize, u32)>>>);

/// A worker's place on a CPU, given back when it is dropped.
#[derive(Debug)]
pub(super) struct Place {
    pub(super) cpu: usize,
    pool: Pool,
}

impl Pool {
    /// Those that the calling thread may use.
    pub(super) fn read() -> Result<Self, Failure> {
        let cpus = Cpus::read().map_err(|error| Failure::new(Code::Affinity).detail(error.what))?.allowed;
        if cpus.is_empty() {
            return Err(Failure::new(Code::Affinity).detail("this process may use no CPU"));
        }
        Ok(Self(Arc::new(Mutex::new(cpus.into_iter().map(|cpu| (cpu, 0)).collect()))))
    }

    /// How many there are.
    pub(super) fn len(&self) -> usize {
        self.with(|cpus| cpus.len())
    }

    /// A place on `wanted`, or on the CPU with the fewest workers: of equals receivers take the first and senders the last, so that on one host they stay
    /// out of each other's way.
    pub(super) fn take(&self, wanted: Option<usize>, sender: bool) -> Result<Place, Failure> {
        let cpu = self.with(|cpus| {
            let entry = match (wanted, sender) {
                (Some(wanted), _) => cpus.iter_mut().find(|(cpu, _)| *cpu == wanted),
                (None, false) => cpus.iter_mut().min_by_key(|(_, workers)| *workers),
                (None, true) => cpus.iter_mut().rev().min_by_key(|(_, workers)| *workers),
            };
            entry.map(|(cpu, workers)| {
                *workers += 1;
                *cpu
            })
        });
        let cpu = cpu.ok_or_else(|| {
            let cpu = wanted.unwrap_or_default();
            Failure::new(Code::Affinity).detail(format!("CPU {cpu} is not one that this process may use"))
        })?;
        Ok(Place { cpu, pool: self.clone() })
    }

    fn with<T>(&self, work: impl FnOnce(&mut Vec<(usize, u32)>) -> T) -> T {
        work(&mut self.0.lock().unwrap_or_else(PoisonError::into_inner))
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        self.pool.with(|cpus| {
            if let Some((_, workers)) = cpus.iter_mut().find(|(cpu, _)| *cpu == self.cpu) {
                *workers -= 1;
            }
        });
    }
}
