//! Clocks and distributions of times.

use wirerate_engine::report::{Clock, Distribution, Ipdv, Timestamps};

use super::{count, time};

/// Median and 99th percentile, as far as there are enough times for it.
pub(super) fn short(l: &Distribution) -> String {
    let p99 = l.p99.map_or(String::new(), |p99| format!(", p99 {}", time(p99)));
    format!("p50 {}{p99}", time(l.p50))
}

/// All that is known.
pub(super) fn distribution(l: &Distribution) -> String {
    let tail =
        [("p90", l.p90), ("p99", l.p99), ("p99.9", l.p999), ("p99.99", l.p9999), ("p99.999", l.p99999)];
    let tail = tail.iter().filter_map(|(name, value)| Some(format!("{name} {}, ", time((*value)?))));
    format!("min {}, p50 {}, {}max {}", time(l.min), time(l.p50), tail.collect::<String>(), time(l.max))
}

pub(super) fn ipdv(ipdv: &Ipdv) -> String {
    let signed = |ns: i64| format!("{}{}", if ns < 0 { "-" } else { "+" }, time(ns.unsigned_abs()));
    format!("{} to {}, magnitude {}", signed(ipdv.min), signed(ipdv.max), short(&ipdv.magnitude))
}

/// Whether the clocks of the two ends can be compared.
pub(super) fn clock(clock: &Clock) -> String {
    let kept = match clock.state {
        Some(state) if state.synchronised => {
            format!(", synchronised to {} as its daemon says", time(state.max_error_ns))
        }
        Some(_) => ", not synchronised".to_owned(),
        None => String::new(),
    };
    let related = match (clock.relation, clock.error_ns) {
        (Some("same-host"), Some(error @ 1..)) => {
            format!("; sender and receiver have one clock, and the NIC's is off by {} at most", time(error))
        }
        (Some("same-host"), _) => "; sender and receiver have one clock".to_owned(),
        (Some("disciplined"), Some(error)) => {
            format!("; the sender's is synchronised, too: apart by {} at most", time(error))
        }
        (Some(_), _) => "; not comparable with the sender's: no latency".to_owned(),
        (None, _) => String::new(),
    };
    format!("{}{kept}{related}", clock.source)
}

/// Who stamped what arrived, where the NIC was to, and what is known of its clock.
pub(super) fn by_nic(stamps: &Timestamps) -> Option<String> {
    let clock = stamps.nic_clock?;
    let of = |n: Option<u64>| count(n.unwrap_or(0));
    let implausible = match stamps.implausible {
        Some(n @ 1..) => format!(" ({} of the NIC's cannot be)", count(n)),
        _ => String::new(),
    };
    let way = if clock.offset_ns < 0 { "behind" } else { "ahead of" };
    Some(format!(
        "{} by the NIC, {} by the kernel, {} by nobody{implausible}; /dev/ptp{} is {} {way} CLOCK_TAI, known to {}",
        of(stamps.nic),
        of(stamps.kernel),
        of(stamps.missing),
        clock.phc,
        time(clock.offset_ns.unsigned_abs()),
        time(clock.error_ns)
    ))
}

#[cfg(test)]
mod tests {
    use super::*;
    use wirerate_engine::report::NicClock;

    #[test]
    fn what_the_nic_did_not_stamp_is_said() {
        let nic_clock = NicClock {
            phc: 2,
            read: "extended",
            offset_ns: -37_000_000_000,
            faster_ppb: 3,
            error_ns: 420,
            comparisons: 9,
            steps: 1,
        };
        let stamps = Timestamps {
            source: "nic",
            nic: Some(1200),
            kernel: Some(3),
            missing: Some(0),
            implausible: Some(2),
            nic_clock: Some(nic_clock),
        };
        let text = by_nic(&stamps).unwrap();
        for part in [
            "by the NIC, 3 by the kernel, 0 by nobody (2 of",
            "/dev/ptp2",
            "behind CLOCK_TAI, known to 420 ns",
        ] {
            assert!(text.contains(part), "{text}");
        }
        assert_eq!(by_nic(&Timestamps { nic_clock: None, ..stamps }), None);
    }
}
