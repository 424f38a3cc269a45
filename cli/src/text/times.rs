//! Clocks and distributions of times.

use wirerate_engine::report::{Clock, Distribution, Ipdv};

use super::time;

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
        (Some("same-host"), _) => "; sender and receiver have one clock".to_owned(),
        (Some("disciplined"), Some(error)) => {
            format!("; the sender's is synchronised, too: apart by {} at most", time(error))
        }
        (Some(_), _) => "; not comparable with the sender's: no latency".to_owned(),
        (None, _) => String::new(),
    };
    format!("{}{kept}{related}", clock.source)
}
