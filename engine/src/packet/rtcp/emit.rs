//! Writing compound RTCP packets.
#![forbid(unsafe_code)]

use super::{APP, BYE, CNAME, MAX_COUNT, RR, ReportBlock, SDES, SR, SenderInfo};

/// A datagram of RTCP packets that is being written: reports first, then what they say of themselves, then goodbyes.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Compound {
    bytes: Vec<u8>,
}

impl Compound {
    /// One without any packet yet.
    pub fn new() -> Self {
        Self::default()
    }

    /// What was written.
    pub fn bytes(&self) -> &[u8] {
        &self.bytes
    }

    /// A sender report of `ssrc`. Blocks that it has no room for follow in receiver reports (§6.1).
    pub fn sender_report(&mut self, ssrc: u32, info: &SenderInfo, blocks: &[ReportBlock]) {
        let (first, more) = blocks.split_at(blocks.len().min(MAX_COUNT));
        self.packet(SR, first.len(), |to| {
            to.extend(ssrc.to_be_bytes());
            to.extend(info.ntp.to_be_bytes());
            for field in [info.rtp, info.packets, info.octets] {
                to.extend(field.to_be_bytes());
            }
            first.iter().for_each(|block| put_block(to, block));
        });
        if !more.is_empty() {
            self.receiver_report(ssrc, more);
        }
    }

    /// Receiver reports of `ssrc`: one, empty if there are no blocks, or as many as they need.
    pub fn receiver_report(&mut self, ssrc: u32, blocks: &[ReportBlock]) {
        let mut rest = blocks;
        loop {
            let (now, later) = rest.split_at(rest.len().min(MAX_COUNT));
            self.packet(RR, now.len(), |to| {
                to.extend(ssrc.to_be_bytes());
                now.iter().for_each(|block| put_block(to, block));
            });
            rest = later;
            if rest.is_empty() {
                return;
            }
        }
    }

    /// The canonical name of each source, which is the same for all of one endpoint.
    ///
    /// # Panics
    /// When the name is longer than 255 bytes.
    pub fn description(&mut self, ssrcs: &[u32], name: &str) {
        let len = u8::try_from(name.len()).expect("a canonical name has up to 255 bytes");
        for ssrcs in ssrcs.chunks(MAX_COUNT) {
            self.packet(SDES, ssrcs.len(), |to| {
                for ssrc in ssrcs {
                    to.extend(ssrc.to_be_bytes());
                    to.extend([CNAME, len]);
                    to.extend(name.as_bytes());
                    // At least one 0 ends the items.
                    to.push(0);
                    to.resize(to.len().next_multiple_of(4), 0);
                }
            });
        }
    }

    /// These sources leave.
    pub fn goodbye(&mut self, ssrcs: &[u32]) {
        for ssrcs in ssrcs.chunks(MAX_COUNT) {
            self.packet(BYE, ssrcs.len(), |to| ssrcs.iter().for_each(|ssrc| to.extend(ssrc.to_be_bytes())));
        }
    }

    /// A packet with its length, which is known when the body has been written. Everything before it is whole words, and so is what
    /// the callers above write.
    fn packet(&mut self, kind: u8, count: usize, body: impl FnOnce(&mut Vec<u8>)) {
        let start = self.bytes.len();
        // Up to MAX_COUNT: five bits.
        self.bytes.extend([2 << 6 | count as u8, kind, 0, 0]);
        body(&mut self.bytes);
        let words = (self.bytes.len() - start) / 4 - 1;
        // 31 chunks of 264 bytes are 2046 words.
        self.bytes[start + 2..start + 4].copy_from_slice(&(words as u16).to_be_bytes());
    }
}

/// The first twelve bytes of an application-defined packet of `len` bytes (§6.7).
///
/// # Panics
/// When `len` is no number of words that the header can hold.
pub fn app_header(ssrc: u32, name: [u8; 4], len: usize) -> [u8; 12] {
    assert!(len >= 12 && len.is_multiple_of(4) && len <= 4 << 16, "an APP packet of {len} bytes");
    let words = (len / 4 - 1) as u16;
    let mut header = [0; 12];
    header[..2].copy_from_slice(&[2 << 6, APP]);
    header[2..4].copy_from_slice(&words.to_be_bytes());
    header[4..8].copy_from_slice(&ssrc.to_be_bytes());
    header[8..].copy_from_slice(&name);
    header
}

fn put_block(to: &mut Vec<u8>, block: &ReportBlock) {
    // 24 bits; what does not fit is held at the ends (§6.4.1, A.3).
    let lost = block.lost.clamp(-0x80_0000, 0x7f_ffff).cast_unsigned() & 0xff_ffff;
    let loss = u32::from(block.fraction_lost) << 24 | lost;
    for field in [block.ssrc, loss, block.highest_seq, block.jitter, block.last_sr, block.delay] {
        to.extend(field.to_be_bytes());
    }
}
