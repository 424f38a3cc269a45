//! Ctrl-C and its like end a test early with its summary, and iperf3 names the signal.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use signal_hook::consts::{SIGHUP, SIGINT, SIGTERM};
use signal_hook::flag;
use wirerate_engine::Error;
use wirerate_engine::control::Stop;

use crate::signals::stop_on_signals;

/// The signal that came last, if one did.
#[derive(Debug, Clone, Default)]
pub struct Signal(Arc<AtomicUsize>);

impl Signal {
    /// Whether one came.
    pub fn came(&self) -> bool {
        self.0.load(Ordering::Relaxed) > 0
    }

    /// " by signal Interrupt(2)".
    pub fn words(&self) -> String {
        let number = self.0.load(Ordering::Relaxed);
        let name = match i32::try_from(number) {
            Ok(SIGINT) => "Interrupt",
            Ok(SIGTERM) => "Terminated",
            Ok(SIGHUP) => "Hangup",
            _ => return String::new(),
        };
        format!(" by signal {name}({number})")
    }
}

/// A stop flag that signals raise, and which of them did.
pub fn stop_by_signal() -> Result<(Stop, Signal), Error> {
    let signal = Signal::default();
    for number in [SIGINT, SIGTERM, SIGHUP] {
        flag::register_usize(number, Arc::clone(&signal.0), number as usize)
            .map_err(|e| Error::failed("cannot handle signals").because(e))?;
    }
    Ok((stop_on_signals()?, signal))
}
