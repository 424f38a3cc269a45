//! The measurement: where each contestant runs best and what it bears without loss, then rounds in which all take turns.

use std::time::Duration;

use serde::Serialize;
use wirerate_engine::error::Result;

use crate::contest::{Class, Contestant, Load, Trial, trial};
use crate::lab::{Lab, Napi};
use crate::process::interrupted;
use crate::rows::Entry;
use crate::search::{Found, search};
use crate::stats::Spread;

/// How a run is done.
#[derive(Debug, Clone, Serialize)]
pub struct Plan {
    /// Rounds in which every contestant has its turn.
    pub rounds: usize,
    /// Time of a trial in a round.
    #[serde(rename = "trial_s", serialize_with = "as_seconds")]
    pub trial: Duration,
    /// Time of a trial of a search.
    #[serde(rename = "short_trial_s", serialize_with = "as_seconds")]
    pub short: Duration,
    /// Placements to choose from, for each contestant by itself.
    pub placements: Vec<Napi>,
    /// Whether peers that can pace are searched too.
    pub search_peers: bool,
}

fn as_seconds<S: serde::Serializer>(time: &Duration, serializer: S) -> std::result::Result<S::Ok, S::Error> {
    serializer.serialize_f64(time.as_secs_f64())
}

/// Everything that was found out about one contestant.
#[derive(Debug, Clone, Serialize)]
pub struct Outcome {
    /// Name in gates.
    pub id: String,
    /// Name in tables.
    pub name: String,
    /// Rows that it stands in.
    pub rows: Vec<u8>,
    /// Whether it is ours.
    pub ours: bool,
    /// What was typed.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub command: Option<String>,
    /// From where to where.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub class: Option<Class>,
    /// UDP payload in bytes.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub length: Option<u16>,
    /// Where the receive side of `vb` ran: the placement at which it was fastest.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub napi: Option<Napi>,
    /// Full blast: packets a second received, over the rounds.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub full_pps: Option<Spread>,
    /// Full blast: the share lost.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub full_loss: Option<Spread>,
    /// At the rate that the search found: packets a second received, with loss under 0.1 %.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub lossless_pps: Option<Spread>,
    /// The rate that was asked for in the last round.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub lossless_load: Option<Load>,
    /// The trials at full blast.
    pub full: Vec<Trial>,
    /// The trials at the rate found; for a peer the one of its search.
    pub lossless: Vec<Trial>,
    /// Why there are no figures, or fewer than there were rounds.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub error: Option<String>,
}

impl Outcome {
    fn new(entry: &Entry) -> Self {
        let contestant = entry.what.as_ref().ok();
        Self {
            id: entry.id.clone(),
            name: match &entry.what {
                Ok(contestant) => contestant.name().to_owned(),
                Err(name) => name.clone(),
            },
            rows: entry.rows.to_vec(),
            ours: contestant.is_some_and(|c| c.ours()),
            command: contestant.map(|c| c.command()),
            class: contestant.map(|c| c.class()),
            length: contestant.map(|c| c.length()),
            napi: None,
            full_pps: None,
            full_loss: None,
            lossless_pps: None,
            lossless_load: None,
            full: Vec::new(),
            lossless: Vec::new(),
            error: contestant.is_none().then(|| "not installed".to_owned()),
        }
    }

    /// A trial that tells most about how packets travelled.
    pub fn example(&self) -> Option<&Trial> {
        self.lossless.last().filter(|_| self.ours).or(self.full.last())
    }

    /// A trial of which the kernel's count differs by more than a hundredth.
    pub fn disagreement(&self) -> Option<&Trial> {
        self.full.iter().chain(&self.lossless).find(|trial| {
            trial.witness.is_some_and(|witness| witness.abs_diff(trial.received) > trial.received / 100 + 100)
        })
    }

    fn sum_up(&mut self) {
        self.full_pps = Spread::of(self.full.iter().map(Trial::pps));
        self.full_loss = Spread::of(self.full.iter().filter_map(Trial::loss));
        self.lossless_pps = Spread::of(self.lossless.iter().map(Trial::pps));
    }
}

/// Measures all entries. `say` is told how it goes.
pub fn measure(entries: &[Entry], lab: &Lab, plan: &Plan, mut say: impl FnMut(&str)) -> Vec<Outcome> {
    let mut outcomes: Vec<Outcome> = entries.iter().map(Outcome::new).collect();
    for (entry, outcome) in entries.iter().zip(&mut outcomes) {
        let Ok(contestant) = &entry.what else { continue };
        if interrupted() {
            break;
        }
        say(&format!("search: {}", label(outcome)));
        match place(contestant.as_ref(), lab, plan) {
            Ok((napi, found)) => {
                outcome.napi = Some(napi);
                outcome.lossless_load = found.map(|found| found.load);
                if !outcome.ours {
                    outcome.lossless.extend(found.map(|found| found.trial));
                }
            }
            Err(error) => {
                say(&format!("  n/a: {error}"));
                outcome.error = Some(error.to_string());
            }
        }
    }
    for round in 1..=plan.rounds {
        for (entry, outcome) in entries.iter().zip(&mut outcomes) {
            let (Ok(contestant), Some(napi)) = (&entry.what, outcome.napi) else { continue };
            if interrupted() {
                break;
            }
            if let Err(error) = turn(contestant.as_ref(), lab, plan, napi, outcome) {
                outcome.error = Some(format!("round {round}: {error}"));
            }
            let word = match (outcome.ours.then(|| outcome.lossless.last()).flatten(), outcome.full.last()) {
                (Some(lossless), _) => format!("{:.3} Mpps lossless", lossless.pps() / 1e6),
                (None, Some(full)) => format!("{:.3} Mpps", full.pps() / 1e6),
                (None, None) => outcome.error.clone().unwrap_or_default(),
            };
            say(&format!("round {round} of {}: {}: {word}", plan.rounds, label(outcome)));
        }
    }
    outcomes.iter_mut().for_each(Outcome::sum_up);
    outcomes
}

fn label(outcome: &Outcome) -> String {
    format!("{} {} {}", outcome.name, outcome.class.map_or("", Class::name), outcome.length.unwrap_or(0))
}

/// Finds the placement at which `contestant` is fastest, by the figure that will count for it, and its lossless rate there.
fn place(contestant: &dyn Contestant, lab: &Lab, plan: &Plan) -> Result<(Napi, Option<Found>)> {
    let mut best: Option<(f64, Napi, Option<Found>)> = None;
    let mut failure = None;
    for &napi in &plan.placements {
        let attempt = (|| {
            // The better of two: one hiccup of the machine must not decide where a contestant runs.
            let first = trial(contestant, lab, Load::Max, napi, plan.short)?;
            let second = trial(contestant, lab, Load::Max, napi, plan.short)?;
            let full = if second.pps() > first.pps() { second } else { first };
            let found = if contestant.ours() || (plan.search_peers && contestant.paces()) {
                search(contestant, lab, napi, full, plan.short)?
            } else {
                None
            };
            let figure =
                if contestant.ours() { found.map_or(0.0, |found| found.trial.pps()) } else { full.pps() };
            Ok((figure, napi, found))
        })();
        match attempt {
            Ok(found) if best.is_none_or(|best| found.0 > best.0) => best = Some(found),
            Ok(_) => {}
            Err(error) => failure = Some(error),
        }
    }
    match (best, failure) {
        (Some((_, napi, found)), _) => Ok((napi, found)),
        (None, Some(error)) => Err(error),
        (None, None) => unreachable!("a plan has at least one placement"),
    }
}

/// One turn: full blast; and for ours the rate found, lowered for good when it loses more than it may.
fn turn(
    contestant: &dyn Contestant,
    lab: &Lab,
    plan: &Plan,
    napi: Napi,
    outcome: &mut Outcome,
) -> Result<()> {
    let full = trial(contestant, lab, Load::Max, napi, plan.trial)?;
    outcome.full.push(full);
    if !contestant.ours() {
        return Ok(());
    }
    if outcome.lossless_load == Some(Load::Max) && full.is_lossless() {
        outcome.lossless.push(full);
        return Ok(());
    }
    // Lowered after every second loss only: one may be a hiccup.
    let mut failed = false;
    for _ in 0..6 {
        let load = match outcome.lossless_load {
            Some(Load::Max) if !failed => Load::Max,
            Some(Load::Max) => Load::Pps((full.pps() * 0.97) as u64),
            Some(load) => load,
            None => return Ok(()),
        };
        let attempt = trial(contestant, lab, load, napi, plan.trial)?;
        if attempt.is_lossless() {
            outcome.lossless.push(attempt);
            return Ok(());
        }
        if let (Load::Pps(pps), true) = (load, failed) {
            outcome.lossless_load = Some(Load::Pps((pps as f64 * 0.96) as u64));
        }
        failed = !failed;
    }
    Ok(())
}

/// How long it will take, in seconds: what a trial costs beyond its time was found by measuring.
pub fn estimate(entries: &[Entry], plan: &Plan) -> f64 {
    const BESIDES: f64 = 0.5;
    let trials = |ours: bool| {
        let (long, short) = (plan.trial.as_secs_f64() + BESIDES, plan.short.as_secs_f64() + BESIDES);
        let turns = if ours { 2.2 } else { 1.0 };
        let searched = if ours || plan.search_peers { 8.0 } else { 2.0 };
        plan.rounds as f64 * turns * long + plan.placements.len() as f64 * searched * short
    };
    entries.iter().filter_map(|entry| entry.what.as_ref().ok()).map(|c| trials(c.ours())).sum()
}
