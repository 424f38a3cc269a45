//! The maps of `steer`: which packets go to a socket, and what became of all of them.

/// RX queues that are steered and counted one by one: indexes 0 to 255. Packets of further queues pass,
/// and are counted together at this index.
pub const QUEUES: u32 = 256;

/// Entries of the counter array: [`VERDICTS`] for each queue, and for the further queues together.
pub const COUNTS: u32 = (QUEUES + 1) * VERDICTS;

/// Counters per queue, one for each [`Verdict`].
pub const VERDICTS: u32 = 6;

/// An address as it is on the wire, 4 bytes a word, whatever the machine's byte order; an IPv4 address is in the first word and
/// the rest are 0. Words and not bytes, because bytes would be copied one by one for each packet.
pub type Address = [u32; 4];

/// The source address of a rule that takes any source.
pub const ANY_SOURCE: Address = [0; 4];

/// What a rule selects. A packet is looked up with its own source first, then with [`ANY_SOURCE`].
#[repr(C)]
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct RuleKey {
    /// Destination address, unicast or group.
    pub destination: Address,
    /// Source address, or [`ANY_SOURCE`].
    pub source: Address,
    /// UDP destination port in host byte order; 0 for [`FRAGMENTS`], which have none that can be relied on.
    pub port: u16,
    /// IP version, 4 or 6.
    pub version: u8,
    /// [`DATAGRAMS`] or [`FRAGMENTS`].
    pub class: u8,
}

/// Class of a rule for whole UDP datagrams.
pub const DATAGRAMS: u8 = 0;

/// Class of a rule for IP fragments, first or later, of any protocol: they match by address alone.
pub const FRAGMENTS: u8 = 1;

/// What became of a packet that `steer` saw.
#[repr(u32)]
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Verdict {
    /// No rule selects it; it went on to the kernel's stack untouched.
    Passed = 0,
    /// Handed to the AF_XDP socket of its queue. The socket may still drop it (`XDP_STATISTICS`).
    Redirected = 1,
    /// Selected, but its queue has no socket; it went on to the kernel's stack.
    NoSocket = 2,
    /// A fragment to a selected address; it went on to the kernel's stack, which reassembles.
    Fragment = 3,
    /// IPv4 or IPv6 whose headers are cut short or contradict the frame's length; it went on to the kernel's stack,
    /// which drops and counts such packets.
    Malformed = 4,
    /// IPv6 with more extension headers than `steer` walks; it went on to the kernel's stack.
    Unwalked = 5,
}

impl Verdict {
    /// All verdicts, in the order of their numbers.
    pub const ALL: [Self; VERDICTS as usize] =
        [Self::Passed, Self::Redirected, Self::NoSocket, Self::Fragment, Self::Malformed, Self::Unwalked];

    /// The index into the counter array for a packet on `queue`.
    #[inline]
    pub const fn index(self, queue: u32) -> u32 {
        let queue = if queue < QUEUES { queue } else { QUEUES };
        queue * VERDICTS + self as u32
    }
}

/// Packets of one queue with one verdict.
#[repr(C)]
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Count {
    /// Packets.
    pub packets: u64,
    /// Bytes of the frames, Ethernet header included, FCS not.
    pub bytes: u64,
}

/// What `steer` writes before a packet when it is asked to: XDP metadata, which an AF_XDP socket finds in front of the frame.
#[repr(C)]
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Stamp {
    /// CLOCK_TAI in ns when the program saw the packet.
    pub tai_ns: u64,
    /// The NIC's own clock in ns when the NIC had it, as the driver says; 0: it does not, or was not asked.
    pub nic_ns: u64,
    /// [`MARK`](Self::MARK) and these, so that what lay there before is told from a stamp.
    pub mark: u64,
}

/// The helper that `steer` calls where the kernel's function `bpf_xdp_metadata_rx_timestamp` is to be called: no kernel has one of this number. The loader puts
/// the function in its place, or leaves the branch dead.
pub const RX_TIMESTAMP: i32 = 0x7769_0001;

impl Stamp {
    /// "wirerate".
    pub const MARK: u64 = 0x7769_7265_7261_7465;

    /// For these times.
    #[inline(always)]
    pub const fn new(tai_ns: u64, nic_ns: u64) -> Self {
        Self { tai_ns, nic_ns, mark: tai_ns ^ nic_ns ^ Self::MARK }
    }

    /// Whether it is a stamp.
    #[inline]
    pub const fn is_one(&self) -> bool {
        self.mark == self.tai_ns ^ self.nic_ns ^ Self::MARK
    }
}

const _: () = assert!(size_of::<Stamp>() == 24);
const _: () = assert!(size_of::<RuleKey>() == 36 && size_of::<Count>() == 16);
