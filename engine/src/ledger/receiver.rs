//! The receiver's side of the ledger, which is all of it where the kernel that it asks is the sender's, too.
#![forbid(unsafe_code)]

use std::collections::BTreeSet;

use super::losses::Losses;
use super::whose::{Own, explain};
use super::{add, messages_in, messages_of, path, refusals, take_off_messages};
use crate::drops::DropCount;
use crate::measure::tally::{Format, StreamTally};
use crate::queue::QueueLoss;
use crate::report::{Drop, Ledger, Path, RxCollector, Warning};

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

impl Seen<'_> {
    fn ifindex(&self) -> Option<u32> {
        self.interface.map(|(_, index)| index)
    }
}

/// The receiver's side of the ledger, of the senders that have told how much they sent; `None` as long as none has.
pub(crate) fn of_receiver(collector: &RxCollector, seen: Seen<'_>) -> Option<Ledger> {
    let streams = collector.streams();
    let (ended, others) = told_apart(&streams);
    if ended.is_empty() {
        return None;
    }
    let own = Own::of(&streams, seen.here, seen.ifindex());
    let (here, elsewhere) = own.sort(seen.kernel);
    let all_ended = others.is_empty();
    let all = Known { streams, here, elsewhere, queue: collector.losses() };
    let whole = if all_ended { all } else { all.part(ended, &others, seen) };
    let (mut path, messages_dropped) = whole.path(seen);
    if all_ended {
        let messages = messages_of(&whole.streams).saturating_sub(collector.messages());
        take_off_messages(&mut path, messages.saturating_sub(messages_dropped));
    }
    let of_each: Vec<Path> = whole.of_each_sender(seen).iter().map(|part| part.path(seen).0).collect();
    let paths = if of_each.len() > 1 && add_up(&of_each, &path) { of_each } else { vec![path] };
    Some(Ledger { paths, ..Ledger::default() })
}

/// Says who is missing in a ledger because nobody knows how much they sent.
pub(crate) fn without_end(collector: &RxCollector) -> Option<Warning> {
    /// Names that a person reads.
    const NAMED: usize = 8;
    let streams = collector.streams();
    let (ended, others) = told_apart(&streams);
    if ended.is_empty() || others.is_empty() {
        return None;
    }
    let name = |s: &StreamTally| match s.key.format {
        Format::Wirerate => format!("{} (run {})", s.key.source.ip(), s.key.run),
        other => format!("{} ({})", s.key.source.ip(), other.name()),
    };
    let names: BTreeSet<String> = others.iter().map(name).collect();
    let more =
        names.len().checked_sub(NAMED + 1).map_or(String::new(), |more| format!(" and {} more", more + 1));
    let named = names.into_iter().take(NAMED).collect::<Vec<_>>().join(", ");
    Some(Warning {
        code: "no-end",
        text: format!(
            "no end came from {named}{more}: how much was sent there is not known, and the ledger has only the paths of the others"
        ),
        fix: Some("let the senders end before the receiver does".to_owned()),
    })
}

/// The streams of senders that have said their end, and those of the others. The streams of a run end together: when one of them has not, the run has not.
fn told_apart(streams: &[StreamTally]) -> (Vec<StreamTally>, Vec<StreamTally>) {
    let sender = |s: &StreamTally| (s.key.format, s.key.run, s.key.source.ip());
    let unended: BTreeSet<_> = streams.iter().filter(|s| s.end.is_none()).map(sender).collect();
    streams.iter().cloned().partition(|s| !unended.contains(&sender(s)))
}

/// What is known of the packets of some streams.
struct Known {
    streams: Vec<StreamTally>,
    here: Vec<DropCount>,
    elsewhere: Vec<DropCount>,
    queue: Vec<QueueLoss>,
}

impl Known {
    /// Their path, and the messages on it that the kernel dropped.
    fn path(&self, seen: Seen<'_>) -> (Path, u64) {
        let ended = || self.streams.iter().filter_map(|s| Some((s, s.end?)));
        let senders: BTreeSet<_> = ended().map(|(s, _)| s.key.source.ip().to_string()).collect();
        let sent = ended().map(|(s, end)| end.issued.saturating_sub(s.counters.before_start)).sum();
        let received = ended().map(|(s, _)| s.counters.unique).sum();
        let refused = ended().map(|(_, end)| end.failed).sum();
        let own = Own::of(&self.streams, seen.here, seen.ifindex());
        let (mut here, mut elsewhere) = (self.here.clone(), self.elsewhere.clone());
        let refused = explain(explain(refused, &mut elsewhere), &mut here);
        let interface = seen.interface.map(|(name, _)| name);
        let losses = self.losses(seen, &here, &own);
        let mut on_the_way = losses.on_the_way(|_| interface.map(str::to_owned));
        for drop in elsewhere.iter().filter(|drop| losses.is_data(drop)) {
            add(&mut on_the_way, Drop::in_namespace(drop, seen.here), drop.packets);
        }
        let mut drops = refusals(refused, 0);
        drops.extend(on_the_way);
        drops.extend(losses.at_the_queue(interface));
        let changed = Drop::at("application", interface.map(str::to_owned), "corrupt");
        add(&mut drops, changed, corrupt(&self.streams));
        let senders = senders.into_iter().collect::<Vec<_>>().join(", ");
        let path = path(senders, "here".to_owned(), sent, received, drops);
        (path, messages_in(&here) + messages_in(&elsewhere))
    }

    fn losses<'a>(&'a self, seen: Seen<'_>, here: &'a [DropCount], own: &'a Own) -> Losses<'a> {
        Losses {
            afxdp: seen.afxdp,
            queue: &self.queue,
            kernel: here,
            other_formats: self.streams.iter().any(|s| s.key.format != Format::Wirerate),
            runs: Some(&own.runs),
        }
    }

    /// The same of each sending host, as far as what was dropped tells whose it was.
    fn of_each_sender(&self, seen: Seen<'_>) -> Vec<Self> {
        let senders: BTreeSet<_> = self.streams.iter().map(|s| s.key.source.ip()).collect();
        let of_one = |sender| self.streams.iter().filter(|s| s.key.source.ip() == sender).cloned().collect();
        senders.into_iter().map(|sender| self.part(of_one(sender), &[], seen)).collect()
    }

    /// The same of some of the streams, as far as what was dropped tells whose it was, and that it was none of the `others`. A queue does not: what it dropped is taken
    /// from the kernel's count, where that is of the same buffers.
    fn part(&self, streams: Vec<StreamTally>, others: &[StreamTally], seen: Seen<'_>) -> Self {
        let whole = Own::of(&self.streams, seen.here, seen.ifindex());
        let dropped: u64 = self.queue.iter().map(|loss| loss.packets).sum();
        let agree = dropped == self.losses(seen, &self.here, &whole).buffers_at_the_queue();
        let own = Own::of(&streams, seen.here, seen.ifindex());
        let theirs = Own::of(others, seen.here, seen.ifindex());
        let is_its = |drop: &&DropCount| own.sent(drop) && !theirs.sent(drop);
        let of_it = |drops: &[DropCount]| drops.iter().filter(is_its).cloned().collect();
        let (here, elsewhere) = (of_it(&self.here), of_it(&self.elsewhere));
        let mut part = Self { streams, here, elsewhere, queue: Vec::new() };
        let buffers = part.losses(seen, &part.here, &own).buffers_at_the_queue();
        if !seen.afxdp && agree && buffers > 0 {
            part.queue = vec![QueueLoss { packets: buffers, ..self.queue[0] }];
        }
        part
    }
}

/// Whether `paths` are `whole`, told apart: no drop is missing in them, and none is in two.
fn add_up(paths: &[Path], whole: &Path) -> bool {
    let together = |paths: &[Path]| {
        let mut drops = Vec::new();
        paths.iter().flat_map(|path| &path.drops).for_each(|d| add(&mut drops, d.clone(), d.packets));
        drops
    };
    let (parts, all) = (together(paths), together(std::slice::from_ref(whole)));
    let is_there = |drop: &Drop| parts.iter().any(|d| d.is_like(drop) && d.packets == drop.packets);
    parts.len() == all.len()
        && all.iter().all(is_there)
        && paths.iter().map(|path| path.unaccounted).sum::<i64>() == whole.unaccounted
}

/// Packets that arrived changed. A stream has no more of them than it misses: the others were copies.
fn corrupt(streams: &[StreamTally]) -> u64 {
    streams.iter().map(|s| s.counters).map(|c| c.corrupt.min(c.lost + c.lost_tail)).sum()
}
