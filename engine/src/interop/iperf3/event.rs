//! What a server or a client has to tell, in the order in which it happens.
//!
//! ```text
//! server  Listening  { Accepted  Parameters  Begin  Interval…  End  OutputWanted?  Done | Failed }…  Listening…
//! client             Connecting  Accepted  Parameters  Begin  Interval…  End  (Done | Failed)
//! ```
//!
//! Events of tests that run at the same time are mixed; each names its test. A failure may come at any place; what was measured by then was told before it by
//! an [`Interval`] and an [`End`] without the peer's figures.
#![forbid(unsafe_code)]

use std::net::SocketAddr;
use std::time::SystemTime;

use super::config::{Amount, Direction};
use super::failure::Failure;

/// Something has happened. `test` counts from 1 in a server; a client's is 1.
#[derive(Debug)]
pub enum Event<'a> {
    /// The server waits for a client: at its beginning, and whenever the last test that ran has ended.
    Listening {
        /// Where, TCP and UDP.
        address: SocketAddr,
        /// The number of the next test: "Server listening on 5201 (test #1)".
        next: u64,
    },
    /// The client is about to connect.
    Connecting {
        /// The server as it was named.
        host: &'a str,
        /// Its port.
        port: u16,
    },
    /// The control connection stands and the cookie is known.
    Accepted {
        /// The test.
        test: u64,
        /// This end.
        local: SocketAddr,
        /// The other end.
        remote: SocketAddr,
        /// Of the control connection, without the NUL.
        cookie: &'a str,
        /// Segment size of the control connection in bytes; 0 when the kernel does not tell.
        mss: u32,
        /// When.
        at: SystemTime,
    },
    /// What is to be tested is known: the client's own, or what the server was sent and has accepted.
    Parameters {
        /// The test.
        test: u64,
        /// What.
        parameters: &'a Parameters,
    },
    /// All streams are connected, and data begins to flow.
    Begin(&'a Begin),
    /// An interval has passed.
    Interval(&'a Interval),
    /// The data has ended: all figures there will be.
    End(&'a End),
    /// The server's client wants what the server prints (`--get-server-output`): comes right after [`End`](Self::End), and what is put into `into` is sent.
    OutputWanted {
        /// The test.
        test: u64,
        /// What the server has printed of this test; it stays `None` when there is nothing.
        into: &'a mut Option<ServerOutput>,
    },
    /// The test is over, and both ends know each other's figures.
    Done {
        /// The test.
        test: u64,
    },
    /// The test, or the attempt to begin one, has failed. A server goes on.
    Failed {
        /// The test; 0: of none, as when a stranger's connection was no iperf3.
        test: u64,
        /// Why.
        failure: &'a Failure,
    },
    /// Something that a reader should know and that is no error, as one line without an end.
    Warning {
        /// The test, or 0.
        test: u64,
        /// What.
        text: &'a str,
    },
}

/// What is tested, as both ends agree on it.
#[derive(Debug, Clone, PartialEq)]
pub struct Parameters {
    /// `-R`, `--bidir`.
    pub direction: Direction,
    /// Streams in each direction.
    pub parallel: u16,
    /// UDP payload of each datagram in bytes.
    pub length: u16,
    /// When it is over.
    pub amount: Amount,
    /// Omitted seconds before.
    pub omit: u32,
    /// Bits of payload a second of each stream; 0: no limit.
    pub bandwidth: u64,
    /// Packets that leave together; 0: as the rate suggests.
    pub burst: u16,
    /// `--fq-rate` in bits a second, 0 without: told, and not used.
    pub fq_rate: u64,
    /// Socket buffer in bytes that was asked for; 0: none.
    pub window: u32,
    /// The byte of DSCP and ECN.
    pub tos: u8,
    /// IPv6 flow label; 0: none.
    pub flow_label: u32,
    /// IPv4 datagrams may not be cut.
    pub dont_fragment: bool,
    /// Numbers of 64 bits.
    pub counters_64bit: bool,
    /// Segmentation offload was asked for (`--gsro`).
    pub gso: bool,
    /// Receive offload was asked for (`--gsro`).
    pub gro: bool,
    /// Repeating payload.
    pub repeating_payload: bool,
    /// `-Z`.
    pub zero_copy: bool,
    /// `--skip-rx-copy`.
    pub skip_rx_copy: bool,
    /// The client wants what the server prints.
    pub get_server_output: bool,
    /// CPU of the server's workers that the client asks for.
    pub server_affinity: Option<u16>,
    /// `-T`.
    pub title: Option<String>,
    /// `--extra-data`.
    pub extra_data: Option<String>,
    /// Version of the client: "3.12".
    pub client_version: Option<String>,
    /// Who asked, where that was checked.
    pub user: Option<String>,
}

/// One direction of data between two sockets.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Stream {
    /// The protocol's number of it: 1, 3, 4, 5 and so on.
    pub id: u32,
    /// What iperf3 prints in front of the line: the descriptor of the socket.
    pub socket: i32,
    /// This end.
    pub local: SocketAddr,
    /// The other end.
    pub remote: SocketAddr,
    /// Whether this end sends.
    pub sender: bool,
}

/// A test's data begins to flow.
#[derive(Debug, Clone, PartialEq)]
pub struct Begin {
    /// The test.
    pub test: u64,
    /// In the order in which they were opened, which is that of all lists of streams below.
    pub streams: Vec<Stream>,
    /// Send buffer of a socket in bytes, as the kernel has it.
    pub send_buffer: u32,
    /// Receive buffer of a socket in bytes, as the kernel has it.
    pub receive_buffer: u32,
    /// How this end sends and receives: "uring, gso", "mmsg, gro".
    pub datapath: String,
    /// When.
    pub at: SystemTime,
}

/// An interval.
#[derive(Debug, Clone, PartialEq)]
pub struct Interval {
    /// The test.
    pub test: u64,
    /// Begin in seconds. Counts from 0 anew where the omitted beginning ends.
    pub start: f64,
    /// End in seconds.
    pub end: f64,
    /// Whether it is of the omitted beginning.
    pub omitted: bool,
    /// For each stream.
    pub streams: Vec<StreamInterval>,
}

/// What a stream did in an interval.
#[derive(Debug, Clone, Copy, PartialEq, Default)]
pub struct StreamInterval {
    /// Payload sent or received in bytes.
    pub bytes: u64,
    /// Of a sender: datagrams sent. Of a receiver: by how much the highest number rose.
    pub packets: u64,
    /// Lost, by iperf3's arithmetic; below zero when what was held for lost came later. 0 of a sender.
    pub lost: i64,
    /// Out of order, copies too. 0 of a sender.
    pub out_of_order: u64,
    /// Jitter at its end in seconds. 0 of a sender.
    pub jitter: f64,
}

/// The data of a test has ended.
#[derive(Debug, Clone, PartialEq)]
pub struct End {
    /// The test.
    pub test: u64,
    /// For each stream.
    pub streams: Vec<StreamEnd>,
    /// CPU time of this process.
    pub cpu: Cpu,
    /// Of the other end; `None` when the test ended early.
    pub peer_cpu: Option<Cpu>,
    /// What the server printed, where it was asked for.
    pub server_output: Option<ServerOutput>,
}

/// What a stream did in all, without the omitted beginning.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct StreamEnd {
    /// By this end.
    pub own: Totals,
    /// By the other; `None` when the test ended early.
    pub peer: Option<Totals>,
}

/// What one end says of a stream.
#[derive(Debug, Clone, Copy, PartialEq, Default)]
pub struct Totals {
    /// Payload in bytes.
    pub bytes: u64,
    /// Of a sender: datagrams sent. Of a receiver: the highest number. Both without the omitted beginning.
    pub packets: u64,
    /// Lost, by iperf3's arithmetic.
    pub lost: i64,
    /// Out of order, copies too. The other end does not tell, so that it is 0 there.
    pub out_of_order: u64,
    /// Jitter in seconds.
    pub jitter: f64,
    /// How long it lasted in seconds.
    pub seconds: f64,
}

/// CPU time as percentages of the time that a test took.
#[derive(Debug, Clone, Copy, PartialEq, Default)]
pub struct Cpu {
    /// `host_total`.
    pub total: f64,
    /// `host_user`.
    pub user: f64,
    /// `host_system`.
    pub system: f64,
}

/// What a server printed of a test.
#[derive(Debug, Clone, PartialEq)]
pub enum ServerOutput {
    /// Lines (`server_output_text`).
    Text(String),
    /// An object (`server_output_json`), of a server with `-J`.
    Json(serde_json::Value),
}
