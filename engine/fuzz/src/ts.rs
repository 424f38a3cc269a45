//! Transport streams: no bytes panic, and every place of a packet is counted once.

use wirerate_engine::measure::media::ts::{Figures, Transport};
use wirerate_engine::packet::ts::{LEN, SYNC};

use super::script::Script;

/// Reads datagrams: the time since the one before, how many packets, and of each the first bytes, behind which it is filled up.
pub fn check(input: &[u8]) {
    let mut script = Script::new(input);
    let rate = script.word();
    let mut transport = Transport::new((rate > 0).then_some(rate.into()));
    let (mut now, mut places) = (0u64, 0);
    while !script.is_over() {
        now = now.wrapping_add(u64::from(script.word()) << 12);
        let (count, length) = (script.byte() % 8, usize::from(script.byte() % 40));
        let mut datagram = Vec::new();
        for _ in 0..count {
            let mut packet = [0xff; LEN];
            let bytes = script.take(length);
            packet[0] = SYNC;
            packet[1..=bytes.len()].copy_from_slice(bytes);
            datagram.extend(packet);
        }
        places += u64::from(count);
        if script.byte() == 0 {
            datagram.push(0);
            places += 1;
        }
        transport.arrive(&datagram, now, None::<fn() -> u64>);
    }
    let mut figures = Figures::default();
    transport.tell(&mut figures);
    assert_eq!(figures.packets + figures.sync_errors, places);
    let of_pids: u64 = figures.pids.iter().map(|pid| pid.packets).sum();
    assert_eq!(
        of_pids + figures.null_packets + figures.transport_errors + figures.malformed + figures.untracked,
        figures.packets
    );
    let errors: u64 = figures.pids.iter().map(|pid| pid.continuity_errors).sum();
    assert_eq!(errors, figures.continuity_errors);
}
