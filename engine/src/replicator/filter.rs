//! Which frames a packet socket is shown, as classic BPF (linux/filter.h).
#![forbid(unsafe_code)]

use socket2::SockFilter;

const LOAD_BYTE: u16 = 0x30;
const LOAD_HALF: u16 = 0x28;
const LOAD_WORD: u16 = 0x20;
const AND: u16 = 0x54;
const JUMP_EQUAL: u16 = 0x15;
const JUMP_GREATER: u16 = 0x25;
const RETURN: u16 = 0x06;

/// `SKF_AD_OFF + SKF_AD_VLAN_TAG_PRESENT`: a tag that the kernel has taken off is not in the frame any more.
const TAG_PRESENT: u32 = (-0x1000i32 + 48).cast_unsigned();

const ALL: u32 = 0x0004_0000;

const fn i(code: u16, k: u32, jt: u8, jf: u8) -> SockFilter {
    SockFilter::new(code, jt, jf, k)
}

/// What may be a membership report: IGMP, and IPv6 with hop-by-hop options or ICMPv6.
pub const REPORTS: [SockFilter; 10] = [
    i(LOAD_HALF, 12, 0, 0),
    i(JUMP_EQUAL, 0x0800, 0, 2),
    i(LOAD_BYTE, 23, 0, 0),
    i(JUMP_EQUAL, 2, 4, 5),
    i(JUMP_EQUAL, 0x86dd, 0, 4),
    i(LOAD_BYTE, 20, 0, 0),
    i(JUMP_EQUAL, 0, 1, 0),
    i(JUMP_EQUAL, 58, 0, 1),
    i(RETURN, ALL, 0, 0),
    i(RETURN, 0, 0, 0),
];

/// What is replicated, as the XDP program has it: untagged frames to IPv4 groups outside of 224.0.0.0/24 and to IPv6 groups of scopes above the link, but for IGMP
/// and what has hop-by-hop options, as MLD does.
pub const GROUPS: [SockFilter; 19] = [
    i(LOAD_WORD, TAG_PRESENT, 0, 0),
    i(JUMP_EQUAL, 0, 0, 16),
    i(LOAD_HALF, 12, 0, 0),
    i(JUMP_EQUAL, 0x800, 0, 5),
    i(LOAD_BYTE, 23, 0, 0),
    i(JUMP_EQUAL, 2, 12, 0),
    i(LOAD_WORD, 30, 0, 0),
    i(JUMP_GREATER, 0xe000_00ff, 0, 10),
    i(JUMP_GREATER, 0xefff_ffff, 9, 8),
    i(JUMP_EQUAL, 0x86dd, 0, 8),
    i(LOAD_BYTE, 38, 0, 0),
    i(JUMP_EQUAL, 255, 0, 6),
    i(LOAD_BYTE, 20, 0, 0),
    i(JUMP_EQUAL, 0, 4, 0),
    i(LOAD_BYTE, 39, 0, 0),
    i(AND, 15, 0, 0),
    i(JUMP_GREATER, 2, 0, 1),
    i(RETURN, ALL, 0, 0),
    i(RETURN, 0, 0, 0),
];
