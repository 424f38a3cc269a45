//! The maps of the `drops` programs: what the kernel threw away, where and why.

/// Entries of the drop map: places and reasons that differ, over all namespaces and interfaces.
pub const DROPS: u32 = 8192;

/// Entries of the map of interfaces that something was dropped on.
pub const DEVICES: u32 = 4096;

/// [`DropKey::flags`]: the packet was on its way out by the interface; otherwise it had come in by it.
pub const LEAVING: u16 = 1;

/// [`DropKey::flags`]: the packet came to this namespace from outside, and was forwarded or delivered in it; otherwise it was made here, or had not
/// yet been taken over.
pub const CAME_IN: u16 = 2;

/// [`DropKey::flags`]: an AF_XDP socket sent it, and the kernel tells that socket of the drop as long as it happens within the call.
pub const OF_FRAMES: u16 = 4;

/// [`DropKey::flags`]: the frame was addressed to the interface's own address or to a group; what a bridge floods is not.
pub const ADDRESSED: u16 = 8;

/// [`DropKey::origin`]: the lower 24 bits are the run of a probe header.
pub const ORIGIN_RUN: u32 = 1 << 24;

/// [`DropKey::origin`]: the lower 16 bits are the UDP source port, because the payload could not be read.
pub const ORIGIN_PORT: u32 = 2 << 24;

/// Entries of the map of watched destinations at most; the loader sets the size.
pub const DESTINATIONS: u32 = 65_536;

/// Which tracepoint saw a drop; decides what [`DropKey::reason`] means.
#[repr(u32)]
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Tracepoint {
    /// `kfree_skb`: an skb was dropped; the reason is a value of the kernel's `enum skb_drop_reason`.
    KfreeSkb = 0,
    /// `xdp_exception`: a driver could not do what an XDP program asked for, or the program was aborted; the reason is the
    /// XDP action.
    XdpException = 1,
    /// `xdp_redirect_err`: a redirect was refused; the reason is an errno.
    XdpRedirect = 2,
    /// `xdp_redirect_err` into an XSKMAP; the reason is an errno. The AF_XDP socket may count the same packet.
    XskRedirect = 3,
    /// `xdp_devmap_xmit`: an interface took fewer redirected frames than it was given; the reason is an errno, or 0.
    XdpDevmap = 4,
    /// `xdp_bulk_tx`: an interface took fewer frames of `XDP_TX` than it was given; the reason is an errno, or 0.
    XdpTx = 5,
    /// `kfree_skb` of an skb that lay in the queue of a socket, for no reason told: it was not read before the socket was closed.
    Unread = 6,
}

impl Tracepoint {
    /// All of them, in the order of their numbers.
    pub const ALL: [Self; 7] = [
        Self::KfreeSkb,
        Self::XdpException,
        Self::XdpRedirect,
        Self::XskRedirect,
        Self::XdpDevmap,
        Self::XdpTx,
        Self::Unread,
    ];
}

/// What a dropped datagram to a watched destination held.
#[repr(u16)]
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Hash)]
pub enum Content {
    /// No probe header.
    #[default]
    Other = 0,
    /// Data with a probe header; also what is long enough for one and lies outside of the linear part, where it cannot be read.
    Data = 1,
    /// An end-of-stream message.
    Message = 2,
}

/// A watched UDP destination: key of the map of those whose drops are told apart.
#[repr(C)]
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Destination {
    /// The address as it stands in the packet, IPv4 in the first element; all zeros for any.
    pub address: [u32; 4],
    /// Port in host byte order.
    pub port: u16,
    /// 4 or 6.
    pub version: u16,
}

/// One place and reason.
#[repr(C)]
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct DropKey {
    /// Inode of the network namespace, as in `/proc/self/ns/net`; 0 when the packet told none.
    pub netns: u32,
    /// Index of the interface in that namespace; 0 when the packet had none (yet).
    pub ifindex: u32,
    /// Why; [`Tracepoint`] says in which numbers.
    pub reason: u32,
    /// A [`Tracepoint`].
    pub tracepoint: u16,
    /// [`LEAVING`], [`CAME_IN`], [`OF_FRAMES`], [`ADDRESSED`]; 0 when the destination is not watched.
    pub flags: u16,
    /// UDP destination port in host byte order when the destination is watched, else 0.
    pub port: u16,
    /// A [`Content`]; 0 when the destination is not watched.
    pub content: u16,
    /// Whose packet it is, when the destination is watched: [`ORIGIN_RUN`] or [`ORIGIN_PORT`]; 0 when nothing tells.
    pub origin: u32,
    /// The kernel's code that dropped it, where it gave no reason; else 0.
    pub location: u64,
}

/// An interface that something was dropped on.
#[repr(C)]
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct DeviceKey {
    /// Inode of its network namespace.
    pub netns: u32,
    /// Its index there.
    pub ifindex: u32,
}

/// What the map of interfaces holds: the name, padded with zeros.
pub type DeviceName = [u8; 16];

/// What was dropped there.
#[repr(C)]
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct DropCount {
    /// Buffers: skbs, or XDP frames.
    pub skbs: u64,
    /// Packets in them: an skb with segmentation offload holds several.
    pub packets: u64,
}

/// What the programs must know of the running kernel, read from its BTF by the loader: where a member lies, in bytes from
/// the start of its structure, unless a field says otherwise.
#[repr(C)]
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Layout {
    /// `sk_buff.dev`, a union: in the queues of sockets something else lies there.
    pub skb_dev: u32,
    /// `sk_buff.skb_iif`
    pub skb_iif: u32,
    /// `sk_buff.sk`
    pub skb_sk: u32,
    /// `sk_buff._skb_refdst`
    pub skb_dst: u32,
    /// `sk_buff.head`
    pub skb_head: u32,
    /// `sk_buff.end`, an offset from `head` on 64-bit kernels.
    pub skb_end: u32,
    /// `sk_buff.len`
    pub skb_len: u32,
    /// `sk_buff.data`
    pub skb_data: u32,
    /// `sk_buff.tail`, an offset from `head` on 64-bit kernels.
    pub skb_tail: u32,
    /// `sk_buff.mac_header`, an offset from `head`; all ones when there is none.
    pub skb_mac_header: u32,
    /// `sk_buff.network_header`, an offset from `head`; 0 when there is none.
    pub skb_network_header: u32,
    /// `skb_shared_info.gso_segs`
    pub gso_segs: u32,
    /// `skb_shared_info.gso_size`
    pub gso_size: u32,
    /// `net_device.ifindex`
    pub dev_ifindex: u32,
    /// `net_device.nd_net.net`
    pub dev_net: u32,
    /// `net_device.name`
    pub dev_name: u32,
    /// `net_device.dev_addr`, a pointer.
    pub dev_address: u32,
    /// `net_device.xdp_prog`: the generic XDP program.
    pub dev_xdp: u32,
    /// `net.ns.inum`
    pub net_inode: u32,
    /// `sock.__sk_common.skc_net.net`
    pub sock_net: u32,
    /// `sock.__sk_common.skc_family`
    pub sock_family: u32,
    /// `dst_entry.dev`
    pub dst_dev: u32,
    /// `task_struct.nsproxy`
    pub task_nsproxy: u32,
    /// `nsproxy.net_ns`
    pub nsproxy_net: u32,
    /// 1 when `kfree_skb` names the receiving socket in its argument 3 (Linux 6.11), else 0.
    pub has_rx_sk: u32,
    /// 1 when destinations are watched, else 0.
    pub watching: u32,
    /// `SKB_DROP_REASON_NOT_SPECIFIED` of `enum skb_drop_reason`.
    pub unspecified: u32,
    /// `SKB_CONSUMED` of `enum skb_drop_reason`: not a drop; `u32::MAX` where the kernel has no such value.
    pub consumed: u32,
    /// Reasons that are not counted, because a program of a receiver drops so what it has counted; `u32::MAX` for none.
    pub left_out: [u32; 2],
}

const _: () =
    assert!(size_of::<DropKey>() == 32 && size_of::<Destination>() == 20 && size_of::<DropCount>() == 16);
const _: () = assert!(size_of::<Layout>() == 120);
