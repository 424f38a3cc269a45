//! Whether a run met what was expected of it.
#![forbid(unsafe_code)]

use crate::error::{Error, Result};
use crate::profile::rate::{Layer, Rate};
use crate::report::{Check, Outcome, Report, Rx, Verdict};

/// What a user expects of a run.
#[derive(Debug, Clone, Default)]
pub struct Expectations {
    /// Loss below this percentage of what was sent.
    pub loss_below_percent: Option<f64>,
    /// Rate above this, sent or received.
    pub rate_above: Option<Rate>,
}

impl Expectations {
    /// Adds the verdict to `report`; nothing when nothing is expected.
    ///
    /// # Errors
    /// When the expected rate cannot be judged: `max`, or a percentage of a link whose speed is not known.
    pub fn judge(&self, report: &mut Report) -> Result<()> {
        let mut checks = Vec::new();
        if let Some(below) = self.loss_below_percent {
            checks.push(loss(report, below));
        }
        if let Some(above) = &self.rate_above {
            checks.push(rate(report, above)?);
        }
        let worst = |wanted| checks.iter().any(|c: &Check| c.outcome == wanted);
        let outcome = if worst(Outcome::Fail) {
            Outcome::Fail
        } else if worst(Outcome::Inconclusive) {
            Outcome::Inconclusive
        } else {
            Outcome::Pass
        };
        if !checks.is_empty() {
            report.verdict = Some(Verdict { outcome, checks });
        }
        Ok(())
    }
}

/// Transport streams without RTP have no numbers: their counters show what is missing at least, which may be too much, but is never known to be
/// little enough.
fn unnumbered(rx: &Rx, below: f64, want: &str) -> Option<Check> {
    let streams = rx.streams.iter().filter(|s| s.rtp.is_none()).filter_map(|s| s.ts.as_ref());
    let (packets, missing) =
        streams.map(|ts| (ts.packets, ts.missing_at_least)).reduce(|a, b| (a.0 + b.0, a.1 + b.1))?;
    let percent = missing as f64 * 100.0 / (packets + missing).max(1) as f64;
    let outcome = if missing > 0 && percent >= below { Outcome::Fail } else { Outcome::Inconclusive };
    let got = format!("at least {percent:.4} % of transport stream packets");
    Some(Check { name: "loss", want: want.to_owned(), got, outcome })
}

fn loss(report: &Report, below: f64) -> Check {
    let (lost, offered) = match (&report.rx, &report.tx) {
        (Some(rx), _) => {
            let lost = rx.lost.saturating_add(rx.lost_tail);
            (lost, lost.saturating_add(rx.unique))
        }
        (None, Some(tx)) => (tx.errors, tx.packets + tx.errors),
        (None, None) => (0, 0),
    };
    let want = format!("< {below} %");
    if let Some(check) = report.rx.as_ref().and_then(|rx| unnumbered(rx, below, &want)) {
        return check;
    }
    if offered == 0 {
        return Check { name: "loss", want, got: "no packets".to_owned(), outcome: Outcome::Inconclusive };
    }
    let percent = lost as f64 * 100.0 / offered as f64;
    // "Below 0 %" is how users ask for no loss at all.
    let met = percent < below || lost == 0;
    Check { name: "loss", want, got: format!("{percent:.6} % ({lost} of {offered})"), outcome: pass_if(met) }
}

fn rate(report: &Report, above: &Rate) -> Result<Check> {
    let (wanted, layer) = match *above {
        Rate::Pps(pps) => (pps, None),
        Rate::Bits(bps, layer) => (bps, Some(layer)),
        Rate::Percent(percent) => match report.host.nic.first().and_then(|n| n.speed_bps) {
            Some(speed) => (speed as f64 * percent / 100.0, Some(Layer::L1)),
            None => {
                return Err(Error::usage(format!("--expect-rate-above {above}: the link tells no speed"))
                    .fix("name the rate in bit/s or pps"));
            }
        },
        Rate::Max => {
            return Err(
                Error::usage("--expect-rate-above max: nothing is above it").fix("name a rate, as 9.9G")
            );
        }
    };
    let rates = |pps, l1, l2, payload| match layer {
        None => pps,
        Some(Layer::L1) => l1,
        Some(Layer::L2) => l2,
        Some(Layer::Payload) => payload,
    };
    let got: u64 = match (&report.rx, &report.tx) {
        (Some(rx), _) => rates(rx.pps, rx.l1_bps, rx.l2_bps, rx.payload_bps),
        (None, Some(tx)) => rates(tx.pps, tx.l1_bps, tx.l2_bps, tx.payload_bps),
        (None, None) => 0,
    };
    let unit = match layer {
        None => "pps",
        Some(Layer::L1) => "bit/s L1",
        Some(Layer::L2) => "bit/s L2",
        Some(Layer::Payload) => "bit/s of payload",
    };
    Ok(Check {
        name: "rate",
        want: format!("> {above}"),
        got: format!("{got} {unit}"),
        outcome: pass_if(got as f64 > wanted),
    })
}

fn pass_if(met: bool) -> Outcome {
    if met { Outcome::Pass } else { Outcome::Fail }
}
