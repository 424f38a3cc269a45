use super::*;
use proptest::prelude::*;
use serde_json::json;

fn words() -> impl Strategy<Value = Vec<String>> {
    prop::collection::vec(".{0,20}", 0..5)
}

fn ask() -> impl Strategy<Value = Ask> {
    let rate = prop::option::of((1u32..1_000_000).prop_map(f64::from));
    prop_oneof![
        words().prop_map(Ask::Start),
        Just(Ask::Stop(Yes)),
        Just(Ask::Ping(Yes)),
        Just(Ask::Look(Yes)),
        (".{0,9}", any::<u16>(), words()).prop_map(|(interface, port, groups)| Ask::Watch(WatchSpec {
            interface,
            port,
            groups
        })),
        (words(), rate.clone()).prop_map(|(groups, rate)| Ask::Join(Groups { groups, rate })),
        (words(), rate).prop_map(|(groups, rate)| Ask::Leave(Groups { groups, rate })),
    ]
}

fn failure() -> impl Strategy<Value = Failure> {
    let kind =
        prop_oneof![Just(FailureKind::Failed), Just(FailureKind::Usage), Just(FailureKind::Environment)];
    (kind, ".{0,30}", prop::option::of(".{0,30}")).prop_map(|(kind, text, fix)| Failure { kind, text, fix })
}

fn event() -> impl Strategy<Value = Event> {
    prop_oneof![
        Just(Event::Ready),
        any::<u64>().prop_map(|n| Event::Interval { interval: json!({"start_ns": n, "tx": {"pps": 0.5}}) }),
        ".{0,30}".prop_map(|text| Event::Warning { warning: json!({"code": "c", "text": text}) }),
        any::<u64>().prop_map(|n| Event::Report { report: json!({"event": n, "id": [null, {}]}) }),
        failure().prop_map(Event::Error),
        any::<u8>().prop_map(|status| Event::End { status }),
        any::<u64>().prop_map(|tai_ns| Event::Pong { tai_ns }),
        (any::<u64>(), prop::option::of(failure()))
            .prop_map(|(groups, failure)| Event::Joined(Moved { groups, failure })),
        (any::<u64>(), any::<[u8; 4]>(), prop::option::of(any::<u64>())).prop_map(|(n, group, at)| {
            let mut moments = GroupMoments::new(group.into(), None);
            moments.first_data_ns = at;
            let (schema, interface) = (WATCH_SCHEMA.to_owned(), "wr0".to_owned());
            let others = Others { packets: n, bytes: n, groups: vec![group.into()] };
            let groups = vec![moments; 3];
            let (joined, sockets, reports, queries, missed) = (n, n, n, n, n);
            Event::Look(Look {
                schema,
                interface,
                port: 5,
                joined,
                sockets,
                reports,
                queries,
                missed,
                groups,
                others,
            })
        }),
    ]
}

proptest! {
    #[test]
    fn requests_read_back(id: u64, ask in ask()) {
        let request = Request { id, ask };
        let line = request.line();
        prop_assert_eq!(line.matches('\n').count(), 1);
        prop_assert_eq!(Request::parse(line.as_bytes()).unwrap(), request);
    }

    #[test]
    fn messages_read_back(id: Option<u64>, event in event()) {
        let message = Message { id, event };
        let line = message.line();
        prop_assert_eq!(line.matches('\n').count(), 1);
        prop_assert_eq!(Message::parse(line.as_bytes()).unwrap(), message);
    }

    #[test]
    fn no_line_panics(line: Vec<u8>) {
        let _ = Request::parse(&line);
        let _ = Message::parse(&line);
        let shown = shortened(&line);
        prop_assert!(!shown.is_empty() && !shown.contains(char::is_control));
    }
}

#[test]
fn lines_are_as_they_are_documented() {
    let request = |line: &str| Request::parse(line.as_bytes()).unwrap().ask;
    let start = request(r#"{"id":7,"start":["recv","239.1.2.3:5001"]}"#);
    assert_eq!(start, Ask::Start(vec!["recv".to_owned(), "239.1.2.3:5001".to_owned()]));
    assert_eq!(request(r#"{"stop":true,"id":7}"#), Ask::Stop(Yes));
    let groups = Groups { groups: vec!["239.1.2.3:5001".to_owned()], rate: None };
    assert_eq!(request(r#"{"id":8,"join":{"groups":["239.1.2.3:5001"]}}"#), Ask::Join(groups));
    let spec = WatchSpec { interface: "wr0".to_owned(), port: 5001, groups: Vec::new() };
    assert_eq!(request(r#"{"id":8,"watch":{"interface":"wr0","port":5001}}"#), Ask::Watch(spec));
    let line = Message { id: Some(7), event: Event::End { status: 0 } }.line();
    assert_eq!(line, "{\"id\":7,\"event\":\"end\",\"status\":0}\n");
    let hello = Message { id: None, event: Event::Hello(Hello::read().unwrap()) };
    assert!(hello.line().starts_with(r#"{"event":"hello","protocol":1,"#));
    assert_eq!(Message::parse(hello.line().as_bytes()).unwrap(), hello);
}

#[test]
fn errors_say_the_same_on_the_other_side() {
    let error = Error::environment("wr0: no packet socket")
        .because(std::io::Error::from_raw_os_error(libc::EPERM))
        .fix("run the agent as root");
    let failure = Failure::from(&error);
    assert_eq!((failure.to_string(), failure.status()), (error.to_string(), 4));
    let there = failure.at("m1");
    assert_eq!((there.to_string(), there.kind), (format!("m1: {error}"), error.kind));
}
