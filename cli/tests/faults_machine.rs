//! A machine or a user that cannot do what is asked: exit 4, with what mends it.

mod common;

use std::process::Command;

use common::{Nobody, Running, ip, run, wirerate_on};
use wirerate_engine::lab::{Host, INTERFACE, Lab};

const GROUP: &str = "239.1.2.3:5001";
const BACKENDS: [&str; 3] = ["uring", "mmsg", "afxdp"];

fn words(line: &str) -> Vec<&str> {
    line.split_whitespace().collect()
}

/// `send` and `recv` on the lab's interface, for a moment.
fn brief(command: &str, target: &str, options: &str) -> String {
    format!("{command} {target} --iface {INTERFACE} --duration 100ms --quiet {options}")
}

fn as_nobody(nobody: &Nobody, host: &Host, line: &str) -> Command {
    let mut command = nobody.become_by(host.command("setpriv"));
    command.args(words(line));
    command
}

#[test]
fn an_interface_that_is_down() {
    common::require_root!();
    let lab = Lab::bridge(1).unwrap();
    ip(&lab.sender.netns, "link set wr0 down");
    for backend in ["auto", "uring", "mmsg", "afxdp"] {
        for command in ["send", "recv"] {
            let line = brief(command, GROUP, &format!("--backend {backend}"));
            let ended = run(wirerate_on(&lab.sender, &words(&line)));
            ended.expect(4, &["wr0: the interface is down", "fix: ip link set dev wr0 up"]);
        }
    }
}

#[test]
fn no_privileges_and_the_fix_that_works() {
    common::require_root!();
    let lab = Lab::bridge(1).unwrap();
    let nobody = Nobody::new();
    let mends = ["sudo setcap cap_net_raw,cap_net_admin,cap_bpf,cap_perfmon,cap_ipc_lock+ep"];
    for command in ["send", "recv"] {
        let ended = run(as_nobody(&nobody, &lab.sender, &brief(command, GROUP, "--backend afxdp")));
        ended.expect(4, &["--backend afxdp needs cap_net_raw", "cap_perfmon", mends[0]]);
        // What needs none works.
        for backend in ["auto", "uring", "mmsg"] {
            run(as_nobody(&nobody, &lab.sender, &brief(command, GROUP, &format!("--backend {backend}"))))
                .expect(0, &[]);
        }
    }
    run(as_nobody(&nobody, &lab.sender, "drops --duration 100ms")).expect(4, &mends);
    run(as_nobody(&nobody, &lab.sender, &brief("recv", "239.1.2.3:80", "--backend mmsg")))
        .expect(4, &["port 80 is reserved", "1024", "CAP_NET_BIND_SERVICE"]);

    // The command that the message names, to the letter but for the program's place.
    let setcap = mends[0].trim_start_matches("sudo setcap ");
    let mut command = Command::new("setcap");
    command.arg(setcap).arg(nobody.program());
    let ended = run(command);
    if ended.code != 0 {
        return common::skipped("setcap(8), and a file system for it");
    }
    for command in ["send", "recv"] {
        run(as_nobody(&nobody, &lab.sender, &brief(command, GROUP, "--backend afxdp"))).expect(0, &[]);
    }
    run(as_nobody(&nobody, &lab.sender, "drops --duration 100ms")).expect(0, &[]);
}

#[test]
fn a_queue_that_another_program_has() {
    common::require_root!();
    let lab = Lab::bridge(1).unwrap();
    let busy = ["wr0 queue 0", "another AF_XDP socket has it", "--queues"];
    let line = format!("recv {GROUP} --iface {INTERFACE} --backend afxdp --keep");
    let holder = Running::ready_on(&lab.sender, &words(&line));
    let again = brief("recv", GROUP, "--backend afxdp");
    run(wirerate_on(&lab.sender, &words(&again)))
        .expect(4, &["wr0", "another XDP program is attached", "ip link show dev wr0"]);
    let sender = brief("send", GROUP, "--backend afxdp");
    run(wirerate_on(&lab.sender, &words(&sender))).expect(4, &busy);
    holder.signal("INT");
    assert_eq!(holder.finish().1, 0);

    let line = format!("send {GROUP} --iface {INTERFACE} --backend afxdp --duration 1h");
    let holder = Running::ready_on(&lab.sender, &words(&line));
    run(wirerate_on(&lab.sender, &words(&again))).expect(4, &busy);
    run(wirerate_on(&lab.sender, &words(&sender))).expect(4, &busy);
    // Who was refused has left no program behind, and the holder goes on.
    assert!(!ip(&lab.sender.netns, "link show dev wr0").contains("xdp"));
    holder.signal("INT");
    assert!(holder.report()["tx"]["packets"].as_u64() > Some(0));
}

#[test]
fn a_queue_that_was_ours_a_moment_ago() {
    common::require_root!();
    let lab = Lab::bridge(1).unwrap();
    for _ in 0..5 {
        for command in ["recv", "send"] {
            run(wirerate_on(&lab.sender, &words(&brief(command, GROUP, "--backend afxdp")))).expect(0, &[]);
        }
    }
}

#[test]
fn queues_that_are_not_there_are_told_with_those_that_are() {
    common::require_root!();
    let lab = Lab::bridge(1).unwrap();
    for command in ["send", "recv"] {
        let line = brief(command, GROUP, "--backend afxdp --queues 0,200");
        let said = ["wr0 has no queue 200", "the queues 0 to", "ethtool -l wr0"];
        run(wirerate_on(&lab.sender, &words(&line))).expect(2, &said);
    }
}

#[test]
fn a_foreign_xdp_program() {
    common::require_root!();
    let lab = Lab::bridge(1).unwrap();
    let directory = tempfile::tempdir().unwrap();
    let path = |name: &str| directory.path().join(name).display().to_string();
    let program = "__attribute__((section(\"xdp\"), used)) int pass(void *c) { return 2; }\n\
                   __attribute__((section(\"license\"), used)) char terms[] = \"GPL\";\n";
    std::fs::write(path("pass.c"), program).unwrap();
    let mut clang = Command::new("clang");
    clang.args(["-O2", "-target", "bpf", "-c", &path("pass.c"), "-o", &path("pass.o")]);
    if !clang.status().is_ok_and(|status| status.success()) {
        return common::skipped("clang");
    }
    // The namespace's own /sys has no bpf file system, which ip wants.
    let attach =
        format!("mount -t bpf bpf /sys/fs/bpf && ip link set dev wr0 xdp obj {} sec xdp", path("pass.o"));
    let mut shell = lab.sender.command("sh");
    shell.args(["-c", &attach]);
    run(shell).expect(0, &[]);
    let line = brief("recv", GROUP, "--backend afxdp");
    let said = ["wr0: another XDP program is attached", "ip link set dev wr0 xdp off"];
    run(wirerate_on(&lab.sender, &words(&line))).expect(4, &said);
    // It is still there, and does not stand in the way of who needs none.
    assert!(ip(&lab.sender.netns, "link show dev wr0").contains("prog/xdp"));
    for backend in ["uring", "mmsg"] {
        let line = brief("recv", GROUP, &format!("--backend {backend}"));
        run(wirerate_on(&lab.sender, &words(&line))).expect(0, &[]);
    }
    // The fix that was named.
    ip(&lab.sender.netns, "link set dev wr0 xdp off");
    run(wirerate_on(&lab.sender, &words(&line))).expect(0, &[]);
}

#[test]
fn an_mtu_that_is_too_small() {
    common::require_root!();
    let lab = Lab::bridge(1).unwrap();
    ip(&lab.sender.netns, "link set wr0 mtu 1280");
    for backend in BACKENDS {
        for (target, options, says, most) in [
            (GROUP, "--length 1253", "1281", 1252),
            (GROUP, "--frame-size 64,1299", "1281", 1252),
            ("[ff15::1]:5001", "--length 1233", "1281", 1232),
            ("10.77.0.11:5001", "--length 1253", "1281", 1252),
        ] {
            let line = brief("send", target, &format!("--backend {backend} {options} --dont-fragment"));
            let mends = format!("--length {most}");
            let ended = run(wirerate_on(&lab.sender, &words(&line)));
            ended.expect(2, &["wr0", "MTU of 1280", says, &mends, "ip link set dev wr0 mtu 1281"]);
        }
        // What it says fits.
        let line = brief("send", GROUP, &format!("--backend {backend} --length 1252"));
        run(wirerate_on(&lab.sender, &words(&line))).expect(0, &[]);
    }
}

#[test]
fn a_target_without_a_route() {
    common::require_root!();
    let lab = Lab::bridge(1).unwrap();
    let send = |options: &str| {
        let line = format!("send 203.0.113.1:9 --count 10 --quiet {options}");
        run(wirerate_on(&lab.sender, &words(&line)))
    };
    for backend in ["auto", "uring", "mmsg"] {
        send(&format!("--backend {backend}"))
            .expect(4, &["203.0.113.1", "no route leads to 203.0.113.1", "--iface"]);
    }
    send("--backend afxdp").expect(2, &["afxdp needs an interface", "no route", "--iface"]);
    let v6 = "send [2001:db8::1]:9 --count 10 --quiet --backend mmsg --iface wr0";
    run(wirerate_on(&lab.sender, &words(v6))).expect(4, &["2001:db8::1", "no route", "wr0"]);
    // With an interface the kernel takes the target for a neighbour, who does not answer.
    send("--iface wr0 --backend afxdp")
        .expect(4, &["no neighbour answers for 203.0.113.1 on wr0", "gateway"]);
    send("--iface wr0 --backend uring")
        .expect(0, &["no neighbour answers for 203.0.113.1 on wr0", "gateway"]);
}

#[test]
fn a_target_that_is_no_neighbour() {
    common::require_root!();
    let lab = Lab::bridge(1).unwrap();
    for target in ["10.77.0.99:9", "[fd77::99]:9"] {
        let address = target.trim_end_matches(":9").trim_matches(['[', ']']);
        let said = format!("no neighbour answers for {address} on wr0");
        let line = format!("send {target} --iface wr0 --count 10 --quiet --backend");
        let on = |backend| run(wirerate_on(&lab.sender, &words(&format!("{line} {backend}"))));
        on("afxdp").expect(4, &[&said, "ip neigh show dev wr0"]);
        for backend in ["uring", "mmsg"] {
            // A socket is told nothing: a warning, also in the report.
            on(backend).expect(0, &["warning", &said]);
        }
        let ended = on("mmsg --json");
        assert_eq!(ended.json()["warnings"][0]["code"], "no-neighbour", "{}", ended.stdout);
    }
    // And none where somebody does.
    let ended = run(wirerate_on(&lab.sender, &words("send 10.77.0.11:9 --iface wr0 --count 10 --quiet")));
    ended.expect(0, &[]);
    assert!(!ended.stderr.contains("neighbour"), "{}", ended.stderr);
}

#[test]
fn an_address_that_is_not_ours() {
    common::require_root!();
    let lab = Lab::bridge(1).unwrap();
    for backend in ["uring", "mmsg"] {
        let line = brief("recv", "10.77.0.200:5001", &format!("--backend {backend}"));
        run(wirerate_on(&lab.sender, &words(&line)))
            .expect(4, &["10.77.0.200 is not", "ip address add 10.77.0.200/LENGTH dev wr0"]);
    }
    // A source of ours that is none, for a group.
    for backend in BACKENDS {
        let line = brief("send", "udp://10.77.0.200@232.1.2.3:5001", &format!("--backend {backend}"));
        let ended = run(wirerate_on(&lab.sender, &words(&line)));
        assert!(matches!(ended.code, 2 | 4), "{}: {}", ended.code, ended.stderr);
        assert!(ended.stderr.contains("10.77.0.200") && ended.stderr.contains("fix:"), "{}", ended.stderr);
    }
}
