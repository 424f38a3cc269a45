//! The receiver's side of the ledger, which is all of it where the kernel that it asks is the sender's, too.
#![forbid(unsafe_code)]

use std::collections::BTreeSet;

use super::losses::Losses;
use super::whose::{Own, explain};
use super::{add, messages_in, messages_of, path, refusals, take_off_messages};
use crate::drops::DropCount;
use crate::measure::tally::{Format, StreamTally};
use crate::report::{Drop, Ledger, RxCollector};

/// What a receiver and its kernel saw.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Seen<'a> {
    /// Whether the queue is AF_XDP's.
    pub afxdp: bool,
    /// Inode of the receiver's namespace.
    pub here: u64,
    /// Name and index of the interface that it receives on, if it has one.
    pub interface: Option<(&'a str, u32)>,
    /// What this kernel dropped, in any namespace.
    pub kernel: &'a [DropCount],
}

/// The receiver's side of the ledger; `None` as long as no sender has told how much it sent.
pub(crate) fn of_receiver(collector: &RxCollector, seen: Seen<'_>) -> Option<Ledger> {
    let streams = collector.streams();
    let ended: Vec<_> = streams.iter().filter_map(|s| s.end.map(|end| (s, end))).collect();
    if ended.is_empty() || ended.len() < streams.len() {
        return None;
    }
    let senders: BTreeSet<_> = ended.iter().map(|(s, _)| s.key.source.ip().to_string()).collect();
    let sent = ended.iter().map(|(s, end)| end.issued.saturating_sub(s.counters.before_start)).sum();
    let received = ended.iter().map(|(s, _)| s.counters.unique).sum();
    let refused = ended.iter().map(|(_, end)| end.failed).sum();
    let own = Own::of(&streams, seen.here, seen.interface.map(|(_, index)| index));
    let (mut here, mut elsewhere) = own.sort(seen.kernel);
    let refused = explain(explain(refused, &mut elsewhere), &mut here);
    let interface = seen.interface.map(|(name, _)| name);
    let queue = collector.losses();
    let losses = Losses {
        afxdp: seen.afxdp,
        queue: &queue,
        kernel: &here,
        other_formats: streams.iter().any(|s| s.key.format != Format::Wirerate),
        runs: Some(&own.runs),
    };
    let mut on_the_way = losses.on_the_way(|_| interface.map(str::to_owned));
    for drop in elsewhere.iter().filter(|drop| losses.is_data(drop)) {
        add(&mut on_the_way, Drop::in_namespace(drop, seen.here), drop.packets);
    }
    let mut drops = refusals(refused, 0);
    drops.extend(on_the_way);
    drops.extend(losses.at_the_queue(interface));
    add(&mut drops, Drop::at("application", interface.map(str::to_owned), "corrupt"), corrupt(&streams));
    let senders = senders.into_iter().collect::<Vec<_>>().join(", ");
    let mut path = path(senders, "here".to_owned(), sent, received, drops);
    let messages = messages_of(&streams).saturating_sub(collector.messages());
    take_off_messages(&mut path, messages.saturating_sub(messages_in(&here) + messages_in(&elsewhere)));
    Some(Ledger { paths: vec![path], ..Ledger::default() })
}

/// Packets that arrived changed. A stream has no more of them than it misses: the others were copies.
fn corrupt(streams: &[StreamTally]) -> u64 {
    streams.iter().map(|s| s.counters).map(|c| c.corrupt.min(c.lost + c.lost_tail)).sum()
}
