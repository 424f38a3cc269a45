//! What a user may type after `iperf3`: the letters and names of iperf3 3.12 and 3.22. Values are words here; `crate::iperf3::options` reads them the way iperf3
//! does and complains in its words.

use clap::{ArgAction, Args};

const ROLE: &str = "Server or client";
const SERVER: &str = "Server";
const CLIENT: &str = "Client";
const OWN: &str = "Not iperf3's";
const REFUSED: &str = "Of iperf3, known and refused";

/// Speaks iperf3's protocol for UDP, with iperf3's flags, text, JSON and exit status: 0 the test ended (also by Ctrl-C), 1 it failed or the arguments are wrong.
/// The other end may be an iperf3 (3.1 or newer) or this program. A client measures UDP and needs -u. docs/iperf3.md says what differs
#[derive(Debug, Args)]
#[command(
    verbatim_doc_comment,
    infer_long_args = true,
    after_help = "Sizes (-l -n -k -w) take K, M, G and T as powers of 1024, rates (-b) as powers of 1000, as iperf3 has it.\n\nExit status: 0 the test has ended, or a signal ended it; 1 it failed, or the arguments are wrong. docs/iperf3.md says what differs from iperf3."
)]
pub struct Iperf3 {
    /// Be the server: several clients at once, each with a test of its own
    #[arg(short, long, help_heading = ROLE)]
    pub server: bool,

    /// Be the client of this server, a name or an address; %DEV is --bind-dev
    #[arg(short, long, value_name = "HOST[%DEV]", help_heading = ROLE)]
    pub client: Option<String>,

    /// TCP and UDP port of the server, 1 to 65535
    #[arg(short, long, value_name = "N", default_value = "5201", help_heading = ROLE)]
    pub port: String,

    /// Unit of bitrates: k m g t for bits, K M G T for bytes. Default: as large as it reads well
    #[arg(short, long, value_name = "kmgtKMGT", help_heading = ROLE)]
    pub format: Option<String>,

    /// Seconds between reports, 0.1 to 60, or 0 for none
    #[arg(short, long, value_name = "N", default_value = "1", help_heading = ROLE)]
    pub interval: String,

    /// Write the process's number into this file, which is removed at the end
    #[arg(short = 'I', long, value_name = "FILE", help_heading = ROLE)]
    pub pidfile: Option<String>,

    /// CPU of this end's workers, and after a comma that of the server's: 2 or 2,3
    #[arg(short = 'A', long, value_name = "N[,M]", help_heading = ROLE)]
    pub affinity: Option<String>,

    /// Address to listen on or to send from; %DEV is --bind-dev
    #[arg(short = 'B', long, value_name = "HOST[%DEV]", help_heading = ROLE)]
    pub bind: Option<String>,

    /// Interface to use, whatever routes say (SO_BINDTODEVICE)
    #[arg(long, value_name = "DEV", help_heading = ROLE)]
    pub bind_dev: Option<String>,

    /// Say more: versions, cookie, what is tested, CPU times
    #[arg(short = 'V', long, help_heading = ROLE)]
    pub verbose: bool,

    /// Print one JSON object for each test, at its end
    #[arg(short = 'J', long, help_heading = ROLE)]
    pub json: bool,

    /// Print a JSON object a line, as it happens: start, interval, error and end events
    #[arg(long, help_heading = ROLE)]
    pub json_stream: bool,

    /// Print the object of -J after the lines of --json-stream, too
    #[arg(long, help_heading = ROLE)]
    pub json_stream_full_output: bool,

    /// Append all output to this file
    #[arg(long, value_name = "FILE", help_heading = ROLE)]
    pub logfile: Option<String>,

    /// Accepted: each line is written at once in any case
    #[arg(long, help_heading = ROLE)]
    pub forceflush: bool,

    /// Begin each line with the time, in this form of strftime(3)
    #[arg(long, value_name = "FORMAT", num_args = 0..=1, require_equals = true, default_missing_value = "%c ", help_heading = ROLE)]
    pub timestamps: Option<String>,

    /// Milliseconds without data after which a receiver gives up, 100 to 86400000 [default: 120000]
    #[arg(long, value_name = "N", help_heading = ROLE)]
    pub rcv_timeout: Option<String>,

    /// Keep the control connection alive: seconds of silence, seconds between probes, probes; each is optional
    #[arg(long, value_name = "#/#/#", num_args = 0..=1, require_equals = true, default_missing_value = "", help_heading = ROLE)]
    pub cntl_ka: Option<String>,

    /// Use IPv4 only
    #[arg(short = '4', long = "version4", overrides_with = "version6", help_heading = ROLE)]
    pub version4: bool,

    /// Use IPv6 only
    #[arg(short = '6', long = "version6", overrides_with = "version4", help_heading = ROLE)]
    pub version6: bool,

    /// Say the version and end
    #[arg(short = 'v', long = "version", help_heading = ROLE)]
    pub version: bool,

    /// Run in the background
    #[arg(short = 'D', long, help_heading = SERVER)]
    pub daemon: bool,

    /// End after one test
    #[arg(short = '1', long, help_heading = SERVER)]
    pub one_off: bool,

    /// Most bits a second of a test, all streams together, and the seconds that the mean is taken over: 1G or 1G/5 [default: no limit, 5 seconds]
    #[arg(long, value_name = "RATE[/N]", help_heading = SERVER)]
    pub server_bitrate_limit: Option<String>,

    /// Seconds without a test after which it listens anew, or ends with -1, 1 to 86400
    #[arg(long, value_name = "N", help_heading = SERVER)]
    pub idle_timeout: Option<String>,

    /// Seconds that a test may take at most, 0 to 86400
    #[arg(long, value_name = "N", help_heading = SERVER)]
    pub server_max_duration: Option<String>,

    /// File of the RSA private key (PEM) that credentials are decrypted with
    #[arg(long, value_name = "FILE", help_heading = SERVER)]
    pub rsa_private_key_path: Option<String>,

    /// File of who may test: a line "user,hash" each
    #[arg(long, value_name = "FILE", help_heading = SERVER)]
    pub authorized_users_path: Option<String>,

    /// Seconds that the client's clock may be off, 1 or more [default: 10]
    #[arg(long, value_name = "N", help_heading = SERVER)]
    pub time_skew_threshold: Option<String>,

    /// Credentials as iperf3 before 3.17 has them: PKCS #1 padding in place of OAEP
    #[arg(long, help_heading = SERVER)]
    pub use_pkcs1_padding: bool,

    /// Measure UDP: the only protocol here
    #[arg(short, long, help_heading = CLIENT)]
    pub udp: bool,

    /// Milliseconds to wait for the server, 1 or more
    #[arg(long, value_name = "N", help_heading = CLIENT)]
    pub connect_timeout: Option<String>,

    /// Bits of payload a second of each stream, and packets that leave together, up to 1000: 10M, 1G/8; 0: no limit [default: 1M]
    #[arg(short, long, alias = "bandwidth", value_name = "RATE[/N]", help_heading = CLIENT)]
    pub bitrate: Option<String>,

    /// Accepted and without meaning, as in 3.18 and later: packets leave when they are due, not each 1000 µs
    #[arg(long, value_name = "N", help_heading = CLIENT)]
    pub pacing_timer: Option<String>,

    /// Seconds to send, up to 86400; 0: until Ctrl-C [default: 10]
    #[arg(short, long, value_name = "N", help_heading = CLIENT)]
    pub time: Option<String>,

    /// Bytes to send in each direction, in place of -t and -k: 10M
    #[arg(short = 'n', long, value_name = "SIZE", help_heading = CLIENT)]
    pub bytes: Option<String>,

    /// Datagrams to send in each direction, in place of -t and -n: 10K
    #[arg(short = 'k', long, value_name = "SIZE", help_heading = CLIENT)]
    pub blockcount: Option<String>,

    /// UDP payload of each datagram, 16 to 65507 bytes [default: what the control connection's segments hold, else 1460]
    #[arg(short, long, value_name = "SIZE", help_heading = CLIENT)]
    pub length: Option<String>,

    /// Source port, 1 to 65535; further streams have the following ones
    #[arg(long, value_name = "N", help_heading = CLIENT)]
    pub cport: Option<String>,

    /// Streams in each direction, 1 to 128
    #[arg(short = 'P', long, value_name = "N", help_heading = CLIENT)]
    pub parallel: Option<String>,

    /// The server sends
    #[arg(short = 'R', long, help_heading = CLIENT)]
    pub reverse: bool,

    /// Both ends send
    #[arg(long, help_heading = CLIENT)]
    pub bidir: bool,

    /// Socket buffer in bytes, sending and receiving, up to 512M
    #[arg(short, long, value_name = "SIZE", help_heading = CLIENT)]
    pub window: Option<String>,

    /// The byte of DSCP and ECN, 0 to 255: 52, 064 and 0x34 are the same
    #[arg(short = 'S', long, value_name = "N", help_heading = CLIENT)]
    pub tos: Option<String>,

    /// DSCP: 0 to 63 (also 0x and octal), af11 to af43, cs0 to cs7, ef, va, lowdelay, throughput, reliability
    #[arg(long, value_name = "DSCP", help_heading = CLIENT)]
    pub dscp: Option<String>,

    /// IPv6 flow label, 1 to 1048575
    #[arg(short = 'L', long, value_name = "N", help_heading = CLIENT)]
    pub flowlabel: Option<String>,

    /// Told to the server; this end decides by itself
    #[arg(short = 'Z', long, help_heading = CLIENT)]
    pub zerocopy: bool,

    /// Told to the server
    #[arg(long, help_heading = CLIENT)]
    pub skip_rx_copy: bool,

    /// Seconds before the test that enter no figure, up to 600
    #[arg(short = 'O', long, value_name = "N", help_heading = CLIENT)]
    pub omit: Option<String>,

    /// Begin each line with this
    #[arg(short = 'T', long, value_name = "TEXT", help_heading = CLIENT)]
    pub title: Option<String>,

    /// Text to put into both ends' JSON
    #[arg(long, value_name = "TEXT", help_heading = CLIENT)]
    pub extra_data: Option<String>,

    /// Print what the server prints, too
    #[arg(long, help_heading = CLIENT)]
    pub get_server_output: bool,

    /// Sequence numbers of 64 bits: for tests of more than 4294967295 datagrams
    #[arg(long, help_heading = CLIENT)]
    pub udp_counters_64bit: bool,

    /// Have the server use segmentation and receive offload (3.21 and newer); this end uses them wherever they pay
    #[arg(long, help_heading = CLIENT)]
    pub gsro: bool,

    /// Digits that repeat for payload, in place of random bytes
    #[arg(long, help_heading = CLIENT)]
    pub repeating_payload: bool,

    /// Forbid routers to cut IPv4 datagrams
    #[arg(long, help_heading = CLIENT)]
    pub dont_fragment: bool,

    /// Who asks; the password is that of IPERF3_PASSWORD, or is asked for
    #[arg(long, value_name = "NAME", help_heading = CLIENT)]
    pub username: Option<String>,

    /// File of the server's RSA public key (PEM) that credentials are encrypted with
    #[arg(long, value_name = "FILE", help_heading = CLIENT)]
    pub rsa_public_key_path: Option<String>,

    /// Datapath: auto, uring or mmsg
    #[arg(long, value_name = "auto|uring|mmsg", default_value = "auto", help_heading = OWN)]
    pub backend: String,

    /// Tests at once, 1 to 1000; a further client is told that the server is busy. iperf3 has 1
    #[arg(long, value_name = "N", help_heading = OWN)]
    pub max_tests: Option<String>,

    /// TCP congestion control
    #[arg(short = 'C', long, alias = "linux-congestion", value_name = "NAME", help_heading = REFUSED)]
    pub congestion: Option<String>,

    /// TCP segment size, in bytes as 1460
    #[arg(short = 'M', long, value_name = "N", help_heading = REFUSED)]
    pub set_mss: Option<String>,

    /// TCP without Nagle's algorithm
    #[arg(short = 'N', long, help_heading = REFUSED)]
    pub no_delay: bool,

    /// TCP over several paths
    #[arg(short, long, help_heading = REFUSED)]
    pub mptcp: bool,

    /// Milliseconds that TCP waits for an acknowledgement, as 5000
    #[arg(long, value_name = "N", help_heading = REFUSED)]
    pub snd_timeout: Option<String>,

    /// SCTP in place of TCP
    #[arg(long, help_heading = REFUSED)]
    pub sctp: bool,

    /// Addresses of an SCTP association
    #[arg(short = 'X', long, value_name = "NAME", action = ArgAction::Append, help_heading = REFUSED)]
    pub xbind: Vec<String>,

    /// Streams within an SCTP association, as 4
    #[arg(long, value_name = "N", help_heading = REFUSED)]
    pub nstreams: Option<String>,

    /// Pacing by the fq queueing discipline, bits a second as 1G
    #[arg(long, value_name = "RATE", help_heading = REFUSED)]
    pub fq_rate: Option<String>,

    /// No pacing by fq
    #[arg(long, hide = true)]
    pub no_fq_socket_pacing: bool,

    /// Contents of a file as payload
    #[arg(short = 'F', long, value_name = "FILE", help_heading = REFUSED)]
    pub file: Option<String>,

    /// iperf3's debugging output, of level 1 to 4
    #[arg(short, long, value_name = "N", num_args = 0..=1, require_equals = true, default_missing_value = "4", help_heading = REFUSED)]
    pub debug: Option<String>,

    /// Several sizes in one test, as of send, which iperf3's protocol cannot carry: 64,594,1518, imix
    #[arg(long, value_name = "SIZE", hide = true)]
    pub frame_size: Option<String>,

    /// As --frame-size imix
    #[arg(long, hide = true)]
    pub imix: bool,
}
