//! Whether a store is what it should be: every page, every row, and what rows say of each other.

use serde::Serialize;

use crate::consistency::{self, Disagreement, Isolation};
use crate::error::StorageError;
use crate::offline::Offline;
use crate::open;
use crate::read::ReadTx;
use crate::tables;
use crate::walk::{self, EXAMPLES_MAX, Limit, TableReport};

/// How closely to look.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct CheckOptions {
    /// Follow every reference, to show that none leads out of its tenant.
    pub isolation: bool,
}

/// What a check found.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct CheckReport {
    /// The format of the store.
    pub format: Option<u64>,
    /// Bytes of the store's file.
    pub file_bytes: u64,
    /// What is wrong with the pages; nothing also where they were not looked at, because a server
    /// had the file.
    pub pages: Option<String>,
    /// Each declared table.
    pub tables: Vec<TableReport>,
    /// Tables that this version does not know.
    pub undeclared: Vec<Undeclared>,
    /// Rows that contradict others.
    pub n_disagreements: u64,
    /// The first hundred of them.
    pub disagreements: Vec<Disagreement>,
    /// Why rows were not compared with each other: some of them are damaged.
    pub not_compared: Option<String>,
    /// Whether tenants are kept apart, if that was asked.
    pub isolation: Option<Isolation>,
}

/// A table that this version does not know.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Undeclared {
    /// Its name.
    pub table: String,
    /// Its rows.
    pub rows: u64,
}

impl CheckReport {
    /// Whether nothing is wrong.
    #[must_use]
    pub fn is_sound(&self) -> bool {
        self.pages.is_none()
            && self.tables.iter().all(TableReport::is_sound)
            && self.undeclared.is_empty()
            && self.n_disagreements == 0
            && self.not_compared.is_none()
            && self.isolation.as_ref().is_none_or(|isolation| isolation.n_crossing == 0)
    }

    /// Rows of all tables.
    #[must_use]
    pub fn rows(&self) -> u64 {
        self.tables.iter().map(|table| table.rows).sum()
    }

    /// Damaged rows of all tables.
    #[must_use]
    pub fn n_damaged(&self) -> u64 {
        self.tables.iter().map(|table| table.n_damaged).sum()
    }
}

/// Told before each step: what it looks at.
pub type Progress<'a> = dyn FnMut(&str) + 'a;

/// Checks a store that no process serves.
///
/// # Errors
///
/// The disk is at fault. Damage is no error but part of the report.
pub fn check(
    store: &mut Offline,
    options: CheckOptions,
    progress: &mut Progress<'_>,
) -> Result<CheckReport, StorageError> {
    let file_bytes = store.file_bytes().map_err(StorageError::unavailable)?;
    let mut report = check_rows(&store.read()?, options, progress)?;
    report.file_bytes = file_bytes;
    progress("pages");
    report.pages = store.check_pages().err().map(|error| error.to_string());
    Ok(report)
}

/// Checks the rows of a snapshot, whoever has the store open.
///
/// # Errors
///
/// As [`check`].
pub fn check_rows(
    tx: &ReadTx,
    options: CheckOptions,
    progress: &mut Progress<'_>,
) -> Result<CheckReport, StorageError> {
    let mut tables = Vec::new();
    for table in tables::all() {
        progress(table.name);
        let mut report = TableReport::new(table.name);
        walk::part(tx, table, None, Limit::NONE, true, &mut report);
        tables.push(report);
    }
    progress("what rows say of each other");
    compare(tx, tables, options)
}

/// Compares rows with each other where `tables`, all of them, were gone over already.
///
/// # Errors
///
/// As [`check`].
pub fn compare(
    tx: &ReadTx,
    tables: Vec<TableReport>,
    options: CheckOptions,
) -> Result<CheckReport, StorageError> {
    let mut report = CheckReport {
        format: open::format_of(tx).unwrap_or(None),
        file_bytes: 0,
        pages: None,
        undeclared: undeclared(tx)?,
        tables,
        n_disagreements: 0,
        disagreements: Vec::new(),
        not_compared: None,
        isolation: None,
    };
    if let Some(damaged) = report.tables.iter().find(|table| !table.is_sound()) {
        report.not_compared = Some(format!("table {} is damaged", damaged.table));
        return Ok(report);
    }
    let (n_found, found) = (&mut report.n_disagreements, &mut report.disagreements);
    consistency::derived(tx, &mut |finding| {
        *n_found += 1;
        if found.len() < EXAMPLES_MAX {
            found.push(Disagreement::from(&finding));
        }
    })?;
    if options.isolation {
        report.isolation = Some(consistency::isolation(tx)?);
    }
    Ok(report)
}

/// Tables in the store that this version does not declare.
fn undeclared(tx: &ReadTx) -> Result<Vec<Undeclared>, StorageError> {
    let known = |name: &str| tables::find(name).is_some();
    let found = tx.tables()?.into_iter().filter(|(name, _)| !known(name));
    Ok(found.map(|(table, rows)| Undeclared { table, rows }).collect())
}

#[cfg(test)]
mod tests;
