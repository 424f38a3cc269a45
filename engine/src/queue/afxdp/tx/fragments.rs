//! Packets above the MTU: cut into fragments, each in a frame of its own.
//!
//! The UDP checksum stands in the first fragment and covers all of them. It is computed once for a flow and size, as that of a whole packet is, so that from one packet
//! to the next only the identification changes, and the probe header, which is in the first fragment.
//!
//! Where the kernel may refuse single frames (copying), one packet is handed over at a time: so it is known whose fragment was refused, and a packet that
//! lost several is still one packet.
#![forbid(unsafe_code)]

use std::mem;
use std::slice;
use std::sync::LazyLock;
use std::sync::atomic::{AtomicU32, Ordering};

use super::{Body, Flow, FrameTx, Holds, NOTHING};
use crate::error::{Error, Result};
use crate::packet::frame::{Headers, payload_sum};
use crate::packet::probe::Series;
use crate::packet::{ethernet, probe, udp};
use crate::queue::afxdp::Kernel;
use crate::queue::{Run, Stamper, TxSpec};

/// Identification of the next datagram: one for all queues of this process, whose flows may share their addresses, and begun at random, because what another run left
/// unfinished waits at the receiver for up to half a minute.
static IDENTIFICATION: LazyLock<AtomicU32> =
    LazyLock::new(|| AtomicU32::new(getrandom::u32().unwrap_or_default()));

/// How packets above the MTU leave.
#[derive(Debug)]
pub(super) struct Cut {
    mtu: u32,
    /// UDP header, probe header and body of the packet that is being cut.
    datagram: Vec<u8>,
    /// What it was made for, and the sequence number if the payload varies.
    made: (Holds, u64),
    /// Whether the last packet may still be in the ring, where it may be refused.
    under_way: bool,
    /// Whether that has been counted as refused.
    refused: bool,
}

/// The MTU in bytes that packets are cut for, if they may be.
pub(super) fn mtu(spec: &TxSpec) -> Option<u32> {
    spec.interface.as_ref().filter(|_| spec.fragment).map(|interface| interface.mtu)
}

/// Whether packets of up to `max_payload` bytes can be cut for `mtu`, with `frames` frames at hand.
///
/// # Errors
/// `Environment` when the first fragment would not hold a probe header, or the fragments of one packet are more than there are frames.
pub(super) fn check(flows: &[(Headers, u16)], max_payload: u16, mtu: u32, frames: u32) -> Result<()> {
    for (headers, _) in flows {
        let cutter = headers.cutter(mtu);
        let possible =
            cutter.room() >= udp::HEADER_LEN + probe::LEN && cutter.packets(max_payload) <= u64::from(frames);
        if !cutter.fits(max_payload) && !possible {
            return Err(Error::environment(format!(
                "an MTU of {mtu} is too small for fragments of packets with {max_payload} bytes of payload"
            ))
            .fix("raise the MTU, or use a smaller --length"));
        }
    }
    Ok(())
}

impl Cut {
    /// `None` when all packets leave whole.
    pub(super) fn of(spec: &TxSpec, flows: &[(Headers, u16)]) -> Option<Self> {
        let mtu = mtu(spec)?;
        if flows.iter().all(|(headers, _)| headers.cutter(mtu).fits(spec.max_payload)) {
            return None;
        }
        let datagram = vec![0; udp::HEADER_LEN + usize::from(spec.max_payload)];
        Some(Self { mtu, datagram, made: (NOTHING, 0), under_way: false, refused: false })
    }

    /// The datagram `sequence` of `len` bytes of payload, which `key` tells from others, with everything but its probe header.
    fn datagram(&mut self, headers: &Headers, body: &Body, key: Holds, len: u16, sequence: u64) -> &[u8] {
        let made = (key, if body.varies() { sequence } else { 0 });
        let datagram = &mut self.datagram[..udp::HEADER_LEN + usize::from(len)];
        if mem::replace(&mut self.made, made) != made {
            let behind = &mut datagram[udp::HEADER_LEN + probe::LEN..];
            body.payload.fill(sequence, behind);
            let sum = match &body.sums {
                Some(sums) => sums.payload_sum(usize::from(len) - probe::LEN),
                None => payload_sum(behind),
            };
            headers.write_udp(datagram, len, sum);
        }
        datagram
    }
}

impl Holds {
    /// As this, but only fragment `n`; `more`: not the last.
    fn fragment(self, n: usize, more: bool) -> Self {
        // Headers are shorter than 2⁸ bytes, fragments fewer than 2¹⁶.
        Self(self.0 | (n as u64 + 1) << 40 | u64::from(more) << 63)
    }

    /// Whether it is a fragment, and not the last.
    #[inline]
    pub(super) fn is_followed(self) -> bool {
        self.0 >> 63 == 1
    }
}

impl<K: Kernel> FrameTx<K> {
    /// Whether no fragment is left in the ring whose refusal is to be told from others'.
    pub(super) fn is_cut_done(&mut self) -> bool {
        self.cut.as_ref().is_none_or(|cut| !cut.under_way) || self.empty_ring()
    }

    /// Counts a frame that the kernel refused: once for all fragments of a packet.
    pub(super) fn note_refusal(&mut self) {
        let known =
            self.cut.as_mut().filter(|cut| cut.under_way).map(|cut| mem::replace(&mut cut.refused, true));
        self.refused += u64::from(known != Some(true));
    }

    /// Takes packets off the front of `runs`, each in fragments or whole, as long as there are frames and slots; returns how many.
    #[inline(never)]
    pub(super) fn take_each(&mut self, runs: &[Run], stamper: &Stamper) -> usize {
        let mut taken = 0;
        for run in runs {
            let count = match self.take_cut(run, stamper) {
                Some(count) => count,
                None => self.take(slice::from_ref(run), stamper),
            };
            taken += count;
            if count < usize::from(run.count) {
                break;
            }
        }
        taken
    }

    /// Takes packets off the front of `run`, in fragments, as long as there are frames and slots; returns how many, or `None` if they are to leave whole. A
    /// broken queue takes none, and says so at the next call.
    fn take_cut(&mut self, run: &Run, stamper: &Stamper) -> Option<usize> {
        if !self.is_cut_done() {
            return Some(0);
        }
        let Flow { headers, stream, .. } = &self.flows[usize::from(run.flow)];
        let cutter = headers.cutter(self.cut.as_ref()?.mtu);
        if cutter.fits(run.len) {
            return None;
        }
        let fragments = cutter.packets(run.len) as usize;
        let slots = fragments as u32 * self.span;
        let mut series = stamper.series(*stream, run.first_seq);
        let one_by_one = self.kernel.refuses();
        if one_by_one && !self.empty_ring() {
            return Some(0);
        }
        for n in 0..run.count {
            if self.frames.free() < fragments {
                self.collect();
            }
            if self.frames.free() < fragments || self.ring.reserve(slots) < slots {
                return Some(usize::from(n));
            }
            self.write_fragments(run, run.first_seq + u64::from(n), fragments, &mut series);
            if one_by_one {
                if let Some(cut) = &mut self.cut {
                    (cut.under_way, cut.refused) = (true, false);
                }
                if !self.empty_ring() {
                    return Some(usize::from(n) + 1);
                }
            }
        }
        Some(usize::from(run.count))
    }

    /// Writes packet `sequence` of `run` into as many frames, and these into the ring.
    fn write_fragments(&mut self, run: &Run, sequence: u64, fragments: usize, series: &mut Series) {
        let Some(cut) = &mut self.cut else { return };
        let headers = &self.flows[usize::from(run.flow)].headers;
        let identification = IDENTIFICATION.fetch_add(1, Ordering::Relaxed);
        let key = Holds::new(run.flow, run.len, headers.len());
        // Frames come back in the order in which they were sent, so that those at the end held the same fragments.
        let rest = self.frames.free() - fragments;
        let pieces = headers.cutter(cut.mtu).pieces(run.len);
        for (n, piece) in pieces.enumerate() {
            let mut frame = self.frames.take(rest).expect("as many free frames as fragments");
            let wanted = key.fragment(n, piece.more);
            let (held, bytes) = self.frames.open(&mut frame);
            let start = headers.write_fragment(bytes, piece, identification);
            let end = start + usize::from(piece.len);
            if *held != wanted || self.body.varies() {
                let datagram = cut.datagram(headers, &self.body, key, run.len, sequence);
                bytes[start..end].copy_from_slice(&datagram[usize::from(piece.offset)..][..end - start]);
                if end < ethernet::MIN_LEN {
                    bytes[end..ethernet::MIN_LEN].fill(0);
                }
                *held = wanted;
            }
            if n == 0 {
                series.emit(&mut bytes[start + udp::HEADER_LEN..end]);
            }
            let ring = &mut self.ring;
            // A frame is shorter than 2³² bytes.
            self.frames.lend(frame, end.max(ethernet::MIN_LEN) as u32, |desc| ring.write(desc));
        }
        self.in_flight += 1;
        self.uncounted += fragments - 1;
    }

    /// Has the kernel take all that is in the ring; whether it did.
    fn empty_ring(&mut self) -> bool {
        self.ring.commit();
        // It may say of the slots of refused frames that they are free only when it looks for the next.
        for _ in 0..=self.ring.pending() {
            if self.kick().is_err() {
                return false;
            }
            if self.ring.pending() == 0 {
                if let Some(cut) = &mut self.cut {
                    cut.under_way = false;
                }
                return true;
            }
        }
        false
    }
}

#[cfg(test)]
#[path = "fragments_tests.rs"]
mod tests;
