//! Whether a dropped skb is a datagram to a watched destination, and what it holds.
//!
//! Only the linear part is read, and only up to its end.

use aya_ebpf::macros::map;
use aya_ebpf::maps::HashMap;
use wirerate_ebpf_types::drops::{Content, Destination, Layout, ORIGIN_PORT, ORIGIN_RUN};

use crate::drops::read;

/// The watched destinations; a value says nothing. The loader sets the size.
#[map]
static DROP_DESTINATIONS: HashMap<Destination, u32> = HashMap::with_max_entries(1, 0);

/// `mac_header` when there is none.
const NO_HEADER: u16 = u16::MAX;

const ETHERNET: u32 = 14;
const VLAN_TAG: u32 = 4;
const UDP: u32 = 8;

const ETHERTYPE_IPV4: u16 = 0x0800;
const ETHERTYPE_IPV6: u16 = 0x86dd;
const ETHERTYPE_VLAN: u16 = 0x8100;
const ETHERTYPE_SERVICE_VLAN: u16 = 0x88a8;
const PROTOCOL_UDP: u8 = 17;

/// The probe header (`packet::probe` of the engine): its length, the ones' complement sum of its words, and the values of the
/// byte that holds version and kind.
const PROBE: u32 = 18;
const PROBE_SUM: u32 = 0x7772;
const PROBE_DATA: u8 = 0x10;
const PROBE_END: u8 = 0x11;
const PROBE_ANNOUNCE: u8 = 0x12;
const PROBE_FOLLOW_UP: u8 = 0x13;

/// RTP's fixed header (`packet::rtp` of the engine): its length, and its first byte without the padding flag, when it has neither CSRCs
/// nor an extension.
const RTP: u32 = 12;
const RTP_PLAIN: u8 = 0xdf;
const RTP_VERSION: u8 = 0x80;

/// The linear part of an skb: offsets count from `head`.
struct Linear {
    head: u64,
    end: u32,
}

impl Linear {
    #[inline(always)]
    fn read<T: Copy + Default>(&self, offset: u32) -> Option<T> {
        (offset.checked_add(size_of::<T>() as u32)? <= self.end).then(|| read(self.head, offset))
    }

    #[inline(always)]
    fn read_u16(&self, offset: u32) -> Option<u16> {
        self.read::<[u8; 2]>(offset).map(u16::from_be_bytes)
    }
}

/// Destination port, [`Content`] and origin of a datagram to a watched destination; zeros for everything else.
///
/// Which headers an skb points to depends on where it was dropped: on its way in the link layer's, on its way out the network
/// layer's, and in the hands of a sender of whole frames neither.
#[inline(always)]
pub fn watched(layout: &Layout, skb: u64) -> (u16, u16, u32) {
    let linear = Linear { head: read(skb, layout.skb_head), end: read(skb, layout.skb_tail) };
    let mut found = 0_u64;
    let link: u16 = read(skb, layout.skb_mac_header);
    if link != NO_HEADER {
        found = in_packet(&linear, network_header(&linear, u32::from(link)));
    }
    if found == 0 {
        let network: u16 = read(skb, layout.skb_network_header);
        found = in_packet(&linear, u32::from(network));
    }
    if found == 0 {
        let data = read::<u64>(skb, layout.skb_data).wrapping_sub(linear.head);
        found = in_packet(&linear, network_header(&linear, data as u32));
    }
    ((found >> 48) as u16, (found >> 32) as u16, found as u32)
}

/// Where the IP header of the Ethernet frame at `offset` begins; 0 when it has none.
#[inline(always)]
fn network_header(linear: &Linear, offset: u32) -> u32 {
    let mut network = offset.saturating_add(ETHERNET);
    for _ in 0..=2 {
        match linear.read_u16(network.saturating_sub(2)) {
            Some(ETHERTYPE_VLAN | ETHERTYPE_SERVICE_VLAN) => network = network.saturating_add(VLAN_TAG),
            Some(ETHERTYPE_IPV4 | ETHERTYPE_IPV6) => return network,
            _ => return 0,
        }
    }
    0
}

/// As [`watched`], of the IP packet at `offset` (0: there is none): port and content in the upper half, the origin in the lower. A plain number, because the verifier
/// takes no value that is undefined in part, as that of an `Option` can be.
#[inline(always)]
fn in_packet(linear: &Linear, offset: u32) -> u64 {
    if offset == 0 { 0 } else { in_datagram(linear, offset).unwrap_or(0) }
}

#[inline(always)]
fn in_datagram(linear: &Linear, offset: u32) -> Option<u64> {
    let first: u8 = linear.read(offset)?;
    let mut destination = Destination { address: [0; 4], port: 0, version: u16::from(first >> 4) };
    let transport = match destination.version {
        4 => {
            let protocol: u8 = linear.read(offset.wrapping_add(9))?;
            // Only a first fragment has the ports.
            let is_first = linear.read_u16(offset.wrapping_add(6))? & 0x1fff == 0;
            if protocol != PROTOCOL_UDP || !is_first {
                return None;
            }
            destination.address[0] = linear.read(offset.wrapping_add(16))?;
            offset.wrapping_add(u32::from(first & 0x0f) * 4)
        }
        6 => {
            let next: u8 = linear.read(offset.wrapping_add(6))?;
            if next != PROTOCOL_UDP {
                return None;
            }
            destination.address = linear.read(offset.wrapping_add(24))?;
            offset.wrapping_add(40)
        }
        _ => return None,
    };
    destination.port = linear.read_u16(transport.wrapping_add(2))?;
    if DROP_DESTINATIONS.get_ptr(&destination).is_none() {
        destination.address = [0; 4];
        DROP_DESTINATIONS.get_ptr(&destination)?;
    }
    let payload = u32::from(linear.read_u16(transport.wrapping_add(4))?).saturating_sub(UDP);
    let (content, run) = content(linear, transport.wrapping_add(UDP), payload);
    let origin = match run {
        Some(run) => ORIGIN_RUN | run,
        // What a super-buffer holds lies where it cannot be read. Strangers' ports are nobody's business, and many.
        None if matches!(content, Content::Data) => ORIGIN_PORT | u32::from(linear.read_u16(transport)?),
        None => 0,
    };
    Some(u64::from(destination.port) << 48 | (content as u64) << 32 | u64::from(origin))
}

/// What the `length` bytes of payload at `offset` are, and of which run.
#[inline(always)]
fn content(linear: &Linear, offset: u32, length: u32) -> (Content, Option<u32>) {
    if length < PROBE {
        return (Content::Other, None);
    }
    let Some(header) = linear.read::<[u8; PROBE as usize]>(offset) else { return (Content::Data, None) };
    if is_probe_sum(sum(&header)) {
        return kind(&header);
    }
    // The probe may stand behind an RTP header, which its check takes up, too.
    if header[0] & RTP_PLAIN == RTP_VERSION
        && length >= RTP + PROBE
        && let Some(behind) = linear.read::<[u8; PROBE as usize]>(offset.wrapping_add(RTP))
    {
        let rtp = header.first_chunk::<{ RTP as usize }>();
        if rtp.is_some_and(|rtp| is_probe_sum(sum(rtp) + sum(&behind))) {
            return kind(&behind);
        }
    }
    (Content::Other, None)
}

#[inline(always)]
fn sum<const N: usize>(bytes: &[u8; N]) -> u32 {
    let mut sum = 0;
    for word in 0..N / 2 {
        sum += u32::from(u16::from_be_bytes([bytes[2 * word], bytes[2 * word + 1]]));
    }
    sum
}

#[inline(always)]
fn is_probe_sum(sum: u32) -> bool {
    // Folding once may leave a carry, but never next to this sum.
    (sum & 0xffff) + (sum >> 16) == PROBE_SUM
}

/// What a probe header says that it is of.
#[inline(always)]
fn kind(header: &[u8; PROBE as usize]) -> (Content, Option<u32>) {
    let run = u32::from_be_bytes([0, header[3], header[4], header[5]]);
    match header[2] {
        PROBE_DATA => (Content::Data, Some(run)),
        PROBE_END | PROBE_ANNOUNCE | PROBE_FOLLOW_UP => (Content::Message, Some(run)),
        _ => (Content::Other, Some(run)),
    }
}
