//! The memory of a plugged module (SFP, QSFP), as `ethtool -m` reads it.

use std::io;

use super::ethtool::{Ethtool, Request};

const GMODULEINFO: u32 = 0x42;
const GMODULEEEPROM: u32 = 0x43;
/// Bytes of the memory that are read: two pages of an SFP, the lower and the first upper one of a QSFP.
const MOST: usize = 512;

/// `struct ethtool_modinfo`.
#[repr(C)]
#[derive(Default)]
struct Info {
    cmd: u32,
    kind: u32,
    length: u32,
    reserved: [u32; 8],
}

/// `struct ethtool_eeprom` with its data.
#[repr(C)]
struct Memory {
    cmd: u32,
    magic: u32,
    offset: u32,
    length: u32,
    data: [u8; MOST],
}

// SAFETY: integers in the layout of linux/ethtool.h; fixed size.
unsafe impl Request for Info {}
// SAFETY: integers in the layout of linux/ethtool.h; the kernel writes `length` bytes at most, and `module` asks for no more than there are.
unsafe impl Request for Memory {}

impl Ethtool {
    /// The layout of the module's memory (ETH_MODULE_SFF_8079 is 1, 8472 is 2, 8636 is 3, 8436 is 4) and its first bytes.
    ///
    /// # Errors
    /// EOPNOTSUPP where there is no cage; others, as the driver has them, where it is empty; EPERM without CAP_NET_ADMIN.
    pub fn module(&self) -> io::Result<(u32, Vec<u8>)> {
        let mut info = Info { cmd: GMODULEINFO, ..Info::default() };
        self.call(&mut info)?;
        let length = info.length.min(MOST as u32);
        let mut memory = Memory { cmd: GMODULEEEPROM, magic: 0, offset: 0, length, data: [0; MOST] };
        self.call(&mut memory)?;
        Ok((info.kind, memory.data[..length.min(memory.length) as usize].to_vec()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn layouts_are_the_kernels() {
        assert_eq!(size_of::<Info>(), 44);
        assert_eq!(std::mem::offset_of!(Memory, data), 16);
    }

    #[test]
    fn loopback_has_none() {
        assert!(Ethtool::open("lo").unwrap().module().is_err());
    }
}
