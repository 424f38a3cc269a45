//! What it means that a counter moved: which of the few things that go wrong with a NIC, how bad that is, and what to look at.
//!
//! The names of lost packets are read by [`meaning`], as everywhere else. What is added here are those that lose nothing and yet say that something is wrong: pause frames, links
//! that went down, repaired blocks, hung queues.
#![forbid(unsafe_code)]

use super::finding::{Part, Severity};
use super::snapshot::Snapshot;
use crate::host::counters::meaning;

/// What a counter says when it moves.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Class {
    /// The link went down.
    LinkDown,
    /// Frames whose check sequence is wrong.
    Crc,
    /// Frames damaged on the line: symbols, alignment, blocks that could not be repaired.
    Line,
    /// Errors that forward error correction repaired.
    Corrected,
    /// The plugged module was too hot, faulty, or pulled out.
    Module,
    /// Frames too short or too long.
    Length,
    /// No carrier while sending.
    Carrier,
    /// Collisions: only a half-duplex link has any.
    Collision,
    /// The other end told this one to stop sending.
    PauseReceived,
    /// This end told the other to stop sending.
    PauseSent,
    /// The NIC's own memory was full: it could not hand over fast enough.
    RxFifo,
    /// The NIC's own memory ran empty amid a frame.
    TxFifo,
    /// No descriptor was free for a frame that had arrived.
    NoDescriptor,
    /// The driver had no memory for a frame.
    NoMemory,
    /// Received frames discarded, the driver does not say why.
    RxDropped,
    /// Frames not sent, the driver does not say why.
    TxDropped,
    /// Frames of a protocol that nobody here handles.
    NoHandler,
    /// Receive errors that no other counter explains.
    RxError,
    /// Transmit errors that no other counter explains.
    TxError,
    /// The NIC's own memory or descriptors are faulty.
    Hardware,
    /// A queue hung, or the driver reset the card.
    Hang,
    /// Checksums of IP, UDP or TCP that the NIC found wrong.
    Checksum,
    /// An XDP program dropped packets, as it was made to.
    XdpDropped,
    /// Packets lost for an XDP program: aborted, no room to redirect to.
    XdpError,
    /// A cloud's limit for this machine was passed.
    Allowance,
    /// A queueing discipline dropped.
    Qdisc,
    /// A CPU's receive queue was full, for packets of whatever interface.
    Backlog,
}

/// The classes of the kernel's own counters (struct rtnl_link_stats64). Its `multicast`, packets and bytes say nothing; `rx_otherhost_dropped` are frames for others.
const KERNEL: [(&str, Class); 17] = [
    ("rx_errors", Class::RxError),
    ("tx_errors", Class::TxError),
    ("rx_dropped", Class::RxDropped),
    ("tx_dropped", Class::TxDropped),
    ("collisions", Class::Collision),
    ("rx_length_errors", Class::Length),
    ("rx_over_errors", Class::RxFifo),
    ("rx_crc_errors", Class::Crc),
    ("rx_frame_errors", Class::Line),
    ("rx_fifo_errors", Class::RxFifo),
    ("rx_missed_errors", Class::NoDescriptor),
    ("tx_aborted_errors", Class::TxError),
    ("tx_carrier_errors", Class::Carrier),
    ("tx_fifo_errors", Class::TxFifo),
    ("tx_heartbeat_errors", Class::TxError),
    ("tx_window_errors", Class::Collision),
    ("rx_nohandler", Class::NoHandler),
];

/// The class of the kernel's counter `name`; none when it says nothing by moving.
pub fn of_kernel(name: &str) -> Option<Class> {
    KERNEL.iter().find(|(known, _)| *known == name).map(|(_, class)| *class)
}

/// The class of the driver's counter `name`; none when it says nothing by moving, or nothing that is known.
pub fn of_driver(name: &str) -> Option<Class> {
    let lower = name.to_ascii_lowercase();
    let words: Vec<&str> =
        lower.split(|c: char| !c.is_ascii_alphabetic()).filter(|word| !word.is_empty()).collect();
    let has = |any: &[&str]| any.iter().any(|wanted| words.contains(wanted));
    // What tells by another unit what is counted already, work that was done, and what is left of a budget.
    if has(&["duration", "us", "transition", "transitions", "recover", "recovered", "available"])
        || has(&["hwtstamp", "timestamp"])
    {
        return None;
    }
    if let Some(class) = of_no_loss(&lower, &has) {
        return class;
    }
    let meaning = meaning::of(name)?;
    if meaning.place == "xdp" {
        let by_verdict = has(&["drop", "drops", "dropped"]) && !has(&["tx", "xmit"]);
        return Some(if by_verdict { Class::XdpDropped } else { Class::XdpError });
    }
    Some(match of_meaning(meaning) {
        // A frame of our own with a wrong check sequence was broken off.
        Class::Crc if has(&["tx"]) => Class::TxError,
        class => class,
    })
}

/// The class of a counter of something else than lost packets; `Some(None)` when it is known to say nothing.
fn of_no_loss(lower: &str, has: &dyn Fn(&[&str]) -> bool) -> Option<Option<Class>> {
    let bad = has(&["err", "errs", "error", "errors", "bad", "fail", "failed"]);
    let class = if lower.contains("link_down_event") {
        Some(Class::LinkDown)
    } else if has(&["pause", "xon", "xoff", "pxon", "pxoff", "pfc"]) {
        // Without a direction it is a queue of commands that was paused (ena), or a pause that went on (bnxt).
        if has(&["rx"]) { Some(Class::PauseReceived) } else { has(&["tx"]).then_some(Class::PauseSent) }
    } else if has(&["uncorrectable", "uncorrected"]) {
        Some(Class::Line)
    } else if has(&["ecc"]) {
        Some(if has(&["uncorr"]) { Class::Hardware } else { Class::Corrected })
    } else if has(&["corrected", "correctable"]) || (has(&["lane"]) && bad) {
        // The bits of a lane that mlx5 calls errors are those that were repaired.
        Some(Class::Corrected)
    } else if has(&["csum", "checksum"]) {
        bad.then_some(Class::Checksum)
    } else if lower.contains("allowance_exceeded") || lower.contains("ratelimit_packets") {
        Some(Class::Allowance)
    } else if has(&["timeout", "timeouts", "hang", "hung", "resets"])
        || lower.contains("wd_expired")
        || lower.contains("reset_fail")
    {
        Some(Class::Hang)
    } else if has(&["collision", "collisions", "coll", "window"]) {
        Some(Class::Collision)
    } else if has(&["faults", "illegal"]) {
        Some(Class::Line)
    } else if lower.starts_with("module_") {
        Some(Class::Module)
    } else if lower.contains("signal_integrity") {
        Some(Class::Hardware)
    } else if lower.contains("pci_buffer_overflow") {
        Some(Class::RxFifo)
    } else if lower.contains("unknown_protocol") {
        Some(Class::NoHandler)
    } else if lower.contains("linearize_failed") {
        Some(Class::TxError)
    } else {
        return None;
    };
    Some(class)
}

fn of_meaning(meaning: meaning::Meaning) -> Class {
    let rx = meaning.place == "nic-rx";
    match meaning.what {
        "wrong frame check sequence" => Class::Crc,
        "damaged on the line" => Class::Line,
        "no carrier" => Class::Carrier,
        "wrong length" => Class::Length,
        "FIFO full" => Class::RxFifo,
        "FIFO ran empty" => Class::TxFifo,
        "no descriptor" => Class::NoDescriptor,
        "no memory" => Class::NoMemory,
        "discarded" | "dropped" if rx => Class::RxDropped,
        "discarded" | "dropped" => Class::TxDropped,
        _ if rx => Class::RxError,
        _ => Class::TxError,
    }
}

impl Class {
    /// The word in reports and profile files.
    pub fn code(self) -> &'static str {
        match self {
            Self::LinkDown => "link-flap",
            Self::Crc => "crc",
            Self::Line => "line",
            Self::Corrected => "corrected",
            Self::Module => "module",
            Self::Length => "length",
            Self::Carrier => "carrier",
            Self::Collision => "collision",
            Self::PauseReceived => "pause-received",
            Self::PauseSent => "pause-sent",
            Self::RxFifo => "rx-fifo",
            Self::TxFifo => "tx-fifo",
            Self::NoDescriptor => "no-descriptor",
            Self::NoMemory => "no-memory",
            Self::RxDropped => "rx-dropped",
            Self::TxDropped => "tx-dropped",
            Self::NoHandler => "no-handler",
            Self::RxError => "rx-error",
            Self::TxError => "tx-error",
            Self::Hardware => "hardware",
            Self::Hang => "hang",
            Self::Checksum => "checksum",
            Self::XdpDropped => "xdp-dropped",
            Self::XdpError => "xdp-error",
            Self::Allowance => "allowance",
            Self::Qdisc => "qdisc",
            Self::Backlog => "backlog",
        }
    }

    /// What it does to a verdict when nobody says otherwise.
    pub fn severity(self) -> Severity {
        match self {
            Self::LinkDown
            | Self::Crc
            | Self::Line
            | Self::Module
            | Self::Length
            | Self::Carrier
            | Self::Collision
            | Self::RxFifo
            | Self::TxFifo
            | Self::NoDescriptor
            | Self::NoMemory
            | Self::RxDropped
            | Self::TxDropped
            | Self::RxError
            | Self::TxError
            | Self::Hardware
            | Self::Hang
            | Self::XdpError => Severity::Fail,
            Self::PauseReceived
            | Self::PauseSent
            | Self::Checksum
            | Self::Allowance
            | Self::Qdisc
            | Self::Backlog => Severity::Warn,
            Self::Corrected | Self::NoHandler | Self::XdpDropped => Severity::Note,
        }
    }

    /// What happened, behind "N ": `5 frames with a wrong check sequence`.
    pub fn says(self) -> &'static str {
        match self {
            Self::LinkDown => "times the link went down",
            Self::Crc => "frames with a wrong check sequence",
            Self::Line => "frames or symbols damaged on the line",
            Self::Corrected => "errors repaired by error correction",
            Self::Module => "times the plugged module was too hot, faulty or pulled out",
            Self::Length => "frames too short or too long",
            Self::Carrier => "frames not sent for want of a carrier",
            Self::Collision => "collisions",
            Self::PauseReceived => "pause frames from the other end, which could not keep up",
            Self::PauseSent => "pause frames sent: this end could not keep up",
            Self::RxFifo => "frames lost in the NIC's own memory, which was full",
            Self::TxFifo => "frames broken off, as the NIC's own memory ran empty",
            Self::NoDescriptor => "frames lost for want of a free descriptor",
            Self::NoMemory => "times the driver had no memory for a frame",
            Self::RxDropped => "received frames dropped",
            Self::TxDropped => "frames dropped instead of sent",
            Self::NoHandler => "frames of a protocol that nobody here handles",
            Self::RxError => "receive errors",
            Self::TxError => "transmit errors",
            Self::Hardware => "errors of the card's own memory",
            Self::Hang => "times a transmit queue hung or the driver reset the card",
            Self::Checksum => "packets with a wrong IP, UDP or TCP checksum",
            Self::XdpDropped => "packets dropped by an XDP program",
            Self::XdpError => "packets lost by or for an XDP program",
            Self::Allowance => "packets queued or dropped beyond the cloud's limit for this machine",
            Self::Qdisc => "packets dropped by a queueing discipline",
            Self::Backlog => "packets of any interface that found a CPU's receive queue full",
        }
    }

    /// Whether all that such a counter counts may be in one of another class too: kernels and drivers add up what they count by itself.
    pub fn is_sum(self) -> bool {
        matches!(self, Self::RxError | Self::TxError | Self::RxDropped | Self::TxDropped)
    }

    /// Whether it is about what was received.
    pub fn is_receive(self) -> bool {
        !matches!(
            self,
            Self::Carrier
                | Self::Collision
                | Self::PauseReceived
                | Self::TxFifo
                | Self::TxDropped
                | Self::TxError
                | Self::Qdisc
        )
    }

    /// What may be at fault on this interface and what to do about it, in the order cable, port, card, rings, CPU.
    pub fn advice(self, on: &Snapshot) -> Vec<(Part, String)> {
        let name = &on.interface;
        let cable = || {
            let what = "replace the cable (with optics: clean the connectors, then swap the transceiver), test again";
            (Part::Cable, what.to_owned())
        };
        let port = || (Part::Port, "move the cable to another port of the other end, test again".to_owned());
        let card = || {
            let firmware = on.firmware.as_deref().unwrap_or("not told");
            let driver = on.driver.as_deref().unwrap_or("unknown");
            (Part::Card, format!("swap the card, or update its firmware ({firmware}) and driver ({driver})"))
        };
        let slot = || {
            (
                Part::Card,
                format!(
                    "look whether the card's slot is too small or power-saving holds it up: wirerate doctor {name}"
                ),
            )
        };
        let rings = |receive: bool| {
            let (word, in_use, most) = match on.rings {
                Some(rings) if receive => ("rx", rings.rx, rings.max_rx),
                Some(rings) => ("tx", rings.tx, rings.max_tx),
                None => {
                    return (
                        Part::Rings,
                        format!("{name} tells no ring sizes: look at its driver's documentation"),
                    );
                }
            };
            (
                Part::Rings,
                if in_use < most {
                    format!("enlarge the rings: sudo ethtool -G {name} {word} {most} (now {in_use})")
                } else {
                    format!(
                        "the {word} rings are as large as they get ({in_use}): spread the load over more queues, sudo ethtool -L {name}"
                    )
                },
            )
        };
        let cpu = || {
            (
                Part::Cpu,
                format!(
                    "give the queues' interrupts CPUs of their own on the card's NUMA node, and keep other work off them: wirerate doctor {name}"
                ),
            )
        };
        match self {
            Self::LinkDown | Self::Crc | Self::Line | Self::Module | Self::Carrier | Self::Corrected => {
                vec![cable(), port(), card()]
            }
            Self::Length => vec![
                (Part::Port, format!("set the same MTU at both ends (here {}): ip link show {name}", on.mtu)),
                card(),
            ],
            Self::Collision => {
                vec![
                    (
                        Part::Port,
                        format!("set both ends to autonegotiate: sudo ethtool -s {name} autoneg on"),
                    ),
                    card(),
                ]
            }
            Self::PauseReceived => vec![(
                Part::Port,
                "look why the other end cannot keep up: its drops, its speed towards where it forwards"
                    .to_owned(),
            )],
            Self::PauseSent => vec![slot(), rings(true), cpu()],
            Self::RxFifo => vec![slot(), rings(true), cpu()],
            Self::TxFifo => vec![slot()],
            Self::NoDescriptor => vec![rings(true), cpu()],
            Self::NoMemory => vec![(
                Part::Cpu,
                "free memory on the card's NUMA node, or raise vm.min_free_kbytes".to_owned(),
            )],
            Self::RxDropped => vec![rings(true), cpu()],
            Self::TxDropped => vec![rings(false), cpu()],
            Self::RxError => vec![cable(), port(), card()],
            Self::TxError | Self::Hardware | Self::Hang => vec![card()],
            Self::Checksum => vec![
                cable(),
                (
                    Part::Port,
                    "look for a device on the path that damages packets behind its own frame check"
                        .to_owned(),
                ),
                card(),
            ],
            Self::XdpDropped => vec![],
            Self::XdpError => vec![rings(false), cpu()],
            Self::Allowance => vec![(
                Part::Port,
                "the cloud's limits are those of the machine's type: take a larger one".to_owned(),
            )],
            Self::Qdisc => vec![(
                Part::Rings,
                format!("the link or a shaper is slower than the load: tc -s qdisc show dev {name}"),
            )],
            Self::Backlog => vec![cpu()],
            Self::NoHandler => vec![],
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn advice_is_in_one_order() {
        let on = Snapshot { interface: "wr0".to_owned(), ..Snapshot::default() };
        for (_, class) in KERNEL {
            let parts: Vec<Part> = class.advice(&on).into_iter().map(|(part, _)| part).collect();
            assert!(parts.is_sorted(), "{class:?}: {parts:?}");
        }
        assert_eq!(of_kernel("rx_bytes"), None);
        assert_eq!(of_kernel("rx_crc_errors"), of_driver("rx_crc_errors"));
    }

    proptest::proptest! {
        #[test]
        fn any_name_will_do(name in ".{0,64}") {
            let _ = of_driver(&name);
        }
    }
}
