//! Events of a server or a client, told as iperf3 tells them.

use std::collections::BTreeMap;

use wirerate_engine::interop::iperf3::output::{Identity, Output, Recorder, layout};
use wirerate_engine::interop::iperf3::{Code, Event, Failure, ServerOutput};

use super::options::{Form, Printing};
use super::out::Out;
use super::signals::Signal;
use super::text::{self, Page};

/// Tells events, and remembers what of it counts for the exit status.
pub struct Reporter {
    printing: Printing,
    identity: Identity,
    out: Out,
    tests: BTreeMap<u64, Test>,
    /// Which signal ends it.
    signal: Signal,
    /// Whether a failure was told.
    failed: bool,
    /// Whether it was told that a signal ends it.
    interrupted: bool,
}

/// A test that runs.
struct Test {
    recorder: Recorder,
    page: Page,
    /// What was printed of it, for a client that asks; `None` once it is known that it does not.
    printed: Option<String>,
}

impl Reporter {
    /// Of nothing yet.
    pub fn new(printing: Printing, identity: Identity, out: Out, signal: Signal) -> Self {
        Self { printing, identity, out, tests: BTreeMap::new(), signal, failed: false, interrupted: false }
    }

    /// Tells an event.
    pub fn tell(&mut self, mut event: Event<'_>) {
        match &mut event {
            Event::Listening { address, next } if self.printing.form == Form::Text => {
                let banner = text::banner(&self.printing, &self.identity, address.port(), *next);
                self.out.lines(&banner, "");
            }
            Event::Listening { .. } => {}
            Event::OutputWanted { test, into } => **into = self.server_output(*test),
            Event::Failed { test, failure } => self.fail(*test, failure),
            Event::Connecting { .. } => self.of(1, &event),
            Event::Accepted { test, .. }
            | Event::Parameters { test, .. }
            | Event::Done { test }
            | Event::Warning { test, .. } => {
                let test = *test;
                self.of(test, &event);
            }
            Event::Begin(begin) => {
                let test = begin.test;
                self.of(test, &event);
            }
            Event::Interval(interval) => {
                let test = interval.test;
                self.of(test, &event);
            }
            Event::End(end) => {
                let test = end.test;
                self.of(test, &event);
            }
        }
    }

    /// Tells a failure that no event has told.
    pub fn untold(&mut self, failure: &Failure) {
        if !self.failed {
            self.fail(0, failure);
        }
    }

    /// It ended because of a signal: told once, also when no test ran.
    pub fn interrupted(&mut self) {
        if !self.interrupted {
            let role = if self.printing.client { "client" } else { "server" };
            self.complain(0, &format!("interrupt - the {role} has terminated{}", self.signal.words()));
        }
    }

    /// An event of a test.
    fn of(&mut self, number: u64, event: &Event<'_>) {
        if let Event::Warning { test: 0, text } = event {
            return self.warn(text);
        }
        let keep = !matches!(self.printing.form, Form::JsonStream { full: false });
        let mark = self.mark(number);
        let (printing, identity) = (&self.printing, &self.identity);
        let test = self.tests.entry(number).or_insert_with(|| Test {
            recorder: Recorder::new(printing.client, identity, printing.interval, keep),
            page: Page::new(printing, identity),
            printed: (!printing.client).then(String::new),
        });
        test.recorder.event(event);
        match printing.form {
            Form::Text => {
                let lines = test.page.event(event, &test.recorder);
                if let Event::Parameters { parameters, .. } = event
                    && !parameters.get_server_output
                {
                    test.printed = None;
                }
                if let Some(printed) = &mut test.printed {
                    *printed += &lines;
                }
                self.out.lines(&lines, &mark);
            }
            Form::Json | Form::JsonStream { .. } => {
                if let Event::Warning { text, .. } = event {
                    self.out.complain(&format!("warning - {text}"));
                }
                if let Form::JsonStream { .. } = printing.form {
                    stream(&mut self.out, event, test.recorder.output());
                }
            }
        }
        if let Event::Done { .. } = event {
            self.close(number);
        }
    }

    /// What stands in front of a test's lines while others run: numbers of sockets tell its streams apart, but nothing else does.
    fn mark(&self, number: u64) -> String {
        let others = self.tests.keys().any(|&other| other != number);
        if others && !self.printing.client { format!("#{number}: ") } else { String::new() }
    }

    fn warn(&mut self, text: &str) {
        self.out.complain(&format!("warning - {text}"));
    }

    /// A test is over: what is only told then.
    fn close(&mut self, number: u64) {
        let Some(test) = self.tests.remove(&number) else { return };
        self.whole(test.recorder.output());
    }

    fn whole(&mut self, output: &Output) {
        match self.printing.form {
            Form::Text => {}
            Form::Json => self.out.lines(&(layout::printed(output) + "\n"), ""),
            Form::JsonStream { full } => {
                if let Some(text) = &output.server_output_text {
                    self.out.lines(&(layout::event("server_output_text", text) + "\n"), "");
                }
                if let Some(value) = &output.server_output_json {
                    self.out.lines(&(layout::event("server_output_json", value) + "\n"), "");
                }
                if let Some(error) = &output.error {
                    self.out.lines(&(layout::event("error", error) + "\n"), "");
                }
                self.out.lines(&(layout::event("end", &output.end) + "\n"), "");
                if full {
                    self.out.lines(&(layout::printed(output) + "\n"), "");
                }
            }
        }
    }

    fn server_output(&self, number: u64) -> Option<ServerOutput> {
        let test = self.tests.get(&number)?;
        match self.printing.form {
            Form::Text => test.printed.clone().map(ServerOutput::Text),
            Form::Json | Form::JsonStream { .. } => {
                // As iperf3 has it: the client knows its title and its data.
                let output = Output { title: None, extra_data: None, ..test.recorder.output().clone() };
                serde_json::to_value(output).ok().map(ServerOutput::Json)
            }
        }
    }

    fn fail(&mut self, number: u64, failure: &Failure) {
        self.failed = true;
        if failure.interrupted
            && std::mem::replace(&mut self.interrupted, true)
            && self.printing.form == Form::Text
        {
            // Of the other tests that it ends, too, there is no more to say.
            self.tests.remove(&number);
            return;
        }
        let text = self.printing.form == Form::Text;
        let said = if text { failure.to_string() } else { failure.message() };
        let words = match (failure.interrupted, failure.code, self.printing.client) {
            (true, _, client) => {
                let role = if client { "client" } else { "server" };
                format!("interrupt - the {role} has terminated{}", self.signal.words())
            }
            (false, Code::ClientTerminated, false) => said,
            (false, Code::ControlClose, false) => {
                "the client has unexpectedly closed the connection".to_owned()
            }
            // A client's JSON has the words alone.
            (false, _, true) if !text => said,
            (false, ..) => format!("error - {said}"),
        };
        self.complain(number, &words);
    }

    fn complain(&mut self, number: u64, words: &str) {
        let test = self.tests.remove(&number);
        if self.printing.form == Form::Text {
            return self.out.complain(words);
        }
        let mut recorder = test.map_or_else(
            || Recorder::new(self.printing.client, &self.identity, self.printing.interval, true),
            |test| test.recorder,
        );
        recorder.fail(words);
        self.whole(recorder.output());
    }
}

/// The line of `--json-stream` that an event makes.
fn stream(out: &mut Out, event: &Event<'_>, output: &Output) {
    let line = match event {
        Event::Begin(_) => layout::event("start", &output.start),
        Event::Interval(_) => match output.intervals.last() {
            Some(interval) => layout::event("interval", interval),
            None => return,
        },
        _ => return,
    };
    out.lines(&(line + "\n"), "");
}
