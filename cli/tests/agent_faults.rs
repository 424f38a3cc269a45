//! Agents that cannot be started, die, hang or answer nonsense, and near ends that go away: it is said what is wrong, and nothing is left behind.

use std::fs;
use std::io::{BufRead, BufReader, Write};
use std::path::Path;
use std::process::{Child, ChildStdin, ChildStdout, Stdio};
use std::time::Duration;

use serde_json::Value;
use wirerate_engine::agent::protocol::{Event, Hello, Message};
use wirerate_engine::lab::{INTERFACE, Lab};
use wirerate_engine::{Error, Kind};

mod common;

use common::PATIENCE;
use common::agents::{agent_on, launch, scripted};

const SHORT: Duration = Duration::from_millis(300);

#[track_caller]
fn says(error: &Error, kind: Kind, words: &[&str]) {
    assert_eq!(error.kind, kind, "{error}");
    let text = error.to_string();
    for word in ["m1: "].iter().chain(words) {
        assert!(text.contains(word), "{word:?} is missing in: {text}");
    }
}

/// The first line of an agent, for scripts that play one.
fn hello() -> String {
    let line = Message { id: None, event: Event::Hello(Hello::read().unwrap()) }.line();
    assert!(!line.contains('\''));
    format!("echo '{}'", line.trim())
}

/// Whether the process whose number is in the file has ended.
fn has_ended(file: &Path) -> bool {
    let number = fs::read_to_string(file).unwrap();
    let state = fs::read_to_string(format!("/proc/{}/stat", number.trim())).unwrap_or_default();
    // One that nobody has reaped yet has ended, too.
    state.is_empty() || state.contains(") Z ")
}

#[test]
fn what_never_was_an_agent() {
    let failed = |command: &str| launch("m1").command_line(command).unwrap_err();
    says(
        &failed("/nonexistent/ssh host wirerate agent"),
        Kind::Environment,
        &["`/nonexistent/ssh host", "started"],
    );
    says(&failed("ssh 'host"), Kind::Usage, &["quote"]);
    says(&failed("  "), Kind::Usage, &["empty"]);
    // A shell's words, and no shell: the variable is none.
    let error = failed("sh -c 'echo \"$0 is no agent\" >&2; exit 7' '$HOME'");
    says(&error, Kind::Environment, &["exit status: 7", "it said: $HOME is no agent"]);
    for (script, words) in [
        (
            "echo 'Welcome to host2!'; exec cat",
            &["what no agent says", "Welcome to host2!", "login script"][..],
        ),
        ("printf 'x%.0s' $(seq 300); echo; exec cat", &["xxxx…"]),
        ("echo '{\"event\":\"end\",\"id\":1,\"status\":0}'; exec cat", &["hello comes first"]),
        (
            "echo '{\"event\":\"hello\",\"protocol\":0,\"version\":\"0.0.9\"}'; exec cat",
            &["wirerate 0.0.9", "an older protocol (0; here 1)", "same version at both ends"],
        ),
        ("echo '{\"event\":\"hello\",\"protocol\":9}'; exec cat", &["a newer protocol (9"]),
        ("kill -9 $$", &["signal: 9"]),
        ("exec 1>&-; sleep 60", &["closed its standard output"]),
    ] {
        says(&scripted(script, PATIENCE).unwrap_err(), Kind::Environment, words);
    }
}

#[test]
fn what_says_nothing_is_ended_with_all_that_it_started() {
    let directory = tempfile::tempdir().unwrap();
    let file = |name: &str| directory.path().join(name);
    let [outer, inner] = ["outer", "inner"].map(file);
    let script = format!(
        "trap '' TERM; echo waiting for a password >&2; sleep 600 & echo $! > {}; echo $$ > {}; wait; wait",
        inner.display(),
        outer.display()
    );
    let error = scripted(&script, Duration::from_secs(2)).unwrap_err();
    says(&error, Kind::Environment, &["said nothing for 2 s", "waiting for a password", "\"hello\""]);
    assert!(has_ended(&outer));
    common::eventually("what it started has ended", || has_ended(&inner));
}

#[test]
fn what_breaks_on_the_way() {
    for (script, words) in [
        ("read line; echo no more memory >&2; exit 3", &["exit status: 3", "it said: no more memory"][..]),
        ("read line; kill -9 $$", &["signal: 9"]),
        ("read line; echo what; exec cat", &["what no agent says", ": what"]),
        (
            "read line; echo '{\"id\":1,\"event\":\"nonsense\"}'; exec cat",
            &["what no agent says", "nonsense"],
        ),
        ("read line; echo '{\"event\":\"ready\"}'; exec cat", &["no task"]),
    ] {
        let mut agent = scripted(&format!("{}; {script}", hello()), PATIENCE).unwrap();
        let task = agent.start(&["recv", "127.0.0.1:5031"]).unwrap();
        says(&agent.ready(task, PATIENCE).unwrap_err(), Kind::Failed, words);
        // And so again, whatever is asked.
        says(&agent.report(task, PATIENCE).unwrap_err(), Kind::Failed, words);
        says(&agent.start(&["recv", "127.0.0.1:5031"]).unwrap_err(), Kind::Failed, words);
    }
    // What was told before the end is kept.
    let script = "read line; echo '{\"id\":1,\"event\":\"report\",\"report\":{\"a\":1}}'; echo '{\"id\":1,\"event\":\"end\",\"status\":0}'";
    let mut agent = scripted(&format!("{}; {script}", hello()), PATIENCE).unwrap();
    let task = agent.start(&["recv", "127.0.0.1:5031"]).unwrap();
    assert_eq!(agent.report(task, PATIENCE).unwrap()["a"], 1);
    says(&agent.ping(PATIENCE).unwrap_err(), Kind::Failed, &["exit status: 0"]);
}

#[test]
fn a_killed_and_a_hanging_agent() {
    let mut agent = launch("m1").command(common::wirerate(&["agent"])).unwrap();
    let task = agent.start(&["recv", "127.0.0.1:5032"]).unwrap();
    agent.ready(task, PATIENCE).unwrap();
    common::signal(agent.hello().pid, "KILL");
    says(&agent.report(task, PATIENCE).unwrap_err(), Kind::Failed, &["signal: 9 (SIGKILL)", "agent`"]);

    let mut agent = launch("m1").command(common::wirerate(&["agent"])).unwrap();
    let pid = agent.hello().pid;
    common::signal(pid, "STOP");
    says(&agent.ping(SHORT).unwrap_err(), Kind::Failed, &["does not answer after 0.3 s"]);
    drop(agent);
    assert!(!Path::new(&format!("/proc/{pid}")).exists());
}

/// An agent by its lines.
struct Bare {
    child: Child,
    stdin: ChildStdin,
    lines: BufReader<ChildStdout>,
}

impl Bare {
    fn start(mut command: std::process::Command) -> Self {
        let mut child = command.stdin(Stdio::piped()).stdout(Stdio::piped()).spawn().unwrap();
        let (stdin, stdout) = (child.stdin.take().unwrap(), child.stdout.take().unwrap());
        let mut agent = Self { child, stdin, lines: BufReader::new(stdout) };
        assert_eq!(agent.next()["event"], "hello");
        agent
    }

    fn say(&mut self, line: &str) {
        self.stdin.write_all(line.as_bytes()).unwrap();
        self.stdin.write_all(b"\n").unwrap();
    }

    fn next(&mut self) -> Value {
        let mut line = String::new();
        self.lines.read_line(&mut line).unwrap();
        serde_json::from_str(&line).unwrap_or_else(|e| panic!("{e}: {line}"))
    }
}

#[test]
fn requests_that_are_none_are_told_of() {
    let mut agent = Bare::start(common::wirerate(&["agent"]));
    let long = "x".repeat(2 << 20);
    for (line, says) in [
        ("nonsense", "not a request"),
        ("{\"id\":1}", "not a request"),
        ("{\"id\":1,\"dance\":true}", "not a request"),
        ("{\"id\":1,\"stop\":false}", "has to be true"),
        ("{\"id\":-1,\"stop\":true}", "not a request"),
        ("{\"id\":1,\"start\":\"recv\"}", "not a request"),
        (&"[".repeat(100_000), "not a request"),
        (&long, "a request of more than 1048576 bytes: xxx"),
        ("{\"id\":1,\"stop\":true}", "there is no task 1"),
        ("{\"id\":1,\"look\":true}", "there is no task 1"),
        ("\u{0}", "not a request"),
    ] {
        agent.say(line);
        let event = agent.next();
        assert_eq!((&event["event"], &event["kind"]), (&"error".into(), &"usage".into()), "{event}");
        let text = event["text"].as_str().unwrap();
        assert!(text.contains(says) && text.len() < 1000, "{text}");
    }
    agent.say("{\"id\":5,\"start\":[\"recv\",\"127.0.0.1:5033\"]}");
    assert_eq!(agent.next()["event"], "ready");
    agent.say("{\"id\":5,\"start\":[\"recv\",\"127.0.0.1:5034\"]}");
    assert!(agent.next()["text"].as_str().unwrap().contains("a task 5 already"));
    agent.say("{\"id\":5,\"look\":true}");
    assert!(agent.next()["text"].as_str().unwrap().contains("no watch"));
    agent.say("{\"id\":6,\"ping\":true}");
    assert_eq!(agent.next()["event"], "pong");
    // Its own end: the report of what ran, and nothing else.
    drop(agent.stdin);
    let mut rest = Vec::new();
    for line in agent.lines.lines() {
        rest.push(serde_json::from_str::<Value>(&line.unwrap()).unwrap()["event"].clone());
    }
    rest.retain(|event| event != "warning");
    assert_eq!(rest, ["report", "end"]);
    assert!(common::wait(&mut agent.child).success());
}

#[test]
fn memberships_end_with_the_near_end() {
    common::require_root!();
    let lab = Lab::bridge(1).unwrap();
    let host = &lab.receivers[0];
    let groups = ["239.5.0.1", "239.5.0.2", "ff15::5:1", "ff15::5:2"];
    let joined = || {
        let listed = common::ip(&host.netns, &format!("maddress show dev {INTERFACE}"));
        groups.iter().filter(|group| listed.split_whitespace().any(|word| word == **group)).count()
    };
    let requests = [
        format!("{{\"id\":1,\"watch\":{{\"interface\":\"{INTERFACE}\",\"port\":5001}}}}"),
        "{\"id\":1,\"join\":{\"groups\":[\"239.5.0.1:5001\",\"[ff15::5:1]:5001\"]}}".to_owned(),
        format!("{{\"id\":2,\"start\":[\"recv\",\"239.5.0.2:5001\",\"--iface\",\"{INTERFACE}\"]}}"),
        format!("{{\"id\":3,\"start\":[\"recv\",\"[ff15::5:2]:5001\",\"--iface\",\"{INTERFACE}\"]}}"),
    ];
    for how in ["closes its end", "TERM", "KILL", "is dropped"] {
        let mut command = host.command(common::WIRERATE);
        command.arg("agent");
        if how == "is dropped" {
            let mut agent = agent_on(host, "m1");
            for group in groups {
                let task = agent
                    .start(&[
                        "recv",
                        &format!(
                            "udp://{}:5001",
                            if group.contains(':') { format!("[{group}]") } else { group.to_owned() }
                        ),
                        "--iface",
                        INTERFACE,
                    ])
                    .unwrap();
                agent.ready(task, PATIENCE).unwrap();
            }
            assert_eq!(joined(), 4);
            drop(agent);
            assert_eq!(joined(), 0, "the near end {how}");
            continue;
        }
        let mut agent = Bare::start(command);
        requests.iter().for_each(|request| agent.say(request));
        common::eventually("all groups are joined", || joined() == 4);
        match how {
            "closes its end" => drop(agent.stdin),
            signal => common::signal(agent.child.id(), signal),
        }
        let status = common::wait(&mut agent.child);
        assert_eq!(status.success(), how != "KILL", "{how}: {status}");
        assert_eq!(joined(), 0, "{how}");
    }
}
