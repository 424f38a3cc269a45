//! Whether a NIC stamps packets, and having it do so (Documentation/networking/timestamping.rst, §3): ETHTOOL_GET_TS_INFO and the two ioctls of struct hwtstamp_config.

use std::io;

use super::ethtool::{Ethtool, Request};

const GET_TS_INFO: u32 = 0x41;

/// What a driver says of its time stamps.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Capability {
    /// SOF_TIMESTAMPING_* that it supports.
    pub flags: u32,
    /// The number of its clock: /dev/ptpN. `None` where it has none.
    pub phc: Option<u32>,
    /// The filters that choose which received packets are stamped, one bit for each HWTSTAMP_FILTER_*.
    pub receive_filters: u32,
}

impl Capability {
    /// Whether received packets can be stamped by the NIC and read with that stamp.
    pub fn stamps_received(&self) -> bool {
        let needed = libc::SOF_TIMESTAMPING_RX_HARDWARE | libc::SOF_TIMESTAMPING_RAW_HARDWARE;
        self.flags & needed == needed
    }

    /// Whether that can be every packet, not only those of PTP.
    pub fn stamps_all(&self) -> bool {
        self.stamps_received() && self.receive_filters & (1 << libc::HWTSTAMP_FILTER_ALL) != 0
    }
}

/// Which packets are stamped.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Stamping {
    /// HWTSTAMP_TX_*.
    pub transmit: i32,
    /// HWTSTAMP_FILTER_*; 0: none.
    pub filter: i32,
}

impl Stamping {
    /// Whether every received packet is.
    pub fn is_all(self) -> bool {
        self.filter == libc::HWTSTAMP_FILTER_ALL.cast_signed()
    }

    /// The same for what is sent, and every received packet.
    #[must_use]
    pub fn of_all(self) -> Self {
        Self { filter: libc::HWTSTAMP_FILTER_ALL.cast_signed(), ..self }
    }
}

/// `struct ethtool_ts_info`.
#[repr(C)]
#[derive(Default)]
struct TsInfo {
    cmd: u32,
    flags: u32,
    phc_index: i32,
    tx_types: u32,
    tx_reserved: [u32; 3],
    rx_filters: u32,
    rx_reserved: [u32; 3],
}

/// `struct hwtstamp_config`.
#[repr(C)]
#[derive(Default)]
struct HwtstampConfig {
    flags: i32,
    tx_type: i32,
    rx_filter: i32,
}

// SAFETY: integers in the layout of linux/ethtool.h; fixed size.
unsafe impl Request for TsInfo {}
// SAFETY: integers in the layout of linux/net_tstamp.h; fixed size.
unsafe impl Request for HwtstampConfig {}

impl Ethtool {
    /// What the driver can stamp (ETHTOOL_GET_TS_INFO).
    ///
    /// # Errors
    /// EOPNOTSUPP; ENODEV when the interface is gone.
    pub fn stamp_capability(&self) -> io::Result<Capability> {
        let mut info = TsInfo { cmd: GET_TS_INFO, ..TsInfo::default() };
        self.call(&mut info)?;
        Ok(Capability {
            flags: info.flags,
            phc: u32::try_from(info.phc_index).ok(),
            receive_filters: info.rx_filters,
        })
    }

    /// What it stamps now (SIOCGHWTSTAMP).
    ///
    /// # Errors
    /// EOPNOTSUPP where the driver does not tell.
    pub fn stamping(&self) -> io::Result<Stamping> {
        let mut config = HwtstampConfig::default();
        self.call_by(libc::SIOCGHWTSTAMP, &mut config)?;
        Ok(Stamping { transmit: config.tx_type, filter: config.rx_filter })
    }

    /// Has it stamp `wanted` from now on (SIOCSHWTSTAMP). Returns what it does, which may be more.
    ///
    /// # Errors
    /// EOPNOTSUPP, ERANGE where it cannot; EPERM without CAP_NET_ADMIN.
    pub fn set_stamping(&self, wanted: Stamping) -> io::Result<Stamping> {
        let mut config = HwtstampConfig { flags: 0, tx_type: wanted.transmit, rx_filter: wanted.filter };
        self.call_by(libc::SIOCSHWTSTAMP, &mut config)?;
        Ok(Stamping { transmit: config.tx_type, filter: config.rx_filter })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn layouts_are_the_kernels() {
        assert_eq!(size_of::<TsInfo>(), 44);
        assert_eq!(std::mem::offset_of!(TsInfo, rx_filters), 28);
        assert_eq!(size_of::<HwtstampConfig>(), size_of::<libc::hwtstamp_config>());
    }

    #[test]
    fn loopback_has_the_kernels_stamps_only() {
        let lo = Ethtool::open("lo").unwrap();
        let can = lo.stamp_capability().unwrap();
        assert_ne!(can.flags & libc::SOF_TIMESTAMPING_RX_SOFTWARE, 0);
        assert_eq!((can.phc, can.stamps_received(), can.stamps_all()), (None, false, false));
        assert!(lo.stamping().is_err());
        assert!(lo.set_stamping(Stamping::default().of_all()).is_err());
    }

    #[test]
    fn a_filter_for_ptp_is_not_one_for_all() {
        let flags = libc::SOF_TIMESTAMPING_RX_HARDWARE | libc::SOF_TIMESTAMPING_RAW_HARDWARE;
        // NONE and PTP_V2_EVENT.
        let ptp = Capability { flags, phc: Some(0), receive_filters: 1 | 1 << 12 };
        assert!(ptp.stamps_received() && !ptp.stamps_all());
        let all = Capability { receive_filters: 0b11, ..ptp };
        assert!(all.stamps_all());
        assert!(!Capability { flags: libc::SOF_TIMESTAMPING_RX_SOFTWARE, ..all }.stamps_all());
        let now = Stamping { transmit: 1, filter: 12 };
        assert!(!now.is_all() && now.of_all().is_all());
        assert_eq!(now.of_all().transmit, 1);
    }
}
