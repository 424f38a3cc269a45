//! An input read as a list of choices.

/// The rest of an input. At its end every number is 0, so that no input is too short.
#[derive(Debug)]
pub struct Script<'a>(&'a [u8]);

impl<'a> Script<'a> {
    /// The choices that `input` makes.
    pub fn new(input: &'a [u8]) -> Self {
        Self(input)
    }

    /// Whether no choice is left.
    pub fn is_over(&self) -> bool {
        self.0.is_empty()
    }

    /// The next `N` bytes.
    pub fn bytes<const N: usize>(&mut self) -> [u8; N] {
        let mut bytes = [0; N];
        let taken = self.take(N);
        bytes[..taken.len()].copy_from_slice(taken);
        bytes
    }

    /// The next `count` bytes, fewer at the end.
    pub fn take(&mut self, count: usize) -> &'a [u8] {
        let (taken, rest) = self.0.split_at(count.min(self.0.len()));
        self.0 = rest;
        taken
    }

    /// The next byte.
    pub fn byte(&mut self) -> u8 {
        self.bytes::<1>()[0]
    }

    /// The next two bytes, big-endian.
    pub fn word(&mut self) -> u16 {
        u16::from_be_bytes(self.bytes())
    }

    /// The next eight bytes, big-endian.
    pub fn long(&mut self) -> u64 {
        u64::from_be_bytes(self.bytes())
    }
}
