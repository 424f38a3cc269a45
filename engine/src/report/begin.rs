//! A report's start: when, where, what.
#![forbid(unsafe_code)]

use std::time::SystemTime;

use serde_json::Value;

use super::{Host, Nic, Report, SCHEMA, Warning};
use crate::control::Event;
use crate::host::cpu;
use crate::host::kernel::Kernel;
use crate::host::nic;
use crate::queue::spec::Interface;

impl Report {
    /// A report of `command` that starts now, with nothing measured yet.
    pub(crate) fn begin(command: &str, config: Value, interface: Option<&Interface>) -> Self {
        let nic = interface.map(nic_of).into_iter().collect();
        Self {
            schema: SCHEMA,
            command: command.to_owned(),
            started_at: humantime::format_rfc3339_millis(SystemTime::now()).to_string(),
            host: Host { kernel: Kernel::read().release, cpus: cpu::online(), nic },
            config,
            backend: None,
            workers: Vec::new(),
            steer: Vec::new(),
            intervals: Vec::new(),
            tx: None,
            rx: None,
            ledger: None,
            warnings: Vec::new(),
            verdict: None,
        }
    }

    /// Adds a warning and tells it.
    pub(crate) fn warn(&mut self, warning: Warning, on_event: &mut dyn FnMut(Event<'_>)) {
        on_event(Event::Warning(&warning));
        self.warnings.push(warning);
    }
}

fn nic_of(interface: &Interface) -> Nic {
    let facts = nic::Nic::of(interface);
    Nic {
        name: interface.name.clone(),
        driver: facts.driver,
        speed_bps: facts.speed_bps,
        numa_node: facts.numa_node,
        queues: facts.queues.rx,
    }
}

/// A configuration without what is not set: what a report does not have is absent.
pub(crate) fn effective(mut config: Value) -> Value {
    if let Value::Object(options) = &mut config {
        options.retain(|_, value| !value.is_null());
    }
    config
}
