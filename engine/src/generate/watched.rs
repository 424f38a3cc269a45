//! What a sender's kernel drops of its packets: its side of the ledger.
#![forbid(unsafe_code)]

use std::collections::BTreeSet;
use std::net::SocketAddr;

use super::config::SendConfig;
use super::plan::Plan;
use crate::backend::Backend;
use crate::drops::current_netns_inode;
use crate::drops::watch::Side;
use crate::drops::witness::Witness;
use crate::ledger::evidence::Evidence;
use crate::ledger::{Sent, of_sender};
use crate::queue::socket::offload::Offload;
use crate::report::{Ledger, Tx};

/// A run of a sender whose drops are counted, where the process may.
#[derive(Debug)]
pub(super) struct Watched {
    witness: Option<Witness>,
    run: u32,
    ports: BTreeSet<u16>,
    groups: bool,
    live: bool,
    interface: Option<(String, u32)>,
    evidence: Evidence,
}

impl Watched {
    /// Begins to count what is dropped of what `plan` is going to send. Most users have no such privileges: what the kernel then does not tell is not told.
    pub(super) fn begin(config: &SendConfig, plan: &Plan) -> Self {
        let flows = || plan.workers.iter().flat_map(|worker| &worker.spec.flows);
        let destinations: BTreeSet<SocketAddr> = flows().map(|flow| flow.destination).collect();
        let watch = || {
            let mut witness =
                Witness::start(Side::Sender, &destinations.iter().copied().collect::<Vec<_>>())?;
            witness.begin().map(|()| witness)
        };
        Self {
            witness: config.kernel_drops.then(watch).and_then(Result::ok),
            run: plan.workers.first().map_or(0, |worker| worker.job.run),
            ports: flows().map(|flow| flow.source.port()).filter(|&port| port != 0).collect(),
            groups: destinations.iter().any(|destination| destination.ip().is_multicast()),
            live: plan.backend == Backend::Xdp,
            interface: plan.interface.as_ref().map(|i| (i.name.clone(), i.index)),
            evidence: Evidence::begin(plan.interface.as_ref()),
        }
    }

    /// Adds the source ports that the kernel gave the sockets.
    pub(super) fn note_ports(&mut self, offloads: &[Offload]) {
        self.ports.extend(offloads.iter().flat_map(Offload::source_ports));
    }

    /// The ledger of what was sent, once the path is quiet.
    pub(super) fn ledger(self, tx: &Tx) -> Ledger {
        let kernel = self.witness.and_then(|witness| witness.settled().ok()).unwrap_or_default();
        let mut ledger = of_sender(&Sent {
            run: self.run,
            ports: &self.ports,
            groups: self.groups,
            here: current_netns_inode().unwrap_or(0),
            interface: self.interface.as_ref().map(|(name, index)| (name.as_str(), *index)),
            sent: tx.packets + tx.errors,
            refused: tx.errors,
            live: self.live,
            kernel: &kernel,
        });
        ledger.evidence = self.evidence.rise();
        ledger
    }
}
