//! What a host says of its clock, as far as its kernel knows (`adjtimex(2)`).
#![forbid(unsafe_code)]

use std::fs;
use std::sync::OnceLock;

use serde::{Deserialize, Serialize};

use crate::sys::timex;

/// Whether the clock is disciplined, and whose it is.
///
/// The kernel knows that somebody keeps its clock, how large that somebody says the error is, and the offset of CLOCK_TAI to UTC. It is not told
/// by what: PTP, NTP and a GPS receiver look the same.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Claim {
    /// The kernel that runs the clock, as a hash of its boot's identifier: namespaces and containers of one kernel have one. Not 0.
    pub host: u64,
    /// Somebody keeps the clock: STA_UNSYNC is not set.
    pub synchronised: bool,
    /// Seconds that CLOCK_TAI is ahead of UTC; 0 as long as nobody told the kernel.
    pub tai_offset_s: i32,
    /// The error that whoever keeps the clock expects, in µs.
    pub estimated_error_us: u32,
    /// The error that it rules out to be exceeded, in µs; it grows by 500 ppm as long as nobody corrects the clock.
    pub max_error_us: u32,
}

const SYNCHRONISED: u64 = 1 << 32;

impl Claim {
    /// How this host's clock stands now; `None` where the kernel does not tell.
    pub fn read() -> Option<Self> {
        let host = host()?;
        let state = timex::read().ok()?;
        Some(Self {
            host,
            synchronised: state.synchronised,
            tai_offset_s: state.tai_offset_s,
            estimated_error_us: state.estimated_error_us,
            max_error_us: state.max_error_us,
        })
    }

    /// The less comfortable of two claims of one host: a clock that was not kept for a while was not kept.
    #[must_use]
    pub fn worse(self, other: Self) -> Self {
        Self {
            synchronised: self.synchronised && other.synchronised,
            estimated_error_us: self.estimated_error_us.max(other.estimated_error_us),
            max_error_us: self.max_error_us.max(other.max_error_us),
            ..other
        }
    }

    /// As three words of a message.
    pub fn words(self) -> [u64; 3] {
        let synchronised = if self.synchronised { SYNCHRONISED } else { 0 };
        [
            self.host,
            synchronised | u64::from(self.tai_offset_s.cast_unsigned()),
            u64::from(self.estimated_error_us) << 32 | u64::from(self.max_error_us),
        ]
    }

    /// From three words of a message; `None` when they say nothing.
    pub fn of_words([host, state, error]: [u64; 3]) -> Option<Self> {
        (host != 0).then_some(Self {
            host,
            synchronised: state & SYNCHRONISED != 0,
            tai_offset_s: (state as u32).cast_signed(),
            estimated_error_us: (error >> 32) as u32,
            max_error_us: error as u32,
        })
    }
}

/// This kernel's identity.
fn host() -> Option<u64> {
    static HOST: OnceLock<Option<u64>> = OnceLock::new();
    *HOST.get_or_init(|| {
        let id = fs::read_to_string("/proc/sys/kernel/random/boot_id").ok()?;
        hash(id.trim())
    })
}

/// FNV-1a: the same on every machine and in every version, which those of the standard library are not.
fn hash(id: &str) -> Option<u64> {
    let mix = |hash: u64, byte: u8| (hash ^ u64::from(byte)).wrapping_mul(0x0000_0100_0000_01b3);
    let hash = id.bytes().fold(0xcbf2_9ce4_8422_2325, mix);
    (!id.is_empty() && hash != 0).then_some(hash)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn words_read_back(host in 1u64.., synchronised: bool, tai_offset_s: i32, estimated_error_us: u32, max_error_us: u32) {
            let claim = Claim { host, synchronised, tai_offset_s, estimated_error_us, max_error_us };
            prop_assert_eq!(Claim::of_words(claim.words()), Some(claim));
        }

        #[test]
        fn no_words_panic(words: [u64; 3]) {
            let _ = Claim::of_words(words);
        }
    }

    #[test]
    fn this_host_is_itself() {
        let (a, b) = (Claim::read().unwrap(), Claim::read().unwrap());
        assert_eq!((a.host, a.tai_offset_s), (b.host, b.tai_offset_s));
        assert_eq!(Claim::of_words([0; 3]), None);
        // The values of the FNV reference.
        assert_eq!(hash("a"), Some(0xaf63_dc4c_8601_ec8c));
        assert_eq!(hash(""), None);
    }

    #[test]
    fn a_clock_is_as_good_as_at_its_worst() {
        let good =
            Claim { host: 1, synchronised: true, tai_offset_s: 37, estimated_error_us: 1, max_error_us: 9 };
        let bad = Claim { synchronised: false, estimated_error_us: 0, max_error_us: 10, ..good };
        let worst = Claim { synchronised: false, max_error_us: 10, ..good };
        assert_eq!((good.worse(bad), bad.worse(good)), (worst, worst));
    }
}
