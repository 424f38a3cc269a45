//! Who takes part in a session: a table of bounded size, in which the silent are forgotten.
#![forbid(unsafe_code)]

use std::net::SocketAddr;

use rustc_hash::FxHashMap;

use crate::packet::rtcp::SenderInfo;

/// Most participants followed; more are counted and not followed.
pub(crate) const MAX_MEMBERS: usize = 4096;

/// What is known of a participant.
#[derive(Debug, Clone)]
pub(crate) struct Member {
    /// When it was last heard, by RTCP or RTP.
    pub heard_ns: u64,
    /// When it was last known to send RTP; 0: never.
    pub sent_ns: u64,
    /// Where its RTCP comes from.
    pub from: Option<SocketAddr>,
    /// Its canonical name.
    pub cname: Option<String>,
    /// Its last sender report, and when that arrived.
    pub report: Option<(SenderInfo, u64)>,
}

/// The participants other than this one, by SSRC.
#[derive(Debug, Default)]
pub(crate) struct Members {
    table: FxHashMap<u32, Member>,
    /// Participants that found no room.
    pub unfollowed: u64,
}

impl Members {
    /// Participant `ssrc`, which was heard at `now_ns`; a new one if there is room.
    pub(crate) fn heard(&mut self, ssrc: u32, now_ns: u64) -> Option<&mut Member> {
        if self.table.len() >= MAX_MEMBERS && !self.table.contains_key(&ssrc) {
            self.unfollowed += 1;
            return None;
        }
        let new = || Member { heard_ns: now_ns, sent_ns: 0, from: None, cname: None, report: None };
        let member = self.table.entry(ssrc).or_insert_with(new);
        member.heard_ns = member.heard_ns.max(now_ns);
        Some(member)
    }

    pub(crate) fn get(&self, ssrc: u32) -> Option<&Member> {
        self.table.get(&ssrc)
    }

    /// Forgets one that left; whether it was known.
    pub(crate) fn remove(&mut self, ssrc: u32) -> bool {
        self.table.remove(&ssrc).is_some()
    }

    pub(crate) fn len(&self) -> usize {
        self.table.len()
    }

    /// Those that sent RTP at or after `since_ns`.
    pub(crate) fn senders(&self, since_ns: u64) -> usize {
        self.table.values().filter(|m| m.sent_ns != 0 && m.sent_ns >= since_ns).count()
    }

    /// Forgets those that were not heard since `since_ns` (RFC 3550 §6.3.5).
    pub(crate) fn forget_silent(&mut self, since_ns: u64) {
        self.table.retain(|_, member| member.heard_ns >= since_ns);
    }

    /// All of them.
    pub(crate) fn iter(&self) -> impl Iterator<Item = (u32, &Member)> {
        self.table.iter().map(|(&ssrc, member)| (ssrc, member))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_table_is_bounded_and_forgets() {
        let mut members = Members::default();
        for ssrc in 0..MAX_MEMBERS as u32 + 10 {
            members.heard(ssrc, u64::from(ssrc));
        }
        assert_eq!((members.len(), members.unfollowed), (MAX_MEMBERS, 10));
        assert!(members.heard(3, 9000).is_some(), "who is known stays known");
        members.forget_silent(4000);
        assert_eq!(members.len(), 97, "4000 to 4095, and 3");
        assert!(members.remove(3) && !members.remove(3));
        members.heard(4095, 1).unwrap().sent_ns = 50;
        assert_eq!([members.senders(50), members.senders(51)], [1, 0]);
        assert_eq!(members.get(4095).unwrap().heard_ns, 4095, "time does not go back");
    }
}
