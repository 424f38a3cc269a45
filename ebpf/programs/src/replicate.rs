//! `replicate`: copies the frames of a group to the interfaces of its members, as a switch with IGMP and MLD snooping does; TTL and addresses stay.
//!
//! Which interfaces those are is user space's to know: it reads the reports that this program passes on. A set of members is a device map of
//! its own, which never changes once it is used: when somebody joins or leaves, the group gets another set and another counter. So a counter is
//! that of each member in its set, and no frame ever sees half a change.

use aya_ebpf::Global;
use aya_ebpf::bindings::xdp_action::{XDP_ABORTED, XDP_DROP, XDP_PASS, XDP_REDIRECT};
use aya_ebpf::bindings::{BPF_F_BROADCAST, BPF_F_EXCLUDE_INGRESS, BPF_F_NO_PREALLOC};
use aya_ebpf::btf_maps::{ArrayOfMaps, DevMap};
use aya_ebpf::macros::{btf_map, map, raw_tracepoint, xdp};
use aya_ebpf::maps::{HashMap, PerCpuArray, PerCpuHashMap};
use aya_ebpf::programs::{RawTracePointContext, XdpContext};
use wirerate_ebpf_types::replicate::{FATES, Fate, GroupKey, PORTS, SOURCES, Transmitted, Way};
use wirerate_ebpf_types::steer::{ANY_SOURCE, Count};

use crate::drops::{DROP_LAYOUT, interface};
use crate::frame::Frame;
use crate::steer::STEER_SOCKETS;
use crate::xdp_drops::errno;

const ETHERTYPE_IPV4: u16 = 0x0800;
const ETHERTYPE_IPV6: u16 = 0x86dd;
const ETHERTYPE_VLAN: u16 = 0x8100;
const ETHERTYPE_SERVICE_VLAN: u16 = 0x88a8;
const ETHERNET: usize = 14;

const PROTOCOL_HOP_BY_HOP: u8 = 0;
const PROTOCOL_IGMP: u8 = 2;
const PROTOCOL_ICMPV6: u8 = 58;

/// 224.0.0.0/24, which RFC 4541 §2.1.2 wants passed on, as the first three bytes.
const LOCAL_GROUPS: [u8; 3] = [224, 0, 0];

/// IPv6 scopes up to this one do not leave the link (RFC 4291 §2.7).
const LINK_LOCAL_SCOPE: u8 = 2;

/// Where the frames of each group go; the loader sets the size. Entries are not used again at once, so that one that is being read is not another's.
#[map]
static REPLICATE_GROUPS: HashMap<GroupKey, Way> = HashMap::with_max_entries(1, BPF_F_NO_PREALLOC);

/// The sets of members; the loader sets the size. Sets are of any size; the one here says of what kind they are.
#[btf_map]
static REPLICATE_SETS: ArrayOfMaps<DevMap<1>, 1> = ArrayOfMaps::new();

/// Frames by [`Way::counter`]; the loader sets the size.
#[map]
static REPLICATE_COUNTS: PerCpuArray<Count> = PerCpuArray::with_max_entries(1, 0);

/// Frames by [`Fate`].
#[map]
static REPLICATE_FATES: PerCpuArray<Count> = PerCpuArray::with_max_entries(FATES, 0);

/// What the interfaces took, by their index.
#[map]
static REPLICATE_TRANSMITTED: PerCpuHashMap<u32, Transmitted> = PerCpuHashMap::with_max_entries(PORTS, 0);

/// 1 when an AF_XDP socket makes the copies.
#[unsafe(no_mangle)]
static REPLICATE_TO_SOCKETS: Global<u32> = Global::new(0);

/// The interfaces that frames come from, by index; a value says nothing.
#[map]
static REPLICATE_FROM: HashMap<u32, u32> = HashMap::with_max_entries(SOURCES, 0);

/// The inode of the network namespace of all the interfaces.
#[unsafe(no_mangle)]
static REPLICATE_NETNS: Global<u32> = Global::new(0);

#[xdp]
pub fn replicate(ctx: XdpContext) -> u32 {
    let frame = Frame::new(&ctx);
    let bytes = (ctx.data_end() - ctx.data()) as u64;
    let mut key = GroupKey::nothing();
    let mut fate = read(&frame, bytes as usize, &mut key).unwrap_or(Fate::Malformed);
    let mut action = XDP_PASS;
    if let Fate::Replicated = fate {
        (fate, action) = match way(&mut key) {
            Some(way) if way.set != Way::NOBODY => copy(&ctx, way, bytes),
            _ => (Fate::NoMember, XDP_DROP),
        };
    }
    count(&REPLICATE_FATES, fate as u32, bytes);
    action
}

/// What a frame is; [`Fate::Replicated`]: if its group has members. None when headers are cut short.
#[inline(always)]
fn read(frame: &Frame, bytes: usize, key: &mut GroupKey) -> Option<Fate> {
    let Some(destination) = frame.read::<6>(0) else { return Some(Fate::Passed) };
    if destination[0] & 1 == 0 || destination == [0xff; 6] {
        return Some(Fate::Passed);
    }
    match frame.read_u16(12) {
        Some(ETHERTYPE_IPV4) => ipv4(frame, bytes, key),
        Some(ETHERTYPE_IPV6) => ipv6(frame, bytes, key),
        Some(ETHERTYPE_VLAN | ETHERTYPE_SERVICE_VLAN) => Some(Fate::Tagged),
        _ => Some(Fate::Passed),
    }
}

#[inline(always)]
fn ipv4(frame: &Frame, bytes: usize, key: &mut GroupKey) -> Option<Fate> {
    let header: [u8; 20] = frame.read(ETHERNET)?;
    let header_bytes = usize::from(header[0] & 0x0f) * 4;
    let packet_bytes = usize::from(u16::from_be_bytes([header[2], header[3]]));
    if header[0] >> 4 != 4
        || header_bytes < 20
        || packet_bytes < header_bytes
        || ETHERNET + packet_bytes > bytes
    {
        return None;
    }
    if header[16] >> 4 != 0xe {
        return Some(Fate::Passed);
    }
    if header[9] == PROTOCOL_IGMP || [header[16], header[17], header[18]] == LOCAL_GROUPS {
        return Some(Fate::Control);
    }
    key.version = 4;
    key.group[0] = u32::from_ne_bytes([header[16], header[17], header[18], header[19]]);
    key.source[0] = u32::from_ne_bytes([header[12], header[13], header[14], header[15]]);
    Some(Fate::Replicated)
}

#[inline(always)]
fn ipv6(frame: &Frame, bytes: usize, key: &mut GroupKey) -> Option<Fate> {
    const HEADER: usize = 40;
    let first: [u8; 8] = frame.read(ETHERNET)?;
    key.source = frame.read_address(ETHERNET + 8)?;
    key.group = frame.read_address(ETHERNET + 24)?;
    let group: [u8; 2] = frame.read(ETHERNET + 24)?;
    let packet_bytes = HEADER + usize::from(u16::from_be_bytes([first[4], first[5]]));
    if first[0] >> 4 != 6 || ETHERNET + packet_bytes > bytes {
        return None;
    }
    if group[0] != 0xff {
        return Some(Fate::Passed);
    }
    if group[1] & 0x0f <= LINK_LOCAL_SCOPE {
        return Some(Fate::Control);
    }
    // A report of MLDv1 goes to the group that it is about, behind a router alert (RFC 2710 §3).
    if first[6] == PROTOCOL_HOP_BY_HOP && frame.read::<1>(ETHERNET + HEADER)? == [PROTOCOL_ICMPV6] {
        return Some(Fate::Control);
    }
    key.version = 6;
    Some(Fate::Replicated)
}

/// The way for any source, or the one for this.
#[inline(always)]
fn way(key: &mut GroupKey) -> Option<Way> {
    let source = key.source;
    key.source = ANY_SOURCE;
    // SAFETY: entries stay until no program reads them any more.
    let any = *unsafe { REPLICATE_GROUPS.get(&*key) }?;
    if any.sources == 0 {
        return Some(any);
    }
    key.source = source;
    // SAFETY: as above.
    Some(unsafe { REPLICATE_GROUPS.get(&*key) }.copied().unwrap_or(any))
}

/// Sends copies to all members but the one that the frame came from.
#[inline(always)]
fn copy(ctx: &XdpContext, way: Way, bytes: u64) -> (Fate, u32) {
    let redirected = if REPLICATE_TO_SOCKETS.load() != 0 {
        STEER_SOCKETS.redirect(ctx.rx_queue_index(), u64::from(XDP_DROP))
    } else {
        let Some(set) = REPLICATE_SETS.get(way.set) else { return (Fate::NoSocket, XDP_ABORTED) };
        set.redirect(0, u64::from(BPF_F_BROADCAST | BPF_F_EXCLUDE_INGRESS))
    };
    if redirected.is_err() {
        return (Fate::NoSocket, XDP_DROP);
    }
    count(&REPLICATE_COUNTS, way.counter, bytes);
    (Fate::Replicated, XDP_REDIRECT)
}

#[inline(always)]
fn count(counts: &PerCpuArray<Count>, index: u32, bytes: u64) {
    if let Some(count) = counts.get_ptr_mut(index) {
        // SAFETY: this CPU's own element, and programs of one kind do not interrupt one another on a CPU.
        unsafe {
            (*count).packets += 1;
            (*count).bytes += bytes;
        }
    }
}

/// `void xdp_devmap_xmit(from_dev, to_dev, int sent, int drops, int err)`: an interface was handed copies.
#[raw_tracepoint(tracepoint = "xdp_devmap_xmit")]
pub fn replicate_transmitted(ctx: RawTracePointContext) -> i32 {
    let layout = DROP_LAYOUT.load();
    let Some((netns, from)) = interface(&layout, ctx.arg(0)) else { return 0 };
    if netns != REPLICATE_NETNS.load() || REPLICATE_FROM.get_ptr(&from).is_none() {
        return 0;
    }
    let Some((_, to)) = interface(&layout, ctx.arg(1)) else { return 0 };
    let (sent, drops): (i32, i32) = (ctx.arg(2), ctx.arg(3));
    let sent = sent.max(0) as u64;
    let refused = drops.max(0) as u64;
    let reason = if drops > 0 { u64::from(errno(ctx.arg(4))) } else { 0 };
    if let Some(known) = REPLICATE_TRANSMITTED.get_ptr_mut(&to) {
        // SAFETY: this CPU's own element; the tracepoint is not interrupted by itself.
        unsafe {
            (*known).frames += sent;
            (*known).refused += refused;
            if drops > 0 {
                (*known).errno = reason;
            }
        }
    } else {
        let first = Transmitted { frames: sent, refused, errno: reason };
        // More interfaces than there are in a replicator.
        let _ = REPLICATE_TRANSMITTED.insert(&to, &first, 0);
    }
    0
}
