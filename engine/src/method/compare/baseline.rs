//! An earlier result beside this one: is it worse, by how much, and beyond the noise of the rounds.
//!
//! Read are reports of iperf3 (`-J` and `--json-stream`, any version 3), of `wirerate compare` and of `wirerate recv`. **Worse beyond the noise** is what lies on the worse side with an interval
//! that does not touch the earlier one's. An interval takes two rounds here; with one nobody knows the noise. An earlier single run has its figure for an interval; one of iperf3's TCP
//! has, with five seconds or more, the spread of its seconds besides.
#![forbid(unsafe_code)]

use serde::Serialize;
use serde_json::Value;

use super::noise::Spread;
use super::report::Summary;
use super::tools::ToolName;
use crate::error::{Error, Result};
use crate::interop::peer::{Transport, iperf3};
use crate::report::{Check, Outcome};

/// Seconds of an iperf3 test from which their spread says something.
const SECONDS: usize = 5;

/// One tool of an earlier result.
#[derive(Debug, Clone, PartialEq)]
pub struct Old {
    /// Which tool of now it is set beside.
    pub tool: ToolName,
    /// Payload bits a second that it was given.
    pub rate_bps: Option<f64>,
    /// UDP payload of its packets, in bytes.
    pub length: Option<u32>,
    /// Payload bits a second delivered.
    pub delivered_bps: Option<Spread>,
    /// Loss as it stated it, in percent.
    pub loss_percent: Option<Spread>,
    /// Jitter as it defined it.
    pub jitter_ns: Option<Spread>,
}

/// An earlier result.
#[derive(Debug, Clone, PartialEq)]
pub struct Earlier {
    /// The file.
    pub file: String,
    /// Who wrote it: "iperf3 3.12".
    pub by: String,
    /// Its tools.
    pub tools: Vec<Old>,
}

/// An earlier result set beside this one.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Baseline {
    /// The file.
    pub file: String,
    /// Who wrote it.
    pub by: String,
    /// Each figure that both have.
    pub comparisons: Vec<Comparison>,
    /// What was not compared, and why.
    pub not_compared: Vec<String>,
}

/// A figure of both.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Comparison {
    /// The tool.
    pub tool: &'static str,
    /// The figure.
    pub measure: Measure,
    /// Earlier.
    pub before: Spread,
    /// Now.
    pub after: Spread,
    /// Change of the median: in percent of what it was; of a loss in percentage points.
    pub change: f64,
    /// It is on the worse side of what it was.
    pub worse: bool,
    /// The intervals do not touch; absent where there is one round only.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub beyond_noise: Option<bool>,
    /// One sentence.
    pub text: String,
}

/// What is compared.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Measure {
    /// Payload bits a second delivered: more is better.
    DeliveredBps,
    /// Loss in percent, as stated: less is better.
    LossPercent,
    /// Jitter, as stated: less is better.
    JitterNs,
}

impl Measure {
    fn name(self) -> &'static str {
        match self {
            Self::DeliveredBps => "delivered",
            Self::LossPercent => "loss",
            Self::JitterNs => "jitter",
        }
    }
}

impl Earlier {
    /// Reads one: `file` is its name.
    ///
    /// # Errors
    /// Usage, when it is none that is known, or has nothing to compare; with what is wrong.
    pub fn read(file: &str, text: &str) -> Result<Self> {
        let named = |error: Error| Error { what: format!("--baseline {file}: {}", error.what), ..error };
        let known = serde_json::from_str::<Value>(text).ok();
        let schema = known.as_ref().and_then(|json| json["schema"].as_str()).unwrap_or_default().to_owned();
        let (by, tools) = match (known, schema.split('/').next().unwrap_or_default()) {
            (Some(json), "wirerate.compare") => ("wirerate compare".to_owned(), of_compare(&json)),
            (Some(json), "wirerate.report") => ("wirerate recv".to_owned(), of_report(&json)),
            (_, "") => of_iperf3(&iperf3::parse(text).map_err(named)?).map_err(named)?,
            _ => {
                return Err(named(
                    Error::usage(format!("{schema} cannot be compared"))
                        .fix("give a report of iperf3 -J, wirerate compare --json or wirerate recv --json"),
                ));
            }
        };
        if tools.iter().all(|old| old.delivered_bps.is_none()) {
            return Err(named(Error::usage("it says of no tool what was delivered")));
        }
        Ok(Self { file: file.to_owned(), by, tools })
    }

    /// Sets it beside what was found now.
    pub fn beside<'a>(&self, now: impl Fn(ToolName) -> Option<&'a Summary>) -> Baseline {
        let mut baseline = Baseline {
            file: self.file.clone(),
            by: self.by.clone(),
            comparisons: Vec::new(),
            not_compared: Vec::new(),
        };
        for old in &self.tools {
            let Some(summary) = now(old.tool).filter(|summary| summary.delivered_bps.is_some()) else {
                baseline.not_compared.push(format!("{}: it gave no figures now", old.tool.name()));
                continue;
            };
            let pairs = [
                (Measure::DeliveredBps, old.delivered_bps, summary.delivered_bps),
                (Measure::LossPercent, old.loss_percent, summary.loss_stated_percent),
                (Measure::JitterNs, old.jitter_ns, summary.jitter_ns),
            ];
            for (measure, before, after) in pairs {
                if let (Some(before), Some(after)) = (before, after) {
                    baseline.comparisons.push(compare(old.tool.name(), measure, before, after));
                }
            }
        }
        baseline
    }
}

/// Sets two figures side by side.
pub fn compare(tool: &'static str, measure: Measure, before: Spread, after: Spread) -> Comparison {
    let points = measure == Measure::LossPercent;
    let step = after.median - before.median;
    let change = match (points, before.median) {
        (true, _) => step,
        (false, 0.0) if step == 0.0 => 0.0,
        (false, 0.0) => 100.0 * step.signum(),
        (false, was) => 100.0 * step / was.abs(),
    };
    let more_is_worse = measure != Measure::DeliveredBps;
    let worse = step != 0.0 && (step > 0.0) == more_is_worse;
    let apart = if step > 0.0 { before.is_below(&after) } else { after.is_below(&before) };
    let beyond_noise = (after.rounds > 1).then_some(apart);
    let by = if points {
        format!("{:.3} percentage points", change.abs())
    } else {
        format!("{:.1} %", change.abs())
    };
    let name = measure.name();
    let rounds = after.rounds;
    let text = match (step == 0.0, worse, beyond_noise) {
        (true, ..) => format!("{name} is what it was"),
        (_, true, Some(true)) => format!("{name} is worse by {by}, beyond the noise of {rounds} rounds"),
        (_, true, Some(false)) => format!("{name} is worse by {by}, within the noise of {rounds} rounds"),
        (_, true, None) => format!("{name} is worse by {by}; one round does not tell the noise"),
        (_, false, Some(true)) => format!("{name} is better by {by}, beyond the noise of {rounds} rounds"),
        (_, false, Some(false)) => format!("{name} is better by {by}, within the noise of {rounds} rounds"),
        (_, false, None) => format!("{name} is better by {by}; one round does not tell the noise"),
    };
    Comparison { tool, measure, before, after, change, worse, beyond_noise, text }
}

/// Whether nothing is worse by more than `percent` (of what was delivered; of loss, by so many percentage points). Jitter is shown and not judged.
///
/// Worse by more and beyond the noise fails; worse by more within the noise, or with one round, cannot be told, and neither can what was not compared.
pub fn not_worse(baseline: &Baseline, percent: f64) -> Check {
    let judged = || baseline.comparisons.iter().filter(|c| c.measure != Measure::JitterNs);
    let over: Vec<&Comparison> = judged().filter(|c| c.worse && c.change.abs() > percent).collect();
    let told = |all: &[&Comparison]| {
        all.iter().map(|c| format!("{}: {}", c.tool, c.text)).collect::<Vec<_>>().join("; ")
    };
    let sure: Vec<&Comparison> = over.iter().filter(|c| c.beyond_noise == Some(true)).copied().collect();
    let (outcome, got) = if !sure.is_empty() {
        (Outcome::Fail, told(&sure))
    } else if !over.is_empty() {
        (Outcome::Inconclusive, told(&over))
    } else if judged().next().is_none() || !baseline.not_compared.is_empty() {
        let why = baseline.not_compared.join("; ");
        (Outcome::Inconclusive, if why.is_empty() { "nothing could be compared".to_owned() } else { why })
    } else {
        let most = judged().filter(|c| c.worse).max_by(|a, b| a.change.abs().total_cmp(&b.change.abs()));
        (Outcome::Pass, most.map_or("nothing is worse".to_owned(), |c| format!("{}: {}", c.tool, c.text)))
    };
    Check { name: "expect-not-worse", want: format!("nothing worse by more than {percent} %"), got, outcome }
}

fn of_iperf3(result: &iperf3::Iperf3Result) -> Result<(String, Vec<Old>)> {
    if let Some(error) = &result.error {
        return Err(Error::usage(format!("that iperf3 failed: {error}")));
    }
    let Some(transport) = result.transport else {
        return Err(Error::usage("it says neither TCP nor UDP"));
    };
    let udp = transport == Transport::Udp;
    let received = result.received.or(result.sent);
    let delivered_bps = received.map(|figures| {
        let mut spread = Spread::single(figures.bits_per_second);
        // UDP's seconds are the sender's: what was offered.
        let seconds = Spread::of(result.intervals.iter().map(|slice| slice.figures.bits_per_second));
        if let Some(seconds) = seconds.filter(|s| !udp && s.rounds as usize >= SECONDS) {
            spread.low = spread.low.min(seconds.low);
            spread.high = spread.high.max(seconds.high);
        }
        spread
    });
    let single = |figure: Option<f64>| figure.filter(|_| udp).map(Spread::single);
    let old = Old {
        tool: if udp { ToolName::Iperf3Udp } else { ToolName::Iperf3Tcp },
        rate_bps: result.target_bps.map(|bps| bps * result.streams.unwrap_or(1).max(1) as f64),
        length: result.block_bytes.filter(|_| udp).and_then(|bytes| u32::try_from(bytes).ok()),
        delivered_bps,
        loss_percent: single(received.and_then(|figures| figures.lost_percent)),
        jitter_ns: single(received.and_then(|figures| figures.jitter_ms)).map(|ms| ms.times(1e6)),
    };
    let version = result.version.as_deref().unwrap_or("of an unknown version");
    Ok((format!("iperf3 {version}"), vec![old]))
}

fn of_compare(json: &Value) -> Vec<Old> {
    let config = &json["config"];
    let tools = json["tools"].as_array().map_or(&[][..], Vec::as_slice);
    tools
        .iter()
        .filter_map(|tool| {
            let name: ToolName = tool["name"].as_str()?.parse().ok()?;
            let spread = |key: &str| spread(&tool["summary"][key]);
            Some(Old {
                tool: name,
                rate_bps: config["payload_bps"].as_f64(),
                length: config["length_bytes"].as_u64().and_then(|n| u32::try_from(n).ok()),
                delivered_bps: spread("delivered_bps"),
                loss_percent: spread("loss_stated_percent"),
                jitter_ns: spread("jitter_ns"),
            })
        })
        .collect()
}

fn spread(json: &Value) -> Option<Spread> {
    let number = |key: &str| json[key].as_f64();
    let (median, low, high) = (number("median")?, number("low")?, number("high")?);
    (low <= median && median <= high).then_some(())?;
    Some(Spread {
        median,
        low,
        high,
        rounds: json["rounds"].as_u64().and_then(|n| u32::try_from(n).ok()).unwrap_or(1),
        coverage_percent: number("coverage_percent").unwrap_or(0.0),
    })
}

fn of_report(json: &Value) -> Vec<Old> {
    let rx = &json["rx"];
    let number = |key: &str| rx[key].as_f64();
    let backend = json["backend"]["name"].as_str().and_then(|name| name.parse::<ToolName>().ok());
    let Some(tool) = backend.filter(|_| rx.is_object()) else { return Vec::new() };
    let lost = number("lost").unwrap_or(0.0) + number("lost_tail").unwrap_or(0.0);
    let all = lost + number("unique").unwrap_or(0.0);
    vec![Old {
        tool,
        rate_bps: None,
        length: None,
        delivered_bps: number("payload_bps").map(Spread::single),
        loss_percent: (all > 0.0).then(|| Spread::single(100.0 * lost / all)),
        jitter_ns: rx["jitter_ns"]["rfc3550"].as_f64().map(Spread::single),
    }]
}

#[cfg(test)]
#[path = "baseline_tests.rs"]
mod tests;
