//! iperf3's control connection: no bytes panic, nothing is kept beyond its bounds, and what is understood is what is sent again.

use wirerate_engine::interop::iperf3::control::{Inbox, MAX_CLIENT_RESULTS, MAX_PARAMETERS, json_message};
use wirerate_engine::interop::iperf3::header::{Counters, Header, is_reply};
use wirerate_engine::interop::iperf3::results::Results;
use wirerate_engine::interop::iperf3::{Code, Parameters};

/// Reads the rest of `input` as what its first byte says.
pub fn check(input: &[u8]) {
    let Some((&kind, rest)) = input.split_first() else { return };
    let mut inbox = Inbox::default();
    inbox.push(rest);
    match kind % 5 {
        0 => {
            if let Ok(Some(cookie)) = inbox.cookie() {
                assert!(cookie.len() == 36 && cookie.bytes().all(|byte| byte.is_ascii_graphic()));
                assert_eq!(inbox.len(), rest.len() - 37);
            }
        }
        1 => {
            while let Ok(Some(state)) = inbox.state() {
                assert_eq!(state.byte(), rest[rest.len() - inbox.len() - 1]);
            }
            let _ = inbox.server_error();
        }
        2 => {
            let wanted = inbox.json_wants(MAX_PARAMETERS, Code::ReceiveParameters);
            assert!(wanted.is_err() || wanted.is_ok_and(|wanted| wanted <= 4 + MAX_PARAMETERS));
            let Ok(Some(json)) = inbox.json(MAX_PARAMETERS, Code::ReceiveParameters) else { return };
            let Ok(read) = Parameters::from_json(&json) else { return };
            assert!((1..=256).contains(&read.streams()) && read.length >= 16);
            assert_eq!(Parameters::from_json(&read.to_json(None)), Ok(read));
        }
        3 => {
            let Ok(Some(json)) = inbox.json(MAX_CLIENT_RESULTS, Code::ReceiveResults) else { return };
            let Ok(read) = Results::from_json(json, 3) else { return };
            assert_eq!(read.streams.len(), 3);
            assert!(read.streams.iter().all(|stream| stream.totals(u64::MAX).packets <= stream.packets));
            let mut again = Inbox::default();
            again.push(&json_message(&read.to_json(true)));
            let json = again.json(usize::MAX >> 1, Code::ReceiveResults).expect("it was made here");
            let sent = Results::from_json(json.expect("whole"), 3).expect("what is sent can be read");
            assert_eq!(sent.output.is_some(), read.output.is_some());
            assert_eq!(sent.streams[0].bytes, read.streams[0].bytes);
        }
        _ => {
            let wide = Header::read(rest, Counters::Wide);
            assert_eq!(wide.is_some(), rest.len() >= 16);
            assert_eq!(Header::read(rest, Counters::Narrow).is_some(), rest.len() >= 12);
            assert!(!is_reply(rest) || rest.len() == 4);
        }
    }
}
