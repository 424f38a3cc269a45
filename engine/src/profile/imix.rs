//! Mixes of frame sizes (IMIX): the genome of RFC 6985, and proportions.
//!
//! A genome names the frames in their order, a letter for each: `aaafg`. The letters stand for sizes with FCS as RFC 6985 §4 has them;
//! capital letters stand for sizes that are defined behind: `AAB;A=90,B=1420`. A number before a letter repeats it: `7a4c1g`. Proportions are
//! `7:64,4:594,1:1518`: so many frames of each size; the order is theirs, spread so that no size comes in a longer train than it has to.
#![forbid(unsafe_code)]

use super::size::SizeList;
use crate::error::{Error, Result};

/// Longest mix, in frames.
pub const LONGEST: usize = 4096;

/// Reads a mix: `imix`, proportions or a genome, which may stand in parentheses.
///
/// # Errors
/// `Usage`, with what is wrong.
pub fn parse(text: &str) -> Result<SizeList> {
    let inner = text.trim();
    if inner.eq_ignore_ascii_case("imix") {
        return Ok(SizeList::Imix);
    }
    let cycle = if inner.contains(':') { proportions(inner) } else { genome(inner) };
    cycle.map(SizeList::Cycle).map_err(|why| {
        Error::usage(format!("mix {text}: {why}")).fix(
            "write imix, proportions as 7:64,4:594,1:1518, or a genome of RFC 6985 as aaafg, 7a4c1g or AAB;A=90,B=1420",
        )
    })
}

/// The size that a letter of RFC 6985 §4 stands for. `z`, the MTU, is not one: it is another size on every link.
fn size_of(letter: char) -> Option<u32> {
    Some(match letter {
        'a' => 64,
        'b' => 128,
        'c' => 256,
        'd' => 512,
        'e' => 1024,
        'f' => 1280,
        'g' => 1518,
        'h' => 2112,
        'i' => 9000,
        'j' => 16_000,
        _ => return None,
    })
}

fn genome(text: &str) -> std::result::Result<Vec<u32>, String> {
    let (letters, defined) = text.split_once(';').unwrap_or((text, ""));
    let letters = letters.trim();
    let letters = letters.strip_prefix('(').and_then(|rest| rest.strip_suffix(')')).unwrap_or(letters);
    let mut custom = Vec::new();
    for definition in defined.split(',').filter(|part| !part.trim().is_empty()) {
        let parsed = definition.split_once('=').and_then(|(letter, size)| {
            let mut letter = letter.trim().chars();
            let named = letter.next().filter(char::is_ascii_uppercase)?;
            letter.next().is_none().then_some((named, bytes(size)?))
        });
        custom
            .push(parsed.ok_or_else(|| format!("\"{}\" defines no size, as A=90 does", definition.trim()))?);
    }
    let mut cycle = Vec::new();
    let mut count: Option<usize> = None;
    for letter in letters.chars() {
        if let Some(digit) = letter.to_digit(10) {
            count = Some(count.unwrap_or(0).saturating_mul(10).saturating_add(digit as usize));
            continue;
        }
        let size = match letter {
            'z' => return Err("z stands for the link's MTU: name that size, as A;A=1518".to_owned()),
            'A'..='Z' => custom.iter().find(|(named, _)| *named == letter).map(|(_, size)| *size),
            _ => size_of(letter),
        };
        let size = size.ok_or_else(|| format!("the letter {letter:?} stands for no size"))?;
        let repeat = count.take().unwrap_or(1);
        if repeat == 0 || repeat > LONGEST || cycle.len() + repeat > LONGEST {
            return Err(format!("a mix has from 1 to {LONGEST} frames"));
        }
        cycle.extend(std::iter::repeat_n(size, repeat));
    }
    if count.is_some() {
        return Err("a number without a letter behind it".to_owned());
    }
    if cycle.is_empty() { Err("no frames in it".to_owned()) } else { Ok(cycle) }
}

fn proportions(text: &str) -> std::result::Result<Vec<u32>, String> {
    let mut parts: Vec<(u64, u32)> = Vec::new();
    for part in text.split(',') {
        let parsed = part.split_once(':').and_then(|(share, size)| {
            let share = share.trim().parse::<u64>().ok().filter(|n| (1..=LONGEST as u64).contains(n))?;
            Some((share, bytes(size)?))
        });
        parts.push(parsed.ok_or_else(|| format!("\"{}\" is no proportion, as 7:64 is", part.trim()))?);
    }
    let divisor = parts.iter().fold(0, |a, (share, _)| gcd(a, *share));
    parts.iter_mut().for_each(|(share, _)| *share /= divisor.max(1));
    let total: u64 = parts.iter().map(|(share, _)| share).sum();
    if total > LONGEST as u64 {
        return Err(format!("a mix has from 1 to {LONGEST} frames"));
    }
    Ok(spread(&parts, total as usize))
}

/// Each of `parts` as often as its share says, at the places where it is most behind.
fn spread(parts: &[(u64, u32)], total: usize) -> Vec<u32> {
    let mut credit = vec![0_i64; parts.len()];
    (0..total)
        .map(|_| {
            for (credit, (share, _)) in credit.iter_mut().zip(parts) {
                *credit += *share as i64;
            }
            let most = (0..parts.len()).rev().max_by_key(|at| credit[*at]).unwrap_or(0);
            credit[most] -= total as i64;
            parts[most].1
        })
        .collect()
}

fn gcd(a: u64, b: u64) -> u64 {
    if b == 0 { a } else { gcd(b, a % b) }
}

fn bytes(text: &str) -> Option<u32> {
    text.trim().parse().ok().filter(|size| (1..=100_000).contains(size))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn cycle(text: &str) -> Vec<u32> {
        match parse(text).unwrap() {
            SizeList::Cycle(cycle) => cycle,
            SizeList::Imix => panic!("{text}"),
        }
    }

    #[test]
    fn genomes() {
        assert_eq!(cycle("aaafg"), [64, 64, 64, 1280, 1518]);
        assert_eq!(cycle("(a)"), [64]);
        assert_eq!(cycle("2a3bij"), [64, 64, 128, 128, 128, 9000, 16_000]);
        assert_eq!(cycle("AaB; A=90, B=1420"), [90, 64, 1420]);
        assert_eq!(parse("IMIX").unwrap(), SizeList::Imix);
    }

    #[test]
    fn proportions_are_kept_and_spread() {
        let simple = cycle("7:64,4:594,1:1518");
        let count = |size| simple.iter().filter(|s| **s == size).count();
        assert_eq!((simple.len(), count(64), count(594), count(1518)), (12, 7, 4, 1));
        assert!(!simple.windows(3).any(|three| three == [594; 3]), "{simple:?}");
        assert_eq!(cycle("50:64,50:1518"), [64, 1518]);
        assert_eq!(cycle("5:200"), [200]);
    }

    #[test]
    fn what_is_no_mix_is_said() {
        for text in [
            "", "()", "k", "z", "A", "A;A=", "A;a=64", "3", "0a", "5000a", "7:", ":64", "7:64;", "0:64",
            "1:0",
        ] {
            let error = parse(text).unwrap_err();
            assert!(error.kind == crate::Kind::Usage && error.fix.is_some(), "{text}");
        }
    }

    proptest! {
        #[test]
        fn no_text_panics(text in "[0-9a-zA-C:;=,() ]{0,30}") {
            if let Ok(SizeList::Cycle(cycle)) = parse(&text) {
                prop_assert!((1..=LONGEST).contains(&cycle.len()));
            }
        }

        #[test]
        fn every_size_has_its_share(parts in prop::collection::vec((1u64..50, 64u32..1519), 1..6)) {
            let text: Vec<_> = parts.iter().map(|(n, size)| format!("{n}:{size}")).collect();
            let cycle = cycle(&text.join(","));
            let total: u64 = parts.iter().map(|(n, _)| n).sum();
            for (_, size) in &parts {
                let share: u64 = parts.iter().filter(|(_, s)| s == size).map(|(n, _)| n).sum();
                let count = cycle.iter().filter(|s| *s == size).count() as u64;
                prop_assert_eq!(count * total, share * cycle.len() as u64);
            }
        }
    }
}
