//! The common header of PTP messages (IEEE 1588-2019 §13.3): who sends, what kind, in which domain.
#![forbid(unsafe_code)]

use std::fmt;

/// Bytes of the common header.
pub const HEADER_LEN: usize = 34;

/// UDP port of event messages, which are stamped.
pub const EVENT_PORT: u16 = 319;

/// UDP port of general messages.
pub const GENERAL_PORT: u16 = 320;

/// A domain that the standard reserves (§7.1.1 keeps 128 to 255 from use without an SDO): no clock listens to it.
pub const UNUSED_DOMAIN: u8 = 255;

/// Kinds of messages by their number (table 36).
const KINDS: [&str; 16] = [
    "sync",
    "delay_req",
    "pdelay_req",
    "pdelay_resp",
    "reserved",
    "reserved",
    "reserved",
    "reserved",
    "follow_up",
    "delay_resp",
    "pdelay_resp_follow_up",
    "announce",
    "signaling",
    "management",
    "reserved",
    "reserved",
];

/// A clock, by its identity: an EUI-64.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ClockIdentity(pub [u8; 8]);

impl ClockIdentity {
    /// The identity that a clock with this hardware address has (§7.5.2.2.2 of the 2008 edition).
    pub fn of_mac(mac: [u8; 6]) -> Self {
        let [a, b, c, d, e, f] = mac;
        Self([a, b, c, 0xff, 0xfe, d, e, f])
    }
}

/// As linuxptp writes it: `020000.fffe.000001`.
impl fmt::Display for ClockIdentity {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let [a, b, c, d, e, g, h, i] = self.0;
        write!(f, "{a:02x}{b:02x}{c:02x}.{d:02x}{e:02x}.{g:02x}{h:02x}{i:02x}")
    }
}

/// What the header of a message says.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Header {
    /// Number of its kind, 0 to 15.
    pub kind: u8,
    /// Version of the protocol: 2, or 1 of 2002, whose header is another.
    pub version: u8,
    /// Bytes of the message by its own word.
    pub length: u16,
    /// Domain.
    pub domain: u8,
    /// Clock that sent it.
    pub clock: ClockIdentity,
    /// Its port.
    pub port: u16,
    /// Number of the message.
    pub sequence: u16,
}

impl Header {
    /// Reads the header of a datagram; none where it is no message of version 2, or cut off.
    pub fn parse(datagram: &[u8]) -> Option<Self> {
        let header: &[u8; HEADER_LEN] = datagram.first_chunk()?;
        let word = |at: usize| u16::from_be_bytes([header[at], header[at + 1]]);
        let length = word(2);
        if header[1] & 0x0f != 2 || usize::from(length) < HEADER_LEN || usize::from(length) > datagram.len() {
            return None;
        }
        let mut clock = [0; 8];
        clock.copy_from_slice(&header[20..28]);
        Some(Self {
            kind: header[0] & 0x0f,
            version: header[1] & 0x0f,
            length,
            domain: header[4],
            clock: ClockIdentity(clock),
            port: word(28),
            sequence: word(30),
        })
    }

    /// Its kind as a word; reserved numbers are `reserved`.
    pub fn kind_name(&self) -> &'static str {
        KINDS[usize::from(self.kind & 0x0f)]
    }
}

/// A message that every clock ignores, as it belongs to a domain that none may use: Delay_Req for port 319, Signaling without contents for port 320.
pub fn probe(port: u16, clock: ClockIdentity, sequence: u16) -> [u8; 44] {
    let event = port == EVENT_PORT;
    let mut message = [0; 44];
    message[0] = if event { 1 } else { 12 };
    message[1] = 2;
    message[2..4].copy_from_slice(&44u16.to_be_bytes());
    message[4] = UNUSED_DOMAIN;
    message[20..28].copy_from_slice(&clock.0);
    message[28..30].copy_from_slice(&1u16.to_be_bytes());
    message[30..32].copy_from_slice(&sequence.to_be_bytes());
    // controlField of the 2008 edition: 1 for Delay_Req, 5 for all others.
    message[32] = if event { 1 } else { 5 };
    message[33] = 0x7f;
    if !event {
        // Signaling names whom it is for: nobody in particular.
        message[34..44].fill(0xff);
    }
    message
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_sent_is_read() {
        let clock = ClockIdentity::of_mac([2, 0, 0, 0, 0, 1]);
        assert_eq!(clock.to_string(), "020000.fffe.000001");
        for (port, kind) in [(EVENT_PORT, "delay_req"), (GENERAL_PORT, "signaling")] {
            let header = Header::parse(&probe(port, clock, 7)).unwrap();
            assert_eq!((header.kind_name(), header.domain, header.sequence), (kind, 255, 7));
            assert_eq!((header.clock, header.port, header.length), (clock, 1, 44));
        }
    }

    #[test]
    fn a_sync_of_linuxptp() {
        let mut message = [0u8; 44];
        message[..8].copy_from_slice(&[0x00, 0x12, 0x00, 0x2c, 0x00, 0x00, 0x02, 0x00]);
        message[20..32]
            .copy_from_slice(&[0x00, 0x1b, 0x21, 0xff, 0xfe, 0x11, 0x22, 0x33, 0x00, 0x01, 0x01, 0x02]);
        let header = Header::parse(&message).unwrap();
        assert_eq!((header.kind_name(), header.version, header.domain), ("sync", 2, 0));
        assert_eq!((header.clock.to_string().as_str(), header.sequence), ("001b21.fffe.112233", 258));
    }

    #[test]
    fn what_is_none() {
        let good = probe(EVENT_PORT, ClockIdentity([0; 8]), 0);
        assert!(Header::parse(&good[..33]).is_none() && Header::parse(&good[..43]).is_none());
        for (at, byte) in [(1, 1), (1, 3), (3, 33), (3, 45)] {
            let mut bad = good;
            bad[at] = byte;
            assert!(Header::parse(&bad).is_none(), "{at} {byte}");
        }
    }

    proptest::proptest! {
        #[test]
        fn any_datagram_is_read(bytes in proptest::collection::vec(proptest::prelude::any::<u8>(), 0..80)) {
            if let Some(header) = Header::parse(&bytes) {
                proptest::prop_assert!(usize::from(header.length) <= bytes.len() && !header.kind_name().is_empty());
            }
        }
    }
}
