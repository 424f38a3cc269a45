//! IP packets with PIM: no bytes panic, and only what a router takes in changes what is known of routers.

use wirerate_engine::multicast::routers::Routers;
use wirerate_engine::packet::pim::{FOR_EVER, Message, parse};

/// Reads `packet`, and has it heard at two times.
pub fn check(packet: &[u8]) {
    let Ok(heard) = parse(packet) else { return };
    let mut routers = Routers::default();
    routers.hear(0, &heard);
    assert!(heard.is_valid() || routers.iter().count() == 0);
    routers.hear(u64::MAX - 1, &heard);
    routers.expire(u64::MAX);
    let for_ever = match &heard.message {
        Message::Hello(hello) => hello.holdtime_s == Some(FOR_EVER),
        Message::JoinPrune(message) => message.holdtime_s == FOR_EVER,
        Message::Other(_) => false,
    };
    assert!(for_ever || routers.iter().count() == 0);
}
