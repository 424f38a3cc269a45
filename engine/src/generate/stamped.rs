//! Whether the kernel can stamp what is to be sent (`--timestamps kernel`).
#![forbid(unsafe_code)]

use super::config::SendConfig;
use crate::backend::Backend;
use crate::error::{Error, Result};
use crate::profile::rate::Rate;
use crate::profile::segments::Segments;

/// Most streams: each has a socket whose error queue is read.
const MOST_STREAMS: usize = 64;

/// What does not go with the kernel's stamps.
///
/// # Errors
/// Usage, naming what it is and what to do.
pub(super) fn check(config: &SendConfig, backend: Backend, streams: usize) -> Result<()> {
    let refuse = |why: &str, fix: &str| Err(Error::usage(format!("--timestamps kernel: {why}")).fix(fix));
    if !config.tuning.kernel_stamps {
        return Ok(());
    }
    if backend != Backend::Mmsg {
        let why = format!("--backend {} does not read the kernel's stamps of what leaves", backend.name());
        return refuse(&why, "use --backend mmsg");
    }
    if config.rate == Rate::Max {
        return refuse("reading a stamp of each packet takes a pace", "give a --rate");
    }
    if config.target.scheme == crate::target::Scheme::Rtp {
        return refuse(
            "the stamps follow in messages of wirerate's own, which have no place in RTP",
            "send to udp://",
        );
    }
    if config.txtime {
        return refuse(
            "the error queue of a socket tells of times missed or of stamps, not of both",
            "leave --txtime out",
        );
    }
    if matches!(config.segments, Segments::Exactly(2..)) {
        return refuse("packets of one buffer have one stamp", "use --segments off, or leave it out");
    }
    if streams > MOST_STREAMS {
        return refuse(&format!("{streams} streams are more than {MOST_STREAMS}"), "use fewer --streams");
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::queue::Tuning;

    #[test]
    fn what_the_kernel_cannot_stamp_is_refused() {
        let mut config = SendConfig::new("239.1.2.3:5001".parse().unwrap());
        assert!(check(&config, Backend::Afxdp, 1000).is_ok(), "not asked for");
        config.tuning = Tuning { kernel_stamps: true, ..Tuning::default() };
        config.rate = "1kpps".parse().unwrap();
        assert!(check(&config, Backend::Mmsg, 1).is_ok());
        let refused = |config: &SendConfig, backend, streams, word: &str| {
            let error = check(config, backend, streams).unwrap_err();
            assert!(error.to_string().contains(word) && error.fix.is_some(), "{error}");
        };
        refused(&config, Backend::Uring, 1, "--backend uring");
        refused(&config, Backend::Mmsg, 65, "65 streams");
        refused(&SendConfig { rate: Rate::Max, ..config.clone() }, Backend::Mmsg, 1, "a pace");
        refused(&SendConfig { txtime: true, ..config.clone() }, Backend::Mmsg, 1, "error queue");
        refused(&SendConfig { segments: Segments::Exactly(4), ..config }, Backend::Mmsg, 1, "one buffer");
    }
}
