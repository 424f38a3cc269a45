//! Quantities as iperf3 prints them.

/// Bytes, with a unit that reads well: "128 KBytes".
pub fn bytes(number: u64) -> String {
    quantity(number as f64, None, 1024.0, "Bytes")
}

/// Bits a second in `unit` of `-f`, or with one that reads well: "1.05 Mbits/sec". Capital letters are bytes.
pub fn bitrate(bits: f64, unit: Option<char>) -> String {
    let power = unit.map(|unit| match unit.to_ascii_lowercase() {
        'k' => 1,
        'm' => 2,
        'g' => 3,
        _ => 4,
    });
    if unit.is_some_and(|unit| unit.is_ascii_uppercase()) {
        quantity(bits / 8.0, power, 1024.0, "Bytes/sec")
    } else {
        quantity(bits, power, 1000.0, "bits/sec")
    }
}

/// In four places: 9.99, 99.9, 9999.
fn quantity(mut number: f64, power: Option<usize>, step: f64, name: &str) -> String {
    const PREFIXES: [&str; 5] = ["", "K", "M", "G", "T"];
    let power = match power {
        Some(power) => {
            number /= step.powi(power as i32);
            power
        }
        None => {
            let mut power = 0;
            while number >= step && power < 4 {
                number /= step;
                power += 1;
            }
            power
        }
    };
    let digits = if number < 9.995 {
        2
    } else if number < 99.95 {
        1
    } else {
        0
    };
    format!("{number:4.digits$} {}{name}", PREFIXES[power])
}

/// A percentage with two digits that count, as C's `%.2g`: 0, 0.12, 14, 1e+02.
pub fn percentage(value: f64) -> String {
    if value == 0.0 || !value.is_finite() {
        return "0".to_owned();
    }
    let rounded = format!("{value:.1e}");
    let (mantissa, exponent) = rounded.split_once('e').unwrap_or((&rounded, "0"));
    let exponent: i32 = exponent.parse().unwrap_or(0);
    let trimmed = |text: &str| match text.contains('.') {
        true => text.trim_end_matches('0').trim_end_matches('.').to_owned(),
        false => text.to_owned(),
    };
    if (-4..2).contains(&exponent) {
        let places = (1 - exponent).max(0) as usize;
        trimmed(&format!("{value:.places$}"))
    } else {
        let sign = if exponent < 0 { '-' } else { '+' };
        format!("{}e{sign}{:02}", trimmed(mantissa), exponent.abs())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn quantities_in_four_places() {
        // As captured from iperf3.
        for (number, text) in [
            (131_072, " 128 KBytes"),
            (98_304, "96.0 KBytes"),
            (0, "0.00 Bytes"),
            (1000, "1000 Bytes"),
            (2000, "1.95 KBytes"),
        ] {
            assert_eq!(bytes(number), text);
        }
        for (bits, unit, text) in [
            (1_048_474.0, None, "1.05 Mbits/sec"),
            (999_898.0, None, "1000 Kbits/sec"),
            (915_000.0, None, " 915 Kbits/sec"),
            (1_048_000.0, Some('k'), "1048 Kbits/sec"),
            (8e6, Some('M'), "0.95 MBytes/sec"),
            (0.0, None, "0.00 bits/sec"),
            (120e6, None, " 120 Mbits/sec"),
        ] {
            assert_eq!(bitrate(bits, unit), text);
        }
    }

    #[test]
    fn percentages_as_c_writes_them() {
        for (value, text) in [
            (0.0, "0"),
            (14.4, "14"),
            (100.0, "1e+02"),
            (99.6, "1e+02"),
            (50.0, "50"),
            (0.123, "0.12"),
            (0.1, "0.1"),
            (0.000_012_3, "1.2e-05"),
            (1.25, "1.2"),
            (-12.4, "-12"),
        ] {
            assert_eq!(percentage(value), text, "{value}");
        }
    }
}
