//! A stream that is RTP or a transport stream.

use super::Stream;
use crate::measure::media::rtp::{Source, Verdict};
use crate::measure::media::ts::Transport;
use crate::measure::media::validity::Seen;
use crate::measure::media::{Media, MediaFigures, MediaSpec};
use crate::measure::sequence::{Tracker, When};
use crate::measure::tally::{Format, RxCounters};
use crate::packet::probe::Probe;
use crate::packet::rtp::Rtp;
use crate::queue::RxMeta;

/// What a media stream has besides.
#[derive(Debug, Default)]
pub(super) struct MediaStream {
    media: Media,
    /// A packet far from the sequence, until the next tells what it is, and its length.
    held: Option<(RxMeta, usize)>,
    /// Packets far from the sequence that began no other.
    strays: u64,
    /// The numbers of sequences before the sender restarted.
    before: RxCounters,
}

impl MediaStream {
    /// Whether the sender began another sequence.
    pub(super) fn has_restarted(&self) -> bool {
        self.before.unique > 0
    }
}

impl Stream {
    /// Takes in a packet of this RTP source; how many are counted now: none while it is doubtful, with it the doubtful one when another sequence
    /// has begun.
    pub(in crate::observe) fn rtp(
        &mut self,
        meta: &RxMeta,
        length: usize,
        rtp: &Rtp<'_>,
        spec: &MediaSpec,
    ) -> u64 {
        let this = self.media.get_or_insert_default();
        let source =
            this.media.source.get_or_insert_with(|| Source::new(&rtp.header, meta.arrived_ns, &spec.clocks));
        let Verdict { seen, sent_ns, follows, anew } = source.arrive(rtp, meta.arrived_ns, &spec.clocks);
        let (number, held) = match seen {
            Seen::Doubtful => {
                this.strays += u64::from(this.held.replace((*meta, length)).is_some());
                return 0;
            }
            Seen::Number(number) => {
                this.strays += u64::from(this.held.take().is_some());
                (number, None)
            }
            Seen::Restart(number) => {
                let mut ended = RxCounters::default();
                std::mem::take::<Tracker>(&mut self.tracker).counters(&mut ended);
                this.before.add(&ended);
                (number, this.held.take())
            }
        };
        if anew {
            self.begin_clock_anew();
        }
        if let Some((meta, length)) = &held {
            let when = When {
                first_ns: self.first_ns,
                last_ns: self.last_ns,
                now_ns: meta.arrived_ns,
                sent_gap_ns: None,
            };
            self.count(meta, *length, 1);
            self.tracker.arrive(number - 1, &when);
        }
        self.numbered(meta, length, number, sent_ns);
        self.carried(meta, rtp, follows, spec);
        1 + u64::from(held.is_some())
    }

    /// Takes in the RTP header before a probe, and what follows that: of a packet that the probe's number counts.
    pub(in crate::observe) fn rtp_with_probe(
        &mut self,
        meta: &RxMeta,
        rtp: &Rtp<'_>,
        probe: &Probe,
        spec: &MediaSpec,
    ) {
        let this = self.media.get_or_insert_default();
        let source =
            this.media.source.get_or_insert_with(|| Source::new(&rtp.header, meta.arrived_ns, &spec.clocks));
        if let Seen::Number(number) = source.arrive(rtp, meta.arrived_ns, &spec.clocks).seen {
            source.check_probe(probe, number);
        }
    }

    fn carried(&mut self, meta: &RxMeta, rtp: &Rtp<'_>, follows: bool, spec: &MediaSpec) {
        let tracker = &self.tracker;
        let Some(this) = &mut self.media else { return };
        this.media.carried(rtp, follows, meta.arrived_ns, spec, || {
            let mut counters = RxCounters::default();
            tracker.counters(&mut counters);
            counters.lost + counters.reordered
        });
    }

    /// Takes in a datagram of this transport stream.
    pub(in crate::observe) fn ts(&mut self, meta: &RxMeta, payload: &[u8], spec: &MediaSpec) {
        self.unnumbered(meta, payload.len());
        let media = &mut self.media.get_or_insert_default().media;
        let transport = media.transport.get_or_insert_with(|| Transport::new(spec.media_rate_bps));
        transport.arrive(payload, meta.arrived_ns, None::<fn() -> u64>);
    }

    /// The figures of a media stream, in `spare` if there is one, and its part in `counters`.
    pub(super) fn media_figures(
        &self,
        counters: &mut RxCounters,
        spare: Option<Box<MediaFigures>>,
    ) -> Option<Box<MediaFigures>> {
        let this = self.media.as_ref()?;
        let mut figures = spare.unwrap_or_default();
        this.media.tell(&mut figures);
        if self.key.format == Format::Rtp {
            // Where the sender began nobody knows: RTP's first number is drawn at random.
            counters.before_start = 0;
            counters.add(&RxCounters { before_start: 0, ..this.before });
            counters.foreign = this.strays + u64::from(this.held.is_some());
        }
        Some(figures)
    }
}
