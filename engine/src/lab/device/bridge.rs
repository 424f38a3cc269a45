//! A Linux bridge that snoops IGMP and MLD, and asks.
#![forbid(unsafe_code)]

use std::fmt::Write as _;
use std::time::Duration;

use super::ends::{self, Addresses, Options, flat_number};
use super::{Device, Kind, Running};
use crate::error::Result;
use crate::lab::{BRIDGE, Host, Lab, Netns, ip, new_netns};

/// How long a bridge whose querier is new floods groups.
const FLOODING: Duration = Duration::from_millis(100);

/// As `ip link` has times of bridges.
fn hundredths(time: Duration) -> u128 {
    time.as_millis() / 10
}

/// The device.
pub(super) fn build(members: usize, options: &Options) -> Result<Device> {
    // A bridge that begins to ask floods every group for as long as hosts may take to answer.
    let mut settings = format!("mcast_snooping {}", u8::from(options.snooping));
    if let Some(limit) = options.hash_limit {
        let _ = write!(settings, " mcast_hash_max {limit}");
    }
    let middle = middle(&format!("{settings} mcast_query_response_interval {}", hundredths(FLOODING)))?;
    if options.snooping {
        ip::configure(&middle, &format!("link set {BRIDGE} type bridge mcast_querier 1\n"))?;
        std::thread::sleep(FLOODING * 2);
        let (interval, response) =
            (options.query_interval, (options.query_interval / 2).min(Duration::from_secs(10)));
        ip::configure(
            &middle,
            &format!(
                "link set {BRIDGE} type bridge mcast_query_response_interval {}\n\
                 link set {BRIDGE} type bridge mcast_query_interval {}\n",
                hundredths(response),
                hundredths(interval)
            ),
        )?;
    }
    let (senders, members, stranger) = ends::hosts(members, options.senders, |port, n| {
        attach(&middle, port, flat_number(n, options.senders))
    })?;
    let device = Device { kind: Kind::Bridge, senders, middle, members, stranger, running: Running::Bridge };
    ready(&device.middle, &device.hosts().collect::<Vec<_>>())?;
    for host in &device.senders {
        ip::offload(&device.middle, &host.port, "gro", true)?;
    }
    Ok(device)
}

/// The lab of tests and of the demonstration.
pub(super) fn lab(receivers: u8) -> Result<Lab> {
    let middle = middle("mcast_snooping 1 mcast_querier 1")?;
    let sender = attach(&middle, "s0", 1)?;
    let receivers =
        (1..=receivers).map(|n| attach(&middle, &format!("r{n}"), 10 + n)).collect::<Result<_>>()?;
    let lab = Lab { sender, middle, receivers };
    ready(&lab.middle, &lab.hosts().collect::<Vec<_>>())?;
    Ok(lab)
}

/// A namespace with a bridge in it.
pub(super) fn middle(settings: &str) -> Result<Netns> {
    let middle = new_netns()?;
    ip::configure(
        &middle,
        // IGMPv3 and MLDv2: members of the versions before keep silent when they hear another's report, and the
        // bridge, which passes reports on as long as it is new, would not learn of them for seconds.
        &format!(
            "link add {BRIDGE} type bridge {settings} mcast_startup_query_interval 20 \
               mcast_igmp_version 3 mcast_mld_version 2\n\
             link set lo up\n\
             link set {BRIDGE} up\n"
        ),
    )?;
    Ok(middle)
}

/// A host with the number `n` in its addresses, connected to the bridge by `port`.
pub(super) fn attach(middle: &Netns, port: &str, n: u8) -> Result<Host> {
    let host = ends::attach(middle, port, Addresses::flat(n))?;
    ip::configure(middle, &format!("link set {port} master {BRIDGE}\n"))?;
    Ok(host)
}

/// Waits until packets pass.
pub(super) fn ready(middle: &Netns, hosts: &[&Host]) -> Result<()> {
    ends::introduce(hosts)?;
    hosts.iter().try_for_each(|host| ip::wait_for_port(middle, &host.port))?;
    hosts.iter().try_for_each(|host| ip::wait_for_group_route(&host.netns, crate::lab::INTERFACE))
}
