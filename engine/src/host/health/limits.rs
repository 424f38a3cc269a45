//! What is expected of an interface, and how much may move: plain data that a profile file can hold.
#![forbid(unsafe_code)]

use std::collections::BTreeMap;
use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Deserializer, Serialize, Serializer};

use super::finding::Severity;
use super::snapshot::Duplex;
use crate::error::{Error, Result};

/// What is expected of an interface. What is absent is not asked for; the default asks for nothing but that no counter of errors moves.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Limits {
    /// How far a counter may move, by its name; `*` stands for any text: `rx_dropped: 10`, `rx_queue_*_drops: 100`. Of several that fit, the largest counts.
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    pub allow: BTreeMap<String, u64>,
    /// What a finding does to the verdict instead of what it does by default, by its code: `pause: fail`.
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    pub severity: BTreeMap<String, Severity>,
    /// The speed that the link has to have: `10G`, or bits a second.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub speed: Option<Speed>,
    /// The duplex that the link has to have. Half duplex that nobody asked for is a finding by itself.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub duplex: Option<Duplex>,
    /// Whether speed and duplex have to be negotiated.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub autonegotiation: Option<bool>,
    /// The fewest entries of a receive ring.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub min_rx_ring: Option<u32>,
    /// The fewest entries of a transmit ring.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub min_tx_ring: Option<u32>,
    /// The hottest that any sensor of the card or its module may be, in degrees Celsius.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub max_celsius: Option<f64>,
    /// The fewest PCI Express lanes.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub min_pcie_width: Option<u32>,
    /// The slowest PCI Express lanes, in GT/s.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub min_pcie_gtps: Option<f64>,
    /// The largest share of the packets of a direction that one queue may have, from 0 to 1. Without it an uneven spread is a note.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub max_queue_share: Option<f64>,
    /// Offloads that have to be on or off, by the names that `ethtool -k` shows.
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    pub offloads: BTreeMap<String, bool>,
}

impl Limits {
    /// How far the counter called `name` may move.
    pub fn allowed(&self, name: &str) -> u64 {
        self.allow.iter().filter(|(pattern, _)| fits(pattern, name)).map(|(_, by)| *by).max().unwrap_or(0)
    }

    /// What a finding with this code does to the verdict.
    pub fn severity_of(&self, code: &str, default: Severity) -> Severity {
        self.severity.get(code).copied().unwrap_or(default)
    }

    /// # Errors
    /// Usage, naming a value that no interface can have.
    pub fn check(&self) -> Result<()> {
        let wrong = |what: &str, value: f64, range: &str| {
            Err(Error::usage(format!("{what} of {value}: has to be {range}"))
                .fix("leave it out where nothing is asked for"))
        };
        if let Some(share) = self.max_queue_share.filter(|share| !(*share > 0.0 && *share <= 1.0)) {
            return wrong("max_queue_share", share, "more than 0 and at most 1");
        }
        if let Some(heat) = self.max_celsius.filter(|heat| !heat.is_finite()) {
            return wrong("max_celsius", heat, "degrees Celsius");
        }
        if let Some(speed) = self.min_pcie_gtps.filter(|speed| !(*speed > 0.0 && *speed < 1000.0)) {
            return wrong("min_pcie_gtps", speed, "GT/s, such as 8.0");
        }
        Ok(())
    }
}

/// Whether `pattern`, in which `*` stands for any text, is all of `name`.
fn fits(pattern: &str, name: &str) -> bool {
    let mut parts = pattern.split('*');
    // split gives at least one part.
    let Some(mut rest) = name.strip_prefix(parts.next().unwrap_or_default()) else { return false };
    let Some(last) = parts.next_back() else { return rest.is_empty() };
    for part in parts {
        match rest.find(part) {
            Some(at) => rest = &rest[at + part.len()..],
            None => return false,
        }
    }
    rest.ends_with(last)
}

/// A link's speed in bit/s; written `10G`, `2.5G`, `100M`, or as a number of bits a second.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct Speed(pub u64);

impl FromStr for Speed {
    type Err = Error;

    fn from_str(text: &str) -> Result<Self> {
        let wrong = || {
            Error::usage(format!("{text:?} is no speed of a link"))
                .fix("write bits a second, or with a suffix: 100M, 2.5G, 10G, 100G")
        };
        let digits = text.trim_end_matches(|c: char| c.is_ascii_alphabetic() || c == '/');
        let unit = match text[digits.len()..].to_ascii_lowercase().trim_end_matches("bit/s") {
            "" => 1.0,
            "k" => 1e3,
            "m" => 1e6,
            "g" => 1e9,
            "t" => 1e12,
            _ => return Err(wrong()),
        };
        let number: f64 = digits.trim().parse().map_err(|_| wrong())?;
        let bps = number * unit;
        // Up to 10 Tbit/s, far below 2^53: every whole number of bits is exact.
        if !(1.0..=1e13).contains(&bps) {
            return Err(wrong());
        }
        Ok(Self(bps.round() as u64))
    }
}

impl fmt::Display for Speed {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (unit, name) in [(1_000_000_000, "G"), (1_000_000, "M")] {
            if self.0 >= unit {
                return write!(f, "{}{name}", self.0 as f64 / unit as f64);
            }
        }
        write!(f, "{}", self.0)
    }
}

impl Serialize for Speed {
    fn serialize<S: Serializer>(&self, serializer: S) -> std::result::Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl<'de> Deserialize<'de> for Speed {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> std::result::Result<Self, D::Error> {
        #[derive(Deserialize)]
        #[serde(untagged)]
        enum Written {
            Number(u64),
            Text(String),
        }
        let text = match Written::deserialize(deserializer)? {
            Written::Number(bps) => bps.to_string(),
            Written::Text(text) => text,
        };
        text.parse().map_err(|e: Error| serde::de::Error::custom(e.what))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_and_patterns() {
        for (pattern, name, want) in [
            ("rx_dropped", "rx_dropped", true),
            ("rx_dropped", "rx_dropped.nic", false),
            ("rx_queue_*_drops", "rx_queue_12_drops", true),
            ("rx_queue_*_drops", "rx_queue_12_drops_more", false),
            ("rx_queue_*_drops", "rx_queue_drops", false),
            ("*", "", true),
            ("*", "any", true),
            ("*drop*", "rx_dropped", true),
            ("a*a", "a", false),
            ("a**a", "aa", true),
            ("", "", true),
            ("", "x", false),
        ] {
            assert_eq!(fits(pattern, name), want, "{pattern} {name}");
        }
    }

    #[test]
    fn speeds() {
        for (text, bps) in [
            ("10G", 10_000_000_000),
            ("2.5G", 2_500_000_000),
            ("100M", 100_000_000),
            ("1000000000", 1_000_000_000),
            ("25Gbit/s", 25_000_000_000),
        ] {
            assert_eq!(text.parse::<Speed>().unwrap(), Speed(bps), "{text}");
        }
        for text in ["", "G", "-1G", "0", "10X", "NaN", "inf", "1e40", "G10", "10 Gx/s"] {
            assert!(text.parse::<Speed>().is_err(), "{text}");
        }
        assert_eq!(Speed(2_500_000_000).to_string(), "2.5G");
    }

    #[test]
    fn as_a_file_has_them() {
        let limits: Limits = serde_json::from_str(
            r#"{"allow":{"rx_dropped":3,"rx_*":1},"severity":{"pause":"fail"},"speed":"10G","duplex":"full","max_queue_share":0.5}"#,
        )
        .unwrap();
        limits.check().unwrap();
        assert_eq!((limits.allowed("rx_dropped"), limits.allowed("rx_x"), limits.allowed("tx")), (3, 1, 0));
        assert_eq!(limits.severity_of("pause", Severity::Warn), Severity::Fail);
        assert_eq!(limits.speed, Some(Speed(10_000_000_000)));
        assert_eq!(serde_json::from_str::<Limits>(r#"{"speed":10000000000}"#).unwrap().speed, limits.speed);
        assert!(serde_json::from_str::<Limits>(r#"{"sped":"10G"}"#).is_err());
        assert!(serde_json::from_str::<Limits>(r#"{"speed":"fast"}"#).is_err());
        let share = Limits { max_queue_share: Some(1.5), ..Limits::default() };
        assert!(share.check().is_err());
    }

    proptest::proptest! {
        #[test]
        fn any_pattern_and_speed_will_do(pattern in "[ab*]{0,8}", name in "[ab]{0,8}", text in ".{0,12}") {
            let _ = (fits(&pattern, &name), text.parse::<Speed>());
            proptest::prop_assert!(fits(&name, &name) && fits("*", &name));
        }
    }
}
