//! The control connection's states: one signed byte each.
#![forbid(unsafe_code)]

/// A state byte.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum State {
    /// From the server: streams stand, get ready.
    TestStart,
    /// From the server: data flows.
    TestRunning,
    /// From the client: it has ended.
    TestEnd,
    /// From the server: send the parameters.
    ParamExchange,
    /// From the server: connect the streams.
    CreateStreams,
    /// From a server that is stopped.
    ServerTerminate,
    /// From a client that is stopped.
    ClientTerminate,
    /// From the server: send the results.
    ExchangeResults,
    /// From the server: both ends have them.
    DisplayResults,
    /// From the client: it is over.
    Done,
    /// From a server that is busy.
    AccessDenied,
    /// From the server, before an error number and an errno of four bytes each.
    ServerError,
}

impl State {
    /// Its byte.
    pub fn byte(self) -> u8 {
        match self {
            Self::TestStart => 1,
            Self::TestRunning => 2,
            Self::TestEnd => 4,
            Self::ParamExchange => 9,
            Self::CreateStreams => 10,
            Self::ServerTerminate => 11,
            Self::ClientTerminate => 12,
            Self::ExchangeResults => 13,
            Self::DisplayResults => 14,
            Self::Done => 16,
            Self::AccessDenied => 0xff,
            Self::ServerError => 0xfe,
        }
    }

    /// The state with this byte; `None`: there is none that travels.
    pub fn from_byte(byte: u8) -> Option<Self> {
        use State::*;
        [
            TestStart,
            TestRunning,
            TestEnd,
            ParamExchange,
            CreateStreams,
            ServerTerminate,
            ClientTerminate,
            ExchangeResults,
            DisplayResults,
            Done,
            AccessDenied,
            ServerError,
        ]
        .into_iter()
        .find(|state| state.byte() == byte)
    }
}
