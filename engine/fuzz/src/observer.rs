//! The observer with any datagrams: whatever comes, its counts add up, and what it foresees changes none of them.

use std::net::{Ipv4Addr, SocketAddr};

use wirerate_engine::interop::iperf2::server::Spec;
use wirerate_engine::measure::tally::RxTally;
use wirerate_engine::observe::{FormatChoice, Observer, ObserverSpec};
use wirerate_engine::packet::ends::ends;
use wirerate_engine::packet::probe::{End, Kind, LEN, MESSAGE_LEN, Message, Probe};
use wirerate_engine::queue::{RxMeta, Sink};

use super::script::Script;

const START: u64 = 1_800_000_000_000_000_000;
const FORTY_BITS: u64 = (1 << 40) - 1;

/// Gives the datagrams that `input` describes to an observer that takes runs whole, to one that takes what it can by turns, and to one that is given each by itself.
pub fn check(input: &[u8]) {
    let mut script = Script::new(input);
    let format = [
        FormatChoice::Auto,
        FormatChoice::Wirerate,
        FormatChoice::Iperf2,
        FormatChoice::Raw,
        FormatChoice::Rtp,
        FormatChoice::Ts,
    ];
    let format = format[usize::from(script.byte()) % format.len()];
    let spec = ObserverSpec { format, ready_ns: START, ..ObserverSpec::default() };
    let mut quick = Observer::new(spec.clone());
    let mut in_turn = Observer::new(spec.clone());
    // iperf's lines are made beside, and change nothing.
    let lines = Spec { interval_ns: 100_000_000, tai_minus_utc_ns: 37_000_000_000 };
    let mut careful = Observer::new(ObserverSpec { as_iperf2: Some(lines), ..spec });
    // An observer that shows datagrams foresees nothing.
    careful.set_hexdump(Box::new(|_, _| {}));
    let (mut now, mut sequence, mut given) = (START, 0u64, 0);
    while !script.is_over() {
        let choice = script.byte();
        now += u64::from(choice >> 5) * 1000;
        let meta = RxMeta {
            source: SocketAddr::from((Ipv4Addr::new(10, 0, 0, choice & 1), 40_000)),
            destination: SocketAddr::from((Ipv4Addr::new(239, 1, 2, 3), 5001)),
            arrived_ns: now,
            overhead: 46,
            frames: 1,
        };
        let (buffer, stride, count) = match choice >> 1 & 7 {
            0..=3 => run(&mut script, &mut sequence, now),
            4 => end(&mut script, sequence),
            5 => {
                // A run of which one byte was changed on the way.
                let (mut buffer, stride, count) = run(&mut script, &mut sequence, now);
                let at = usize::from(script.word()) % buffer.len();
                buffer[at] ^= script.byte();
                (buffer, stride, count)
            }
            _ => {
                let length = usize::from(script.byte());
                let bytes = script.take(length).to_vec();
                let stride = bytes.len().max(1);
                (bytes, stride, 1)
            }
        };
        quick.run(&meta, &buffer, stride, count);
        let ends = ends(meta.source, meta.destination).expect("IPv4");
        let again = choice & 0x10 != 0;
        for n in 0..count * (1 + usize::from(again)) {
            let from = (n % count * stride).min(buffer.len());
            let one = &buffer[from..(from + stride).min(buffer.len())];
            careful.run(&meta, one, one.len().max(1), 1);
            if n >= count {
                quick.more(&meta, std::iter::once(one));
            }
            if !(in_turn.turns(meta.arrived_ns) && in_turn.turn(&ends, one)) {
                in_turn.run(&meta, one, one.len().max(1), 1);
            }
            given += 1;
        }
        assert_eq!(quick.packets(), careful.packets());
    }
    careful.pass(now);
    let (a, b) = (tally(&mut quick), tally(&mut careful));
    same(&a, &b);
    same(&tally(&mut in_turn), &b);
    let c = a.counters;
    assert_eq!(c.packets, c.unique + c.duplicate);
    assert_eq!(quick.packets(), c.packets);
    // No datagram is counted twice; an end that is nobody's is in no count.
    assert!(c.packets + c.corrupt + c.foreign + a.messages <= given);
    assert!(quick.streams_live() <= a.streams.len());
}

fn tally(observer: &mut Observer) -> RxTally {
    let mut tally = RxTally::new(0);
    observer.tally(&mut tally);
    tally
}

/// Good datagrams with consecutive numbers in one buffer.
fn run(script: &mut Script<'_>, sequence: &mut u64, now: u64) -> (Vec<u8>, usize, usize) {
    let shape = script.byte();
    let stride = LEN + usize::from(shape & 7);
    let count = 1 + usize::from(shape >> 3);
    *sequence = match script.byte() {
        jump @ 0..=31 => sequence.saturating_add(u64::from(jump)),
        back @ 32..=63 => sequence.saturating_sub(u64::from(back - 31)),
        64 => script.long(),
        _ => *sequence,
    };
    let time = now.wrapping_sub(u64::from(script.word())) & FORTY_BITS;
    let mut buffer = vec![0; stride * count];
    for payload in buffer.chunks_exact_mut(stride) {
        let stream = u16::from(shape & 1);
        Probe { kind: Kind::Data, run: 1, stream, sequence: *sequence & FORTY_BITS, time }.emit(payload);
        *sequence = sequence.wrapping_add(1);
    }
    // The last may be shorter, as in a buffer that the kernel put together.
    let cut = if script.byte() == 0 { usize::from(shape & 7) } else { 0 };
    buffer.truncate(buffer.len() - cut);
    (buffer, stride, count)
}

/// An end-of-stream message.
fn end(script: &mut Script<'_>, sequence: u64) -> (Vec<u8>, usize, usize) {
    let which = script.byte();
    let issued = if which & 2 == 0 { sequence } else { script.long() };
    let first_ns = START.wrapping_add_signed(i64::from(script.word().cast_signed()));
    let end = End {
        issued,
        failed: u64::from(which >> 2),
        first_ns,
        last_ns: first_ns.wrapping_add(script.long()),
    };
    let mut bytes = vec![0; MESSAGE_LEN];
    Probe { kind: Kind::End, run: 1, stream: u16::from(which & 1), sequence: issued & FORTY_BITS, time: 0 }
        .emit(&mut bytes);
    Message { end, clock: None, announced: u64::from(which >> 4) }.emit(&mut bytes);
    (bytes, MESSAGE_LEN, 1)
}

/// Two observers that were given the same say the same.
fn same(a: &RxTally, b: &RxTally) {
    assert_eq!(a.counters, b.counters);
    assert_eq!((a.messages, a.negative_latency, a.untracked), (b.messages, b.negative_latency, b.untracked));
    assert_eq!(a.latency, b.latency);
    assert_eq!(a.gaps, b.gaps);
    let steps = |t: &RxTally| (t.steps.sizes.clone(), t.steps.lowest, t.steps.highest);
    assert_eq!(steps(a), steps(b));
    for (a, b) in a.streams.iter().zip(&b.streams) {
        assert_eq!((a.key, a.counters, a.jitter_ns, a.end), (b.key, b.counters, b.jitter_ns, b.end));
    }
}
