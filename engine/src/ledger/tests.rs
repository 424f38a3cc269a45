use std::collections::BTreeSet;
use std::net::SocketAddr;
use std::slice::from_ref;

use super::cable::{Counted, Known, of_cable};
use super::*;
use crate::drops::place::UNREAD;
use crate::drops::{Origin, Way};
use crate::host::counters::port::Moved;
use crate::measure::tally::{RxCounters, RxTally, StreamKey};
use crate::packet::probe::End;
use crate::queue::QueueLoss;
use crate::report::{Ledger, RxCollector};

/// A drop of a datagram to the receiver.
fn dropped(place: &'static str, reason: &str, content: Content, packets: u64) -> DropCount {
    DropCount {
        netns_inode: 1,
        ifindex: 2,
        interface: Some("wr0".to_owned()),
        place,
        reason: reason.to_owned(),
        port: Some(5001),
        content,
        skbs: packets,
        packets,
        ..DropCount::default()
    }
}

fn loss(place: &'static str, reason: &'static str, packets: u64) -> QueueLoss {
    QueueLoss { place, reason, packets }
}

/// Place, reason, packets.
fn told(drops: &[Drop]) -> Vec<(&str, &str, u64)> {
    drops.iter().map(|d| (d.place.as_str(), d.reason.as_str(), d.packets)).collect()
}

fn sockets<'a>(queue: &'a [QueueLoss], kernel: &'a [DropCount]) -> Losses<'a> {
    Losses { afxdp: false, queue, kernel, other_formats: false, runs: None }
}

fn afxdp<'a>(queue: &'a [QueueLoss], kernel: &'a [DropCount]) -> Losses<'a> {
    Losses { afxdp: true, ..sockets(queue, kernel) }
}

#[test]
fn what_no_place_explains_is_unaccounted() {
    let queue = [loss("socket", "SOCKET_RCVBUFF", 5), loss("xsk", "rx_ring_full", 0)];
    let mut drops = refusals(2, 0);
    drops.extend(sockets(&queue, &[]).at_the_queue(Some("wr0")));
    assert_eq!(drops.len(), 2, "places without drops are not listed");
    let path = path("a".into(), "b".into(), 100, 90, drops);
    assert_eq!(path.unaccounted, 3);
    assert_eq!(path.sent.cast_signed(), 90 + 7 + path.unaccounted);
}

#[test]
fn what_a_sink_counted_and_dropped_is_no_loss() {
    for (place, reason) in
        [(Place::Tc, "TC_INGRESS"), (Place::XdpGeneric, "XDP"), (Place::XdpNative, "NOT_SPECIFIED")]
    {
        let mut kernel = [
            dropped("qdisc", reason, Content::Message, 3),
            dropped("qdisc", reason, Content::Data, 100),
            dropped("netfilter", "NETFILTER_DROP", Content::Data, 10),
        ];
        leave_out_sunk(&mut kernel, Sunk { place, packets: 98 }, 1, Some(2));
        assert_eq!(
            kernel.each_ref().map(|drop| drop.packets),
            [3, 2, 10],
            "another program dropped two more"
        );
        leave_out_sunk(&mut kernel, Sunk { place, packets: 98 }, 1, Some(2));
        assert_eq!(kernel.each_ref().map(|drop| drop.packets), [3, 0, 10]);
    }
}

#[test]
fn data_counts_on_the_way_messages_and_foreign_packets_do_not() {
    let kernel = [
        dropped("netfilter", "NETFILTER_DROP", Content::Data, 10),
        dropped("netfilter", "NETFILTER_DROP", Content::Message, 2),
        dropped("netfilter", "NETFILTER_DROP", Content::Other, 4),
        dropped("socket", "NO_SOCKET", Content::Data, 1),
        DropCount { port: None, ..dropped("netfilter", "NETFILTER_DROP", Content::Other, 99) },
    ];
    let wanted = [("netfilter", "NETFILTER_DROP", 10), ("socket", "NO_SOCKET", 1)];
    assert_eq!(told(&sockets(&[], &kernel).on_the_way(|_| None)), wanted);
    assert_eq!(messages_in(&kernel), 2);
    let of_iperf = Losses { other_formats: true, ..sockets(&[], &kernel) };
    assert_eq!(told(&of_iperf.on_the_way(|_| None))[0], ("netfilter", "NETFILTER_DROP", 14));
}

#[test]
fn interfaces_keep_places_apart() {
    let near = dropped("kernel", "NOT_SPECIFIED", Content::Data, 1);
    let far = DropCount { interface: Some("r2".to_owned()), ..near.clone() };
    let kernel = [near.clone(), far, near];
    let drops = sockets(&[], &kernel).on_the_way(|d| d.interface.clone());
    let places: Vec<_> = drops.iter().map(|d| (d.interface.as_deref(), d.packets)).collect();
    assert_eq!(places, [(Some("wr0"), 2), (Some("r2"), 1)]);
}

#[test]
fn a_sockets_drops_count_once_and_without_what_is_not_data() {
    let kernel = [
        dropped("socket", "SOCKET_RCVBUFF", Content::Data, 7),
        dropped("socket", "UDP_CSUM", Content::Data, 1),
        dropped("socket", "SOCKET_RCVBUFF", Content::Message, 2),
        dropped("socket", "SOCKET_RCVBUFF", Content::Other, 3),
    ];
    let both_agree = [loss("socket", "SOCKET_RCVBUFF", 13)];
    let losses = sockets(&both_agree, &kernel);
    assert_eq!(told(&losses.on_the_way(|_| None)), []);
    assert_eq!(
        told(&losses.at_the_queue(None)),
        [("socket", "SOCKET_RCVBUFF", 7), ("socket", "UDP_CSUM", 1)]
    );
    let closed = [&kernel[..], &[dropped("socket", UNREAD, Content::Data, 50)]].concat();
    let losses = sockets(&both_agree, &closed);
    assert_eq!(told(&losses.on_the_way(|_| None)), []);
    assert_eq!(total(&losses.at_the_queue(None)), 8, "what another socket left unread changes nothing");
    // Another socket had its own copies, and dropped some.
    let fewer = [loss("socket", "SOCKET_RCVBUFF", 6)];
    assert_eq!(told(&sockets(&fewer, &kernel).at_the_queue(None)), [("socket", "SOCKET_RCVBUFF", 6)]);
}

#[test]
fn strangers_sockets_are_nothing_to_afxdp() {
    let kernel = [dropped("socket", "SOCKET_RCVBUFF", Content::Data, 7)];
    assert_eq!(told(&afxdp(&[], &kernel).on_the_way(|_| None)), []);
    assert_eq!(told(&afxdp(&[], &kernel).at_the_queue(None)), []);
}

#[test]
fn redirects_that_xdp_statistics_do_not_count() {
    let redirect =
        |reason: &str, packets| DropCount { port: None, ..dropped("xsk", reason, Content::Other, packets) };
    let kernel = [("ENXIO", 3), ("EINVAL", 2), ("ENOBUFS", 4), ("ENOSPC", 5)]
        .map(|(errno, packets)| redirect(&format!("xdp_redirect_err:{errno}"), packets));
    let queue = [loss("xsk", "rx_dropped", 0), loss("xsk", "rx_ring_full", 4)];
    let losses = afxdp(&queue, &kernel);
    let added = [("xsk", "xdp_redirect_err:ENXIO", 3), ("xsk", "xdp_redirect_err:EINVAL", 2)];
    assert_eq!(told(&losses.on_the_way(|_| None)), added);
    assert_eq!(told(&losses.at_the_queue(None)), [("xsk", "rx_ring_full", 4)]);
    assert_eq!(told(&sockets(&[], &kernel).on_the_way(|_| None)), [], "not ours");
}

#[test]
fn generic_xdp_is_counted_once() {
    let queue = [loss("xsk", "rx_dropped", 0), loss("xsk", "rx_ring_full", 10)];
    let kernel = [dropped("xdp", "XDP", Content::Data, 9), dropped("xdp", "XDP", Content::Message, 1)];
    let losses = afxdp(&queue, &kernel);
    assert_eq!(told(&losses.on_the_way(|_| None)), []);
    assert_eq!(told(&losses.at_the_queue(None)), [("xsk", "rx_ring_full", 9)]);
    let more = [dropped("xdp", "XDP", Content::Data, 12)];
    let wanted = [("xsk", "rx_ring_full", 10), ("xdp", "XDP", 2)];
    assert_eq!(told(&afxdp(&queue, &more).at_the_queue(None)), wanted);
}

#[test]
fn the_kernel_names_what_the_sender_was_refused() {
    assert_eq!(told(&refusals(10, 0)), [("sender", "refused by the sender's host", 10)]);
    assert_eq!(told(&refusals(10, 8)), [("sender", "refused by the sender's host", 2)]);
    assert_eq!(told(&refusals(10, 12)), []);
}

#[test]
fn messages_that_a_queue_counted_are_taken_off() {
    let ring = |packets| afxdp(&[loss("xsk", "rx_ring_full", packets)], &[]).at_the_queue(None);
    let settled = |received, packets, missing| {
        let mut path = path("a".into(), "b".into(), 100, received, ring(packets));
        take_off_messages(&mut path, missing);
        (total(&path.drops), path.unaccounted)
    };
    assert_eq!(settled(90, 12, 5), (10, 0));
    assert_eq!(settled(90, 12, 1), (11, -1), "more than messages: strangers");
    assert_eq!(settled(90, 9, 5), (9, 1), "nothing to take off");
    assert_eq!(settled(100, 2, 2), (0, 0));
}

#[test]
fn a_socket_counts_buffers_and_the_kernel_tells_their_packets() {
    let queue = [loss("socket", "SOCKET_RCVBUFF", 3)];
    let kernel = [DropCount { skbs: 3, ..dropped("socket", "SOCKET_RCVBUFF", Content::Data, 300) }];
    let wanted = [("socket", "SOCKET_RCVBUFF", 300)];
    assert_eq!(told(&sockets(&queue, &kernel).at_the_queue(None)), wanted);
    // Without the kernel's word it is the least that was lost.
    assert_eq!(told(&sockets(&queue, &[]).at_the_queue(None)), [("socket", "SOCKET_RCVBUFF", 3)]);
}

#[test]
fn sockets_beside_afxdp_tell_their_own() {
    let queue = [
        loss("xsk", "rx_dropped", 0),
        loss("xsk", "rx_ring_full", 10),
        loss("socket", "SOCKET_RCVBUFF", 5),
        loss("xdp", "passed", 3),
    ];
    let kernel = [
        dropped("xdp", "XDP", Content::Data, 9),
        dropped("xdp", "XDP", Content::Message, 1),
        dropped("socket", "SOCKET_RCVBUFF", Content::Data, 5),
    ];
    let losses = afxdp(&queue, &kernel);
    let wanted = [("xsk", "rx_ring_full", 9), ("socket", "SOCKET_RCVBUFF", 5), ("xdp", "passed", 3)];
    assert_eq!(told(&losses.at_the_queue(None)), wanted);
    assert_eq!(told(&losses.on_the_way(|_| None)), []);
}

/// As [`dropped`], elsewhere on the host, going some way.
fn elsewhere(place: &'static str, origin: Origin, way: Way, packets: u64) -> DropCount {
    let netns_inode = 77;
    DropCount { netns_inode, origin, way, ..dropped(place, "R", Content::Data, packets) }
}

const OUT: Way = Way { leaving: true, came_in: false, of_frames: false, addressed: false };

fn sent<'a>(kernel: &'a [DropCount], ports: &'a BTreeSet<u16>, refused: u64) -> Sent<'a> {
    Sent {
        run: 9,
        ports,
        groups: false,
        here: 1,
        interface: Some(("wr0", 2)),
        sent: 100,
        refused,
        live: false,
        kernel,
    }
}

#[test]
fn a_sender_counts_its_own_run_everywhere_and_its_ports_where_it_is() {
    let mine = elsewhere("ip", Origin::Run(9), Way::default(), 3);
    let others = elsewhere("ip", Origin::Run(8), Way::default(), 5);
    let by_port = DropCount { netns_inode: 1, ..elsewhere("qdisc", Origin::Port(4000), OUT, 7) };
    let of_other_port = DropCount { origin: Origin::Port(4001), ..by_port.clone() };
    let not_connected = elsewhere("qdisc", Origin::Port(4000), OUT, 11);
    let message = DropCount { content: Content::Message, ..mine.clone() };
    let capture = elsewhere("tap", Origin::Run(9), Way::default(), 13);
    let kernel = [mine, others, by_port, of_other_port, not_connected, message, capture];
    let ledger = of_sender(&sent(&kernel, &BTreeSet::from([4000]), 2));
    let sending = ledger.sending.unwrap();
    let wanted = [("sender", "refused by the sender's host", 2), ("ip", "R", 3), ("qdisc", "R", 7)];
    assert_eq!(told(&sending.drops), wanted);
    assert_eq!((sending.drops[1].netns, sending.drops[2].netns), (Some(77), None));
}

#[test]
fn what_the_call_told_is_among_the_refused_and_no_more() {
    let none = BTreeSet::new();
    let filtered = elsewhere("netfilter", Origin::Run(9), OUT, 30);
    let drops = |kernel: &[DropCount], refused| {
        told_owned(&of_sender(&sent(kernel, &none, refused)).sending.unwrap().drops)
    };
    assert_eq!(drops(from_ref(&filtered), 40), [("sender".to_owned(), 10), ("netfilter".to_owned(), 30)]);
    // Buffers that were tried again one by one.
    assert_eq!(drops(from_ref(&filtered), 20), [("netfilter".to_owned(), 20)]);
    // A socket's own refusal is the sender's.
    let by_socket = DropCount { place: "socket", ..filtered.clone() };
    assert_eq!(drops(&[by_socket], 30), [("sender".to_owned(), 30)]);
    // A filter further on tells nobody.
    let later = DropCount { way: Way { came_in: true, ..OUT }, ..filtered.clone() };
    assert_eq!(drops(&[later], 20), [("sender".to_owned(), 20), ("netfilter".to_owned(), 30)]);
    // A queueing discipline does not tell a socket, and tells AF_XDP.
    let queue = DropCount { place: "qdisc", ..filtered };
    assert_eq!(drops(from_ref(&queue), 5), [("sender".to_owned(), 5), ("qdisc".to_owned(), 30)]);
    let of_frames = DropCount { way: Way { of_frames: true, ..OUT }, ..queue };
    assert_eq!(drops(&[of_frames], 30), [("qdisc".to_owned(), 30)]);
}

fn told_owned(drops: &[Drop]) -> Vec<(String, u64)> {
    drops.iter().map(|d| (d.place.clone(), d.packets)).collect()
}

#[test]
fn what_a_sink_of_the_driver_dropped_was_received() {
    let by_program = DropCount {
        symbol: Some("veth_xdp_rcv_skb".to_owned()),
        ..elsewhere("veth", Origin::Run(9), Way::default(), 50)
    };
    let none = BTreeSet::new();
    assert_eq!(of_sender(&sent(&[by_program], &none, 0)).sending.unwrap().drops, []);
}

#[test]
fn frames_that_an_interface_did_not_take_are_the_refused_ones() {
    let none = BTreeSet::new();
    let ring = DropCount {
        netns_inode: 1,
        reason: "xdp_devmap_xmit".to_owned(),
        port: None,
        ..elsewhere("xdp", Origin::Unknown, Way::default(), 30)
    };
    let other = DropCount { ifindex: 3, ..ring.clone() };
    let kernel = [ring, other];
    let live = Sent { live: true, ..sent(&kernel, &none, 25) };
    assert_eq!(told(&of_sender(&live).sending.unwrap().drops), [("xdp", "xdp_devmap_xmit", 25)]);
    let of_socket = Sent { live: false, ..live };
    assert_eq!(
        told(&of_sender(&of_socket).sending.unwrap().drops)[0].0,
        "sender",
        "a socket's are not XDP's"
    );
}

#[test]
fn of_packets_to_groups_only_what_was_not_yet_copied_is_a_senders_loss() {
    let none = BTreeSet::new();
    let own = elsewhere("qdisc", Origin::Run(9), OUT, 3);
    let copy = elsewhere("netfilter", Origin::Run(9), Way { came_in: true, ..OUT }, 5);
    let kernel = [own, copy];
    let groups = Sent { groups: true, ..sent(&kernel, &none, 0) };
    assert_eq!(told(&of_sender(&groups).sending.unwrap().drops), [("qdisc", "R", 3)]);
}

#[test]
fn data_of_unknown_runs_is_not_ours() {
    let heard = BTreeSet::from([9]);
    let own = DropCount { origin: Origin::Run(9), ..dropped("ip", "R", Content::Data, 3) };
    let kernel = [own.clone(), DropCount { origin: Origin::Run(8), ..own }];
    let losses = Losses { runs: Some(&heard), ..sockets(&[], &kernel) };
    assert_eq!(told(&losses.on_the_way(|_| None)), [("ip", "R", 3)]);
    assert_eq!(told(&sockets(&[], &kernel).on_the_way(|_| None)), [("ip", "R", 6)]);
}

#[test]
fn copies_for_a_capture_are_no_losses() {
    let kernel = [dropped("tap", "PACKET_SOCK_ERROR", Content::Data, 3)];
    assert_eq!(told(&sockets(&[], &kernel).on_the_way(|_| None)), []);
    let flooded = elsewhere("ip", Origin::Run(9), Way::default(), 1);
    let flooded = DropCount { reason: "OTHERHOST".to_owned(), ..flooded };
    assert!(whose::is_copy(&flooded));
    let in_a_vlan = DropCount { way: Way { addressed: true, ..Way::default() }, ..flooded };
    assert!(!whose::is_copy(&in_a_vlan));
}

/// Two hosts send, run 7 by one and run 8 by the other; what is missing of each.
fn two_senders(missing: [u64; 2], queue: &[QueueLoss], kernel: &[DropCount], afxdp: bool) -> Vec<Path> {
    let collector = heard(missing, [true; 2], queue);
    let seen = Seen { afxdp, here: 1, interface: Some(("wr0", 2)), kernel };
    assert_eq!(without_end(&collector), None);
    of_receiver(&collector, seen).unwrap().paths
}

/// What a receiver has heard of the two, of which those have `ended`.
fn heard(missing: [u64; 2], ended: [bool; 2], queue: &[QueueLoss]) -> RxCollector {
    let mut tally = RxTally::new(0);
    for (n, missing) in missing.into_iter().enumerate() {
        let source = SocketAddr::from(([10, 0, 0, n as u8 + 1], 4000));
        let key = StreamKey {
            format: Format::Wirerate,
            run: 7 + n as u32,
            stream: 0,
            source,
            destination: "10.0.0.9:5001".parse().unwrap(),
        };
        let received = 100 - missing;
        tally.streams.push(StreamTally {
            key,
            counters: RxCounters {
                packets: received,
                unique: received,
                lost: missing,
                ..RxCounters::default()
            },
            jitter_ns: None,
            end: ended[n].then_some(End { issued: 100, failed: 0, first_ns: 1, last_ns: 2 }),
            announced: 0,
            ended_ns: 3,
            detail: None,
            media: None,
        });
    }
    tally.losses = queue.to_vec();
    tally.messages = 2 * END_MESSAGES;
    let mut collector = RxCollector::new();
    collector.absorb(&tally);
    collector
}

/// Sender, received, lost at known places, unaccounted.
fn figures(paths: &[Path]) -> Vec<(String, u64, u64, i64)> {
    paths.iter().map(|p| (p.sender.clone(), p.received, total(&p.drops), p.unaccounted)).collect()
}

#[test]
fn senders_have_a_path_each_where_every_drop_tells_whose_it_was() {
    let of = |run, drop: DropCount| DropCount { origin: Origin::Run(run), ..drop };
    let filtered = |run, packets| of(run, dropped("netfilter", "NETFILTER_DROP", Content::Data, packets));
    let full = |run, packets| of(run, dropped("socket", "SOCKET_RCVBUFF", Content::Data, packets));
    let each = |missing: [u64; 2], lost: [u64; 2]| {
        [0, 1].map(|n| {
            let unaccounted = (missing[n] - lost[n]).cast_signed();
            (format!("10.0.0.{}", n + 1), 100 - missing[n], lost[n], unaccounted)
        })
    };
    let paths = two_senders([5, 3], &[], &[filtered(7, 4), filtered(8, 3)], false);
    assert_eq!(
        figures(&paths),
        each([5, 3], [4, 3]),
        "one packet is unaccounted, and it is the first sender's"
    );
    // The queue does not know whose packets it drops; the kernel's count of the same does.
    let kernel = [full(7, 5), full(8, 2), filtered(8, 1)];
    let paths = two_senders([5, 3], &[loss("socket", "SOCKET_RCVBUFF", 7)], &kernel, false);
    assert_eq!(figures(&paths), each([5, 3], [5, 3]));
    // Where the two counts differ, and where there is only the queue's, nobody knows.
    let all = |lost: u64| [("10.0.0.1, 10.0.0.2".to_owned(), 192, lost, (8 - lost).cast_signed())];
    let paths = two_senders([5, 3], &[loss("socket", "SOCKET_RCVBUFF", 6)], &kernel, false);
    assert_eq!(figures(&paths), all(7));
    assert_eq!(figures(&two_senders([5, 3], &[loss("xsk", "rx_ring_full", 8)], &[], true)), all(8));
    // A drop that tells nothing is somebody's.
    let unknown = dropped("ip", "IP_INHDR", Content::Data, 1);
    assert_eq!(figures(&two_senders([5, 3], &[], &[filtered(7, 4), filtered(8, 3), unknown], false)), all(8));
    // Two with one port, of which a drop tells no more.
    let port = DropCount { origin: Origin::Port(4000), ..filtered(7, 8) };
    assert_eq!(figures(&two_senders([5, 3], &[], &[port], false)), all(8));
}

#[test]
fn a_sender_without_an_end_has_no_path_and_takes_nobody_elses() {
    let of = |run, drop: DropCount| DropCount { origin: Origin::Run(run), ..drop };
    let filtered = |run, packets| of(run, dropped("netfilter", "NETFILTER_DROP", Content::Data, packets));
    let full = |run, packets| of(run, dropped("socket", "SOCKET_RCVBUFF", Content::Data, packets));
    let first = |queue: &[QueueLoss], kernel: &[DropCount], afxdp| {
        let collector = heard([5, 3], [true, false], queue);
        let warning = without_end(&collector).unwrap();
        assert!(warning.code == "no-end" && warning.text.contains("10.0.0.2 (run 8):"), "{}", warning.text);
        let seen = Seen { afxdp, here: 1, interface: Some(("wr0", 2)), kernel };
        figures(&of_receiver(&collector, seen).unwrap().paths)
    };
    let known = |lost: u64| [("10.0.0.1".to_owned(), 95, lost, (5 - lost).cast_signed())];
    assert_eq!(first(&[], &[filtered(7, 4), filtered(8, 3)], false), known(4));
    // The kernel's count of what the queue dropped tells whose it was.
    let queue = [loss("socket", "SOCKET_RCVBUFF", 7)];
    assert_eq!(first(&queue, &[full(7, 5), full(8, 2)], false), known(5));
    // Without it nobody knows.
    assert_eq!(first(&queue, &[], false), known(0));
    assert_eq!(first(&[loss("xsk", "rx_ring_full", 8)], &[filtered(7, 1)], true), known(1));
    // Neither of a port that both have, nor of a drop that tells nothing.
    let port = DropCount { origin: Origin::Port(4000), ..filtered(7, 2) };
    let unknown = dropped("ip", "IP_INHDR", Content::Data, 1);
    assert_eq!(first(&[], &[port, unknown, filtered(7, 3)], false), known(3));
    // As long as nobody has said an end there is no ledger, and nothing to warn of.
    let collector = heard([5, 3], [false; 2], &[]);
    let seen = Seen { afxdp: false, here: 1, interface: None, kernel: &[] };
    assert!(of_receiver(&collector, seen).is_none() && without_end(&collector).is_none());
}

/// Two ports: what left the one, what came to the other, and what its NIC dropped.
fn ports(left: u64, came: u64, dropped: &[(&'static str, u64)], dropped_at_most: u64) -> [Moved; 2] {
    let sender = Moved { left, left_by: "tx_packets", ..Moved::default() };
    let receiver =
        Moved { came, came_by: "rx_packets", dropped: dropped.to_vec(), dropped_at_most, ..Moved::default() };
    [sender, receiver]
}

/// A ledger of paths on which so many packets are unaccounted, told what the ports counted.
fn over_a_cable(unaccounted: &[i64], ports: &[Moved; 2], known: Known, quiet: bool) -> Ledger {
    let filtered = Drop { packets: 10, ..Drop::at("netfilter", None, "NETFILTER_DROP") };
    let of_one = |missing: &i64| {
        path(
            "a".into(),
            "here".into(),
            100_000,
            100_000 - 10u64.strict_add_signed(*missing),
            vec![filtered.clone()],
        )
    };
    let mut ledger = Ledger { paths: unaccounted.iter().map(of_one).collect(), ..Ledger::default() };
    let counted = Counted { from: "eth0@a", to: "eth1", sender: &ports[0], receiver: &ports[1] };
    of_cable(&mut ledger, &counted, known, quiet);
    for path in &ledger.paths {
        let sum = path.received.cast_signed() + total(&path.drops).cast_signed() + path.unaccounted;
        assert_eq!(path.sent.cast_signed(), sum, "{path:?}");
    }
    ledger
}

/// Places but for the filter, and what is left, of the first path.
fn told_of_cable(ledger: &Ledger) -> (Vec<(&str, &str, u64)>, i64) {
    let path = &ledger.paths[0];
    (told(&path.drops).into_iter().filter(|(place, _, _)| *place != "netfilter").collect(), path.unaccounted)
}

const ON_THE_WIRE: &str = "left eth0@a and never came to eth1";

#[test]
fn the_wire_is_what_two_ports_differ_by_and_no_more_than_is_missing() {
    let known = Known { left: Some(100_000), arrived: 90_000 };
    let of = |unaccounted: i64, left, came, dropped: &[(&'static str, u64)], at_most| {
        let ledger = over_a_cable(&[unaccounted], &ports(left, came, dropped, at_most), known, true);
        let (places, left_over) = told_of_cable(&ledger);
        (
            places
                .into_iter()
                .map(|(place, reason, n)| (place.to_owned(), reason.to_owned(), n))
                .collect::<Vec<_>>(),
            left_over,
        )
    };
    let wire = |packets| vec![("wire".to_owned(), ON_THE_WIRE.to_owned(), packets)];
    assert_eq!(of(5, 100_000, 99_995, &[], 0), (wire(5), 0));
    assert_eq!(of(5, 100_000, 99_998, &[], 0), (wire(2), 3), "what the ports do not explain stays");
    assert_eq!(of(5, 100_000, 99_000, &[], 0), (wire(5), 0), "and others' packets stay evidence");
    assert_eq!(of(0, 100_000, 99_000, &[], 0), (vec![], 0), "what another place has told is not told again");
    assert_eq!(of(-3, 100_000, 99_000, &[], 0), (vec![], -3));
    assert_eq!(of(5, 100_000, 100_007, &[], 0), (vec![], 5), "more came than left: no loss below zero");
    // What may have come is not lost on the way, even if nobody tells why it was dropped.
    assert_eq!(of(5, 100_000, 99_995, &[], 5), (vec![], 5));
    assert_eq!(of(5, 100_000, 99_995, &[], 4), (wire(1), 4));
}

#[test]
fn a_nic_has_dropped_what_is_missing_where_nobody_else_uses_the_cable() {
    let missed = [("rx_missed_errors", 4), ("rx_crc_errors", 2)];
    let of = |left: u64, own, unaccounted| {
        let known = Known { left: own, arrived: left * 9 / 10 };
        let ledger = over_a_cable(&[unaccounted], &ports(left, left - 9, &missed, 6), known, true);
        let (places, left_over) = told_of_cable(&ledger);
        (places.into_iter().map(|(place, _, n)| (place.to_owned(), n)).collect::<Vec<_>>(), left_over)
    };
    let places =
        |told: &[(&str, u64)]| told.iter().map(|(place, n)| ((*place).to_owned(), *n)).collect::<Vec<_>>();
    let all = places(&[("nic-rx", 4), ("nic-rx", 2), ("wire", 3)]);
    assert_eq!(of(100_000, Some(100_000), 9), (all.clone(), 0));
    assert_eq!(of(100_100, Some(100_000), 9), (all, 0), "neighbour discovery and the like");
    assert_eq!(
        of(100_000, Some(100_000), 5),
        (places(&[("nic-rx", 4), ("nic-rx", 1)]), 0),
        "a counter before a difference"
    );
    // Others' packets may be those that the NIC dropped.
    assert_eq!(of(100_101, Some(100_000), 9), (places(&[("wire", 3)]), 6));
    assert_eq!(of(1_000, Some(983), 9), (places(&[("wire", 3)]), 6));
    assert_eq!(of(100_000, None, 9), (places(&[("wire", 3)]), 6), "a sender has said no end");
}

#[test]
fn counters_that_cannot_be_believed_explain_nothing() {
    let lost = ports(100_000, 99_000, &[], 0);
    let known = Known { left: Some(100_000), arrived: 90_000 };
    let told = |known, quiet| {
        let ledger = over_a_cable(&[5], &lost, known, quiet);
        assert_eq!(ledger.cable.as_ref().unwrap().missing, 1000, "it is evidence all the same");
        ledger.paths[0].unaccounted
    };
    assert_eq!(told(known, true), 0);
    assert_eq!(told(known, false), 5, "not at rest");
    assert_eq!(told(Known { arrived: 99_001, ..known }, true), 5, "it leaves out what a program took");
}

#[test]
fn several_paths_are_explained_whole_or_not_at_all() {
    let known = Known { left: Some(300_000), arrived: 290_000 };
    let lost = |packets: u64| ports(300_000, 300_000 - packets, &[], 0);
    let unaccounted = |paths: &[i64], packets| {
        let ledger = over_a_cable(paths, &lost(packets), known, true);
        ledger.paths.iter().map(|path| path.unaccounted).collect::<Vec<_>>()
    };
    assert_eq!(unaccounted(&[5, 3], 8), [0, 0]);
    assert_eq!(unaccounted(&[5, 3], 20), [0, 0]);
    assert_eq!(unaccounted(&[5, 3], 7), [5, 3], "nothing tells whose packet is left over");
    assert_eq!(unaccounted(&[0, 3], 2), [0, 1]);
}
