use super::*;

fn parse(text: &str) -> Result<Document, Error> {
    Document::parse(text, "r.json".to_owned())
}

fn run() -> Value {
    json!({"schema": "wirerate.report/1", "command": "recv", "started_at": "2026-01-01T00:00:00Z", "host": {}, "config": {}, "warnings": []})
}

#[test]
fn a_report_is_read_whole() {
    let document = parse(&run().to_string()).unwrap();
    assert_eq!((document.schema(), document.state), ("wirerate.report/1", State::Complete));
}

#[test]
fn what_is_wrong_is_said_with_its_place() {
    let mut wrong = run();
    wrong["intervals"] = json!("none");
    let mut item = run();
    item["intervals"] = json!([{}, 7]);
    let mut missing = run();
    missing.as_object_mut().unwrap().remove("host");
    let mut newer = run();
    newer["schema"] = json!("wirerate.report/9");
    let mut stranger = run();
    stranger["schema"] = json!("else/1");
    let whole = run().to_string();
    for (text, words) in [
        (wrong.to_string(), "at /intervals a list is expected, and it is a text"),
        (item.to_string(), "at /intervals/1 an object is expected, and it is a number"),
        (missing.to_string(), "/host is missing"),
        (newer.to_string(), "this version reads wirerate.report/1"),
        (stranger.to_string(), "is not known"),
        (whole[..whole.len() - 9].to_owned(), "line 1"),
        ("{}".to_owned(), "it has no \"schema\""),
        ("[1]".to_owned(), "it has no \"schema\""),
        (json!({"start": {}, "intervals": [], "end": {}}).to_string(), "iperf3"),
        (String::new(), "not a whole result"),
        ("{\"event\":\"ready\"}\n".to_owned(), "without an interval"),
        ("{\"event\":\"ready\"}\n{\"x\":1}\n{\"event\":\"ready\"}".to_owned(), "line 2 is no event"),
        ("{\"event\":\"ready\"}\n{\"event\n{\"event\":\"ready\"}".to_owned(), "line 2"),
    ] {
        let error = parse(&text).expect_err(words);
        assert!(error.what.contains(words), "{words:?} is missing in {:?}", error.what);
        assert!(error.what.starts_with("r.json") && error.fix.is_some());
    }
}

#[test]
fn lines_give_their_report_or_what_was_told() {
    let ready = "{\"event\":\"ready\"}";
    let interval =
        json!({"event": "interval", "interval": {"start_ns": 0, "end_ns": 1, "rx": {"packets": 3}}})
            .to_string();
    let report = json!({"event": "report", "report": run()}).to_string();
    let whole = parse(&[ready, &interval, &report].join("\n")).unwrap();
    assert_eq!(whole.state, State::Complete);
    let cut = parse(&[ready, &interval, &report[..40]].join("\n")).unwrap();
    assert_eq!((cut.state, cut.schema(), cut.notes.len()), (State::Cut, "wirerate.report/1", 2));
    assert_eq!(cut.value["intervals"][0]["rx"]["packets"], 3);
}

#[test]
fn a_measurement_takes_the_place_of_its_trials() {
    let mut tests = Vec::new();
    let trial = |bytes: u32| json!({"test": "throughput", "trial": {"frame_bytes": bytes, "groups": 1, "intended_pps": 9}});
    let measurement = json!({"test": "throughput", "measurement": {
        "frame_bytes": 64, "groups": 1, "outcome": "pass", "trials": [{}, {}, {}]}});
    tell(&mut tests, "trial", trial(64));
    tell(&mut tests, "trial", trial(64));
    assert_eq!(tests[0]["measurements"][0]["trials"].as_array().unwrap().len(), 2);
    tell(&mut tests, "measurement", measurement);
    tell(&mut tests, "trial", trial(512));
    let all = tests[0]["measurements"].as_array().unwrap();
    assert_eq!((all.len(), all[0]["outcome"].as_str()), (2, Some("pass")));
    assert_eq!(all[0]["trials"].as_array().unwrap().len(), 3);
    assert_eq!(all[1]["trials"].as_array().unwrap().len(), 1);
}
