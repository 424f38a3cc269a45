//! What the kernel and the queues count, as drops of the report.
#![forbid(unsafe_code)]

use super::Drop;
use crate::drops::DropCount;
use crate::host::namespace;

impl Drop {
    /// Of no packet yet, at a place and for a reason.
    pub(crate) fn at(place: &str, interface: Option<String>, reason: &str) -> Self {
        Self { place: place.to_owned(), interface, reason: reason.to_owned(), ..Self::default() }
    }

    /// Of no packet yet, where and why the kernel dropped some.
    pub(crate) fn of(count: &DropCount, interface: Option<String>) -> Self {
        Self { symbol: count.symbol.clone(), ..Self::at(count.place, interface, &count.reason) }
    }

    /// As [`of`](Self::of), with the namespace when it is not the one whose inode is `here`.
    pub(crate) fn in_namespace(count: &DropCount, here: u64) -> Self {
        let numbered = || (count.ifindex > 0).then(|| format!("index {}", count.ifindex));
        let netns = Some(count.netns_inode).filter(|&inode| inode != here && inode != 0);
        Self {
            netns,
            namespace: netns.and_then(namespace::name_of),
            ..Self::of(count, count.interface.clone().or_else(numbered))
        }
    }

    /// Whether it is of the same place and reason.
    pub(crate) fn is_like(&self, other: &Self) -> bool {
        Self { packets: 0, ..self.clone() } == Self { packets: 0, ..other.clone() }
    }
}
