//! What follows the probe header.

/// The content of a payload behind the probe header, a function of the sequence number and the place only, so
/// that a receiver told the same can compare every byte.
#[derive(Debug, Clone)]
pub enum Payload {
    /// The digits 0 to 9, over and over (as iperf has it).
    Pattern,
    /// The same incompressible bytes in every packet.
    Random(Vec<u8>),
    /// Zeros.
    Zero,
    /// The bytes of a file, each packet the next piece, from the start again at its end.
    File(Vec<u8>),
}

impl Payload {
    /// Whether packets of one size differ behind the probe header, and with them the UDP checksum.
    pub fn varies(&self) -> bool {
        matches!(self, Self::File(_))
    }

    /// Writes what packet `sequence` carries behind its probe header.
    pub fn fill(&self, sequence: u64, body: &mut [u8]) {
        match self {
            Self::Pattern => body.iter_mut().zip((b'0'..=b'9').cycle()).for_each(|(b, d)| *b = d),
            Self::Random(bytes) => body.iter_mut().zip(bytes.iter().cycle()).for_each(|(b, d)| *b = *d),
            Self::Zero => body.fill(0),
            Self::File(bytes) => {
                let start = (sequence % bytes.len().max(1) as u64) as usize;
                body.iter_mut().zip(bytes.iter().cycle().skip(start)).for_each(|(b, d)| *b = *d);
            }
        }
    }
}
