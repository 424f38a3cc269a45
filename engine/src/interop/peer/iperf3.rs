//! Real iperf3: its client and its server, driven; its reports are read by [`parse`].
#![forbid(unsafe_code)]

mod json;
#[cfg(test)]
mod tests;

use std::net::IpAddr;
use std::time::Duration;

pub use json::{CpuPercent, Direction, Figures, Iperf3Result, Slice, parse};

use super::tool::Kind;
use super::{Cpu, Ended, Listens, Place, Running, Spec, Transport};
use crate::control::Stop;
use crate::error::{Error, Kind as Who, Result};

/// iperf3's own port.
pub const PORT: u16 = 5201;

/// How much longer than its test a client may take: connecting, exchanging results.
const LONGER: Duration = Duration::from_secs(20);

/// How long a server waits for its client.
const WAITS: Duration = Duration::from_secs(3600);

/// A client, as its options: `iperf3 -c ADDRESS … -J`.
#[derive(Debug, Clone, PartialEq)]
pub struct Client {
    /// Where the program is; `None`: in PATH.
    pub program: Option<String>,
    /// The server's address (`-c`).
    pub address: IpAddr,
    /// The server's port (`-p`).
    pub port: u16,
    /// The client's own address (`-B`).
    pub bind: Option<IpAddr>,
    /// UDP instead of TCP (`-u`).
    pub udp: bool,
    /// Bits a second of payload, of each stream (`-b`); `None`: as fast as it can (`-b 0`).
    pub bits_per_second: Option<f64>,
    /// Bytes of a datagram, or of a write to TCP (`-l`); `None`: its default.
    pub length: Option<u32>,
    /// How long it sends (`-t`), in whole seconds, rounded up.
    pub duration: Duration,
    /// Streams (`-P`).
    pub streams: u32,
    /// The server sends (`-R`).
    pub reverse: bool,
    /// Both send (`--bidir`); iperf3 3.7 and later.
    pub both: bool,
    /// Seconds at the beginning that are not counted (`-O`).
    pub omit: u32,
    /// Socket buffers in bytes (`-w`).
    pub window: Option<u32>,
    /// Segmentation offload for UDP (`--gsro`); iperf3 3.21 and later.
    pub gsro: bool,
    /// Any other options, as typed.
    pub more: Vec<String>,
}

impl Client {
    /// TCP to this address for ten seconds.
    pub fn new(address: IpAddr) -> Self {
        Self {
            program: None,
            address,
            port: PORT,
            bind: None,
            udp: false,
            bits_per_second: None,
            length: None,
            duration: Duration::from_secs(10),
            streams: 1,
            reverse: false,
            both: false,
            omit: 0,
            window: None,
            gsro: false,
            more: Vec::new(),
        }
    }

    /// Its arguments, as typed behind `iperf3`.
    pub fn arguments(&self) -> Vec<String> {
        let mut words: Vec<String> = vec!["-c".into(), self.address.to_string(), "-J".into()];
        let mut add = |option: &str, value: String| words.extend([option.to_owned(), value]);
        add("-p", self.port.to_string());
        add("-t", seconds(self.duration).to_string());
        add("-b", self.bits_per_second.map_or(0, |bits| bits.max(1.0).round() as u64).to_string());
        if let Some(address) = self.bind {
            add("-B", address.to_string());
        }
        if let Some(length) = self.length {
            add("-l", length.to_string());
        }
        if self.streams > 1 {
            add("-P", self.streams.to_string());
        }
        if self.omit > 0 {
            add("-O", self.omit.to_string());
        }
        if let Some(window) = self.window {
            add("-w", window.to_string());
        }
        for (given, option) in
            [(self.udp, "-u"), (self.reverse, "-R"), (self.both, "--bidir"), (self.gsro, "--gsro")]
        {
            if given {
                words.push(option.to_owned());
            }
        }
        words.extend(self.more.iter().cloned());
        words
    }

    /// Runs the test at `place`, and reads what the client says of it; with the CPU time that the client took, where that is known. A request to stop ends it, and what it
    /// says of the time before is read.
    ///
    /// # Errors
    /// Environment when it is not installed; failed when it says that it failed, in its own words, or when what it says cannot be read.
    pub fn run(&self, place: &mut Place<'_>, stop: &Stop) -> Result<(Iperf3Result, Option<Cpu>)> {
        let running = self.start(place)?;
        let ended = place.finish(running, stop)?;
        Ok((read(&ended, "the client", stop.is_requested())?, ended.cpu))
    }

    /// Starts it; [`Place::finish`] waits for its end, and [`read`] reads what it says.
    ///
    /// # Errors
    /// As [`Place::start`].
    pub fn start(&self, place: &mut Place<'_>) -> Result<Running> {
        let time = self.duration + Duration::from_secs(self.omit.into()) + LONGER;
        place.start(&Spec {
            kind: Kind::Iperf3,
            program: self.program.clone(),
            arguments: self.arguments(),
            deadline_ms: u64::try_from(time.as_millis()).unwrap_or(u64::MAX),
            listens: None,
        })
    }
}

/// A server for one client: `iperf3 -s -1 -J`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Server {
    /// Where the program is; `None`: in PATH.
    pub program: Option<String>,
    /// Its port (`-p`).
    pub port: u16,
    /// The address that it listens on (`-B`); `None`: all.
    pub bind: Option<IpAddr>,
    /// Any other options, as typed.
    pub more: Vec<String>,
}

/// A server that listens.
#[derive(Debug)]
pub struct Serving(Running);

impl Server {
    /// On all addresses.
    pub fn new(port: u16) -> Self {
        Self { program: None, port, bind: None, more: Vec::new() }
    }

    /// Starts it; it listens when this returns.
    ///
    /// # Errors
    /// As [`Place::start`].
    pub fn start(&self, place: &mut Place<'_>) -> Result<Serving> {
        let mut arguments: Vec<String> = ["-s", "-1", "-J", "-p"].map(str::to_owned).to_vec();
        arguments.push(self.port.to_string());
        if let Some(address) = self.bind {
            arguments.extend(["-B".to_owned(), address.to_string()]);
        }
        arguments.extend(self.more.iter().cloned());
        let running = place.start(&Spec {
            kind: Kind::Iperf3,
            program: self.program.clone(),
            arguments,
            deadline_ms: u64::try_from(WAITS.as_millis()).unwrap_or(u64::MAX),
            listens: Some(Listens { transport: Transport::Tcp, port: self.port }),
        })?;
        Ok(Serving(running))
    }
}

impl Serving {
    /// Waits for its end, which is that of its client's test, and reads what it says; with the CPU time that it took.
    ///
    /// # Errors
    /// As [`Client::run`].
    pub fn finish(self, place: &mut Place<'_>, stop: &Stop) -> Result<(Iperf3Result, Option<Cpu>)> {
        let ended = place.finish(self.0, stop)?;
        Ok((read(&ended, "the server", stop.is_requested())?, ended.cpu))
    }

    /// Ends it now.
    ///
    /// # Errors
    /// When the agent is gone.
    pub fn end(self, place: &mut Place<'_>) -> Result<Ended> {
        place.end(self.0)
    }

    /// What runs.
    pub fn running(self) -> Running {
        self.0
    }
}

/// Reads what an iperf3 said until its end. One that was `interrupted` says so as an error, after the figures of the time before.
///
/// # Errors
/// Failed, with what it says of itself.
pub fn read(ended: &Ended, who: &str, interrupted: bool) -> Result<Iperf3Result> {
    if ended.late {
        return Err(Error::failed(format!("iperf3: {who} did not end in time and was ended"))
            .fix("look whether the path between both ends is up in both directions"));
    }
    let result = match parse(&ended.stdout) {
        Ok(result) => result,
        // Without any JSON, its standard error says why.
        Err(_) if !ended.stdout.contains('{') => {
            return Err(Error::failed(format!("iperf3: {who}: {}", ended.complaint())));
        }
        Err(error) => return Err(Error { kind: Who::Failed, ..error }),
    };
    match &result.error {
        Some(said) if !(interrupted && result.sent.is_some()) => {
            Err(Error::failed(format!("iperf3: {who}: {said}")))
        }
        _ => Ok(result),
    }
}

/// It takes whole seconds.
fn seconds(time: Duration) -> u64 {
    time.as_secs() + u64::from(time.subsec_nanos() > 0)
}
