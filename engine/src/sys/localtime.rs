//! Local time (`localtime_r(3)`).

use std::ffi::CString;
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

/// The local time `seconds` after 1970 began in UTC, in a form of `strftime(3)`, up to 1024 bytes; `None` where it is longer or cannot be told.
pub fn formatted(seconds: i64, format: &str) -> Option<String> {
    let format = CString::new(format).ok()?;
    // SAFETY: all zeros is a valid tm.
    let mut time: libc::tm = unsafe { mem::zeroed() };
    // SAFETY: both are live, and the function fills the second; nothing in this program changes the environment that it reads the zone from.
    let told = unsafe { libc::localtime_r(&raw const seconds, &raw mut time) };
    if told.is_null() {
        return None;
    }
    let mut text = vec![0_u8; 1024];
    // SAFETY: the function writes at most `text.len()` bytes with a NUL, and reads a terminated format and a time that is filled.
    let length =
        unsafe { libc::strftime(text.as_mut_ptr().cast(), text.len(), format.as_ptr(), &raw const time) };
    text.truncate(length);
    // 0 is also what an empty form comes to.
    if length == 0 && !format.is_empty() { None } else { String::from_utf8(text).ok() }
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

    #[test]
    fn forms_of_time() {
        assert_eq!(formatted(1_700_049_600, "%Y %%").as_deref(), Some("2023 %"));
        assert_eq!(formatted(1_700_049_600, "").as_deref(), Some(""));
        for (seconds, form) in [(i64::MAX, "%Y"), (0, "a\0b"), (0, &"%A".repeat(1000))] {
            assert_eq!(formatted(seconds, form), None, "{form}");
        }
    }
}
