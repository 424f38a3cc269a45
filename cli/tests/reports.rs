//! What the program really prints fits the schema: each datapath, each way of printing, failing runs too.

mod common;
#[path = "common/schema.rs"]
mod schema_checks;

use std::io::Read;
use std::process::Stdio;

use common::{Running, ip, run, wirerate, wirerate_on};
use serde_json::{Value, json};
use wirerate_engine::lab::{Host, INTERFACE, Lab};

const GROUP: &str = "239.1.2.3:5001";

struct Schema(Value);

impl Schema {
    fn read() -> Self {
        Self(serde_json::from_str(include_str!("../../docs/report.schema.json")).expect("the schema is JSON"))
    }

    fn check(schema: &Value, value: &Value) {
        let errors = schema_checks::errors(schema, value);
        assert!(errors.is_empty(), "{errors:#?}\n{value:#}");
    }

    fn report(&self, report: &Value) {
        Self::check(&self.0, report);
    }

    /// `value` as the definition called `name` describes it.
    fn part(&self, name: &str, value: &Value) {
        Self::check(&json!({"$defs": self.0["$defs"], "$ref": format!("#/$defs/{name}")}), value);
    }

    /// Every event of a run, and its report; returns how many of each of `names` there were.
    fn events(&self, events: &[Value], names: &[&str]) -> Vec<usize> {
        for event in events {
            let keys = event.as_object().expect("an object").len();
            match event["event"].as_str() {
                Some("ready") => assert_eq!(keys, 1, "{event}"),
                Some("interval") => self.part("interval", &event["interval"]),
                Some("warning") => self.part("warning", &event["warning"]),
                Some("report") => self.report(&event["report"]),
                _ => panic!("an event that nobody knows: {event}"),
            }
        }
        names.iter().map(|name| events.iter().filter(|e| e["event"] == *name).count()).collect()
    }
}

fn words(line: &str) -> Vec<&str> {
    line.split_whitespace().collect()
}

fn start(host: &Host, command: &str, backend: &str, options: &str) -> Running {
    let line =
        format!("{command} {GROUP} --iface {INTERFACE} --backend {backend} --interval 100ms {options}");
    Running::ready_on(host, &words(&line))
}

/// Checks what a command printed with `--json` against the schema of that name.
fn fits(name: &str, value: &Value) {
    let read = |name: &str| -> Value {
        let path = format!("{}/../docs/{name}.schema.json", env!("CARGO_MANIFEST_DIR"));
        serde_json::from_str(&std::fs::read_to_string(path).expect("the schema")).expect("the schema is JSON")
    };
    let (schema, report) = (read(name), read("report"));
    assert!(jsonschema::meta::is_valid(&schema), "{name}");
    let id = report["$id"].as_str().expect("an $id").to_owned();
    let registry =
        jsonschema::Registry::new().add(id, report).expect("an address").prepare().expect("a schema");
    let validator =
        jsonschema::options().with_registry(&registry).build(&schema).expect("the schema compiles");
    let errors: Vec<_> =
        validator.iter_errors(value).map(|e| format!("{}: {e}", e.instance_path())).collect();
    assert!(errors.is_empty(), "{name}: {errors:#?}\n{value:#}");
    let mut wrong = value.clone();
    wrong["surprise"] = json!(1);
    assert!(!validator.is_valid(&wrong), "{name}: fits anything");
}

/// The lines that a run printed, as events.
fn lines(text: &str) -> Vec<Value> {
    text.lines().map(|line| serde_json::from_str(line).unwrap_or_else(|e| panic!("{e}: {line}"))).collect()
}

#[test]
fn every_datapath_and_every_event() {
    common::require_root!();
    let schema = Schema::read();
    let lab = Lab::bridge(1).unwrap();
    for backend in ["uring", "mmsg", "afxdp"] {
        let mut receiver = start(&lab.receivers[0], "recv", backend, "--expect-loss-below 0.01%");
        let line = format!(
            "send {GROUP} --iface {INTERFACE} --backend {backend} --rate 2kpps --count 800 --interval 100ms \
             --json-lines --quiet --streams 3 --dscp EF --ttl 3 --frame-size 64,594,1518 --expect-rate-above 1pps"
        );
        let ended = run(wirerate_on(&lab.sender, &words(&line)));
        ended.expect(0, &[]);
        let events = lines(&ended.stdout);
        let [ready, intervals, reports] = schema.events(&events, &["ready", "interval", "report"])[..] else {
            unreachable!()
        };
        assert!((ready, reports) == (1, 1) && intervals > 1, "{}", ended.stdout);
        let first = |name: &str| events.iter().position(|e| e["event"] == name);
        assert!(first("ready") < first("interval"));
        let report = &events.last().expect("events")["report"];
        assert_eq!(report["intervals"].as_array().map(Vec::len), Some(intervals));
        assert_eq!(report["verdict"]["outcome"], "pass");
        assert_eq!(report["config"]["dscp"], 46);

        receiver.wait_for("interval");
        let heard = receiver.wait_for("report")["report"].clone();
        assert_eq!(heard["rx"]["streams"].as_array().map(Vec::len), Some(3));
        assert_eq!(heard["verdict"]["outcome"], "pass", "{}", heard["rx"]);
        let counted = schema.events(&receiver.events, &["ready", "report"]);
        assert_eq!(counted, [1, 1]);
        assert_eq!(receiver.finish().1, 0);
    }
}

#[test]
fn other_formats_and_ways_to_end() {
    common::require_root!();
    let schema = Schema::read();
    let lab = Lab::bridge(1).unwrap();
    let send = format!("send {GROUP} --iface {INTERFACE} --rate 2kpps --count 300");
    for (options, format) in [
        ("--format raw --idle 300ms", "raw"),
        ("--format wirerate", "wirerate"),
        ("--verify-payload", "wirerate"),
        ("--count 100", "wirerate"),
    ] {
        let receiver = start(&lab.receivers[0], "recv", "mmsg", options);
        schema.report(&common::report_on(&lab.sender, &words(&send)));
        let report = receiver.report();
        schema.report(&report);
        assert_eq!(report["rx"]["streams"][0]["format"], format);
    }
    // Foreign, and nothing at all.
    let receiver = start(&lab.receivers[0], "recv", "uring", "--format iperf2");
    common::report_on(&lab.sender, &words(&send));
    receiver.signal("INT");
    let report = receiver.report();
    schema.report(&report);
    assert!(report["rx"]["foreign"].as_u64() >= Some(300), "{}", report["rx"]);
}

#[test]
fn failing_runs() {
    common::require_root!();
    let schema = Schema::read();
    for backend in ["uring", "mmsg", "afxdp"] {
        let lab = Lab::bridge(1).unwrap();
        let mut receiver = start(&lab.receivers[0], "recv", backend, "");
        let mut sender = start(&lab.sender, "send", backend, "--rate 2kpps --duration 1h");
        receiver.wait_for("interval");
        sender.wait_for("interval");
        for (mut running, host) in [(receiver, &lab.receivers[0]), (sender, &lab.sender)] {
            ip(&host.netns, "link delete wr0");
            running.wait_for("report");
            assert_eq!(schema.events(&running.events, &["report"]), [1]);
            assert_eq!(running.finish().1, 1, "{backend}");
        }
    }
}

#[test]
fn verdicts() {
    common::require_root!();
    let schema = Schema::read();
    let lab = Lab::bridge(1).unwrap();
    for (line, status, outcome) in [
        (format!("send {GROUP} --iface wr0 --count 10 --expect-rate-above 900Mpps"), 3, "fail"),
        (format!("send {GROUP} --iface wr0 --count 10 --expect-rate-above 1pps"), 0, "pass"),
        (format!("recv {GROUP} --iface wr0 --duration 200ms --expect-loss-below 1%"), 5, "inconclusive"),
    ] {
        let mut command = wirerate_on(&lab.sender, &words(&line));
        command.args(["--json", "--quiet"]);
        let ended = run(command);
        ended.expect(status, &[]);
        let report = ended.json();
        schema.report(&report);
        assert_eq!(report["verdict"]["outcome"], outcome);
    }
}

#[test]
fn a_result_in_a_file() {
    common::require_root!();
    let schema = Schema::read();
    let lab = Lab::bridge(1).unwrap();
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("result").display().to_string();
    for form in ["--json", "--json-lines", ""] {
        let line = format!("send {GROUP} --iface wr0 --count 10 --quiet --output {path} {form}");
        let ended = run(wirerate_on(&lab.sender, &words(&line)));
        ended.expect(0, &[]);
        assert_eq!(ended.stdout, "", "{form}");
        let text = std::fs::read_to_string(&path).unwrap();
        match form {
            "--json" => schema.report(&serde_json::from_str(&text).unwrap()),
            "--json-lines" => assert_eq!(schema.events(&lines(&text), &["report"]), [1]),
            _ => assert!(text.contains("sent       10 packets") && !text.contains('\u{1b}'), "{text}"),
        }
    }
}

#[test]
fn the_demonstration_holds_reports() {
    common::require_root!();
    let ended = run(wirerate(&["demo", "--duration", "200ms", "--pps", "2000", "--json", "--quiet"]));
    ended.expect(0, &[]);
    let demo = ended.json();
    assert_eq!(demo["scenes"].as_array().map(Vec::len), Some(4));
    fits("demo", &demo);
}

#[test]
fn doctor_knows_the_lab() {
    common::require_root!();
    let lab = Lab::bridge(1).unwrap();
    let ended = run(wirerate_on(&lab.sender, &["doctor", "--json"]));
    ended.expect(0, &[]);
    let diagnosis = ended.json();
    fits("doctor", &diagnosis);
    let interfaces = diagnosis["interfaces"].as_array().expect("interfaces");
    let of = |name: &str| interfaces.iter().find(|i| i["link"]["name"] == name);
    let wr0 = of(INTERFACE).unwrap_or_else(|| panic!("wr0 is missing: {diagnosis:#}"));
    assert_eq!(wr0["nic"]["driver"], "veth");
    assert_eq!(wr0["nic"]["xdp"]["native"], true, "{wr0:#}");
    assert_eq!(wr0["nic"]["xdp"]["zero_copy"], false, "{wr0:#}");
    // The same for a person.
    let ended = run(wirerate_on(&lab.sender, &["doctor", INTERFACE]));
    ended.expect(0, &[]);
    let row = ended.stdout.lines().find(|l| l.trim_start().starts_with(INTERFACE)).expect("a row for wr0");
    assert!(row.contains("veth") && row.contains("native"), "{}", ended.stdout);
}

#[test]
fn drops_as_json() {
    common::require_root!();
    let lab = Lab::bridge(1).unwrap();
    // Something to drop: datagrams to a port that nobody listens at.
    let mut drops =
        wirerate_on(&lab.receivers[0], &["drops", "--duration", "2s", "--json", "-q", "--ready-fd", "2"])
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .unwrap();
    let mut byte = [0];
    drops.stderr.as_mut().unwrap().read_exact(&mut byte).unwrap();
    common::report_on(&lab.sender, &words("send 10.77.0.11:9 --count 20 --rate 1kpps --iface wr0"));
    let output = drops.wait_with_output().unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    let drops: Value = serde_json::from_slice(&output.stdout).expect("one JSON object");
    fits("drops", &drops);
    assert_eq!(drops["not_counted"], json!([]));
    let found = drops["drops"]
        .as_array()
        .unwrap()
        .iter()
        .find(|d| d["reason"] == "NO_SOCKET" && d["interface"] == INTERFACE);
    assert!(found.is_some_and(|d| d["packets"].as_u64() >= Some(20)), "{drops:#}");
}
