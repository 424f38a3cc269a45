//! What to receive.
#![forbid(unsafe_code)]

use std::ops::RangeInclusive;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use serde_json::{Value, json};

use super::FormatChoice;
use super::cable::SenderPort;
use super::observer::ObserverSpec;
use super::rtcp::Inbox;
use super::sink::SinkChoice;
use crate::backend::Choice;
use crate::clock;
use crate::host::sched::Policy;
use crate::interop::iperf2::server::Spec;
use crate::measure::media::MediaSpec;
use crate::profile::payload::Payload;
use crate::profile::segments::Segments;
use crate::queue::Tuning;
use crate::report::effective;
use crate::rtcp::RtcpConfig;
use crate::target::{Scheme, Target};

/// Called with every datagram when somebody wants to look at them.
pub type Inspect = fn(&crate::queue::RxMeta, &[u8]);

/// What to receive, and for how long.
///
/// With none of `duration`, `count` and `idle` a run waits for the first sender and ends with the last.
#[derive(Debug, Clone)]
pub struct RecvConfig {
    /// What to receive; its source, if any, is the only one wanted.
    pub target: Target,
    /// Interface; `None`: the one that the route leads to, or any.
    pub interface: Option<String>,
    /// Datapath.
    pub backend: Choice,
    /// Which program counts, for `xdp`.
    pub sink: SinkChoice,
    /// Workers at most (`uring`, `mmsg`): where there are more groups, one receives all groups of a port. `None`: as many as CPUs.
    pub workers: Option<usize>,
    /// NIC queues for `afxdp`; empty: all.
    pub queues: Vec<usize>,
    /// How AF_XDP sockets work with their driver.
    pub tuning: Tuning,
    /// Whether the NIC is to stamp what arrives, besides the [kernel](Tuning::kernel_stamps) (not `xdp`).
    pub nic_stamps: bool,
    /// Whether the NIC is to direct packets to the queues that were named, where it can (`afxdp`).
    pub steer: bool,
    /// CPUs for the workers; empty: chosen.
    pub cpus: Vec<usize>,
    /// Put workers on the CPUs that serve their queues' interrupts, rather than away from them.
    pub on_irq_cpu: bool,
    /// Scheduling policy of the workers.
    pub policy: Policy,
    /// UDP destination ports; `None`: the target's.
    pub destination_ports: Option<RangeInclusive<u16>>,
    /// Consecutive groups or addresses from the target's on.
    pub groups: u16,
    /// What arrives.
    pub format: FormatChoice,
    /// Compare every byte behind the probe header with this.
    pub verify: Option<Arc<Payload>>,
    /// What is known of media streams.
    pub media: MediaSpec,
    /// RTCP, for targets of RTP.
    pub rtcp: RtcpConfig,
    /// Where workers put RTCP that comes on the port of RTP, for whoever reads it.
    pub inbox: Inbox,
    /// Called with every datagram.
    pub inspect: Option<Inspect>,
    /// Stop after this time.
    pub duration: Option<Duration>,
    /// Stop after this many datagrams of a recognised format.
    pub count: Option<u64>,
    /// Stop when nothing has arrived for this time, counted from the first arrival.
    pub idle: Option<Duration>,
    /// Go on when every sender has said its end.
    pub keep: bool,
    /// Have the kernel tell what it drops of the packets, where this process may ask it to.
    pub kernel_drops: bool,
    /// The sender's port, when it is on this host and a cable leads from it to `interface`: what its counters and that one's differ by was lost on the cable.
    pub sender_port: Option<SenderPort>,
    /// Whether several datagrams may come in one buffer (`uring`, `mmsg`).
    pub segments: Segments,
    /// Write when each packet left the sender's driver and came to this host's, where both kernels say so, to this file, as CSV.
    pub packets: Option<PathBuf>,
    /// Write the latencies of each interval to this file, in HdrHistogram's log format.
    pub hlog: Option<PathBuf>,
    /// Tell of the lines that iperf 2's server would print, as [`Event::Iperf2`](crate::control::Event::Iperf2).
    pub as_iperf2: bool,
    /// Time between interim results.
    pub interval: Duration,
}

impl RecvConfig {
    /// A configuration with every option at its default.
    pub fn new(target: Target) -> Self {
        Self {
            target,
            interface: None,
            backend: Choice::Auto,
            sink: SinkChoice::Auto,
            workers: None,
            queues: Vec::new(),
            tuning: Tuning::default(),
            nic_stamps: false,
            steer: true,
            cpus: Vec::new(),
            on_irq_cpu: false,
            policy: Policy::Other,
            destination_ports: None,
            groups: 1,
            format: FormatChoice::Auto,
            verify: None,
            media: MediaSpec::default(),
            rtcp: RtcpConfig::default(),
            inbox: Inbox::default(),
            inspect: None,
            duration: None,
            count: None,
            idle: None,
            keep: false,
            kernel_drops: true,
            sender_port: None,
            segments: Segments::Auto,
            packets: None,
            hlog: None,
            as_iperf2: false,
            interval: Duration::from_secs(1),
        }
    }

    /// What the observers are to be made with, for a receiver that is ready at `ready_ns`.
    pub(crate) fn observer(&self, ready_ns: u64) -> ObserverSpec {
        let (verify, media) = (self.verify.clone(), self.media.clone());
        let inbox = Some(self.inbox.clone()).filter(|_| self.target.scheme == Scheme::Rtp && self.rtcp.on);
        let as_iperf2 = self.as_iperf2.then(|| Spec {
            interval_ns: self.interval.as_nanos() as u64,
            tai_minus_utc_ns: clock::tai_minus_utc_ns(),
        });
        ObserverSpec { format: self.format(), ready_ns, verify, media, inbox, as_iperf2 }
    }

    /// What arrives: RTP where the target says so and nothing else does.
    pub(crate) fn format(&self) -> FormatChoice {
        match (self.format, self.target.scheme) {
            (FormatChoice::Auto, Scheme::Rtp) => FormatChoice::Rtp,
            (format, _) => format,
        }
    }

    /// The effective configuration, for the report.
    pub(crate) fn describe(&self) -> Value {
        effective(json!({
            "target": self.target.to_string(),
            "iface": self.interface,
            "backend": self.backend,
            "kernel_drops": self.kernel_drops,
            "sink": (self.backend == Choice::Xdp).then(|| self.sink.name()),
            "on_irq_cpu": self.on_irq_cpu,
            "sched": self.policy.to_string(),
            "busy_poll": self.tuning.busy_poll,
            "ring_size": self.tuning.rx_ring,
            "frames": self.tuning.rx_frames,
            "receive_buffer_bytes": self.tuning.receive_buffer,
            "workers": self.workers,
            "queues": self.queues,
            "dst_port": self.destination_ports.as_ref().map(|r| [*r.start(), *r.end()]),
            "groups": self.groups,
            "rtcp": (self.target.scheme == Scheme::Rtp).then(|| self.rtcp.describe()),
            "format": self.format().name(),
            "media_rate_bps": self.media.media_rate_bps,
            "verify_payload": self.verify.as_ref().map(|p| p.name()),
            "duration_ns": self.duration.map(|d| d.as_nanos() as u64),
            "count": self.count,
            "idle_ns": self.idle.map(|d| d.as_nanos() as u64),
            "keep": self.keep,
            "sender_iface": self.sender_port.as_ref().map(ToString::to_string),
            "segments": self.segments,
            "timestamps": match (self.nic_stamps, self.tuning.kernel_stamps) {
                (true, _) => "nic",
                (false, true) => "kernel",
                (false, false) => "user",
            },
            "hlog": self.hlog,
            "packets": self.packets,
            "interval_ns": self.interval.as_nanos() as u64,
        }))
    }
}
