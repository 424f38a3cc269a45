//! Where packets go or come from: `ADDR:PORT`, `udp://[SOURCE@]ADDR:PORT`, `rtp://…`.
#![forbid(unsafe_code)]

use std::fmt;
use std::net::{IpAddr, Ipv6Addr, SocketAddr};
use std::str::FromStr;

use crate::error::{Error, Result};

/// What the payload is expected to carry.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Scheme {
    /// Any UDP payload.
    Udp,
    /// RTP (RFC 3550).
    Rtp,
}

/// A destination, and for source-specific multicast (RFC 4607) the one source wanted.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Target {
    /// What the payload is expected to carry.
    pub scheme: Scheme,
    /// The source of an (S,G) channel.
    pub source: Option<IpAddr>,
    /// Destination address, unicast or group, and UDP port.
    pub destination: SocketAddr,
}

impl Target {
    /// Whether the destination is a multicast group.
    pub fn is_group(&self) -> bool {
        self.destination.ip().is_multicast()
    }

    /// Whether it is IPv6.
    pub fn is_ipv6(&self) -> bool {
        self.destination.is_ipv6()
    }
}

impl FromStr for Target {
    type Err = Error;

    fn from_str(text: &str) -> Result<Self> {
        let (scheme, rest) = match text.split_once("://") {
            None => (Scheme::Udp, text),
            Some(("udp", rest)) => (Scheme::Udp, rest),
            Some(("rtp", rest)) => (Scheme::Rtp, rest),
            Some((other, _)) => {
                return Err(wrong(text, &format!("unknown scheme {other}://"))
                    .fix("use udp://ADDR:PORT or rtp://ADDR:PORT"));
            }
        };
        let (source, address) = match rest.split_once('@') {
            Some((source, address)) => (Some(parse_source(text, source)?), address),
            None => (None, rest),
        };
        let destination = SocketAddr::from_str(address).map_err(|_| {
            wrong(text, "an address and a port from 1 to 65535 are needed")
                .fix("write it as 239.1.2.3:5001, or [ff15::1]:5001 for IPv6")
        })?;
        if destination.port() == 0 {
            return Err(wrong(text, "port 0 cannot be sent to").fix("use a port from 1 to 65535"));
        }
        let target = Self { scheme, source, destination };
        target.check(text)?;
        Ok(target)
    }
}

impl Target {
    fn check(&self, text: &str) -> Result<()> {
        let Some(source) = self.source else { return Ok(()) };
        if !self.is_group() {
            return Err(wrong(
                text,
                &format!("SOURCE@ needs a multicast group, and {} is none", self.destination.ip()),
            )
            .fix("use a group, such as 232.1.1.1 or ff3e::8000:1, or leave SOURCE@ out"));
        }
        if source.is_multicast() {
            return Err(wrong(text, &format!("the source {source} is a multicast group"))
                .fix("name the sender's own unicast address before the @"));
        }
        if source.is_unspecified() {
            return Err(wrong(text, &format!("the source {source} is no host's address"))
                .fix("name the sender's own unicast address before the @"));
        }
        if source.is_ipv4() != self.destination.is_ipv4() {
            return Err(wrong(text, "source and group are of different IP versions")
                .fix("use two IPv4 or two IPv6 addresses"));
        }
        Ok(())
    }
}

fn parse_source(text: &str, source: &str) -> Result<IpAddr> {
    let bare = source.strip_prefix('[').and_then(|s| s.strip_suffix(']'));
    let parsed = match bare {
        Some(v6) => Ipv6Addr::from_str(v6).map(IpAddr::V6).ok(),
        None => IpAddr::from_str(source).ok(),
    };
    parsed.ok_or_else(|| {
        wrong(text, &format!("{source} is not an IP address")).fix("write it as 192.0.2.10@232.1.1.1:5001")
    })
}

fn wrong(text: &str, why: &str) -> Error {
    Error::usage(format!("target {text}: {why}"))
}

impl fmt::Display for Target {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self.scheme {
            Scheme::Udp => "udp://",
            Scheme::Rtp => "rtp://",
        })?;
        match self.source {
            Some(IpAddr::V6(source)) => write!(f, "[{source}]@")?,
            Some(source) => write!(f, "{source}@")?,
            None => {}
        }
        write!(f, "{}", self.destination)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn forms_that_users_type() {
        for (text, shown) in [
            ("239.1.2.3:5001", "udp://239.1.2.3:5001"),
            ("udp://[ff15::1]:5001", "udp://[ff15::1]:5001"),
            ("udp://192.0.2.10@232.1.1.1:5001", "udp://192.0.2.10@232.1.1.1:5001"),
            ("rtp://[2001:db8::1]@[ff3e::8000:1]:5004", "rtp://[2001:db8::1]@[ff3e::8000:1]:5004"),
            ("10.0.0.1:9", "udp://10.0.0.1:9"),
        ] {
            assert_eq!(text.parse::<Target>().unwrap().to_string(), shown);
        }
    }

    #[test]
    fn what_is_wrong_is_said() {
        for (text, says) in [
            ("239.1.2.3", "port"),
            ("239.1.2.3:0", "port 0"),
            ("239.1.2.3:70000", "65535"),
            ("http://239.1.2.3:80", "unknown scheme"),
            ("192.0.2.10@192.0.2.11:5001", "is none"),
            ("239.1.1.1@239.1.2.3:5001", "is a multicast group"),
            ("0.0.0.0@239.1.2.3:5001", "no host's address"),
            ("[2001:db8::1]@239.1.2.3:5001", "different IP versions"),
            ("x@239.1.2.3:5001", "not an IP address"),
        ] {
            let error = text.parse::<Target>().unwrap_err();
            assert!(error.what.contains(says), "{text}: {error}");
            assert!(error.fix.is_some(), "{text}");
        }
    }

    proptest::proptest! {
        #[test]
        fn never_panics_and_round_trips(text in ".{0,40}") {
            if let Ok(target) = text.parse::<Target>() {
                proptest::prop_assert_eq!(target.to_string().parse::<Target>().unwrap(), target);
            }
        }
    }
}
