//! What media streams say of themselves: RTP (RFC 3550) and MPEG transport streams, alone or in it.
#![forbid(unsafe_code)]

pub mod clock_rates;
pub mod few;
pub mod mdi;
pub mod rtp;
pub mod ts;
pub mod validity;

use clock_rates::ClockRates;
use rtp::Source;
use ts::Transport;

use crate::packet::rtp::{PT_MP2T, Rtp};
use crate::packet::ts::aligned_packets;

/// Packets of an RTP stream that are looked at for a transport stream in them, whatever the payload type.
const LOOK_FOR_TS: u64 = 16;

/// Transport stream packets in sync that make it one: the chance of random bytes is 1 in 2^24.
const ENOUGH_TS: usize = 3;

/// What a user tells of media streams.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct MediaSpec {
    /// Clocks of payload types.
    pub clocks: ClockRates,
    /// Media rate in bit/s, for the media delivery index; `None`: by the stream's clock.
    pub media_rate_bps: Option<u64>,
}

/// A media stream as a receiver follows it.
#[derive(Debug, Default)]
pub struct Media {
    /// Its RTP source, if it is one's.
    pub source: Option<Source>,
    /// The transport stream that it is or carries.
    pub transport: Option<Transport>,
}

/// What is handed over of a media stream.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct MediaFigures {
    /// Of RTP.
    pub rtp: Option<rtp::Figures>,
    /// Of a transport stream.
    pub ts: Option<ts::Figures>,
}

impl Media {
    /// Takes in what a packet of RTP carried, if that is a transport stream; whether it `follows` the packet before, and `lost` as in
    /// [`Transport::arrive`].
    #[inline]
    pub fn carried(
        &mut self,
        rtp: &Rtp<'_>,
        follows: bool,
        arrived_ns: u64,
        spec: &MediaSpec,
        lost: impl FnOnce() -> u64,
    ) {
        if self.transport.is_none() {
            let early = self.source.as_ref().is_none_or(|source| source.received() <= LOOK_FOR_TS);
            if rtp.header.payload_type != PT_MP2T && !(early && aligned_packets(rtp.payload) >= ENOUGH_TS) {
                return;
            }
            self.transport = Some(Transport::new(spec.media_rate_bps));
        }
        if let Some(transport) = &mut self.transport {
            if !follows {
                transport.gap();
            }
            transport.arrive(rtp.payload, arrived_ns, Some(lost));
        }
    }

    /// Writes the figures so far to `into`, whose memory is used again.
    pub fn tell(&self, into: &mut MediaFigures) {
        into.rtp = self.source.as_ref().map(Source::figures);
        match &self.transport {
            Some(transport) => transport.tell(into.ts.get_or_insert_default()),
            None => into.ts = None,
        }
    }
}

/// Whether so many packets in sync, one after the other, make a transport stream.
pub fn is_transport(packets: usize) -> bool {
    packets >= ENOUGH_TS
}
