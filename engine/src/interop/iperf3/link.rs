//! A control connection that does not block: what has come and what is to go.
#![forbid(unsafe_code)]

use std::io::{self, Read, Write};
use std::net::{Shutdown, SocketAddr, TcpStream};
use std::os::fd::{AsFd, BorrowedFd};

use super::control::Inbox;
use super::failure::{Code, Failure};
use super::state::State;

/// Bytes that are read and thrown away of a connection that is to be closed, at once.
const DISCARD: usize = 16 << 10;

/// A control connection.
#[derive(Debug)]
pub(super) struct Link {
    stream: TcpStream,
    pub(super) local: SocketAddr,
    pub(super) remote: SocketAddr,
    pub(super) inbox: Inbox,
    outbox: Vec<u8>,
    /// How much of the outbox has left.
    sent: usize,
}

impl Link {
    /// Over a connection that does not block.
    ///
    /// # Errors
    /// When it is closed already.
    pub(super) fn new(stream: TcpStream) -> io::Result<Self> {
        let (local, remote) = (stream.local_addr()?, stream.peer_addr()?);
        Ok(Self { stream, local, remote, inbox: Inbox::default(), outbox: Vec::new(), sent: 0 })
    }

    /// Reads until `wanted` bytes are there or no more come.
    pub(super) fn fill(&mut self, wanted: usize) -> Result<(), Failure> {
        match self.inbox.fill(&mut self.stream, wanted) {
            Ok(_) => Ok(()),
            // What a peer that died leaves behind: as good as closed.
            Err(error) => Err(Failure::new(Code::ControlClose).because(&error)),
        }
    }

    /// Puts `bytes` behind what is to go, and sends what can be.
    pub(super) fn say(&mut self, bytes: &[u8]) -> Result<(), Failure> {
        self.outbox.extend_from_slice(bytes);
        self.flush()
    }

    /// Says a state.
    pub(super) fn say_state(&mut self, state: State) -> Result<(), Failure> {
        self.say(&[state.byte()])
    }

    /// Sends what can be sent.
    pub(super) fn flush(&mut self) -> Result<(), Failure> {
        while self.sent < self.outbox.len() {
            match self.stream.write(&self.outbox[self.sent..]) {
                Ok(n) => self.sent += n,
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => return Ok(()),
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => return Err(Failure::new(Code::SendMessage).because(&error)),
            }
        }
        self.outbox.clear();
        self.sent = 0;
        Ok(())
    }

    /// Whether something is still to go.
    pub(super) fn is_sending(&self) -> bool {
        !self.outbox.is_empty()
    }

    /// Nothing more is said.
    pub(super) fn shut(&self) {
        let _ = self.stream.shutdown(Shutdown::Write);
    }

    /// Throws away what comes; whether the other end has closed it. A connection that is closed with something unread takes back what was said last.
    pub(super) fn discard(&mut self) -> bool {
        let mut bytes = [0; DISCARD];
        match self.stream.read(&mut bytes) {
            Ok(0) => true,
            Ok(_) => false,
            Err(error) => !matches!(error.kind(), io::ErrorKind::WouldBlock | io::ErrorKind::Interrupted),
        }
    }
}

impl AsFd for Link {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.stream.as_fd()
    }
}
