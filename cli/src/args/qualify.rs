//! What a user may type behind `wirerate qualify`.

use std::path::PathBuf;
use std::time::Duration;

use clap::{Args, ValueEnum};
use wirerate_engine::method::ports::Place;
use wirerate_engine::method::qualify::link::Direction;
use wirerate_engine::method::qualify::{Size, Test};
use wirerate_engine::profile::rate::{Layer, Rate};
use wirerate_engine::profile::segments::Segments;

use super::{Backend, KernelDrops, parse_interval, parse_percent, parse_time};

/// `wirerate qualify`.
#[derive(Debug, Args)]
pub struct Qualify {
    /// Tests: throughput, latency, frame-loss, back-to-back, reset, y1564, soak; several with commas; rfc2544 is the first four, all is all of them
    /// [default: rfc2544; round-trip with --reflector]
    #[arg(long, visible_alias = "test", value_name = "TESTS", value_delimiter = ',')]
    pub tests: Vec<Tests>,

    /// The port that sends forward: IF, an interface here, or IF@COMMAND, an interface where COMMAND starts an agent: 'wr0@ip netns exec s1 wirerate agent',
    /// 'eth1@ssh host2 wirerate agent'
    #[arg(long, value_name = "PORT", required_unless_present = "reflector", conflicts_with = "reflector")]
    pub tx: Option<Place>,

    /// The port that receives forward; as --tx
    #[arg(long, value_name = "PORT", required_unless_present = "reflector", conflicts_with = "reflector")]
    pub rx: Option<Place>,

    /// Command that starts the agent of --rx, where that is no more than IF: 'ssh host2 wirerate agent'
    #[arg(long, value_name = "COMMAND", conflicts_with = "reflector")]
    pub far: Option<String>,

    /// Put --rx, an interface of this host, into a network namespace of its own for the time of the run, so that frames to it leave by --tx. Its addresses come back with it.
    /// A virtual interface is lost if this program is killed
    #[arg(long, conflicts_with_all = ["reflector", "far"])]
    pub isolate: bool,

    /// Measure from one port only, by round trips to this STAMP reflector, as `wirerate reflect` is one: ADDR or ADDR:PORT [default port: 862]
    #[arg(long, value_name = "ADDR")]
    pub reflector: Option<String>,

    /// Directions: forward, reverse, both at once, or each of the two, one after the other
    #[arg(long, value_enum, default_value_t = Directions::Forward)]
    pub direction: Directions,

    /// Addresses of the ports that are used: IPv6 instead of IPv4
    #[arg(short = '6', long)]
    pub ipv6: bool,

    /// UDP port that frames go to, 1 to 65535
    #[arg(long, value_name = "N", default_value_t = 5001, value_parser = clap::value_parser!(u16).range(1..))]
    pub port: u16,

    /// Frame sizes with FCS, in bytes, each tested by itself, and imix; above 1518 the ports need an MTU for it
    /// [default: 64,128,256,512,1024,1280,1518 (RFC 2544 §9.1); IPv6 begins at 84]
    #[arg(long, value_name = "SIZE", value_delimiter = ',')]
    pub frame_size: Vec<FrameSize>,

    /// A mix of frame sizes, tested by itself, once for each: imix, proportions as 7:64,4:594,1:1518, or a genome of RFC 6985 as aaafg, 7a4c1g or
    /// 'AAB;A=90,B=1420'
    #[arg(long, value_name = "MIX", value_parser = Size::mix)]
    pub imix: Vec<Size>,

    /// Load of latency, reset and soak, in each direction: 1000pps, 10M, 1GL1, 50%. Without it they take the throughput that the same run found
    #[arg(long, value_name = "RATE")]
    pub rate: Option<Rate>,

    /// Lowest load of a search, as 100pps or 1%, which is of the link's speed: a link that does not bear it fails
    #[arg(long, value_name = "RATE", default_value = "1%")]
    pub min_rate: Rate,

    /// Highest load of a search and of a loss curve, and the rate within bursts; as --rate, such as 10GL1 where the link does not tell its speed
    #[arg(long, value_name = "RATE", default_value = "100%")]
    pub max_rate: Rate,

    /// Load of a search's first trial; as --rate, such as 50% [default: --max-rate]
    #[arg(long, value_name = "RATE")]
    pub initial_rate: Option<Rate>,

    /// A search ends when it is this near, in percent of --max-rate, above 0% [default: 0.5%]
    #[arg(long, value_name = "PERCENT", value_parser = parse_percent)]
    pub resolution: Option<f64>,

    /// While nothing valid is known, go down to this share of the way from --min-rate, 5% to 95%; 50% halves it
    #[arg(long, value_name = "PERCENT", default_value = "50%", value_parser = parse_percent)]
    pub backoff: f64,

    /// Trials of the whole --trial time in a row that a load has to pass, 1 to 20
    #[arg(long, value_name = "N", default_value_t = 1, value_parser = clap::value_parser!(u32).range(1..=20))]
    pub confirm: u32,

    /// Run a trial that is not valid again up to N times, 0 to 20, before it counts: for paths on which something is lost by chance
    #[arg(long, value_name = "N", default_value_t = 0, value_parser = clap::value_parser!(u32).range(0..=20))]
    pub retries: u32,

    /// Duration of the final trial of a search, and of trials of tests without a search [default: 60s (RFC 2544 §24)]
    #[arg(long, value_name = "TIME", value_parser = parse_time)]
    pub trial: Option<Duration>,

    /// Duration of the other trials of a search [default: 10s]
    #[arg(long, value_name = "TIME", value_parser = parse_time)]
    pub search_trial: Option<Duration>,

    /// For a first look: trials of 1s, frames of 512 bytes, 3 bursts, waits of 300ms, a resolution of 5% and a tolerance of the offered load of 5%. Each option
    /// overrides it
    #[arg(long)]
    pub quick: bool,

    /// Loss of a valid trial at each port, 0% to 100%
    #[arg(long, value_name = "PERCENT", default_value = "0%", value_parser = parse_percent)]
    pub loss_tolerance: f64,

    /// Copies in a valid trial, 0 or more
    #[arg(long, value_name = "N", default_value_t = 0)]
    pub duplicate_tolerance: u64,

    /// Frames out of order in a valid trial: any, or a number from 0
    #[arg(long, value_name = "N", default_value = "0", value_parser = parse_any)]
    pub reorder_tolerance: Any,

    /// The highest latency of any frame of a valid trial: 500us, 2ms. Default: any
    #[arg(long, value_name = "TIME", value_parser = parse_time)]
    pub latency_tolerance: Option<Duration>,

    /// The highest jitter (RFC 3550) of a valid trial: 100us. Default: any
    #[arg(long, value_name = "TIME", value_parser = parse_time)]
    pub jitter_tolerance: Option<Duration>,

    /// How far a sender may stay below the load before a trial is inconclusive, 0% to 100% [default: 2%]
    #[arg(long, value_name = "PERCENT", value_parser = parse_percent)]
    pub offered_tolerance: Option<f64>,

    /// Steps of the loss curve, in percent of --max-rate, above 0% and at most 10% (RFC 2544 §26.3)
    #[arg(long, value_name = "PERCENT", default_value = "10%", value_parser = parse_percent)]
    pub loss_step: f64,

    /// Repetitions of back-to-back, 1 to 1000 [default: 50 (RFC 2544 §26.4)]
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u32).range(1..=1000))]
    pub bursts: Option<u32>,

    /// The longest burst, as the time that it takes at --max-rate [default: 2s (RFC 2544 §26.4)]
    #[arg(long, value_name = "TIME", value_parser = parse_time)]
    pub longest_burst: Option<Duration>,

    /// Bursts are told to N frames, 1 or more
    #[arg(long, value_name = "N", default_value_t = 1, value_parser = clap::value_parser!(u64).range(1..))]
    pub burst_resolution: u64,

    /// For reset: set this interface of this host down and up again. Without it somebody else has to reset the device within --reset-wait
    #[arg(long, value_name = "IF")]
    pub reset_link: Option<String>,

    /// How long --reset-link stays down: 1s, 200ms
    #[arg(long, value_name = "TIME", default_value = "1s", value_parser = parse_time)]
    pub reset_down: Duration,

    /// How long a reset by somebody else is waited for, or the end of one of our own: 60s
    #[arg(long, value_name = "TIME", default_value = "60s", value_parser = parse_time)]
    pub reset_wait: Duration,

    /// Committed information rate of y1564, frames with FCS: 50M, 1G
    #[arg(long, value_name = "RATE", value_parser = parse_information_rate)]
    pub cir: Option<f64>,

    /// Excess information rate of y1564, as --cir: 20M [default: 0, none]
    #[arg(long, value_name = "RATE", value_parser = parse_information_rate, requires = "cir")]
    pub eir: Option<f64>,

    /// Steps of y1564 up to --cir, 1 to 20
    #[arg(long, value_name = "N", default_value_t = 4, value_parser = clap::value_parser!(u32).range(1..=20))]
    pub service_steps: u32,

    /// Duration of each step of y1564 [default: 60s]
    #[arg(long, value_name = "TIME", value_parser = parse_time)]
    pub step_time: Option<Duration>,

    /// Duration of y1564's performance test at --cir [default: 15min]
    #[arg(long, value_name = "TIME", value_parser = parse_time)]
    pub performance_time: Option<Duration>,

    /// By how much what passes a policer may be above CIR + EIR, 0% to 100%
    #[arg(long, value_name = "PERCENT", default_value = "5%", value_parser = parse_percent)]
    pub policing_margin: f64,

    /// Whether y1564 tests that more than CIR + EIR is held back
    #[arg(long, value_enum, default_value_t = Switch::On)]
    pub policing: Switch,

    /// Duration of soak: 10m, 24h [default: 10min]
    #[arg(long, value_name = "TIME", value_parser = parse_time)]
    pub duration: Option<Duration>,

    /// Time between entries of soak's time line, 100ms to 1s
    #[arg(long, value_name = "TIME", default_value = "1s", value_parser = parse_interval)]
    pub interval: Duration,

    /// Fail (exit 3) where the throughput of a size is below this: 9.9GL1, 99%, 14Mpps. Met by a load that was borne, whatever bounds it
    #[arg(long, value_name = "RATE")]
    pub expect_throughput: Option<Rate>,

    /// Fail where the mean latency is above this: 50us
    #[arg(long, value_name = "TIME", value_parser = parse_time)]
    pub expect_latency: Option<Duration>,

    /// Fail unless loss at the highest load of a loss curve is below this, 0% to 100%: 0.1%
    #[arg(long, value_name = "PERCENT", value_parser = parse_percent)]
    pub expect_loss_below: Option<f64>,

    /// Fail where the mean of the bursts is below N frames, 1 or more
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u64).range(1..))]
    pub expect_burst: Option<u64>,

    /// Fail where a reset takes longer than this: 500ms
    #[arg(long, value_name = "TIME", value_parser = parse_time)]
    pub expect_reset: Option<Duration>,

    /// Fail where the mean round trip to --reflector is above this: 1ms
    #[arg(long, value_name = "TIME", value_parser = parse_time)]
    pub expect_round_trip: Option<Duration>,

    /// Take options, and what is expected of the ports, from this file (YAML, docs/profiles): one for each model of NIC. What is typed overrides it
    #[arg(long, value_name = "FILE")]
    pub profile: Option<PathBuf>,

    /// How long first frames are waited for before a trial: 10s
    #[arg(long, value_name = "TIME", default_value = "10s", value_parser = parse_time)]
    pub link_wait: Duration,

    /// How long frames in flight are waited for after a trial [default: 2s (RFC 2544 §23)]
    #[arg(long, value_name = "TIME", value_parser = parse_time)]
    pub drain: Option<Duration>,

    /// How long the link is left alone between two trials [default: 5s (RFC 2544 §23)]
    #[arg(long, value_name = "TIME", value_parser = parse_time)]
    pub rest: Option<Duration>,

    /// How long an agent may take to start, to answer and to end a task, such as 15s
    #[arg(long, value_name = "TIME", default_value = "15s", value_parser = parse_time)]
    pub agent_timeout: Duration,

    /// TTL or hop limit of what is sent, 1 to 255
    #[arg(long, value_name = "N", default_value_t = 64, value_parser = clap::value_parser!(u8).range(1..))]
    pub ttl: u8,

    /// Datapath of senders and receivers
    #[arg(long, value_enum, default_value_t = Backend::Auto)]
    pub backend: Backend,

    /// Datapath of senders only; as --backend [default: --backend]. In both directions at once, where an interface sends beside a receiver: sockets
    #[arg(long, value_enum)]
    pub send_backend: Option<Backend>,

    /// Datagrams in one buffer, by UDP segmentation offload: off, auto, or at most N, 1 to 128
    #[arg(long, value_name = "auto|N|off", default_value = "off")]
    pub segments: Segments,

    /// Have receivers' kernels tell what they drop, so that it is not taken for the link's loss
    #[arg(long, value_enum, default_value_t = KernelDrops::On)]
    pub kernel_drops: KernelDrops,

    #[command(flatten)]
    pub results: super::results::Results,
}

/// What `--tests` takes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Tests {
    /// All of two ports.
    All,
    /// Those of RFC 2544 that need nobody.
    Rfc2544,
    /// This one.
    One(Test),
}

impl std::str::FromStr for Tests {
    type Err = wirerate_engine::Error;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        match text {
            "all" => Ok(Self::All),
            "rfc2544" => Ok(Self::Rfc2544),
            _ => text.parse().map(Self::One),
        }
    }
}

/// What `--direction` takes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum Directions {
    Forward,
    Reverse,
    Both,
    Each,
}

impl Directions {
    /// The engine's words.
    pub fn list(self) -> Vec<Direction> {
        match self {
            Self::Forward => vec![Direction::Forward],
            Self::Reverse => vec![Direction::Reverse],
            Self::Both => vec![Direction::Both],
            Self::Each => vec![Direction::Forward, Direction::Reverse],
        }
    }
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum Switch {
    On,
    Off,
}

/// One size of `--frame-size`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct FrameSize(pub Size);

impl std::str::FromStr for FrameSize {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        if text.eq_ignore_ascii_case("imix") {
            return Size::mix(text).map(Self).map_err(|e| e.what);
        }
        match text.trim().parse() {
            Ok(bytes @ 1..=100_000) => Ok(Self(Size::one(bytes))),
            _ => Err("bytes with FCS are needed, as 64 or 1518, or imix; other mixes are --imix".to_owned()),
        }
    }
}

/// A number, or any.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Any(pub Option<u64>);

fn parse_any(text: &str) -> Result<Any, String> {
    match text.parse() {
        _ if text == "any" => Ok(Any(None)),
        Ok(number) => Ok(Any(Some(number))),
        Err(_) => Err("any or a number of frames is needed".to_owned()),
    }
}

/// Bits of frames with FCS a second.
fn parse_information_rate(text: &str) -> Result<f64, String> {
    if text == "0" {
        return Ok(0.0);
    }
    match text.parse::<Rate>() {
        // A bare number of bits is of frames here: so Y.1564 counts.
        Ok(Rate::Bits(bps, Layer::Payload | Layer::L2)) => Ok(bps),
        _ => Err("bits a second of frames with FCS are needed, as 50M".to_owned()),
    }
}
