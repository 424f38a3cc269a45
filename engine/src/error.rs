//! The one error of the engine's surface: what is wrong, where, and what to do about it.
#![forbid(unsafe_code)]

use std::fmt;

/// Who has to act on an error; the command line turns it into the exit status.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// It failed while running (exit 1).
    Failed,
    /// The arguments are wrong (exit 2).
    Usage,
    /// This machine or user cannot run it: privilege, kernel, driver (exit 4).
    Environment,
}

/// What is wrong and where (`what`), why (`source`), and what to do (`fix`).
#[derive(Debug)]
pub struct Error {
    /// Who has to act.
    pub kind: Kind,
    /// What is wrong and where, in one clause: "veth0: no such interface".
    pub what: String,
    /// What to do about it, as a sentence or a command.
    pub fix: Option<String>,
    /// The system's own reason.
    pub source: Option<std::io::Error>,
}

impl Error {
    /// An error of `kind` that says `what` is wrong.
    pub fn new(kind: Kind, what: impl Into<String>) -> Self {
        Self { kind, what: what.into(), fix: None, source: None }
    }

    /// The arguments are wrong.
    pub fn usage(what: impl Into<String>) -> Self {
        Self::new(Kind::Usage, what)
    }

    /// This machine or user cannot run it.
    pub fn environment(what: impl Into<String>) -> Self {
        Self::new(Kind::Environment, what)
    }

    /// It failed while running.
    pub fn failed(what: impl Into<String>) -> Self {
        Self::new(Kind::Failed, what)
    }

    /// Adds what to do about it.
    #[must_use]
    pub fn fix(mut self, fix: impl Into<String>) -> Self {
        self.fix = Some(fix.into());
        self
    }

    /// Adds the system's own reason.
    #[must_use]
    pub fn because(mut self, source: impl Into<std::io::Error>) -> Self {
        self.source = Some(source.into());
        self
    }
}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.what)?;
        if let Some(source) = &self.source {
            write!(f, ": {source}")?;
        }
        if let Some(fix) = &self.fix {
            write!(f, "\n  fix: {fix}")?;
        }
        Ok(())
    }
}

impl std::error::Error for Error {}

/// The engine's result.
pub type Result<T> = std::result::Result<T, Error>;
