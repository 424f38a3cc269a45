//! Counts the packets that the kernel drops while a [`Watch`] lives.
//!
//! A drop is counted where the kernel says it happened: on the interface the packet came in by or was to leave by, in that
//! interface's network namespace, so packets of other namespaces are seen too. One kind is counted by who reads, because nothing
//! else tells: datagrams in the queue of a UDP socket, dropped for their checksum, belong to the namespace of
//! the thread that reads it. Those that are dropped with their socket belong to none. The same packet may be counted by
//! another witness: place `xsk` here is what the AF_XDP socket itself counts as full ring or dropped
//! (`XDP_STATISTICS`), and `SOCKET_RCVBUFF` is what a UDP socket counts (`SO_MEMINFO`).
#![forbid(unsafe_code)]

use std::collections::{BTreeSet, HashMap};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::os::fd::{AsFd, AsRawFd, BorrowedFd};

use aya::maps::{MapData, PerCpuArray, PerCpuHashMap};
use aya::programs::RawTracePoint;
use aya::{Ebpf, EbpfLoader};
use nix::net::if_::if_indextoname;
pub use wirerate_ebpf_types::drops::Content;
use wirerate_ebpf_types::drops::{
    ADDRESSED, CAME_IN, DESTINATIONS, Destination, DeviceKey, DeviceName, LEAVING, Layout, OF_FRAMES,
    ORIGIN_PORT, ORIGIN_RUN,
};

use super::btf::Btf;
use super::object::{Borrowed, OBJECT, allow_locked_memory, explain, map};
use super::place::{self, named};
use super::{btf, maps, symbols};
use crate::error::{Error, Result};
use crate::sys::netns::Netns;

/// The programs, each named like its tracepoint.
const PROGRAMS: [&str; 5] =
    ["kfree_skb", "xdp_exception", "xdp_redirect_err", "xdp_devmap_xmit", "xdp_bulk_tx"];

const CAPABILITIES: &str = "CAP_NET_ADMIN, CAP_BPF and CAP_PERFMON";

/// The reason that stands for drops that found no room in the table.
pub const TABLE_FULL: &str = "drop table full";

/// The reason that stands for drops that interrupted the counting of another on the same CPU; each is one skb of unknown size.
pub const INTERRUPTED: &str = "drop while counting a drop";

/// Packets dropped at one place for one reason, since the watch began.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct DropCount {
    /// Inode of the network namespace, as [`current_netns_inode`] has it; 0 when the packet told none.
    pub netns_inode: u64,
    /// Index of the interface in that namespace; 0 when the packet was not on one.
    pub ifindex: u32,
    /// The interface's name: now, if it is in the namespace of the thread that reads; else what it was when something was first dropped there.
    pub interface: Option<String>,
    /// Where: `ip`, `socket`, `netfilter`, `qdisc`, `tx`, `backlog`, `bridge`, `veth`, `xdp`, `xsk`, `tap`; `kernel` for the rest.
    pub place: &'static str,
    /// Why, in the kernel's own words: `NO_SOCKET`, `xdp_redirect_err:ENOSPC`.
    pub reason: String,
    /// UDP destination port, when the destination is one that the watch was started for, and the drop was one of an skb.
    pub port: Option<u16>,
    /// What datagrams to that destination held; `Other` without one.
    pub content: Content,
    /// Whose packet it was, if it was one to such a destination.
    pub origin: Origin,
    /// Which way it was going, if it was one to such a destination.
    pub way: Way,
    /// The kernel's function that dropped it, where it gave no reason and shows its symbols (CAP_SYSLOG).
    pub symbol: Option<String>,
    /// Buffers: skbs or XDP frames.
    pub skbs: u64,
    /// Packets; a buffer with segmentation offload holds several.
    pub packets: u64,
}

/// Who sent a dropped packet.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum Origin {
    /// Nothing tells.
    #[default]
    Unknown,
    /// The run in its probe header.
    Run(u32),
    /// Its UDP source port: the payload could not be read, as that of most buffers with several segments.
    Port(u16),
}

impl Origin {
    fn of(number: u32) -> Self {
        match number & !0xff_ffff {
            ORIGIN_RUN => Self::Run(number & 0xff_ffff),
            ORIGIN_PORT => Self::Port(number as u16),
            _ => Self::Unknown,
        }
    }
}

/// Which way a dropped packet was going.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Way {
    /// Out by the interface, rather than in.
    pub leaving: bool,
    /// It had come to this namespace from outside and been taken over; else it was made here, or had only just crossed.
    pub came_in: bool,
    /// An AF_XDP socket sent it, which the kernel tells of what it drops within the call.
    pub of_frames: bool,
    /// Its frame was addressed to the interface or to a group, rather than to another host.
    pub addressed: bool,
}

impl Way {
    fn of(flags: u16) -> Self {
        let is = |flag| flags & flag != 0;
        Self {
            leaving: is(LEAVING),
            came_in: is(CAME_IN),
            of_frames: is(OF_FRAMES),
            addressed: is(ADDRESSED),
        }
    }

    /// Made in this namespace, and dropped before it left it.
    pub fn is_of_sender(self) -> bool {
        self.leaving && !self.came_in
    }
}

/// On whose behalf drops are counted.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Side {
    /// A sender's: without what programs at tc and in generic XDP drop, as a sink does with what it has received.
    Sender,
    /// All there are.
    Any,
}

/// The kernel's reasons for what a program at tc or in generic XDP dropped.
const SINK_REASONS: [&str; 2] = ["SKB_DROP_REASON_TC_INGRESS", "SKB_DROP_REASON_XDP"];

/// The running programs; dropping it, or the end of the process, removes them.
#[derive(Debug)]
pub struct Watch {
    ebpf: Ebpf,
    reasons: HashMap<u32, String>,
    missing: Vec<String>,
}

impl Watch {
    /// Loads the programs and attaches those whose tracepoint this kernel has.
    ///
    /// # Errors
    /// Environment: without CAP_NET_ADMIN, CAP_BPF and CAP_PERFMON (or CAP_SYS_ADMIN), or when the kernel has no BTF or none of the tracepoints.
    pub fn start() -> Result<Self> {
        Self::start_for(&[])
    }

    /// As [`start`](Self::start), and tells drops of UDP datagrams to `destinations` from the others: they are counted apart, by
    /// port and content. An unspecified address stands for all addresses of its version.
    ///
    /// # Errors
    /// As [`start`](Self::start).
    pub fn start_for(destinations: &[SocketAddr]) -> Result<Self> {
        Self::start_on(Side::Any, destinations)
    }

    /// As [`start_for`](Self::start_for), on behalf of `side`.
    pub(crate) fn start_on(side: Side, destinations: &[SocketAddr]) -> Result<Self> {
        let destinations = watched(destinations);
        let kernel = Btf::of_kernel()?;
        let watching = u32::from(!destinations.is_empty());
        let layout = maps::Layout(Layout { watching, ..layout_of(&kernel, side)? });
        allow_locked_memory();
        let mut ebpf = EbpfLoader::new()
            .override_global("DROP_LAYOUT", &layout, true)
            .map_max_entries("DROP_DESTINATIONS", (destinations.len() as u32).max(1))
            .map_max_entries("STEER_SOCKETS", 1)
            .map_max_entries("STEER_COUNTS", 1)
            .load(OBJECT)
            .map_err(|error| explain("loading the drop counters", &error, CAPABILITIES))?;
        let map = ebpf
            .map_mut("DROP_DESTINATIONS")
            .ok_or_else(|| Error::failed("no eBPF map DROP_DESTINATIONS"))?;
        fill(map, &destinations)
            .map_err(|error| explain("telling the drop counters what to watch", &error, CAPABILITIES))?;
        let mut missing = Vec::new();
        for name in PROGRAMS {
            if let Err(error) = attach(&mut ebpf, name) {
                missing.push(format!("{name}: {error}"));
                if missing.len() == PROGRAMS.len() {
                    return Err(error);
                }
            }
        }
        let reasons = kernel.enumerators("skb_drop_reason").unwrap_or_default();
        Ok(Self { ebpf, reasons, missing })
    }

    /// What is not counted, because this kernel refused its program: `tracepoint: why`.
    pub fn missing(&self) -> &[String] {
        &self.missing
    }

    /// All drops since the watch began, in no particular order. Makes some system calls for each place and reason.
    ///
    /// # Errors
    /// Failed, when the kernel refuses to show its counters.
    pub fn read(&self) -> Result<Vec<DropCount>> {
        let failed =
            |error: aya::maps::MapError| Error::failed(format!("reading the drop counters: {error}"));
        let here = current_netns_inode()?;
        let table: PerCpuHashMap<Borrowed<'_>, maps::DropKey, maps::DropValue> =
            map(&self.ebpf, "DROP_COUNTS")?;
        let others: PerCpuArray<Borrowed<'_>, maps::DropValue> = map(&self.ebpf, "DROP_OTHERS")?;
        let names: aya::maps::HashMap<Borrowed<'_>, maps::DeviceKey, DeviceName> =
            map(&self.ebpf, "DROP_DEVICES")?;
        let noted = |netns, ifindex| {
            let name = names.get(&maps::DeviceKey(DeviceKey { netns, ifindex }), 0).ok()?;
            text_of(&name)
        };
        let mut drops = Vec::new();
        for entry in table.iter() {
            let (maps::DropKey(key), values) = entry.map_err(failed)?;
            let (skbs, packets) = sum(&values);
            let netns_inode = u64::from(key.netns);
            let (mut place, reason) = named(u32::from(key.tracepoint), key.reason, &self.reasons);
            let symbol = symbols::function_at(key.location);
            if let Some(function) = &symbol {
                place = place::of_function(function);
            }
            let way = Way::of(key.flags);
            if way.addressed && reason == "OTHERHOST" {
                // Not another host's: a VLAN tag that no interface here has makes the kernel take it for that.
                place = "link";
            }
            let known = if netns_inode == here { name_of(key.ifindex) } else { None };
            let interface = known.or_else(|| noted(key.netns, key.ifindex));
            drops.push(DropCount {
                netns_inode,
                ifindex: key.ifindex,
                interface,
                place,
                reason,
                port: (key.port != 0).then_some(key.port),
                content: content_of(key.content),
                origin: Origin::of(key.origin),
                way,
                symbol,
                skbs,
                packets,
            });
        }
        let (skbs, packets) = sum(&others.get(&0, 0).map_err(failed)?);
        let missed = self.missed();
        for (reason, skbs, packets) in [(TABLE_FULL, skbs, packets), (INTERRUPTED, missed, missed)] {
            if skbs > 0 {
                let (place, reason) = ("kernel", reason.to_owned());
                drops.push(DropCount { place, reason, skbs, packets, ..DropCount::default() });
            }
        }
        Ok(drops)
    }

    /// Drops that happened in an interrupt while the same CPU was counting another: the kernel does not run a
    /// tracepoint's program within itself.
    fn missed(&self) -> u64 {
        self.ebpf
            .programs()
            .filter(|(name, _)| PROGRAMS.contains(name))
            .filter_map(|(_, program)| program.fd().ok().map(|fd| recursion_misses(fd.as_fd())))
            .sum()
    }
}

/// Keys for `destinations`; when they are too many, for their ports at all addresses.
fn watched(destinations: &[SocketAddr]) -> Vec<Destination> {
    let different: BTreeSet<SocketAddr> = destinations.iter().copied().collect();
    if different.len() <= DESTINATIONS as usize {
        return different.into_iter().map(key_of).collect();
    }
    let anywhere = |d: SocketAddr| match d.ip() {
        IpAddr::V4(_) => SocketAddr::from((Ipv4Addr::UNSPECIFIED, d.port())),
        IpAddr::V6(_) => SocketAddr::from((Ipv6Addr::UNSPECIFIED, d.port())),
    };
    let ports: BTreeSet<SocketAddr> = different.into_iter().map(anywhere).collect();
    ports.into_iter().take(DESTINATIONS as usize).map(key_of).collect()
}

fn key_of(destination: SocketAddr) -> Destination {
    let word = |bytes: &[u8]| bytes.first_chunk().copied().map_or(0, u32::from_ne_bytes);
    let (address, version) = match destination.ip() {
        IpAddr::V4(ip) => ([word(&ip.octets()), 0, 0, 0], 4),
        IpAddr::V6(ip) => {
            let o = ip.octets();
            ([word(&o), word(&o[4..]), word(&o[8..]), word(&o[12..])], 6)
        }
    };
    Destination { address, port: destination.port(), version }
}

fn fill(
    map: &mut aya::maps::Map,
    destinations: &[Destination],
) -> std::result::Result<(), aya::maps::MapError> {
    let mut map: aya::maps::HashMap<&mut MapData, maps::Destination, u32> = map.try_into()?;
    destinations.iter().try_for_each(|&d| map.insert(maps::Destination(d), 0, 0))
}

fn content_of(number: u16) -> Content {
    [Content::Data, Content::Message].into_iter().find(|&c| c as u16 == number).unwrap_or(Content::Other)
}

/// How often the kernel did not run the program behind `fd`; 0 on kernels that do not say (before 5.12).
fn recursion_misses(fd: BorrowedFd<'_>) -> u64 {
    let path = format!("/proc/thread-self/fdinfo/{}", fd.as_raw_fd());
    let text = std::fs::read_to_string(path).unwrap_or_default();
    let count = text.lines().find_map(|line| line.strip_prefix("recursion_misses:"));
    count.and_then(|count| count.trim().parse().ok()).unwrap_or(0)
}

fn attach(ebpf: &mut Ebpf, name: &str) -> Result<()> {
    let program = ebpf.program_mut(name).ok_or_else(|| Error::failed(format!("no eBPF program {name}")))?;
    let program: &mut RawTracePoint =
        program.try_into().map_err(|error| Error::failed(format!("eBPF program {name}: {error}")))?;
    let tracepoint = format!("counting the drops at tracepoint {name}");
    program.load().map_err(|error| explain(&tracepoint, &error, CAPABILITIES))?;
    program.attach(name).map_err(|error| explain(&tracepoint, &error, CAPABILITIES))?;
    Ok(())
}

fn sum(per_cpu: &[maps::DropValue]) -> (u64, u64) {
    per_cpu.iter().fold((0, 0), |(skbs, packets), value| (skbs + value.0.skbs, packets + value.0.packets))
}

/// What stands before the zeros.
fn text_of(name: &DeviceName) -> Option<String> {
    let length = name.iter().position(|&byte| byte == 0).unwrap_or(name.len());
    (length > 0).then(|| String::from_utf8_lossy(&name[..length]).into_owned())
}

fn name_of(ifindex: u32) -> Option<String> {
    if_indextoname(ifindex).ok().and_then(|name| name.into_string().ok())
}

/// What the programs must know of a kernel that describes itself so.
pub(crate) fn layout_of(kernel: &Btf, side: Side) -> Result<Layout> {
    let offset = |structure: &str, path: &str| {
        kernel.offset(structure, path).ok_or_else(|| {
            Error::environment(format!("{}: struct {structure} has no member {path}", btf::KERNEL))
                .fix("wirerate knows the kernels 5.17 to 6.18; for a newer one, update wirerate")
        })
    };
    let reasons = kernel.enumerators("skb_drop_reason").unwrap_or_default();
    let value_of =
        |wanted| reasons.iter().find(|(_, name)| *name == wanted).map_or(u32::MAX, |(&value, _)| value);
    let left_out = match side {
        Side::Sender => SINK_REASONS.map(value_of),
        Side::Any => [u32::MAX; 2],
    };
    // The first parameter is the tracepoint's own.
    let has_rx_sk = kernel.parameters("btf_trace_kfree_skb").is_some_and(|parameters| parameters >= 5);
    Ok(Layout {
        skb_dev: offset("sk_buff", "dev")?,
        skb_iif: offset("sk_buff", "skb_iif")?,
        skb_sk: offset("sk_buff", "sk")?,
        skb_dst: offset("sk_buff", "_skb_refdst")?,
        skb_head: offset("sk_buff", "head")?,
        skb_end: offset("sk_buff", "end")?,
        skb_len: offset("sk_buff", "len")?,
        skb_data: offset("sk_buff", "data")?,
        skb_tail: offset("sk_buff", "tail")?,
        skb_mac_header: offset("sk_buff", "mac_header")?,
        skb_network_header: offset("sk_buff", "network_header")?,
        gso_segs: offset("skb_shared_info", "gso_segs")?,
        gso_size: offset("skb_shared_info", "gso_size")?,
        dev_ifindex: offset("net_device", "ifindex")?,
        dev_net: offset("net_device", "nd_net.net")?,
        dev_name: offset("net_device", "name")?,
        dev_address: offset("net_device", "dev_addr")?,
        dev_xdp: offset("net_device", "xdp_prog")?,
        net_inode: offset("net", "ns.inum")?,
        sock_net: offset("sock", "__sk_common.skc_net.net")?,
        sock_family: offset("sock", "__sk_common.skc_family")?,
        dst_dev: offset("dst_entry", "dev")?,
        task_nsproxy: offset("task_struct", "nsproxy")?,
        nsproxy_net: offset("nsproxy", "net_ns")?,
        has_rx_sk: u32::from(has_rx_sk),
        watching: 0,
        unspecified: value_of("SKB_DROP_REASON_NOT_SPECIFIED"),
        consumed: value_of("SKB_CONSUMED"),
        left_out,
    })
}

/// What was dropped between two readings of one watch; places and reasons without a new drop are left out.
pub fn difference(before: &[DropCount], after: &[DropCount]) -> Vec<DropCount> {
    let same = |a: &DropCount, b: &DropCount| {
        let what = |d: &DropCount| (d.netns_inode, d.ifindex, d.place, d.port, d.content as u16);
        let whose = |d: &DropCount| (d.origin, d.way);
        what(a) == what(b) && whose(a) == whose(b) && a.reason == b.reason && a.symbol == b.symbol
    };
    after
        .iter()
        .filter_map(|new| {
            let (skbs, packets) =
                before.iter().find(|old| same(old, new)).map_or((0, 0), |old| (old.skbs, old.packets));
            let mut new = new.clone();
            new.skbs = new.skbs.saturating_sub(skbs);
            new.packets = new.packets.saturating_sub(packets);
            (new.skbs > 0).then_some(new)
        })
        .collect()
}

/// Inode of the calling thread's network namespace: what `readlink /proc/thread-self/ns/net` shows.
///
/// # Errors
/// Environment, when /proc is not mounted.
pub fn current_netns_inode() -> Result<u64> {
    Netns::current().and_then(|netns| netns.inode()).map_err(|error| {
        Error::environment("/proc/thread-self/ns/net: this thread's network namespace cannot be read")
            .because(error)
            .fix("mount -t proc proc /proc")
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_no_program_missed_nothing() {
        assert_eq!(recursion_misses(std::io::stdin().as_fd()), 0);
    }

    fn count(ifindex: u32, reason: &str, skbs: u64, packets: u64) -> DropCount {
        let reason = reason.to_owned();
        DropCount { netns_inode: 1, ifindex, place: "socket", reason, skbs, packets, ..DropCount::default() }
    }

    #[test]
    fn the_difference_is_what_is_new() {
        let before = [count(1, "NO_SOCKET", 5, 9), count(2, "NO_SOCKET", 1, 1)];
        let after = [count(2, "NO_SOCKET", 1, 1), count(1, "NO_SOCKET", 6, 17), count(1, "IP_CSUM", 2, 2)];
        assert_eq!(difference(&before, &after), [count(1, "NO_SOCKET", 1, 8), count(1, "IP_CSUM", 2, 2)]);
        assert_eq!(difference(&after, &after), []);
        let data = DropCount { port: Some(5001), content: Content::Data, ..count(1, "IP_CSUM", 2, 2) };
        let message = DropCount { content: Content::Message, ..data.clone() };
        let both = [data, message];
        assert_eq!(difference(&both[..1], &both), both[1..]);
        assert_eq!(difference(&after, &both), both);
    }

    #[test]
    fn destinations_as_the_program_finds_them_in_packets() {
        let v4 = key_of("239.1.2.3:5001".parse().unwrap());
        assert_eq!((v4.address[0].to_ne_bytes(), v4.port, v4.version), ([239, 1, 2, 3], 5001, 4));
        let v6 = key_of("[ff15::1:2:3]:5001".parse().unwrap());
        assert_eq!((v6.address[0].to_ne_bytes(), v6.version), ([0xff, 0x15, 0, 0], 6));
        assert_eq!(v6.address[3].to_ne_bytes(), [0, 2, 0, 3]);
        assert_eq!(key_of("[::]:1".parse().unwrap()).address, [0; 4]);
    }

    #[test]
    fn too_many_destinations_are_watched_by_their_ports() {
        let many: Vec<SocketAddr> = (0..=DESTINATIONS)
            .map(|n| (Ipv4Addr::from_bits(0xef00_0000 + n), 5000 + (n % 3) as u16).into())
            .collect();
        assert_eq!(watched(&many[1..]).len(), DESTINATIONS as usize);
        let ports = watched(&many);
        assert_eq!(
            ports.iter().map(|d| (d.address, d.port)).collect::<Vec<_>>(),
            [5000, 5001, 5002].map(|p| ([0; 4], p))
        );
    }
}
