//! What both ends report, as docs/stamp.schema.json and docs/reflect.schema.json describe it.
#![forbid(unsafe_code)]

use std::net::{IpAddr, SocketAddr};

use serde::Serialize;

use crate::report::{Check, Distribution, Outcome, Verdict, Warning};

/// The value of [`Report::schema`].
pub const SCHEMA: &str = "wirerate.stamp/1";

/// The value of [`Reflected::schema`].
pub const REFLECT_SCHEMA: &str = "wirerate.reflect/1";

/// What a session-sender found out.
#[derive(Debug, Clone, Serialize)]
pub struct Report {
    /// [`SCHEMA`].
    pub schema: &'static str,
    /// Start in RFC 3339, UTC.
    pub started_at: String,
    /// The effective configuration.
    pub config: serde_json::Value,
    /// Our address and port.
    pub source: SocketAddr,
    /// Session identifier (RFC 8972 §3).
    pub ssid: u16,
    /// From the first packet to the end of the waiting, in ns.
    pub duration_ns: u64,
    /// What was sent.
    pub tx: Tx,
    /// What came back.
    pub rx: Rx,
    /// Packets that were never answered.
    pub loss: Loss,
    /// Times of the round trips.
    pub times: Times,
    /// The other end; absent when it never answered.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub reflector: Option<Reflector>,
    /// Who took our times.
    pub timestamps: Stamps,
    /// What a reader should know before believing the figures.
    pub warnings: Vec<Warning>,
    /// Whether it met what was expected of it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub verdict: Option<Verdict>,
}

/// What was sent.
#[derive(Debug, Clone, Default, Serialize)]
pub struct Tx {
    /// Packets.
    pub packets: u64,
    /// Times that this host refused a packet; it left later, under the same number, or not at all.
    pub errors: u64,
    /// Packets that were answered by ICMP: nobody listens, or nobody may.
    pub refused: u64,
}

/// What came back.
#[derive(Debug, Clone, Default, Serialize)]
pub struct Rx {
    /// Answers to our packets: all below but foreign ones.
    pub packets: u64,
    /// Packets that were answered in time.
    pub answered: u64,
    /// Packets whose answer came after the time that was waited for it; it is in no figure of time.
    pub late: u64,
    /// Answers to packets that had been answered.
    pub duplicate: u64,
    /// Answers that came after one to a later packet.
    pub reordered: u64,
    /// What is no answer to one of our packets.
    pub foreign: u64,
    /// Datagrams that came to this host and that the kernel dropped at our socket, for want of room; they are among the lost.
    pub dropped_here: u64,
}

/// Packets that were never answered.
#[derive(Debug, Clone, Serialize)]
pub struct Loss {
    /// Packets: sent, less answered, less answered late.
    pub lost: u64,
    /// Of those sent, in percent; absent when none was.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub percent: Option<f64>,
    /// On which way, where the reflector counts its answers.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub split: Option<Split>,
    /// Why there is no split.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub no_split: Option<&'static str>,
}

/// Where packets were lost.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
pub struct Split {
    /// On the way to the reflector, or in it.
    pub forward: u64,
    /// Answers, on the way back.
    pub backward: u64,
    /// After the last packet that was answered: either.
    pub unplaced: u64,
}

/// Times of the round trips, in ns. Absent where there is none.
#[derive(Debug, Clone, Default, Serialize)]
pub struct Times {
    /// (T4 − T1) − (T3 − T2): without the time in the reflector.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub rtt_ns: Option<Distribution>,
    /// The same from the time at which the packet was to leave, whether this host was in time or not.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub rtt_from_schedule_ns: Option<Distribution>,
    /// T3 − T2: in the reflector.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub reflector_ns: Option<Distribution>,
    /// From the time at which a packet was to leave to its T1.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub departure_lag_ns: Option<Distribution>,
    /// How much one round trip differs from that of the packet before (RFC 3393).
    #[serde(skip_serializing_if = "Option::is_none")]
    pub variation_ns: Option<Distribution>,
    /// The same of the way there; the clocks need not agree.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub variation_forward_ns: Option<Distribution>,
    /// The same of the way back.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub variation_backward_ns: Option<Distribution>,
    /// T2 − T1, only where both ends say that their clocks are synchronised.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub one_way_forward_ns: Option<Distribution>,
    /// T4 − T3, likewise.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub one_way_backward_ns: Option<Distribution>,
    /// How far off one-way times may be: the sum of both ends' error estimates at their largest.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub one_way_error_ns: Option<u64>,
    /// How far the other end's clock is ahead of this one's: ((T2 − T1) + (T3 − T4)) / 2 of the shortest round trip.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub clock_offset_ns: Option<i64>,
    /// By how much that may be wrong, for ways of which one takes longer than the other: half of that round trip.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub clock_offset_error_ns: Option<u64>,
    /// Times that came out negative, because a clock was set; in no figure.
    pub negative: u64,
}

/// What the answers tell of the other end.
#[derive(Debug, Clone, Serialize)]
pub struct Reflector {
    /// `stateful` or `stateless`; `unknown` while both are possible.
    pub mode: &'static str,
    /// Time stamps: `ntp` or `ptp`.
    pub format: &'static str,
    /// It says that its clock is synchronised.
    pub synchronized: bool,
    /// Its error estimate, in ns.
    pub error_ns: u64,
    /// It sends the session identifier back.
    pub ssid: bool,
    /// Lowest TTL or hop limit that our packets came to it with; they leave with 255.
    pub ttl_min: u8,
    /// Highest.
    pub ttl_max: u8,
}

/// Who took the times of the packets that were answered in time.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize)]
pub struct Stamps {
    /// T1.
    pub transmit: By,
    /// T4.
    pub receive: By,
}

/// Packets by who took their times.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize)]
pub struct By {
    /// The NIC.
    pub hardware: u64,
    /// The kernel.
    pub kernel: u64,
    /// This program.
    pub user: u64,
}

/// Figures of a stretch of time.
#[derive(Debug, Clone, Serialize)]
pub struct Interval {
    /// Beginning, in ns from the start.
    pub start_ns: u64,
    /// End.
    pub end_ns: u64,
    /// Packets that were sent.
    pub sent: u64,
    /// Packets that were answered.
    pub answered: u64,
    /// Packets that nobody had answered in time by the end of it.
    pub lost: u64,
    /// Round trips.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub rtt_ns: Option<Distribution>,
}

/// What a session-reflector did.
#[derive(Debug, Clone, Serialize)]
pub struct Reflected {
    /// [`REFLECT_SCHEMA`].
    pub schema: &'static str,
    /// Start in RFC 3339, UTC.
    pub started_at: String,
    /// The effective configuration.
    pub config: serde_json::Value,
    /// Where it listened.
    pub addresses: Vec<SocketAddr>,
    /// How long, in ns.
    pub duration_ns: u64,
    /// Datagrams that came.
    pub received: u64,
    /// Answers that left.
    pub answered: u64,
    /// Datagrams that were not answered, by reason.
    pub ignored: Ignored,
    /// Datagrams that the kernel dropped at our sockets, for want of room; not among those received.
    pub dropped_here: u64,
    /// Who took the receive times.
    pub receive_timestamps: By,
    /// Sessions of the stateful reflector, the first 1,000.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub sessions: Option<Vec<Session>>,
    /// What a reader should know.
    pub warnings: Vec<Warning>,
}

/// Datagrams that a reflector did not answer.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize)]
pub struct Ignored {
    /// Too short to be answered with no more than came.
    pub short: u64,
    /// With an error estimate that no sender writes.
    pub corrupt: u64,
    /// In authenticated mode.
    pub authenticated: u64,
    /// Another reflector's answers.
    pub answers: u64,
    /// To a group or a broadcast address.
    pub group: u64,
    /// Above the highest rate.
    pub limited: u64,
    /// Of sessions beyond those that can be followed.
    pub sessions: u64,
    /// Whose answer this host refused.
    pub errors: u64,
}

impl Ignored {
    /// All of them.
    pub fn total(&self) -> u64 {
        let Self { short, corrupt, authenticated, answers, group, limited, sessions, errors } = *self;
        short + corrupt + authenticated + answers + group + limited + sessions + errors
    }
}

/// A session as a stateful reflector saw it.
#[derive(Debug, Clone, Serialize)]
pub struct Session {
    /// The sender.
    pub source: SocketAddr,
    /// The address it sent to.
    pub destination: IpAddr,
    /// Its identifier; 0: none.
    pub ssid: u16,
    /// Different packets that came.
    pub unique: u64,
    /// Packets that came again.
    pub duplicate: u64,
    /// Packets that came after a later one.
    pub reordered: u64,
    /// Packets before the last that came which did not.
    pub lost: u64,
    /// Answers that left.
    pub answered: u64,
}

impl Report {
    /// Adds the verdict on `--expect-loss-below`, in percent of the packets sent.
    pub fn expect_loss_below(&mut self, below: f64) {
        let lost = self.loss.lost + self.rx.late;
        let (got, outcome) = match self.tx.packets {
            0 => ("no packets".to_owned(), Outcome::Inconclusive),
            sent => {
                let percent = lost as f64 * 100.0 / sent as f64;
                // "Below 0 %" is how users ask for no loss at all.
                let met = percent < below || lost == 0;
                let outcome = if met { Outcome::Pass } else { Outcome::Fail };
                (format!("{percent:.6} % ({lost} of {sent})"), outcome)
            }
        };
        let check = Check { name: "loss", want: format!("< {below} %"), got, outcome };
        self.verdict = Some(Verdict { outcome, checks: vec![check] });
    }
}
