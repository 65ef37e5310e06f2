//! Summaries of recent samples for the JSON of `/metrics`.

use std::collections::VecDeque;
use std::sync::{Mutex, PoisonError};

use serde_json::{Value, json};

/// Samples kept; older ones make room.
const SAMPLES_MAX: usize = 1024;

/// The latest samples of one quantity, and how many there were in all.
#[derive(Default)]
pub(super) struct Samples {
    inner: Mutex<Inner>,
}

#[derive(Default)]
struct Inner {
    latest: VecDeque<f64>,
    count: u64,
}

impl Samples {
    pub(super) fn add(&self, sample: f64) {
        // A panic cannot leave the numbers half changed, so a poisoned lock is as good as any.
        let mut inner = self.inner.lock().unwrap_or_else(PoisonError::into_inner);
        if inner.latest.len() == SAMPLES_MAX {
            inner.latest.pop_front();
        }
        inner.latest.push_back(sample);
        inner.count += 1;
    }

    /// `count` of all samples and the statistics of the kept ones; `None` before the first.
    pub(super) fn summary(&self) -> Option<Value> {
        let (mut kept, count) = {
            let inner = self.inner.lock().unwrap_or_else(PoisonError::into_inner);
            (inner.latest.iter().copied().collect::<Vec<_>>(), inner.count)
        };
        kept.sort_by(f64::total_cmp);
        let (min, max) = (*kept.first()?, *kept.last()?);
        let n = kept.len() as f64;
        let mean = kept.iter().sum::<f64>() / n;
        // The deviation of a sample, 0 for a single one.
        let squares = kept.iter().map(|sample| (sample - mean).powi(2)).sum::<f64>();
        let std = (squares / (n - 1.0).max(1.0)).sqrt();
        // The smallest kept sample with at least `share` of them at or below it.
        let at = |share: f64| kept[((n * share).ceil() as usize).clamp(1, kept.len()) - 1];
        Some(json!({
            "count": count, "mean": mean, "median": at(0.5), "p95": at(0.95), "p99": at(0.99),
            "min": min, "max": max, "std": std,
        }))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn there_is_no_summary_of_nothing() {
        assert_eq!(Samples::default().summary(), None);
    }

    #[test]
    fn a_summary_covers_the_latest_samples() {
        let samples = Samples::default();
        samples.add(1e9);
        for sample in 1..=SAMPLES_MAX {
            samples.add(sample as f64);
        }
        let summary = samples.summary().unwrap();
        assert_eq!(summary["count"], 1025);
        assert_eq!((summary["min"].as_f64(), summary["max"].as_f64()), (Some(1.0), Some(1024.0)));
        assert_eq!(
            (summary["median"].as_f64(), summary["p95"].as_f64()),
            (Some(512.0), Some(973.0))
        );
        assert_eq!(summary["mean"].as_f64(), Some(512.5));
    }

    #[test]
    fn one_sample_has_no_deviation() {
        let samples = Samples::default();
        samples.add(7.0);
        let summary = samples.summary().unwrap();
        assert_eq!((summary["p99"].as_f64(), summary["std"].as_f64()), (Some(7.0), Some(0.0)));
    }
}
