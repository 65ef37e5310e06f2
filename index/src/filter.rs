//! Restrictions on what a search may return.

/// A set of allowed ids, kept sorted.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct IdSet(Vec<u128>);

impl IdSet {
    /// Whether `id` is in the set.
    #[must_use]
    pub fn contains(&self, id: u128) -> bool {
        self.0.binary_search(&id).is_ok()
    }

    /// The number of ids.
    #[must_use]
    pub fn len(&self) -> usize {
        self.0.len()
    }

    /// Whether nothing is allowed.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// The ids in rising order.
    pub fn iter(&self) -> impl Iterator<Item = u128> + '_ {
        self.0.iter().copied()
    }
}

impl From<Vec<u128>> for IdSet {
    fn from(mut ids: Vec<u128>) -> Self {
        ids.sort_unstable();
        ids.dedup();
        Self(ids)
    }
}

impl FromIterator<u128> for IdSet {
    fn from_iter<I: IntoIterator<Item = u128>>(ids: I) -> Self {
        ids.into_iter().collect::<Vec<_>>().into()
    }
}

/// A condition on the facts of a document: 64-bit hashes that the caller computes from whatever
/// it wants to filter by. Two things may share a hash, so the condition is necessary but not
/// sufficient, and callers check the real thing on every hit.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct FactFilter {
    /// Facts a document must all have.
    pub all: Vec<u64>,
    /// Groups of which a document must have at least one fact each. An empty group is met by none.
    pub any: Vec<Vec<u64>>,
}

impl FactFilter {
    /// Whether every document meets the condition.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.all.is_empty() && self.any.is_empty()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_id_set_forgets_order_and_repeats() {
        let set = IdSet::from(vec![9, 1, 9, u128::MAX]);
        assert_eq!(set.iter().collect::<Vec<_>>(), [1, 9, u128::MAX]);
        assert!(set.contains(9) && !set.contains(2));
        assert_eq!(set, [1, 9, u128::MAX].into_iter().collect());
    }
}
