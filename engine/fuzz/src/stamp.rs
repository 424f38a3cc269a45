//! STAMP packets: no bytes panic, what reads back is written again as it was, no answer is answered, and a reflector changes flags only.

use wirerate_engine::packet::stamp::{Answer, ErrorEstimate, Format, LEN, NotARequest, Request, tlv};

/// Reads `packet` as both ends do.
pub fn check(packet: &[u8]) {
    let answer = Answer::parse(packet);
    if let Some(answer) = answer {
        let mut again = vec![0; packet.len().min(LEN)];
        answer.emit(&mut again);
        assert_eq!(Answer::parse(&again), Some(answer));
        for (bits, error) in [(answer.received, answer.error), (answer.timestamp, answer.error)] {
            if let Some(ns) = error.format.decode(bits, 1_800_000_000_000_000_000) {
                assert!(error.format == Format::Ntp || error.format.encode(ns) == bits);
            }
        }
    }
    let request = match Request::parse(packet) {
        Ok(request) => request,
        Err(NotARequest::Answer) => {
            assert!(ErrorEstimate::from_bits(u16::from_be_bytes([packet[12], packet[13]])).is_some());
            return;
        }
        Err(_) => return,
    };
    let mut again = [0xff; LEN];
    request.emit(&mut again);
    let same = if packet.len() < LEN { Request { ssid: 0, ..request } } else { request };
    assert_eq!(Request::parse(&again), Ok(same));
    let mut reply = packet.to_vec();
    if let Some(more) = reply.get_mut(LEN..) {
        tlv::reflect(more);
        let once = more.to_vec();
        tlv::reflect(more);
        assert_eq!(more, once, "a second reflector finds nothing more to say");
    }
    Answer::to(&request, 7, 1 << 32, 64, request.error).emit(&mut reply);
    assert_eq!(reply.len(), packet.len());
    if reply.len() > 40 {
        assert_eq!(Request::parse(&reply), Err(NotARequest::Answer), "two reflectors answer each other");
    }
}
