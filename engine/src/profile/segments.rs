//! How many datagrams a socket hands over in one buffer.
#![forbid(unsafe_code)]

use std::fmt;
use std::str::FromStr;

use serde::{Serialize, Serializer};

use crate::error::{Error, Result};

/// Most datagrams in one buffer: UDP_MAX_SEGMENTS of Linux 6.9. Before that it was 64.
pub const MAX_SEGMENTS: u16 = 128;

/// UDP segmentation offload as typed: `auto`, `off`, or the most datagrams in one buffer.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Segments {
    /// As many as kernel, size and rate allow.
    #[default]
    Auto,
    /// Each datagram by itself; a receiver does not ask for several at once either.
    Off,
    /// At most so many, 1 to [`MAX_SEGMENTS`].
    Exactly(u16),
}

impl Segments {
    /// Most datagrams in one buffer that are wanted; 1: no offload.
    pub fn most(self) -> u16 {
        match self {
            Self::Auto => MAX_SEGMENTS,
            Self::Off => 1,
            Self::Exactly(n) => n,
        }
    }
}

impl FromStr for Segments {
    type Err = Error;

    fn from_str(text: &str) -> Result<Self> {
        match text.trim() {
            "auto" => Ok(Self::Auto),
            "off" => Ok(Self::Off),
            number => match number.parse() {
                Ok(n @ 1..=MAX_SEGMENTS) => Ok(Self::Exactly(n)),
                _ => Err(Error::usage(format!("segments {text}: neither auto, off nor 1 to {MAX_SEGMENTS}"))
                    .fix(format!("write auto, off, or a number from 1 to {MAX_SEGMENTS}"))),
            },
        }
    }
}

impl fmt::Display for Segments {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Auto => f.write_str("auto"),
            Self::Off => f.write_str("off"),
            Self::Exactly(n) => write!(f, "{n}"),
        }
    }
}

impl Serialize for Segments {
    fn serialize<S: Serializer>(&self, serializer: S) -> std::result::Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_typed_reads_back() {
        for (text, most) in [("auto", 128), ("off", 1), ("1", 1), ("64", 64), ("128", 128)] {
            let segments: Segments = text.parse().unwrap();
            assert_eq!((segments.to_string().as_str(), segments.most()), (text, most));
        }
    }

    #[test]
    fn what_is_no_number_of_segments_is_said() {
        for text in ["", "0", "129", "-1", "on", "1.5", "65536"] {
            let error = text.parse::<Segments>().unwrap_err();
            assert!(error.fix.is_some_and(|fix| fix.contains("128")), "{text}");
        }
    }
}
