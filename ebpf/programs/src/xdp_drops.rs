//! XDP's own losses, which are frames and never become skbs.
//!
//! In generic mode the kernel drops the skb right afterwards, and `kfree_skb` counts it (`SKB_DROP_REASON_XDP`), so these
//! programs count only where no generic program is attached.

use aya_ebpf::helpers::bpf_probe_read_kernel;
use aya_ebpf::macros::raw_tracepoint;
use aya_ebpf::programs::RawTracePointContext;
use wirerate_ebpf_types::drops::{DropCount, DropKey, Tracepoint};

use crate::drops::{DROP_LAYOUT, count, interface};

/// `XDP_REDIRECT` of `enum xdp_action`: a failed redirect has a tracepoint of its own.
const XDP_REDIRECT: u32 = 4;

/// `BPF_MAP_TYPE_XSKMAP` of `enum bpf_map_type`.
const XSKMAP: u32 = 17;

/// `void xdp_exception(const struct net_device *dev, const struct bpf_prog *xdp, u32 act)`
#[raw_tracepoint(tracepoint = "xdp_exception")]
pub fn xdp_exception(ctx: RawTracePointContext) -> i32 {
    let action: u32 = ctx.arg(2);
    if action != XDP_REDIRECT {
        lost(ctx.arg(0), Tracepoint::XdpException, action, 1);
    }
    0
}

/// `void xdp_redirect_err(dev, xdp, const void *tgt, int err, enum bpf_map_type map_type, u32 map_id, u32 index)`
#[raw_tracepoint(tracepoint = "xdp_redirect_err")]
pub fn xdp_redirect_err(ctx: RawTracePointContext) -> i32 {
    let map_type: u32 = ctx.arg(4);
    let tracepoint = if map_type == XSKMAP { Tracepoint::XskRedirect } else { Tracepoint::XdpRedirect };
    lost(ctx.arg(0), tracepoint, errno(ctx.arg(3)), 1);
    0
}

/// `void xdp_devmap_xmit(from_dev, to_dev, int sent, int drops, int err)`
#[raw_tracepoint(tracepoint = "xdp_devmap_xmit")]
pub fn xdp_devmap_xmit(ctx: RawTracePointContext) -> i32 {
    lost(ctx.arg(1), Tracepoint::XdpDevmap, errno(ctx.arg(4)), ctx.arg(3));
    0
}

/// `void xdp_bulk_tx(dev, int sent, int drops, int err)`
#[raw_tracepoint(tracepoint = "xdp_bulk_tx")]
pub fn xdp_bulk_tx(ctx: RawTracePointContext) -> i32 {
    lost(ctx.arg(0), Tracepoint::XdpTx, errno(ctx.arg(3)), ctx.arg(2));
    0
}

/// The kernel returns errors as negative numbers; what is not one is 0.
#[inline(always)]
pub fn errno(returned: i32) -> u32 {
    if returned < 0 { returned.wrapping_neg() as u32 } else { 0 }
}

#[inline(always)]
fn lost(dev: u64, tracepoint: Tracepoint, reason: u32, frames: i32) {
    if frames <= 0 || is_generic(dev) {
        return;
    }
    let frames = frames as u64;
    let (netns, ifindex) = interface(&DROP_LAYOUT.load(), dev).unwrap_or((0, 0));
    let key = DropKey {
        netns,
        ifindex,
        reason,
        tracepoint: tracepoint as u16,
        flags: 0,
        port: 0,
        content: 0,
        origin: 0,
        location: 0,
    };
    count(&key, DropCount { skbs: frames, packets: frames }, dev);
}

/// Whether the interface runs its XDP program in generic mode.
#[inline(always)]
fn is_generic(dev: u64) -> bool {
    let address = dev.wrapping_add(u64::from(DROP_LAYOUT.load().dev_xdp)) as *const u64;
    // SAFETY: the helper checks the address and returns an error where nothing can be read.
    unsafe { bpf_probe_read_kernel(address) }.unwrap_or(0) != 0
}
