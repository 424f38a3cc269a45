//! Reports of iperf3 and rows of iperf 2: no bytes panic, a report reads the same twice, and what breaks off is an error that says something.

use wirerate_engine::interop::peer::{iperf2, iperf3};

/// Reads `text` as both.
pub fn check(text: &[u8]) {
    let text = String::from_utf8_lossy(text);
    let (_, _) = (iperf2::csv(&text), iperf2::sent(&text));
    match iperf3::parse(&text) {
        Ok(result) => {
            assert_eq!(iperf3::parse(&text).ok().as_ref(), Some(&result));
            for figures in [result.sent, result.received].into_iter().flatten() {
                assert!(figures.bits_per_second.is_finite());
            }
        }
        Err(error) => assert!(!error.what.is_empty()),
    }
}
