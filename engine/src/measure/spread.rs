//! How whole numbers are spread: count, lowest, highest, sum, and how many there are of each size.
#![forbid(unsafe_code)]

/// Sizes told apart: 0, and one for each number of binary digits.
const SIZES: usize = 65;

/// A small distribution of whole numbers: exact in count, lowest, highest and sum, to a power of two in between.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Spread {
    count: u64,
    min: u64,
    max: u64,
    sum: u64,
    /// How many have so many binary digits.
    sizes: [u64; SIZES],
}

impl Default for Spread {
    fn default() -> Self {
        Self { count: 0, min: u64::MAX, max: 0, sum: 0, sizes: [0; SIZES] }
    }
}

impl Spread {
    /// Takes in `value`.
    pub fn record(&mut self, value: u64) {
        self.count += 1;
        self.min = self.min.min(value);
        self.max = self.max.max(value);
        self.sum = self.sum.saturating_add(value);
        self.sizes[(u64::BITS - value.leading_zeros()) as usize] += 1;
    }

    /// Takes in all that `other` holds.
    pub fn add(&mut self, other: &Self) {
        self.count += other.count;
        self.min = self.min.min(other.min);
        self.max = self.max.max(other.max);
        self.sum = self.sum.saturating_add(other.sum);
        self.sizes.iter_mut().zip(other.sizes).for_each(|(own, other)| *own += other);
    }

    /// How many values there are.
    pub fn count(&self) -> u64 {
        self.count
    }

    /// The lowest and the highest value; `None` when there is none.
    pub fn range(&self) -> Option<(u64, u64)> {
        (self.count > 0).then_some((self.min, self.max))
    }

    /// The sum of the values.
    pub fn sum(&self) -> u64 {
        self.sum
    }

    /// The mean, rounded down; 0 when there are no values.
    pub fn mean(&self) -> u64 {
        self.sum.checked_div(self.count).unwrap_or(0)
    }

    /// How many values lie in each range that has any, in rising order: the highest value that the range could have (0, 1, 3, 7, 15 …), and how
    /// many are above the range before and not above it.
    pub fn buckets(&self) -> impl Iterator<Item = (u64, u64)> + '_ {
        let filled = self.sizes.iter().enumerate().filter(|(_, count)| **count > 0);
        filled.map(|(digits, count)| (u64::MAX.checked_shr(64 - digits as u32).unwrap_or(0), *count))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn values_are_found_in_their_ranges() {
        let mut spread = Spread::default();
        assert_eq!((spread.range(), spread.mean(), spread.buckets().count()), (None, 0, 0));
        [0, 1, 2, 3, 4, 7, 8, u64::MAX / 2 + 1].into_iter().for_each(|value| spread.record(value));
        let buckets: Vec<_> = spread.buckets().collect();
        assert_eq!(buckets, [(0, 1), (1, 1), (3, 2), (7, 2), (15, 1), (u64::MAX, 1)]);
        assert_eq!((spread.count(), spread.range()), (8, Some((0, u64::MAX / 2 + 1))));
    }

    #[test]
    fn two_added_are_as_one() {
        let (mut one, mut two, mut all) = (Spread::default(), Spread::default(), Spread::default());
        for value in 0..100u64 {
            if value % 3 == 0 { &mut one } else { &mut two }.record(value * value);
            all.record(value * value);
        }
        one.add(&two);
        assert_eq!(one, all);
        assert_eq!(one.mean(), 99 * 100 * 199 / 6 / 100);
        one.add(&Spread::default());
        assert_eq!(one, all);
    }
}
