//! What is printed: each row with its contestants, and the gates.

use comfy_table::{CellAlignment, Table, presets};
use serde::Serialize;

use crate::contest::{Class, Load};
use crate::lab::Napi;
use crate::rounds::Outcome;
use crate::rows::GATES;
use crate::stats::Spread;

/// Titles of the rows.
const TITLES: [&str; 8] = [
    "user→user, 64-byte payload",
    "user→user, 1448-byte payload",
    "user→kernel sink (headers of every segment checked, payload untouched)",
    "kernel→kernel, 64-byte frames, made and checked one by one",
    "TX of the kernel into XDP drop, 64-byte frames",
    "receivers of what xdp TX sends, 64-byte frames",
    "TX of programs into XDP drop, 64-byte frames",
    "user→user, one datagram a request (--segments off), 64-byte payload",
];

/// A gate with its figures.
#[derive(Debug, Clone, Serialize)]
pub struct Judged {
    /// What was done.
    pub work: &'static str,
    /// Ours that counted.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub ours: Option<String>,
    /// Its lossless median, packets a second.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub ours_pps: Option<f64>,
    /// The peer.
    pub against: String,
    /// Its median at full blast, packets a second.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub against_pps: Option<f64>,
    /// Ours through the peer's.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub ratio: Option<f64>,
    /// Ratio that decides.
    pub gate: f64,
    /// Ratio that is aimed at.
    pub goal: f64,
    /// `goal`, `gate`, `missed`, `n/a`.
    pub reached: &'static str,
}

/// Compares what was measured with the gates of the rows in `rows`.
pub fn judge(outcomes: &[Outcome], rows: &[u8]) -> Vec<Judged> {
    let find = |id: &str| outcomes.iter().find(|outcome| outcome.id == id);
    GATES
        .iter()
        .filter(|gate| rows.contains(&gate.row))
        .map(|gate| {
            let ours = gate
                .ours
                .iter()
                .filter_map(|id| find(id))
                .filter_map(|o| Some((o, o.lossless_pps?.median)))
                .max_by(|a, b| a.1.total_cmp(&b.1));
            let peer = find(gate.peer);
            let against_pps = peer.and_then(|o| Some(o.full_pps?.median));
            let ratio = ours.zip(against_pps).map(|((_, ours), peer)| ours / peer).filter(|r| r.is_finite());
            Judged {
                work: gate.work,
                ours: ours.map(|(o, _)| o.name.clone()),
                ours_pps: ours.map(|(_, pps)| pps),
                against: match peer {
                    Some(peer) if !peer.ours => peer.name.clone(),
                    _ => gate.against.to_owned(),
                },
                against_pps,
                ratio,
                gate: gate.gate,
                goal: gate.goal,
                reached: match ratio {
                    None => "n/a",
                    Some(ratio) if ratio >= gate.goal => "goal",
                    Some(ratio) if ratio >= gate.gate => "gate",
                    Some(_) => "missed",
                },
            }
        })
        .collect()
}

/// The contestants, row by row.
pub fn contestants(outcomes: &[Outcome], rows: &[u8]) -> String {
    let mut text = String::new();
    for &row in rows {
        let title = TITLES.get(usize::from(row) - 1).copied().unwrap_or_default();
        let mut table = Table::new();
        table.load_style(presets::UTF8_FULL_CONDENSED).set_header([
            "contestant",
            "class",
            "payload",
            "NAPI on",
            "segments/skb",
            "payload touched",
            "full blast, Mpps received",
            "loss",
            "loss < 0.1 %, Mpps received",
            "payload Gbit/s",
        ]);
        let of_row = || outcomes.iter().filter(|outcome| outcome.rows.contains(&row));
        for outcome in of_row() {
            table.add_row(line(outcome));
        }
        for column in [2, 4, 6, 7, 8, 9] {
            if let Some(column) = table.column_mut(column) {
                column.set_cell_alignment(CellAlignment::Right);
            }
        }
        text += &format!("{row}. {title}\n{table}\n");
        for outcome in of_row() {
            if let Some(error) = &outcome.error {
                text += &format!("   {}: n/a: {error}\n", outcome.name);
            }
            if let Some(trial) = outcome.disagreement() {
                let witness = trial.witness.unwrap_or_default();
                text +=
                    &format!("   {}: said {}, the kernel counted {witness}\n", outcome.name, trial.received);
            }
        }
        text.push('\n');
    }
    text
}

fn line(outcome: &Outcome) -> Vec<String> {
    let example = outcome.example();
    let dash = || "-".to_owned();
    let counts = if outcome.ours { outcome.lossless_pps } else { outcome.full_pps };
    let touched = match example.and_then(|trial| trial.payload_touched) {
        Some(true) => "yes".to_owned(),
        Some(false) => "no".to_owned(),
        None => dash(),
    };
    let max = if outcome.lossless_load == Some(Load::Max) { " (max)" } else { "" };
    vec![
        outcome.name.clone(),
        outcome.class.map_or_else(dash, |class| Class::name(class).to_owned()),
        outcome.length.map_or_else(dash, |length| format!("{length} B")),
        match outcome.napi {
            Some(Napi::Sender) => "sender's CPU".to_owned(),
            Some(Napi::Receiver) => "receiver's CPU".to_owned(),
            None => dash(),
        },
        example
            .and_then(|trial| trial.segments_per_skb)
            .map_or_else(dash, |segments| format!("{segments:.1}")),
        touched,
        outcome.full_pps.map_or_else(|| "n/a".to_owned(), mpps),
        outcome.full_loss.map_or_else(dash, |loss| format!("{:.2} %", loss.median * 100.0)),
        outcome.lossless_pps.map_or_else(dash, |spread| mpps(spread) + max),
        match (counts, outcome.length) {
            (Some(pps), Some(length)) => format!("{:.2}", pps.median * f64::from(length) * 8.0 / 1e9),
            _ => dash(),
        },
    ]
}

fn mpps(spread: Spread) -> String {
    let m = |pps: f64| pps / 1e6;
    if spread.min == spread.max {
        return format!("{:.3}", m(spread.median));
    }
    format!("{:.3} ({:.3}–{:.3})", m(spread.median), m(spread.min), m(spread.max))
}

/// The gates.
pub fn gates(judged: &[Judged]) -> String {
    let mut table = Table::new();
    table.load_style(presets::UTF8_FULL_CONDENSED).set_header([
        "work, two CPUs",
        "ours, loss < 0.1 %",
        "Mpps",
        "against, full blast",
        "Mpps",
        "ratio",
        "gate",
        "goal",
        "reached",
    ]);
    let mega = |pps: Option<f64>| pps.map_or_else(|| "n/a".to_owned(), |pps| format!("{:.3}", pps / 1e6));
    for judged in judged {
        table.add_row([
            judged.work.to_owned(),
            judged.ours.clone().unwrap_or_else(|| "n/a".to_owned()),
            mega(judged.ours_pps),
            judged.against.clone(),
            mega(judged.against_pps),
            judged.ratio.map_or_else(|| "n/a".to_owned(), |ratio| format!("{ratio:.2} ×")),
            format!("{} ×", judged.gate),
            format!("{} ×", judged.goal),
            judged.reached.to_owned(),
        ]);
    }
    for column in [2, 4, 5, 6, 7] {
        if let Some(column) = table.column_mut(column) {
            column.set_cell_alignment(CellAlignment::Right);
        }
    }
    table.to_string()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn outcome(id: &str, ours: bool, pps: f64) -> Outcome {
        let spread = Spread::of([pps]);
        Outcome {
            id: id.to_owned(),
            name: id.to_owned(),
            rows: vec![7],
            ours,
            command: None,
            class: None,
            length: None,
            napi: None,
            full_pps: spread,
            full_loss: None,
            lossless_pps: spread.filter(|_| ours),
            lossless_load: None,
            full: Vec::new(),
            lossless: Vec::new(),
            error: None,
        }
    }

    #[test]
    fn judges_by_ratio() {
        let outcomes = [
            outcome("afxdp-drop", true, 1.2e6),
            outcome("trafgen", false, 1e6),
            outcome("xsk-udp", false, 0.6e6),
        ];
        let reached: Vec<_> = judge(&outcomes, &[7]).iter().map(|judged| judged.reached).collect();
        assert_eq!(reached, ["gate", "goal"]);
        let reached: Vec<_> = judge(&outcomes[..2], &[7]).iter().map(|judged| judged.reached).collect();
        assert_eq!(reached, ["gate", "n/a"]);
    }

    #[test]
    fn the_better_of_ours_counts() {
        let mut outcomes =
            [outcome("uring-64", true, 5e6), outcome("mmsg-64", true, 7e6), outcome("iperf3-64", false, 1e6)];
        assert_eq!(judge(&outcomes, &[1])[0].ours.as_deref(), Some("mmsg-64"));
        outcomes[1].lossless_pps = None;
        assert_eq!(judge(&outcomes, &[1])[0].ratio, Some(5.0));
        outcomes[0].lossless_pps = None;
        assert_eq!(judge(&outcomes, &[1])[0].reached, "n/a");
    }

    #[test]
    fn prints_every_row() {
        let text = contestants(&[outcome("afxdp-drop", true, 1.2e6)], &[7]);
        assert!(text.contains("afxdp-drop") && text.contains("1.200"), "{text}");
    }
}
