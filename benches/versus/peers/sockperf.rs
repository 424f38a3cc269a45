//! sockperf's throughput mode: a datagram a system call.

use std::time::Duration;

use wirerate_engine::error::{Error, Result};

use super::{Tool, is_bound};
use crate::contest::{Class, Contestant, Load, Trial};
use crate::lab::{Lab, Napi, RECEIVER};
use crate::process::{Process, Side};

/// sockperf with one size.
#[derive(Debug)]
pub struct Sockperf {
    tool: Tool,
    length: u16,
}

impl Sockperf {
    /// With datagrams of `length` bytes.
    pub fn new(tool: &Tool, length: u16) -> Self {
        Self { tool: tool.clone(), length }
    }

    fn client(&self, load: Load, time: Duration) -> Vec<String> {
        let (program, address, length) = (self.tool.word(), RECEIVER.0.to_string(), self.length.to_string());
        let seconds = time.as_secs_f64().ceil().to_string();
        let rate = match load {
            Load::Max => "max".to_owned(),
            Load::Pps(pps) => pps.to_string(),
        };
        [&program, "throughput", "-i", &address, "-p", "11111", "-m", &length, "-t", &seconds, "--mps", &rate]
            .map(str::to_owned)
            .to_vec()
    }
}

impl Contestant for Sockperf {
    fn name(&self) -> &str {
        &self.tool.version
    }

    fn length(&self) -> u16 {
        self.length
    }

    fn class(&self) -> Class {
        Class::UserToUser
    }

    fn paces(&self) -> bool {
        true
    }

    fn run(&self, lab: &Lab, load: Load, _: Napi, time: Duration) -> Result<Trial> {
        let words =
            [&self.tool.word(), "server", "-i", &RECEIVER.0.to_string(), "-p", "11111"].map(str::to_owned);
        let mut server = Process::start(lab, Side::Receiver, &words)?;
        server.wait_until(|_| is_bound(lab, "udp", 11111))?;
        let before = lab.counters()?;
        let client = Process::start(lab, Side::Sender, &self.client(load, time))?
            .finish(time + Duration::from_secs(8));
        let counted = lab.counters()?.since(before);
        // The first signal sets a flag that its blocking read does not see; finish() sends the second.
        server.interrupt();
        let server = server.finish(Duration::from_millis(200));
        let mut trial = read(&client.stdout, &server.stdout)
            .ok_or_else(|| Error::failed("sockperf: told no number of messages"))?;
        trial.witness = Some(counted.udp_in);
        Ok(trial.with(counted))
    }

    fn command(&self) -> String {
        format!(
            "sockperf server -i ADDRESS; sockperf {}",
            self.client(Load::Max, Duration::from_secs(1))[1..].join(" ")
        )
    }
}

/// `Total of 125445 messages sent in 2.029 sec`, and the server's `Total 73516 messages received and handled`.
fn read(client: &str, server: &str) -> Option<Trial> {
    let after = |text: &str, start: &str| text.split_once(start).map(|(_, rest)| rest.to_owned());
    let sent = after(client, "Total of ")?;
    let mut sent = sent.split_whitespace();
    let count = sent.next()?.parse().ok()?;
    let seconds = sent.nth(3)?.parse().ok()?;
    let received = after(server, "Total ")?.split_whitespace().next()?.parse().ok()?;
    Some(Trial { received, sent: Some(count), seconds, payload_touched: Some(true), ..Trial::default() })
}

#[cfg(test)]
mod tests {
    use super::read;

    #[test]
    fn reads_both_totals() {
        let client = "sockperf: Test ended\nsockperf: Total of 125445 messages sent in 2.029 sec\n";
        let server =
            "sockperf: Total 73516 messages received and handled\nsockperf: cleanupAfterLoop() exit\n";
        let trial = read(client, server).expect("complete");
        assert_eq!((trial.received, trial.sent), (73_516, Some(125_445)));
        assert!((trial.seconds - 2.029).abs() < 1e-9);
        assert!(read(client, "").is_none());
    }
}
