//! Receiving: what a receive queue delivers becomes counts, stream by stream.
#![forbid(unsafe_code)]

mod ahead;
mod arrivals;
pub(crate) mod capture;
mod config;
mod ending;
mod moment;
mod observer;
mod offline;
mod pairs;
mod recv;
mod rtcp;
mod senders;
pub mod sink;
mod source;
mod stream;
mod team;
mod turns;
pub(crate) mod worker;

pub use config::RecvConfig;
pub use observer::{Hexdump, MAX_STREAMS, Observer, ObserverSpec};
pub use offline::{analyse, analyse_from};
pub use recv::run;
pub(crate) use recv::steered;
pub use rtcp::Inbox;
pub(crate) use sink::Place;
pub(crate) use source::Sunk;

use std::str::FromStr;

use crate::error::{Error, Result};

/// What the datagrams are expected to be (`--format`).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum FormatChoice {
    /// Recognised one flow at a time.
    #[default]
    Auto,
    /// wirerate's probe header; all else is foreign.
    Wirerate,
    /// iperf 2; all else is foreign.
    Iperf2,
    /// RTP, with or without wirerate's probe in it; all else is foreign.
    Rtp,
    /// An MPEG transport stream in datagrams without RTP; all else is foreign.
    Ts,
    /// Anything: packets and bytes are counted for each source, and nothing is foreign.
    Raw,
}

impl FormatChoice {
    /// The name that selects it.
    pub fn name(self) -> &'static str {
        match self {
            Self::Auto => "auto",
            Self::Wirerate => "wirerate",
            Self::Iperf2 => "iperf2",
            Self::Rtp => "rtp",
            Self::Ts => "ts",
            Self::Raw => "raw",
        }
    }
}

impl FromStr for FormatChoice {
    type Err = Error;

    fn from_str(text: &str) -> Result<Self> {
        [Self::Auto, Self::Wirerate, Self::Iperf2, Self::Rtp, Self::Ts, Self::Raw]
            .into_iter()
            .find(|choice| choice.name() == text)
            .ok_or_else(|| {
                Error::usage(format!("format {text}: unknown"))
                    .fix("use auto, wirerate, iperf2, rtp, ts or raw")
            })
    }
}
