//! The other tools: how each is started, and how what its receiver got is read.

pub mod dropped;
pub mod iperf2;
pub mod iperf3;
pub mod sockperf;

use std::path::{Path, PathBuf};
use std::process::Command;
use std::{env, fs};

use crate::lab::Lab;

/// A tool and its version, as it tells it.
#[derive(Debug, Clone, serde::Serialize)]
pub struct Tool {
    /// Where it is.
    pub program: PathBuf,
    /// "iperf 3.12".
    pub version: String,
}

impl Tool {
    /// The program in PATH, with its version by `words`.
    pub fn installed(name: &str, words: &[&str]) -> Option<Self> {
        let program = env::split_paths(&env::var_os("PATH")?)
            .chain(["/usr/sbin", "/usr/local/sbin"].map(PathBuf::from))
            .map(|folder| folder.join(name))
            .find(|path| path.is_file())?;
        Self::at(&program, words)
    }

    /// The program at `path`, with its version by `words`.
    pub fn at(path: &Path, words: &[&str]) -> Option<Self> {
        let program = path.canonicalize().ok()?;
        let output = Command::new(&program).args(words).output().ok()?;
        let text = if output.stdout.is_empty() { output.stderr } else { output.stdout };
        let version = version(&String::from_utf8_lossy(&text));
        // A launcher of scripts/peers stands beside the list of what was unpacked.
        let listed = || {
            let versions = fs::read_to_string(program.parent()?.parent()?.join("versions")).ok()?;
            versions
                .lines()
                .find_map(|line| line.strip_prefix("xdp-tools ").map(|v| format!("xdp-tools {v}")))
        };
        Some(Self { version: version.or_else(listed).unwrap_or_else(|| "unknown".to_owned()), program })
    }

    /// Its path as a word of a command.
    pub fn word(&self) -> String {
        self.program.display().to_string()
    }
}

/// The first word with a number and a dot in it, and what is before it on its line.
fn version(text: &str) -> Option<String> {
    let line = text.lines().find(|line| line.split_whitespace().any(is_number))?;
    let words: Vec<_> = line.split_whitespace().collect();
    let at = words.iter().position(|word| is_number(word))?;
    let name = words[..at].iter().filter(|word| !["version", "version:"].contains(word)).copied();
    Some(
        name.chain([words[at]])
            .map(|word| word.trim_matches(|c| ",()".contains(c)))
            .collect::<Vec<_>>()
            .join(" "),
    )
}

fn is_number(word: &str) -> bool {
    let word = word.trim_matches(|c: char| ",()v".contains(c));
    word.contains('.') && word.starts_with(|c: char| c.is_ascii_digit())
}

/// Whether a socket in the receiver's namespace is bound to `port`, by `table` ("tcp", "udp") of /proc/net; the
/// IPv6 tables too, because a server may serve both.
fn is_bound(lab: &Lab, table: &str, port: u16) -> bool {
    let tables = lab.receiver.run(|| {
        [table.to_owned(), format!("{table}6")]
            .map(|name| fs::read_to_string(format!("/proc/thread-self/net/{name}")).unwrap_or_default())
            .concat()
    });
    has_port(&tables, port)
}

fn has_port(table: &str, port: u16) -> bool {
    let ending = format!(":{port:04X}");
    table.lines().filter_map(|line| line.split_whitespace().nth(1)).any(|local| local.ends_with(&ending))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn versions_as_tools_print_them() {
        assert_eq!(version("iperf 3.12 (cJSON 1.7.15)\nLinux").as_deref(), Some("iperf 3.12"));
        assert_eq!(version("iperf version 2.1.8 (12 August 2022) pthreads").as_deref(), Some("iperf 2.1.8"));
        assert_eq!(version("\nsockperf, version 3.7-no.git\n").as_deref(), Some("sockperf 3.7-no.git"));
        assert_eq!(
            version("trafgen 0.6.8 (Flutternozzle), Git id: (none)").as_deref(),
            Some("trafgen 0.6.8")
        );
        assert_eq!(version("no digits"), None);
    }

    #[test]
    fn ports_are_hexadecimal_in_proc() {
        let table = "  sl  local_address rem_address   st\n   0: 00000000:1389 00000000:0000 07\n";
        assert!(has_port(table, 5001));
        assert!(!has_port(table, 5002));
        assert!(!has_port(table, 0), "the remote port is no local one");
    }
}
