//! Real iperf 2: its UDP client and server, driven; rows of `-y C` and the lines of its text are read.
#![forbid(unsafe_code)]

use std::net::IpAddr;
use std::time::Duration;

use serde::Serialize;

use super::tool::Kind;
use super::{Ended, Listens, Place, Running, Spec, Transport};
use crate::error::{Error, Result};

/// iperf 2's own port.
pub const PORT: u16 = 5001;

/// How much longer than its test a client may take: it repeats its end for two seconds.
const LONGER: Duration = Duration::from_secs(15);

/// How long a server waits for its client.
const WAITS: Duration = Duration::from_secs(3600);

/// Packets a second that stand for "as fast as it can", which it has no word for: more than it can.
const MOST: u64 = 20_000_000;

/// A client for UDP: `iperf -c ADDRESS -u … -e`.
#[derive(Debug, Clone, PartialEq)]
pub struct Client {
    /// Where the program is; `None`: in PATH.
    pub program: Option<String>,
    /// The server's address.
    pub address: IpAddr,
    /// The server's port.
    pub port: u16,
    /// The client's own address.
    pub bind: Option<IpAddr>,
    /// Packets a second; `None`: as fast as it can.
    pub pps: Option<f64>,
    /// Bytes of a datagram.
    pub length: u32,
    /// How long it sends.
    pub duration: Duration,
    /// Any other options, as typed.
    pub more: Vec<String>,
}

impl Client {
    /// Its arguments, as typed behind `iperf`.
    pub fn arguments(&self) -> Vec<String> {
        let rate = self.pps.map_or(MOST, |pps| pps.round().max(1.0) as u64);
        let mut words: Vec<String> = vec!["-c".into(), self.address.to_string(), "-u".into(), "-e".into()];
        if self.address.is_ipv6() {
            words.push("-V".to_owned());
        }
        let mut add = |option: &str, value: String| words.extend([option.to_owned(), value]);
        add("-p", self.port.to_string());
        add("-b", format!("{rate}pps"));
        add("-l", self.length.to_string());
        add("-t", format!("{:.2}", self.duration.as_secs_f64()));
        if let Some(address) = self.bind {
            add("-B", address.to_string());
        }
        words.extend(self.more.iter().cloned());
        words
    }

    /// Starts it; [`Place::finish`] waits for its end, and [`sent`] reads what it says.
    ///
    /// # Errors
    /// As [`Place::start`].
    pub fn start(&self, place: &mut Place<'_>) -> Result<Running> {
        place.start(&Spec {
            kind: Kind::Iperf2,
            program: self.program.clone(),
            arguments: self.arguments(),
            deadline_ms: u64::try_from((self.duration + LONGER).as_millis()).unwrap_or(u64::MAX),
            listens: None,
        })
    }
}

/// A server for one client: `iperf -s -u -P 1 -y C`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Server {
    /// Where the program is; `None`: in PATH.
    pub program: Option<String>,
    /// Its port.
    pub port: u16,
    /// Bytes of the largest datagram.
    pub length: u32,
    /// IPv6.
    pub ipv6: bool,
}

impl Server {
    /// Starts it; it listens when this returns. It ends with its first client; [`received`] reads what it says.
    ///
    /// # Errors
    /// As [`Place::start`].
    pub fn start(&self, place: &mut Place<'_>) -> Result<Running> {
        let mut arguments: Vec<String> = ["-s", "-u", "-P", "1", "-y", "C"].map(str::to_owned).to_vec();
        arguments.extend(["-p".to_owned(), self.port.to_string(), "-l".to_owned(), self.length.to_string()]);
        if self.ipv6 {
            arguments.push("-V".to_owned());
        }
        place.start(&Spec {
            kind: Kind::Iperf2,
            program: self.program.clone(),
            arguments,
            deadline_ms: u64::try_from(WAITS.as_millis()).unwrap_or(u64::MAX),
            listens: Some(Listens { transport: Transport::Udp, port: self.port }),
        })
    }
}

/// A row of `-y C`, of either end.
#[derive(Debug, Clone, Copy, Default, PartialEq, Serialize)]
pub struct Row {
    /// Time of the test in seconds, to a tenth.
    pub seconds: f64,
    /// Payload.
    pub bytes: u64,
    /// Payload bits a second.
    pub bits_per_second: f64,
    /// Interarrival jitter in ms (UDP).
    #[serde(skip_serializing_if = "Option::is_none")]
    pub jitter_ms: Option<f64>,
    /// Datagrams that the server missed: gaps less those that came out of order, copies among them.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub lost: Option<i64>,
    /// Datagrams by their numbers, the end of the test among them; absent where it does not know (-1).
    #[serde(skip_serializing_if = "Option::is_none")]
    pub packets: Option<u64>,
    /// Datagrams that came after a later one.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub out_of_order: Option<u64>,
}

/// Reads the last row of `-y C`: the sum of the test.
pub fn csv(text: &str) -> Option<Row> {
    text.lines().rev().find_map(row)
}

fn row(line: &str) -> Option<Row> {
    let fields: Vec<&str> = line.trim().split(',').collect();
    let field = |at: usize| fields.get(at).map(|text| text.trim());
    let (from, to) = field(6)?.split_once('-')?;
    let number = |text: &str| text.parse::<f64>().ok().filter(|n| n.is_finite());
    Some(Row {
        seconds: number(to)? - number(from)?,
        bytes: field(7)?.parse().ok()?,
        bits_per_second: number(field(8)?)?,
        jitter_ms: field(9).and_then(number).filter(|ms| *ms >= 0.0),
        lost: field(10).and_then(|text| text.parse().ok()),
        packets: field(11).and_then(|text| text.parse().ok()),
        out_of_order: field(13).and_then(|text| text.parse().ok()),
    })
}

/// What the client says: datagrams that it sent, the end of the test among them; `None` where it does not tell.
pub fn sent(text: &str) -> Option<u64> {
    let line = text.lines().rev().find(|line| line.contains("Sent ") && line.contains(" datagrams"))?;
    line.split_once("Sent ")?.1.split_whitespace().next()?.parse().ok()
}

/// Reads what a server said.
///
/// # Errors
/// Failed, with its complaint, when it told of no test.
pub fn received(ended: &Ended) -> Result<Row> {
    csv(&ended.stdout)
        .ok_or_else(|| Error::failed(format!("iperf: the server told of no test: {}", ended.complaint())))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn a_servers_row() {
        let text =
            "19700101000000,127.0.0.1,59750,127.0.0.1,5997,1,0.0-1.0,1003000,8011134,0.001,3,1003,0.299,2\n";
        let row = csv(text).expect("a row");
        assert_eq!(
            (row.bytes, row.lost, row.packets, row.out_of_order),
            (1_003_000, Some(3), Some(1003), Some(2))
        );
        assert!((row.jitter_ms.expect("jitter") - 0.001).abs() < 1e-12 && (row.seconds - 1.0).abs() < 1e-12);
    }

    #[test]
    fn a_clients_row_does_not_know() {
        let row =
            csv("19700101000000,127.0.0.1,1,127.0.0.1,5997,1,0.0-1.0,1003000,8010942,0.000,0,-1,-0.000,0\n");
        assert_eq!(row.expect("a row").packets, None);
        let tcp =
            csv("19700101000000,127.0.0.1,42710,127.0.0.1,5997,1,0.0-1.0,13238332,104564672").expect("a row");
        assert_eq!((tcp.bytes, tcp.lost), (13_238_332, None));
        assert_eq!(csv("warning: nothing\n"), None);
    }

    #[test]
    fn what_the_client_sent() {
        assert_eq!(sent("[  1] 0.0-1.0 sec\n[  1] Sent 1004 datagrams\n[  1] Server Report:\n"), Some(1004));
        assert_eq!(sent("nothing"), None);
    }

    #[test]
    fn arguments_as_typed() {
        let client = Client {
            program: None,
            address: "192.0.2.2".parse().expect("an address"),
            port: 5001,
            bind: None,
            pps: Some(1000.4),
            length: 1000,
            duration: Duration::from_secs(1),
            more: Vec::new(),
        };
        assert_eq!(client.arguments().join(" "), "-c 192.0.2.2 -u -e -p 5001 -b 1000pps -l 1000 -t 1.00");
    }

    proptest! {
        #[test]
        fn no_text_panics(text in "[0-9a-zA-Z,.\\- \n]{0,200}") {
            let (_, _) = (csv(&text), sent(&text));
        }

        #[test]
        fn counts_come_back(lost in any::<i64>(), packets in any::<u64>(), bytes in any::<u64>()) {
            let row = csv(&format!("t,a,1,b,2,1,0.0-2.5,{bytes},1,0.5,{lost},{packets},0,7")).expect("a row");
            prop_assert_eq!((row.lost, row.packets, row.bytes), (Some(lost), Some(packets), bytes));
        }
    }
}
