//! Tools at an agent: it runs `peer` and a JSON object that says what, and answers by events as for every task.
#![forbid(unsafe_code)]

use std::path::Path;
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

/// Options of both tools that an agent takes: none that reads or writes a file, or leaves a daemon behind. Each is a word by itself.
const OPTIONS: [&str; 34] = [
    "-c",
    "-s",
    "-1",
    "-J",
    "-p",
    "-t",
    "-b",
    "-B",
    "-l",
    "-P",
    "-O",
    "-w",
    "-u",
    "-R",
    "-n",
    "-k",
    "-i",
    "-e",
    "-y",
    "-A",
    "-C",
    "-M",
    "-N",
    "-S",
    "-V",
    "-Z",
    "-4",
    "-6",
    "--bidir",
    "--gsro",
    "--udp-counters-64bit",
    "--get-server-output",
    "--rcv-timeout",
    "--connect-timeout",
];

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
        Ok(ask) if refused(&ask).is_some() => Err(refused(&ask).expect("just seen")),
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

/// Why an agent does not do it: who may reach an agent may measure, and gets no shell and no files by that.
fn refused(ask: &Ask) -> Option<Failure> {
    let program = match ask {
        Ask::Find { program, .. } => program,
        Ask::Run(spec) => &spec.program,
    };
    if let Some(path) = program.as_ref().filter(|path| !is_iperf(path)) {
        let mut failure =
            Failure::usage(format!("{path}: an agent runs programs whose names begin with iperf only"));
        failure.fix = Some("name the program so, or a link to it".to_owned());
        return Some(failure);
    }
    let Ask::Run(spec) = ask else { return None };
    if spec.deadline_ms > LONGEST_MS {
        return Some(Failure::usage(format!("peer: deadline_ms is above {LONGEST_MS}")));
    }
    let odd =
        spec.arguments.iter().find(|word| word.starts_with('-') && !OPTIONS.contains(&word.as_str()))?;
    let mut failure = Failure::usage(format!("{}: an agent does not take {odd}", spec.kind.name()));
    failure.fix = Some(format!("it takes {}", OPTIONS.join(" ")));
    Some(failure)
}

fn is_iperf(path: &str) -> bool {
    let name = Path::new(path).file_name().and_then(|name| name.to_str());
    name.is_some_and(|name| name.starts_with("iperf"))
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

#[cfg(test)]
mod tests {
    use super::*;

    fn asked(text: &str) -> std::result::Result<(), String> {
        match job(&[WORD.to_owned(), text.to_owned()]).expect("it is for us") {
            Ok(_) => Ok(()),
            Err(failure) => Err(failure.text),
        }
    }

    #[test]
    fn an_agent_gives_nobody_a_shell_or_a_file() {
        let run = |program: &str, arguments: &str| {
            asked(&format!(
                r#"{{"run":{{"kind":"iperf3","program":"{program}","arguments":{arguments},"deadline_ms":1}}}}"#
            ))
        };
        assert_eq!(run("/usr/bin/iperf3", r#"["-s","-1","-J","-p","5201"]"#), Ok(()));
        assert!(run("/bin/sh", r#"["-c","id"]"#).is_err_and(|e| e.contains("begin with iperf")));
        for word in ["--logfile", "--logf", "-F", "-1F", "-I", "-D", "--pidfile=x", "-o", "-p5201"] {
            let refused = run("iperf3", &format!(r#"["-s","{word}","x"]"#));
            assert!(refused.as_ref().is_err_and(|e| e.contains(word)), "{word}: {refused:?}");
        }
        assert!(asked(r#"{"find":{"kind":"iperf2","program":"/sbin/reboot"}}"#).is_err());
        assert_eq!(asked(r#"{"find":{"kind":"iperf2"}}"#), Ok(()));
        assert!(asked("{}").is_err() && asked("nonsense").is_err());
        assert!(job(&["peer".into()]).is_some_and(|job| job.is_err()));
        assert!(job(&["recv".into(), "{}".into()]).is_none());
    }
}
