//! The figures of one trial, of what both ends said and of what their kernels counted.
#![forbid(unsafe_code)]

use serde_json::Value;

use super::ends::{FROM, Measured, TO};
use super::report::{self, Proven};
use super::tools::{self, Load, Said, ToolName};
use super::witness::Look;
use super::{limits, proof};
use crate::agent::Ended;
use crate::error::{Error, Result};
use crate::interop::peer::{self, Cpu, iperf2, iperf3};

/// A report, or why there is none.
pub(super) fn whole(ended: Ended, who: &str) -> Result<Value> {
    match (ended.failure, ended.report) {
        (_, Some(report)) => Ok(report),
        (Some(failure), None) => Err(failure),
        (None, None) => Err(Error::failed(format!("{who} ended without a report (status {})", ended.status))),
    }
}

/// What both ends said, and the CPU time of foreign ones.
pub(super) fn read(
    tool: ToolName,
    load: &Load,
    sent: &Value,
    received: &Value,
) -> Result<(Said, report::Cpu)> {
    if tool.foreign().is_none() {
        return Ok((tools::of_ours(sent, received), report::Cpu::default()));
    }
    let ended = |value: &Value| {
        serde_json::from_value::<peer::Ended>(value.clone())
            .map_err(|e| Error::failed(format!("what an agent says of a tool is not understood: {e}")))
    };
    let (client, server) = (ended(sent)?, ended(received)?);
    let said = if tool == ToolName::Iperf2 {
        if client.late {
            return Err(Error::failed("iperf: the client did not end in time"));
        }
        tools::of_iperf2(&iperf2::received(&server)?, iperf2::sent(&client.stdout), load)
    } else {
        tools::of_iperf3(&iperf3::read(&client, "the client", false)?, tool == ToolName::Iperf3Udp)
    };
    let cpu = |ended: &peer::Ended, flow: Option<report::Flow>| {
        let mut of = report::CpuOf::default();
        match ended.cpu {
            Some(cpu) => set(&mut of, cpu, flow.map(|flow| flow.seconds)),
            None => of.not_known = Some("the process is behind a command that leads elsewhere".into()),
        }
        of
    };
    let cpu = report::Cpu { sender: cpu(&client, said.offered), receiver: cpu(&server, said.delivered) };
    Ok((said, cpu))
}

fn set(of: &mut report::CpuOf, cpu: Cpu, seconds: Option<f64>) {
    (of.user_ns, of.system_ns) = (Some(cpu.user_ns), Some(cpu.system_ns));
    of.percent = seconds.filter(|s| *s > 0.0).map(|seconds| 100.0 * cpu.seconds() / seconds);
}

/// CPU time of our own task: that of the agent's process, which does nothing else meanwhile.
pub(super) fn own(of: &mut report::CpuOf, before: &Look, after: &Look, window: Option<(&Look, &Look, f64)>) {
    let between = |a: Cpu, b: Cpu| Cpu {
        user_ns: b.user_ns.saturating_sub(a.user_ns),
        system_ns: b.system_ns.saturating_sub(a.system_ns),
    };
    set(of, between(before.own, after.own), None);
    of.percent = window
        .filter(|(.., seconds)| *seconds > 0.0)
        .map(|(begin, end, seconds)| 100.0 * between(begin.own, end.own).seconds() / seconds);
}

pub(super) fn per_gigabyte(cpu: &mut report::Cpu, said: &Said) {
    for (of, flow) in [(&mut cpu.sender, said.offered), (&mut cpu.receiver, said.delivered)] {
        let seconds = of.user_ns.zip(of.system_ns).map(|(user, system)| (user + system) as f64 / 1e9);
        let bytes = flow.map(|flow| flow.payload_bytes).filter(|bytes| *bytes > 0);
        of.s_per_gb = seconds.zip(bytes).map(|(seconds, bytes)| seconds * 1e9 / bytes as f64);
    }
}

/// What is proven of a trial between two looks at both ends.
pub(super) fn prove(
    tool: ToolName,
    load: &Load,
    said: &Said,
    [before, after]: [&[Look; 2]; 2],
    drops: Option<Vec<report::Drop>>,
    mut not_known: Vec<String>,
) -> Proven {
    let link = |at: usize| (&before[at].link, &after[at].link);
    let (from, to) = (link(FROM), link(TO));
    let interfaces = report::Interfaces {
        left: from.1.tx_packets.saturating_sub(from.0.tx_packets),
        came: to.1.rx_packets.saturating_sub(to.0.rx_packets),
        from_dropped: from.1.tx_dropped.saturating_sub(from.0.tx_dropped),
        to_dropped: to.1.rx_dropped.saturating_sub(to.0.rx_dropped),
    };
    let mut proven = if tool.is_tcp() {
        let again = after[FROM].retransmitted.checked_sub(before[FROM].retransmitted);
        not_known =
            vec!["where segments were lost: TCP sends them again, and its stream loses nothing".into()];
        Proven { by: again.map(|_| "tcp"), not_known, retransmitted: again, ..Proven::default() }
    } else if let Some((sent, unique, copies)) = said.ledger {
        proof::of_ledger(sent, unique, copies, drops, not_known)
    } else {
        let looks = |at: usize| [&before[at], &after[at]];
        match proof::Counted::between(looks(FROM), looks(TO), load.to.is_ipv6()) {
            Some(counted) => proof::of_kernel(counted, drops, not_known),
            None => {
                not_known.push("the kernel's counters were set back".into());
                Proven { not_known, drops, ..Proven::default() }
            }
        }
    };
    proven.interfaces = Some(interfaces);
    proven
}

/// What limited a trial.
pub fn limit(tool: ToolName, load: &Load, frame_bytes: u32, measured: &Measured) -> limits::Limit {
    let Measured { said, proven, cpu, link_bps, .. } = measured;
    let stated = || u64::try_from(said.stated.lost?).ok();
    limits::judge(&limits::Facts {
        tcp: tool.is_tcp(),
        asked_bps: load.bps(),
        offered_bps: said.offered.map_or(0.0, |flow| flow.payload_bps),
        delivered_bps: said.delivered.map_or(0.0, |flow| flow.payload_bps),
        sent: proven.sent.or(said.offered.and_then(|flow| flow.packets)).unwrap_or(0),
        lost: proven.lost.or_else(stated).unwrap_or(0),
        sent_bytes: said.offered.map_or(0, |flow| flow.payload_bytes),
        drops: proven.drops.clone().unwrap_or_default(),
        sender_percent: cpu.sender.percent,
        receiver_percent: cpu.receiver.percent,
        sender_busiest: cpu.sender.busiest_percent,
        receiver_busiest: cpu.receiver.busiest_percent,
        link_bps: *link_bps,
        line_share: f64::from(frame_bytes + 20) / f64::from(load.length.max(1)),
        retransmitted: proven.retransmitted,
    })
}
