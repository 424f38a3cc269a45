//! How fast: `--rate`.
#![forbid(unsafe_code)]

use std::fmt;
use std::str::FromStr;

use super::size::{L1_OVERHEAD, Sizes};
use crate::error::{Error, Result};

/// Slowest rate that can be paced: a packet in 1000 seconds.
pub const MIN_PPS: f64 = 0.001;

/// Fastest rate that can be paced, in packets a second: more than 400 Gbit/s of minimum frames.
pub const MAX_PPS: f64 = 1e9;

const FORMS: &str = "write max, bits a second as 10G (payload), 10GL2 (frames) or 10GL1 (line), packets as 14.88Mpps, \
                     or a share of the line rate as 95%";

/// What a rate in bits counts of each packet.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Layer {
    /// UDP payload.
    Payload,
    /// The frame with FCS.
    L2,
    /// The frame with FCS, preamble, start-of-frame delimiter and gap.
    L1,
}

/// The rate of a whole run, as typed.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum Rate {
    /// As fast as it goes.
    Max,
    /// Packets a second.
    Pps(f64),
    /// Bits a second, and what they count.
    Bits(f64, Layer),
    /// Percent of the link's speed, at L1.
    Percent(f64),
}

impl Rate {
    /// Packets a second with packets of these sizes; `None` for [`Rate::Max`].
    ///
    /// # Errors
    /// `Usage` when a percentage meets a link without a known speed, or when what comes out cannot be paced.
    pub fn pps(&self, sizes: &Sizes, link_speed_bps: Option<u64>) -> Result<Option<f64>> {
        let bits_each = |layer| {
            8.0 * match layer {
                Layer::Payload => sizes.mean(),
                Layer::L2 => sizes.mean_frame_bytes(),
                Layer::L1 => sizes.mean_frame_bytes() + sizes.mean_frames() * f64::from(L1_OVERHEAD),
            }
        };
        let pps = match *self {
            Self::Max => return Ok(None),
            Self::Pps(pps) => pps,
            Self::Bits(bps, layer) => bps / bits_each(layer),
            Self::Percent(percent) => {
                let speed = link_speed_bps.filter(|s| *s > 0).ok_or_else(|| {
                    Error::usage(format!("rate {self}: the interface does not tell its speed"))
                        .fix("give the rate in bits or packets a second, such as 950ML1 or 1Mpps")
                })?;
                speed as f64 * percent / 100.0 / bits_each(Layer::L1)
            }
        };
        if !(MIN_PPS..=MAX_PPS).contains(&pps) {
            return Err(Error::usage(format!(
                "rate {self}: with these sizes that is {pps:.6} packets a second"
            ))
            .fix("from 0.001pps to 1000Mpps can be paced"));
        }
        Ok(Some(pps))
    }
}

impl FromStr for Rate {
    type Err = Error;

    fn from_str(text: &str) -> Result<Self> {
        let wrong = |why: &str| Error::usage(format!("rate {text}: {why}")).fix(FORMS);
        let lower = text.trim().to_ascii_lowercase();
        if lower == "max" {
            return Ok(Self::Max);
        }
        let (rest, layer) = match (lower.strip_suffix("l1"), lower.strip_suffix("l2")) {
            (Some(rest), _) => (rest.trim_end(), Some(Layer::L1)),
            (_, Some(rest)) => (rest.trim_end(), Some(Layer::L2)),
            _ => (lower.as_str(), None),
        };
        if let Some(number) = rest.strip_suffix('%') {
            if layer == Some(Layer::L2) {
                return Err(wrong("a share of the line rate is at L1"));
            }
            let percent = decimal(number).ok_or_else(|| wrong("not a number"))?;
            if percent <= 0.0 || percent > 100.0 {
                return Err(wrong("from more than 0% to 100% is possible"));
            }
            return Ok(Self::Percent(percent));
        }
        if let Some(number) = rest.strip_suffix("pps") {
            if layer.is_some() {
                return Err(wrong("packets a second are the same at every layer"));
            }
            let pps = scaled(number).ok_or_else(|| wrong("not a number of packets a second"))?;
            if !(MIN_PPS..=MAX_PPS).contains(&pps) {
                return Err(wrong("from 0.001pps to 1000Mpps is possible"));
            }
            return Ok(Self::Pps(pps));
        }
        let number = rest.strip_suffix("bit/s").or_else(|| rest.strip_suffix("bps")).unwrap_or(rest);
        let bps = scaled(number).ok_or_else(|| wrong("not a rate"))?;
        if !(1.0..=1e14).contains(&bps) {
            return Err(wrong("from 1 bit/s to 100T is possible"));
        }
        Ok(Self::Bits(bps, layer.unwrap_or(Layer::Payload)))
    }
}

/// A decimal number with an optional K, M, G or T (powers of 1000), already in lower case.
fn scaled(text: &str) -> Option<f64> {
    let text = text.trim();
    let (number, factor) = match text.as_bytes().last()? {
        b'k' => (&text[..text.len() - 1], 3),
        b'm' => (&text[..text.len() - 1], 6),
        b'g' => (&text[..text.len() - 1], 9),
        b't' => (&text[..text.len() - 1], 12),
        _ => (text, 0),
    };
    decimal(number)?;
    // As one number, so that it is rounded once.
    format!("{}e{factor}", number.trim()).parse().ok()
}

/// Digits with at most one point, and a sign that the caller's range check refuses. Neither `inf` nor exponents.
fn decimal(text: &str) -> Option<f64> {
    let text = text.trim();
    let digits = text.strip_prefix('-').unwrap_or(text);
    if !digits.bytes().all(|b| b.is_ascii_digit() || b == b'.') {
        return None;
    }
    text.parse().ok()
}

impl fmt::Display for Rate {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        // The largest unit in which it is the same number when it is read again.
        let unit = |value: f64| {
            [(1e12, "T"), (1e9, "G"), (1e6, "M"), (1e3, "k")]
                .into_iter()
                .map(|(factor, prefix)| (value / factor, prefix))
                .find(|(v, p)| *v >= 1.0 && scaled(&format!("{v}{}", p.to_ascii_lowercase())) == Some(value))
                .unwrap_or((value, ""))
        };
        match *self {
            Self::Max => f.write_str("max"),
            Self::Percent(percent) => write!(f, "{percent}%"),
            Self::Pps(pps) => {
                let (value, prefix) = unit(pps);
                write!(f, "{value}{prefix}pps")
            }
            Self::Bits(bps, layer) => {
                let (value, prefix) = unit(bps);
                let layer = match layer {
                    Layer::Payload => "",
                    Layer::L2 => "L2",
                    Layer::L1 => "L1",
                };
                write!(f, "{value}{prefix}{layer}")
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::error::Kind;
    use crate::profile::size::{Framing, SizeList};

    fn sizes(frame: u32) -> Sizes {
        Sizes::from_frames(&SizeList::Cycle(vec![frame]), Framing::default()).unwrap()
    }

    #[test]
    fn forms_that_users_type() {
        for (text, rate) in [
            ("max", Rate::Max),
            ("10G", Rate::Bits(10e9, Layer::Payload)),
            ("10GL1", Rate::Bits(10e9, Layer::L1)),
            ("1G L2", Rate::Bits(1e9, Layer::L2)),
            ("250k", Rate::Bits(250e3, Layer::Payload)),
            ("1000000", Rate::Bits(1e6, Layer::Payload)),
            ("9.5Gbit/s", Rate::Bits(9.5e9, Layer::Payload)),
            ("14.88Mpps", Rate::Pps(14.88e6)),
            ("500kpps", Rate::Pps(500e3)),
            ("100pps", Rate::Pps(100.0)),
            ("95%", Rate::Percent(95.0)),
        ] {
            assert_eq!(text.parse::<Rate>().unwrap(), rate, "{text}");
        }
    }

    #[test]
    fn what_is_wrong_is_said_with_what_is_allowed() {
        for text in [
            "",
            "0",
            "0pps",
            "-1G",
            "-5pps",
            "0%",
            "101%",
            "inf",
            "nan",
            "1e9",
            "10X",
            "pps",
            "G",
            "%",
            "1.2.3G",
            "5000Mpps",
            "1000T",
            "5ppsL1",
            "95%L2",
            "0.0001pps",
            "ten",
            "١G",
        ] {
            let error = text.parse::<Rate>().unwrap_err();
            assert_eq!(error.kind, Kind::Usage);
            assert!(error.fix.is_some() && error.what.contains("rate"), "{text}: {error}");
        }
    }

    #[test]
    fn packets_a_second() {
        let pps = |text: &str, frame, speed| text.parse::<Rate>().unwrap().pps(&sizes(frame), speed).unwrap();
        assert_eq!(pps("max", 64, None), None);
        assert_eq!(pps("5kpps", 64, None), Some(5000.0));
        // 10 Gbit/s of minimum frames, the number everybody knows.
        assert_eq!(pps("10GL1", 64, None).unwrap().round(), 14_880_952.0);
        assert_eq!(pps("100%", 1518, Some(1_000_000_000)).unwrap().round(), 81_274.0);
        assert_eq!(pps("8ML2", 1000, None), Some(1000.0));
        assert_eq!(pps("8M", 1046, None), Some(1000.0));
    }

    #[test]
    fn a_share_of_an_unknown_speed_is_refused() {
        for speed in [None, Some(0)] {
            let error = Rate::Percent(95.0).pps(&sizes(64), speed).unwrap_err();
            assert!(error.what.contains("speed") && error.fix.is_some(), "{error}");
        }
        assert!(Rate::Bits(1.0, Layer::Payload).pps(&sizes(1518), None).is_err());
        assert!(Rate::Bits(1e14, Layer::Payload).pps(&sizes(64), None).is_err());
    }

    proptest::proptest! {
        #[test]
        fn no_text_panics_and_what_is_shown_reads_back(text in "[0-9.kKmMgGtTpsL12% -]{0,12}") {
            if let Ok(rate) = text.parse::<Rate>() {
                let again: Rate = rate.to_string().parse().unwrap();
                // The prefix divides and multiplies again: equal but for rounding.
                let near = |a: f64, b: f64| (a / b - 1.0).abs() < 1e-12;
                let equal = match (again, rate) {
                    (Rate::Pps(a), Rate::Pps(b)) => near(a, b),
                    (Rate::Bits(a, l), Rate::Bits(b, m)) => near(a, b) && l == m,
                    (a, b) => a == b,
                };
                proptest::prop_assert!(equal, "{} became {}", rate, again);
            }
        }
    }
}
