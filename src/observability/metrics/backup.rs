//! Backups.

use std::time::Duration;

use activekg_storage::time::UnixMicros;
use prometheus::{Gauge, IntCounterVec};

use super::register::Register;

/// Backups.
pub struct BackupMetrics {
    runs: IntCounterVec,
    last_success: Gauge,
    last_duration: Gauge,
    last_bytes: Gauge,
}

impl BackupMetrics {
    pub(super) fn new(register: &mut Register<'_>) -> Result<Self, prometheus::Error> {
        let runs =
            register.counters("activekg_backups_total", "Backups, by result", &["result"])?;
        for result in ["ok", "error"] {
            runs.with_label_values(&[result]);
        }
        Ok(Self {
            runs,
            last_success: register.gauge(
                "activekg_backup_last_success_timestamp_seconds",
                "Unix time of the snapshot in the newest backup, 0 if there is none",
            )?,
            last_duration: register.gauge(
                "activekg_backup_last_duration_seconds",
                "Time the newest backup of this process took",
            )?,
            last_bytes: register.gauge(
                "activekg_backup_last_bytes",
                "Size of the newest archive of this process",
            )?,
        })
    }

    /// A backup was made.
    pub fn made(&self, at: UnixMicros, took: Duration, bytes: u64) {
        self.runs.with_label_values(&["ok"]).inc();
        self.found(at);
        self.last_duration.set(took.as_secs_f64());
        self.last_bytes.set(bytes as f64);
    }

    /// A backup failed.
    pub fn failed(&self) {
        self.runs.with_label_values(&["error"]).inc();
    }

    /// There is one of this instant.
    pub fn found(&self, at: UnixMicros) {
        self.last_success.set(at.get() as f64 / 1e6);
    }
}
