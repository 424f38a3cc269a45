//! RTCP packets (RFC 3550 §6): sender and receiver reports, source descriptions, goodbyes. Application-defined packets, feedback and
//! extended reports (RFC 4585, RFC 3611) are passed over.
//!
//! A datagram holds several packets, one behind the other. RFC 3550 §6.1 wants a report first and a CNAME in each; what is read here
//! may also be of reduced size (RFC 5506), or a sender report alone, as simple senders have it. What is written is always compound.
//!
//! Written here rather than by a library: `rtcp-types` 0.3.0 takes the zeros that begin the SSRC of a second chunk of a description for padding
//! of the first, and looks at the version of the first packet only.
#![forbid(unsafe_code)]

mod emit;

pub use emit::{Compound, app_header};

/// Sender report.
pub const SR: u8 = 200;
/// Receiver report.
pub const RR: u8 = 201;
/// Source description.
pub const SDES: u8 = 202;
/// Goodbye.
pub const BYE: u8 = 203;
/// Application-defined.
pub const APP: u8 = 204;

/// Most report blocks, chunks or sources in one packet: its count has five bits.
pub const MAX_COUNT: usize = 31;

/// Bytes of a report block.
const BLOCK_LEN: usize = 24;

/// SDES item with the canonical name.
const CNAME: u8 = 1;

/// What a sender says of itself (RFC 3550 §6.4.1).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct SenderInfo {
    /// Wall clock when the report was sent, as NTP has it: seconds since 1900, 32.32.
    pub ntp: u64,
    /// The same time in units of the RTP time stamps, with their offset.
    pub rtp: u32,
    /// RTP packets sent so far, modulo 2³².
    pub packets: u32,
    /// Octets of their payload, without headers and padding, modulo 2³².
    pub octets: u32,
}

/// What a receiver says of one source (RFC 3550 §6.4.1).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ReportBlock {
    /// The source that this is about.
    pub ssrc: u32,
    /// Packets lost since the last report, in 256ths of those expected.
    pub fraction_lost: u8,
    /// Packets expected less those received, since the beginning; negative with duplicates. 24 bits.
    pub lost: i32,
    /// Highest sequence number received, extended by the count of its cycles.
    pub highest_seq: u32,
    /// Interarrival jitter in units of the time stamp.
    pub jitter: u32,
    /// The middle 32 bits of the NTP time of the last sender report; 0 when there was none.
    pub last_sr: u32,
    /// Time from its arrival to this report, in 1/65536 s.
    pub delay: u32,
}

/// One packet of a datagram.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Packet<'a> {
    /// Sender report.
    Sr {
        /// Who sends it.
        ssrc: u32,
        /// What it sent.
        info: SenderInfo,
        /// What it received.
        blocks: Vec<ReportBlock>,
    },
    /// Receiver report.
    Rr {
        /// Who sends it.
        ssrc: u32,
        /// What it received.
        blocks: Vec<ReportBlock>,
    },
    /// Source description: the CNAME of each source that says one.
    Sdes(Vec<(u32, &'a [u8])>),
    /// These sources leave.
    Bye {
        /// Which.
        ssrcs: Vec<u32>,
        /// Why, if they say so.
        reason: Option<&'a [u8]>,
    },
    /// Another type of packet.
    Other(u8),
}

/// Why a datagram is not RTCP.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum NotRtcp {
    /// It ends within a packet.
    #[error("it ends within a packet")]
    Short,
    /// Another version than 2.
    #[error("a packet is of version {0}")]
    Version(u8),
    /// A packet type outside 192 to 223 (RFC 5761 §4).
    #[error("packet type {0} is not of RTCP")]
    Type(u8),
    /// The contents do not fit the packet's length.
    #[error("the contents of a packet of type {0} do not fit its length")]
    Contents(u8),
    /// Padding that is not at the end, or is longer than its packet.
    #[error("the padding does not fit")]
    Padding,
}

/// Whether a datagram on a port that RTP shares is RTCP (RFC 5761 §4).
#[inline]
pub fn is_rtcp(datagram: &[u8]) -> bool {
    matches!(datagram, [first, 192..=223, ..] if first >> 6 == 2)
}

/// Reads all packets of a datagram.
///
/// # Errors
/// When any of them is not well-formed: then the whole datagram is not to be believed (RFC 3550 A.2).
pub fn parse(datagram: &[u8]) -> Result<Vec<Packet<'_>>, NotRtcp> {
    let mut packets = Vec::new();
    let mut rest = datagram;
    loop {
        let (&[first, kind, high, low], _) = rest.split_first_chunk().ok_or(NotRtcp::Short)?;
        if first >> 6 != 2 {
            return Err(NotRtcp::Version(first >> 6));
        }
        if !(192..=223).contains(&kind) {
            return Err(NotRtcp::Type(kind));
        }
        let len = (usize::from(u16::from_be_bytes([high, low])) + 1) * 4;
        let (packet, behind) = rest.split_at_checked(len).ok_or(NotRtcp::Short)?;
        let mut body = &packet[4..];
        if first & 0x20 != 0 {
            let padding = usize::from(*packet.last().ok_or(NotRtcp::Short)?);
            let last = behind.is_empty() && padding > 0 && padding.is_multiple_of(4);
            body = body
                .len()
                .checked_sub(padding)
                .filter(|_| last)
                .map(|n| &body[..n])
                .ok_or(NotRtcp::Padding)?;
        }
        packets.push(contents(kind, usize::from(first & 0x1f), body).ok_or(NotRtcp::Contents(kind))?);
        rest = behind;
        if rest.is_empty() {
            return Ok(packets);
        }
    }
}

/// A packet of type `kind` with `count` in its header and `body` behind its first word.
fn contents(kind: u8, count: usize, body: &[u8]) -> Option<Packet<'_>> {
    let mut reader = Reader(body);
    Some(match kind {
        SR => {
            let ssrc = reader.four()?;
            let ntp = u64::from(reader.four()?) << 32 | u64::from(reader.four()?);
            let info =
                SenderInfo { ntp, rtp: reader.four()?, packets: reader.four()?, octets: reader.four()? };
            Packet::Sr { ssrc, info, blocks: reader.blocks(count)? }
        }
        RR => Packet::Rr { ssrc: reader.four()?, blocks: reader.blocks(count)? },
        SDES => {
            let mut names = Vec::new();
            for _ in 0..count {
                let ssrc = reader.four()?;
                if let Some(name) = reader.items()? {
                    names.push((ssrc, name));
                }
            }
            Packet::Sdes(names)
        }
        BYE => {
            let ssrcs = (0..count).map(|_| reader.four()).collect::<Option<_>>()?;
            let reason = match reader.0.split_first() {
                Some((&len, text)) => Some(text.get(..usize::from(len))?),
                None => None,
            };
            Packet::Bye { ssrcs, reason }
        }
        other => Packet::Other(other),
    })
}

/// What is left of a packet's body.
struct Reader<'a>(&'a [u8]);

impl<'a> Reader<'a> {
    fn four(&mut self) -> Option<u32> {
        let (four, rest) = self.0.split_first_chunk()?;
        self.0 = rest;
        Some(u32::from_be_bytes(*four))
    }

    /// What follows the blocks is an extension that some profile defines (RFC 3550 §6.4.3).
    fn blocks(&mut self, count: usize) -> Option<Vec<ReportBlock>> {
        if self.0.len() < count * BLOCK_LEN {
            return None;
        }
        (0..count)
            .map(|_| {
                let (ssrc, loss) = (self.four()?, self.four()?);
                Some(ReportBlock {
                    ssrc,
                    fraction_lost: (loss >> 24) as u8,
                    // The sign is that of 24 bits.
                    lost: (loss << 8).cast_signed() >> 8,
                    highest_seq: self.four()?,
                    jitter: self.four()?,
                    last_sr: self.four()?,
                    delay: self.four()?,
                })
            })
            .collect()
    }

    /// The items of a chunk, up to the next word after the 0 that ends them: the canonical name, if there is one. `Some(None)` when there is
    /// none, `None` when they do not fit.
    #[expect(clippy::option_option, reason = "read or not, and named or not")]
    fn items(&mut self) -> Option<Option<&'a [u8]>> {
        let (all, mut at, mut name) = (self.0, 0, None);
        loop {
            let kind = *all.get(at)?;
            if kind == 0 {
                // At least one 0, then to the next word; the chunk began on one.
                self.0 = all.get((at / 4 + 1) * 4..)?;
                return Some(name);
            }
            let len = usize::from(*all.get(at + 1)?);
            let text = all.get(at + 2..at + 2 + len)?;
            if kind == CNAME {
                name = Some(text);
            }
            at += 2 + len;
        }
    }
}

#[cfg(test)]
mod tests;
