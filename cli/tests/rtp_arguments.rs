//! What is wrong with arguments about media streams is said before anything is opened.

mod common;

use common::{run, wirerate};

const TARGET: &str = "rtp://127.0.0.1:5004";

#[track_caller]
fn refused(options: &str, words: &[&str]) {
    let args: Vec<&str> = ["recv", TARGET].into_iter().chain(options.split_whitespace()).collect();
    let ended = run(wirerate(&args));
    ended.expect(2, words);
    assert_eq!(ended.stdout, "", "{options}: nothing is a result");
}

#[test]
fn numbers_out_of_range_and_files_that_are_none() {
    for (options, words) in [
        ("--payload-type 128=8000", ["96=48000", "0 to 127"].as_slice()),
        ("--payload-type 96", &["96=48000"]),
        ("--payload-type 96=0", &["at least 1"]),
        ("--clock-rate 0", &["1.."]),
        ("--media-rate 10kpps", &["bits a second", "3.75M"]),
        ("--media-rate 0", &["bits a second"]),
        ("--format mpeg", &["rtp", "ts", "raw"]),
        ("--backend xdp --iface lo", &["--format rtp", "--backend xdp", "no header but wirerate's own"]),
        ("--pcap /nowhere/at.all", &["--pcap /nowhere/at.all", "cannot be read"]),
        ("--pcap /dev/null", &["--pcap /dev/null", "empty"]),
        ("--pcap Cargo.toml", &["neither pcap nor pcapng", "tcpdump -w"]),
        ("--pcap Cargo.toml --iface lo", &["--iface", "cannot be used with"]),
        ("--pcap Cargo.toml --idle 1s", &["--idle", "cannot be used with"]),
    ] {
        refused(options, words);
    }
}
