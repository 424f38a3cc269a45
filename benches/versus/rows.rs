//! What is measured against what: the contestants, and the gates between them.

use std::path::Path;

use crate::contest::{Class, Contestant};
use crate::ours::Ours;
use crate::peers::Tool;
use crate::peers::dropped::{Dropped, Kind};
use crate::peers::iperf2::Iperf2;
use crate::peers::iperf3::Iperf3;
use crate::peers::sockperf::Sockperf;

/// UDP payload that makes a 64-byte frame over IPv4.
const MINIMUM: u16 = 18;

/// The peers that were found.
#[derive(Debug, Default, serde::Serialize)]
pub struct Peers {
    /// The distribution's iperf3.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub iperf3: Option<Tool>,
    /// An iperf3 that knows `--gsro`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub iperf3_new: Option<Tool>,
    /// iperf 2.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub iperf2: Option<Tool>,
    /// sockperf.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub sockperf: Option<Tool>,
    /// netsniff-ng's generator.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub trafgen: Option<Tool>,
    /// xdp-tools' generator.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub xdp_trafficgen: Option<Tool>,
}

impl Peers {
    /// Those installed, and those under `folder`, as scripts/peers leaves them.
    pub fn find(folder: Option<&Path>, iperf3_new: Option<&Path>, xdp_trafficgen: Option<&Path>) -> Self {
        let unpacked = |name: &str, given: Option<&Path>, words: &[&str]| {
            given
                .and_then(|path| Tool::at(path, words))
                .or_else(|| Tool::at(&folder?.join("bin").join(name), words))
        };
        Self {
            iperf3: Tool::installed("iperf3", &["--version"]),
            iperf3_new: unpacked("iperf3", iperf3_new, &["--version"]),
            iperf2: Tool::installed("iperf", &["--version"]),
            sockperf: Tool::installed("sockperf", &["--version"]),
            trafgen: Tool::installed("trafgen", &["--version"]),
            xdp_trafficgen: unpacked("xdp-trafficgen", xdp_trafficgen, &["udp", "--version"])
                .or_else(|| Tool::installed("xdp-trafficgen", &["udp", "--version"])),
        }
    }
}

/// A contestant and the rows that it stands in.
pub struct Entry {
    /// Name in gates and in the JSON: "uring-64".
    pub id: String,
    /// Numbers of the rows.
    pub rows: &'static [u8],
    /// What is measured; a peer that is not there has a word for it instead.
    pub what: Result<Box<dyn Contestant>, String>,
}

/// A demand: the best of `ours`, lossless, against `peer` at full blast.
#[derive(Debug, Clone, Copy)]
pub struct Gate {
    /// Number of the row.
    pub row: u8,
    /// As in the table of what must be shown.
    pub work: &'static str,
    /// Names of ours, of which the better counts.
    pub ours: &'static [&'static str],
    /// Name of the peer.
    pub peer: &'static str,
    /// What the peer is called when it is not there.
    pub against: &'static str,
    /// Ratio that decides.
    pub gate: f64,
    /// Ratio that is aimed at.
    pub goal: f64,
}

const U64: &str = "user→user, 64-byte payload";
const U1448: &str = "user→user, 1448-byte payload";
const OFF: &str = "user→user, --segments off, 64-byte payload";
const GSRO: &str = "iperf3 ≥ 3.21 --gsro";

/// The table of what must be shown.
#[rustfmt::skip]
pub const GATES: &[Gate] = &[
    Gate { row: 1, work: U64, ours: &["uring-64", "mmsg-64"], peer: "iperf3-64", against: "iperf3 3.12", gate: 20.0, goal: 40.0 },
    Gate { row: 1, work: U64, ours: &["uring-64", "mmsg-64"], peer: "gsro-64", against: GSRO, gate: 1.3, goal: 2.0 },
    Gate { row: 2, work: U1448, ours: &["uring-1448", "mmsg-1448"], peer: "iperf3-1448", against: "iperf3 3.12", gate: 8.0, goal: 15.0 },
    Gate { row: 2, work: U1448, ours: &["uring-1448", "mmsg-1448"], peer: "gsro-1448", against: GSRO, gate: 0.9, goal: 1.2 },
    Gate { row: 3, work: "user→kernel sink, 64-byte payload", ours: &["uring-sink-64", "mmsg-sink-64"], peer: "gsro-64", against: GSRO, gate: 1.5, goal: 2.5 },
    Gate { row: 3, work: "user→kernel sink, 1448-byte payload", ours: &["uring-sink-1448", "mmsg-sink-1448"], peer: "gsro-1448", against: GSRO, gate: 1.5, goal: 2.5 },
    Gate { row: 4, work: "kernel→kernel, 64-byte frames", ours: &["xdp-xdp"], peer: "iperf3-64", against: "iperf3 3.12", gate: 15.0, goal: 30.0 },
    Gate { row: 5, work: "xdp TX, sequence and time in each packet, into XDP drop", ours: &["xdp-drop"], peer: "trafficgen-udp", against: "xdp-trafficgen udp", gate: 0.8, goal: 1.0 },
    Gate { row: 6, work: "xdp sink, traffic of xdp TX", ours: &["xdp-xdp"], peer: "xdp-afxdp", against: "wirerate xdp → afxdp", gate: 1.5, goal: 3.0 },
    Gate { row: 7, work: "afxdp TX, 64-byte frames, into XDP drop", ours: &["afxdp-drop"], peer: "trafgen", against: "trafgen", gate: 1.1, goal: 2.0 },
    Gate { row: 7, work: "afxdp TX, 64-byte frames, into XDP drop", ours: &["afxdp-drop"], peer: "xsk-udp", against: "xdp-trafficgen xsk-udp", gate: 1.0, goal: 1.3 },
    Gate { row: 8, work: OFF, ours: &["uring-off-64", "mmsg-off-64"], peer: "iperf3-64", against: "iperf3 3.12", gate: 1.3, goal: 2.0 },
    Gate { row: 8, work: OFF, ours: &["uring-off-64", "mmsg-off-64"], peer: "sockperf-64", against: "sockperf", gate: 1.3, goal: 2.0 },
];

/// Everything that can be measured, in the order of a round: a peer beside what it is compared with.
pub fn entries(wirerate: &Path, peers: &Peers) -> Vec<Entry> {
    let mut entries = Vec::new();
    let sized =
        [(64_u16, &[1, 4, 8][..], &[1, 8][..], &[1, 3][..], &[1][..]), (1448, &[2], &[2], &[2, 3], &[2])];
    for (length, iperf3_rows, sockperf_rows, gsro_rows, row) in sized {
        for backend in ["uring", "mmsg"] {
            let id = format!("{backend}-{length}");
            let recv = vec!["--backend", backend];
            entries.push(ours(
                wirerate,
                id,
                row,
                Class::UserToUser,
                length,
                &["--backend", backend],
                Some(recv),
            ));
        }
        add(&mut entries, format!("gsro-{length}"), gsro_rows, &peers.iperf3_new, GSRO, |t| {
            Iperf3::new(t, length, true)
        });
        add(&mut entries, format!("iperf3-{length}"), iperf3_rows, &peers.iperf3, "iperf3", |t| {
            Iperf3::new(t, length, false)
        });
        add(&mut entries, format!("iperf3-new-{length}"), row, &peers.iperf3_new, "iperf3 ≥ 3.21", |t| {
            Iperf3::new(t, length, false)
        });
        add(&mut entries, format!("iperf2-{length}"), row, &peers.iperf2, "iperf 2", |t| {
            Iperf2::new(t, length)
        });
        add(&mut entries, format!("sockperf-{length}"), sockperf_rows, &peers.sockperf, "sockperf", |t| {
            Sockperf::new(t, length)
        });
        for backend in ["uring", "mmsg"] {
            let id = format!("{backend}-sink-{length}");
            let recv = vec!["--backend", "xdp", "--sink", "tc"];
            entries.push(ours(
                wirerate,
                id,
                &[3],
                Class::UserToKernel,
                length,
                &["--backend", backend],
                Some(recv),
            ));
        }
    }
    for backend in ["uring", "mmsg"] {
        let send = ["--backend", backend, "--segments", "off"];
        let recv = vec!["--backend", backend];
        entries.push(ours(
            wirerate,
            format!("{backend}-off-64"),
            &[8],
            Class::UserToUser,
            64,
            &send,
            Some(recv),
        ));
    }
    let xdp = ["--backend", "xdp"];
    let sink = Some(vec!["--backend", "xdp", "--sink", "xdp"]);
    entries.push(ours(wirerate, "xdp-xdp".to_owned(), &[4, 6], Class::KernelToKernel, MINIMUM, &xdp, sink));
    let afxdp = Some(vec!["--backend", "afxdp"]);
    entries.push(ours(wirerate, "xdp-afxdp".to_owned(), &[6], Class::KernelToUser, MINIMUM, &xdp, afxdp));
    entries.push(ours(wirerate, "xdp-drop".to_owned(), &[5], Class::KernelToDrop, MINIMUM, &xdp, None));
    let generator = &peers.xdp_trafficgen;
    add(&mut entries, "trafficgen-udp".to_owned(), &[5], generator, "xdp-trafficgen udp", |t| {
        Dropped::new(t, Kind::Udp)
    });
    entries.push(ours(
        wirerate,
        "afxdp-drop".to_owned(),
        &[7],
        Class::UserToDrop,
        MINIMUM,
        // Every packet is dropped here, which the other tools do not ask the kernel about either.
        &["--backend", "afxdp", "--kernel-drops", "off"],
        None,
    ));
    add(&mut entries, "trafgen".to_owned(), &[7], &peers.trafgen, "trafgen", |t| {
        Dropped::new(t, Kind::Trafgen)
    });
    add(&mut entries, "xsk-udp".to_owned(), &[7], generator, "xdp-trafficgen xsk-udp", |t| {
        Dropped::new(t, Kind::XskUdp)
    });
    entries
}

fn ours(
    wirerate: &Path,
    id: String,
    rows: &'static [u8],
    class: Class,
    length: u16,
    send: &[&'static str],
    recv: Option<Vec<&'static str>>,
) -> Entry {
    let sender = send.get(1).copied().unwrap_or_default();
    let off = if send.contains(&"off") { " --segments off" } else { "" };
    let receiver = match &recv {
        None => "drop",
        Some(words) if words.contains(&"tc") => "tc sink",
        Some(words) if words.contains(&"xdp") => "xdp sink",
        Some(words) => words.get(1).copied().unwrap_or_default(),
    };
    let name = if sender == receiver { format!("{sender}{off}") } else { format!("{sender} → {receiver}") };
    let yardstick = class == Class::KernelToUser;
    let name = format!("wirerate {name}");
    let contestant =
        Ours { program: wirerate.to_owned(), name, class, length, send: send.to_vec(), recv, yardstick };
    Entry { id, rows, what: Ok(Box::new(contestant)) }
}

fn add<C: Contestant + 'static>(
    entries: &mut Vec<Entry>,
    id: String,
    rows: &'static [u8],
    tool: &Option<Tool>,
    name: &str,
    make: impl FnOnce(&Tool) -> C,
) {
    let what = match tool {
        Some(tool) => Ok(Box::new(make(tool)) as Box<dyn Contestant>),
        None => Err(name.to_owned()),
    };
    entries.push(Entry { id, rows, what });
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_gate_names_contestants_of_its_row() {
        let entries = entries(Path::new("wirerate"), &Peers::default());
        for gate in GATES {
            for id in gate.ours.iter().chain([&gate.peer]) {
                let entry =
                    entries.iter().find(|entry| entry.id == *id).unwrap_or_else(|| panic!("{id} is missing"));
                assert!(entry.rows.contains(&gate.row), "{id} does not stand in row {}", gate.row);
            }
            assert!(gate.goal > gate.gate);
        }
    }

    #[test]
    fn identifiers_are_unique() {
        let entries = entries(Path::new("wirerate"), &Peers::default());
        let mut ids: Vec<_> = entries.iter().map(|entry| &entry.id).collect();
        ids.sort();
        ids.dedup();
        assert_eq!(ids.len(), entries.len());
    }
}
