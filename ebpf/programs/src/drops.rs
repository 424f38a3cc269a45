//! `kfree_skb`: counts the skbs that the kernel drops, by network namespace, interface and reason.

use aya_ebpf::Global;
use aya_ebpf::helpers::{bpf_get_current_task, bpf_probe_read_kernel};
use aya_ebpf::macros::{map, raw_tracepoint};
use aya_ebpf::maps::{PerCpuArray, PerCpuHashMap};
use aya_ebpf::programs::RawTracePointContext;
use wirerate_ebpf_types::drops::{DROPS, DropCount, DropKey, Layout, Tracepoint};

use crate::datagram::watched;

/// What was dropped, by place and reason.
#[map]
static DROP_COUNTS: PerCpuHashMap<DropKey, DropCount> = PerCpuHashMap::with_max_entries(DROPS, 0);

/// What found no room in [`DROP_COUNTS`].
#[map]
static DROP_OTHERS: PerCpuArray<DropCount> = PerCpuArray::with_max_entries(1, 0);

/// Where the running kernel keeps things; set by the loader.
#[unsafe(no_mangle)]
pub static DROP_LAYOUT: Global<Layout> = Global::new(Layout {
    skb_dev: 0,
    skb_iif: 0,
    skb_sk: 0,
    skb_dst: 0,
    skb_head: 0,
    skb_end: 0,
    skb_len: 0,
    skb_data: 0,
    skb_tail: 0,
    skb_mac_header: 0,
    skb_network_header: 0,
    gso_segs: 0,
    gso_size: 0,
    dev_ifindex: 0,
    dev_net: 0,
    dev_xdp: 0,
    net_inode: 0,
    sock_net: 0,
    dst_dev: 0,
    task_nsproxy: 0,
    nsproxy_net: 0,
    has_rx_sk: 0,
    watching: 0,
    consumed: u32::MAX,
});

/// Set in `_skb_refdst` when the reference is not counted.
const SKB_DST_NOREF: u64 = 1;

/// `void kfree_skb(struct sk_buff *skb, void *location, enum skb_drop_reason reason, struct sock *rx_sk)`
#[raw_tracepoint(tracepoint = "kfree_skb")]
pub fn kfree_skb(ctx: RawTracePointContext) -> i32 {
    let layout = DROP_LAYOUT.load();
    let skb: u64 = ctx.arg(0);
    let reason: u32 = ctx.arg(2);
    if reason == layout.consumed {
        return 0;
    }
    let rx_sk: u64 = if layout.has_rx_sk != 0 { ctx.arg(3) } else { 0 };
    let (netns, ifindex) = place(&layout, skb, rx_sk);
    let (port, content) = if layout.watching != 0 { watched(&layout, skb) } else { (0, 0) };
    let key = DropKey { netns, ifindex, reason, tracepoint: Tracepoint::KfreeSkb as u32, port, content };
    count(&key, DropCount { skbs: 1, packets: packets(&layout, skb) });
    0
}

/// Namespace and interface of a dropped skb.
///
/// `skb->dev` is a union: in the receive queue of a socket another value lies there, so it counts only when it leads
/// to an interface of a namespace. Otherwise the interface is the one that the skb came in by, and the namespace that of the
/// socket or route that it had reached. An skb in the queue of a UDP socket names neither; it is the reader (or closer) of the
/// socket who drops it, so the namespace is that of the running task.
#[inline(always)]
fn place(layout: &Layout, skb: u64, rx_sk: u64) -> (u32, u32) {
    let dev: u64 = read(skb, layout.skb_dev);
    if let Some(place) = interface(layout, dev) {
        return place;
    }
    let ifindex: u32 = read(skb, layout.skb_iif);
    let mut netns = netns_inode(layout, read(rx_sk, layout.sock_net));
    if netns == 0 {
        let sk: u64 = read(skb, layout.skb_sk);
        netns = netns_inode(layout, read(sk, layout.sock_net));
    }
    if netns == 0 {
        let dst = read::<u64>(skb, layout.skb_dst) & !SKB_DST_NOREF;
        let dev: u64 = read(dst, layout.dst_dev);
        netns = netns_inode(layout, read(dev, layout.dev_net));
    }
    if netns == 0 && dev != 0 && !is_kernel(dev) {
        // SAFETY: the helper has no preconditions.
        let task = unsafe { bpf_get_current_task() };
        let nsproxy: u64 = read(task, layout.task_nsproxy);
        netns = netns_inode(layout, read(nsproxy, layout.nsproxy_net));
    }
    (netns, ifindex)
}

/// Namespace and index of the interface at `dev`, if one is there.
#[inline(always)]
pub fn interface(layout: &Layout, dev: u64) -> Option<(u32, u32)> {
    let netns = netns_inode(layout, read(dev, layout.dev_net));
    let ifindex: u32 = read(dev, layout.dev_ifindex);
    if netns == 0 || ifindex == 0 || ifindex > i32::MAX as u32 { None } else { Some((netns, ifindex)) }
}

/// The inode of the namespace at `net`, or 0 if there is none: the kernel numbers namespaces from just below
/// 0xf000_0000 upwards, and the halves of its pointers are 0xffff_xxxx or even, small or aligned numbers.
#[inline(always)]
fn netns_inode(layout: &Layout, net: u64) -> u32 {
    let inode: u32 = read(net, layout.net_inode);
    if (0xefff_ff00..0xffff_0000).contains(&inode) { inode } else { 0 }
}

/// Packets in an skb: its segments, or 1.
#[inline(always)]
fn packets(layout: &Layout, skb: u64) -> u64 {
    let head: u64 = read(skb, layout.skb_head);
    let end: u32 = read(skb, layout.skb_end);
    let shared = head.wrapping_add(u64::from(end));
    let segments: u16 = read(shared, layout.gso_segs);
    if segments != 0 {
        return u64::from(segments);
    }
    // A guest or a tap may leave the number out; then it follows from the size.
    let size: u16 = read(shared, layout.gso_size);
    let length: u32 = read(skb, layout.skb_len);
    u64::from(length).checked_div(u64::from(size)).unwrap_or(1).max(1)
}

/// Reads a member of a kernel structure; 0 for what is not there: user-space addresses, null, unmapped memory.
#[inline(always)]
pub fn read<T: Copy + Default>(structure: u64, offset: u32) -> T {
    if !is_kernel(structure) {
        return T::default();
    }
    let address = structure.wrapping_add(u64::from(offset)) as *const T;
    // SAFETY: the helper checks the address and returns an error where nothing can be read.
    unsafe { bpf_probe_read_kernel(address) }.unwrap_or_default()
}

/// Whether this can be an address in the kernel: those have the highest bit set on x86-64, arm64 and riscv64.
#[inline(always)]
fn is_kernel(address: u64) -> bool {
    address >> 63 == 1
}

/// Adds `new` to the counter of `key` on this CPU.
#[inline(always)]
pub fn count(key: &DropKey, new: DropCount) {
    if let Some(count) = DROP_COUNTS.get_ptr_mut(key) {
        add(count, new);
        return;
    }
    if DROP_COUNTS.insert(key, new, u64::from(aya_ebpf::bindings::BPF_NOEXIST)).is_ok() {
        return;
    }
    // Another CPU made the entry meanwhile, or the map is full.
    if let Some(count) = DROP_COUNTS.get_ptr_mut(key).or_else(|| DROP_OTHERS.get_ptr_mut(0)) {
        add(count, new);
    }
}

#[inline(always)]
fn add(count: *mut DropCount, new: DropCount) {
    // SAFETY: this CPU's own element. A drop in an interrupt may come between the read and the write of another's, so
    // each addition is one atomic instruction.
    unsafe {
        atomic_add(&raw mut (*count).skbs, new.skbs);
        atomic_add(&raw mut (*count).packets, new.packets);
    }
}

/// # Safety
/// `counter` is valid and aligned.
#[inline(always)]
unsafe fn atomic_add(counter: *mut u64, value: u64) {
    // SAFETY: valid and aligned, says the caller, and all other writers are atomic too.
    unsafe { core::sync::atomic::AtomicU64::from_ptr(counter) }
        .fetch_add(value, core::sync::atomic::Ordering::Relaxed);
}
