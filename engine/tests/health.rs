//! Counters of drivers read and judged. The fixtures in `data/ethtool` have the names that the kernel's drivers give (what `ethtool -S` prints); beside each, `.moves` says
//! which of them mean something when they move, and what. All others mean nothing.

use std::collections::BTreeMap;
use std::fs;
use std::path::PathBuf;

use wirerate_engine::host::health::{
    Autonegotiation, Duplex, Finding, Interrupt, Limits, LinkState, Part, Pause, PcieLink, Rings, Severity,
    Snapshot, Temperature, compare, inspect, shares, worst,
};

const DRIVERS: [&str; 9] =
    ["ixgbe", "i40e", "ice", "igb", "mlx5_core", "bnxt_en", "ena", "virtio_net", "veth"];

/// The lines `name: value` of a file; names may have colons in them.
fn lines(file: &str) -> Vec<(String, String)> {
    let path = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("tests/data/ethtool").join(file);
    let text = fs::read_to_string(&path).unwrap_or_else(|e| panic!("{}: {e}", path.display()));
    let pairs = text.lines().filter_map(|line| line.trim().rsplit_once(": "));
    pairs.map(|(name, value)| (name.to_owned(), value.to_owned())).collect()
}

/// A healthy 10G card with the counters of this driver.
fn card(driver: &str) -> Snapshot {
    let mut taken = Snapshot {
        interface: "wr0".to_owned(),
        index: 7,
        driver: Some(driver.to_owned()),
        firmware: Some("1.2.3".to_owned()),
        mtu: 1500,
        link: LinkState {
            up: true,
            carrier: true,
            carrier_changes: Some(2),
            carrier_downs: Some(1),
            speed_bps: Some(10_000_000_000),
            duplex: Some(Duplex::Full),
            autonegotiation: Some(Autonegotiation::On),
        },
        rings: Some(Rings { rx: 512, tx: 512, max_rx: 4096, max_tx: 4096 }),
        rx_queues: 4,
        tx_queues: 4,
        pause: Some(Pause { autonegotiation: true, rx: false, tx: false }),
        ..Snapshot::default()
    };
    taken.counters.ethtool = lines(&format!("{driver}.txt"))
        .into_iter()
        .map(|(name, value)| (name, value.parse().unwrap()))
        .collect();
    taken.counters.rtnl = [("rx_packets", 1000), ("tx_packets", 1000), ("rx_dropped", 0), ("rx_errors", 0)]
        .map(|(name, value)| (name.to_owned(), value))
        .into();
    taken
}

fn moved(before: &Snapshot, names: &[(&str, u64)]) -> Snapshot {
    let mut after = before.clone();
    for (name, by) in names {
        *after.counters.ethtool.get_mut(*name).unwrap_or_else(|| panic!("{name} is in no fixture")) += by;
    }
    after
}

fn codes(found: &[Finding]) -> Vec<&str> {
    found.iter().map(|finding| finding.code.as_str()).collect()
}

#[test]
fn every_counter_of_every_driver() {
    let limits = Limits::default();
    for driver in DRIVERS {
        let before = card(driver);
        let means: BTreeMap<String, String> = lines(&format!("{driver}.moves")).into_iter().collect();
        assert!(means.keys().all(|name| before.counters.ethtool.contains_key(name)), "{driver}");
        assert_eq!(compare(&before, &before, &limits), [], "{driver}: nothing moved");
        for name in before.counters.ethtool.keys() {
            let found = compare(&before, &moved(&before, &[(name, 7)]), &limits);
            let wanted: Vec<&str> = means.get(name).map(String::as_str).into_iter().collect();
            assert_eq!(codes(&found), wanted, "{driver}: {name}");
            if let Some(finding) = found.first() {
                assert_eq!((finding.packets(), finding.counters.len()), (7, 1), "{driver}: {name}");
                assert_eq!(finding.counters[0].name, *name);
                assert!(finding.text.contains(name.as_str()) && finding.text.contains("wr0"), "{finding:?}");
                assert!(finding.suspects.is_sorted(), "cable, port, card, rings, CPU: {finding:?}");
                assert_eq!(finding.suspects.len(), finding.next.len());
                let harmless = ["no-handler", "xdp-dropped", "corrected"].contains(&finding.code.as_str());
                assert_eq!(finding.severity == Severity::Note, harmless, "{finding:?}");
                assert!(harmless || !finding.next.is_empty(), "says what to do: {finding:?}");
            }
        }
    }
}

#[test]
fn a_busy_day_without_a_fault() {
    for driver in DRIVERS {
        let before = card(driver);
        let means: BTreeMap<String, String> = lines(&format!("{driver}.moves")).into_iter().collect();
        let mut after = before.clone();
        for (name, value) in &mut after.counters.ethtool {
            *value += if means.contains_key(name) { 0 } else { 1_000_000 };
        }
        *after.counters.rtnl.get_mut("rx_packets").unwrap() += 1_000_000;
        assert_eq!(compare(&before, &after, &Limits::default()), [], "{driver}");
    }
}

#[test]
fn one_fault_is_one_finding_however_many_counters_tell_it() {
    let before = card("ixgbe");
    let mut after = moved(
        &before,
        &[("rx_missed_errors", 40), ("rx_no_dma_resources", 40), ("rx_errors", 3), ("rx_crc_errors", 3)],
    );
    *after.counters.rtnl.get_mut("rx_errors").unwrap() += 3;
    *after.counters.rtnl.get_mut("rx_dropped").unwrap() += 40;
    let found = compare(&before, &after, &Limits::default());
    assert_eq!(codes(&found), ["crc", "no-descriptor"], "{found:?}");
    assert_eq!((found[0].packets(), found[1].packets()), (3, 40));
    assert_eq!(found[0].suspects, [Part::Cable, Part::Port, Part::Card]);
    assert_eq!(found[1].suspects, [Part::Rings, Part::Cpu]);
    assert!(found[1].next[0].contains("ethtool -G wr0 rx 4096"), "{found:?}");
    assert_eq!(worst(&found), Some(Severity::Fail));
    // What the kinds do not explain is said too.
    let after = moved(&before, &[("rx_crc_errors", 3), ("rx_errors", 8)]);
    assert_eq!(codes(&compare(&before, &after, &Limits::default())), ["crc", "rx-error"]);
}

#[test]
fn limits_allow_and_change_what_it_means() {
    let before = card("ixgbe");
    let after = moved(&before, &[("rx_missed_errors", 5), ("tx_flow_control_xoff", 9)]);
    let limits = |text: &str| serde_json::from_str::<Limits>(text).unwrap();
    let judge = |text: &str| codes(&compare(&before, &after, &limits(text))).join(" ");
    assert_eq!(judge("{}"), "no-descriptor pause-sent");
    assert_eq!(judge(r#"{"allow":{"rx_missed_errors":5}}"#), "pause-sent");
    assert_eq!(judge(r#"{"allow":{"rx_missed_errors":4}}"#), "no-descriptor pause-sent");
    assert_eq!(judge(r#"{"allow":{"*":100}}"#), "");
    assert_eq!(
        judge(r#"{"severity":{"pause-sent":"fail","no-descriptor":"note"}}"#),
        "pause-sent no-descriptor"
    );
}

#[test]
fn links_and_settings() {
    let before = card("ice");
    type Change = fn(&mut Snapshot);
    let changes: [(&[&str], Change); 14] = [
        (&["link-flap"], |s| s.link.carrier_downs = Some(2)),
        (&["link-flap"], |s| {
            (s.link.carrier_downs, s.link.carrier_changes) = (Some(2), Some(4));
        }),
        (&["speed-changed"], |s| s.link.speed_bps = Some(1_000_000_000)),
        (&["duplex-changed", "half-duplex"], |s| s.link.duplex = Some(Duplex::Half)),
        (&["autonegotiation-changed"], |s| s.link.autonegotiation = Some(Autonegotiation::Off)),
        (&["speed-changed", "no-link"], |s| (s.link.carrier, s.link.speed_bps) = (false, None)),
        (&["down"], |s| s.link.up = false),
        (&["mtu-changed"], |s| s.mtu = 9000),
        (&["rings-changed"], |s| s.rings.as_mut().unwrap().rx = 64),
        (&["queues-changed"], |s| s.rx_queues = 1),
        (&["pause-changed"], |s| s.pause.as_mut().unwrap().rx = true),
        (&["replaced"], |s| s.index = 8),
        (&["replaced"], |s| *s.counters.rtnl.get_mut("rx_packets").unwrap() = 3),
        (&["hot"], |s| {
            s.temperatures.push(Temperature {
                name: "card".into(),
                celsius: 105.0,
                high_celsius: Some(105.0),
            });
        }),
    ];
    for (wanted, change) in changes {
        let mut after = before.clone();
        change(&mut after);
        let found = compare(&before, &after, &Limits::default());
        assert_eq!(codes(&found), wanted, "{found:?}");
    }
}

#[test]
fn what_a_profile_asks_for() {
    let taken = card("ice");
    let wanted = |text: &str| {
        let limits: Limits = serde_json::from_str(text).unwrap();
        codes(&inspect(&taken, &limits)).join(" ")
    };
    assert_eq!(wanted("{}"), "");
    assert_eq!(wanted(r#"{"speed":"10G","duplex":"full","autonegotiation":true,"min_rx_ring":512}"#), "");
    assert_eq!(wanted(r#"{"speed":"25G"}"#), "speed");
    assert_eq!(wanted(r#"{"duplex":"half"}"#), "duplex");
    assert_eq!(wanted(r#"{"autonegotiation":false}"#), "autonegotiation");
    assert_eq!(wanted(r#"{"min_rx_ring":513,"min_tx_ring":4096}"#), "ring ring");
    assert_eq!(wanted(r#"{"min_pcie_width":8}"#), "pcie");
    assert_eq!(wanted(r#"{"offloads":{"rx-gro":false}}"#), "offload");
}

#[test]
fn a_slot_that_is_too_small() {
    let mut taken = card("ice");
    let mut link = PcieLink {
        speed_gtps: 8.0,
        width: 8,
        max_speed_gtps: 8.0,
        max_width: 8,
        usable_bps: 50_000_000_000,
        needed_bps: Some(10_000_000_000),
    };
    let mut judged = |link: PcieLink, limits: &Limits| {
        taken.pcie = Some(link);
        codes(&inspect(&taken, limits)).join(" ")
    };
    let none = Limits::default();
    assert_eq!(judged(link, &none), "");
    link.max_width = 16;
    assert_eq!(judged(link, &none), "pcie-below-card");
    link.usable_bps = 6_000_000_000;
    assert_eq!(judged(link, &none), "pcie-too-small");
    let limits = Limits { min_pcie_width: Some(16), ..none };
    assert_eq!(judged(link, &limits), "pcie pcie-too-small");
    let before = taken.clone();
    taken.pcie.as_mut().unwrap().width = 4;
    assert_eq!(codes(&compare(&before, &taken, &Limits::default())), ["pcie-changed", "pcie-too-small"]);
}

#[test]
fn queues_by_their_own_counters() {
    for (driver, queue) in [
        ("ixgbe", "rx_queue_2_packets"),
        ("i40e", "rx-2.packets"),
        ("ice", "rx_queue_2_packets"),
        ("igb", "rx_queue_1_packets"),
        ("mlx5_core", "rx1_packets"),
        ("bnxt_en", "[1]: rx_ucast_packets"),
        ("ena", "queue_1_rx_cnt"),
        ("virtio_net", "rx1_packets"),
    ] {
        let before = card(driver);
        let after = moved(&before, &[(queue, 5000)]);
        let found = compare(&before, &after, &Limits::default());
        assert_eq!(codes(&found), ["queue-imbalance"], "{driver}");
        assert_eq!(found[0].severity, Severity::Note);
        let strict = Limits { max_queue_share: Some(0.8), ..Limits::default() };
        assert_eq!(compare(&before, &after, &strict)[0].severity, Severity::Fail, "{driver}");
        let share = &shares(&before, &after)[0];
        assert!(share.receive && share.total() == 5000 && share.packets.len() > 1, "{driver}: {share:?}");
    }
}

#[test]
fn interrupts_on_one_cpu() {
    let mut before = card("ice");
    before.interrupts = (0..4)
        .map(|queue| Interrupt {
            irq: 100 + queue,
            name: format!("ice-wr0-TxRx-{queue}"),
            queue: Some(queue),
            taken: BTreeMap::new(),
        })
        .collect();
    let mut after = before.clone();
    for interrupt in &mut after.interrupts {
        interrupt.taken.insert(3, 10_000);
    }
    let found = compare(&before, &after, &Limits::default());
    assert_eq!(codes(&found), ["interrupts-on-one-cpu"]);
    assert!(found[0].text.contains("CPU 3 took 40000 of the 40000"), "{found:?}");
    for (cpu, interrupt) in after.interrupts.iter_mut().enumerate() {
        interrupt.taken = BTreeMap::from([(cpu, 10_000)]);
    }
    assert_eq!(compare(&before, &after, &Limits::default()), []);
}

#[test]
fn findings_travel_as_data() {
    let before = card("bnxt_en");
    let found = compare(&before, &moved(&before, &[("rx_fcs_err_frames", 2)]), &Limits::default());
    let text = serde_json::to_string(&found).unwrap();
    assert!(!text.contains("null"), "{text}");
    assert_eq!(serde_json::from_str::<Vec<Finding>>(&text).unwrap(), found);
    let text = serde_json::to_string(&before).unwrap();
    assert_eq!(serde_json::from_str::<Snapshot>(&text).unwrap(), before);
}
