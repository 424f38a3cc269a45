//! In what order frames to groups and frames to single hosts leave, when both are of one stream (RFC 3918 §4.1): `m1 u1 m2 u2 m3 u1 …`.
#![forbid(unsafe_code)]

/// Most places of an order, where fewer are enough to come near to the share that was asked for: each is a flow with a socket of its own.
const MOST: u32 = 512;

/// Whose turn it is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Turn {
    /// A group's, by its number.
    Group(u16),
    /// A single host's, by its number.
    Host(u16),
}

/// An order that begins anew when all had their turns: each group as often as any other, each host as often as any other, the classes spread evenly.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Mix {
    turns: Vec<Turn>,
    repeats: u32,
}

impl Mix {
    /// For at least one group and one host. `percent` of all frames, above 0 and below 100, go to hosts, or so nearly as [`hosts_share`](Self::hosts_share) tells.
    pub fn new(groups: u16, hosts: u16, percent: f64) -> Self {
        let (groups, hosts) = (u32::from(groups.max(1)), u32::from(hosts.max(1)));
        let share = (percent / 100.0).clamp(0.001, 0.999);
        // How often each host has its turn, where each group has so many.
        let times = |repeats: u32| -> u32 {
            let wanted = f64::from(groups * repeats) * share / (1.0 - share);
            ((wanted / f64::from(hosts)).round() as u32).max(1)
        };
        let off = |repeats: u32| {
            let to_hosts = f64::from(times(repeats) * hosts);
            (to_hosts / (to_hosts + f64::from(groups * repeats)) - share).abs()
        };
        let mut best = 1;
        for repeats in 2..=MOST {
            if groups * repeats + times(repeats) * hosts > MOST || off(best) < 1e-9 {
                break;
            }
            if off(repeats) < off(best) {
                best = repeats;
            }
        }
        let to_hosts = times(best) * hosts;
        let all = groups * best + to_hosts;
        let (mut group, mut host) = (0, 0);
        let turns = (0..u64::from(all)).map(|n| {
            let due = |n: u64| n * u64::from(to_hosts) / u64::from(all);
            if due(n + 1) > due(n) {
                host += 1;
                Turn::Host(((host - 1) % hosts) as u16)
            } else {
                group += 1;
                Turn::Group(((group - 1) % groups) as u16)
            }
        });
        Self { turns: turns.collect(), repeats: best }
    }

    /// The order.
    pub fn turns(&self) -> &[Turn] {
        &self.turns
    }

    /// How many turns each group has in it.
    pub fn repeats(&self) -> u32 {
        self.repeats
    }

    /// Turns of hosts, of all.
    pub fn hosts_share(&self) -> f64 {
        let hosts = self.turns.iter().filter(|turn| matches!(turn, Turn::Host(_))).count();
        hosts as f64 / self.turns.len() as f64
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn text(groups: u16, hosts: u16, percent: f64) -> String {
        let mix = Mix::new(groups, hosts, percent);
        let words = mix.turns().iter().map(|turn| match turn {
            Turn::Group(n) => format!("m{}", n + 1),
            Turn::Host(n) => format!("u{}", n + 1),
        });
        words.collect::<Vec<_>>().join(" ")
    }

    #[test]
    fn classes_alternate_as_rfc_3918_shows_it() {
        assert_eq!(text(6, 3, 50.0), "m1 u1 m2 u2 m3 u3 m4 u1 m5 u2 m6 u3");
        assert_eq!(text(1, 2, 50.0), "m1 u1 m1 u2");
        assert_eq!(text(3, 2, 50.0), "m1 u1 m2 u2 m3 u1 m1 u2 m2 u1 m3 u2");
        assert_eq!(text(3, 1, 25.0), "m1 m2 m3 u1");
        assert_eq!(text(1, 1, 75.0), "m1 u1 u1 u1");
    }

    proptest! {
        #[test]
        fn all_have_their_turns(groups in 1u16..300, hosts in 1u16..20, percent in 1f64..99.0) {
            let mix = Mix::new(groups, hosts, percent);
            let count = |turn: Turn| mix.turns().iter().filter(|t| **t == turn).count();
            let repeats = mix.repeats() as usize;
            prop_assert!((0..groups).all(|n| count(Turn::Group(n)) == repeats));
            let of_a_host = count(Turn::Host(0));
            prop_assert!(of_a_host > 0 && (0..hosts).all(|n| count(Turn::Host(n)) == of_a_host));
            // As near as one turn more or less for each host comes, if no better.
            let one = f64::from(hosts) / f64::from(groups);
            prop_assert!((mix.hosts_share() - percent / 100.0).abs() <= one, "{}", mix.hosts_share());
        }
    }
}
