//! The driver's own statistics, as `ethtool -S` shows them.

use std::io;

use super::ethtool::{Ethtool, Request};

const GSTRINGS: u32 = 0x1b;
const GSTATS: u32 = 0x1d;
const GSSET_INFO: u32 = 0x37;

/// ETH_SS_STATS: the string set with the names of the statistics.
const STATISTICS: u32 = 1;
/// ETH_GSTRING_LEN.
const NAME: usize = 32;
/// Room for this many: a NIC with 128 queues has some 4000.
const MOST: usize = 16_384;

/// `struct ethtool_sset_info` for one set.
#[repr(C)]
struct Count {
    cmd: u32,
    reserved: u32,
    mask: u64,
    count: u32,
}

/// `struct ethtool_gstrings`.
#[repr(C)]
struct Names {
    cmd: u32,
    set: u32,
    length: u32,
    data: [[u8; NAME]; MOST],
}

/// `struct ethtool_stats`.
#[repr(C)]
struct Values {
    cmd: u32,
    count: u32,
    data: [u64; MOST],
}

// SAFETY: integers in the layout of linux/ethtool.h; one bit is set in the mask, so one count comes back.
unsafe impl Request for Count {}
// SAFETY: integers in the layout of linux/ethtool.h; the kernel writes as many names as the driver has, and `statistics` makes no Names where these are more
// than half of MOST.
unsafe impl Request for Names {}
// SAFETY: as for Names.
unsafe impl Request for Values {}

impl Ethtool {
    /// The driver's statistics, by its own names, since it was loaded.
    ///
    /// # Errors
    /// EOPNOTSUPP where the driver has none; EOVERFLOW should it have more than there is room for.
    pub fn statistics(&self) -> io::Result<Vec<(String, u64)>> {
        let mut count = Count { cmd: GSSET_INFO, reserved: 0, mask: 1 << STATISTICS, count: 0 };
        self.call(&mut count)?;
        let number = count.count as usize;
        // Twice the room: queues may be added between the calls.
        if number > MOST / 2 {
            return Err(io::Error::from_raw_os_error(libc::EOVERFLOW));
        }
        if number == 0 || count.mask == 0 {
            return Err(io::Error::from_raw_os_error(libc::EOPNOTSUPP));
        }
        // SAFETY: integers and arrays of integers, for which all zeros is a value.
        let mut names = unsafe { Box::<Names>::new_zeroed().assume_init() };
        (names.cmd, names.set, names.length) = (GSTRINGS, STATISTICS, count.count);
        self.call(&mut *names)?;
        // SAFETY: as above.
        let mut values = unsafe { Box::<Values>::new_zeroed().assume_init() };
        (values.cmd, values.count) = (GSTATS, count.count);
        self.call(&mut *values)?;
        let known = number.min(names.length as usize).min(values.count as usize).min(MOST);
        let text = |field: &[u8; NAME]| {
            let end = field.iter().position(|byte| *byte == 0).unwrap_or(NAME);
            String::from_utf8_lossy(&field[..end]).trim().to_owned()
        };
        Ok(names.data[..known].iter().map(text).zip(values.data[..known].iter().copied()).collect())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn layouts_are_the_kernels() {
        assert_eq!(std::mem::offset_of!(Count, count), 16);
        assert_eq!(std::mem::offset_of!(Names, data), 12);
        assert_eq!(std::mem::offset_of!(Values, data), 8);
    }

    #[test]
    fn loopback_has_none() {
        assert!(Ethtool::open("lo").unwrap().statistics().is_err());
    }
}
