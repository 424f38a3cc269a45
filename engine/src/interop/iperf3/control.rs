//! The control connection's grammar: a cookie, then states of one byte and JSON behind its length.
//!
//! ```text
//! cookie   36 characters and a NUL, once, from the client
//! state    one byte
//! JSON     length (32 bits, big-endian) · that many bytes
//! error    behind the state ServerError: error number · errno (32 bits each, big-endian)
//! ```
//!
//! What a reader expects follows from the state that it is in; nothing in the bytes says which of these they are. A reader takes no more than it was told
//! to, so that a peer cannot make it hold more.
#![forbid(unsafe_code)]

use std::io::{self, Read};

use serde_json::Value;

use super::COOKIE_LEN;
use super::failure::{Code, Failure};
use super::state::State;

/// Longest parameters in bytes, as iperf3's server has it.
pub const MAX_PARAMETERS: usize = 8192;

/// Longest results of a client in bytes: those of 256 streams take some 90 KiB.
pub const MAX_CLIENT_RESULTS: usize = 256 << 10;

/// Longest results of a server in bytes: what it has printed may be among them.
pub const MAX_SERVER_RESULTS: usize = 64 << 20;

/// Bytes read at once.
const PIECE: usize = 4096;

/// What has been read of a control connection and not been understood yet.
#[derive(Debug, Default)]
pub struct Inbox {
    bytes: Vec<u8>,
    closed: bool,
}

impl Inbox {
    /// Takes bytes that came.
    pub fn push(&mut self, bytes: &[u8]) {
        self.bytes.extend_from_slice(bytes);
    }

    /// Reads what has come, until at least `wanted` bytes are there or no more come. Returns whether something came.
    ///
    /// # Errors
    /// The connection's.
    pub fn fill(&mut self, from: &mut impl Read, wanted: usize) -> io::Result<bool> {
        let before = self.bytes.len();
        let mut piece = [0; PIECE];
        while self.bytes.len() < wanted && !self.closed {
            match from.read(&mut piece) {
                Ok(0) => self.closed = true,
                Ok(n) => self.bytes.extend_from_slice(&piece[..n]),
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => break,
                Err(error) => return Err(error),
            }
        }
        Ok(self.bytes.len() > before)
    }

    /// Whether the other end has closed the connection; what came before may still be here.
    pub fn is_closed(&self) -> bool {
        self.closed
    }

    /// Bytes that are here.
    pub fn len(&self) -> usize {
        self.bytes.len()
    }

    /// Whether none are.
    pub fn is_empty(&self) -> bool {
        self.bytes.is_empty()
    }

    /// The cookie, once it is whole, without its NUL.
    ///
    /// # Errors
    /// ReceiveCookie, when it is none: other than visible characters, or without the NUL.
    pub fn cookie(&mut self) -> Result<Option<String>, Failure> {
        let wrong = || Failure::new(Code::ReceiveCookie).detail("what came is no iperf3 cookie");
        let known = &self.bytes[..self.bytes.len().min(COOKIE_LEN)];
        if !known.iter().all(u8::is_ascii_graphic) {
            return Err(wrong());
        }
        if self.bytes.len() <= COOKIE_LEN {
            return Ok(None);
        }
        if self.bytes[COOKIE_LEN] != 0 {
            return Err(wrong());
        }
        let cookie = String::from_utf8_lossy(&self.bytes[..COOKIE_LEN]).into_owned();
        self.bytes.drain(..=COOKIE_LEN);
        Ok(Some(cookie))
    }

    /// The next state, if a byte has come.
    ///
    /// # Errors
    /// Message, when there is no such state.
    pub fn state(&mut self) -> Result<Option<State>, Failure> {
        let Some(&byte) = self.bytes.first() else { return Ok(None) };
        let state = State::from_byte(byte)
            .ok_or_else(|| Failure::new(Code::Message).detail(format!("state {}", byte.cast_signed())))?;
        self.bytes.remove(0);
        Ok(Some(state))
    }

    /// The error number and the errno behind ServerError, once both are here.
    pub fn server_error(&mut self) -> Option<(i32, i32)> {
        let number = |at: usize| {
            self.bytes.get(at..).and_then(|rest| rest.first_chunk()).map(|b| i32::from_be_bytes(*b))
        };
        let both = (number(0)?, number(4)?);
        self.bytes.drain(..8);
        Some(both)
    }

    /// How many bytes there have to be for the JSON that comes next, of at most `most` bytes, to be whole.
    ///
    /// # Errors
    /// `code`, when its length is 0 or above `most`.
    pub fn json_wants(&self, most: usize, code: Code) -> Result<usize, Failure> {
        let Some(length) = self.bytes.first_chunk().map(|b| u32::from_be_bytes(*b) as usize) else {
            return Ok(4);
        };
        if length == 0 || length > most {
            let why = format!("JSON of {length} bytes, where 1 to {most} are taken");
            return Err(Failure::new(code).detail(why));
        }
        Ok(4 + length)
    }

    /// The JSON that comes next, once it is whole.
    ///
    /// # Errors
    /// `code`, when its length is 0 or above `most`, or it is no JSON.
    pub fn json(&mut self, most: usize, code: Code) -> Result<Option<Value>, Failure> {
        let end = self.json_wants(most, code)?;
        if end == 4 || self.bytes.len() < end {
            return Ok(None);
        }
        let value = serde_json::from_slice(&self.bytes[4..end])
            .map_err(|error| Failure::new(code).detail(format!("no JSON: {error}")))?;
        self.bytes.drain(..end);
        Ok(Some(value))
    }
}

/// `value` as it travels.
pub fn json_message(value: &Value) -> Vec<u8> {
    let text = value.to_string();
    let length = u32::try_from(text.len()).unwrap_or(u32::MAX);
    let mut message = length.to_be_bytes().to_vec();
    message.extend_from_slice(text.as_bytes());
    message
}

/// ServerError with what is wrong.
pub fn error_message(failure: &Failure) -> Vec<u8> {
    let mut message = vec![State::ServerError.byte()];
    message.extend(failure.code.number().to_be_bytes());
    message.extend(failure.errno.unwrap_or(0).to_be_bytes());
    message
}

/// A new cookie: 36 characters from `a` to `z` and `2` to `7`.
///
/// # Errors
/// When the system has no random bytes.
pub fn new_cookie() -> io::Result<String> {
    const ALPHABET: &[u8; 32] = b"abcdefghijklmnopqrstuvwxyz234567";
    let mut random = [0u8; COOKIE_LEN];
    getrandom::fill(&mut random).map_err(io::Error::other)?;
    Ok(random.iter().map(|byte| char::from(ALPHABET[usize::from(byte % 32)])).collect())
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use serde_json::json;

    fn inbox(bytes: &[u8]) -> Inbox {
        let mut inbox = Inbox::default();
        inbox.push(bytes);
        inbox
    }

    #[test]
    fn a_cookie_is_read_whole() {
        let cookie = new_cookie().unwrap();
        let mut wire = cookie.clone().into_bytes();
        assert_eq!(inbox(&wire).cookie().unwrap(), None, "without its NUL");
        wire.extend([0, 9]);
        let mut inbox_ = inbox(&wire);
        assert_eq!(inbox_.cookie().unwrap(), Some(cookie));
        assert_eq!(inbox_.state().unwrap(), Some(State::ParamExchange));
        assert!(inbox(b"GET / HTTP/1.1").cookie().is_err());
        assert!(inbox(&[b'a'; 37]).cookie().is_err());
    }

    #[test]
    fn states_may_come_together_and_unknown_ones_are_refused() {
        let mut inbox_ = inbox(&[1, 2, 0xfe, 0, 0, 0, 27, 0, 0, 0, 2]);
        assert_eq!(inbox_.state().unwrap(), Some(State::TestStart));
        assert_eq!(inbox_.state().unwrap(), Some(State::TestRunning));
        assert_eq!(inbox_.state().unwrap(), Some(State::ServerError));
        assert_eq!(inbox_.server_error(), Some((27, 2)));
        assert_eq!(inbox_.state().unwrap(), None);
        for byte in [0, 3, 5, 15, 17, 0x80] {
            assert!(inbox(&[byte]).state().is_err());
        }
    }

    #[test]
    fn a_length_is_believed_only_within_bounds() {
        let wire = json_message(&json!({"udp": true}));
        let mut whole = inbox(&wire);
        assert_eq!(whole.json(MAX_PARAMETERS, Code::ReceiveParameters).unwrap(), Some(json!({"udp": true})));
        assert!(whole.is_empty());
        let mut part = inbox(&wire[..9]);
        assert_eq!(part.json(MAX_PARAMETERS, Code::ReceiveParameters).unwrap(), None);
        for length in [0u32, MAX_PARAMETERS as u32 + 1, u32::MAX] {
            let failure = inbox(&length.to_be_bytes()).json(MAX_PARAMETERS, Code::ReceiveParameters);
            assert_eq!(failure.unwrap_err().code, Code::ReceiveParameters);
        }
        assert!(inbox(&[0, 0, 0, 2, b'{', b'{']).json(10, Code::ReceiveResults).is_err());
    }

    #[test]
    fn no_more_is_read_than_is_wanted() {
        struct Endless;
        impl Read for Endless {
            fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
                buffer.fill(b'a');
                Ok(buffer.len())
            }
        }
        let mut inbox = Inbox::default();
        assert!(inbox.fill(&mut Endless, 37).unwrap());
        assert!(inbox.len() <= 37 + PIECE);
        assert!(!inbox.fill(&mut Endless, 37).unwrap());
    }

    proptest! {
        #[test]
        fn no_bytes_panic(bytes in prop::collection::vec(any::<u8>(), 0..200)) {
            let _ = inbox(&bytes).cookie();
            let _ = inbox(&bytes).state();
            let _ = inbox(&bytes).server_error();
            let _ = inbox(&bytes).json(100, Code::ReceiveResults);
        }
    }
}
