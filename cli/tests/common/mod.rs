//! What tests of the program share: the program itself running in a lab, followed by its events.
#![allow(dead_code, unused_macros, unused_imports, reason = "not every test file needs everything")]

use std::fs;
use std::io::{BufRead, BufReader, Read};
use std::os::unix::fs::PermissionsExt;
use std::os::unix::process::ExitStatusExt;
use std::path::PathBuf;
use std::process::{Child, Command, ExitStatus, Output, Stdio};
use std::sync::mpsc::{Receiver, RecvTimeoutError, channel};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use serde_json::Value;
use wirerate_engine::lab::{Host, Netns};

pub mod agents;
pub mod contained;
pub mod inject;
pub mod iperf3;
pub mod memberships;
pub mod qualify;
pub mod replicate;
pub mod scene;
pub mod witness;

/// Returns from the test, loudly, when it is not run by root; panics instead when WIRERATE_REQUIRE_ROOT is set,
/// so that CI cannot skip it.
macro_rules! require_root {
    () => {
        if !wirerate_engine::host::privilege::Privileges::read()
            .allows(wirerate_engine::host::privilege::Purpose::Namespaces)
        {
            common::skipped("root");
            return;
        }
    };
}
pub(crate) use require_root;

/// Says loudly that this test is not run for want of `what`; panics when WIRERATE_REQUIRE_ROOT is set.
pub fn skipped(what: &str) {
    assert!(
        std::env::var_os("WIRERATE_REQUIRE_ROOT").is_none(),
        "this test needs {what}, and WIRERATE_REQUIRE_ROOT forbids to skip it"
    );
    eprintln!("SKIPPED: {} needs {what}", thread::current().name().unwrap_or("this test"));
}

/// The program under test.
pub const WIRERATE: &str = env!("CARGO_BIN_EXE_wirerate");

/// After this time a test has hung.
pub const PATIENCE: Duration = Duration::from_secs(180);

/// Panics when the text is what a defect prints.
pub fn assert_no_panic(text: &str) {
    for sign in ["panicked at", "RUST_BACKTRACE", "stack backtrace", "a defect", "SIGSEGV", "core dumped"] {
        assert!(!text.contains(sign), "the program printed {sign:?}:\n{text}");
    }
}

/// Looks again and again until `condition` holds; panics with what it says when it never does.
pub fn eventually(what: &str, mut condition: impl FnMut() -> bool) {
    let start = Instant::now();
    while !condition() {
        assert!(start.elapsed() < PATIENCE, "never came true: {what}");
        thread::sleep(Duration::from_millis(20));
    }
}

/// A program that has ended.
#[derive(Debug)]
pub struct Ended {
    /// Exit status; -1 when a signal ended it.
    pub code: i32,
    /// Standard output.
    pub stdout: String,
    /// Standard error.
    pub stderr: String,
}

impl Ended {
    /// Panics unless it ended with `code` and said each of `words` on standard error.
    #[track_caller]
    pub fn expect(&self, code: i32, words: &[&str]) {
        assert_eq!(self.code, code, "exit status; it said: {}{}", self.stderr, self.stdout);
        for word in words {
            assert!(self.stderr.contains(word), "{word:?} is missing in: {}", self.stderr);
        }
    }

    /// Standard output, which must be one JSON object.
    #[track_caller]
    pub fn json(&self) -> Value {
        serde_json::from_str(&self.stdout).unwrap_or_else(|e| panic!("{e}: {} {}", self.stdout, self.stderr))
    }
}

/// Runs `command` to its end, which must come in time, and without a panic.
pub fn run(mut command: Command) -> Ended {
    let mut child = command
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap_or_else(|e| panic!("{command:?}: {e}"));
    let (stdout, stderr) = (read_all(child.stdout.take()), read_all(child.stderr.take()));
    let status = wait(&mut child);
    let text = |reader: JoinHandle<Vec<u8>>| String::from_utf8(reader.join().expect("reads")).expect("UTF-8");
    let ended = Ended { code: status.code().unwrap_or(-1), stdout: text(stdout), stderr: text(stderr) };
    assert_no_panic(&ended.stderr);
    ended
}

/// Waits for the end; kills the program and panics when it does not come.
pub fn wait(child: &mut Child) -> ExitStatus {
    let start = Instant::now();
    loop {
        if let Some(status) = child.try_wait().expect("it was started") {
            assert!(
                !matches!(status.signal(), Some(6 | 7 | 11)),
                "it crashed (SIGABRT, SIGBUS or SIGSEGV): {status}"
            );
            return status;
        }
        if start.elapsed() > PATIENCE {
            let _ = child.kill();
            panic!("it did not end within {PATIENCE:?}");
        }
        thread::sleep(Duration::from_millis(5));
    }
}

fn read_all(stream: Option<impl Read + Send + 'static>) -> JoinHandle<Vec<u8>> {
    let mut stream = stream.expect("piped");
    thread::spawn(move || {
        let mut bytes = Vec::new();
        let _ = stream.read_to_end(&mut bytes);
        bytes
    })
}

/// The program with `args`, here.
pub fn wirerate(args: &[&str]) -> Command {
    let mut command = Command::new(WIRERATE);
    command.args(args);
    command
}

/// The program with `args`, on `host`.
pub fn wirerate_on(host: &Host, args: &[&str]) -> Command {
    let mut command = host.command(WIRERATE);
    command.args(args);
    command
}

/// Runs iproute2's `ip` with the words of `args` in `netns`; it must succeed.
pub fn ip(netns: &Netns, args: &str) -> String {
    let mut command = netns.command("ip");
    command.args(args.split_whitespace());
    let ended = run(command);
    assert_eq!(ended.code, 0, "ip {args}: {}", ended.stderr);
    ended.stdout
}

/// Runs the program on `host` to its end.
pub fn run_on(host: &Host, args: &[&str]) -> Output {
    host.command(WIRERATE).args(args).output().expect("the program was built")
}

/// Runs the program with `--json` on `host` to its end, which must be a success, and gives its report.
pub fn report_on(host: &Host, args: &[&str]) -> Value {
    let mut command = wirerate_on(host, args);
    command.args(["--json", "--quiet"]);
    let ended = run(command);
    assert_eq!(ended.code, 0, "{args:?}: {}", ended.stderr);
    ended.json()
}

/// Sends the process a signal, by its name as kill(1) has it.
pub fn signal(id: u32, name: &str) {
    assert!(Command::new("kill").args(["-s", name, &id.to_string()]).status().expect("kill").success());
}

/// A running program with `--json-lines`, killed when dropped.
pub struct Running {
    child: Child,
    lines: Receiver<String>,
    errors: Option<JoinHandle<String>>,
    /// Every event so far.
    pub events: Vec<Value>,
}

impl Running {
    /// Starts the program on `host` and waits until it says that it is ready.
    pub fn ready_on(host: &Host, args: &[&str]) -> Self {
        Self::ready(host.command(WIRERATE), args)
    }

    /// Starts `command`, which runs the program, and waits until it says that it is ready.
    pub fn ready(mut command: Command, args: &[&str]) -> Self {
        let mut child = command
            .args(args)
            .args(["--json-lines", "--quiet"])
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .expect("the program was built");
        let (stdout, stderr) = (child.stdout.take().expect("piped"), child.stderr.take().expect("piped"));
        let (send, lines) = channel();
        thread::spawn(move || {
            BufReader::new(stdout).lines().map_while(Result::ok).try_for_each(|line| send.send(line).ok())
        });
        let errors = thread::spawn(move || {
            let mut all = String::new();
            for line in BufReader::new(stderr).lines().map_while(Result::ok) {
                eprintln!("{line}");
                all += &(line + "\n");
            }
            all
        });
        let mut running = Self { child, lines, errors: Some(errors), events: Vec::new() };
        running.wait_for("ready");
        running
    }

    /// The process.
    pub fn id(&self) -> u32 {
        self.child.id()
    }

    /// Sends it a signal, by its name as kill(1) has it.
    pub fn signal(&self, name: &str) {
        signal(self.id(), name);
    }

    /// The next event; none when it has ended.
    fn next(&mut self) -> Option<Value> {
        match self.lines.recv_timeout(PATIENCE) {
            Ok(line) => {
                let event: Value = serde_json::from_str(&line).expect("a JSON object a line");
                self.events.push(event.clone());
                Some(event)
            }
            Err(RecvTimeoutError::Disconnected) => None,
            Err(RecvTimeoutError::Timeout) => panic!("it said nothing for {PATIENCE:?}"),
        }
    }

    /// Reads events up to the next of that name; panics when the program ends before.
    pub fn wait_for(&mut self, event: &str) -> Value {
        loop {
            let value = self.next().unwrap_or_else(|| panic!("it ended without saying {event}"));
            if value["event"] == event {
                return value;
            }
        }
    }

    /// Waits for its end: the report, if it gave one, and the exit status.
    pub fn finish(self) -> (Option<Value>, i32) {
        let (report, ended) = self.end();
        (report, ended.code)
    }

    /// As [`finish`](Self::finish), with what it said on standard error.
    pub fn end(mut self) -> (Option<Value>, Ended) {
        let mut report = None;
        while let Some(mut value) = self.next() {
            if value["event"] == "report" {
                report = Some(value["report"].take());
            }
        }
        let code = wait(&mut self.child).code().unwrap_or(-1);
        let stderr = self.errors.take().expect("not yet taken").join().expect("reads");
        assert_no_panic(&stderr);
        (report, Ended { code, stdout: String::new(), stderr })
    }

    /// Waits for its end, which must be a success, and gives the report.
    pub fn report(self) -> Value {
        let (report, status) = self.finish();
        assert_eq!(status, 0, "exit status");
        report.expect("a report before a success")
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// The program as an ordinary user, from where everybody may run it.
pub struct Nobody(tempfile::TempDir);

impl Nobody {
    /// Copies the program to a directory of its own.
    pub fn new() -> Self {
        let directory = tempfile::tempdir().unwrap();
        fs::set_permissions(directory.path(), PermissionsExt::from_mode(0o755)).unwrap();
        fs::copy(WIRERATE, directory.path().join("wirerate")).unwrap();
        Self(directory)
    }

    /// Where the copy is.
    pub fn program(&self) -> PathBuf {
        self.0.path().join("wirerate")
    }

    /// Makes `setpriv`, started wherever the caller wants, run the program as nobody.
    pub fn become_by(&self, mut setpriv: Command) -> Command {
        setpriv.args(["--reuid=65534", "--regid=65534", "--clear-groups"]).arg(self.program());
        setpriv
    }
}
