//! A run of `send` or `recv` between its arguments and its report: the same for a terminal and for an agent.

use wirerate_engine::Error;
use wirerate_engine::control::{Event, Outcome, Stop};
use wirerate_engine::report::Report;
use wirerate_engine::verdict::Expectations;

use crate::{Result, Status};

/// What is to be run: it is told when to stop, and tells what happens.
pub type Plan = Box<dyn FnOnce(&Stop, &mut dyn FnMut(Event<'_>)) -> Result<Ended> + Send>;

/// What a run came to.
pub struct Ended {
    /// The report, with its verdict.
    pub report: Report,
    failure: Option<Error>,
    judged: Result<()>,
}

impl Ended {
    /// Judges what a run came to.
    pub fn judge(mut outcome: Outcome, expectations: &Expectations) -> Self {
        let judged = expectations.judge(&mut outcome.report);
        Self { report: outcome.report, failure: outcome.failure, judged }
    }

    /// How the command ends: with what failed on the way, or by the verdict.
    pub fn status(self) -> Result<Status> {
        match self.failure {
            Some(failure) => Err(failure),
            None => self.judged.map(|()| Status::of(self.report.verdict.as_ref())),
        }
    }
}
