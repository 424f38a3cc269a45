//! Words of iperf3's command line, read as iperf3 reads them; what it would take for zero is refused.

use std::time::Duration;

use wirerate_engine::interop::iperf3::KeepAlive;

/// Why a word is refused: iperf3's words for it, where it has some.
pub type Refused<T> = Result<T, String>;

/// A whole number within limits; `why` says what is wrong otherwise.
pub fn whole(text: &str, limits: std::ops::RangeInclusive<u64>, why: &str) -> Refused<u64> {
    text.trim().parse().ok().filter(|n| limits.contains(n)).ok_or_else(|| why.to_owned())
}

/// A number of bytes, datagrams: K, M, G and T are powers of 1024.
pub fn size(text: &str) -> Refused<u64> {
    scaled(text, 1024.0)
}

/// Bits a second: K, M, G and T are powers of 1000.
pub fn rate(text: &str) -> Refused<u64> {
    scaled(text, 1000.0)
}

fn scaled(text: &str, step: f64) -> Refused<u64> {
    let invalid = || format!("invalid unit value or suffix: '{text}'");
    let bare = text.trim_end_matches(['k', 'K', 'm', 'M', 'g', 'G', 't', 'T']);
    let power = match text.get(bare.len()..).map(str::to_ascii_lowercase).as_deref() {
        Some("") => 0,
        Some("k") => 1,
        Some("m") => 2,
        Some("g") => 3,
        Some("t") => 4,
        _ => return Err(invalid()),
    };
    let number: f64 = bare.parse().map_err(|_| invalid())?;
    let value = number * step.powi(power);
    // Beyond this neither end counts exactly.
    if (0.0..9e18).contains(&value) { Ok(value as u64) } else { Err(invalid()) }
}

/// `RATE` or `RATE/N`.
pub fn rate_with(text: &str) -> Refused<(u64, Option<&str>)> {
    match text.split_once('/') {
        None => Ok((rate(text)?, None)),
        Some((bits, rest)) => Ok((rate(bits)?, Some(rest))),
    }
}

/// Seconds between reports; zero: none.
pub fn interval(text: &str) -> Refused<Duration> {
    match text.trim().parse::<f64>() {
        Ok(0.0) => Ok(Duration::ZERO),
        Ok(seconds) if (0.1..=60.0).contains(&seconds) => Ok(Duration::from_secs_f64(seconds)),
        _ => Err("invalid report interval (min = 0.1, max = 60 seconds)".to_owned()),
    }
}

/// A number in decimal, octal (064) or hexadecimal (0x34).
fn any_base(text: &str) -> Option<u64> {
    if let Some(digits) = text.strip_prefix("0x").or_else(|| text.strip_prefix("0X")) {
        return u64::from_str_radix(digits, 16).ok();
    }
    match text.strip_prefix('0') {
        Some(digits) if !digits.is_empty() => u64::from_str_radix(digits, 8).ok(),
        _ => text.parse().ok(),
    }
}

/// The byte of DSCP and ECN.
pub fn tos(text: &str) -> Refused<u8> {
    any_base(text)
        .and_then(|n| u8::try_from(n).ok())
        .ok_or_else(|| "bad TOS value (must be between 0 and 255 inclusive)".to_owned())
}

/// The byte that a DSCP makes.
pub fn dscp(text: &str) -> Refused<u8> {
    let name = text.to_ascii_lowercase();
    let digit = |at: usize, range: std::ops::RangeInclusive<u8>| {
        name.as_bytes().get(at).map(|b| b.wrapping_sub(b'0')).filter(|d| range.contains(d))
    };
    let byte = match name.as_str() {
        "ef" => Some(0xb8),
        "va" => Some(0xb0),
        // Of RFC 1349, as whole bytes.
        "lowdelay" => Some(0x10),
        "throughput" => Some(0x08),
        "reliability" => Some(0x04),
        _ if name.len() == 4 && name.starts_with("af") => {
            digit(2, 1..=4).zip(digit(3, 1..=3)).map(|(class, drop)| class << 5 | drop << 3)
        }
        _ if name.len() == 3 && name.starts_with("cs") => digit(2, 0..=7).map(|class| class << 5),
        _ => any_base(&name).and_then(|n| u8::try_from(n).ok()).filter(|&n| n <= 63).map(|n| n << 2),
    };
    byte.ok_or_else(|| {
        "bad DSCP value (numeric: 0-63 inclusive, symbolic: one of [af11-13, af21-23, af31-33, af41-43, cs1-7, ef, va, lowdelay, throughput, reliability])"
            .to_owned()
    })
}

/// `#/#/#` of `--cntl-ka`, each of which may be left out.
pub fn keep_alive(text: &str) -> Refused<KeepAlive> {
    let why = "bad keep-alive: seconds of silence, seconds between probes and probes are needed, as --cntl-ka=10/2/5";
    let mut parts = text.split('/').map(|part| match part {
        "" => Ok(0),
        _ => whole(part, 1..=32_767, why),
    });
    let mut next = || parts.next().unwrap_or(Ok(0));
    let (idle, every, count) = (next()?, next()?, next()?);
    if parts.next().is_some() {
        return Err(why.to_owned());
    }
    Ok(KeepAlive {
        idle: Duration::from_secs(idle),
        interval: Duration::from_secs(every),
        // At most 32767.
        count: count as u32,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn suffixes_of_sizes_and_rates() {
        assert_eq!(
            (size("1K"), size("2m"), size("1.5k"), size("7")),
            (Ok(1024), Ok(2 << 20), Ok(1536), Ok(7))
        );
        assert_eq!(
            (rate("1K"), rate("1.5M"), rate("10g"), rate("0")),
            (Ok(1000), Ok(1_500_000), Ok(10_000_000_000), Ok(0))
        );
        for text in
            ["", "K", "1,2", "64,594,1518", "imix", "1KK", "1Kpps", "-1", "nan", "inf", "1e300", "1000pps"]
        {
            assert!(size(text).is_err() && rate(text).is_err(), "{text}");
        }
        assert_eq!(rate_with("1M/8"), Ok((1_000_000, Some("8"))));
    }

    #[test]
    fn bytes_of_quality() {
        assert_eq!((tos("52"), tos("064"), tos("0x34"), tos("0")), (Ok(52), Ok(52), Ok(52), Ok(0)));
        assert_eq!(
            (dscp("ef"), dscp("46"), dscp("0x2e"), dscp("AF41"), dscp("cs1")),
            (Ok(184), Ok(184), Ok(184), Ok(136), Ok(32))
        );
        assert_eq!((dscp("lowdelay"), dscp("af13")), (Ok(16), Ok(56)));
        for text in ["64", "af44", "zz", "", "é"] {
            assert!(dscp(text).is_err(), "{text}");
        }
        for text in ["256", "-1", "0x", "08", ""] {
            assert!(tos(text).is_err(), "{text}");
        }
    }

    #[test]
    fn keep_alives_and_intervals() {
        assert_eq!(keep_alive(""), Ok(KeepAlive::default()));
        let all = KeepAlive { idle: Duration::from_secs(10), interval: Duration::from_secs(2), count: 5 };
        assert_eq!(keep_alive("10/2/5"), Ok(all));
        assert_eq!(keep_alive("//5"), Ok(KeepAlive { count: 5, ..KeepAlive::default() }));
        for text in ["x", "1/2/3/4", "-1", "99999"] {
            assert!(keep_alive(text).is_err(), "{text}");
        }
        assert_eq!((interval("0"), interval("0.5")), (Ok(Duration::ZERO), Ok(Duration::from_millis(500))));
        for text in ["0.01", "61", "x", "nan", "-1"] {
            assert!(interval(text).is_err(), "{text}");
        }
    }
}
