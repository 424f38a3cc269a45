//! A report's start: when, where, what.
#![forbid(unsafe_code)]

use std::time::SystemTime;

use serde_json::Value;

use super::{Host, Nic, Report, SCHEMA, Warning, Worker};
use crate::control::Event;
use crate::host::cpu;
use crate::host::kernel::Kernel;
use crate::host::nic;
use crate::host::placement::Place;
use crate::host::sched::Policy;
use crate::queue::spec::Interface;

impl Report {
    /// A report of `command` that starts now, with nothing measured yet.
    pub(crate) fn begin(command: &str, config: Value, interface: Option<&Interface>) -> Self {
        let nic = interface.map(nic_of).into_iter().collect();
        Self {
            schema: SCHEMA,
            command: command.to_owned(),
            started_at: humantime::format_rfc3339_millis(SystemTime::now()).to_string(),
            host: Host { kernel: Kernel::read().release, cpus: cpu::online(), memory_locked: false, nic },
            config,
            backend: None,
            workers: Vec::new(),
            steer: Vec::new(),
            intervals: Vec::new(),
            tx: None,
            rx: None,
            rtcp: None,
            clock: None,
            ledger: None,
            warnings: Vec::new(),
            verdict: None,
        }
    }

    /// Warns of what the policy of the workers brings with it.
    pub(crate) fn warn_of_policy(&mut self, policy: Policy, on_event: &mut dyn FnMut(Event<'_>)) {
        if let Some(ms) = policy.throttled_ms() {
            let text = format!(
                "the kernel stops a worker of SCHED_FIFO that never waits for up to {ms} ms of every second, so that other tasks get its CPU"
            );
            let fix = "sysctl -w kernel.sched_rt_runtime_us=-1, with CPUs that nothing else needs".to_owned();
            self.warn(Warning { code: "real-time-budget", text, fix: Some(fix) }, on_event);
        }
    }

    /// Adds a warning and tells it.
    pub(crate) fn warn(&mut self, warning: Warning, on_event: &mut dyn FnMut(Event<'_>)) {
        on_event(Event::Warning(&warning));
        self.warnings.push(warning);
    }
}

impl Worker {
    /// A worker of `queue` at `place`, with its frames on `memory_node`, that has not begun.
    pub(crate) fn at(queue: u32, place: Place, memory_node: Option<u32>) -> Self {
        let Place { cpu, numa_node, why } = place;
        Self { queue, cpu, numa_node, why, memory_node, packets: 0 }
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
