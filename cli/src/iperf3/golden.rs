//! What real iperf3 printed (engine/tests/data/iperf3), line by line, beside what is printed of the same events.

use std::time::{Duration, UNIX_EPOCH};

use wirerate_engine::interop::iperf3::output::{Identity, Recorder};
use wirerate_engine::interop::iperf3::{
    Amount, Begin, Cpu, Direction, End, Event, Interval, Parameters, ServerOutput, Stream, StreamEnd,
    StreamInterval, Totals,
};

use super::options::{Form, Printing};
use super::text::{Page, banner};

macro_rules! data {
    ($name:literal) => {
        include_str!(concat!("../../../engine/tests/data/iperf3/", $name))
    };
}

/// A test that is told event by event, and what was printed of it.
struct Told {
    page: Page,
    recorder: Recorder,
    streams: Vec<Stream>,
    text: String,
}

impl Told {
    fn new(version: &str, client: bool, verbose: bool) -> Self {
        let (printing, identity) = (printing(client, verbose), identity(version));
        let recorder = Recorder::new(client, &identity, printing.interval, true);
        Self { page: Page::new(&printing, &identity), recorder, streams: Vec::new(), text: String::new() }
    }

    fn event(&mut self, event: &Event<'_>) {
        self.recorder.event(event);
        self.text += &self.page.event(event, &self.recorder);
    }

    /// Up to the first data. Streams are (socket, own port, other port, whether this end sends).
    fn began(
        &mut self,
        at: u64,
        (cookie, port, from): (&str, u16, u16),
        p: &Parameters,
        streams: &[(i32, u16, u16, bool)],
    ) {
        let at = UNIX_EPOCH + Duration::from_secs(at);
        let address = |port: u16| format!("127.0.0.1:{port}").parse().unwrap();
        let client = from == 0;
        if client {
            self.event(&Event::Connecting { host: "127.0.0.1", port });
        }
        let (local, remote) = (address(1), address(from));
        self.event(&Event::Accepted { test: 1, local, remote, cookie, mss: 32_768, at });
        self.event(&Event::Parameters { test: 1, parameters: p });
        self.streams = streams
            .iter()
            .map(|&(socket, own, other, sender)| Stream {
                id: 1,
                socket,
                local: address(own),
                remote: address(other),
                sender,
            })
            .collect();
        let begin = Begin {
            test: 1,
            streams: self.streams.clone(),
            send_buffer: 0,
            receive_buffer: 0,
            datapath: String::new(),
            at,
        };
        self.event(&Event::Begin(&begin));
    }

    /// Of each stream: bytes, datagrams, lost, jitter in µs.
    fn interval(&mut self, (start, end): (f64, f64), omitted: bool, streams: &[(u64, u64, i64, f64)]) {
        let streams = streams
            .iter()
            .map(|&(bytes, packets, lost, jitter)| StreamInterval {
                bytes,
                packets,
                lost,
                out_of_order: 0,
                jitter: jitter / 1e6,
            })
            .collect();
        self.event(&Event::Interval(&Interval { test: 1, start, end, omitted, streams }));
    }

    /// Of each stream by the sender and the receiver; of a server by itself.
    fn end(
        &mut self,
        streams: &[(Option<Totals>, Option<Totals>)],
        cpu: [f64; 6],
        server_output: Option<&str>,
    ) {
        let streams = streams.iter().zip(&self.streams).map(|(&(sent, received), stream)| {
            let (own, peer) = if stream.sender { (sent, received) } else { (received, sent) };
            StreamEnd { own: own.expect("this end knows its own"), peer }
        });
        let cpu_of = |at: usize| Cpu { total: cpu[at], user: cpu[at + 1], system: cpu[at + 2] };
        let server_output = server_output.map(|text| ServerOutput::Text(text.to_owned()));
        let end = End {
            test: 1,
            streams: streams.collect(),
            cpu: cpu_of(0),
            peer_cpu: Some(cpu_of(3)),
            server_output,
        };
        self.event(&Event::End(&end));
    }

    fn done(&mut self) {
        self.event(&Event::Done { test: 1 });
    }
}

fn printing(client: bool, verbose: bool) -> Printing {
    Printing {
        client,
        form: Form::Text,
        verbose,
        unit: None,
        timestamps: None,
        title: None,
        length_given: false,
        interval: Duration::from_secs(1),
    }
}

fn identity(version: &str) -> Identity {
    Identity {
        version: format!("iperf {version}"),
        system_info: "Linux host 6.12.0 #1 SMP PREEMPT_DYNAMIC x86_64".to_owned(),
    }
}

fn parameters(direction: Direction, parallel: u16, length: u16, amount: Amount) -> Parameters {
    Parameters {
        direction,
        parallel,
        length,
        amount,
        omit: 0,
        bandwidth: 1_000_000,
        burst: 0,
        fq_rate: 0,
        window: 0,
        tos: 0,
        flow_label: 0,
        dont_fragment: false,
        counters_64bit: false,
        gso: false,
        gro: false,
        repeating_payload: false,
        zero_copy: false,
        skip_rx_copy: false,
        get_server_output: false,
        server_affinity: None,
        title: None,
        extra_data: None,
        client_version: None,
        user: None,
    }
}

fn totals(bytes: u64, packets: u64, lost: i64, jitter: f64, seconds: f64) -> Option<Totals> {
    Some(Totals { bytes, packets, lost, out_of_order: 0, jitter: jitter / 1e6, seconds })
}

const IDLE: [f64; 6] = [0.0; 6];

#[test]
fn two_streams_with_loss() {
    let p = parameters(Direction::Normal, 2, 1000, Amount::Seconds(2));
    let mut client = Told::new("3.12", true, false);
    client.began(0, ("c", 6107, 0), &p, &[(5, 46_854, 6107, true), (7, 41_816, 6107, true)]);
    client.interval((0.0, 1.0001), false, &[(125_000, 125, 0, 0.0); 2]);
    client.interval((1.0001, 2.0002), false, &[(125_000, 125, 0, 0.0); 2]);
    let sent = totals(250_000, 250, 0, 0.0, 2.0002);
    client.end(
        &[(sent, totals(214_000, 250, 36, 17.0, 2.0002)), (sent, totals(215_000, 250, 35, 9.0, 2.0002))],
        IDLE,
        None,
    );
    client.done();
    assert_eq!(client.text, data!("lossy-client-3.12.txt"));

    let mut server = Told::new("3.12", false, false);
    server.began(0, ("c", 6107, 60_452), &p, &[(5, 6107, 46_854, false), (6, 6107, 41_816, false)]);
    server.interval((0.0, 1.0001), false, &[(108_000, 126, 18, 9.0), (108_000, 125, 17, 7.0)]);
    server.interval((1.0001, 2.0002), false, &[(106_000, 124, 18, 17.0), (107_000, 125, 18, 9.0)]);
    server.end(
        &[(None, totals(214_000, 250, 36, 17.0, 2.0002)), (None, totals(215_000, 250, 35, 9.0, 2.0002))],
        IDLE,
        None,
    );
    server.done();
    let above = banner(&printing(false, false), &identity("3.12"), 6107, 1);
    assert_eq!(above + &server.text, data!("lossy-server-3.12.txt"));
}

#[test]
fn both_ways_and_verbose() {
    let p = parameters(Direction::Bidirectional, 2, 32_768, Amount::Seconds(2));
    let cookie = "ukwt4jrrfnosmscabufexutsbyji3xvkvddw";
    let at = 1_795_971_860;
    let all = 131_072;
    let mut client = Told::new("3.22", true, true);
    client.began(
        at,
        (cookie, 6202, 0),
        &p,
        &[
            (4, 57_781, 6202, true),
            (6, 46_931, 6202, true),
            (8, 58_196, 6202, false),
            (11, 41_375, 6202, false),
        ],
    );
    let (tx, rx) = ((all, 4, 0, 0.0), |jitter| (all, 4, 0, jitter));
    client.interval((0.0, 1.002), false, &[tx, tx, rx(1.0), rx(5.0)]);
    client.interval((1.002, 2.0), false, &[tx, tx, rx(3.0), rx(16.0)]);
    let (sent, got) = (totals(2 * all, 8, 0, 0.0, 2.0), |jitter| totals(2 * all, 8, 0, jitter, 2.0));
    let ends = [(sent, got(10.2)), (sent, got(25.9)), (sent, got(2.9)), (sent, got(15.9))];
    client.end(&ends, [0.1, 0.1, 0.0, 0.1, 0.0, 0.1], None);
    client.done();
    assert_eq!(client.text, data!("bidir-verbose-client-3.22.txt"));

    let mut server = Told::new("3.22", false, true);
    server.began(
        at,
        (cookie, 6202, 41_186),
        &p,
        &[
            (5, 6202, 57_781, false),
            (6, 6202, 46_931, false),
            (8, 6202, 58_196, true),
            (11, 6202, 41_375, true),
        ],
    );
    server.interval((0.0, 1.002), false, &[rx(8.0), rx(10.0), tx, tx]);
    server.interval((1.002, 2.0), false, &[rx(10.0), rx(26.0), tx, tx]);
    let ends = [(None, got(10.2)), (None, got(25.9)), (sent, None), (sent, None)];
    server.end(&ends, [0.1, 0.0, 0.1, 0.0, 0.0, 0.0], None);
    server.done();
    let above = banner(&printing(false, true), &identity("3.22"), 6202, 1);
    assert_eq!(above + &server.text, data!("bidir-verbose-server-3.22.txt"));
}

#[test]
fn one_stream_each_way_with_an_omitted_beginning() {
    let mut p = parameters(Direction::Bidirectional, 1, 1000, Amount::Seconds(2));
    p.omit = 1;
    let mut client = Told::new("3.12", true, false);
    client.began(0, ("c", 6108, 0), &p, &[(5, 46_420, 6108, true), (7, 35_833, 6108, false)]);
    let of = |packets: u64, jitter| (1000 * packets, packets, 0, jitter);
    client.interval((0.0, 1.0001), true, &[of(125, 0.0), of(126, 5.0)]);
    client.interval((0.0, 1.0001), false, &[of(126, 0.0), of(125, 4.0)]);
    client.interval((1.0001, 2.0002), false, &[of(124, 0.0), of(125, 8.0)]);
    let plain = |jitter| totals(250_000, 250, 0, jitter, 2.0002);
    // iperf3 counts a datagram that left before the omitted beginning was over among the bytes, and not among the datagrams.
    client.end(&[(plain(0.0), plain(10.0)), (totals(251_000, 250, 0, 0.0, 2.0002), plain(8.0))], IDLE, None);
    client.done();
    assert_eq!(client.text, data!("bidir-omit-client-3.12.txt"));
}

#[test]
fn bytes_to_send() {
    let p = parameters(Direction::Normal, 1, 32_768, Amount::Bytes(204_800));
    let mut client = Told::new("3.12", true, true);
    let cookie = "5rp7ejurl3avjhidhru3vlwdybygcgyxy4fw";
    client.began(1_795_972_488, (cookie, 6411, 0), &p, &[(5, 50_075, 6411, true)]);
    client.interval((0.0, 1.0), false, &[(131_072, 4, 0, 0.0)]);
    client.interval((1.0, 1.5735), false, &[(98_304, 3, 0, 0.0)]);
    let ends = [(totals(229_376, 7, 0, 0.0, 1.5735), totals(196_608, 6, 0, 3.0, 1.5735))];
    client.end(&ends, [1.9, 1.9, 0.0, 0.0, 0.0, 0.0], None);
    client.done();
    assert_eq!(client.text, data!("bytes-verbose-client-3.12.txt"));
}

#[test]
fn the_server_sends() {
    let p = parameters(Direction::Reverse, 1, 32_768, Amount::Seconds(2));
    let cookie = "njfqx4zpskvjmuxx2opmn6si3uplcrnulqet";
    let mut client = Told::new("3.22", true, true);
    client.began(1_795_972_492, (cookie, 6513, 0), &p, &[(4, 55_873, 6513, false)]);
    let (sent, got) = (totals(262_144, 8, 0, 0.0, 2.0), totals(262_144, 8, 0, 6.0, 2.0));
    client.interval((0.0, 1.0), false, &[(131_072, 4, 0, 5.0)]);
    client.interval((1.0, 2.0), false, &[(131_072, 4, 0, 6.0)]);
    client.end(&[(sent, got)], IDLE, None);
    client.done();
    assert_eq!(client.text, data!("reverse-verbose-client-3.22.txt"));

    let mut server = Told::new("3.22", false, true);
    server.began(1_795_972_492, (cookie, 6513, 60_050), &p, &[(5, 6513, 55_873, true)]);
    server.interval((0.0, 1.0), false, &[(131_072, 4, 0, 0.0)]);
    server.interval((1.0, 2.0), false, &[(131_072, 4, 0, 0.0)]);
    server.end(&[(sent, None)], IDLE, None);
    let above = banner(&printing(false, true), &identity("3.22"), 6513, 1);
    assert_eq!(above + &server.text, data!("reverse-verbose-server-3.22.txt"));
}

#[test]
fn ended_by_ctrl_c() {
    let p = parameters(Direction::Normal, 1, 1000, Amount::Seconds(10));
    let mut client = Told::new("3.22", true, false);
    client.began(0, ("c", 6604, 0), &p, &[(4, 56_054, 6604, true)]);
    client.interval((0.0, 1.0), false, &[(251_000, 251, 0, 0.0)]);
    client.interval((1.0, 2.0), false, &[(250_000, 250, 0, 0.0)]);
    client.interval((2.0, 2.299), false, &[(74_000, 74, 0, 0.0)]);
    client.end(&[(totals(575_000, 575, 0, 0.0, 2.299), None)], IDLE, None);
    assert_eq!(client.text, data!("interrupted-client-3.22.txt"));
}

#[test]
fn with_what_the_server_printed() {
    let p = parameters(Direction::Normal, 1, 32_768, Amount::Seconds(1));
    let mut server = Told::new("3.12", false, false);
    server.began(0, ("c", 6108, 52_944), &p, &[(5, 6108, 55_406, false)]);
    server.interval((0.0, 1.0), false, &[(131_072, 4, 0, 51.0)]);
    let got = totals(131_072, 4, 0, 51.0, 1.0);
    server.end(&[(None, got)], IDLE, None);

    let mut client = Told::new("3.12", true, false);
    client.began(0, ("c", 6108, 0), &p, &[(5, 55_406, 6108, true)]);
    client.interval((0.0, 1.0), false, &[(131_072, 4, 0, 0.0)]);
    client.end(&[(totals(131_072, 4, 0, 0.0, 1.0), got)], IDLE, Some(&server.text));
    client.done();
    assert_eq!(client.text, data!("server-output-client-3.12.txt"));
}
