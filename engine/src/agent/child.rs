//! The process at the near end of the line: a child with a session of its own, of which nothing is left behind.
#![forbid(unsafe_code)]

use std::collections::VecDeque;
use std::fmt::Write as _;
use std::io;
use std::process::{Child, ChildStdin, ChildStdout, Command, ExitStatus, Stdio};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread;
use std::time::{Duration, Instant};

use nix::errno::Errno;
use nix::sys::signal::{Signal, killpg};
use nix::sys::wait::{Id, WaitPidFlag, WaitStatus, waitid};
use nix::unistd::Pid;

use super::lines::{Line, Lines};
use super::remote::Say;
use crate::sys::session;

/// Lines of standard error that are kept for whoever asks why it ended.
const LAST_LINES: usize = 6;

/// Longest line of standard error that is shown, in bytes.
const LONGEST: usize = 1000;

/// How long a signal may take to end it before the next is sent.
const BETWEEN: Duration = Duration::from_secs(1);

/// A child; dropping it ends it and all of its process group.
#[derive(Debug)]
pub(super) struct Process {
    child: Child,
    last_words: Arc<Mutex<VecDeque<String>>>,
    status: Option<ExitStatus>,
}

impl Process {
    /// Starts `command`, and hands each line of its standard error to `say`.
    pub(super) fn spawn(
        command: &mut Command,
        say: Option<Say>,
    ) -> io::Result<(Self, ChildStdin, ChildStdout)> {
        session::of_its_own(command);
        let mut child =
            command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn()?;
        let stdin = child.stdin.take().expect("piped");
        let stdout = child.stdout.take().expect("piped");
        let stderr = child.stderr.take().expect("piped");
        let last_words = Arc::<Mutex<VecDeque<String>>>::default();
        let words = Arc::clone(&last_words);
        thread::spawn(move || {
            let mut lines = Lines::new(stderr, LONGEST);
            while let Ok(Line::Text(line) | Line::TooLong(line)) = lines.next(None) {
                let line = String::from_utf8_lossy(line.trim_ascii_end()).into_owned();
                say.iter().for_each(|say| say(&line));
                let mut words = words.lock().unwrap_or_else(PoisonError::into_inner);
                words.push_back(line);
                if words.len() > LAST_LINES {
                    words.pop_front();
                }
            }
        });
        Ok((Self { child, last_words, status: None }, stdin, stdout))
    }

    /// What it said last on standard error, as the end of a sentence; empty when it said nothing.
    pub(super) fn last_words(&self) -> String {
        let words = self.last_words.lock().unwrap_or_else(PoisonError::into_inner);
        let mut text = String::new();
        for line in words.iter().filter(|line| !line.trim().is_empty()) {
            let _ = write!(text, "{}{}", if text.is_empty() { "; it said: " } else { " / " }, line.trim());
        }
        text
    }

    /// Waits for its end, up to `patience`.
    pub(super) fn wait(&mut self, patience: Duration) -> Option<ExitStatus> {
        let deadline = Instant::now() + patience;
        while !self.has_ended() {
            if Instant::now() >= deadline {
                return None;
            }
            thread::sleep(Duration::from_millis(2));
        }
        self.reap()
    }

    /// Ends it: by itself as its standard input has been closed, within `patience`; then by signals.
    pub(super) fn end(&mut self, patience: Duration) -> Option<ExitStatus> {
        for signal in [None, Some(Signal::SIGTERM), Some(Signal::SIGKILL)] {
            if self.status.is_none()
                && let Some(signal) = signal
            {
                let _ = killpg(self.group(), signal);
            }
            if let Some(status) = self.wait(if signal.is_none() { patience } else { BETWEEN }) {
                return Some(status);
            }
        }
        None
    }

    /// Its process group, which has its number because it began a session.
    fn group(&self) -> Pid {
        Pid::from_raw(self.child.id().cast_signed())
    }

    /// Whether it has ended. It is not reaped: as long as it is not, its number and that of its group are nobody else's.
    fn has_ended(&self) -> bool {
        self.status.is_some()
            || !matches!(
                waitid(
                    Id::Pid(self.group()),
                    WaitPidFlag::WEXITED | WaitPidFlag::WNOHANG | WaitPidFlag::WNOWAIT
                ),
                Ok(WaitStatus::StillAlive) | Err(Errno::EINTR)
            )
    }

    /// Ends what it left in its group, and takes its exit status.
    fn reap(&mut self) -> Option<ExitStatus> {
        if self.status.is_none() {
            let _ = killpg(self.group(), Signal::SIGKILL);
            self.status = self.child.wait().ok();
        }
        self.status
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        self.end(Duration::ZERO);
    }
}
