use super::*;
use proptest::prelude::*;

const SECOND: u64 = 1_000_000_000;
const START: u64 = 1_000 * SECOND;

fn server() -> Server {
    Server::new(Spec { interval_ns: SECOND, tai_minus_utc_ns: 37_000_000_000 })
}

/// The figures of the whole: bytes, lost, total, out of order.
fn whole(ids: &[u64], end: u64) -> (u64, u64, u64, u64) {
    let mut server = server();
    for (n, id) in (0..).zip(ids) {
        server.datagram(*id, 1000, START + n, 200);
    }
    server.end(end, 1000, START + SECOND / 10, 200);
    let lines: Vec<_> = server.take().collect();
    assert_eq!((lines[0].span, lines.len()), (Span::Begin, 2), "too short for a line of an interval");
    let f = lines[1];
    assert_eq!((f.span, f.start_ns, f.end_ns), (Span::Whole, 0, SECOND / 10));
    (f.bytes, f.lost, f.total, f.out_of_order)
}

/// What iperf 2.1.8 was seen to print of these identifiers and ends.
#[test]
fn the_whole_is_what_2_1_8_prints() {
    assert_eq!(whole(&[1, 2, 2, 3, 4, 4, 6, 5, 9], 10), (2000, 0, 10, 3));
    assert_eq!(whole(&[100, 101, 102], 103), (800, 99, 103, 0));
    assert_eq!(whole(&[0, 1, 2, 3], 4), (800, 0, 4, 0));
    assert_eq!(whole(&[1, 2, 3], 10), (800, 6, 10, 0));
    assert_eq!(whole(&[1], 2), (400, 0, 2, 0));
}

#[test]
fn lines_of_intervals_and_of_the_last_part() {
    let mut server = server();
    let at = |tenths: u64| START + tenths * SECOND / 10;
    for (id, tenths) in [(1, 0), (2, 5), (4, 9), (3, 12), (9, 44), (10, 49)] {
        server.datagram(id, 0, at(tenths), 100);
    }
    server.end(11, 0, at(50), 100);
    let lines: Vec<_> = server.take().skip(1).collect();
    let figures =
        |f: &Figures| (f.start_ns / SECOND, f.lines, f.bytes / 100, f.lost, f.total, f.out_of_order);
    assert_eq!(
        lines.iter().map(figures).collect::<Vec<_>>(),
        [(0, 1, 3, 1, 4, 0), (1, 1, 1, 0, 0, 1), (2, 2, 0, 0, 0, 0), (4, 1, 3, 4, 7, 0), (0, 1, 7, 4, 11, 1)],
    );
    // The time of a line is when the next is due.
    assert_eq!(lines[0].stamp_ns, START - 37 * SECOND + 2 * SECOND);
    assert_eq!(lines[2].stamp_ns, START - 37 * SECOND + 4 * SECOND);
    assert_eq!(
        (lines[3].span, lines[3].end_ns),
        (Span::Interval, 5 * SECOND),
        "the last part is a quarter at least"
    );
    server.datagram(12, 0, at(60), 100);
    server.pass(at(600));
    server.finish();
    assert_eq!(server.take().count(), 0, "it is over");
}

#[test]
fn an_end_that_is_no_datagram_shows_the_tail() {
    let mut server = server();
    server.end_after(5);
    server.end(5, 0, START, 100);
    server.finish();
    assert_eq!(server.take().count(), 0, "nothing came");
    server = self::server();
    server.datagram(1, 0, START, 100);
    server.datagram(3, 0, START, 100);
    server.end_after(6);
    let last = server.take().next_back().unwrap();
    assert_eq!((last.bytes, last.lost, last.total), (200, 4, 6));
}

#[test]
fn jitter_begins_at_a_transit_of_nothing() {
    let mut server = server();
    server.datagram(1, 16_000, START, 1);
    server.datagram(2, 16_000, START + 1, 1);
    server.end(3, 32_000, START + 2, 1);
    let last = server.take().next_back().unwrap();
    assert_eq!(last.jitter_ns, (1000.0 * 15.0 / 16.0) * 15.0 / 16.0 + 1000.0);
    server = self::server();
    server.datagram(1, 16_000, START, 1);
    server.finish();
    assert_eq!(server.take().next_back().unwrap().jitter_ns, 0.0, "one has none");
}

proptest! {
    #[test]
    fn intervals_add_up_whatever_comes(
        datagrams in prop::collection::vec((0u64..200, 0u64..3 * SECOND, any::<i64>()), 1..50),
        far: bool,
    ) {
        let mut server = server();
        let mut now = START;
        let count = datagrams.len() as u64;
        for (id, later, transit) in datagrams {
            now += later;
            server.datagram(id + 1, transit, now, 10);
        }
        if far {
            server.pass(u64::MAX);
        }
        server.finish();
        let lines: Vec<_> = server.take().collect();
        prop_assert!(lines.len() as u64 <= 2 * count + 4);
        let whole = lines.last().unwrap();
        prop_assert_eq!(whole.bytes, 10 * count);
        let intervals = || lines.iter().filter(|line| line.span == Span::Interval);
        prop_assert!(intervals().map(|line| line.bytes).sum::<u64>() <= whole.bytes);
        prop_assert!(intervals().map(|line| line.out_of_order).sum::<u64>() <= whole.out_of_order);
        prop_assert!(intervals().zip(intervals().skip(1)).all(|(a, b)| a.end_ns <= b.start_ns));
    }
}
