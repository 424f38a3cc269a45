//! Where lines go: to standard output or a log, each with what `--timestamps` and `-T` put in front; complaints to standard error or the same log.

use std::fs::{File, OpenOptions};
use std::io::{self, Write as _};
use std::time::{SystemTime, UNIX_EPOCH};

use wirerate_engine::sys::localtime::formatted;

use super::options::{Form, Printing};
use super::values::Refused;

/// Where the output of a command goes.
#[derive(Debug)]
pub struct Out {
    log: Option<File>,
    timestamps: Option<String>,
    title: Option<String>,
}

impl Out {
    /// Opens the log, where one is asked for, before anything is measured.
    pub fn open(logfile: Option<&str>, printing: &Printing) -> Refused<Self> {
        let log = match logfile {
            None => None,
            Some(path) => Some(
                OpenOptions::new()
                    .append(true)
                    .create(true)
                    .open(path)
                    .map_err(|e| format!("unable to open log file: {path}: {e}"))?,
            ),
        };
        let text = printing.form == Form::Text;
        Ok(Self {
            log,
            timestamps: printing.timestamps.clone().filter(|_| text),
            title: printing.title.clone().filter(|_| text && printing.client),
        })
    }

    /// Writes lines, each of them with what stands in front, `mark` last.
    pub fn lines(&mut self, text: &str, mark: &str) {
        if text.is_empty() {
            return;
        }
        let mut front = self.time();
        if let Some(title) = &self.title {
            front = format!("{front}{title}:  ");
        }
        front.push_str(mark);
        if front.is_empty() {
            self.write(text);
        } else {
            let lines: String = text.split_inclusive('\n').flat_map(|line| [front.as_str(), line]).collect();
            self.write(&lines);
        }
    }

    /// Says what went wrong: "iperf3: " and `text`.
    pub fn complain(&mut self, text: &str) {
        let line = format!("{}iperf3: {text}\n", self.time());
        match &mut self.log {
            // A log that is full still leaves the exit status.
            Some(log) => _ = log.write_all(line.as_bytes()),
            None => {
                _ = io::stdout().flush();
                _ = io::stderr().write_all(line.as_bytes());
            }
        }
    }

    /// Somebody who stopped reading still gets the exit status.
    fn write(&mut self, text: &str) {
        _ = match &mut self.log {
            Some(log) => log.write_all(text.as_bytes()),
            None => io::stdout().write_all(text.as_bytes()).and_then(|()| io::stdout().flush()),
        };
    }

    fn time(&self) -> String {
        let Some(format) = &self.timestamps else { return String::new() };
        let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
        formatted(i64::try_from(since.as_secs()).unwrap_or(i64::MAX), format).unwrap_or_default()
    }
}
