//! `wirerate drops --watch`: the numbers on the screen are those of the kernel's own counter, and the terminal is left as it was.

mod common;

use std::io::{BufRead, BufReader, Read, Write};
use std::net::UdpSocket;
use std::process::{Child, Stdio};
use std::sync::mpsc::{Receiver, channel};
use std::thread;

use common::scene::snmp;
use common::{Running, eventually};
use serde_json::Value;
use wirerate_engine::lab::{Host, INTERFACE, Lab};

/// Another screen without a cursor, and back.
const ENTER: &str = "\x1b[?1049h\x1b[?25l";
const LEAVE: &str = "\x1b[?25h\x1b[?1049l";

/// Sends datagrams that nobody wants, each by a socket of its own: the answer stays on it as an error.
fn unwanted(lab: &Lab, count: usize) {
    let target = (lab.receivers[0].ipv4, 4444);
    lab.sender.netns.run(|| {
        for _ in 0..count {
            UdpSocket::bind("0.0.0.0:0").unwrap().send_to(&[7; 100], target).unwrap();
        }
    });
}

/// The program on a terminal of its own.
struct Terminal {
    child: Child,
    output: Receiver<Vec<u8>>,
    said: String,
}

impl Terminal {
    fn open(host: &Host, columns: u32, environment: &str) -> Self {
        let line = format!(
            "stty cols {columns} rows 20; {environment} exec {} drops --watch --interval 100ms {INTERFACE}",
            common::WIRERATE
        );
        let mut child = host
            .command("script")
            .args(["--quiet", "--flush", "--return", "--command", &line, "/dev/null"])
            .env("TERM", "xterm")
            .env_remove("NO_COLOR")
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .expect("util-linux is installed");
        let mut stdout = child.stdout.take().unwrap();
        let (send, output) = channel();
        thread::spawn(move || {
            let mut buffer = [0; 4096];
            while let Ok(read @ 1..) = stdout.read(&mut buffer) {
                if send.send(buffer[..read].to_vec()).is_err() {
                    break;
                }
            }
        });
        Self { child, output, said: String::new() }
    }

    fn said(&mut self) -> &str {
        while let Ok(bytes) = self.output.try_recv() {
            self.said += &String::from_utf8_lossy(&bytes);
        }
        &self.said
    }

    /// The row of the last whole picture that has this word.
    fn row(&mut self, word: &str) -> Option<Vec<String>> {
        let pictures: Vec<&str> = self.said().split("\x1b[H").collect();
        let last = pictures.iter().rev().find(|picture| picture.contains("\x1b[J"))?;
        let row = last.lines().find(|line| line.contains(word))?;
        let plain = row.replace("\x1b[K", "").replace("\x1b[33m", "").replace("\x1b[0m", "");
        Some(plain.split_whitespace().map(str::to_owned).collect())
    }

    /// Ctrl-C; everything that it has said when it has ended.
    fn interrupt(mut self) -> String {
        self.child.stdin.take().unwrap().write_all(b"\x03").unwrap();
        let status = common::wait(&mut self.child);
        assert!(status.success(), "{status}");
        while let Ok(bytes) = self.output.recv() {
            self.said += &String::from_utf8_lossy(&bytes);
        }
        std::mem::take(&mut self.said)
    }
}

impl Drop for Terminal {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

#[test]
fn a_screen() {
    common::require_root!();
    for (columns, environment, coloured) in [(110, "", true), (45, "NO_COLOR=1", false)] {
        let lab = Lab::bridge(1).unwrap();
        let netns = &lab.receivers[0].netns;
        let before = snmp(netns, "Udp", "NoPorts");
        let mut terminal = Terminal::open(&lab.receivers[0], columns, environment);
        eventually("the first picture", || terminal.said().contains("wirerate drops"));
        unwanted(&lab, 37);
        eventually("all are on the screen", || {
            terminal.row("NO_SOCKET").is_some_and(|row| row.last().is_some_and(|packets| packets == "37"))
        });
        assert_eq!(snmp(netns, "Udp", "NoPorts") - before, 37);
        let row = terminal.row("NO_SOCKET").unwrap();
        if columns > 100 {
            assert_eq!(row[..5], ["kernel", "this", INTERFACE, "socket", "NO_SOCKET"], "{row:?}");
        } else {
            assert_eq!(row[..2], [INTERFACE, "NO_SOCKET"], "{row:?}");
        }
        let said = terminal.interrupt();
        assert_eq!((said.matches(ENTER).count(), said.matches(LEAVE).count()), (1, 1), "{said:?}");
        let (screen, after) = said.split_once(LEAVE).unwrap();
        assert!(screen.contains(ENTER));
        assert_eq!(screen.contains("\x1b[1m") || screen.contains("\x1b[33m"), coloured, "{screen:?}");
        let total =
            after.lines().find(|line| line.contains("NO_SOCKET")).unwrap_or_else(|| panic!("{after}"));
        assert!(total.split(|c: char| !c.is_ascii_digit()).any(|number| number == "37"), "{total}");
    }
}

#[test]
fn lines_where_there_is_no_terminal() {
    common::require_root!();
    let lab = Lab::bridge(1).unwrap();
    let mut command = lab.receivers[0].command(common::WIRERATE);
    command.args(["drops", "--watch", "--interval", "100ms", "--ready-fd", "2", INTERFACE]);
    let mut child = command.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
    child.stderr.as_mut().unwrap().read_exact(&mut [0]).expect("a byte when it counts");
    unwanted(&lab, 5);
    let mut lines = BufReader::new(child.stdout.take().unwrap()).lines().map_while(Result::ok);
    let line = lines.find(|line| line.contains("NO_SOCKET")).expect("a line of what was dropped");
    assert!(line.contains("kernel") && line.contains(" 5 packets"), "{line}");
    common::signal(child.id(), "INT");
    let rest: Vec<String> = lines.collect();
    assert!(common::wait(&mut child).success());
    assert!(rest.iter().any(|line| line.contains("NO_SOCKET")), "the totals: {rest:?}");
    assert!(!line.contains('\x1b') && !rest.iter().any(|line| line.contains('\x1b')), "{rest:?}");
}

#[test]
fn json_lines_tell_rows_by_their_sources() {
    common::require_root!();
    let lab = Lab::bridge(1).unwrap();
    let mut watching =
        Running::ready_on(&lab.receivers[0], &["drops", "--watch", "--interval", "100ms", INTERFACE]);
    unwanted(&lab, 12);
    let row = loop {
        let event = watching.wait_for("drops");
        let rows: Vec<Value> = event["rows"].as_array().unwrap().clone();
        if let Some(row) = rows.into_iter().find(|row| row["reason"] == "NO_SOCKET" && row["packets"] == 12) {
            break row;
        }
    };
    assert_eq!((&row["source"], &row["place"]), (&"kernel".into(), &"socket".into()));
    watching.signal("INT");
    let report = watching.report();
    let drops = report["drops"].as_array().unwrap();
    assert!(drops.iter().any(|drop| drop["reason"] == "NO_SOCKET" && drop["packets"] == 12), "{report}");
}
