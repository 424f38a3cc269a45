//! A tool as a child of this process: with a time by which it has to have ended, killed by the kernel should this process end first.
#![forbid(unsafe_code)]

use std::fs;
use std::io::Read;
use std::process::{Command, Stdio};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use nix::errno::Errno;
use nix::sys::signal::{Signal, kill};
use nix::sys::wait::{Id, WaitPidFlag, WaitStatus, waitid};
use nix::unistd::Pid;
use serde::{Deserialize, Serialize};

use super::tool::Kind;
use crate::control::Stop;
use crate::error::{Error, Result};
use crate::sys::child;

/// Most bytes that are kept of what a tool says on each of its outputs.
const MOST_OUTPUT: u64 = 64 << 20;

/// How long a server may take to listen.
const LISTENING: Duration = Duration::from_secs(10);

/// How long it is waited for where nobody can see whether it listens.
const UNSEEN: Duration = Duration::from_millis(500);

/// How long a signal may take to end it before the next is sent.
const BETWEEN: Duration = Duration::from_secs(1);

/// Time between two looks.
const PAUSE: Duration = Duration::from_millis(4);

/// TCP or UDP.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Transport {
    /// TCP.
    Tcp,
    /// UDP.
    Udp,
}

/// Where a server will listen: until then it is not ready.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Listens {
    /// TCP or UDP.
    pub transport: Transport,
    /// The port.
    pub port: u16,
}

/// What is to be run.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Spec {
    /// The tool.
    pub kind: Kind,
    /// Where it is; `None`: in PATH.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub program: Option<String>,
    /// Its arguments.
    pub arguments: Vec<String>,
    /// Time by which it has to have ended, in ms.
    pub deadline_ms: u64,
    /// Where it will listen, if it is a server.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub listens: Option<Listens>,
}

/// CPU time of a tool, as the kernel charged it to the process. What soft interrupts did for it, as the receive side of the network does, is in it
/// nowhere.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Cpu {
    /// In the program, in ns.
    pub user_ns: u64,
    /// In the kernel on its behalf, in ns.
    pub system_ns: u64,
}

impl Cpu {
    /// Both, in seconds.
    pub fn seconds(self) -> f64 {
        (self.user_ns + self.system_ns) as f64 / 1e9
    }
}

impl From<child::CpuTime> for Cpu {
    fn from(time: child::CpuTime) -> Self {
        let ns = |d: Duration| u64::try_from(d.as_nanos()).unwrap_or(u64::MAX);
        Self { user_ns: ns(time.user), system_ns: ns(time.system) }
    }
}

/// A tool that has ended, or was ended.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Ended {
    /// Standard output.
    pub stdout: String,
    /// Standard error.
    pub stderr: String,
    /// Exit status; absent when a signal ended it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub status: Option<i32>,
    /// It did not end within its time.
    #[serde(default)]
    pub late: bool,
    /// From its start to its end, in seconds.
    pub seconds: f64,
    /// CPU time; absent where the child is not the tool itself, but what leads to it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub cpu: Option<Cpu>,
}

impl Ended {
    /// What it said that tells most of why it failed: the first line of its standard error that names an error, else the last line.
    pub fn complaint(&self) -> String {
        [&self.stderr, &self.stdout]
            .into_iter()
            .find_map(|text| telling(text))
            .unwrap_or_else(|| "it said nothing".to_owned())
    }
}

/// The line of a program's complaint that tells most.
fn telling(text: &str) -> Option<String> {
    let mut lines = text.lines().map(str::trim).filter(|line| !line.is_empty());
    let first = lines.clone().find(|line| line.to_lowercase().contains("error"));
    first.or_else(|| lines.next_back()).map(|line| line.chars().take(200).collect())
}

/// A running tool; dropping it kills it.
#[derive(Debug)]
pub struct Child {
    name: &'static str,
    pid: u32,
    begin: Instant,
    deadline: Duration,
    stdout: Option<JoinHandle<String>>,
    stderr: Option<JoinHandle<String>>,
    /// The process is the tool itself, and no command that leads to it.
    itself: bool,
    reaped: bool,
}

impl Child {
    /// Starts it behind `prefix`, and waits until it listens where it is to. The thread that calls has to live as long as the child may.
    pub(super) fn start(spec: &Spec, prefix: &[String]) -> Result<Self> {
        let name = spec.kind.name();
        let program = match (&spec.program, prefix) {
            (Some(path), _) => path.clone(),
            (None, []) => super::tool::in_path(name).ok_or_else(|| super::tool::not_there(spec.kind))?,
            (None, _) => name.to_owned(),
        };
        let mut words = prefix.iter().map(String::as_str).chain([program.as_str()]);
        let mut command = Command::new(words.next().unwrap_or_default());
        command.args(words).args(&spec.arguments);
        command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
        child::dies_with_us(&mut command);
        let mut spawned = command
            .spawn()
            .map_err(|e| Error::environment(format!("`{}` cannot be started", shown(&command))).because(e))?;
        let mut child = Self {
            name,
            pid: spawned.id(),
            begin: Instant::now(),
            deadline: Duration::from_millis(spec.deadline_ms),
            stdout: spawned.stdout.take().map(read),
            stderr: spawned.stderr.take().map(read),
            itself: prefix.is_empty(),
            reaped: false,
        };
        if let Some(listens) = spec.listens {
            child.wait_until_it_listens(listens)?;
        }
        Ok(child)
    }

    fn wait_until_it_listens(&mut self, at: Listens) -> Result<()> {
        loop {
            if self.has_ended() {
                let ended = self.reap(false);
                return Err(Error::failed(format!(
                    "{} ended before it listened: {}",
                    self.name,
                    ended.complaint()
                )));
            }
            self.look_what_it_is();
            if self.listens(at) || (!self.itself && self.begin.elapsed() > UNSEEN) {
                return Ok(());
            }
            if self.begin.elapsed() > LISTENING {
                return Err(Error::failed(format!(
                    "{} does not listen on port {} after {} s",
                    self.name,
                    at.port,
                    LISTENING.as_secs()
                )));
            }
            thread::sleep(PAUSE);
        }
    }

    /// Whether a socket of its network namespace is bound to the port.
    fn listens(&self, at: Listens) -> bool {
        let table = match at.transport {
            Transport::Tcp => "tcp",
            Transport::Udp => "udp",
        };
        [table.to_owned(), format!("{table}6")].iter().any(|name| {
            fs::read_to_string(format!("/proc/{}/net/{name}", self.pid))
                .is_ok_and(|text| has_port(&text, at.port))
        })
    }

    /// A command that leads to a tool on this host becomes it (exec).
    fn look_what_it_is(&mut self) {
        self.itself = self.itself
            || fs::read_to_string(format!("/proc/{}/comm", self.pid))
                .is_ok_and(|name| name.trim() == self.name);
    }

    /// Waits for its end; asks for it when its time is over or `stop` is requested.
    pub(super) fn finish(mut self, stop: &Stop) -> Ended {
        let mut late = false;
        while !self.has_ended() {
            self.look_what_it_is();
            late = self.begin.elapsed() > self.deadline;
            if late || stop.is_requested() {
                self.end();
                break;
            }
            thread::sleep(PAUSE);
        }
        self.reap(late)
    }

    /// Ends it by signals, each a little ruder.
    fn end(&self) {
        for signal in [Signal::SIGINT, Signal::SIGTERM, Signal::SIGKILL] {
            let _ = kill(self.id(), signal);
            let asked = Instant::now();
            while asked.elapsed() < BETWEEN {
                if self.has_ended() {
                    return;
                }
                thread::sleep(PAUSE);
            }
        }
    }

    fn id(&self) -> Pid {
        Pid::from_raw(self.pid.cast_signed())
    }

    /// Whether it has ended. It is not reaped: until then its number is nobody else's.
    fn has_ended(&self) -> bool {
        let flags = WaitPidFlag::WEXITED | WaitPidFlag::WNOHANG | WaitPidFlag::WNOWAIT;
        self.reaped
            || !matches!(waitid(Id::Pid(self.id()), flags), Ok(WaitStatus::StillAlive) | Err(Errno::EINTR))
    }

    fn reap(&mut self, late: bool) -> Ended {
        let seconds = self.begin.elapsed().as_secs_f64();
        let reaped = if self.reaped { None } else { child::reap(self.pid).ok() };
        self.reaped = true;
        let said = |pipe: Option<JoinHandle<String>>| pipe.and_then(|t| t.join().ok()).unwrap_or_default();
        Ended {
            stdout: said(self.stdout.take()),
            stderr: said(self.stderr.take()),
            status: reaped.and_then(|(status, _)| status.code()),
            late,
            seconds,
            cpu: reaped.filter(|_| self.itself).map(|(_, cpu)| cpu.into()),
        }
    }
}

impl Drop for Child {
    fn drop(&mut self) {
        if !self.reaped {
            let _ = kill(self.id(), Signal::SIGKILL);
            let _ = child::reap(self.pid);
        }
    }
}

/// A command as a user would type it.
fn shown(command: &Command) -> String {
    let words = std::iter::once(command.get_program()).chain(command.get_args());
    let words: Vec<_> = words.map(|word| word.to_string_lossy().into_owned()).collect();
    shlex::try_join(words.iter().map(String::as_str)).unwrap_or_else(|_| words.join(" "))
}

/// Reads a pipe to its end on a thread of its own, so that nobody waits for a reader.
fn read(mut pipe: impl Read + Send + 'static) -> JoinHandle<String> {
    thread::spawn(move || {
        let mut bytes = Vec::new();
        let _ = pipe.by_ref().take(MOST_OUTPUT).read_to_end(&mut bytes);
        let _ = std::io::copy(&mut pipe, &mut std::io::sink());
        String::from_utf8_lossy(&bytes).into_owned()
    })
}

/// Whether a table of /proc/net has a socket bound to `port`.
fn has_port(table: &str, port: u16) -> bool {
    let ending = format!(":{port:04X}");
    table.lines().filter_map(|line| line.split_whitespace().nth(1)).any(|local| local.ends_with(&ending))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn shell(script: &str, deadline_ms: u64) -> Child {
        let spec = Spec {
            kind: Kind::Iperf3,
            program: Some("/bin/sh".into()),
            arguments: vec!["-c".into(), script.into()],
            deadline_ms,
            listens: None,
        };
        Child::start(&spec, &[]).expect("there is a shell")
    }

    #[test]
    fn both_outputs_and_the_status_are_told() {
        let ended = shell("echo out; echo err >&2; exit 3", 10_000).finish(&Stop::default());
        assert_eq!((ended.stdout.as_str(), ended.stderr.as_str()), ("out\n", "err\n"));
        assert_eq!((ended.status, ended.late), (Some(3), false));
        assert!(ended.cpu.is_some());
        assert_eq!(ended.complaint(), "err");
    }

    #[test]
    fn whoever_does_not_end_is_ended() {
        let ended = shell("exec sleep 100", 50).finish(&Stop::default());
        assert!(ended.late && ended.status.is_none());
        let stop = Stop::default();
        stop.request();
        let ended =
            shell("trap 'echo asked; exit 0' INT; while :; do sleep 0.05; done", 60_000).finish(&stop);
        assert!(!ended.late);
    }

    #[test]
    fn a_server_that_ends_at_once_says_why() {
        let spec = Spec {
            kind: Kind::Iperf3,
            program: Some("/bin/sh".into()),
            arguments: vec!["-c".into(), "echo 'error - in use' >&2; exit 1".into()],
            deadline_ms: 1000,
            listens: Some(Listens { transport: Transport::Tcp, port: 1 }),
        };
        let error = Child::start(&spec, &[]).expect_err("it does not listen");
        assert!(error.to_string().contains("error - in use"), "{error}");
        let nowhere = Spec { program: Some("/nowhere/iperf3".into()), ..spec };
        assert_eq!(Child::start(&nowhere, &[]).expect_err("not there").kind, crate::Kind::Environment);
    }

    #[test]
    fn ports_are_hexadecimal_in_proc() {
        let table = "  sl  local_address rem_address   st\n   0: 00000000:1389 00000000:0000 07\n";
        assert!(has_port(table, 5001) && !has_port(table, 5002));
        assert!(!has_port(table, 0), "the remote port is no local one");
    }
}
