//! Many groups in few lines.

use std::fmt::Write as _;

use wirerate_engine::report::Groups;

use super::count;

/// What all have in common, and a line for each of the worst.
pub fn groups(text: &mut String, groups: &Groups) {
    let Groups { asked, heard, with_loss, least_packets: least, most_packets: most, worst } = groups;
    let _ = writeln!(
        text,
        "groups     {} asked for, {} heard, {} with loss; {} to {} packets each",
        count(*asked),
        count(*heard),
        count(*with_loss),
        count(*least),
        count(*most)
    );
    for group in worst {
        let what = if group.packets == 0 && group.lost == 0 {
            "nothing heard".to_owned()
        } else {
            format!("{} packets, {} lost", count(group.packets), count(group.lost))
        };
        let _ = writeln!(text, "group      {}: {what}", std::net::SocketAddr::new(group.group, group.port));
    }
    let bad = (*with_loss + asked.saturating_sub(*heard)).saturating_sub(worst.len() as u64);
    if bad > 0 {
        let _ = writeln!(text, "           … and {} more with loss or not heard, see --json", count(bad));
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use wirerate_engine::report::GroupLoss;

    #[test]
    fn only_what_is_wrong_is_named() {
        let row = |n, packets, lost| GroupLoss { group: [239, 1, 1, n].into(), port: 5001, packets, lost };
        let mut all = String::new();
        groups(
            &mut all,
            &Groups {
                asked: 1000,
                heard: 990,
                with_loss: 1,
                least_packets: 0,
                most_packets: 12,
                worst: vec![row(1, 9, 3), row(2, 0, 0)],
            },
        );
        let lines: Vec<_> = all.lines().collect();
        assert_eq!(lines[0], "groups     1,000 asked for, 990 heard, 1 with loss; 0 to 12 packets each");
        assert_eq!(lines[1], "group      239.1.1.1:5001: 9 packets, 3 lost");
        assert_eq!(lines[2], "group      239.1.1.2:5001: nothing heard");
        assert!(lines[3].contains("and 9 more"));
    }
}
