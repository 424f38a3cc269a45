//! A client of a server that says whatever a test wants.
#![allow(dead_code, reason = "not every test file needs all of it")]

use std::io::{Read, Write};
use std::net::{SocketAddr, TcpStream, UdpSocket};
use std::time::Duration;

use serde_json::{Value, json};

pub(crate) struct Raw {
    pub(crate) stream: TcpStream,
    server: SocketAddr,
}

impl Raw {
    /// A connection that has said nothing.
    pub(crate) fn connect(server: SocketAddr) -> Self {
        let stream = TcpStream::connect(server).expect("the server listens");
        stream.set_read_timeout(Some(Duration::from_secs(20))).expect("a time");
        Self { stream, server }
    }

    /// One whose cookie was answered.
    pub(crate) fn greeted(server: SocketAddr) -> Self {
        let mut raw = Self::connect(server);
        raw.say(&[&[b'a'; 36][..], &[0]].concat());
        assert_eq!(raw.byte(), Some(9));
        raw
    }

    /// One whose parameters were taken.
    pub(crate) fn asked(server: SocketAddr, parameters: &Value) -> Self {
        let mut raw = Self::greeted(server);
        raw.say_json(parameters);
        assert_eq!(raw.byte(), Some(10));
        raw
    }

    pub(crate) fn say(&mut self, bytes: &[u8]) {
        self.stream.write_all(bytes).expect("the server reads");
    }

    pub(crate) fn say_json(&mut self, json: &Value) {
        let text = json.to_string();
        self.say(&[&(text.len() as u32).to_be_bytes()[..], text.as_bytes()].concat());
    }

    /// The next byte; `None` when the server has closed the connection.
    pub(crate) fn byte(&mut self) -> Option<u8> {
        let mut byte = [0];
        match self.stream.read(&mut byte) {
            Ok(1) => Some(byte[0]),
            _ => None,
        }
    }

    /// The error that the server states before it closes the connection, if it does.
    pub(crate) fn error(&mut self) -> Option<i32> {
        let mut rest = Vec::new();
        let _ = self.stream.read_to_end(&mut rest);
        let at = rest.len().checked_sub(9)?;
        let number = rest[at + 1..].first_chunk().map(|bytes| i32::from_be_bytes(*bytes));
        number.filter(|_| rest[at] == 0xfe)
    }

    pub(crate) fn json(&mut self) -> Value {
        let mut length = [0; 4];
        self.stream.read_exact(&mut length).expect("a length");
        let mut text = vec![0; u32::from_be_bytes(length) as usize];
        self.stream.read_exact(&mut text).expect("JSON");
        serde_json::from_slice(&text).expect("JSON")
    }

    /// A stream, from an address of ours, that was answered.
    pub(crate) fn stream(&self, from: &str) -> UdpSocket {
        let socket = self.hello(from);
        let mut reply = [0; 100];
        assert_eq!(socket.recv(&mut reply).ok().map(|n| reply[..n].to_vec()), Some(b"6789".to_vec()));
        socket
    }

    /// A socket that has said hello.
    pub(crate) fn hello(&self, from: &str) -> UdpSocket {
        let socket = UdpSocket::bind((from, 0)).expect("a port");
        socket.set_read_timeout(Some(Duration::from_secs(20))).expect("a time");
        socket.connect(self.server).expect("loopback");
        socket.send(b"9876").expect("loopback");
        socket
    }

    /// Ends a test of one sending stream, and gives the server's results.
    pub(crate) fn finish(&mut self, packets: u64) -> Value {
        self.say(&[4]);
        assert_eq!(self.byte(), Some(13));
        self.say_json(&results(packets));
        let json = self.json();
        assert_eq!(self.byte(), Some(14));
        self.say(&[16]);
        json
    }
}

pub(crate) fn parameters() -> Value {
    json!({"udp": true, "omit": 0, "time": 5, "num": 0, "blockcount": 0, "parallel": 1, "len": 1000, "bandwidth": 1_000_000})
}

pub(crate) fn results(packets: u64) -> Value {
    json!({"cpu_util_total": 1, "cpu_util_user": 1, "cpu_util_system": 0, "sender_has_retransmits": 0,
        "streams": [{"id": 1, "bytes": packets * 1000, "retransmits": -1, "jitter": 0, "errors": 0, "packets": packets}]})
}

/// A datagram of `length` bytes with this number, counted from 1.
pub(crate) fn datagram(number: u32, length: usize) -> Vec<u8> {
    let mut bytes = vec![0; length];
    bytes[8..12].copy_from_slice(&number.to_be_bytes());
    bytes
}

/// A test from beginning to end: the server is there, and counts rightly.
pub(crate) fn whole_test(server: SocketAddr) {
    let mut raw = Raw::asked(server, &parameters());
    let stream = raw.stream("127.0.0.1");
    assert_eq!((raw.byte(), raw.byte()), (Some(1), Some(2)));
    (1..=20).for_each(|number| assert_eq!(stream.send(&datagram(number, 1000)).ok(), Some(1000)));
    let said = raw.finish(20);
    let told = &said["streams"][0];
    assert_eq!((told["bytes"].as_u64(), told["packets"].as_u64()), (Some(20_000), Some(20)), "{said}");
    assert_eq!((told["errors"].as_u64(), told["id"].as_u64()), (Some(0), Some(1)), "{said}");
}
