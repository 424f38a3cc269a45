//! What follows the probe header.
//!
//! In this module "body" is what follows the probe header in the UDP payload.
#![forbid(unsafe_code)]

use std::fs::File;
use std::io::Read;
use std::path::Path;

use crate::error::{Error, Result};

/// Largest payload file in bytes: it is held in memory.
pub const MAX_FILE: u64 = 1 << 30;

/// Bytes of the random table: more than the longest UDP payload, so that no body wraps in it.
const RANDOM_LEN: usize = 1 << 16;

/// Start of the random sequence. Changing it, or the generator, makes old and new versions disagree under
/// `--verify-payload`.
const RANDOM_SEED: u64 = 0x7769_7265_7261_7465; // "wirerate"

/// The digits, repeated to a length that comparisons in blocks are quick with.
const DIGITS: [u8; 640] = {
    let mut digits = [0; 640];
    let mut i = 0;
    while i < digits.len() {
        digits[i] = b'0' + (i % 10) as u8;
        i += 1;
    }
    digits
};

const ZEROS: [u8; 1024] = [0; 1024];

/// The content of a payload behind the probe header, a function of the sequence number and the place only, so
/// that a receiver told the same can compare every byte.
#[derive(Debug, Clone)]
pub enum Payload {
    /// The digits 0 to 9, over and over (as iperf has it), from 0 at the start of the body.
    Pattern,
    /// The same incompressible bytes in every packet.
    Random(Vec<u8>),
    /// Zeros.
    Zero,
    /// The bytes of a file, each packet the next piece, from the start again at its end: packet `s` with a
    /// body of `n` bytes carries those from `s × n` modulo the file's length on.
    File(Vec<u8>),
}

impl Payload {
    /// Digits.
    pub fn pattern() -> Self {
        Self::Pattern
    }

    /// Incompressible bytes: SplitMix64 from a fixed seed, its outputs in little-endian order, so that every
    /// sender and receiver has the same.
    pub fn random() -> Self {
        let mut state = RANDOM_SEED;
        let mut bytes = Vec::with_capacity(RANDOM_LEN);
        while bytes.len() < RANDOM_LEN {
            state = state.wrapping_add(0x9e37_79b9_7f4a_7c15);
            let mut z = state;
            z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
            z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
            bytes.extend_from_slice(&(z ^ (z >> 31)).to_le_bytes());
        }
        Self::Random(bytes)
    }

    /// Zeros.
    pub fn zero() -> Self {
        Self::Zero
    }

    /// The bytes of the file at `path`.
    ///
    /// # Errors
    /// `Usage`, naming the file, when it cannot be read, is empty or is larger than [`MAX_FILE`].
    pub fn from_file(path: &Path) -> Result<Self> {
        let name = path.display();
        let unreadable = |e| {
            Error::usage(format!("payload file {name}: cannot be read"))
                .because(e)
                .fix("name a file that this user can read")
        };
        let mut bytes = Vec::new();
        // Not by the size in the metadata: a device or a pipe has none and may have no end.
        File::open(path)
            .and_then(|file| file.take(MAX_FILE + 1).read_to_end(&mut bytes))
            .map_err(unreadable)?;
        if bytes.is_empty() {
            return Err(Error::usage(format!("payload file {name}: it is empty"))
                .fix("name a file with at least one byte, or use --payload zero"));
        }
        if bytes.len() as u64 > MAX_FILE {
            return Err(Error::usage(format!("payload file {name}: larger than {MAX_FILE} bytes"))
                .fix("cut a piece of it, such as with head -c 100M"));
        }
        Ok(Self::File(bytes))
    }

    /// Its name in reports and on the command line.
    pub fn name(&self) -> &'static str {
        match self {
            Self::Pattern => "pattern",
            Self::Random(_) => "random",
            Self::Zero => "zero",
            Self::File(_) => "file",
        }
    }

    /// Whether packets of one size differ behind the probe header, and with them the UDP checksum.
    pub fn varies(&self) -> bool {
        matches!(self, Self::File(_))
    }

    /// Writes the body of packet `sequence`.
    #[inline]
    pub fn fill(&self, sequence: u64, body: &mut [u8]) {
        let mut rest = body.len();
        let mut at = 0;
        self.pieces(sequence, rest, |piece| {
            let n = piece.len().min(rest);
            body[at..at + n].copy_from_slice(&piece[..n]);
            at += n;
            rest -= n;
            rest > 0
        });
    }

    /// Whether `body` is, byte for byte, what [`fill`](Self::fill) writes for packet `sequence` at that length.
    #[inline]
    pub fn matches(&self, sequence: u64, body: &[u8]) -> bool {
        let mut rest = body;
        let mut equal = true;
        self.pieces(sequence, body.len(), |piece| {
            let (now, later) = rest.split_at(piece.len().min(rest.len()));
            equal = now == &piece[..now.len()];
            rest = later;
            equal && !rest.is_empty()
        });
        equal
    }

    /// Hands the content of packet `sequence` to `take`, piece after piece, until it has enough.
    #[inline]
    fn pieces(&self, sequence: u64, len: usize, mut take: impl FnMut(&[u8]) -> bool) {
        if len == 0 {
            return;
        }
        let (table, start): (&[u8], usize) = match self {
            Self::Pattern => (&DIGITS, 0),
            Self::Zero => (&ZEROS, 0),
            Self::Random(table) => (table, 0),
            Self::File(table) => {
                // A vector's length and a position in it fit usize; the product need not fit u64.
                let start = u128::from(sequence) * len as u128 % table.len().max(1) as u128;
                (table, start as usize)
            }
        };
        if table.is_empty() || !take(&table[start..]) {
            return;
        }
        while take(table) {}
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::error::Kind;
    use proptest::prelude::*;
    use std::io::Write;

    fn body(payload: &Payload, sequence: u64, len: usize) -> Vec<u8> {
        let mut body = vec![0xaa; len];
        payload.fill(sequence, &mut body);
        body
    }

    #[test]
    fn the_bytes_of_each_kind() {
        assert_eq!(body(&Payload::pattern(), 7, 12), b"012345678901");
        assert_eq!(body(&Payload::zero(), 7, 5), [0; 5]);
        // The first output of SplitMix64 from the seed, as any other implementation has it.
        assert_eq!(body(&Payload::random(), 7, 8), body(&Payload::random(), 8, 8));
        assert_eq!(body(&Payload::File(b"abcde".to_vec()), 0, 3), b"abc");
        assert_eq!(body(&Payload::File(b"abcde".to_vec()), 1, 3), b"dea");
        assert_eq!(body(&Payload::File(b"abcde".to_vec()), 1, 7), b"cdeabcd");
    }

    #[test]
    fn splitmix64_of_its_reference() {
        // Vigna's splitmix64.c from state 0 begins e220a8397b1dcdaf; the table begins with the same function of our seed.
        let z = |mut z: u64| {
            z = z.wrapping_add(0x9e37_79b9_7f4a_7c15);
            z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
            z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
            z ^ (z >> 31)
        };
        assert_eq!(z(0), 0xe220_a839_7b1d_cdaf);
        assert_eq!(body(&Payload::random(), 0, 8), z(RANDOM_SEED).to_le_bytes());
    }

    #[test]
    fn random_does_not_compress_to_few_values() {
        let mut seen = [false; 256];
        body(&Payload::random(), 0, 4096).iter().for_each(|b| seen[usize::from(*b)] = true);
        assert!(seen.iter().all(|s| *s));
    }

    #[test]
    fn files_that_cannot_be_used_are_named() {
        let dir = tempfile::tempdir().unwrap();
        let empty = dir.path().join("empty.bin");
        File::create(&empty).unwrap();
        for path in [dir.path().join("missing.bin"), empty, dir.path().to_owned()] {
            let error = Payload::from_file(&path).unwrap_err();
            assert_eq!(error.kind, Kind::Usage);
            assert!(error.what.contains(&path.display().to_string()), "{error}");
            assert!(error.fix.is_some());
        }
    }

    #[test]
    fn a_file_is_read_whole() {
        let mut file = tempfile::NamedTempFile::new().unwrap();
        file.write_all(b"hello").unwrap();
        let payload = Payload::from_file(file.path()).unwrap();
        assert!(payload.varies());
        assert_eq!(body(&payload, 0, 6), b"helloh");
    }

    proptest! {
        #[test]
        fn file_content_is_as_said(file in proptest::collection::vec(any::<u8>(), 1..50), s: u64, len in 0usize..120) {
            let payload = Payload::File(file.clone());
            let start = (u128::from(s) * len as u128 % file.len() as u128) as usize;
            let want: Vec<u8> = file.iter().copied().cycle().skip(start).take(len).collect();
            prop_assert_eq!(body(&payload, s, len), want);
        }

        #[test]
        fn what_was_filled_matches_and_any_change_does_not(
            s: u64, len in 1usize..3000, at: prop::sample::Index, flip in 1u8..=255, kind in 0..4,
        ) {
            let payload = match kind {
                0 => Payload::pattern(),
                1 => Payload::random(),
                2 => Payload::zero(),
                _ => Payload::File((0..=250).collect()),
            };
            let mut bytes = body(&payload, s, len);
            prop_assert!(payload.matches(s, &bytes));
            bytes[at.index(len)] ^= flip;
            prop_assert!(!payload.matches(s, &bytes));
        }
    }
}
