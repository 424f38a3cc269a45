//! iperf3's protocol for UDP, both roles: [`serve`] and [`run`].
//!
//! One TCP connection controls a test, and UDP carries it, to the same port. Everything a server or a client would print is told by [`Event`]s, for several tests
//! at once; the caller turns them into text or into the objects of [`output`]. docs/iperf3.md has the protocol and what differs from iperf3.
#![forbid(unsafe_code)]

mod arrivals;
mod auth;
mod client;
pub mod config;
pub mod control;
mod counters;
mod cpus;
mod data;
pub mod event;
pub mod failure;
pub mod header;
mod link;
mod meter;
pub mod output;
mod parameters;
mod receive;
pub mod results;
mod send;
mod server;
mod sockets;
pub mod state;
mod usage;

use std::time::Duration;

pub use config::{
    Amount, Backend, BitrateLimit, ClientAuthentication, ClientConfig, Direction, Family, KeepAlive,
    ServerAuthentication, ServerConfig,
};
pub use event::{
    Begin, Cpu, End, Event, Interval, Parameters, ServerOutput, Stream, StreamEnd, StreamInterval, Totals,
};
pub use failure::{Code, Failure};

/// iperf3's port.
pub const DEFAULT_PORT: u16 = 5201;

/// Most streams in one direction (`-P`).
pub const MAX_STREAMS: u16 = 128;

/// Shortest UDP payload (`-l`), in bytes.
pub const MIN_LENGTH: u16 = 16;

/// Longest UDP payload (`-l`), in bytes.
pub const MAX_LENGTH: u16 = 65_507;

/// UDP payload where neither user nor control connection name one, in bytes.
pub const DEFAULT_LENGTH: u16 = 1460;

/// Bits a second of a UDP stream where the user names none (`-b`).
pub const DEFAULT_BANDWIDTH: u64 = 1 << 20;

/// Longest test (`-t`), in seconds.
pub const MAX_SECONDS: u32 = 86_400;

/// Longest omitted beginning (`-O`), in seconds.
pub const MAX_OMIT: u32 = 600;

/// Most packets of a burst (`-b RATE/N`).
pub const MAX_BURST: u16 = 1000;

/// Bytes of the cookie without its NUL.
pub const COOKIE_LEN: usize = 36;

/// What a caller asks of [`serve`] and [`run`] while they run.
pub type Control = crate::control::Stop;

/// Serves tests until it is asked to stop, or until one was served with [`ServerConfig::one_off`].
///
/// # Errors
/// When it cannot listen, or the configuration is wrong; with `one_off` also when the one test failed. Else a test's failure is an event.
pub fn serve(
    config: &ServerConfig,
    control: &Control,
    tell: &mut dyn FnMut(Event<'_>),
) -> Result<(), Failure> {
    server::serve(config, control, tell)
}

/// Runs one test as client.
///
/// # Errors
/// When the configuration is wrong, the server cannot be reached or refuses, or the test fails or is interrupted. It was told as [`Event::Failed`], too.
pub fn run(config: &ClientConfig, control: &Control, tell: &mut dyn FnMut(Event<'_>)) -> Result<(), Failure> {
    client::run(config, control, tell)
}

/// Refuses an interval between reports that iperf3 does not have: 0.1 to 60 s, or none.
fn check_interval(interval: Duration) -> Result<(), Failure> {
    let seconds = interval.as_secs_f64();
    if interval.is_zero() || (0.1..=60.0).contains(&seconds) {
        Ok(())
    } else {
        Err(Failure::new(Code::Interval))
    }
}
