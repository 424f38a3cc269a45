//! A NIC that stamps what it receives by its own clock: switched on for a run and put back behind it, the clock followed meanwhile.
#![forbid(unsafe_code)]

use std::io;
use std::sync::Arc;
use std::thread;
use std::time::Duration;

use crate::clock;
use crate::clock::device::{Comparison, Follower, Shared};
use crate::error::{Error, Result};
use crate::queue::spec::Interface;
use crate::report::{self, Warning};
use crate::sys::ethtool::Ethtool;
use crate::sys::hwstamp::{Capability, Stamping};
use crate::sys::phc::Phc;

/// Between the first two comparisons of the clocks: what these are off shows ten times as large after a second, and is corrected long before.
const FIRST: Duration = Duration::from_millis(100);

/// What to do where it cannot.
const FIX: &str = "use --timestamps kernel";

/// The clock that one NIC stamps by.
#[derive(Debug)]
pub struct NicClock {
    interface: String,
    index: u32,
    phc: Phc,
    follower: Follower,
    shared: Arc<Shared>,
    unread: bool,
    /// Put back with this.
    _switched: Option<Switched>,
}

/// What a NIC stamped before this run.
#[derive(Debug)]
struct Switched {
    ethtool: Ethtool,
    before: Stamping,
}

impl Drop for Switched {
    fn drop(&mut self) {
        // Refused when the interface is gone.
        let _ = self.ethtool.set_stamping(self.before);
    }
}

impl NicClock {
    /// Has the NIC stamp all that it receives, and begins to follow its clock. Takes a tenth of a second.
    ///
    /// # Errors
    /// Environment: no NIC, one that does not stamp every packet, or one whose clock cannot be read; no privilege.
    pub fn begin(interface: &Interface) -> Result<Self> {
        let name = &interface.name;
        let ethtool = Ethtool::open(name)
            .map_err(|e| refused(name, "the driver cannot be asked").because(e).fix(FIX))?;
        let index = usable(name, ethtool.stamp_capability())?;
        let phc = Phc::open(index).map_err(|e| unreadable(name, index, e))?;
        let switched = switch_on(name, ethtool)?;
        let first = compare(&phc).map_err(|e| unreadable(name, index, e))?;
        thread::sleep(FIRST);
        let second = compare(&phc).map_err(|e| unreadable(name, index, e))?;
        let follower = Follower::begin(first, second).ok_or_else(|| {
            refused(name, &format!("its clock, /dev/ptp{index}, does not go like one"))
                .fix("synchronise it (ptp4l, phc_ctl), or use --timestamps kernel")
        })?;
        let shared = Arc::new(Shared::new(follower.line()));
        Ok(Self { interface: name.clone(), index, phc, follower, shared, unread: false, _switched: switched })
    }

    /// For whoever reads stamps.
    pub fn shared(&self) -> Arc<Shared> {
        self.shared.clone()
    }

    /// Compares the clocks when it is time to. What a reader must know of it.
    pub fn look(&mut self, now_ns: u64) -> Option<Warning> {
        if self.follower.is_due(now_ns) { self.compare() } else { None }
    }

    /// Compares the clocks for the last time. What a reader must know of it.
    pub fn end(&mut self) -> Option<Warning> {
        self.compare()
    }

    fn compare(&mut self) -> Option<Warning> {
        let now = match compare(&self.phc) {
            Ok(now) => now,
            Err(error) => return self.warn_unread(&error),
        };
        let set = self.follower.take(now);
        self.shared.renew(self.follower.line());
        set.map(|set_ns| Warning {
            code: "nic-clock-step",
            text: format!(
                "{}: its clock, /dev/ptp{}, or CLOCK_TAI was set by about {} µs: arrivals of the second before may be off by that",
                self.interface,
                self.index,
                set_ns.unsigned_abs() / 1000
            ),
            fix: Some("let the time daemons settle before measuring (ptp4l, phc2sys)".to_owned()),
        })
    }

    fn warn_unread(&mut self, error: &io::Error) -> Option<Warning> {
        let first = !std::mem::replace(&mut self.unread, true);
        first.then(|| Warning {
            code: "nic-clock-unread",
            text: format!(
                "{}: its clock, /dev/ptp{}, could not be read during the run ({error}): the error of its stamps since is not known",
                self.interface, self.index
            ),
            fix: None,
        })
    }

    /// What it is now, for the report.
    pub fn describe(&self) -> report::NicClock {
        report::NicClock {
            phc: self.index,
            read: self.phc.way().name(),
            offset_ns: self.follower.last().offset_ns(),
            faster_ppb: self.follower.faster_ppb(),
            error_ns: self.follower.line().error_ns(),
            comparisons: self.follower.comparisons(),
            steps: self.follower.steps(),
        }
    }
}

fn refused(name: &str, why: &str) -> Error {
    Error::environment(format!("--timestamps nic: {name}: {why}"))
}

/// The clock of an interface with this answer, when every packet can be stamped by it.
fn usable(name: &str, answer: io::Result<Capability>) -> Result<u32> {
    let can = answer.map_err(|e| refused(name, "the driver tells of no time stamps").because(e).fix(FIX))?;
    let missing = match can.phc {
        _ if !can.stamps_received() => "it does not stamp what it receives",
        _ if !can.stamps_all() => "it stamps packets of PTP only, not every one",
        None => "its clock cannot be read: it has no /dev/ptp",
        Some(index) => return Ok(index),
    };
    Err(refused(name, &format!("{missing} (ethtool -T {name})")).fix(FIX))
}

fn unreadable(name: &str, index: u32, error: io::Error) -> Error {
    let fix = match error.raw_os_error() {
        Some(libc::EACCES | libc::EPERM) => format!("run as root, or let this user read /dev/ptp{index}"),
        Some(libc::ENOENT) => format!("in a container, hand it on: --device /dev/ptp{index}"),
        _ => FIX.to_owned(),
    };
    refused(name, &format!("its clock, /dev/ptp{index}, cannot be read")).because(error).fix(fix)
}

/// Has it stamp all that it receives; `None` when it does already.
fn switch_on(name: &str, ethtool: Ethtool) -> Result<Option<Switched>> {
    // Old drivers can be told and not asked.
    let before = ethtool.stamping().unwrap_or_default();
    if before.is_all() {
        return Ok(None);
    }
    let now = ethtool.set_stamping(before.of_all()).map_err(|error| {
        let fix = match error.raw_os_error() {
            Some(libc::EPERM) => format!("run as root, or switch it on before: hwstamp_ctl -i {name} -r 1"),
            _ => FIX.to_owned(),
        };
        refused(name, "it does not stamp every packet").because(error).fix(fix)
    })?;
    let switched = Switched { ethtool, before };
    if !now.is_all() {
        return Err(refused(name, "it stamps fewer packets than it was asked to").fix(FIX));
    }
    Ok(Some(switched))
}

fn compare(phc: &Phc) -> io::Result<Comparison> {
    let reading = phc.read()?;
    Ok(Comparison {
        device_ns: reading.device_ns,
        tai_ns: reading.utc_ns.saturating_add_signed(clock::tai_minus_utc_ns()),
        error_ns: reading.window_ns.div_ceil(2),
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::error::Kind;

    #[test]
    fn an_interface_that_cannot_is_refused_with_the_way_out() {
        let flags = libc::SOF_TIMESTAMPING_RX_HARDWARE | libc::SOF_TIMESTAMPING_RAW_HARDWARE;
        let good = Capability { flags, phc: Some(3), receive_filters: 0b11 };
        assert_eq!(usable("x", Ok(good)).unwrap(), 3);
        for (answer, said) in [
            (
                Ok(Capability { flags: libc::SOF_TIMESTAMPING_RX_SOFTWARE, ..good }),
                "does not stamp what it receives",
            ),
            (Ok(Capability { receive_filters: 0b1, ..good }), "packets of PTP only"),
            (Ok(Capability { phc: None, ..good }), "no /dev/ptp"),
            (Err(io::Error::from_raw_os_error(libc::EOPNOTSUPP)), "tells of no time stamps"),
        ] {
            let error = usable("x", answer).unwrap_err();
            assert_eq!((error.kind, error.fix.as_deref()), (Kind::Environment, Some(FIX)));
            assert!(error.what.contains(said) && error.what.starts_with("--timestamps nic: x: "), "{error}");
        }
        let error = |errno| unreadable("x", 3, io::Error::from_raw_os_error(errno)).fix.unwrap();
        assert!(
            error(libc::EACCES).contains("/dev/ptp3") && error(libc::ENOENT).contains("--device /dev/ptp3")
        );
    }

    #[test]
    fn loopback_is_no_nic() {
        let lo = Interface { name: "lo".into(), index: 1, mac: [0; 6], mtu: 65_536 };
        let error = NicClock::begin(&lo).unwrap_err();
        assert!(error.what.contains("lo: it does not stamp what it receives"), "{error}");
    }
}
