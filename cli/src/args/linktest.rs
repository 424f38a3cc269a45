//! What a user may type behind `wirerate linktest`.

use std::net::{SocketAddr, ToSocketAddrs};
use std::path::PathBuf;
use std::time::Duration;

use clap::Args;
use wirerate_engine::host::health::Speed;

use super::stamp::Results;
use super::{Backend, parse_time};

/// Counters before, traffic, counters after. Without --tcp, --udp, --multicast and --ptp it sends nothing and compares the counters around --duration: the traffic is whatever runs meanwhile.
#[derive(Debug, Args)]
#[command(after_help = EXIT_STATUS)]
pub struct Linktest {
    /// Interface under test. Without it: the first that may have a cable (none of lo, docker*, wl*, virbr*, veth*, bridges, tunnels), or the one that the route to --tcp or --udp leads to
    #[arg(long, value_name = "IF", visible_alias = "interface")]
    pub iface: Option<String>,

    /// How long each kind of traffic lasts: 60s, 2m, 24h
    #[arg(long, value_name = "TIME", default_value = "60s", value_parser = parse_time)]
    pub duration: Duration,

    /// TCP to an iperf3 server, by a real iperf3 from this machine: HOST or HOST:PORT. With --far the server is started there
    #[arg(long, value_name = "HOST[:PORT]", visible_aliases = ["remote-server", "remote_server"])]
    pub tcp: Option<String>,

    /// Port of the iperf3 server, 1 to 65535, where --tcp names none
    #[arg(long, value_name = "N", default_value_t = 5201, value_parser = clap::value_parser!(u16).range(1..))]
    pub port: u16,

    /// Streams of TCP, 1 to 128
    #[arg(long, value_name = "N", default_value_t = 1, value_parser = clap::value_parser!(u32).range(1..=128))]
    pub parallel: u32,

    /// The iperf3 to run. Default: the one in PATH
    #[arg(long, value_name = "PROGRAM")]
    pub iperf3: Option<String>,

    /// UDP to this address and port, where `wirerate recv` listens, or with --far the agent there
    #[arg(long, value_name = "HOST:PORT")]
    pub udp: Option<String>,

    /// UDP to this group and port: 239.1.2.3:5001. With --far the agent there joins and counts
    #[arg(long, value_name = "GROUP:PORT")]
    pub multicast: Option<SocketAddr>,

    /// PTP's group 224.0.1.129 and ports 319 and 320: who is heard there; messages of a domain that no clock uses are sent there, and with --far counted at the other end
    #[arg(long)]
    pub ptp: bool,

    /// Traffic goes from the far end to here (--tcp: iperf3 -R; --udp and --multicast need --far)
    #[arg(long)]
    pub reverse: bool,

    /// Offered load of --udp and --multicast, as of `wirerate send`: 9G, 95%, 1Mpps, max. Default: 90% of what --calibrate found, or of the link's speed; 1G where that is not known
    #[arg(long, value_name = "RATE")]
    pub rate: Option<String>,

    /// UDP payload in bytes, 18 to 65507 [default: 1400]
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u32).range(18..=65_507))]
    pub length: Option<u32>,

    /// Datapath of --udp and --multicast at both ends. Default: sockets (mmsg); afxdp and xdp attach a program, which takes the link down for a moment with some drivers, and is told so
    #[arg(long, value_enum)]
    pub backend: Option<Backend>,

    /// The command that starts an agent at the other end: 'ssh host2 wirerate agent', 'ip netns exec b wirerate agent'. Its interface's counters are compared, too
    #[arg(long, value_name = "COMMAND")]
    pub far: Option<String>,

    /// Interface at the other end. Default: the one in a network of --iface
    #[arg(long, value_name = "IF", requires = "far")]
    pub far_iface: Option<String>,

    /// First find out what the link does each way, for this time each, 5s unless another is given: by --tcp, or with --far by UDP as fast as it goes. Counters are read afterwards
    #[arg(long, value_name = "TIME", num_args = 0..=1, default_missing_value = "5s", require_equals = true, value_parser = parse_time)]
    pub calibrate: Option<Duration>,

    /// How long drivers get to bring their counters up to date, up to a year. Default: 2s, and 200ms where there is no device
    #[arg(long, value_name = "TIME", value_parser = parse_time)]
    pub settle: Option<Duration>,

    /// Let a counter move by up to N: rx_dropped=10; * stands for any text. May be given several times
    #[arg(long, value_name = "COUNTER=N", value_parser = parse_allowance)]
    pub allow: Vec<(String, u64)>,

    /// Speed that the link has to have: 10G, 2.5G, 100M
    #[arg(long, value_name = "SPEED", value_parser = parse_speed)]
    pub expect_speed: Option<Speed>,

    /// What else is expected, and what each finding means, as a JSON object: docs/linktest.md
    #[arg(long, value_name = "FILE")]
    pub limits: Option<PathBuf>,

    /// Tell every counter that moved, with those of no fault
    #[arg(short, long)]
    pub verbose: bool,

    #[command(flatten)]
    pub output: Results,
}

const EXIT_STATUS: &str = "Exit status: 0 no counter of errors moved, 100 one did, or the link changed or is not as expected, at either end; \
1 it failed while running, 2 wrong arguments, 4 this machine or user cannot run it, 5 inconclusive (traffic broke off, or none of it arrived).";

fn parse_allowance(text: &str) -> Result<(String, u64), String> {
    let parsed = text.rsplit_once('=').and_then(|(name, by)| Some((name.to_owned(), by.parse().ok()?)));
    parsed.filter(|(name, _)| !name.is_empty()).ok_or_else(|| "write it as rx_dropped=10".to_owned())
}

fn parse_speed(text: &str) -> Result<Speed, String> {
    text.parse().map_err(|e: wirerate_engine::Error| e.fix.unwrap_or(e.what))
}

/// An address and a port: HOST:PORT, or HOST where there is a `port`; HOST is an address, IPv6 with a port in brackets, or a name.
pub fn resolve(text: &str, port: Option<u16>) -> Result<SocketAddr, String> {
    if let Ok(address) = text.parse() {
        return Ok(address);
    }
    let bare = text.trim_start_matches('[').trim_end_matches(']');
    if let Ok(ip) = bare.parse() {
        return port.map(|port| SocketAddr::new(ip, port)).ok_or_else(|| "the port is missing".to_owned());
    }
    let (host, port) = match (text.rsplit_once(':'), port) {
        (Some((host, port)), _) => (host, port.parse().map_err(|_| format!("{port:?} is no port"))?),
        (None, Some(port)) => (text, port),
        (None, None) => return Err("the port is missing".to_owned()),
    };
    let mut found = (host, port).to_socket_addrs().map_err(|e| e.to_string())?;
    found.next().ok_or_else(|| "no address is known for it".to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn hosts_and_ports() {
        for (text, port, address) in [
            ("192.0.2.1", Some(5201), Some("192.0.2.1:5201")),
            ("192.0.2.1:9", Some(5201), Some("192.0.2.1:9")),
            ("fd99::1", Some(5201), Some("[fd99::1]:5201")),
            ("[fd99::1]", Some(5201), Some("[fd99::1]:5201")),
            ("[fd99::1]:9", None, Some("[fd99::1]:9")),
            ("192.0.2.1", None, None),
            ("host:x", None, None),
            ("", None, None),
        ] {
            let resolved = resolve(text, port);
            assert_eq!(resolved.ok().map(|a| a.to_string()).as_deref(), address, "{text}");
        }
    }

    #[test]
    fn allowances() {
        assert_eq!(parse_allowance("rx_dropped=10"), Ok(("rx_dropped".to_owned(), 10)));
        assert_eq!(parse_allowance("[0]: rx_discards=1"), Ok(("[0]: rx_discards".to_owned(), 1)));
        for text in ["", "=1", "x", "x=", "x=-1", "x=y"] {
            assert!(parse_allowance(text).is_err(), "{text}");
        }
    }
}
