//! What is counted over all nodes of a tenant, one by one.

use std::collections::HashMap;

use super::{Error, Graph, View, read};

/// The nodes of a class.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ClassCount {
    /// The class.
    pub class: String,
    /// Nodes of it that are not deleted; a node counts for each of its classes.
    pub total: u64,
    /// Those of them with a vector.
    pub embedded: u64,
}

impl Graph {
    /// The `limit` classes with the most nodes, of equal ones those that come first by name.
    ///
    /// # Errors
    ///
    /// The store's own.
    pub async fn class_counts(&self, view: &View, limit: usize) -> Result<Vec<ClassCount>, Error> {
        let owners = view.owners();
        self.reading(move |tx| {
            let mut counts: HashMap<String, (u64, u64)> = HashMap::new();
            for row in read::rows(tx, &owners)? {
                let (_, _, record) = row?;
                if record.deleted {
                    continue;
                }
                let embedded = u64::from(record.last_refreshed.is_some());
                for class in record.classes {
                    let count = counts.entry(class).or_default();
                    count.0 += 1;
                    count.1 += embedded;
                }
            }
            let count = |(class, (total, embedded))| ClassCount { class, total, embedded };
            let mut counts: Vec<ClassCount> = counts.into_iter().map(count).collect();
            counts.sort_by(|a, b| b.total.cmp(&a.total).then_with(|| a.class.cmp(&b.class)));
            counts.truncate(limit);
            Ok(counts)
        })
        .await
    }

    /// How many nodes drifted how far: counts of `buckets` equal parts of 0 to 1. What drifted
    /// farther is in the last; what never drifted is in none.
    ///
    /// # Errors
    ///
    /// The store's own.
    pub async fn drift_counts(&self, view: &View, buckets: usize) -> Result<Vec<u64>, Error> {
        let owners = view.owners();
        self.reading(move |tx| {
            let mut counts = vec![0; buckets];
            for row in read::rows(tx, &owners)? {
                let (_, _, record) = row?;
                if let (false, Some(drift)) = (record.deleted, record.drift_score) {
                    // The cast takes what is below 0, by rounding, for 0.
                    let bucket = (drift * buckets as f64) as usize;
                    if let Some(count) = counts.get_mut(bucket.min(buckets.saturating_sub(1))) {
                        *count += 1;
                    }
                }
            }
            Ok(counts)
        })
        .await
    }
}
