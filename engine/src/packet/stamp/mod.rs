//! Test packets of STAMP (RFC 8762) in unauthenticated mode, with the session identifier and the TLVs of RFC 8972.
//!
//! ```text
//! session-sender (§4.2.1)                 session-reflector (§4.3.1)
//!  0  sequence number 32                   0  sequence number 32
//!  4  time stamp 64, T1                    4  time stamp 64, T3
//! 12  error estimate 16                   12  error estimate 16
//! 14  SSID 16                             14  SSID 16
//! 16  zero, to 44                         16  receive time stamp 64, T2
//!                                         24  the sender's sequence number 32, time stamp 64, error estimate 16, zero 16
//!                                         40  the sender's TTL 8, zero 24
//! 44  TLVs                                44  TLVs
//! ```
//!
//! All big-endian. A TWAMP-Test sender's packet (RFC 5357 §4.1.2) begins alike and has padding from byte 14 on; its reflector's has 41
//! bytes and padding. Authenticated packets (112 bytes, §4.2.2) are told apart and not read.
#![forbid(unsafe_code)]

mod time;
pub mod tlv;

pub use time::{ErrorEstimate, Format};

/// The UDP port of session-reflectors (RFC 8762 §4.1).
pub const PORT: u16 = 862;

/// The base packet of either end, bytes.
pub const LEN: usize = 44;

/// The shortest packet of a TWAMP-Test sender: what an unauthenticated packet begins with.
pub const SHORTEST: usize = 14;

/// The shortest packet of a TWAMP-Test reflector: up to the sender's TTL.
pub const SHORTEST_ANSWER: usize = 41;

/// A session-sender's packet.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Request {
    /// Counts from 0.
    pub sequence: u32,
    /// T1, in the format that `error` tells.
    pub timestamp: u64,
    /// Of T1.
    pub error: ErrorEstimate,
    /// Session identifier (RFC 8972 §3); 0: none.
    pub ssid: u16,
}

/// A session-reflector's packet.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Answer {
    /// Of a stateful reflector, its own count of the session's answers from 0; of a stateless one, the sender's.
    pub sequence: u32,
    /// T3, in the format that `error` tells.
    pub timestamp: u64,
    /// Of T2 and T3.
    pub error: ErrorEstimate,
    /// As in the request; 0 of a reflector that knows none.
    pub ssid: u16,
    /// T2, in the same format.
    pub received: u64,
    /// The request's sequence number.
    pub sender_sequence: u32,
    /// The request's T1.
    pub sender_timestamp: u64,
    /// The request's error estimate as it came.
    pub sender_error: u16,
    /// TTL or hop limit that the request arrived with.
    pub sender_ttl: u8,
}

/// Why a packet is not one that a session-reflector answers.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum NotARequest {
    /// Shorter than [`SHORTEST`].
    Short,
    /// In authenticated mode, which is not spoken here.
    Authenticated,
    /// An error estimate with a multiplier of 0.
    Corrupt,
    /// Another reflector's answer: two of them would go on answering each other for ever.
    Answer,
}

impl Request {
    /// Writes the base packet to the start of `packet`.
    ///
    /// # Panics
    /// When `packet` is shorter than [`LEN`].
    pub fn emit(&self, packet: &mut [u8]) {
        let base = &mut packet[..LEN];
        base.fill(0);
        base[0..4].copy_from_slice(&self.sequence.to_be_bytes());
        base[4..12].copy_from_slice(&self.timestamp.to_be_bytes());
        base[12..14].copy_from_slice(&self.error.bits().to_be_bytes());
        base[14..16].copy_from_slice(&self.ssid.to_be_bytes());
    }

    /// Reads a packet that came to a session-reflector. What has to be zero may be anything, unless it makes the packet an answer.
    ///
    /// # Errors
    /// Why it is not to be answered.
    pub fn parse(packet: &[u8]) -> Result<Self, NotARequest> {
        let head: &[u8; SHORTEST] = packet.first_chunk().ok_or(NotARequest::Short)?;
        let error = ErrorEstimate::from_bits(word(head, 12));
        // Where an authenticated packet has twelve zeros, an unauthenticated one has its time.
        if packet.len() >= 112 && error.is_none() && head[4..14].iter().all(|byte| *byte == 0) {
            return Err(NotARequest::Authenticated);
        }
        let error = error.ok_or(NotARequest::Corrupt)?;
        if is_answer(packet) {
            return Err(NotARequest::Answer);
        }
        let ssid = if packet.len() >= LEN { word(packet, 14) } else { 0 };
        Ok(Self { sequence: double(head, 0), timestamp: quad(head, 4), error, ssid })
    }
}

/// Whether what is zero in an answer is, and what is not, is not. A request has zeros throughout, or random padding, of which one in 2^40 looks so.
fn is_answer(packet: &[u8]) -> bool {
    packet.len() >= SHORTEST_ANSWER
        && ErrorEstimate::from_bits(word(packet, 36)).is_some()
        && packet[38..40].iter().chain(&packet[SHORTEST_ANSWER..LEN.min(packet.len())]).all(|byte| *byte == 0)
        && packet[16..24].iter().any(|byte| *byte != 0)
}

impl Answer {
    /// The answer to `request`, which came at `received` with this TTL; its T3 is that, too, until it is set.
    pub fn to(request: &Request, sequence: u32, received: u64, ttl: u8, error: ErrorEstimate) -> Self {
        Self {
            sequence,
            timestamp: received,
            error,
            ssid: request.ssid,
            received,
            sender_sequence: request.sequence,
            sender_timestamp: request.timestamp,
            sender_error: request.error.bits(),
            sender_ttl: ttl,
        }
    }

    /// Writes as much of the base packet as `packet` has room for.
    pub fn emit(&self, packet: &mut [u8]) {
        let mut base = [0; LEN];
        base[0..4].copy_from_slice(&self.sequence.to_be_bytes());
        base[4..12].copy_from_slice(&self.timestamp.to_be_bytes());
        base[12..14].copy_from_slice(&self.error.bits().to_be_bytes());
        base[14..16].copy_from_slice(&self.ssid.to_be_bytes());
        base[16..24].copy_from_slice(&self.received.to_be_bytes());
        base[24..28].copy_from_slice(&self.sender_sequence.to_be_bytes());
        base[28..36].copy_from_slice(&self.sender_timestamp.to_be_bytes());
        base[36..38].copy_from_slice(&self.sender_error.to_be_bytes());
        base[40] = self.sender_ttl;
        let len = packet.len().min(LEN);
        packet[..len].copy_from_slice(&base[..len]);
    }

    /// Reads a packet that came to a session-sender; `None` when it is too short or its error estimate is corrupt.
    pub fn parse(packet: &[u8]) -> Option<Self> {
        let base: &[u8; SHORTEST_ANSWER] = packet.first_chunk()?;
        Some(Self {
            sequence: double(base, 0),
            timestamp: quad(base, 4),
            error: ErrorEstimate::from_bits(word(base, 12))?,
            ssid: word(base, 14),
            received: quad(base, 16),
            sender_sequence: double(base, 24),
            sender_timestamp: quad(base, 28),
            sender_error: word(base, 36),
            sender_ttl: base[40],
        })
    }
}

fn word(bytes: &[u8], at: usize) -> u16 {
    u16::from_be_bytes([bytes[at], bytes[at + 1]])
}

fn double(bytes: &[u8], at: usize) -> u32 {
    u32::from(word(bytes, at)) << 16 | u32::from(word(bytes, at + 2))
}

fn quad(bytes: &[u8], at: usize) -> u64 {
    u64::from(double(bytes, at)) << 32 | u64::from(double(bytes, at + 4))
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn request() -> impl Strategy<Value = Request> {
        (any::<u32>(), any::<u64>(), any::<u16>(), 1u16..256, any::<u16>()).prop_map(
            |(sequence, timestamp, error, multiplier, ssid)| {
                let error = ErrorEstimate::from_bits(error & 0xff00 | multiplier).unwrap();
                Request { sequence, timestamp, error, ssid }
            },
        )
    }

    #[test]
    fn the_layout() {
        let error = ErrorEstimate::from_bits(0x9d80).unwrap();
        let request = Request { sequence: 1, timestamp: 0x0203_0405_0607_0809, error, ssid: 0x0a0b };
        let mut bytes = [0xff; LEN];
        request.emit(&mut bytes);
        let head = [0, 0, 0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 0x9d, 0x80, 0x0a, 0x0b];
        assert_eq!(bytes[..16], head);
        assert_eq!(bytes[16..], [0; 28]);
        let mut answer =
            Answer::to(&request, 5, 0x1112_1314_1516_1718, 64, ErrorEstimate::from_bits(0x4001).unwrap());
        answer.timestamp = 0x2122_2324_2526_2728;
        answer.emit(&mut bytes);
        assert_eq!(
            bytes[..16],
            [0, 0, 0, 5, 0x21, 0x22, 0x23, 0x24, 0x25, 0x26, 0x27, 0x28, 0x40, 1, 0x0a, 0x0b]
        );
        assert_eq!(bytes[16..24], [0x11, 0x12, 0x13, 0x14, 0x15, 0x16, 0x17, 0x18]);
        assert_eq!(bytes[24..38], head[..14]);
        assert_eq!(bytes[38..], [0, 0, 64, 0, 0, 0]);
    }

    #[test]
    fn what_is_not_answered() {
        let request =
            Request { sequence: 1, timestamp: 2, error: ErrorEstimate::from_bits(1).unwrap(), ssid: 0 };
        let mut bytes = [0; 112];
        assert_eq!(Request::parse(&bytes[..13]), Err(NotARequest::Short));
        assert_eq!(Request::parse(&bytes[..44]), Err(NotARequest::Corrupt));
        assert_eq!(Request::parse(&bytes), Err(NotARequest::Authenticated));
        request.emit(&mut bytes);
        for len in [14, 41, 44, 112] {
            assert_eq!(Request::parse(&bytes[..len]), Ok(request));
        }
        Answer::to(&request, 1, 3, 255, request.error).emit(&mut bytes);
        assert!(Request::parse(&bytes[..40]).is_ok(), "no answer is as short");
        for len in [41, 44, 112] {
            assert_eq!(Request::parse(&bytes[..len]).map(|_| len), Err(NotARequest::Answer));
        }
    }

    proptest! {
        #[test]
        fn requests_read_back(request in request(), more in prop::collection::vec(any::<u8>(), 0..80)) {
            let mut bytes = vec![0; LEN];
            bytes.extend(more);
            request.emit(&mut bytes);
            prop_assert_eq!(Request::parse(&bytes), Ok(request));
        }

        #[test]
        fn answers_read_back_and_are_not_answered(
            request in request(), sequence: u32, received in 1u64.., timestamp: u64, ttl: u8, len in SHORTEST_ANSWER..100,
        ) {
            let mut answer = Answer::to(&request, sequence, received, ttl, request.error);
            answer.timestamp = timestamp;
            let mut bytes = vec![0; len];
            answer.emit(&mut bytes);
            prop_assert_eq!(Answer::parse(&bytes), Some(answer));
            prop_assert_eq!(Request::parse(&bytes), Err(NotARequest::Answer));
            prop_assert_eq!(Answer::parse(&bytes[..SHORTEST_ANSWER - 1]), None);
        }

        #[test]
        fn no_bytes_panic(bytes in prop::collection::vec(any::<u8>(), 0..130)) {
            let _ = Request::parse(&bytes);
            let _ = Answer::parse(&bytes);
        }
    }
}
