//! The numbers of a stream that are missing, as runs, with what is known of the moment at which each was jumped over.
#![forbid(unsafe_code)]

use std::collections::VecDeque;

use super::loss::Loss;

/// The arrival that jumped over a run of numbers: the first with a higher number than any of them.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Jump {
    /// Which it was of the stream's different datagrams, counted from 1.
    pub index: u64,
    /// When it arrived, by the receiver's clock in ns.
    pub at_ns: u64,
    /// Time in ns since the arrival before it; `None` when it was the first.
    pub silence_ns: Option<u64>,
    /// The same by the stamps in the datagrams, where they have some.
    pub sent_gap_ns: Option<u64>,
}

/// Consecutive missing numbers that one arrival jumped over.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Run {
    /// First number.
    pub from: u64,
    /// Last number.
    pub to: u64,
    /// The arrival that jumped over it; it is that of all pieces into which late arrivals split a run.
    pub jump: Jump,
}

/// Runs in rising order, at most `RUNS`: when there are more, the lowest is forgotten.
#[derive(Debug, Clone)]
pub(super) struct Missing<const RUNS: usize> {
    runs: VecDeque<Run>,
    /// Below this the runs have been forgotten.
    forgotten_below: u64,
    /// What the forgotten runs were, those below the first arrival among them.
    forgotten: Loss,
    /// The same without those below the first arrival.
    forgotten_gaps: Loss,
}

impl<const RUNS: usize> Default for Missing<RUNS> {
    fn default() -> Self {
        Self {
            runs: VecDeque::new(),
            forgotten_below: 0,
            forgotten: Loss::default(),
            forgotten_gaps: Loss::default(),
        }
    }
}

impl<const RUNS: usize> Missing<RUNS> {
    /// Remembers a run above all that are remembered. `base` is the number that arrived first.
    pub(super) fn open(&mut self, run: Run, base: u64) {
        self.runs.push_back(run);
        self.forget(base);
    }

    fn forget(&mut self, base: u64) {
        if self.runs.len() > RUNS
            && let Some(run) = self.runs.pop_front()
        {
            self.forgotten_below = run.to + 1;
            self.forgotten.period(&run);
            if run.from >= base {
                self.forgotten_gaps.period(&run);
            }
        }
    }

    /// Takes `n` out of the runs; the arrival that had jumped over it, if it was there.
    pub(super) fn take(&mut self, n: u64, base: u64) -> Option<Jump> {
        // Most of what comes out of order does so soon.
        let last = self.runs.len().checked_sub(1)?;
        let at = match self.runs[last].from <= n {
            true => last,
            false => self.runs.partition_point(|run| run.to < n),
        };
        let run = self.runs.get_mut(at).filter(|run| (run.from..=run.to).contains(&n))?;
        let Run { from, to, jump } = *run;
        if from == to {
            self.runs.remove(at);
        } else if n == from {
            run.from += 1;
        } else if n == to {
            run.to -= 1;
        } else {
            run.to = n - 1;
            self.runs.insert(at + 1, Run { from: n + 1, to, jump });
            self.forget(base);
        }
        Some(jump)
    }

    /// Whether a run with the number `n` may have been forgotten.
    pub(super) fn has_forgotten(&self, n: u64) -> bool {
        n < self.forgotten_below
    }

    /// What is missing from the highest number down: without what is below the first arrival `base` unless `head` is lost, too.
    pub(super) fn loss(&self, base: u64, head: bool) -> Loss {
        let mut loss = if head { self.forgotten.clone() } else { self.forgotten_gaps.clone() };
        self.runs.iter().filter(|run| head || run.from >= base).for_each(|run| loss.period(run));
        loss
    }

    #[cfg(test)]
    pub(super) fn len(&self) -> usize {
        self.runs.len()
    }
}
