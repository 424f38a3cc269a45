use super::*;
use crate::drops::place::UNREAD;
use crate::queue::QueueLoss;

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
        |reason, packets| DropCount { port: None, ..dropped("xsk", reason, Content::Other, packets) };
    let kernel = [redirect("xdp_redirect_err:ENXIO", 3), redirect("xdp_redirect_err:ENOBUFS", 4)];
    let queue = [loss("xsk", "rx_dropped", 0), loss("xsk", "rx_ring_full", 4)];
    let losses = afxdp(&queue, &kernel);
    assert_eq!(told(&losses.on_the_way(|_| None)), [("xsk", "xdp_redirect_err:ENXIO", 3)]);
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
