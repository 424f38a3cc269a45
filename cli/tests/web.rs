//! `--web`: a page that follows a run in a headless Chromium and ends with its report, figures that Prometheus reads, and a server that takes no nonsense.

#[path = "common/browser.rs"]
mod browser;
mod common;
#[path = "common/http.rs"]
mod http;

use std::io::{BufRead, BufReader, Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::process::{Child, ChildStdin, Command, Stdio};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use browser::Browser;
use common::{eventually, run, wirerate};
use serde_json::{Value, json};

/// A run with a page.
struct Shown {
    child: Child,
    address: SocketAddr,
    stderr: JoinHandle<String>,
}

impl Shown {
    /// Starts the program on a free port, and waits until it says where its page is.
    fn start(args: &[&str]) -> Self {
        let mut child = wirerate(args)
            .args(["--web", "0", "--json"])
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .unwrap();
        let mut lines = BufReader::new(child.stderr.take().unwrap()).lines().map_while(Result::ok);
        let page = lines.find_map(|line| {
            let rest = line.split("page: http://").nth(1)?;
            rest.split('/').next().map(|address| address.parse::<SocketAddr>().expect("an address"))
        });
        let stderr = thread::spawn(move || lines.map(|line| line + "\n").collect());
        Self { child, address: page.expect("it says where"), stderr }
    }

    /// Ends it by a signal: its report, its status and the rest of what it said.
    fn end(mut self, signal: Option<&str>) -> (Value, i32, String) {
        if let Some(signal) = signal {
            common::signal(self.child.id(), signal);
        }
        let mut text = String::new();
        self.child.stdout.take().unwrap().read_to_string(&mut text).unwrap();
        let status = common::wait(&mut self.child).code().unwrap_or(-1);
        let stderr = self.stderr.join().unwrap();
        common::assert_no_panic(&stderr);
        (serde_json::from_str(&text).unwrap_or_else(|e| panic!("{e}: {text} {stderr}")), status, stderr)
    }
}

/// A capture of raw IP, written to a pipe as time goes by: the program takes it for what it is.
struct Capture {
    pipe: ChildStdin,
    number: u32,
}

const GROUP: [u8; 4] = [239, 1, 2, 3];
const TARGET: &str = "239.1.2.3:5001";

impl Capture {
    /// Goes on until the first interval has passed: from then on the program takes what comes as it comes.
    fn begin(mut pipe: ChildStdin, page: SocketAddr) -> Self {
        // Stamps in ns, packets of up to 64 KiB, link type raw IP.
        let mut header = 0xa1b2_3c4d_u32.to_le_bytes().to_vec();
        header.extend([2, 0, 4, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 1, 0, 101, 0, 0, 0]);
        pipe.write_all(&header).unwrap();
        let mut capture = Self { pipe, number: 0 };
        eventually("an interval passes", || {
            capture.half_seconds(1);
            intervals(page) > 0
        });
        capture
    }

    /// Half seconds with a packet each.
    fn half_seconds(&mut self, count: u32) {
        let mut bytes = Vec::new();
        for _ in 0..count {
            let mut packet = vec![0x45, 0, 0, 128, 0, 0, 0, 0, 64, 17, 0, 0, 192, 0, 2, 1];
            packet.extend(GROUP);
            let sum: u32 = packet.chunks(2).map(|w| u32::from(w[0]) << 8 | u32::from(w[1])).sum();
            let sum = !((sum & 0xffff) + (sum >> 16)) as u16;
            packet[10..12].copy_from_slice(&sum.to_be_bytes());
            packet.extend([0x9c, 0x40, 0x13, 0x89, 0, 108, 0, 0]);
            packet.resize(128, 0);
            let (seconds, ns) = (1_700_000_000 + self.number / 2, self.number % 2 * 500_000_000);
            for field in [seconds, ns, 128, 128] {
                bytes.extend(field.to_le_bytes());
            }
            bytes.extend(packet);
            self.number += 1;
        }
        self.pipe.write_all(&bytes).unwrap();
        self.pipe.flush().unwrap();
    }
}

/// Intervals that have passed, as Prometheus is told.
fn intervals(page: SocketAddr) -> u64 {
    let metrics = http::get(page, "/metrics").unwrap().body;
    let line = metrics.lines().find_map(|l| l.strip_prefix("wirerate_intervals_total "));
    line.and_then(|number| number.parse().ok()).unwrap_or(0)
}

fn state(browser: &Browser) -> Value {
    browser.run("return document.querySelector('article').dataset.state")
}

fn updates(browser: &Browser) -> u64 {
    browser.run("return Number(document.getElementById('link').dataset.updates || 0)").as_u64().unwrap()
}

/// The figure of a headline, as a number.
fn headline(browser: &Browser, name: &str) -> u64 {
    let script = format!(
        "const t = [...document.querySelectorAll('dt')].find(t => t.textContent.startsWith('{name}'));
         return t ? t.nextElementSibling.textContent : '0'"
    );
    browser.run(&script).as_str().unwrap().replace(',', "").parse().unwrap()
}

#[test]
fn the_page_follows_a_run_and_ends_with_its_report() {
    let Some(browser) = Browser::start() else { return common::skipped("chromium and chromedriver") };
    let shown =
        Shown::start(&["recv", "127.0.0.1:5741", "--backend", "mmsg", "--interval", "200ms", "--web-keep"]);
    browser.open(&format!("http://{}/", shown.address));
    assert_eq!(state(&browser), "running");
    let mut sender = wirerate(&["send", "127.0.0.1:5741", "--rate", "2000pps", "--duration", "30s", "-q"])
        .stdout(Stdio::null())
        .spawn()
        .unwrap();
    eventually("figures come", || headline(&browser, "received so far") > 0);
    let (before, seen) = (headline(&browser, "received so far"), updates(&browser));
    eventually("figures grow", || headline(&browser, "received so far") > before && updates(&browser) > seen);
    let drawn = "return [...document.querySelectorAll('figure.plot')].filter(f => f.querySelector('svg path')).map(f => f.dataset.kind)";
    eventually("plots are drawn", || {
        browser.run(drawn) == json!(["rate", "packets", "loss", "latency-time"])
    });
    assert_eq!(state(&browser), "running");
    let metrics = http::get(shown.address, "/metrics").unwrap();
    let total =
        metrics.body.lines().find_map(|l| l.strip_prefix("wirerate_received_packets_total ")).unwrap();
    assert!(total.parse::<u64>().unwrap() > 0);
    assert_eq!(http::get(shown.address, "/result.json").unwrap().status, 404, "not yet");
    // The sender says its end, and the receiver ends with it.
    common::signal(sender.id(), "INT");
    common::wait(&mut sender);
    eventually("the page shows the report", || state(&browser) == "complete");
    let result: Value =
        serde_json::from_str(&http::get(shown.address, "/result.json").unwrap().body).unwrap();
    let shown_packets = "return document.querySelector('dd[data-path=\"/rx/packets\"]').dataset.value";
    assert_eq!(browser.run(shown_packets), result["rx"]["packets"].to_string());
    assert!(
        browser.run("return document.getElementById('link').textContent").as_str().unwrap().contains("ended")
    );
    let metrics = http::get(shown.address, "/metrics").unwrap().body;
    let total = format!("wirerate_received_packets_total {}\n", result["rx"]["packets"]);
    assert!(metrics.contains(&total) && metrics.contains("wirerate_run_ended 1\n"), "{metrics}");
    let kept = http::get(shown.address, "/report.html").unwrap().body;
    assert!(kept.contains("data-state=\"complete\"") && !kept.contains("<script"));
    assert_eq!(
        browser.complaints().into_iter().filter(|c| !c.contains("/result.json")).collect::<Vec<_>>(),
        Vec::<String>::new()
    );
    let (report, status, stderr) = shown.end(Some("INT"));
    assert_eq!((status, &report), (0, &result));
    assert!(stderr.contains("its page stays at http://"), "{stderr}");
}

#[test]
fn ten_minutes_of_half_seconds_stay_responsive() {
    let Some(browser) = Browser::start() else { return common::skipped("chromium and chromedriver") };
    let mut shown = Shown::start(&[
        "recv",
        TARGET,
        "--pcap",
        "/dev/stdin",
        "--format",
        "raw",
        "--interval",
        "500ms",
        "--quiet",
    ]);
    let mut capture = Capture::begin(shown.child.stdin.take().unwrap(), shown.address);
    browser.open(&format!("http://{}/", shown.address));
    capture.half_seconds(1201 - capture.number);
    let marks =
        "const f = document.querySelector('figure[data-kind=rate]'); return f ? Number(f.dataset.marks) : 0";
    eventually("all intervals are on the page", || browser.run(marks) == 1200);
    assert_eq!(state(&browser), "running");
    // What is drawn is bounded, whatever came.
    let size = browser.run("return document.documentElement.outerHTML.length").as_u64().unwrap();
    assert!(size < 400_000, "{size} bytes");
    let rows = browser.run("return document.querySelectorAll('tbody tr').length").as_u64().unwrap();
    assert!(rows < 100, "{rows} rows");
    // Each half second is an update, and the page answers after each.
    for _ in 0..5 {
        let before = updates(&browser);
        capture.half_seconds(1);
        eventually("an update", || updates(&browser) > before);
        assert_eq!(
            browser
                .run("document.querySelector('#bar a').focus(); return document.activeElement.textContent"),
            "page to keep"
        );
    }
    assert_eq!(headline(&browser, "received so far"), 1205);
    let metrics = http::get(shown.address, "/metrics").unwrap().body;
    assert!(metrics.contains("wirerate_intervals_total 1205\n"), "{metrics}");
    // Without --web-keep the program ends when the page has the report, and the page keeps it.
    drop(capture);
    eventually("the report", || state(&browser) == "complete");
    let (report, status, _) = shown.end(None);
    assert_eq!((status, report["rx"]["packets"].as_u64()), (0, Some(1206)));
    assert_eq!(
        browser.run("return document.querySelector('dd[data-path=\"/rx/packets\"]').dataset.value"),
        "1206"
    );
    assert_eq!(browser.complaints(), Vec::<String>::new());
}

/// A run that goes on until its pipe is closed.
fn quiet_run() -> (Shown, Capture) {
    let mut shown = Shown::start(&[
        "recv",
        TARGET,
        "--pcap",
        "/dev/stdin",
        "--format",
        "raw",
        "--interval",
        "500ms",
        "--quiet",
    ]);
    let capture = Capture::begin(shown.child.stdin.take().unwrap(), shown.address);
    (shown, capture)
}

#[test]
fn prometheus_reads_the_figures() {
    let (shown, capture) = quiet_run();
    let answer = http::get(shown.address, "/metrics").unwrap();
    assert_eq!(answer.header("content-type"), "application/openmetrics-text; version=1.0.0; charset=utf-8");
    // The reference parser, which is strict; the interpreter that Debian's package is for.
    let script = "import sys\nfrom prometheus_client.openmetrics.parser import text_string_to_metric_families as parse\n\
        for f in parse(sys.stdin.read()):\n    assert f.name.startswith('wirerate_') and f.documentation, f\n    print(f.name, f.type, f.unit, len(f.samples))";
    let mut python = Command::new("/usr/bin/python3");
    let there = python.args(["-c", "import prometheus_client"]).output().is_ok_and(|o| o.status.success());
    if !there {
        return common::skipped("python3-prometheus-client");
    }
    let mut parser = Command::new("/usr/bin/python3")
        .args(["-c", script])
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    parser.stdin.take().unwrap().write_all(answer.body.as_bytes()).unwrap();
    let parsed = parser.wait_with_output().unwrap();
    assert!(parsed.status.success(), "{}", answer.body);
    let families = String::from_utf8(parsed.stdout).unwrap();
    for family in [
        "wirerate_run info",
        "wirerate_received_packets counter",
        "wirerate_intervals counter",
        "wirerate_interval_packets_per_second gauge",
    ] {
        assert!(families.contains(family), "{family} is missing in:\n{families}");
    }
    drop(capture);
    assert_eq!(shown.end(None).1, 0);
}

#[test]
fn the_server_gives_what_it_has_to_who_may_see_it_and_no_more() {
    let (shown, capture) = quiet_run();
    let (address, own) = (shown.address, shown.address.to_string());
    let ask = |method: &str, path: &str, headers: &[(&str, &str)]| {
        http::request(address, method, path, headers, "").unwrap()
    };
    let page = http::get(address, "/").unwrap();
    assert_eq!(page.status, 200);
    for (name, part) in [
        ("content-security-policy", "default-src 'none'"),
        ("content-security-policy", "script-src 'self'"),
        ("content-security-policy", "frame-ancestors 'none'"),
        ("x-content-type-options", "nosniff"),
        ("cache-control", "no-store"),
        ("referrer-policy", "no-referrer"),
    ] {
        assert!(page.header(name).contains(part), "{name}: {}", page.header(name));
    }
    for method in ["POST", "PUT", "DELETE", "OPTIONS", "TRACE"] {
        assert_eq!(ask(method, "/", &[("Host", &own)]).status, 405, "{method}");
    }
    assert_eq!(ask("HEAD", "/", &[("Host", &own)]).body, "");
    // Somebody else's name that was made to lead here.
    for host in ["evil.example", "evil.example:80", "192.0.2.1", "localhost.evil.example"] {
        for path in ["/", "/metrics", "/live", "/result.json"] {
            let answer = ask("GET", path, &[("Host", host)]);
            assert_eq!(answer.status, 403, "{host}{path}");
            assert!(!answer.body.contains("239.1.2.3"), "{}", answer.body);
        }
    }
    assert_eq!(ask("GET", "/", &[]).status, 403, "without a name");
    for path in ["/nothing", "/../etc/passwd", "/live.js/", "//", "/%2e%2e/"] {
        assert_eq!(ask("GET", path, &[("Host", &own)]).status, 404, "{path}");
    }
    assert_eq!(ask("GET", "/live?after=0&id=99999999999999999999999", &[("Host", &own)]).status, 200);
    // Headers without end.
    let mut stream = TcpStream::connect(address).unwrap();
    let _ = stream.write_all(b"GET / HTTP/1.1\r\n").and_then(|()| stream.write_all(&vec![b'a'; 1 << 20]));
    stream.set_read_timeout(Some(Duration::from_secs(60))).unwrap();
    let mut answer = Vec::new();
    let _ = stream.read_to_end(&mut answer);
    assert!(answer.is_empty() || answer.starts_with(b"HTTP/1.1 4"), "{:?}", String::from_utf8_lossy(&answer));
    // Clients that say nothing are sent away, and others get their turn.
    let silent: Vec<TcpStream> = (0..100).map(|_| TcpStream::connect(address).unwrap()).collect();
    let start = Instant::now();
    assert_eq!(http::get(address, "/metrics").unwrap().status, 200);
    assert!(start.elapsed() < Duration::from_secs(60));
    drop(silent);
    let sent = u64::from(capture.number);
    drop(capture);
    let (report, status, _) = shown.end(None);
    assert_eq!((status, report["rx"]["packets"].as_u64()), (0, Some(sent)), "the run knows nothing of it");
}

#[test]
fn a_port_that_cannot_be_had_is_said_before_anything_runs() {
    let taken = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let port = taken.local_addr().unwrap().port().to_string();
    let send = |web: &str| run(wirerate(&["send", "127.0.0.1:5742", "--count", "1", "--web", web]));
    send(&port).expect(2, &["--web 127.0.0.1:", "cannot be listened on", "in use", "fix: "]);
    send("192.0.2.1:0").expect(2, &["cannot be listened on"]);
    send("name:80").expect(2, &["write a port, as 8080"]);
    send("0.0.0.0:0").expect(0, &["everybody who reaches 0.0.0.0:", "nobody is asked who he is", "fix: "]);
    run(wirerate(&["send", "127.0.0.1:5742", "--count", "1", "--web-keep"])).expect(2, &["--web"]);
    drop(taken);
}
