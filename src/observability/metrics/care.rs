//! The scan that looks for damage in the store.

use activekg_storage::tables;
use activekg_storage::time::UnixMicros;
use prometheus::{Counter, Gauge, GaugeVec};

use super::register::Register;

/// The scan that looks for damage in the store.
pub struct CareMetrics {
    scanned: Counter,
    corrupt: GaugeVec,
    finished: Gauge,
}

impl CareMetrics {
    pub(super) fn new(register: &mut Register<'_>) -> Result<Self, prometheus::Error> {
        let scanned = register
            .counter("activekg_store_rows_scanned_total", "Rows compared with their checksums")?;
        let corrupt = register.gauges(
            "activekg_store_corrupt_rows",
            "Damaged rows that the latest scan found, by table",
            &["table"],
        )?;
        for table in tables::all() {
            corrupt.with_label_values(&[table.name]);
        }
        let finished = register.gauge(
            "activekg_store_scan_finished_timestamp_seconds",
            "Unix time when the latest scan of all rows ended, 0 before the first",
        )?;
        Ok(Self { scanned, corrupt, finished })
    }

    /// This many rows were looked at.
    pub fn scanned(&self, rows: u64) {
        self.scanned.inc_by(rows as f64);
    }

    /// A scan found this many damaged rows in a table.
    pub fn corrupt(&self, table: &str, rows: u64) {
        self.corrupt.with_label_values(&[table]).set(rows as f64);
    }

    /// A scan has looked at all rows.
    pub fn finished(&self, at: UnixMicros) {
        self.finished.set(at.get() as f64 / 1e6);
    }
}
