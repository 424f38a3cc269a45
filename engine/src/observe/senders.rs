//! What the senders say of their clocks.
#![forbid(unsafe_code)]

use std::net::IpAddr;

use rustc_hash::FxHashMap;

use crate::clock::Claim;
use crate::measure::tally::SenderClock;
use crate::queue::RxMeta;

/// Most senders whose claims are remembered; of the others nothing is known.
const MOST: usize = 1024;

/// The claims by sender.
#[derive(Debug, Default)]
pub(super) struct Senders {
    claims: FxHashMap<(IpAddr, u32), Claim>,
}

impl Senders {
    /// A message of `run` said this of the sender's clock.
    pub(super) fn hear(&mut self, meta: &RxMeta, run: u32, claim: Option<Claim>) {
        let Some(claim) = claim else { return };
        let sender = (meta.source.ip(), run);
        if let Some(known) = self.claims.get_mut(&sender) {
            *known = known.worse(claim);
        } else if self.claims.len() < MOST {
            self.claims.insert(sender, claim);
        }
    }

    /// All claims, in place of what `into` holds.
    pub(super) fn tell(&self, into: &mut Vec<SenderClock>) {
        into.clear();
        into.extend(self.claims.iter().map(|(&(source, run), &claim)| SenderClock { source, run, claim }));
    }
}
