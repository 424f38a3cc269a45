//! IPv4 packets with IGMP: no bytes panic, and what was read is written so that it reads the same.

use std::net::{IpAddr, Ipv4Addr};

use wirerate_engine::multicast::message::{Defect, parse};

/// Reads `packet`.
pub fn check(packet: &[u8]) {
    again(packet, Ipv4Addr::new(192, 0, 2, 1).into());
}

/// Reads `packet`, and writes its message as if sent from `source`.
pub(crate) fn again(packet: &[u8], source: IpAddr) {
    let Ok(heard) = parse(packet) else { return };
    let _ = heard.is_valid();
    // What names something that is no group, or sources for no group, cannot be written.
    let Ok(packet) = heard.message.packet(source) else { return };
    let once_more = parse(&packet).expect("we wrote it");
    assert_eq!(once_more.message, heard.message);
    let addresses = |d: &Defect| matches!(d, Defect::NotAGroup(_) | Defect::NotASource(_));
    assert!(once_more.defects.iter().all(addresses), "{:?}", once_more.defects);
}
