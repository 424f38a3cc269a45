//! What a server or a client is asked to do: iperf3's options as plain data.
#![forbid(unsafe_code)]

use std::net::IpAddr;
use std::time::Duration;

use super::{DEFAULT_BANDWIDTH, DEFAULT_PORT};

/// Which IP version to use.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Family {
    /// Whatever names and addresses say; a server listens on both.
    #[default]
    Any,
    /// `-4`.
    V4,
    /// `-6`.
    V6,
}

/// How packets leave. They arrive by `recvmmsg`, which receives faster than io_uring.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Backend {
    /// io_uring where it works.
    #[default]
    Auto,
    /// io_uring.
    Uring,
    /// `sendmmsg`.
    Mmsg,
}

/// What a server is asked to do.
#[derive(Debug, Clone)]
pub struct ServerConfig {
    /// TCP and UDP port (`-p`).
    pub port: u16,
    /// Address to listen on (`-B`); `None`: all of the [`family`](Self::family).
    pub bind: Option<IpAddr>,
    /// Interface to listen on (`--bind-dev`).
    pub device: Option<String>,
    /// `-4`, `-6`.
    pub family: Family,
    /// Ends after one test (`-1`).
    pub one_off: bool,
    /// Time between reports (`-i`); zero: none. iperf3 allows 0.1 to 60 s.
    pub interval: Duration,
    /// Listens anew after so long without a test (`--idle-timeout`); with [`one_off`](Self::one_off) it ends.
    pub idle_timeout: Option<Duration>,
    /// A test whose data stops for so long has failed (`--rcv-timeout`, 120 s).
    pub receive_timeout: Duration,
    /// Longest test that is taken, omitted beginning included (`--server-max-duration`).
    pub max_duration: Option<Duration>,
    /// Most bits a second of a test, all streams together (`--server-bitrate-limit`).
    pub bitrate_limit: Option<BitrateLimit>,
    /// Who may test; `None`: everybody.
    pub authentication: Option<ServerAuthentication>,
    /// CPU of the workers (`-A`), unless the client names one; `None`: chosen.
    pub affinity: Option<usize>,
    /// The control connection's keep-alive (`--cntl-ka`).
    pub keep_alive: Option<KeepAlive>,
    /// How packets leave.
    pub backend: Backend,
    /// Most tests at once; a further client is told that the server is busy. iperf3 has 1.
    pub max_tests: u16,
}

impl Default for ServerConfig {
    fn default() -> Self {
        Self {
            port: DEFAULT_PORT,
            bind: None,
            device: None,
            family: Family::Any,
            one_off: false,
            interval: Duration::from_secs(1),
            idle_timeout: None,
            receive_timeout: Duration::from_secs(120),
            max_duration: None,
            bitrate_limit: None,
            authentication: None,
            affinity: None,
            keep_alive: None,
            backend: Backend::Auto,
            max_tests: 16,
        }
    }
}

/// `--server-bitrate-limit`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct BitrateLimit {
    /// Bits of payload a second.
    pub bits_per_second: u64,
    /// Time that the mean is taken over (iperf3: 5 s).
    pub over: Duration,
}

/// Who may test.
#[derive(Debug, Clone)]
pub struct ServerAuthentication {
    /// The RSA private key as PEM (`--rsa-private-key-path` is its file).
    pub private_key: String,
    /// Lines of `user,hash`, where the hash is SHA-256 of `{user}password` in hexadecimal (`--authorized-users-path` is its file).
    pub users: String,
    /// How far the client's clock may be off (`--time-skew-threshold`, 10 s).
    pub time_skew: Duration,
    /// PKCS #1 v1.5 padding, as versions before 3.17 have it (`--use-pkcs1-padding`); otherwise OAEP.
    pub pkcs1_padding: bool,
}

/// `--cntl-ka`: each zero is the system's own value.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct KeepAlive {
    /// Idle time before the first probe.
    pub idle: Duration,
    /// Time between probes.
    pub interval: Duration,
    /// Probes without an answer.
    pub count: u32,
}

/// Which way data goes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Direction {
    /// From the client to the server.
    #[default]
    Normal,
    /// From the server to the client (`-R`).
    Reverse,
    /// Both ways (`--bidir`).
    Bidirectional,
}

/// When a test is over.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Amount {
    /// After so many seconds (`-t`), up to 86 400; 0 is never.
    Seconds(u32),
    /// When so many bytes of payload were sent or received in a direction (`-n`).
    Bytes(u64),
    /// When so many datagrams were (`-k`).
    Blocks(u64),
}

/// What a client is asked to do.
#[derive(Debug, Clone)]
pub struct ClientConfig {
    /// The server: a name or an address.
    pub host: String,
    /// Its TCP and UDP port (`-p`).
    pub port: u16,
    /// Source address (`-B`).
    pub bind: Option<IpAddr>,
    /// Interface (`--bind-dev`).
    pub device: Option<String>,
    /// Source port of the control connection and of the first stream; further streams have the following ones (`--cport`).
    pub client_port: Option<u16>,
    /// `-4`, `-6`.
    pub family: Family,
    /// Longest wait for the control connection (`--connect-timeout`); `None`: the system's.
    pub connect_timeout: Option<Duration>,
    /// Bits of payload a second of each stream (`-b`); 0: no limit.
    pub bandwidth: u64,
    /// Packets that leave together (`-b RATE/N`), up to 1000; 0: as the rate suggests.
    pub burst: u16,
    /// `-t`, `-n` or `-k`.
    pub amount: Amount,
    /// Seconds before the test that enter no figure (`-O`), up to 600.
    pub omit: u32,
    /// UDP payload of each datagram in bytes (`-l`), 16 to 65 507; `None`: the control connection's segment size, as iperf3 has it.
    pub length: Option<u16>,
    /// Streams in each direction (`-P`), 1 to 128.
    pub parallel: u16,
    /// `-R`, `--bidir`.
    pub direction: Direction,
    /// Bytes of socket buffer, sending and receiving (`-w`); `None`: the engine's.
    pub window: Option<u32>,
    /// The byte of DSCP and ECN (`-S`, `--dscp`).
    pub tos: u8,
    /// IPv6 flow label (`-L`), up to 20 bits.
    pub flow_label: Option<u32>,
    /// Whether IPv4 datagrams may not be cut (`--dont-fragment`).
    pub dont_fragment: bool,
    /// Numbers of 64 bits (`--udp-counters-64bit`).
    pub counters_64bit: bool,
    /// Has the server use segmentation and receive offload (`--gsro`). This side uses them wherever they pay.
    pub gsro: bool,
    /// A payload that repeats digits instead of random bytes (`--repeating-payload`).
    pub repeating_payload: bool,
    /// Passed on to the server (`-Z`); this side decides by itself.
    pub zero_copy: bool,
    /// Passed on to the server (`--skip-rx-copy`).
    pub skip_rx_copy: bool,
    /// Asks for what the server prints (`--get-server-output`).
    pub get_server_output: bool,
    /// `-T`.
    pub title: Option<String>,
    /// `--extra-data`.
    pub extra_data: Option<String>,
    /// CPU of this side's workers (`-A N`); `None`: chosen.
    pub affinity: Option<usize>,
    /// CPU of the server's (`-A N,M`), up to 1024.
    pub server_affinity: Option<u16>,
    /// Time between reports (`-i`); zero: none.
    pub interval: Duration,
    /// A test whose data stops for so long has failed, where this side receives (`--rcv-timeout`, 120 s).
    pub receive_timeout: Duration,
    /// Who asks.
    pub authentication: Option<ClientAuthentication>,
    /// The control connection's keep-alive (`--cntl-ka`).
    pub keep_alive: Option<KeepAlive>,
    /// How packets leave.
    pub backend: Backend,
}

impl ClientConfig {
    /// iperf3's defaults against `host`.
    pub fn new(host: impl Into<String>) -> Self {
        Self {
            host: host.into(),
            port: DEFAULT_PORT,
            bind: None,
            device: None,
            client_port: None,
            family: Family::Any,
            connect_timeout: None,
            bandwidth: DEFAULT_BANDWIDTH,
            burst: 0,
            amount: Amount::Seconds(10),
            omit: 0,
            length: None,
            parallel: 1,
            direction: Direction::Normal,
            window: None,
            tos: 0,
            flow_label: None,
            dont_fragment: false,
            counters_64bit: false,
            gsro: false,
            repeating_payload: false,
            zero_copy: false,
            skip_rx_copy: false,
            get_server_output: false,
            title: None,
            extra_data: None,
            affinity: None,
            server_affinity: None,
            interval: Duration::from_secs(1),
            receive_timeout: Duration::from_secs(120),
            authentication: None,
            keep_alive: None,
            backend: Backend::Auto,
        }
    }
}

/// Who asks for a test.
#[derive(Clone)]
pub struct ClientAuthentication {
    /// `--username`.
    pub user: String,
    /// The password, of the environment (IPERF3_PASSWORD) or the terminal.
    pub password: String,
    /// The server's RSA public key as PEM (`--rsa-public-key-path` is its file).
    pub public_key: String,
    /// PKCS #1 v1.5 padding, as versions before 3.17 have it (`--use-pkcs1-padding`); otherwise OAEP.
    pub pkcs1_padding: bool,
}

impl std::fmt::Debug for ClientAuthentication {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("ClientAuthentication").field("user", &self.user).finish_non_exhaustive()
    }
}
