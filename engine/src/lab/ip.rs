//! Driving iproute2's `ip` inside a namespace.
#![forbid(unsafe_code)]

use std::collections::BTreeSet;
use std::fs::File;
use std::io::Write;
use std::net::IpAddr;
use std::os::fd::AsRawFd;
use std::process::{Command, Stdio};
use std::time::Duration;

use super::Netns;
use crate::error::{Error, Result};

/// Runs the lines of `script` as `ip -batch` inside `netns`.
pub(super) fn configure(netns: &Netns, script: &str) -> Result<()> {
    let mut command = netns.command("ip");
    command.args(["-batch", "-"]);
    run(command, script).map(drop)
}

/// Makes a veth pair with one end in each namespace.
pub(super) fn connect(a: &Netns, a_name: &str, b: &Netns, b_name: &str) -> Result<()> {
    add_in(a, &format!("link add {a_name} type veth peer name {b_name}"), b, "")
}

/// Runs a line of `ip` in `a` that has the namespace `b` between `before` and `after`.
pub(super) fn add_in(a: &Netns, before: &str, b: &Netns, after: &str) -> Result<()> {
    let b_file = b
        .run(|| File::open("/proc/thread-self/ns/net"))
        .map_err(|e| Error::environment("cannot open the namespace").because(e))?;
    // `ip` takes a namespace by a path; the path goes through this process's descriptor.
    let path = format!("/proc/{}/fd/{}", std::process::id(), b_file.as_raw_fd());
    configure(a, &format!("{before} netns {path} {after}\n"))
}

/// The hardware address of an interface, as text.
pub(super) fn mac_of(netns: &Netns, interface: &str) -> Result<String> {
    let mut command = netns.command("ip");
    command.args(["-brief", "link", "show", "dev", interface]);
    let line = run(command, "")?;
    line.split_whitespace()
        .nth(2)
        .map(str::to_owned)
        .ok_or_else(|| Error::environment(format!("ip told no hardware address of {interface}")))
}

/// Waits until IPv6 groups can be received on `interface`: for up to a second after it came up they are not, although
/// joins succeed.
pub(super) fn wait_for_group_route(netns: &Netns, interface: &str) -> Result<()> {
    for _ in 0..250 {
        let mut command = netns.command("ip");
        command.args(["-6", "route", "show", "table", "local", "ff00::/8", "dev", interface]);
        if run(command, "")?.contains("ff00::/8") {
            return Ok(());
        }
        std::thread::sleep(Duration::from_millis(20));
    }
    Err(Error::environment(format!("{interface}: no IPv6 group route after 5 s")))
}

/// Waits until the bridge forwards from and to `port`: for a moment after it came up it does not, and a first membership
/// report that is lost then is repeated only seconds later.
pub(super) fn wait_for_port(netns: &Netns, port: &str) -> Result<()> {
    for _ in 0..100 {
        let mut command = netns.command("bridge");
        command.args(["link", "show", "dev", port]);
        if run(command, "")?.contains(" state forwarding ") {
            return Ok(());
        }
        std::thread::sleep(Duration::from_millis(20));
    }
    Err(Error::environment(format!("{port}: the bridge does not forward after 2 s")))
}

/// The ports that the bridge has in its forwarding table for `group`.
pub(super) fn bridge_members(netns: &Netns, group: IpAddr) -> Result<BTreeSet<String>> {
    let mut command = netns.command("bridge");
    command.args(["-json", "mdb", "show"]);
    let text = run(command, "")?;
    let table: serde_json::Value = serde_json::from_str(&text)
        .map_err(|_| Error::environment("bridge told no multicast forwarding table"))?;
    let entries = table[0]["mdb"].as_array().map_or(&[][..], Vec::as_slice);
    Ok(entries
        .iter()
        .filter(|entry| entry["grp"] == group.to_string())
        .filter_map(|entry| entry["port"].as_str().map(str::to_owned))
        .collect())
}

/// Waits until the bridge has `ports` ports in its forwarding table for `group`: a host repeats a first report that was lost
/// within ten seconds (RFC 2236 §8.10).
pub(super) fn wait_for_members(netns: &Netns, group: IpAddr, ports: usize) -> Result<()> {
    for _ in 0..600 {
        if bridge_members(netns, group)?.len() >= ports {
            return Ok(());
        }
        std::thread::sleep(Duration::from_millis(20));
    }
    Err(Error::environment(format!("the bridge did not learn of {ports} members of {group} in 12 s")))
}

/// Whether the kernel of `netns` is a member of `group` on `interface`.
pub(super) fn has_group(netns: &Netns, interface: &str, group: IpAddr) -> Result<bool> {
    let mut command = netns.command("ip");
    command.args(["maddress", "show", "dev", interface]);
    let text = run(command, "")?;
    let group = group.to_string();
    Ok(text.lines().any(|line| line.split_whitespace().any(|word| word == group)))
}

/// Switches an offload of an interface, by the name that `ethtool -K` has for it.
pub(super) fn offload(netns: &Netns, interface: &str, name: &str, on: bool) -> Result<()> {
    let mut command = netns.command("ethtool");
    command.args(["-K", interface, name, if on { "on" } else { "off" }]);
    run(command, "").map(drop)
}

/// Runs the lines of `script` as `tc -batch` inside `netns`.
pub(super) fn tc(netns: &Netns, script: &str) -> Result<()> {
    let mut command = netns.command("tc");
    command.args(["-batch", "-"]);
    run(command, script).map(drop)
}

/// Packets that an interface has transmitted, by `ip -s link`.
pub(super) fn transmitted(netns: &Netns, interface: &str) -> Result<u64> {
    packets(netns, interface, "tx")
}

/// Packets that an interface has received, by `ip -s link`.
pub(super) fn received(netns: &Netns, interface: &str) -> Result<u64> {
    packets(netns, interface, "rx")
}

fn packets(netns: &Netns, interface: &str, way: &str) -> Result<u64> {
    let mut command = netns.command("ip");
    command.args(["-json", "-stats", "link", "show", "dev", interface]);
    let text = run(command, "")?;
    serde_json::from_str::<serde_json::Value>(&text)
        .ok()
        .and_then(|links| links[0]["stats64"][way]["packets"].as_u64())
        .ok_or_else(|| Error::environment(format!("ip told no statistics of {interface}")))
}

fn run(mut command: Command, input: &str) -> Result<String> {
    let program = command.get_program().to_string_lossy().into_owned();
    let package = if program == "ethtool" { "ethtool" } else { "iproute2" };
    let failed = |e| {
        Error::environment(format!("cannot run {program}"))
            .because(e)
            .fix(format!("apt-get install {package}"))
    };
    let mut child = command
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .map_err(failed)?;
    child.stdin.take().expect("piped").write_all(input.as_bytes()).map_err(failed)?;
    let output = child.wait_with_output().map_err(failed)?;
    if !output.status.success() {
        let said = String::from_utf8_lossy(&output.stderr).trim().to_owned();
        return Err(Error::environment(format!("{program} could not set up the lab: {said}")));
    }
    Ok(String::from_utf8_lossy(&output.stdout).into_owned())
}
