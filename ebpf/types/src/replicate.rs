//! The maps of `replicate`: which groups go to which members, and what became of every frame.

use crate::steer::{ANY_SOURCE, Address};

/// Interfaces whose transmissions are counted.
pub const PORTS: u32 = 1024;

/// Interfaces that frames may come from.
pub const SOURCES: u32 = 64;

/// What selects a set of members. A frame is looked up with [`ANY_SOURCE`] first, then with its own source, if the group has entries for some.
#[repr(C)]
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct GroupKey {
    /// The group.
    pub group: Address,
    /// The source, or [`ANY_SOURCE`].
    pub source: Address,
    /// IP version, 4 or 6.
    pub version: u32,
}

impl GroupKey {
    /// No group of any version.
    #[inline(always)]
    pub const fn nothing() -> Self {
        Self { group: ANY_SOURCE, source: ANY_SOURCE, version: 0 }
    }
}

/// Where the frames of a group go.
#[repr(C)]
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Way {
    /// The set of members, or [`NOBODY`](Self::NOBODY).
    pub set: u32,
    /// The counter of frames of this group that went to this set.
    pub counter: u32,
    /// 1 in the entry for any source, when there are entries for some sources, too.
    pub sources: u32,
}

impl Way {
    /// The set of those groups, or sources in a group, that have no member.
    pub const NOBODY: u32 = u32::MAX;
}

/// What became of a frame.
#[repr(u32)]
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Fate {
    /// To a unicast or broadcast address, or no IP packet: on to the kernel's stack.
    Passed = 0,
    /// Copied to the members of its group, or handed to the AF_XDP socket that copies it.
    Replicated = 1,
    /// Its group, or its source in the group, has no member: dropped.
    NoMember = 2,
    /// To a group that is never left out (224.0.0.0/24, and IPv6 scopes up to the link), or IGMP or MLD itself: on to the kernel's stack.
    Control = 3,
    /// With a VLAN tag: on to the kernel's stack, as groups are told apart by address alone.
    Tagged = 4,
    /// IPv4 or IPv6 whose headers are cut short or contradict the frame's length: on to the kernel's stack, which drops it.
    Malformed = 5,
    /// Its queue has no AF_XDP socket, or its members cannot be had: dropped.
    NoSocket = 6,
}

/// Fates.
pub const FATES: u32 = 7;

impl Fate {
    /// All of them, in the order of their numbers.
    pub const ALL: [Self; FATES as usize] = [
        Self::Passed,
        Self::Replicated,
        Self::NoMember,
        Self::Control,
        Self::Tagged,
        Self::Malformed,
        Self::NoSocket,
    ];
}

/// What the kernel did with the copies for one interface.
#[repr(C)]
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Transmitted {
    /// Frames that the interface took.
    pub frames: u64,
    /// Frames that it refused.
    pub refused: u64,
    /// The last reason for that, as an errno; 0: no room in its ring.
    pub errno: u64,
}

const _: () =
    assert!(size_of::<GroupKey>() == 36 && size_of::<Transmitted>() == 24 && size_of::<Way>() == 12);
