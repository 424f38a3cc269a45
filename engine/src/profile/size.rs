//! How large packets are: `--frame-size` (the Ethernet frame with FCS) and `--length` (the UDP payload).
#![forbid(unsafe_code)]

use std::fmt;
use std::str::FromStr;

use crate::error::{Error, Result};
use crate::packet::fragment::Cutter;
use crate::packet::probe;

/// Preamble, start-of-frame delimiter and inter-packet gap: bytes that every frame takes on the line besides
/// itself (IEEE 802.3 §4.4.2).
pub const L1_OVERHEAD: u16 = 20;

/// Smallest Ethernet frame with FCS; shorter ones are padded to it.
pub const MIN_FRAME: u16 = 64;

/// Most sizes that one cycle may have.
const MAX_CYCLE: usize = 65_536;

/// The simple IMIX, 7 : 4 : 1 in packets, as frame sizes with FCS. RFC 6985 asks that the order be stated: this is
/// it, spread so that no size comes in a long train.
const IMIX: [u32; 12] = [64, 594, 64, 64, 594, 64, 1518, 64, 594, 64, 594, 64];

/// Sizes as typed: `1518`, `64,594,1518`, `64-1518`, `imix`. Packets take them in turn.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum SizeList {
    /// One after the other.
    Cycle(Vec<u32>),
    /// Seven frames of 64, four of 594 and one of 1518 bytes.
    Imix,
}

impl FromStr for SizeList {
    type Err = Error;

    fn from_str(text: &str) -> Result<Self> {
        if text.trim().eq_ignore_ascii_case("imix") {
            return Ok(Self::Imix);
        }
        let wrong = |why: String| {
            Error::usage(format!("size {text}: {why}"))
                .fix("write bytes as 1518, a list as 64,594,1518, a range as 64-1518, or imix")
        };
        let number = |s: &str| match s.trim().parse::<u32>() {
            Ok(0) => Err(wrong("a frame has at least 64 bytes, a payload at least 18".into())),
            Ok(n) if n <= 100_000 => Ok(n),
            _ => Err(wrong(format!("\"{}\" is not a number of bytes from 1 to 100000", s.trim()))),
        };
        let mut cycle = Vec::new();
        for item in text.split(',') {
            match item.split_once('-') {
                None => cycle.push(number(item)?),
                Some((from, to)) => {
                    let (from, to) = (number(from)?, number(to)?);
                    if from > to {
                        return Err(wrong(format!("the range {from}-{to} runs backwards")));
                    }
                    cycle.extend((from..=to).take(MAX_CYCLE + 1));
                }
            }
            if cycle.len() > MAX_CYCLE {
                return Err(wrong(format!("more than {MAX_CYCLE} sizes")));
            }
        }
        Ok(Self::Cycle(cycle))
    }
}

impl fmt::Display for SizeList {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self::Cycle(sizes) = self else { return f.write_str("imix") };
        let ascending = sizes.len() > 2 && sizes.windows(2).all(|pair| pair[1] == pair[0] + 1);
        match sizes.as_slice() {
            [first, .., last] if ascending => write!(f, "{first}-{last}"),
            _ => f.write_str(&sizes.iter().map(u32::to_string).collect::<Vec<_>>().join(",")),
        }
    }
}

/// The headers around a UDP payload.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Framing {
    /// IPv6 rather than IPv4.
    pub ipv6: bool,
    /// With one 802.1Q tag.
    pub vlan: bool,
    /// Bytes of the largest IP packet, where datagrams that are longer leave in fragments.
    pub mtu: Option<u32>,
}

/// What datagrams are on the wire.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Wire {
    /// Frames: more than one for a datagram in fragments.
    pub frames: u64,
    /// Their bytes, FCS included.
    pub bytes: u64,
}

impl Framing {
    /// Bytes of Ethernet header, tag, IP header, UDP header and FCS.
    pub fn overhead(self) -> u16 {
        let ip = if self.ipv6 { 40 } else { 20 };
        let tag = if self.vlan { 4 } else { 0 };
        14 + tag + ip + 8 + 4
    }

    /// What a datagram with `length` bytes of UDP payload is on the wire.
    pub fn wire(self, length: u16) -> Wire {
        let whole = u64::from(self.overhead()) + u64::from(length);
        let Some(cutter) = self.mtu.map(|mtu| Cutter::new(self.ipv6, mtu)).filter(|c| !c.fits(length)) else {
            return Wire { frames: 1, bytes: whole.max(u64::from(MIN_FRAME)) };
        };
        let around = 14 + if self.vlan { 4 } else { 0 } + 4 + cutter.fragment_header() as u64;
        let bytes = |len: u16| (around + u64::from(len)).max(u64::from(MIN_FRAME));
        cutter.pieces(length).fold(Wire::default(), |sum, piece| Wire {
            frames: sum.frames + 1,
            bytes: sum.bytes + bytes(piece.len),
        })
    }

    /// Longest UDP payload: the 16-bit length field counts the UDP header, and with IPv4 its header too.
    pub fn max_length(self) -> u16 {
        if self.ipv6 { 65_527 } else { 65_507 }
    }

    fn name(self) -> String {
        let ip = if self.ipv6 { "IPv6" } else { "IPv4" };
        let tag = if self.vlan { ", a VLAN tag" } else { "" };
        format!("{ip}{tag}")
    }
}

/// The UDP payload lengths of consecutive packets of a stream: a cycle, a function of the sequence number only.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Sizes {
    cycle: Vec<u16>,
    /// What each of the cycle is on the wire.
    wires: Vec<Wire>,
}

impl Sizes {
    /// Of `--frame-size`: Ethernet frames with FCS.
    ///
    /// # Errors
    /// `Usage` when a frame is too small for its headers and the probe header, or too large for UDP; it names the limit.
    pub fn from_frames(list: &SizeList, framing: Framing) -> Result<Self> {
        let sizes = match list {
            SizeList::Cycle(sizes) => sizes.as_slice(),
            SizeList::Imix => &IMIX,
        };
        Self::resolve("frame size", sizes, u32::from(framing.overhead()), framing)
    }

    /// Of `--length`: UDP payloads.
    ///
    /// # Errors
    /// `Usage` when a payload is too small for the probe header, or too large for UDP; it names the limit.
    pub fn from_lengths(list: &SizeList, framing: Framing) -> Result<Self> {
        match list {
            SizeList::Cycle(sizes) => Self::resolve("length", sizes, 0, framing),
            SizeList::Imix => {
                Err(Error::usage("length imix: imix is a mix of frame sizes").fix("use --frame-size imix"))
            }
        }
    }

    /// The same payload length for every packet, whatever headers are in it.
    pub(crate) fn only(length: u16, framing: Framing) -> Self {
        Self { cycle: vec![length], wires: vec![framing.wire(length)] }
    }

    fn resolve(what: &str, sizes: &[u32], around: u32, framing: Framing) -> Result<Self> {
        let min = around + probe::LEN as u32;
        let max = around + u32::from(framing.max_length());
        let mut cycle = Vec::with_capacity(sizes.len());
        for &size in sizes {
            if size < min {
                return Err(Error::usage(format!(
                    "{what} {size}: too small for {}, UDP and the {}-byte probe header",
                    framing.name(),
                    probe::LEN
                ))
                .fix(format!("the minimum here is {min} bytes")));
            }
            if size > max {
                return Err(Error::usage(format!(
                    "{what} {size}: more than UDP over {} carries",
                    framing.name()
                ))
                .fix(format!("the maximum here is {max} bytes")));
            }
            cycle.push(u16::try_from(size - around).expect("checked against the maximum, which fits"));
        }
        if cycle.is_empty() {
            return Err(Error::usage(format!("{what}: no size given")).fix("give at least one size"));
        }
        let wires = cycle.iter().map(|&length| framing.wire(length)).collect();
        Ok(Self { cycle, wires })
    }

    /// UDP payload of packet `sequence`, in bytes.
    #[inline]
    pub fn length_of(&self, sequence: u64) -> u16 {
        match self.cycle.as_slice() {
            [one] => *one,
            many => many[(sequence % many.len() as u64) as usize],
        }
    }

    /// UDP payload of packet `sequence`, and how many packets from it on, at most `limit`, have that length.
    #[inline]
    pub fn run_at(&self, sequence: u64, limit: u16) -> (u16, u16) {
        if let [one] = self.cycle.as_slice() {
            return (*one, limit);
        }
        let length = self.length_of(sequence);
        let same = (1..limit).take_while(|n| self.length_of(sequence + u64::from(*n)) == length).count();
        (length, (same as u16 + 1).min(limit))
    }

    /// UDP payload of all packets and what each is on the wire, if all are of one size.
    #[inline]
    pub fn one(&self) -> Option<(u16, Wire)> {
        match (self.cycle.as_slice(), self.wires.as_slice()) {
            ([length], [wire]) => Some((*length, *wire)),
            _ => None,
        }
    }

    /// What packet `sequence` is on the wire.
    #[inline]
    pub fn wire_of(&self, sequence: u64) -> Wire {
        match self.wires.as_slice() {
            [one] => *one,
            many => many[(sequence % many.len() as u64) as usize],
        }
    }

    /// Mean bytes of frames, FCS included, of a packet.
    pub fn mean_frame_bytes(&self) -> f64 {
        self.wires.iter().map(|w| w.bytes as f64).sum::<f64>() / self.wires.len() as f64
    }

    /// Mean number of frames of a packet: 1 but for fragments.
    pub fn mean_frames(&self) -> f64 {
        self.wires.iter().map(|w| w.frames as f64).sum::<f64>() / self.wires.len() as f64
    }

    /// Mean UDP payload in bytes.
    pub fn mean(&self) -> f64 {
        let sum: u64 = self.cycle.iter().map(|l| u64::from(*l)).sum();
        sum as f64 / self.cycle.len() as f64
    }

    /// UDP payload of a stream's first `packets` packets, in bytes.
    pub fn total(&self, packets: u64) -> u64 {
        let sum = |lengths: &[u16]| lengths.iter().map(|l| u64::from(*l)).sum::<u64>();
        let cycle = self.cycle.len() as u64;
        // What is left is less than a cycle, whose length fits usize.
        packets / cycle * sum(&self.cycle) + sum(&self.cycle[..(packets % cycle) as usize])
    }

    /// Longest UDP payload in bytes.
    pub fn max(&self) -> u16 {
        self.cycle.iter().copied().max().expect("never empty")
    }

    /// Shortest UDP payload in bytes.
    pub fn min(&self) -> u16 {
        self.cycle.iter().copied().min().expect("never empty")
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const V4: Framing = Framing { ipv6: false, vlan: false, mtu: None };
    const V6: Framing = Framing { ipv6: true, ..V4 };

    fn frames(text: &str, framing: Framing) -> Result<Sizes> {
        Sizes::from_frames(&text.parse()?, framing)
    }

    fn lengths(text: &str, framing: Framing) -> Result<Sizes> {
        Sizes::from_lengths(&text.parse()?, framing)
    }

    #[test]
    fn minimum_frames_hold_the_probe_header_exactly() {
        assert_eq!(frames("64", V4).unwrap().length_of(0), 18);
        assert_eq!(frames("84", V6).unwrap().length_of(0), 18);
        assert_eq!(frames("68", Framing { vlan: true, ..V4 }).unwrap().length_of(0), 18);
        assert_eq!(lengths("18", V6).unwrap().length_of(0), 18);
    }

    #[test]
    fn a_datagram_in_fragments_has_a_frame_for_each() {
        assert_eq!(V4.wire(18), Wire { frames: 1, bytes: 64 });
        assert_eq!(V4.wire(2000), Wire { frames: 1, bytes: 2046 });
        let cut = Framing { mtu: Some(1500), ..V4 };
        assert_eq!(cut.wire(1472), Wire { frames: 1, bytes: 1518 });
        // 1480 and 528 bytes, each behind Ethernet and IP headers and before an FCS.
        assert_eq!(cut.wire(2000), Wire { frames: 2, bytes: 1518 + 566 });
        // A last fragment of one byte is padded.
        assert_eq!(cut.wire(1473), Wire { frames: 2, bytes: 1518 + 64 });
        assert_eq!(Framing { vlan: true, ipv6: true, ..cut }.wire(2000).frames, 2);
        let sizes = lengths("1472,2000", cut).unwrap();
        assert_eq!([0, 1, 2].map(|s| sizes.wire_of(s).frames), [1, 2, 1]);
        assert!((sizes.mean_frames() - 1.5).abs() < 1e-9);
    }

    #[test]
    fn limits_are_named() {
        for (result, limit) in [
            (frames("63", V4), "64"),
            (frames("83", V6), "84"),
            (frames("imix", V6), "84"),
            (frames("67", Framing { vlan: true, ..V4 }), "68"),
            (lengths("17", V4), "18"),
            (lengths("65508", V4), "65507"),
            (lengths("65528", V6), "65527"),
            (frames("65554", V4), "65553"),
            (frames("64,63", V4), "64"),
        ] {
            let error = result.unwrap_err();
            assert_eq!(error.kind, crate::error::Kind::Usage);
            assert!(error.fix.as_ref().unwrap().contains(limit), "{error}");
        }
        assert_eq!(lengths("65507", V4).unwrap().max(), 65_507);
        assert_eq!(lengths("65527", V6).unwrap().max(), 65_527);
    }

    #[test]
    fn what_is_no_size_is_said() {
        for text in ["", "0", "-5", "64-", "1518-64", "x", "64,,65", "1e3", "99999999999", "64.5", "1-100000"]
        {
            let error = text.parse::<SizeList>().unwrap_err();
            assert!(error.fix.is_some(), "{text}: {error}");
        }
        assert!(lengths("imix", V4).unwrap_err().to_string().contains("--frame-size imix"));
    }

    #[test]
    fn cycles() {
        let list = frames("64,594,1518", V4).unwrap();
        assert_eq!([0, 1, 2, 3].map(|s| list.length_of(s)), [18, 548, 1472, 18]);
        let range = frames("64-66", V4).unwrap();
        assert_eq!([0, 1, 2, 3].map(|s| range.length_of(s)), [18, 19, 20, 18]);
        let imix = frames("imix", V4).unwrap();
        let count = |frame| (0..12).filter(|s| imix.length_of(*s) + 46 == frame).count();
        assert_eq!([count(64), count(594), count(1518)], [7, 4, 1]);
        assert_eq!(imix.max(), 1472);
        assert!((imix.mean() + 46.0 - (7.0 * 64.0 + 4.0 * 594.0 + 1518.0) / 12.0).abs() < 1e-9);
    }

    proptest! {
        #[test]
        fn runs_cover_the_sequence_with_equal_lengths(
            cycle in prop::collection::vec(18u32..22, 1..8), start in 0u64..1000, limit in 1u16..70,
        ) {
            let sizes = Sizes::from_lengths(&SizeList::Cycle(cycle), V4).unwrap();
            let (length, count) = sizes.run_at(start, limit);
            prop_assert!((1..=limit).contains(&count));
            for s in start..start + u64::from(count) {
                prop_assert_eq!(sizes.length_of(s), length);
            }
            if count < limit {
                prop_assert_ne!(sizes.length_of(start + u64::from(count)), length);
            }
        }

        #[test]
        fn no_text_panics(text in "[0-9,imx -]{0,20}") {
            if let Ok(list) = text.parse::<SizeList>() {
                let _ = Sizes::from_frames(&list, V6);
                let _ = Sizes::from_lengths(&list, V4);
            }
        }
    }
}
