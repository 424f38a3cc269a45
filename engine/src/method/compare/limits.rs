//! What limited a tool, by rules and with the evidence for it. Pure: figures in, a sentence out.
//!
//! The rules are tried in this order; the first that holds is told.
//!
//! 1. Packets were lost and the kernel says where: a full socket buffer at the receiver is its CPU when that was busy, and the buffer otherwise; any other place is named.
//! 2. Less was offered than asked for: the sender's CPU, when its process or any CPU of its host was busy; the link, when it was full; TCP itself, when it sent again.
//! 3. Packets were lost at a place that nobody watched: the link, when it was full; else "on the way".
//! 4. All that was asked for was offered and delivered: nothing limited it.
//! 5. As fast as it can: the CPU of the sender or of the receiver, the link; else nothing measured says why.
#![forbid(unsafe_code)]

use serde::Serialize;

use super::report::Drop;

/// A process or a CPU at this share of its time, in percent, is busy.
pub const BUSY: f64 = 90.0;

/// Any CPU of a host at this share, in percent, is full.
pub const FULL: f64 = 97.0;

/// Less than this share of the rate asked for was not offered.
pub const OFFERED: f64 = 0.98;

/// More than this share of the link's speed, at L1, fills it.
pub const LINK: f64 = 0.96;

/// TCP that sent a smaller share of its segments again was not slowed down by that.
const AGAIN: f64 = 1e-4;

/// Payload of a segment of TCP over Ethernet.
const SEGMENT: f64 = 1448.0;

/// Loss below this share does not limit: a packet in a million.
const LOSS: f64 = 1e-6;

/// What limited a tool.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Limit {
    /// Stable name for scripts.
    pub by: By,
    /// One sentence.
    pub text: String,
    /// The figures that it follows from.
    pub evidence: Vec<String>,
}

/// What can limit one.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum By {
    /// Nothing: it did what it was asked for.
    Nothing,
    /// The sender's CPU.
    SenderCpu,
    /// The receiver's CPU.
    ReceiverCpu,
    /// The receiver's socket buffer.
    SocketBuffer,
    /// The receiver had closed its socket when packets came.
    Closed,
    /// The link's speed.
    Link,
    /// Packets were dropped at a place that is named.
    Drops,
    /// TCP slowed down because of losses.
    Tcp,
    /// Packets were lost at a place that nobody watched.
    OnTheWay,
    /// Nothing that was measured says why.
    Unknown,
    /// It gave no figures.
    Failed,
}

/// What is known of one trial.
#[derive(Debug, Clone, Default)]
pub struct Facts {
    /// It is TCP.
    pub tcp: bool,
    /// Payload bits a second asked for; `None`: as fast as it can.
    pub asked_bps: Option<f64>,
    /// Payload bits a second offered.
    pub offered_bps: f64,
    /// Payload bits a second delivered.
    pub delivered_bps: f64,
    /// Datagrams sent, and lost of these: as proven, or else as stated.
    pub sent: u64,
    /// Lost of these.
    pub lost: u64,
    /// Payload sent, in bytes.
    pub sent_bytes: u64,
    /// Where they were dropped, where that is known.
    pub drops: Vec<Drop>,
    /// The sender's process, in percent of a CPU.
    pub sender_percent: Option<f64>,
    /// The receiver's process, in percent of a CPU.
    pub receiver_percent: Option<f64>,
    /// The busiest CPU of the sender's host, in percent.
    pub sender_busiest: Option<f64>,
    /// The busiest CPU of the receiver's host, in percent.
    pub receiver_busiest: Option<f64>,
    /// Speed of the slower link, at L1.
    pub link_bps: Option<u64>,
    /// Bits on the line for each bit of payload.
    pub line_share: f64,
    /// Segments that TCP sent again.
    pub retransmitted: Option<u64>,
}

/// What limited one trial.
pub fn judge(facts: &Facts) -> Limit {
    let lost = facts.lost as f64 > LOSS * facts.sent as f64 && facts.lost > 0;
    if lost && let Some(limit) = at_a_place(facts) {
        return limit;
    }
    let short = facts.asked_bps.is_some_and(|asked| facts.offered_bps < OFFERED * asked);
    if short && let Some(limit) = sender_or_link(facts) {
        return limit;
    }
    if lost {
        return unwatched(facts);
    }
    match (facts.asked_bps, short) {
        (Some(asked), false) => Limit {
            by: By::Nothing,
            text: "nothing: it was given the rate, offered it and lost nothing".to_owned(),
            evidence: vec![format!("{} offered of {} asked for", bits(facts.offered_bps), bits(asked))],
        },
        _ => as_fast_as_it_can(facts),
    }
}

/// The place that most of the lost packets are known to have been dropped at.
fn at_a_place(facts: &Facts) -> Option<Limit> {
    let dropped: u64 = facts.drops.iter().map(|drop| drop.packets).sum();
    let most = facts.drops.iter().max_by_key(|drop| drop.packets)?;
    // What is left over may be more than what is known.
    if dropped * 2 < facts.lost {
        return None;
    }
    let share = 100.0 * facts.lost as f64 / facts.sent.max(1) as f64;
    let mut evidence = vec![format!(
        "{} of {} datagrams lost ({share:.3} %), {} of them by {}",
        facts.lost,
        facts.sent,
        most.packets,
        named(most)
    )];
    if most.place == "socket" && most.at == "receiver" {
        if is_no_socket(most) {
            return Some(Limit {
                by: By::Closed,
                text: "the receiver's end: these datagrams came when it had closed its socket".to_owned(),
                evidence,
            });
        }
        evidence.extend(cpu("receiver", facts.receiver_percent, facts.receiver_busiest));
        let busy = is_busy(facts.receiver_percent, facts.receiver_busiest);
        let ran_over = "its socket's buffer ran over";
        let process = facts.receiver_percent.is_some_and(|percent| percent >= BUSY);
        let (by, text) = match busy {
            Some(true) if process => {
                (By::ReceiverCpu, format!("the receiver's CPU: its process had no time left, and {ran_over}"))
            }
            Some(true) => (
                By::ReceiverCpu,
                format!(
                    "the receiver's CPU: one of its host was full, of this process and of others or of interrupts, and {ran_over}"
                ),
            ),
            Some(false) => (
                By::SocketBuffer,
                "the receiver's socket buffer: it ran over while the CPU had time left; a larger one bears longer bursts"
                    .to_owned(),
            ),
            None => (
                By::SocketBuffer,
                "the receiver's socket buffer: it ran over; its CPU time is not known".to_owned(),
            ),
        };
        return Some(Limit { by, text, evidence });
    }
    Some(Limit { by: By::Drops, text: format!("drops: {}", named(most)), evidence })
}

fn is_no_socket(drop: &Drop) -> bool {
    drop.reason.contains("NO_SOCKET") || drop.reason.contains("SOCKET_CLOSE")
}

/// A place as a reader knows it.
fn named(drop: &Drop) -> String {
    let of = drop.interface.as_ref().map(|name| format!(" of {name}")).unwrap_or_default();
    let at = if drop.at == "between" { "between the ends".to_owned() } else { format!("at the {}", drop.at) };
    format!("{}{of}, {at} ({})", drop.place, drop.reason)
}

/// Why less was offered than asked for.
fn sender_or_link(facts: &Facts) -> Option<Limit> {
    let asked = facts.asked_bps.unwrap_or_default();
    let offered = format!("{} offered of {} asked for", bits(facts.offered_bps), bits(asked));
    if let Some(limit) = link(facts, &offered) {
        return Some(limit);
    }
    if facts.sender_percent.is_some_and(|percent| percent >= BUSY) {
        let evidence = std::iter::once(offered)
            .chain(cpu("sender", facts.sender_percent, facts.sender_busiest))
            .collect();
        return Some(Limit {
            by: By::SenderCpu,
            text: "the sender's CPU: its process had no time left".to_owned(),
            evidence,
        });
    }
    if let Some(limit) = tcp(facts, &offered) {
        return Some(limit);
    }
    if facts.sender_busiest.is_some_and(|percent| percent >= FULL) {
        let evidence = std::iter::once(offered)
            .chain(cpu("sender", facts.sender_percent, facts.sender_busiest))
            .collect();
        return Some(Limit {
            by: By::SenderCpu,
            text:
                "the sender's CPU: one of its host was full, of this process and of others or of interrupts"
                    .to_owned(),
            evidence,
        });
    }
    None
}

fn tcp(facts: &Facts, offered: &str) -> Option<Limit> {
    let again = facts.retransmitted.filter(|count| *count > 0 && facts.tcp)?;
    if (again as f64) < AGAIN * facts.sent_bytes as f64 / SEGMENT {
        return None;
    }
    Some(Limit {
        by: By::Tcp,
        text: "TCP: it sent segments again and slowed down for what the path lost or delayed".to_owned(),
        evidence: vec![offered.to_owned(), format!("{again} segments sent again")],
    })
}

fn link(facts: &Facts, first: &str) -> Option<Limit> {
    let speed = facts.link_bps? as f64;
    let line = facts.delivered_bps * facts.line_share.max(1.0);
    (line >= LINK * speed).then(|| Limit {
        by: By::Link,
        text: "the link: it was full".to_owned(),
        evidence: vec![first.to_owned(), format!("{} delivered at L1, of {}", bits(line), bits(speed))],
    })
}

/// Lost where nobody looked.
fn unwatched(facts: &Facts) -> Limit {
    let share = 100.0 * facts.lost as f64 / facts.sent.max(1) as f64;
    let lost = format!("{} of {} datagrams lost ({share:.3} %)", facts.lost, facts.sent);
    link(facts, &lost).unwrap_or_else(|| Limit {
        by: By::OnTheWay,
        text: "loss on the way, at a place that nobody here could watch".to_owned(),
        evidence: vec![lost],
    })
}

fn as_fast_as_it_can(facts: &Facts) -> Limit {
    let offered = format!("{} offered, {} delivered", bits(facts.offered_bps), bits(facts.delivered_bps));
    if let Some(limit) = link(facts, &offered) {
        return limit;
    }
    let ends = [
        ("sender", By::SenderCpu, facts.sender_percent, facts.sender_busiest),
        ("receiver", By::ReceiverCpu, facts.receiver_percent, facts.receiver_busiest),
    ];
    for (end, by, percent, busiest) in ends {
        if percent.is_some_and(|percent| percent >= BUSY) {
            return Limit {
                by,
                text: format!("the {end}'s CPU: its process had no time left"),
                evidence: std::iter::once(offered).chain(cpu(end, percent, busiest)).collect(),
            };
        }
    }
    if let Some(limit) = tcp(facts, &offered) {
        return limit;
    }
    for (end, by, percent, busiest) in ends {
        if busiest.is_some_and(|percent| percent >= FULL) {
            return Limit {
                by,
                text: format!(
                    "the {end}'s CPU: one of its host was full, of this process and of others or of interrupts"
                ),
                evidence: std::iter::once(offered).chain(cpu(end, percent, busiest)).collect(),
            };
        }
    }
    let seen = ends.iter().flat_map(|(end, _, percent, busiest)| cpu(end, *percent, *busiest));
    Limit {
        by: By::Unknown,
        text: "not known: no CPU was full, no link, and nothing was dropped".to_owned(),
        evidence: std::iter::once(offered).chain(seen).collect(),
    }
}

/// Whether an end had no CPU time left; `None` where nobody knows.
fn is_busy(percent: Option<f64>, busiest: Option<f64>) -> Option<bool> {
    if percent.is_none() && busiest.is_none() {
        return None;
    }
    Some(percent.is_some_and(|p| p >= BUSY) || busiest.is_some_and(|p| p >= FULL))
}

fn cpu(end: &str, percent: Option<f64>, busiest: Option<f64>) -> Vec<String> {
    let process = percent.map(|p| format!("the {end}'s process took {p:.0} % of a CPU"));
    let host = busiest.map(|p| format!("the busiest CPU of the {end}'s host was {p:.0} % busy"));
    process.into_iter().chain(host).collect()
}

/// What limited a tool over its rounds: what limited most of them, and of equals what comes last in [`By`]; in how many is evidence.
pub fn overall(trials: &[&Limit]) -> Option<Limit> {
    let count = |by: By| trials.iter().filter(|limit| limit.by == by).count();
    let most = trials.iter().max_by_key(|limit| (count(limit.by), limit.by))?;
    let rounds = count(most.by);
    let mut limit = (*most).clone();
    if rounds < trials.len() {
        limit.evidence.push(format!("in {rounds} of {} rounds", trials.len()));
    }
    Some(limit)
}

/// Bits a second as people write them.
fn bits(bps: f64) -> String {
    let (value, unit) = match bps {
        b if b >= 1e9 => (b / 1e9, "Gbit/s"),
        b if b >= 1e6 => (b / 1e6, "Mbit/s"),
        b if b >= 1e3 => (b / 1e3, "kbit/s"),
        b => (b, "bit/s"),
    };
    format!("{value:.2} {unit}")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn dropped(place: &str, at: &'static str, reason: &str, packets: u64) -> Drop {
        Drop { place: place.into(), interface: Some("wr0".into()), at, reason: reason.into(), packets }
    }

    /// 100 Mbit/s asked for, offered and delivered.
    fn fine() -> Facts {
        Facts {
            asked_bps: Some(1e8),
            offered_bps: 1e8,
            delivered_bps: 1e8,
            sent: 10_000,
            line_share: 1.05,
            ..Facts::default()
        }
    }

    #[track_caller]
    fn says(facts: &Facts, by: By, words: &str) {
        let limit = judge(facts);
        assert_eq!(limit.by, by, "{limit:?}");
        let all = format!("{} | {}", limit.text, limit.evidence.join(" | "));
        assert!(all.contains(words), "{words:?} is missing in {all}");
    }

    #[test]
    fn nothing_limits_what_did_as_it_was_asked() {
        says(&fine(), By::Nothing, "100.00 Mbit/s offered of 100.00 Mbit/s asked for");
        // A busy CPU that kept up is no limit.
        says(&Facts { sender_percent: Some(99.0), ..fine() }, By::Nothing, "lost nothing");
    }

    #[test]
    fn a_socket_that_ran_over_is_the_cpu_when_that_was_busy() {
        let lossy = Facts {
            lost: 1000,
            drops: vec![dropped("socket", "receiver", "SOCKET_RCVBUFF", 1000)],
            ..fine()
        };
        says(&lossy, By::SocketBuffer, "not known");
        says(
            &Facts { receiver_percent: Some(99.0), ..lossy.clone() },
            By::ReceiverCpu,
            "no time left, and its socket's buffer ran over",
        );
        says(
            &Facts { receiver_busiest: Some(100.0), receiver_percent: Some(40.0), ..lossy.clone() },
            By::ReceiverCpu,
            "100 % busy",
        );
        let idle = Facts { receiver_busiest: Some(50.0), receiver_percent: Some(30.0), ..lossy };
        says(&idle, By::SocketBuffer, "a larger one bears longer bursts");
    }

    #[test]
    fn other_places_are_named() {
        let drops = vec![
            dropped("socket", "receiver", "SOCKET_RCVBUFF", 10),
            dropped("qdisc", "between", "QDISC_DROP", 990),
        ];
        says(
            &Facts { lost: 1000, drops, ..fine() },
            By::Drops,
            "drops: qdisc of wr0, between the ends (QDISC_DROP)",
        );
        let late = vec![dropped("socket", "receiver", "NO_SOCKET", 5)];
        says(&Facts { lost: 5, drops: late, ..fine() }, By::Closed, "had closed its socket");
    }

    #[test]
    fn who_offers_less_is_asked_for_a_reason() {
        let short = Facts { offered_bps: 5e7, delivered_bps: 5e7, ..fine() };
        says(&short, By::Unknown, "not known");
        says(
            &Facts { sender_percent: Some(98.0), ..short.clone() },
            By::SenderCpu,
            "its process had no time left",
        );
        says(
            &Facts { sender_busiest: Some(99.0), sender_percent: Some(60.0), ..short.clone() },
            By::SenderCpu,
            "of interrupts",
        );
        says(&Facts { link_bps: Some(52_000_000), ..short.clone() }, By::Link, "the link: it was full");
        says(&Facts { tcp: true, retransmitted: Some(7), ..short }, By::Tcp, "7 segments sent again");
    }

    #[test]
    fn loss_without_a_place() {
        let lossy = Facts { lost: 100, ..fine() };
        says(&lossy, By::OnTheWay, "100 of 10000 datagrams lost (1.000 %)");
        says(&Facts { link_bps: Some(105_000_000), ..lossy.clone() }, By::Link, "of 105.00 Mbit/s");
        // Drops that are a small part of what is missing explain nothing.
        let few = vec![dropped("qdisc", "sender", "QDISC_DROP", 3)];
        says(&Facts { drops: few, ..lossy }, By::OnTheWay, "nobody here could watch");
    }

    #[test]
    fn as_fast_as_it_can() {
        let max = Facts { asked_bps: None, ..fine() };
        says(&max, By::Unknown, "no CPU was full");
        says(&Facts { sender_percent: Some(95.0), ..max.clone() }, By::SenderCpu, "95 % of a CPU");
        says(&Facts { receiver_percent: Some(95.0), ..max.clone() }, By::ReceiverCpu, "the receiver's CPU");
        says(&Facts { receiver_busiest: Some(98.0), ..max.clone() }, By::ReceiverCpu, "98 % busy");
        says(&Facts { link_bps: Some(100_000_000), ..max.clone() }, By::Link, "the link");
        let tcp = Facts { tcp: true, retransmitted: Some(1), ..max };
        says(&tcp, By::Tcp, "1 segments");
        says(&Facts { sent_bytes: 1_000_000_000, ..tcp }, By::Unknown, "no CPU was full");
    }

    #[test]
    fn most_rounds_decide() {
        let (fine, lossy) = (judge(&fine()), judge(&Facts { lost: 100, ..fine() }));
        let limit = overall(&[&lossy, &fine, &lossy]).expect("three");
        assert_eq!(limit.by, By::OnTheWay);
        assert!(limit.evidence.contains(&"in 2 of 3 rounds".to_owned()));
        assert_eq!(overall(&[&fine, &lossy]).expect("two").by, By::OnTheWay);
        assert_eq!(overall(&[]), None);
    }
}
