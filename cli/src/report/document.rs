//! A result as a file has it: one JSON object with a schema, or the lines of `--json-lines`.

use std::fs::File;
use std::io::Read;
use std::path::Path;

use serde_json::{Map, Value, json};
use wirerate_engine::Error;

/// Largest file that is read: the reports of thousands of streams have a few MB.
const LARGEST: u64 = 256 << 20;

/// What this program's `report` reads.
pub const SCHEMAS: [&str; 13] = [
    "wirerate.report/1",
    "wirerate.replicate/1",
    "wirerate.qualify/1",
    "wirerate.compare/1",
    "wirerate.linktest/1",
    "wirerate.stamp/1",
    "wirerate.reflect/1",
    "wirerate.replicator/1",
    "wirerate.drops/1",
    "wirerate.groups/1",
    "wirerate.watch/1",
    "wirerate.doctor/1",
    "wirerate.demo/1",
];

/// Whether a result is the whole of it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum State {
    /// The report is there.
    Complete,
    /// The run goes on.
    Running,
    /// Lines that end before the report.
    Cut,
}

/// A result, or as much of it as there is.
#[derive(Debug)]
pub struct Document {
    /// The result, with its schema.
    pub value: Value,
    /// Where it was read from, for people.
    pub source: String,
    /// Whether it is whole.
    pub state: State,
    /// What a reader should know of how it was read.
    pub notes: Vec<String>,
}

impl Document {
    /// Reads a file; `-` is standard input.
    pub fn read(path: &Path) -> Result<Self, Error> {
        let source = path.display().to_string();
        let mut text = Vec::new();
        let read = if source == "-" {
            std::io::stdin().lock().take(LARGEST + 1).read_to_end(&mut text)
        } else {
            File::open(path).and_then(|file| file.take(LARGEST + 1).read_to_end(&mut text))
        };
        read.map_err(|e| {
            Error::usage(format!("{source}: cannot be read"))
                .because(e)
                .fix("name a file that --json, --json-lines or --json-file wrote")
        })?;
        if text.len() as u64 > LARGEST {
            return Err(Error::usage(format!("{source}: above {} MiB", LARGEST >> 20))
                .fix("give the result of one run"));
        }
        let text = String::from_utf8(text)
            .map_err(|e| damaged(&source, &format!("byte {} is no UTF-8", e.utf8_error().valid_up_to())))?;
        Self::parse(&text, source)
    }

    /// Reads what a file has.
    pub fn parse(text: &str, source: String) -> Result<Self, Error> {
        match serde_json::from_str::<Value>(text) {
            Ok(value) if value.get("event").is_some() => lines(text, source),
            Ok(value) => Self::whole(value, source),
            Err(_) if text.lines().next().is_some_and(is_event) => lines(text, source),
            Err(e) => Err(damaged(&source, &e.to_string())),
        }
    }

    fn whole(value: Value, source: String) -> Result<Self, Error> {
        check(&value, &source)?;
        Ok(Self { value, source, state: State::Complete, notes: Vec::new() })
    }

    /// Name of the schema.
    pub fn schema(&self) -> &str {
        self.value["schema"].as_str().unwrap_or_default()
    }
}

fn damaged(source: &str, why: &str) -> Error {
    Error::usage(format!("{source}: not a whole result: {why}"))
        .fix("give the file as --json, --json-lines or --json-file wrote it, from its first byte to its last")
}

/// Whether a result is one that can be read: its schema, and what its parts are.
fn check(value: &Value, source: &str) -> Result<(), Error> {
    let Some(schema) = value.get("schema").and_then(Value::as_str) else {
        let what = if value.get("intervals").is_some() && value.get("end").is_some() {
            "looks like iperf3's JSON, not wirerate's"
        } else {
            "no result of wirerate: it has no \"schema\""
        };
        return Err(Error::usage(format!("{source}: {what}"))
            .fix("give a file that --json, --json-lines or --json-file wrote"));
    };
    if !SCHEMAS.contains(&schema) {
        let known = schema.rsplit_once('/').and_then(|(name, _)| {
            SCHEMAS.iter().find(|s| s.rsplit_once('/').is_some_and(|(known, _)| known == name))
        });
        let shown: String = schema.chars().take(80).collect();
        let what = format!("{source}: schema {shown:?} is not known");
        return Err(match known {
            Some(known) => Error::usage(format!("{what}: this version reads {known}"))
                .fix("use the version of wirerate that wrote the file"),
            None => Error::usage(what).fix(format!("give one of {}", SCHEMAS.join(", "))),
        });
    }
    for (name, kind) in shapes(schema) {
        if let Some(part) = value.get(*name)
            && !kind.fits(part)
        {
            let found = found(part);
            return Err(damaged(
                source,
                &format!("at /{name} {} is expected, and it is {found}", kind.name()),
            ));
        }
    }
    for (name, kind) in required(schema) {
        if value.get(*name).is_none() {
            return Err(damaged(source, &format!("/{name} is missing, {}", kind.name())));
        }
    }
    for (number, interval) in value["intervals"].as_array().into_iter().flatten().enumerate() {
        if !interval.is_object() {
            let found = found(interval);
            return Err(damaged(
                source,
                &format!("at /intervals/{number} an object is expected, and it is {found}"),
            ));
        }
    }
    Ok(())
}

/// What a part has to be.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Kind {
    Object,
    Array,
    Text,
}

impl Kind {
    fn fits(self, value: &Value) -> bool {
        match self {
            Self::Object => value.is_object(),
            Self::Array => value.is_array(),
            Self::Text => value.is_string(),
        }
    }

    fn name(self) -> &'static str {
        match self {
            Self::Object => "an object",
            Self::Array => "a list",
            Self::Text => "a text",
        }
    }
}

fn shapes(schema: &str) -> &'static [(&'static str, Kind)] {
    use Kind::{Array, Object, Text};
    match schema {
        "wirerate.report/1" => &[
            ("command", Text),
            ("started_at", Text),
            ("host", Object),
            ("config", Object),
            ("backend", Object),
            ("workers", Array),
            ("intervals", Array),
            ("tx", Object),
            ("rx", Object),
            ("ledger", Object),
            ("warnings", Array),
            ("verdict", Object),
        ],
        "wirerate.stamp/1" => &[
            ("started_at", Text),
            ("tx", Object),
            ("rx", Object),
            ("loss", Object),
            ("times", Object),
            ("intervals", Array),
            ("warnings", Array),
        ],
        _ => &[
            ("started_at", Text),
            ("config", Object),
            ("tests", Array),
            ("warnings", Array),
            ("intervals", Array),
        ],
    }
}

fn required(schema: &str) -> &'static [(&'static str, Kind)] {
    match schema {
        "wirerate.report/1" => &shapes("wirerate.report/1")[..4],
        "wirerate.stamp/1" => &shapes("wirerate.stamp/1")[..5],
        "wirerate.replicate/1" => &[("started_at", Kind::Text), ("tests", Kind::Array)],
        _ => &[],
    }
}

fn found(value: &Value) -> &'static str {
    match value {
        Value::Null => "null",
        Value::Bool(_) => "true or false",
        Value::Number(_) => "a number",
        Value::String(_) => "a text",
        Value::Array(_) => "a list",
        Value::Object(_) => "an object",
    }
}

fn is_event(line: &str) -> bool {
    serde_json::from_str::<Value>(line).is_ok_and(|v| v.get("event").is_some_and(Value::is_string))
}

/// Reads lines of events: the report, and what was told before it; without a report, what was told.
fn lines(text: &str, source: String) -> Result<Document, Error> {
    let mut told = Told::default();
    let mut notes = Vec::new();
    let count = text.lines().count();
    for (number, line) in text.lines().enumerate().filter(|(_, line)| !line.trim().is_empty()) {
        match serde_json::from_str::<Value>(line) {
            Ok(event) if event["event"].is_string() => told.event(event),
            Ok(_) => return Err(damaged(&source, &format!("line {} is no event", number + 1))),
            // Whoever wrote it was ended in the midst of a line.
            Err(e) if number + 1 == count && e.is_eof() => {
                notes.push("The last line is cut off, and was left out.".to_owned());
            }
            Err(e) => return Err(damaged(&source, &format!("line {}: {e}", number + 1))),
        }
    }
    let (value, state) = told.result().map_err(|why| damaged(&source, why))?;
    check(&value, &source)?;
    if state == State::Cut {
        notes.push("The lines end before the report: this is what was told until then.".to_owned());
    }
    Ok(Document { value, source, state, notes })
}

/// What events told.
#[derive(Debug, Default)]
struct Told {
    report: Option<Value>,
    intervals: Vec<Value>,
    warnings: Vec<Value>,
    tests: Vec<Value>,
}

impl Told {
    fn event(&mut self, mut event: Value) {
        let name = event["event"].as_str().unwrap_or_default().to_owned();
        match name.as_str() {
            "report" => self.report = Some(event["report"].take()),
            "interval" => self.intervals.push(event["interval"].take()),
            "warning" => self.warnings.push(event["warning"].take()),
            "trial" | "measurement" => tell(&mut self.tests, &name, event),
            _ => {}
        }
    }

    fn result(self) -> Result<(Value, State), &'static str> {
        if let Some(mut report) = self.report {
            // The report of a session has no time line of its own.
            if let Some(parts) = report.as_object_mut()
                && !parts.contains_key("intervals")
                && !self.intervals.is_empty()
            {
                parts.insert("intervals".to_owned(), Value::Array(self.intervals));
            }
            return Ok((report, State::Complete));
        }
        let mut value = if let Some(interval) = self.intervals.first() {
            if interval.get("answered").is_some() {
                json!({"schema": "wirerate.stamp/1", "started_at": "", "tx": {}, "rx": {}, "loss": {}, "times": {}})
            } else {
                let command = if interval.get("tx").is_some() { "send" } else { "recv" };
                json!({"schema": "wirerate.report/1", "command": command, "started_at": "", "host": {}, "config": {}})
            }
        } else if !self.tests.is_empty() {
            json!({"schema": "wirerate.replicate/1", "started_at": ""})
        } else {
            return Err("lines without an interval, a trial or a report");
        };
        let parts: &mut Map<String, Value> = value.as_object_mut().expect("it is one");
        if value_of(&self.intervals) {
            parts.insert("intervals".to_owned(), Value::Array(self.intervals));
        }
        parts.insert("tests".to_owned(), Value::Array(self.tests));
        parts.insert("warnings".to_owned(), Value::Array(self.warnings));
        Ok((value, State::Cut))
    }
}

fn value_of(list: &[Value]) -> bool {
    !list.is_empty()
}

/// Adds a trial or a measurement, as a line tells it, to tests as a report has them. A measurement holds its trials: they are put in the place of those
/// that came one by one.
pub fn tell(tests: &mut Vec<Value>, kind: &str, mut event: Value) {
    let name = event["test"].take();
    let at = tests.iter().position(|test| test["name"] == name).unwrap_or_else(|| {
        tests.push(json!({"name": name, "measurements": []}));
        tests.len() - 1
    });
    let Some(measurements) = tests[at]["measurements"].as_array_mut() else { return };
    let part = event[kind].take();
    let key = |v: &Value| (v["frame_bytes"].clone(), v["groups"].clone());
    let open = measurements.last().is_some_and(|m| m["outcome"].is_null());
    match kind {
        "measurement" if open => {
            measurements.pop();
            measurements.push(part);
        }
        "measurement" => measurements.push(part),
        _ => {
            if !open || measurements.last().is_some_and(|m| key(m) != key(&part)) {
                measurements.push(json!({
                    "frame_bytes": part["frame_bytes"], "groups": part["groups"], "trials": [],
                }));
            }
            if let Some(trials) =
                measurements.last_mut().and_then(|m| m.get_mut("trials")).and_then(Value::as_array_mut)
            {
                trials.push(part);
            }
        }
    }
}

#[cfg(test)]
#[path = "document_tests.rs"]
mod tests;
