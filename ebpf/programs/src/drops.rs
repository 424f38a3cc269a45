//! `kfree_skb`: counts the skbs that the kernel drops, by network namespace, interface and reason.

use aya_ebpf::Global;
use aya_ebpf::helpers::{bpf_get_current_task, bpf_probe_read_kernel};
use aya_ebpf::macros::{map, raw_tracepoint};
use aya_ebpf::maps::{HashMap, PerCpuArray, PerCpuHashMap};
use aya_ebpf::programs::RawTracePointContext;
use wirerate_ebpf_types::drops::{
    ADDRESSED, CAME_IN, DEVICES, DROPS, DeviceKey, DeviceName, DropCount, DropKey, LEAVING, Layout,
    OF_FRAMES, Tracepoint,
};

use crate::datagram::watched;

/// What was dropped, by place and reason.
#[map]
static DROP_COUNTS: PerCpuHashMap<DropKey, DropCount> = PerCpuHashMap::with_max_entries(DROPS, 0);

/// What found no room in [`DROP_COUNTS`].
#[map]
static DROP_OTHERS: PerCpuArray<DropCount> = PerCpuArray::with_max_entries(1, 0);

/// The names of interfaces that something was dropped on, as they were when it first happened.
#[map]
static DROP_DEVICES: HashMap<DeviceKey, DeviceName> = HashMap::with_max_entries(DEVICES, 0);

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
    dev_name: 0,
    dev_address: 0,
    dev_xdp: 0,
    net_inode: 0,
    sock_net: 0,
    sock_family: 0,
    dst_dev: 0,
    task_nsproxy: 0,
    nsproxy_net: 0,
    has_rx_sk: 0,
    watching: 0,
    unspecified: u32::MAX,
    consumed: u32::MAX,
    left_out: [u32::MAX; 2],
});

/// Set in `_skb_refdst` when the reference is not counted.
const SKB_DST_NOREF: u64 = 1;

/// `mac_header` when there is none.
const NO_HEADER: u16 = u16::MAX;

/// `AF_XDP`
const FAMILY_XDP: u16 = 44;

/// `void kfree_skb(struct sk_buff *skb, void *location, enum skb_drop_reason reason, struct sock *rx_sk)`
#[raw_tracepoint(tracepoint = "kfree_skb")]
pub fn kfree_skb(ctx: RawTracePointContext) -> i32 {
    let layout = DROP_LAYOUT.load();
    let skb: u64 = ctx.arg(0);
    let reason: u32 = ctx.arg(2);
    if reason == layout.consumed || reason == layout.left_out[0] || reason == layout.left_out[1] {
        return 0;
    }
    let rx_sk: u64 = if layout.has_rx_sk != 0 { ctx.arg(3) } else { 0 };
    let unread = reason == layout.unspecified && is_in_socket(read(skb, layout.skb_dev));
    let (netns, ifindex) = place(&layout, skb, rx_sk, !unread);
    let tracepoint = if unread { Tracepoint::Unread } else { Tracepoint::KfreeSkb } as u16;
    let (port, content, origin) = if layout.watching != 0 { watched(&layout, skb) } else { (0, 0, 0) };
    let flags = if port != 0 { flags(&layout, skb, ifindex) } else { 0 };
    let location = if reason == layout.unspecified && !unread { ctx.arg(1) } else { 0 };
    let key = DropKey { netns, ifindex, reason, tracepoint, flags, port, content, origin, location };
    count(&key, DropCount { skbs: 1, packets: packets(&layout, skb) }, read(skb, layout.skb_dev));
    0
}

/// Which way the packet was going when it was dropped on interface `ifindex`, and who had sent it.
///
/// The kernel notes the interface that a packet came in by when it takes it over. One without such a note was made here, and then its link layer header, if it
/// has one, is in front of what is looked at; or it has just crossed to this side, and that header has been passed.
#[inline(always)]
fn flags(layout: &Layout, skb: u64, ifindex: u32) -> u16 {
    let mut flags = if is_addressed(layout, skb) { ADDRESSED } else { 0 };
    let came_by: u32 = read(skb, layout.skb_iif);
    if came_by != 0 {
        flags |= CAME_IN;
        flags |= if came_by == ifindex { 0 } else { LEAVING };
    } else {
        let head: u64 = read(skb, layout.skb_head);
        let data = read::<u64>(skb, layout.skb_data).wrapping_sub(head);
        let link: u16 = read(skb, layout.skb_mac_header);
        flags |= if link == NO_HEADER || data <= u64::from(link) { LEAVING } else { 0 };
    }
    let sk: u64 = read(skb, layout.skb_sk);
    let family: u16 = read(sk, layout.sock_family);
    flags | if family == FAMILY_XDP { OF_FRAMES } else { 0 }
}

/// Whether the frame's destination is the address of the interface that it is on, or a group.
#[inline(always)]
fn is_addressed(layout: &Layout, skb: u64) -> bool {
    let link: u16 = read(skb, layout.skb_mac_header);
    if link == NO_HEADER {
        return false;
    }
    let head: u64 = read(skb, layout.skb_head);
    let destination: [u8; 6] = read(head, u32::from(link));
    let dev: u64 = read(skb, layout.skb_dev);
    let own: [u8; 6] = read(read(dev, layout.dev_address), 0);
    destination[0] & 1 == 1 || destination == own
}

/// Namespace and interface of a dropped skb.
///
/// `skb->dev` is a union: in the receive queue of a socket another value lies there, so it counts only when it leads
/// to an interface of a namespace. Otherwise the interface is the one that the skb came in by, and the namespace that of the
/// socket or route that it had reached. An skb in the queue of a UDP socket names neither; when it is the `reader` of the
/// socket who drops it, the namespace is that of the running task.
#[inline(always)]
fn place(layout: &Layout, skb: u64, rx_sk: u64, reader: bool) -> (u32, u32) {
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
    // Unread is freed after a grace period, in whatever task runs then.
    if netns == 0 && reader && is_in_socket(dev) {
        // SAFETY: the helper has no preconditions.
        let task = unsafe { bpf_get_current_task() };
        let nsproxy: u64 = read(task, layout.task_nsproxy);
        netns = netns_inode(layout, read(nsproxy, layout.nsproxy_net));
    }
    (netns, ifindex)
}

/// Whether what stands in `skb->dev` is what UDP keeps there of a datagram in the queue of a socket.
#[inline(always)]
fn is_in_socket(dev: u64) -> bool {
    dev != 0 && !is_kernel(dev)
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

/// Adds `new` to the counter of `key` on this CPU; notes the name of the interface at `dev`, if it is that of the key.
#[inline(always)]
pub fn count(key: &DropKey, new: DropCount, dev: u64) {
    if let Some(count) = DROP_COUNTS.get_ptr_mut(key) {
        add(count, new);
        return;
    }
    note_name(key, dev);
    if DROP_COUNTS.insert(key, new, u64::from(aya_ebpf::bindings::BPF_NOEXIST)).is_ok() {
        return;
    }
    // Another CPU made the entry meanwhile, or the map is full.
    if let Some(count) = DROP_COUNTS.get_ptr_mut(key).or_else(|| DROP_OTHERS.get_ptr_mut(0)) {
        add(count, new);
    }
}

#[inline(always)]
fn note_name(key: &DropKey, dev: u64) {
    let layout = DROP_LAYOUT.load();
    if interface(&layout, dev).is_some() {
        let name: DeviceName = read(dev, layout.dev_name);
        // Where there is no room, the interface has a number.
        let _ = DROP_DEVICES.insert(DeviceKey { netns: key.netns, ifindex: key.ifindex }, name, 0);
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
