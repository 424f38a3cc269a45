//! Wrong arguments: exit 2 before anything is opened, with a message that names what is wrong and the limit.

mod common;

use common::{run, wirerate};

const GROUP: &str = "239.1.2.3:5001";

/// Ends a command that is, against expectation, accepted, and keeps its packets at home.
const SHORT: [&str; 5] = ["--quiet", "--iface", "lo", "--duration", "100ms"];

#[track_caller]
fn refused(args: &[&str], words: &[&str]) {
    let ended = run(wirerate(args));
    assert_eq!(ended.code, 2, "{args:?}: {}", ended.stderr);
    assert_eq!(ended.stdout, "", "{args:?}: nothing is a result");
    for word in words {
        assert!(ended.stderr.contains(word), "{args:?}: {word:?} is missing in: {}", ended.stderr);
    }
}

#[track_caller]
fn refused_by(command: &str, target: &str, options: &str, words: &[&str]) {
    let mut args = vec![command, target];
    args.extend(options.split_whitespace());
    let given = |option: &&str| !options.contains(option);
    args.extend(SHORT[1..].chunks(2).filter(|pair| given(&pair[0])).flatten());
    refused(&args, words);
}

#[test]
fn numbers_out_of_range_name_the_limits() {
    for (options, words) in [
        ("--rate 0", ["1 bit/s", "100T"].as_slice()),
        ("--rate 200T", &["100T"]),
        ("--rate 0pps", &["0.001pps", "1000Mpps"]),
        ("--rate 2000Mpps", &["1000Mpps"]),
        ("--rate 101%", &["100%"]),
        ("--rate 0%", &["0%", "100%"]),
        ("--rate nanpps", &["nanpps", "Mpps"]),
        ("--rate fast", &["fast", "not a rate"]),
        ("--rate 1e999", &["1e999"]),
        ("--length 17", &["17", "minimum", "18 bytes"]),
        ("--length 0", &["64", "18"]),
        ("--length 65508", &["maximum", "65507"]),
        ("--length 100001", &["100000"]),
        ("--length 18-17", &["backwards"]),
        ("--length 18,x", &["x"]),
        ("--frame-size 63", &["minimum", "64 bytes"]),
        ("--frame-size 65554", &["maximum", "65553"]),
        ("--frame-size 99999999999", &["100000"]),
        ("--ttl 0", &["1..=255"]),
        ("--ttl 256", &["1..=255"]),
        ("--dscp 64", &["0 to 63"]),
        ("--dscp AF51", &["AF11 to AF43"]),
        ("--vlan 0", &["1..=4094"]),
        ("--vlan 4095", &["1..=4094"]),
        ("--src-port 0", &["1 to 65535"]),
        ("--src-port 65536", &["1 to 65535"]),
        ("--src-port 9-8", &["first port is above the last"]),
        ("--dst-port 0-5", &["1 to 65535"]),
        ("--dst-port 1-70000", &["1 to 65535"]),
        ("--streams 0", &["1..=4096"]),
        ("--streams 4097", &["1..=4096"]),
        ("--groups 0", &["1..=16384"]),
        ("--groups 16385", &["1..=16384"]),
        ("--groups 4097", &["4096 groups at most"]),
        ("--workers 0", &["1..=256"]),
        ("--workers 257", &["1..=256"]),
        ("--workers 3 --streams 2", &["3 workers", "--streams 3"]),
        ("--count 0", &["1.."]),
        ("--bytes 0", &["1.."]),
        ("--duration 0", &["above 0", "a year"]),
        ("--duration 400d", &["a year"]),
        ("--duration soon", &["--duration"]),
        ("--interval 99ms", &["at least 100ms"]),
        ("--queues 256 --backend afxdp", &["queue", "255"]),
        ("--queues 3-1 --backend afxdp", &["queue list", "backwards"]),
        ("--queues x --backend afxdp", &["is no queue number"]),
        ("--queues 0", &["only afxdp"]),
        ("--cpus 99999", &["CPU", "1023"]),
        ("--cpus x", &["is no CPU number"]),
        ("--cpus 5-", &["is no CPU number"]),
        ("--cpus 1023", &["CPU 1023 does not exist", "this machine has"]),
        ("--cpus 0 --on-irq-cpu", &["cannot be used with"]),
        ("--burst 0", &["1 to 16384"]),
        ("--burst 16385", &["1 to 16384"]),
        ("--burst often", &["auto"]),
        ("--burst 8 --rate max", &["--burst 8", "--rate"]),
        ("--busy-poll --backend uring", &["--busy-poll", "no driver"]),
        ("--sched rr", &["fifo:PRIORITY", "1 to 99"]),
        ("--sched fifo:0", &["1 to 99"]),
        ("--sched fifo:100", &["1 to 99"]),
        ("--expect-loss-below 101%", &["0 to 100"]),
        ("--expect-loss-below nan", &["0 to 100"]),
        ("--expect-rate-above much", &["not a rate"]),
    ] {
        refused_by("send", GROUP, options, words);
    }
}

#[test]
fn what_the_kernels_sink_cannot_do_says_why() {
    for (options, words) in [
        ("--sink tc", ["--sink", "--backend xdp"].as_slice()),
        ("--sink afxdp --backend xdp", &["auto, xdp, tc"]),
        ("--backend xdp --format iperf2", &["--format iperf2", "no header but wirerate's own"]),
        ("--backend xdp --format raw", &["--format raw"]),
        ("--backend xdp --verify-payload", &["--verify-payload", "untouched"]),
        ("--backend xdp --hexdump", &["--hexdump", "headers only"]),
        ("--backend xdp --queues 0", &["--queues", "any queue"]),
        ("--backend xdp --cpus 0", &["--cpus", "no workers"]),
        ("--backend xdp --on-irq-cpu", &["--on-irq-cpu", "no workers"]),
        ("--backend xdp --busy-poll", &["--busy-poll", "no socket"]),
    ] {
        let mut args = vec!["recv", GROUP];
        args.extend(options.split_whitespace());
        refused(&args, words);
    }
}

#[test]
fn empty_lists_are_not_defaults() {
    for option in ["--queues", "--cpus"] {
        refused(&["send", GROUP, option, "", "--count", "1"], &[option, "at least one"]);
        refused(&["recv", GROUP, option, " ", "--duration", "100ms"], &[option, "at least one"]);
    }
}

#[test]
fn options_that_exclude_each_other() {
    for (command, options) in [
        ("send", "--json --json-lines"),
        ("send", "--length 100 --frame-size 100"),
        ("send", "--payload zero --payload-file /etc/hostname"),
        ("recv", "--hexdump --json"),
        ("recv", "--json --json-lines"),
    ] {
        refused_by(command, GROUP, options, &["cannot be used with"]);
    }
    refused_by("send", GROUP, "--vlan 5 --backend uring", &["--vlan", "--backend afxdp"]);
}

#[test]
fn targets() {
    for (target, words) in [
        ("239.1.2.3", ["port", "239.1.2.3:5001"].as_slice()),
        ("239.1.2.3:0", &["port 0", "1 to 65535"]),
        ("239.1.2.3:65536", &["1 to 65535"]),
        ("[ff15::1:5001", &["[ff15::1]:5001"]),
        ("http://239.1.2.3:80", &["unknown scheme", "udp://"]),
        ("example.org:5001", &["an address"]),
        ("192.0.2.1@192.0.2.2:5001", &["192.0.2.2 is none", "232.1.1.1"]),
        ("[2001:db8::1]@[2001:db8::2]:5001", &["2001:db8::2 is none"]),
        ("239.9.9.9@239.1.2.3:5001", &["239.9.9.9 is a multicast group", "unicast"]),
        ("[ff15::9]@[ff3e::8000:1]:5001", &["ff15::9 is a multicast group"]),
        ("0.0.0.0@232.1.2.3:5001", &["0.0.0.0 is no host's address"]),
        ("192.0.2.1@[ff3e::8000:1]:5001", &["different IP versions"]),
        ("me@232.1.2.3:5001", &["me is not an IP address"]),
        ("", &["port"]),
    ] {
        for command in ["send", "recv"] {
            let mut args = vec![command, target];
            args.extend(SHORT);
            refused(&args, words);
        }
    }
    // The last group is followed by none.
    refused_by("recv", "239.255.255.255:5001", "--groups 2", &["--groups", "239.255.255.255"]);
}

#[test]
fn an_unknown_interface_is_told_with_those_there_are() {
    for command in ["send", "recv"] {
        for backend in ["auto", "uring", "mmsg", "afxdp"] {
            let options = format!("--iface nix0 --backend {backend}");
            refused_by(command, GROUP, &options, &["nix0: no such interface", "use one of", "lo"]);
        }
    }
    refused(&["doctor", "nix0"], &["nix0: no such interface", "use one of", "lo"]);
    refused(&["drops", "nix0", "--duration", "100ms"], &["nix0: no such interface", "use one of", "lo"]);
    // Longer than the kernel's names, and what would be an alternative name.
    refused_by("recv", GROUP, &format!("--iface {}", "x".repeat(300)), &["no such interface"]);
}

#[test]
fn files_that_cannot_be_used() {
    let directory = tempfile::tempdir().unwrap();
    let path = |name: &str| directory.path().join(name).display().to_string();
    std::fs::write(path("empty"), "").unwrap();
    for (file, words) in [
        (path("missing"), ["missing", "cannot be read", "No such file"].as_slice()),
        (path("empty"), &["empty", "at least one byte"]),
        (path(""), &["cannot be read", "directory"]),
    ] {
        refused_by("send", GROUP, &format!("--payload-file {file}"), words);
        refused_by("recv", GROUP, &format!("--verify-payload --payload-file {file}"), words);
    }
    for (file, words) in [
        (path("no/result.json"), ["--output", "no/result.json", "fix:"].as_slice()),
        (path(""), &["--output", "directory", "fix:"]),
    ] {
        // For an hour, were it not refused before anything is measured.
        for command in ["send", "recv"] {
            refused_by(command, GROUP, &format!("--duration 1h --output {file}"), words);
        }
    }
}

#[test]
fn a_ready_descriptor_that_is_not_open() {
    refused_by("recv", GROUP, "--ready-fd 77", &["--ready-fd 77", "fix:"]);
    refused_by("recv", GROUP, "--ready-fd 0", &["--ready-fd"]);
    refused(&["drops", "--ready-fd", "77", "--duration", "100ms"], &["--ready-fd 77", "fix:"]);
}

#[test]
fn unknown_commands_and_options() {
    refused(&["sned"], &["sned", "send"]);
    refused(&["send"], &["TARGET"]);
    refused(&["send", GROUP, "--no-such"], &["--no-such"]);
    refused(&["demo", "--pps", "0"], &["1..=10000000"]);
    refused(&["demo", "--duration", "0"], &["above 0"]);
    refused(&["drops", "--interval", "1ms"], &["at least 100ms"]);
}
