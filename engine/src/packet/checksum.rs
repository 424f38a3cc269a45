//! The Internet checksum (RFC 1071): ones' complement sums of 16-bit big-endian words.

use std::net::IpAddr;

/// Folds a wide sum of 16-bit words to 16 bits, keeping its value in ones' complement.
#[inline]
pub const fn fold(sum: u64) -> u16 {
    let sum = (sum >> 32) + (sum & 0xffff_ffff);
    let sum = (sum >> 16) + (sum & 0xffff);
    // At most 0x2fffe by now: the first of these may carry once more, the second cannot.
    let sum = (sum >> 16) + (sum & 0xffff);
    ((sum >> 16) + (sum & 0xffff)) as u16
}

/// The unfolded sum of `bytes`, an odd last byte padded with zero on the right.
///
/// Sums of pieces may be added when every piece but the last has an even length.
#[inline]
pub fn sum(bytes: &[u8]) -> u64 {
    let mut wide = bytes.chunks_exact(4);
    // Words of 32 bits have the same ones' complement sum once folded, and half as many additions.
    let mut total: u64 = wide.by_ref().map(|w| u64::from(u32::from_be_bytes([w[0], w[1], w[2], w[3]]))).sum();
    let mut rest = wide.remainder().chunks_exact(2);
    total += rest.by_ref().map(|w| u64::from(u16::from_be_bytes([w[0], w[1]]))).sum::<u64>();
    if let [odd] = rest.remainder() {
        total += u64::from(*odd) << 8;
    }
    total
}

/// The unfolded sum of the pseudo-header (RFC 768, RFC 8200 §8.1) of `len` bytes of `protocol`.
pub fn pseudo_sum(source: IpAddr, destination: IpAddr, protocol: u8, len: u32) -> u64 {
    address_sum(source) + address_sum(destination) + u64::from(protocol) + u64::from(len)
}

fn address_sum(address: IpAddr) -> u64 {
    match address {
        IpAddr::V4(v4) => sum(&v4.octets()),
        IpAddr::V6(v6) => sum(&v6.octets()),
    }
}

/// The checksum field of a header or datagram whose words add up to `sum`.
#[inline]
pub const fn finish(sum: u64) -> u16 {
    !fold(sum)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_example_of_rfc_1071() {
        assert_eq!(fold(sum(&[0x00, 0x01, 0xf2, 0x03, 0xf4, 0xf5, 0xf6, 0xf7])), 0xddf2);
    }

    proptest::proptest! {
        #[test]
        fn folding_is_adding_the_carries_until_none_is_left(sum: u64) {
            let mut slow = sum;
            while slow > 0xffff {
                slow = (slow & 0xffff) + (slow >> 16);
            }
            proptest::prop_assert_eq!(u64::from(fold(sum)), slow);
        }

        #[test]
        fn wide_sum_equals_word_by_word(bytes in proptest::collection::vec(proptest::num::u8::ANY, 0..200)) {
            let mut slow = 0u64;
            for pair in bytes.chunks(2) {
                slow += u64::from(pair[0]) << 8 | u64::from(*pair.get(1).unwrap_or(&0));
            }
            // 0 and 0xffff are the same number in ones' complement.
            proptest::prop_assert_eq!(fold(sum(&bytes)) % 0xffff, fold(slow) % 0xffff);
        }
    }
}
