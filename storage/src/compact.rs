//! Making the store's file as small as what is in it.
//!
//! The only copy is never changed: everything is copied into a new file, which is compared with the
//! old one and takes its place when it is durable.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use serde::Serialize;

use crate::error::StorageError;
use crate::load::BulkLoader;
use crate::offline::Offline;
use crate::open::{self, OpenError};
use crate::read::ReadTx;
use crate::store::{Store, StoreOptions};
use crate::tables;

/// The store being made.
const NEW_FILE: &str = "store.redb.compacted";

/// The old one, until the new one has its name for good.
const OLD_FILE: &str = "store.redb.old";

/// What a new file needs beside the rows, in bytes.
const SLACK: u64 = 8 << 20;

/// Why nothing was compacted. The store is as it was.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum CompactError {
    /// The data directory cannot be used.
    #[error(transparent)]
    Open(#[from] OpenError),
    /// The copy may not fit.
    #[error(
        "{} has {free} bytes free, and a copy of the store can take {needed}; make room first",
        path.display()
    )]
    NoRoom {
        /// The data directory.
        path: PathBuf,
        /// Bytes free there.
        free: u64,
        /// Bytes that must be free.
        needed: u64,
    },
    /// A row is damaged; a copy would lose it.
    #[error(
        "{0}; save what can be read with `activekg db repair`, or use `activekg backup restore`"
    )]
    Damaged(StorageError),
    /// The store has a table that this version does not know.
    #[error("table {0} is not known to this version; use the version that wrote it")]
    Undeclared(String),
    /// The copy could not be written, or is not like the original.
    #[error("cannot write a copy in {}: {reason}; nothing was changed", path.display())]
    Write {
        /// The data directory.
        path: PathBuf,
        /// What the disk or the store below said.
        reason: String,
    },
}

/// What a compaction came to.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct CompactReport {
    /// Rows in the store.
    pub rows: u64,
    /// Bytes of the file before.
    pub before_bytes: u64,
    /// And after.
    pub after_bytes: u64,
}

/// Bytes that must be free in `dir` to compact the store there.
///
/// # Errors
///
/// If there is no store.
pub fn needed_bytes(dir: &Path) -> Result<u64, OpenError> {
    let path = dir.join(open::STORE_FILE);
    match path.metadata() {
        Ok(found) => Ok(found.len() + SLACK),
        Err(source) => Err(OpenError::Unreadable { path, source }),
    }
}

/// Replaces the store's file in `dir` by a copy without free space. `free_bytes` is how much the
/// disk has free. `progress` is told before each table.
///
/// # Errors
///
/// [`CompactError`]; the store is then as it was.
pub fn compact(
    dir: &Path,
    free_bytes: u64,
    progress: &mut dyn FnMut(&str),
) -> Result<CompactReport, CompactError> {
    let store = Offline::open(dir, &StoreOptions::default())?;
    let needed = needed_bytes(dir)?;
    if free_bytes < needed {
        return Err(CompactError::NoRoom { path: dir.to_owned(), free: free_bytes, needed });
    }
    let new = dir.join(NEW_FILE);
    let done = copy(&store, &new, progress).and_then(|rows| {
        progress("the copy");
        let write = |error: io::Error| written(dir, error);
        let before_bytes = store.file_bytes().map_err(write)?;
        let after_bytes = new.metadata().map_err(write)?.len();
        exchange(dir, &new).map_err(write)?;
        Ok(CompactReport { rows, before_bytes, after_bytes })
    });
    if done.is_err() {
        // Half a copy is of no use, and it takes room.
        let _ = fs::remove_file(&new);
    }
    done
}

fn written(path: &Path, reason: impl ToString) -> CompactError {
    CompactError::Write { path: path.to_owned(), reason: reason.to_string() }
}

/// Writes the copy and compares it.
fn copy(store: &Offline, new: &Path, progress: &mut dyn FnMut(&str)) -> Result<u64, CompactError> {
    let write = |error: StorageError| written(new.parent().unwrap_or(new), error);
    let original = store.read().map_err(CompactError::Damaged)?;
    let listed = original.tables().map_err(CompactError::Damaged)?;
    if let Some((name, _)) = listed.iter().find(|(name, _)| tables::find(name).is_none()) {
        return Err(CompactError::Undeclared(name.clone()));
    }
    match fs::remove_file(new) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(written(new, error)),
        _ => {}
    }
    let mut loader = BulkLoader::create(new).map_err(write)?;
    for table in tables::all() {
        progress(table.name);
        for row in original.rows(table).map_err(CompactError::Damaged)? {
            let (key, value) = row.map_err(CompactError::Damaged)?;
            table.check(&key, &value).map_err(CompactError::Damaged)?;
            loader.insert(table.name, &key, &value).map_err(write)?;
        }
    }
    loader.finish().map_err(write)?;
    let copied = Store::open_file(new, StoreOptions::default()).map_err(write)?;
    let rows = compare(&original, &copied.read().map_err(write)?);
    copied.close();
    rows.map_err(|reason| written(new, reason))
}

/// The number of rows, if both have the same ones.
fn compare(original: &ReadTx, copy: &ReadTx) -> Result<u64, String> {
    let mut n_rows = 0;
    for table in tables::all() {
        let text = |error: StorageError| error.to_string();
        let mut copied = copy.rows(table).map_err(text)?;
        for row in original.rows(table).map_err(text)? {
            n_rows += 1;
            if copied.next().transpose().map_err(text)? != Some(row.map_err(text)?) {
                return Err(format!("the copy of table {} is not like it", table.name));
            }
        }
        if copied.next().is_some() {
            return Err(format!("the copy of table {} is not like it", table.name));
        }
    }
    Ok(n_rows)
}

/// Puts the new file in the place of the old one. At no instant is there none.
fn exchange(dir: &Path, new: &Path) -> io::Result<()> {
    let (path, old) = (dir.join(open::STORE_FILE), dir.join(OLD_FILE));
    match fs::remove_file(&old) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
        _ => {}
    }
    // Where files have one name only, the rename alone has to do.
    let linked = fs::hard_link(&path, &old).is_ok();
    fs::rename(new, &path)?;
    open::sync_dir(dir)?;
    if linked {
        fs::remove_file(&old)?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ids::TenantId;
    use crate::read::Readable;
    use crate::store::testing;
    use crate::table::Scan;
    use crate::tables::graph::COUNTS;

    const PLENTY: u64 = u64::MAX;

    /// A store of many rows of which few are left.
    fn loose(dir: &Path) {
        let store = testing::open(dir);
        for part in 0..20u64 {
            testing::write(&store, move |tx| {
                let tenant = TenantId::new("acme").unwrap();
                for n in 0..2000 {
                    tx.put(&COUNTS, &(tenant.clone(), format!("{part} {n:0200}")), &n)?;
                }
                Ok(())
            });
        }
        testing::write(&store, |tx| {
            let rows = tx.scan(&COUNTS, Scan::all())?;
            let keys: Vec<_> = rows.map(|row| row.map(|(key, _)| key)).collect::<Result<_, _>>()?;
            for (n, key) in keys.iter().enumerate() {
                if n % 50 != 0 {
                    tx.remove(&COUNTS, key)?;
                }
            }
            Ok(())
        });
    }

    fn counts(dir: &Path) -> Vec<((TenantId, String), u64)> {
        let store = testing::open(dir);
        let tx = store.read().unwrap();
        tx.scan(&COUNTS, Scan::all()).unwrap().map(Result::unwrap).collect()
    }

    #[test]
    fn the_file_shrinks_and_nothing_is_gone() {
        let dir = tempfile::tempdir().unwrap();
        loose(dir.path());
        let before = counts(dir.path());
        assert_eq!(before.len(), 800);
        let report = compact(dir.path(), PLENTY, &mut |_| {}).unwrap();
        assert!(report.after_bytes < report.before_bytes / 2, "{report:?}");
        assert_eq!(dir.path().join("store.redb").metadata().unwrap().len(), report.after_bytes);
        assert_eq!(counts(dir.path()), before);
        assert!(!dir.path().join(NEW_FILE).exists() && !dir.path().join(OLD_FILE).exists());
    }

    #[test]
    fn without_room_or_with_damage_nothing_changes() {
        let dir = tempfile::tempdir().unwrap();
        loose(dir.path());
        let path = dir.path().join("store.redb");
        let needed = needed_bytes(dir.path()).unwrap();
        let before = fs::read(&path).unwrap();
        let error = compact(dir.path(), needed - 1, &mut |_| {}).unwrap_err();
        assert!(error.to_string().contains(&needed.to_string()), "{error}");
        assert!(fs::read(&path).unwrap() == before);

        // The last digit of one key, in every page that has it.
        let needle = format!("7 {:0200}", 50);
        let mut damaged = before;
        let places: Vec<usize> = damaged
            .windows(needle.len())
            .enumerate()
            .filter(|(_, window)| *window == needle.as_bytes())
            .map(|(at, _)| at)
            .collect();
        assert!(!places.is_empty());
        for at in places {
            damaged[at + needle.len() - 1] = b'~';
        }
        fs::write(&path, &damaged).unwrap();
        let error = compact(dir.path(), PLENTY, &mut |_| {}).unwrap_err();
        assert!(error.to_string().contains("graph.counts"), "{error}");
        assert!(fs::read(&path).unwrap() == damaged);
        assert!(!dir.path().join(NEW_FILE).exists());
    }
}
