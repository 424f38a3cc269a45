//! A multicast router by FRR's pimd, as Debian packages it: every member port has an IGMP querier, and the router is the rendezvous point of all groups (RFC 7761).
#![forbid(unsafe_code)]

use std::collections::BTreeSet;
use std::fmt::Write as _;
use std::io::{BufRead, BufReader};
use std::net::IpAddr;
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};

use super::ends::{Addresses, Options};
use super::routed::Routed;
use super::{Device, Kind, Running};
use crate::error::{Error, Result};
use crate::lab::Netns;

/// Where the package has its daemons.
const DAEMONS: &str = "/usr/lib/frr";

/// Starts the daemons with the configuration `$1`, says in which directory, and ends them when its input ends, which it does however this process ends. They drop to a
/// user of their own, and the kernel forgets then that they were to die with their parent. The work is done by a child, as the shell itself is killed together with this
/// process.
const GUARDIAN: &str = r#"
exec 3<&0
(
dir=$(mktemp -d) || exit
pids=
end() {
    if [ -n "$pids" ]; then
        kill $pids 2>/dev/null
        (sleep 5; kill -9 $pids) 2>/dev/null &
        killer=$!
        wait $pids
        kill $killer 2>/dev/null
    fi
    rm -rf "$dir"
}
trap end EXIT
# Nobody may listen any more when it says where.
trap '' PIPE
: > "$dir/zebra.conf"
printf '%s' "$1" > "$dir/pimd.conf"
chown -R frr:frr "$dir" || exit
start() {
    "$2/$1" -f "$dir/$1.conf" -z "$dir/zserv" -i "$dir/$1.pid" --vty_socket "$dir" -P 0 --log stdout > "$dir/$1.log" 2>&1 3<&- &
    pids="$pids $!"
    tries=0
    until [ -S "$dir/$3" ]; do
        tries=$((tries + 1))
        if [ "$tries" -gt 200 ] || ! kill -0 $! 2>/dev/null; then
            echo "$1 did not start:" >&2
            tail -n 5 "$dir/$1.log" >&2
            exit 1
        fi
        sleep 0.05
    done
}
start zebra "$2" zserv
start pimd "$2" pimd.vty
echo "$dir"
cat <&3 > /dev/null
) &
wait $!
"#;

pub(super) fn build(members: usize, options: &Options) -> Result<Device> {
    let routed = Routed::new(members, options)?;
    let daemons = Daemons::start(&routed.middle, &configuration(&routed, options))?;
    let Routed { middle, senders, members, stranger } = routed;
    Ok(Device { kind: Kind::Pimd, senders, middle, members, stranger, running: Running::Pimd(daemons) })
}

/// What pimd is told. Where there is no other router to say hello to, its interfaces are passive.
fn configuration(routed: &Routed, options: &Options) -> String {
    let mut text = String::new();
    let first = Addresses::routed(1);
    let own = first.router.map_or(first.ipv4, |(own, _)| own);
    let point = if options.upstream { first.ipv4 } else { own };
    let _ = writeln!(text, "ip pim rp {point} 224.0.0.0/4");
    for host in &routed.senders {
        let passive = if options.upstream { "" } else { " ip pim passive\n" };
        let _ = writeln!(text, "interface {}\n ip pim\n{passive}exit", host.port);
    }
    let seconds = options.query_interval.as_secs().clamp(1, 1800);
    // In tenths of a second; it must not be above the interval (RFC 3376 §8.3).
    let response = (10 * seconds).min(100);
    for host in routed.receivers() {
        let _ = writeln!(
            text,
            "interface {}\n ip pim\n ip pim passive\n ip igmp\n ip igmp query-max-response-time {response}\n \
             ip igmp query-interval {seconds}\nexit",
            host.port
        );
    }
    text
}

/// zebra and pimd; dropping it ends them.
#[derive(Debug)]
pub(super) struct Daemons {
    guardian: Child,
    directory: PathBuf,
}

impl Daemons {
    fn start(middle: &Netns, configuration: &str) -> Result<Self> {
        const FIX: &str = "apt-get install frr";
        if !std::path::Path::new(DAEMONS).join("pimd").exists() {
            return Err(Error::environment(format!("pimd: {DAEMONS}/pimd is not there")).fix(FIX));
        }
        let failed = |what: &str| Error::environment(format!("pimd: {what}")).fix(FIX);
        let mut guardian = middle
            .command("sh")
            .args(["-c", GUARDIAN, "guardian", configuration, DAEMONS])
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .map_err(|e| failed("cannot run sh").because(e))?;
        let mut line = String::new();
        let read = guardian.stdout.take().map(|stdout| BufReader::new(stdout).read_line(&mut line));
        if !matches!(read, Some(Ok(1..))) {
            let said = guardian.wait_with_output().map(|output| output.stderr).unwrap_or_default();
            return Err(failed(String::from_utf8_lossy(&said).trim()));
        }
        Ok(Self { guardian, directory: line.trim_end().into() })
    }

    /// Interfaces behind which pimd knows of members of `group`.
    ///
    /// # Errors
    /// When pimd does not answer.
    pub(super) fn interfaces_of(&self, group: IpAddr) -> Result<BTreeSet<String>> {
        let failed = |what: &str| Error::failed(format!("pimd: {what}"));
        let output = Command::new("vtysh")
            .arg("--vty_socket")
            .arg(&self.directory)
            .args(["-c", "show ip igmp groups json"])
            .output()
            .map_err(|e| failed("cannot run vtysh").because(e))?;
        let text = String::from_utf8_lossy(&output.stdout);
        let table: serde_json::Value = serde_json::from_str(&text).map_err(|_| {
            failed(&format!("vtysh told no groups: {text}{}", String::from_utf8_lossy(&output.stderr)))
        })?;
        let group = group.to_string();
        let has = |interface: &serde_json::Value| {
            let groups = interface["groups"].as_array();
            groups.is_some_and(|groups| groups.iter().any(|known| known["group"] == group))
        };
        let interfaces = table.as_object().into_iter().flatten();
        Ok(interfaces.filter(|(_, value)| has(value)).map(|(name, _)| name.clone()).collect())
    }
}

impl Drop for Daemons {
    fn drop(&mut self) {
        drop(self.guardian.stdin.take());
        let _ = self.guardian.wait();
    }
}
