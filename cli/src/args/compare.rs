//! What a user may type behind `wirerate compare`.

use std::path::PathBuf;
use std::time::Duration;

use clap::Args;
use wirerate_engine::method::compare::tools::ToolName;
use wirerate_engine::method::ports::Place;
use wirerate_engine::profile::rate::Rate;
use wirerate_engine::profile::segments::Segments;

use super::{parse_percent, parse_time};

/// `wirerate compare`.
#[derive(Debug, Args)]
pub struct Compare {
    /// Where packets are sent: IF, an interface here, or IF@COMMAND, an interface where COMMAND starts an agent:
    /// 'wr0@ip netns exec a wirerate agent', 'eth1@ssh host2 wirerate agent'
    #[arg(long, value_name = "PLACE")]
    pub from: Place,

    /// Where they arrive; as --from. Its address has to be reachable from --from
    #[arg(long, value_name = "PLACE")]
    pub to: Place,

    /// Tools, with commas: iperf3-tcp, iperf3-udp, iperf2, uring, mmsg, afxdp, xdp [default: all 7 that are installed and permitted at both ends; the
    /// others are named with the reason]
    #[arg(long, value_name = "LIST", value_delimiter = ',')]
    pub tools: Vec<ToolName>,

    /// The same rate for all: 100M (payload), 1GL1, 50Kpps, 50% or max [default: --baseline's, else 100M]
    #[arg(long, value_name = "RATE")]
    pub rate: Option<Rate>,

    /// UDP payload of each packet in bytes, 18 to 65507; TCP cuts its stream as it likes [default: --baseline's, else 1400]
    #[arg(long, value_name = "SIZE", conflicts_with = "frame_size", value_parser = clap::value_parser!(u32).range(18..=65_507))]
    pub length: Option<u32>,

    /// Frame size with FCS in bytes, 64 to 9216, instead of --length
    #[arg(long, value_name = "SIZE", value_parser = clap::value_parser!(u32).range(64..=9216))]
    pub frame_size: Option<u32>,

    /// Time of each trial, in whole seconds, which is what iperf3 knows: 5s
    #[arg(long, value_name = "TIME", default_value = "5s", value_parser = parse_time)]
    pub duration: Duration,

    /// Rounds in which every tool has its turn, odd ones forwards and even ones backwards, 1 to 1000. With one the noise is not known
    #[arg(long, value_name = "N", default_value_t = 3, value_parser = clap::value_parser!(u32).range(1..=1000))]
    pub rounds: u32,

    /// The port that all tools use at --to, TCP and UDP, 1 to 65535
    #[arg(long, value_name = "N", default_value_t = 5201, value_parser = clap::value_parser!(u16).range(1..))]
    pub port: u16,

    /// Use IPv6 instead of IPv4
    #[arg(short = '6', long)]
    pub ipv6: bool,

    /// Datagrams in one buffer of uring and mmsg, by UDP segmentation offload: auto, off, or at most N, 1 to 128
    #[arg(long, value_name = "auto|N|off", default_value = "auto")]
    pub segments: Segments,

    /// iperf3 at both ends [default: the one in PATH]
    #[arg(long, value_name = "FILE")]
    pub iperf3: Option<String>,

    /// iperf 2 at both ends [default: the one in PATH]
    #[arg(long, value_name = "FILE")]
    pub iperf2: Option<String>,

    /// An earlier result to set this one beside: of iperf3 -J (or --json-stream), wirerate compare --json, wirerate recv --json
    #[arg(long, value_name = "FILE")]
    pub baseline: Option<PathBuf>,

    /// Exit with 3 when something delivered or lost is worse than in --baseline by more than this, beyond the noise of the rounds; with 5 when that cannot be
    /// told: 5%. Of a loss it is percentage points
    #[arg(long, value_name = "PERCENT", requires = "baseline", value_parser = parse_percent)]
    pub expect_not_worse: Option<f64>,

    /// How long an agent may take to start and to answer, such as 15s
    #[arg(long, value_name = "TIME", default_value = "15s", value_parser = parse_time)]
    pub agent_timeout: Duration,

    #[command(flatten)]
    pub results: super::results::Results,
}
