//! What follows the base packet: TLVs (RFC 8972 §4), or the packet padding of TWAMP Light (RFC 5357 §4.1.2).
//!
//! ```text
//! flags 8 (U unrecognized, M malformed, I integrity) · type 8 · length 16 of the value · value
//! ```
//!
//! A session-sender sets U; a session-reflector clears it where it knows the type, and sends all back.

/// Flags, type and length.
pub const HEADER_LEN: usize = 4;

/// The type is not known to the reflector.
const UNRECOGNIZED: u8 = 0x80;
/// The value is longer than what is left of the packet.
const MALFORMED: u8 = 0x40;

/// Reserved: nobody sends it, so that zeros are padding.
const RESERVED: u8 = 0;
/// Extra Padding (RFC 8972 §4.1).
const EXTRA_PADDING: u8 = 1;

/// Fills `area`, all that follows the base packet, with one Extra Padding TLV around the bytes of `fill`.
///
/// # Panics
/// When `area` is shorter than a header.
pub fn pad(area: &mut [u8], fill: impl FnOnce(&mut [u8])) {
    let (header, value) = area.split_at_mut(HEADER_LEN);
    // A UDP payload is no longer than 16 bits tell.
    let length = (value.len() as u16).to_be_bytes();
    header.copy_from_slice(&[UNRECOGNIZED, EXTRA_PADDING, length[0], length[1]]);
    fill(value);
}

/// Sets the flags of the TLVs in `area` as a session-reflector has to that knows none but Extra Padding; values stay as they came. What begins
/// with the reserved type is padding, and stays as it is from there on; a TLV that is cut short ends the reading (RFC 8972 §4).
pub fn reflect(area: &mut [u8]) {
    let mut rest = area;
    while let [flags, kind, high, low, ..] = rest {
        if *kind == RESERVED {
            return;
        }
        let length = usize::from(u16::from_be_bytes([*high, *low]));
        *flags = if *kind == EXTRA_PADDING { 0 } else { UNRECOGNIZED };
        if rest.len() - HEADER_LEN < length {
            rest[0] |= MALFORMED;
            return;
        }
        rest = &mut rest[HEADER_LEN + length..];
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn padding_is_recognised_and_the_unknown_is_marked() {
        let mut area = vec![0; 12];
        pad(&mut area, |value| value.fill(7));
        assert_eq!(area, [0x80, 1, 0, 8, 7, 7, 7, 7, 7, 7, 7, 7]);
        area.extend([0x80, 200, 0, 1, 9]);
        reflect(&mut area);
        assert_eq!(area, [0, 1, 0, 8, 7, 7, 7, 7, 7, 7, 7, 7, 0x80, 200, 0, 1, 9]);
        // The same once more: flags are set anew.
        reflect(&mut area);
        assert_eq!((area[0], area[12]), (0, 0x80));
    }

    #[test]
    fn what_is_cut_short_is_marked_and_nothing_behind_it_is_touched() {
        let mut area = [0x80, 1, 0, 9, 1, 2, 3, 4, 0x80, 200, 0, 0];
        reflect(&mut area);
        assert_eq!(area, [MALFORMED, 1, 0, 9, 1, 2, 3, 4, 0x80, 200, 0, 0]);
        let mut area = [0xff, 201, 0xff, 0xff];
        reflect(&mut area);
        assert_eq!(area[0], UNRECOGNIZED | MALFORMED);
    }

    #[test]
    fn zeros_are_padding() {
        for mut area in [vec![0; 27], vec![0x80, 1, 0, 0, 0, 0, 0, 3, 5], vec![1, 1, 1]] {
            let before = area.clone();
            reflect(&mut area);
            assert_eq!(area[1..], before[1..]);
            assert_eq!(area.last(), before.last());
        }
    }

    proptest! {
        #[test]
        fn only_flags_change(before in prop::collection::vec(any::<u8>(), 0..80)) {
            let mut after = before.clone();
            reflect(&mut after);
            let mut at = 0;
            let mut flags = vec![];
            while at + HEADER_LEN <= before.len() && before[at + 1] != RESERVED {
                flags.push(at);
                at += HEADER_LEN + usize::from(u16::from_be_bytes([before[at + 2], before[at + 3]]));
            }
            for at in 0..before.len() {
                prop_assert!(before[at] == after[at] || flags.contains(&at), "byte {}", at);
                if flags.contains(&at) {
                    prop_assert_eq!(after[at] & UNRECOGNIZED != 0, before[at + 1] != EXTRA_PADDING);
                }
            }
        }
    }
}
