//! RTP packets: no bytes panic, what reads back is written again as it was, and a source takes in whatever comes.

use wirerate_engine::measure::media::clock_rates::ClockRates;
use wirerate_engine::measure::media::rtp::Source;
use wirerate_engine::packet::rtp::{Options, Rtp, looks_like_rtp, parse_probe};

use super::script::Script;

/// Reads datagrams, each with its length and the time since the one before ahead of it.
pub fn check(input: &[u8]) {
    let (mut script, mut now, clocks) = (Script::new(input), 0u64, ClockRates::default());
    let mut source: Option<Source> = None;
    while !script.is_over() {
        now = now.wrapping_add(u64::from(script.word()) << 10);
        let length = usize::from(script.byte());
        let datagram = script.take(length);
        parse_probe(datagram);
        let Ok(rtp) = Rtp::parse(datagram) else {
            assert!(!looks_like_rtp(datagram));
            continue;
        };
        again(datagram, &rtp);
        rtp.extension.map(|extension| extension.elements().count());
        let source = source.get_or_insert_with(|| Source::new(&rtp.header, now, &clocks));
        source.arrive(&rtp, now, &clocks);
        let figures = source.figures();
        assert!(figures.expected > 0 && figures.jitter <= figures.max_jitter);
    }
}

fn again(datagram: &[u8], rtp: &Rtp<'_>) {
    let csrcs: Vec<u32> = rtp.csrcs().collect();
    let options = Options { csrcs: &csrcs, extension: rtp.extension, padding: rtp.padding };
    let mut written = vec![0; options.header_len()];
    written.extend(rtp.payload);
    written.resize(datagram.len(), 0);
    options.emit(&rtp.header, &mut written);
    assert_eq!(Rtp::parse(&written), Ok(*rtp));
}
