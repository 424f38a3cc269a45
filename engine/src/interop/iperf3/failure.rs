//! Why a test failed, by iperf3's numbers and words.
#![forbid(unsafe_code)]

use std::fmt;
use std::io;

use crate::error::{Error, Kind};

macro_rules! codes {
    ($($(#[$doc:meta])* $name:ident = $number:literal, $text:literal;)*) => {
        /// iperf3's error numbers (`i_errno`), as far as UDP tests have them. They travel with SERVER_ERROR.
        #[derive(Debug, Clone, Copy, PartialEq, Eq)]
        #[non_exhaustive]
        pub enum Code {
            $($(#[$doc])* $name,)*
            /// One that is not listed here; from a peer.
            Other(i32),
        }

        impl Code {
            /// Its number.
            pub fn number(self) -> i32 {
                match self {
                    $(Self::$name => $number,)*
                    Self::Other(number) => number,
                }
            }

            /// The error with this number.
            pub fn from_number(number: i32) -> Self {
                match number {
                    $($number => Self::$name,)*
                    other => Self::Other(other),
                }
            }

            /// iperf3's words for it; scripts look for them.
            fn text(self) -> Option<&'static str> {
                match self {
                    $(Self::$name => Some($text),)*
                    Self::Other(_) => None,
                }
            }
        }
    };
}

codes! {
    /// Wrong duration.
    Duration = 5, "test duration valid values are 0 to 86400 seconds";
    /// Wrong number of streams.
    Streams = 6, "invalid number of parallel streams (min = 1, max = 128)";
    /// Wrong socket buffer.
    BufferSize = 8, "socket buffer size too large (maximum = 536870912 bytes)";
    /// Wrong report interval.
    Interval = 9, "invalid report interval (min = 0.1, max = 60 seconds)";
    /// Wrong omitted time.
    Omit = 12, "bogus value for --omit (maximum = 600 seconds)";
    /// Not to be had.
    Unimplemented = 13, "an option you are trying to set is not implemented yet";
    /// Wrong burst.
    Burst = 15, "invalid burst count (maximum = 1000)";
    /// Wrong payload length.
    UdpLength = 20, "block size invalid (minimum = 16 bytes, maximum = 65507 bytes)";
    /// Wrong TOS.
    Tos = 21, "bad TOS value (must be between 0 and 255 inclusive)";
    /// The client's credentials are incomplete.
    ClientAuthentication = 22, "you must specify a username, password, and path to a valid RSA public key";
    /// The server's credentials are incomplete.
    ServerAuthentication = 23, "you must specify a path to a valid RSA private key and a user credential file";
    /// Both `-R` and `--bidir`.
    ReverseBidirectional = 25, "cannot be both reverse and bidirectional";
    /// Wrong port.
    Port = 26, "port number must be between 1 and 65535 inclusive";
    /// More than the server allows.
    TotalRate = 27, "total required bandwidth is larger than server limit";
    /// Users' file cannot be read.
    Users = 35, "cannot access authorized users file";
    /// Longer than the server allows.
    MaxDuration = 37, "client's requested duration exceeds the server's maximum permitted limit";
    /// A test could not be begun.
    InitTest = 101, "test initialization failed";
    /// No listener.
    Listen = 102, "unable to start listener for connections";
    /// No control connection.
    Connect = 103, "unable to connect to server - server may have stopped running or use a different port, firewall issue, etc.";
    /// A client could not be accepted.
    Accept = 104, "unable to accept connection from client";
    /// Cookie not sent.
    SendCookie = 105, "unable to send cookie to server";
    /// Cookie not received.
    ReceiveCookie = 106, "unable to receive cookie at server";
    /// Control connection not written.
    ControlWrite = 107, "unable to write to the control socket";
    /// Control connection not read.
    ControlRead = 108, "unable to read from the control socket";
    /// Control connection closed.
    ControlClose = 109, "control socket has closed unexpectedly";
    /// An unknown or unexpected state.
    Message = 110, "received an unknown control message (ensure other side is iperf3 and not iperf)";
    /// State not sent.
    SendMessage = 111, "unable to send control message - port may not be available, the other side may have stopped running, etc.";
    /// State not received.
    ReceiveMessage = 112, "unable to receive control message - port may not be available, the other side may have stopped running, etc.";
    /// Parameters not sent.
    SendParameters = 113, "unable to send parameters to server";
    /// Parameters not received, or wrong.
    ReceiveParameters = 114, "unable to receive parameters from client";
    /// Results not sent.
    SendResults = 116, "unable to send results";
    /// Results not received, or wrong.
    ReceiveResults = 117, "unable to receive results";
    /// The client ended it.
    ClientTerminated = 119, "the client has terminated";
    /// The server ended it.
    ServerTerminated = 120, "the server has terminated";
    /// The server is busy.
    AccessDenied = 121, "the server is busy running a test. try again later";
    /// Socket buffer.
    SetBuffer = 124, "unable to set socket buffer size";
    /// TOS not set.
    SetTos = 125, "unable to set IP TOS";
    /// Traffic class not set.
    SetTrafficClass = 126, "unable to set IPv6 traffic class";
    /// Flow label not set.
    SetFlowLabel = 127, "unable to set IPv6 flow label";
    /// A protocol that is not tested.
    Protocol = 131, "protocol does not exist";
    /// CPU not to be had.
    Affinity = 132, "unable to set CPU affinity";
    /// Who asked may not.
    Authentication = 142, "test authorization failed";
    /// Interface not to be had.
    BindDevice = 143, "Unable to bind-to-device (check perror, maybe permissions?)";
    /// Nothing was received for too long.
    NoMessage = 144, "idle timeout for receiving data";
    /// "Don't fragment" not set.
    DontFragment = 145, "unable to set IP Do-Not-Fragment flag";
    /// A server's time for a test is over.
    DurationExpired = 160, "server test duration expired";
    /// A stream could not be made.
    CreateStream = 200, "unable to create a new stream";
    /// A stream could not be prepared.
    InitStream = 201, "unable to initialize stream";
    /// No UDP listener.
    StreamListen = 202, "unable to start stream listener";
    /// A stream's handshake failed at the client.
    StreamConnect = 203, "unable to connect stream";
    /// A stream's handshake failed at the server.
    StreamAccept = 204, "unable to accept stream connection";
    /// A stream could not be sent on.
    StreamWrite = 205, "unable to write to stream socket";
    /// A stream could not be received from.
    StreamRead = 206, "unable to read from stream socket";
    /// Results of a stream that there is not.
    StreamId = 208, "stream has an invalid id";
}

/// Why a test failed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Failure {
    /// iperf3's number.
    pub code: Code,
    /// The system's reason, at whichever end.
    pub errno: Option<i32>,
    /// What iperf3 would not say: where, and what to do about it.
    pub detail: Option<String>,
    /// Whether it stopped because somebody asked (Ctrl-C): iperf3 says "interrupt - the client has terminated".
    pub interrupted: bool,
    /// Whether the other end reported it (SERVER_ERROR): iperf3 says "server error - ".
    pub reported: bool,
}

impl Failure {
    /// A failure of this kind.
    pub fn new(code: Code) -> Self {
        Self { code, errno: None, detail: None, interrupted: false, reported: false }
    }

    /// With the system's reason.
    #[must_use]
    pub fn because(mut self, error: &io::Error) -> Self {
        self.errno = error.raw_os_error();
        if self.errno.is_none() && self.detail.is_none() {
            self.detail = Some(error.to_string());
        }
        self
    }

    /// With what iperf3 would not say.
    #[must_use]
    pub fn detail(mut self, detail: impl Into<String>) -> Self {
        self.detail = Some(detail.into());
        self
    }

    /// The words that iperf3 has for it, with the system's reason, without "error - " in front and without the detail: the value of `error` in JSON is
    /// "error - " and this; of an interrupted one "interrupt - " and this.
    pub fn message(&self) -> String {
        let text = match self.code.text() {
            Some(text) => text.to_owned(),
            None => format!("int_errno={}", self.code.number()),
        };
        match self.errno.filter(|&errno| errno != 0) {
            Some(errno) => format!("{text}: {}", strerror(errno)),
            None => text,
        }
    }
}

impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.message())?;
        match &self.detail {
            Some(detail) => write!(f, " ({detail})"),
            None => Ok(()),
        }
    }
}

impl std::error::Error for Failure {}

impl Failure {
    /// As an error of the engine's surface.
    pub fn into_error(self) -> Error {
        let kind = if self.code.number() < 100 { Kind::Usage } else { Kind::Failed };
        Error::new(kind, self.to_string())
    }
}

/// The C library's words for an errno.
fn strerror(errno: i32) -> &'static str {
    nix::errno::Errno::from_raw(errno).desc()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_read_back_and_the_words_are_iperf3s() {
        for number in [5, 20, 27, 37, 103, 109, 114, 121, 142, 144, 160, 208, 999] {
            assert_eq!(Code::from_number(number).number(), number);
        }
        let refused = Failure::new(Code::Connect).because(&io::Error::from_raw_os_error(libc::ECONNREFUSED));
        assert!(refused.message().ends_with("firewall issue, etc.: Connection refused"));
        assert_eq!(Failure::new(Code::Other(999)).message(), "int_errno=999");
    }
}
