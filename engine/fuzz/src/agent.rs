//! Lines between the two ends of a test: no line panics, and what is read is written as a line that reads.

use wirerate_engine::agent::protocol::{Message, Request, shortened};

/// Reads `bytes` as a request and as a message.
pub fn check(bytes: &[u8]) {
    if let Ok(request) = Request::parse(bytes) {
        let line = request.line();
        assert_eq!(line.find('\n'), Some(line.len() - 1));
        Request::parse(line.as_bytes()).expect("written as it is read");
    }
    if let Ok(message) = Message::parse(bytes) {
        let line = message.line();
        assert_eq!(line.find('\n'), Some(line.len() - 1));
        Message::parse(line.as_bytes()).expect("written as it is read");
    }
    assert!(!shortened(bytes).contains(char::is_control));
}
