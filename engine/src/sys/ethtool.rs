//! What a network driver says of its device: the SIOCETHTOOL requests of linux/ethtool.h that ask and change nothing.
//!
//! Each request is a C structure that begins with its command; the kernel fills in the rest. A driver that does not know a
//! request refuses it with EOPNOTSUPP.

use std::ffi::c_char;
use std::io;
use std::mem::zeroed;
use std::os::fd::{AsRawFd, OwnedFd};

use nix::sys::socket::{AddressFamily, SockFlag, SockType, socket};

const GDRVINFO: u32 = 0x03;
const GRINGPARAM: u32 = 0x10;
const GPAUSEPARAM: u32 = 0x12;
const GSTRINGS: u32 = 0x1b;
const GSSET_INFO: u32 = 0x37;
const GFEATURES: u32 = 0x3a;
const GCHANNELS: u32 = 0x3c;
const GLINKSETTINGS: u32 = 0x4c;

/// ETH_SS_FEATURES: the string set with the names of the offloads.
const FEATURE_NAMES: u32 = 4;
/// ETH_GSTRING_LEN.
const NAME: usize = 32;
/// Room for this many offloads; kernel 6.18 has 65.
const FEATURES: usize = 256;
/// SCHAR_MAX 32-bit words for each of three masks: what a link mode reply can need at most.
const LINK_MODE_WORDS: usize = 3 * 127;

/// Which driver, and where its device sits.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Driver {
    /// The driver's name.
    pub name: String,
    /// Its firmware's version, where it has one.
    pub firmware: Option<String>,
    /// The device's address on its bus: for PCI `0000:00:03.0`.
    pub bus: Option<String>,
}

/// Queues in use and possible.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Channels {
    /// Receive queues in use, combined ones among them.
    pub rx: u32,
    /// Transmit queues in use, combined ones among them.
    pub tx: u32,
    /// The most receive queues that can be set.
    pub max_rx: u32,
    /// The most transmit queues that can be set.
    pub max_tx: u32,
}

/// Descriptor rings: entries in use and possible.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Rings {
    /// Entries of a receive ring.
    pub rx: u32,
    /// Entries of a transmit ring.
    pub tx: u32,
    /// The largest receive ring that can be set.
    pub max_rx: u32,
    /// The largest transmit ring that can be set.
    pub max_tx: u32,
}

/// Pause frames (IEEE 802.3 annex 31B).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Pause {
    /// Negotiated with the other end.
    pub autonegotiation: bool,
    /// Stops sending when told to.
    pub rx: bool,
    /// Tells the other end to stop.
    pub tx: bool,
}

/// Speed, duplex and how they came about.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct LinkSpeed {
    /// Mbit/s; none while it is unknown, as on a link that is down.
    pub speed_mbps: Option<u32>,
    /// Both ends may send at once; none while it is unknown.
    pub full_duplex: Option<bool>,
    /// Both ends negotiate.
    pub autonegotiation: bool,
}

/// The requests to the driver of one interface, in the network namespace that the value was made in.
#[derive(Debug)]
pub struct Ethtool {
    socket: OwnedFd,
    name: [c_char; libc::IFNAMSIZ],
}

impl Ethtool {
    /// For the interface called `name`.
    ///
    /// # Errors
    /// EINVAL when the name is too long for an interface; those of socket(2).
    pub fn open(name: &str) -> io::Result<Self> {
        if name.is_empty() || name.len() >= libc::IFNAMSIZ {
            return Err(io::Error::from_raw_os_error(libc::EINVAL));
        }
        let mut padded = [0; libc::IFNAMSIZ];
        for (to, from) in padded.iter_mut().zip(name.bytes()) {
            *to = from.cast_signed();
        }
        let socket = socket(AddressFamily::Inet, SockType::Datagram, SockFlag::SOCK_CLOEXEC, None)?;
        Ok(Self { socket, name: padded })
    }

    /// The driver and its device (ETHTOOL_GDRVINFO).
    ///
    /// # Errors
    /// ENODEV when the interface is gone; EOPNOTSUPP.
    pub fn driver(&self) -> io::Result<Driver> {
        let mut info = DriverInfo { cmd: GDRVINFO, ..DriverInfo::default() };
        self.call(&mut info)?;
        let present = |field: &[u8]| Some(text(field)).filter(|t| !t.is_empty() && t != "N/A");
        Ok(Driver {
            name: text(&info.driver),
            firmware: present(&info.fw_version),
            bus: present(&info.bus_info),
        })
    }

    /// Queues (ETHTOOL_GCHANNELS).
    ///
    /// # Errors
    /// EOPNOTSUPP where the driver has none to tell.
    pub fn channels(&self) -> io::Result<Channels> {
        let mut c = ChannelCounts { cmd: GCHANNELS, ..ChannelCounts::default() };
        self.call(&mut c)?;
        Ok(Channels {
            rx: c.rx + c.combined,
            tx: c.tx + c.combined,
            max_rx: c.max_rx.max(c.max_combined),
            max_tx: c.max_tx.max(c.max_combined),
        })
    }

    /// Descriptor rings (ETHTOOL_GRINGPARAM).
    ///
    /// # Errors
    /// EOPNOTSUPP where the driver has none.
    pub fn rings(&self) -> io::Result<Rings> {
        let mut r = RingSizes { cmd: GRINGPARAM, ..RingSizes::default() };
        self.call(&mut r)?;
        Ok(Rings { rx: r.rx, tx: r.tx, max_rx: r.max_rx, max_tx: r.max_tx })
    }

    /// Pause frames in use (ETHTOOL_GPAUSEPARAM).
    ///
    /// # Errors
    /// EOPNOTSUPP where the driver has none.
    pub fn pause(&self) -> io::Result<Pause> {
        let mut p = PauseParameters { cmd: GPAUSEPARAM, ..PauseParameters::default() };
        self.call(&mut p)?;
        Ok(Pause { autonegotiation: p.autonegotiation != 0, rx: p.rx != 0, tx: p.tx != 0 })
    }

    /// Link speed in Mbit/s; none while it is unknown, as on a link that is down (ETHTOOL_GLINKSETTINGS).
    ///
    /// # Errors
    /// EOPNOTSUPP where the driver has none.
    pub fn speed_mbps(&self) -> io::Result<Option<u32>> {
        Ok(self.link_settings()?.speed_mbps)
    }

    /// Speed, duplex and autonegotiation (ETHTOOL_GLINKSETTINGS).
    ///
    /// # Errors
    /// EOPNOTSUPP where the driver has none.
    pub fn link_settings(&self) -> io::Result<LinkSpeed> {
        let mut link = LinkSettings { cmd: GLINKSETTINGS, ..LinkSettings::default() };
        self.call(&mut link)?;
        if link.words < 0 {
            // The kernel says how many words its masks have, and answers when they are asked for.
            link = LinkSettings { cmd: GLINKSETTINGS, words: -link.words, ..LinkSettings::default() };
            self.call(&mut link)?;
        }
        let [duplex, _port, _phy, autonegotiation, ..] = link.modes;
        Ok(LinkSpeed {
            speed_mbps: Some(link.speed).filter(|s| !matches!(*s, 0 | u32::MAX)),
            // DUPLEX_HALF and DUPLEX_FULL; all else is DUPLEX_UNKNOWN.
            full_duplex: match duplex {
                0 => Some(false),
                1 => Some(true),
                _ => None,
            },
            autonegotiation: autonegotiation == 1,
        })
    }

    /// The offloads by the names that `ethtool -k` shows, and whether each is on (ETHTOOL_GFEATURES).
    ///
    /// # Errors
    /// EOPNOTSUPP; EOVERFLOW should a kernel have more than there is room for.
    pub fn features(&self) -> io::Result<Vec<(String, bool)>> {
        let mut count =
            StringSetInfo { cmd: GSSET_INFO, reserved: 0, mask: 1 << FEATURE_NAMES, counts: [0; 1] };
        self.call(&mut count)?;
        let number = count.counts[0] as usize;
        if number > FEATURES {
            return Err(io::Error::from_raw_os_error(libc::EOVERFLOW));
        }
        let mut names = Strings {
            cmd: GSTRINGS,
            set: FEATURE_NAMES,
            length: count.counts[0],
            data: [[0; NAME]; FEATURES],
        };
        self.call(&mut names)?;
        let mut states = Features {
            cmd: GFEATURES,
            blocks: count.counts[0].div_ceil(32),
            data: [FeatureBlock::default(); FEATURES / 32],
        };
        self.call(&mut states)?;
        let on = |i: usize| states.data[i / 32].active & (1 << (i % 32)) != 0;
        Ok((0..number).map(|i| (text(&names.data[i]), on(i))).filter(|(name, _)| !name.is_empty()).collect())
    }

    /// Hands `request` to the driver, which writes its answer into it.
    pub(super) fn call<T: Request>(&self, request: &mut T) -> io::Result<()> {
        self.call_by(libc::SIOCETHTOOL, request)
    }

    /// As [`call`](Self::call), for a request of an ioctl of its own.
    pub(super) fn call_by<T: Request>(&self, ioctl: libc::c_ulong, request: &mut T) -> io::Result<()> {
        // SAFETY: ifreq is a plain C structure, for which all zeros is a value.
        let mut ifreq: libc::ifreq = unsafe { zeroed() };
        ifreq.ifr_name = self.name;
        ifreq.ifr_ifru.ifru_data = std::ptr::from_mut(request).cast();
        // SAFETY: ifreq lives through the call and its data points to a Request, which has the layout of the
        // structure that its command names, with room for the longest answer that it asks for.
        let result = unsafe { libc::ioctl(self.socket.as_raw_fd(), ioctl as libc::Ioctl, &raw mut ifreq) };
        if result == 0 { Ok(()) } else { Err(io::Error::last_os_error()) }
    }
}

/// A request's structure.
///
/// # Safety
/// The type has the layout of the structure that its first field, the command, names (or the ioctl, where it is another than SIOCETHTOOL), consists of
/// integers only, and has room for the longest answer to what its other fields ask for.
pub(super) unsafe trait Request {}

/// `struct ethtool_drvinfo`.
#[repr(C)]
#[derive(Default)]
struct DriverInfo {
    cmd: u32,
    driver: [u8; 32],
    version: [u8; 32],
    fw_version: [u8; 32],
    bus_info: [u8; 32],
    erom_version: [u8; 32],
    reserved: [u8; 12],
    lengths: [u32; 5],
}

/// `struct ethtool_channels`.
#[repr(C)]
#[derive(Default)]
struct ChannelCounts {
    cmd: u32,
    max_rx: u32,
    max_tx: u32,
    max_other: u32,
    max_combined: u32,
    rx: u32,
    tx: u32,
    other: u32,
    combined: u32,
}

/// `struct ethtool_ringparam`.
#[repr(C)]
#[derive(Default)]
struct RingSizes {
    cmd: u32,
    max_rx: u32,
    max_rx_mini: u32,
    max_rx_jumbo: u32,
    max_tx: u32,
    rx: u32,
    rx_mini: u32,
    rx_jumbo: u32,
    tx: u32,
}

/// `struct ethtool_pauseparam`.
#[repr(C)]
#[derive(Default)]
struct PauseParameters {
    cmd: u32,
    autonegotiation: u32,
    rx: u32,
    tx: u32,
}

/// `struct ethtool_link_settings` with its masks.
#[repr(C)]
struct LinkSettings {
    cmd: u32,
    speed: u32,
    modes: [u8; 7],
    words: i8,
    more_modes: [u8; 4],
    reserved: [u32; 7],
    masks: [u32; LINK_MODE_WORDS],
}

impl Default for LinkSettings {
    fn default() -> Self {
        Self {
            cmd: 0,
            speed: 0,
            modes: [0; 7],
            words: 0,
            more_modes: [0; 4],
            reserved: [0; 7],
            masks: [0; LINK_MODE_WORDS],
        }
    }
}

/// `struct ethtool_sset_info` for one set.
#[repr(C)]
struct StringSetInfo {
    cmd: u32,
    reserved: u32,
    mask: u64,
    counts: [u32; 1],
}

/// `struct ethtool_gstrings`.
#[repr(C)]
struct Strings {
    cmd: u32,
    set: u32,
    length: u32,
    data: [[u8; NAME]; FEATURES],
}

/// `struct ethtool_gfeatures`.
#[repr(C)]
struct Features {
    cmd: u32,
    blocks: u32,
    data: [FeatureBlock; FEATURES / 32],
}

/// `struct ethtool_get_features_block`.
#[repr(C)]
#[derive(Clone, Copy, Default)]
struct FeatureBlock {
    available: u32,
    requested: u32,
    active: u32,
    never_changed: u32,
}

// SAFETY: integers in the layout of linux/ethtool.h; fixed size.
unsafe impl Request for DriverInfo {}
// SAFETY: integers in the layout of linux/ethtool.h; fixed size.
unsafe impl Request for ChannelCounts {}
// SAFETY: integers in the layout of linux/ethtool.h; fixed size.
unsafe impl Request for RingSizes {}
// SAFETY: integers in the layout of linux/ethtool.h; fixed size.
unsafe impl Request for PauseParameters {}
// SAFETY: integers in the layout of linux/ethtool.h; `words` is a signed char, so three masks have at most 3 × 127 words.
unsafe impl Request for LinkSettings {}
// SAFETY: integers in the layout of linux/ethtool.h; one bit is set in the mask, so one count comes back.
unsafe impl Request for StringSetInfo {}
// SAFETY: integers in the layout of linux/ethtool.h; the kernel writes as many names as the set has when that is `length`, and
// none otherwise; `features` makes no Strings with more than FEATURES.
unsafe impl Request for Strings {}
// SAFETY: integers in the layout of linux/ethtool.h; the kernel writes `blocks` blocks at most, and `features` asks for no
// more than there are.
unsafe impl Request for Features {}

/// A C string in a field of fixed length.
fn text(field: &[u8]) -> String {
    let end = field.iter().position(|b| *b == 0).unwrap_or(field.len());
    String::from_utf8_lossy(&field[..end]).into_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn layouts_are_the_kernels() {
        assert_eq!(size_of::<DriverInfo>(), 196);
        assert_eq!(size_of::<ChannelCounts>(), 36);
        assert_eq!(size_of::<RingSizes>(), 36);
        assert_eq!(size_of::<PauseParameters>(), 16);
        assert_eq!(std::mem::offset_of!(LinkSettings, words), 15);
        assert_eq!(std::mem::offset_of!(LinkSettings, masks), 48);
        assert_eq!(std::mem::offset_of!(StringSetInfo, counts), 16);
        assert_eq!(std::mem::offset_of!(Strings, data), 12);
        assert_eq!(size_of::<FeatureBlock>(), 16);
    }

    #[test]
    fn loopback_has_offloads_and_no_rings() {
        let lo = Ethtool::open("lo").unwrap();
        let features = lo.features().unwrap();
        assert!(features.iter().any(|(name, _)| name == "tx-udp-segmentation"), "{features:?}");
        assert!(lo.rings().is_err());
    }

    #[test]
    fn names_that_cannot_be() {
        assert!(Ethtool::open("a-name-that-is-too-long").is_err());
        assert!(Ethtool::open("").is_err());
        assert!(Ethtool::open("wr-absent").unwrap().driver().is_err());
    }
}
