//! Saving what can be read of a damaged store.
//!
//! The damaged file is only read. What is good in it goes into a new file; rows that are damaged
//! and the old file itself go into a folder of their own, so that nothing is ever deleted.

mod quarantine;

use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use serde::Serialize;

use crate::consistency;
use crate::error::StorageError;
use crate::load::BulkLoader;
use crate::offline;
use crate::open::{self, DirLock, OpenError};
use crate::pages::{Listed, PageReader, Piece};
use crate::store::{Store, StoreOptions};
use crate::table::TableInfo;
use crate::tables;
use crate::walk::shown;
use quarantine::Quarantine;

/// The folder of what was set aside, in the data directory.
pub const QUARANTINE: &str = "quarantine";

/// The store being made.
const NEW_FILE: &str = "store.redb.repaired";

/// Gaps that are described one by one; the rest is counted.
const GAPS_MAX: usize = 100;

/// Rows put right in one change.
const MEND_BATCH: usize = 1000;

/// Why nothing was repaired. The store is as it was.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum RepairError {
    /// The data directory cannot be used.
    #[error(transparent)]
    Open(#[from] OpenError),
    /// No table could be made out.
    #[error("nothing in {} can be read as a store; use `activekg backup restore`", path.display())]
    Nothing {
        /// The store's file.
        path: PathBuf,
    },
    /// The new file could not be written.
    #[error("cannot write the repaired store in {}: {reason}; nothing was changed", path.display())]
    Write {
        /// The data directory.
        path: PathBuf,
        /// What the disk or the store below said.
        reason: String,
    },
}

/// What a repair saved and what it did not.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct RepairReport {
    /// Each declared table.
    pub tables: Vec<Salvaged>,
    /// Tables of the damaged store that this version does not know. They were left behind.
    pub undeclared: Vec<String>,
    /// Rows that follow from others and were put right.
    pub n_mended: u64,
    /// The folder with the damaged file and the damaged rows.
    pub quarantine: PathBuf,
}

/// What was saved of a table.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Salvaged {
    /// The table's name.
    pub table: &'static str,
    /// Rows the damaged file says it has; `None` if it does not list the table.
    pub expected: Option<u64>,
    /// Rows that are in the new store.
    pub kept: u64,
    /// Rows that were read and are damaged, or in a wrong place. They are in the quarantine.
    pub quarantined: u64,
    /// Rows of which nothing could be read.
    pub lost: u64,
    /// Places where rows could not be read.
    pub n_gaps: u64,
    /// The first of them.
    pub gaps: Vec<Gap>,
}

/// A place where rows could not be read.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Gap {
    /// Only keys after this one are concerned; `None` is the start of the table.
    pub after: Option<String>,
    /// Only keys up to this one are; `None` is the end.
    pub through: Option<String>,
    /// What could not be read.
    pub reason: String,
}

impl RepairReport {
    /// Whether every row is in the new store.
    #[must_use]
    pub fn is_whole(&self) -> bool {
        let whole = |table: &Salvaged| table.quarantined == 0 && table.lost == 0;
        self.tables.iter().all(whole) && self.undeclared.is_empty()
    }
}

/// Makes a new store of what can be read of the one in `dir`, and sets the old one aside in
/// `quarantine/<stamp>` there. `progress` is told before each table.
///
/// Needs as much free space as the store's file has bytes. Derived files beside the store, such as
/// indexes, are not touched: whoever has them must have them built again.
///
/// # Errors
///
/// [`RepairError`]; the store is then as it was.
pub fn repair(
    dir: &Path,
    stamp: &str,
    progress: &mut dyn FnMut(&str),
) -> Result<RepairReport, RepairError> {
    let _lock = DirLock::acquire_existing(dir)?;
    let repaired = rebuild(dir, stamp, progress);
    if repaired.is_err() {
        // Half a copy is of no use, and it takes room.
        let _ = fs::remove_file(dir.join(NEW_FILE));
    }
    repaired
}

fn rebuild(
    dir: &Path,
    stamp: &str,
    progress: &mut dyn FnMut(&str),
) -> Result<RepairReport, RepairError> {
    let path = dir.join(open::STORE_FILE);
    let write = |reason: String| RepairError::Write { path: dir.to_owned(), reason };
    let held = offline::medium(&path)?;
    let pages = match PageReader::new(held.backend()) {
        Ok(pages) => pages,
        Err(error) if error.kind() == io::ErrorKind::UnexpectedEof => {
            return Err(RepairError::Nothing { path });
        }
        Err(source) => return Err(OpenError::Unreadable { path, source }.into()),
    };
    let listed = pages.tables();
    if !listed.iter().any(|table| tables::find(&table.name).is_some()) {
        return Err(RepairError::Nothing { path });
    }

    let folder = dir.join(QUARANTINE).join(stamp);
    let mut quarantine = Quarantine::create(&folder).map_err(|error| write(error.to_string()))?;
    let new = dir.join(NEW_FILE);
    remove_if_there(&new).map_err(|error| write(error.to_string()))?;
    let mut loader = BulkLoader::create(&new).map_err(|error| write(error.to_string()))?;
    let mut saved = Vec::new();
    for table in tables::all() {
        progress(table.name);
        let listed = listed.iter().find(|listed| listed.name == table.name);
        let copied = copy(&pages, table, listed, &mut loader, &mut quarantine);
        saved.push(copied.map_err(&write)?);
    }
    // A store without a format is none; what decodes here is of the format this version writes.
    let format = open::format_row().map_err(|error| write(error.to_string()))?;
    loader.insert(format.0, &format.1, &format.2).map_err(|error| write(error.to_string()))?;
    loader.finish().map_err(|error| write(error.to_string()))?;
    quarantine.finish().map_err(|error| write(error.to_string()))?;

    progress("what rows say of each other");
    let n_mended = mend(&new).map_err(|error| write(error.to_string()))?;
    exchange(dir, &path, &new, &folder).map_err(|error| write(error.to_string()))?;
    let known = |listed: &&Listed| tables::find(&listed.name).is_none();
    let undeclared = listed.iter().filter(known).map(|listed| listed.name.clone()).collect();
    Ok(RepairReport { tables: saved, undeclared, n_mended, quarantine: folder })
}

/// Copies the good rows of a table and sets the others aside. Fails only if they cannot be written.
fn copy<B: redb::StorageBackend>(
    pages: &PageReader<B>,
    table: &TableInfo,
    listed: Option<&Listed>,
    loader: &mut BulkLoader,
    quarantine: &mut Quarantine,
) -> Result<Salvaged, String> {
    let mut saved = Salvaged {
        table: table.name,
        expected: listed.map(|listed| listed.rows),
        kept: 0,
        quarantined: 0,
        lost: 0,
        n_gaps: 0,
        gaps: Vec::new(),
    };
    let Some(listed) = listed else { return Ok(saved) };
    let judge = |key: &[u8], value: &[u8]| table.check(key, value).is_ok();
    let mut last: Option<Vec<u8>> = None;
    let mut failed = None;
    pages.rows(listed, &judge, &mut |piece| {
        if failed.is_some() {
            return;
        }
        let (key, value, in_place) = match piece {
            Piece::Row { key, value, in_place } => (key, value, in_place),
            Piece::Gap { after, through, reason } => {
                saved.n_gaps += 1;
                if saved.gaps.len() < GAPS_MAX {
                    let (after, through) = (after.map(shown), through.map(shown));
                    saved.gaps.push(Gap { after, through, reason: reason.to_owned() });
                }
                return;
            }
        };
        let fault = match table.check(key, value) {
            Err(error) => Some(error.to_string()),
            Ok(()) if !in_place => Some("the page it is on is not in its place".to_owned()),
            Ok(()) if last.as_deref().is_some_and(|last| key <= last) => {
                Some("a row with this key or a later one came before".to_owned())
            }
            Ok(()) => None,
        };
        let outcome = match fault {
            None => {
                saved.kept += 1;
                last = Some(key.to_vec());
                loader.insert(table.name, key, value).map_err(|error| error.to_string())
            }
            Some(reason) => {
                saved.quarantined += 1;
                let kept = quarantine.keep(table.name, key, value, &reason);
                kept.map_err(|error| error.to_string())
            }
        };
        failed = outcome.err();
    });
    let seen = saved.kept + saved.quarantined;
    saved.lost = listed.rows.saturating_sub(seen);
    // A count that damage made huge counts nothing.
    if saved.n_gaps == 0 && saved.quarantined == 0 && saved.lost > 0 {
        saved.expected = Some(seen);
        saved.lost = 0;
    }
    failed.map_or(Ok(saved), Err)
}

/// Puts right the rows of the store at `path` that follow from others.
fn mend(path: &Path) -> Result<u64, StorageError> {
    let store = Store::open_file(path, StoreOptions::default())?;
    let mut findings = Vec::new();
    consistency::derived(&store.read()?, &mut |finding| findings.push(finding))?;
    let n_mended = findings.len() as u64;
    let mut findings = findings.into_iter();
    loop {
        let batch: Vec<_> = findings.by_ref().take(MEND_BATCH).collect();
        if batch.is_empty() {
            break;
        }
        store.write_blocking(move |tx| {
            batch.iter().try_for_each(|finding| {
                tx.put_raw(finding.table, &finding.key, finding.should_be.as_deref())
            })
        })?;
    }
    store.close();
    Ok(n_mended)
}

/// Sets the old file aside and puts the new one in its place. At no instant is there none.
fn exchange(dir: &Path, old: &Path, new: &Path, folder: &Path) -> io::Result<()> {
    let aside = folder.join(open::STORE_FILE);
    if fs::hard_link(old, &aside).is_err() {
        // Not every file system has a second name for a file.
        fs::copy(old, &aside)?;
        fs::File::open(&aside)?.sync_all()?;
    }
    open::sync_dir(folder)?;
    open::sync_dir(&dir.join(QUARANTINE))?;
    open::sync_dir(dir)?;
    fs::rename(new, old)?;
    open::sync_dir(dir)
}

fn remove_if_there(path: &Path) -> io::Result<()> {
    match fs::remove_file(path) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => Err(error),
        _ => Ok(()),
    }
}

#[cfg(test)]
mod tests;
