//! Pairs of server and client that speak iperf3's protocol over the loopback interface: ours and the real ones.

use std::fs;
use std::net::TcpListener;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};

use super::{Ended, WIRERATE, eventually, run, signal, wait};

/// Who is started.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Who {
    /// `wirerate iperf3`.
    Ours,
    /// The distribution's iperf3.
    Real,
}

impl Who {
    /// It with `args`.
    pub fn command(self, args: &[&str]) -> Command {
        let mut command = match self {
            Self::Ours => {
                let mut command = Command::new(WIRERATE);
                command.arg("iperf3");
                command
            }
            Self::Real => Command::new("iperf3"),
        };
        // What a user's shell says is not to change what is compared.
        command.args(args).env("LC_ALL", "C");
        command
    }

    /// Runs it with `args` to its end.
    pub fn run(self, args: &[&str]) -> Ended {
        run(self.command(args))
    }
}

/// A port that nobody listens on.
pub fn free_port() -> u16 {
    let socket = TcpListener::bind("127.0.0.1:0").expect("loopback is up");
    socket.local_addr().expect("it is bound").port()
}

/// Whether somebody listens on the TCP port; a connection to find out would count as a client.
pub fn listening(port: u16) -> bool {
    ["/proc/net/tcp", "/proc/net/tcp6"].iter().any(|table| {
        let table = fs::read_to_string(table).unwrap_or_default();
        table.lines().skip(1).any(|line| {
            let words: Vec<&str> = line.split_whitespace().collect();
            words.get(1).is_some_and(|local| local.ends_with(&format!(":{port:04X}")))
                && words.get(3) == Some(&"0A")
        })
    })
}

/// A server that listens; killed when dropped.
pub struct Server {
    child: Option<Child>,
    /// Its port.
    pub port: u16,
}

impl Server {
    /// Starts `who` with `-s`, a free port and `args`.
    pub fn start(who: Who, args: &[&str]) -> Self {
        let port = free_port();
        Self::of(who.command(&[&["-s", "-p", &port.to_string()], args].concat()), port)
    }

    /// Starts what listens on `port`.
    pub fn of(mut command: Command, port: u16) -> Self {
        let child = command
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .expect("it is installed");
        let server = Self { child: Some(child), port };
        eventually("the server listens", || listening(port));
        server
    }

    /// The process.
    pub fn id(&self) -> u32 {
        self.child.as_ref().expect("it runs").id()
    }

    /// What it said and how it ended, by itself.
    pub fn end(mut self) -> Ended {
        let mut child = self.child.take().expect("it runs");
        // Output of a few lines, which pipes hold.
        let status = wait(&mut child);
        let output = child.wait_with_output().expect("it ended");
        let text = |bytes: Vec<u8>| String::from_utf8(bytes).expect("UTF-8");
        Ended { code: status.code().unwrap_or(-1), stdout: text(output.stdout), stderr: text(output.stderr) }
    }

    /// What it said until it was sent this signal.
    pub fn stop(self, name: &str) -> Ended {
        signal(self.id(), name);
        self.end()
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        if let Some(child) = &mut self.child {
            _ = child.kill();
            _ = child.wait();
        }
    }
}

/// A test between a client with `client` and a server with `server`: what each said.
pub fn pair(servers: Who, server: &[&str], clients: Who, client: &[&str]) -> (Ended, Ended) {
    let listening = Server::start(servers, &[server, &["-1"]].concat());
    let port = listening.port.to_string();
    let ended = clients.run(&[&["-c", "127.0.0.1", "-p", &port], client].concat());
    (ended, listening.end())
}

/// Where the Python module iperf3 0.1.11 lies, which wraps libiperf; fetched once.
pub fn python_module() -> Option<PathBuf> {
    let folder = Path::new(env!("CARGO_TARGET_TMPDIR")).join("iperf3-python-0.1.11");
    if !folder.join("iperf3/__init__.py").exists() {
        let mut pip = Command::new("python3");
        pip.args(["-m", "pip", "install", "--quiet", "--no-deps", "--disable-pip-version-check", "--target"]);
        let ended = run({
            pip.arg(&folder).arg("iperf3==0.1.11");
            pip
        });
        if ended.code != 0 {
            eprintln!("{}", ended.stderr);
            return None;
        }
    }
    Some(folder)
}
