//! Ctrl-C and SIGTERM end a run early with its report; a second one ends the program at once.

use signal_hook::consts::{SIGHUP, SIGINT, SIGTERM};
use signal_hook::flag;
use wirerate_engine::Error;
use wirerate_engine::control::Stop;

/// A stop flag that SIGINT, SIGTERM and SIGHUP raise.
pub fn stop_on_signals() -> Result<Stop, Error> {
    let stop = Stop::default();
    for signal in [SIGINT, SIGTERM, SIGHUP] {
        // Armed by the first signal, so that only a second one finds it raised.
        flag::register_conditional_default(signal, stop.flag())
            .and_then(|_| flag::register(signal, stop.flag()))
            .map_err(|e| Error::failed("cannot handle signals").because(e))?;
    }
    Ok(stop)
}
