//! iperf 2: a datagram a system call.

use std::time::Duration;

use wirerate_benches::iperf_server;
use wirerate_engine::error::{Error, Result};

use super::{Tool, is_bound};
use crate::contest::{Class, Contestant, Load, Trial};
use crate::lab::{Lab, Napi, RECEIVER};
use crate::process::{Process, Side};

/// iperf 2 with one size.
#[derive(Debug)]
pub struct Iperf2 {
    tool: Tool,
    length: u16,
}

impl Iperf2 {
    /// With datagrams of `length` bytes.
    pub fn new(tool: &Tool, length: u16) -> Self {
        Self { tool: tool.clone(), length }
    }

    fn client(&self, load: Load, time: Duration) -> Vec<String> {
        // It has no word for "as fast as you can"; this is more than it can.
        let rate = match load {
            Load::Max => "20000000pps".to_owned(),
            Load::Pps(pps) => format!("{pps}pps"),
        };
        let (program, address, length) = (self.tool.word(), RECEIVER.0.to_string(), self.length.to_string());
        let seconds = format!("{:.1}", time.as_secs_f64());
        [&program, "-c", &address, "-u", "-b", &rate, "-l", &length, "-t", &seconds]
            .map(str::to_owned)
            .to_vec()
    }
}

impl Contestant for Iperf2 {
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
        let words = [&self.tool.word(), "-s", "-u", "-l", &self.length.to_string(), "-e"].map(str::to_owned);
        let mut server = Process::start(lab, Side::Receiver, &words)?;
        server.wait_until(|_| is_bound(lab, "udp", 5001))?;
        let before = lab.counters()?;
        Process::start(lab, Side::Sender, &self.client(load, time))?.finish(time + Duration::from_secs(8));
        let counted = lab.counters()?.since(before);
        // The server's line comes when it has heard the client's end.
        let _ = server.wait_until(|said| read(said).is_some());
        server.interrupt();
        // Some versions crash at their end, when they have said everything.
        let server = server.finish(Duration::from_secs(1));
        let mut trial =
            read(&server.stdout).ok_or_else(|| Error::failed("iperf: its server told no packets"))?;
        trial.witness = Some(counted.udp_in);
        Ok(trial.with(counted))
    }

    fn command(&self) -> String {
        format!(
            "iperf -s -u -l {} -e; iperf {}",
            self.length,
            self.client(Load::Max, Duration::from_secs(1))[1..].join(" ")
        )
    }
}

fn read(server: &str) -> Option<Trial> {
    let told = iperf_server(server)?;
    Some(Trial {
        received: told.total.saturating_sub(told.lost),
        sent: Some(told.total),
        seconds: told.seconds,
        payload_touched: Some(true),
        ..Trial::default()
    })
}

#[cfg(test)]
mod tests {
    use super::read;

    #[test]
    fn reads_the_servers_line() {
        let text = "[ ID] Interval            Transfer     Bandwidth        Jitter   Lost/Total  Latency avg/min/max/stdev PPS  Rx/inP  NetPwr\n\
            [  1] 0.0000-2.0240 sec  4.03 MBytes  16.7 Mbits/sec   1.743 ms 133438/199434 (67%) 0.049/0.001/27.883/0.752 ms 32606 pps 65996/2(25) pkts 42560\n";
        let trial = read(text).expect("a line");
        assert_eq!((trial.received, trial.sent), (65_996, Some(199_434)));
        assert!((trial.seconds - 2.024).abs() < 1e-9);
        assert!(read("Server listening on UDP port 5001\n").is_none());
    }
}
