//! Whether the difference between two hosts' clock readings means anything.
#![forbid(unsafe_code)]

use super::Claim;

/// How a sender's clock and this host's are related.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Relation {
    /// One kernel, one clock.
    SameHost,
    /// Two clocks, both of which are kept, as their hosts say.
    Disciplined,
    /// Two clocks of which one is not kept, or that count from different moments.
    Undisciplined,
    /// One of the hosts does not say.
    Unknown,
}

impl Relation {
    /// The name in reports.
    pub fn name(self) -> &'static str {
        match self {
            Self::SameHost => "same-host",
            Self::Disciplined => "disciplined",
            Self::Undisciplined => "undisciplined",
            Self::Unknown => "unknown",
        }
    }

    /// Whether arrival minus departure is a latency.
    pub fn supports_latency(self) -> bool {
        matches!(self, Self::SameHost | Self::Disciplined)
    }
}

/// How `sender`'s clock and `ours` are related, and by how many ns they may differ, as both hosts claim; `None` where that is not known.
pub fn relation(sender: Option<Claim>, ours: Option<Claim>) -> (Relation, Option<u64>) {
    let (Some(sender), Some(ours)) = (sender, ours) else { return (Relation::Unknown, None) };
    if sender.host == ours.host {
        return (Relation::SameHost, Some(0));
    }
    // A host that was told the offset to UTC and one that was not are 37 s apart, however well both are kept.
    if !sender.synchronised || !ours.synchronised || sender.tai_offset_s != ours.tai_offset_s {
        return (Relation::Undisciplined, None);
    }
    let error_us = u64::from(sender.max_error_us) + u64::from(ours.max_error_us);
    (Relation::Disciplined, Some(error_us * 1000))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_one_clock_or_two_kept_ones_give_a_latency() {
        let kept = |host| Claim {
            host,
            synchronised: true,
            tai_offset_s: 37,
            estimated_error_us: 1,
            max_error_us: 10,
        };
        let free = |host| Claim { synchronised: false, ..kept(host) };
        let told = |sender, ours, expected: (Relation, Option<u64>)| {
            assert_eq!(relation(sender, ours), expected, "{sender:?} {ours:?}");
            assert_eq!(relation(ours, sender), expected, "{ours:?} {sender:?}");
            assert_eq!(expected.0.supports_latency(), expected.1.is_some());
        };
        told(Some(free(1)), Some(free(1)), (Relation::SameHost, Some(0)));
        told(Some(kept(1)), Some(kept(2)), (Relation::Disciplined, Some(20_000)));
        told(Some(kept(1)), Some(free(2)), (Relation::Undisciplined, None));
        told(Some(free(1)), Some(free(2)), (Relation::Undisciplined, None));
        let utc = Claim { tai_offset_s: 0, ..kept(2) };
        told(Some(kept(1)), Some(utc), (Relation::Undisciplined, None));
        told(None, Some(kept(1)), (Relation::Unknown, None));
        told(None, None, (Relation::Unknown, None));
        assert!(Relation::SameHost < Relation::Unknown, "the greatest is the worst");
    }
}
