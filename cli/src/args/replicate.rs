//! What a user may type behind `wirerate replicate`.

use std::time::Duration;

use clap::{Args, ValueEnum};
use wirerate_engine::lab::device::Kind;
use wirerate_engine::method::ports::Place;
use wirerate_engine::method::rfc3918::Test;
use wirerate_engine::profile::rate::Rate;
use wirerate_engine::profile::segments::Segments;
use wirerate_engine::target::Target;

use super::{Backend, KernelDrops, parse_percent, parse_time};

/// `wirerate replicate`.
#[derive(Debug, Args)]
pub struct Replicate {
    /// Tests: throughput, mixed, matrix, latency, join-leave, capacity, burdened-latency, burdened-join; several with commas; or all
    #[arg(long = "test", value_name = "TESTS", default_value = "all", value_delimiter = ',')]
    pub tests: Vec<Tests>,

    /// A port that sends, once for each: IF, an interface here, or IF@COMMAND, an interface where COMMAND starts an agent:
    /// 'wr0@ip netns exec s1 wirerate agent', 'eth1@ssh host2 wirerate agent'
    #[arg(
        long = "sender",
        value_name = "PORT",
        required_unless_present = "device",
        conflicts_with = "device"
    )]
    pub senders: Vec<Place>,

    /// A port whose host joins the groups, once for each; as --sender
    #[arg(
        long = "member",
        value_name = "PORT",
        required_unless_present = "device",
        conflicts_with = "device"
    )]
    pub member_ports: Vec<Place>,

    /// A port whose host joins nothing, and that therefore should get nothing; as --sender
    #[arg(long, value_name = "PORT", conflicts_with = "device")]
    pub stranger: Option<Place>,

    /// A port that exchanges unicast frames with the others of its kind in the burdened tests, 2 to 8 of them (RFC 3918 §8); without some the senders burden
    /// the device, towards the members; as --sender
    #[arg(long = "burden", value_name = "PORT", conflicts_with = "device")]
    pub burden: Vec<Place>,

    /// Build this device under test and its hosts in namespaces of this machine: bridge, router, pimd, macvlan, mirred, or our replicators xdp, afxdp, socket
    #[arg(long, value_name = "KIND")]
    pub device: Option<Kind>,

    /// Members of --device, 1 to 200
    #[arg(long, value_name = "N", default_value_t = 2, requires = "device", value_parser = clap::value_parser!(u8).range(1..=200))]
    pub members: u8,

    /// Ports of --device that burden it with unicast frames, as --burden: 0, or 2 to 8
    #[arg(long, value_name = "N", default_value_t = 0, requires = "device", value_parser = clap::value_parser!(u8).range(0..=8))]
    pub burden_ports: u8,

    /// The first group and its UDP port; SOURCE@ makes all groups source-specific. Unicast goes to the next port
    #[arg(long, value_name = "TARGET", default_value = "239.18.0.1:5001")]
    pub group: Target,

    /// Numbers of consecutive groups to test with, 1 to 16384 each: 10 or 1,10,100
    #[arg(long, value_name = "N", default_value = "10", value_delimiter = ',', value_parser = clap::value_parser!(u32).range(1..=16_384))]
    pub groups: Vec<u32>,

    /// Frame sizes with FCS, in bytes, each tested by itself [default: 64,128,256,512,1024,1280,1518 (RFC 2544 §9.1); IPv6 begins at 84]
    #[arg(long, value_name = "SIZE", value_delimiter = ',')]
    pub frame_size: Vec<u32>,

    /// Load of the tests that have a fixed one, all groups together: 1000pps, 10M, 1GL1. Latency is measured at the throughput if that was found in the same
    /// run and no --rate is given [default: 1000pps]
    #[arg(long, value_name = "RATE")]
    pub rate: Option<Rate>,

    /// Lowest load of a search, as --rate, such as 1Kpps: a device that does not bear it fails
    #[arg(long, value_name = "RATE", default_value = "1000pps")]
    pub min_rate: Rate,

    /// Highest load of a search, as --rate, such as 1Mpps
    #[arg(long, value_name = "RATE", default_value = "1Mpps")]
    pub max_rate: Rate,

    /// Load of a search's first trial; as --rate, such as 100Kpps [default: --max-rate]
    #[arg(long, value_name = "RATE")]
    pub initial_rate: Option<Rate>,

    /// A search ends when it is this near, in percent of --max-rate, above 0% [default: 1%]
    #[arg(long, value_name = "PERCENT", value_parser = parse_percent)]
    pub resolution: Option<f64>,

    /// While nothing valid is known, go down to this share of the way from --min-rate, 5% to 95%; 50% halves it
    #[arg(long, value_name = "PERCENT", default_value = "50%", value_parser = parse_percent)]
    pub backoff: f64,

    /// Trials of the whole --trial time in a row that a load has to pass, 1 to 20
    #[arg(long, value_name = "N", default_value_t = 1, value_parser = clap::value_parser!(u32).range(1..=20))]
    pub confirm: u32,

    /// Duration of the final trial of a search, and of trials of tests without a search: 60s, which RFC 2544 §24 asks for
    #[arg(long, value_name = "TIME", value_parser = parse_time)]
    pub trial: Option<Duration>,

    /// Duration of the other trials of a search [default: 10s]
    #[arg(long, value_name = "TIME", value_parser = parse_time)]
    pub search_trial: Option<Duration>,

    /// For a first look: trials of 1s, one frame size of 512, waits of 300ms, a resolution and a tolerance of the offered load of 10%. Each option overrides it
    #[arg(long)]
    pub quick: bool,

    /// Loss of a valid trial, of what was sent to one group (or by unicast) towards one port, 0% to 100%
    #[arg(long, value_name = "PERCENT", default_value = "0%", value_parser = parse_percent)]
    pub loss_tolerance: f64,

    /// Frames of a valid trial that nobody should get: at --stranger, or copies at members, 0 or more
    #[arg(long, value_name = "N", default_value_t = 0)]
    pub leakage_tolerance: u64,

    /// The highest latency of a valid trial: 500us, 2ms. Default: any
    #[arg(long, value_name = "TIME", value_parser = parse_time)]
    pub latency_tolerance: Option<Duration>,

    /// The longest join delay that passes: 500ms. Default: any within --patience
    #[arg(long, value_name = "TIME", value_parser = parse_time)]
    pub join_tolerance: Option<Duration>,

    /// The longest leave delay that passes: 3s. Default: any within --patience
    #[arg(long, value_name = "TIME", value_parser = parse_time)]
    pub leave_tolerance: Option<Duration>,

    /// How far senders may stay below the load before a trial is inconclusive, 0% to 100% [default: 2%]
    #[arg(long, value_name = "PERCENT", value_parser = parse_percent)]
    pub offered_tolerance: Option<f64>,

    /// Unicast frames in the mixed and burdened tests, of all frames, above 0% and below 100%
    #[arg(long, value_name = "PERCENT", default_value = "50%", value_parser = parse_percent)]
    pub unicast_share: f64,

    /// Groups added from one iteration of matrix and capacity to the next, 1 to 4096. The matrix takes the numbers of --groups when it has several
    #[arg(long, value_name = "N", default_value_t = 10, value_parser = clap::value_parser!(u32).range(1..=4096))]
    pub step: u32,

    /// Groups of the first iteration of capacity, 1 to 16384 [default: --step]
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u32).range(1..=16_384))]
    pub capacity_from: Option<u32>,

    /// Where the iterations of capacity end, 1 to 16384 groups
    #[arg(long, value_name = "N", default_value_t = 1000, value_parser = clap::value_parser!(u32).range(1..=16_384))]
    pub capacity_max: u32,

    /// How long members are waited for before a trial: 10s. A member that gets nothing by then is behind time
    #[arg(long, value_name = "TIME", default_value = "10s", value_parser = parse_time)]
    pub join_wait: Duration,

    /// How long the first frame after a join and the last after a leave are waited for, 10s
    #[arg(long, value_name = "TIME", default_value = "10s", value_parser = parse_time)]
    pub patience: Duration,

    /// How long frames in flight are waited for after a trial [default: 2s (RFC 2544 §23)]
    #[arg(long, value_name = "TIME", value_parser = parse_time)]
    pub drain: Option<Duration>,

    /// How long the device is left alone between two trials [default: 5s (RFC 2544 §23)]
    #[arg(long, value_name = "TIME", value_parser = parse_time)]
    pub rest: Option<Duration>,

    /// How long an agent may take to start, to answer and to end a task, such as 15s; twice that to join. Longer where it is far away or its host is busy
    #[arg(long, value_name = "TIME", default_value = "15s", value_parser = parse_time)]
    pub agent_timeout: Duration,

    /// TTL or hop limit of what is sent, 1 to 255; it has to be above the number of hops (RFC 3918 §3.1.4)
    #[arg(long, value_name = "N", default_value_t = 64, value_parser = clap::value_parser!(u8).range(1..))]
    pub ttl: u8,

    /// Datapath of senders and members
    #[arg(long, value_enum, default_value_t = Backend::Auto)]
    pub backend: Backend,

    /// Datapath of senders only; as --backend [default: --backend]
    #[arg(long, value_enum)]
    pub send_backend: Option<Backend>,

    /// Datagrams in one buffer, by UDP segmentation offload: off, auto, or at most N, 1 to 128. A software device copies such a buffer whole: that is
    /// one copy, not N
    #[arg(long, value_name = "auto|N|off", default_value = "off")]
    pub segments: Segments,

    /// Have members' kernels tell what they drop, so that it is not taken for the device's loss: on, off. It takes each trial about half a second, and a
    /// CPU of each member's host; what is lost in the queues of the program's own sockets is known without
    #[arg(long, value_enum, default_value_t = KernelDrops::On)]
    pub kernel_drops: KernelDrops,

    #[command(flatten)]
    pub results: super::results::Results,
}

/// What `--test` takes: a test, or all.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Tests {
    /// All of them.
    All,
    /// This one.
    One(Test),
}

impl std::str::FromStr for Tests {
    type Err = wirerate_engine::Error;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        if text == "all" { Ok(Self::All) } else { text.parse().map(Self::One) }
    }
}

impl Backend {
    /// Its name, as typed.
    pub fn name(self) -> String {
        self.to_possible_value().map_or_else(String::new, |value| value.get_name().to_owned())
    }
}
