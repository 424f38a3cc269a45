//! Each rule on a machine made for it.

use super::super::findings::tests::{codes, interface, machine};
use super::*;
use crate::host::nic::{Interrupt, Napi, Pause, Queues, Rings};
use crate::host::pcie::Pcie;
use crate::host::tuning::{HugePages, Tuning};

/// A machine tuned for line rate.
fn tuned() -> Machine {
    Machine {
        tuning: Tuning {
            governors: [("performance".to_owned(), "0-7".to_owned())].into(),
            deepest_idle_us: Some(2),
            sibling_cpus: String::new(),
            nohz_full_cpus: "6-7".into(),
            huge_pages: Some(HugePages { total: 64, free: 64, size_bytes: 2 << 20 }),
            iommu_translates: Some(false),
        },
        ..machine()
    }
}

/// A 25G port in a slot that suits it.
fn port() -> InterfaceFacts {
    let mut facts = interface();
    facts.nic.speed_bps = Some(25_000_000_000);
    facts.nic.pcie = Some(Pcie { speed_gtps: 8.0, width: 8, max_speed_gtps: 8.0, max_width: 8 });
    facts.nic.rings = Some(Rings { rx: 4096, tx: 4096, max_rx: 4096, max_tx: 4096 });
    facts.nic.queues = Queues { rx: 4, tx: 4, max_rx: 8, max_tx: 8 };
    facts.nic.pause = Some(Pause { rx: false, tx: false });
    facts.nic.napi = Some(Napi { defer_hard_irqs: 2, gro_flush_timeout_ns: 200_000 });
    facts
}

#[test]
fn nothing_to_complain_about() {
    assert_eq!(codes(&of(&tuned(), &[port()])), Vec::<&str>::new());
}

#[test]
fn virtual_and_slow_interfaces_need_no_tuning() {
    let mut neglected = tuned();
    neglected.tuning.governors = [("powersave".to_owned(), "0-7".to_owned())].into();
    assert_eq!(codes(&of(&neglected, &[interface()])), Vec::<&str>::new());
    let mut gigabit = port();
    gigabit.nic.speed_bps = Some(1_000_000_000);
    assert_eq!(codes(&of(&neglected, &[gigabit])), Vec::<&str>::new());
    let mut down = port();
    down.nic.speed_bps = None;
    assert_eq!(codes(&of(&neglected, &[down])), ["governor"]);
}

#[test]
fn machine_rules() {
    type Change = fn(&mut Machine);
    let rules: [(&str, Change); 6] = [
        ("governor", |m| m.tuning.governors = [("schedutil".to_owned(), "0-7".to_owned())].into()),
        ("deep-idle", |m| m.tuning.deepest_idle_us = Some(133)),
        ("timer-tick", |m| m.tuning.nohz_full_cpus = "6".into()),
        ("isolated-siblings", |m| m.tuning.sibling_cpus = "4-7".into()),
        ("no-huge-pages", |m| m.tuning.huge_pages.as_mut().unwrap().free = 3),
        ("iommu", |m| m.tuning.iommu_translates = Some(true)),
    ];
    for (code, change) in rules {
        let mut machine = tuned();
        change(&mut machine);
        assert_eq!(codes(&of(&machine, &[port()])), [code]);
    }
}

#[test]
fn interface_rules() {
    type Change = fn(&mut InterfaceFacts);
    let rules: [(&str, Change); 7] = [
        ("pcie-too-small", |i| i.nic.pcie.as_mut().unwrap().width = 2),
        ("pcie-below-card", |i| i.nic.pcie.as_mut().unwrap().max_width = 16),
        ("small-rings", |i| i.nic.rings.as_mut().unwrap().rx = 512),
        ("more-queues-than-cpus", |i| i.nic.queues.rx = 8),
        ("interrupts-on-isolated", |i| i.nic.interrupts = vec![Interrupt { irq: 40, cpus: "6".into() }]),
        ("busy-poll-off", |i| i.nic.napi.as_mut().unwrap().gro_flush_timeout_ns = 0),
        ("pause-frames", |i| i.nic.pause.as_mut().unwrap().rx = true),
    ];
    for (code, change) in rules {
        let mut facts = port();
        change(&mut facts);
        let found = of(&tuned(), &[facts]);
        assert_eq!(codes(&found), [code]);
        assert_eq!(found[0].interface.as_deref(), Some("ens1"));
    }
}
