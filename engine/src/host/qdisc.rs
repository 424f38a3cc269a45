//! Queueing disciplines (RTM_GETQDISC, tc(8)), and which of them let a packet go at the time that its sender names: fq by CLOCK_MONOTONIC
//! (tc-fq(8)), etf by CLOCK_TAI (tc-etf(8)).
#![forbid(unsafe_code)]

use netlink_packet_core::{NLM_F_DUMP, Nla, NlasIterator};
use netlink_packet_route::tc::{TcAttribute, TcHandle, TcMessage, TcOption};
use serde::Serialize;

use super::netlink::{self, Rtnl};
use crate::error::{Error, Result};
use crate::queue::spec::Interface;

/// Attributes of fq's options, from linux/pkt_sched.h.
const FQ_PLIMIT: u16 = 1;
const FQ_FLOW_PLIMIT: u16 = 2;
const FQ_HORIZON: u16 = 14;
/// What fq has where it tells nothing.
const FQ_DEFAULTS: (u32, u32, u32) = (10_000, 100, 10_000_000);

/// The attribute of etf's options, a `tc_etf_qopt`, and the flag of its deadline mode.
const ETF_PARMS: u16 = 1;
const ETF_DEADLINE: u32 = 1;

/// What a packet may need from its hand-over until etf has it, in ns.
const ON_THE_WAY_NS: u64 = 500_000;

/// The clock of a queueing discipline.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum TxClock {
    /// CLOCK_MONOTONIC.
    Monotonic,
    /// CLOCK_TAI.
    Tai,
}

/// A queueing discipline that lets each packet go at its time.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct TimedQdisc {
    /// `fq` or `etf`.
    pub kind: &'static str,
    /// What times are told in.
    pub clock: TxClock,
    /// The time is the latest at which the packet is to leave (SOF_TXTIME_DEADLINE_MODE), not the one at which it leaves.
    pub deadline: bool,
    /// A packet that comes later than this long before its time is dropped, in ns; 0: it leaves late.
    pub head_start_ns: u64,
    /// Packets that it holds; more are dropped.
    pub limit: u32,
    /// Packets of one socket that it holds; more are dropped.
    pub flow_limit: u32,
    /// Packets whose time is further away than this are dropped, in ns.
    pub horizon_ns: u64,
}

impl TimedQdisc {
    /// What both do, where packets may leave by either.
    fn and(self, other: Self) -> Self {
        Self {
            head_start_ns: self.head_start_ns.max(other.head_start_ns),
            limit: self.limit.min(other.limit),
            flow_limit: self.flow_limit.min(other.flow_limit),
            horizon_ns: self.horizon_ns.min(other.horizon_ns),
            ..self
        }
    }
}

/// The queueing discipline by which packets leave `interface`, which has to let them go at their time.
///
/// # Errors
/// Environment when it is another, or the kernel cannot be asked.
pub fn timed(interface: &Interface) -> Result<TimedQdisc> {
    let name = &interface.name;
    let answers =
        netlink::route(&Rtnl::GetQueueDiscipline(TcMessage::default()), NLM_F_DUMP).map_err(|e| {
            Error::environment(format!("{name}: cannot ask for its queueing discipline")).because(e)
        })?;
    let qdiscs: Vec<_> = answers.iter().filter_map(|answer| Qdisc::parse(answer, interface.index)).collect();
    way_out(&qdiscs).map_err(|found| {
        Error::environment(format!(
            "--txtime: {name} has the queueing discipline {found}, which lets no packet go at its time"
        ))
        .fix(format!("tc qdisc replace dev {name} root fq"))
    })
}

/// A queueing discipline, as the kernel tells of it.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
struct Qdisc {
    kind: String,
    handle: TcHandle,
    parent: TcHandle,
    /// Kinds and values of its options.
    options: Vec<(u16, Vec<u8>)>,
}

impl Qdisc {
    fn parse(answer: &Rtnl, index: u32) -> Option<Self> {
        let Rtnl::NewQueueDiscipline(message) = answer else { return None };
        let header = &message.header;
        if u32::try_from(header.index) != Ok(index) {
            return None;
        }
        let mut qdisc = Self { handle: header.handle, parent: header.parent, ..Self::default() };
        for attribute in &message.attributes {
            match attribute {
                TcAttribute::Kind(kind) => qdisc.kind.clone_from(kind),
                TcAttribute::Options(options) => {
                    if let Some(TcOption::Other(nested)) = options.first() {
                        let mut bytes = vec![0; nested.value_len()];
                        nested.emit_value(&mut bytes);
                        qdisc.options = read_options(&bytes);
                    }
                }
                _ => {}
            }
        }
        Some(qdisc)
    }

    /// The `n`th 32-bit word of the option of this kind.
    fn word(&self, kind: u16, n: usize) -> Option<u32> {
        let (_, value) = self.options.iter().find(|(k, _)| *k == kind)?;
        value.get(4 * n..)?.first_chunk().map(|bytes| u32::from_ne_bytes(*bytes))
    }

    fn timed(&self) -> Option<TimedQdisc> {
        match self.kind.as_str() {
            "fq" => {
                let (limit, flow_limit, horizon) = FQ_DEFAULTS;
                let horizon_us = self.word(FQ_HORIZON, 0).unwrap_or(horizon);
                Some(TimedQdisc {
                    kind: "fq",
                    clock: TxClock::Monotonic,
                    deadline: false,
                    head_start_ns: 0,
                    limit: self.word(FQ_PLIMIT, 0).unwrap_or(limit),
                    flow_limit: self.word(FQ_FLOW_PLIMIT, 0).unwrap_or(flow_limit),
                    horizon_ns: u64::from(horizon_us) * 1000,
                })
            }
            // Delta in ns, clock, flags; the kernel accepts no clock but CLOCK_TAI.
            "etf" => Some(TimedQdisc {
                kind: "etf",
                clock: TxClock::Tai,
                deadline: self.word(ETF_PARMS, 2)? & ETF_DEADLINE != 0,
                head_start_ns: u64::from(self.word(ETF_PARMS, 0)?) + ON_THE_WAY_NS,
                limit: u32::MAX,
                flow_limit: u32::MAX,
                horizon_ns: u64::MAX,
            }),
            _ => None,
        }
    }
}

fn read_options(bytes: &[u8]) -> Vec<(u16, Vec<u8>)> {
    let options = NlasIterator::new(bytes).map_while(std::result::Result::ok);
    options.map(|option| (option.kind(), option.value().to_vec())).collect()
}

/// What packets leave by: the root, or with mq what each of the NIC's queues has. `Err` is what it is instead.
fn way_out(qdiscs: &[Qdisc]) -> std::result::Result<TimedQdisc, String> {
    let root = qdiscs.iter().find(|q| q.parent == TcHandle::ROOT).ok_or("none")?;
    if root.kind != "mq" {
        return root.timed().ok_or_else(|| root.kind.clone());
    }
    let mut common: Option<TimedQdisc> = None;
    for leaf in qdiscs.iter().filter(|q| q.parent.major == root.handle.major && q.parent != TcHandle::ROOT) {
        let timed = leaf.timed().ok_or_else(|| format!("mq with {}", leaf.kind))?;
        common = match common {
            None => Some(timed),
            Some(other) if (other.kind, other.deadline) == (timed.kind, timed.deadline) => {
                Some(other.and(timed))
            }
            Some(_) => return Err("mq with several".to_owned()),
        };
    }
    common.ok_or_else(|| root.kind.clone())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn qdisc(kind: &str, handle: u32, parent: u32, options: &[(u16, &[u32])]) -> Qdisc {
        let words = |values: &[u32]| values.iter().flat_map(|v| v.to_ne_bytes()).collect::<Vec<_>>();
        Qdisc {
            kind: kind.to_owned(),
            handle: handle.into(),
            parent: parent.into(),
            options: options.iter().map(|(kind, values)| (*kind, words(values))).collect(),
        }
    }

    const ROOT: u32 = u32::MAX;
    const CLSACT: u32 = 0xffff_fff1;

    #[test]
    fn fq_is_told_in_monotonic_time_and_has_limits() {
        let found =
            way_out(&[qdisc("clsact", 0xffff_0000, CLSACT, &[]), qdisc("fq", 0x8001_0000, ROOT, &[])]);
        let plain = found.unwrap();
        assert_eq!((plain.kind, plain.clock, plain.head_start_ns), ("fq", TxClock::Monotonic, 0));
        assert_eq!((plain.limit, plain.flow_limit, plain.horizon_ns), (10_000, 100, 10_000_000_000));
        let options: &[(u16, &[u32])] = &[(1, &[500]), (2, &[7]), (14, &[3000])];
        let own = way_out(&[qdisc("fq", 0x8001_0000, ROOT, options)]).unwrap();
        assert_eq!((own.limit, own.flow_limit, own.horizon_ns), (500, 7, 3_000_000));
    }

    #[test]
    fn etf_is_told_in_tai_and_before_its_delta() {
        let etf = |flags| way_out(&[qdisc("etf", 0x8001_0000, ROOT, &[(1, &[200_000, 11, flags])])]).unwrap();
        let found = etf(0);
        assert_eq!((found.kind, found.clock, found.deadline), ("etf", TxClock::Tai, false));
        assert_eq!(found.head_start_ns, 200_000 + ON_THE_WAY_NS);
        assert!(etf(1).deadline && !etf(2).deadline);
        assert_eq!(way_out(&[qdisc("etf", 0x8001_0000, ROOT, &[])]), Err("etf".to_owned()), "an odd answer");
    }

    #[test]
    fn below_mq_each_queue_counts() {
        let mq = qdisc("mq", 0, ROOT, &[]);
        let fq = |queue, flow_limit| qdisc("fq", 0, queue, &[(2, &[flow_limit])]);
        let found = way_out(&[mq.clone(), fq(1, 100), fq(2, 40)]).unwrap();
        assert_eq!((found.kind, found.flow_limit), ("fq", 40));
        let mixed = way_out(&[mq.clone(), fq(1, 100), qdisc("fq_codel", 0, 2, &[])]);
        assert_eq!(mixed, Err("mq with fq_codel".to_owned()));
        let several = way_out(&[mq.clone(), fq(1, 100), qdisc("etf", 0, 2, &[(1, &[0, 11, 0])])]);
        assert_eq!(several, Err("mq with several".to_owned()));
        assert_eq!(way_out(&[mq]), Err("mq".to_owned()));
    }

    #[test]
    fn others_are_named() {
        for kind in ["noqueue", "pfifo_fast", "fq_codel", "mqprio", "taprio"] {
            assert_eq!(way_out(&[qdisc(kind, 0, ROOT, &[])]), Err(kind.to_owned()));
        }
        assert_eq!(way_out(&[]), Err("none".to_owned()));
    }

    proptest::proptest! {
        #[test]
        fn odd_options_never_panic(bytes in proptest::collection::vec(0u8..16, 0..64), kind in 0u16..16) {
            let odd = Qdisc { options: read_options(&bytes), ..qdisc("etf", 0, ROOT, &[]) };
            let _ = (odd.word(kind, 2), odd.timed());
        }
    }
}
