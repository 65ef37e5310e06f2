//! Rows that stand beside nodes now and did not when an older version wrote the nodes.

use activekg_storage::tables::graph::{NODES, SWEEPS, SweepRecord};
use activekg_storage::{Readable, Scan};

use super::{Error, Graph, due, listeners, purge};

/// Under which a store remembers how far it is. Of the first such rows, and kept for their sake.
const NAME: &str = "refresh_due";
/// Which rows there are. A store that was gone through for fewer is gone through again.
const ROWS: &str = "2";
/// Nodes of one step.
const STEP: usize = 1000;

impl Graph {
    /// Gives some more of the nodes of a store that an older version wrote their places in the order
    /// of refreshes, among those that listen for patterns, in the order of purges and among the
    /// chunks of documents; whether all have theirs. Once they have, it costs one read.
    ///
    /// # Errors
    ///
    /// The store's own; the step is done over then.
    pub async fn upgrade_nodes(&self) -> Result<bool, Error> {
        let name = (NAME.to_owned(),);
        let key = name.clone();
        let before = self.reading(move |tx| Ok(tx.get(&SWEEPS, &key)?)).await?;
        if before.is_some_and(|sweep| sweep.rules == ROWS && sweep.finished_at.is_some()) {
            return Ok(true);
        }
        let now = self.clock.now();
        let committed = self
            .store
            .write(move |tx| -> Result<bool, Error> {
                let new = SweepRecord {
                    rules: ROWS.to_owned(),
                    at: None,
                    checked: 0,
                    found: 0,
                    finished_at: None,
                };
                let begun = tx.get(&SWEEPS, &name)?.filter(|sweep| sweep.rules == ROWS);
                let mut sweep = begun.unwrap_or(new);
                let scan = sweep.at.as_ref().map_or(Scan::all(), |at| Scan::all().after(at));
                let rows = tx.scan(&NODES, scan)?.take(STEP).collect::<Result<Vec<_>, _>>()?;
                for (key, record) in &rows {
                    sweep.found += u64::from(due::add_missing(tx, key, record)?);
                    listeners::moved(tx, key, None, Some(record))?;
                    purge::moved(tx, key, None, Some(record))?;
                }
                sweep.checked += rows.len() as u64;
                sweep.finished_at = (rows.len() < STEP).then_some(now);
                sweep.at = rows.into_iter().next_back().map(|(key, _)| key).or(sweep.at);
                let done = sweep.finished_at.is_some();
                tx.put(&SWEEPS, &name, &sweep)?;
                Ok(done)
            })
            .await?;
        Ok(committed.value)
    }
}
