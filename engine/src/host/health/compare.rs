//! Two snapshots of an interface: what changed between them, and what that means.
#![forbid(unsafe_code)]

use std::collections::{BTreeMap, BTreeSet};

use super::class::{self, Class};
use super::finding::{Finding, Moved, Part, Severity};
use super::limits::{Limits, Speed};
use super::queues::{Share, shares};
use super::snapshot::Snapshot;
use super::state::{self, Found};

/// Fewer packets than these say nothing about how load spreads.
const ENOUGH: u64 = 1000;
/// A queue with more than this part of all has them nearly all.
const NEARLY_ALL: f64 = 0.9;

/// What changed between two snapshots of an interface, and what is wrong with it now, the severest first. A counter that stayed, or moved no further than `limits` allow, is no finding; nor is one that
/// counts nothing that went wrong.
///
/// Take the first after all that sets the interface up: attaching an XDP program takes the link down with some drivers, and that is counted.
pub fn compare(before: &Snapshot, after: &Snapshot, limits: &Limits) -> Vec<Finding> {
    let mut found = Found { limits, list: Vec::new() };
    let packets = |s: &Snapshot, name: &str| s.counters.rtnl.get(name).copied().unwrap_or(0);
    let set_back =
        ["rx_packets", "tx_packets"].iter().any(|name| packets(after, name) < packets(before, name));
    if before.index != after.index || before.driver != after.driver || set_back {
        found.add(
            Severity::Fail,
            "replaced",
            format!(
                "{}: its counters were set back: the device or its driver was replaced or reset",
                after.interface
            ),
            &[(Part::Card, "look into dmesg why, and test again".to_owned())],
        );
    } else {
        flaps(before, after, &mut found);
        counters(before, after, &mut found);
        spread(before, after, &mut found);
    }
    settings(before, after, &mut found);
    let mut list = found.list;
    list.extend(state::inspect(after, limits));
    list.sort_by_key(|finding| std::cmp::Reverse(finding.severity));
    list
}

fn flaps(before: &Snapshot, after: &Snapshot, found: &mut Found) {
    let rose =
        |of: fn(&Snapshot) -> Option<u64>| Some((of(before)?, of(after)?)).filter(|(old, new)| new > old);
    let downs = rose(|s| s.link.carrier_downs).map(|moved| ("carrier_down_count", moved));
    let changes = rose(|s| s.link.carrier_changes).map(|moved| ("carrier_changes", moved));
    let Some((name, (old, new))) = downs.or(changes) else { return };
    let class = Class::LinkDown;
    found.add(
        class.severity(),
        class.code(),
        format!("{}: the link changed its state, {name} from {old} to {new}", after.interface),
        &class.advice(after),
    );
    if let Some(finding) = found.list.last_mut() {
        finding.counters.push(moved("rtnl", name, old, new));
    }
}

fn moved(source: &str, name: &str, before: u64, after: u64) -> Moved {
    Moved {
        source: source.to_owned(),
        name: name.to_owned(),
        before,
        after,
        by: after.saturating_sub(before),
    }
}

/// Every counter that moved further than allowed, by what it means.
fn moved_by_class(before: &Snapshot, after: &Snapshot, limits: &Limits) -> BTreeMap<Class, Vec<Moved>> {
    let mut by_class: BTreeMap<Class, Vec<Moved>> = BTreeMap::new();
    let (old, new) = (&before.counters, &after.counters);
    let mut judge = |source: &str, class: Option<Class>, name: &str, was: u64, is: u64| {
        if let Some(class) = class.filter(|_| is.saturating_sub(was) > limits.allowed(name)) {
            by_class.entry(class).or_default().push(moved(source, name, was, is));
        }
    };
    let earlier = |map: &BTreeMap<String, u64>, name: &str| map.get(name).copied().unwrap_or(0);
    for (name, value) in &new.rtnl {
        judge("rtnl", class::of_kernel(name), name, earlier(&old.rtnl, name), *value);
    }
    for (name, value) in &new.ethtool {
        judge("ethtool", class::of_driver(name), name, earlier(&old.ethtool, name), *value);
    }
    for (name, value) in &new.qdisc {
        judge("qdisc", Some(Class::Qdisc), name, earlier(&old.qdisc, name), *value);
    }
    if let (Some(was), Some(is)) = (old.softnet_dropped, new.softnet_dropped) {
        judge("softnet", Some(Class::Backlog), "dropped", was, is);
    }
    by_class
}

fn counters(before: &Snapshot, after: &Snapshot, found: &mut Found) {
    let by_class = moved_by_class(before, after, found.limits);
    let most = |list: &[Moved]| list.iter().map(|m| m.by).max().unwrap_or(0);
    // What counters of one kind explain, those that add up need not say again.
    let explained = |receive: bool| -> u64 {
        let kinds = by_class.iter().filter(|(class, _)| !class.is_sum() && class.is_receive() == receive);
        kinds.map(|(_, list)| most(list)).sum()
    };
    for (class, list) in &by_class {
        if class.is_sum() && most(list) <= explained(class.is_receive()) {
            continue;
        }
        let flapped =
            *class == Class::LinkDown && found.list.iter().any(|f| f.code == Class::LinkDown.code());
        if flapped {
            continue;
        }
        let names: BTreeSet<&str> = list.iter().map(|m| m.name.as_str()).collect();
        let text = format!(
            "{}: {} {} ({})",
            after.interface,
            most(list),
            class.says(),
            some_of(&names.into_iter().collect::<Vec<_>>())
        );
        found.add(class.severity(), class.code(), text, &class.advice(after));
        if let Some(finding) = found.list.last_mut() {
            finding.counters.clone_from(list);
        }
    }
}

/// The first few names, and how many more.
fn some_of(names: &[&str]) -> String {
    const SHOWN: usize = 3;
    match names.len().checked_sub(SHOWN).filter(|more| *more > 0) {
        Some(more) => format!("{}, {more} more", names[..SHOWN].join(", ")),
        None => names.join(", "),
    }
}

fn settings(before: &Snapshot, after: &Snapshot, found: &mut Found) {
    let name = &after.interface;
    let speed = |s: &Snapshot| s.link.speed_bps.map(|bps| Speed(bps).to_string());
    let duplex = |s: &Snapshot| s.link.duplex.map(|d| format!("{} duplex", d.name()));
    let negotiated =
        |s: &Snapshot| s.link.autonegotiation.map(|a| format!("autonegotiation {a:?}").to_lowercase());
    let lanes = |s: &Snapshot| s.pcie.map(|p| format!("PCI Express {} GT/s × {}", p.speed_gtps, p.width));
    let rings = |s: &Snapshot| s.rings.map(|r| format!("rings of {} and {}", r.rx, r.tx));
    let mtu = |s: &Snapshot| Some(format!("MTU {}", s.mtu));
    let queues = |s: &Snapshot| Some(format!("{} receive and {} transmit queues", s.rx_queues, s.tx_queues));
    let pause = |s: &Snapshot| s.pause.map(|p| format!("pause rx {} tx {}", p.rx, p.tx));
    type Told<'a> = &'a dyn Fn(&Snapshot) -> Option<String>;
    let watched: [(&str, Severity, &[Part], Told); 8] = [
        ("speed-changed", Severity::Fail, &[Part::Cable, Part::Port, Part::Card], &speed),
        ("duplex-changed", Severity::Fail, &[Part::Port, Part::Card], &duplex),
        ("pcie-changed", Severity::Fail, &[Part::Card], &lanes),
        ("autonegotiation-changed", Severity::Warn, &[], &negotiated),
        ("rings-changed", Severity::Warn, &[], &rings),
        ("mtu-changed", Severity::Warn, &[], &mtu),
        ("queues-changed", Severity::Warn, &[], &queues),
        ("pause-changed", Severity::Warn, &[], &pause),
    ];
    for (code, severity, suspects, told) in watched {
        let (old, new) = (told(before), told(after));
        if old == new {
            continue;
        }
        let said = |what: Option<String>| what.unwrap_or_else(|| "nothing told".to_owned());
        let advice: Vec<_> =
            Class::LinkDown.advice(after).into_iter().filter(|(part, _)| suspects.contains(part)).collect();
        found.add(severity, code, format!("{name}: from {} to {}", said(old), said(new)), &advice);
    }
    let changed: Vec<&str> = after
        .offloads
        .iter()
        .filter(|(offload, on)| before.offloads.get(*offload).is_some_and(|was| was != *on))
        .map(|(offload, _)| offload.as_str())
        .collect();
    if !changed.is_empty() {
        found.add(
            Severity::Warn,
            "offloads-changed",
            format!("{name}: offloads were switched: {}", some_of(&changed)),
            &[],
        );
    }
}

/// How packets and interrupts spread over queues and CPUs.
fn spread(before: &Snapshot, after: &Snapshot, found: &mut Found) {
    let name = &after.interface;
    for share in shares(before, after) {
        queue_share(name, &share, found);
    }
    let mut cpus: BTreeMap<usize, u64> = BTreeMap::new();
    let mut busy = 0;
    for interrupt in after.interrupts.iter().filter(|interrupt| interrupt.queue.is_some()) {
        let old = before.interrupts.iter().find(|old| old.irq == interrupt.irq);
        let mut rose = 0;
        for (cpu, count) in &interrupt.taken {
            let by = count.saturating_sub(old.and_then(|old| old.taken.get(cpu)).copied().unwrap_or(0));
            *cpus.entry(*cpu).or_insert(0) += by;
            rose += by;
        }
        busy += usize::from(rose > ENOUGH / 10);
    }
    let total: u64 = cpus.values().sum();
    let most = cpus.iter().max_by_key(|(_, count)| **count);
    if let Some((cpu, count)) =
        most.filter(|(_, count)| busy > 1 && **count as f64 > NEARLY_ALL * total as f64)
    {
        found.add(
            Severity::Note,
            "interrupts-on-one-cpu",
            format!("{name}: CPU {cpu} took {count} of the {total} interrupts of {busy} busy queues"),
            &[(Part::Cpu, format!("spread them: wirerate doctor {name} says how"))],
        );
    }
}

fn queue_share(name: &str, share: &Share, found: &mut Found) {
    if share.packets.len() < 2 || share.total() < ENOUGH {
        return;
    }
    let Some((queue, part)) = share.largest() else { return };
    let limit = found.limits.max_queue_share;
    if part <= limit.unwrap_or(NEARLY_ALL) {
        return;
    }
    let side = if share.receive { "receive" } else { "transmit" };
    let text = format!(
        "{name}: {side} queue {queue} had {:.0} % of {} packets, of {} queues",
        part * 100.0,
        share.total(),
        share.packets.len()
    );
    let severity = if limit.is_some() { Severity::Fail } else { Severity::Note };
    let advice = if share.receive {
        format!(
            "send several flows (--streams, port ranges), or see what the NIC hashes: ethtool -n {name} rx-flow-hash udp4"
        )
    } else {
        "send from several workers, each with a queue of its own".to_owned()
    };
    found.add(severity, "queue-imbalance", text, &[(Part::Rings, advice)]);
}
