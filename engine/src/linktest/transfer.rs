//! UDP and multicast: `send` by one agent, `recv` by another, and what both report.
#![forbid(unsafe_code)]

use std::net::SocketAddr;
use std::time::{Duration, Instant};

use serde_json::Value;

use super::report::Traffic;
use crate::agent::protocol::Event;
use crate::agent::{Agent, Task};
use crate::control::Stop;
use crate::error::Result;

use super::far::ANSWER;

/// How long a receiver waits for stragglers before it is told to end.
const STRAGGLERS: Duration = Duration::from_secs(3);

/// How often a request to stop is looked for.
const LOOK: Duration = Duration::from_millis(100);

/// One end of a transfer.
pub(super) struct End<'a> {
    /// Its agent.
    pub agent: &'a mut Agent,
    /// Its interface.
    pub interface: &'a str,
}

/// What to send.
#[derive(Debug, Clone)]
pub(super) struct Load<'a> {
    /// `udp` or `multicast`.
    pub kind: &'static str,
    /// To whom.
    pub target: SocketAddr,
    /// `out` or `back`.
    pub direction: &'static str,
    /// As `send --rate` has it.
    pub rate: &'a str,
    /// UDP payload in bytes.
    pub length: Option<u32>,
    /// Datapath of both ends; sockets where none is asked for.
    pub backend: Option<&'a str>,
    /// How long.
    pub duration: Duration,
}

impl Load<'_> {
    fn sender_words(&self, interface: &str) -> Vec<String> {
        let mut words = vec![
            "send".to_owned(),
            self.target.to_string(),
            "--iface".to_owned(),
            interface.to_owned(),
            "--rate".to_owned(),
            self.rate.to_owned(),
            "--duration".to_owned(),
            format!("{}ms", self.duration.as_millis()),
            "--kernel-drops".to_owned(),
            "off".to_owned(),
        ];
        if let Some(length) = self.length {
            words.extend(["--length".to_owned(), length.to_string()]);
        }
        words.extend(["--backend".to_owned(), self.backend.unwrap_or("mmsg").to_owned()]);
        words
    }

    fn receiver_words(&self, interface: &str) -> Vec<String> {
        let backend = self.backend.unwrap_or("mmsg");
        let target = self.target.to_string();
        ["recv", &target, "--iface", interface, "--kernel-drops", "off", "--backend", backend]
            .map(str::to_owned)
            .to_vec()
    }
}

/// Sends `load`, has it counted where there is a receiver, and tells how it goes.
///
/// # Errors
/// What either end failed with, or that it does not answer.
pub(super) fn transfer(
    load: &Load<'_>,
    sender: End<'_>,
    receiver: Option<End<'_>>,
    stop: &Stop,
    progress: &mut dyn FnMut(String),
) -> Result<Traffic> {
    let mut counting = None;
    if let Some(end) = receiver {
        let task = end.agent.start(&load.receiver_words(end.interface))?;
        end.agent.ready(task, ANSWER)?;
        counting = Some((end.agent, task));
    }
    let begin = Instant::now();
    let task = sender.agent.start(&load.sender_words(sender.interface))?;
    let sent = follow(sender.agent, task, load, stop, progress);
    let duration = begin.elapsed();
    let received = counting.map(|(agent, task)| collect(agent, task)).transpose();
    let (sent, received) = (sent?, received?);
    Ok(figures(load, duration, sent, received))
}

/// Waits for the sender's end.
fn follow(
    agent: &mut Agent,
    task: Task,
    load: &Load<'_>,
    stop: &Stop,
    progress: &mut dyn FnMut(String),
) -> Result<Value> {
    let begin = Instant::now();
    let mut stopped = false;
    // Events are of earlier tasks, too, where nobody took them.
    loop {
        if stop.is_requested() && !stopped {
            agent.stop(task)?;
            stopped = true;
        }
        match agent.next_event(LOOK)? {
            Some((of, Event::End { .. })) if of == task => break,
            Some((of, Event::Interval { .. })) if of == task => {
                let (passed, all) = (begin.elapsed().as_secs(), load.duration.as_secs_f64());
                progress(format!("{} {}: {passed} s of {all} s", load.kind, load.direction));
            }
            _ if begin.elapsed() > load.duration + ANSWER => break,
            _ => {}
        }
    }
    agent.report(task, ANSWER)
}

/// The report of a receiver, which ends by itself when it has heard its sender's end.
fn collect(agent: &mut Agent, task: Task) -> Result<Value> {
    if let Ok(ended) = agent.finish(task, STRAGGLERS) {
        return match (ended.failure, ended.report) {
            (None, Some(report)) => Ok(report),
            (Some(failure), _) => Err(failure),
            (None, None) => Err(crate::Error::failed("far: the receiver ended without a report")),
        };
    }
    agent.stop(task)?;
    agent.report(task, ANSWER)
}

fn figures(load: &Load<'_>, duration: Duration, sent: Value, received: Option<Value>) -> Traffic {
    let number =
        |value: &Value, pointer: &str| value.pointer(pointer).and_then(Value::as_f64).map(|n| n as u64);
    let packets = number(&sent, "/tx/packets");
    let arrived =
        received.as_ref().and_then(|r| number(r, "/rx/unique").or_else(|| number(r, "/rx/packets")));
    let lost = packets.zip(arrived).map(|(sent, arrived)| sent.saturating_sub(arrived));
    Traffic {
        kind: load.kind,
        direction: load.direction,
        target: load.target.to_string(),
        duration_ns: u64::try_from(duration.as_nanos()).unwrap_or(u64::MAX),
        sent_bps: number(&sent, "/tx/payload_bps"),
        received_bps: received.as_ref().and_then(|r| number(r, "/rx/payload_bps")),
        sent_packets: packets,
        received_packets: arrived,
        lost_packets: lost,
        lost_percent: lost
            .zip(packets)
            .filter(|(_, sent)| *sent > 0)
            .map(|(lost, sent)| lost as f64 * 100.0 / sent as f64),
        retransmits: None,
        report: Some(sent),
        receiver_report: received,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_both_ends_say() {
        let load = Load {
            kind: "udp",
            target: "10.0.0.2:5001".parse().unwrap(),
            direction: "out",
            rate: "1G",
            length: Some(1000),
            backend: None,
            duration: Duration::from_millis(1500),
        };
        let words = load.sender_words("wr0").join(" ");
        assert_eq!(
            words,
            "send 10.0.0.2:5001 --iface wr0 --rate 1G --duration 1500ms --kernel-drops off --length 1000 --backend mmsg"
        );
        let sent = serde_json::json!({"tx": {"packets": 1000, "payload_bps": 8e6}});
        let received = serde_json::json!({"rx": {"packets": 992, "unique": 990, "payload_bps": 7.9e6}});
        let figures = figures(&load, Duration::from_secs(1), sent, Some(received));
        assert_eq!((figures.sent_bps, figures.received_bps), (Some(8_000_000), Some(7_900_000)));
        assert_eq!((figures.lost_packets, figures.lost_percent), (Some(10), Some(1.0)));
    }
}
