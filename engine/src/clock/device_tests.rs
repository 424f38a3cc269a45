use super::*;
use proptest::prelude::*;

const MS: u64 = 1_000_000;
const S: u64 = 1_000_000_000;

/// A device's clock that goes `ppb` faster than CLOCK_TAI and showed `zero_ns` when that was 10⁹ s.
#[derive(Debug, Clone, Copy)]
struct Truth {
    zero_ns: u64,
    ppb: i64,
}

impl Truth {
    const EPOCH_NS: u64 = S * S;

    fn device_ns(self, tai_ns: u64) -> u64 {
        let since = i128::from(tai_ns) - i128::from(Self::EPOCH_NS);
        let device = since + since * i128::from(self.ppb) / 1_000_000_000;
        (i128::from(self.zero_ns) + device) as u64
    }

    /// Compared at `tai_ns`, and read wrong by `wrong` thousandths of what may be.
    fn compared(self, tai_ns: u64, error_ns: u64, wrong: i64) -> Comparison {
        let off = wrong * error_ns.cast_signed() / 1000;
        Comparison { device_ns: self.device_ns(tai_ns), tai_ns: tai_ns.saturating_add_signed(off), error_ns }
    }
}

fn truth() -> impl Strategy<Value = Truth> {
    (S..4 * S * S, -500_000i64..500_000).prop_map(|(zero_ns, ppb)| Truth { zero_ns, ppb })
}

proptest! {
    #[test]
    fn a_clock_that_goes_evenly_is_followed_within_the_error(
        truth in truth(),
        comparisons in prop::collection::vec((20u64..1500, 1u64..3000, -1000i64..=1000), 3..30),
        between in prop::collection::vec(0u64..1000, 1..8),
    ) {
        let mut now_ns = Truth::EPOCH_NS;
        let first = truth.compared(now_ns, comparisons[0].1, comparisons[0].2);
        now_ns += 100 * MS;
        let second = truth.compared(now_ns, comparisons[1].1, comparisons[1].2);
        let mut follower = Follower::begin(first, second).unwrap();
        // Stamps of one period, the times that they were taken at, and what they were by the line of then.
        let mut worst = 0;
        for &(wait, error_ns, wrong) in &comparisons[2..] {
            let length = wait * MS;
            for thousandth in &between {
                let tai_ns = now_ns + length * thousandth / 1000;
                worst = worst.max(follower.line().tai_ns(truth.device_ns(tai_ns)).abs_diff(tai_ns));
            }
            now_ns += length;
            prop_assert_eq!(follower.take(truth.compared(now_ns, error_ns, wrong)), None);
            // Rounding of the clocks, and of the drift over a period.
            prop_assert!(worst <= follower.line().error_ns() + 4, "{} > {}", worst, follower.line().error_ns());
        }
        prop_assert_eq!(follower.steps(), 0);
        prop_assert_eq!(follower.comparisons(), comparisons.len() as u64);
    }

    #[test]
    fn times_that_rise_on_the_device_never_fall(
        truth in truth(),
        comparisons in prop::collection::vec((20u64..1500, 1u64..3000, -1000i64..=1000), 3..30),
        steps in prop::collection::vec(0u64..20_000_000, 1..100),
    ) {
        let mut now_ns = Truth::EPOCH_NS;
        let first = truth.compared(now_ns, 1000, 0);
        now_ns += 100 * MS;
        let mut follower = Follower::begin(first, truth.compared(now_ns, 1000, 0)).unwrap();
        let (mut device_ns, mut last) = (truth.device_ns(now_ns), 0);
        let mut steps = steps.into_iter().cycle();
        for (wait, error_ns, wrong) in comparisons {
            now_ns += wait * MS;
            // Some stamps are read before the comparison, and some that are older only after it.
            for _ in 0..20 {
                device_ns += steps.next().unwrap();
                let tai_ns = follower.line().tai_ns(device_ns);
                prop_assert!(tai_ns >= last, "{} < {}", tai_ns, last);
                last = tai_ns;
                if device_ns >= truth.device_ns(now_ns) {
                    break;
                }
            }
            prop_assert_eq!(follower.take(truth.compared(now_ns, error_ns, wrong)), None);
            // What was not read yet is at most as old as the last comparison but one.
            device_ns = device_ns.max(truth.device_ns(now_ns - wait * MS));
        }
    }

    #[test]
    fn a_clock_that_is_set_is_noticed_and_followed_again(
        truth in truth(), set in prop_oneof![-S.cast_signed() * 1000..-2_100_000, 2_100_000..S.cast_signed() * 1000],
    ) {
        let at = |n: u64| Truth::EPOCH_NS + n * S;
        let mut follower = Follower::begin(truth.compared(at(0), 500, 0), truth.compared(at(1), 500, 0)).unwrap();
        prop_assert_eq!(follower.take(truth.compared(at(2), 500, 0)), None);
        let error_ns = follower.line().error_ns();
        let after = Truth { zero_ns: truth.zero_ns.saturating_add_signed(set).max(1), ..truth };
        let noticed = follower.take(after.compared(at(3), 500, 0)).expect("more than the clocks' pace explains");
        // Seen from CLOCK_TAI it is the other way round.
        prop_assert!((noticed + set).unsigned_abs() <= set.unsigned_abs() / 1000 + 4, "{} for {}", noticed, set);
        prop_assert_eq!((follower.steps(), follower.line().error_ns()), (1, error_ns));
        // From the next comparison on nothing is left of it.
        prop_assert_eq!(follower.take(after.compared(at(4), 500, 0)), None);
        let tai_ns = at(4) + S / 2;
        prop_assert!(follower.line().tai_ns(after.device_ns(tai_ns)).abs_diff(tai_ns) <= follower.line().error_ns() + 4);
    }

    #[test]
    fn no_comparisons_panic(times in prop::collection::vec(any::<(u64, u64, u64)>(), 2..40), stamps: [u64; 4]) {
        let compared = |(device_ns, tai_ns, error_ns)| Comparison { device_ns, tai_ns, error_ns };
        let mut times = times.into_iter().map(compared);
        let (first, second) = (times.next().unwrap(), times.next().unwrap());
        if let Some(mut follower) = Follower::begin(first, second) {
            for comparison in times {
                let _ = (follower.take(comparison), follower.faster_ppb(), comparison.offset_ns());
                let line = follower.line();
                let _ = stamps.map(|stamp| line.tai_ns(stamp));
            }
        }
    }
}

#[test]
fn a_clock_that_stands_is_none() {
    let at = |tai_ns, device_ns| Comparison { device_ns, tai_ns, error_ns: 1 };
    assert!(Follower::begin(at(S, 5), at(2 * S, 5)).is_none());
    assert!(Follower::begin(at(S, 5), at(2 * S, 4)).is_none());
    assert!(Follower::begin(at(S, 5), at(2 * S, 5 + 17 * S)).is_none(), "seventeen times as fast");
    assert!(Follower::begin(at(S, 5), at(2 * S, 5 + S)).is_some());
}

#[test]
fn comparisons_come_twice_as_far_apart_up_to_a_second() {
    let truth = Truth { zero_ns: 77 * S, ppb: 40_000 };
    let mut now_ns = Truth::EPOCH_NS + 100 * MS;
    let first = truth.compared(Truth::EPOCH_NS, 700, 0);
    let mut follower = Follower::begin(first, truth.compared(now_ns, 700, 0)).unwrap();
    let mut waits = vec![];
    for _ in 0..6 {
        let from = now_ns;
        while !follower.is_due(now_ns) {
            now_ns += MS;
        }
        waits.push((now_ns - from) / MS);
        follower.take(truth.compared(now_ns, 700, 0));
    }
    assert_eq!(waits, [200, 400, 800, 1000, 1000, 1000]);
    assert!(follower.faster_ppb().abs_diff(40_000) <= 4, "{}", follower.faster_ppb());
    assert_eq!(follower.last().offset_ns(), truth.device_ns(now_ns).wrapping_sub(now_ns).cast_signed());
}

#[test]
fn a_stamp_that_contradicts_who_had_the_packet_later_is_none() {
    let at = |n: u64| Comparison { device_ns: 7 * S + n, tai_ns: n, error_ns: 40 };
    let line = Follower::begin(at(S), at(2 * S)).unwrap().line();
    assert_eq!(line.arrived_ns(10 * S, 3 * S + 5), Some(3 * S));
    assert_eq!(line.arrived_ns(10 * S + 100_000, 3 * S), Some(3 * S), "not known better than that");
    assert_eq!(line.arrived_ns(10 * S + 100_041, 3 * S), None);
    assert_eq!(line.arrived_ns(10 * S, 4 * S), Some(3 * S));
    assert_eq!(line.arrived_ns(10 * S, 4 * S + 1), None);
}

#[test]
fn readers_see_whole_lines() {
    // Each line says the same in all of its parts.
    let line = |n: u64| Line {
        device_ns: n,
        tai_ns: n,
        before: n.cast_signed(),
        after: n.cast_signed(),
        error_ns: n,
    };
    let shared = Shared::new(line(0));
    std::thread::scope(|scope| {
        let reader = scope.spawn(|| {
            let mut seen = 0;
            while seen < 50_000 {
                let read = shared.line();
                assert_eq!(read, line(read.error_ns));
                assert!(read.error_ns >= seen);
                seen = read.error_ns;
            }
        });
        (1..=50_000).for_each(|n| shared.renew(line(n)));
        reader.join().unwrap();
    });
}
