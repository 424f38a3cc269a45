//! `steer`: hands the packets that rules select to the AF_XDP socket of their queue, and counts what became of all of them.
//!
//! Everything that no rule selects passes untouched, so that the kernel keeps answering ARP, neighbour discovery, IGMP, MLD
//! and PIM. Fragments to a selected address pass too, and are counted apart.

use aya_ebpf::Global;
use aya_ebpf::bindings::xdp_action::{XDP_PASS, XDP_REDIRECT};
use aya_ebpf::macros::{map, xdp};
use aya_ebpf::maps::{HashMap, PerCpuArray, XskMap};
use aya_ebpf::programs::XdpContext;
use wirerate_ebpf_types::steer::{ANY_SOURCE, COUNTS, Count, QUEUES, RuleKey, Verdict};

use crate::frame::{Frame, frame_bytes};
use crate::packet::{Packet, parse};

/// The rules; a value says nothing. The loader sets the size.
#[map]
static STEER_RULES: HashMap<RuleKey, u32> = HashMap::with_max_entries(1, 0);

/// The sockets, by queue.
#[map]
static STEER_SOCKETS: XskMap = XskMap::with_max_entries(QUEUES, 0);

/// Packets and bytes, by [`Verdict::index`].
#[map]
static STEER_COUNTS: PerCpuArray<Count> = PerCpuArray::with_max_entries(COUNTS, 0);

/// 1 when some rule names a source; without one the first of the two look-ups is not needed.
#[unsafe(no_mangle)]
static STEER_BY_SOURCE: Global<u32> = Global::new(1);

#[xdp(frags)]
pub fn steer(ctx: XdpContext) -> u32 {
    let bytes = frame_bytes(&ctx);
    let queue = ctx.rx_queue_index();
    let mut packet = Packet::new();
    let mut verdict = by_rules(parse(&Frame::new(&ctx), bytes as usize, &mut packet), &mut packet.rule);
    let mut action = XDP_PASS;
    if let Verdict::Redirected = verdict {
        match STEER_SOCKETS.redirect(queue, u64::from(XDP_PASS)) {
            Ok(_) => action = XDP_REDIRECT,
            Err(_) => verdict = Verdict::NoSocket,
        }
    }
    count(verdict, queue, bytes);
    action
}

/// What the rules make of a verdict on what they may select.
#[inline(always)]
pub fn by_rules(parsed: Verdict, key: &mut RuleKey) -> Verdict {
    match parsed {
        Verdict::Redirected | Verdict::Fragment if !selected(key) => Verdict::Passed,
        verdict => verdict,
    }
}

/// Whether a rule names this source, or any source.
#[inline(always)]
fn selected(key: &mut RuleKey) -> bool {
    if STEER_BY_SOURCE.load() != 0 && STEER_RULES.get_ptr(*key).is_some() {
        return true;
    }
    key.source = ANY_SOURCE;
    STEER_RULES.get_ptr(*key).is_some()
}

/// Counts a packet of `queue` and its bytes under `verdict`.
#[inline(always)]
pub fn count(verdict: Verdict, queue: u32, bytes: u64) {
    if let Some(count) = STEER_COUNTS.get_ptr_mut(verdict.index(queue)) {
        // SAFETY: this CPU's own element, and programs of one kind do not interrupt one another on a CPU.
        unsafe {
            (*count).packets += 1;
            (*count).bytes += bytes;
        }
    }
}
