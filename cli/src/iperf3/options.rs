//! iperf3's command line, made into what the engine is asked and how it is printed; complaints in iperf3's words, and a reason where iperf3 would have taken it.

use std::net::IpAddr;
use std::time::Duration;

use wirerate_engine::interop::iperf3::{
    Amount, Backend, BitrateLimit, ClientConfig, Direction, Family, MAX_BURST, MAX_OMIT, MAX_SECONDS,
    MAX_STREAMS, ServerConfig,
};

use super::secrets;
use super::values::{self, Refused, whole};
use crate::args::iperf3::Iperf3;

/// What is to be run.
#[derive(Debug)]
pub enum Task {
    /// `-v`.
    Version,
    /// `-s`.
    Serve(Box<ServerConfig>),
    /// `-c`.
    Run(Box<ClientConfig>),
}

/// What is written, and how.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Form {
    /// Lines for people.
    Text,
    /// `-J`.
    Json,
    /// `--json-stream`; and the object of `-J` at the end.
    JsonStream {
        /// `--json-stream-full-output`.
        full: bool,
    },
}

/// How it is printed.
#[derive(Debug, Clone)]
pub struct Printing {
    /// Whether this end is the client.
    pub client: bool,
    /// Lines or objects.
    pub form: Form,
    /// `-V`.
    pub verbose: bool,
    /// `-f`.
    pub unit: Option<char>,
    /// `--timestamps`.
    pub timestamps: Option<String>,
    /// `-T` of a client.
    pub title: Option<String>,
    /// Whether `-l` was given.
    pub length_given: bool,
    /// `-i`.
    pub interval: Duration,
}

/// Reads a command line.
pub fn read(args: &Iperf3) -> Refused<(Task, Printing)> {
    if args.version {
        return Ok((Task::Version, printing(args)?));
    }
    refuse_what_there_is_not(args)?;
    let task = match (args.server, &args.client) {
        (true, Some(_)) => return Err("cannot be both server and client".to_owned()),
        (false, None) => return Err("must either be a client (-c) or server (-s)".to_owned()),
        (true, None) => Task::Serve(Box::new(server(args)?)),
        (false, Some(host)) => Task::Run(Box::new(client(args, host)?)),
    };
    Ok((task, printing(args)?))
}

fn printing(args: &Iperf3) -> Refused<Printing> {
    let unit = match args.format.as_deref().map(|f| f.chars().collect::<Vec<_>>()) {
        None => None,
        Some(letters) => match letters.as_slice() {
            ['a' | 'A'] => None,
            [unit] if "kmgtKMGT".contains(*unit) => Some(*unit),
            _ => return Err("bad format specifier (valid formats are in the set [kmgtKMGT])".to_owned()),
        },
    };
    let form = match (args.json_stream, args.json) {
        (true, _) => Form::JsonStream { full: args.json_stream_full_output },
        (false, true) => Form::Json,
        (false, false) if args.json_stream_full_output => Form::JsonStream { full: true },
        (false, false) => Form::Text,
    };
    Ok(Printing {
        client: args.client.is_some(),
        form,
        verbose: args.verbose,
        unit,
        timestamps: args.timestamps.clone(),
        title: args.title.clone(),
        length_given: args.length.is_some(),
        interval: values::interval(&args.interval)?,
    })
}

/// What iperf3 has and this has not, with the reason and what does it.
fn refuse_what_there_is_not(args: &Iperf3) -> Refused<()> {
    let tcp = "belongs to TCP, and only UDP is measured here: for TCP run iperf3 itself";
    let sctp = "belongs to SCTP, and only UDP is measured here: for SCTP run iperf3 itself";
    for (given, flag, why) in [
        (args.congestion.is_some(), "-C", tcp),
        (args.set_mss.is_some(), "-M", "belongs to TCP and SCTP: the size of datagrams is -l"),
        (args.no_delay, "-N", tcp),
        (args.mptcp, "-m", tcp),
        (args.snd_timeout.is_some(), "--snd-timeout", tcp),
        (args.sctp, "--sctp", sctp),
        (!args.xbind.is_empty(), "-X", sctp),
        (args.nstreams.is_some(), "--nstreams", sctp),
        (args.file.is_some(), "-F", "cannot transfer file using UDP"),
        (
            args.fq_rate.is_some() || args.no_fq_socket_pacing,
            "--fq-rate",
            "has the kernel's fq discipline pace, and here the program does it, at the rate of -b; `wirerate send --txtime` uses fq",
        ),
        (
            args.debug.is_some(),
            "-d",
            "prints what happens within iperf3, which is not what runs here; -V says more of a test",
        ),
        (
            args.frame_size.is_some() || args.imix,
            "a mix of sizes",
            "cannot be carried by iperf3's protocol, which has one length for a whole test, and its receivers put shorter datagrams together: use `wirerate send --frame-size imix` and `wirerate recv`",
        ),
    ] {
        if given {
            return Err(format!("{flag}: {why}"));
        }
    }
    Ok(())
}

fn server(args: &Iperf3) -> Refused<ServerConfig> {
    let clients = [
        args.udp,
        args.connect_timeout.is_some(),
        args.bitrate.is_some(),
        args.pacing_timer.is_some(),
        args.time.is_some(),
        args.bytes.is_some(),
        args.blockcount.is_some(),
        args.length.is_some(),
        args.cport.is_some(),
        args.parallel.is_some(),
        args.reverse,
        args.bidir,
        args.window.is_some(),
        args.tos.is_some(),
        args.dscp.is_some(),
        args.flowlabel.is_some(),
        args.zerocopy,
        args.skip_rx_copy,
        args.omit.is_some(),
        args.title.is_some(),
        args.extra_data.is_some(),
        args.get_server_output,
        args.udp_counters_64bit,
        args.gsro,
        args.repeating_payload,
        args.dont_fragment,
        args.username.is_some(),
        args.rsa_public_key_path.is_some(),
    ];
    if clients.contains(&true) {
        return Err("some option you are trying to set is client only".to_owned());
    }
    let (bind, device) = bound(args)?;
    let mut config = ServerConfig {
        port: port(&args.port)?,
        bind,
        device,
        family: family(args),
        one_off: args.one_off,
        interval: values::interval(&args.interval)?,
        backend: backend(args)?,
        keep_alive: args.cntl_ka.as_deref().map(values::keep_alive).transpose()?,
        authentication: secrets::of_server(args)?,
        ..ServerConfig::default()
    };
    if let Some(text) = &args.idle_timeout {
        let seconds =
            whole(text, 1..=86_400, "idle timeout parameter is not positive or larger than allowed limit")?;
        config.idle_timeout = Some(Duration::from_secs(seconds));
    }
    if let Some(timeout) = receive_timeout(args)? {
        config.receive_timeout = timeout;
    }
    if let Some(text) = &args.server_max_duration {
        let seconds =
            whole(text, 0..=u64::from(MAX_SECONDS), "test duration valid values are 0 to 86400 seconds")?;
        config.max_duration = (seconds > 0).then(|| Duration::from_secs(seconds));
    }
    if let Some(text) = &args.server_bitrate_limit {
        let (bits_per_second, over) = values::rate_with(text)?;
        let over = match over {
            None => 5.0,
            Some(seconds) => seconds
                .parse()
                .ok()
                .filter(|s| (0.1..=60.0).contains(s))
                .ok_or("averaging interval parameter is wrong (min = 0.1, max = 60 seconds)")?,
        };
        let over = Duration::from_secs_f64(over);
        config.bitrate_limit = (bits_per_second > 0).then_some(BitrateLimit { bits_per_second, over });
    }
    if let Some(text) = &args.affinity {
        config.affinity = Some(cpu(text)?);
    }
    if let Some(text) = &args.max_tests {
        // At most 1000.
        config.max_tests = whole(text, 1..=1000, "--max-tests is 1 to 1000")? as u16;
    }
    Ok(config)
}

fn client(args: &Iperf3, host: &str) -> Refused<ClientConfig> {
    let servers = [
        args.daemon,
        args.one_off,
        args.server_bitrate_limit.is_some(),
        args.idle_timeout.is_some(),
        args.server_max_duration.is_some(),
        args.rsa_private_key_path.is_some(),
        args.authorized_users_path.is_some(),
        args.time_skew_threshold.is_some(),
        args.max_tests.is_some(),
    ];
    if servers.contains(&true) {
        return Err("some option you are trying to set is server only".to_owned());
    }
    if !args.udp {
        return Err("without -u iperf3's client measures TCP, which is not measured here: add -u, or run iperf3 itself for TCP".to_owned());
    }
    let (host, device) = with_device(host);
    if host.parse::<IpAddr>().is_ok_and(|address| address.is_multicast()) {
        return Err(format!(
            "{host} is a multicast group, and iperf3's protocol begins with a TCP connection, which a group does not have: use `wirerate send` and `wirerate recv`"
        ));
    }
    let (bind, bind_device) = bound(args)?;
    let mut config = ClientConfig {
        port: port(&args.port)?,
        bind,
        device: device.map(str::to_owned).or(bind_device),
        client_port: args.cport.as_deref().map(port).transpose()?,
        family: family(args),
        amount: amount(args)?,
        direction: match (args.reverse, args.bidir) {
            (true, true) => return Err("cannot be both reverse and bidirectional".to_owned()),
            (true, false) => Direction::Reverse,
            (false, true) => Direction::Bidirectional,
            (false, false) => Direction::Normal,
        },
        dont_fragment: args.dont_fragment,
        counters_64bit: args.udp_counters_64bit,
        gsro: args.gsro,
        repeating_payload: args.repeating_payload,
        zero_copy: args.zerocopy,
        skip_rx_copy: args.skip_rx_copy,
        get_server_output: args.get_server_output,
        title: args.title.clone(),
        extra_data: args.extra_data.clone(),
        interval: values::interval(&args.interval)?,
        backend: backend(args)?,
        keep_alive: args.cntl_ka.as_deref().map(values::keep_alive).transpose()?,
        ..ClientConfig::new(host)
    };
    if let Some(text) = &args.bitrate {
        let (bits, burst) = rate(text)?;
        (config.bandwidth, config.burst) = (bits, burst);
    }
    if let Some(text) = &args.length {
        config.length = Some(length(text)?);
    }
    if let Some(text) = &args.parallel {
        let why = "invalid number of parallel streams (min = 1, max = 128)";
        config.parallel = whole(text, 1..=u64::from(MAX_STREAMS), why)? as u16;
    }
    if let Some(text) = &args.omit {
        let why = "bogus value for --omit (maximum = 600 seconds)";
        config.omit = whole(text, 0..=u64::from(MAX_OMIT), why)? as u32;
    }
    if let Some(text) = &args.window {
        let bytes = values::size(text)?;
        let window = u32::try_from(bytes).ok().filter(|&bytes| bytes <= 512 << 20);
        let window = window.ok_or("socket buffer size too large (maximum = 536870912 bytes)")?;
        config.window = (window > 0).then_some(window);
    }
    if let Some(text) = &args.tos {
        config.tos = values::tos(text)?;
    }
    if let Some(text) = &args.dscp {
        config.tos = values::dscp(text)?;
    }
    if let Some(text) = &args.flowlabel {
        config.flow_label =
            Some(
                whole(text, 1..=0xf_ffff, "unable to set IPv6 flow label: 1 to 1048575 are possible")? as u32
            );
    }
    if let Some(text) = &args.connect_timeout {
        let why = "bad connection timeout: milliseconds from 1 to 86400000 are needed";
        config.connect_timeout = Some(Duration::from_millis(whole(text, 1..=86_400_000, why)?));
    }
    if let Some(timeout) = receive_timeout(args)? {
        config.receive_timeout = timeout;
    }
    if let Some(text) = &args.affinity {
        let (own, server) = text.split_once([',', '/']).map_or((text.as_str(), None), |(a, b)| (a, Some(b)));
        config.affinity = (!own.is_empty()).then(|| cpu(own)).transpose()?;
        // At most 1024.
        config.server_affinity = server.map(|text| cpu(text).map(|cpu| cpu as u16)).transpose()?;
    }
    config.authentication = secrets::of_client(args)?;
    Ok(config)
}

fn amount(args: &Iperf3) -> Refused<Amount> {
    let given = [&args.time, &args.bytes, &args.blockcount].into_iter().filter(|end| end.is_some()).count();
    if given > 1 {
        return Err("only one test end condition (-t, -n, -k) may be specified".to_owned());
    }
    let some = |text: &str, flag: &str| match values::size(text)? {
        0 => Err(format!("{flag}: a number above 0 is needed")),
        number => Ok(number),
    };
    Ok(match (&args.time, &args.bytes, &args.blockcount) {
        (_, Some(text), _) => Amount::Bytes(some(text, "-n")?),
        (_, _, Some(text)) => Amount::Blocks(some(text, "-k")?),
        (Some(text), ..) => {
            let why = "test duration valid values are 0 to 86400 seconds";
            Amount::Seconds(whole(text, 0..=u64::from(MAX_SECONDS), why)? as u32)
        }
        (None, None, None) => Amount::Seconds(10),
    })
}

fn rate(text: &str) -> Refused<(u64, u16)> {
    if text.ends_with("pps") {
        return Err("-b: iperf3's protocol carries bits a second; for packets a second use `wirerate send --rate 1000pps`".to_owned());
    }
    let (bits, burst) = values::rate_with(text)?;
    let why = "invalid burst count (maximum = 1000)";
    let burst = burst.map(|text| whole(text, 1..=u64::from(MAX_BURST), why)).transpose()?;
    Ok((bits, burst.unwrap_or(0) as u16))
}

fn length(text: &str) -> Refused<u16> {
    if text.contains([',', '-']) || text.eq_ignore_ascii_case("imix") {
        return Err(format!(
            "-l {text}: iperf3's protocol has one length for a whole test, and its receivers put shorter datagrams together: use `wirerate send --length {text}` and `wirerate recv`"
        ));
    }
    u16::try_from(values::size(text)?)
        .ok()
        .filter(|bytes| (wirerate_engine::interop::iperf3::MIN_LENGTH..=65_507).contains(bytes))
        .ok_or_else(|| "block size invalid (minimum = 16 bytes, maximum = 65507 bytes)".to_owned())
}

fn receive_timeout(args: &Iperf3) -> Refused<Option<Duration>> {
    let why = "receive timeout value is incorrect or not in range (100 to 86400000 ms)";
    let milliseconds =
        args.rcv_timeout.as_deref().map(|text| whole(text, 100..=86_400_000, why)).transpose()?;
    Ok(milliseconds.map(Duration::from_millis))
}

fn port(text: &str) -> Refused<u16> {
    let port = whole(text, 1..=65_535, "port number must be between 1 and 65535 inclusive")?;
    Ok(port as u16)
}

fn cpu(text: &str) -> Refused<usize> {
    Ok(whole(text, 0..=1024, "unable to set CPU affinity: a CPU is a number from 0 to 1024")? as usize)
}

fn family(args: &Iperf3) -> Family {
    match (args.version4, args.version6) {
        (false, false) => Family::Any,
        // Of both, the definition keeps the last.
        (true, _) => Family::V4,
        (false, true) => Family::V6,
    }
}

fn backend(args: &Iperf3) -> Refused<Backend> {
    match args.backend.as_str() {
        "auto" => Ok(Backend::Auto),
        "uring" => Ok(Backend::Uring),
        "mmsg" => Ok(Backend::Mmsg),
        other => Err(format!(
            "--backend {other}: auto, uring or mmsg is needed; afxdp and xdp do not carry iperf3's handshake"
        )),
    }
}

/// `HOST%DEV` taken apart. A zone of a link-local address stays where it is: the address is of no use without.
fn with_device(text: &str) -> (&str, Option<&str>) {
    match text.rsplit_once('%') {
        Some((host, _)) if host.to_ascii_lowercase().starts_with("fe80:") => (text, None),
        Some((host, device)) if !device.is_empty() => (host, Some(device)),
        _ => (text, None),
    }
}

/// `-B` and `--bind-dev`.
fn bound(args: &Iperf3) -> Refused<(Option<IpAddr>, Option<String>)> {
    let (address, device) = args.bind.as_deref().map_or((None, None), |text| {
        let (host, device) = text.split_once('%').map_or((text, None), |(host, device)| (host, Some(device)));
        (Some(host).filter(|host| !host.is_empty()), device)
    });
    let address = address
        .map(|text| {
            text.parse().map_err(|_| {
                format!("-B {text}: an address of this host is needed, as 192.0.2.1 or 2001:db8::1")
            })
        })
        .transpose()?;
    Ok((address, args.bind_dev.clone().or(device.map(str::to_owned))))
}
