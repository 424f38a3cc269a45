//! How packets were lost and reordered, as text.

use std::fmt::Write as _;

use wirerate_engine::report::{Iperf, LossPeriods, ReorderingExtent, Rx};

use super::{count, time};

/// What there is to say beside the counts: nothing of a run in which nothing was lost or reordered.
pub fn pattern(text: &mut String, rx: &Rx) {
    if let Some(periods) = &rx.loss_periods {
        loss(text, periods);
    }
    if let Some(extent) = &rx.reordering {
        reordering(text, extent);
    }
    if rx.restarts > 0 {
        let _ = writeln!(
            text,
            "restarts   {} streams are a sender's next run: what lies between is not lost",
            rx.restarts
        );
    }
    iperf(text, rx);
}

fn loss(text: &mut String, periods: &LossPeriods) {
    let lengths = &periods.length_packets;
    let _ = write!(
        text,
        "loss       in {} runs of {} to {} packets, mean {}",
        count(lengths.count),
        count(lengths.min),
        count(lengths.max),
        count(lengths.mean)
    );
    if let Some(distance) = &periods.distance_packets {
        let _ = write!(text, ", {} to {} packets apart", count(distance.min), count(distance.max));
    }
    if let Some(outage) = &periods.outage_ns {
        let _ = write!(text, "; longest silence {}, {} in all", time(outage.max), time(outage.sum));
    }
    text.push('\n');
}

fn reordering(text: &mut String, extent: &ReorderingExtent) {
    let mut parts = Vec::new();
    if let Some(extent) = &extent.extent_packets {
        parts.push(format!("extent mean {}, highest {} packets", count(extent.mean), count(extent.max)));
    }
    if let Some(late) = &extent.late_ns {
        parts.push(format!("late by up to {}", time(late.max)));
    }
    let (n, more) = (extent.n_packets.as_ref().map_or(0, |n| n.max), extent.at_least.is_some());
    parts.push(format!("n up to {}{}", count(n), if more { " at least" } else { "" }));
    parts.push(format!("{} of them 3-reordered", count(extent.three_or_more)));
    let _ = writeln!(text, "reordering {}", parts.join(", "));
}

/// One line, if an iperf would have said something else of the loss.
fn iperf(text: &mut String, rx: &Rx) {
    let lost = rx.lost + rx.lost_tail;
    let others: Vec<_> = [("iperf3", &rx.as_iperf3), ("iperf2", &rx.as_iperf2)]
        .into_iter()
        .filter_map(|(name, iperf)| Some((name, iperf.as_ref()?)))
        .filter(|(_, iperf)| iperf.lost != lost)
        .map(|(name, Iperf { lost, packets, lost_percent, .. })| {
            format!("{name} {}/{} ({lost_percent:.3} %)", count(*lost), count(*packets))
        })
        .collect();
    if !others.is_empty() {
        let _ =
            writeln!(text, "otherwise  lost as counted by {}; see docs/accounting.md", others.join(", by "));
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use wirerate_engine::measure::sequence::{Tracker, When};
    use wirerate_engine::measure::tally::{Format, RxTally, StreamKey, StreamTally};
    use wirerate_engine::report::RxCollector;

    /// What is said of a stream with these numbers, of `issued`.
    fn said(numbers: &[u64], issued: u64) -> String {
        let mut tracker = Tracker::<1024>::default();
        for (n, at) in numbers.iter().zip(1u64..) {
            let [first_ns, last_ns, now_ns] = [1, at - 1, at].map(|n| n * 1_000_000);
            tracker.arrive(*n, &When { first_ns, last_ns, now_ns, sent_gap_ns: None });
        }
        tracker.end(issued, true);
        let mut tally = RxTally::new(0);
        tracker.counters(&mut tally.counters);
        tally.streams.push(StreamTally {
            key: StreamKey {
                format: Format::Wirerate,
                run: 1,
                stream: 0,
                source: ([10, 0, 0, 1], 4000).into(),
                destination: ([10, 0, 0, 2], 5001).into(),
            },
            counters: tally.counters,
            jitter_ns: None,
            end: None,
            announced: 0,
            ended_ns: 0,
            detail: Some(Box::new(tracker.detail())),
            media: None,
        });
        let mut collector = RxCollector::new();
        collector.absorb(&tally);
        let mut text = String::new();
        pattern(&mut text, &collector.finish());
        text
    }

    #[test]
    fn a_clean_run_needs_no_words() {
        assert_eq!(said(&[0, 1, 2, 3], 4), "");
    }

    #[test]
    fn loss_and_what_iperf_makes_of_it() {
        assert_eq!(
            said(&[0, 3, 4, 4, 5], 10),
            "loss       in 2 runs of 2 to 4 packets, mean 3, 4 to 4 packets apart; longest silence 1.00 ms, 1.00 ms in all\n\
             otherwise  lost as counted by iperf3 1/6 (16.667 %), by iperf2 5/11 (45.455 %); see docs/accounting.md\n"
        );
    }

    #[test]
    fn reordering_alone() {
        assert_eq!(
            said(&[0, 2, 3, 4, 1, 5], 6),
            "reordering extent mean 3, highest 3 packets, late by up to 3.00 ms, n up to 3, 1 of them 3-reordered\n"
        );
    }
}
