//! What `wirerate iperf3` prints beside what the real iperf3 prints of the same kind of test, and scripts that were written for the real one.

mod common;

use std::collections::BTreeMap;
use std::fs;
use std::process::{Command, Stdio};

use serde_json::Value;

use common::eventually;
use common::iperf3::Who::{Ours, Real};
use common::iperf3::{Server, free_port, listening, pair, python_module};

/// A short test of small datagrams, at a rate that any machine holds.
const SHORT: [&str; 7] = ["-u", "-b", "800K", "-l", "1000", "-t", "1"];

fn short<'a>(more: &[&'a str]) -> Vec<&'a str> {
    [&SHORT[..], more].concat()
}

/// Keys of ours that 3.12 has not: those of 3.22. docs/iperf3.md lists them.
const NEWER: [&str; 7] = [
    "start.timestamp.timemillisecs",
    "start.fq_rate",
    "start.test_start.bidir",
    "start.test_start.fqrate",
    "start.test_start.interval",
    "start.test_start.gso",
    "start.test_start.gro",
];

/// Every key with the type of its value; the elements of a list are one.
fn keys(value: &Value, path: &str, into: &mut BTreeMap<String, &'static str>) {
    let kind = match value {
        Value::Null => "null",
        Value::Bool(_) => "bool",
        Value::Number(_) => "number",
        Value::String(_) => "string",
        Value::Array(_) => "array",
        Value::Object(_) => "object",
    };
    let before = into.insert(path.to_owned(), kind);
    assert!(before.is_none_or(|before| before == kind), "{path} is {before:?} and {kind}");
    match value {
        Value::Object(of) => of.iter().for_each(|(key, value)| {
            let dot = if path.is_empty() { "" } else { "." };
            keys(value, &format!("{path}{dot}{key}"), into);
        }),
        Value::Array(of) => of.iter().for_each(|value| keys(value, &format!("{path}[]"), into)),
        _ => {}
    }
}

fn keys_of(value: &Value) -> BTreeMap<String, &'static str> {
    let mut all = BTreeMap::new();
    keys(value, "", &mut all);
    all
}

#[test]
fn every_key_of_the_real_json_is_in_ours_and_nothing_undocumented() {
    for more in [
        &["-J"][..],
        &["-J", "-R"],
        &["-J", "--bidir", "-P", "2"],
        &["-J", "-P", "2", "-O", "1"],
        &["-J", "-T", "title", "--extra-data", "more", "--get-server-output"],
    ] {
        let args = short(more);
        for server in [&["-J"][..], &[]] {
            let (real_client, real_server) = pair(Real, server, Real, &args);
            let (client, ours) = pair(Ours, server, Ours, &args);
            let mut both = vec![("client", real_client.json(), client.json())];
            if !server.is_empty() {
                both.push(("server", real_server.json(), ours.json()));
            }
            for (role, real, ours) in both {
                let (real, ours) = (keys_of(&real), keys_of(&ours));
                for (key, kind) in &real {
                    assert_eq!(ours.get(key), Some(kind), "{role} {more:?}: {key}");
                }
                let known =
                    |key: &str| real.contains_key(key) || NEWER.iter().any(|newer| key.ends_with(newer));
                let more_of_ours: Vec<_> = ours.keys().filter(|key| !known(key)).collect();
                assert!(more_of_ours.is_empty(), "{role} {more:?}: {more_of_ours:?}");
            }
            assert_eq!((client.code, ours.code), (0, 0));
        }
    }
}

/// Lines without what differs from one test to the next: numbers, units, and how many intervals there are: a short one at the end is a matter of luck.
fn kinds(text: &str) -> Vec<String> {
    let mut kinds: Vec<String> = Vec::new();
    for line in text.lines() {
        let words: Vec<String> = line
            .split_whitespace()
            .map(|word| {
                let mut kind = String::new();
                for c in word.chars() {
                    match c {
                        '0'..='9' | '.' | '+' => {
                            if !kind.ends_with('#') {
                                kind.push('#');
                            }
                        }
                        c => kind.push(c),
                    }
                }
                for prefix in ["K", "M"] {
                    for unit in ["Bytes", "bits/sec"] {
                        if kind == format!("{prefix}{unit}") {
                            unit.clone_into(&mut kind);
                        }
                    }
                }
                kind
            })
            .collect();
        let line = words.join(" ").replace("[ ", "[");
        let interval = line.contains("] #-# sec");
        let summary = line.ends_with("sender") || line.ends_with("receiver");
        if interval && !summary && kinds.contains(&line) || kinds.last() == Some(&line) {
            continue;
        }
        kinds.push(line);
    }
    kinds
}

#[test]
fn text_is_that_of_the_real_one_line_by_line() {
    for (more, server) in [
        (&[][..], &[][..]),
        (&["-R"], &[]),
        (&["--bidir", "-O", "1"], &[]),
        (&["-T", "title", "-f", "k"], &["-f", "K"]),
        (&["--get-server-output"], &[]),
    ] {
        let args = short(more);
        let (real_client, real_server) = pair(Real, server, Real, &args);
        let (client, ours) = pair(Ours, server, Ours, &args);
        assert_eq!(kinds(&client.stdout), kinds(&real_client.stdout), "{more:?}\n{}", client.stdout);
        assert_eq!(kinds(&ours.stdout), kinds(&real_server.stdout), "{more:?}\n{}", ours.stdout);
        assert_eq!((client.code, ours.code, client.stderr.as_str()), (0, 0, ""), "{}", ours.stderr);
    }
}

#[test]
fn verbose_lines_and_time_stamps() {
    let (client, server) = pair(Ours, &["-V"], Ours, &short(&["-V", "--timestamps=%Y|"]));
    for line in [
        "|iperf 3.22 (wirerate ",
        "|Control connection MSS ",
        "|Time: ",
        " GMT\n",
        "|      Cookie: ",
        "|      Target Bitrate: 800000\n",
        "|Starting Test: protocol: UDP, 1 streams, 1000 byte blocks, omitting 0 seconds, 1 second test, tos 0\n",
        "|Test Complete. Summary Results:\n",
        "|CPU Utilization: local/sender ",
    ] {
        assert!(client.stdout.contains(line), "{line:?} is missing in:\n{}", client.stdout);
    }
    assert!(client.stdout.lines().all(|line| line.starts_with("20")), "{}", client.stdout);
    assert!(server.stdout.contains("(sender statistics not available)\n"), "{}", server.stdout);
}

#[test]
fn ctrl_c_gives_the_summary_so_far() {
    for (json, reverse) in [(false, false), (false, true), (true, false)] {
        let log = tempfile::NamedTempFile::new().expect("a file");
        let server = Server::start(Ours, &["-i", "0.2", "--logfile", log.path().to_str().expect("UTF-8")]);
        let port = server.port.to_string();
        let mut args =
            vec!["-c", "127.0.0.1", "-p", &port, "-u", "-b", "800K", "-l", "1000", "-t", "600", "-i", "0.2"];
        args.extend(json.then_some("-J"));
        args.extend(reverse.then_some("-R"));
        let child = Ours
            .command(&args)
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .expect("the program was built");
        // What a server says goes to its log, which can be looked into while it runs.
        let said = || fs::read_to_string(log.path()).expect("its log");
        eventually("data flows", || said().contains(" sec "));
        common::signal(child.id(), "INT");
        let output = child.wait_with_output().expect("it ends");
        let (stdout, stderr) =
            (String::from_utf8(output.stdout).unwrap(), String::from_utf8(output.stderr).unwrap());
        let words = "interrupt - the client has terminated by signal Interrupt(2)";
        // As 3.18 and later: who ends a test wanted to.
        assert_eq!(output.status.code(), Some(0), "{stderr}");
        if json {
            let report: Value = serde_json::from_str(&stdout).expect("JSON");
            assert_eq!(report["error"], words);
            assert!(report["end"]["sum_sent"]["packets"].as_u64() > Some(0), "{stdout}");
        } else {
            assert_eq!(stderr, format!("iperf3: {words}\n"));
            let who = if reverse { "receiver" } else { "sender" };
            assert!(stdout.lines().any(|l| l.ends_with(who) && !l.contains(" 0/0 ")), "{stdout}");
            assert!(!stdout.contains("iperf Done."), "{stdout}");
        }
        eventually("the server knows", || said().contains("iperf3: the client has terminated\n"));
        eventually("the server waits for the next", || said().contains("(test #2)"));
        server.stop("INT").expect(0, &[]);
        let said = said();
        assert!(
            said.contains("iperf3: interrupt - the server has terminated by signal Interrupt(2)"),
            "{said}"
        );
    }
}

#[test]
fn a_log_a_file_with_the_number_and_the_background() {
    let folder = tempfile::tempdir().expect("a folder");
    let (log, number) = (folder.path().join("log"), folder.path().join("pid"));
    let port = free_port();
    let text = port.to_string();
    let (log, pid) = (log.to_str().unwrap(), number.to_str().unwrap());
    let args = ["-s", "-D", "-1", "-p", &text, "--logfile", log, "-I", pid];
    // It comes back at once, and the server goes on.
    let started = Ours.run(&args);
    assert_eq!((started.code, started.stdout.as_str(), started.stderr.as_str()), (0, "", ""));
    eventually("the daemon listens", || listening(port));
    let process = fs::read_to_string(pid).expect("its number");
    assert!(fs::metadata(format!("/proc/{}", process.trim())).is_ok(), "{process}");
    let client = Real.run(&["-c", "127.0.0.1", "-p", &text, "-u", "-b", "800K", "-l", "1000", "-t", "1"]);
    assert_eq!(client.code, 0, "{}", client.stderr);
    eventually("its number is removed", || !number.exists());
    let said = fs::read_to_string(log).expect("its log");
    assert!(said.contains(&format!("Server listening on {port} (test #1)")), "{said}");
    assert!(said.lines().any(|line| line.ends_with("receiver")), "{said}");
}

#[test]
fn each_side_gives_the_other_its_output() {
    for (servers, clients) in [(Ours, Real), (Real, Ours)] {
        let (client, server) = pair(servers, &[], clients, &short(&["--get-server-output"]));
        let printed = client.stdout.split("\nServer output:\n").nth(1).expect("the server's");
        let lines = printed.trim_end().trim_end_matches("iperf Done.").trim_end();
        assert!(server.stdout.trim_end().ends_with(lines), "{}\n---\n{}", server.stdout, client.stdout);
        let (client, server) = pair(servers, &["-J"], clients, &short(&["-J", "--get-server-output"]));
        let (client, server) = (client.json(), server.json());
        let given = &client["server_output_json"];
        for key in ["start", "intervals"] {
            assert_eq!(keys_of(&given[key]), keys_of(&server[key]), "{key}");
        }
        assert_eq!(given["end"]["sum_received"]["packets"], server["end"]["sum_received"]["packets"]);
    }
}

#[test]
fn several_clients_at_once_are_told_apart() {
    let server = Server::start(Ours, &[]);
    let port = server.port.to_string();
    let clients: Vec<_> = [Real, Ours, Real]
        .iter()
        .map(|who| {
            let args = ["-c", "127.0.0.1", "-p", &port, "-u", "-b", "800K", "-l", "1000", "-t", "2", "-J"];
            who.command(&args).stdout(Stdio::piped()).spawn().expect("it is installed")
        })
        .collect();
    for client in clients {
        let output = client.wait_with_output().expect("it ends");
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stdout));
        let report: Value = serde_json::from_slice(&output.stdout).expect("JSON");
        assert!(report["end"]["sum_received"]["packets"].as_u64() > Some(0), "{report}");
    }
    let said = server.stop("TERM");
    said.expect(0, &["interrupt - the server has terminated by signal Terminated(15)"]);
    let summaries = said.stdout.lines().filter(|line| line.ends_with("receiver")).count();
    assert_eq!(summaries, 3, "{}", said.stdout);
    assert!(said.stdout.lines().any(|line| line.starts_with("#2: [")), "{}", said.stdout);
}

/// As somebody wrote it for the real one.
const JQ: &str = r#"
  .start.test_start.protocol as $p
  | .end
  | "\($p) \(.sum_received.bits_per_second / 1e6 | floor) Mbit/s, lost \(.sum.lost_packets)/\(.sum.packets) (\(.sum.lost_percent)%), jitter \(.sum.jitter_ms | type)",
    (.streams[] | .udp | "socket \(.socket | type) \(.bytes)"),
    "cpu \(.cpu_utilization_percent.host_total | type)"
"#;

#[test]
fn a_script_for_jq_works_unchanged() {
    let mut said = Vec::new();
    for who in [Real, Ours] {
        let (client, _) =
            pair(who, &[], who, &["-u", "-n", "100K", "-l", "1000", "-b", "2M", "-P", "2", "-J"]);
        let file = tempfile::NamedTempFile::new().expect("a file");
        fs::write(file.path(), &client.stdout).expect("written");
        let mut jq = Command::new("jq");
        jq.args(["-r", JQ]).arg(file.path());
        let ended = common::run(jq);
        assert_eq!(ended.code, 0, "{}", ended.stderr);
        said.push(ended.stdout);
    }
    let kinds = |text: &str| kinds(text).join("\n");
    assert_eq!(kinds(&said[1]), kinds(&said[0]), "{}", said[1]);
    assert!(said[1].starts_with("UDP "), "{}", said[1]);
}

/// As the module's own documentation has it.
const PYTHON_CLIENT: &str = "
import iperf3

client = iperf3.Client()
client.duration = 1
client.server_hostname = '127.0.0.1'
client.port = PORT
client.protocol = 'udp'
client.blksize = 1200
client.bandwidth = 800000

print('Connecting to {0}:{1}'.format(client.server_hostname, client.port))
result = client.run()

if result.error:
    print(result.error)
else:
    print('')
    print('Test completed:')
    print('  started at         {0}'.format(result.time))
    print('  bytes transmitted  {0}'.format(result.bytes))
    print('  jitter (ms)        {0}'.format(result.jitter_ms))
    print('  avg cpu load       {0}%\\n'.format(result.local_cpu_total))
    print('Average transmitted data in all sorts of networky formats:')
    print('  bits per second      (bps)   {0}'.format(result.bps))
    print('  Kilobits per second  (kbps)  {0}'.format(result.kbps))
    print('  Megabits per second  (Mbps)  {0}'.format(result.Mbps))
    print('  KiloBytes per second (kB/s)  {0}'.format(result.kB_s))
    print('  MegaBytes per second (MB/s)  {0}'.format(result.MB_s))
";

/// Reads a file of `-J`.
const PYTHON_RESULT: &str = "
import sys, iperf3
result = iperf3.TestResult(open(sys.argv[1]).read())
assert result.error is None, result.error
assert result.protocol == 'UDP' and result.type == sys.argv[2] and result.reverse is False
assert result.num_streams == 1 and result.blksize == 1000 and result.omit == 0
assert result.packets > 0 and result.bytes == result.packets * 1000 and result.lost_packets == 0
assert result.version.startswith('iperf 3.') and result.local_host == '127.0.0.1'
print(result.timesecs, result.Mbps, result.lost_percent, result.seconds, result.remote_cpu_total)
";

/// The other role.
const PYTHON_SERVER: &str = "
import iperf3
server = iperf3.Server()
server.bind_address = '127.0.0.1'
server.port = PORT
server.verbose = False
result = server.run()
print(result.error, result.protocol, result.packets)
";

fn python(script: &str, module: &std::path::Path) -> Command {
    let mut command = Command::new("python3");
    command.arg("-c").arg(script).env("PYTHONPATH", module);
    command
}

#[test]
fn iperf3_python_works_unchanged() {
    let Some(module) = python_module() else { return common::skipped("PyPI's iperf3 0.1.11") };
    // Its client, on libiperf, against our server.
    let server = Server::start(Ours, &["-1"]);
    let script = PYTHON_CLIENT.replace("PORT", &server.port.to_string());
    let ended = common::run(python(&script, &module));
    assert_eq!(ended.code, 0, "{}", ended.stderr);
    assert!(ended.stdout.contains("Test completed:"), "{}{}", ended.stdout, ended.stderr);
    assert!(server.end().stdout.lines().any(|line| line.ends_with("receiver")));

    // Our output in its hands.
    let (client, server) = pair(Ours, &["-J"], Ours, &short(&["-J"]));
    for (role, output) in [("client", client.stdout), ("server", server.stdout)] {
        let file = tempfile::NamedTempFile::new().expect("a file");
        fs::write(file.path(), output).expect("written");
        let mut command = python(PYTHON_RESULT, &module);
        command.arg(file.path()).arg(role);
        let ended = common::run(command);
        assert_eq!(ended.code, 0, "{role}: {}", ended.stderr);
    }

    // Its server, on libiperf, and our client.
    let port = free_port();
    let server = Server::of(python(&PYTHON_SERVER.replace("PORT", &port.to_string()), &module), port);
    let client = Ours.run(&[&["-c", "127.0.0.1", "-p", &port.to_string()], &short(&[])[..]].concat());
    assert_eq!(client.code, 0, "{}", client.stderr);
    let said = server.end();
    assert!(said.stdout.contains("None UDP "), "{}{}", said.stdout, said.stderr);
}
