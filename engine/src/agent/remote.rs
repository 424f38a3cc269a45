//! The near end: an agent as a value whose methods ask and wait.
#![forbid(unsafe_code)]

use std::collections::{HashMap, VecDeque};
use std::fmt;
use std::io::Write;
use std::os::unix::process::CommandExt;
use std::process::{ChildStdin, ChildStdout, Command, ExitStatus};
use std::sync::Arc;
use std::thread;
use std::time::{Duration, Instant};

use crossbeam::channel::{Receiver, RecvTimeoutError, Sender, bounded, unbounded};
use serde_json::Value;

use super::child::Process;
use super::lines::{Line, Lines};
use super::protocol::{
    Ask, Event, Failure, Groups, Hello, LONGEST_EVENT, Look, Message, Moved, PROTOCOL, Request, WatchSpec,
    Yes, shortened,
};
use crate::clock;
use crate::error::{Error, Kind, Result};
use crate::target::Target;

/// Is handed each line that an agent says on standard error.
pub type Say = Arc<dyn Fn(&str) + Send + Sync>;

/// Events that wait to be taken by [`Agent::next_event`]: the oldest go first when nobody takes them.
const KEPT: usize = 1024;

/// Messages that wait between the thread that reads them and whoever asks.
const WAITING: usize = 4096;

/// How long an agent may take to end once its standard input is closed; it waits for its tasks.
const END: Duration = Duration::from_secs(12);

/// As [`END`], for one that is dropped: signals follow.
const DROPPED: Duration = Duration::from_secs(3);

/// How long it may take to be seen that an agent whose output ended has ended itself.
const LAST: Duration = Duration::from_secs(2);

/// How an agent is started.
#[derive(Clone)]
pub struct Launch {
    /// Name of the port, for messages: `m1`.
    pub name: String,
    /// How long the agent may take to answer.
    pub timeout: Duration,
    /// Is handed what the agent says on standard error, without the port's name.
    pub say: Option<Say>,
}

impl Launch {
    /// The port's name, ten seconds, and nobody who listens to standard error.
    pub fn new(name: impl Into<String>) -> Self {
        Self { name: name.into(), timeout: Duration::from_secs(10), say: None }
    }

    /// An agent of this program here, in the network namespace of the calling thread.
    ///
    /// # Errors
    /// As [`command`](Self::command).
    pub fn here(self) -> Result<Agent> {
        let mut command = Command::new("/proc/self/exe");
        command.arg0("wirerate").arg("agent");
        self.command(command)
    }

    /// An agent by a command that a user has written, as `ssh host2 wirerate agent`. It is split into words as a shell does it, and no shell runs it:
    /// quotes and backslashes mean what they mean there, variables and wildcards nothing.
    ///
    /// # Errors
    /// Usage when it has no words or a quote is left open; then as [`command`](Self::command).
    pub fn command_line(self, text: &str) -> Result<Agent> {
        let words = shlex::split(text).ok_or_else(|| {
            Error::usage(format!("{}: a quote is left open in: {text}", self.name))
                .fix("close it, or write \\' for the character itself")
        })?;
        let Some((program, arguments)) = words.split_first() else {
            return Err(Error::usage(format!("{}: the command that starts the agent is empty", self.name))
                .fix("write what reaches the place, as 'ip netns exec m1 wirerate agent'"));
        };
        let mut command = Command::new(program);
        command.args(arguments);
        self.command(command)
    }

    /// An agent by `command`, which has to start `wirerate agent` and connect it to its own standard input and output.
    ///
    /// # Errors
    /// Environment when it cannot be started, says nothing in time, says what no agent says, or speaks another version of the protocol.
    pub fn command(self, mut command: Command) -> Result<Agent> {
        let shown = show(&command);
        let (process, stdin, stdout) = Process::spawn(&mut command, self.say).map_err(|e| {
            Error::environment(format!("{}: `{shown}` cannot be started", self.name))
                .because(e)
                .fix("check the command: it is run as it stands, without a shell")
        })?;
        let mut agent = Agent {
            name: self.name,
            command: shown,
            requests: Some(write_to(stdin)),
            messages: read_from(stdout),
            process,
            hello: None,
            next: 1,
            tasks: HashMap::new(),
            events: VecDeque::new(),
            pong: None,
            broken: None,
        };
        agent.meet(self.timeout)?;
        Ok(agent)
    }
}

impl fmt::Debug for Launch {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Launch").field("name", &self.name).field("timeout", &self.timeout).finish()
    }
}

/// A task of an agent.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Task(u64);

/// What a task came to.
#[derive(Debug)]
pub struct Ended {
    /// Its report, if it gave one.
    pub report: Option<Value>,
    /// What went wrong, with the port's name. There may be a report of the time before.
    pub failure: Option<Error>,
    /// The exit status that the command would have had.
    pub status: u8,
}

/// What time it is at the far end.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Pong {
    /// CLOCK_TAI here before it was asked, in ns.
    pub asked_ns: u64,
    /// CLOCK_TAI there, in ns.
    pub there_ns: u64,
    /// CLOCK_TAI here when the answer had come, in ns.
    pub answered_ns: u64,
}

/// An agent that runs. When it is dropped, it is ended, with all of its tasks, and reaped.
#[derive(Debug)]
pub struct Agent {
    name: String,
    command: String,
    requests: Option<Sender<String>>,
    messages: Receiver<Heard>,
    process: Process,
    hello: Option<Hello>,
    next: u64,
    tasks: HashMap<u64, State>,
    events: VecDeque<(Task, Event)>,
    pong: Option<u64>,
    /// Why there is nothing more to expect.
    broken: Option<(String, Option<String>)>,
}

/// What is known of a task.
#[derive(Debug, Default)]
struct State {
    ready: bool,
    report: Option<Value>,
    failure: Option<Failure>,
    status: Option<u8>,
    moved: VecDeque<Moved>,
    look: Option<Look>,
}

/// What came from the far end.
#[derive(Debug)]
enum Heard {
    Message(Message),
    Nonsense(Vec<u8>, String),
    End,
}

impl Agent {
    /// The port's name.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// Who answered.
    pub fn hello(&self) -> &Hello {
        self.hello.as_ref().expect("an agent is made when it has said hello")
    }

    /// Starts a command: the words that a user would type behind `wirerate`, as `recv udp://239.1.2.3:5001 --iface wr0`.
    ///
    /// # Errors
    /// When the agent is gone. Wrong arguments are told by what is asked next of the task.
    pub fn start<S: AsRef<str>>(&mut self, words: &[S]) -> Result<Task> {
        self.begin(Ask::Start(words.iter().map(|word| word.as_ref().to_owned()).collect()))
    }

    /// Waits until the task is ready.
    ///
    /// # Errors
    /// Why it never will be, or that it is not yet after `timeout`.
    pub fn ready(&mut self, task: Task, timeout: Duration) -> Result<()> {
        self.wait(timeout, "the task is not ready", |agent| {
            let state = agent.state(task)?;
            match (state.ready, state.status) {
                (true, _) => Ok(Some(())),
                (false, None) => Ok(None),
                (false, Some(status)) => Err(match state.failure.clone() {
                    Some(failure) => failure.at(&agent.name),
                    None => agent.failed(format!("the task ended before it was ready (status {status})")),
                }),
            }
        })
    }

    /// The next event of any task, in the order in which they came; `None` when there is none within `timeout`. Reports are kept for
    /// [`finish`](Self::finish). Of those that nobody takes the last 1024 are kept.
    ///
    /// # Errors
    /// When the agent is gone.
    pub fn next_event(&mut self, timeout: Duration) -> Result<Option<(Task, Event)>> {
        let deadline = Instant::now() + timeout;
        loop {
            if let Some(event) = self.events.pop_front() {
                return Ok(Some(event));
            }
            if !self.pump(deadline)? {
                return Ok(None);
            }
        }
    }

    /// Asks a task to end; [`finish`](Self::finish) waits for it.
    ///
    /// # Errors
    /// When the agent is gone.
    pub fn stop(&mut self, task: Task) -> Result<()> {
        if self.tasks.get(&task.0).is_none_or(|state| state.status.is_some()) {
            return Ok(());
        }
        self.ask(task, Ask::Stop(Yes))
    }

    /// Waits until the task has ended, and gives what it came to. Afterwards nothing is known of it.
    ///
    /// # Errors
    /// When the agent is gone, or the task goes on after `timeout`.
    pub fn finish(&mut self, task: Task, timeout: Duration) -> Result<Ended> {
        self.wait(timeout, "the task has not ended", |agent| {
            let Some(status) = agent.state(task)?.status else { return Ok(None) };
            let State { report, failure, .. } = agent.tasks.remove(&task.0).unwrap_or_default();
            Ok(Some(Ended { report, failure: failure.map(|f| f.at(&agent.name)), status }))
        })
    }

    /// Whether a task has ended, now or within this time.
    ///
    /// # Errors
    /// When the agent is gone.
    pub fn has_ended_within(&mut self, task: Task, time: Duration) -> Result<bool> {
        let deadline = Instant::now() + time;
        while self.state(task)?.status.is_none() {
            if !self.pump(deadline)? {
                return Ok(false);
            }
        }
        Ok(true)
    }

    /// As [`finish`](Self::finish), for who takes nothing but a whole report.
    ///
    /// # Errors
    /// As `finish`, and what the task itself failed with.
    pub fn report(&mut self, task: Task, timeout: Duration) -> Result<Value> {
        let ended = self.finish(task, timeout)?;
        match (ended.failure, ended.report) {
            (Some(failure), _) => Err(failure),
            (None, Some(report)) => Ok(report),
            (None, None) => {
                Err(self.failed(format!("the task ended without a report (status {})", ended.status)))
            }
        }
    }

    /// Begins to watch an interface; [`ready`](Self::ready) tells when it does.
    ///
    /// # Errors
    /// When the agent is gone.
    pub fn watch(&mut self, spec: &WatchSpec) -> Result<Task> {
        self.begin(Ask::Watch(spec.clone()))
    }

    /// Has a watch join groups, `rate` of them a second, or as fast as the kernel takes them; [`moved`](Self::moved) waits until it has.
    ///
    /// # Errors
    /// When the agent is gone.
    pub fn join(&mut self, watch: Task, groups: &[Target], rate: Option<f64>) -> Result<()> {
        self.ask(watch, Ask::Join(listed(groups, rate)))
    }

    /// Has a watch leave groups, as [`join`](Self::join).
    ///
    /// # Errors
    /// When the agent is gone.
    pub fn leave(&mut self, watch: Task, groups: &[Target], rate: Option<f64>) -> Result<()> {
        self.ask(watch, Ask::Leave(listed(groups, rate)))
    }

    /// Waits until the kernel has been asked for all groups of the oldest [`join`](Self::join) or [`leave`](Self::leave) that was not waited for;
    /// gives their number.
    ///
    /// # Errors
    /// Why it could not join or leave all, that it has not within `timeout`, or that the watch or the agent has ended.
    pub fn moved(&mut self, watch: Task, timeout: Duration) -> Result<u64> {
        self.wait(timeout, "the groups are not joined or left", |agent| {
            let moved = agent.going_on(watch)?.moved.pop_front();
            match moved {
                Some(Moved { failure: Some(failure), .. }) => Err(failure.at(&agent.name)),
                Some(Moved { groups, failure: None }) => Ok(Some(groups)),
                None => Ok(None),
            }
        })
    }

    /// What a watch has seen by now.
    ///
    /// # Errors
    /// When it does not answer within `timeout`, or the watch or the agent has ended.
    pub fn look(&mut self, watch: Task, timeout: Duration) -> Result<Look> {
        self.going_on(watch)?.look = None;
        self.ask(watch, Ask::Look(Yes))?;
        self.wait(timeout, "the watch does not answer", |agent| Ok(agent.going_on(watch)?.look.take()))
    }

    /// Ends a watch, which lets its memberships go, and gives all that it has seen.
    ///
    /// # Errors
    /// As [`report`](Self::report).
    pub fn watched(&mut self, watch: Task, timeout: Duration) -> Result<Look> {
        self.stop(watch)?;
        let report = self.report(watch, timeout)?;
        serde_json::from_value(report).map_err(|e| self.failed(format!("the report of a watch is none: {e}")))
    }

    /// Asks whether it is there, and what time it is there: its clock is between the two readings here.
    ///
    /// # Errors
    /// When the agent is gone, or does not answer within `timeout`.
    pub fn ping(&mut self, timeout: Duration) -> Result<Pong> {
        self.pong = None;
        let asked_ns = clock::tai_ns();
        let id = self.number();
        self.ask(id, Ask::Ping(Yes))?;
        let there_ns = self.wait(timeout, "it does not answer", |agent| Ok(agent.pong.take()))?;
        Ok(Pong { asked_ns, there_ns, answered_ns: clock::tai_ns() })
    }

    /// Ends the agent and with it all of its tasks.
    ///
    /// # Errors
    /// When it does not end by itself, or ends with another status than 0.
    pub fn end(mut self) -> Result<()> {
        self.requests = None;
        let ended = self.process.wait(END);
        match ended {
            Some(status) if status.success() => Ok(()),
            Some(status) => Err(self.failed(format!("`{}` {}", self.command, how(status)))),
            None => Err(self.failed(format!("`{}` did not end when it was asked to", self.command))),
        }
    }

    fn begin(&mut self, ask: Ask) -> Result<Task> {
        let task = self.number();
        self.ask(task, ask)?;
        self.tasks.insert(task.0, State::default());
        Ok(task)
    }

    fn number(&mut self) -> Task {
        let task = Task(self.next);
        self.next += 1;
        task
    }

    fn ask(&mut self, task: Task, ask: Ask) -> Result<()> {
        self.check()?;
        let line = Request { id: task.0, ask }.line();
        // A thread that cannot write has ended: why is told by what is read.
        if let Some(requests) = &self.requests {
            let _ = requests.send(line);
        }
        Ok(())
    }

    fn state(&self, task: Task) -> Result<&State> {
        self.tasks.get(&task.0).ok_or_else(|| self.failed(format!("there is no task {}", task.0)))
    }

    /// A task that has to go on.
    fn going_on(&mut self, task: Task) -> Result<&mut State> {
        let state = self.state(task)?;
        match (state.status, state.failure.clone()) {
            (None, _) => Ok(self.tasks.get_mut(&task.0).expect("just seen")),
            (Some(_), Some(failure)) => Err(failure.at(&self.name)),
            (Some(status), None) => Err(self.failed(format!("the task has ended (status {status})"))),
        }
    }

    /// Reads messages until `found` finds something in what is known.
    fn wait<T>(
        &mut self,
        timeout: Duration,
        not_yet: &str,
        mut found: impl FnMut(&mut Self) -> Result<Option<T>>,
    ) -> Result<T> {
        let deadline = Instant::now() + timeout;
        loop {
            if let Some(value) = found(self)? {
                return Ok(value);
            }
            if !self.pump(deadline)? {
                return Err(self
                    .failed(format!("`{}`: {not_yet} after {} s", self.command, timeout.as_secs_f64()))
                    .fix("look whether that host is overloaded or cut off"));
            }
        }
    }

    /// Takes one message in; whether one came before `deadline`.
    fn pump(&mut self, deadline: Instant) -> Result<bool> {
        // What had come before it broke is still taken.
        match self.messages.recv_deadline(deadline) {
            Ok(Heard::Message(message)) => self.note(message).map(|()| true),
            Ok(Heard::Nonsense(line, why)) => {
                let (text, fix) = nonsense(&self.command, &line, &why);
                Err(self.give_up(text, Some(fix)))
            }
            Ok(Heard::End) | Err(RecvTimeoutError::Disconnected) => Err(self.has_ended()),
            Err(RecvTimeoutError::Timeout) => self.check().map(|()| false),
        }
    }

    fn note(&mut self, message: Message) -> Result<()> {
        let Message { id, event } = message;
        let Some(id) = id else {
            return match event {
                Event::Error(failure) => Err(self.give_up(failure.text, failure.fix)),
                Event::Hello(hello) if self.hello.is_none() => {
                    self.hello = Some(hello);
                    Ok(())
                }
                _ => {
                    let text = format!("`{}` told an event of no task: a defect", self.command);
                    Err(self.give_up(text, None))
                }
            };
        };
        if let Event::Pong { tai_ns } = event {
            self.pong = Some(tai_ns);
            return Ok(());
        }
        // Of a task that nobody waits for any more.
        let Some(state) = self.tasks.get_mut(&id) else { return Ok(()) };
        match &event {
            Event::Ready => state.ready = true,
            Event::Error(failure) => state.failure = Some(failure.clone()),
            Event::End { status } => state.status = Some(*status),
            Event::Report { .. } => {
                if let Event::Report { report } = event {
                    state.report = Some(report);
                }
                return Ok(());
            }
            Event::Joined(moved) | Event::Left(moved) => state.moved.push_back(moved.clone()),
            Event::Look(_) => {
                if let Event::Look(look) = event {
                    state.look = Some(look);
                }
                return Ok(());
            }
            Event::Interval { .. } | Event::Warning { .. } | Event::Hello(_) | Event::Pong { .. } => {}
        }
        self.events.push_back((Task(id), event));
        if self.events.len() > KEPT {
            self.events.pop_front();
        }
        Ok(())
    }

    /// Waits for hello, which has to be of the same protocol.
    fn meet(&mut self, timeout: Duration) -> Result<()> {
        let met = self.greet(Instant::now() + timeout, timeout);
        met.map_err(|error| Error { kind: Kind::Environment, ..error })
    }

    fn greet(&mut self, deadline: Instant, timeout: Duration) -> Result<()> {
        match self.messages.recv_deadline(deadline) {
            Ok(Heard::Message(Message { id: None, event: Event::Hello(hello) })) => {
                let theirs = hello.protocol;
                if theirs != PROTOCOL {
                    return Err(self.other_protocol(theirs, &hello.version));
                }
                self.hello = Some(hello);
                Ok(())
            }
            Ok(Heard::Message(message)) => {
                let (text, fix) =
                    nonsense(&self.command, message.line().trim_end().as_bytes(), "hello comes first");
                Err(self.give_up(text, Some(fix)))
            }
            Ok(Heard::Nonsense(line, why)) => {
                // Another version may say hello in other words; its number stands where ours does.
                if let Some((theirs, version)) = protocol_of(&line).filter(|(theirs, _)| *theirs != PROTOCOL)
                {
                    return Err(self.other_protocol(theirs, &version));
                }
                let (text, fix) = nonsense(&self.command, &line, &why);
                Err(self.give_up(text, Some(fix)))
            }
            Ok(Heard::End) | Err(RecvTimeoutError::Disconnected) => Err(self.has_ended()),
            Err(RecvTimeoutError::Timeout) => {
                let said = self.process.last_words();
                let text = format!("`{}` said nothing for {} s{said}", self.command, timeout.as_secs_f64());
                let fix = "run that command by hand: a line that begins with {\"event\":\"hello\" has to come; it cannot be \
                           given a password here";
                Err(self.give_up(text, Some(fix.to_owned())))
            }
        }
    }

    fn other_protocol(&mut self, theirs: u32, version: &str) -> Error {
        let age = if theirs < PROTOCOL { "an older" } else { "a newer" };
        let text = format!(
            "`{}` is wirerate {version}, which speaks {age} protocol ({theirs}; here {PROTOCOL})",
            self.command
        );
        self.give_up(text, Some("install the same version at both ends".to_owned()))
    }

    /// The agent's output has ended: how it ended.
    fn has_ended(&mut self) -> Error {
        if let Err(error) = self.check() {
            return error;
        }
        let ended = self.process.wait(LAST);
        let how = ended.map_or("closed its standard output".to_owned(), how);
        // Its last words may come a moment after its end.
        thread::sleep(Duration::from_millis(20));
        let said = self.process.last_words();
        let fix = (self.hello.is_none()).then(|| "run that command by hand to see what is wrong".to_owned());
        self.give_up(format!("`{}` {how}{said}", self.command), fix)
    }

    /// From now on only this is told.
    fn give_up(&mut self, text: String, fix: Option<String>) -> Error {
        self.requests = None;
        self.broken = Some((text, fix));
        self.check().expect_err("just broken")
    }

    fn check(&self) -> Result<()> {
        match &self.broken {
            None => Ok(()),
            Some((text, fix)) => Err(Error { fix: fix.clone(), ..self.failed(text) }),
        }
    }

    fn failed(&self, text: impl fmt::Display) -> Error {
        Error::failed(format!("{}: {text}", self.name))
    }
}

impl Drop for Agent {
    fn drop(&mut self) {
        self.requests = None;
        let patience = if self.broken.is_some() { Duration::ZERO } else { DROPPED };
        self.process.end(patience);
    }
}

fn listed(groups: &[Target], rate: Option<f64>) -> Groups {
    Groups { groups: groups.iter().map(ToString::to_string).collect(), rate }
}

/// What is wrong with a line, and what to do about it.
fn nonsense(command: &str, line: &[u8], why: &str) -> (String, String) {
    (
        format!("`{command}` said what no agent says ({why}): {}", shortened(line)),
        "it has to run `wirerate agent`, and nothing else may print: a login script that greets, a terminal (docker -t)"
            .to_owned(),
    )
}

/// Protocol and version of a hello of another version.
fn protocol_of(line: &[u8]) -> Option<(u32, String)> {
    let hello: Value = serde_json::from_slice(line).ok()?;
    if hello["event"] != "hello" {
        return None;
    }
    let protocol = hello["protocol"].as_u64().and_then(|number| u32::try_from(number).ok())?;
    Some((protocol, hello["version"].as_str().unwrap_or("of an unknown version").to_owned()))
}

/// How a process ended.
fn how(status: ExitStatus) -> String {
    format!("ended ({status})")
}

/// A command as a user would type it.
fn show(command: &Command) -> String {
    let words = std::iter::once(command.get_program()).chain(command.get_args());
    let words = words.map(|word| word.to_string_lossy().into_owned()).collect::<Vec<_>>();
    shlex::try_join(words.iter().map(String::as_str)).unwrap_or_else(|_| words.join(" "))
}

/// Requests are written by a thread of their own: an agent that reads nothing makes nobody wait.
fn write_to(mut stdin: ChildStdin) -> Sender<String> {
    let (sender, lines) = unbounded::<String>();
    thread::spawn(move || lines.iter().try_for_each(|line| stdin.write_all(line.as_bytes())));
    sender
}

fn read_from(stdout: ChildStdout) -> Receiver<Heard> {
    let (sender, messages) = bounded(WAITING);
    thread::spawn(move || {
        let mut lines = Lines::new(stdout, LONGEST_EVENT);
        loop {
            let heard = match lines.next(None) {
                Ok(Line::Text(line)) => match Message::parse(&line) {
                    Ok(message) => Heard::Message(message),
                    Err(why) => Heard::Nonsense(line, why),
                },
                Ok(Line::TooLong(line)) => Heard::Nonsense(line, "a line without an end".to_owned()),
                Ok(Line::Nothing) => continue,
                Ok(Line::End) | Err(_) => Heard::End,
            };
            let last = !matches!(heard, Heard::Message(_));
            if sender.send(heard).is_err() || last {
                return;
            }
        }
    });
    messages
}
