//! The sink on an interface: real packets, and what is left of it afterwards.

use std::io::{BufRead, BufReader};
use std::net::{IpAddr, SocketAddr, UdpSocket};
use std::process::Stdio;
use std::thread;
use std::time::{Duration, Instant};

use aya::programs::SchedClassifier;
use aya::programs::tc::TcAttachType;
use nix::sys::socket::{setsockopt, sockopt};
use wirerate_engine::backend::Choice;
use wirerate_engine::control::{Event, Stop};
use wirerate_engine::generate::{self, SendConfig};
use wirerate_engine::lab::{INTERFACE, Lab, Netns};
use wirerate_engine::observe::sink::{Place, Program, SinkChoice};
use wirerate_engine::observe::{self, FormatChoice, RecvConfig};
use wirerate_engine::packet::probe::{End, Kind, MESSAGE_LEN, Message, Probe};
use wirerate_engine::profile::rate::Rate;
use wirerate_engine::profile::segments::Segments;
use wirerate_engine::queue::afxdp::steer::Rule;
use wirerate_engine::queue::spec::Interface;
use wirerate_engine::report::Report;
use wirerate_engine::target::Target;

mod common;

const PORT: u16 = 5001;

fn receiving(target: Target, sink: SinkChoice) -> RecvConfig {
    RecvConfig {
        interface: Some(INTERFACE.to_owned()),
        backend: Choice::Xdp,
        sink,
        duration: Some(Duration::from_secs(60)),
        ..RecvConfig::new(target)
    }
}

/// Receives as `config` says on the lab's first receiver, and has `send` run on the sender once it is ready.
fn receive(lab: &Lab, config: &RecvConfig, send: impl FnOnce() + Send) -> Report {
    let (ready, is_ready) = std::sync::mpsc::channel();
    thread::scope(|scope| {
        let receiver = scope.spawn(move || {
            lab.receivers[0].netns.run(move || {
                let outcome = observe::run(config, &Stop::default(), &mut |event| {
                    if matches!(event, Event::Ready) {
                        ready.send(()).unwrap();
                    }
                });
                let outcome = outcome.unwrap();
                assert!(outcome.failure.is_none(), "{:?}", outcome.failure);
                outcome.report
            })
        });
        is_ready.recv().expect("it became ready");
        if config.target.is_group() {
            lab.wait_for_members(config.target.destination.ip(), 1).unwrap();
        }
        lab.sender.netns.run(send);
        receiver.join().unwrap()
    })
}

fn interface(name: &str) -> Interface {
    let index = nix::net::if_::if_nametoindex(name).unwrap();
    Interface { name: name.to_owned(), index, mac: [0; 6], mtu: 1500 }
}

/// Whether a program is attached to [`INTERFACE`] there: at XDP, at tc ingress.
fn attached(netns: &Netns) -> (bool, bool) {
    let output = netns.command("ip").args(["-details", "link", "show", "dev", INTERFACE]).output().unwrap();
    let xdp = String::from_utf8(output.stdout).unwrap().contains("prog/xdp");
    let (_, tcx) = netns.run(|| SchedClassifier::query_tcx(INTERFACE, TcAttachType::Ingress)).unwrap();
    (xdp, !tcx.is_empty())
}

#[test]
fn counts_what_was_sent_and_lets_all_else_pass() {
    common::require_root!();
    let lab = Lab::bridge(1).unwrap();
    let host = &lab.receivers[0];
    for (sink, mode, xdp) in
        [(SinkChoice::Auto, "tc", "none"), (SinkChoice::Tc, "tc", "none"), (SinkChoice::Xdp, "xdp", "native")]
    {
        for target in ["udp://239.1.2.3:5001", "udp://[ff15::1:2:3]:5001", "udp://10.77.0.11:5001"] {
            let target: Target = target.parse().unwrap();
            let any: IpAddr =
                if target.is_ipv6() { "::".parse().unwrap() } else { "0.0.0.0".parse().unwrap() };
            let (same_port, other_port) =
                host.netns.run(|| (UdpSocket::bind((any, PORT)), UdpSocket::bind((any, PORT + 1))));
            let (same_port, other_port) = (same_port.unwrap(), other_port.unwrap());
            let report = receive(&lab, &receiving(target, sink), || {
                let mut config = SendConfig::new(target);
                config.interface = Some(INTERFACE.to_owned());
                config.backend = Choice::Mmsg;
                config.segments = Segments::Off;
                config.rate = Rate::Pps(20_000.0);
                config.count = Some(4000);
                config.streams = Some(3);
                let sent = generate::run(&config, &Stop::default(), &mut |_| {}).unwrap().report;
                assert_eq!(sent.tx.unwrap().packets, 4000);
                let stranger = UdpSocket::bind((any, 0)).unwrap();
                let to = SocketAddr::new(host.address(any), PORT + 1);
                stranger.send_to(b"passes", to).unwrap();
            });
            let what = format!("{sink:?} {target}");
            let rx = report.rx.unwrap();
            assert_eq!((rx.unique, rx.lost, rx.lost_tail, rx.duplicate), (4000, 0, 0, 0), "{what}");
            assert_eq!((rx.foreign, rx.corrupt, rx.late, rx.before_start), (0, 0, None, 0), "{what}");
            assert_eq!(rx.streams.len(), 3, "{what}");
            assert!(rx.messages >= 3 && rx.latency_ns.unwrap().count == 4000 && rx.jitter_ns.is_some());
            let backend = report.backend.unwrap();
            assert_eq!((backend.name, backend.mode, backend.xdp), ("xdp", mode, xdp), "{what}");
            assert_eq!((backend.payload_touched, backend.segments), (Some(false), Some(1)), "{what}");
            let path = &report.ledger.unwrap().paths[0];
            assert_eq!((path.sent, path.received, path.unaccounted), (4000, 4000, 0), "{what}: {path:?}");
            assert!(path.drops.is_empty(), "{what}: {path:?}");
            assert_eq!(report.workers.iter().map(|w| w.packets).sum::<u64>(), 4000);
            assert!(report.steer.iter().any(|s| s.verdict == "passed"), "{what}");
            for socket in [&same_port, &other_port] {
                socket.set_read_timeout(Some(Duration::from_millis(200))).unwrap();
            }
            assert!(same_port.recv(&mut [0; 2000]).is_err(), "{what}: nothing reaches a socket");
            assert_eq!(other_port.recv(&mut [0; 2000]).unwrap(), 6, "{what}: another port");
            assert_eq!(attached(&host.netns), (false, false), "{what}");
        }
    }
}

/// Sends `buffers` super-packets of `segments` datagrams of 64 bytes, and the end.
fn send_super_packets(to: SocketAddr, buffers: u64, segments: u64) {
    let socket = UdpSocket::bind("0.0.0.0:0").unwrap();
    let tai = wirerate_engine::clock::tai_ns;
    let first_ns = tai();
    setsockopt(&socket, sockopt::UdpGsoSegment, &64).unwrap();
    for buffer in 0..buffers {
        let mut payload = vec![0; 64 * segments as usize];
        for (n, datagram) in payload.chunks_exact_mut(64).enumerate() {
            let sequence = buffer * segments + n as u64;
            Probe { kind: Kind::Data, run: 9, stream: 4, sequence, time: tai() }.emit(datagram);
        }
        assert_eq!(socket.send_to(&payload, to).unwrap(), payload.len());
    }
    let issued = buffers * segments;
    let mut payload = vec![0; MESSAGE_LEN];
    Probe { kind: Kind::End, run: 9, stream: 4, sequence: issued, time: tai() }.emit(&mut payload);
    let end = End { issued, failed: 0, first_ns, last_ns: tai() };
    Message { end, ..Message::default() }.emit(&mut payload);
    socket.send_to(&payload, to).unwrap();
}

#[test]
fn super_packets_arrive_whole_and_are_counted_one_by_one() {
    common::require_root!();
    let lab = Lab::bridge(1).unwrap();
    let target: Target = "udp://10.77.0.11:5001".parse().unwrap();
    // A native XDP program makes the kernel split them before.
    for (sink, at_once) in [(SinkChoice::Tc, 100), (SinkChoice::Xdp, 1)] {
        let config = RecvConfig { count: None, ..receiving(target, sink) };
        let report = receive(&lab, &config, || send_super_packets(target.destination, 20, 100));
        let rx = report.rx.unwrap();
        assert_eq!((rx.unique, rx.lost, rx.lost_tail, rx.reordered), (2000, 0, 0, 0), "{sink:?}");
        assert_eq!((rx.payload_bytes, rx.frame_bytes), (2000 * 64, 2000 * (64 + 46)), "{sink:?}");
        assert_eq!(report.backend.unwrap().segments, Some(at_once), "{sink:?}");
        let path = &report.ledger.unwrap().paths[0];
        assert_eq!((path.sent, path.received, path.unaccounted), (2000, 2000, 0), "{sink:?}: {path:?}");
        assert!(path.drops.is_empty(), "{sink:?}: {path:?}");
    }
}

#[test]
fn what_was_lost_on_the_way_is_missing() {
    common::require_root!();
    let lab = Lab::bridge(1).unwrap();
    let target: Target = "udp://10.77.0.11:5001".parse().unwrap();
    let rules = "add table bridge t; add chain bridge t f { type filter hook forward priority 0; }; \
                 add rule bridge t f udp dport 5001 udp length > 100 numgen inc mod 5 == 0 drop";
    assert!(lab.middle.command("nft").arg(rules).status().unwrap().success());
    for sink in [SinkChoice::Tc, SinkChoice::Xdp] {
        let report = receive(&lab, &receiving(target, sink), || {
            let mut config = SendConfig::new(target);
            config.interface = Some(INTERFACE.to_owned());
            config.backend = Choice::Mmsg;
            config.rate = Rate::Pps(20_000.0);
            config.count = Some(1000);
            generate::run(&config, &Stop::default(), &mut |_| {}).unwrap();
        });
        let rx = report.rx.unwrap();
        assert_eq!((rx.unique, rx.lost + rx.lost_tail), (800, 200), "{sink:?}");
        // What the sink itself dropped hides nothing and adds nothing.
        let path = &report.ledger.unwrap().paths[0];
        assert_eq!((path.sent, path.received, path.unaccounted), (1000, 800, 0), "{sink:?}: {path:?}");
        assert_eq!((path.drops.len(), &*path.drops[0].place), (1, "netfilter"), "{sink:?}: {path:?}");
    }
}

#[test]
fn gone_when_its_owner_is_killed() {
    common::require_root!();
    for (sink, wanted) in [("xdp", (true, false)), ("tc", (false, true))] {
        let lab = Lab::bridge(1).unwrap();
        let netns = &lab.receivers[0].netns;
        let mut child = netns
            .command("/proc/self/exe")
            .args(["--exact", "hold_until_killed", "--ignored", "--nocapture"])
            .env("SINK", sink)
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        let output = BufReader::new(child.stdout.take().unwrap());
        assert!(output.lines().any(|line| line.unwrap().contains("attached")));
        assert_eq!(attached(netns), wanted, "{sink}");
        child.kill().unwrap();
        child.wait().unwrap();
        let deadline = Instant::now() + Duration::from_secs(5);
        while attached(netns) != (false, false) {
            assert!(Instant::now() < deadline, "{sink}: the program outlives its owner");
        }
    }
}

#[test]
#[ignore = "run by gone_when_its_owner_is_killed"]
fn hold_until_killed() {
    let sink = std::env::var("SINK").unwrap().parse().unwrap();
    let rule = Rule { destination: ([239, 1, 2, 3], PORT).into(), source: None };
    let _program = Program::attach(&interface(INTERFACE), &[rule], sink).unwrap();
    println!("attached");
    loop {
        thread::park();
    }
}

#[test]
fn where_it_runs_and_why() {
    common::require_root!();
    let lab = Lab::bridge(1).unwrap();
    let rule = [Rule { destination: ([239, 1, 2, 3], PORT).into(), source: None }];
    lab.receivers[0].netns.run(|| {
        for (name, choice, place, why) in [
            (INTERFACE, SinkChoice::Auto, Place::Tc, "wr0 is a veth"),
            (INTERFACE, SinkChoice::Xdp, Place::XdpNative, "asked for"),
            ("lo", SinkChoice::Auto, Place::Tc, "lo"),
            ("lo", SinkChoice::Xdp, Place::XdpGeneric, "the driver refuses native XDP"),
        ] {
            let program = Program::attach(&interface(name), &rule, choice).unwrap();
            assert_eq!(program.place(), place, "{name} {choice:?}");
            assert!(program.why().contains(why), "{name} {choice:?}: {}", program.why());
        }
        // Beside another XDP program it does not go; beside another at tc it does.
        let _first = Program::attach(&interface(INTERFACE), &rule, SinkChoice::Xdp).unwrap();
        let error = Program::attach(&interface(INTERFACE), &rule, SinkChoice::Xdp).unwrap_err();
        assert!(error.what.starts_with("wr0: another XDP program is attached"), "{error}");
        let _second = Program::attach(&interface(INTERFACE), &rule, SinkChoice::Tc).unwrap();
        Program::attach(&interface(INTERFACE), &rule, SinkChoice::Tc).unwrap();
    });
}

#[test]
fn what_it_cannot_do_is_refused() {
    common::require_root!();
    let lab = Lab::bridge(1).unwrap();
    let config = receiving("udp://239.1.2.3:5001".parse().unwrap(), SinkChoice::Auto);
    let iperf2 = RecvConfig { format: FormatChoice::Iperf2, ..config.clone() };
    let raw = RecvConfig { format: FormatChoice::Raw, ..config.clone() };
    let queues = RecvConfig { queues: vec![0], ..config.clone() };
    let cpus = RecvConfig { cpus: vec![0], ..config.clone() };
    let inspect = RecvConfig { inspect: Some(|_, _| {}), ..config };
    for (config, option) in [
        (iperf2, "--format iperf2"),
        (raw, "--format raw"),
        (queues, "--queues"),
        (cpus, "--cpus"),
        (inspect, "--hexdump"),
    ] {
        let error =
            lab.receivers[0].netns.run(|| observe::run(&config, &Stop::default(), &mut |_| {}).unwrap_err());
        assert_eq!(error.kind, wirerate_engine::Kind::Usage);
        assert!(error.what.contains(option), "{error}");
    }
}
