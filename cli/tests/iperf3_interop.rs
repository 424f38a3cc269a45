//! `wirerate iperf3` against stock iperf3 in both roles: the JSON of both ends agrees, by iperf3's own rules. The distribution's is there; a newer one where
//! WIRERATE_IPERF3_NEW names it.

mod common;

use std::path::PathBuf;
use std::process::Command;

use serde_json::Value;

use common::iperf3::{Server, Who, free_port};

/// Options of the client, whether each stream is sent by the server, and the server's address.
const CASES: &[(&[&str], &[bool], &str)] = &[
    (&[], &[false], "127.0.0.1"),
    (&["-R"], &[true], "127.0.0.1"),
    (&["--bidir"], &[false, true], "127.0.0.1"),
    (&["-P", "4"], &[false; 4], "127.0.0.1"),
    (&["-P", "4", "-R"], &[true; 4], "127.0.0.1"),
    (&["--udp-counters-64bit"], &[false], "127.0.0.1"),
    (&["-6"], &[false], "::1"),
    (&["-6", "--bidir"], &[false, true], "::1"),
    (&["-k", "150"], &[false], "127.0.0.1"),
    (&["-O", "1"], &[false], "127.0.0.1"),
];

/// Those that need 3.21.
const NEWER: &[(&[&str], &[bool], &str)] =
    &[(&["--gsro"], &[false], "127.0.0.1"), (&["--gsro", "--bidir"], &[false, true], "127.0.0.1")];

fn stock(path: &PathBuf, args: &[&str]) -> Command {
    let mut command = Command::new(path);
    command.args(args).env("LC_ALL", "C");
    command
}

/// `end.streams[].udp` as numbers of one key.
fn of_streams(report: &Value, key: &str) -> Vec<i64> {
    let streams = report["end"]["streams"].as_array().unwrap_or_else(|| panic!("no streams: {report}"));
    streams.iter().map(|s| s["udp"][key].as_f64().unwrap_or_else(|| panic!("{key}: {s}")) as i64).collect()
}

fn agree(args: &[&str], server_sends: &[bool], address: &str, iperf3: &PathBuf, ours_serves: bool) {
    let port = free_port();
    let port_text = port.to_string();
    let listen = ["-s", "-1", "-J", "-B", address, "-p", &port_text];
    let mut ask = vec!["-c", address, "-p", &port_text, "-u", "-J", "-b", "1600K", "-l", "1000"];
    if !args.contains(&"-k") {
        ask.extend(["-t", "1"]);
    }
    ask.extend(args);
    let (serve, ask) = if ours_serves {
        (Who::Ours.command(&listen), stock(iperf3, &ask))
    } else {
        (stock(iperf3, &listen), Who::Ours.command(&ask))
    };
    let server = Server::of(serve, port);
    let client = common::run(ask);
    let what = format!("{args:?}, {iperf3:?}, {}", if ours_serves { "our server" } else { "our client" });
    assert_eq!(client.code, 0, "{what}: {}{}", client.stdout, client.stderr);
    let (client, server) = (client.json(), server.end().json());
    assert!(client["error"].is_null() && server["error"].is_null(), "{what}: {client} {server}");
    let (at_client, at_server) = (of_streams(&client, "packets"), of_streams(&server, "packets"));
    assert_eq!((at_client.len(), at_server.len()), (server_sends.len(), server_sends.len()), "{what}");
    let lost = [of_streams(&client, "lost_packets"), of_streams(&server, "lost_packets")];
    for (place, &sent_by_server) in server_sends.iter().enumerate() {
        let (sent, received) = if sent_by_server {
            (at_server[place], at_client[place])
        } else {
            (at_client[place], at_server[place])
        };
        // The omitted beginning ends at each end by its own clock.
        if args.contains(&"-O") {
            continue;
        }
        assert!(0 < received && received <= sent, "{what}: {sent} sent, {received} received");
        if args.contains(&"-k") {
            // A stock client sends on until it looks.
            assert!(if ours_serves { sent >= 150 } else { sent == 150 }, "{what}: {sent} sent");
        }
        if !sent_by_server {
            assert_eq!(lost[0][place], lost[1][place], "{what}: {client} {server}");
            // A receiver of ours has room for all of it.
            assert!(!ours_serves || (received, lost[1][place]) == (sent, 0), "{what}: {client} {server}");
        }
    }
    // What the server tells of its CPU is what the client prints.
    assert!(client["end"]["cpu_utilization_percent"]["remote_total"].is_number(), "{what}: {client}");
}

#[test]
fn both_ends_state_the_same_in_either_role() {
    let newer = std::env::var_os("WIRERATE_IPERF3_NEW").map(PathBuf::from);
    let mut matrix = Vec::new();
    for (iperf3, newest) in std::iter::once((PathBuf::from("iperf3"), false)).chain(newer.map(|p| (p, true)))
    {
        for case in CASES.iter().chain(NEWER.iter().filter(|_| newest)) {
            matrix.push((*case, iperf3.clone(), true));
            matrix.push((*case, iperf3.clone(), false));
        }
    }
    // Some at a time: they wait more than they work.
    for some in matrix.chunks(5) {
        std::thread::scope(|scope| {
            for ((args, sends, address), iperf3, ours_serves) in some {
                scope.spawn(|| agree(args, sends, address, iperf3, *ours_serves));
            }
        });
    }
}
