//! Names for what the drop programs counted: the place in the report's terms, the reason in the kernel's.
#![forbid(unsafe_code)]

use std::collections::HashMap;

use nix::errno::Errno;
use wirerate_ebpf_types::drops::Tracepoint;

/// What the kernel puts before the name of each reason.
const PREFIX: &str = "SKB_DROP_REASON_";

/// Beginnings of the kernel's reasons, and the place where such packets are lost. What fits none is lost at `kernel`.
const PLACES: &[(&str, &str)] = &[
    ("NO_SOCKET", "socket"),
    ("SOCKET_", "socket"),
    ("UDP_", "socket"),
    ("TCP_", "socket"),
    ("UNIX_", "socket"),
    ("PROTO_MEM", "socket"),
    ("SKB_UCOPY_FAULT", "socket"),
    ("IP_", "ip"),
    ("IPV6", "ip"),
    ("ICMP_", "ip"),
    ("FRAG_", "ip"),
    ("DUP_FRAG", "ip"),
    ("NEIGH_", "ip"),
    ("OTHERHOST", "ip"),
    ("UNICAST_IN_L2_MULTICAST", "ip"),
    ("INVALID_PROTO", "ip"),
    ("LOCAL_MAC", "ip"),
    ("NETFILTER_DROP", "netfilter"),
    ("QDISC_", "qdisc"),
    ("TC_", "qdisc"),
    ("CPU_BACKLOG", "backlog"),
    ("XDP", "xdp"),
    ("PACKET_SOCK_ERROR", "tap"),
    ("BRIDGE_", "bridge"),
    ("NO_TX_TARGET", "bridge"),
    ("FULL_RING", "tx"),
    ("DEV_READY", "tx"),
    ("UNHANDLED_PROTO", "ip"),
    ("PKT_TOO_BIG", "ip"),
    ("VXLAN_", "tunnel"),
    ("TUNNEL_", "tunnel"),
];

/// Beginnings of the names of the kernel's functions, and the place where what they drop is lost.
const FUNCTIONS: &[(&str, &str)] = &[
    ("veth_", "veth"),
    ("__dev_forward_skb", "veth"),
    ("dev_forward_skb", "veth"),
    ("br_", "bridge"),
    ("__br_", "bridge"),
    ("nf_", "netfilter"),
    ("nft_", "netfilter"),
    ("ip_", "ip"),
    ("__ip_", "ip"),
    ("ip6_", "ip"),
    ("__ip6_", "ip"),
    ("ipv6_", "ip"),
    ("ipmr_", "ip"),
    ("ip6mr_", "ip"),
    ("neigh_", "ip"),
    ("__neigh_", "ip"),
    ("arp_", "ip"),
    ("ndisc_", "ip"),
    ("icmp", "ip"),
    ("dst_", "ip"),
    ("xfrm", "ip"),
    ("udp", "socket"),
    ("__udp", "socket"),
    ("sock_", "socket"),
    ("__sock_", "socket"),
    ("skb_queue_purge", "socket"),
    ("inet_sock_", "socket"),
    ("packet_", "tap"),
    ("tpacket_", "tap"),
    ("qdisc_", "qdisc"),
    ("__qdisc_", "qdisc"),
    ("pfifo", "qdisc"),
    ("tbf_", "qdisc"),
    ("tcf_", "qdisc"),
    ("sch_", "qdisc"),
    ("__dev_queue_xmit", "tx"),
    ("__dev_direct_xmit", "tx"),
    ("dev_hard_start_xmit", "tx"),
    ("validate_xmit_", "tx"),
    ("__dev_xmit_", "tx"),
    ("dev_kfree_skb_irq", "tx"),
    ("enqueue_to_backlog", "backlog"),
    ("netif_rx", "backlog"),
    ("flush_backlog", "backlog"),
    ("__netif_receive_skb", "link"),
    ("netif_receive_", "link"),
    ("vlan_", "link"),
    ("do_xdp_generic", "xdp"),
    ("bpf_prog_run_generic", "xdp"),
    ("xdp_", "xdp"),
    ("xsk_", "xsk"),
    ("tun_", "tunnel"),
    ("vxlan_", "tunnel"),
    ("macvlan_", "link"),
    ("ipvlan_", "link"),
    ("bond_", "link"),
];

/// The place of what the kernel's function `name` drops without a reason.
pub(crate) fn of_function(name: &str) -> &'static str {
    FUNCTIONS.iter().find(|(start, _)| name.starts_with(start)).map_or("kernel", |(_, place)| place)
}

/// The reason of what lay unread in a socket that was closed; the kernel gives none.
pub(crate) const UNREAD: &str = "unread when closed";

const XDP_ACTIONS: [&str; 5] = ["XDP_ABORTED", "XDP_DROP", "XDP_PASS", "XDP_TX", "XDP_REDIRECT"];

/// Place and reason. `reasons` are the kernel's own names for `kfree_skb`; those of the other tracepoints are
/// `tracepoint:errno` or `tracepoint:action`.
pub(crate) fn named(tracepoint: u32, reason: u32, reasons: &HashMap<u32, String>) -> (&'static str, String) {
    let Some(known) = Tracepoint::ALL.get(tracepoint as usize) else {
        return ("kernel", format!("tracepoint {tracepoint}: {reason}"));
    };
    match known {
        Tracepoint::KfreeSkb => {
            let Some(name) = reasons.get(&reason) else {
                // The upper half numbers a subsystem that has reasons of its own.
                return ("kernel", format!("skb_drop_reason {reason:#x}"));
            };
            let name = name.strip_prefix(PREFIX).unwrap_or(name);
            let place = PLACES.iter().find(|(start, _)| name.starts_with(start)).map_or("kernel", |p| p.1);
            (place, name.to_owned())
        }
        Tracepoint::Unread => ("socket", UNREAD.to_owned()),
        Tracepoint::XdpException => {
            let action =
                XDP_ACTIONS.get(reason as usize).map_or_else(|| reason.to_string(), |a| (*a).to_owned());
            ("xdp", format!("xdp_exception:{action}"))
        }
        Tracepoint::XdpRedirect => ("xdp", with_errno("xdp_redirect_err", reason)),
        Tracepoint::XskRedirect => ("xsk", with_errno("xdp_redirect_err", reason)),
        Tracepoint::XdpDevmap => ("xdp", with_errno("xdp_devmap_xmit", reason)),
        Tracepoint::XdpTx => ("xdp", with_errno("xdp_bulk_tx", reason)),
    }
}

/// 0 is no error: there was no room.
fn with_errno(tracepoint: &str, errno: u32) -> String {
    match i32::try_from(errno) {
        Ok(0) => tracepoint.to_owned(),
        Ok(errno) if Errno::from_raw(errno) != Errno::UnknownErrno => {
            format!("{tracepoint}:{:?}", Errno::from_raw(errno))
        }
        _ => format!("{tracepoint}:{errno}"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn functions_have_places() {
        for (function, place) in [
            ("veth_xmit", "veth"),
            ("br_forward", "bridge"),
            ("__br_forward", "bridge"),
            ("__netif_receive_skb_core", "link"),
            ("ip_forward", "ip"),
            ("ip6_forward", "ip"),
            ("__udp4_lib_rcv", "socket"),
            ("tpacket_rcv", "tap"),
            ("enqueue_to_backlog", "backlog"),
            ("unheard_of", "kernel"),
        ] {
            assert_eq!(of_function(function), place, "{function}");
        }
    }

    #[test]
    fn the_kernels_names_and_where_they_belong() {
        let reasons = HashMap::from([
            (3, "SKB_DROP_REASON_NO_SOCKET".to_owned()),
            (6, "SKB_DROP_REASON_SOCKET_RCVBUFF".to_owned()),
            (17, "SKB_DROP_REASON_IP_INHDR".to_owned()),
            (98, "SKB_DROP_REASON_SECURITY_HOOK".to_owned()),
            (99, "SKB_DROP_REASON_VXLAN_NO_REMOTE".to_owned()),
        ]);
        for (tracepoint, reason, place, says) in [
            (Tracepoint::KfreeSkb, 3, "socket", "NO_SOCKET"),
            (Tracepoint::KfreeSkb, 6, "socket", "SOCKET_RCVBUFF"),
            (Tracepoint::KfreeSkb, 17, "ip", "IP_INHDR"),
            (Tracepoint::KfreeSkb, 99, "tunnel", "VXLAN_NO_REMOTE"),
            (Tracepoint::KfreeSkb, 98, "kernel", "SECURITY_HOOK"),
            (Tracepoint::KfreeSkb, 0x2_0001, "kernel", "skb_drop_reason 0x20001"),
            (Tracepoint::XdpException, 0, "xdp", "xdp_exception:XDP_ABORTED"),
            (Tracepoint::XdpException, 9, "xdp", "xdp_exception:9"),
            (Tracepoint::XskRedirect, 28, "xsk", "xdp_redirect_err:ENOSPC"),
            (Tracepoint::XdpRedirect, 22, "xdp", "xdp_redirect_err:EINVAL"),
            (Tracepoint::XdpDevmap, 0, "xdp", "xdp_devmap_xmit"),
            (Tracepoint::Unread, 2, "socket", UNREAD),
            (Tracepoint::XdpTx, 4095, "xdp", "xdp_bulk_tx:4095"),
        ] {
            assert_eq!(named(tracepoint as u32, reason, &reasons), (place, says.to_owned()));
        }
        assert_eq!(named(77, 1, &reasons).0, "kernel");
    }
}
