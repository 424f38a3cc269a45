//! What a driver's counter means, by the words of its name.
//!
//! Drivers have no common names: that a NIC had no descriptor for a packet is `rx_missed_errors`, `rx_out_of_buffer`, `rx_no_dma_resources`, `port_rx_nodesc_drops` or `pkts rx
//! out of buf`. The words in them are few. What none of the rules knows is no loss that is known.
#![forbid(unsafe_code)]

/// What a counter of lost packets says.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Meaning {
    /// Place, in the ledger's terms: `nic-rx`, `nic-tx`, `xdp`.
    pub place: &'static str,
    /// What happened.
    pub what: &'static str,
}

/// Names with such a word count no lost packets, whatever else is in them.
const NO_LOSS: [&str; 29] = [
    "byte",
    "bytes",
    "octets",
    "csum",
    "checksum",
    "flow",
    "pause",
    "xon",
    "xoff",
    "lpi",
    "cache",
    "timestamp",
    "hwtstamp",
    "fdir",
    "fcoe",
    "ipsec",
    "tls",
    "recover",
    "recovered",
    "restart",
    "good",
    "unicast",
    "broadcast",
    // mlx5: frames for nobody here, bits that were repaired, flow rules, and a page pool that works.
    "steer",
    "lane",
    "arfs",
    "pp",
    // Management traffic that never was the host's.
    "smbus",
    "bmc",
];

/// The first rule that a name fits is what it means: any of its words, the direction that the name has to have (`None`: either), and the meaning.
type Rule = (&'static [&'static str], Option<Direction>, Meaning);

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Direction {
    Rx,
    Tx,
}

const RX: Option<Direction> = Some(Direction::Rx);
const TX: Option<Direction> = Some(Direction::Tx);

const fn rx(what: &'static str) -> Meaning {
    Meaning { place: "nic-rx", what }
}

const fn tx(what: &'static str) -> Meaning {
    Meaning { place: "nic-tx", what }
}

const RULES: &[Rule] = &[
    (&["crc", "fcs"], None, rx("wrong frame check sequence")),
    (&["symbol", "illegal", "align", "alignment", "frame_errors"], None, rx("damaged on the line")),
    (&["carrier"], TX, tx("no carrier")),
    (&["aborted", "collision", "collisions", "late", "window", "heartbeat"], TX, tx("aborted")),
    (&["fifo", "overrun", "overruns", "overflow", "underrun", "underruns", "over"], TX, tx("FIFO ran empty")),
    (&["fifo", "overrun", "overruns", "overflow", "over", "pm"], RX, rx("FIFO full")),
    (
        &[
            "length",
            "undersize",
            "undersized",
            "oversize",
            "oversized",
            "jabber",
            "jabbers",
            "toolong",
            "ovrsz",
            "undrsz",
            "jbr",
            "mtu_err",
            "len",
            "long",
            "short",
            "runt",
            "fragments",
        ],
        RX,
        rx("wrong length"),
    ),
    (
        &[
            "missed",
            "nodesc",
            "no_buffer",
            "no_dma",
            "out_of_buf",
            "out_of_buffer",
            "no_desc",
            "overwritten",
            "empty_rx_ring",
        ],
        RX,
        rx("no descriptor"),
    ),
    (&["discard", "discards", "discarded"], RX, rx("discarded")),
    (&["discard", "discards", "discarded"], TX, tx("discarded")),
    (&["alloc", "skb_alloc", "noskb", "oom", "nobuf"], RX, rx("no memory")),
    (&["drop", "drops", "dropped"], RX, rx("dropped")),
    (&["drop", "drops", "dropped"], TX, tx("dropped")),
    (&["err", "error", "errors", "bad"], RX, rx("errors")),
    (&["err", "error", "errors", "bad"], TX, tx("errors")),
];

/// What the counter `name` of a driver says of lost packets; `None` when it counts something else, or nothing that is known.
pub fn of(name: &str) -> Option<Meaning> {
    let name = name.to_ascii_lowercase();
    let words: Vec<&str> =
        name.split(|c: char| !c.is_ascii_alphabetic()).filter(|word| !word.is_empty()).collect();
    // Words that belong together, and numbers between them.
    let joined = words.join("_");
    let has = |wanted: &str| words.contains(&wanted) || (wanted.contains('_') && joined.contains(wanted));
    if NO_LOSS.iter().any(|word| has(word)) {
        return None;
    }
    // `alloc_rx_page` of ixgbe counts pages that were got.
    if has("alloc")
        && !["fail", "failed", "failure", "failures", "err", "errors"].iter().any(|word| has(word))
    {
        return None;
    }
    if has("xdp") {
        let lost = ["drop", "drops", "dropped", "err", "errors", "error", "aborted", "exception", "full"];
        return lost
            .iter()
            .any(|word| has(word))
            .then_some(Meaning { place: "xdp", what: "by or for an XDP program" });
    }
    let direction = if has("tx") || has("transmit") {
        TX
    } else if has("rx") || has("receive") {
        RX
    } else {
        None
    };
    let fits = |(any, wanted, _): &&Rule| {
        any.iter().any(|word| has(word)) && (wanted.is_none() || *wanted == direction)
    };
    RULES.iter().find(fits).map(|(_, _, meaning)| *meaning)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Names as a driver has them; what each means, or nothing.
    type Names = [(&'static str, Option<Meaning>)];

    const NAMES: &[(&str, &Names)] = &[
        (
            "ixgbe",
            &[
                ("rx_packets", None),
                ("tx_bytes", None),
                ("rx_missed_errors", Some(rx("no descriptor"))),
                ("rx_no_dma_resources", Some(rx("no descriptor"))),
                ("rx_no_buffer_count", Some(rx("no descriptor"))),
                ("rx_crc_errors", Some(rx("wrong frame check sequence"))),
                ("rx_over_errors", Some(rx("FIFO full"))),
                ("rx_length_errors", Some(rx("wrong length"))),
                ("tx_carrier_errors", Some(tx("no carrier"))),
                ("alloc_rx_page_failed", Some(rx("no memory"))),
                ("alloc_rx_page", None),
                ("rx_csum_offload_errors", None),
                ("tx_flow_control_xon", None),
                ("fdir_miss", None),
                ("fcoe_bad_fccrc", None),
            ],
        ),
        (
            "i40e",
            &[
                ("rx_dropped", Some(rx("dropped"))),
                ("port.rx_dropped", Some(rx("dropped"))),
                ("port.rx_crc_errors", Some(rx("wrong frame check sequence"))),
                ("port.illegal_bytes", None),
                ("port.tx_dropped_link_down", Some(tx("dropped"))),
                ("rx_alloc_fail", Some(rx("no memory"))),
                ("port.rx_undersize", Some(rx("wrong length"))),
                ("rx-0.packets", None),
            ],
        ),
        (
            "ice",
            &[
                ("rx_dropped.nic", Some(rx("dropped"))),
                ("rx_crc_errors.nic", Some(rx("wrong frame check sequence"))),
                ("tx_errors", Some(tx("errors"))),
                ("tx_dropped_link_down.nic", Some(tx("dropped"))),
                ("rx_unicast", None),
                ("rx_oversize.nic", Some(rx("wrong length"))),
            ],
        ),
        (
            "igb, igc, e1000e",
            &[
                ("rx_missed_errors", Some(rx("no descriptor"))),
                ("rx_no_buffer_count", Some(rx("no descriptor"))),
                ("rx_fifo_errors", Some(rx("FIFO full"))),
                ("rx_long_byte_count", None),
                ("dropped_smbus", None),
                ("tx_aborted_errors", Some(tx("aborted"))),
                ("tx_window_errors", Some(tx("aborted"))),
                ("rx_queue_0_drops", Some(rx("dropped"))),
                ("tx_queue_0_restart", None),
                ("rx_hwtstamp_cleared", None),
            ],
        ),
        (
            "mlx5",
            &[
                ("rx_out_of_buffer", Some(rx("no descriptor"))),
                ("rx_discards_phy", Some(rx("discarded"))),
                ("rx_crc_errors_phy", Some(rx("wrong frame check sequence"))),
                ("rx_xdp_drop", Some(Meaning { place: "xdp", what: "by or for an XDP program" })),
                ("rx_xdp_redirect", None),
                ("tx_xdp_full", Some(Meaning { place: "xdp", what: "by or for an XDP program" })),
                ("rx0_buff_alloc_err", Some(rx("no memory"))),
                ("rx_cache_full", None),
                ("rx_pp_alloc_slow", None),
                ("rx_steer_missed_packets", None),
                ("rx_err_lane_0_phy", None),
                ("rx_in_range_len_errors_phy", Some(rx("wrong length"))),
                ("tx_queue_dropped", Some(tx("dropped"))),
                ("rx_symbol_err_phy", Some(rx("damaged on the line"))),
                ("rx_vport_unicast_packets", None),
            ],
        ),
        (
            "bnxt",
            &[
                ("[0]: rx_discards", Some(rx("discarded"))),
                ("[3]: tx_drops", Some(tx("dropped"))),
                ("rx_total_discard_pkts", Some(rx("discarded"))),
                ("rx_fcs_err_frames", Some(rx("wrong frame check sequence"))),
                ("rx_ovrsz_frames", Some(rx("wrong length"))),
                ("rx_mtu_err_frames", Some(rx("wrong length"))),
                ("rx_total_oom_discards", Some(rx("discarded"))),
                ("[0]: rx_ucast_packets", None),
            ],
        ),
        (
            "ena",
            &[
                ("rx_drops", Some(rx("dropped"))),
                ("tx_drops", Some(tx("dropped"))),
                ("rx_overruns", Some(rx("FIFO full"))),
                ("queue_0_rx_page_alloc_fail", Some(rx("no memory"))),
                ("queue_0_rx_xdp_drop", Some(Meaning { place: "xdp", what: "by or for an XDP program" })),
                ("queue_0_empty_rx_ring", Some(rx("no descriptor"))),
                ("queue_0_rx_cnt", None),
            ],
        ),
        (
            "gve",
            &[
                ("rx_dropped", Some(rx("dropped"))),
                ("rx_skb_alloc_fail", Some(rx("no memory"))),
                ("rx_desc_err_dropped_pkt", Some(rx("dropped"))),
                ("tx_timeouts", None),
            ],
        ),
        (
            "virtio_net",
            &[
                ("rx_queue_0_drops", Some(rx("dropped"))),
                ("rx_queue_0_xdp_drops", Some(Meaning { place: "xdp", what: "by or for an XDP program" })),
                ("tx_queue_0_xdp_tx_drops", Some(Meaning { place: "xdp", what: "by or for an XDP program" })),
                ("rx0_kicks", None),
            ],
        ),
        (
            "vmxnet3",
            &[
                ("pkts rx out of buf", Some(rx("no descriptor"))),
                ("pkts rx err", Some(rx("errors"))),
                ("drv dropped rx total", Some(rx("dropped"))),
                ("drv dropped tx total", Some(tx("dropped"))),
                ("pkts tx discard", Some(tx("discarded"))),
                ("ucast pkts rx", None),
            ],
        ),
        (
            "veth",
            &[
                ("peer_ifindex", None),
                ("rx_queue_0_drops", Some(rx("dropped"))),
                ("rx_queue_0_xdp_drops", Some(Meaning { place: "xdp", what: "by or for an XDP program" })),
                (
                    "tx_queue_0_xdp_xmit_errors",
                    Some(Meaning { place: "xdp", what: "by or for an XDP program" }),
                ),
                ("rx_queue_0_xdp_packets", None),
            ],
        ),
        (
            "r8169",
            &[
                ("rx_missed", Some(rx("no descriptor"))),
                ("rx_errors", Some(rx("errors"))),
                ("align_errors", Some(rx("damaged on the line"))),
                ("tx_underrun", Some(tx("FIFO ran empty"))),
                ("unicast", None),
            ],
        ),
        (
            "tg3",
            &[
                ("rx_discards", Some(rx("discarded"))),
                ("rx_fcs_errors", Some(rx("wrong frame check sequence"))),
                ("tx_carrier_sense_errors", Some(tx("no carrier"))),
                ("rx_ucast_packets", None),
                ("rx_xon_pause_rcvd", None),
            ],
        ),
        (
            "sfc",
            &[
                ("port_rx_nodesc_drops", Some(rx("no descriptor"))),
                ("rx_noskb_drops", Some(rx("no memory"))),
                ("port_rx_overflow", Some(rx("FIFO full"))),
                ("port_rx_bad", Some(rx("errors"))),
                ("port_rx_pm_discard_bb_overflow", Some(rx("FIFO full"))),
                ("port_rx_good", None),
            ],
        ),
    ];

    #[test]
    fn drivers_names() {
        for (driver, names) in NAMES {
            for (name, meaning) in *names {
                assert_eq!(of(name), *meaning, "{driver}: {name}");
            }
        }
    }

    proptest::proptest! {
        #[test]
        fn any_name_will_do(name in ".{0,64}") {
            let _ = of(&name);
        }
    }
}
