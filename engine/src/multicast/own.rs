//! This host's own memberships, as the kernel tells them in /proc/net.
#![forbid(unsafe_code)]

use std::collections::BTreeMap;
use std::fs;
use std::io;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::path::PathBuf;

use serde::Serialize;

use super::mac;
use super::message::Version;
use super::state::Mode;
use crate::error::{Error, Result};
use crate::host::interface;

/// An interface and its groups.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Interface {
    /// Its name.
    pub name: String,
    /// Its index in this network namespace.
    pub index: u32,
    /// What it speaks about IPv4 groups; absent without IPv4.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub igmp: Option<Speaks>,
    /// What it speaks about IPv6 groups; absent without IPv6.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub mld: Option<Speaks>,
    /// Groups, IPv4 before IPv6, in order.
    pub groups: Vec<Group>,
    /// Hardware addresses that are let in although no group of the interface has them: of packet sockets and of other protocols.
    pub other_link_addresses: Vec<String>,
}

/// Which version an interface speaks.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
pub struct Speaks {
    /// The version now; absent where the kernel does not tell: MLD that is not forced is MLDv2 until an older querier is heard.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub version: Option<Version>,
    /// It is forced (force_igmp_version, force_mld_version); otherwise the oldest querier is followed.
    pub forced: bool,
}

/// A group that this host is a member of.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Group {
    /// Its address.
    pub group: IpAddr,
    /// The hardware address of its frames.
    pub mac: String,
    /// That address is in the interface's filter.
    pub in_link_filter: bool,
    /// Sockets and parts of the kernel that have joined it.
    pub users: u32,
    /// This host sent the last report (the versions before IGMPv3 and MLDv2 then send a leave).
    pub last_reporter: bool,
    /// Whether sources are asked for or refused; absent where the kernel's counts leave it open.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub mode: Option<Mode>,
    /// Sources that a socket named.
    pub sources: Vec<Source>,
}

/// A source that sockets named for a group.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
pub struct Source {
    /// Its address.
    pub source: IpAddr,
    /// Sockets that want it.
    pub included: u32,
    /// Sockets that want all but it.
    pub excluded: u32,
}

/// What the kernel's files say.
#[derive(Debug, Default)]
pub(crate) struct Files {
    pub igmp: String,
    pub igmp6: String,
    pub mcfilter: String,
    pub mcfilter6: String,
    pub dev_mcast: String,
}

impl Files {
    /// Those of the calling thread's network namespace.
    fn read() -> Result<Self> {
        // A kernel without IPv6 lacks its files.
        let file = |name: &str| match fs::read_to_string(format!("/proc/thread-self/net/{name}")) {
            Ok(text) => Ok(text),
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(String::new()),
            Err(error) => Err(Error::environment(format!("/proc/net/{name} cannot be read")).because(error)),
        };
        Ok(Self {
            igmp: file("igmp")?,
            igmp6: file("igmp6")?,
            mcfilter: file("mcfilter")?,
            mcfilter6: file("mcfilter6")?,
            dev_mcast: file("dev_mcast")?,
        })
    }
}

/// The memberships of the interface called `only`, or of all that have one.
///
/// # Errors
/// Usage: no such interface. Environment: /proc is not there.
pub fn memberships(only: Option<&str>) -> Result<Vec<Interface>> {
    if let Some(name) = only {
        interface::lookup(name)?;
    }
    let mut interfaces = parse(&Files::read()?);
    interfaces.retain(|interface| only.is_none_or(|name| interface.name == name));
    for interface in &mut interfaces {
        for (speaks, ipv6) in [(&mut interface.igmp, false), (&mut interface.mld, true)] {
            let Some(speaks) = speaks else { continue };
            let forced = forced(&interface.name, ipv6);
            speaks.forced = forced.is_some();
            speaks.version = forced.or(speaks.version);
        }
    }
    Ok(interfaces)
}

/// The version that the interface is forced to speak, by its own setting or by that of all.
pub(crate) fn forced(interface: &str, ipv6: bool) -> Option<Version> {
    let read = |interface: &str| {
        let text = fs::read_to_string(setting(interface, ipv6)).ok()?;
        number_of(text.trim().parse().ok()?, ipv6)
    };
    read("all").or_else(|| read(interface))
}

/// Where the version of an interface is forced.
pub(crate) fn setting(interface: &str, ipv6: bool) -> PathBuf {
    let (family, name) = if ipv6 { ("ipv6", "force_mld_version") } else { ("ipv4", "force_igmp_version") };
    // A name may hold a dot, but no slash.
    ["/proc/sys/net", family, "conf", interface, name].iter().collect()
}

fn number_of(number: u8, ipv6: bool) -> Option<Version> {
    match (number, ipv6) {
        (1, false) => Some(Version::Igmp1),
        (2, false) => Some(Version::Igmp2),
        (3, false) => Some(Version::Igmp3),
        (1, true) => Some(Version::Mld1),
        (2, true) => Some(Version::Mld2),
        _ => None,
    }
}

pub(crate) fn parse(files: &Files) -> Vec<Interface> {
    let mut interfaces = BTreeMap::new();
    igmp(&files.igmp, &mut interfaces);
    igmp6(&files.igmp6, &mut interfaces);
    for (text, ipv6) in [(&files.mcfilter, false), (&files.mcfilter6, true)] {
        filters(text, ipv6, &mut interfaces);
    }
    link_addresses(&files.dev_mcast, &mut interfaces);
    for interface in interfaces.values_mut() {
        interface.groups.sort_by_key(|group| group.group);
        interface.groups.iter_mut().for_each(|group| group.mode = mode(group));
    }
    interfaces.into_values().collect()
}

/// The interface's filter mode by how many sockets want and refuse each source. One that wants sources named at least one.
fn mode(group: &Group) -> Option<Mode> {
    let included = || group.sources.iter().map(|source| source.included);
    if group.sources.iter().any(|source| source.excluded > 0) || included().sum::<u32>() < group.users {
        return Some(Mode::Exclude);
    }
    // All users want the same source.
    (included().max() >= Some(group.users)).then_some(Mode::Include)
}

type Interfaces = BTreeMap<u32, Interface>;

fn entry<'a>(interfaces: &'a mut Interfaces, index: u32, name: &str) -> &'a mut Interface {
    interfaces.entry(index).or_insert_with(|| Interface {
        name: name.to_owned(),
        index,
        igmp: None,
        mld: None,
        groups: Vec::new(),
        other_link_addresses: Vec::new(),
    })
}

fn group(address: IpAddr, users: u32, last_reporter: bool) -> Option<Group> {
    Some(Group {
        group: address,
        mac: shown(mac::of_group(address)?),
        in_link_filter: false,
        users,
        last_reporter,
        mode: None,
        sources: Vec::new(),
    })
}

/// A hardware address as people write it.
pub(crate) fn shown(mac: [u8; 6]) -> String {
    mac.map(|byte| format!("{byte:02x}")).join(":")
}

/// A line for each interface, and behind it one for each of its groups, whose address is a number in the machine's byte order.
fn igmp(text: &str, interfaces: &mut Interfaces) {
    let mut index = 0;
    for line in text.lines().skip(1) {
        let words: Vec<&str> = line.split_whitespace().collect();
        if !line.starts_with([' ', '\t']) {
            let Some((Ok(number), name)) = words.first().map(|w| w.parse()).zip(words.get(1)) else {
                continue;
            };
            index = number;
            let version = words.last().and_then(|word| word.strip_prefix('V')?.parse().ok());
            let version = version.and_then(|number| number_of(number, false));
            entry(interfaces, index, name.trim_end_matches(':')).igmp =
                Some(Speaks { version, forced: false });
        } else if let [address, users, .., reporter] = words[..] {
            let Ok(address) = u32::from_str_radix(address, 16) else { continue };
            let address = Ipv4Addr::from(address.to_ne_bytes()).into();
            let group = group(address, users.parse().unwrap_or(0), reporter == "1");
            if let Some(interface) = interfaces.get_mut(&index) {
                interface.groups.extend(group);
            }
        }
    }
}

/// A line for each group: index, name, group, users, flags, timer.
fn igmp6(text: &str, interfaces: &mut Interfaces) {
    /// MAF_LAST_REPORTER.
    const LAST_REPORTER: u32 = 2;
    for line in text.lines() {
        let words: Vec<&str> = line.split_whitespace().collect();
        let [index, name, address, users, flags, ..] = words[..] else { continue };
        let (Ok(index), Some(address)) = (index.parse(), ipv6(address)) else { continue };
        let flags = u32::from_str_radix(flags, 16).unwrap_or(0);
        let group = group(address, users.parse().unwrap_or(0), flags & LAST_REPORTER != 0);
        let interface = entry(interfaces, index, name);
        interface.mld = Some(Speaks { version: None, forced: false });
        interface.groups.extend(group);
    }
}

fn ipv6(hex: &str) -> Option<IpAddr> {
    (hex.len() == 32).then(|| u128::from_str_radix(hex, 16).ok()).flatten().map(|n| Ipv6Addr::from(n).into())
}

/// A line for each source: index, a name that may be cut, group, source, how many want it, how many all but it.
fn filters(text: &str, six: bool, interfaces: &mut Interfaces) {
    let address = |word: &str| {
        if six {
            return ipv6(word);
        }
        let number = u32::from_str_radix(word.strip_prefix("0x")?, 16).ok()?;
        Some(Ipv4Addr::from(number).into())
    };
    for line in text.lines() {
        let words: Vec<&str> = line.split_whitespace().collect();
        let [index, .., group, source, included, excluded] = words[..] else { continue };
        let Some((group, source)) = address(group).zip(address(source)) else { continue };
        let Some(interface) = index.parse().ok().and_then(|index: u32| interfaces.get_mut(&index)) else {
            continue;
        };
        if let Some(entry) = interface.groups.iter_mut().find(|entry| entry.group == group) {
            let [included, excluded] = [included, excluded].map(|word| word.parse().unwrap_or(0));
            entry.sources.push(Source { source, included, excluded });
        }
    }
}

/// A line for each hardware address: index, name, users, of which by hand, address.
fn link_addresses(text: &str, interfaces: &mut Interfaces) {
    for line in text.lines() {
        let words: Vec<&str> = line.split_whitespace().collect();
        let [index, name, _, _, address] = words[..] else { continue };
        let Ok(index) = index.parse() else { continue };
        let pairs: Vec<&str> = (0..address.len() / 2).filter_map(|n| address.get(2 * n..2 * n + 2)).collect();
        let address = pairs.join(":");
        let interface = entry(interfaces, index, name);
        let mut of_a_group = false;
        for group in interface.groups.iter_mut().filter(|group| group.mac == address) {
            group.in_link_filter = true;
            of_a_group = true;
        }
        if !of_a_group {
            interface.other_link_addresses.push(address);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[cfg(target_endian = "little")]
    const IGMP: &str = "Idx\tDevice    : Count Querier\tGroup    Users Timer\tReporter
1\tlo        :     1      V3
\t\t\t\t010000E0     1 0:00000000\t\t0
2\twr0       :     3      V2
\t\t\t\t010101E8     1 0:00000000\t\t1
\t\t\t\t030201EF     2 1:0000003F\t\t1
\t\t\t\t010000E0     1 0:00000000\t\t0
";

    #[test]
    #[cfg(target_endian = "little")]
    fn the_kernel_s_files_are_read() {
        let files = Files {
            igmp: IGMP.into(),
            igmp6: "1    lo              ff020000000000000000000000000001     1 0000000C 0
2    wr0             ff15000000000000000000000000abcd     1 00000006 0\n"
                .into(),
            mcfilter: "Idx Device        MCA        SRC    INC    EXC
  2    wr0 0xe8010101 0xc000020a      1      0
  2    wr0 0xef010203 0x0a000001      0      1\n"
                .into(),
            mcfilter6:
                "Idx Device                Multicast Address                   Source Address    INC    EXC
  2    wr0 ff15000000000000000000000000abcd 20010db8000000000000000000000010      1      0\n"
                    .into(),
            dev_mcast: "2    wr0             1     0     01005e010203
2    wr0             1     0     3333ffabcdef
2    wr0             1     0     01005e010101\n"
                .into(),
        };
        let interfaces = parse(&files);
        let [lo, wr0] = &interfaces[..] else { panic!("{interfaces:?}") };
        assert_eq!((lo.name.as_str(), lo.groups.len()), ("lo", 2));
        assert_eq!(wr0.igmp.unwrap().version, Some(Version::Igmp2));
        assert_eq!(wr0.other_link_addresses, ["33:33:ff:ab:cd:ef"]);
        let shown: Vec<String> = wr0
            .groups
            .iter()
            .map(|g| {
                let sources: Vec<_> = g.sources.iter().map(|s| s.source.to_string()).collect();
                format!("{} {} {:?} {} {sources:?}", g.group, g.users, g.mode, g.in_link_filter)
            })
            .collect();
        assert_eq!(
            shown,
            [
                "224.0.0.1 1 Some(Exclude) false []",
                r#"232.1.1.1 1 Some(Include) true ["192.0.2.10"]"#,
                r#"239.1.2.3 2 Some(Exclude) true ["10.0.0.1"]"#,
                r#"ff15::abcd 1 Some(Include) false ["2001:db8::10"]"#,
            ]
        );
    }

    #[test]
    fn two_sockets_may_leave_the_mode_open() {
        let source = |n, included| Source { source: IpAddr::from([10, 0, 0, n]), included, excluded: 0 };
        let with =
            |users, sources| Group { sources, ..group(IpAddr::from([239, 1, 1, 1]), users, true).unwrap() };
        assert_eq!(mode(&with(2, vec![source(1, 1), source(2, 1)])), None);
        assert_eq!(mode(&with(2, vec![source(1, 2), source(2, 1)])), Some(Mode::Include));
        assert_eq!(mode(&with(2, vec![source(1, 1)])), Some(Mode::Exclude));
    }

    proptest::proptest! {
        #[test]
        fn no_text_panics(igmp in "(.|\n){0,200}", mcfilter in "(.|\n){0,200}", dev_mcast in "(.|\n){0,200}") {
            let files = Files { igmp6: igmp.clone(), mcfilter6: mcfilter.clone(), igmp, mcfilter, dev_mcast };
            parse(&files);
        }
    }
}
