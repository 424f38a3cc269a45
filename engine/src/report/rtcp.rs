//! The report's part on RTCP.
#![forbid(unsafe_code)]

use std::net::SocketAddr;

use serde::Serialize;

/// What was said and heard by RTCP (RFC 3550 §6).
#[derive(Debug, Clone, Default, PartialEq, Serialize)]
pub struct Rtcp {
    /// SSRC of this receiver; a sender's are those of its streams.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub ssrc: Option<u32>,
    /// Canonical name of this end.
    pub cname: String,
    /// Sender reports sent.
    pub sr_sent: u64,
    /// Receiver reports sent.
    pub rr_sent: u64,
    /// Sources that said goodbye at the end.
    pub bye_sent: u64,
    /// Sender reports received.
    pub sr_received: u64,
    /// Receiver reports received.
    pub rr_received: u64,
    /// Sources whose goodbye was received.
    pub bye_received: u64,
    /// Packets of other types received: application-defined, feedback, extended reports.
    pub other_received: u64,
    /// Datagrams that were not well-formed RTCP.
    pub malformed: u64,
    /// Datagrams of others with an SSRC of this end.
    pub collisions: u64,
    /// Datagrams that could not be sent.
    pub errors: u64,
    /// Round-trip time to those that reported on the streams of this end, from LSR and DLSR (RFC 3550 §6.4.1).
    #[serde(skip_serializing_if = "Option::is_none")]
    pub rtt_ns: Option<RoundTrip>,
    /// What others said of the streams of this end, last.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub peers: Vec<RtcpPeer>,
    /// What senders said of themselves, last.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub senders: Vec<RtcpSender>,
}

/// Round-trip times.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
pub struct RoundTrip {
    /// Reports that told one.
    pub count: u64,
    /// Shortest.
    pub min: u64,
    /// Mean.
    pub mean: u64,
    /// Longest.
    pub max: u64,
}

/// The last report block of one participant on one stream of this end.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct RtcpPeer {
    /// SSRC of who reports.
    pub ssrc: u32,
    /// Where its reports come from.
    pub source: SocketAddr,
    /// Its canonical name.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub cname: Option<String>,
    /// SSRC of the stream.
    pub stream: u32,
    /// Share of the packets expected since its last report but one that were lost, 0 to 1, in steps of 1/256.
    pub fraction_lost: f64,
    /// Packets expected less those received; negative with duplicates.
    pub lost: i32,
    /// Highest sequence number received, with its cycles.
    pub highest_seq: u32,
    /// Interarrival jitter in units of the time stamp.
    pub jitter: u32,
    /// The same in ns.
    pub jitter_ns: u64,
    /// Last round-trip time.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub rtt_ns: Option<u64>,
}

/// The last sender report of one participant.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct RtcpSender {
    /// Its SSRC.
    pub ssrc: u32,
    /// Where its reports come from.
    pub source: SocketAddr,
    /// Its canonical name.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub cname: Option<String>,
    /// Packets that it sent, modulo 2³².
    pub packets: u32,
    /// Octets of payload that it sent, modulo 2³².
    pub octets: u32,
    /// Its wall clock at the report, in ns since 1970.
    pub unix_ns: u64,
    /// The same time as an RTP time stamp.
    pub rtp_timestamp: u32,
    /// Whether it said goodbye.
    pub left: bool,
}
