//! wirerate itself: the release binary, as a user would type it.

use std::path::PathBuf;
use std::time::Duration;

use serde_json::Value;
use wirerate_engine::error::{Error, Result};

use crate::contest::{Class, Contestant, Load, Trial};
use crate::lab::{Lab, Napi, RECEIVER, SENDER};
use crate::process::{Process, Side};

/// One of our backends against another, or against the drop program.
#[derive(Debug)]
pub struct Ours {
    /// The release binary.
    pub program: PathBuf,
    /// Name in tables.
    pub name: String,
    /// From where to where.
    pub class: Class,
    /// UDP payload in bytes.
    pub length: u16,
    /// Further words of `wirerate send`.
    pub send: Vec<&'static str>,
    /// Further words of `wirerate recv`; none where the drop program receives.
    pub recv: Option<Vec<&'static str>>,
    /// Whether others of ours are compared with it, as with a peer.
    pub yardstick: bool,
}

impl Ours {
    fn target() -> String {
        format!("{}:5001", RECEIVER.0)
    }

    fn send_words(&self, lab: &Lab, load: Load, time: Duration) -> Vec<String> {
        let rate = match load {
            Load::Max => "max".to_owned(),
            Load::Pps(pps) => format!("{pps}pps"),
        };
        let mut words = self.words("send", &self.send, SENDER.1, lab.cpus.sender);
        words.extend(["--length", &self.length.to_string(), "--rate", &rate].map(str::to_owned));
        words.extend(["--duration".to_owned(), format!("{}ms", time.as_millis())]);
        words
    }

    fn words(&self, command: &str, further: &[&str], interface: &str, cpu: usize) -> Vec<String> {
        let program = self.program.display().to_string();
        let cpu = cpu.to_string();
        [&program, command, &Self::target(), "--iface", interface, "--cpus", &cpu, "--json-lines", "--quiet"]
            .into_iter()
            .chain(further.iter().copied())
            .map(str::to_owned)
            .collect()
    }
}

impl Contestant for Ours {
    fn name(&self) -> &str {
        &self.name
    }

    fn length(&self) -> u16 {
        self.length
    }

    fn class(&self) -> Class {
        self.class
    }

    fn ours(&self) -> bool {
        !self.yardstick
    }

    fn paces(&self) -> bool {
        true
    }

    fn run(&self, lab: &Lab, load: Load, napi: Napi, time: Duration) -> Result<Trial> {
        let receiver = match &self.recv {
            Some(further) => {
                let words = self.words("recv", further, RECEIVER.1, lab.cpus.receiver);
                let mut receiver = Process::start(lab, Side::Receiver, &words)?;
                receiver.wait_until(|said| said.contains(r#""event":"ready""#))?;
                lab.place_napi(napi)?;
                Some(receiver)
            }
            None => None,
        };
        let before = lab.counters()?;
        let sent = Process::start(lab, Side::Sender, &self.send_words(lab, load, time))?
            .finish(time + Duration::from_secs(5));
        sent.check("send")?;
        let tx = report(&sent.stdout).ok_or_else(|| Error::failed("send: no report"))?;
        let received = receiver.map(|receiver| receiver.finish(Duration::from_secs(3)));
        let counted = lab.counters()?.since(before);
        match received {
            Some(ended) => {
                ended.check("recv")?;
                let rx = report(&ended.stdout).ok_or_else(|| Error::failed("recv: no report"))?;
                let mut trial = both(&tx, &rx)?;
                // Of super-datagrams the kernel keeps no count in datagrams.
                trial.witness = match self.class {
                    Class::KernelToKernel => Some(counted.xdp_drops),
                    Class::UserToUser if self.send.contains(&"off") => Some(counted.udp_in),
                    _ => None,
                };
                Ok(trial.with(counted))
            }
            None => dropped(&tx, counted.xdp_drops),
        }
    }

    fn command(&self) -> String {
        let target = Self::target();
        let send = format!("wirerate send {target} {} --length {}", self.send.join(" "), self.length);
        match &self.recv {
            Some(recv) => format!("{send} --rate RATE; wirerate recv {target} {}", recv.join(" ")),
            None => format!("{send} --rate RATE"),
        }
    }
}

/// The report among the events of `--json-lines`.
fn report(lines: &str) -> Option<Value> {
    let event = lines
        .lines()
        .filter_map(|line| serde_json::from_str::<Value>(line).ok())
        .find(|event| event["event"] == "report")?;
    Some(if event["report"].is_object() { event["report"].clone() } else { event })
}

/// A trial as both our ends tell it.
fn both(tx: &Value, rx: &Value) -> Result<Trial> {
    let number = |value: &Value, what: &str| {
        value.as_u64().ok_or_else(|| Error::failed(format!("the report has no {what}")))
    };
    let received = rx["rx"]["unique"].as_u64().or(rx["rx"]["packets"].as_u64());
    // A sink that keeps no times is given the sender's.
    let nanoseconds =
        rx["rx"]["duration_ns"].as_u64().filter(|&ns| ns > 0).or(tx["tx"]["duration_ns"].as_u64());
    Ok(Trial {
        received: received.ok_or_else(|| Error::failed("the receiver's report has no packets"))?,
        sent: Some(number(&tx["tx"]["packets"], "tx.packets")?),
        seconds: nanoseconds.unwrap_or(0) as f64 / 1e9,
        payload_touched: rx["backend"]["payload_touched"].as_bool(),
        ..Trial::default()
    })
}

/// A trial where the drop program received; it counts end-of-stream messages too.
fn dropped(tx: &Value, drops: u64) -> Result<Trial> {
    let messages = tx["tx"]["messages"].as_u64().unwrap_or(0);
    let sent = tx["tx"]["packets"].as_u64().ok_or_else(|| Error::failed("the report has no tx.packets"))?;
    let nanoseconds = tx["tx"]["duration_ns"].as_u64().unwrap_or(0);
    Ok(Trial {
        received: drops.saturating_sub(messages).min(sent),
        sent: Some(sent),
        seconds: nanoseconds as f64 / 1e9,
        witness: Some(drops),
        segments_per_skb: Some(1.0),
        payload_touched: Some(false),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    const SENT: &str = r#"{"event":"ready"}
{"event":"report","report":{"tx":{"packets":1000,"duration_ns":2000000000,"messages":3}}}"#;

    #[test]
    fn takes_the_receivers_word_and_time() {
        let tx = report(SENT).expect("a report");
        let rx = serde_json::json!({"backend": {"payload_touched": false}, "rx": {"unique": 990, "duration_ns": 1_000_000_000_u64}});
        let trial = both(&tx, &rx).expect("complete");
        assert_eq!((trial.received, trial.sent), (990, Some(1000)));
        assert!((trial.pps() - 990.0).abs() < 1e-9);
        assert_eq!(trial.payload_touched, Some(false));
    }

    #[test]
    fn a_report_without_packets_is_an_error() {
        let tx = report(SENT).expect("a report");
        assert!(both(&tx, &serde_json::json!({"rx": {}})).is_err());
    }

    #[test]
    fn end_messages_are_not_packets() {
        let trial = dropped(&report(SENT).expect("a report"), 1001).expect("complete");
        assert_eq!((trial.received, trial.sent), (998, Some(1000)));
    }
}
