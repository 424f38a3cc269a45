//! One socket for many groups.
//!
//! A socket that has joined a thousand groups itself would cost the kernel a walk over all of them for each packet (`ip_mc_sf_allow`, `inet6_mc_check`), and takes 20 by default
//! (`net.ipv4.igmp_max_memberships`). So it joins none: others, which receive nothing, hold the memberships, and this one takes what any socket of the host has joined
//! (IP_MULTICAST_ALL), at no address (`INADDR_ANY`). What comes of groups that were not asked for is told by its destination, and left out.
#![forbid(unsafe_code)]

use std::net::IpAddr;

use super::setup;
use crate::control::Stop;
use crate::error::Result;
use crate::multicast::memberships::{Memberships, Wanted};
use crate::queue::spec::{Interface, RxSpec};

/// Which of all that arrives is wanted.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Range {
    first: IpAddr,
    last: IpAddr,
    source: Option<IpAddr>,
    /// Index of the interface; `None`: any, or the kernel sees to it.
    interface: Option<u32>,
}

impl Range {
    /// Whether a datagram from `source` to `destination` that came by the interface with this index is wanted.
    #[inline]
    pub(super) fn takes(&self, source: IpAddr, destination: IpAddr, interface: Option<u32>) -> bool {
        (self.first..=self.last).contains(&destination)
            && self.source.is_none_or(|wanted| wanted == source)
            && (self.interface.is_none() || self.interface == interface)
    }
}

/// Joins the groups of `spec`: what holds the memberships, and what is wanted of all that comes. `bound`: the receiving socket is bound to the interface.
///
/// # Errors
/// As [`Memberships::join`].
pub(super) fn join(spec: &RxSpec, bound: bool) -> Result<(Memberships, Range)> {
    let interface = spec.interface.as_ref();
    let wanted = Wanted::range(&spec.target, spec.groups.into())?;
    let mut memberships = Memberships::on(interface);
    memberships.join_all(&wanted, None, &Stop::default(), &mut |_| {})?;
    let first = spec.target.destination.ip();
    let range = Range {
        first,
        last: wanted.last().map_or(first, |last| last.group),
        source: spec.target.source,
        interface: interface.filter(|_| !bound).map(|interface: &Interface| interface.index),
    };
    Ok((memberships, range))
}

/// Whether `spec` asks for one socket for many groups.
pub(super) fn many(spec: &RxSpec) -> bool {
    spec.groups > 1 && spec.target.is_group()
}

/// Where such a socket is bound to.
pub(super) fn anywhere(spec: &RxSpec) -> std::net::SocketAddr {
    let mut any = setup::any_like(spec.target.destination);
    any.set_port(spec.target.destination.port());
    any
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_was_asked_for_is_taken_and_nothing_else() {
        let ip = |text: &str| text.parse::<IpAddr>().unwrap();
        let (here, other) = (ip("10.0.0.1"), ip("10.0.0.2"));
        let all = Range { first: ip("239.1.0.250"), last: ip("239.1.1.5"), source: None, interface: None };
        assert!(all.takes(here, ip("239.1.0.250"), Some(3)) && all.takes(other, ip("239.1.1.5"), None));
        for group in ["239.1.0.249", "239.1.1.6", "10.0.0.3", "ff15::1"] {
            assert!(!all.takes(here, ip(group), None), "{group}");
        }
        let one = Range { source: Some(here), interface: Some(3), ..all };
        assert!(one.takes(here, ip("239.1.1.0"), Some(3)));
        assert!(!one.takes(other, ip("239.1.1.0"), Some(3)));
        assert!(!one.takes(here, ip("239.1.1.0"), Some(4)) && !one.takes(here, ip("239.1.1.0"), None));
    }
}
