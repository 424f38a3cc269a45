//! `groups` listens to a router: FRR's pimd asks a neighbour for groups, tshark reads what it says.

mod common;

use std::process::Command;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use common::witness::Tcpdump;
use common::{Running, run};
use serde_json::{Value, json};
use socket2::{Domain, Protocol, Socket, Type};
use wirerate_engine::lab::device::{Device, Kind, Options};
use wirerate_engine::lab::{Host, INTERFACE};

/// Ends the greetings when dropped.
struct Ends<'a>(&'a AtomicBool);

impl Drop for Ends<'_> {
    fn drop(&mut self) {
        self.0.store(true, Ordering::Relaxed);
    }
}

/// A PIM router's greeting every 500 ms: hold time 105 s, priority 1, generation 77.
fn greet(host: &Host, ends: &AtomicBool) {
    host.netns.run(|| {
        let socket = Socket::new(Domain::IPV4, Type::RAW, Some(Protocol::from(103))).unwrap();
        socket.set_multicast_if_v4(&host.ipv4).unwrap();
        socket.set_multicast_ttl_v4(1).unwrap();
        let mut hello =
            vec![0x20, 0, 0, 0, 0, 1, 0, 2, 0, 105, 0, 19, 0, 4, 0, 0, 0, 1, 0, 20, 0, 4, 0, 0, 0, 77];
        let sum: u32 = hello.chunks(2).map(|two| u32::from(two[0]) << 8 | u32::from(two[1])).sum();
        hello[2..4].copy_from_slice(&(!(sum as u16)).to_be_bytes());
        let routers = std::net::SocketAddr::from(([224, 0, 0, 13], 0)).into();
        while !ends.load(Ordering::Relaxed) {
            socket.send_to(&hello, &routers).unwrap();
            thread::sleep(Duration::from_millis(500));
        }
    });
}

/// Statements of the next messages until one is of this type and about this group.
fn until(watching: &mut Running, kind: &str, group: &str) -> Value {
    let start = Instant::now();
    loop {
        assert!(start.elapsed() < common::PATIENCE, "no {kind} of {group}");
        let event = watching.wait_for("message");
        let says = event["message"]["says"].as_array().unwrap().clone();
        if let Some(said) = says.into_iter().find(|said| said["type"] == kind && said["group"] == group) {
            return said;
        }
    }
}

/// Join/Prune messages of a capture as tshark reads them: router, neighbour, group, joined, pruned.
fn read(capture: &std::path::Path) -> Vec<Vec<String>> {
    let mut tshark = Command::new("tshark");
    tshark.arg("-r").arg(capture).args(["-Y", "pim.type == 3", "-T", "fields", "-E", "separator=|"]);
    for field in ["ip.src", "pim.upstream_neighbor", "pim.group", "pim.join_ip", "pim.prune_ip"] {
        tshark.args(["-e", field]);
    }
    let ended = run(tshark);
    assert_eq!(ended.code, 0, "{}", ended.stderr);
    let once = |list: &str| {
        // tshark has each group in two fields of one name.
        let mut all: Vec<&str> = list.split(',').collect();
        all.dedup();
        all.join(",")
    };
    ended.stdout.lines().map(|line| line.split('|').map(once).collect()).collect()
}

#[test]
fn a_router_joins_and_prunes() {
    common::require_root!();
    let options = Options { upstream: true, ..Options::default() };
    let device = Device::build(Kind::Pimd, 1, &options).unwrap();
    let neighbour = device.sender();
    common::ip(&device.middle, &format!("route add 10.88.0.0/24 via {}", neighbour.ipv4));
    let directory = tempfile::tempdir().unwrap();
    let capture = directory.path().join("pim.pcap");
    let over = AtomicBool::new(false);
    let heard = thread::scope(|scope| {
        let _ends = Ends(&over);
        scope.spawn(|| greet(neighbour, &over));
        let tcpdump = Tcpdump::capture(&neighbour.netns, INTERFACE, "pim", &capture);
        let mut watching = Running::ready_on(neighbour, &["groups", "--watch", "--iface", INTERFACE]);
        let all = Running::ready_on(
            &device.members[0],
            &["groups", "--join", "239.5.0.1", "--groups", "2", "--iface", INTERFACE],
        );
        let said = until(&mut watching, "router-join", "239.5.0.1");
        let own = neighbour.ipv4.to_string();
        assert_eq!((&said["upstream"], &said["rendezvous_point"]), (&json!(own), &json!(own)), "{said}");
        assert!(said.get("source").is_none(), "{said}");
        let one = Running::ready_on(
            &device.members[0],
            &["groups", "--join", "10.88.0.1@232.5.0.1", "--iface", INTERFACE],
        );
        let said = until(&mut watching, "router-join", "232.5.0.1");
        assert_eq!((&said["source"], said.get("rendezvous_point")), (&json!("10.88.0.1"), None), "{said}");
        all.signal("INT");
        all.report();
        let said = until(&mut watching, "router-prune", "239.5.0.1");
        assert_eq!(said["upstream"], json!(own), "{said}");
        watching.signal("INT");
        let heard = watching.report()["heard"].clone();
        one.signal("INT");
        one.report();
        tcpdump.end();
        heard
    });
    assert_eq!((&heard["malformed"], &heard["defective"]), (&json!(0), &json!(0)), "{heard:#}");
    let routers = heard["routers"].as_array().unwrap();
    let of = |address: &str| routers.iter().find(|router| router["address"] == address).cloned();
    let (router, ours) = (of("10.77.1.254").expect("pimd"), of("10.77.1.1").expect("we said hello"));
    assert_eq!((&ours["dr_priority"], &ours["joins"]), (&json!(1), &json!([])), "{ours}");
    let left: Vec<&Value> = router["joins"].as_array().unwrap().iter().map(|join| &join["group"]).collect();
    assert!(left.contains(&&json!("232.5.0.1")) && !left.contains(&&json!("239.5.0.1")), "{router:#}");

    // The same capture by tshark and by ourselves.
    let mut command = common::wirerate(&["groups", "--json-lines", "--pcap"]);
    command.arg(&capture);
    let ended = run(command);
    assert_eq!(ended.code, 0, "{}", ended.stderr);
    let events = ended.stdout.lines().map(|line| serde_json::from_str::<Value>(line).unwrap());
    let own: Vec<Vec<String>> = events
        .filter_map(|event| {
            let message = &event["message"];
            let says = message["says"].as_array()?;
            let of = |kind: &str, key: &str| -> Vec<String> {
                let of_kind = says.iter().filter(|said| kind.is_empty() || said["type"] == kind);
                let value = |said: &Value| {
                    let all = said["rendezvous_point"].as_str().filter(|_| key == "source");
                    all.or(said[key].as_str()).unwrap().to_owned()
                };
                of_kind.map(value).collect()
            };
            says.iter().find(|said| said["type"].as_str().is_some_and(|kind| kind.starts_with("router-")))?;
            let mut groups = of("", "group");
            groups.dedup();
            let source = message["source"].as_str().unwrap().to_owned();
            let (joined, pruned) = (of("router-join", "source"), of("router-prune", "source"));
            Some(vec![
                source,
                of("", "upstream")[0].clone(),
                groups.join(","),
                joined.join(","),
                pruned.join(","),
            ])
        })
        .collect();
    assert!(own.len() >= 3, "{own:?}");
    assert_eq!(own, read(&capture));
}
