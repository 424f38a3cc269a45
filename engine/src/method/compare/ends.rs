//! Both ends of the path, and one trial of one tool over it.
#![forbid(unsafe_code)]

use std::net::SocketAddr;
use std::thread;
use std::time::{Duration, Instant};

use serde_json::Value;

use super::end::End;
use super::figures::{own, per_gigabyte, prove, read, whole};
use super::proof;
use super::report::{self, Proven};
use super::tools::{Load, Said, ToolName};
use super::witness::{self, Look};
use crate::agent::Task;
use crate::control::Stop;
use crate::error::{Error, Result};
use crate::interop::peer::{Place, Running, iperf2, iperf3};

/// How long one of ours may take to be ready: programs are loaded and attached.
const READY: Duration = Duration::from_secs(30);

/// How much longer than its duration a sender may take.
const LONGER: Duration = Duration::from_secs(20);

/// How long a foreign server may take to end when its client has.
const SERVER: Duration = Duration::from_secs(4);

/// How long packets in flight are waited for.
const DRAIN: Duration = Duration::from_millis(300);

/// How long an end may take to tell what it came to.
const ANSWER: Duration = Duration::from_secs(20);

/// How long the path is given to become quiet, and XDP programs to be gone.
const PATIENCE: Duration = Duration::from_secs(3);

/// Time between two readings that have to be equal.
const PAUSE: Duration = Duration::from_millis(40);

/// Datagrams in [`PAUSE`] that are no trial's: a path with less is quiet.
const QUIET: u64 = 4;

/// The sender's end and the receiver's.
pub(super) const FROM: usize = 0;
pub(super) const TO: usize = 1;

/// Both.
#[derive(Debug)]
pub struct Ends {
    /// Sender's and receiver's.
    ends: [End; 2],
    /// XDP programs that others had attached before.
    attached: [Vec<u32>; 2],
    /// Tasks that run.
    running: Vec<(usize, Task)>,
    /// Why drops are not asked for any more.
    blind: Option<String>,
}

/// Tasks that count drops, and what they will not tell.
type Watches = (Vec<(usize, Task)>, Vec<String>);

/// One trial's figures.
#[derive(Debug)]
pub struct Measured {
    /// What the tool said.
    pub said: Said,
    /// What is proven.
    pub proven: Proven,
    /// CPU.
    pub cpu: report::Cpu,
    /// The path was quiet before.
    pub quiet: bool,
    /// Speed of the slower link.
    pub link_bps: Option<u64>,
}

impl Ends {
    /// Both, as they are before anything is run.
    ///
    /// # Errors
    /// When an agent does not answer, or packets would not leave the namespace.
    pub fn new(mut from: End, mut to: End) -> Result<Self> {
        let [a, b] = [from.agent.hello(), to.agent.hello()];
        let one = a.boot_id == b.boot_id && a.netns == b.netns;
        if one && !(from.interface == "lo" && to.interface == "lo") {
            return Err(Error::usage(format!(
                "{} and {} are in one network namespace: the kernel hands packets between them over itself, and no cable sees them",
                from.interface, to.interface
            ))
            .fix("move one into a namespace of its own (ip link set IF netns b; --to 'IF@ip netns exec b wirerate agent'), or compare lo with lo"));
        }
        let attached = [from.look()?.link.xdp, to.look()?.link.xdp];
        Ok(Self { ends: [from, to], attached, running: Vec::new(), blind: None })
    }

    /// Sender's and receiver's end.
    pub fn both(&mut self) -> &mut [End; 2] {
        &mut self.ends
    }

    /// XDP programs that others have attached: to the sender's interface, to the receiver's.
    pub fn attached(&self) -> [bool; 2] {
        [!self.attached[FROM].is_empty(), !self.attached[TO].is_empty()]
    }

    /// Speed of the slower link, where a driver tells one.
    pub fn speeds(&mut self) -> Result<[Option<u64>; 2]> {
        let looks = self.look()?;
        Ok(looks.map(|look| look.link.speed_bps))
    }

    /// Runs one trial. Whatever it leaves running is ended.
    ///
    /// # Errors
    /// What the tool failed with, or the agent.
    pub fn trial(
        &mut self,
        tool: ToolName,
        load: &Load,
        programs: &Programs,
        stop: &Stop,
    ) -> Result<Measured> {
        let measured = self.measure(tool, load, programs, stop);
        self.abandon();
        measured
    }

    /// Whether both agents still answer.
    ///
    /// # Errors
    /// When one does not.
    pub fn check(&mut self) -> Result<()> {
        self.look().map(drop)
    }

    fn look(&mut self) -> Result<[Look; 2]> {
        let [from, to] = &mut self.ends;
        Ok([from.look()?, to.look()?])
    }

    fn measure(&mut self, tool: ToolName, load: &Load, programs: &Programs, stop: &Stop) -> Result<Measured> {
        self.until_no_xdp(tool)?;
        let quiet = self.until_quiet(load)?;
        let (watches, mut not_known) = self.watch(load.to)?;
        let before = self.look()?;
        let receiver = self.start_receiver(tool, load, programs)?;
        let sender = self.start_sender(tool, load, programs)?;
        let window = self.during(load.duration, stop)?;
        let (sent, received) = self.finish(tool, load, sender, receiver, stop)?;
        if stop.is_requested() {
            return Err(Error::failed("interrupted"));
        }
        let after = self.settled()?;
        let drops = self.dropped(watches, tool)?;
        let (said, mut cpu) = read(tool, load, &sent, &received)?;
        if tool.foreign().is_none() {
            for (at, of) in [(FROM, &mut cpu.sender), (TO, &mut cpu.receiver)] {
                own(
                    of,
                    &before[at],
                    &after[at],
                    window.as_ref().map(|w| (&w.begin[at], &w.end[at], w.seconds)),
                );
            }
        }
        if let Some(window) = &window {
            for (at, of) in [(FROM, &mut cpu.sender), (TO, &mut cpu.receiver)] {
                if let Some((busiest, softirq)) = window.end[at].busy_since(&window.begin[at]) {
                    (of.busiest_percent, of.softirq_percent) = (Some(busiest), Some(softirq));
                }
            }
        }
        per_gigabyte(&mut cpu, &said);
        if !quiet {
            not_known.push(
                "the path was not quiet before the trial: other datagrams may be among those counted".into(),
            );
        }
        let proven = prove(tool, load, &said, [&before, &after], drops, not_known);
        let link_bps = after.iter().filter_map(|look| look.link.speed_bps).min();
        Ok(Measured { said, proven, cpu, quiet, link_bps })
    }

    /// Programs of ours that the last trial attached are gone: a native XDP program on a veth turns its peer's UDP segmentation off, and sockets suffer.
    fn until_no_xdp(&mut self, tool: ToolName) -> Result<()> {
        let begin = Instant::now();
        loop {
            let looks = self.look()?;
            let gone = looks.iter().zip(&self.attached).all(|(look, before)| look.link.xdp == *before);
            if gone || tool.attaches_xdp() {
                return Ok(());
            }
            if begin.elapsed() > PATIENCE {
                return Err(Error::failed(
                    "an XDP program is still attached after the tool that attached it has ended",
                )
                .fix("ip link set IF xdp off, and begin again"));
            }
            thread::sleep(PAUSE);
        }
    }

    /// Waits until hardly any datagram is counted at either end.
    fn until_quiet(&mut self, load: &Load) -> Result<bool> {
        let ipv6 = load.to.is_ipv6();
        let begin = Instant::now();
        let mut last = self.look()?;
        loop {
            thread::sleep(PAUSE);
            let now = self.look()?;
            let all = |look: &Look| look.udp(ipv6).r#in + look.udp(ipv6).out + look.udp(ipv6).no_ports;
            let moved = now.iter().zip(&last).map(|(now, last)| all(now).saturating_sub(all(last))).max();
            if moved.is_none_or(|moved| moved < QUIET) {
                return Ok(true);
            }
            if begin.elapsed() > PATIENCE {
                return Ok(false);
            }
            last = now;
        }
    }

    /// Has each kernel of both ends count what it drops of the trial.
    fn watch(&mut self, to: SocketAddr) -> Result<Watches> {
        if let Some(why) = &self.blind {
            return Ok((Vec::new(), vec![why.clone()]));
        }
        let one_kernel = self.ends[FROM].agent.hello().boot_id == self.ends[TO].agent.hello().boot_id;
        let mut watches = Vec::new();
        let mut not_known = Vec::new();
        for at in if one_kernel { TO..TO + 1 } else { FROM..TO + 1 } {
            match witness::watch(&mut self.ends[at].agent, &[to]) {
                Ok(task) => {
                    self.running.push((at, task));
                    watches.push((at, task));
                }
                Err(error) => not_known.push(format!("where the kernel dropped datagrams: {}", error.what)),
            }
        }
        if watches.is_empty() {
            self.blind = not_known.first().cloned();
        }
        if !one_kernel {
            not_known.push("what devices between both hosts dropped".into());
        }
        Ok((watches, not_known))
    }

    fn dropped(&mut self, watches: Vec<(usize, Task)>, tool: ToolName) -> Result<Option<Vec<report::Drop>>> {
        if watches.is_empty() {
            return Ok(None);
        }
        let ends = [FROM, TO].map(|at| {
            let hello = self.ends[at].agent.hello();
            (hello.boot_id.clone(), hello.netns)
        });
        let mut all = Vec::new();
        for (at, task) in watches {
            self.running.retain(|running| *running != (at, task));
            let agent = &mut self.ends[at].agent;
            let mut dropped = witness::dropped(agent, task)?;
            // The sink takes packets by dropping them.
            if tool == ToolName::Xdp {
                dropped.retain(|one| {
                    !(one.reason.contains("TC_INGRESS") || one.reason.contains("DROP_REASON_XDP"))
                });
            }
            let ends = [(ends[FROM].0.as_str(), ends[FROM].1), (ends[TO].0.as_str(), ends[TO].1)];
            all.extend(proof::placed(&dropped, &agent.hello().boot_id, ends));
        }
        Ok(Some(all))
    }

    fn note(&mut self, at: usize, running: Running) -> Task {
        let Running::Task(task) = running else { unreachable!("it was started at an agent") };
        self.running.push((at, task));
        task
    }

    fn start_receiver(&mut self, tool: ToolName, load: &Load, programs: &Programs) -> Result<Task> {
        let End { agent, interface, .. } = &mut self.ends[TO];
        let port = load.to.port();
        let running = match tool {
            ToolName::Iperf3Tcp | ToolName::Iperf3Udp => {
                let server = iperf3::Server {
                    program: Some(programs.iperf3[TO].clone()),
                    bind: Some(load.to.ip()),
                    ..iperf3::Server::new(port)
                };
                server.start(&mut Place::Agent(agent))?.running()
            }
            ToolName::Iperf2 => {
                let server = iperf2::Server {
                    program: Some(programs.iperf2[TO].clone()),
                    port,
                    length: load.length,
                    ipv6: load.to.is_ipv6(),
                };
                server.start(&mut Place::Agent(agent))?
            }
            own => {
                let task = agent.start(&load.recv(own, interface, &programs.segments))?;
                self.running.push((TO, task));
                self.ends[TO].agent.ready(task, READY)?;
                return Ok(task);
            }
        };
        Ok(self.note(TO, running))
    }

    fn start_sender(&mut self, tool: ToolName, load: &Load, programs: &Programs) -> Result<Task> {
        let End { agent, interface, .. } = &mut self.ends[FROM];
        let running = match tool {
            ToolName::Iperf3Tcp | ToolName::Iperf3Udp => load
                .iperf3(tool == ToolName::Iperf3Udp, &programs.iperf3[FROM])
                .start(&mut Place::Agent(agent))?,
            ToolName::Iperf2 => load.iperf2(&programs.iperf2[FROM]).start(&mut Place::Agent(agent))?,
            own => {
                let task = agent.start(&load.send(own, interface, &programs.segments))?;
                self.running.push((FROM, task));
                self.ends[FROM].agent.ready(task, READY)?;
                return Ok(task);
            }
        };
        Ok(self.note(FROM, running))
    }

    /// Looks at both ends when the trial has gone on for a fifth of its time, and when a fifth is left.
    fn during(&mut self, duration: Duration, stop: &Stop) -> Result<Option<Window>> {
        pause(duration.mul_f64(0.2), stop);
        let (begin, at) = (self.look()?, Instant::now());
        pause(duration.mul_f64(0.6), stop);
        let end = self.look()?;
        let seconds = at.elapsed().as_secs_f64();
        Ok((!stop.is_requested()).then_some(Window { begin, end, seconds }))
    }

    /// Waits for the sender's end, then for the receiver's.
    fn finish(
        &mut self,
        tool: ToolName,
        load: &Load,
        sender: Task,
        receiver: Task,
        stop: &Stop,
    ) -> Result<(Value, Value)> {
        let deadline = Instant::now() + load.duration + LONGER;
        while !self.ends[FROM].agent.has_ended_within(sender, PAUSE)? {
            if stop.is_requested() || Instant::now() > deadline {
                self.ends[FROM].agent.stop(sender)?;
                break;
            }
        }
        let sent = self.ends[FROM].agent.finish(sender, ANSWER)?;
        self.forget(FROM, sender);
        let begin = Instant::now();
        let patience = if tool.foreign().is_some() { SERVER } else { DRAIN };
        while !self.ends[TO].agent.has_ended_within(receiver, PAUSE)? && begin.elapsed() < patience {
            if stop.is_requested() {
                break;
            }
        }
        self.ends[TO].agent.stop(receiver)?;
        let received = self.ends[TO].agent.finish(receiver, ANSWER)?;
        self.forget(TO, receiver);
        Ok((whole(sent, "the sender")?, whole(received, "the receiver")?))
    }

    /// Counters when two readings are equal: what is on its way has arrived.
    fn settled(&mut self) -> Result<[Look; 2]> {
        let counts = |looks: &[Look; 2]| {
            looks.each_ref().map(|look| (look.udp4, look.udp6, look.link.rx_packets, look.link.tx_packets))
        };
        let begin = Instant::now();
        let mut last = self.look()?;
        loop {
            thread::sleep(PAUSE);
            let now = self.look()?;
            if counts(&now) == counts(&last) || begin.elapsed() > PATIENCE / 3 {
                return Ok(now);
            }
            last = now;
        }
    }

    fn forget(&mut self, at: usize, task: Task) {
        self.running.retain(|running| *running != (at, task));
    }

    /// Ends what a trial that failed has left.
    fn abandon(&mut self) {
        let left = std::mem::take(&mut self.running);
        for (at, task) in &left {
            let _ = self.ends[*at].agent.stop(*task);
        }
        for (at, task) in left {
            let _ = self.ends[at].agent.finish(task, PATIENCE);
        }
    }
}

/// Where foreign programs are, at both ends, and how ours send.
#[derive(Debug, Clone, Default)]
pub struct Programs {
    /// iperf3.
    pub iperf3: [String; 2],
    /// iperf 2.
    pub iperf2: [String; 2],
    /// `--segments` of ours.
    pub segments: String,
}

/// Two looks within a trial.
#[derive(Debug)]
struct Window {
    begin: [Look; 2],
    end: [Look; 2],
    seconds: f64,
}

/// Sleeps, but not beyond a request to stop.
fn pause(time: Duration, stop: &Stop) {
    let end = Instant::now() + time;
    while !stop.is_requested() {
        let left = end.saturating_duration_since(Instant::now());
        if left.is_zero() {
            return;
        }
        thread::sleep(left.min(PAUSE));
    }
}
