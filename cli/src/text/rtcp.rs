//! What was said and heard by RTCP, as text.

use std::fmt::Write as _;

use wirerate_engine::report::Rtcp;

use super::{count, time};

/// Participants that are shown one by one.
const SHOWN: usize = 8;

/// Lines of RTCP.
pub fn rtcp(text: &mut String, rtcp: &Rtcp) {
    let _ = writeln!(
        text,
        "rtcp       sent {} sender and {} receiver reports, received {} and {}, goodbye from {}",
        count(rtcp.sr_sent),
        count(rtcp.rr_sent),
        count(rtcp.sr_received),
        count(rtcp.rr_received),
        count(rtcp.bye_received)
    );
    if let Some(rtt) = &rtcp.rtt_ns {
        let _ = writeln!(
            text,
            "round trip {} to {}, mean {} by {} reports",
            time(rtt.min),
            time(rtt.max),
            time(rtt.mean),
            count(rtt.count)
        );
    }
    for peer in rtcp.peers.iter().take(SHOWN) {
        let _ = writeln!(
            text,
            "reported   by {} on SSRC {:#010x}: lost {} ({:.1} % since its last report but one), jitter {}",
            peer.source,
            peer.stream,
            peer.lost,
            peer.fraction_lost * 100.0,
            time(peer.jitter_ns)
        );
    }
    for sender in rtcp.senders.iter().take(SHOWN) {
        let left = if sender.left { ", and left" } else { "" };
        let _ = writeln!(
            text,
            "sender     SSRC {:#010x} at {}: says that it sent {} packets{left}",
            sender.ssrc,
            sender.source,
            count(sender.packets.into())
        );
    }
    let more = rtcp.peers.len().saturating_sub(SHOWN) + rtcp.senders.len().saturating_sub(SHOWN);
    if more > 0 {
        let _ = writeln!(text, "           and {more} more");
    }
}
