//! Agents for tests: the program under test as far end, driven by the engine's near end.
#![allow(dead_code, reason = "not every test file needs everything")]

use std::process::Command;
use std::sync::Arc;
use std::time::Duration;

use wirerate_engine::Error;
use wirerate_engine::agent::{Agent, Launch};
use wirerate_engine::lab::Host;

use super::WIRERATE;

/// How an agent of this name is started: what it says on standard error is shown.
pub fn launch(name: &str) -> Launch {
    let shown = name.to_owned();
    Launch {
        timeout: super::PATIENCE,
        say: Some(Arc::new(move |line| eprintln!("{shown}: {line}"))),
        ..Launch::new(name)
    }
}

/// An agent on a host of the lab.
pub fn agent_on(host: &Host, name: &str) -> Agent {
    let mut command = host.command(WIRERATE);
    command.arg("agent");
    launch(name).command(command).unwrap()
}

/// An agent that is started by a script of a shell.
pub fn scripted(script: &str, timeout: Duration) -> Result<Agent, Error> {
    let mut command = Command::new("sh");
    command.args(["-c", script]);
    Launch { timeout, ..launch("m1") }.command(command)
}
