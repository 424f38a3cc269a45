//! Programs as a user would start them: pinned, in a namespace, with a time by which they must have ended.

use std::fs::{self, File};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, LazyLock};
use std::thread;
use std::time::{Duration, Instant};

use wirerate_engine::error::{Error, Result};
use wirerate_engine::lab::Netns;

use crate::lab::Lab;

/// Set by Ctrl-C and SIGTERM.
static STOP: LazyLock<Arc<AtomicBool>> = LazyLock::new(Arc::default);

/// From now on Ctrl-C and SIGTERM end the measurement and not the program, which then cleans up and prints what it has.
pub fn catch_signals() -> Result<()> {
    for signal in [signal_hook::consts::SIGINT, signal_hook::consts::SIGTERM] {
        signal_hook::flag::register(signal, Arc::clone(&STOP))
            .map_err(|e| Error::environment("cannot catch signals").because(e))?;
    }
    Ok(())
}

/// Whether somebody wants an end.
pub fn interrupted() -> bool {
    STOP.load(Ordering::Relaxed)
}

/// Runs `command` to its end and gives its standard output.
///
/// # Errors
/// When it cannot be started or says that it failed.
pub fn output(mut command: Command) -> Result<String> {
    let name = command.get_program().to_string_lossy().into_owned();
    let output = command.stdin(Stdio::null()).output().map_err(|e| {
        Error::environment(format!("cannot run {name}")).because(e).fix(format!("install {name}"))
    })?;
    if !output.status.success() {
        let said = String::from_utf8_lossy(&output.stderr).trim().to_owned();
        return Err(Error::environment(format!("{name}: {said}")));
    }
    Ok(String::from_utf8_lossy(&output.stdout).into_owned())
}

/// A running program, killed when dropped, and by the kernel should this process end first.
#[derive(Debug)]
pub struct Process {
    name: String,
    child: Child,
    stdout: PathBuf,
    stderr: PathBuf,
}

/// A program that has ended, or was ended.
#[derive(Debug)]
pub struct Ended {
    /// Whether it ended by itself and was content.
    pub success: bool,
    /// Standard output.
    pub stdout: String,
    /// Standard error.
    pub stderr: String,
}

/// Which side a program is on.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Side {
    /// In the namespace of `va`, on the sender's CPU.
    Sender,
    /// In the namespace of `vb`, on the receiver's CPU.
    Receiver,
}

impl Process {
    /// Starts `words` on its side of the lab, pinned to that side's CPU.
    pub fn start(lab: &Lab, side: Side, words: &[String]) -> Result<Self> {
        let (netns, cpu, label): (&Netns, _, _) = match side {
            Side::Sender => (&lab.sender, lab.cpus.sender, "sender"),
            Side::Receiver => (&lab.receiver, lab.cpus.receiver, "receiver"),
        };
        let file = |end: &str| lab.scratch.path().join(format!("{label}.{end}"));
        let (stdout, stderr) = (file("out"), file("err"));
        let open = |path: &PathBuf| {
            File::create(path)
                .map_err(|e| Error::environment(format!("cannot write {}", path.display())).because(e))
        };
        let mut command = netns.command("taskset");
        command.args(["-c", &cpu.to_string()]).args(words);
        let child =
            command.stdin(Stdio::null()).stdout(open(&stdout)?).stderr(open(&stderr)?).spawn().map_err(
                |e| Error::environment("cannot run taskset").because(e).fix("apt-get install util-linux"),
            )?;
        let name = Path::new(words.first().map_or("", String::as_str)).file_name().unwrap_or_default();
        Ok(Self { name: name.to_string_lossy().into_owned(), child, stdout, stderr })
    }

    /// Waits until `ready` holds; fails with what the program said when it ends before, or after ten seconds.
    pub fn wait_until(&mut self, mut ready: impl FnMut(&str) -> bool) -> Result<()> {
        let start = Instant::now();
        loop {
            if ready(&fs::read_to_string(&self.stdout).unwrap_or_default()) {
                return Ok(());
            }
            if self.has_ended() || interrupted() || start.elapsed() > Duration::from_secs(10) {
                return Err(self.complaint());
            }
            thread::sleep(Duration::from_millis(10));
        }
    }

    /// Whether it has ended.
    pub fn has_ended(&mut self) -> bool {
        matches!(self.child.try_wait(), Ok(Some(_)) | Err(_))
    }

    /// Asks it to end, as Ctrl-C would.
    pub fn interrupt(&self) {
        let _ = Command::new("kill")
            .args(["-s", "INT", &self.child.id().to_string()])
            .stderr(Stdio::null())
            .status();
    }

    /// Waits for its end, but no longer than `patience`; then it is asked to end, and killed if that does not help.
    pub fn finish(mut self, patience: Duration) -> Ended {
        let ended = self.wait(patience) || {
            self.interrupt();
            self.wait(Duration::from_secs(3))
        };
        let success = ended && matches!(self.child.try_wait(), Ok(Some(status)) if status.success());
        let read = |path: &PathBuf| String::from_utf8_lossy(&fs::read(path).unwrap_or_default()).into_owned();
        Ended { success, stdout: read(&self.stdout), stderr: read(&self.stderr) }
    }

    fn wait(&mut self, patience: Duration) -> bool {
        let start = Instant::now();
        while !self.has_ended() {
            if start.elapsed() > patience || interrupted() {
                return false;
            }
            thread::sleep(Duration::from_millis(10));
        }
        true
    }

    /// What it said last, as the reason why it is of no use.
    pub fn complaint(&self) -> Error {
        let said = [&self.stderr, &self.stdout]
            .into_iter()
            .map(|path| String::from_utf8_lossy(&fs::read(path).unwrap_or_default()).into_owned())
            .find_map(|text| message(&text))
            .unwrap_or_else(|| "said nothing".to_owned());
        Error::failed(named(&self.name, &said))
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

impl Ended {
    /// Its complaint, when it failed.
    pub fn check(&self, name: &str) -> Result<()> {
        if self.success {
            return Ok(());
        }
        let said = message(&self.stderr)
            .or_else(|| message(&self.stdout))
            .unwrap_or_else(|| "said nothing".to_owned());
        Err(Error::failed(named(name, &said)))
    }
}

/// What was said, and by whom, unless it says so itself.
fn named(name: &str, said: &str) -> String {
    if said.starts_with(name) { said.to_owned() } else { format!("{name}: {said}") }
}

/// The line of a program's complaint that tells most: the first that names an error, else the last.
fn message(text: &str) -> Option<String> {
    let mut lines = text.lines().map(str::trim).filter(|line| !line.is_empty());
    let first = lines.clone().find(|line| line.to_lowercase().contains("error"));
    first.or_else(|| lines.next_back()).map(|line| line.chars().take(160).collect())
}

#[cfg(test)]
mod tests {
    use super::message;

    #[test]
    fn picks_the_telling_line() {
        assert_eq!(message("a\nerror: no such option\nusage: x\n").as_deref(), Some("error: no such option"));
        assert_eq!(message("first\nlast\n\n").as_deref(), Some("last"));
        assert_eq!(message("\n"), None);
    }
}
