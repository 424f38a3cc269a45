//! `steer`: hands the packets that rules select to the AF_XDP socket of their queue, and counts what became of all of them.
//!
//! Everything that no rule selects passes untouched, so that the kernel keeps answering ARP, neighbour discovery, IGMP, MLD
//! and PIM. Fragments to a selected address pass too, and are counted apart.

use core::{mem, ptr};

use aya_ebpf::Global;
use aya_ebpf::bindings::xdp_action::{XDP_PASS, XDP_REDIRECT};
use aya_ebpf::bindings::xdp_md;
use aya_ebpf::helpers::generated::{bpf_ktime_get_tai_ns, bpf_xdp_adjust_meta};
use aya_ebpf::macros::{map, xdp};
use aya_ebpf::maps::{HashMap, PerCpuArray, XskMap};
use aya_ebpf::programs::XdpContext;
use wirerate_ebpf_types::steer::{
    ANY_SOURCE, COUNTS, Count, QUEUES, RX_TIMESTAMP, RuleKey, Stamp, Verdict,
};

use crate::frame::{Frame, frame_bytes};
use crate::packet::{Packet, parse};

/// The rules; a value says nothing. The loader sets the size.
#[map]
static STEER_RULES: HashMap<RuleKey, u32> = HashMap::with_max_entries(1, 0);

/// The sockets, by queue.
#[map]
pub static STEER_SOCKETS: XskMap = XskMap::with_max_entries(QUEUES, 0);

/// Packets and bytes, by [`Verdict::index`].
#[map]
static STEER_COUNTS: PerCpuArray<Count> = PerCpuArray::with_max_entries(COUNTS, 0);

/// 1 when some rule names a source; without one the first of the two look-ups is not needed.
#[unsafe(no_mangle)]
static STEER_BY_SOURCE: Global<u32> = Global::new(1);

/// 1 when the time is to stand before the packets that go to a socket.
#[unsafe(no_mangle)]
static STEER_STAMP: Global<u32> = Global::new(0);

/// 1 when the NIC's time is to stand there, too: only in a program that is bound to a device, and loaded with the kernel's function.
#[unsafe(no_mangle)]
static STEER_NIC: Global<u32> = Global::new(0);

#[xdp(frags)]
pub fn steer(ctx: XdpContext) -> u32 {
    let bytes = frame_bytes(&ctx);
    let queue = ctx.rx_queue_index();
    let mut packet = Packet::new();
    let mut verdict = by_rules(parse(&Frame::new(&ctx), bytes as usize, &mut packet), &mut packet.rule);
    let mut action = XDP_PASS;
    if let Verdict::Redirected = verdict {
        match STEER_SOCKETS.redirect(queue, u64::from(XDP_PASS)) {
            Ok(_) => {
                action = XDP_REDIRECT;
                if STEER_STAMP.load() != 0 {
                    stamp(&ctx);
                }
            }
            Err(_) => verdict = Verdict::NoSocket,
        }
    }
    count(verdict, queue, bytes);
    action
}

/// Writes the time before the packet, as XDP metadata. Where the driver has no room for it nothing is written.
#[inline(always)]
fn stamp(ctx: &XdpContext) {
    let nic_ns = if STEER_NIC.load() != 0 { rx_timestamp(ctx) } else { 0 };
    // SAFETY: the context is the one that the program was called with.
    if unsafe { bpf_xdp_adjust_meta(ctx.ctx, -(size_of::<Stamp>() as i32)) } != 0 {
        return;
    }
    // SAFETY: the helper has no preconditions.
    let tai_ns = unsafe { bpf_ktime_get_tai_ns() };
    let (start, end) = (ctx.metadata(), ctx.metadata_end());
    if start + size_of::<Stamp>() > end {
        return;
    }
    // SAFETY: the metadata is as long; the write does not rely on alignment.
    unsafe { ptr::write_unaligned(start as *mut Stamp, Stamp::new(tai_ns, nic_ns)) };
}

/// When the NIC had the packet, by its own clock; 0 where the driver does not know.
#[inline(always)]
fn rx_timestamp(ctx: &XdpContext) -> u64 {
    // SAFETY: a number for the loader to replace, and the function's signature (net/core/xdp.c).
    let function: unsafe extern "C" fn(*mut xdp_md, *mut u64) -> i32 =
        unsafe { mem::transmute(RX_TIMESTAMP as usize) };
    let mut ns = 0;
    // SAFETY: the context is the one that the program was called with.
    if unsafe { function(ctx.ctx, &raw mut ns) } == 0 { ns } else { 0 }
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
