//! What counters that do not know whose packets they count rose by during a run.
#![forbid(unsafe_code)]

use crate::host::counters::{self, Counter};
use crate::queue::spec::Interface;

/// The counters of an interface and of the machine when the run began.
#[derive(Debug)]
pub(crate) struct Evidence {
    interfaces: Vec<(String, u32)>,
    before: Vec<Counter>,
}

impl Evidence {
    pub(crate) fn begin(interface: Option<&Interface>) -> Self {
        let interfaces: Vec<_> = interface.map(|i| (i.name.clone(), i.index)).into_iter().collect();
        Self { before: counters::read(&interfaces), interfaces }
    }

    /// What has been counted since.
    pub(crate) fn rise(&self) -> Vec<Counter> {
        counters::difference(&self.before, &counters::read(&self.interfaces))
    }
}
