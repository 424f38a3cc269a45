//! The object of `-J`, key by key and in iperf3's order. Times are in seconds, rates in bits of UDP payload a second.
#![forbid(unsafe_code)]

use serde::{Serialize, Serializer};
use serde_json::Value;

/// A number as iperf3 writes it: whole ones without a point.
#[derive(Debug, Clone, Copy, PartialEq, Default)]
pub struct Figure(pub f64);

impl From<f64> for Figure {
    fn from(value: f64) -> Self {
        Self(value)
    }
}

impl Serialize for Figure {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        const EXACT: f64 = 9_007_199_254_740_992.0;
        if self.0.fract() == 0.0 && self.0.abs() < EXACT {
            // Whole and within what both types hold exactly.
            serializer.serialize_i64(self.0 as i64)
        } else if self.0.is_finite() {
            serializer.serialize_f64(self.0)
        } else {
            // JSON has no such numbers, and readers of iperf3's do arithmetic with what they find.
            serializer.serialize_i64(0)
        }
    }
}

/// What one end of a test prints.
#[derive(Debug, Clone, PartialEq, Default, Serialize)]
pub struct Output {
    /// What was set up.
    pub start: Start,
    /// What happened meanwhile.
    pub intervals: Vec<Interval>,
    /// What it came to.
    pub end: End,
    /// Why it failed.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub error: Option<String>,
    /// `-T`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub title: Option<String>,
    /// `--extra-data`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub extra_data: Option<String>,
    /// What the server printed, with `--get-server-output`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub server_output_text: Option<String>,
    /// The same of a server with `-J`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub server_output_json: Option<Value>,
}

/// What was set up. A test that failed before it began has only the first three keys.
#[derive(Debug, Clone, PartialEq, Default, Serialize)]
pub struct Start {
    /// A stream each.
    pub connected: Vec<Connected>,
    /// "iperf 3.22 (wirerate 0.1.0)".
    pub version: String,
    /// As `uname -a` has it.
    pub system_info: String,
    /// When the control connection stood.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub timestamp: Option<Timestamp>,
    /// The client's server, as the user named it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub connecting_to: Option<Peer>,
    /// The server's client: the other end of the control connection.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub accepted_connection: Option<Peer>,
    /// Of the control connection.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub cookie: Option<String>,
    /// Rate of each stream; 0: no limit.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub target_bitrate: Option<u64>,
    /// `--fq-rate`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub fq_rate: Option<u64>,
    /// `-w` in bytes; 0: not asked for.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub sock_bufsize: Option<u32>,
    /// Send buffer in bytes, as the kernel has it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub sndbuf_actual: Option<u32>,
    /// Receive buffer in bytes, as the kernel has it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub rcvbuf_actual: Option<u32>,
    /// What is tested.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub test_start: Option<TestStart>,
}

/// The two ends of a stream.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Connected {
    /// Number in front of the stream's lines.
    pub socket: i32,
    /// This end's address.
    pub local_host: String,
    /// This end's port.
    pub local_port: u16,
    /// The other end's address.
    pub remote_host: String,
    /// The other end's port.
    pub remote_port: u16,
}

/// A time of the day.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Timestamp {
    /// "Sun, 29 Nov 2026 17:04:26 GMT".
    pub time: String,
    /// Seconds since 1970.
    pub timesecs: u64,
    /// Milliseconds since 1970.
    pub timemillisecs: u64,
}

/// The other end of the control connection.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Peer {
    /// Name or address.
    pub host: String,
    /// TCP port.
    pub port: u16,
}

/// What is tested.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct TestStart {
    /// "UDP".
    pub protocol: &'static str,
    /// Streams in each direction.
    pub num_streams: u16,
    /// UDP payload in bytes.
    pub blksize: u16,
    /// Seconds before the test that enter no figure.
    pub omit: u32,
    /// Seconds; 0 where bytes or datagrams end it.
    pub duration: u32,
    /// Bytes to be sent; 0: no limit.
    pub bytes: u64,
    /// Datagrams to be sent; 0: no limit.
    pub blocks: u64,
    /// 1 with `-R`.
    pub reverse: u8,
    /// The byte of DSCP and ECN.
    pub tos: u8,
    /// Rate of each stream; 0: no limit.
    pub target_bitrate: u64,
    /// 1 with `--bidir`.
    pub bidir: u8,
    /// `--fq-rate`.
    pub fqrate: u64,
    /// Seconds between reports; 0: none.
    pub interval: Figure,
    /// 1 when segmentation offload was asked for.
    pub gso: u8,
    /// 1 when receive offload was asked for.
    pub gro: u8,
}

/// What happened in an interval.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Interval {
    /// For each stream.
    pub streams: Vec<Span>,
    /// All streams from client to server, or the only direction.
    pub sum: Span,
    /// All streams from server to client, with `--bidir`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub sum_bidir_reverse: Option<Span>,
}

/// Figures of an interval.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Span {
    /// Of a stream: its number.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub socket: Option<i32>,
    /// Begin.
    pub start: Figure,
    /// End.
    pub end: Figure,
    /// How long.
    pub seconds: Figure,
    /// Payload in bytes.
    pub bytes: u64,
    /// Payload.
    pub bits_per_second: Figure,
    /// Of a receiver.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub jitter_ms: Option<Figure>,
    /// Of a receiver.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub lost_packets: Option<i64>,
    /// Of a sender: datagrams sent. Of a receiver: by how much the highest number rose.
    pub packets: u64,
    /// Of a receiver.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub lost_percent: Option<Figure>,
    /// Whether it is of the omitted beginning.
    pub omitted: bool,
    /// Whether this end sends.
    pub sender: bool,
}

/// What it came to. Empty when no data flowed.
#[derive(Debug, Clone, PartialEq, Default, Serialize)]
pub struct End {
    /// For each stream.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub streams: Option<Vec<StreamTotal>>,
    /// Both ends' figures mixed, as iperf3 has always had them; `sum_received` is what arrived.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub sum: Option<Total>,
    /// By the sender.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub sum_sent: Option<Total>,
    /// By the receiver.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub sum_received: Option<Total>,
    /// `sum` from server to client, with `--bidir`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub sum_bidir_reverse: Option<Total>,
    /// `sum_sent` from server to client, with `--bidir`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub sum_sent_bidir_reverse: Option<Total>,
    /// `sum_received` from server to client, with `--bidir`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub sum_received_bidir_reverse: Option<Total>,
    /// CPU time.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub cpu_utilization_percent: Option<CpuUtilization>,
}

/// What a stream came to.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct StreamTotal {
    /// The only protocol.
    pub udp: Total,
}

/// Figures of a whole test.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Total {
    /// Of a stream: its number.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub socket: Option<i32>,
    /// 0.
    pub start: Figure,
    /// How long it took.
    pub end: Figure,
    /// The same.
    pub seconds: Figure,
    /// Payload in bytes.
    pub bytes: u64,
    /// Payload.
    pub bits_per_second: Figure,
    /// RFC 1889, the mean of all streams.
    pub jitter_ms: Figure,
    /// By iperf3's arithmetic.
    pub lost_packets: i64,
    /// Of a sender: datagrams sent. Of a receiver: the highest number.
    pub packets: u64,
    /// Lost of these.
    pub lost_percent: Figure,
    /// Of a stream: out of order, copies too.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub out_of_order: Option<u64>,
    /// Whether the figures are a sender's; of a stream and of `sum`: whether this end sends.
    pub sender: bool,
}

/// CPU time as percentages of the time that the test took.
#[derive(Debug, Clone, Copy, PartialEq, Serialize)]
pub struct CpuUtilization {
    /// Of this end.
    pub host_total: Figure,
    /// In user space.
    pub host_user: Figure,
    /// In the kernel.
    pub host_system: Figure,
    /// Of the other end; 0 when it did not tell.
    pub remote_total: Figure,
    /// In user space.
    pub remote_user: Figure,
    /// In the kernel.
    pub remote_system: Figure,
}
