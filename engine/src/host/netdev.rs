//! XDP features of a device, by the `netdev` family of generic netlink
//! (Documentation/netlink/specs/netdev.yaml; since kernel 6.3).
#![forbid(unsafe_code)]

use std::convert::Infallible;
use std::io;

use netlink_packet_core::{
    DefaultNla, Emitable, NetlinkDeserializable, NetlinkHeader, NetlinkSerializable, NlasIterator,
};
use netlink_sys::protocols::NETLINK_GENERIC;
use serde::Serialize;

use super::netlink;

/// GENL_ID_CTRL, CTRL_CMD_GETFAMILY and their attributes, from linux/genetlink.h.
const CONTROL: u16 = 0x10;
const GET_FAMILY: u8 = 3;
const FAMILY_ID: u16 = 1;
const FAMILY_NAME: u16 = 2;

/// NETDEV_CMD_DEV_GET and its attributes, from linux/netdev.h.
const DEV_GET: u8 = 1;
const IFINDEX: u16 = 1;
const XDP_FEATURES: u16 = 3;
const ZC_MAX_SEGS: u16 = 4;

/// What a driver can do with XDP (`enum netdev_xdp_act`).
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize)]
pub struct XdpFeatures {
    /// Runs programs in the driver: aborted, drop, pass, tx.
    pub native: bool,
    /// Carries out XDP_REDIRECT, which AF_XDP needs.
    pub redirect: bool,
    /// Is a target that frames can be redirected to, now.
    pub redirect_target: bool,
    /// AF_XDP in zero-copy mode.
    pub zero_copy: bool,
    /// Programs see frames of several buffers.
    pub multi_buffer: bool,
    /// Buffers that a zero-copy frame may be spread over.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub zero_copy_segments: Option<u32>,
}

impl XdpFeatures {
    fn from_bits(bits: u64, zero_copy_segments: Option<u32>) -> Self {
        let has = |bit: u32| bits & (1 << bit) != 0;
        Self {
            native: has(0),
            redirect: has(1),
            redirect_target: has(2),
            zero_copy: has(3),
            multi_buffer: has(5),
            zero_copy_segments,
        }
    }
}

/// The XDP features of the interface with this index; none where the kernel has no such family or device.
pub(crate) fn xdp_features(index: u32) -> Option<XdpFeatures> {
    let family = family_id("netdev").ok()??;
    let ask = Generic::new(family, DEV_GET, IFINDEX, index.to_ne_bytes().to_vec());
    let answers = netlink::ask(NETLINK_GENERIC, &ask, 0).ok()?;
    let answer = answers.first()?;
    let bits = u64::from_ne_bytes(answer.attribute(XDP_FEATURES)?.try_into().ok()?);
    let segments = answer.attribute(ZC_MAX_SEGS).and_then(|v| v.try_into().ok()).map(u32::from_ne_bytes);
    Some(XdpFeatures::from_bits(bits, segments))
}

fn family_id(name: &str) -> io::Result<Option<u16>> {
    let mut value = name.as_bytes().to_vec();
    value.push(0);
    let answers = netlink::ask(NETLINK_GENERIC, &Generic::new(CONTROL, GET_FAMILY, FAMILY_NAME, value), 0)?;
    let id = answers.first().and_then(|a| a.attribute(FAMILY_ID));
    Ok(id.and_then(|v| v.try_into().ok()).map(u16::from_ne_bytes))
}

/// A message of generic netlink: command, version, two reserved bytes, attributes.
#[derive(Debug, Clone)]
struct Generic {
    family: u16,
    body: Vec<u8>,
}

impl Generic {
    fn new(family: u16, command: u8, attribute: u16, value: Vec<u8>) -> Self {
        let nla = DefaultNla::new(attribute, value);
        let mut body = vec![0; 4 + nla.buffer_len()];
        body[..2].copy_from_slice(&[command, 1]);
        nla.emit(&mut body[4..]);
        Self { family, body }
    }

    fn attribute(&self, kind: u16) -> Option<Vec<u8>> {
        NlasIterator::new(self.body.get(4..)?)
            .map_while(std::result::Result::ok)
            .find(|nla| nla.kind() == kind)
            .map(|nla| nla.value().to_vec())
    }
}

impl NetlinkSerializable for Generic {
    fn message_type(&self) -> u16 {
        self.family
    }

    fn buffer_len(&self) -> usize {
        self.body.len()
    }

    fn serialize(&self, buffer: &mut [u8]) {
        buffer.copy_from_slice(&self.body);
    }
}

impl NetlinkDeserializable for Generic {
    type Error = Infallible;

    fn deserialize(header: &NetlinkHeader, payload: &[u8]) -> Result<Self, Infallible> {
        Ok(Self { family: header.message_type, body: payload.to_vec() })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn attributes_are_found_again() {
        let message = Generic::new(20, DEV_GET, IFINDEX, 7u32.to_ne_bytes().to_vec());
        assert_eq!(message.body.len(), 12);
        assert_eq!(message.attribute(IFINDEX), Some(7u32.to_ne_bytes().to_vec()));
        assert_eq!(message.attribute(XDP_FEATURES), None);
    }

    #[test]
    fn feature_bits() {
        let veth = XdpFeatures::from_bits(0x23, Some(1));
        assert!(
            veth.native && veth.redirect && veth.multi_buffer && !veth.zero_copy && !veth.redirect_target
        );
    }

    proptest::proptest! {
        #[test]
        fn odd_answers_never_panic(body in proptest::collection::vec(0u8..12, 0..64), kind in 0u16..8) {
            let _ = Generic { family: 1, body }.attribute(kind);
        }
    }
}
