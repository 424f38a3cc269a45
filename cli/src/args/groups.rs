//! What a user may type after `groups`.

use std::net::IpAddr;
use std::path::PathBuf;
use std::time::Duration;

use clap::{Args, ValueEnum};
use wirerate_engine::target::Target;

use super::parse_time;

/// The highest rate of joins.
const MAX_RATE: f64 = 1e6;

#[derive(Debug, Args)]
pub struct Groups {
    /// Interface, by name. Default: all of this network namespace; --join and --querier need one
    #[arg(long, value_name = "IF")]
    pub iface: Option<String>,

    /// Listen to IGMP and MLD, in both directions, and show who joins what as it happens, and at the end every group with its members; needs
    /// CAP_NET_RAW
    #[arg(long)]
    pub watch: bool,

    /// The same from a capture: a pcap or pcapng file
    #[arg(long, value_name = "FILE", conflicts_with_all = ["watch", "iface", "duration", "ready_fd"])]
    pub pcap: Option<PathBuf>,

    /// Be a member of this group until Ctrl-C or --duration: GROUP or SOURCE@GROUP, a port is ignored. The kernel joins, so that its limits hold
    /// (net.ipv4.igmp_max_memberships a socket: more sockets are opened); traffic comes to the interface, and nobody reads it
    #[arg(long, value_name = "TARGET", value_parser = parse_group, requires = "iface", conflicts_with_all = ["watch", "pcap"])]
    pub join: Option<Target>,

    /// With --join: consecutive groups, starting with the target's, 1 to 1000000
    #[arg(long, value_name = "N", default_value_t = 1, requires = "join", value_parser = clap::value_parser!(u32).range(1..=1_000_000))]
    pub groups: u32,

    /// With --join: these sources only, 192.0.2.1,192.0.2.2; or SOURCE@ for one
    #[arg(long, value_name = "LIST", value_delimiter = ',', requires = "join", conflicts_with = "exclude")]
    pub include: Vec<IpAddr>,

    /// With --join: all sources but these: 192.0.2.1,192.0.2.2
    #[arg(long, value_name = "LIST", value_delimiter = ',', requires = "join")]
    pub exclude: Vec<IpAddr>,

    /// With --join: joins a second, and leaves after --duration, 0.001 to 1000000. Default, and leaves after Ctrl-C: all at once
    #[arg(long, value_name = "N", requires = "join", value_parser = parse_rate)]
    pub rate: Option<f64>,

    /// With --join: write the reports ourselves, past the kernel and its limits: thousands of groups in few packets, refreshed by answers to queries.
    /// For switches and routers under test; this host's own sockets receive nothing by it. Needs CAP_NET_RAW
    #[arg(long, requires = "join")]
    pub emit: bool,

    /// Be the querier of a link that has none, so that switches with snooping learn and keep members: asks by IGMP, and by MLD where the interface
    /// has a link-local address, and falls silent while somebody with a lower address asks. This host's own kernel is not asked. Needs CAP_NET_RAW
    #[arg(long, requires = "iface", conflicts_with_all = ["watch", "pcap"])]
    pub querier: bool,

    /// With --querier: time between general queries, in whole seconds, 1s to 31744s
    #[arg(long, value_name = "TIME", default_value = "125s", requires = "querier", value_parser = parse_query_interval)]
    pub query_interval: Duration,

    /// With --querier: time that members have to answer a general query, 100ms to 25s, less than the interval. [default: 10s, or half of the interval]
    #[arg(long, value_name = "TIME", requires = "querier", value_parser = parse_response)]
    pub response_time: Option<Duration>,

    /// With --querier: how often a message may be lost, 1 to 7; a silent member is believed for this many intervals and the time to answer
    #[arg(long, value_name = "N", default_value_t = 2, requires = "querier", value_parser = clap::value_parser!(u8).range(1..=7))]
    pub robustness: u8,

    /// Speak this version, with --join whatever the querier speaks (the kernel is made to by force_igmp_version or force_mld_version, which is set back
    /// at the end and holds for every member on the interface), with --querier as the only one. Default: the newest, and members follow the oldest querier
    #[arg(long, value_enum, value_name = "VERSION")]
    pub speak: Option<Speak>,

    /// End after this time, up to a year: 10s, 5m. Default: at Ctrl-C
    #[arg(long, value_name = "TIME", value_parser = parse_time)]
    pub duration: Option<Duration>,

    /// Write one byte to this file descriptor, 1 or higher, when listening, and with --join joined
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(i32).range(1..))]
    pub ready_fd: Option<i32>,

    /// Print the report as one JSON object
    #[arg(long, conflicts_with = "json_lines")]
    pub json: bool,

    /// Print a JSON object a line: ready, message, warning and report events
    #[arg(long)]
    pub json_lines: bool,

    /// Write the result to this file instead of standard output
    #[arg(long, value_name = "FILE")]
    pub output: Option<PathBuf>,

    /// Only the result: no messages as they come
    #[arg(short, long)]
    pub quiet: bool,
}

/// A version, as it is typed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum Speak {
    Igmpv1,
    Igmpv2,
    Igmpv3,
    Mldv1,
    Mldv2,
}

/// A target without a port, too.
fn parse_group(text: &str) -> Result<Target, String> {
    let (source, group) = text.rsplit_once('@').map_or((None, text), |(source, group)| (Some(source), group));
    let bare = group.strip_prefix('[').and_then(|group| group.strip_suffix(']')).unwrap_or(group);
    let whole = match (bare.parse::<IpAddr>(), source) {
        (Ok(IpAddr::V6(group)), Some(source)) => format!("{source}@[{group}]:1"),
        (Ok(IpAddr::V4(group)), Some(source)) => format!("{source}@{group}:1"),
        (Ok(IpAddr::V6(group)), None) => format!("[{group}]:1"),
        (Ok(IpAddr::V4(group)), None) => format!("{group}:1"),
        (Err(_), _) => text.to_owned(),
    };
    let target: Target = whole.parse().map_err(|error: wirerate_engine::Error| error.to_string())?;
    if target.is_group() {
        return Ok(target);
    }
    Err(format!(
        "{} is not a multicast group: use one, such as 239.1.2.3 or ff15::1",
        target.destination.ip()
    ))
}

fn parse_rate(text: &str) -> Result<f64, String> {
    match text.parse::<f64>() {
        Ok(rate) if (0.001..=MAX_RATE).contains(&rate) => Ok(rate),
        _ => Err("a number a second from 0.001 to 1000000 is needed".to_owned()),
    }
}

fn parse_query_interval(text: &str) -> Result<Duration, String> {
    let time = parse_time(text)?;
    if time.subsec_nanos() == 0 && (1..=31_744).contains(&time.as_secs()) {
        return Ok(time);
    }
    Err("whole seconds from 1s to 31744s are needed".to_owned())
}

fn parse_response(text: &str) -> Result<Duration, String> {
    let time = parse_time(text)?;
    if (Duration::from_millis(100)..=Duration::from_secs(25)).contains(&time) {
        return Ok(time);
    }
    Err("a time from 100ms to 25s is needed".to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn groups_need_no_port() {
        for (text, shown) in [
            ("239.1.2.3", "udp://239.1.2.3:1"),
            ("239.1.2.3:5001", "udp://239.1.2.3:5001"),
            ("ff15::1", "udp://[ff15::1]:1"),
            ("[ff15::1]", "udp://[ff15::1]:1"),
            ("192.0.2.1@232.1.1.1", "udp://192.0.2.1@232.1.1.1:1"),
            ("2001:db8::1@ff3e::1", "udp://[2001:db8::1]@[ff3e::1]:1"),
        ] {
            assert_eq!(parse_group(text).unwrap().to_string(), shown);
        }
        for text in ["10.0.0.1", "239.1.2.3.4", "", "@", "x@239.1.1.1"] {
            parse_group(text).unwrap_err();
        }
    }
}
