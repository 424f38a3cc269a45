//! Which packets a watch is shown: a classic BPF program (Documentation/networking/filter.rst) over IP packets.
#![forbid(unsafe_code)]

use socket2::SockFilter;

/// Bytes of a data packet that are needed: an IPv4 header with options, or an IPv6 header and that of a fragment, and the UDP header.
const HEADERS: u32 = 72;

/// A place in the program.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum At {
    Next,
    Ipv4,
    Group4,
    Unfragmented4,
    Port4,
    NotIpv4,
    Ipv6,
    Udp6,
    Port6,
    NotUdp6,
    HopByHop,
    Longer,
    Behind,
    NotOptions,
    Mld,
    Fragment,
    FragmentUdp,
    FragmentGroup,
    FragmentPort,
    Types,
    Whole,
    Head,
    Nothing,
}

/// A step of the program.
#[derive(Debug, Clone, Copy)]
enum Step {
    /// The next step has this name.
    Here(At),
    /// An instruction and its number.
    Do(u16, u32),
    /// Goes to one place when the accumulator is the number, to another when it is not.
    Is(u32, At, At),
    /// As `Is`: when one of the number's bits is set.
    Has(u32, At, At),
}

/// Passes what tells of memberships, whole, and of UDP datagrams to groups and `port` the headers. Of a datagram in fragments that is the first.
pub(super) fn program(port: u16) -> Vec<SockFilter> {
    use At::{
        Behind, Fragment, FragmentGroup, FragmentPort, FragmentUdp, Group4, Head, HopByHop, Ipv4, Ipv6,
        Longer, Mld, Next, NotIpv4, NotOptions, NotUdp6, Nothing, Port4, Port6, Types, Udp6, Unfragmented4,
        Whole,
    };
    use Step::{Do, Has, Here, Is};
    // Load a byte, load two, load two behind X, X becomes the length of the IPv4 header, and, return.
    const LDB: u16 = 0x30;
    const LDH: u16 = 0x28;
    const LDH_X: u16 = 0x48;
    const LDX_IHL: u16 = 0xb1;
    const AND: u16 = 0x54;
    const RETURN: u16 = 0x06;
    let port = u32::from(port);
    assemble(&[
        Do(LDB, 0),
        Do(AND, 0xf0),
        Is(0x40, Ipv4, NotIpv4),
        // IPv4: protocol, destination, fragment offset, port.
        Here(Ipv4),
        Do(LDB, 9),
        Is(2, Whole, Next),
        Is(17, Group4, Nothing),
        Here(Group4),
        Do(LDB, 16),
        Do(AND, 0xf0),
        Is(0xe0, Unfragmented4, Nothing),
        Here(Unfragmented4),
        Do(LDH, 6),
        Has(0x1fff, Nothing, Port4),
        Here(Port4),
        Do(LDX_IHL, 0),
        Do(LDH_X, 2),
        Is(port, Head, Nothing),
        // IPv6: next header, destination, port.
        Here(NotIpv4),
        Is(0x60, Ipv6, Nothing),
        Here(Ipv6),
        Do(LDB, 6),
        Is(17, Udp6, NotUdp6),
        Here(Udp6),
        Do(LDB, 24),
        Is(0xff, Port6, Nothing),
        Here(Port6),
        Do(LDH, 42),
        Is(port, Head, Nothing),
        // Hop-by-hop options, with which MLD comes.
        Here(NotUdp6),
        Is(0, HopByHop, NotOptions),
        Here(HopByHop),
        Do(LDB, 40),
        Is(58, Longer, Nothing),
        Here(Longer),
        Do(LDB, 41),
        Is(0, Behind, Whole),
        Here(Behind),
        Do(LDB, 48),
        Is(0, Nothing, Types),
        Here(NotOptions),
        Is(58, Mld, Fragment),
        Here(Mld),
        Do(LDB, 40),
        Here(Types),
        Is(130, Whole, Next),
        Is(131, Whole, Next),
        Is(132, Whole, Next),
        Is(143, Whole, Nothing),
        // The first fragment of a datagram.
        Here(Fragment),
        Is(44, FragmentUdp, Nothing),
        Here(FragmentUdp),
        Do(LDB, 40),
        Is(17, FragmentGroup, Nothing),
        Here(FragmentGroup),
        Do(LDB, 24),
        Is(0xff, FragmentPort, Nothing),
        Here(FragmentPort),
        Do(LDH, 42),
        Has(0xfff8, Nothing, Next),
        Do(LDH, 50),
        Is(port, Head, Nothing),
        Here(Whole),
        Do(RETURN, u16::MAX.into()),
        Here(Head),
        Do(RETURN, HEADERS),
        Here(Nothing),
        Do(RETURN, 0),
    ])
}

fn assemble(steps: &[Step]) -> Vec<SockFilter> {
    const JEQ: u16 = 0x15;
    const JSET: u16 = 0x45;
    let mut places = Vec::new();
    let mut number = 0u8;
    for step in steps {
        match step {
            Step::Here(at) => places.push((*at, number)),
            _ => number += 1,
        }
    }
    // How many instructions lie between the one at `from` and the place.
    let distance = |from: u8, at: At| match at {
        At::Next => 0,
        at => places.iter().find(|(name, _)| *name == at).expect("every place is named").1 - from - 1,
    };
    let mut program = Vec::new();
    let mut from = 0;
    for step in steps {
        program.push(match *step {
            Step::Here(_) => continue,
            Step::Do(code, k) => SockFilter::new(code, 0, 0, k),
            Step::Is(k, yes, no) => SockFilter::new(JEQ, distance(from, yes), distance(from, no), k),
            Step::Has(k, yes, no) => SockFilter::new(JSET, distance(from, yes), distance(from, no), k),
        });
        from += 1;
    }
    program
}

#[cfg(test)]
mod tests {
    #[test]
    fn the_program_is_complete() {
        // Every place is found, and every jump goes forward: else it panics.
        assert!(super::program(5001).len() > 30);
    }
}
