//! Tools at an agent: it runs `peer` and a JSON object that says what, and answers by events as for every task.
#![forbid(unsafe_code)]

use std::time::{Duration, Instant};

use serde::{Deserialize, Serialize};
use serde_json::Value;

use super::run::{Child, Ended, Spec};
use super::tool::{Kind, Tool};
use crate::agent::protocol::{Event, Failure};
use crate::agent::serve::Job;
use crate::agent::{Agent, Task};
use crate::control::Stop;
use crate::error::{Error, Result};

/// The word by which an agent is asked for a tool.
const WORD: &str = "peer";

/// How long an agent may take to answer what takes no time.
const ANSWER: Duration = Duration::from_secs(20);

/// How much longer than its tool a task may take.
const LONGER: Duration = Duration::from_secs(15);

/// Longest run of a tool: a year.
const LONGEST_MS: u64 = 366 * 86_400_000;

/// What is asked.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
enum Ask {
    /// Whether a tool is there.
    Find {
        kind: Kind,
        #[serde(default, skip_serializing_if = "Option::is_none")]
        program: Option<String>,
    },
    /// Run it: ready when it listens or has begun, its report is an [`Ended`].
    Run(Spec),
}

/// The job of an agent that is asked by these words; `None` when they ask for something else.
pub fn job(words: &[String]) -> Option<std::result::Result<Job, Failure>> {
    let (word, rest) = words.split_first()?;
    if word != WORD {
        return None;
    }
    let [text] = rest else {
        return Some(Err(Failure::usage("peer: one word has to follow, a JSON object")));
    };
    Some(match serde_json::from_str::<Ask>(text) {
        Ok(Ask::Run(spec)) if spec.deadline_ms > LONGEST_MS => {
            Err(Failure::usage(format!("peer: deadline_ms is above {LONGEST_MS}")))
        }
        Ok(ask) => {
            Ok(Box::new(move |stop: &Stop, tell: &mut dyn FnMut(Event)| match answer(&ask, stop, tell) {
                Ok(report) => {
                    tell(Event::Report { report });
                    0
                }
                Err(error) => {
                    let failure = Failure::from(&error);
                    let status = failure.status();
                    tell(Event::Error(failure));
                    status
                }
            }))
        }
        Err(error) => Err(Failure::usage(format!("peer: {error}"))),
    })
}

fn answer(ask: &Ask, stop: &Stop, tell: &mut dyn FnMut(Event)) -> Result<Value> {
    Ok(match ask {
        Ask::Find { kind, program } => plain(&Tool::find(*kind, program.as_deref(), &[])?),
        Ask::Run(spec) => {
            let child = Child::start(spec, &[])?;
            tell(Event::Ready);
            plain(&child.finish(stop))
        }
    })
}

fn plain(value: &impl Serialize) -> Value {
    serde_json::to_value(value).unwrap_or_default()
}

fn begin(agent: &mut Agent, ask: &Ask) -> Result<Task> {
    let text = serde_json::to_string(ask).unwrap_or_default();
    agent.start(&[WORD, &text])
}

pub(super) fn find(agent: &mut Agent, kind: Kind, program: Option<&str>) -> Result<Tool> {
    let task = begin(agent, &Ask::Find { kind, program: program.map(str::to_owned) })?;
    let report = agent.report(task, ANSWER)?;
    understood(agent, report)
}

pub(super) fn start(agent: &mut Agent, spec: &Spec) -> Result<Task> {
    let task = begin(agent, &Ask::Run(spec.clone()))?;
    match agent.ready(task, ANSWER) {
        Ok(()) => Ok(task),
        Err(error) => {
            let _ = agent.stop(task);
            Err(error)
        }
    }
}

/// Waits for the task's end; its own deadline ends it, and `stop`.
pub(super) fn finish(agent: &mut Agent, task: Task, stop: &Stop) -> Result<Ended> {
    let mut asked = None;
    // Takes in what comes, and comes back: the deadline is the far end's to keep.
    while !agent.has_ended_within(task, Duration::from_millis(20))? {
        if stop.is_requested() && asked.is_none() {
            agent.stop(task)?;
            asked = Some(Instant::now());
        }
        if asked.is_some_and(|at| at.elapsed() > LONGER) {
            return Err(Error::failed(format!("{}: a tool was asked to end and did not", agent.name())));
        }
    }
    let report = agent.report(task, LONGER)?;
    understood(agent, report)
}

fn understood<T: serde::de::DeserializeOwned>(agent: &Agent, report: Value) -> Result<T> {
    serde_json::from_value(report).map_err(|e| {
        Error::failed(format!("{}: its answer about a tool is not understood: {e}", agent.name()))
            .fix("install the same version at both ends")
    })
}
