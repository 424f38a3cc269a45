//! Rules by which a NIC chooses the receive queue of a packet (ntuple filters): the ETHTOOL_*RXCLSRL* requests of linux/ethtool.h.

use std::io;
use std::net::{IpAddr, SocketAddr};

use super::ethtool::{Ethtool, Request};

const GRXCLSRLCNT: u32 = 0x2e;
const GRXCLSRLALL: u32 = 0x30;
const SRXCLSRLDEL: u32 = 0x31;
const SRXCLSRLINS: u32 = 0x32;

const UDP_V4_FLOW: u32 = 0x02;
const UDP_V6_FLOW: u32 = 0x06;

/// RX_CLS_LOC_SPECIAL: in the answer to GRXCLSRLCNT, the driver chooses places itself; in a request, [`ANY`] is one of those.
const SPECIAL: u32 = 0x8000_0000;
/// RX_CLS_LOC_ANY.
const ANY: u32 = u32::MAX;
/// Rules of one NIC that there is room for here.
const ROOM: usize = 4096;

/// `struct ethtool_rx_flow_spec`.
#[repr(C)]
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct FlowSpec {
    flow_type: u32,
    /// `union ethtool_flow_union`.
    fields: [u8; 52],
    /// `struct ethtool_flow_ext`.
    more: [u8; 20],
    /// The bits of `fields` that have to match.
    mask: [u8; 52],
    more_mask: [u8; 20],
    /// The queue.
    cookie: u64,
    location: u32,
}

/// `struct ethtool_rxnfc` with its places.
#[repr(C)]
struct Rules {
    cmd: u32,
    flow_type: u32,
    data: u64,
    spec: FlowSpec,
    count: u32,
    locations: [u32; ROOM],
}

// SAFETY: integers in the layout of linux/ethtool.h; the kernel writes `count` places at most, and GRXCLSRLALL, the only command that
// writes any, is asked for no more than ROOM.
unsafe impl Request for Rules {}

impl Rules {
    fn new(cmd: u32) -> Self {
        let spec = FlowSpec {
            flow_type: 0,
            fields: [0; 52],
            more: [0; 20],
            mask: [0; 52],
            more_mask: [0; 20],
            cookie: 0,
            location: 0,
        };
        Self { cmd, flow_type: 0, data: 0, spec, count: 0, locations: [0; ROOM] }
    }
}

/// UDP to `destination`, whoever sent it, to receive queue `queue`.
fn udp_to(destination: SocketAddr, queue: u32) -> FlowSpec {
    let mut fields = [0; 52];
    let mut mask = [0; 52];
    // Source address, destination address, source port, destination port, each in network order.
    let (flow_type, address, port) = match destination.ip() {
        IpAddr::V4(ip) => {
            fields[4..8].copy_from_slice(&ip.octets());
            (UDP_V4_FLOW, 4..8, 10..12)
        }
        IpAddr::V6(ip) => {
            fields[16..32].copy_from_slice(&ip.octets());
            (UDP_V6_FLOW, 16..32, 34..36)
        }
    };
    fields[port.clone()].copy_from_slice(&destination.port().to_be_bytes());
    mask[address].fill(0xff);
    mask[port].fill(0xff);
    FlowSpec {
        flow_type,
        fields,
        more: [0; 20],
        mask,
        more_mask: [0; 20],
        cookie: u64::from(queue),
        location: ANY,
    }
}

impl Ethtool {
    /// Has the NIC put UDP to `destination` into receive queue `queue`. Returns the rule's place, by which it is removed.
    ///
    /// # Errors
    /// EOPNOTSUPP where the driver has no rules or its feature `ntuple` is off, ENOSPC when its table is full, EPERM without CAP_NET_ADMIN.
    pub fn insert_rule(&self, destination: SocketAddr, queue: u32) -> io::Result<u32> {
        let mut table = Rules::new(GRXCLSRLCNT);
        self.call(&mut table)?;
        let mut rule = Rules::new(SRXCLSRLINS);
        rule.spec = udp_to(destination, queue);
        if table.data & u64::from(SPECIAL) == 0 {
            rule.spec.location = self.free_place(table.count)?;
        }
        self.call(&mut rule)?;
        Ok(rule.spec.location)
    }

    /// Removes the rule at `location`.
    ///
    /// # Errors
    /// Those of the driver; ENODEV when the interface is gone.
    pub fn remove_rule(&self, location: u32) -> io::Result<()> {
        let mut rule = Rules::new(SRXCLSRLDEL);
        rule.spec.location = location;
        self.call(&mut rule)
    }

    /// The last free place of a table that has `count` rules: earlier places come first in match order, and stay for others.
    fn free_place(&self, count: u32) -> io::Result<u32> {
        let mut all = Rules::new(GRXCLSRLALL);
        if count as usize > ROOM {
            return Err(io::Error::from_raw_os_error(libc::EOVERFLOW));
        }
        all.count = count;
        self.call(&mut all)?;
        let taken = &all.locations[..all.count.min(count) as usize];
        // With the places comes the size of the table.
        let size = u32::try_from(all.data).unwrap_or(0);
        (0..size)
            .rev()
            .find(|place| !taken.contains(place))
            .ok_or_else(|| io::Error::from_raw_os_error(libc::ENOSPC))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::mem::offset_of;

    #[test]
    fn layouts_are_the_kernels() {
        assert_eq!(size_of::<FlowSpec>(), 168);
        assert_eq!(offset_of!(FlowSpec, mask), 76);
        assert_eq!(offset_of!(FlowSpec, cookie), 152);
        assert_eq!(offset_of!(FlowSpec, location), 160);
        assert_eq!(offset_of!(Rules, spec), 16);
        assert_eq!(offset_of!(Rules, count), 184);
        assert_eq!(offset_of!(Rules, locations), 188);
    }

    #[test]
    fn a_rule_names_destination_and_port_only() {
        let v4 = udp_to("239.1.2.3:5001".parse().unwrap(), 3);
        assert_eq!((v4.flow_type, v4.cookie), (UDP_V4_FLOW, 3));
        assert_eq!(v4.fields[..12], [0, 0, 0, 0, 239, 1, 2, 3, 0, 0, 0x13, 0x89]);
        assert_eq!(v4.mask[..13], [0, 0, 0, 0, 255, 255, 255, 255, 0, 0, 255, 255, 0]);
        let v6 = udp_to("[ff3e::1]:258".parse().unwrap(), 0);
        assert_eq!(v6.flow_type, UDP_V6_FLOW);
        assert_eq!(
            (v6.fields[15..18].to_vec(), v6.fields[31..37].to_vec()),
            (vec![0, 255, 0x3e], vec![1, 0, 0, 1, 2, 0])
        );
        assert!(v6.mask[16..32].iter().all(|&b| b == 255) && v6.mask[..16].iter().all(|&b| b == 0));
        assert_eq!(v6.mask[32..37], [0, 0, 255, 255, 0]);
        assert!(v6.fields[36..].iter().chain(&v6.mask[36..]).all(|&b| b == 0));
    }

    #[test]
    fn loopback_has_no_rules() {
        let error = Ethtool::open("lo").unwrap().insert_rule("127.0.0.1:1".parse().unwrap(), 0).unwrap_err();
        assert!(matches!(error.raw_os_error(), Some(libc::EOPNOTSUPP | libc::EPERM)), "{error}");
    }
}
