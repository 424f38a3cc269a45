//! The maps of `generate`: what to send, how far it has come, and what the interface took.

/// Longest headers of a template: Ethernet, one VLAN tag, IPv6, UDP; rounded up to whole words.
pub const HEADERS: usize = 72;

/// Hand-overs are counted by their frames, from 0 up to this many; longer ones with the last.
pub const LONGEST: usize = 64;

/// What the packets of one flow have in common: all that stands before the fields that change.
#[repr(C)]
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Template {
    /// Ethernet, IP and UDP, as they are on the wire.
    pub headers: [u8; HEADERS],
    /// Version, kind, run and stream of the probe header: its bytes 2 to 7, the first as bits 40 to 47.
    pub identity: u64,
    /// What is left of the probe header's constant sum for check, sequence and time, plus a multiple of 0xffff that keeps the
    /// difference above zero.
    pub left: u64,
}

/// How far a generator has come. The loader sets the first four fields, the program the others.
#[repr(C)]
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Progress {
    /// Packets to send in all.
    pub limit: u64,
    /// Time from the first packet to the end, in ns.
    pub duration_ns: u64,
    /// Time between packets: whole ns.
    pub interval_ns: u64,
    /// Time between packets: the rest, in 2^-32 ns.
    pub interval_fraction: u64,
    /// Sequence numbers used, all flows together: packets that left the program.
    pub issued: u64,
    /// The flow whose turn it is.
    pub flow: u64,
    /// Sequence number of the next packet.
    pub sequence: u64,
    /// When the next packet is due: CLOCK_TAI in whole ns.
    pub due_ns: u64,
    /// When the next packet is due: the rest, in 2^-32 ns.
    pub due_fraction: u64,
    /// No packet before this time, so that no more than twice the rate leaves when something is to be caught up with.
    pub earliest_ns: u64,
    /// CLOCK_TAI in ns of the first packet; 0 before.
    pub first_ns: u64,
    /// CLOCK_TAI in ns of the last packet.
    pub last_ns: u64,
    /// CLOCK_TAI in ns from which on nothing is sent.
    pub end_ns: u64,
    /// Address of the `task_struct` that the generator runs in.
    pub task: u64,
    /// 1 when all has been sent that was to be, or the time is up.
    pub ended: u64,
}

/// What the interface did with the packets.
#[repr(C)]
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Taken {
    /// Packets that the interface took.
    pub packets: u64,
    /// Packets that it refused, or that could not be handed to it.
    pub refused: u64,
    /// The last reason for that, as an errno; 0: no room in its ring.
    pub errno: u64,
    /// Hand-overs by the number of packets that were taken.
    pub hand_overs: [u64; LONGEST + 1],
}

const _: () = assert!(size_of::<Template>() == 88 && size_of::<Progress>() == 120);
const _: () = assert!(size_of::<Taken>() == 24 + 8 * (LONGEST + 1));
