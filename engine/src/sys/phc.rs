//! A NIC's clock beside the kernel's: the PTP_SYS_OFFSET requests to /dev/ptpN (linux/ptp_clock.h).

use std::fs::File;
use std::io;
use std::mem::zeroed;
use std::os::fd::AsRawFd;

use libc::{ptp_clock_time, ptp_sys_offset, ptp_sys_offset_extended, ptp_sys_offset_precise};

/// Readings at once, of which the quickest counts.
const READINGS: usize = 10;

/// The window that stands for a reading of both clocks at one moment by hardware (PCIe PTM), which no reading has: some tens of ns for each link.
const AT_ONCE_NS: u64 = 200;

/// How the two clocks are read.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Way {
    /// Both at one moment, by hardware (PTP_SYS_OFFSET_PRECISE).
    Precise,
    /// The kernel's right before and right after the read of the NIC's register (PTP_SYS_OFFSET_EXTENDED).
    Extended,
    /// The kernel's before and after all that the driver does to read the NIC's (PTP_SYS_OFFSET).
    Plain,
}

impl Way {
    /// The name in reports.
    pub fn name(self) -> &'static str {
        match self {
            Self::Precise => "precise",
            Self::Extended => "extended",
            Self::Plain => "plain",
        }
    }
}

/// Both clocks at one moment: when the device's showed `device_ns`, CLOCK_REALTIME was within half of `window_ns` of `utc_ns`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Reading {
    /// The device's, in ns.
    pub device_ns: u64,
    /// The kernel's CLOCK_REALTIME, in ns.
    pub utc_ns: u64,
    /// How long the reading took.
    pub window_ns: u64,
}

/// A PTP hardware clock.
#[derive(Debug)]
pub struct Phc {
    file: File,
    way: Way,
}

impl Phc {
    /// Opens /dev/ptp`index` and finds the best way to read it.
    ///
    /// # Errors
    /// ENOENT, EACCES, and the driver's own.
    pub fn open(index: u32) -> io::Result<Self> {
        let mut clock = Self { file: File::open(format!("/dev/ptp{index}"))?, way: Way::Precise };
        let mut refused = None;
        for way in [Way::Precise, Way::Extended, Way::Plain] {
            clock.way = way;
            match clock.read() {
                Ok(_) => return Ok(clock),
                Err(error) => refused = Some(error),
            }
        }
        Err(refused.expect("three ways were tried"))
    }

    /// How it is read.
    pub fn way(&self) -> Way {
        self.way
    }

    /// Reads both clocks; the best of some readings.
    ///
    /// # Errors
    /// The driver's own; ENODEV when the NIC is gone; EINVAL for times before 1970.
    pub fn read(&self) -> io::Result<Reading> {
        let reading = match self.way {
            Way::Precise => {
                // SAFETY: integers only, for which all zeros is a value.
                let mut times: ptp_sys_offset_precise = unsafe { zeroed() };
                self.ask(libc::PTP_SYS_OFFSET_PRECISE, &mut times)?;
                at_once(times.device, times.sys_realtime)
            }
            Way::Extended => {
                // SAFETY: as above; a clockid of 0 is CLOCK_REALTIME.
                let mut times: ptp_sys_offset_extended = unsafe { zeroed() };
                times.n_samples = READINGS as u32;
                self.ask(libc::PTP_SYS_OFFSET_EXTENDED, &mut times)?;
                quickest(times.ts.iter().take(READINGS).copied())
            }
            Way::Plain => {
                // SAFETY: as above.
                let mut times: ptp_sys_offset = unsafe { zeroed() };
                times.n_samples = READINGS as u32;
                self.ask(libc::PTP_SYS_OFFSET, &mut times)?;
                // The kernel's and the device's in turn, the kernel's first and last.
                quickest(
                    times
                        .ts
                        .windows(3)
                        .step_by(2)
                        .take(READINGS)
                        .filter_map(<[ptp_clock_time]>::first_chunk)
                        .copied(),
                )
            }
        };
        reading.ok_or_else(|| io::Error::from_raw_os_error(libc::EINVAL))
    }

    fn ask<T>(&self, request: libc::Ioctl, times: &mut T) -> io::Result<()> {
        // SAFETY: each request is made with the structure that it names, which holds the number of readings that it asks for and lives through the call.
        let result = unsafe { libc::ioctl(self.file.as_raw_fd(), request, std::ptr::from_mut(times)) };
        if result == 0 { Ok(()) } else { Err(io::Error::last_os_error()) }
    }
}

fn ns(time: ptp_clock_time) -> Option<u64> {
    u64::try_from(time.sec).ok()?.checked_mul(1_000_000_000)?.checked_add(time.nsec.into())
}

fn at_once(device: ptp_clock_time, system: ptp_clock_time) -> Option<Reading> {
    Some(Reading { device_ns: ns(device)?, utc_ns: ns(system)?, window_ns: AT_ONCE_NS })
}

/// Of readings of the kernel's clock, the device's and the kernel's again the one that took least time.
fn quickest(readings: impl Iterator<Item = [ptp_clock_time; 3]>) -> Option<Reading> {
    let reading = |[before, device, after]: [ptp_clock_time; 3]| {
        let before_ns = ns(before)?;
        // The clock was set back in between.
        let window_ns = ns(after)?.checked_sub(before_ns)?;
        Some(Reading { device_ns: ns(device)?, utc_ns: before_ns + window_ns / 2, window_ns })
    };
    readings.filter_map(reading).min_by_key(|reading| reading.window_ns)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn time(ns: u64) -> ptp_clock_time {
        ptp_clock_time { sec: (ns / 1_000_000_000) as i64, nsec: (ns % 1_000_000_000) as u32, reserved: 0 }
    }

    #[test]
    fn layouts_are_the_kernels() {
        assert_eq!(size_of::<ptp_sys_offset>(), 16 + 51 * 16);
        assert_eq!(size_of::<ptp_sys_offset_extended>(), 16 + 25 * 3 * 16);
        assert_eq!(size_of::<ptp_sys_offset_precise>(), 64);
    }

    #[test]
    fn the_quickest_reading_counts_and_its_middle_is_the_moment() {
        let readings = [[1000, 77, 1900], [2000, 88, 2301], [3000, 99, 3500]].map(|r| r.map(time));
        let best = quickest(readings.into_iter()).unwrap();
        assert_eq!(best, Reading { device_ns: 88, utc_ns: 2150, window_ns: 301 });
        assert_eq!(quickest([[time(5), time(1), time(4)]].into_iter()), None, "the clock was set back");
        assert_eq!(quickest([].into_iter()), None);
        let before_1970 = ptp_clock_time { sec: -1, nsec: 0, reserved: 0 };
        assert_eq!(at_once(before_1970, time(1)), None);
    }

    #[test]
    fn a_clock_that_is_not_there() {
        assert_eq!(Phc::open(4_000_000).unwrap_err().raw_os_error(), Some(libc::ENOENT));
    }

    #[test]
    fn the_clocks_of_this_machine_are_read() {
        // Most have none, and some let only root read theirs.
        for index in 0..8 {
            let Ok(clock) = Phc::open(index) else { continue };
            let (first, second) = (clock.read().unwrap(), clock.read().unwrap());
            eprintln!("/dev/ptp{index} ({}): {first:?} {second:?}", clock.way().name());
            assert!(second.device_ns > first.device_ns && second.utc_ns > first.utc_ns);
        }
    }

    proptest! {
        #[test]
        fn no_times_panic(times in prop::collection::vec(any::<[(i64, u32); 3]>(), 0..12)) {
            let times = times.into_iter().map(|three| {
                three.map(|(sec, nsec)| ptp_clock_time { sec, nsec, reserved: 0 })
            });
            let _ = quickest(times);
        }
    }
}
