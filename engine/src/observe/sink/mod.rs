//! Receiving in the kernel: an eBPF program checks the probe header of each datagram that a rule selects, counts it in its stream, and
//! drops it. The payload is not looked at, and nothing is copied to user space but counts.
//!
//! A datagram that comes after the window of its stream has passed its number ([`WINDOW`]) counts as a duplicate, unless nothing
//! was missing it is `undecided`: the sink keeps no memory of older gaps, so `late` is not told.
#![forbid(unsafe_code)]

mod program;
mod tally;

use std::path::Path;
use std::str::FromStr;
use std::thread;
use std::time::Duration;

pub use program::{Place, Program};
pub use tally::stream_tally;
use wirerate_ebpf_types::sink::WORDS;
pub use wirerate_ebpf_types::sink::{STREAMS, Stream};

use self::tally::Latencies;
use super::config::RecvConfig;
use super::source::{Observe, Sunk};
use super::{FormatChoice, steered};
use crate::clock;
use crate::error::{Error, Result};
use crate::host::placement::Place as CpuPlace;
use crate::host::topology::Topology;
use crate::measure::tally::RxTally;
use crate::report::{self, Report, RxCollector};

/// Numbers in the window of a stream, or up to 63 fewer.
pub const WINDOW: u64 = WORDS as u64 * 64;

/// How often the maps are read.
const SAMPLE_NS: u64 = 50_000_000;

/// How long a program that was detached may still run on another CPU.
const GRACE: Duration = Duration::from_millis(2);

/// Which program (`--sink`).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum SinkChoice {
    /// XDP where the driver runs it natively and no peer loses by it, else tc.
    #[default]
    Auto,
    /// XDP, native before generic.
    Xdp,
    /// tc ingress.
    Tc,
}

impl SinkChoice {
    /// The name that selects it.
    pub fn name(self) -> &'static str {
        match self {
            Self::Auto => "auto",
            Self::Xdp => "xdp",
            Self::Tc => "tc",
        }
    }
}

impl FromStr for SinkChoice {
    type Err = Error;

    fn from_str(text: &str) -> Result<Self> {
        [Self::Auto, Self::Xdp, Self::Tc]
            .into_iter()
            .find(|choice| choice.name() == text)
            .ok_or_else(|| Error::usage(format!("sink {text}: unknown")).fix("use auto, xdp or tc"))
    }
}

/// Whether the sink can do what `config` asks for.
///
/// # Errors
/// Usage, naming the option that it cannot.
pub(crate) fn require(config: &RecvConfig) -> Result<()> {
    let refuse = |option: &str, why: &str| {
        Err(Error::usage(format!("{option}: --backend xdp {why}"))
            .fix("leave it out, or use --backend afxdp, uring or mmsg"))
    };
    match config.format() {
        FormatChoice::Auto | FormatChoice::Wirerate => {}
        other => {
            return refuse(&format!("--format {}", other.name()), "knows no header but wirerate's own");
        }
    }
    if config.verify.is_some() {
        return refuse("--verify-payload", "looks at headers only, the payload stays untouched");
    }
    if config.inspect.is_some() {
        return refuse("--hexdump", "looks at headers only, no payload comes to user space");
    }
    if !config.queues.is_empty() {
        return refuse("--queues", "counts what comes in by any queue");
    }
    if !config.cpus.is_empty() {
        return refuse("--cpus", "has no workers: it runs on the CPUs that receive");
    }
    if config.on_irq_cpu {
        return refuse("--on-irq-cpu", "has no workers: it runs on the CPUs that receive");
    }
    if config.tuning.busy_poll.is_some() {
        return refuse("--busy-poll", "has no socket that could poll the driver");
    }
    Ok(())
}

/// The sink of one run.
pub(crate) struct KernelSink {
    program: Program,
    interface: String,
    latencies: Latencies,
    tally: RxTally,
    ready_ns: u64,
    sampled_ns: u64,
}

impl KernelSink {
    pub(crate) fn new(program: Program, interface: String) -> Self {
        let (latencies, tally) = (Latencies::default(), RxTally::new(0));
        Self { program, interface, latencies, tally, ready_ns: u64::MAX, sampled_ns: 0 }
    }

    fn read(&mut self, collector: &mut RxCollector) -> Result<()> {
        tally::fill(&self.program, &mut self.latencies, self.ready_ns, &mut self.tally)?;
        collector.absorb(&self.tally);
        Ok(())
    }

    fn last(&mut self, collector: &mut RxCollector, report: &mut Report) -> Result<()> {
        self.program.detach()?;
        thread::sleep(GRACE);
        self.read(collector)?;
        let mut segments = 0;
        let topology = Topology::read(Path::new("/"));
        self.program.shares(|cpu, share| {
            segments = segments.max(share.segments);
            if share.packets > 0 {
                let place = CpuPlace {
                    cpu,
                    numa_node: topology.node_of(cpu),
                    why: "it received the packets".to_owned(),
                };
                let queue = report.workers.len() as u32;
                let worker = report::Worker::at(queue, place, None);
                report.workers.push(report::Worker { packets: share.packets, ..worker });
            }
        })?;
        if let Some(backend) = report.backend.as_mut().filter(|_| segments > 0) {
            backend.segments = Some(segments as u16);
        }
        report.steer = steered(&self.program.passed().unwrap_or_default(), &self.interface);
        Ok(())
    }
}

impl Observe for KernelSink {
    fn go(&mut self, start_ns: u64) -> Result<()> {
        self.ready_ns = start_ns;
        self.program.set_ready(start_ns)
    }

    fn sample(&mut self, collector: &mut RxCollector) -> Result<()> {
        let now_ns = clock::tai_ns();
        if now_ns < self.sampled_ns + SAMPLE_NS {
            return Ok(());
        }
        self.sampled_ns = now_ns;
        self.read(collector)
    }

    fn has_ended(&self) -> bool {
        false
    }

    fn finish(&mut self, collector: &mut RxCollector, report: &mut Report) -> Option<Error> {
        self.last(collector, report).err()
    }

    fn sunk(&self) -> Option<Sunk> {
        let packets = self.tally.counters.packets + self.tally.untracked + self.tally.contended;
        Some(Sunk { place: self.program.place(), packets })
    }
}
