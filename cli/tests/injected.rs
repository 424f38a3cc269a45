//! What nftables drops and copies in the middle is what the receiver counts, to the packet, by each datapath and with and without segmentation offload.
//!
//! A rule hits what the kernel passes on as one, so super-packets are cut before the middle, where a NIC would cut them; a scene without that counts
//! bytes. Should the machine be too slow and lose packets at the ends, the receiver's ledger names them, and they are told apart.

use serde_json::Value;
use wirerate_engine::lab::{INTERFACE, Lab};
use wirerate_engine::packet::probe::MESSAGE_LEN;

mod common;

use common::Running;
use common::inject::{self, Injection, split_super_packets};

const IPV4: &str = "udp://10.77.0.11:5001";
const IPV6: &str = "udp://[fd77::b]:5001";

/// UDP payload of each packet, other than that of end-of-stream messages: those are to arrive.
const LENGTH: u64 = 60;

/// Data as nftables tells it: a payload of `LENGTH` with its header.
const DATA: &str = "udp dport 5001 udp length 68";

/// How a scene's packets go.
#[derive(Clone, Copy)]
struct Way {
    sender: &'static str,
    receiver: &'static str,
    segments: &'static str,
    rate: &'static str,
}

/// What a scene came to.
struct Scene {
    sent: u64,
    rx: Value,
    /// Packets that were lost in the middle, by the receiver's ledger.
    told: u64,
    /// Packets that the ends lost themselves, by the same.
    own: u64,
    mode: String,
}

impl Scene {
    #[track_caller]
    fn count(&self, name: &str) -> u64 {
        self.rx[name].as_u64().unwrap_or_else(|| panic!("{name}: {}", self.rx))
    }

    fn missing(&self) -> u64 {
        self.count("lost") + self.count("lost_tail")
    }

    /// The receiver misses what was dropped, and beside it only what the ends know that they lost.
    #[track_caller]
    fn misses(&self, dropped: u64) {
        assert!(dropped > 0, "nothing was injected");
        assert_eq!(self.told, dropped, "{}", self.rx);
        assert_eq!(self.missing(), dropped + self.own, "{}", self.rx);
        assert_eq!(self.count("unique") + self.missing(), self.sent, "{}", self.rx);
        assert_eq!(self.count("before_start"), 0);
        if self.own > 0 {
            eprintln!("{} packets of {} were lost by this machine itself", self.own, self.sent);
        }
    }
}

impl Way {
    /// Sends `packets` to `target`, and counts them there.
    fn run(&self, lab: &Lab, target: &str, packets: u64, more: &[&str]) -> Scene {
        let mut args =
            vec!["recv", target, "--iface", INTERFACE, "--backend", self.receiver, "--idle", "10s"];
        if matches!(self.receiver, "uring" | "mmsg") {
            args.extend(["--segments", self.segments]);
        }
        let receiver = Running::ready_on(&lab.receivers[0], &args);
        let (count, length) = (packets.to_string(), LENGTH.to_string());
        let mut args =
            vec!["send", target, "--iface", INTERFACE, "--backend", self.sender, "--rate", self.rate];
        args.extend(["--count", &count, "--length", &length]);
        if matches!(self.sender, "uring" | "mmsg") {
            args.extend(["--segments", self.segments]);
        }
        args.extend(more);
        let sent = common::report_on(&lab.sender, &args);
        let mut report = receiver.report();
        let (told, own) = inject::told(&report, &lab.middle);
        let tx = &sent["tx"];
        assert_eq!(tx["packets"].as_u64().unwrap() + tx["errors"].as_u64().unwrap(), packets);
        let mode = sent["backend"]["mode"].as_str().expect("a mode").to_owned();
        Scene { sent: packets, rx: report["rx"].take(), told, own, mode }
    }

    /// As often as it takes for the ends to lose nothing themselves: what is asked of the order of losses can then be answered.
    fn run_undisturbed(
        &self,
        lab: &Lab,
        packets: u64,
        rules: &[&str],
        more: &[&str],
        check: impl Fn(&Scene, (u64, u64)),
    ) {
        for _ in 0..5 {
            let injection = Injection::begin(&lab.middle, rules);
            let scene = self.run(lab, IPV4, packets, more);
            if scene.own == 0 {
                return check(&scene, injection.packets());
            }
            eprintln!("once more: {} packets were lost by this machine itself", scene.own);
        }
        panic!("this machine lost packets of its own five times");
    }

    /// The whole programme.
    fn all(&self) {
        common::require_root!();
        let lab = Lab::bridge(1).unwrap();
        if self.segments != "off" {
            split_super_packets(&lab.sender);
        }
        if self.sender == "xdp" {
            // Without, a veth takes no frames that a program redirects to it.
            let mut on = lab.middle.command("ethtool");
            assert!(on.args(["-K", "s0", "gro", "on"]).status().expect("ethtool is installed").success());
        }
        self.one_in_a_thousand(&lab);
        self.bursts(&lab);
        self.tail(&lab);
        self.one_stream(&lab);
        self.one_family(&lab);
        self.copies(&lab);
    }

    fn one_in_a_thousand(&self, lab: &Lab) {
        let injection = Injection::begin(&lab.middle, &[&format!("{DATA} numgen random mod 1000 0 LOSE")]);
        let scene = self.run(lab, IPV4, 600_000, &[]);
        scene.misses(injection.packets().0);
        if matches!(self.sender, "uring" | "mmsg") {
            let gso = if self.segments == "off" { "plain" } else { "gso" };
            assert_eq!(scene.mode, gso, "super-packets are sent, or are not, as was asked for");
        }
        assert_eq!((scene.count("duplicate"), scene.count("reordered"), scene.count("corrupt")), (0, 0, 0));
    }

    fn bursts(&self, lab: &Lab) {
        let rule = format!("{DATA} numgen inc mod 5000 < 50 LOSE");
        self.run_undisturbed(lab, 250_000, &[&rule], &[], |scene, (dropped, _)| {
            assert_eq!(dropped, 50 * 50);
            scene.misses(dropped);
            if self.receiver == "xdp" {
                assert!(scene.rx.get("loss_periods").is_none(), "the kernel's sink does not know");
                return;
            }
            let periods = &scene.rx["loss_periods"];
            let figures =
                |of: &str| ["count", "min", "mean", "max", "sum"].map(|name| periods[of][name].as_u64());
            assert_eq!(figures("length_packets"), [50, 50, 50, 50, 2500].map(Some), "{periods}");
            assert_eq!(figures("distance_packets"), [49, 4951, 4951, 4951, 49 * 4951].map(Some), "{periods}");
            // The first burst has no arrival before it.
            assert_eq!(periods["outage_ns"]["count"], 49, "{periods}");
            // iperf3 sees gaps as they are, if nothing is copied.
            assert_eq!(scene.rx["as_iperf3"]["lost"], 2500);
            assert_eq!(scene.rx["as_iperf3"]["packets"], 250_000);
        });
    }

    fn tail(&self, lab: &Lab) {
        // The low 32 bits of the sequence number.
        let rule = format!("{DATA} @th,136,32 >= 195000 LOSE");
        self.run_undisturbed(lab, 200_000, &[&rule], &[], |scene, (dropped, _)| {
            assert_eq!(dropped, 5000);
            assert_eq!((scene.count("lost"), scene.count("lost_tail")), (0, 5000));
            scene.misses(dropped);
            if self.receiver != "xdp" {
                assert_eq!(
                    (&scene.rx["as_iperf3"]["lost"], &scene.rx["as_iperf2"]["lost"]),
                    (&0.into(), &5000.into())
                );
                assert_eq!(scene.rx["loss_periods"]["length_packets"]["max"], 5000);
            }
        });
    }

    fn one_stream(&self, lab: &Lab) {
        // The stream number stands behind check, kind and run.
        let rule = format!("{DATA} @th,112,16 3 numgen inc mod 10 0 LOSE");
        self.run_undisturbed(lab, 200_000, &[&rule], &["--streams", "8"], |scene, (dropped, _)| {
            scene.misses(dropped);
            let streams = scene.rx["streams"].as_array().unwrap();
            assert_eq!(streams.len(), 8);
            for stream in streams {
                let missing = stream["lost"].as_u64().unwrap() + stream["lost_tail"].as_u64().unwrap();
                assert_eq!(missing, if stream["id"] == 3 { dropped } else { 0 }, "{stream}");
                assert_eq!(
                    stream.get("loss_periods").is_some(),
                    stream["id"] == 3 && self.receiver != "xdp",
                    "{stream}"
                );
            }
        });
    }

    fn one_family(&self, lab: &Lab) {
        let rule = format!("meta protocol ip6 {DATA} numgen inc mod 100 7 LOSE");
        let injection = Injection::begin(&lab.middle, &[&rule]);
        let scene = self.run(lab, IPV4, 50_000, &[]);
        assert_eq!((scene.missing(), injection.packets().0), (scene.own, 0));
        let scene = self.run(lab, IPV6, 100_000, &[]);
        assert_eq!(injection.packets().0, 1000);
        scene.misses(1000);
    }

    fn copies(&self, lab: &Lab) {
        let (lose, copy) =
            (format!("{DATA} numgen inc mod 1000 500 LOSE"), format!("{DATA} numgen inc mod 100 0 COPY"));
        self.run_undisturbed(lab, 200_000, &[&lose, &copy], &[], |scene, (dropped, copied)| {
            // What is lost is not copied: the rules hit one after the other.
            assert_eq!((dropped, copied), (200, 1998));
            scene.misses(dropped);
            assert_eq!((scene.count("duplicate"), scene.count("reordered")), (copied, 0));
            assert_eq!(scene.count("packets"), 200_000 - dropped + copied);
            if self.receiver != "xdp" {
                // Copies hide losses from both.
                assert!(scene.rx["as_iperf3"]["lost"].as_u64().unwrap() < dropped);
                assert_eq!(scene.rx["as_iperf2"]["lost"], 0);
                assert_eq!(scene.rx["as_iperf3"]["out_of_order"], copied);
            }
        });
    }
}

#[test]
fn uring_without_offload() {
    Way { sender: "uring", receiver: "uring", segments: "off", rate: "150kpps" }.all();
}

#[test]
fn uring_with_gso() {
    Way { sender: "uring", receiver: "uring", segments: "auto", rate: "200kpps" }.all();
}

#[test]
fn mmsg_without_offload() {
    Way { sender: "mmsg", receiver: "mmsg", segments: "off", rate: "150kpps" }.all();
}

#[test]
fn mmsg_with_gso() {
    Way { sender: "mmsg", receiver: "mmsg", segments: "auto", rate: "200kpps" }.all();
}

#[test]
fn afxdp() {
    Way { sender: "afxdp", receiver: "afxdp", segments: "off", rate: "150kpps" }.all();
}

#[test]
fn xdp_without_offload() {
    Way { sender: "mmsg", receiver: "xdp", segments: "off", rate: "150kpps" }.all();
}

#[test]
fn xdp_with_gso() {
    Way { sender: "mmsg", receiver: "xdp", segments: "auto", rate: "200kpps" }.all();
}

#[test]
fn xdp_at_both_ends() {
    Way { sender: "xdp", receiver: "xdp", segments: "off", rate: "100kpps" }.all();
}

/// Where nothing cuts it before the middle, a super-packet is dropped as one: all of its datagrams are missing, as many as its bytes hold.
#[test]
fn a_super_packet_is_lost_with_all_that_is_in_it() {
    common::require_root!();
    let lab = Lab::bridge(1).unwrap();
    for backend in ["uring", "mmsg"] {
        // Whatever is no message.
        let rule = format!("udp dport 5001 udp length != {} numgen inc mod 100 99 LOSE", MESSAGE_LEN + 8);
        let injection = Injection::begin(&lab.middle, &[&rule]);
        let way = Way { sender: backend, receiver: backend, segments: "auto", rate: "200kpps" };
        let scene = way.run(&lab, IPV4, 300_000, &[]);
        let (skbs, _) = injection.packets();
        // IP and UDP header stand once in each.
        let datagrams = (injection.lost_bytes() - skbs * 28) / LENGTH;
        assert!(datagrams > skbs, "{skbs} skbs with {datagrams} datagrams");
        scene.misses(datagrams);
    }
}
