//! What tests of the program share: the program itself running in a lab, followed by its events.
#![allow(dead_code, reason = "not every test file needs everything")]

use std::io::{BufRead, BufReader, Lines};
use std::process::{Child, ChildStdout, Command, Output, Stdio};

use serde_json::Value;
use wirerate_engine::lab::Host;

pub mod witness;

/// Returns from the test, loudly, when it is not run by root; panics instead when WIRERATE_REQUIRE_ROOT is set,
/// so that CI cannot skip it.
macro_rules! require_root {
    () => {
        if !wirerate_engine::host::privilege::Privileges::read()
            .allows(wirerate_engine::host::privilege::Purpose::Namespaces)
        {
            assert!(
                std::env::var_os("WIRERATE_REQUIRE_ROOT").is_none(),
                "this test needs root, and WIRERATE_REQUIRE_ROOT forbids to skip it"
            );
            eprintln!("SKIPPED: {} needs root", std::thread::current().name().unwrap_or("this test"));
            return;
        }
    };
}
pub(crate) use require_root;

/// The program under test.
pub const WIRERATE: &str = env!("CARGO_BIN_EXE_wirerate");

/// Runs the program on `host` to its end.
pub fn run_on(host: &Host, args: &[&str]) -> Output {
    host.command(WIRERATE).args(args).output().expect("the program was built")
}

/// Runs the program with `--json` on `host` to its end, which must be a success, and gives its report.
pub fn report_on(host: &Host, args: &[&str]) -> Value {
    let output =
        host.command(WIRERATE).args(args).args(["--json", "--quiet"]).output().expect("it was built");
    assert!(output.status.success(), "{args:?}: {}", String::from_utf8_lossy(&output.stderr));
    serde_json::from_slice(&output.stdout).expect("--json prints one JSON object")
}

/// A running program with `--json-lines`, killed when dropped.
pub struct Running {
    child: Child,
    lines: Lines<BufReader<ChildStdout>>,
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
            .stderr(Stdio::inherit())
            .spawn()
            .expect("the program was built");
        let lines = BufReader::new(child.stdout.take().expect("piped")).lines();
        let mut running = Self { child, lines };
        running.wait_for("ready");
        running
    }

    /// The process.
    pub fn id(&self) -> u32 {
        self.child.id()
    }

    /// Sends it a signal, by its name as kill(1) has it.
    pub fn signal(&self, name: &str) {
        let id = self.child.id().to_string();
        assert!(Command::new("kill").args(["-s", name, &id]).status().expect("kill").success());
    }

    /// Reads events up to the next of that name; panics when the program ends before.
    pub fn wait_for(&mut self, event: &str) -> Value {
        loop {
            let line = self.lines.next().unwrap_or_else(|| panic!("it ended without saying {event}"));
            let value: Value = serde_json::from_str(&line.expect("text")).expect("a JSON object a line");
            if value["event"] == event {
                return value;
            }
        }
    }

    /// Waits for its end: the report, if it gave one, and the exit status.
    pub fn finish(mut self) -> (Option<Value>, i32) {
        let mut report = None;
        for line in &mut self.lines {
            let mut value: Value = serde_json::from_str(&line.expect("text")).expect("a JSON object a line");
            if value["event"] == "report" {
                report = Some(value["report"].take());
            }
        }
        let status = self.child.wait().expect("it was started");
        (report, status.code().unwrap_or(-1))
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
