//! Which tool is installed, of which version, and what it can.
#![forbid(unsafe_code)]

use std::env;
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};

use super::run::{Child, Spec};
use crate::control::Stop;
use crate::error::{Error, Result};

/// A tool that can be driven.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Kind {
    /// iperf3.
    Iperf3,
    /// iperf 2.
    Iperf2,
}

impl Kind {
    /// The program's name.
    pub fn name(self) -> &'static str {
        match self {
            Self::Iperf3 => "iperf3",
            Self::Iperf2 => "iperf",
        }
    }

    /// Package of distributions.
    fn package(self) -> &'static str {
        self.name()
    }
}

/// An installed tool.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Tool {
    /// Which.
    pub kind: Kind,
    /// Where it is, as a word of a command.
    pub program: String,
    /// Its version, as it tells it: "3.12".
    pub version: String,
    /// Options of iperf3 that not every version has, of those that it explains: `--bidir`, `--gsro`, `--json-stream`, `--rcv-timeout`.
    pub options: Vec<String>,
}

/// Options that came with time.
const OPTIONS: [&str; 6] =
    ["--bidir", "--gsro", "--json-stream", "--rcv-timeout", "--udp-counters-64bit", "--bind-dev"];

/// How long a tool may take to tell its version.
const PATIENCE_MS: u64 = 10_000;

impl Tool {
    /// Looks for it here, behind `prefix`: at `program`, or in PATH.
    ///
    /// # Errors
    /// Environment when it is not there, or is something else.
    pub(super) fn find(kind: Kind, program: Option<&str>, prefix: &[String]) -> Result<Self> {
        let program = match (program, prefix) {
            (Some(path), _) => path.to_owned(),
            (None, []) => in_path(kind.name()).ok_or_else(|| not_there(kind))?,
            (None, _) => kind.name().to_owned(),
        };
        let ask = |words: &[&str]| {
            let spec = Spec {
                kind,
                program: Some(program.clone()),
                arguments: words.iter().map(|&word| word.to_owned()).collect(),
                deadline_ms: PATIENCE_MS,
                listens: None,
            };
            Child::start(&spec, prefix).map(|child| child.finish(&Stop::default()))
        };
        let told = ask(&["-v"])?;
        // iperf 2 tells its version on either output, by version.
        let text = format!("{}\n{}", told.stdout, told.stderr);
        let Some((said_kind, version)) = version(&text) else {
            return Err(Error::environment(format!(
                "{program}: is no {}: asked for its version it said: {}",
                kind.name(),
                told.complaint()
            ))
            .fix(install(kind)));
        };
        if said_kind != kind {
            return Err(Error::environment(format!("{program}: is iperf {version}, not {}", kind.name()))
                .fix(install(kind)));
        }
        let help = if kind == Kind::Iperf3 { ask(&["--help"])? } else { told };
        let help = format!("{}\n{}", help.stdout, help.stderr);
        let options =
            OPTIONS.iter().filter(|&&option| explains(&help, option)).map(|&o| o.to_owned()).collect();
        Ok(Self { kind, program, version, options })
    }

    /// Whether it has this option.
    pub fn has(&self, option: &str) -> bool {
        self.options.iter().any(|known| known == option)
    }
}

/// The program of that name in PATH, and where administrators' tools are.
pub(super) fn in_path(name: &str) -> Option<String> {
    let path = env::var_os("PATH").unwrap_or_default();
    env::split_paths(&path)
        .chain(["/usr/bin", "/usr/local/bin", "/usr/sbin", "/usr/local/sbin"].map(PathBuf::from))
        .map(|folder| folder.join(name))
        .find(|path| is_program(path))
        .map(|path| path.display().to_string())
}

fn is_program(path: &Path) -> bool {
    path.is_file() && nix::unistd::access(path, nix::unistd::AccessFlags::X_OK).is_ok()
}

pub(super) fn not_there(kind: Kind) -> Error {
    Error::environment(format!("{} is not installed: it is not in PATH", kind.name())).fix(install(kind))
}

fn install(kind: Kind) -> String {
    format!("install the package {}, or tell where the program is", kind.package())
}

/// "iperf 3.12 (cJSON 1.7.15)", "iperf version 2.1.8 (12 August 2022) pthreads".
fn version(text: &str) -> Option<(Kind, String)> {
    let line = text.lines().find(|line| line.starts_with("iperf"))?;
    let number = line
        .split_whitespace()
        .skip(1)
        .map(|word| word.trim_start_matches('v'))
        .find(|word| word.contains('.') && word.starts_with(|c: char| c.is_ascii_digit()))?;
    let kind = match number.split('.').next()? {
        "3" => Kind::Iperf3,
        "2" => Kind::Iperf2,
        _ => return None,
    };
    Some((kind, number.to_owned()))
}

/// Whether a text of help has this option as a word.
fn explains(help: &str, option: &str) -> bool {
    help.split(|c: char| c.is_whitespace() || ",=[<".contains(c)).any(|word| word == option)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn versions_as_they_tell_them() {
        let of = |text: &str| version(text);
        assert_eq!(of("iperf 3.12 (cJSON 1.7.15)\nLinux vm\n"), Some((Kind::Iperf3, "3.12".into())));
        assert_eq!(of("iperf 3.21+ (cJSON 1.7.15)\n"), Some((Kind::Iperf3, "3.21+".into())));
        assert_eq!(
            of("\niperf version 2.1.8 (12 August 2022) pthreads\n"),
            Some((Kind::Iperf2, "2.1.8".into()))
        );
        assert_eq!(of("sh: 1: not found"), None);
        assert_eq!(of("iperf"), None);
    }

    #[test]
    fn options_are_whole_words() {
        let help = "  --bidir                   run in bidirectional mode.\n  --rcv-timeout #  idle\n";
        assert!(explains(help, "--bidir") && explains(help, "--rcv-timeout"));
        assert!(!explains(help, "--bid") && !explains(help, "--gsro"));
    }

    #[test]
    fn who_is_not_there_is_named() {
        let error = Tool::find(Kind::Iperf3, Some("/nowhere/iperf3"), &[]).expect_err("not there");
        assert!(error.to_string().contains("/nowhere/iperf3"), "{error}");
        let other = Tool::find(Kind::Iperf3, Some("/bin/echo"), &[]).expect_err("no iperf3");
        assert!(other.to_string().contains("is no iperf3"), "{other}");
    }
}
