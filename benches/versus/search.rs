//! The search for the highest rate with loss under 0.1 %.

use std::time::Duration;

use wirerate_engine::error::Result;

use crate::contest::{Contestant, Load, Trial, trial};
use crate::lab::{Lab, Napi};

/// How many times the interval is halved: to 1/64 of it.
const STEPS: u32 = 6;

/// A rate that was found, and the trial that showed it.
#[derive(Debug, Clone, Copy)]
pub struct Found {
    /// What to ask for.
    pub load: Load,
    /// What came of it.
    pub trial: Trial,
}

/// Searches at one placement with trials of `time`. `full` is a trial at full blast, which needs no search when it lost nothing.
/// Gives nothing when no rate was found.
pub fn search(
    contestant: &dyn Contestant,
    lab: &Lab,
    napi: Napi,
    full: Trial,
    time: Duration,
) -> Result<Option<Found>> {
    if full.is_lossless() {
        return Ok(Some(Found { load: Load::Max, trial: full }));
    }
    // What arrived at full blast may be far from what a receiver bears that is not flooded: either way.
    let (low, high) = (full.pps() * 0.25, full.sent_pps().max(full.pps()));
    let mut best: Option<Found> = None;
    bisect(low, high, STEPS, |pps| {
        let load = Load::Pps(pps as u64);
        // One hiccup of the machine is no verdict.
        for _ in 0..2 {
            let trial = trial(contestant, lab, load, napi, time)?;
            if trial.is_lossless() {
                if best.is_none_or(|b| trial.pps() > b.trial.pps()) {
                    best = Some(Found { load, trial });
                }
                return Ok(true);
            }
            // Far too much is no hiccup.
            if trial.loss().is_none_or(|loss| loss > 0.03) {
                return Ok(false);
            }
        }
        Ok(false)
    })?;
    Ok(best)
}

/// Halves the interval, by ratio, `steps` times, and gives the highest that was `good`.
fn bisect(low: f64, high: f64, steps: u32, mut good: impl FnMut(f64) -> Result<bool>) -> Result<Option<f64>> {
    let (mut low, mut high, mut found) = (low.max(1000.0), high.max(1000.0), None);
    for _ in 0..steps {
        let middle = (low * high).sqrt();
        if good(middle)? {
            found = Some(middle);
            low = middle;
        } else {
            high = middle;
        }
    }
    Ok(found)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn finds_the_edge() {
        let found = bisect(1e5, 1e7, 12, |pps| Ok(pps <= 2e6)).expect("no error").expect("a rate");
        assert!(found <= 2e6 && found > 1.98e6, "{found}");
    }

    #[test]
    fn all_good_and_all_bad() {
        let mut asked = Vec::new();
        let found = bisect(1e5, 1e6, 8, |pps| {
            asked.push(pps);
            Ok(true)
        });
        assert!(found.expect("no error").expect("a rate") > 0.98e6);
        assert!(asked.windows(2).all(|pair| pair[0] < pair[1]), "goes up: {asked:?}");
        assert_eq!(bisect(1e5, 1e6, 8, |_| Ok(false)).expect("no error"), None);
    }
}
