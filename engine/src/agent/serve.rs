//! The far end: reads requests, runs each task on a thread of its own, tells what happens.
#![forbid(unsafe_code)]

use std::collections::HashMap;
use std::io::Write;
use std::os::fd::AsFd;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use crossbeam::channel::{Receiver, Sender, TrySendError, bounded, unbounded};
use nix::poll::PollTimeout;

use super::lines::{Line, Lines};
use super::protocol::{
    Ask, Event, Failure, FailureKind, Hello, LONGEST_REQUEST, Message, Request, shortened,
};
use super::watch::{self, Command};
use crate::clock;
use crate::control::Stop;
use crate::error::{Error, Result};

/// Most tasks at once.
pub const MOST_TASKS: usize = 64;

/// Lines that wait for a near end that reads slowly.
const WAITING: usize = 1024;

/// How often signals and ended tasks are looked for.
const LOOK_MS: u8 = 100;

/// How long tasks may take to end when the near end is gone.
const PATIENCE: Duration = Duration::from_secs(10);

/// What runs one command: it is told when to stop, tells events, and gives the command's exit status.
pub type Job = Box<dyn FnOnce(&Stop, &mut dyn FnMut(Event)) -> u8 + Send>;

/// Makes a job of what a user would type behind `wirerate`.
pub type Parse<'a> = &'a dyn Fn(&[String]) -> std::result::Result<Job, Failure>;

/// Serves requests from `input` until it ends or `stop` is requested; then ends all tasks, which lets their memberships go. Nothing else may
/// write to `output`.
///
/// # Errors
/// When the kernel does not tell what there is to tell at the beginning, or `input` cannot be read.
pub fn serve(
    input: impl AsFd,
    output: impl Write + Send + 'static,
    parse: Parse<'_>,
    stop: &Stop,
) -> Result<()> {
    let hello = Hello::read()?;
    let (out, writer) = Out::begin(output);
    out.tell(None, Event::Hello(hello));
    let mut tasks = Tasks { running: HashMap::new(), out: out.clone() };
    let mut lines = Lines::new(input, LONGEST_REQUEST);
    let mut failure = None;
    while !stop.is_requested() && !out.is_gone() {
        match lines.next(Some(PollTimeout::from(LOOK_MS))) {
            Ok(Line::Text(line)) if line.trim_ascii().is_empty() => {}
            Ok(Line::Text(line)) => match Request::parse(&line) {
                Ok(request) => tasks.take(request, parse),
                Err(failure) => out.tell(None, Event::Error(failure)),
            },
            Ok(Line::TooLong(line)) => {
                let text = format!("a request of more than {LONGEST_REQUEST} bytes: {}", shortened(&line));
                out.tell(None, Event::Error(Failure::usage(text)));
            }
            Ok(Line::Nothing) => tasks.forget_ended(),
            Ok(Line::End) => break,
            Err(error) => {
                failure = Some(Error::failed("standard input cannot be read").because(error));
                break;
            }
        }
    }
    tasks.end();
    out.is_last();
    drop((tasks, out));
    writer.finish();
    failure.map_or(Ok(()), Err)
}

/// Where lines go: to a thread that writes them, so that no measurement waits for the near end.
#[derive(Debug, Clone)]
struct Out {
    lines: Sender<String>,
    /// Nobody reads any more.
    gone: Arc<AtomicBool>,
    /// The tasks have had their time: what cannot be handed over at once is dropped.
    last: Arc<AtomicBool>,
}

struct Writer {
    done: Receiver<()>,
}

impl Out {
    fn begin(mut output: impl Write + Send + 'static) -> (Self, Writer) {
        let (lines, waiting) = bounded::<String>(WAITING);
        let (finished, done) = bounded(1);
        let gone = Arc::new(AtomicBool::new(false));
        let out = Self { lines, gone: Arc::clone(&gone), last: Arc::default() };
        thread::spawn(move || {
            for line in waiting {
                // Goes on taking lines when nobody reads them, so that no task waits.
                if !gone.load(Ordering::Relaxed)
                    && output.write_all(line.as_bytes()).and_then(|()| output.flush()).is_err()
                {
                    gone.store(true, Ordering::Relaxed);
                }
            }
            let _ = finished.send(());
        });
        (out, Writer { done })
    }

    fn tell(&self, id: Option<u64>, event: Event) {
        let may_be_missed = matches!(event, Event::Interval { .. });
        let mut line = Message { id, event }.line();
        loop {
            match self.lines.try_send(line) {
                Ok(()) | Err(TrySendError::Disconnected(_)) => return,
                Err(TrySendError::Full(_)) if may_be_missed || self.last.load(Ordering::Relaxed) => return,
                Err(TrySendError::Full(back)) => line = back,
            }
            thread::sleep(Duration::from_millis(10));
        }
    }

    fn is_gone(&self) -> bool {
        self.gone.load(Ordering::Relaxed)
    }

    fn is_last(&self) {
        self.last.store(true, Ordering::Relaxed);
    }
}

impl Writer {
    /// Waits until all is written; not for ever, as the near end may have stopped reading.
    fn finish(self) {
        let _ = self.done.recv_timeout(PATIENCE);
    }
}

struct Tasks {
    running: HashMap<u64, Running>,
    out: Out,
}

struct Running {
    stop: Stop,
    /// Its last line has been told.
    ended: Stop,
    /// How a watch is asked.
    commands: Option<Sender<Command>>,
    thread: JoinHandle<()>,
}

impl Running {
    fn ask(&self, command: Command, refuse: &dyn Fn(String)) {
        let asked = self.commands.as_ref().map(|commands| commands.send(command).is_ok());
        if asked.is_none() {
            refuse("this task is no watch".to_owned());
        }
    }
}

impl Tasks {
    fn take(&mut self, request: Request, parse: Parse<'_>) {
        let id = request.id;
        let refuse = |text: String| self.out.tell(Some(id), Event::Error(Failure::usage(text)));
        let known = self.running.get(&id).filter(|task| !task.ended.is_requested());
        match (request.ask, known) {
            (Ask::Ping(_), _) => self.out.tell(Some(id), Event::Pong { tai_ns: clock::tai_ns() }),
            (Ask::Start(_) | Ask::Watch(_), Some(_)) => refuse(format!("there is a task {id} already")),
            (Ask::Start(words), None) => match parse(&words) {
                Ok(job) => self.start(id, job, None),
                Err(failure) => self.never_began(id, failure),
            },
            (Ask::Watch(spec), None) => {
                let (commands, asked) = unbounded();
                let job: Job = Box::new(move |stop, tell| match watch::run(&spec, &asked, stop, tell) {
                    Ok(()) => 0,
                    Err(error) => {
                        let failure = Failure::from(&error);
                        let status = failure.status();
                        tell(Event::Error(failure));
                        status
                    }
                });
                self.start(id, job, Some(commands));
            }
            (Ask::Join(groups), Some(task)) => task.ask(Command::Join(groups), &refuse),
            (Ask::Leave(groups), Some(task)) => task.ask(Command::Leave(groups), &refuse),
            (Ask::Look(_), Some(task)) => task.ask(Command::Look, &refuse),
            (Ask::Stop(_), Some(task)) => task.stop.request(),
            (Ask::Stop(_) | Ask::Join(_) | Ask::Leave(_) | Ask::Look(_), None) => {
                refuse(format!("there is no task {id}, or it has ended"))
            }
        }
    }

    fn never_began(&self, id: u64, failure: Failure) {
        let status = failure.status();
        self.out.tell(Some(id), Event::Error(failure));
        self.out.tell(Some(id), Event::End { status });
    }

    fn start(&mut self, id: u64, job: Job, commands: Option<Sender<Command>>) {
        self.forget_ended();
        if self.running.len() >= MOST_TASKS {
            self.never_began(id, Failure::usage(format!("{MOST_TASKS} tasks run already")));
            return;
        }
        let (stop, ended, out) = (Stop::default(), Stop::default(), self.out.clone());
        let (stopping, ending) = (stop.clone(), ended.clone());
        let thread = thread::spawn(move || {
            let mut tell = |event| out.tell(Some(id), event);
            let status = catch_unwind(AssertUnwindSafe(|| job(&stopping, &mut tell))).unwrap_or_else(|_| {
                let text = "the task panicked: this is a defect of wirerate; its standard error says where";
                tell(Event::Error(Failure { kind: FailureKind::Failed, text: text.to_owned(), fix: None }));
                1
            });
            // Before the last line: who reads it may use the number again.
            ending.request();
            out.tell(Some(id), Event::End { status });
        });
        self.running.insert(id, Running { stop, ended, commands, thread });
    }

    fn forget_ended(&mut self) {
        self.running.retain(|_, task| !task.thread.is_finished());
    }

    /// Asks all tasks to end, and waits for them.
    fn end(&mut self) {
        self.running.values().for_each(|task| task.stop.request());
        let deadline = Instant::now() + PATIENCE;
        while self.running.values().any(|task| !task.thread.is_finished()) && Instant::now() < deadline {
            thread::sleep(Duration::from_millis(5));
        }
    }
}
