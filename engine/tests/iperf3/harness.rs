//! Our server and client beside stock iperf3, over loopback.
#![allow(dead_code, reason = "not every test file needs all of it")]

use std::net::{IpAddr, SocketAddr};
use std::path::PathBuf;
use std::process::{Child, Command, Output, Stdio};
use std::sync::mpsc::{Receiver, channel};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use serde_json::Value;
use wirerate_engine::interop::iperf3::{
    self, Begin, ClientConfig, Control, End, Event, Failure, Interval, Parameters, ServerConfig, ServerOutput,
};

/// What was told, to keep.
#[derive(Debug, Clone)]
pub(crate) enum Told {
    Listening(SocketAddr, u64),
    Accepted(u64, SocketAddr),
    Parameters(u64, Parameters),
    Begin(Begin),
    Interval(Interval),
    End(End),
    Done(u64),
    Failed(u64, Failure),
    Warning(String),
}

fn keep(event: Event<'_>) -> Option<Told> {
    Some(match event {
        Event::Listening { address, next } => Told::Listening(address, next),
        Event::Accepted { test, remote, .. } => Told::Accepted(test, remote),
        Event::Parameters { test, parameters } => Told::Parameters(test, parameters.clone()),
        Event::Begin(begin) => Told::Begin(begin.clone()),
        Event::Interval(interval) => Told::Interval(interval.clone()),
        Event::End(end) => Told::End(end.clone()),
        Event::OutputWanted { into, .. } => {
            *into = Some(ServerOutput::Text("what the server printed\n".to_owned()));
            return None;
        }
        Event::Done { test } => Told::Done(test),
        Event::Failed { test, failure } => Told::Failed(test, failure.clone()),
        Event::Warning { text, .. } => Told::Warning(text.to_owned()),
        _ => return None,
    })
}

/// Our server on a thread.
pub(crate) struct Served {
    pub(crate) address: SocketAddr,
    pub(crate) control: Control,
    told: Receiver<Told>,
    thread: JoinHandle<Result<(), Failure>>,
}

impl Served {
    pub(crate) fn start(address: &str, change: impl FnOnce(&mut ServerConfig)) -> Self {
        let bind: IpAddr = address.parse().expect("an address");
        let mut config = ServerConfig { port: 0, bind: Some(bind), ..ServerConfig::default() };
        change(&mut config);
        let control = Control::default();
        let (sender, told) = channel();
        let stop = control.clone();
        let thread = std::thread::spawn(move || {
            iperf3::serve(&config, &stop, &mut |event| {
                if let Some(told) = keep(event) {
                    let _ = sender.send(told);
                }
            })
        });
        let Ok(Told::Listening(address, 1)) = told.recv_timeout(Duration::from_secs(20)) else {
            panic!("the server does not listen: {:?}", thread.join());
        };
        Self { address, control, told, thread }
    }

    /// The next that `wanted` takes; what comes before it is dropped.
    pub(crate) fn until<T>(&self, wanted: impl Fn(Told) -> Option<T>) -> T {
        let end = Instant::now() + Duration::from_secs(60);
        while let Some(left) = end.checked_duration_since(Instant::now()) {
            if let Ok(told) = self.told.recv_timeout(left)
                && let Some(found) = wanted(told)
            {
                return found;
            }
        }
        panic!("the server never told that");
    }

    pub(crate) fn end(&self) -> End {
        self.until(|told| match told {
            Told::End(end) => Some(end),
            _ => None,
        })
    }

    pub(crate) fn failure(&self) -> Failure {
        self.until(|told| match told {
            Told::Failed(_, failure) => Some(failure),
            _ => None,
        })
    }

    /// Waits for its end, which it comes to by itself.
    pub(crate) fn wait(self) -> Result<(), Failure> {
        self.thread.join().expect("no panic")
    }

    /// Asks it to stop.
    pub(crate) fn stop(self) -> Result<(), Failure> {
        self.control.request();
        self.thread.join().expect("no panic")
    }
}

/// What our client tells, and its result.
pub(crate) fn run(config: &ClientConfig, control: &Control) -> (Vec<Told>, Result<(), Failure>) {
    let mut told = Vec::new();
    let result = iperf3::run(config, control, &mut |event| told.extend(keep(event)));
    (told, result)
}

/// The end among what was told.
pub(crate) fn end_of(told: &[Told]) -> End {
    told.iter()
        .find_map(|told| match told {
            Told::End(end) => Some(end.clone()),
            _ => None,
        })
        .expect("an end")
}

/// The stock iperf3 of the system, and a newer one where its path is given.
pub(crate) fn stock() -> Vec<PathBuf> {
    let newer = std::env::var_os("WIRERATE_IPERF3_NEW").map(PathBuf::from);
    let found: Vec<PathBuf> = std::iter::once(PathBuf::from("iperf3"))
        .chain(newer)
        .filter(|path| Command::new(path).arg("--version").output().is_ok_and(|o| o.status.success()))
        .collect();
    if found.is_empty() {
        println!("SKIPPED: iperf3 is not installed");
        assert!(std::env::var("WIRERATE_REQUIRE_ROOT").is_err(), "iperf3 is needed here: apt install iperf3");
    }
    found
}

/// Whether it is 3.21 or later.
pub(crate) fn has_gsro(iperf3: &PathBuf) -> bool {
    let help = Command::new(iperf3).arg("--help").output().expect("it runs");
    String::from_utf8_lossy(&[help.stdout, help.stderr].concat()).contains("--gsro")
}

/// A stock client that has run, and its JSON.
pub(crate) fn client(iperf3: &PathBuf, server: SocketAddr, args: &[&str]) -> Value {
    let output = client_output(iperf3, server, args);
    serde_json::from_slice(&output.stdout).unwrap_or_else(|error| panic!("{error}: {output:?}"))
}

pub(crate) fn client_output(iperf3: &PathBuf, server: SocketAddr, args: &[&str]) -> Output {
    client_command(iperf3, server, args).output().expect("iperf3 runs")
}

pub(crate) fn client_command(iperf3: &PathBuf, server: SocketAddr, args: &[&str]) -> Command {
    let mut command = Command::new(iperf3);
    command.arg("-c").arg(server.ip().to_string()).arg("-p").arg(server.port().to_string());
    command.args(["-u", "-J", "-l", "1000"]).args(args);
    command
}

/// A stock server for one test.
pub(crate) struct StockServer {
    child: Option<Child>,
    pub(crate) port: u16,
}

impl StockServer {
    pub(crate) fn start(iperf3: &PathBuf, address: &str, args: &[&str]) -> Self {
        let port = free_port(address);
        let child = Command::new(iperf3)
            .args(["-s", "-1", "-J", "-B", address, "-p"])
            .arg(port.to_string())
            .args(args)
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .expect("iperf3 runs");
        // It listens when it has its socket; a connection to find out would be its one client.
        std::thread::sleep(Duration::from_millis(300));
        Self { child: Some(child), port }
    }

    pub(crate) fn id(&self) -> i32 {
        self.child.as_ref().map_or(0, Child::id).cast_signed()
    }

    /// Its JSON when it has ended.
    pub(crate) fn json(mut self) -> Value {
        let output = self.child.take().expect("not ended").wait_with_output().expect("it ends");
        serde_json::from_slice(&output.stdout).unwrap_or_else(|error| panic!("{error}: {output:?}"))
    }
}

impl Drop for StockServer {
    fn drop(&mut self) {
        if let Some(child) = &mut self.child {
            let _ = child.kill();
            let _ = child.wait();
        }
    }
}

fn free_port(address: &str) -> u16 {
    let listener = std::net::TcpListener::bind((address, 0)).expect("a port");
    listener.local_addr().expect("bound").port()
}

/// `end.streams[].udp` of iperf3's JSON: whether it sends, bytes, packets, lost.
pub(crate) fn streams(json: &Value) -> Vec<(bool, u64, u64, i64)> {
    let streams = json["end"]["streams"].as_array().unwrap_or_else(|| panic!("no streams: {json}"));
    streams
        .iter()
        .map(|stream| {
            let udp = &stream["udp"];
            let number = |key: &str| udp[key].as_f64().unwrap_or_else(|| panic!("{key}: {udp}"));
            // 3.12 tells the role in the list of connections only by -R and --bidir.
            (
                udp["sender"].as_bool().unwrap_or(false),
                number("bytes") as u64,
                number("packets") as u64,
                number("lost_packets") as i64,
            )
        })
        .collect()
}
