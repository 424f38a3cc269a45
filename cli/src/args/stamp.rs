//! What a user may type after `stamp` and `reflect`.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, ToSocketAddrs};
use std::path::PathBuf;
use std::time::Duration;

use clap::{Args, ValueEnum};
use wirerate_engine::packet::stamp::PORT;
use wirerate_engine::stamp::sender::{MAX_COUNT, MAX_LENGTH, MAX_PPS, MAX_TIMEOUT};

use super::{parse_dscp, parse_interval, parse_percent, parse_time};

#[derive(Debug, Args)]
pub struct Stamp {
    /// The session-reflector: HOST or HOST:PORT, an address (IPv6 with a port in brackets) or a name
    #[arg(value_name = "HOST[:PORT]")]
    pub target: String,

    /// UDP port of the reflector, 1 to 65535, where HOST names none
    #[arg(long, value_name = "N", default_value_t = PORT, value_parser = clap::value_parser!(u16).range(1..))]
    pub port: u16,

    /// End after N packets, 1 to 4294967295
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u64).range(1..=MAX_COUNT))]
    pub count: Option<u64>,

    /// End after this time, up to a year: 10s, 500ms, 2m. Without it and --count: 10s
    #[arg(long, value_name = "TIME", value_parser = parse_time)]
    pub duration: Option<Duration>,

    /// Packets a second, evenly spaced and whatever the answers do: 10pps or 10, from 0.001 to 10000
    #[arg(long, value_name = "PPS", default_value = "10pps", value_parser = parse_pps)]
    pub rate: f64,

    /// UDP payload in bytes: 44, or 48 to 65507, the rest in an Extra Padding TLV (RFC 8972); packets are not cut by the MTU
    #[arg(long, value_name = "N", default_value_t = 44, value_parser = parse_length)]
    pub length: u16,

    /// DSCP: 0 to 63, or a name: EF, AF41, CS5. Our reflector answers with the same
    #[arg(long, value_name = "DSCP", default_value = "0", value_parser = parse_dscp)]
    pub dscp: u8,

    /// Who takes our times, T1 and T4: the kernel, where packets pass between it and the driver (or the NIC, where that stamps them), or this program
    #[arg(long, value_enum, default_value_t = Timestamps::Kernel)]
    pub timestamps: Timestamps,

    /// How times are written in packets: NTP (UTC), or PTPv2 truncated (TAI)
    #[arg(long, value_enum, default_value_t = Format::Ntp)]
    pub format: Format,

    /// How long an answer is waited for, up to 60s; what comes later is late, and its round trip is not measured
    #[arg(long, value_name = "TIME", default_value = "2s", value_parser = parse_timeout)]
    pub timeout: Duration,

    /// Whether the reflector counts its answers (stateful), so that loss there and back is told apart. auto sees it by the first packet that is
    /// lost on the way there
    #[arg(long, value_enum, default_value_t = Numbering::Auto)]
    pub reflector: Numbering,

    /// Check: succeed only if fewer than this percentage of packets were lost or late: 0.01%, 0 (none)
    #[arg(long, value_name = "PERCENT", value_parser = parse_percent)]
    pub expect_loss_below: Option<f64>,

    #[command(flatten)]
    pub output: Results,
}

#[derive(Debug, Args)]
pub struct Reflect {
    /// Where to listen: ADDR, ADDR:PORT or :PORT; IPv6 with a port in brackets. Default: port 862 of all addresses
    #[arg(value_name = "ADDR[:PORT]", value_parser = parse_listen)]
    pub addresses: Vec<Listen>,

    /// UDP port, 1 to 65535, where an address names none; below 1024 needs privileges
    #[arg(long, value_name = "N", default_value_t = PORT, value_parser = clap::value_parser!(u16).range(1..))]
    pub port: u16,

    /// Count the answers of each session, so that senders tell loss there and back apart: up to 4096 sessions, each until 15 minutes of
    /// silence (the default)
    #[arg(long)]
    pub stateful: bool,

    /// Repeat the sender's numbers and remember nothing
    #[arg(long, conflicts_with = "stateful")]
    pub stateless: bool,

    /// Who takes T2, the time at which a packet came: the kernel or this program. T3 is always this program's, just before it answers
    #[arg(long, value_enum, default_value_t = Timestamps::Kernel)]
    pub timestamps: Timestamps,

    /// How times are written in answers: NTP (UTC), or PTPv2 truncated (TAI)
    #[arg(long, value_enum, default_value_t = Format::Ntp)]
    pub format: Format,

    /// Answer at most N packets a second, all senders together, 1 to 1000000
    #[arg(long, value_name = "N", default_value_t = 100_000, value_parser = clap::value_parser!(u32).range(1..=1_000_000))]
    pub max_pps: u32,

    /// Answer packets of 14 to 40 bytes, too (TWAMP Light), with 44: up to three times what came
    #[arg(long)]
    pub answer_short: bool,

    /// End after this time: 10s, 5m. Default: at Ctrl-C
    #[arg(long, value_name = "TIME", value_parser = parse_time)]
    pub duration: Option<Duration>,

    /// Write one byte to this file descriptor, 1 or higher, when bound
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(i32).range(1..))]
    pub ready_fd: Option<i32>,

    #[command(flatten)]
    pub output: Results,
}

/// How results are given.
#[derive(Debug, Args)]
pub struct Results {
    /// Time between interim results: 1s, 500ms. At least 100ms
    #[arg(long, value_name = "TIME", default_value = "1s", value_parser = parse_interval)]
    pub interval: Duration,

    /// Print the report as one JSON object
    #[arg(long, conflicts_with = "json_lines")]
    pub json: bool,

    /// Print a JSON object a line: ready, interval, warning and report events
    #[arg(long)]
    pub json_lines: bool,

    /// Write the result to this file instead of standard output
    #[arg(long, value_name = "FILE")]
    pub output: Option<PathBuf>,

    /// No progress on standard error
    #[arg(short, long)]
    pub quiet: bool,

    #[command(flatten)]
    pub web: super::report::Web,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum Timestamps {
    Kernel,
    User,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum Format {
    Ntp,
    Ptp,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum Numbering {
    Auto,
    Stateful,
    Stateless,
}

/// An address to listen on: all without one, the usual port without one.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Listen {
    address: Option<IpAddr>,
    port: Option<u16>,
}

impl Listen {
    /// Without an address there are two: of IPv4 and IPv6.
    pub fn sockets(self, port: u16) -> Vec<SocketAddr> {
        let port = self.port.unwrap_or(port);
        let all = [Ipv4Addr::UNSPECIFIED.into(), Ipv6Addr::UNSPECIFIED.into()];
        let addresses = self.address.map_or(all.to_vec(), |address| vec![address]);
        addresses.into_iter().map(|address| SocketAddr::new(address, port)).collect()
    }

    /// Port 862, or `port`, of all addresses.
    pub fn everywhere() -> Self {
        Self { address: None, port: None }
    }
}

/// The address of a host that may be a name, and may have a port.
pub fn resolve(text: &str, port: u16) -> Result<SocketAddr, String> {
    if let Ok(address) = text.parse::<SocketAddr>() {
        return if address.port() > 0 { Ok(address) } else { Err("ports go from 1 to 65535".to_owned()) };
    }
    let bare = text.strip_prefix('[').and_then(|t| t.strip_suffix(']')).unwrap_or(text);
    if let Ok(address) = bare.parse::<IpAddr>() {
        return Ok(SocketAddr::new(address, port));
    }
    // With a zone: only socket addresses are read with one.
    if let Ok(address) = format!("[{bare}]:{port}").parse::<SocketAddr>() {
        return Ok(address);
    }
    let (name, port) = match text.rsplit_once(':') {
        None => (text, port),
        Some((name, digits)) => match digits.parse() {
            Ok(port @ 1..) => (name, port),
            _ => return Err(format!("{digits:?} is no port from 1 to 65535")),
        },
    };
    let mut found = (name, port).to_socket_addrs().map_err(|e| e.to_string())?;
    found.next().ok_or_else(|| "no address".to_owned())
}

fn parse_listen(text: &str) -> Result<Listen, String> {
    let port = |digits: &str| digits.parse().ok().filter(|&p: &u16| p > 0);
    if let Some(digits) = text.strip_prefix(':').filter(|d| !d.starts_with(':')) {
        let port = port(digits).ok_or("ports go from 1 to 65535")?;
        return Ok(Listen { address: None, port: Some(port) });
    }
    if let Ok(address) = text.parse::<SocketAddr>() {
        let port = Some(address.port()).filter(|&p| p > 0).ok_or("ports go from 1 to 65535")?;
        return Ok(Listen { address: Some(address.ip()), port: Some(port) });
    }
    let bare = text.strip_prefix('[').and_then(|t| t.strip_suffix(']')).unwrap_or(text);
    match bare.parse() {
        Ok(address) => Ok(Listen { address: Some(address), port: None }),
        Err(_) => {
            Err("an address of this host is needed, as 192.0.2.1, [2001:db8::1]:862 or :862".to_owned())
        }
    }
}

fn parse_pps(text: &str) -> Result<f64, String> {
    let number = text.strip_suffix("pps").unwrap_or(text).trim();
    match number.parse::<f64>() {
        Ok(pps) if (0.001..=MAX_PPS).contains(&pps) => Ok(pps),
        _ => Err("a rate from 0.001pps to 10000pps is needed".to_owned()),
    }
}

fn parse_length(text: &str) -> Result<u16, String> {
    match text.parse() {
        Ok(length) if length == 44 || (48..=MAX_LENGTH).contains(&length) => Ok(length),
        _ => Err("a STAMP packet has 44 bytes, or 48 to 65507: a TLV takes at least 4".to_owned()),
    }
}

fn parse_timeout(text: &str) -> Result<Duration, String> {
    let time = parse_time(text)?;
    if time > MAX_TIMEOUT { Err("at most 60s".to_owned()) } else { Ok(time) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn hosts_and_ports() {
        for (text, address) in [
            ("192.0.2.1", "192.0.2.1:862"),
            ("192.0.2.1:5000", "192.0.2.1:5000"),
            ("2001:db8::1", "[2001:db8::1]:862"),
            ("[2001:db8::1]", "[2001:db8::1]:862"),
            ("[2001:db8::1]:5000", "[2001:db8::1]:5000"),
            ("fe80::1%3", "[fe80::1%3]:862"),
        ] {
            assert_eq!(resolve(text, 862), Ok(address.parse().unwrap()), "{text}");
        }
        assert_eq!(resolve("localhost:7", 862).unwrap().port(), 7);
        for text in ["192.0.2.1:0", "192.0.2.1:x", "", "no such name"] {
            assert!(resolve(text, 862).is_err(), "{text}");
        }
    }

    #[test]
    fn where_to_listen() {
        let sockets = |text: &str| {
            parse_listen(text)
                .map(|l| l.sockets(862).iter().map(ToString::to_string).collect::<Vec<_>>().join(" "))
        };
        for (text, addresses) in [
            (":5000", "0.0.0.0:5000 [::]:5000"),
            ("192.0.2.1", "192.0.2.1:862"),
            ("::1", "[::1]:862"),
            ("::", "[::]:862"),
            ("[::1]:5000", "[::1]:5000"),
        ] {
            assert_eq!(sockets(text).as_deref(), Ok(addresses), "{text}");
        }
        for text in [":0", ":", "x", "192.0.2.1:0", "192.0.2.1:70000"] {
            assert!(sockets(text).is_err(), "{text}");
        }
    }

    #[test]
    fn rates_and_lengths() {
        assert_eq!((parse_pps("10pps"), parse_pps("0.5")), (Ok(10.0), Ok(0.5)));
        assert_eq!((parse_length("44"), parse_length("48")), (Ok(44), Ok(48)));
        for text in ["0", "nan", "inf", "-1", "20000", "x"] {
            assert!(parse_pps(text).is_err(), "{text}");
        }
        for text in ["43", "45", "47", "65508", "x"] {
            assert!(parse_length(text).is_err(), "{text}");
        }
    }
}
