//! iperf3: a datagram a system call, or with --gsro (3.21 and later) super-buffers both ways.

use std::time::Duration;

use serde_json::Value;
use wirerate_engine::error::{Error, Result};

use super::{Tool, is_bound};
use crate::contest::{Class, Contestant, Load, Trial};
use crate::lab::{Lab, Napi, RECEIVER};
use crate::process::{Process, Side};

/// One iperf3 with one size.
#[derive(Debug)]
pub struct Iperf3 {
    tool: Tool,
    name: String,
    length: u16,
    gsro: bool,
}

impl Iperf3 {
    /// `gsro` needs 3.21.
    pub fn new(tool: &Tool, length: u16, gsro: bool) -> Self {
        let version = tool.version.rsplit(' ').next().unwrap_or_default();
        let name = format!("iperf3 {version}{}", if gsro { " --gsro" } else { "" });
        Self { tool: tool.clone(), name, length, gsro }
    }

    fn client(&self, load: Load, time: Duration) -> Vec<String> {
        let rate = match load {
            Load::Max => "0".to_owned(),
            Load::Pps(pps) => (pps * u64::from(self.length) * 8).to_string(),
        };
        let seconds = time.as_secs_f64().ceil().to_string();
        let (program, length) = (self.tool.word(), self.length.to_string());
        let address = RECEIVER.0.to_string();
        let words = [&program, "-c", &address, "-u", "-b", &rate, "-l", &length, "-t", &seconds, "-J"];
        words.into_iter().chain(self.gsro.then_some("--gsro")).map(str::to_owned).collect()
    }
}

impl Contestant for Iperf3 {
    fn name(&self) -> &str {
        &self.name
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
        let words = [self.tool.word(), "-s".to_owned(), "-1".to_owned(), "-J".to_owned()];
        let mut server = Process::start(lab, Side::Receiver, &words)?;
        server.wait_until(|_| is_bound(lab, "tcp", 5201))?;
        let before = lab.counters()?;
        let client = Process::start(lab, Side::Sender, &self.client(load, time))?
            .finish(time + Duration::from_secs(8));
        let counted = lab.counters()?.since(before);
        let server = server.finish(Duration::from_secs(3));
        let parse = |text: &str| serde_json::from_str::<Value>(text).unwrap_or_default();
        let mut trial = read(&parse(&client.stdout), &parse(&server.stdout))?;
        if !self.gsro {
            trial.witness = Some(counted.udp_in);
        }
        Ok(trial.with(counted))
    }

    fn command(&self) -> String {
        format!("iperf3 -s -1; iperf3 {}", self.client(Load::Max, Duration::from_secs(1))[1..].join(" "))
    }
}

/// The client's word for what was sent, the server's for what arrived.
fn read(client: &Value, server: &Value) -> Result<Trial> {
    if let Some(said) = [client, server].into_iter().find_map(|json| json["error"].as_str()) {
        return Err(Error::failed(format!("iperf3: {said}")));
    }
    let sum = &server["end"]["sum"];
    let (Some(highest), Some(lost), Some(seconds)) =
        (sum["packets"].as_u64(), sum["lost_packets"].as_i64(), sum["seconds"].as_f64())
    else {
        return Err(Error::failed("iperf3: its server told no packets"));
    };
    let end = &client["end"];
    let sent = end["sum_sent"]["packets"].as_u64().or(end["sum"]["packets"].as_u64());
    Ok(Trial {
        received: highest.saturating_sub(u64::try_from(lost).unwrap_or(0)),
        sent,
        seconds,
        payload_touched: Some(true),
        ..Trial::default()
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn received_is_the_highest_number_less_what_was_lost() {
        let client = json!({"end": {"sum_sent": {"packets": 152_920}}});
        let server = json!({"end": {"sum": {"packets": 152_920, "lost_packets": 45_632, "seconds": 2.0}}});
        let trial = read(&client, &server).expect("complete");
        assert_eq!((trial.received, trial.sent), (107_288, Some(152_920)));
    }

    #[test]
    fn its_own_error_is_told() {
        let error = read(&json!({"error": "unable to connect"}), &Value::Null).expect_err("no figures");
        assert!(error.to_string().contains("unable to connect"));
        assert!(read(&json!({}), &json!({"end": {}})).is_err());
    }
}
