//! Triggers.

use std::time::Duration;

use prometheus::{HistogramVec, IntCounterVec};

use super::bounded::{Bounded, OTHER};
use super::register::Register;

/// Triggers.
pub struct TriggerMetrics {
    fired: IntCounterVec,
    latency: HistogramVec,
    patterns: Bounded,
}

/// Which nodes a run looks at.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum TriggerMode {
    /// All that name a pattern.
    Full,
    /// Those whose embedding changed.
    Targeted,
}

impl TriggerMetrics {
    pub(super) fn new(register: &mut Register<'_>) -> Result<Self, prometheus::Error> {
        let fired = register.counters(
            "activekg_triggers_fired_total",
            "Triggers that fired",
            &["pattern", "mode"],
        )?;
        let latency = register.histograms(
            "activekg_trigger_run_latency_seconds",
            "Time of a run over triggers",
            &["mode"],
            &[0.01, 0.05, 0.1, 0.25, 0.5, 1.0, 2.0, 5.0],
        )?;
        for mode in [TriggerMode::Full, TriggerMode::Targeted] {
            latency.with_label_values(&[mode.as_str()]);
        }
        Ok(Self { fired, latency, patterns: Bounded::default() })
    }

    /// A trigger fired. Patterns beyond the first thousand are counted together.
    pub fn fired(&self, pattern: &str, mode: TriggerMode) {
        let pattern = if self.patterns.shows(pattern) { pattern } else { OTHER };
        self.fired.with_label_values(&[pattern, mode.as_str()]).inc();
    }

    /// A run ended.
    pub fn ran(&self, mode: TriggerMode, latency: Duration) {
        self.latency.with_label_values(&[mode.as_str()]).observe(latency.as_secs_f64());
    }
}

impl TriggerMode {
    fn as_str(self) -> &'static str {
        match self {
            Self::Full => "full",
            Self::Targeted => "targeted",
        }
    }
}
