//! One question and its answers over a netlink socket (netlink(7), RFC 3549), of the calling thread's namespace.
#![forbid(unsafe_code)]

use std::io;

use netlink_packet_core::{
    NLM_F_DUMP, NLM_F_DUMP_INTR, NLM_F_REQUEST, NetlinkDeserializable, NetlinkHeader, NetlinkMessage,
    NetlinkPayload, NetlinkSerializable,
};
use netlink_sys::protocols::NETLINK_ROUTE;
use netlink_sys::{Socket, SocketAddr};

pub(super) use netlink_packet_route::RouteNetlinkMessage as Rtnl;

/// Dumps that the kernel's tables changed under are asked for again this often.
const ATTEMPTS: usize = 5;

/// Asks rtnetlink; `flags` besides NLM_F_REQUEST.
///
/// # Errors
/// The kernel's refusal as an errno, or that of the socket calls.
pub(super) fn route(message: &Rtnl, flags: u16) -> io::Result<Vec<Rtnl>> {
    ask(NETLINK_ROUTE, message, flags)
}

/// Asks the netlink family `protocol`. A dump ends with its end mark; any other request with an acknowledgement where
/// `flags` asks for one, otherwise with the first answer.
///
/// # Errors
/// The kernel's refusal as an errno, or that of the socket calls.
pub(super) fn ask<T>(protocol: isize, message: &T, flags: u16) -> io::Result<Vec<T>>
where
    T: NetlinkSerializable + NetlinkDeserializable + Clone,
{
    let mut last = Err(io::ErrorKind::Interrupted.into());
    for _ in 0..ATTEMPTS {
        last = ask_once(protocol, message, flags);
        if !matches!(&last, Err(e) if e.kind() == io::ErrorKind::Interrupted) {
            break;
        }
    }
    last
}

fn ask_once<T>(protocol: isize, message: &T, flags: u16) -> io::Result<Vec<T>>
where
    T: NetlinkSerializable + NetlinkDeserializable + Clone,
{
    let mut socket = Socket::new(protocol)?;
    socket.bind_auto()?;
    socket.connect(&SocketAddr::new(0, 0))?;

    let mut header = NetlinkHeader::default();
    header.flags = NLM_F_REQUEST | flags;
    header.sequence_number = 1;
    let mut request = NetlinkMessage::new(header, NetlinkPayload::InnerMessage(message.clone()));
    request.finalize();
    let mut bytes = vec![0; request.buffer_len()];
    request.serialize(&mut bytes);
    socket.send(&bytes, 0)?;

    let dump = flags & NLM_F_DUMP == NLM_F_DUMP;
    let mut answers = Vec::new();
    loop {
        let (datagram, _) = socket.recv_from_full()?;
        let mut rest = &datagram[..];
        while let Some(message) = next_message(&mut rest) {
            let parsed = NetlinkMessage::<T>::deserialize(message).map_err(io::Error::other)?;
            if parsed.header.flags & NLM_F_DUMP_INTR != 0 {
                return Err(io::ErrorKind::Interrupted.into());
            }
            match parsed.payload {
                NetlinkPayload::Done(_) => return Ok(answers),
                NetlinkPayload::Error(error) if error.code.is_some() => return Err(error.to_io()),
                NetlinkPayload::Error(_) => return Ok(answers), // an acknowledgement
                NetlinkPayload::InnerMessage(answer) => answers.push(answer),
                _ => {}
            }
        }
        if !dump && !answers.is_empty() {
            return Ok(answers);
        }
    }
}

/// Splits the first message off `rest`, by the length in its header (aligned to 4).
fn next_message<'a>(rest: &mut &'a [u8]) -> Option<&'a [u8]> {
    let bytes = *rest;
    let length = u32::from_ne_bytes(bytes.get(..4)?.try_into().ok()?) as usize;
    let message = bytes.get(..length).filter(|m| m.len() >= 16)?;
    *rest = bytes.get(length.next_multiple_of(4)..).unwrap_or(&[]);
    Some(message)
}

#[cfg(test)]
mod tests {
    use super::*;

    proptest::proptest! {
        #[test]
        fn splitting_never_panics_and_ends(bytes in proptest::collection::vec(0u8..40, 0..200)) {
            let mut rest = &bytes[..];
            let mut taken = 0;
            while let Some(message) = next_message(&mut rest) {
                proptest::prop_assert!(message.len() >= 16);
                taken += message.len();
            }
            proptest::prop_assert!(taken <= bytes.len());
        }
    }

    #[test]
    fn two_messages_with_padding() {
        let mut bytes = [0; 20 + 16];
        bytes[..4].copy_from_slice(&18u32.to_ne_bytes());
        bytes[20..24].copy_from_slice(&16u32.to_ne_bytes());
        let mut rest = &bytes[..];
        assert_eq!(next_message(&mut rest).map(<[u8]>::len), Some(18));
        assert_eq!(next_message(&mut rest).map(<[u8]>::len), Some(16));
        assert!(next_message(&mut rest).is_none());
    }
}
