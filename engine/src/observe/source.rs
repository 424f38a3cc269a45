//! What counts the datagrams of a run: workers on queues, or a program in the kernel.
#![forbid(unsafe_code)]

use super::sink::Place;
use crate::control::Stop;
use crate::error::{Error, Result};
use crate::generate::explain;
use crate::measure::handover::Emptier;
use crate::measure::tally::RxTally;
use crate::report::{self, Report, RxCollector};
use crate::worker::Worker;

/// Opened and waiting for the start; the collector asks it for what it has counted.
pub(crate) trait Observe {
    /// Begins; `start_ns` (CLOCK_TAI) is the start that everybody shares.
    fn go(&mut self, start_ns: u64) -> Result<()>;

    /// Gives `collector` what is new.
    fn sample(&mut self, collector: &mut RxCollector) -> Result<()>;

    /// Whether a part of it has ended by itself.
    fn has_ended(&self) -> bool;

    /// Stops, and gives what is left: the last counts to `collector`, who counted them to `report`. Why, when a part of it broke.
    fn finish(&mut self, collector: &mut RxCollector, report: &mut Report) -> Option<Error>;

    /// What the kernel dropped because it had been received.
    fn sunk(&self) -> Option<Sunk> {
        None
    }
}

/// Packets that a sink dropped after it had counted them.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Sunk {
    /// Where the sink was.
    pub place: Place,
    /// Data, and nothing else.
    pub packets: u64,
}

/// Workers in user space, one for each queue.
#[derive(Default)]
pub(crate) struct Workers {
    pub workers: Vec<Worker<RxTally>>,
    pub emptiers: Vec<Emptier<RxTally>>,
    pub places: Vec<report::Worker>,
    /// What stops them.
    pub stop: Stop,
    /// The interface that errors name.
    pub interface: Option<String>,
}

impl Observe for Workers {
    fn go(&mut self, start_ns: u64) -> Result<()> {
        self.workers.iter_mut().for_each(|worker| worker.go(start_ns));
        Ok(())
    }

    fn sample(&mut self, collector: &mut RxCollector) -> Result<()> {
        self.emptiers.iter().for_each(|emptier| emptier.drain(|tally| collector.absorb(tally)));
        Ok(())
    }

    fn has_ended(&self) -> bool {
        self.workers.iter().any(Worker::is_finished)
    }

    fn finish(&mut self, collector: &mut RxCollector, report: &mut Report) -> Option<Error> {
        self.stop.request();
        let mut failure = None;
        for ((worker, emptier), place) in self.workers.drain(..).zip(&self.emptiers).zip(&self.places) {
            let ended = worker.join();
            emptier.drain(|tally| collector.absorb(tally));
            match ended {
                Ok((last, broken)) => {
                    collector.absorb(&last);
                    report.workers.push(report::Worker { packets: last.counters.packets, ..place.clone() });
                    if let Some(broken) = broken {
                        failure = Some(explain(&broken, self.interface.as_deref()));
                    }
                }
                Err(error) => failure = Some(error),
            }
        }
        failure
    }
}
