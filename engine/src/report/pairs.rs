//! Each packet's times, as CSV (`--packets`).
#![forbid(unsafe_code)]

use std::fs::File;
use std::io::{self, BufWriter, Write};
use std::path::{Path, PathBuf};

use super::Warning;
use crate::error::{Error, Result};
use crate::measure::tally::Pair;

/// A table that is being written.
pub struct PacketTable {
    path: PathBuf,
    file: BufWriter<File>,
    broken: Option<io::Error>,
}

impl PacketTable {
    /// Begins the file at `path`; what was there is gone.
    ///
    /// # Errors
    /// Usage: the file cannot be written.
    pub fn create(path: &Path) -> Result<Self> {
        let refuse = |e| Error::usage(format!("--packets: cannot write {}", path.display())).because(e);
        let mut file = BufWriter::new(File::create(path).map_err(refuse)?);
        writeln!(file, "run,stream,sequence,tx_tai_ns,rx_tai_ns")
            .and_then(|()| file.flush())
            .map_err(refuse)?;
        Ok(Self { path: path.to_owned(), file, broken: None })
    }

    /// Adds rows.
    pub(crate) fn add(&mut self, pairs: &[Pair]) {
        for pair in pairs {
            let Pair { run, stream, sequence, sent_ns, arrived_ns } = pair;
            let written = match self.broken {
                None => writeln!(self.file, "{run},{stream},{sequence},{sent_ns},{arrived_ns}"),
                Some(_) => return,
            };
            self.broken = written.err();
        }
    }

    /// A warning when not all is in the file; `missing` rows had no room on the way.
    pub(crate) fn finish(mut self, missing: u64) -> Option<Warning> {
        let broken = self.broken.take().or_else(|| self.file.flush().err());
        let path = self.path.display();
        let text = match broken {
            Some(error) => format!("--packets: {path} is not complete: {error}"),
            None if missing > 0 => {
                format!("--packets: {missing} packets are not in {path}: too many came at once")
            }
            None => return None,
        };
        Some(Warning {
            code: "packets",
            text,
            fix: Some("use a lower rate, and a file system with room".to_owned()),
        })
    }
}
