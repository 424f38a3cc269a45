//! What is known of a run by now: as much of it as a page shows, in bounded memory.

use std::collections::{HashMap, VecDeque};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant, SystemTime};

use serde_json::{Value, json};
use tokio::sync::watch;

use super::metrics::Metrics;
use crate::report::document::{Document, State, tell};

/// Intervals that are kept: an hour of half seconds. The first ones go when more come.
pub const INTERVALS: usize = 7_200;
/// Trials that are kept; those of later measurements are counted only, and come with the report.
const TRIALS: usize = 5_000;
/// Warnings that are kept.
const WARNINGS: usize = 200;
/// Pages that are waited for at the end.
const FOLLOWERS: usize = 64;
/// A page that has not asked for so long is closed.
const GONE: Duration = Duration::from_secs(30);

/// Shared by the command, which tells, and the server, which shows.
pub struct Hub {
    live: Mutex<Live>,
    changed: watch::Sender<u64>,
}

struct Live {
    schema: &'static str,
    command: String,
    target: Option<String>,
    started_at: String,
    intervals: VecDeque<Value>,
    /// Intervals that went.
    gone: u64,
    tests: Vec<Value>,
    trials: usize,
    warnings: Vec<Value>,
    report: Option<Value>,
    state: State,
    metrics: Metrics,
    /// Open pages, by the number that each chose: when they last asked, and whether they were given the end.
    followers: HashMap<u64, (Instant, bool)>,
}

impl Hub {
    /// Of a run that begins.
    pub fn new(schema: &'static str, command: &str, target: Option<String>) -> Self {
        let started_at = humantime::format_rfc3339_millis(SystemTime::now()).to_string();
        Self {
            live: Mutex::new(Live {
                schema,
                command: command.to_owned(),
                target,
                started_at,
                intervals: VecDeque::new(),
                gone: 0,
                tests: Vec::new(),
                trials: 0,
                warnings: Vec::new(),
                report: None,
                state: State::Running,
                metrics: Metrics::default(),
                followers: HashMap::new(),
            }),
            changed: watch::Sender::new(1),
        }
    }

    fn live(&self) -> MutexGuard<'_, Live> {
        self.live.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Takes an event, as a line has it.
    pub fn event(&self, mut event: Value) {
        let mut live = self.live();
        live.metrics.event(&event);
        match event["event"].as_str().unwrap_or_default() {
            "interval" => {
                if live.intervals.len() >= INTERVALS {
                    live.intervals.pop_front();
                    live.gone += 1;
                }
                live.intervals.push_back(event["interval"].take());
            }
            "warning" if live.warnings.len() < WARNINGS => live.warnings.push(event["warning"].take()),
            "trial" if live.trials < TRIALS => {
                live.trials += 1;
                tell(&mut live.tests, "trial", event);
            }
            "measurement" if live.trials < TRIALS => tell(&mut live.tests, "measurement", event),
            "report" => {
                let report = event["report"].take();
                live.finish(report);
            }
            _ => {}
        }
        drop(live);
        self.changed.send_modify(|version| *version += 1);
    }

    /// Takes the report.
    pub fn report(&self, report: Value) {
        let mut live = self.live();
        live.metrics.report(&report);
        live.finish(report);
        drop(live);
        self.changed.send_modify(|version| *version += 1);
    }

    /// The run has ended, with a report or without.
    pub fn end(&self) {
        let mut live = self.live();
        if live.state != State::Running {
            return;
        }
        live.state = State::Cut;
        live.metrics.end();
        drop(live);
        self.changed.send_modify(|version| *version += 1);
    }

    /// Tells of changes.
    pub fn changes(&self) -> watch::Receiver<u64> {
        self.changed.subscribe()
    }

    /// As much of the result as there is.
    pub fn document(&self) -> Document {
        let live = self.live();
        let mut notes = Vec::new();
        if live.state == State::Cut {
            notes.push("The run ended without a report: this is what was known by then.".to_owned());
        }
        let value = match &live.report {
            Some(report) => report.clone(),
            None => {
                if live.gone > 0 {
                    notes.push(format!(
                        "The first {} intervals are not shown here: the report has them.",
                        live.gone
                    ));
                }
                live.so_far()
            }
        };
        Document { value, source: "live".to_owned(), state: live.state, notes }
    }

    /// The report as JSON, when it is there.
    pub fn result(&self) -> Option<String> {
        self.live().report.as_ref().map(Value::to_string)
    }

    /// Figures for Prometheus.
    pub fn metrics(&self) -> String {
        let live = self.live();
        live.metrics.encode(&live.command, live.schema)
    }

    /// A page, by the number it chose, was given the state of the run.
    pub fn followed(&self, page: u64, state: State) {
        let mut live = self.live();
        live.followers.retain(|_, (seen, _)| seen.elapsed() < GONE);
        if live.followers.len() < FOLLOWERS || live.followers.contains_key(&page) {
            live.followers.insert(page, (Instant::now(), state != State::Running));
        }
    }

    /// Whether no open page is without the end.
    pub fn all_have_seen_the_end(&self) -> bool {
        self.live().followers.values().all(|(seen, ended)| *ended || seen.elapsed() >= GONE)
    }
}

impl Live {
    fn finish(&mut self, mut report: Value) {
        // Some reports have no time line of their own.
        if let Some(parts) = report.as_object_mut()
            && !parts.contains_key("intervals")
            && !self.intervals.is_empty()
        {
            parts.insert("intervals".to_owned(), self.intervals.iter().cloned().collect());
        }
        self.report = Some(report);
        self.state = State::Complete;
        self.intervals = VecDeque::new();
        self.tests = Vec::new();
    }

    fn so_far(&self) -> Value {
        let mut value = json!({
            "schema": self.schema, "command": self.command, "started_at": self.started_at, "warnings": self.warnings,
        });
        if let Some(target) = &self.target {
            value["config"] = json!({ "target": target });
        }
        if !self.intervals.is_empty() {
            value["intervals"] = self.intervals.iter().cloned().collect();
        }
        if !self.tests.is_empty() {
            value["tests"] = Value::Array(self.tests.clone());
        }
        value
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn interval(n: u64) -> Value {
        json!({"event": "interval", "interval": {"start_ns": n, "end_ns": n + 1, "rx": {"packets": 2, "lost": 1, "pps": 4, "payload_bps": 800}}})
    }

    #[test]
    fn memory_is_bounded_and_the_page_says_what_is_left_out() {
        let hub = Hub::new("wirerate.report/1", "recv", None);
        for n in 0..INTERVALS as u64 + 10 {
            hub.event(interval(n));
        }
        for _ in 0..WARNINGS + 10 {
            hub.event(json!({"event": "warning", "warning": {"code": "x", "text": "y"}}));
        }
        let document = hub.document();
        assert_eq!(document.value["intervals"].as_array().unwrap().len(), INTERVALS);
        assert_eq!(document.value["intervals"][0]["start_ns"], 10);
        assert_eq!(document.value["warnings"].as_array().unwrap().len(), WARNINGS);
        assert!(document.notes[0].starts_with("The first 10 intervals"), "{:?}", document.notes);
        // What is counted is counted to the end.
        let received = 2 * (INTERVALS + 10);
        assert!(
            hub.metrics().contains(&format!("wirerate_received_packets_total {received}\n")),
            "{}",
            hub.metrics()
        );
    }

    #[test]
    fn pages_are_waited_for_until_they_have_the_end() {
        let hub = Hub::new("wirerate.report/1", "recv", None);
        assert!(hub.all_have_seen_the_end(), "nobody looks");
        hub.followed(7, State::Running);
        assert!(!hub.all_have_seen_the_end());
        hub.report(json!({"schema": "wirerate.report/1"}));
        assert!(!hub.all_have_seen_the_end());
        hub.followed(7, hub.document().state);
        assert!(hub.all_have_seen_the_end());
        (0..1000).for_each(|page| hub.followed(page, State::Complete));
        assert_eq!(hub.live().followers.len(), FOLLOWERS);
    }

    #[test]
    fn a_run_that_fails_is_not_shown_as_running() {
        let hub = Hub::new("wirerate.report/1", "recv", None);
        hub.event(interval(0));
        hub.end();
        assert_eq!(hub.document().state, State::Cut);
        assert!(hub.result().is_none());
    }
}
