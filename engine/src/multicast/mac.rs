//! The Ethernet address of a multicast group.
#![forbid(unsafe_code)]

use std::net::IpAddr;

/// The Ethernet address that frames to `group` are sent to: 01:00:5e and the low 23 bits of an IPv4 group (RFC 1112 §6.4), 33:33 and the low 32
/// bits of an IPv6 one (RFC 2464 §7). Several groups share one address. `None` when it is no group.
pub fn of_group(group: IpAddr) -> Option<[u8; 6]> {
    if !group.is_multicast() {
        return None;
    }
    Some(match group {
        IpAddr::V4(v4) => {
            let [_, b, c, d] = v4.octets();
            [0x01, 0x00, 0x5e, b & 0x7f, c, d]
        }
        IpAddr::V6(v6) => {
            let [.., a, b, c, d] = v6.octets();
            [0x33, 0x33, a, b, c, d]
        }
    })
}

#[cfg(test)]
mod tests {
    use super::of_group;

    #[test]
    fn groups_and_their_addresses() {
        for (group, mac) in [
            ("224.0.0.1", Some([0x01, 0, 0x5e, 0, 0, 1])),
            ("239.129.2.3", Some([0x01, 0, 0x5e, 1, 2, 3])),
            ("239.255.255.255", Some([0x01, 0, 0x5e, 0x7f, 0xff, 0xff])),
            ("ff02::1:ff28:9c5a", Some([0x33, 0x33, 0xff, 0x28, 0x9c, 0x5a])),
            ("ff15::1", Some([0x33, 0x33, 0, 0, 0, 1])),
            ("192.0.2.1", None),
            ("2001:db8::1", None),
        ] {
            assert_eq!(of_group(group.parse().unwrap()), mac, "{group}");
        }
    }
}
