//! A few different values, of which more may come than there is room for.

/// Up to `N` different values in the order in which they came.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Few<T, const N: usize> {
    values: [T; N],
    count: usize,
}

impl<T: Copy + Default, const N: usize> Default for Few<T, N> {
    fn default() -> Self {
        Self { values: [T::default(); N], count: 0 }
    }
}

impl<T: Copy + PartialEq, const N: usize> Few<T, N> {
    /// Takes in a value; one for which there is no room is left out.
    #[inline]
    pub fn see(&mut self, value: T) {
        if !self.values().contains(&value) && self.count < N {
            self.values[self.count] = value;
            self.count += 1;
        }
    }

    /// The values.
    pub fn values(&self) -> &[T] {
        &self.values[..self.count]
    }
}
