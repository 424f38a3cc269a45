//! Ctrl-C and SIGTERM end a run early with its report; a second Ctrl-C ends the program at once.

use std::sync::OnceLock;
use std::sync::atomic::Ordering;
use std::thread;
use std::time::Duration;

use signal_hook::consts::{SIGHUP, SIGINT, SIGTERM};
use signal_hook::flag;
use wirerate_engine::Error;
use wirerate_engine::control::Stop;

/// The flag that signals raise, once there is one.
static RAISED: OnceLock<Stop> = OnceLock::new();

/// A stop flag that SIGINT, SIGTERM and SIGHUP raise.
pub fn stop_on_signals() -> Result<Stop, Error> {
    let stop = RAISED.get_or_init(Stop::default).clone();
    let failed = |e| Error::failed("cannot handle signals").because(e);
    // Armed by the first signal, so that only a second one finds it raised. Not for the others: timeout(1) sends SIGTERM to
    // its child and then to its group, the child included, and must not cost the report.
    flag::register_conditional_default(SIGINT, stop.flag()).map_err(failed)?;
    for signal in [SIGINT, SIGTERM, SIGHUP] {
        flag::register(signal, stop.flag()).map_err(failed)?;
    }
    Ok(stop)
}

/// Waits for SIGINT, SIGTERM or SIGHUP: for the next one, whatever came before.
pub fn wait() {
    let Some(stop) = RAISED.get() else { return };
    stop.flag().store(false, Ordering::Relaxed);
    while !stop.is_requested() {
        thread::sleep(Duration::from_millis(50));
    }
}
