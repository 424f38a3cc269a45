//! RTP packets (RFC 3550 §5.1, §5.3.1), header extensions by element (RFC 8285), the static payload types (RFC 3551 §6).
//!
//! ```text
//! byte  0      version 2 (high 2 bits), padding, extension, count of CSRCs (low 4 bits)
//!       1      marker (high bit), payload type
//!       2..4   sequence number
//!       4..8   time stamp, in units of the payload type's clock
//!       8..12  SSRC
//!      12..    CSRCs, four bytes each; extension: profile 16, length 16 in words, words; payload; padding, whose last byte counts it
//! ```

use super::checksum::{fold, sum};
use super::probe::{self, Probe};

/// The fixed header, bytes.
pub const HEADER_LEN: usize = 12;

/// The only version there is.
pub const VERSION: u8 = 2;

/// Most contributing sources that a header has room for.
pub const MAX_CSRCS: usize = 15;

/// Payload type of an MPEG-2 transport stream (RFC 2250 §2).
pub const PT_MP2T: u8 = 33;

/// Profile of an extension of one-byte elements (RFC 8285 §4.2).
pub const ONE_BYTE: u16 = 0xbede;

/// The fields of the fixed header that belong to every packet.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Header {
    /// Marker bit: what it means is the profile's business.
    pub marker: bool,
    /// Payload type, 7 bits.
    pub payload_type: u8,
    /// Sequence number, low 16 bits.
    pub sequence: u16,
    /// Time stamp, in units of the payload type's clock.
    pub timestamp: u32,
    /// Synchronization source.
    pub ssrc: u32,
}

/// A header extension: what its profile says, and its words.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Extension<'a> {
    /// 16 bits that the profile defines.
    pub profile: u16,
    /// The extension without its four-byte header: a multiple of four bytes.
    pub data: &'a [u8],
}

/// An RTP packet as it lies in a datagram.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Rtp<'a> {
    /// The fixed header.
    pub header: Header,
    /// Contributing sources, four bytes each; see [`Rtp::csrcs`].
    csrcs: &'a [u8],
    /// The header extension.
    pub extension: Option<Extension<'a>>,
    /// What the packet carries, without padding.
    pub payload: &'a [u8],
    /// Bytes of padding at its end, the one that counts them among them; 0 is none.
    pub padding: u8,
}

/// Why a datagram is not an RTP packet.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum NotRtp {
    /// Shorter than its header says it is.
    Short,
    /// Another version than [`VERSION`].
    Version,
    /// The count of padding bytes is 0 or more than what follows the header.
    Padding,
}

impl Header {
    /// Writes a header without CSRCs, extension and padding to the start of `datagram`.
    ///
    /// # Panics
    /// When `datagram` is shorter than [`HEADER_LEN`].
    #[inline]
    pub fn emit(&self, datagram: &mut [u8]) {
        self.write(VERSION << 6, datagram);
    }

    #[inline]
    fn write(&self, first: u8, datagram: &mut [u8]) {
        let header: &mut [u8; HEADER_LEN] =
            (&mut datagram[..HEADER_LEN]).try_into().expect("sliced to the length");
        header[0] = first;
        header[1] = u8::from(self.marker) << 7 | (self.payload_type & 0x7f);
        header[2..4].copy_from_slice(&self.sequence.to_be_bytes());
        header[4..8].copy_from_slice(&self.timestamp.to_be_bytes());
        header[8..12].copy_from_slice(&self.ssrc.to_be_bytes());
    }

    /// Reads the fixed fields at the start of `datagram`, whatever follows them.
    ///
    /// # Errors
    /// When the datagram is too short, or of another version.
    #[inline]
    pub fn parse(datagram: &[u8]) -> Result<Self, NotRtp> {
        let header: &[u8; HEADER_LEN] = datagram.first_chunk().ok_or(NotRtp::Short)?;
        if header[0] >> 6 != VERSION {
            return Err(NotRtp::Version);
        }
        let four = |at: usize| u32::from_be_bytes(header[at..at + 4].try_into().expect("four bytes"));
        Ok(Self {
            marker: header[1] & 0x80 != 0,
            payload_type: header[1] & 0x7f,
            sequence: u16::from_be_bytes([header[2], header[3]]),
            timestamp: four(4),
            ssrc: four(8),
        })
    }
}

impl<'a> Rtp<'a> {
    /// Reads the packet that `datagram`, a UDP payload, is.
    ///
    /// # Errors
    /// Says what does not fit (RFC 3550 A.1, the checks of a single packet).
    #[inline]
    pub fn parse(datagram: &'a [u8]) -> Result<Self, NotRtp> {
        let header = Header::parse(datagram)?;
        let first = datagram[0];
        if first & 0x3f == 0 {
            // What most senders send.
            let payload = &datagram[HEADER_LEN..];
            return Ok(Self { header, csrcs: &[], extension: None, payload, padding: 0 });
        }
        Self::with_options(header, first, &datagram[HEADER_LEN..])
    }

    /// As [`parse`](Self::parse), of a datagram that [looks like RTP](looks_like_rtp); `None` when it does not.
    #[inline]
    pub fn recognise(datagram: &'a [u8]) -> Option<Self> {
        let second = *datagram.get(1)?;
        if (192..=223).contains(&second) { None } else { Self::parse(datagram).ok() }
    }

    fn with_options(header: Header, first: u8, rest: &'a [u8]) -> Result<Self, NotRtp> {
        let (csrcs, mut rest) = rest.split_at_checked(usize::from(first & 0x0f) * 4).ok_or(NotRtp::Short)?;
        let mut extension = None;
        if first & 0x10 != 0 {
            let (head, behind) = rest.split_first_chunk::<4>().ok_or(NotRtp::Short)?;
            let words = u16::from_be_bytes([head[2], head[3]]);
            let (data, behind) = behind.split_at_checked(usize::from(words) * 4).ok_or(NotRtp::Short)?;
            extension = Some(Extension { profile: u16::from_be_bytes([head[0], head[1]]), data });
            rest = behind;
        }
        let mut padding = 0;
        if first & 0x20 != 0 {
            padding = *rest.last().ok_or(NotRtp::Padding)?;
            if padding == 0 || usize::from(padding) > rest.len() {
                return Err(NotRtp::Padding);
            }
        }
        let payload = &rest[..rest.len() - usize::from(padding)];
        Ok(Self { header, csrcs, extension, payload, padding })
    }

    /// The contributing sources.
    pub fn csrcs(&self) -> impl ExactSizeIterator<Item = u32> + 'a {
        self.csrcs.chunks_exact(4).map(|four| u32::from_be_bytes(four.try_into().expect("chunks of four")))
    }
}

/// What a sender says in a header, for [`Options::emit`].
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Options<'a> {
    /// Contributing sources, [`MAX_CSRCS`] at most.
    pub csrcs: &'a [u32],
    /// The header extension; its data a multiple of four bytes.
    pub extension: Option<Extension<'a>>,
    /// Bytes of padding, the one that counts them among them; 0 is none.
    pub padding: u8,
}

impl Options<'_> {
    /// Bytes before the payload: the fixed header, CSRCs and extension.
    pub fn header_len(&self) -> usize {
        HEADER_LEN + self.csrcs.len() * 4 + self.extension.map_or(0, |extension| 4 + extension.data.len())
    }

    /// Writes header, CSRCs and extension to the start of `datagram`, and padding to its end; what lies between them, the payload, is the
    /// caller's.
    ///
    /// # Panics
    /// When there are more than [`MAX_CSRCS`] CSRCs, when the extension's data is no multiple of four bytes or more than 2^16 - 1 words, or
    /// when `datagram` is shorter than header and padding.
    pub fn emit(&self, header: &Header, datagram: &mut [u8]) {
        assert!(self.csrcs.len() <= MAX_CSRCS, "{} CSRCs", self.csrcs.len());
        let (len, padding) = (self.header_len(), usize::from(self.padding));
        assert!(datagram.len() >= len + padding, "no room for the header");
        let first = VERSION << 6
            | u8::from(padding > 0) << 5
            | u8::from(self.extension.is_some()) << 4
            | self.csrcs.len() as u8;
        header.write(first, datagram);
        let mut at = HEADER_LEN;
        for csrc in self.csrcs {
            datagram[at..at + 4].copy_from_slice(&csrc.to_be_bytes());
            at += 4;
        }
        if let Some(Extension { profile, data }) = self.extension {
            assert!(data.len().is_multiple_of(4), "an extension of {} bytes", data.len());
            let words = u16::try_from(data.len() / 4).expect("an extension has up to 65535 words");
            datagram[at..at + 2].copy_from_slice(&profile.to_be_bytes());
            datagram[at + 2..at + 4].copy_from_slice(&words.to_be_bytes());
            datagram[at + 4..at + 4 + data.len()].copy_from_slice(data);
        }
        if padding > 0 {
            let end = datagram.len();
            datagram[end - padding..end - 1].fill(0);
            datagram[end - 1] = self.padding;
        }
    }
}

/// An element of a header extension.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Element<'a> {
    /// Local identifier: 1 to 14 in one-byte form, 1 to 255 in two-byte form.
    pub id: u8,
    /// Its data.
    pub data: &'a [u8],
}

impl<'a> Extension<'a> {
    /// The elements by RFC 8285; none when the profile is not one of its two, which leaves the data to the profile.
    pub fn elements(&self) -> Elements<'a> {
        let form = match self.profile {
            ONE_BYTE => Form::OneByte,
            // "appbits" are the low four (RFC 8285 §4.3).
            0x1000..=0x100f => Form::TwoByte,
            _ => return Elements { form: Form::OneByte, rest: &[] },
        };
        Elements { form, rest: self.data }
    }
}

#[derive(Debug, Clone, Copy)]
enum Form {
    OneByte,
    TwoByte,
}

/// Iterates over the elements of an extension; an element that is cut short ends it.
#[derive(Debug, Clone, Copy)]
pub struct Elements<'a> {
    form: Form,
    rest: &'a [u8],
}

impl<'a> Iterator for Elements<'a> {
    type Item = Element<'a>;

    fn next(&mut self) -> Option<Element<'a>> {
        loop {
            let (&first, rest) = self.rest.split_first()?;
            if first == 0 {
                // Padding between elements.
                self.rest = rest;
                continue;
            }
            let found = match self.form {
                // Identifier 15 is reserved, and ends the elements (RFC 8285 §4.2).
                Form::OneByte if first >> 4 == 15 => None,
                Form::OneByte => rest
                    .split_at_checked(usize::from(first & 0x0f) + 1)
                    .map(|(data, behind)| (Element { id: first >> 4, data }, behind)),
                Form::TwoByte => rest.split_first().and_then(|(&len, rest)| {
                    let (data, behind) = rest.split_at_checked(usize::from(len))?;
                    Some((Element { id: first, data }, behind))
                }),
            };
            let (element, behind) = found.unzip();
            self.rest = behind.unwrap_or(&[]);
            return element;
        }
    }
}

/// Whether `datagram` may be RTP: version, lengths and padding fit, and its second byte is not that of an RTCP packet on the same
/// port (RFC 5761 §4: packet types 192 to 223, which would be the payload types 64 to 95 with a marker).
///
/// One datagram in four of random bytes passes the version alone: only consecutive numbers make it RTP (RFC 3550 A.1).
pub fn looks_like_rtp(datagram: &[u8]) -> bool {
    Rtp::recognise(datagram).is_some()
}

/// Fixed header and probe header, bytes: what a packet has at least that is to be measured as exactly as wirerate's own.
pub const PROBED_LEN: usize = HEADER_LEN + probe::LEN;

/// Writes `probe` behind the fixed header that `datagram` begins with. Its check takes up that header as well: the ones' complement sum of
/// both is [`probe::CHECK_SUM`], so that the UDP checksum stays a stream's constant while number and time stamp change.
///
/// # Panics
/// When `datagram` is shorter than [`PROBED_LEN`].
#[inline]
pub fn emit_probe(datagram: &mut [u8], probe: &Probe) {
    let headers: &mut [u8; PROBED_LEN] =
        (&mut datagram[..PROBED_LEN]).try_into().expect("sliced to the length");
    probe.emit(&mut headers[HEADER_LEN..]);
    headers[HEADER_LEN..HEADER_LEN + 2].fill(0);
    // Subtraction in ones' complement is addition of the complement.
    let check = fold(u64::from(probe::CHECK_SUM) + u64::from(!fold(sum(headers))));
    headers[HEADER_LEN..HEADER_LEN + 2].copy_from_slice(&check.to_be_bytes());
}

/// The probe behind the fixed header of an RTP packet without CSRCs and extension, if there is one: see [`emit_probe`].
#[inline]
pub fn parse_probe(datagram: &[u8]) -> Option<Probe> {
    let headers: &[u8; PROBED_LEN] = datagram.first_chunk()?;
    let plain = headers[0] & 0xdf == VERSION << 6;
    if !plain || fold(sum(headers)) != probe::CHECK_SUM {
        return None;
    }
    Probe::parse_unchecked(&headers[HEADER_LEN..]).ok()
}

/// A payload type with a meaning of its own (RFC 3551 §6, tables 4 and 5).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct PayloadType {
    /// The encoding's name.
    pub name: &'static str,
    /// Units of the time stamp in a second, Hz.
    pub clock_hz: u32,
}

/// What RFC 3551 says of payload type `number`; `None` when it is dynamic (96 to 127), reserved or unassigned.
pub const fn static_type(number: u8) -> Option<PayloadType> {
    let (name, clock_hz) = match number {
        0 => ("PCMU", 8000),
        3 => ("GSM", 8000),
        4 => ("G723", 8000),
        5 => ("DVI4", 8000),
        6 => ("DVI4", 16_000),
        7 => ("LPC", 8000),
        8 => ("PCMA", 8000),
        // 8000 for history's sake; it samples at 16 kHz (RFC 3551 §4.5.2).
        9 => ("G722", 8000),
        10 | 11 => ("L16", 44_100),
        12 => ("QCELP", 8000),
        13 => ("CN", 8000),
        14 => ("MPA", 90_000),
        15 => ("G728", 8000),
        16 => ("DVI4", 11_025),
        17 => ("DVI4", 22_050),
        18 => ("G729", 8000),
        25 => ("CelB", 90_000),
        26 => ("JPEG", 90_000),
        28 => ("nv", 90_000),
        31 => ("H261", 90_000),
        32 => ("MPV", 90_000),
        PT_MP2T => ("MP2T", 90_000),
        34 => ("H263", 90_000),
        _ => return None,
    };
    Some(PayloadType { name, clock_hz })
}

#[cfg(test)]
#[path = "rtp_tests.rs"]
mod tests;
