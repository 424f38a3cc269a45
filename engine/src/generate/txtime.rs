//! Packets that leave at times of their own (SO_TXTIME): when that can be, and how far ahead of its time each is handed over.
#![forbid(unsafe_code)]

use super::config::SendConfig;
use crate::backend::{Backend, Choice};
use crate::error::{Error, Result};
use crate::host::qdisc::{self, TimedQdisc};
use crate::profile::rate::Rate;
use crate::profile::segments::Segments;
use crate::queue::spec::Interface;

/// Time that a packet is handed over ahead of its own, at most: what a thread may be held up without any packet leaving late, in ns.
const MOST_AHEAD_NS: u64 = 4_000_000;

/// How far ahead of its time a packet is handed over.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Ahead {
    /// At most, in ns.
    pub lead_ns: u64,
    /// At least, or its time is put off, in ns.
    pub head_start_ns: u64,
}

impl Ahead {
    /// For packets that leave by `qdisc`, `pps` a second in all, and `flow_pps` of each stream. Of what the queueing discipline holds
    /// half is used: what is held up comes at twice the rate.
    pub(super) fn new(qdisc: &TimedQdisc, pps: f64, flow_pps: f64) -> Self {
        let held = |packets: u32, pps: f64| (f64::from(packets) / 2.0 / pps * 1e9) as u64;
        let lead_ns = MOST_AHEAD_NS
            .min(held(qdisc.limit, pps))
            .min(held(qdisc.flow_limit, flow_pps))
            .min(qdisc.horizon_ns / 2);
        Self { lead_ns: lead_ns + qdisc.head_start_ns, head_start_ns: qdisc.head_start_ns }
    }

    /// Whether the queueing discipline holds less than what could be handed over ahead.
    pub(super) fn is_shortened(&self) -> bool {
        self.lead_ns - self.head_start_ns < MOST_AHEAD_NS
    }

    /// Packets of a worker with `pps` a second that may be on their way, and those that are handed over at once: half of them.
    pub(crate) fn packets(&self, pps: f64) -> (f64, f64) {
        let most = pps * (self.lead_ns - self.head_start_ns) as f64 / 1e9;
        (most, most / 2.0)
    }
}

/// The datapath to settle on, with the reason where it is not the usual one: only `mmsg` hands packets over with a time.
pub(super) fn choice(config: &SendConfig) -> (Choice, Option<String>) {
    match config.backend {
        Choice::Auto if config.txtime => {
            (Choice::Mmsg, Some("only mmsg hands packets over with a time (--txtime)".to_owned()))
        }
        Choice::Auto if config.tuning.kernel_stamps => {
            (Choice::Mmsg, Some("only mmsg reads the kernel's stamps (--timestamps kernel)".to_owned()))
        }
        backend => (backend, None),
    }
}

/// What lets the packets go that leave by `way_out`, `pps` a second in `streams`, and how far ahead they are handed over; `None` when
/// they are to leave as they are handed over.
///
/// # Errors
/// Usage: something else was asked for that does not go with it. Environment: the interface has another queueing discipline.
pub(super) fn settle(
    config: &SendConfig,
    backend: Backend,
    way_out: Option<&Interface>,
    pps: Option<f64>,
    streams: usize,
) -> Result<Option<(TimedQdisc, Ahead)>> {
    if !config.txtime {
        return Ok(None);
    }
    check(config, backend)?;
    let (Some(pps), Some(interface)) = (pps, way_out) else {
        return Err(Error::usage("--txtime: no route names the interface that packets leave by")
            .fix("add --iface IF"));
    };
    let qdisc = qdisc::timed(interface)?;
    Ok(Some((qdisc, Ahead::new(&qdisc, pps, pps / streams as f64))))
}

/// What does not go with times of departure.
fn check(config: &SendConfig, backend: Backend) -> Result<()> {
    let refuse = |why: &str, fix: &str| Err(Error::usage(format!("--txtime: {why}")).fix(fix));
    if backend != Backend::Mmsg {
        let why = format!("--backend {} hands packets over without a time", backend.name());
        return refuse(&why, "use --backend mmsg");
    }
    if config.rate == Rate::Max {
        return refuse("without a pace no packet has a time to leave at", "give a --rate");
    }
    if config.burst.is_some_and(|burst| burst > 1) {
        return refuse("each packet leaves at a time of its own, and none in a burst", "leave --burst out");
    }
    if matches!(config.segments, Segments::Exactly(2..)) {
        return refuse("packets of one buffer have one time", "use --segments off, or leave it out");
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::error::Kind;
    use crate::host::qdisc::TxClock;

    const FQ: TimedQdisc = TimedQdisc {
        kind: "fq",
        clock: TxClock::Monotonic,
        deadline: false,
        head_start_ns: 0,
        limit: 10_000,
        flow_limit: 100,
        horizon_ns: 10_000_000_000,
    };

    #[test]
    fn no_more_than_the_queueing_discipline_holds() {
        let lead = |qdisc: TimedQdisc, pps, flow_pps| Ahead::new(&qdisc, pps, flow_pps).lead_ns;
        assert_eq!(lead(FQ, 1_000.0, 1_000.0), MOST_AHEAD_NS);
        assert_eq!(lead(FQ, 50_000.0, 50_000.0), 1_000_000, "50 packets of a flow");
        assert_eq!(lead(FQ, 10e6, 1_000.0), 500_000, "5,000 packets in all");
        assert_eq!(lead(TimedQdisc { horizon_ns: 1_000_000, ..FQ }, 1.0, 1.0), 500_000);
        let etf = Ahead::new(&TimedQdisc { head_start_ns: 700_000, ..FQ }, 1_000.0, 1_000.0);
        assert_eq!(etf, Ahead { lead_ns: MOST_AHEAD_NS + 700_000, head_start_ns: 700_000 });
        assert_eq!(etf.packets(1_000.0), (4.0, 2.0), "none within the head start");
    }

    #[test]
    fn what_does_not_go_with_it_is_a_usage_error() {
        let config = SendConfig { txtime: true, ..SendConfig::new("239.1.2.3:5001".parse().unwrap()) };
        assert!(matches!(choice(&config), (Choice::Mmsg, Some(why)) if why.contains("--txtime")));
        assert_eq!(choice(&SendConfig { backend: Choice::Uring, ..config.clone() }), (Choice::Uring, None));
        assert_eq!(choice(&SendConfig { txtime: false, ..config.clone() }), (Choice::Auto, None));
        assert!(check(&config, Backend::Mmsg).is_ok());
        assert!(check(&SendConfig { burst: Some(1), ..config.clone() }, Backend::Mmsg).is_ok());
        let cases = [
            (config.clone(), Backend::Uring, "use --backend mmsg"),
            (config.clone(), Backend::Afxdp, "use --backend mmsg"),
            (SendConfig { rate: Rate::Max, ..config.clone() }, Backend::Mmsg, "give a --rate"),
            (SendConfig { burst: Some(2), ..config.clone() }, Backend::Mmsg, "leave --burst out"),
            (
                SendConfig { segments: Segments::Exactly(2), ..config.clone() },
                Backend::Mmsg,
                "use --segments off, or leave it out",
            ),
        ];
        for (config, backend, fix) in cases {
            let error = check(&config, backend).unwrap_err();
            assert_eq!((error.kind, error.fix.as_deref()), (Kind::Usage, Some(fix)));
        }
    }
}
