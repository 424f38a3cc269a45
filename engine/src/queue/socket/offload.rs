//! How many packets may leave as one buffer, and what is done when kernel or route refuse that.
//!
//! Linux takes up to 64 segments (4.18), or 128 (6.9). Most reasons for a refusal are of the route, which may change at any
//! time: an xfrm policy (EIO), a firewall rule that looks at the length (EPERM), an MTU below the size of a segment (EMSGSIZE,
//! EINVAL). A refused buffer left nothing behind, so that the same packets are sent one by one. When the
//! first of them is taken it was the segmentation that was refused, and it stays off; when it is refused
//! too, it was not.
#![forbid(unsafe_code)]

use std::io;
use std::sync::atomic::{AtomicBool, AtomicI32, AtomicU16, Ordering};
use std::sync::{Arc, OnceLock};

use crate::profile::segments::MAX_SEGMENTS;
use crate::queue::RxSpec;

/// Most segments before Linux 6.9.
const OLD_LIMIT: u16 = 64;

/// What a queue was granted, and what became of it: shared with whoever reports it.
#[derive(Debug, Clone)]
pub struct Offload(Arc<Told>);

#[derive(Debug)]
struct Told {
    segments: AtomicU16,
    /// 0: not refused.
    refused: AtomicI32,
    zero_copy: AtomicBool,
    /// Of the sockets that send.
    source_ports: OnceLock<Vec<u16>>,
}

impl Offload {
    fn new(segments: u16) -> Self {
        Self(Arc::new(Told {
            segments: AtomicU16::new(segments),
            refused: AtomicI32::new(0),
            zero_copy: AtomicBool::new(false),
            source_ports: OnceLock::new(),
        }))
    }

    /// Of a receiver: as many as the sender's kernel put together, unless it is off or was `refused`.
    pub(super) fn of_receiver(spec: &RxSpec, refused: Option<i32>) -> Self {
        let plain = refused.is_some() || spec.segments.most() == 1;
        let offload = Self::new(if plain { 1 } else { MAX_SEGMENTS });
        offload.0.refused.store(refused.unwrap_or(0), Ordering::Relaxed);
        offload
    }

    /// Most packets of one buffer; 1: no segmentation offload.
    pub fn segments(&self) -> u16 {
        self.0.segments.load(Ordering::Relaxed)
    }

    /// The kernel's answer, when it was asked for segmentation and refused it.
    pub fn refused(&self) -> Option<io::Error> {
        match self.0.refused.load(Ordering::Relaxed) {
            0 => None,
            errno => Some(io::Error::from_raw_os_error(errno)),
        }
    }

    /// UDP source ports of the sockets that send: those of buffers with several packets name no run where the kernel drops them.
    pub fn source_ports(&self) -> Vec<u16> {
        self.0.source_ports.get().cloned().unwrap_or_default()
    }

    pub(super) fn set_source_ports(&self, ports: Vec<u16>) {
        let _ = self.0.source_ports.set(ports);
    }

    /// Whether buffers leave that the kernel does not copy (uring).
    pub fn zero_copy(&self) -> bool {
        self.0.zero_copy.load(Ordering::Relaxed)
    }

    #[inline]
    pub(super) fn set_zero_copy(&self, now: bool) {
        // Seldom changed: no cache line is taken from a reader for nothing.
        if self.zero_copy() != now {
            self.0.zero_copy.store(now, Ordering::Relaxed);
        }
    }
}

/// How many packets a buffer may hold now.
#[derive(Debug)]
pub(super) struct Segmentation {
    /// What is tried at present.
    limit: u16,
    /// A refusal that may have been of segmentation, and the limit before it.
    suspect: Option<(i32, u16)>,
    told: Offload,
}

impl Segmentation {
    /// At most `most` packets in a buffer; `refused` is the errno with which the kernel declined any.
    pub(super) fn new(most: u16, refused: Option<i32>) -> Self {
        let limit = if refused.is_some() { 1 } else { most.max(1) };
        let told = Offload::new(limit);
        if let Some(errno) = refused {
            told.0.refused.store(errno, Ordering::Relaxed);
        }
        Self { limit, suspect: None, told }
    }

    /// Most packets for the next buffer.
    #[inline]
    pub(super) fn limit(&self) -> u16 {
        self.limit
    }

    /// For the report.
    pub(super) fn offload(&self) -> Offload {
        self.told.clone()
    }

    /// A buffer of `segments` packets, more than one, was refused for itself: the same packets have to be sent in smaller ones.
    #[cold]
    pub(super) fn refused(&mut self, errno: i32, segments: u16) {
        if segments > OLD_LIMIT && errno == libc::EINVAL && self.limit > OLD_LIMIT {
            self.limit = OLD_LIMIT;
            self.told.0.segments.store(OLD_LIMIT, Ordering::Relaxed);
        } else if self.suspect.is_none() && self.limit > 1 {
            self.suspect = Some((errno, self.limit));
            self.limit = 1;
        }
    }

    /// A packet by itself was taken (or not) after a refusal.
    #[inline]
    pub(super) fn single(&mut self, taken: bool) {
        if let Some((errno, before)) = self.suspect.take() {
            if taken {
                self.told.0.refused.store(errno, Ordering::Relaxed);
            } else {
                self.limit = before;
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_old_kernel_takes_sixty_four() {
        let mut segmentation = Segmentation::new(128, None);
        segmentation.refused(libc::EINVAL, 128);
        assert_eq!((segmentation.limit(), segmentation.offload().segments()), (64, 64));
        assert!(segmentation.offload().refused().is_none());
    }

    #[test]
    fn what_is_taken_one_by_one_was_refused_for_segmentation() {
        let mut segmentation = Segmentation::new(128, None);
        let offload = segmentation.offload();
        segmentation.refused(libc::EIO, 128);
        assert_eq!(segmentation.limit(), 1);
        assert!(offload.refused().is_none());
        segmentation.single(true);
        assert_eq!(segmentation.limit(), 1);
        assert_eq!(offload.refused().unwrap().raw_os_error(), Some(libc::EIO));
        segmentation.single(false);
        assert_eq!(segmentation.limit(), 1, "for good");
    }

    #[test]
    fn what_is_refused_one_by_one_was_not() {
        let mut segmentation = Segmentation::new(128, None);
        segmentation.refused(libc::EPERM, 40);
        segmentation.single(false);
        assert_eq!(segmentation.limit(), 128);
        assert!(segmentation.offload().refused().is_none());
    }
}
