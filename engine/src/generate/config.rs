//! What to send.
#![forbid(unsafe_code)]

use std::net::SocketAddr;
use std::ops::RangeInclusive;
use std::sync::Arc;
use std::time::Duration;

use serde_json::{Value, json};

use crate::backend::Choice;
use crate::error::Result;
use crate::host::sched::Policy;
use crate::profile::mix::Mix;
use crate::profile::payload::Payload;
use crate::profile::rate::Rate;
use crate::profile::rtp::RtpConfig;
use crate::profile::segments::Segments;
use crate::profile::size::{Framing, SizeList, Sizes};
use crate::queue::Tuning;
use crate::report::effective;
use crate::target::Target;

/// Packet sizes, as one of the two ways to say them.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum SizeSpec {
    /// Ethernet frames with FCS.
    Frame(SizeList),
    /// UDP payloads.
    Length(SizeList),
}

impl SizeSpec {
    /// The payload lengths that they come to.
    ///
    /// # Errors
    /// `Usage`, naming the limit, when one is too small for headers and probe, or too large for UDP.
    pub fn resolve(&self, framing: Framing) -> Result<Sizes> {
        match self {
            Self::Frame(list) => Sizes::from_frames(list, framing),
            Self::Length(list) => Sizes::from_lengths(list, framing),
        }
    }

    fn frames(&self) -> Option<&SizeList> {
        if let Self::Frame(list) = self { Some(list) } else { None }
    }

    fn lengths(&self) -> Option<&SizeList> {
        if let Self::Length(list) = self { Some(list) } else { None }
    }
}

/// What to send, how fast, and for how long. With none of `duration`, `count` and `bytes` it goes on until stopped.
#[derive(Debug, Clone)]
pub struct SendConfig {
    /// Where to; its source, if any, is the source address of the packets.
    pub target: Target,
    /// Interface; `None`: the one that the route leads to.
    pub interface: Option<String>,
    /// Datapath.
    pub backend: Choice,
    /// NIC queues for `afxdp`; empty: queue 0.
    pub queues: Vec<usize>,
    /// Worker threads for sockets and `xdp`.
    pub workers: usize,
    /// How AF_XDP sockets work with their driver.
    pub tuning: Tuning,
    /// CPUs for the workers; empty: chosen.
    pub cpus: Vec<usize>,
    /// Put workers on the CPUs that serve their queues' interrupts, rather than away from them.
    pub on_irq_cpu: bool,
    /// Scheduling policy of the workers.
    pub policy: Policy,
    /// Offered load.
    pub rate: Rate,
    /// Packets that each worker sends back to back, followed by a silence that keeps the rate; `None`: what is due when it looks, at
    /// most 100 µs' worth.
    pub burst: Option<u32>,
    /// Give each packet a time at which the queueing discipline lets it go (SO_TXTIME).
    pub txtime: bool,
    /// Packet sizes.
    pub sizes: SizeSpec,
    /// Stop after this time.
    pub duration: Option<Duration>,
    /// Stop after this many packets, all streams together.
    pub count: Option<u64>,
    /// Stop after this many bytes of UDP payload, all streams together.
    pub bytes: Option<u64>,
    /// Streams; `None`: as many as ports or groups.
    pub streams: Option<u16>,
    /// UDP source ports, in turn; `None`: ephemeral.
    pub source_ports: Option<RangeInclusive<u16>>,
    /// UDP destination ports, in turn; `None`: the target's.
    pub destination_ports: Option<RangeInclusive<u16>>,
    /// Consecutive groups or addresses from the target's on, in turn.
    pub groups: u16,
    /// Single hosts whose packets stand between those of the groups, in turn (see [`Mix`]).
    pub between: Vec<SocketAddr>,
    /// Packets to these, in percent of all.
    pub between_percent: f64,
    /// TTL or hop limit; `None`: 1 for groups, 64 else.
    pub ttl: Option<u8>,
    /// DSCP.
    pub dscp: u8,
    /// Refuse payloads that the MTU would cut into fragments.
    pub dont_fragment: bool,
    /// 802.1Q VLAN identifier (`afxdp`, `xdp`).
    pub vlan: Option<u16>,
    /// How RTP packets are made; `None`: without RTP.
    pub rtp: Option<RtpConfig>,
    /// Whether packets have iperf 2's headers, and are no RTP.
    pub iperf2: bool,
    /// What follows the headers.
    pub payload: Arc<Payload>,
    /// Datagrams handed over in one buffer (`uring`, `mmsg`).
    pub segments: Segments,
    /// Have the kernel tell what it drops of the packets, where this process may ask it to.
    pub kernel_drops: bool,
    /// Time between interim results.
    pub interval: Duration,
}

impl SendConfig {
    /// A configuration with every option at its default.
    pub fn new(target: Target) -> Self {
        Self {
            target,
            interface: None,
            backend: Choice::Auto,
            queues: Vec::new(),
            workers: 1,
            tuning: Tuning::default(),
            cpus: Vec::new(),
            on_irq_cpu: false,
            policy: Policy::Other,
            rate: Rate::Pps(1000.0),
            burst: None,
            txtime: false,
            sizes: SizeSpec::Length(SizeList::Cycle(vec![1400])),
            duration: None,
            count: None,
            bytes: None,
            streams: None,
            source_ports: None,
            destination_ports: None,
            groups: 1,
            between: Vec::new(),
            between_percent: 50.0,
            ttl: None,
            dscp: 0,
            dont_fragment: false,
            vlan: None,
            rtp: None,
            iperf2: false,
            payload: Arc::new(Payload::pattern()),
            segments: Segments::Auto,
            kernel_drops: true,
            interval: Duration::from_secs(1),
        }
    }

    /// The order of groups and single hosts, where there are both.
    pub(crate) fn mix(&self) -> Option<Mix> {
        let hosts = u16::try_from(self.between.len()).unwrap_or(u16::MAX);
        (hosts > 0).then(|| Mix::new(self.groups, hosts, self.between_percent))
    }

    /// TTL in effect.
    pub fn effective_ttl(&self) -> u8 {
        self.ttl.unwrap_or(if self.target.is_group() { 1 } else { 64 })
    }

    /// The effective configuration, for the report.
    pub(crate) fn describe(&self) -> Value {
        effective(json!({
            "target": self.target.to_string(),
            "iface": self.interface,
            "backend": self.backend,
            "kernel_drops": self.kernel_drops,
            "on_irq_cpu": self.on_irq_cpu,
            "sched": self.policy.to_string(),
            "busy_poll": self.tuning.busy_poll,
            "zero_copy": if self.tuning.zero_copy { "auto" } else { "off" },
            "rate": match self.rtp.as_ref().and_then(|rtp| rtp.ptime) {
                Some(_) => "ptime".to_owned(),
                None => self.rate.to_string(),
            },
            "rtp": self.rtp.as_ref().map(RtpConfig::describe),
            "burst": self.burst.map_or(json!("auto"), |n| json!(n)),
            "frame_size": self.sizes.frames().map(ToString::to_string),
            "length": self.sizes.lengths().map(ToString::to_string),
            "duration_ns": self.duration.map(|d| d.as_nanos() as u64),
            "count": self.count,
            "bytes": self.bytes,
            "streams": self.streams,
            "src_port": self.source_ports.as_ref().map(|r| [*r.start(), *r.end()]),
            "dst_port": self.destination_ports.as_ref().map(|r| [*r.start(), *r.end()]),
            "groups": self.groups,
            "between": (!self.between.is_empty()).then(|| json!(self.between)),
            "between_percent": self.mix().map(|mix| mix.hosts_share() * 100.0),
            "ttl": self.effective_ttl(),
            "dscp": self.dscp,
            "dont_fragment": self.dont_fragment,
            "vlan": self.vlan,
            "format": if self.iperf2 { "iperf2" } else { "wirerate" },
            "payload": self.payload.name(),
            "segments": self.segments,
            "interval_ns": self.interval.as_nanos() as u64,
        }))
    }
}
