//! RTCP at both ends (RFC 3550 §6): what is said about the streams of a run, and heard of others.
//!
//! `session` is pure: it is told the time, what came and what the streams are at, and says what is to be sent. `endpoint` is its socket and its
//! thread, away from the datapath, whose counters it is given every few tens of milliseconds.
#![forbid(unsafe_code)]

mod endpoint;
mod figures;
mod members;
pub(crate) mod random;
mod session;
mod timing;

use std::time::Duration;

use serde_json::{Value, json};

pub(crate) use endpoint::{Endpoint, EndpointSpec};
pub(crate) use figures::{ReceptionFigures, SenderFigures};
pub(crate) use session::rtcp_address;

/// How RTCP is to be done.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct RtcpConfig {
    /// Whether at all.
    pub on: bool,
    /// Time between reports; `None`: by RFC 3550 §6.2, about 5 s, and longer with many participants.
    pub interval: Option<Duration>,
    /// Whether it shares the port of RTP (RFC 5761); else it has the next one.
    pub mux: bool,
}

impl Default for RtcpConfig {
    fn default() -> Self {
        Self { on: true, interval: None, mux: false }
    }
}

impl RtcpConfig {
    /// The effective configuration, for the report.
    pub(crate) fn describe(&self) -> Value {
        if !self.on {
            return json!("off");
        }
        json!({
            "interval_ns": self.interval.map_or(json!("rfc3550"), |i| json!(i.as_nanos() as u64)),
            "mux": self.mux,
        })
    }
}
