//! What a refusal of the kernel means for the user, and what mends it.
#![forbid(unsafe_code)]

use std::io;

use crate::error::{Error, Kind};
use crate::queue::spec::{Flow, Interface};
use crate::target::Target;

/// A step in opening the socket of `flow` failed.
pub(super) fn sender(step: &str, error: io::Error, flow: &Flow, interface: Option<&Interface>) -> Error {
    let errno = error.raw_os_error();
    let (kind, fix) = match errno {
        Some(libc::ENETUNREACH | libc::EHOSTUNREACH) => {
            (Kind::Environment, Some(no_route(&flow.destination.ip().to_string(), interface)))
        }
        Some(libc::EACCES) if step == "bind" => (Kind::Environment, Some(reserved(flow.source.port()))),
        Some(libc::EADDRNOTAVAIL) if step == "bind" => {
            (Kind::Environment, Some(no_such_address(&flow.source.ip().to_string(), interface)))
        }
        Some(libc::EADDRNOTAVAIL) => {
            (Kind::Environment, Some("no address or no free port to send from: see `ip address`".into()))
        }
        Some(libc::EADDRINUSE) => (
            Kind::Environment,
            Some(format!("another program has port {}: see `ss -ulnp`", flow.source.port())),
        ),
        Some(libc::EACCES) if step == "connect" => (
            Kind::Usage,
            Some("a broadcast address, or a prohibited route: send to a host or to a group".into()),
        ),
        _ => (Kind::Environment, common(errno)),
    };
    finish(Error::new(kind, format!("send to {}{}: {step}", flow.destination, on(interface))), error, fix)
}

/// A step in opening the socket for `target` failed.
pub(super) fn receiver(
    step: &str,
    error: io::Error,
    target: &Target,
    interface: Option<&Interface>,
) -> Error {
    let errno = error.raw_os_error();
    let address = target.destination;
    let fix = match errno {
        Some(libc::EADDRINUSE) => Some(format!(
            "another program has {address}: see `ss -ulnp 'sport = :{}'`, or use another port",
            address.port()
        )),
        Some(libc::EADDRNOTAVAIL) => Some(no_such_address(&address.ip().to_string(), interface)),
        Some(libc::EACCES) if step == "bind" => Some(reserved(address.port())),
        _ => common(errno),
    };
    finish(Error::environment(format!("receive {target}{}: {step}", on(interface))), error, fix)
}

/// The kernel has no address to send from.
pub(super) fn no_address(place: &str, version: &str, flow: &Flow, interface: Option<&Interface>) -> Error {
    let error =
        Error::environment(format!("{place}no {version} address to send to {} from", flow.destination));
    match interface {
        Some(interface) => error.fix(format!("ip address add ADDRESS/LENGTH dev {}", interface.name)),
        None => error.fix("name the interface with --iface, or give it an address"),
    }
}

fn finish(error: Error, because: io::Error, fix: Option<String>) -> Error {
    let error = error.because(because);
    match fix {
        Some(fix) => error.fix(fix),
        None => error,
    }
}

fn on(interface: Option<&Interface>) -> String {
    interface.map_or_else(String::new, |interface| format!(" on {}", interface.name))
}

fn no_route(address: &str, interface: Option<&Interface>) -> String {
    match interface {
        Some(interface) => format!(
            "no route leads to {address} by {0}: give {0} an address, or: ip route add {address} dev {0}",
            interface.name
        ),
        None => format!("no route leads to {address}: name the interface with --iface, or add a route"),
    }
}

fn no_such_address(address: &str, interface: Option<&Interface>) -> String {
    let device = interface.map_or("IFACE", |interface| interface.name.as_str());
    format!(
        "{address} is not (or, for IPv6, not yet) an address of this host: ip address add {address}/LENGTH dev {device}"
    )
}

/// Ports below net.ipv4.ip_unprivileged_port_start.
fn reserved(port: u16) -> String {
    format!("port {port} is reserved: use one from 1024 on, or run it as root, or with CAP_NET_BIND_SERVICE")
}

fn common(errno: Option<i32>) -> Option<String> {
    let fix = match errno? {
        libc::EPERM | libc::EACCES => "run it as root, or with CAP_NET_RAW",
        libc::EMFILE => "too many flows for the limit on open files: ulimit -n 65536",
        libc::ENODEV | libc::ENXIO => "the interface is gone: see `ip link`",
        libc::EAFNOSUPPORT => "this kernel has no IPv6 (or it is disabled): use an IPv4 address",
        libc::ENOBUFS | libc::ENOMEM => "the kernel has no memory for it",
        _ => return None,
    };
    Some(fix.into())
}
