use super::*;
use proptest::prelude::*;

/// Runs a search against `device`, and gives what it found and all loads that it tried.
fn run(
    limits: Limits,
    mut device: impl FnMut(f64, Purpose) -> Validity,
) -> (Found, Vec<(f64, Purpose, Validity)>) {
    let mut search = Search::new(limits).unwrap();
    let mut tried = Vec::new();
    loop {
        match search.ask() {
            Next::Trial(load, purpose) => {
                assert_eq!(search.ask(), Next::Trial(load, purpose), "it asks for the same trial until told");
                let validity = device(load, purpose);
                tried.push((load, purpose, validity));
                search.note(validity);
            }
            Next::Done(found) => return (found, tried),
        }
    }
}

fn below(limit: f64) -> impl FnMut(f64, Purpose) -> Validity {
    move |load, _| if load <= limit { Validity::Valid } else { Validity::Invalid }
}

#[test]
fn a_device_that_bears_everything_is_bounded_by_the_range() {
    let (found, tried) = run(Limits::new(1.0, 100.0, 1.0), below(1e9));
    assert_eq!(found, Found { load: Some(100.0), bound: Bound::Range, trials: 2 });
    assert_eq!(tried[1].1, Purpose::Confirm);
}

#[test]
fn a_device_that_bears_nothing_is_told_at_the_lowest_load() {
    let (found, tried) = run(Limits::new(10.0, 100.0, 1.0), below(0.0));
    assert_eq!((found.load, found.bound), (None, Bound::Device));
    assert_eq!(tried.last().unwrap().0, 10.0);
}

#[test]
fn only_the_lowest_load_is_valid() {
    let (found, _) = run(Limits::new(10.0, 100.0, 1.0), below(10.0));
    assert_eq!((found.load, found.bound), (Some(10.0), Bound::Device));
}

#[test]
fn a_range_of_one_load() {
    for (limit, load) in [(5.0, Some(5.0)), (4.0, None)] {
        let (found, _) = run(Limits::new(5.0, 5.0, 1.0), below(limit));
        assert_eq!(found.load, load);
    }
}

#[test]
fn a_sender_that_cannot_is_neither_good_nor_bad_news_of_the_device() {
    let sender = |load: f64, _| if load <= 30.0 { Validity::Valid } else { Validity::Inconclusive };
    let (found, tried) = run(Limits::new(1.0, 100.0, 1.0), sender);
    assert_eq!(found.bound, Bound::Sender);
    assert!((29.0..=30.0).contains(&found.load.unwrap()), "{found:?}");
    assert!(tried.iter().all(|t| t.2 != Validity::Invalid));

    let (found, _) = run(Limits::new(1.0, 100.0, 1.0), |_, _| Validity::Inconclusive);
    assert_eq!((found.load, found.bound), (None, Bound::Sender));
}

#[test]
fn a_sender_with_a_limit_above_the_device_s_does_not_hide_it() {
    let both = |load: f64, _| match load {
        load if load > 60.0 => Validity::Inconclusive,
        load if load > 40.0 => Validity::Invalid,
        _ => Validity::Valid,
    };
    let (found, _) = run(Limits::new(1.0, 100.0, 1.0), both);
    assert_eq!(found.bound, Bound::Device);
    assert!((39.0..=40.0).contains(&found.load.unwrap()));
}

#[test]
fn an_inconclusive_trial_is_repeated_first() {
    let mut hiccup = true;
    let (found, tried) = run(Limits::new(1.0, 100.0, 1.0), |_, _| {
        if std::mem::take(&mut hiccup) { Validity::Inconclusive } else { Validity::Valid }
    });
    assert_eq!((found.load, found.bound), (Some(100.0), Bound::Range));
    assert_eq!(tried[0].0, tried[1].0);
}

#[test]
fn a_long_trial_that_fails_lowers_what_a_short_one_found() {
    // Short trials are too short to see the loss above 50.
    let device = |load: f64, purpose| {
        let limit = if purpose == Purpose::Confirm { 50.0 } else { 80.0 };
        if load <= limit { Validity::Valid } else { Validity::Invalid }
    };
    let (found, tried) = run(Limits::new(1.0, 100.0, 1.0), device);
    assert!((49.0..=50.0).contains(&found.load.unwrap()), "{found:?} {tried:?}");
    assert_eq!(found.bound, Bound::Device);
    let long = tried.iter().filter(|t| t.1 == Purpose::Confirm).count();
    assert!(long < 15, "{long} long trials");
    assert!(
        matches!(tried.last().unwrap(), (load, Purpose::Confirm, Validity::Valid) if Some(*load) == found.load)
    );
}

#[test]
fn limits_that_cannot_be_searched_are_refused() {
    let good = Limits::new(1.0, 10.0, 0.1);
    for bad in [
        Limits { lower: 0.0, ..good },
        Limits { lower: 11.0, ..good },
        Limits { upper: f64::INFINITY, ..good },
        Limits { upper: f64::NAN, ..good },
        Limits { resolution: 0.0, ..good },
        Limits { resolution: f64::NAN, ..good },
        Limits { initial: 0.5, ..good },
        Limits { backoff: 1.0, ..good },
    ] {
        assert_eq!(bad.check().unwrap_err().kind, crate::Kind::Usage, "{bad:?}");
    }
}

proptest! {
    /// The model: the device bears what is not above `limit`.
    #[test]
    fn a_sharp_limit_is_found_to_the_resolution(
        lower in 1.0..1e4_f64, room in 0.0..1e6_f64, at in -0.2..1.2_f64,
        fineness in 1e-4..0.5_f64, backoff in 0.05..0.95_f64, begin in 0.0..=1.0_f64,
    ) {
        let upper = lower + room;
        let resolution = (room * fineness).max(1e-3);
        let limit = lower + at * room;
        let initial = (lower + begin * room).min(upper);
        let limits = Limits { initial, backoff, most_trials: 10_000, ..Limits::new(lower, upper, resolution) };
        let (found, tried) = run(limits, below(limit));
        match found.load {
            Some(load) => {
                prop_assert!(load <= limit, "{load} is above {limit}");
                prop_assert!(load >= upper || limit - load <= resolution, "{load} is too far below {limit}");
                prop_assert_eq!(found.bound, if load >= upper { Bound::Range } else { Bound::Device });
                let confirmed = tried.last().unwrap();
                prop_assert_eq!((confirmed.0, confirmed.1), (load, Purpose::Confirm));
            }
            None => prop_assert!(limit < lower),
        }
        prop_assert!(tried.iter().all(|t| (lower..=upper).contains(&t.0)));
    }

    /// Whatever a device does, the search ends, and what it gives was valid each time it was tried last.
    #[test]
    fn a_noisy_device_ends_the_search_too(
        answers in proptest::collection::vec(0..3_u8, 1..80), confirmations in 0..4_u32, repeats in 0..3_u32,
    ) {
        let limits = Limits { confirmations, repeats, ..Limits::new(1.0, 1000.0, 1.0) };
        let mut answers = answers.into_iter().cycle();
        let (found, tried) = run(limits, |_, _| match answers.next() {
            Some(0) => Validity::Valid,
            Some(1) => Validity::Invalid,
            _ => Validity::Inconclusive,
        });
        prop_assert!(tried.len() as u32 <= limits.most_trials);
        prop_assert_eq!(tried.len() as u32, found.trials);
        if let Some(load) = found.load {
            let last = tried.iter().rev().find(|t| t.0 == load).unwrap();
            prop_assert!(last.2 == Validity::Valid || found.bound == Bound::Unsettled);
            prop_assert!(tried.iter().all(|t| t.2 != Validity::Invalid || t.0 > load || found.bound == Bound::Unsettled));
        }
        if found.bound != Bound::Unsettled && let Some(load) = found.load {
            let finals = tried.iter().filter(|t| (t.0, t.1, t.2) == (load, Purpose::Confirm, Validity::Valid));
            prop_assert!(finals.count() as u32 >= confirmations);
        }
    }

    /// A device that fails a share of its trials by chance is never credited with more than it can bear.
    #[test]
    fn chance_never_finds_more_than_the_limit(limit in 1.0..1000.0_f64, chance in proptest::collection::vec(0..100_u8, 64)) {
        let mut chance = chance.into_iter().cycle();
        let (found, _) = run(Limits::new(1.0, 1000.0, 1.0), |load, _| {
            if load <= limit && chance.next() >= Some(10) { Validity::Valid } else { Validity::Invalid }
        });
        prop_assert!(found.load.is_none_or(|load| load <= limit));
    }
}
