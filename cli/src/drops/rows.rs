//! What the screen shows: one row for each place and reason, by whoever counts it.

use std::collections::HashMap;
use std::time::Duration;

use serde::Serialize;
use wirerate_engine::drops::DropCount;
use wirerate_engine::host::counters::Counter;
use wirerate_engine::host::namespace;

/// One place and reason.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Row {
    /// Who counts: `kernel` (the eBPF programs), `ethtool`, `rtnl`, `qdisc`, `softnet`.
    pub source: &'static str,
    /// The network namespace: `this`, its name, or its inode; `-` where there is none.
    pub namespace: String,
    /// The interface; `-` where there is none.
    pub interface: String,
    /// Where packets are lost.
    pub place: String,
    /// Why.
    pub reason: String,
    /// Packets a second in the last interval.
    pub pps: u64,
    /// Packets since the watch began.
    pub packets: u64,
}

/// The rows from one reading to the next.
#[derive(Debug, Default)]
pub struct Rows {
    last: HashMap<[String; 5], u64>,
    names: HashMap<u64, String>,
}

impl Rows {
    /// The rows of what was counted since the watch began, those with the highest rate first. `span` is the time since the last call.
    pub fn next(&mut self, drops: &[DropCount], counters: &[Counter], here: u64, span: Duration) -> Vec<Row> {
        let mut rows: Vec<Row> = drops.iter().map(|drop| self.of_kernel(drop, here)).collect();
        rows.extend(counters.iter().map(of_counter));
        let mut merged: Vec<Row> = Vec::new();
        for row in rows {
            match merged.iter_mut().find(|known| key(known) == key(&row)) {
                Some(known) => known.packets += row.packets,
                None => merged.push(row),
            }
        }
        for row in &mut merged {
            let before = self.last.insert(key(row), row.packets).unwrap_or(0);
            let seconds = span.as_secs_f64().max(1e-3);
            row.pps = (row.packets.saturating_sub(before) as f64 / seconds).round() as u64;
        }
        merged.sort_by(|a, b| (b.pps, b.packets).cmp(&(a.pps, a.packets)).then_with(|| key(a).cmp(&key(b))));
        merged
    }

    fn of_kernel(&mut self, drop: &DropCount, here: u64) -> Row {
        Row {
            source: "kernel",
            namespace: match drop.netns_inode {
                0 => "-".to_owned(),
                inode if inode == here => "this".to_owned(),
                inode => self
                    .names
                    .entry(inode)
                    .or_insert_with(|| namespace::name_of(inode).unwrap_or_else(|| inode.to_string()))
                    .clone(),
            },
            interface: super::interface_of(drop),
            place: drop.place.to_owned(),
            reason: super::reason_of(drop),
            pps: 0,
            packets: drop.packets,
        }
    }
}

fn of_counter(counter: &Counter) -> Row {
    Row {
        source: counter.source,
        namespace: if counter.interface.is_some() { "this".to_owned() } else { "-".to_owned() },
        interface: counter.interface.clone().unwrap_or_else(|| "-".to_owned()),
        place: counter.place.to_owned(),
        reason: format!("{} ({})", counter.name, counter.what),
        pps: 0,
        packets: counter.packets,
    }
}

fn key(row: &Row) -> [String; 5] {
    [
        row.source.to_owned(),
        row.namespace.clone(),
        row.interface.clone(),
        row.place.clone(),
        row.reason.clone(),
    ]
}

#[cfg(test)]
mod tests {
    use super::*;

    fn drop(reason: &str, packets: u64) -> DropCount {
        DropCount {
            netns_inode: 7,
            ifindex: 2,
            interface: Some("wr0".to_owned()),
            place: "socket",
            reason: reason.to_owned(),
            packets,
            skbs: packets,
            ..DropCount::default()
        }
    }

    #[test]
    fn rates_are_of_the_last_interval() {
        let mut rows = Rows::default();
        let second = Duration::from_secs(1);
        let first = rows.next(&[drop("A", 100), drop("B", 10)], &[], 7, second);
        assert_eq!((first[0].reason.as_str(), first[0].pps, first[0].packets), ("A", 100, 100));
        let next = rows.next(&[drop("A", 100), drop("B", 40)], &[], 7, second / 2);
        assert_eq!((next[0].reason.as_str(), next[0].pps, next[0].packets), ("B", 60, 40));
        assert_eq!((next[1].reason.as_str(), next[1].pps, next[1].packets), ("A", 0, 100));
        assert_eq!(next[0].namespace, "this");
    }

    #[test]
    fn one_place_is_one_row() {
        let twice = [drop("A", 1), DropCount { port: Some(5), ..drop("A", 2) }];
        let rows = Rows::default().next(&twice, &[], 7, Duration::from_secs(1));
        assert_eq!((rows.len(), rows[0].packets), (1, 3));
    }
}
