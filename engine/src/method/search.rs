//! Search for the highest load at which a trial is valid, by bisection (RFC 2544 §26.1, RFC 3918 §4).
//!
//! Pure: [`Search::ask`] says which trial to run, [`Search::note`] is told what became of it. A trial is valid, invalid, or
//! inconclusive: the sender did not offer the load, which says nothing of the device, neither good nor bad. Such a load is tried
//! again, and then counts as out of the sender's reach: the search goes on below it.
//!
//! What short trials found is confirmed by long ones. When one of these is invalid, short trials are not to be believed: the search goes on with
//! long ones, first down from there in steps that double, then by bisection.
#![forbid(unsafe_code)]

use serde::Serialize;

use crate::error::{Error, Result};

/// What to search, in packets a second (or any other unit of load).
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Limits {
    /// Lowest load.
    pub lower: f64,
    /// Highest load.
    pub upper: f64,
    /// Load of the first trial.
    pub initial: f64,
    /// The search ends when the lowest invalid load is no more than this above the highest valid one.
    pub resolution: f64,
    /// How far down to go while nothing valid is known: the next load lies at this share of the way from the lowest load to the
    /// lowest invalid one. 0.5 bisects.
    pub backoff: f64,
    /// Long trials in a row that have to be valid at the load that was found.
    pub confirmations: u32,
    /// How often an inconclusive trial is repeated before its load counts as out of reach.
    pub repeats: u32,
    /// Trials after which the search gives up.
    pub most_trials: u32,
}

impl Limits {
    /// From `lower` to `upper`, beginning at the upper end, to `resolution`.
    pub fn new(lower: f64, upper: f64, resolution: f64) -> Self {
        Self {
            lower,
            upper,
            initial: upper,
            resolution,
            backoff: 0.5,
            confirmations: 1,
            repeats: 1,
            most_trials: 64,
        }
    }

    /// Whether they can be searched.
    ///
    /// # Errors
    /// `Usage`, with what is wrong with them.
    pub fn check(&self) -> Result<()> {
        let wrong = |what: String, fix: &str| Err(Error::usage(what).fix(fix));
        if !(self.lower > 0.0 && self.lower <= self.upper && self.upper.is_finite()) {
            return wrong(
                format!("a search from {} to {} has no room", self.lower, self.upper),
                "the lowest load is above 0 and not above the highest",
            );
        }
        if self.resolution.is_nan() || self.resolution <= 0.0 {
            return wrong(
                format!("a resolution of {} is never reached", self.resolution),
                "name one above 0",
            );
        }
        if !(self.lower..=self.upper).contains(&self.initial) {
            return wrong(
                format!("the first load, {}, is outside of the search", self.initial),
                "begin between the lowest and the highest",
            );
        }
        if !(0.05..=0.95).contains(&self.backoff) {
            return wrong(format!("a backoff of {} leads nowhere", self.backoff), "from 0.05 to 0.95");
        }
        Ok(())
    }
}

/// What a trial says of its load.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Validity {
    /// The device bears it.
    Valid,
    /// It does not.
    Invalid,
    /// The sender did not offer it.
    Inconclusive,
}

/// Why a trial is run.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Purpose {
    /// To come closer.
    Search,
    /// To confirm what was found, for the whole time of a final trial.
    Confirm,
}

/// What to do next.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum Next {
    /// Run a trial at this load.
    Trial(f64, Purpose),
    /// Nothing: this was found.
    Done(Found),
}

/// What bounds the load that was found from above.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Bound {
    /// The device: a load within the resolution above it is invalid.
    Device,
    /// The search: the highest load that was asked for is valid.
    Range,
    /// The sender, which could not offer more: the device bears this load at least.
    Sender,
    /// Nothing that is known: the search was ended, or gave up.
    Unsettled,
}

/// What a search found.
#[derive(Debug, Clone, Copy, PartialEq, Serialize)]
pub struct Found {
    /// The highest load that is valid, confirmed; `None`: not even the lowest is, or nothing is known.
    pub load: Option<f64>,
    /// What bounds it.
    pub bound: Bound,
    /// Trials that were run.
    pub trials: u32,
}

/// A search under way.
#[derive(Debug, Clone)]
pub struct Search {
    limits: Limits,
    /// Valid loads, ascending.
    valid: Vec<f64>,
    /// The lowest load known to be invalid.
    invalid: Option<f64>,
    /// The lowest load that the sender could not offer.
    unreachable: Option<f64>,
    /// Inconclusive trials in a row at one load.
    repeated: u32,
    /// Valid final trials at the highest valid load.
    confirmed: u32,
    /// Final trials that were invalid in a row: since the first one all trials are final ones.
    refuted: u32,
    pending: Option<(f64, Purpose)>,
    trials: u32,
}

impl Search {
    /// A search that has not begun.
    ///
    /// # Errors
    /// As [`Limits::check`].
    pub fn new(limits: Limits) -> Result<Self> {
        limits.check()?;
        Ok(Self {
            limits,
            valid: Vec::new(),
            invalid: None,
            unreachable: None,
            repeated: 0,
            confirmed: 0,
            refuted: 0,
            pending: None,
            trials: 0,
        })
    }

    /// The next trial, or the end. The same answer until [`note`](Self::note) is called.
    pub fn ask(&mut self) -> Next {
        if self.trials >= self.limits.most_trials {
            return Next::Done(self.end_now());
        }
        if let Some((load, purpose)) = self.pending {
            return Next::Trial(load, purpose);
        }
        match self.decide() {
            Next::Trial(load, purpose) => {
                self.pending = Some((load, purpose));
                Next::Trial(load, purpose)
            }
            done @ Next::Done(_) => done,
        }
    }

    fn decide(&self) -> Next {
        let purpose = if self.refuted > 0 { Purpose::Confirm } else { Purpose::Search };
        let trial = |load| Next::Trial(load, purpose);
        let limits = &self.limits;
        let ceiling = match (self.invalid, self.unreachable) {
            (Some(a), Some(b)) => Some(a.min(b)),
            (one, None) | (None, one) => one,
        };
        let Some(ceiling) = ceiling else {
            return match self.best() {
                None => trial(limits.initial),
                Some(best) if best >= limits.upper => self.confirm(best),
                // What lies above a valid first load may be valid as a whole.
                Some(_) => trial(limits.upper),
            };
        };
        match self.best() {
            Some(best) if ceiling - best <= limits.resolution => self.confirm(best),
            Some(best) => trial(f64::midpoint(best, ceiling)),
            None if ceiling <= limits.lower => Next::Done(self.found(None)),
            None if ceiling - limits.lower <= limits.resolution => trial(limits.lower),
            None if self.refuted > 0 => {
                let step = limits.resolution * f64::from(self.refuted.min(32)).exp2();
                trial((ceiling - step).max(limits.lower))
            }
            None => trial((ceiling - limits.lower).mul_add(limits.backoff, limits.lower)),
        }
    }

    fn confirm(&self, load: f64) -> Next {
        if self.confirmed < self.limits.confirmations {
            Next::Trial(load, Purpose::Confirm)
        } else {
            Next::Done(self.found(Some(load)))
        }
    }

    /// What became of the trial that [`ask`](Self::ask) named.
    pub fn note(&mut self, validity: Validity) {
        let Some((load, purpose)) = self.pending.take() else { return };
        self.trials += 1;
        if validity == Validity::Inconclusive && self.repeated < self.limits.repeats {
            self.repeated += 1;
            self.pending = Some((load, purpose));
            return;
        }
        self.repeated = 0;
        match (validity, purpose) {
            (Validity::Valid, purpose) => {
                if self.best() != Some(load) {
                    self.confirmed = 0;
                    self.valid.push(load);
                    self.valid.sort_by(f64::total_cmp);
                }
                self.confirmed += u32::from(purpose == Purpose::Confirm);
            }
            (Validity::Invalid, purpose) => {
                self.refute(load);
                if purpose == Purpose::Confirm {
                    if self.refuted == 0 {
                        // What short trials said of the loads below is no better.
                        self.valid.clear();
                    }
                    self.refuted += 1;
                }
                self.invalid = Some(self.invalid.map_or(load, |known| known.min(load)));
            }
            (Validity::Inconclusive, _) => {
                self.refute(load);
                self.unreachable = Some(self.unreachable.map_or(load, |known| known.min(load)));
            }
        }
    }

    /// A load that is not valid takes with it all from there on up.
    fn refute(&mut self, load: f64) {
        self.valid.retain(|valid| *valid < load);
        self.confirmed = 0;
    }

    fn best(&self) -> Option<f64> {
        self.valid.last().copied()
    }

    /// What is known when the search is ended early.
    pub fn end_now(&self) -> Found {
        Found { load: self.best(), bound: Bound::Unsettled, trials: self.trials }
    }

    fn found(&self, load: Option<f64>) -> Found {
        let bound = match (self.invalid, self.unreachable) {
            (None, None) => Bound::Range,
            (Some(_), None) => Bound::Device,
            (None, Some(_)) => Bound::Sender,
            (Some(invalid), Some(unreachable)) if unreachable < invalid => Bound::Sender,
            (Some(_), Some(_)) => Bound::Device,
        };
        Found { load, bound, trials: self.trials }
    }

    /// How many trials are still to come, about: those of the search, and final ones.
    pub fn remaining(&self) -> (u32, u32) {
        let top = self.invalid.or(self.unreachable).unwrap_or(self.limits.upper);
        let room = top - self.best().unwrap_or(self.limits.lower);
        let steps = (room / self.limits.resolution).log2().ceil().max(0.0) as u32;
        (steps.min(self.limits.most_trials), self.limits.confirmations.saturating_sub(self.confirmed))
    }
}

#[cfg(test)]
mod tests;
