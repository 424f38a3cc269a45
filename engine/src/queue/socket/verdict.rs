//! What the kernel's refusal of a datagram means.
#![forbid(unsafe_code)]

/// What to do about a datagram that the kernel did not take.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Verdict {
    /// No room now: the same datagram again later.
    Later,
    /// An ICMP error for an earlier datagram, handed to whoever comes next: the same datagram again at once.
    /// A receiver that is not there does not stop a sender.
    Earlier,
    /// For an earlier datagram, or for this one: a second try tells, since the first took the pending error away.
    Unsure,
    /// For this datagram: it never left.
    Refused,
    /// The interface went away or down.
    Gone,
    /// Not about datagrams: the socket cannot be used.
    Broken,
}

/// How often a datagram with an [`Unsure`](Verdict::Unsure) verdict is tried.
pub(super) const TRIES: u8 = 3;

impl Verdict {
    /// The meaning of `errno`, as `send` on a connected UDP socket returns it.
    ///
    /// Which ICMP errors a connected socket is told without IP_RECVERR is in the kernel's tables
    /// `icmp_err_convert` (net/ipv4/icmp.c) and `tab_unreach` (net/ipv6/icmp.c).
    pub(super) fn of(errno: i32) -> Self {
        match errno {
            libc::EAGAIN | libc::ENOBUFS | libc::ENOMEM | libc::EINTR | libc::ECANCELED => Self::Later,
            // No route look-up and no filter answers with this one.
            libc::ECONNREFUSED => Self::Earlier,
            libc::EHOSTUNREACH
            | libc::ENETUNREACH
            | libc::EHOSTDOWN
            | libc::ENONET
            | libc::ENOPROTOOPT
            | libc::EPROTO
            | libc::EOPNOTSUPP
            | libc::EACCES
            | libc::EMSGSIZE => Self::Unsure,
            libc::ENODEV | libc::ENXIO | libc::ENETDOWN => Self::Gone,
            libc::EBADF
            | libc::ENOTSOCK
            | libc::EFAULT
            | libc::EPIPE
            | libc::ENOTCONN
            | libc::EDESTADDRREQ => Self::Broken,
            // EPERM is a filter in OUTPUT.
            _ => Self::Refused,
        }
    }
}
