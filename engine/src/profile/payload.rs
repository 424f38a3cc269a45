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
}
