//! An interface by itself: what it is against what is expected of it.
#![forbid(unsafe_code)]

use super::finding::{Finding, Part, Severity};
use super::limits::{Limits, Speed};
use super::snapshot::{Autonegotiation, Duplex, Snapshot};

/// What is wrong with the state of an interface by itself, the severest first.
pub fn inspect(taken: &Snapshot, limits: &Limits) -> Vec<Finding> {
    let mut found = Found { limits, list: Vec::new() };
    link(taken, &mut found);
    rings(taken, &mut found);
    pcie(taken, &mut found);
    heat(taken, &mut found);
    for (offload, wanted) in &limits.offloads {
        let name = &taken.interface;
        let word = |on: bool| if on { "on" } else { "off" };
        match taken.offloads.get(offload) {
            Some(on) if on == wanted => {}
            Some(on) => found.add(
                Severity::Fail,
                "offload",
                format!("{name}: {offload} is {}, wanted {}", word(*on), word(*wanted)),
                &[(Part::Card, format!("sudo ethtool -K {name} {offload} {}", word(*wanted)))],
            ),
            None => found.add(
                Severity::Fail,
                "offload",
                format!("{name}: has no offload called {offload}"),
                &[(Part::Card, format!("see ethtool -k {name} for those that it has"))],
            ),
        }
    }
    found.list.sort_by_key(|finding| std::cmp::Reverse(finding.severity));
    found.list
}

/// Findings with the severities of the limits.
pub(super) struct Found<'a> {
    pub(super) limits: &'a Limits,
    pub(super) list: Vec<Finding>,
}

impl Found<'_> {
    pub(super) fn add(&mut self, severity: Severity, code: &str, text: String, advice: &[(Part, String)]) {
        let severity = self.limits.severity_of(code, severity);
        self.list.push(Finding::new(severity, code, text).suspect(advice));
    }
}

fn link(taken: &Snapshot, found: &mut Found) {
    let (name, state, limits) = (&taken.interface, &taken.link, found.limits);
    let set = |what: &str| format!("sudo ethtool -s {name} {what}");
    if !state.up {
        found.add(
            Severity::Fail,
            "down",
            format!("{name}: the interface is down"),
            &[(Part::Card, format!("sudo ip link set dev {name} up"))],
        );
    } else if !state.carrier {
        found.add(
            Severity::Fail,
            "no-link",
            format!("{name}: no link"),
            &[
                (Part::Cable, "plug the cable in, or replace it".to_owned()),
                (
                    Part::Port,
                    "look whether the port at the other end is switched on and of the same speed".to_owned(),
                ),
                (Part::Card, "swap the card".to_owned()),
            ],
        );
    }
    // A link that is down has neither.
    if !(state.up && state.carrier) {
        return;
    }
    if let Some(wanted) = limits.speed.filter(|wanted| state.speed_bps != Some(wanted.0)) {
        let is = state.speed_bps.map_or_else(|| "not told".to_owned(), |bps| Speed(bps).to_string());
        found.add(
            Severity::Fail,
            "speed",
            format!("{name}: link speed {is}, wanted {wanted}"),
            &[
                (
                    Part::Cable,
                    format!("use a cable that carries {wanted}: a damaged pair lets the link fall back"),
                ),
                (Part::Port, format!("set the port at the other end to {wanted}, or to autonegotiate")),
                (Part::Card, set(&format!("speed {} autoneg on", wanted.0 / 1_000_000))),
            ],
        );
    }
    match (limits.duplex, state.duplex) {
        (Some(wanted), is) if is != Some(wanted) => found.add(
            Severity::Fail,
            "duplex",
            format!(
                "{name}: {}, wanted {} duplex",
                is.map_or("duplex not told".to_owned(), |d| format!("{} duplex", d.name())),
                wanted.name()
            ),
            &[
                (Part::Port, "set both ends to autonegotiate, or both to the same duplex".to_owned()),
                (Part::Card, set(&format!("duplex {}", wanted.name()))),
            ],
        ),
        (None, Some(Duplex::Half)) => found.add(
            Severity::Fail,
            "half-duplex",
            format!("{name}: half duplex: the ends take turns, and collisions are part of it"),
            &[
                (
                    Part::Port,
                    "the other end does not negotiate: set both to autonegotiate, or both to full duplex"
                        .to_owned(),
                ),
                (Part::Card, set("autoneg on")),
            ],
        ),
        _ => {}
    }
    if let Some(wanted) = limits.autonegotiation {
        let is = state.autonegotiation.map(|a| a == Autonegotiation::On);
        if is != Some(wanted) {
            let word = |on: bool| if on { "on" } else { "off" };
            found.add(
                Severity::Fail,
                "autonegotiation",
                format!(
                    "{name}: autonegotiation is {}, wanted {}",
                    is.map_or("not told", word),
                    word(wanted)
                ),
                &[(Part::Card, set(&format!("autoneg {}", word(wanted))))],
            );
        }
    }
}

fn rings(taken: &Snapshot, found: &mut Found) {
    let (name, limits) = (&taken.interface, found.limits);
    let sides = [
        ("rx", limits.min_rx_ring, taken.rings.map(|r| (r.rx, r.max_rx))),
        ("tx", limits.min_tx_ring, taken.rings.map(|r| (r.tx, r.max_tx))),
    ];
    for (side, wanted, is) in sides {
        let Some(wanted) = wanted else { continue };
        match is {
            Some((entries, _)) if entries >= wanted => {}
            Some((entries, most)) => found.add(
                Severity::Fail,
                "ring",
                format!("{name}: {side} rings of {entries} entries, wanted {wanted}"),
                &[(
                    Part::Rings,
                    format!("sudo ethtool -G {name} {side} {} (at most {most})", wanted.min(most)),
                )],
            ),
            None => found.add(
                Severity::Fail,
                "ring",
                format!("{name}: tells no {side} ring sizes, wanted {wanted} entries"),
                &[(Part::Rings, "leave the limit out for an interface that has no rings".to_owned())],
            ),
        }
    }
}

fn pcie(taken: &Snapshot, found: &mut Found) {
    let (name, limits) = (&taken.interface, found.limits);
    let Some(link) = taken.pcie else {
        if limits.min_pcie_width.is_some() || limits.min_pcie_gtps.is_some() {
            found.add(
                Severity::Fail,
                "pcie",
                format!("{name}: tells nothing of PCI Express"),
                &[(Part::Card, "leave the limit out for a guest's or virtual interface".to_owned())],
            );
        }
        return;
    };
    let is = format!("PCI Express of {} GT/s × {}", link.speed_gtps, link.width);
    let slot = [(Part::Card, "use a slot with more or faster lanes, and look at the card's seat".to_owned())];
    let giga = |bps: u64| bps as f64 / 1e9;
    if let Some(needed) = link.needed_bps.filter(|needed| *needed > link.usable_bps) {
        found.add(
            Severity::Warn,
            "pcie-too-small",
            format!(
                "{name}: {is} carries about {:.1} Gbit/s in each direction, the link needs {:.1}",
                giga(link.usable_bps),
                giga(needed)
            ),
            &slot,
        );
    } else if link.width < link.max_width || link.speed_gtps < link.max_speed_gtps {
        found.add(
            Severity::Note,
            "pcie-below-card",
            format!(
                "{name}: {is} of the card's {} GT/s × {}: enough for this link",
                link.max_speed_gtps, link.max_width
            ),
            &[],
        );
    }
    let too_narrow = limits.min_pcie_width.is_some_and(|lanes| link.width < lanes);
    let too_slow = limits.min_pcie_gtps.is_some_and(|speed| link.speed_gtps < speed);
    if too_narrow || too_slow {
        let wanted = format!(
            "{} GT/s × {}",
            limits.min_pcie_gtps.map_or("any".to_owned(), |speed| speed.to_string()),
            limits.min_pcie_width.map_or("any".to_owned(), |lanes| lanes.to_string())
        );
        found.add(Severity::Fail, "pcie", format!("{name}: {is}, wanted at least {wanted}"), &slot);
    }
}

fn heat(taken: &Snapshot, found: &mut Found) {
    let name = &taken.interface;
    let module = taken.module.as_ref().and_then(|module| module.celsius);
    let sensors = taken
        .temperatures
        .iter()
        .map(|sensor| (sensor.name.as_str(), sensor.celsius, sensor.high_celsius))
        .chain(module.map(|celsius| ("module", celsius, None)));
    for (sensor, celsius, high) in sensors {
        let cool = [(Part::Card, "cool it: air flow, a free slot beside it, a cooler module".to_owned())];
        if let Some(most) = found.limits.max_celsius.filter(|most| celsius > *most) {
            found.add(
                Severity::Fail,
                "hot",
                format!("{name}: {sensor} is at {celsius} °C, wanted {most} at most"),
                &cool,
            );
        } else if let Some(high) = high.filter(|high| celsius >= *high) {
            found.add(
                Severity::Fail,
                "hot",
                format!("{name}: {sensor} is at {celsius} °C, its limit is {high}"),
                &cool,
            );
        }
    }
}
