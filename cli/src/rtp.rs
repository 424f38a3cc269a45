//! Options of `rtp://` targets, and what they come to.

use std::sync::Arc;
use std::time::Duration;

use clap::{Args, ValueEnum};
use wirerate_engine::Error;
use wirerate_engine::generate::{SendConfig, SizeSpec};
use wirerate_engine::packet::probe;
use wirerate_engine::packet::rtp::{HEADER_LEN, PT_MP2T};
use wirerate_engine::profile::media::{self, Media};
use wirerate_engine::profile::payload::Payload;
use wirerate_engine::profile::rtp::{
    DYNAMIC, Marker, RtpConfig, TS_PACKET, TS_TOGETHER, octets, payload_type, silence,
};
use wirerate_engine::profile::size::SizeList;
use wirerate_engine::rtcp::RtcpConfig;
use wirerate_engine::target::Scheme;

use crate::args::{Send, parse_interval, parse_time};

/// Longest payload that a packet's time is chosen for by default, bytes: with its headers it fits an MTU of 1500.
const FITS: u64 = 1400;

/// How RTP packets are made.
#[derive(Debug, Args)]
#[command(next_help_heading = "RTP (targets of rtp://)")]
pub struct Rtp {
    /// Payload type: 0 to 63 or 96 to 127, or a name: pcmu, pcma, g722, gsm, g729, l16, l16-stereo, mp2t … Default: what --payload-file is recognised
    /// as (WAV, transport stream), else 96
    #[arg(long, value_name = "N|NAME")]
    pub payload_type: Option<String>,

    /// Units of the time stamp in a second, 1 to 4294967295 Hz. Default: the payload type's own, else 90000
    #[arg(long, value_name = "HZ", value_parser = clap::value_parser!(u32).range(1..))]
    pub clock_rate: Option<u32>,

    /// Time that one packet's payload lasts, 20ms, which sets the pace and, for sound, the length. Default: for sound 20ms or what fits a packet, for a
    /// transport stream by its clock (PCR), else by --rate
    #[arg(long, value_name = "TIME", value_parser = parse_time, conflicts_with = "rate")]
    pub ptime: Option<Duration>,

    /// SSRC of the first stream, 0 to 4294967295 or 0x and up to 8 hexadecimal digits; the others' follow. Default: random
    #[arg(long, value_name = "N", value_parser = parse_u32)]
    pub ssrc: Option<u32>,

    /// Sequence number of each stream's first packet, 0 to 65535. Default: random
    #[arg(long, value_name = "N")]
    pub first_seq: Option<u16>,

    /// Time stamp of each stream's first packet, 0 to 4294967295. Default: random
    #[arg(long, value_name = "N", value_parser = parse_u32)]
    pub first_timestamp: Option<u32>,

    /// Which packets have the marker bit: first, never, or every Nth, 1 or higher. Default: first, and never in a transport stream
    #[arg(long, value_name = "first|never|N")]
    pub marker: Option<String>,

    /// No probe header behind the RTP header: packets as any sender has them. Without it wirerate recv accounts for each packet exactly and measures
    /// latency. A --payload-file is always sent as it is
    #[arg(long)]
    pub no_probe: bool,

    #[command(flatten)]
    pub rtcp: Rtcp,
}

/// How RTCP is done.
#[derive(Debug, Args)]
pub struct Rtcp {
    /// Send and understand RTCP reports (RFC 3550), on the port after that of RTP
    #[arg(long, value_enum, default_value_t = Switch::On)]
    pub rtcp: Switch,

    /// Time between RTCP reports: 2s. At least 100ms. Default: by RFC 3550, about 5s, longer with many participants
    #[arg(long, value_name = "TIME", value_parser = parse_interval)]
    pub rtcp_interval: Option<Duration>,

    /// RTCP shares the port of RTP (RFC 5761)
    #[arg(long)]
    pub rtcp_mux: bool,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum Switch {
    On,
    Off,
}

fn parse_u32(text: &str) -> Result<u32, String> {
    let parsed = match text.strip_prefix("0x") {
        Some(digits) => u32::from_str_radix(digits, 16).ok().filter(|_| !digits.starts_with('+')),
        None => text.parse().ok(),
    };
    parsed.ok_or_else(|| "0 to 4294967295, or 0x and up to 8 hexadecimal digits".to_owned())
}

impl Rtcp {
    /// The engine's configuration.
    pub fn config(&self) -> RtcpConfig {
        RtcpConfig { on: self.rtcp == Switch::On, interval: self.rtcp_interval, mux: self.rtcp_mux }
    }

    /// The first of these options that was given.
    fn given(&self) -> Option<&'static str> {
        [
            (self.rtcp == Switch::Off, "--rtcp"),
            (self.rtcp_interval.is_some(), "--rtcp-interval"),
            (self.rtcp_mux, "--rtcp-mux"),
        ]
        .into_iter()
        .find_map(|(given, name)| given.then_some(name))
    }

    /// Refuses them for other targets.
    pub fn only_for(&self, scheme: Scheme) -> Result<(), Error> {
        match self.given() {
            Some(name) if scheme != Scheme::Rtp => Err(not_rtp(name)),
            _ => Ok(()),
        }
    }
}

fn not_rtp(option: &str) -> Error {
    Error::usage(format!("{option}: only RTP has it")).fix("write the target as rtp://ADDR:PORT")
}

impl Rtp {
    fn given(&self) -> Option<&'static str> {
        [
            (self.payload_type.is_some(), "--payload-type"),
            (self.clock_rate.is_some(), "--clock-rate"),
            (self.ptime.is_some(), "--ptime"),
            (self.ssrc.is_some(), "--ssrc"),
            (self.first_seq.is_some(), "--first-seq"),
            (self.first_timestamp.is_some(), "--first-timestamp"),
            (self.marker.is_some(), "--marker"),
            (self.no_probe, "--no-probe"),
        ]
        .into_iter()
        .find_map(|(given, name)| given.then_some(name))
        .or_else(|| self.rtcp.given())
    }
}

/// Makes `config` that of an RTP sender, if the target is of RTP.
///
/// # Errors
/// `Usage` when options contradict each other, the file or the target.
pub fn apply(args: &Send, config: &mut SendConfig) -> Result<(), Error> {
    if config.target.scheme != Scheme::Rtp {
        return args.rtp.given().map_or(Ok(()), |name| Err(not_rtp(name)));
    }
    if config.target.destination.port() == u16::MAX
        && args.rtp.rtcp.rtcp == Switch::On
        && !args.rtp.rtcp.rtcp_mux
    {
        return Err(Error::usage("port 65535: RTCP needs the next one")
            .fix("use another port, --rtcp-mux or --rtcp off"));
    }
    let options = &args.rtp;
    let media = match &args.payload.payload_file {
        Some(path) => Some(Media::new(Payload::from_file(path)?)?),
        None => None,
    };
    let kind = media.as_ref().and_then(|media| media.kind);
    let number = match (&options.payload_type, kind) {
        (Some(text), _) => payload_type(text)?,
        (None, Some(kind)) => kind.payload_type,
        (None, None) => DYNAMIC,
    };
    let mut rtp = RtpConfig::new(number);
    // A clock of a static type is its own, of a dynamic one that of the file.
    if let Some(kind) = kind.filter(|kind| kind.payload_type == number || number >= DYNAMIC) {
        rtp.clock_hz = kind.clock_hz;
    }
    rtp.clock_hz = options.clock_rate.unwrap_or(rtp.clock_hz);
    rtp.ssrc = options.ssrc;
    rtp.first_seq = options.first_seq;
    rtp.first_timestamp = options.first_timestamp;
    rtp.marker = match &options.marker {
        Some(text) => text.parse()?,
        None if number == PT_MP2T => Marker::Never,
        None => Marker::First,
    };
    rtp.probe = media.is_none() && !options.no_probe;
    rtp.rtcp = options.rtcp.config();

    let typed = args.length.is_some() || args.frame_size.is_some();
    let sound = sound(&rtp, kind);
    let paced = args.rate.is_none();
    if let Some(sound) = sound.filter(|_| !typed && (paced || kind.is_some())) {
        let units = options.ptime.map_or_else(|| sound.default_units(), |ptime| sound.units(ptime));
        let octets = sound.octets(units);
        config.sizes = length(octets + HEADER_LEN as u64, options.ptime)?;
        if paced {
            rtp.ptime = Some(sound.lasts(units));
        }
    } else if number == PT_MP2T && !typed {
        config.sizes = length((HEADER_LEN + TS_TOGETHER * TS_PACKET) as u64, None)?;
    }
    if paced && rtp.ptime.is_none() {
        rtp.ptime = options.ptime.or_else(|| {
            let octets = one_length(config)?.checked_sub(HEADER_LEN)?;
            let by_sound = || sound.map(|sound| sound.lasts(octets as u64 * sound.units / sound.octets));
            kind.and_then(|kind| media::duration_of(&kind, octets))
                .or_else(by_sound)
                .filter(|time| !time.is_zero())
        });
    }
    if let Some(media) = media {
        play(config, media, number)?;
    }
    config.rtp = Some(rtp);
    Ok(())
}

/// Has `config` send a file as it is, once if no end is given.
fn play(config: &mut SendConfig, media: Media, number: u8) -> Result<(), Error> {
    let octets = one_length(config).and_then(|len| len.checked_sub(HEADER_LEN)).filter(|&octets| octets > 0);
    let octets = octets.ok_or_else(|| {
        Error::usage("--payload-file: RTP packets of a file have one length")
            .fix("give one --length above 12, or leave --length and --frame-size out")
    })?;
    let is_ts = media.kind.is_some_and(|kind| kind.payload_type == PT_MP2T) && number == PT_MP2T;
    if is_ts && !octets.is_multiple_of(TS_PACKET) {
        return Err(Error::usage(format!(
            "--length {}: no whole transport stream packets",
            octets + HEADER_LEN
        ))
        .fix("use 12 and a multiple of 188, such as 1328"));
    }
    if config.duration.is_none() && config.count.is_none() && config.bytes.is_none() {
        let ranges = [&config.source_ports, &config.destination_ports]
            .map(|r| r.as_ref().map_or(1, |r| r.clone().count()));
        let streams = config.streams.map_or_else(
            || ranges.into_iter().max().unwrap_or(1).max(usize::from(config.groups)).max(config.workers),
            usize::from,
        );
        config.count = Some(media.packets(octets) * streams as u64);
        config.streams = Some(streams.min(4096) as u16);
    }
    config.payload = Arc::new(media.into_payload(octets, silence(number)));
    Ok(())
}

/// A payload type whose units of time are of constant size: so many octets are so many units.
#[derive(Debug, Clone, Copy)]
struct Sound {
    octets: u64,
    units: u64,
    clock_hz: u64,
    /// Whether a probe header has to fit.
    probe: bool,
}

/// What is known of the size of what is to be sent.
fn sound(rtp: &RtpConfig, kind: Option<media::Kind>) -> Option<Sound> {
    let clock_hz = u64::from(rtp.clock_hz);
    let probe = rtp.probe;
    if let Some((octets, units)) = octets(rtp.payload_type) {
        return Some(Sound { octets: octets.into(), units: units.into(), clock_hz, probe });
    }
    let kind = kind.filter(|kind| kind.payload_type == DYNAMIC)?;
    // Of sound that was recognised: whole octets for each sample.
    let octets = (kind.octets_per_second? / f64::from(kind.clock_hz)).round() as u64;
    Some(Sound { octets, units: 1, clock_hz, probe })
}

impl Sound {
    /// The units nearest to `time`, whole frames and at least one.
    fn units(self, time: Duration) -> u64 {
        let frames = (time.as_secs_f64() * self.clock_hz as f64 / self.units as f64).round();
        (frames as u64).max(1) * self.units
    }

    /// The units of 20 ms, or of the longest shorter time whose octets fit.
    fn default_units(self) -> u64 {
        let times = [20, 10, 5, 2, 1].map(Duration::from_millis);
        let fits = |time: &Duration| self.octets(self.units(*time)) <= FITS;
        let time = times.into_iter().find(fits).unwrap_or(Duration::from_millis(1));
        // Some have little to say in 20 ms: the probe has to fit.
        let least = if self.probe { (probe::LEN as u64 * self.units).div_ceil(self.octets) } else { 1 };
        self.units(time).max(least.next_multiple_of(self.units))
    }

    fn octets(self, units: u64) -> u64 {
        units / self.units * self.octets
    }

    fn lasts(self, units: u64) -> Duration {
        Duration::from_secs_f64(units as f64 / self.clock_hz as f64)
    }
}

fn length(bytes: u64, ptime: Option<Duration>) -> Result<SizeSpec, Error> {
    match u32::try_from(bytes) {
        Ok(bytes) if bytes <= 65_507 => Ok(SizeSpec::Length(SizeList::Cycle(vec![bytes]))),
        _ => Err(Error::usage(format!("--ptime {ptime:?}: {bytes} bytes are more than a packet carries"))
            .fix("use a shorter --ptime")),
    }
}

/// The length of the UDP payload, where all packets have one.
fn one_length(config: &SendConfig) -> Option<usize> {
    match &config.sizes {
        SizeSpec::Length(SizeList::Cycle(lengths)) => match lengths.as_slice() {
            [one] => usize::try_from(*one).ok(),
            _ => None,
        },
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::args::{Cli, Command};
    use clap::Parser;

    fn configured(line: &str) -> Result<SendConfig, Error> {
        let cli = Cli::try_parse_from(line.split_whitespace()).expect(line);
        let Command::Send(args) = cli.command else { panic!("send") };
        crate::send::configuration(&args)
    }

    fn shape(line: &str) -> (u8, u32, Option<Duration>, Option<usize>) {
        let config = configured(line).unwrap();
        let rtp = config.rtp.clone().unwrap();
        (rtp.payload_type, rtp.clock_hz, rtp.ptime, one_length(&config))
    }

    #[test]
    fn payload_types_have_their_pace_and_length() {
        let ms = |n| Some(Duration::from_millis(n));
        let send = |rest: &str| shape(&format!("wirerate send rtp://192.0.2.1:5004 {rest}"));
        assert_eq!(send(""), (96, 90_000, None, Some(1400)));
        assert_eq!(send("--payload-type pcmu"), (0, 8000, ms(20), Some(172)));
        assert_eq!(send("--payload-type pcma --ptime 30ms"), (8, 8000, ms(30), Some(252)));
        assert_eq!(send("--payload-type g729"), (18, 8000, ms(20), Some(32)));
        assert_eq!(send("--payload-type l16 --ptime 5ms").3, Some(12 + 2 * 221));
        assert_eq!(send("--payload-type pcmu --length 332"), (0, 8000, ms(40), Some(332)));
        assert_eq!(send("--payload-type pcmu --rate 50pps --length 172"), (0, 8000, None, Some(172)));
        assert_eq!(send("--payload-type mp2t"), (33, 90_000, None, Some(1328)));
        assert_eq!(
            send("--payload-type 97 --clock-rate 48000 --ptime 20ms"),
            (97, 48_000, ms(20), Some(1400))
        );
    }

    #[test]
    fn what_does_not_fit_is_said() {
        for (line, says) in [
            ("udp://192.0.2.1:5004 --ssrc 5", "--ssrc"),
            ("192.0.2.1:5004 --rtcp-mux", "--rtcp-mux"),
            ("rtp://192.0.2.1:65535", "65535"),
            ("rtp://192.0.2.1:5004 --payload-type 72", "72"),
            ("rtp://192.0.2.1:5004 --marker sometimes", "sometimes"),
            ("rtp://192.0.2.1:5004 --payload-type pcmu --ptime 1h", "ptime"),
        ] {
            let error = configured(&format!("wirerate send {line}")).unwrap_err();
            assert!(error.what.contains(says) && error.fix.is_some(), "{line}: {error}");
        }
        let typed =
            |line: &str| Cli::try_parse_from(format!("wirerate send rtp://192.0.2.1:5004 {line}").split(' '));
        for line in [
            "--ptime 20ms --rate 5pps",
            "--ssrc 0xfffffffff",
            "--first-seq 65536",
            "--clock-rate 0",
            "--rtcp-interval 1ms",
        ] {
            assert!(typed(line).is_err(), "{line}");
        }
    }

    #[test]
    fn numbers_as_typed() {
        assert_eq!(parse_u32("0xdeadbeef"), Ok(0xdead_beef));
        assert_eq!(parse_u32("4294967295"), Ok(u32::MAX));
        for text in ["", "0x", "0x+1", "-1", "4294967296", "x"] {
            assert!(parse_u32(text).is_err(), "{text}");
        }
    }
}
