//! The arguments of `wirerate replicator`.

use std::time::Duration;

use clap::{Args, ValueEnum};

use super::parse_time;
use super::stamp::Results;

#[derive(Debug, Args)]
pub struct Replicator {
    /// Interfaces that groups arrive on
    #[arg(long, value_name = "IF,…", value_delimiter = ',', required = true)]
    pub from: Vec<String>,

    /// Interfaces that members are behind
    #[arg(long, value_name = "IF,…", value_delimiter = ',', required = true)]
    pub to: Vec<String>,

    /// What makes the copies: xdp (a program in the kernel; a veth in --to needs GRO or a native XDP program at its other end), afxdp (AF_XDP sockets; one
    /// interface of one queue in --from), socket (packet sockets, which pass buffers of several segments on as they are)
    #[arg(long, value_enum, default_value_t = By::Xdp)]
    pub by: By,

    /// Do not ask who is a member: there is a querier behind every interface of --to. Without any, memberships end after twice --query-interval
    #[arg(long)]
    pub no_querier: bool,

    /// Time between general queries, 1s to 8h: 125s, 20s
    #[arg(long, value_name = "TIME", default_value = "125s", value_parser = parse_query_interval)]
    pub query_interval: Duration,

    /// Groups that there is room for, 1 to 65536; reports of further ones are counted, and ignored
    #[arg(long, value_name = "N", default_value_t = 4096, value_parser = clap::value_parser!(u32).range(1..=65536))]
    pub most_groups: u32,

    /// End after this time, up to a year: 10s, 2m. Default: when interrupted (Ctrl-C)
    #[arg(long, value_name = "TIME", value_parser = parse_time)]
    pub duration: Option<Duration>,

    #[command(flatten)]
    pub output: Results,

    /// Write one byte to this file descriptor, 1 or higher, once groups are copied
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(i32).range(1..))]
    pub ready_fd: Option<i32>,
}

/// What makes the copies.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum By {
    /// An XDP program
    Xdp,
    /// AF_XDP sockets
    Afxdp,
    /// Packet sockets
    Socket,
}

fn parse_query_interval(text: &str) -> Result<Duration, String> {
    let time = parse_time(text)?;
    // The field of a query has no more (RFC 9776 §4.1.7).
    let most = Duration::from_secs(31_744);
    if (Duration::from_secs(1)..=most).contains(&time) {
        Ok(time)
    } else {
        Err("1s to 8h (31744s)".to_owned())
    }
}
