//! What both ends say to each other: one JSON object a line. `docs/agent.md` describes it for those who write another end.
#![forbid(unsafe_code)]

mod watch;

use std::fmt;

use serde::{Deserialize, Deserializer, Serialize, Serializer, de};
use serde_json::Value;

use crate::clock::Claim;
use crate::error::{Error, Kind};

pub use watch::{GroupMoments, Groups, Look, Moved, Others, WATCH_SCHEMA, WatchSpec};

/// Number of the protocol. Both ends have to have the same one.
pub const PROTOCOL: u32 = 1;

/// Longest request, in bytes: the list of 10,000 groups has half of that.
pub const LONGEST_REQUEST: usize = 1 << 20;

/// Longest event, in bytes: reports of thousands of streams have a few MB.
pub const LONGEST_EVENT: usize = 64 << 20;

/// A line from the near end.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Request {
    /// The task that it is about, chosen by the near end. A number is free again when its task has ended.
    pub id: u64,
    /// What is asked.
    #[serde(flatten)]
    pub ask: Ask,
}

/// What is asked: the key is the verb, the value what it needs.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Ask {
    /// Run a command: the words that a user would type behind `wirerate`.
    Start(Vec<String>),
    /// Watch an interface: when groups that are joined and left come and go.
    Watch(WatchSpec),
    /// Have a watch join groups.
    Join(Groups),
    /// Have a watch leave groups.
    Leave(Groups),
    /// Tell what a watch has seen by now.
    Look(Yes),
    /// End a task; its report follows.
    Stop(Yes),
    /// Say that you are there, and what time it is.
    Ping(Yes),
}

/// Requests that need nothing have the value `true`.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Yes;

impl Serialize for Yes {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_bool(true)
    }
}

impl<'de> Deserialize<'de> for Yes {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        match bool::deserialize(deserializer)? {
            true => Ok(Self),
            false => Err(de::Error::custom("the value has to be true")),
        }
    }
}

/// A line from the far end.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Message {
    /// The task that it is about; absent where it is about none.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub id: Option<u64>,
    /// What is told.
    #[serde(flatten)]
    pub event: Event,
}

/// What is told. `ready`, `interval`, `warning` and `report` are as `--json-lines` has them.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(tag = "event", rename_all = "snake_case")]
pub enum Event {
    /// The first line: who is there.
    Hello(Hello),
    /// The task has begun: what is sent from now on is counted.
    Ready,
    /// An interval has passed.
    Interval {
        /// Its figures.
        interval: Value,
    },
    /// Something that a reader should know.
    Warning {
        /// Code, text and fix.
        warning: Value,
    },
    /// What the task came to. After a failure on the way it covers the time before.
    Report {
        /// The command's own report.
        report: Value,
    },
    /// A watch has joined what it was asked to.
    Joined(Moved),
    /// A watch has left what it was asked to.
    Left(Moved),
    /// What a watch has seen by now.
    Look(Look),
    /// What went wrong.
    Error(Failure),
    /// The last line about a task.
    End {
        /// The exit status that the command would have had.
        status: u8,
    },
    /// The answer to `ping`.
    Pong {
        /// CLOCK_TAI of the far end, in ns.
        tai_ns: u64,
    },
}

/// Who answers, and what can be done there.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Hello {
    /// [`PROTOCOL`] of the far end.
    pub protocol: u32,
    /// Version of the program.
    pub version: String,
    /// Name of the host, or of the container.
    pub host: String,
    /// Release of the kernel.
    pub kernel: String,
    /// Which boot of which kernel: the same for namespaces and containers of one host.
    pub boot_id: String,
    /// The network namespace, by its inode.
    pub netns: u64,
    /// Process.
    pub pid: u32,
    /// What the kernel says of its clock; absent where it says nothing.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub clock: Option<Claim>,
    /// Interfaces of the namespace.
    pub interfaces: Vec<Interface>,
    /// Capabilities in effect, as setcap(8) writes them.
    pub capabilities: Vec<String>,
    /// Datapaths that these allow.
    pub backends: Vec<String>,
}

/// An interface of the far end.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Interface {
    /// Name.
    pub name: String,
    /// Index in its namespace.
    pub index: u32,
    /// Hardware address, as 02:00:00:00:00:01; absent where there is none.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub mac: Option<String>,
    /// Addresses with the lengths of their prefixes, as 192.0.2.1/24.
    pub addresses: Vec<String>,
    /// MTU in bytes.
    pub mtu: u32,
    /// It is up, and its lower layer is.
    pub up: bool,
    /// Kind of a virtual device: `veth`, `macvlan`, …
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub kind: Option<String>,
}

/// An error that crosses the line and says the same on the other side.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Failure {
    /// Who has to act.
    pub kind: FailureKind,
    /// What is wrong, where and why. For wrong arguments this is what the command line says of them.
    pub text: String,
    /// What to do about it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub fix: Option<String>,
}

/// As [`Kind`].
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum FailureKind {
    /// It failed while running.
    Failed,
    /// The arguments or the request are wrong.
    Usage,
    /// That machine or user cannot run it.
    Environment,
}

impl Failure {
    /// A request or arguments that are wrong.
    pub fn usage(text: impl Into<String>) -> Self {
        Self { kind: FailureKind::Usage, text: text.into(), fix: None }
    }

    /// The exit status of a command that failed so.
    pub fn status(&self) -> u8 {
        match self.kind {
            FailureKind::Failed => 1,
            FailureKind::Usage => 2,
            FailureKind::Environment => 4,
        }
    }

    /// The same as the engine's error, after the name of the port where it happened.
    pub fn at(self, port: &str) -> Error {
        let kind = match self.kind {
            FailureKind::Failed => Kind::Failed,
            FailureKind::Usage => Kind::Usage,
            FailureKind::Environment => Kind::Environment,
        };
        Error { kind, what: format!("{port}: {}", self.text), fix: self.fix, source: None }
    }
}

impl From<&Error> for Failure {
    fn from(error: &Error) -> Self {
        let kind = match error.kind {
            Kind::Failed => FailureKind::Failed,
            Kind::Usage => FailureKind::Usage,
            Kind::Environment => FailureKind::Environment,
        };
        let text = match &error.source {
            Some(source) => format!("{}: {source}", error.what),
            None => error.what.clone(),
        };
        Self { kind, text, fix: error.fix.clone() }
    }
}

/// As the command line shows an error.
impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.text)?;
        match &self.fix {
            Some(fix) => write!(f, "\n  fix: {fix}"),
            None => Ok(()),
        }
    }
}

impl Request {
    /// Reads a line without its end.
    ///
    /// # Errors
    /// What is wrong with it.
    pub fn parse(line: &[u8]) -> Result<Self, Failure> {
        serde_json::from_slice(line)
            .map_err(|e| Failure::usage(format!("not a request ({e}): {}", shortened(line))))
    }

    /// The line, with its end.
    pub fn line(&self) -> String {
        line(self)
    }
}

impl Message {
    /// Reads a line without its end.
    ///
    /// # Errors
    /// What is wrong with it.
    pub fn parse(line: &[u8]) -> Result<Self, String> {
        serde_json::from_slice(line).map_err(|e| e.to_string())
    }

    /// The line, with its end.
    pub fn line(&self) -> String {
        line(self)
    }
}

fn line(value: &impl Serialize) -> String {
    // serde_json writes line ends inside texts as \n.
    serde_json::to_string(value).expect("keys are texts") + "\n"
}

/// A line as it is shown to people: no more than one of their own lines, and no control characters.
pub fn shortened(line: &[u8]) -> String {
    const SHOWN: usize = 100;
    let text = String::from_utf8_lossy(&line[..line.len().min(4 * SHOWN)]);
    let mut shown: String = text.chars().take(SHOWN).flat_map(char::escape_debug).collect();
    if shown.is_empty() {
        shown.push_str("an empty line");
    } else if text.chars().nth(SHOWN).is_some() {
        shown.push('…');
    }
    shown
}

#[cfg(test)]
#[path = "protocol_tests.rs"]
mod tests;
