//! One end of the path: an agent, and the interface that it has.
#![forbid(unsafe_code)]

use std::net::IpAddr;
use std::sync::Arc;
use std::time::Duration;

use super::witness::{self, Look};
use crate::agent::{Agent, Launch, Say};
use crate::error::{Error, Result};
use crate::method::ports::Reach;

/// One end.
#[derive(Debug)]
pub struct End {
    /// Its agent.
    pub agent: Agent,
    /// Its interface.
    pub interface: String,
    /// Its address.
    pub address: IpAddr,
    /// How it is reached, as typed.
    pub command: Option<String>,
}

impl End {
    /// Starts its agent, and looks for the interface and its address.
    ///
    /// # Errors
    /// Environment when the agent cannot be started, or the interface is not there, is down or has no address of the family.
    pub fn open(
        name: &str,
        (interface, reach): (String, Reach),
        ipv6: bool,
        timeout: Duration,
        say: &Say,
    ) -> Result<Self> {
        let (told, say) = (name.to_owned(), Arc::clone(say));
        let launch = Launch {
            say: Some(Arc::new(move |line: &str| say(&format!("{told}: {line}")))),
            timeout,
            ..Launch::new(name)
        };
        let mut typed = None;
        let agent = match reach {
            Reach::Here => launch.here(),
            Reach::Typed(command) => {
                typed = Some(command.clone());
                launch.command_line(&command)
            }
            Reach::Made(command) => launch.command(command),
        }?;
        let Some(found) = agent.hello().interface(&interface) else {
            let there: Vec<&str> = agent.hello().interfaces.iter().map(|i| i.name.as_str()).collect();
            return Err(Error::environment(format!("{name}: no interface {interface} there"))
                .fix(format!("it has {}", there.join(", "))));
        };
        if !found.up && interface != "lo" {
            return Err(Error::environment(format!("{name}: {interface} is down"))
                .fix(format!("ip link set {interface} up, and see that the cable is in")));
        }
        let address =
            found.addresses.iter().filter_map(|text| text.split('/').next()?.parse::<IpAddr>().ok()).find(
                |ip| match ip {
                    IpAddr::V4(_) => !ipv6,
                    // Its zone would have to be told to each tool in its own way.
                    IpAddr::V6(v6) => ipv6 && !v6.is_unicast_link_local(),
                },
            );
        let Some(address) = address else {
            let family = if ipv6 { "IPv6 address that is not link-local" } else { "IPv4 address" };
            return Err(Error::environment(format!("{name}: {interface} has no {family}"))
                .fix(format!("ip address add ADDRESS/PREFIX dev {interface}")));
        };
        Ok(Self { agent, interface, address, command: typed })
    }

    /// Counters there, now.
    ///
    /// # Errors
    /// When the agent is gone, or the interface is.
    pub(super) fn look(&mut self) -> Result<Look> {
        witness::look(&mut self.agent, &self.interface)
    }
}
