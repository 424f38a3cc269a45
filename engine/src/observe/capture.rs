//! Packets of a capture in a file, pcap or pcapng, one after the other.
#![forbid(unsafe_code)]

use std::fs::File;
use std::io::Read;
use std::path::{Path, PathBuf};

use pcap_parser::traits::PcapReaderIterator;
use pcap_parser::{Block, Linktype, PcapBlockOwned, PcapError, create_reader};

use crate::error::{Error, Result};
use crate::packet::ethernet::{self, Ethernet};

/// Bytes read at once: more than any packet has.
const BUFFER: usize = 1 << 20;

const SECOND_NS: u64 = 1_000_000_000;

/// Link type of Linux's second "cooked" capture.
const LINUX_SLL2: Linktype = Linktype(276);

/// How an interface of the capture writes its packets.
#[derive(Debug, Clone)]
struct Link {
    kind: Linktype,
    /// Time stamps in a second.
    resolution: u64,
    /// Seconds to be added to them.
    offset: i64,
    name: Option<String>,
}

/// A packet of a capture.
#[derive(Debug)]
pub(crate) struct Packet<'a> {
    kind: Linktype,
    /// Since 1970 UTC, in ns.
    pub stamp_ns: u64,
    /// From the link layer's header on, as far as it was kept.
    pub frame: &'a [u8],
    /// Which interface of the capture it is of, from 0.
    pub interface: usize,
    /// The interface's name, where the capture tells it (pcapng).
    pub interface_name: Option<&'a str>,
}

impl Packet<'_> {
    /// Bytes in front of the IP header; `None` where there is none, or the link type is not known.
    pub fn link_len(&self) -> Option<usize> {
        link_len(self.kind, self.frame)
    }

    /// Whether the link type is known.
    pub fn has_known_link(&self) -> bool {
        knows(self.kind)
    }
}

/// A capture that is being read.
pub(crate) struct Capture<'a> {
    reader: Box<dyn PcapReaderIterator + Send + 'a>,
    links: Vec<Link>,
    name: PathBuf,
}

impl<'a> Capture<'a> {
    /// Opens `file`.
    ///
    /// # Errors
    /// Usage: it cannot be opened, or is no capture.
    pub fn open(file: &Path) -> Result<Self> {
        let opened = File::open(file)
            .map_err(|e| Error::usage(format!("--pcap {}: cannot be read", file.display())).because(e))?;
        Self::of(opened, file)
    }

    /// A capture's bytes, wherever they come from; `name` is what it is called.
    ///
    /// # Errors
    /// Usage: it is no capture.
    pub fn of(bytes: impl Read + Send + 'a, name: &Path) -> Result<Self> {
        let reader = create_reader(BUFFER, bytes).map_err(|e| {
            Error::usage(format!("--pcap {}: {}", name.display(), said(&e)))
                .fix("name a pcap or pcapng file, such as tcpdump -w writes")
        })?;
        Ok(Self { reader, links: Vec::new(), name: name.to_owned() })
    }

    /// Hands over packets until there are no more or `take` wants no more. Says so when the capture breaks off, as a sentence.
    pub fn read(mut self, take: &mut dyn FnMut(&Packet<'_>) -> bool) -> Option<String> {
        loop {
            match self.reader.next() {
                Ok((length, block)) => {
                    let goes_on = packet(&mut self.links, &block).is_none_or(|packet| take(&packet));
                    self.reader.consume(length);
                    if !goes_on {
                        return None;
                    }
                }
                Err(PcapError::Eof) => return None,
                Err(PcapError::Incomplete(_)) => {
                    let refilled = self.reader.refill().map_err(|error| said(&error));
                    if let Err(why) = refilled {
                        return Some(broken_off(&self.name, &why));
                    }
                }
                Err(error) => return Some(broken_off(&self.name, &said(&error))),
            }
        }
    }
}

fn broken_off(file: &Path, why: &str) -> String {
    format!("{}: the capture breaks off ({why}): the report covers what is before", file.display())
}

fn said(error: &PcapError<&[u8]>) -> String {
    match error {
        PcapError::HeaderNotRecognized => "it is neither pcap nor pcapng".to_owned(),
        PcapError::UnexpectedEof | PcapError::Incomplete(_) | PcapError::Eof => {
            "its last packet is cut off".to_owned()
        }
        PcapError::BufferTooSmall => "a block is longer than 1 MiB".to_owned(),
        PcapError::ReadError => "it cannot be read".to_owned(),
        PcapError::NomError(..) | PcapError::OwnedNomError(..) => "a block contradicts itself".to_owned(),
    }
}

/// The packet that a block holds; blocks that describe interfaces are remembered.
fn packet<'a>(links: &'a mut Vec<Link>, block: &'a PcapBlockOwned<'_>) -> Option<Packet<'a>> {
    let of = |links: &'a Vec<Link>, interface: usize, stamp_ns, frame| {
        let link = links.get(interface)?;
        Some(Packet { kind: link.kind, stamp_ns, frame, interface, interface_name: link.name.as_deref() })
    };
    match block {
        PcapBlockOwned::LegacyHeader(header) => {
            let resolution = if header.is_nanosecond_precision() { SECOND_NS } else { 1_000_000 };
            *links = vec![Link { kind: header.network, resolution, offset: 0, name: None }];
            None
        }
        PcapBlockOwned::Legacy(packet) => {
            let fraction = u64::from(packet.ts_usec).saturating_mul(SECOND_NS / links.first()?.resolution);
            let stamp_ns = u64::from(packet.ts_sec) * SECOND_NS + fraction;
            of(links, 0, stamp_ns, packet.data.get(..packet.caplen as usize)?)
        }
        PcapBlockOwned::NG(Block::SectionHeader(_)) => {
            links.clear();
            None
        }
        PcapBlockOwned::NG(Block::InterfaceDescription(interface)) => {
            let resolution = resolution(interface.if_tsresol)?;
            let (kind, offset) = (interface.linktype, interface.ts_offset());
            let name = interface.if_name().and_then(std::result::Result::ok).map(str::to_owned);
            links.push(Link { kind, resolution, offset, name });
            None
        }
        PcapBlockOwned::NG(Block::EnhancedPacket(packet)) => {
            let link = links.get(packet.if_id as usize)?;
            let stamp = u128::from(packet.ts_high) << 32 | u128::from(packet.ts_low);
            let ns = u64::try_from(stamp * u128::from(SECOND_NS) / u128::from(link.resolution)).ok()?;
            let stamp_ns = ns.checked_add_signed(link.offset.checked_mul(SECOND_NS.cast_signed())?)?;
            of(links, packet.if_id as usize, stamp_ns, packet.data.get(..packet.caplen as usize)?)
        }
        // A simple packet block has no time stamp.
        PcapBlockOwned::NG(_) => None,
    }
}

fn knows(kind: Linktype) -> bool {
    matches!(
        kind,
        Linktype::ETHERNET
            | Linktype::RAW
            | Linktype::IPV4
            | Linktype::IPV6
            | Linktype::NULL
            | Linktype::LOOP
            | Linktype::LINUX_SLL
            | LINUX_SLL2
            | Linktype(12)
    )
}

/// Where the IP header begins; `None` where there is none, or the link type is not known.
fn link_len(kind: Linktype, frame: &[u8]) -> Option<usize> {
    let is_ip = |at: usize| {
        let ethertype = u16::from_be_bytes([*frame.get(at)?, *frame.get(at + 1)?]);
        matches!(ethertype, ethernet::IPV4 | ethernet::IPV6).then_some(())
    };
    match kind {
        Linktype::ETHERNET => {
            let (header, len) = Ethernet::parse(frame)?;
            matches!(header.ethertype, ethernet::IPV4 | ethernet::IPV6).then_some(len)
        }
        // 12 is "raw" on some systems.
        Linktype::RAW | Linktype::IPV4 | Linktype::IPV6 | Linktype(12) => Some(0),
        Linktype::NULL | Linktype::LOOP => Some(4),
        Linktype::LINUX_SLL => is_ip(14).map(|()| 16),
        LINUX_SLL2 => is_ip(0).map(|()| 20),
        _ => None,
    }
}

/// Units a second by the option if_tsresol of pcapng: a power of ten, or with the highest bit one of two; `None` when it is out of all reason.
fn resolution(option: u8) -> Option<u64> {
    let power = u32::from(option & 0x7f);
    if option & 0x80 == 0 { 10u64.checked_pow(power) } else { 1u64.checked_shl(power) }
}
