//! The tools that can be compared, what each is asked for, and how what it says is read.
#![forbid(unsafe_code)]

use std::fmt;
use std::net::{IpAddr, SocketAddr};
use std::str::FromStr;
use std::time::Duration;

use serde_json::Value;

use super::report::{Flow, Stated};
use crate::error::{Error, Result};
use crate::interop::peer::{Kind, iperf2, iperf3};

/// A tool, as typed in `--tools`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum ToolName {
    /// iperf3 over TCP.
    Iperf3Tcp,
    /// iperf3 over UDP.
    Iperf3Udp,
    /// iperf 2 over UDP.
    Iperf2,
    /// Our io_uring sockets.
    Uring,
    /// Our sendmmsg and recvmmsg sockets.
    Mmsg,
    /// Our AF_XDP sockets.
    Afxdp,
    /// Our generator and sink in the kernel.
    Xdp,
}

impl ToolName {
    /// All, in the order in which they are run.
    pub const ALL: [Self; 7] =
        [Self::Iperf3Tcp, Self::Iperf3Udp, Self::Iperf2, Self::Uring, Self::Mmsg, Self::Afxdp, Self::Xdp];

    /// As typed.
    pub fn name(self) -> &'static str {
        match self {
            Self::Iperf3Tcp => "iperf3-tcp",
            Self::Iperf3Udp => "iperf3-udp",
            Self::Iperf2 => "iperf2",
            Self::Uring => "uring",
            Self::Mmsg => "mmsg",
            Self::Afxdp => "afxdp",
            Self::Xdp => "xdp",
        }
    }

    /// The foreign program; none of ours.
    pub fn foreign(self) -> Option<Kind> {
        match self {
            Self::Iperf3Tcp | Self::Iperf3Udp => Some(Kind::Iperf3),
            Self::Iperf2 => Some(Kind::Iperf2),
            Self::Uring | Self::Mmsg | Self::Afxdp | Self::Xdp => None,
        }
    }

    /// It is TCP.
    pub fn is_tcp(self) -> bool {
        self == Self::Iperf3Tcp
    }

    /// It attaches XDP programs to both interfaces, and sockets of others suffer while these are there.
    pub fn attaches_xdp(self) -> bool {
        matches!(self, Self::Afxdp | Self::Xdp)
    }

    /// `udp` or `tcp`.
    pub fn transport(self) -> &'static str {
        if self.is_tcp() { "tcp" } else { "udp" }
    }

    /// What its jitter is.
    pub fn jitter_is(self) -> Option<&'static str> {
        match self {
            Self::Iperf3Tcp => None,
            Self::Iperf3Udp => Some(
                "RFC 1889 interarrival jitter with gain 1/16, its last value; times are taken by the program when it reads, out-of-order packets count",
            ),
            Self::Iperf2 => Some(
                "RFC 1889 interarrival jitter with gain 1/16, its last value, in steps of 1 µs; times are taken by the program when it reads",
            ),
            Self::Uring | Self::Mmsg | Self::Afxdp => Some(
                "RFC 3550 interarrival jitter with gain 1/16, its last value; times are taken when a batch has come",
            ),
            Self::Xdp => Some(
                "RFC 3550 interarrival jitter with gain 1/16, its last value; times are taken in the kernel",
            ),
        }
    }
}

impl FromStr for ToolName {
    type Err = Error;

    fn from_str(text: &str) -> Result<Self> {
        Self::ALL.into_iter().find(|tool| tool.name() == text).ok_or_else(|| {
            let names: Vec<_> = Self::ALL.iter().map(|tool| tool.name()).collect();
            Error::usage(format!("tool {text}: there is none of that name"))
                .fix(format!("one of {}", names.join(", ")))
        })
    }
}

impl fmt::Display for ToolName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

/// The same load for every tool.
#[derive(Debug, Clone, PartialEq)]
pub struct Load {
    /// The sender's address.
    pub from: IpAddr,
    /// The receiver's address and the port.
    pub to: SocketAddr,
    /// Packets a second; `None`: as fast as it can.
    pub pps: Option<f64>,
    /// UDP payload.
    pub length: u32,
    /// How long.
    pub duration: Duration,
}

impl Load {
    /// Payload bits a second.
    pub fn bps(&self) -> Option<f64> {
        self.pps.map(|pps| pps * f64::from(self.length) * 8.0)
    }

    /// iperf3's client.
    pub fn iperf3(&self, udp: bool, program: &str) -> iperf3::Client {
        iperf3::Client {
            program: Some(program.to_owned()),
            port: self.to.port(),
            bind: Some(self.from),
            udp,
            bits_per_second: self.bps(),
            // A stream has no datagrams: what TCP is given is cut as it likes.
            length: udp.then_some(self.length),
            duration: self.duration,
            ..iperf3::Client::new(self.to.ip())
        }
    }

    /// iperf 2's client.
    pub fn iperf2(&self, program: &str) -> iperf2::Client {
        iperf2::Client {
            program: Some(program.to_owned()),
            address: self.to.ip(),
            port: self.to.port(),
            bind: Some(self.from),
            pps: self.pps,
            length: self.length,
            duration: self.duration,
            more: Vec::new(),
        }
    }

    /// Words of our own sender.
    pub fn send(&self, backend: ToolName, interface: &str, segments: &str) -> Vec<String> {
        let mut words = vec!["send".to_owned(), format!("udp://{}", self.to)];
        let mut add = |name: &str, value: String| words.extend([name.to_owned(), value]);
        add("--iface", interface.to_owned());
        add("--backend", backend.name().to_owned());
        add("--rate", self.pps.map_or("max".to_owned(), |pps| format!("{pps:.3}pps")));
        add("--length", self.length.to_string());
        add("--duration", format!("{}ns", self.duration.as_nanos()));
        if backend.foreign().is_none() && !backend.attaches_xdp() {
            add("--segments", segments.to_owned());
        }
        // The same witness counts drops for every tool.
        add("--kernel-drops", "off".to_owned());
        words
    }

    /// Words of our own receiver.
    pub fn recv(&self, backend: ToolName, interface: &str, segments: &str) -> Vec<String> {
        let mut words = vec!["recv".to_owned(), format!("udp://{}", self.to)];
        let mut add = |name: &str, value: String| words.extend([name.to_owned(), value]);
        add("--iface", interface.to_owned());
        add("--backend", backend.name().to_owned());
        if !backend.attaches_xdp() {
            add("--segments", segments.to_owned());
        }
        add("--kernel-drops", "off".to_owned());
        words
    }
}

/// What both ends of a tool said of one trial.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Said {
    /// Offered.
    pub offered: Option<Flow>,
    /// Delivered.
    pub delivered: Option<Flow>,
    /// Loss and jitter.
    pub stated: Stated,
    /// What was sent and came, of ours by the numbers in the packets: sent, different ones, copies.
    pub ledger: Option<(u64, u64, u64)>,
    /// How its datapath worked: "gso".
    pub mode: Option<String>,
}

/// By iperf3's client, which has the server's figures, too.
pub fn of_iperf3(client: &iperf3::Iperf3Result, udp: bool) -> Said {
    let flow = |figures: iperf3::Figures, packets: Option<u64>| Flow {
        packets,
        payload_bytes: figures.bytes,
        seconds: figures.seconds,
        payload_bps: figures.bits_per_second,
    };
    let (sent, received) = (client.sent, client.received);
    let came = received.filter(|_| udp).and_then(|figures| {
        let block = client.block_bytes.filter(|bytes| *bytes > 0)?;
        Some(figures.bytes / block)
    });
    let stated = Stated {
        lost: received.and_then(|figures| figures.lost),
        lost_percent: received.and_then(|figures| figures.lost_percent),
        out_of_order: received.and_then(|figures| figures.out_of_order),
        duplicate: None,
        jitter_ns: received.and_then(|figures| figures.jitter_ms).map(|ms| ms * 1e6),
        retransmits: sent.and_then(|figures| figures.retransmits),
    };
    Said {
        offered: sent.map(|figures| flow(figures, figures.packets.filter(|_| udp))),
        delivered: received.map(|figures| flow(figures, came)),
        stated,
        ..Said::default()
    }
}

/// By iperf 2's server, and by what its client says that it sent.
pub fn of_iperf2(server: &iperf2::Row, sent: Option<u64>, load: &Load) -> Said {
    let length = u64::from(load.length);
    let lost = server.lost.unwrap_or(0).max(0).unsigned_abs();
    let came = server.packets.map(|all| all.saturating_sub(lost));
    let seconds = if server.seconds > 0.0 { server.seconds } else { load.duration.as_secs_f64() };
    let flow = |packets: u64, bytes: u64| Flow {
        packets: Some(packets),
        payload_bytes: bytes,
        seconds,
        payload_bps: bytes as f64 * 8.0 / seconds,
    };
    // Its end is a datagram, too; it is small beside the rest.
    let offered = sent.or(server.packets);
    Said {
        offered: offered.map(|packets| flow(packets, packets * length)),
        delivered: came.map(|packets| flow(packets, server.bytes)),
        stated: Stated {
            lost: server.lost,
            lost_percent: server
                .packets
                .filter(|all| *all > 0)
                .zip(server.lost)
                .map(|(all, lost)| 100.0 * lost as f64 / all as f64),
            out_of_order: server.out_of_order,
            jitter_ns: server.jitter_ms.map(|ms| ms * 1e6),
            ..Stated::default()
        },
        ..Said::default()
    }
}

/// By the reports of our own sender and receiver.
pub fn of_ours(send: &Value, recv: &Value) -> Said {
    let flow = |part: &Value| {
        let number = |key: &str| part[key].as_u64();
        Some(Flow {
            packets: number("packets"),
            payload_bytes: number("payload_bytes")?,
            seconds: number("duration_ns")? as f64 / 1e9,
            payload_bps: number("payload_bps")? as f64,
        })
    };
    let (tx, rx) = (&send["tx"], &recv["rx"]);
    let number = |key: &str| rx[key].as_u64();
    let lost = number("lost").zip(number("lost_tail")).map(|(gaps, tail)| gaps + tail);
    let all = lost.zip(number("unique")).map(|(lost, unique)| lost + unique);
    let stated = Stated {
        lost: lost.and_then(|lost| i64::try_from(lost).ok()),
        lost_percent: lost.zip(all).and_then(|(lost, all)| super::proof::percent(lost, all)),
        out_of_order: number("reordered"),
        duplicate: number("duplicate"),
        jitter_ns: rx["jitter_ns"]["rfc3550"].as_f64(),
        retransmits: None,
    };
    let sent = tx["packets"].as_u64();
    Said {
        offered: flow(tx),
        delivered: flow(rx),
        stated,
        ledger: sent
            .zip(number("unique"))
            .map(|(sent, unique)| (sent, unique, number("duplicate").unwrap_or(0))),
        mode: send["backend"]["mode"].as_str().map(str::to_owned),
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn load() -> Load {
        Load {
            from: "192.0.2.1".parse().unwrap(),
            to: "192.0.2.2:5201".parse().unwrap(),
            pps: Some(1000.0),
            length: 1000,
            duration: Duration::from_secs(2),
        }
    }

    #[test]
    fn names() {
        for tool in ToolName::ALL {
            assert_eq!(tool.name().parse::<ToolName>().unwrap(), tool);
        }
        assert!("hping".parse::<ToolName>().unwrap_err().to_string().contains("iperf3-tcp"));
    }

    #[test]
    fn the_same_load_for_all() {
        assert_eq!(
            load().iperf3(true, "iperf3").arguments().join(" "),
            "-c 192.0.2.2 -J -p 5201 -t 2 -b 8000000 -B 192.0.2.1 -l 1000 -u"
        );
        assert_eq!(
            load().iperf3(false, "iperf3").arguments().join(" "),
            "-c 192.0.2.2 -J -p 5201 -t 2 -b 8000000 -B 192.0.2.1"
        );
        assert!(
            load().iperf2("iperf").arguments().join(" ").contains("-b 1000pps -l 1000 -t 2.00 -B 192.0.2.1")
        );
        assert_eq!(
            load().send(ToolName::Uring, "wr0", "auto").join(" "),
            "send udp://192.0.2.2:5201 --iface wr0 --backend uring --rate 1000.000pps --length 1000 --duration 2000000000ns --segments auto --kernel-drops off"
        );
    }

    #[test]
    fn what_iperf2_says() {
        let row = iperf2::Row {
            seconds: 1.0,
            bytes: 990_000,
            bits_per_second: 7.92e6,
            jitter_ms: Some(0.5),
            lost: Some(10),
            packets: Some(1000),
            out_of_order: Some(2),
        };
        let said = of_iperf2(&row, Some(1003), &load());
        assert_eq!((said.offered.unwrap().packets, said.delivered.unwrap().packets), (Some(1003), Some(990)));
        assert_eq!((said.stated.lost, said.stated.lost_percent), (Some(10), Some(1.0)));
    }

    #[test]
    fn what_ours_say() {
        let send = json!({"backend": {"mode": "gso"}, "tx": {"packets": 100, "payload_bytes": 1000, "duration_ns": 1_000_000_000, "payload_bps": 8000}});
        let recv = json!({"rx": {"packets": 95, "unique": 90, "duplicate": 5, "reordered": 1, "lost": 6, "lost_tail": 4, "payload_bytes": 950,
            "duration_ns": 1_000_000_000, "payload_bps": 7600, "jitter_ns": {"rfc3550": 7}}});
        let said = of_ours(&send, &recv);
        assert_eq!((said.ledger, said.mode.as_deref()), (Some((100, 90, 5)), Some("gso")));
        assert_eq!((said.stated.lost, said.stated.lost_percent), (Some(10), Some(10.0)));
        assert_eq!(of_ours(&json!({}), &json!({})).offered, None);
    }
}
