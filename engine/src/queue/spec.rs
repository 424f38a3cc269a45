//! What a queue is to be opened with.
#![forbid(unsafe_code)]

use std::net::SocketAddr;
use std::sync::Arc;

use crate::clock::device::Shared;
use crate::host::qdisc::TimedQdisc;
use crate::interop::iperf2::client;
use crate::packet::probe;
use crate::profile::payload::Payload;
use crate::profile::rtp::Rtp;
use crate::profile::segments::Segments;
use crate::profile::size::Framing;
use crate::target::Target;

/// One stream's addresses.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Flow {
    /// The stream number in the probe header.
    pub stream: u16,
    /// Source address; unspecified: the kernel's choice for the route (sockets only). Port 0: an ephemeral one (sockets only).
    pub source: SocketAddr,
    /// Destination address and port.
    pub destination: SocketAddr,
    /// Ethernet destination; needed where the queue writes the frame itself.
    pub destination_mac: [u8; 6],
}

/// What a transmit queue is to be opened with.
#[derive(Debug, Clone)]
pub struct TxSpec {
    /// Interface; sockets without one follow the route.
    pub interface: Option<Interface>,
    /// The NIC queue (`afxdp`).
    pub queue: u32,
    /// The flows that this queue sends.
    pub flows: Vec<Flow>,
    /// TTL or hop limit.
    pub ttl: u8,
    /// DSCP, 0 to 63.
    pub dscp: u8,
    /// Whether a payload above the MTU leaves in fragments; otherwise it is refused.
    pub fragment: bool,
    /// VLAN identifier of an 802.1Q tag (`afxdp`, `xdp`).
    pub vlan: Option<u16>,
    /// RTP headers; `None`: probe headers alone.
    pub rtp: Option<Rtp>,
    /// Whether packets have iperf 2's headers instead.
    pub iperf2: bool,
    /// What follows the headers.
    pub payload: Arc<Payload>,
    /// Largest UDP payload that will be asked for, in bytes.
    pub max_payload: u16,
    /// Datagrams handed over in one buffer (sockets).
    pub segments: Segments,
    /// What lets each packet go at its time (`mmsg`); `None`: it leaves when it is handed over.
    pub txtime: Option<TimedQdisc>,
    /// How it works with kernel and driver.
    pub tuning: Tuning,
}

impl TxSpec {
    /// Bytes of the headers in each UDP payload, which are written anew for every packet: the probe header, or those of RTP or iperf 2.
    pub fn head_len(&self) -> usize {
        if self.iperf2 {
            return client::LEN;
        }
        self.rtp.as_ref().map_or(probe::LEN, Rtp::head_len)
    }

    /// Bytes of the frame around each payload, FCS included.
    pub fn overhead(&self) -> u16 {
        let ipv6 = self.flows.iter().any(|flow| flow.destination.is_ipv6());
        Framing { ipv6, vlan: self.vlan.is_some(), mtu: None }.overhead()
    }
}

/// What a receive queue is to be opened with.
#[derive(Debug, Clone)]
pub struct RxSpec {
    /// Interface; sockets without one let the kernel choose.
    pub interface: Option<Interface>,
    /// The NIC queue (`afxdp`).
    pub queue: u32,
    /// What to receive.
    pub target: Target,
    /// Consecutive groups from the target's on, which one socket receives (`uring`, `mmsg`); 1: the target's alone.
    pub groups: u16,
    /// Largest UDP payload to expect, in bytes.
    pub max_payload: u16,
    /// Whether several datagrams may come in one buffer (sockets).
    pub segments: Segments,
    /// The clock that the NIC stamps by, where its stamps are wanted, besides the [kernel's](Tuning::kernel_stamps).
    pub nic_clock: Option<Arc<Shared>>,
    /// How it works with kernel and driver.
    pub tuning: Tuning,
}

/// How a queue works with kernel and driver.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Tuning {
    /// Packets that one busy poll of the driver may handle (`afxdp`); `None`: interrupts drive it.
    pub busy_poll: Option<u16>,
    /// Whether frames lie in huge pages (`afxdp`).
    pub huge_pages: HugePages,
    /// Whether the kernel stamps what arrives, or what leaves.
    pub kernel_stamps: bool,
    /// Slots of the ring in which packets arrive (`afxdp`), a power of two; `None`: chosen by the NIC's own.
    pub rx_ring: Option<u32>,
    /// Frames that packets arrive in (`afxdp`); `None`: as many as slots.
    pub rx_frames: Option<u32>,
    /// Bytes of receive buffer of a socket (`uring`, `mmsg`); `None`: plenty.
    pub receive_buffer: Option<u32>,
    /// Whether large buffers leave without the kernel's copy where that is possible and pays (`uring`).
    pub zero_copy: bool,
}

impl Default for Tuning {
    fn default() -> Self {
        Self {
            busy_poll: None,
            huge_pages: HugePages::default(),
            kernel_stamps: false,
            rx_ring: None,
            rx_frames: None,
            receive_buffer: None,
            zero_copy: true,
        }
    }
}

/// Whether the frames of an AF_XDP socket lie in huge pages.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum HugePages {
    /// When the machine has some free.
    #[default]
    Auto,
    /// Yes, or the run does not begin.
    On,
    /// No.
    Off,
}

/// An interface of this network namespace, as far as a queue needs it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Interface {
    /// Name.
    pub name: String,
    /// Index in this network namespace.
    pub index: u32,
    /// Hardware address.
    pub mac: [u8; 6],
    /// MTU in bytes: the largest IP packet.
    pub mtu: u32,
}
