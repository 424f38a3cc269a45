//! The ledger as text.

use std::fmt::Write as _;

use wirerate_engine::report::{Cable, Drop, Path, Sending};

use super::count;

/// One path.
pub fn path(text: &mut String, path: &Path) {
    let _ = writeln!(
        text,
        "ledger     {} -> {}: {} sent = {} received{} + {} unaccounted",
        path.sender,
        path.receiver,
        count(path.sent),
        count(path.received),
        path.drops.iter().map(|drop| format!(" + {}", lost(drop))).collect::<String>(),
        path.unaccounted
    );
    if path.unaccounted > 0 {
        let _ = writeln!(
            text,
            "           unaccounted: lost before they reached this host, or where it does not count; wirerate drops tells on the others"
        );
    }
}

/// What the ports at both ends of a cable counted.
pub fn cable(text: &mut String, cable: &Cable) {
    let _ = writeln!(
        text,
        "cable      {} -> {}: {} left, {} came and {} more came and were dropped by the NIC; {} lost on the way, whoever they belonged to",
        cable.from,
        cable.to,
        count(cable.left),
        count(cable.came),
        count(cable.dropped),
        count(cable.missing)
    );
}

/// The sender's side, where something was lost.
pub fn sending(text: &mut String, sending: &Sending) {
    for drop in &sending.drops {
        let _ = writeln!(text, "dropped    {} of {} packets sent", lost(drop), count(sending.sent));
    }
}

/// Packets, place, interface, namespace and reason of a drop.
fn lost(drop: &Drop) -> String {
    let mut text = format!("{} {}", count(drop.packets), drop.place);
    if let Some(interface) = &drop.interface {
        let _ = write!(text, " on {interface}");
    }
    match (&drop.namespace, drop.netns) {
        (Some(name), _) => _ = write!(text, " in namespace {name}"),
        (None, Some(inode)) => _ = write!(text, " in namespace {inode}"),
        (None, None) => {}
    }
    let _ = write!(text, " {}", drop.reason);
    if let Some(symbol) = &drop.symbol {
        let _ = write!(text, " in {symbol}()");
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_drop_says_where_and_why() {
        let mut drop =
            Drop { place: "veth".into(), reason: "NOT_SPECIFIED".into(), packets: 1234, ..Drop::default() };
        assert_eq!(lost(&drop), "1,234 veth NOT_SPECIFIED");
        (drop.interface, drop.netns) = (Some("r1".into()), Some(4_026_532_000));
        drop.symbol = Some("veth_xmit".into());
        assert_eq!(lost(&drop), "1,234 veth on r1 in namespace 4026532000 NOT_SPECIFIED in veth_xmit()");
        drop.namespace = Some("blue".into());
        assert_eq!(lost(&drop), "1,234 veth on r1 in namespace blue NOT_SPECIFIED in veth_xmit()");
    }
}
