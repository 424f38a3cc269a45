//! All ports' agents, and the tasks that they run: started together, followed together, ended together.
#![forbid(unsafe_code)]

use std::collections::HashMap;
use std::time::{Duration, Instant};

use serde_json::Value;

use super::Port;
use crate::agent::protocol::{Event, Look, WatchSpec};
use crate::agent::{Ended, Task};
use crate::control::Stop;
use crate::error::{Error, Result};
use crate::report::Warning;
use crate::target::Target;

/// A task that joins hundreds of groups is ready after a while: so many times as long as an agent may take to answer.
const READY: u32 = 2;

/// How long all tasks that are left behind may take to end.
const ABANDONED: Duration = Duration::from_secs(3);

/// How long all agents together are listened to, one after another.
const TURN: Duration = Duration::from_millis(20);

/// A task of the port `at`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(in crate::method) struct Job {
    pub at: usize,
    task: Task,
}

/// A watch at the port `at`.
#[derive(Debug)]
pub(in crate::method) struct Watching {
    at: usize,
    task: Task,
}

/// What is known of a job that runs.
#[derive(Debug, Default)]
struct State {
    /// Packets by its intervals so far.
    packets: u64,
    ended: bool,
}

/// The agents.
#[derive(Debug)]
pub(in crate::method) struct Crew {
    pub ports: Vec<Port>,
    jobs: HashMap<Job, State>,
    watches: Vec<Job>,
    warnings: Vec<Warning>,
    /// How long an agent may take to answer, and a task from the request to end to its report.
    answer: Duration,
}

impl Crew {
    pub fn new(ports: Vec<Port>, answer: Duration) -> Self {
        Self { ports, jobs: HashMap::new(), watches: Vec::new(), warnings: Vec::new(), answer }
    }

    /// Starts a command at port `at`.
    pub fn start(&mut self, at: usize, words: &[String]) -> Result<Job> {
        let task = self.ports[at].agent.start(words)?;
        let job = Job { at, task };
        self.jobs.insert(job, State::default());
        Ok(job)
    }

    /// Waits until all of `jobs` are ready.
    pub fn ready(&mut self, jobs: &[Job]) -> Result<()> {
        jobs.iter().try_for_each(|job| self.ports[job.at].agent.ready(job.task, self.answer * READY))
    }

    /// Takes in what agents have told meanwhile.
    pub fn listen(&mut self) -> Result<()> {
        for at in 0..self.ports.len() {
            let mut wait = TURN / self.ports.len() as u32;
            while let Some((task, event)) = self.ports[at].agent.next_event(wait)? {
                wait = Duration::ZERO;
                let name = &self.ports[at].name;
                match event {
                    Event::Interval { interval } => {
                        if let Some(state) = self.jobs.get_mut(&Job { at, task }) {
                            let of = |side: &str| interval[side]["packets"].as_u64().unwrap_or(0);
                            state.packets += of("rx") + of("tx");
                        }
                    }
                    Event::Warning { warning } => note(&mut self.warnings, name, &warning),
                    Event::End { .. } => {
                        if let Some(state) = self.jobs.get_mut(&Job { at, task }) {
                            state.ended = true;
                        }
                    }
                    _ => {}
                }
            }
        }
        Ok(())
    }

    /// Packets that a job has told of in its intervals.
    pub fn packets(&self, job: Job) -> u64 {
        self.jobs.get(&job).map_or(0, |state| state.packets)
    }

    /// Listens for this time, or until `stop`.
    pub fn listen_for(&mut self, time: Duration, stop: &Stop) -> Result<()> {
        let end = Instant::now() + time;
        while Instant::now() < end && !stop.is_requested() {
            self.listen()?;
        }
        self.listen()
    }

    /// Waits until all of `jobs` have told of packets, at most for `time`.
    pub fn until_begun(&mut self, jobs: &[Job], time: Duration, stop: &Stop) -> Result<()> {
        let end = Instant::now() + time;
        while jobs.iter().any(|job| self.packets(*job) == 0) && Instant::now() < end && !stop.is_requested() {
            self.listen()?;
            if let Some(job) = jobs.iter().find(|job| self.jobs.get(job).is_some_and(|state| state.ended)) {
                // Whatever it failed with.
                return self.reports(&[*job]).map(drop);
            }
        }
        Ok(())
    }

    /// Waits until all of `jobs` have ended by themselves, at most for `time`; asks them to end when `stop` is requested.
    pub fn until_ended(&mut self, jobs: &[Job], time: Duration, stop: &Stop) -> Result<()> {
        let end = Instant::now() + time;
        let mut asked = false;
        loop {
            self.listen()?;
            let Some(late) = jobs.iter().find(|job| self.jobs.get(job).is_some_and(|state| !state.ended))
            else {
                return Ok(());
            };
            if Instant::now() > end {
                let name = &self.ports[late.at].name;
                return Err(Error::failed(format!(
                    "{name}: its part of the trial did not end within {} s",
                    time.as_secs()
                ))
                .fix("look whether that host is overloaded, stopped or cut off"));
            }
            if stop.is_requested() && !asked {
                asked = true;
                jobs.iter().try_for_each(|job| self.ports[job.at].agent.stop(job.task))?;
            }
        }
    }

    /// Asks `jobs` to end and waits for what they came to, in order.
    pub fn finish(&mut self, jobs: &[Job]) -> Result<Vec<Ended>> {
        for job in jobs {
            self.ports[job.at].agent.stop(job.task)?;
        }
        jobs.iter()
            .map(|job| {
                self.jobs.remove(job);
                self.ports[job.at].agent.finish(job.task, self.answer)
            })
            .collect()
    }

    /// As [`finish`](Self::finish), for reports; a job without one is an error.
    pub fn reports(&mut self, jobs: &[Job]) -> Result<Vec<Value>> {
        let ended = self.finish(jobs)?;
        jobs.iter()
            .zip(ended)
            .map(|(job, ended)| match (ended.failure, ended.report) {
                (Some(failure), _) => Err(failure),
                (None, Some(report)) => Ok(report),
                (None, None) => Err(Error::failed(format!(
                    "{}: its part of the trial ended without a report (status {})",
                    self.ports[job.at].name, ended.status
                ))),
            })
            .collect()
    }

    /// Begins to watch the interface of port `at`, for data to these groups.
    pub fn watch(&mut self, at: usize, port: u16, groups: &[Target]) -> Result<Watching> {
        let Port { agent, interface, .. } = &mut self.ports[at];
        let groups = groups.iter().map(ToString::to_string).collect();
        let task = agent.watch(&WatchSpec { interface: interface.clone(), port, groups })?;
        self.watches.push(Job { at, task });
        agent.ready(task, self.answer * READY)?;
        Ok(Watching { at, task })
    }

    /// Joins groups, and waits until the kernel was asked to.
    pub fn join(&mut self, watching: &Watching, groups: &[Target]) -> Result<()> {
        let agent = &mut self.ports[watching.at].agent;
        agent.join(watching.task, groups, None)?;
        agent.moved(watching.task, self.answer * READY).map(drop)
    }

    /// Leaves groups, as [`join`](Self::join).
    pub fn leave(&mut self, watching: &Watching, groups: &[Target]) -> Result<()> {
        let agent = &mut self.ports[watching.at].agent;
        agent.leave(watching.task, groups, None)?;
        agent.moved(watching.task, self.answer * READY).map(drop)
    }

    /// What a watch has seen by now.
    pub fn look(&mut self, watching: &Watching) -> Result<Look> {
        self.ports[watching.at].agent.look(watching.task, self.answer)
    }

    /// Ends a watch: all that it has seen.
    #[expect(clippy::needless_pass_by_value, reason = "it is over")]
    pub fn watched(&mut self, watching: Watching) -> Result<Look> {
        self.watches.retain(|job| (job.at, job.task) != (watching.at, watching.task));
        self.ports[watching.at].agent.watched(watching.task, self.answer)
    }

    /// Ends whatever a trial that failed has left running.
    pub fn abandon(&mut self) {
        let jobs: Vec<Job> = self.jobs.drain().map(|(job, _)| job).chain(self.watches.drain(..)).collect();
        for job in &jobs {
            let _ = self.ports[job.at].agent.stop(job.task);
        }
        let end = Instant::now() + ABANDONED;
        for job in &jobs {
            let left = end.saturating_duration_since(Instant::now());
            let _ = self.ports[job.at].agent.finish(job.task, left);
        }
    }

    /// What the ports warned of since the last call.
    pub fn take_warnings(&mut self) -> Vec<Warning> {
        std::mem::take(&mut self.warnings)
    }
}

/// Warnings that a benchmark expects of its own runs, and says itself what of them matters.
const EXPECTED: [&str; 7] =
    ["nothing-heard", "no-end", "unaccounted", "not-seen", "slow", "offered-load", "overdue"];

fn note(warnings: &mut Vec<Warning>, port: &str, told: &Value) {
    let text = |name: &str| told[name].as_str().map(str::to_owned);
    if told["code"].as_str().is_some_and(|code| EXPECTED.contains(&code)) {
        return;
    }
    let warning = Warning {
        code: "port",
        text: format!("{port}: {}", text("text").unwrap_or_default()),
        fix: text("fix"),
    };
    if !warnings.contains(&warning) {
        warnings.push(warning);
    }
}
