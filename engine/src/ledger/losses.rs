//! What a receiver knows of the packets that did not arrive: each counted once, where several witnesses saw it.
#![forbid(unsafe_code)]

use std::collections::BTreeSet;

use super::add;
use crate::drops::place::UNREAD;
use crate::drops::{Content, DropCount, Origin};
use crate::queue::QueueLoss;
use crate::report::Drop;

/// Why an AF_XDP socket takes no packet without counting it.
const NOT_IN_XDP_STATISTICS: [&str; 2] = ["xdp_redirect_err:ENXIO", "xdp_redirect_err:EINVAL"];

/// What is known at one receiver of the packets that did not arrive.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Losses<'a> {
    /// Whether the queue is AF_XDP's.
    pub afxdp: bool,
    /// What the queue lost.
    pub queue: &'a [QueueLoss],
    /// What the kernel dropped there.
    pub kernel: &'a [DropCount],
    /// Whether data may be without probe headers.
    pub other_formats: bool,
    /// The runs that the receiver has heard of; `None`: all are wanted.
    pub runs: Option<&'a BTreeSet<u32>>,
}

impl Losses<'_> {
    /// What was dropped before it came to the queue; `place_of` names the interface.
    pub(crate) fn on_the_way(&self, place_of: impl Fn(&DropCount) -> Option<String>) -> Vec<Drop> {
        let mut drops = Vec::new();
        for drop in self.kernel {
            let counts = match drop.port {
                Some(_) => {
                    self.is_data(drop) && !is_of_socket(drop) && !is_generic_xdp(drop) && drop.place != "tap"
                }
                None => self.afxdp && NOT_IN_XDP_STATISTICS.contains(&drop.reason.as_str()),
            };
            if counts {
                add(&mut drops, Drop::of(drop, place_of(drop)), drop.packets);
            }
        }
        drops
    }

    /// What was dropped at the queue, which is on `interface`.
    pub(crate) fn at_the_queue(&self, interface: Option<&str>) -> Vec<Drop> {
        let named = || interface.map(str::to_owned);
        let mut drops = Vec::new();
        let covers = |loss: &QueueLoss| !self.afxdp || loss.place == "xsk";
        let queue_total: u64 = self.queue.iter().filter(|loss| covers(loss)).map(|loss| loss.packets).sum();
        let kernel: Vec<&DropCount> = self.kernel_at_the_queue().collect();
        let kernel_total: u64 = kernel.iter().map(|drop| drop.packets).sum();
        let data: u64 = kernel.iter().filter(|drop| self.is_data(drop)).map(|drop| drop.packets).sum();
        if !self.afxdp && queue_total == self.buffers_at_the_queue() {
            for drop in kernel.iter().filter(|drop| self.is_data(drop)) {
                add(&mut drops, Drop::of(drop, named()), drop.packets);
            }
            return drops;
        }
        let covered = self.afxdp && kernel_total >= queue_total;
        let mut not_data = if covered { kernel_total - data } else { 0 };
        let mut told = 0;
        for loss in self.queue {
            let off = if covers(loss) { not_data.min(loss.packets) } else { 0 };
            not_data -= off;
            told += if covers(loss) { loss.packets - off } else { 0 };
            add(&mut drops, Drop::at(loss.place, named(), loss.reason), loss.packets - off);
        }
        if covered {
            add(&mut drops, Drop::at("xdp", named(), "XDP"), data.saturating_sub(told));
        }
        drops
    }

    /// What the kernel says was dropped where the queue counts as well.
    fn kernel_at_the_queue(&self) -> impl Iterator<Item = &DropCount> {
        self.kernel.iter().filter(|drop| {
            let counted =
                if self.afxdp { is_generic_xdp(drop) } else { is_of_socket(drop) && drop.reason != UNREAD };
            drop.port.is_some() && counted
        })
    }

    /// The buffers of that.
    pub(super) fn buffers_at_the_queue(&self) -> u64 {
        self.kernel_at_the_queue().map(|drop| drop.skbs).sum()
    }

    pub(super) fn is_data(&self, drop: &DropCount) -> bool {
        if let (Some(runs), Origin::Run(run)) = (self.runs, drop.origin)
            && !runs.contains(&run)
        {
            return false;
        }
        match drop.content {
            Content::Data => true,
            Content::Other => self.other_formats,
            Content::Message => false,
        }
    }
}

/// Whether a socket that the packet had reached dropped it.
fn is_of_socket(drop: &DropCount) -> bool {
    drop.place == "socket" && drop.reason != "NO_SOCKET" && !drop.way.is_of_sender()
}

/// Whether generic XDP dropped it.
fn is_generic_xdp(drop: &DropCount) -> bool {
    drop.place == "xdp" && drop.reason == "XDP"
}
