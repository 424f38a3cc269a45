//! What the kernel of one end counts, asked for through its agent: UDP and TCP, the interface, CPUs, and the drops of a trial's destination.
//!
//! An agent runs `compare` and a JSON object that says what, and answers by events as for every task.
#![forbid(unsafe_code)]

use std::collections::HashMap;
use std::fs;
use std::net::SocketAddr;
use std::sync::atomic::{AtomicU64, Ordering};
use std::thread;
use std::time::Duration;

use nix::time::{ClockId, clock_gettime};
use serde::{Deserialize, Serialize};
use serde_json::Value;

use crate::agent::protocol::{Event, Failure};
use crate::agent::serve::Job;
use crate::agent::{Agent, Task};
use crate::control::Stop;
use crate::drops::watch::Side;
use crate::drops::witness::Witness;
use crate::error::{Error, Result};
use crate::host::{interface, nic::Nic};
use crate::interop::peer::Cpu;
use crate::sys::child;

/// The word by which an agent is asked.
const WORD: &str = "compare";

/// How long an agent may take to answer what takes no time, and to load the programs that count drops.
const ANSWER: Duration = Duration::from_secs(20);

/// Time between two looks for the request to end.
const PAUSE: Duration = Duration::from_millis(5);

/// CPU time that this process has spent looking, in ns.
static LOOKING: AtomicU64 = AtomicU64::new(0);

/// Most destinations of a watch.
const DESTINATIONS: usize = 64;

/// What is asked.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
enum Ask {
    /// Counters now, with those of this interface: a [`Look`].
    Look(String),
    /// Count drops of these destinations until it is asked to end: a list of [`Dropped`].
    Drops(Vec<SocketAddr>),
}

/// Counters of one end at one moment.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub struct Look {
    /// UDP over IPv4, of the network namespace.
    pub udp4: Udp,
    /// UDP over IPv6.
    pub udp6: Udp,
    /// Segments that TCP sent again, of the network namespace.
    pub retransmitted: u64,
    /// The interface.
    pub link: Link,
    /// CPU time of the agent's process.
    pub own: Cpu,
    /// Each CPU of the host.
    pub cpus: Vec<CpuTicks>,
}

/// Counters of UDP (/proc/net/snmp, snmp6).
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Udp {
    /// Handed to programs.
    pub r#in: u64,
    /// Taken from programs.
    pub out: u64,
    /// Came to a full socket.
    pub rcvbuf_errors: u64,
    /// Came to a port that nobody has.
    pub no_ports: u64,
    /// Taken from programs, and refused by the queues of this host.
    pub sndbuf_errors: u64,
}

/// Counters and state of an interface.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Link {
    /// Frames that came.
    pub rx_packets: u64,
    /// Frames that came and were dropped.
    pub rx_dropped: u64,
    /// Frames that left.
    pub tx_packets: u64,
    /// Frames that were to leave and were dropped.
    pub tx_dropped: u64,
    /// XDP programs attached to it.
    pub xdp: Vec<u32>,
    /// Its speed, where the driver has one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub speed_bps: Option<u64>,
}

/// A CPU's time in ticks (/proc/stat).
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct CpuTicks {
    /// All.
    pub all: u64,
    /// Idle, waiting for disks among it.
    pub idle: u64,
    /// In soft interrupts.
    pub softirq: u64,
}

/// Packets dropped of the destinations that were watched.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Dropped {
    /// Inode of the network namespace.
    pub netns: u64,
    /// The interface.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub interface: Option<String>,
    /// Place.
    pub place: String,
    /// The kernel's reason.
    pub reason: String,
    /// Packets.
    pub packets: u64,
}

impl Look {
    /// UDP of one family.
    pub fn udp(&self, ipv6: bool) -> Udp {
        if ipv6 { self.udp6 } else { self.udp4 }
    }

    /// Here and now. What looking itself takes is left out of the process's CPU time.
    fn now(name: &str) -> Result<Self> {
        let begin = thread_time();
        let mut look = Self::read(name)?;
        LOOKING.fetch_add(thread_time().saturating_sub(begin), Ordering::Relaxed);
        look.own = child::of_this_process().into();
        let mut looking = LOOKING.load(Ordering::Relaxed);
        for part in [&mut look.own.system_ns, &mut look.own.user_ns] {
            let less = looking.min(*part);
            (*part, looking) = (*part - less, looking - less);
        }
        Ok(look)
    }

    fn read(name: &str) -> Result<Self> {
        let link = interface::link(name)?;
        let read = |file: &str| fs::read_to_string(file).unwrap_or_default();
        let snmp = snmp(&read("/proc/thread-self/net/snmp"));
        let snmp6 = snmp6(&read("/proc/thread-self/net/snmp6"));
        let of = |table: &HashMap<String, u64>, key: String| table.get(&key).copied().unwrap_or(0);
        let udp = |table: &HashMap<String, u64>, prefix: &str| Udp {
            r#in: of(table, format!("{prefix}InDatagrams")),
            out: of(table, format!("{prefix}OutDatagrams")),
            rcvbuf_errors: of(table, format!("{prefix}RcvbufErrors")),
            no_ports: of(table, format!("{prefix}NoPorts")),
            sndbuf_errors: of(table, format!("{prefix}SndbufErrors")),
        };
        let [rx_packets, rx_dropped, tx_packets, tx_dropped] =
            device(&read("/proc/thread-self/net/dev"), name).unwrap_or_default();
        Ok(Self {
            udp4: udp(&snmp, "Udp"),
            udp6: udp(&snmp6, "Udp6"),
            retransmitted: of(&snmp, "TcpRetransSegs".to_owned()),
            link: Link {
                rx_packets,
                rx_dropped,
                tx_packets,
                tx_dropped,
                // A virtual device tells a speed that nothing keeps to.
                speed_bps: if link.kind.is_none() { Nic::read(&link).speed_bps } else { None },
                xdp: link.xdp_programs,
            },
            own: Cpu::default(),
            cpus: cpus(&read("/proc/stat")),
        })
    }

    /// The busiest CPU since `before`, and all soft interrupts, in percent of one CPU.
    pub fn busy_since(&self, before: &Self) -> Option<(f64, f64)> {
        let shares: Vec<(f64, f64)> = self
            .cpus
            .iter()
            .zip(&before.cpus)
            .filter_map(|(after, before)| {
                let all = after.all.checked_sub(before.all).filter(|ticks| *ticks > 0)? as f64;
                let idle = after.idle.saturating_sub(before.idle) as f64;
                let softirq = after.softirq.saturating_sub(before.softirq) as f64;
                Some((100.0 * (all - idle).max(0.0) / all, 100.0 * softirq / all))
            })
            .collect();
        let busiest = shares.iter().map(|(busy, _)| *busy).fold(f64::NEG_INFINITY, f64::max);
        (!shares.is_empty()).then(|| (busiest, shares.iter().map(|(_, softirq)| softirq).sum()))
    }
}

/// CPU time of the calling thread, in ns.
fn thread_time() -> u64 {
    clock_gettime(ClockId::CLOCK_THREAD_CPUTIME_ID)
        .map_or(0, |time| u64::try_from(Duration::from(time).as_nanos()).unwrap_or(0))
}

/// /proc/net/snmp: a line of names and a line of values for each protocol.
fn snmp(text: &str) -> HashMap<String, u64> {
    let lines: Vec<&str> = text.lines().collect();
    let mut table = HashMap::new();
    for pair in lines.chunks_exact(2) {
        let (Some((name, keys)), Some((_, values))) = (pair[0].split_once(':'), pair[1].split_once(':'))
        else {
            continue;
        };
        for (key, value) in keys.split_whitespace().zip(values.split_whitespace()) {
            if let Ok(value) = value.parse() {
                table.insert(format!("{name}{key}"), value);
            }
        }
    }
    table
}

/// /proc/net/snmp6: a name and a value a line.
fn snmp6(text: &str) -> HashMap<String, u64> {
    text.lines()
        .filter_map(|line| {
            let mut words = line.split_whitespace();
            Some((words.next()?.to_owned(), words.next()?.parse().ok()?))
        })
        .collect()
}

/// /proc/net/dev: packets and drops of both directions.
fn device(text: &str, name: &str) -> Option<[u64; 4]> {
    let line =
        text.lines().find_map(|line| line.split_once(':').filter(|(device, _)| device.trim() == name))?;
    let fields: Vec<u64> = line.1.split_whitespace().filter_map(|field| field.parse().ok()).collect();
    Some([*fields.get(1)?, *fields.get(3)?, *fields.get(9)?, *fields.get(11)?])
}

/// /proc/stat: user nice system idle iowait irq softirq steal; guest time is in user time.
fn cpus(text: &str) -> Vec<CpuTicks> {
    text.lines()
        .filter(|line| {
            line.strip_prefix("cpu").is_some_and(|rest| rest.starts_with(|c: char| c.is_ascii_digit()))
        })
        .map(|line| {
            let ticks: Vec<u64> =
                line.split_whitespace().skip(1).take(8).map(|field| field.parse().unwrap_or(0)).collect();
            let at = |index: usize| ticks.get(index).copied().unwrap_or(0);
            CpuTicks { all: ticks.iter().sum(), idle: at(3) + at(4), softirq: at(6) }
        })
        .collect()
}

/// The job of an agent that is asked by these words; `None` when they ask for something else.
pub fn job(words: &[String]) -> Option<std::result::Result<Job, Failure>> {
    let (word, rest) = words.split_first()?;
    // As a user types it, it is the command.
    let [text] = rest else { return None };
    if word != WORD || !text.starts_with('{') {
        return None;
    }
    Some(match serde_json::from_str::<Ask>(text) {
        Ok(Ask::Drops(all)) if all.len() > DESTINATIONS => {
            Err(Failure::usage(format!("compare: more than {DESTINATIONS} destinations")))
        }
        Ok(ask) => {
            Ok(Box::new(move |stop: &Stop, tell: &mut dyn FnMut(Event)| match answer(&ask, stop, tell) {
                Ok(report) => {
                    tell(Event::Report { report });
                    0
                }
                Err(error) => {
                    let failure = Failure::from(&error);
                    let status = failure.status();
                    tell(Event::Error(failure));
                    status
                }
            }))
        }
        Err(error) => Err(Failure::usage(format!("compare: {error}"))),
    })
}

fn answer(ask: &Ask, stop: &Stop, tell: &mut dyn FnMut(Event)) -> Result<Value> {
    let plain = |value| serde_json::to_value(value).unwrap_or_default();
    match ask {
        Ask::Look(name) => Ok(serde_json::to_value(Look::now(name)?).unwrap_or_default()),
        Ask::Drops(destinations) => {
            let mut witness = Witness::start(Side::Any, destinations)?;
            witness.begin()?;
            tell(Event::Ready);
            while !stop.is_requested() {
                thread::sleep(PAUSE);
            }
            let drops = witness.settled()?.into_iter().filter(|drop| drop.port.is_some());
            let drops = drops.map(|drop| Dropped {
                netns: drop.netns_inode,
                interface: drop.interface,
                place: drop.place.to_owned(),
                reason: drop
                    .symbol
                    .map_or(drop.reason.clone(), |symbol| format!("{}, {symbol}", drop.reason)),
                packets: drop.packets,
            });
            Ok(plain(drops.collect::<Vec<_>>()))
        }
    }
}

fn begin(agent: &mut Agent, ask: &Ask) -> Result<Task> {
    agent.start(&[WORD, &serde_json::to_string(ask).unwrap_or_default()])
}

/// Counters of the agent's end, with those of this interface.
///
/// # Errors
/// When the agent is gone, or the interface is.
pub(super) fn look(agent: &mut Agent, interface: &str) -> Result<Look> {
    let task = begin(agent, &Ask::Look(interface.to_owned()))?;
    let report = agent.report(task, ANSWER)?;
    understood(agent, report)
}

/// Begins to count drops on the agent's kernel.
///
/// # Errors
/// When the agent is gone; environment, when its user may not or its kernel cannot.
pub(super) fn watch(agent: &mut Agent, destinations: &[SocketAddr]) -> Result<Task> {
    let task = begin(agent, &Ask::Drops(destinations.to_vec()))?;
    agent.ready(task, ANSWER)?;
    Ok(task)
}

/// What was dropped since.
///
/// # Errors
/// When the agent is gone.
pub(super) fn dropped(agent: &mut Agent, task: Task) -> Result<Vec<Dropped>> {
    agent.stop(task)?;
    let report = agent.report(task, ANSWER)?;
    understood(agent, report)
}

fn understood<T: serde::de::DeserializeOwned>(agent: &Agent, report: Value) -> Result<T> {
    serde_json::from_value(report).map_err(|e| {
        Error::failed(format!("{}: its answer is not understood: {e}", agent.name()))
            .fix("install the same version at both ends")
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn tables_of_proc() {
        let text = "Udp: InDatagrams NoPorts OutDatagrams\nUdp: 7 1 9\nTcp: RetransSegs MaxConn\nTcp: 3 -1\n";
        let table = snmp(text);
        assert_eq!((table["UdpInDatagrams"], table["UdpOutDatagrams"], table["TcpRetransSegs"]), (7, 9, 3));
        assert_eq!(snmp6("Udp6InDatagrams  \t5\nodd\n")["Udp6InDatagrams"], 5);
        let dev = "Inter-|   Receive\n face |bytes\n  wr0: 100 1 0 2 0 0 0 0 200 3 0 4 0 0 0 0\n";
        assert_eq!(device(dev, "wr0"), Some([1, 2, 3, 4]));
        assert_eq!(device(dev, "wr"), None);
        let stat = "cpu  1 1 1 1\ncpu0 10 0 10 70 10 0 5 0 3 0\nintr 5\n";
        assert_eq!(cpus(stat), [CpuTicks { all: 105, idle: 80, softirq: 5 }]);
    }

    #[test]
    fn the_busiest_cpu() {
        let of = |cpus: &[(u64, u64, u64)]| Look {
            cpus: cpus.iter().map(|&(all, idle, softirq)| CpuTicks { all, idle, softirq }).collect(),
            ..Look::default()
        };
        let (before, after) = (of(&[(0, 0, 0), (0, 0, 0)]), of(&[(100, 90, 2), (100, 5, 30)]));
        assert_eq!(after.busy_since(&before), Some((95.0, 32.0)));
        assert_eq!(after.busy_since(&after), None, "no time has passed");
    }

    #[test]
    fn words_for_others_are_left_to_them() {
        let words = |all: &[&str]| all.iter().map(|w| (*w).to_owned()).collect::<Vec<_>>();
        assert!(job(&words(&["recv", "{}"])).is_none());
        assert!(job(&words(&["compare", "--from"])).is_none());
        assert!(job(&words(&["compare", "{\"look\":3}"])).is_some_and(|job| job.is_err()));
        assert!(job(&words(&["compare", "{\"look\":\"lo\"}"])).is_some_and(|job| job.is_ok()));
    }
}
