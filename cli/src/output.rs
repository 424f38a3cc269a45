//! Where results and progress go: results to standard output or a file, all else to standard error.

use std::fs::{File, OpenOptions};
use std::io::{self, Write};
use std::path::{Path, PathBuf};

use serde::Serialize;
use wirerate_engine::Error;
use wirerate_engine::agent::protocol;
use wirerate_engine::control::Event;
use wirerate_engine::profile::rate::Rate;
use wirerate_engine::report::{Report, Warning};
use wirerate_engine::target::Target;
use wirerate_engine::verdict::Expectations;

use crate::args::{self, Output};
use crate::text;
use crate::web::Web;

/// Where one command's results go.
pub struct Sink {
    result: Box<dyn Write>,
    form: Form,
    quiet: bool,
    /// Last, so that its page goes on until the result is written.
    web: Option<Web>,
    /// Where the report goes as one JSON object, too.
    beside: Option<(PathBuf, File)>,
}

/// How results are written.
#[derive(Clone, Copy, PartialEq, Eq)]
pub enum Form {
    Text,
    Json,
    JsonLines,
}

impl Form {
    /// By `--json` and `--json-lines`.
    pub fn of(json: bool, json_lines: bool) -> Self {
        match (json, json_lines) {
            (true, _) => Self::Json,
            (_, true) => Self::JsonLines,
            _ => Self::Text,
        }
    }
}

impl Sink {
    /// Opens what `args` asks for, before anything is measured.
    pub fn open(args: &Output) -> Result<Self, Error> {
        Self::new(args.output.as_deref(), Form::of(args.json, args.json_lines), args.quiet)?
            .on_web(&args.web, wirerate_engine::report::SCHEMA)
    }

    /// As [`open`](Self::open): to a file or to standard output, in this form, with progress or without.
    pub fn new(file: Option<&Path>, form: Form, quiet: bool) -> Result<Self, Error> {
        let result: Box<dyn Write> = match file {
            None => Box::new(anstream::stdout()),
            Some(path) => {
                let file = File::create(path).map_err(|e| {
                    Error::usage(format!("--output {}: cannot be written", path.display()))
                        .because(e)
                        .fix("name a file that this user may write, in a directory that exists")
                })?;
                // Without colours, wherever standard output goes.
                Box::new(anstream::AutoStream::never(file))
            }
        };
        Ok(Self { result, form, quiet, web: None, beside: None })
    }

    /// Opens what a method's `args` ask for, before anything is measured. `schema` is that of the report to come.
    pub fn of_method(args: &args::results::Results, schema: &'static str) -> Result<Self, Error> {
        let mut sink = Self::new(args.output.as_deref(), Form::of(args.json, args.json_lines), args.quiet)?
            .on_web(&args.web, schema)?;
        if let Some(path) = &args.json_file {
            let file = File::create(path).map_err(|e| {
                Error::usage(format!("--json-file {}: cannot be written", path.display())).because(e)
            })?;
            sink.beside = Some((path.clone(), file));
        }
        Ok(sink)
    }

    /// Shows the run in a browser, too, where that is asked for. `schema` is that of the report to come.
    pub fn on_web(mut self, options: &args::report::Web, schema: &'static str) -> Result<Self, Error> {
        let mut words = std::env::args().skip(1);
        let command = words.next().unwrap_or_default();
        let target = words.find_map(|word| word.parse::<Target>().ok());
        self.web = Web::start(options, schema, &command, target.map(|t| t.to_string()), self.quiet)?;
        Ok(self)
    }

    /// Tells what happens during a run.
    pub fn event(&mut self, event: &Event<'_>) {
        if (self.form == Form::JsonLines || self.web.is_some())
            && let Some(told) = told(event)
        {
            self.line(&told);
        }
        match event {
            Event::Buffer(_) | Event::Iperf2(_) | Event::Ready => {}
            Event::Interval(interval) => self.progress(|| text::interval(interval)),
            Event::Warning(warning) => say(&text::warning(warning)),
        }
    }

    /// Tells progress on standard error, unless nobody wants it.
    pub fn progress(&self, text: impl FnOnce() -> String) {
        if !self.quiet {
            say(&text());
        }
    }

    /// Tells what is part of the result as it comes: with text in its place, otherwise, as progress, on standard error; to nobody with -q.
    pub fn passage(&mut self, text: impl FnOnce() -> String) {
        match (self.quiet, self.form) {
            // With lines, its event has told it.
            (true, _) | (_, Form::JsonLines) => {}
            (false, Form::Text) => {
                // Somebody who stopped reading still gets the exit status.
                let _ = writeln!(self.result, "{}", text()).and_then(|()| self.result.flush());
            }
            (false, Form::Json) => say(&text()),
        }
    }

    /// Gives the result.
    pub fn report(&mut self, report: &Report) -> Result<(), Error> {
        self.result(report, text::report)
    }

    /// Gives the result of a command with a report of its own, which `render` makes text of.
    pub fn result<R: Serialize>(
        &mut self,
        report: &R,
        render: impl FnOnce(&R) -> String,
    ) -> Result<(), Error> {
        if let Some(web) = &self.web {
            web.report(plain(report));
        }
        match self.form {
            Form::Text => self.write(&render(report)),
            Form::Json => self.write(&pretty(report)),
            Form::JsonLines => self.write(&line(&protocol::Event::Report { report: plain(report) })),
        }?;
        if let Some((path, file)) = &mut self.beside {
            file.write_all(pretty(report).as_bytes())
                .map_err(|e| Error::failed(format!("--json-file {}", path.display())).because(e))?;
        }
        Ok(())
    }

    /// Gives a part of the result, where it is given while it comes.
    pub fn part(&mut self, text: &str) {
        // Somebody who stopped reading still gets the run's exit status.
        let _ = self.result.write_all(text.as_bytes()).and_then(|()| self.result.flush());
    }

    /// Tells an event, where lines are asked for.
    pub fn line(&mut self, event: &impl Serialize) {
        if let Some(web) = &self.web {
            web.event(plain(event));
        }
        if self.form != Form::JsonLines {
            return;
        }
        // Somebody who stopped reading lines still gets the run's exit status.
        let _ = self.result.write_all(line(event).as_bytes()).and_then(|()| self.result.flush());
    }

    fn write(&mut self, result: &str) -> Result<(), Error> {
        finish_write(self.result.write_all(result.as_bytes()).and_then(|()| self.result.flush()))
    }
}

/// What happens during a run, as a line tells it; `None` of what is for `--as`, whose lines are iperf's.
pub fn told(event: &Event<'_>) -> Option<protocol::Event> {
    match event {
        Event::Buffer(_) | Event::Iperf2(_) => None,
        Event::Ready => Some(protocol::Event::Ready),
        Event::Interval(interval) => Some(protocol::Event::Interval { interval: plain(interval) }),
        Event::Warning(warning) => Some(told_warning(warning)),
    }
}

fn line(event: &impl Serialize) -> String {
    serde_json::to_string(event).expect("events have string keys only") + "\n"
}

/// A warning, as a line tells it.
pub fn told_warning(warning: &Warning) -> protocol::Event {
    protocol::Event::Warning { warning: plain(warning) }
}

/// A report or a part of one as plain data.
pub fn plain(value: &impl Serialize) -> serde_json::Value {
    serde_json::to_value(value).expect("reports have string keys only")
}

/// Prints a result on standard output.
pub fn print(result: &str) -> Result<(), Error> {
    let mut stdout = anstream::stdout();
    finish_write(stdout.write_all(result.as_bytes()).and_then(|()| stdout.flush()))
}

/// A reader that went away (`| head`) is no failure of the run.
fn finish_write(written: io::Result<()>) -> Result<(), Error> {
    match written {
        Err(e) if e.kind() != io::ErrorKind::BrokenPipe => {
            Err(Error::failed("the result could not be written").because(e))
        }
        _ => Ok(()),
    }
}

/// JSON that a person can read, with a line end.
pub fn pretty(value: &impl Serialize) -> String {
    serde_json::to_string_pretty(value).expect("reports have string keys only") + "\n"
}

/// Tells progress on standard error.
pub fn say(text: &str) {
    let _ = writeln!(anstream::stderr(), "{text}");
}

/// Tells an error on standard error.
pub fn complain(error: &Error) {
    let style = anstyle::AnsiColor::Red.on_default().bold();
    let _ = writeln!(anstream::stderr(), "{style}wirerate:{style:#} {error}");
}

/// Where `--ready-fd` asks for a byte.
pub struct ReadyFd(Option<File>);

impl ReadyFd {
    /// Opens descriptor `number`, which whoever started the program has left open.
    pub fn open(number: Option<i32>) -> Result<Self, Error> {
        let Some(number) = number else { return Ok(Self(None)) };
        // Opened anew by its name, because taking over a bare number is not safe.
        let file = OpenOptions::new().write(true).open(format!("/proc/self/fd/{number}")).map_err(|e| {
            Error::usage(format!("--ready-fd {number}: not an open pipe or file"))
                .because(e)
                .fix("start it with that descriptor open for writing, as in 3>pipe")
        })?;
        Ok(Self(Some(file)))
    }

    /// Writes the byte, once.
    pub fn tell(&mut self) {
        if let Some(mut file) = self.0.take() {
            // Who stopped listening does not want to know.
            let _ = file.write_all(b"\n");
        }
    }
}

/// What `--expect-…` asks for.
pub fn expectations(args: &Output) -> Result<Expectations, Error> {
    Ok(Expectations {
        loss_below_percent: args.expect_loss_below,
        rate_above: args.expect_rate_above.as_deref().map(str::parse::<Rate>).transpose()?,
    })
}
