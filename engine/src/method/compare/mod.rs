//! Other tools and ours on one path: the same rate, size and duration through each, in turn, for several rounds.
//!
//! Every trial has the same witnesses, whoever sends: the kernels' counters of UDP and of the interfaces at both ends, their drops by destination, and CPU time as the kernel charges it. What a tool says
//! of itself stands beside what they prove. One round is forwards and the next backwards, so that no tool always comes behind the same one.
#![forbid(unsafe_code)]

pub mod baseline;
mod end;
mod ends;
mod figures;
pub mod limits;
pub mod noise;
pub mod proof;
pub mod report;
mod setup;
pub mod tools;
mod witness;

use std::time::Duration;

use baseline::Earlier;
use end::End;
use ends::{Ends, Measured, Programs};
use limits::{By, Limit};
use noise::Spread;
use report::{Report, Summary, Trial};
use setup::{begin, installed, row, warnings};
use tools::{Load, ToolName};
pub use witness::job;

use crate::agent::Say;
use crate::control::Stop;
use crate::error::{Error, Result};
use crate::method::ports::Reach;
use crate::profile::rate::Rate;
use crate::profile::size::{Framing, SizeList, Sizes};
use crate::report::{Verdict, Warning};

/// What a trial takes besides its duration, roughly: starting both ends, watching drops, waiting until all is quiet.
const OVERHEAD: Duration = Duration::from_millis(1300);

/// What is to be compared.
#[derive(Debug, Clone)]
pub struct Params {
    /// The tools; none: all that are installed and permitted.
    pub tools: Vec<ToolName>,
    /// The rate.
    pub rate: Rate,
    /// UDP payload of each packet.
    pub length: u32,
    /// Time of a trial, whole seconds.
    pub duration: Duration,
    /// Rounds.
    pub rounds: u32,
    /// The port that all tools use.
    pub port: u16,
    /// `--segments` of our sockets.
    pub segments: String,
    /// IPv6.
    pub ipv6: bool,
    /// Where iperf3 is, at both ends; `None`: in PATH.
    pub iperf3: Option<String>,
    /// Where iperf 2 is, at both ends; `None`: in PATH.
    pub iperf2: Option<String>,
    /// How long an agent may take to answer.
    pub answer: Duration,
    /// An earlier result.
    pub earlier: Option<Earlier>,
    /// How much worse than that it may be, in percent.
    pub not_worse: Option<f64>,
}

impl Params {
    /// Looks for what can be wrong before anything is started.
    ///
    /// # Errors
    /// Usage, with what is wrong.
    pub fn check(&self) -> Result<()> {
        if self.duration.subsec_nanos() != 0 || self.duration.is_zero() {
            return Err(Error::usage("--duration: iperf3 knows whole seconds only").fix("write it as 5s"));
        }
        let load = self.sizes()?;
        self.rate.pps(&load, None).map(drop).or_else(|error| {
            // A share of the line rate is known when the link is.
            if matches!(self.rate, Rate::Percent(_)) { Ok(()) } else { Err(error) }
        })?;
        if self.not_worse.is_some() && self.earlier.is_none() {
            return Err(Error::usage("--expect-not-worse needs --baseline").fix("name an earlier result"));
        }
        Ok(())
    }

    fn sizes(&self) -> Result<Sizes> {
        Sizes::from_lengths(
            &SizeList::Cycle(vec![self.length]),
            Framing { ipv6: self.ipv6, vlan: false, mtu: None },
        )
    }
}

/// What happens.
#[derive(Debug)]
pub enum Progress<'a> {
    /// A trial begins: tool, round, and how long all will still take, roughly.
    Begins(ToolName, u32, Duration),
    /// A trial has ended.
    Trial(ToolName, &'a Trial),
    /// Something that a reader should know.
    Warning(&'a Warning),
}

/// What it came to.
#[derive(Debug)]
pub struct Ended {
    /// The report.
    pub report: Report,
    /// Why it ended before its time.
    pub failure: Option<Error>,
}

/// Compares. A request to stop ends the trial that runs, and the rounds by then are reported.
///
/// # Errors
/// Before the first trial: what is wrong with the arguments or the ends, or that no tool can be run. Afterwards errors are in the report.
pub fn run(
    params: &Params,
    from: (String, Reach),
    to: (String, Reach),
    say: &Say,
    stop: &Stop,
    on: &mut dyn FnMut(Progress<'_>),
) -> Result<Ended> {
    params.check()?;
    let from = End::open("from", from, params.ipv6, params.answer, say)?;
    let to = End::open("to", to, params.ipv6, params.answer, say)?;
    let mut ends = Ends::new(from, to)?;
    let speeds = ends.speeds()?;
    let link = speeds.iter().flatten().min().copied();
    let (sizes, addresses) = (params.sizes()?, ends.both().each_ref().map(|end| end.address));
    let load = Load {
        from: addresses[0],
        to: (addresses[1], params.port).into(),
        pps: params.rate.pps(&sizes, link)?,
        length: params.length,
        duration: params.duration,
    };
    let frame_bytes = sizes.mean_frame_bytes() as u32;
    let mut report = begin(params, &load, frame_bytes, &mut ends, speeds);
    let mut programs = Programs { segments: params.segments.clone(), ..Programs::default() };
    let tools = installed(params, &mut ends, &mut programs, &mut report)?;
    report.warnings = warnings(params, &load, &tools, &ends);
    report.warnings.iter().for_each(|warning| on(Progress::Warning(warning)));
    report.tools =
        tools.iter().map(|(tool, what)| row(*tool, what.clone(), &load, &programs, &report)).collect();
    let failure = rounds(params, &mut ends, &tools, &load, frame_bytes, &programs, &mut report, stop, on);
    report.interrupted = stop.is_requested();
    report.failure = failure.as_ref().map(|error| error.what.clone());
    conclude(params, &mut report);
    Ok(Ended { report, failure })
}

/// Every round; gives why it ended before its time.
#[expect(clippy::too_many_arguments, reason = "all of one run")]
fn rounds(
    params: &Params,
    ends: &mut Ends,
    tools: &[(ToolName, String)],
    load: &Load,
    frame_bytes: u32,
    programs: &Programs,
    report: &mut Report,
    stop: &Stop,
    on: &mut dyn FnMut(Progress<'_>),
) -> Option<Error> {
    let each = params.duration + OVERHEAD;
    let mut left = each * params.rounds * u32::try_from(tools.len()).unwrap_or(u32::MAX);
    for round in 1..=params.rounds {
        for (turn, at) in order(tools.len(), round).into_iter().enumerate() {
            if stop.is_requested() {
                return None;
            }
            let tool = tools[at].0;
            on(Progress::Begins(tool, round, left));
            let measured = ends.trial(tool, load, programs, stop);
            if stop.is_requested() {
                return None;
            }
            left = left.saturating_sub(each);
            let row = &mut report.tools[at];
            if let Ok(Measured { said, .. }) = &measured
                && let Some(mode) = &said.mode
                && row.trials.is_empty()
            {
                row.what = format!("{} ({mode})", row.what);
            }
            row.trials.push(trial(tool, load, frame_bytes, round, turn as u32 + 1, measured));
            on(Progress::Trial(tool, row.trials.last().expect("just added")));
            if let Err(error) = ends.check() {
                return Some(error);
            }
        }
    }
    None
}

/// Forwards in odd rounds, backwards in even ones.
fn order(tools: usize, round: u32) -> Vec<usize> {
    if round % 2 == 1 { (0..tools).collect() } else { (0..tools).rev().collect() }
}

fn trial(
    tool: ToolName,
    load: &Load,
    frame_bytes: u32,
    round: u32,
    turn: u32,
    measured: Result<Measured>,
) -> Trial {
    match measured {
        Ok(measured) => {
            let limit = Some(figures::limit(tool, load, frame_bytes, &measured));
            let Measured { said, proven, cpu, quiet, .. } = measured;
            Trial {
                round,
                turn,
                offered: said.offered,
                delivered: said.delivered,
                stated: Some(said.stated),
                proven: Some(proven),
                cpu,
                limit,
                quiet,
                failure: None,
            }
        }
        Err(error) => Trial {
            round,
            turn,
            offered: None,
            delivered: None,
            stated: None,
            proven: None,
            cpu: report::Cpu::default(),
            limit: None,
            quiet: true,
            failure: Some(match error.source {
                Some(source) => format!("{}: {source}", error.what),
                None => error.what,
            }),
        },
    }
}

/// Medians, what limits, the earlier result, the verdict.
fn conclude(params: &Params, report: &mut Report) {
    for tool in &mut report.tools {
        tool.summary = summary(&tool.trials);
        let limits: Vec<&Limit> = tool.trials.iter().filter_map(|trial| trial.limit.as_ref()).collect();
        match limits::overall(&limits) {
            Some(limit) => tool.limit = limit,
            None => {
                if let Some(why) = tool.trials.iter().find_map(|trial| trial.failure.clone()) {
                    tool.limit =
                        Limit { by: By::Failed, text: format!("it failed: {why}"), evidence: Vec::new() };
                }
            }
        }
    }
    let Some(earlier) = &params.earlier else { return };
    let baseline = earlier
        .beside(|name| report.tools.iter().find(|tool| tool.name == name.name()).map(|tool| &tool.summary));
    if let Some(percent) = params.not_worse {
        let check = baseline::not_worse(&baseline, percent);
        report.verdict = Some(Verdict { outcome: check.outcome, checks: vec![check] });
    }
    report.baseline = Some(baseline);
}

/// Medians over the rounds that have figures.
pub fn summary(trials: &[Trial]) -> Summary {
    let of = |figure: &dyn Fn(&Trial) -> Option<f64>| Spread::of(trials.iter().filter_map(figure));
    Summary {
        offered_bps: of(&|t| t.offered.map(|flow| flow.payload_bps)),
        delivered_bps: of(&|t| t.delivered.map(|flow| flow.payload_bps)),
        loss_stated_percent: of(&|t| t.stated.and_then(|stated| stated.lost_percent)),
        loss_proven_percent: of(&|t| t.proven.as_ref().and_then(|proven| proven.lost_percent)),
        jitter_ns: of(&|t| t.stated.and_then(|stated| stated.jitter_ns)),
        sender_cpu_s_per_gb: of(&|t| t.cpu.sender.s_per_gb),
        receiver_cpu_s_per_gb: of(&|t| t.cpu.receiver.s_per_gb),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rounds_alternate() {
        assert_eq!(order(3, 1), [0, 1, 2]);
        assert_eq!(order(3, 2), [2, 1, 0]);
        assert_eq!(order(3, 3), [0, 1, 2]);
    }

    #[test]
    fn failed_rounds_have_no_share_in_the_median() {
        let load = Load {
            from: "192.0.2.1".parse().unwrap(),
            to: "192.0.2.2:5201".parse().unwrap(),
            pps: None,
            length: 100,
            duration: Duration::from_secs(1),
        };
        let failed = trial(ToolName::Iperf2, &load, 146, 1, 1, Err(Error::failed("no route")));
        assert_eq!(failed.failure.as_deref(), Some("no route"));
        assert_eq!(summary(&[failed]), Summary::default());
    }
}
