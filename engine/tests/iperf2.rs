//! The real iperf 2 over loopback: recognised, counted by its own numbers, its repeated end understood.
#![forbid(unsafe_code)]

use std::net::UdpSocket;
use std::process::{Command, Stdio};
use std::time::Duration;

use wirerate_engine::clock::tai_ns;
use wirerate_engine::measure::tally::{Format, RxTally};
use wirerate_engine::observe::{Observer, ObserverSpec};
use wirerate_engine::queue::{RxMeta, Sink};

#[test]
fn a_client_that_gets_no_answer_repeats_its_end() {
    let socket = UdpSocket::bind("127.0.0.1:0").expect("loopback");
    socket.set_read_timeout(Some(Duration::from_secs(10))).expect("a time");
    let destination = socket.local_addr().expect("bound");
    let client = Command::new("iperf")
        .args(["-u", "-c", "127.0.0.1", "-n", "20000", "-l", "200", "-b", "10M", "-p"])
        .arg(destination.port().to_string())
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .spawn();
    let Ok(mut client) = client else {
        println!("SKIPPED: iperf 2 is not installed");
        assert!(std::env::var("WIRERATE_REQUIRE_ROOT").is_err(), "iperf 2 is needed here: apt install iperf");
        return;
    };

    let mut observer = Observer::new(ObserverSpec::default());
    let mut buf = [0; 2048];
    // Not only the first end: the later ones must change nothing.
    let mut after_end = 0;
    while after_end < 3 {
        let (length, source) = socket.recv_from(&mut buf).expect("iperf goes on sending its end");
        let meta = RxMeta { source, destination, arrived_ns: tai_ns(), overhead: 46, frames: 1 };
        observer.run(&meta, &buf[..length], length, 1);
        after_end += u32::from(observer.all_ended());
    }
    client.kill().expect("it waits for an answer");
    client.wait().expect("it was started here");

    let mut tally = RxTally::new(0);
    observer.tally(&mut tally);
    let c = tally.counters;
    assert_eq!(tally.streams.len(), 1);
    assert_eq!(tally.streams[0].key.format, Format::Iperf2);
    assert_eq!((c.packets, c.unique, c.lost, c.lost_tail, c.foreign, c.corrupt), (100, 100, 0, 0, 0, 0));
    assert_eq!(tally.streams[0].end.map(|end| end.issued), Some(100));
}
