//! RTP streams to be sent: what stands in the headers of a stream's packets, a function of the sequence number and of one moment.
#![forbid(unsafe_code)]

use std::str::FromStr;
use std::time::Duration;

use serde_json::json;

use crate::error::{Error, Result};
use crate::packet::probe;
use crate::packet::rtp::{self, static_type};
use crate::report::effective;
use crate::rtcp::random::Random;

/// The payload type of dynamic assignment that is used when none is named (RFC 3551 §3).
pub const DYNAMIC: u8 = 96;

/// Clock of payload types that have none of their own: that of video (RFC 3551 §5), Hz.
pub const DEFAULT_CLOCK_HZ: u32 = 90_000;

/// Bytes of a transport stream's packet (RFC 2250 §2).
pub const TS_PACKET: usize = 188;

/// Transport stream packets that fit an Ethernet frame's MTU of 1500.
pub const TS_TOGETHER: usize = 7;

/// How RTP packets are to be made.
#[derive(Debug, Clone, PartialEq)]
pub struct RtpConfig {
    /// Payload type, 0 to 127 but for 64 to 95.
    pub payload_type: u8,
    /// Units of the time stamp in a second.
    pub clock_hz: u32,
    /// Time that one packet's payload lasts, which is the pace of a stream; `None`: the pace is the configured rate.
    pub ptime: Option<Duration>,
    /// SSRC of stream 0, the others' follow; `None`: drawn at random.
    pub ssrc: Option<u32>,
    /// Sequence number of every stream's first packet; `None`: drawn at random, as RFC 3550 §5.1 has it.
    pub first_seq: Option<u16>,
    /// Time stamp of every stream's first packet; `None`: drawn at random.
    pub first_timestamp: Option<u32>,
    /// Which packets have the marker bit.
    pub marker: Marker,
    /// Whether the payload begins with the probe header, for exact accounting by wirerate.
    pub probe: bool,
    /// RTCP of the streams.
    pub rtcp: crate::rtcp::RtcpConfig,
}

impl RtpConfig {
    /// Packets of `payload_type` with every option at its default.
    pub fn new(payload_type: u8) -> Self {
        Self {
            payload_type,
            clock_hz: static_type(payload_type).map_or(DEFAULT_CLOCK_HZ, |known| known.clock_hz),
            ptime: None,
            ssrc: None,
            first_seq: None,
            first_timestamp: None,
            marker: Marker::First,
            probe: true,
            rtcp: crate::rtcp::RtcpConfig::default(),
        }
    }

    /// The effective configuration, for the report.
    pub(crate) fn describe(&self) -> serde_json::Value {
        effective(json!({
            "payload_type": self.payload_type,
            "clock_hz": self.clock_hz,
            "ptime_ns": self.ptime.map(|time| time.as_nanos() as u64),
            "marker": match self.marker {
                Marker::First => "first".to_owned(),
                Marker::Every(n) => n.to_string(),
                Marker::Never => "never".to_owned(),
            },
            "probe": self.probe,
            "rtcp": self.rtcp.describe(),
        }))
    }
}

/// Which packets of a stream have the marker bit.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Marker {
    /// The first, as the start of a talkspurt (RFC 3551 §4.1).
    First,
    /// The last of every so many, as the last of a video frame.
    Every(u32),
    /// None.
    Never,
}

impl Marker {
    #[inline]
    fn is_set(self, sequence: u64) -> bool {
        match self {
            Self::First => sequence == 0,
            Self::Every(n) => (sequence + 1).is_multiple_of(u64::from(n)),
            Self::Never => false,
        }
    }
}

impl FromStr for Marker {
    type Err = Error;

    fn from_str(text: &str) -> Result<Self> {
        match text {
            "first" => Ok(Self::First),
            "never" => Ok(Self::Never),
            _ => match text.parse() {
                Ok(n @ 1..) => Ok(Self::Every(n)),
                _ => Err(Error::usage(format!("marker {text}: not known"))
                    .fix("use first, never, or N for every Nth packet")),
            },
        }
    }
}

/// Reads a payload type by number or by the name that RFC 3551 has for it.
///
/// # Errors
/// `Usage`, saying what is possible.
pub fn payload_type(text: &str) -> Result<u8> {
    let wrong = |why: &str| {
        Err(Error::usage(format!("payload type {text}: {why}"))
            .fix("use 0 to 63 or 96 to 127, or a name: pcmu, pcma, g722, gsm, g729, l16, l16-stereo, mp2t, jpeg, …"))
    };
    if let Ok(number) = text.parse::<u8>() {
        return match number {
            64..=95 => wrong("64 to 95 cannot be told from RTCP (RFC 5761)"),
            128.. => wrong("it has seven bits"),
            _ => Ok(number),
        };
    }
    if text.eq_ignore_ascii_case("l16") {
        // The first of the two that are called so has two channels.
        return Ok(11);
    }
    if text.eq_ignore_ascii_case("l16-stereo") {
        return Ok(10);
    }
    let named = |number: &u8| static_type(*number).is_some_and(|known| known.name.eq_ignore_ascii_case(text));
    (0..64).find(named).map_or_else(|| wrong("not known"), Ok)
}

/// Bytes that a payload type has for a number of its clock's units, where these are of constant size: octets and units.
pub fn octets(payload_type: u8) -> Option<(u32, u32)> {
    match payload_type {
        // One octet a sample, or for G.722 (whose clock is said to be 8 kHz) for two.
        0 | 8 | 9 => Some((1, 1)),
        // Frames of 20, 30 and 10 ms.
        3 => Some((33, 160)),
        4 => Some((24, 240)),
        18 => Some((10, 80)),
        10 => Some((4, 1)),
        11 => Some((2, 1)),
        _ => None,
    }
}

/// Bytes of silence of a payload type, to fill the last packet with.
pub fn silence(payload_type: u8) -> u8 {
    match payload_type {
        0 => 0xff,
        8 => 0xd5,
        _ => 0,
    }
}

/// How time stamps advance.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Timestamps {
    /// From packet to packet by as many units, 32.32.
    Step(u64),
    /// By the clock, in these units a second, since CLOCK_TAI in ns was this: where packets have no pace.
    Clock(u32, u64),
}

impl Timestamps {
    /// By `units` from packet to packet.
    ///
    /// # Panics
    /// When they are no number from 0 to 2³² - 1.
    pub fn step(units: f64) -> Self {
        assert!((0.0..4_294_967_296.0).contains(&units), "{units} units from packet to packet");
        Self::Step((units * 4_294_967_296.0).round() as u64)
    }
}

/// What stands in the RTP headers of all streams of a run.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Rtp {
    /// Payload type.
    pub payload_type: u8,
    /// Units of the time stamp in a second.
    pub clock_hz: u32,
    /// Whether a probe header follows.
    pub probe: bool,
    /// How time stamps advance.
    pub timestamps: Timestamps,
    marker: Marker,
    ssrc: u32,
    first_seq: Option<u16>,
    first_timestamp: Option<u32>,
    seed: u64,
}

/// What a stream begins with.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct RtpStream {
    /// Its SSRC.
    pub ssrc: u32,
    /// Sequence number of its first packet.
    pub first_seq: u16,
    /// Time stamp of its first packet.
    pub first_timestamp: u32,
}

impl Rtp {
    /// The packets of `config`; what is to be random is drawn from `seed`.
    pub fn new(config: &RtpConfig, timestamps: Timestamps, seed: u64) -> Self {
        let ssrc = config.ssrc.unwrap_or_else(|| (Random::new(seed).bits() >> 32) as u32);
        Self {
            payload_type: config.payload_type,
            clock_hz: config.clock_hz,
            probe: config.probe,
            timestamps,
            marker: config.marker,
            ssrc,
            first_seq: config.first_seq,
            first_timestamp: config.first_timestamp,
            seed,
        }
    }

    /// Bytes of the RTP header, and of the probe header if there is one: where the payload's content begins.
    #[inline]
    pub fn head_len(&self) -> usize {
        rtp::HEADER_LEN + if self.probe { probe::LEN } else { 0 }
    }

    /// What stream number `stream` begins with.
    pub fn stream(&self, stream: u16) -> RtpStream {
        let mut random = Random::new(self.seed ^ u64::from(stream).wrapping_mul(0xd6e8_feb8_6659_fd93));
        let bits = random.bits();
        RtpStream {
            ssrc: self.ssrc.wrapping_add(u32::from(stream)),
            first_seq: self.first_seq.unwrap_or((bits >> 48) as u16),
            first_timestamp: self.first_timestamp.unwrap_or(bits as u32),
        }
    }

    /// The time stamp of packet `sequence` of a stream, handed over at `now_ns`.
    #[inline]
    pub fn timestamp(&self, stream: &RtpStream, sequence: u64, now_ns: u64) -> u32 {
        let units = match self.timestamps {
            // Modulo 2^64, whose upper half is modulo 2^32, as time stamps are.
            Timestamps::Step(step) => (sequence.wrapping_mul(step) >> 32) as u32,
            Timestamps::Clock(hz, since_ns) => {
                let ns = u128::from(now_ns.saturating_sub(since_ns));
                (ns * u128::from(hz) / 1_000_000_000) as u32
            }
        };
        stream.first_timestamp.wrapping_add(units)
    }

    /// The header of packet `sequence` of a stream, handed over at `now_ns`.
    #[inline]
    pub fn header(&self, stream: &RtpStream, sequence: u64, now_ns: u64) -> rtp::Header {
        rtp::Header {
            marker: self.marker.is_set(sequence),
            payload_type: self.payload_type,
            // The low 16 bits of what it counts.
            sequence: stream.first_seq.wrapping_add(sequence as u16),
            timestamp: self.timestamp(stream, sequence, now_ns),
            ssrc: stream.ssrc,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn payload_types_by_name_and_number() {
        for (text, number) in [
            ("pcmu", 0),
            ("PCMA", 8),
            ("g722", 9),
            ("l16", 11),
            ("l16-stereo", 10),
            ("mp2t", 33),
            ("97", 97),
            ("0", 0),
        ] {
            assert_eq!(payload_type(text).unwrap(), number, "{text}");
        }
        for text in ["", "64", "72", "95", "128", "999", "opus", "-1"] {
            let error = payload_type(text).unwrap_err();
            assert!(error.what.contains(text) && error.fix.is_some(), "{error}");
        }
    }

    #[test]
    fn markers_as_typed() {
        let set = |text: &str| -> Vec<u64> {
            let marker: Marker = text.parse().unwrap();
            (0..7).filter(|n| marker.is_set(*n)).collect()
        };
        assert_eq!(set("first"), [0]);
        assert!(set("never").is_empty());
        assert_eq!(set("3"), [2, 5]);
        assert_eq!(set("1"), [0, 1, 2, 3, 4, 5, 6]);
        for text in ["0", "", "always", "-3"] {
            assert!(text.parse::<Marker>().unwrap_err().fix.is_some());
        }
    }

    proptest! {
        #[test]
        fn whole_steps_are_exact_and_wrap(sequence: u64, units in 0u32..100_000, first: u32) {
            let config = RtpConfig { first_timestamp: Some(first), ..RtpConfig::new(0) };
            let rtp = Rtp::new(&config, Timestamps::step(f64::from(units)), 1);
            let stream = rtp.stream(3);
            let expected = first.wrapping_add(sequence.wrapping_mul(u64::from(units)) as u32);
            prop_assert_eq!(rtp.timestamp(&stream, sequence, 0), expected);
        }

        #[test]
        fn streams_differ_in_their_ssrc_and_begin_anywhere(seed: u64) {
            let rtp = Rtp::new(&RtpConfig::new(0), Timestamps::Step(0), seed);
            let streams: Vec<RtpStream> = (0..20).map(|n| rtp.stream(n)).collect();
            for (n, stream) in (0u32..).zip(&streams) {
                prop_assert_eq!(stream.ssrc, streams[0].ssrc.wrapping_add(n));
            }
            let first: std::collections::HashSet<u16> = streams.iter().map(|s| s.first_seq).collect();
            prop_assert!(first.len() > 15);
        }
    }

    #[test]
    fn parts_of_a_unit_are_not_lost() {
        // 90 kHz at 7000 packets a second: 12.857… units.
        let rtp = Rtp::new(
            &RtpConfig { first_timestamp: Some(0), ..RtpConfig::new(33) },
            Timestamps::step(90_000.0 / 7000.0),
            1,
        );
        let stream = rtp.stream(0);
        assert!(rtp.timestamp(&stream, 7000 * 3600, 0).abs_diff(90_000 * 3600) <= 1);
        let by_clock = Rtp { timestamps: Timestamps::Clock(90_000, 5), ..rtp };
        assert_eq!(by_clock.timestamp(&stream, 9, 1_000_000_005), 90_000);
    }

    #[test]
    fn sequence_numbers_wrap() {
        let rtp =
            Rtp::new(&RtpConfig { first_seq: Some(65_535), ..RtpConfig::new(0) }, Timestamps::Step(0), 1);
        let stream = rtp.stream(0);
        let numbers: Vec<u16> =
            [0, 1, 65_536, 65_537].iter().map(|&n| rtp.header(&stream, n, 0).sequence).collect();
        assert_eq!(numbers, [65_535, 0, 65_535, 0]);
    }
}
