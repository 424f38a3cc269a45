//! Local time (`localtime_r(3)`).

use std::mem;

/// A time of the day where this host is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct LocalTime {
    /// Year.
    pub year: i32,
    /// Month, from 1.
    pub month: i32,
    /// Day of the month, from 1.
    pub day: i32,
    /// Hour.
    pub hour: i32,
    /// Minute.
    pub minute: i32,
    /// Second.
    pub second: i32,
}

/// The local time `seconds` after 1970 began in UTC; `None` where it has no year that can be told.
pub fn local_time(seconds: i64) -> Option<LocalTime> {
    // SAFETY: all zeros is a valid tm.
    let mut time: libc::tm = unsafe { mem::zeroed() };
    // SAFETY: both are live, and the function fills the second; nothing in this program changes the environment that it reads the zone from.
    let told = unsafe { libc::localtime_r(&raw const seconds, &raw mut time) };
    (!told.is_null()).then_some(LocalTime {
        year: time.tm_year.saturating_add(1900),
        month: time.tm_mon + 1,
        day: time.tm_mday,
        hour: time.tm_hour,
        minute: time.tm_min,
        second: time.tm_sec,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_day_is_near_its_utc() {
        // Noon of 15 November 2023, UTC: no zone is further than 14 hours off.
        let noon = local_time(1_700_049_600).unwrap();
        assert_eq!((noon.year, noon.month, noon.second), (2023, 11, 0));
        assert!((14..=16).contains(&noon.day));
        assert_eq!(local_time(i64::MAX), None);
    }
}
