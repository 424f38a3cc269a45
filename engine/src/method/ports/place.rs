//! Ports as users type them.
#![forbid(unsafe_code)]

use crate::error::{Error, Result};

/// Where a port is: an interface, and a command that starts an agent which has it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Place {
    /// Name of the interface.
    pub interface: String,
    /// The command, as a user types it; `None`: this host, this network namespace.
    pub command: Option<String>,
}

impl std::str::FromStr for Place {
    type Err = Error;

    /// `IF`, or `IF@COMMAND`.
    fn from_str(text: &str) -> Result<Self> {
        let (interface, command) = match text.split_once('@') {
            None => (text, None),
            Some((interface, command)) => (interface, Some(command.trim())),
        };
        let interface = interface.trim();
        let wrong = |why: &str| {
            Err(Error::usage(format!("port {text}: {why}"))
                .fix("write IF, as eth1, or IF@COMMAND, as 'wr0@ip netns exec m1 wirerate agent'"))
        };
        if interface.is_empty()
            || interface.len() > 15
            || interface.contains(|c: char| c.is_whitespace() || c == '/')
        {
            return wrong("it does not begin with the name of an interface");
        }
        if command.is_some_and(str::is_empty) {
            return wrong("there is no command behind the @");
        }
        Ok(Self { interface: interface.to_owned(), command: command.map(str::to_owned) })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn places_as_typed() {
        let place = |text: &str| text.parse::<Place>();
        assert_eq!(place("eth1").unwrap(), Place { interface: "eth1".into(), command: None });
        let there = place("wr0@ip netns exec m1 wirerate agent").unwrap();
        assert_eq!(there.interface, "wr0");
        assert_eq!(there.command.as_deref(), Some("ip netns exec m1 wirerate agent"));
        let ssh = place("eth0 @ ssh root@host2 wirerate agent").unwrap();
        assert_eq!(
            (ssh.interface.as_str(), ssh.command.as_deref()),
            ("eth0", Some("ssh root@host2 wirerate agent"))
        );
        for text in ["", "@x", "eth0@", "eth0@ ", "a b", "a/b", "an-interface-name-too-long"] {
            assert_eq!(place(text).unwrap_err().kind, crate::Kind::Usage, "{text}");
        }
    }
}
