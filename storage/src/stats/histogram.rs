//! Counting values by size, without a lock.

use std::sync::atomic::{AtomicU64, Ordering::Relaxed};

/// How many values fell into which bucket.
#[derive(Debug, Clone, PartialEq)]
pub struct Histogram {
    /// Largest value of each bucket but the last, which has no bound; ascending.
    pub bounds: &'static [f64],
    /// Values in each bucket; one more than there are bounds.
    pub counts: Vec<u64>,
    /// All values together.
    pub sum: f64,
}

impl Histogram {
    /// How many values there were.
    #[must_use]
    pub fn count(&self) -> u64 {
        self.counts.iter().sum()
    }

    /// Their mean; 0 if there were none.
    #[must_use]
    pub fn mean(&self) -> f64 {
        match self.count() {
            0 => 0.0,
            count => self.sum / count as f64,
        }
    }
}

/// A histogram being filled, by one thread at a time; read by any.
#[derive(Debug)]
pub(super) struct Observed {
    bounds: &'static [f64],
    counts: Vec<AtomicU64>,
    /// The bits of an `f64`.
    sum: AtomicU64,
}

impl Observed {
    pub(super) fn new(bounds: &'static [f64]) -> Observed {
        let counts = (0..=bounds.len()).map(|_| AtomicU64::new(0)).collect();
        Observed { bounds, counts, sum: AtomicU64::new(0f64.to_bits()) }
    }

    pub(super) fn observe(&self, value: f64) {
        let bucket = self.bounds.partition_point(|bound| *bound < value);
        if let Some(count) = self.counts.get(bucket) {
            count.fetch_add(1, Relaxed);
        }
        let sum = f64::from_bits(self.sum.load(Relaxed)) + value;
        self.sum.store(sum.to_bits(), Relaxed);
    }

    pub(super) fn snapshot(&self) -> Histogram {
        Histogram {
            bounds: self.bounds,
            counts: self.counts.iter().map(|count| count.load(Relaxed)).collect(),
            sum: f64::from_bits(self.sum.load(Relaxed)),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_value_on_a_bound_belongs_below_it() {
        let observed = Observed::new(&[1.0, 2.0]);
        for value in [0.5, 1.0, 1.5, 2.0, 9.0] {
            observed.observe(value);
        }
        let seen = observed.snapshot();
        assert_eq!(seen.counts, [2, 2, 1]);
        assert_eq!((seen.count(), seen.sum, seen.mean()), (5, 14.0, 2.8));
        assert_eq!(Observed::new(&[1.0]).snapshot().mean(), 0.0);
    }
}
