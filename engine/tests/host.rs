//! The machine as the engine sees it, in network namespaces made for each test.

use std::net::IpAddr;
use std::process::Command;
use std::time::Duration;

use nix::sched::{CpuSet, sched_setaffinity};
use nix::unistd::Pid;
use wirerate_engine::Kind;
use wirerate_engine::host::irq::Direction;
use wirerate_engine::host::placement::{Device, Request, place};
use wirerate_engine::host::{cpu, interface, neighbour, nic::Nic, route};
use wirerate_engine::lab::{INTERFACE, Lab, Netns};

mod common;

/// Runs the lines as `ip` commands inside the namespace.
fn ip(netns: &Netns, lines: &[&str]) {
    for line in lines {
        let mut command: Command = netns.command("ip");
        let output = command.args(line.split_whitespace()).output().unwrap();
        assert!(output.status.success(), "ip {line}: {}", String::from_utf8_lossy(&output.stderr));
    }
}

fn addr(text: &str) -> IpAddr {
    text.parse().unwrap()
}

const SHORT: Duration = Duration::from_millis(300);
const LONG: Duration = Duration::from_secs(20);

#[test]
fn interfaces_of_the_namespace_and_of_no_other() {
    common::require_root!();
    let netns = Netns::new().unwrap();
    ip(
        &netns,
        &[
            "link add name wr7 index 77 address 02:00:00:00:00:77 mtu 1400 type veth peer name wr8",
            "link set dev wr7 up",
            "link set dev wr7 multicast off",
        ],
    );
    netns.run(|| {
        let found = interface::lookup("wr7").unwrap();
        assert_eq!((found.index, found.mtu), (77, 1400));
        assert_eq!(found.mac, [2, 0, 0, 0, 0, 0x77]);
        assert_eq!(interface::lookup("lo").unwrap().mac, [0; 6]);

        let link = interface::link("wr7").unwrap();
        assert!(link.up && !link.carrier && !link.multicast && !link.loopback && link.ethernet);
        assert_eq!(link.kind.as_deref(), Some("veth"));
        assert!(interface::require_up("wr7").is_ok());
        let peer = interface::lookup("wr8").unwrap().index;
        assert!(interface::exists(77), "the interface that was made");
        assert!(interface::exists(peer), "its peer, {peer}");
        assert!(!interface::exists(7777), "an index that nothing has");
        assert_eq!(interface::by_index(7777).unwrap(), None);
        assert_eq!(interface::by_index(77).unwrap().unwrap().name, "wr7");
        let names = interface::list().unwrap().into_iter().map(|l| l.name).collect::<Vec<_>>();
        assert_eq!(names.len(), 3, "{names:?}");

        let down = interface::require_up("wr8").unwrap_err();
        assert_eq!(down.kind, Kind::Environment);
        assert_eq!(down.fix.as_deref(), Some("ip link set dev wr8 up"));
        let unknown = interface::lookup("eth0").unwrap_err();
        assert_eq!(unknown.kind, Kind::Usage);
        assert!(
            unknown.what.contains("eth0") && unknown.fix.as_deref().unwrap().contains("wr7"),
            "{unknown}"
        );
        assert!(unknown.fix.unwrap().contains("wr8"));
    });
    ip(&netns, &["link del dev wr7"]);
    netns.run(|| assert!(!interface::exists(77)));
}

#[test]
fn routes_to_hosts_and_groups() {
    common::require_root!();
    let netns = Netns::new().unwrap();
    ip(&netns, &["link set dev lo up", "link add name wr7 index 77 type veth peer name wr8"]);
    let down = netns.run(|| route::route_to(addr("10.1.0.9"), None, None)).unwrap_err();
    assert_eq!(down.kind, Kind::Environment);
    assert!(down.what.contains("10.1.0.9") && down.fix.unwrap().contains("ip route add"));

    for scope in ["all", "wr7"] {
        let path = format!("/proc/sys/net/ipv6/conf/{scope}/accept_dad");
        netns.run(|| std::fs::write(path, "0")).unwrap();
    }
    ip(
        &netns,
        &[
            "link set dev wr8 up",
            "link set dev wr7 up",
            "address add 10.1.0.1/24 dev wr7",
            "address add fd01::1/64 dev wr7 nodad",
            "route add 10.2.0.0/16 via 10.1.0.254",
        ],
    );
    netns.run(|| {
        let direct = route::route_to(addr("10.1.0.9"), None, None).unwrap();
        assert_eq!((direct.interface, direct.gateway, direct.local), (77, None, false));
        assert_eq!(direct.source, addr("10.1.0.1"));
        let beyond = route::route_to(addr("10.2.3.4"), None, None).unwrap();
        assert_eq!(beyond.gateway, Some(addr("10.1.0.254")));
        let six = route::route_to(addr("fd01::9"), None, None).unwrap();
        assert_eq!((six.interface, six.source), (77, addr("fd01::1")));
        assert!(route::route_to(addr("10.1.0.1"), None, None).unwrap().local);
        assert!(route::route_to(addr("127.0.0.1"), None, Some(addr("127.0.0.5"))).unwrap().local);

        // A group has no route here; an interface is enough.
        let refused = route::route_to(addr("239.1.1.1"), None, None).unwrap_err();
        assert!(refused.what.contains("239.1.1.1") && refused.fix.unwrap().contains("--iface"));
        let group = route::route_to(addr("239.1.1.1"), Some(77), None).unwrap();
        assert_eq!((group.interface, group.source, group.gateway), (77, addr("10.1.0.1"), None));
        let wide = route::route_to(addr("ff15::1"), Some(77), None).unwrap();
        assert_eq!(wide.source, addr("fd01::1"));
        let IpAddr::V6(near) = route::route_to(addr("ff02::1234"), Some(77), None).unwrap().source else {
            panic!("an IPv6 source for an IPv6 group")
        };
        assert!(near.is_unicast_link_local(), "{near}");

        let foreign = route::route_to(addr("10.1.0.9"), None, Some(addr("192.0.2.1"))).unwrap_err();
        assert_eq!(foreign.kind, Kind::Usage);
        assert!(foreign.fix.unwrap().contains("10.1.0.1"));
    });

    // A default route does not carry groups by its gateway.
    ip(&netns, &["route add default via 10.1.0.254"]);
    let by_default = netns.run(|| route::route_to(addr("239.1.1.1"), None, None)).unwrap();
    assert_eq!((by_default.interface, by_default.gateway), (77, None));
    assert_eq!(netns.run(|| route::route_to(addr("8.8.8.8"), None, None)).unwrap().interface, 77);

    ip(&netns, &["address flush dev wr7", "link set dev lo down"]);
    let no_source = netns.run(|| route::route_to(addr("239.1.1.1"), Some(77), None)).unwrap_err();
    assert_eq!(no_source.kind, Kind::Environment);
    assert!(no_source.what.contains("no IPv4 address"), "{no_source}");
}

#[test]
fn neighbours_answer_or_do_not() {
    common::require_root!();
    let lab = Lab::bridge(1).unwrap();
    let receiver = &lab.receivers[0];
    let mac = receiver.netns.run(|| interface::lookup(INTERFACE).unwrap().mac);
    // The lab introduces its hosts to each other; here they have to find each other.
    ip(&lab.sender.netns, &["neigh flush all nud permanent"]);
    lab.sender.netns.run(|| {
        let wr0 = interface::lookup(INTERFACE).unwrap();
        for ip in [IpAddr::from(receiver.ipv4), receiver.ipv6.into()] {
            assert_eq!(neighbour::resolve(&wr0, ip, LONG).unwrap(), mac, "{ip}");
            let route = route::route_to(ip, None, None).unwrap();
            assert_eq!(neighbour::next_hop(&wr0, &route, ip, LONG).unwrap(), mac, "{ip}");
        }
        for ip in ["10.77.0.99", "fd77::99"] {
            let error = neighbour::resolve(&wr0, addr(ip), SHORT).unwrap_err();
            assert_eq!(error.kind, Kind::Environment);
            assert_eq!(error.what, format!("no neighbour answers for {ip} on {INTERFACE}"));
            assert!(error.fix.is_some());
        }
        let lo = interface::lookup("lo").unwrap();
        assert_eq!(neighbour::resolve(&lo, addr("127.0.0.1"), SHORT).unwrap(), [0; 6]);
    });

    // The next hop is the gateway where the route has one.
    ip(&lab.sender.netns, &[&format!("route add 10.88.0.0/16 via {}", receiver.ipv4)]);
    lab.sender.netns.run(|| {
        let wr0 = interface::lookup(INTERFACE).unwrap();
        let route = route::route_to(addr("10.88.1.1"), None, None).unwrap();
        assert_eq!(neighbour::next_hop(&wr0, &route, addr("10.88.1.1"), LONG).unwrap(), mac);
    });
}

#[test]
fn neighbours_are_found_without_privileges() {
    common::require_root!();
    let lab = Lab::bridge(1).unwrap();
    let receiver = &lab.receivers[0];
    let mac = receiver.netns.run(|| interface::lookup(INTERFACE).unwrap().mac);
    ip(&lab.sender.netns, &["neigh flush all nud permanent"]);
    lab.sender.netns.run(|| {
        let wr0 = interface::lookup(INTERFACE).unwrap();
        // Only this thread gives up being root; the system call, unlike the C library, changes one thread.
        common::become_nobody();
        for ip in [IpAddr::from(receiver.ipv4), receiver.ipv6.into()] {
            assert_eq!(neighbour::resolve(&wr0, ip, LONG).unwrap(), mac, "{ip}");
        }
    });
}

#[test]
fn what_a_veth_offers() {
    common::require_root!();
    let netns = Netns::new().unwrap();
    ip(&netns, &["link add name wr7 numrxqueues 4 numtxqueues 3 type veth peer name wr8"]);
    netns.run(|| {
        let nic = Nic::read(&interface::link("wr7").unwrap());
        assert_eq!(nic.driver.as_deref(), Some("veth"));
        assert_eq!((nic.queues.rx, nic.queues.tx), (4, 3), "{nic:?}");
        assert_eq!(nic.offloads.tx_checksum, Some(true));
        assert_eq!(nic.offloads.tx_udp_segmentation, Some(true));
        assert_eq!((nic.numa_node, nic.rings, nic.bus.as_deref()), (None, None, None));
        let Some(xdp) = nic.xdp else {
            eprintln!("SKIPPED: this kernel does not tell XDP features (they came with 6.3)");
            return;
        };
        assert!(xdp.native && xdp.redirect && !xdp.zero_copy, "{xdp:?}");

        let lo = Nic::read(&interface::link("lo").unwrap());
        assert!(lo.xdp.is_some_and(|x| !x.native && !x.zero_copy));
    });
    // A device that is switched off shows it.
    let mut ethtool = netns.command("ethtool");
    let output = ethtool.args(["-K", "wr7", "tx", "off"]).output().unwrap();
    assert!(output.status.success());
    let nic = netns.run(|| Nic::read(&interface::link("wr7").unwrap()));
    assert_eq!(nic.offloads.tx_checksum, Some(false));
}

#[test]
fn pinning_stays_within_the_mask() {
    let all = cpu::Cpus::read().unwrap().allowed;
    for cpu in &all {
        std::thread::scope(|scope| scope.spawn(|| cpu::pin(*cpu)).join().unwrap()).unwrap();
    }
    let last = *all.last().unwrap();
    std::thread::scope(|scope| {
        scope.spawn(|| {
            // What taskset does.
            let mut set = CpuSet::new();
            set.set(last).unwrap();
            sched_setaffinity(Pid::from_raw(0), &set).unwrap();
            let choose = |workers: usize, wanted: &[usize]| {
                let queues = vec![None; workers];
                let request =
                    Request { queues: &queues, direction: Direction::Receive, wanted, on_irq_cpu: false };
                let places = place(&cpu::Cpus::read().unwrap(), &Device::default(), &request)?;
                Ok::<_, wirerate_engine::Error>(places.iter().map(|p| p.cpu).collect::<Vec<_>>())
            };
            assert_eq!(choose(3, &[]).unwrap(), [last; 3]);
            assert_eq!(choose(1, &[last]).unwrap(), [last]);
            for outside in all.iter().copied().filter(|&cpu| cpu != last).chain([last + 1]) {
                let error = choose(1, &[outside]).unwrap_err();
                assert_eq!(error.kind, Kind::Usage);
                assert!(error.what.contains(&format!("CPU {outside}")), "{error}");
                assert!(error.to_string().contains(&last.to_string()), "{error}");
            }
        });
    });
    let error = std::thread::scope(|scope| scope.spawn(|| cpu::pin(1023)).join().unwrap()).unwrap_err();
    assert_eq!(error.kind, Kind::Environment);
    assert!(error.what.contains("CPU 1023"), "{error}");
}

#[test]
fn doctor_finds_what_is_wrong_with_a_veth() {
    common::require_root!();
    let netns = Netns::new().unwrap();
    ip(&netns, &["link set dev lo up", "link add name wr7 type veth peer name wr8", "link set dev wr8 up"]);
    let examine = |name: &str| netns.run(|| wirerate_engine::doctor::examine(&[name.to_owned()]));
    let has = |code: &str| {
        let found = examine("wr7").unwrap().findings.into_iter().find(|f| f.code == code);
        found.map(|f| f.fix.unwrap_or_default())
    };
    assert_eq!(has("interface-down").as_deref(), Some("sudo ip link set dev wr7 up"));
    assert!(has("no-ipv4-multicast-route").is_some());
    assert_eq!(has("veth-tx-checksum").as_deref(), Some("sudo ethtool -K wr7 tx off"));
    assert!(has("no-multicast").is_none());

    ip(
        &netns,
        &[
            "link set dev wr7 up",
            "link set dev wr7 multicast off",
            "address add 10.1.0.1/24 dev wr7",
            "route add 224.0.0.0/4 dev wr7",
        ],
    );
    netns.run(|| std::fs::write("/proc/sys/net/ipv4/conf/wr7/rp_filter", "1").unwrap());
    assert!(has("interface-down").is_none() && has("no-ipv4-multicast-route").is_none());
    assert!(has("no-multicast").unwrap().contains("multicast on"));
    assert!(has("rp-filter").unwrap().contains("net.ipv4.conf.wr7.rp_filter"));

    assert_eq!(examine("wr9").unwrap_err().kind, Kind::Usage);
    let all = netns.run(|| wirerate_engine::doctor::examine(&[])).unwrap();
    let names = all.interfaces.iter().map(|i| i.link.name.as_str()).collect::<Vec<_>>();
    assert!(names.len() == 2 && names.contains(&"wr7") && names.contains(&"wr8"), "{names:?}");
    assert!(all.findings.is_sorted_by_key(|f| std::cmp::Reverse(f.severity)));
    // It is plain data.
    let json = serde_json::to_value(&all).unwrap();
    assert_eq!(json["interfaces"].as_array().unwrap().len(), 2);
}
