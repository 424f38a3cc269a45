//! Mixes of frame sizes, as typed.

use wirerate_engine::method::qualify::Size;
use wirerate_engine::profile::imix;
use wirerate_engine::profile::size::SizeList;

/// No text panics; a mix that is read has a bounded number of frames, says the same when it is told to a sender, and has a mean size between its smallest and its largest.
pub fn check(input: &[u8]) {
    let Ok(text) = std::str::from_utf8(input) else { return };
    let Ok(list) = imix::parse(text) else { return };
    if let SizeList::Cycle(cycle) = &list {
        assert!((1..=imix::LONGEST).contains(&cycle.len()));
    }
    assert_eq!(list.to_string().parse::<SizeList>().expect("what is told is understood"), list);
    let size = Size::mix(text).expect("it was read before");
    if size.sizes(false).is_ok() {
        assert!(size.mean_bytes() <= f64::from(size.largest()) + 1e-9);
    }
}
