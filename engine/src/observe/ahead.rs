//! What has to come next when a sender's batch goes on: compared with instead of parsed.
#![forbid(unsafe_code)]

use std::net::{Ipv4Addr, SocketAddr, SocketAddrV4};

use crate::packet::probe::{Kind, Probe, Series};
use crate::queue::RxMeta;

/// No payload is as long.
const NEVER: usize = usize::MAX;

/// A datagram that was counted, and how many followed that differ in their number only, each one higher.
#[derive(Debug)]
pub(super) struct Ahead {
    series: Series,
    /// Payload of each in bytes; [`NEVER`] while nothing is foreseen.
    length: usize,
    /// Came, and not yet entered.
    count: u64,
    meta: RxMeta,
}

impl Default for Ahead {
    fn default() -> Self {
        const NOBODY: SocketAddr = SocketAddr::V4(SocketAddrV4::new(Ipv4Addr::UNSPECIFIED, 0));
        let meta = RxMeta { source: NOBODY, destination: NOBODY, arrived_ns: 0, overhead: 0, frames: 1 };
        let probe = Probe { kind: Kind::Data, run: 0, stream: 0, sequence: 0, time: 0 };
        Self { series: Series::new(&probe), length: NEVER, count: 0, meta }
    }
}

impl Ahead {
    /// What has to follow the datagram with this header and length.
    #[inline]
    pub(super) fn after(probe: &Probe, meta: &RxMeta, length: usize) -> Self {
        let next = Probe { sequence: probe.sequence + 1, ..*probe };
        Self { series: Series::new(&next), length, count: 0, meta: *meta }
    }

    /// Takes datagrams as long as each is the one foreseen; returns the first that is not. Their meta data has to be that of the one before.
    #[inline]
    pub(super) fn take_each<'a>(
        &mut self,
        payloads: &mut impl Iterator<Item = &'a [u8]>,
    ) -> Option<&'a [u8]> {
        // Copies stay in registers.
        let (mut series, length) = (self.series, self.length);
        let other = payloads.find(|payload| payload.len() != length || !series.take(payload));
        self.count += series.since(&self.series);
        self.series = series;
        other
    }

    /// Takes those foreseen off the front of `buf`, where they lie `stride` bytes apart, at most `limit`; returns how many.
    #[inline]
    pub(super) fn take_run(&mut self, buf: &[u8], stride: usize, limit: usize) -> usize {
        if stride != self.length {
            return 0;
        }
        // A length of 0 is never foreseen.
        let whole = limit.min(buf.len() / stride);
        let mut series = self.series;
        let mut taken = 0;
        for payload in buf[..whole * stride].chunks_exact(stride) {
            if !series.take(payload) {
                break;
            }
            taken += 1;
        }
        self.series = series;
        self.count += taken as u64;
        taken
    }

    /// How many were taken and not yet entered.
    #[inline]
    pub(super) fn count(&self) -> u64 {
        self.count
    }

    /// As [`count`](Self::count), which is 0 from now on.
    #[inline]
    pub(super) fn take_count(&mut self) -> u64 {
        std::mem::take(&mut self.count)
    }

    /// What is the same for all that were taken: meta data and length.
    #[inline]
    pub(super) fn alike(&self) -> (&RxMeta, usize) {
        (&self.meta, self.length)
    }

    /// Whether something is foreseen, or has come and was not entered.
    #[inline(always)]
    pub(super) fn is_open(&self) -> bool {
        self.length != NEVER
    }

    /// Foresees nothing any more.
    #[inline]
    pub(super) fn close(&mut self) {
        self.length = NEVER;
    }
}
