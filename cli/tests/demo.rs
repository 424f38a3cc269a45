//! What the demonstration promises: every packet accounted for, and nothing left behind, however it ends.

mod common;

use std::collections::BTreeSet;
use std::io::{BufRead, BufReader, Read};
use std::process::{Child, Command, Stdio};

use common::{Nobody, eventually, run, wait, wirerate};
use serde_json::Value;

/// Slow enough that nothing paced is lost on a busy machine.
const PPS: [&str; 2] = ["--pps", "4000"];

fn output_of(program: &str, args: &str) -> String {
    let mut command = Command::new(program);
    command.args(args.split_whitespace());
    let ended = run(command);
    assert_eq!(ended.code, 0, "{program} {args}: {}", ended.stderr);
    ended.stdout
}

/// bpftool gives up when what it is listing goes away under it; then it is asked again.
fn listed_by_bpftool(what: &str) -> Value {
    let mut listed = None;
    eventually("bpftool lists everything", || {
        let output = Command::new("bpftool").args(["-j", what, "list"]).output().expect("it is installed");
        listed = output.status.success().then(|| serde_json::from_slice(&output.stdout).expect("JSON"));
        listed.is_some()
    });
    listed.expect("eventually")
}

/// What the demonstration could leave behind.
struct Traces {
    /// Named namespaces, interfaces, mounted namespaces.
    here: [String; 3],
    /// eBPF programs and links of the whole machine, by number. No number is used twice.
    ebpf: BTreeSet<(&'static str, u64)>,
}

impl Traces {
    fn look() -> Self {
        let mounts = std::fs::read_to_string("/proc/self/mountinfo").unwrap();
        let namespaces =
            mounts.lines().filter(|l| l.contains(" nsfs ")).map(|l| l.to_owned() + "\n").collect();
        let mut ebpf = BTreeSet::new();
        // Not everywhere installed; what it shows is gone with the interfaces and the process anyway.
        if Command::new("bpftool").arg("version").output().is_ok_and(|o| o.status.success()) {
            for what in ["prog", "link"] {
                let list = listed_by_bpftool(what);
                let ids = list.as_array().into_iter().flatten().filter_map(|p| p["id"].as_u64());
                ebpf.extend(ids.map(|id| (what, id)));
            }
        }
        Self { here: [output_of("ip", "netns list"), output_of("ip", "link"), namespaces], ebpf }
    }

    /// Waits until all is as it was; what others add meanwhile is theirs, and `middle` was seen in the middle.
    fn vanish(&self, middle: &Self) {
        eventually("namespaces and interfaces are as before", || Self::look().here == self.here);
        eventually("no eBPF program or link is left", || {
            let now = Self::look().ebpf;
            !middle.ebpf.difference(&self.ebpf).any(|one| now.contains(one))
        });
    }
}

fn number(value: &Value, pointer: &str) -> u64 {
    value.pointer(pointer).and_then(Value::as_u64).unwrap_or_else(|| panic!("{pointer}: {value}"))
}

/// Every scene accounts for every packet; returns datapath and rate of each.
fn adds_up(demo: &Value, paced_loses_nothing: bool) -> Vec<(String, String)> {
    assert_eq!(demo["schema"], "wirerate.demo/1");
    let scenes = demo["scenes"].as_array().expect("scenes");
    let mut seen = Vec::new();
    for scene in scenes {
        let (backend, rate) = (scene["backend"].as_str().unwrap(), scene["rate"].as_str().unwrap());
        let at = format!("{backend} at {rate}");
        let sent = number(scene, "/sender/tx/packets");
        let members = scene["members"].as_array().unwrap();
        assert_eq!(members.len(), 2);
        for member in members {
            let path = &member["path"];
            assert_eq!(number(path, "/sent"), sent, "{at}");
            let received = number(path, "/received");
            assert_eq!(received, number(member, "/report/rx/unique"), "{at}");
            let drops: u64 = path["drops"].as_array().unwrap().iter().map(|d| number(d, "/packets")).sum();
            let sum =
                i128::from(received) + i128::from(drops) + i128::from(path["unaccounted"].as_i64().unwrap());
            assert_eq!(sum, i128::from(sent), "{at}: {path}");
            assert!(number(member, "/port_packets") >= received, "{at}: {member}");
            if rate != "max" && paced_loses_nothing {
                assert_eq!(received, sent, "{at}: {path}");
            }
        }
        seen.push((backend.to_owned(), rate.to_owned()));
    }
    seen
}

#[test]
fn both_halves_account_for_every_packet() {
    common::require_root!();
    let before = Traces::look();
    let mut command = wirerate(&["demo", "--duration", "500ms", "--json"]);
    command.args(PPS);
    let ended = run(command);
    ended.expect(0, &[]);
    let demo = ended.json();
    let scenes = adds_up(&demo, true);
    let everything_heard = |scene: &Value| {
        number(scene, "/sender/tx/packets") > 0
            && scene["members"].as_array().unwrap().iter().all(|m| number(m, "/path/received") > 0)
    };
    assert!(demo["scenes"].as_array().unwrap().iter().all(everything_heard), "{demo}");
    let wanted = [("uring", "4kpps"), ("uring", "max"), ("afxdp", "4kpps"), ("afxdp", "max")];
    assert_eq!(scenes, wanted.map(|(b, r)| (b.to_owned(), r.to_owned())));
    before.vanish(&Traces::look());
}

#[test]
fn a_person_sees_one_table() {
    common::require_root!();
    let mut command = wirerate(&["demo", "--duration", "200ms", "--quiet"]);
    command.args(PPS);
    let ended = run(command);
    ended.expect(0, &[]);
    assert_eq!(ended.stderr, "", "--quiet");
    for word in
        ["datapath", "sent", "received", "unaccounted", "uring", "copy, native", "10.77.0.11", "10.77.0.12"]
    {
        assert!(ended.stdout.contains(word), "{word}: {}", ended.stdout);
    }
    let width = ended.stdout.lines().filter(|l| l.starts_with('│')).map(|l| l.chars().count());
    assert_eq!(width.collect::<BTreeSet<_>>().len(), 1, "a table with straight edges:\n{}", ended.stdout);
}

/// A demonstration that has come to the scene which begins with `scene`.
fn started(options: &[&str], scene: &str) -> (Child, BufReader<std::process::ChildStderr>) {
    let mut child = wirerate(&["demo"])
        .args(options)
        .args(PPS)
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    let mut progress = BufReader::new(child.stderr.take().unwrap());
    let mut line = String::new();
    while !line.starts_with(scene) {
        line.clear();
        assert!(progress.read_line(&mut line).unwrap() > 0, "it ended before {scene}");
    }
    (child, progress)
}

#[test]
fn killed_it_leaves_nothing() {
    common::require_root!();
    for (duration, scene) in [("1h", "uring at 4kpps"), ("300ms", "afxdp at max")] {
        let before = Traces::look();
        let (mut child, _progress) = started(&["--duration", duration], scene);
        let middle = Traces::look();
        child.kill().unwrap();
        wait(&mut child);
        before.vanish(&middle);
    }
}

#[test]
fn interrupted_it_shows_what_was_complete() {
    common::require_root!();
    let before = Traces::look();
    let (mut child, mut progress) = started(&["--duration", "1s", "--json"], "uring at max");
    let middle = Traces::look();
    common::signal(child.id(), "INT");
    let status = wait(&mut child);
    let (mut said, mut result) = (String::new(), String::new());
    progress.read_to_string(&mut said).unwrap();
    child.stdout.take().unwrap().read_to_string(&mut result).unwrap();
    common::assert_no_panic(&said);
    assert_eq!(status.code(), Some(0), "{said}");
    let scenes = adds_up(&serde_json::from_str(&result).unwrap(), true);
    assert_eq!(scenes[0], ("uring".to_owned(), "4kpps".to_owned()));
    assert!(scenes.len() <= 2, "it went on: {scenes:?}");
    before.vanish(&middle);
}

#[test]
fn an_ordinary_user_sees_the_socket_half() {
    common::require_root!();
    let user = Nobody::new();
    let nobody = |options: &[&str]| {
        let mut command = user.become_by(Command::new("setpriv"));
        command.args(["demo", "--duration", "200ms"]).args(PPS).args(options);
        run(command)
    };
    let before = Traces::look();
    let ended = nobody(&["--json"]);
    if ended.code == 4 && ended.stderr.contains("user namespace") {
        ended.expect(4, &["run as root: sudo wirerate demo"]);
        return common::skipped("user namespaces for ordinary users");
    }
    ended.expect(0, &["As root", "AF_XDP"]);
    let scenes = adds_up(&ended.json(), false);
    assert_eq!(scenes.len(), 2);
    assert!(scenes.iter().all(|(backend, _)| backend != "afxdp"), "{scenes:?}");
    let ended = nobody(&[]);
    ended.expect(0, &[]);
    assert!(ended.stdout.contains("As root (sudo wirerate demo)"), "{}", ended.stdout);
    before.vanish(&Traces::look());
}
