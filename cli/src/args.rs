//! What a user may type. Values are checked where they are parsed, by the engine's own types; what needs more
//! than one of them is checked when the engine's configuration is made.

pub mod compare;
pub mod groups;
pub mod iperf3;
pub mod linktest;
pub mod qualify;
pub mod replicate;
pub mod replicator;
pub mod report;
pub mod results;
pub mod stamp;

use std::path::PathBuf;
use std::time::Duration;

use clap::{Args, Parser, Subcommand, ValueEnum};
use wirerate_engine::host::cpu;
use wirerate_engine::host::sched::Policy;
use wirerate_engine::observe::SenderPort;
use wirerate_engine::pacing::MAX_BURST;
use wirerate_engine::profile::rate::{Layer, Rate};
use wirerate_engine::profile::segments::Segments;
use wirerate_engine::queue::afxdp::steer::QUEUES;
use wirerate_engine::target::Target;

/// Tells what a network really does: sends and receives UDP and multicast at the limit of the machine,
/// and says where every lost packet went.
#[derive(Debug, Parser)]
#[command(name = "wirerate", version, arg_required_else_help = true, after_help = EXIT_STATUS)]
pub struct Cli {
    #[command(subcommand)]
    pub command: Command,
}

const EXIT_STATUS: &str = "Exit status: 0 finished (and met what was expected of it), 1 failed while running, \
2 wrong arguments, 3 ran and the verdict is fail, 4 this machine or user cannot run it, 5 inconclusive.";

#[derive(Debug, Subcommand)]
pub enum Command {
    /// Build a private lab and show multicast to two receivers through each datapath, in one table
    Demo(Demo),
    /// Generate packets
    Send(Send),
    /// Receive packets and measure
    Recv(Recv),
    /// Show where packets are dropped, per interface and reason
    Drops(Drops),
    /// Say whether this machine is ready, and the command that mends it
    Doctor(Doctor),
    /// Measure round trips to a STAMP session-reflector (RFC 8762): time, its variation, loss on either way
    Stamp(stamp::Stamp),
    /// Answer STAMP test packets (RFC 8762) until Ctrl-C: a session-reflector
    Reflect(stamp::Reflect),
    /// Measure how a device replicates multicast (RFC 3918): throughput, latency, joins and leaves, capacity, for each port and group
    Replicate(Box<replicate::Replicate>),
    /// Qualify a NIC or a link between two ports (RFC 2544, Y.1564, soak): throughput, latency, loss, bursts, resets, and every counter of the NICs
    Qualify(Box<qualify::Qualify>),
    /// Set iperf3, iperf 2 and our datapaths side by side on one path: loss as stated and as proven, CPU, what limits each
    Compare(Box<compare::Compare>),
    /// Copy multicast from some interfaces to those behind which somebody has joined: a switch that snoops, by XDP
    Replicator(replicator::Replicator),
    /// Show who joins what: this host, the hosts on the wire (IGMP, MLD), or those of a capture
    Groups(groups::Groups),
    /// Make one HTML page with plots of a result, or CSV
    Report(report::Report),
    /// Speak iperf3's protocol for UDP, as server (-s) or client (-c HOST -u), with iperf3's flags, output and exit status
    Iperf3(Box<iperf3::Iperf3>),
    /// Test a link: counters before, traffic, counters after; exit 100 when one of errors moved, else 0
    Linktest(Box<linktest::Linktest>),
    /// Be the far end of a test: take requests and tell events, JSON lines on standard input and output
    Agent(Agent),
}

/// Serves the near end of a test, which starts this by whatever command reaches this place: "ip netns exec m1 wirerate agent", "ssh host2 wirerate agent",
/// "docker exec -i m1 wirerate agent", "kubectl exec -i pod -- wirerate agent". It opens no port: whoever may start it may use it. Requests are lines of JSON on
/// standard input, as {"id":1,"start":["recv","239.1.2.3:5001"]} and {"id":1,"stop":true}; what happens is told as lines of JSON on standard output, what is for
/// people on standard error. When standard input ends, it ends all that it runs, lets memberships go, and ends. docs/agent.md describes the lines
#[derive(Debug, Args)]
#[command(verbatim_doc_comment)]
pub struct Agent {}

const TARGET_HELP: &str = "ADDR:PORT, or udp://[SOURCE@]ADDR:PORT, or rtp://[SOURCE@]ADDR:PORT, which recv takes for --format rtp; IPv6 in brackets. A multicast group is \
recognised as one; SOURCE@ makes it source-specific (SSM)";

/// What `send` and `recv` have in common.
#[derive(Debug, Args)]
pub struct Datapath {
    /// Interface, by name. Without it: the one that the route to the target leads to
    #[arg(long, value_name = "IF")]
    pub iface: Option<String>,

    /// Datapath. auto takes afxdp where the NIC does zero-copy and the user may, else uring to send and mmsg to receive, and says why
    #[arg(long, value_enum, default_value_t = Backend::Auto)]
    pub backend: Backend,

    /// NIC queues for afxdp, 0 to 255, one worker each: 0-3 or 0,2. Default: all when receiving, 0 when sending
    #[arg(long, value_name = "LIST", value_parser = parse_queues)]
    pub queues: Option<List>,

    /// Datagrams in one buffer, by UDP segmentation offload (uring, mmsg): auto (as many as kernel, size and rate allow), off, or at
    /// most N, 1 to 128. A receiver takes what comes, or with off one datagram at a time
    #[arg(long, value_name = "auto|N|off", default_value = "auto")]
    pub segments: Segments,

    /// Let the workers run the NIC's driver (busy polling), up to N packets at a time, 8 to 1024: less latency, a CPU for each (afxdp; when receiving
    /// mmsg, and uring, which takes 8 at a time)
    #[arg(long, value_name = "N", num_args = 0..=1, default_missing_value = "64",
        value_parser = clap::value_parser!(u16).range(8..=1024))]
    pub busy_poll: Option<u16>,

    /// Frames in huge pages (afxdp): auto uses those that are free; on fails without
    #[arg(long, value_enum, default_value_t = HugePages::Auto)]
    pub huge_pages: HugePages,

    /// CPUs for the workers: 2-5 or 2,4. Default: the NIC's NUMA node, isolated CPUs first, away from the queues' interrupts,
    /// no two on one core while there is another
    #[arg(long, value_name = "LIST", value_parser = parse_cpus)]
    pub cpus: Option<List>,

    /// Put each worker on the CPU that serves its queue's interrupt (afxdp): for busy polling
    #[arg(long, conflicts_with = "cpus")]
    pub on_irq_cpu: bool,

    /// Scheduling policy of the workers: other, fifo, or fifo:PRIORITY with a real-time priority from 1 to 99
    #[arg(long, value_name = "POLICY", default_value_t = Policy::Other, value_parser = parse_policy)]
    pub sched: Policy,

    /// Have the kernel tell what it drops of the packets, for the ledger, where the user may ask it to: on, off. Each packet dropped on this host then costs
    /// its CPU about 1 µs more, others nothing
    #[arg(long, value_enum, default_value_t = KernelDrops::On)]
    pub kernel_drops: KernelDrops,

    /// First and last UDP destination port, A-B or one, 1 to 65535; streams take them in turn. Default: the target's port
    #[arg(long, value_name = "A-B", value_parser = parse_ports)]
    pub dst_port: Option<Ports>,

    /// Consecutive groups (or addresses), starting with the target's: 1 to 16384, and 4096 to send to
    #[arg(long, value_name = "N", default_value_t = 1, value_parser = clap::value_parser!(u16).range(1..=16_384))]
    pub groups: u16,
}

/// When a run ends.
#[derive(Debug, Args)]
pub struct Until {
    /// End after this time, up to a year: 10s, 500ms, 2m. A sender given no end at all ends after 10s
    #[arg(long, value_name = "TIME", value_parser = parse_time)]
    pub duration: Option<Duration>,

    /// End after N packets, at least 1, all streams and workers together
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u64).range(1..))]
    pub count: Option<u64>,
}

/// How results are given.
#[derive(Debug, Args)]
pub struct Output {
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

    /// Fail (exit 3) unless loss is below this share of what was sent, 0% to 100%: 0.01%
    #[arg(long, value_name = "PERCENT", value_parser = parse_percent)]
    pub expect_loss_below: Option<f64>,

    /// Fail (exit 3) unless the rate is above this: 9.9G (payload bit/s, L1 or L2 as suffix), 1Mpps
    #[arg(long, value_name = "RATE")]
    pub expect_rate_above: Option<String>,

    #[command(flatten)]
    pub web: report::Web,
}

#[derive(Debug, Args)]
pub struct Send {
    #[arg(value_name = "TARGET", help = TARGET_HELP)]
    pub target: Target,

    #[command(flatten)]
    pub datapath: Datapath,

    #[command(flatten)]
    pub until: Until,

    /// End after N bytes of UDP payload, at least 1, rounded up to whole packets
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u64).range(1..))]
    pub bytes: Option<u64>,

    /// Offered load: max, 10G (UDP payload, bit/s; K M G are powers of 1000), 9.9GL1 or 9.9GL2 (on the line, or
    /// frames), 14.88Mpps, 95% (of the link's speed, L1); from 1 bit/s or 0.001pps to 100T or 1000Mpps. RTP has its own, see --ptime
    /// [default: 1000pps]
    #[arg(long, value_name = "RATE")]
    pub rate: Option<String>,

    /// How packets leave at --rate: auto, as they become due, at most 100 µs' worth at once; N, in bursts of N packets (1 to
    /// 16384, of each worker) back to back and then a silence that keeps the rate; 1, packet by packet
    #[arg(long, value_name = "auto|N", default_value = "auto", value_parser = parse_burst)]
    pub burst: Burst,

    /// Give each packet the time at which it is to leave, a whole number of intervals of --rate after the first, and let the interface's
    /// queueing discipline, fq or etf, release it then (SO_TXTIME), so that none waits for a thread to wake. Packets are handed over one by one, up
    /// to 4ms ahead (mmsg)
    #[arg(long)]
    pub txtime: bool,

    /// Who says when a packet left: user, this program when it hands packets over; kernel, too, when it gives them to the driver, which the receiver is
    /// told afterwards (mmsg, with a pace, packet by packet; receive with --timestamps kernel)
    #[arg(long, value_enum, default_value_t = Timestamps::User)]
    pub timestamps: Timestamps,

    /// What the packets are: wirerate, with the probe header that recv measures everything by; iperf2, datagrams and end as iperf 2.1.8 sends them, for its
    /// server (iperf -s -u; uring, mmsg, afxdp; --length of 76 or more): loss and jitter, no latency
    #[arg(long, value_enum, default_value_t = SendFormat::Wirerate)]
    pub format: SendFormat,

    /// Frame size with FCS, in bytes: 64, 64,594,1518 (in turn), 64-1518 (all of them in turn), imix
    #[arg(long, value_name = "SIZE", conflicts_with = "length")]
    pub frame_size: Option<String>,

    /// UDP payload in bytes, at least 18: 1472, 100,1400 or 100-200 [default: 1400]
    #[arg(long, value_name = "SIZE")]
    pub length: Option<String>,

    /// Threads, 1 to 256, each with a CPU of its own (uring, mmsg, xdp)
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u16).range(1..=256))]
    pub workers: Option<u16>,

    /// Streams, 1 to 4096, each with its own sequence numbers and UDP source port; default: as many as ports or groups, and with several NIC queues at least 8 for each
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u16).range(1..=4096))]
    pub streams: Option<u16>,

    /// Single hosts whose packets stand between those of the groups, in turn, as 192.0.2.11:5002,192.0.2.12:5002: m1 u1 m2 u2 m3 u1 … (RFC 3918 §4.1)
    #[arg(long, value_name = "LIST", value_delimiter = ',')]
    pub between: Vec<std::net::SocketAddr>,

    /// Packets to the hosts of --between, of all, above 0% and below 100%; every group gets as many as another, and every host, so that it is met nearly
    #[arg(long, value_name = "PERCENT", default_value = "50%", value_parser = parse_percent, requires = "between")]
    pub between_share: f64,

    /// First and last UDP source port, A-B or one, 1 to 65535; streams take them in turn. Default: ephemeral ones
    #[arg(long, value_name = "A-B", value_parser = parse_ports)]
    pub src_port: Option<Ports>,

    /// Buffers of several packets leave without the kernel's copy (uring): auto, where kernel and memory limit allow it and nothing on the
    /// way needs a copy after all; off
    #[arg(long, value_enum, default_value_t = ZeroCopy::Auto)]
    pub zero_copy: ZeroCopy,

    /// TTL or hop limit, 1 to 255. Default: 1 for groups, 64 else
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u8).range(1..))]
    pub ttl: Option<u8>,

    /// DSCP: 0 to 63, or a name: EF, AF41, CS5
    #[arg(long, value_name = "DSCP", default_value = "0", value_parser = parse_dscp)]
    pub dscp: u8,

    /// Refuse a --length that the interface's MTU would cut into fragments, instead of sending those
    #[arg(long)]
    pub dont_fragment: bool,

    /// 802.1Q VLAN identifier, 1 to 4094 (afxdp, xdp)
    #[arg(long, value_name = "ID", value_parser = clap::value_parser!(u16).range(1..=4094))]
    pub vlan: Option<u16>,

    #[command(flatten)]
    pub payload: Payload,

    #[command(flatten)]
    pub output: Output,

    #[command(flatten)]
    pub rtp: crate::rtp::Rtp,
}

/// What follows the probe header.
#[derive(Debug, Args)]
pub struct Payload {
    /// Bytes behind the probe header
    #[arg(long, value_enum, default_value_t = PayloadKind::Pattern)]
    pub payload: PayloadKind,

    /// Fill the payload from this file, each packet the next piece, over and over; up to 1 GiB
    #[arg(long, value_name = "FILE", conflicts_with = "payload")]
    pub payload_file: Option<PathBuf>,
}

#[derive(Debug, Args)]
pub struct Recv {
    #[arg(value_name = "TARGET", help = TARGET_HELP)]
    pub target: Target,

    #[command(flatten)]
    pub datapath: Datapath,

    #[command(flatten)]
    pub until: Until,

    /// Rules in the NIC that direct the packets to the queues of --queues, where these are not all and the NIC has such rules (afxdp)
    #[arg(long, value_enum, default_value_t = Steer::Auto)]
    pub steer: Steer,

    /// Slots of the ring in which packets arrive (afxdp), a power of two from 64 to 32768. Default: twice those of the NIC, at least 8192
    #[arg(long, value_name = "N", value_parser = parse_slots)]
    pub ring_size: Option<u32>,

    /// Frames that packets arrive in (afxdp), 64 to 32768. Default: as many as --ring-size
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u32).range(64..=32_768))]
    pub frames: Option<u32>,

    /// Receive buffer of each socket (uring, mmsg), in bytes with K or M as powers of 1024: 64K, 4M; 2304 to 1G. Default: 64M, as far as the user may
    #[arg(long, value_name = "SIZE", value_parser = parse_buffer)]
    pub receive_buffer: Option<u32>,

    /// End when nothing has arrived for this time, counted from the first arrival: 2s
    #[arg(long, value_name = "TIME", value_parser = parse_time)]
    pub idle: Option<Duration>,

    /// Go on when every sender has said its end
    #[arg(long)]
    pub keep: bool,

    /// The sender's port, on this host, with a cable from it to --iface; NETNS is its network namespace, by a name of ip netns or the number of a process. What
    /// its counters and those of --iface differ by was lost on the cable: place wire of the ledger. Both have to be physical ports; the run begins when their counters are at rest, one to five seconds later
    #[arg(long, value_name = "IF[@NETNS]")]
    pub sender_iface: Option<SenderPort>,

    /// Workers at most, 1 to 256 (uring, mmsg). Where there are more groups, one worker receives all groups of a port by one socket. Default: as many as CPUs
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u16).range(1..=256))]
    pub workers: Option<u16>,

    /// Which program counts, with --backend xdp. auto takes xdp where the driver runs it natively, but not on a veth, whose peer
    /// would lose its UDP segmentation; else tc, which sees super-packets
    #[arg(long, value_enum, default_value_t = SinkProgram::Auto)]
    pub sink: SinkProgram,

    /// What arrives. auto recognises wirerate, iperf2, rtp (after two packets in sequence) and ts (an MPEG transport stream in UDP) per
    /// flow; raw counts packets and bytes only
    #[arg(long, value_enum, default_value_t = Format::Auto)]
    pub format: Format,

    #[command(flatten)]
    pub media: Media,

    /// Compare every byte behind the probe header with --payload or --payload-file
    #[arg(long)]
    pub verify_payload: bool,

    #[command(flatten)]
    pub payload: Payload,

    /// Print every datagram in hexadecimal (for looking, not for measuring)
    #[arg(long, conflicts_with_all = ["json", "json_lines"])]
    pub hexdump: bool,

    /// Who says when a packet arrived: user, this program when it takes packets from its queue, a batch at a time; kernel, when it takes them from
    /// the driver (uring, mmsg: one stamp for a buffer of several; afxdp: by the XDP program), which costs time for each packet; nic, the NIC when it
    /// has them, by its own clock, which is read beside the kernel's once a second (with --iface, on a NIC that can stamp every packet: ethtool -T; afxdp:
    /// Linux 6.3, where the driver tells XDP programs). With --backend xdp it is always the kernel
    #[arg(long, value_enum, default_value_t = Arrivals::User)]
    pub timestamps: Arrivals,

    /// Print what iperf 2's server (2.1.8) would have printed of each flow, as it comes, instead of the report: iperf2, its text, or iperf2-csv, its values
    /// separated by commas (-y C): time, addresses and ports, number, interval in s, bytes, bit/s, jitter in ms, lost, total, lost in %, out of order
    #[arg(long = "as", value_name = "iperf2|iperf2-csv", value_enum, hide_possible_values = true,
        conflicts_with_all = ["json", "json_lines", "hexdump"])]
    pub as_iperf2: Option<As>,

    /// Write when each packet left the sender's driver and came to this host's to this file, as CSV, times in ns of CLOCK_TAI: takes --timestamps kernel
    /// or nic here, and kernel at the sender
    #[arg(long, value_name = "FILE")]
    pub packets: Option<PathBuf>,

    /// Write the latencies of each interval to this file as HdrHistogram log, in ns
    #[arg(long, value_name = "FILE")]
    pub hlog: Option<PathBuf>,

    /// Write one byte to this file descriptor, 1 or higher, when joined, attached and bound
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(i32).range(1..))]
    pub ready_fd: Option<i32>,

    /// Take the packets from this capture (pcap or pcapng), and its time stamps as their arrivals, instead of receiving. 0.0.0.0:PORT, and
    /// the same of IPv6, stand for every address. --duration and --interval are by the capture's time
    #[arg(long, value_name = "FILE", conflicts_with_all = ["iface", "backend", "queues", "segments", "busy_poll", "huge_pages",
        "cpus", "workers", "on_irq_cpu", "sched", "steer", "idle", "keep", "sender_iface", "sink", "ready_fd"])]
    pub pcap: Option<PathBuf>,

    #[command(flatten)]
    pub output: Output,

    #[command(flatten)]
    pub rtcp: crate::rtp::Rtcp,
}

/// What nobody says of itself in a media stream.
#[derive(Debug, Args)]
pub struct Media {
    /// Clock of an RTP payload type, 0 to 127, in Hz, for its jitter: 96=48000. May be given several times. Types below 96 have their
    /// clocks from RFC 3551
    #[arg(long, value_name = "PT=HZ", value_parser = parse_payload_type)]
    pub payload_type: Vec<(u8, u32)>,

    /// Clock of all dynamic RTP payload types of which --payload-type says nothing, in Hz, at least 1. Default: 90000, with a warning
    #[arg(long, value_name = "HZ", value_parser = clap::value_parser!(u32).range(1..))]
    pub clock_rate: Option<u32>,

    /// Rate of each transport stream, for its delay factor (DF:MLR, RFC 4445): 3.75M, in bit/s of its packets of 188 bytes. Default: by the
    /// stream's own clock (PCR), as it was in the second before
    #[arg(long, value_name = "RATE", value_parser = parse_media_rate)]
    pub media_rate: Option<u64>,
}

#[derive(Debug, Args)]
pub struct Drops {
    /// Interfaces of this network namespace. Default: every interface of every namespace
    #[arg(value_name = "IFACE")]
    pub interfaces: Vec<String>,

    /// End after this time: 10s, 500ms. Default: at Ctrl-C
    #[arg(long, value_name = "TIME", value_parser = parse_time)]
    pub duration: Option<Duration>,

    /// Time between interim results: 1s, 500ms. At least 100ms
    #[arg(long, value_name = "TIME", default_value = "1s", value_parser = parse_interval)]
    pub interval: Duration,

    /// Show the places live, with rates and with the counters of interfaces and machine beside the kernel's own drops: a screen on a terminal, otherwise lines
    #[arg(long, conflicts_with = "json")]
    pub watch: bool,

    /// With --watch: print a JSON object a line, ready, drops and report events
    #[arg(long, requires = "watch")]
    pub json_lines: bool,

    /// Print the result as one JSON object
    #[arg(long)]
    pub json: bool,

    /// Write one byte to this file descriptor, 1 or higher, when counting has begun
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(i32).range(1..))]
    pub ready_fd: Option<i32>,

    /// No progress on standard error
    #[arg(short, long)]
    pub quiet: bool,
}

#[derive(Debug, Args)]
pub struct Doctor {
    /// Interfaces. Default: all of this network namespace but loopback
    #[arg(value_name = "IFACE")]
    pub interfaces: Vec<String>,

    /// Print the diagnosis as one JSON object
    #[arg(long)]
    pub json: bool,
}

#[derive(Debug, Args)]
pub struct Demo {
    /// Time of each scene: 3s, 500ms
    #[arg(long, value_name = "TIME", default_value = "3s", value_parser = parse_time)]
    pub duration: Duration,

    /// Rate of the paced scenes, in packets a second: 1 to 10000000
    #[arg(long, value_name = "PPS", default_value_t = 20_000, value_parser = clap::value_parser!(u64).range(1..=10_000_000))]
    pub pps: u64,

    /// Print the result as one JSON object
    #[arg(long)]
    pub json: bool,

    /// No progress on standard error
    #[arg(short, long)]
    pub quiet: bool,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum Backend {
    Auto,
    Afxdp,
    Uring,
    Mmsg,
    Xdp,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum Timestamps {
    User,
    Kernel,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum Arrivals {
    User,
    Kernel,
    Nic,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum ZeroCopy {
    Auto,
    Off,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum KernelDrops {
    On,
    Off,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum HugePages {
    Auto,
    On,
    Off,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum Steer {
    Auto,
    Off,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum SinkProgram {
    Auto,
    Xdp,
    Tc,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum PayloadKind {
    Pattern,
    Random,
    Zero,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum SendFormat {
    Wirerate,
    Iperf2,
}

/// Whose lines are printed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum As {
    Iperf2,
    Iperf2Csv,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum Format {
    Auto,
    Wirerate,
    Iperf2,
    Rtp,
    Ts,
    Raw,
}

/// A list of numbers, as `0-3,7`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct List(pub Vec<usize>);

/// Packets of a burst; `None`: automatic.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Burst(pub Option<u32>);

/// First and last port.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Ports(pub u16, pub u16);

fn parse_payload_type(text: &str) -> Result<(u8, u32), String> {
    let parsed = text.split_once('=').and_then(|(number, hz)| Some((number.parse().ok()?, hz.parse().ok()?)));
    parsed.filter(|(number, hz)| *number < 128 && *hz > 0).ok_or_else(|| {
        "write it as 96=48000: a payload type from 0 to 127, and its clock in Hz, at least 1".to_owned()
    })
}

fn parse_media_rate(text: &str) -> Result<u64, String> {
    match text.parse::<Rate>() {
        Ok(Rate::Bits(bps, Layer::Payload)) if bps >= 1.0 => Ok(bps as u64),
        _ => Err("bits a second are needed, as 3.75M".to_owned()),
    }
}

fn parse_queues(text: &str) -> Result<List, String> {
    at_least_one(cpu::parse_list(text, "queue", QUEUES as usize - 1))
}

fn parse_slots(text: &str) -> Result<u32, String> {
    let slots = text.parse().ok().filter(|n: &u32| n.is_power_of_two() && (64..=32_768).contains(n));
    slots.ok_or_else(|| "a power of two from 64 to 32768 is needed, as 4096".to_owned())
}

fn parse_buffer(text: &str) -> Result<u32, String> {
    let (digits, unit) = match text.strip_suffix(['K', 'k']) {
        Some(digits) => (digits, 1 << 10),
        None => text.strip_suffix(['M', 'm']).map_or((text, 1), |digits| (digits, 1 << 20)),
    };
    let bytes = digits.parse::<u32>().ok().and_then(|n| n.checked_mul(unit));
    bytes
        .filter(|bytes| (2304..=1 << 30).contains(bytes))
        .ok_or_else(|| "2304 bytes to 1024M are needed, as 64K or 4M".to_owned())
}

fn parse_policy(text: &str) -> Result<Policy, String> {
    text.parse().map_err(|e: wirerate_engine::Error| e.fix.unwrap_or(e.what))
}

fn parse_cpus(text: &str) -> Result<List, String> {
    at_least_one(cpu::parse_cpu_list(text))
}

fn at_least_one(numbers: Result<Vec<usize>, wirerate_engine::Error>) -> Result<List, String> {
    let numbers = numbers.map_err(|e| e.what)?;
    if numbers.is_empty() { Err("name at least one, as 2-5 or 2,4".to_owned()) } else { Ok(List(numbers)) }
}

fn parse_burst(text: &str) -> Result<Burst, String> {
    match text.parse() {
        _ if text == "auto" => Ok(Burst(None)),
        Ok(packets @ 1..=MAX_BURST) => Ok(Burst(Some(packets))),
        _ => Err(format!("auto or a number of packets from 1 to {MAX_BURST} is needed")),
    }
}

fn parse_ports(text: &str) -> Result<Ports, String> {
    let (first, last) = text.split_once('-').unwrap_or((text, text));
    let port = |t: &str| t.parse::<u16>().ok().filter(|&p| p > 0);
    match (port(first), port(last)) {
        (Some(a), Some(b)) if a <= b => Ok(Ports(a, b)),
        (Some(_), Some(_)) => Err("the first port is above the last".to_owned()),
        _ => Err("ports go from 1 to 65535, as 5001 or 5001-5008".to_owned()),
    }
}

pub fn parse_time(text: &str) -> Result<Duration, String> {
    // A bare number is what iperf users type.
    let parsed = match text.parse::<f64>() {
        Ok(seconds) => Duration::try_from_secs_f64(seconds).map_err(|e| e.to_string()),
        Err(_) => humantime::parse_duration(text).map_err(|e| e.to_string()),
    }?;
    if parsed.is_zero() || parsed > Duration::from_secs(366 * 86_400) {
        return Err("a time above 0 and up to a year is needed, as 10s or 500ms".to_owned());
    }
    Ok(parsed)
}

pub fn parse_interval(text: &str) -> Result<Duration, String> {
    let interval = parse_time(text)?;
    if interval < Duration::from_millis(100) { Err("at least 100ms".to_owned()) } else { Ok(interval) }
}

fn parse_percent(text: &str) -> Result<f64, String> {
    let number = text.strip_suffix('%').unwrap_or(text);
    match number.parse::<f64>() {
        Ok(percent) if (0.0..=100.0).contains(&percent) => Ok(percent),
        _ => Err("a percentage from 0 to 100 is needed, as 0.01%".to_owned()),
    }
}

/// DSCP by number or by the names of RFC 2474, RFC 2597, RFC 3246 and RFC 5865.
fn parse_dscp(text: &str) -> Result<u8, String> {
    let name = text.to_ascii_uppercase();
    let digit = |at: usize, range: std::ops::RangeInclusive<u8>| {
        name.as_bytes().get(at).map(|b| b.wrapping_sub(b'0')).filter(|d| range.contains(d))
    };
    let named = match name.as_str() {
        "EF" => Some(46),
        "VA" => Some(44),
        "BE" | "DF" => Some(0),
        _ if name.len() == 4 && name.starts_with("AF") => {
            digit(2, 1..=4).zip(digit(3, 1..=3)).map(|(class, drop)| class * 8 + drop * 2)
        }
        _ if name.len() == 3 && name.starts_with("CS") => digit(2, 0..=7).map(|class| class * 8),
        _ => name.parse().ok().filter(|&dscp| dscp <= 63),
    };
    named.ok_or_else(|| "a DSCP is 0 to 63, EF, VA, CS0 to CS7 or AF11 to AF43".to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;
    use clap::CommandFactory;

    #[test]
    fn the_definition_is_consistent() {
        Cli::command().debug_assert();
    }

    #[test]
    fn every_option_is_explained() {
        for command in Cli::command().get_subcommands() {
            assert!(command.get_about().is_some(), "{}", command.get_name());
            for arg in command.get_arguments() {
                let name = format!("{} {}", command.get_name(), arg.get_id());
                let help = arg.get_help().map(ToString::to_string).unwrap_or_default();
                assert!(help.len() > 10, "{name}: no help");
                // Where a value is a number, the text says in what unit or up to where, by an example or a limit.
                let values: Vec<_> =
                    arg.get_value_names().unwrap_or_default().iter().map(|v| v.as_str()).collect();
                let number = ["N", "TIME", "RATE", "SIZE", "PERCENT", "A-B", "LIST", "PPS", "ID", "DSCP"];
                if arg.get_action().takes_values() && values.iter().any(|v| number.contains(v)) {
                    assert!(
                        help.contains(|c: char| c.is_ascii_digit()),
                        "{name}: neither unit nor limit: {help}"
                    );
                }
            }
        }
    }

    #[test]
    fn dscp_names() {
        for (text, dscp) in [("EF", 46), ("af41", 34), ("CS5", 40), ("0", 0), ("63", 63), ("af13", 14)] {
            assert_eq!(parse_dscp(text), Ok(dscp), "{text}");
        }
        for text in ["64", "AF44", "AF51", "CS8", "", "AF", "é", "CSé"] {
            assert!(parse_dscp(text).is_err(), "{text}");
        }
    }

    #[test]
    fn times_ports_and_percentages() {
        assert_eq!(parse_time("2"), Ok(Duration::from_secs(2)));
        assert_eq!(parse_time("1500ms"), Ok(Duration::from_millis(1500)));
        for text in ["0", "-1", "nan", "inf", "1e300", "x", ""] {
            assert!(parse_time(text).is_err(), "{text}");
        }
        assert_eq!(parse_ports("5001-5008"), Ok(Ports(5001, 5008)));
        assert_eq!(parse_ports("9"), Ok(Ports(9, 9)));
        for text in ["0", "9-8", "1-", "65536", "a"] {
            assert!(parse_ports(text).is_err(), "{text}");
        }
        assert_eq!(parse_percent("0.01%"), Ok(0.01));
        assert!(parse_percent("nan").is_err());
        assert_eq!(
            (parse_buffer("64K"), parse_buffer("4m"), parse_buffer("2304")),
            (Ok(65_536), Ok(4 << 20), Ok(2304))
        );
        for text in ["", "K", "1", "2G", "1025M", "9999999999", "-1"] {
            assert!(parse_buffer(text).is_err(), "{text}");
        }
        assert_eq!(parse_slots("64"), Ok(64));
        for text in ["63", "100", "65536", "", "x"] {
            assert!(parse_slots(text).is_err(), "{text}");
        }
    }
}
