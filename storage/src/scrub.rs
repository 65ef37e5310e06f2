//! Looking at every row of a store that is in use, a part at a time.

use crate::error::StorageError;
use crate::read::ReadTx;
use crate::store::Store;
use crate::table::TableInfo;
use crate::tables;
use crate::walk::{self, Limit, TableReport};

/// A scan over the rows of all tables that reads through a fresh snapshot in each step, so that it
/// holds no old pages while it pauses. A row that is written while the scan goes on may be missed;
/// it was checked when it was written.
#[derive(Debug, Default)]
pub struct Scrub {
    /// Tables that are done.
    done: Vec<TableReport>,
    /// The table under way.
    report: Option<TableReport>,
    /// The last key seen of it.
    after: Option<Vec<u8>>,
}

/// What a step of a [`Scrub`] came to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ScrubStep {
    /// Rows looked at.
    pub rows: u64,
    /// Their bytes.
    pub bytes: u64,
    /// Those that are damaged.
    pub n_damaged: u64,
    /// The table they are of; `None` if all are done.
    pub table: Option<&'static str>,
}

impl Scrub {
    /// Looks at the next rows of one table: up to `rows`, or `bytes` of them, but at least one.
    ///
    /// # Errors
    ///
    /// [`StorageError::Closed`], or the disk is at fault. Damage is no error but part of the report.
    pub fn step(
        &mut self,
        store: &Store,
        rows: u64,
        bytes: u64,
    ) -> Result<ScrubStep, StorageError> {
        let Some(table) = tables::all().nth(self.done.len()) else {
            return Ok(ScrubStep { rows: 0, bytes: 0, n_damaged: 0, table: None });
        };
        let tx = store.read()?;
        let mut report = self.report.take().unwrap_or_else(|| TableReport::new(table.name));
        let weight = |report: &TableReport| report.key_bytes + report.value_bytes;
        let before = (report.rows, weight(&report), report.n_damaged);
        let limit = Limit { rows, bytes };
        self.after = walk::part(&tx, table, self.after.as_deref(), limit, true, &mut report);
        let step = ScrubStep {
            rows: report.rows - before.0,
            bytes: weight(&report) - before.1,
            n_damaged: report.n_damaged - before.2,
            table: Some(table.name),
        };
        if self.after.is_some() {
            self.report = Some(report);
        } else {
            self.done.push(report);
        }
        Ok(step)
    }

    /// The tables that are done. The one under way is not among them.
    #[must_use]
    pub fn reports(&self) -> &[TableReport] {
        &self.done
    }

    /// [`Scrub::reports`], for keeps.
    #[must_use]
    pub fn into_reports(self) -> Vec<TableReport> {
        self.done
    }
}

/// How much every table holds, without a close look at the rows, through one snapshot.
/// Damage is part of the report.
pub fn census(tx: &ReadTx) -> Vec<TableReport> {
    let count = |table: &TableInfo| {
        let mut report = TableReport::new(table.name);
        walk::part(tx, table, None, Limit::NONE, false, &mut report);
        report
    };
    tables::all().map(count).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ids::TenantId;
    use crate::store::testing;
    use crate::tables::graph::add_count;

    #[test]
    fn steps_together_see_every_row_once() {
        let dir = tempfile::tempdir().unwrap();
        let store = testing::open(dir.path());
        testing::write(&store, |tx| {
            let tenant = TenantId::new("acme").unwrap();
            (0..25).try_for_each(|n| add_count(tx, &tenant, &format!("{n}"), 1).map(drop))
        });
        for rows in [1, 7, 1000] {
            let mut scrub = Scrub::default();
            let mut seen = 0;
            loop {
                let step = scrub.step(&store, rows, u64::MAX).unwrap();
                assert!(step.rows <= rows);
                seen += step.rows;
                // Writes between steps do not disturb it.
                testing::write(&store, |tx| add_count(tx, &TenantId::shared(), "n", 1));
                if step.table.is_none() {
                    break;
                }
            }
            let reports = scrub.into_reports();
            assert_eq!(reports.iter().map(|table| table.rows).sum::<u64>(), seen);
            let counts = reports.iter().find(|table| table.table == "graph.counts").unwrap();
            assert!((25..=26).contains(&counts.rows), "{}", counts.rows);
            assert!(reports.iter().all(TableReport::is_sound));
            assert_eq!(reports.len(), tables::all().count());
        }
        let tx = store.read().unwrap();
        let counts = census(&tx).into_iter().find(|table| table.table == "graph.counts").unwrap();
        assert_eq!(counts.rows, 26);
        assert!(counts.largest_bytes > 0 && counts.key_bytes > counts.rows);
    }
}
