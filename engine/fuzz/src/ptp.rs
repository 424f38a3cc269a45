//! The common header of PTP messages.
#![forbid(unsafe_code)]

use wirerate_engine::packet::ptp::{HEADER_LEN, Header};

/// A header is read from bytes that are there, and says nothing that they do not.
pub fn check(input: &[u8]) {
    let Some(header) = Header::parse(input) else { return };
    assert!(input.len() >= usize::from(header.length) && usize::from(header.length) >= HEADER_LEN);
    assert_eq!((header.kind, header.version), (input[0] & 0x0f, 2));
    assert_eq!(header.clock.0, input[20..28]);
    assert!(!header.kind_name().is_empty());
    assert_eq!(
        Header::parse(&input[..usize::from(header.length)]),
        Some(header),
        "what follows changes nothing"
    );
}
