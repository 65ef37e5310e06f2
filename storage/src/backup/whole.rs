//! What a snapshot holds, as a whole.

use std::ops::ControlFlow;
use std::path::Path;

use super::manifest::TableSum;
use super::{ExtraFile, Progress, Watch};
use crate::error::StorageError;
use crate::read::{ReadTx, Readable};
use crate::table::Scan;
use crate::tables::{self, blobs::BLOBS};

/// Rows between two looks at the [`Watch`].
const WATCH_ROWS: u64 = 256;

/// Reads and checks every row of `snapshot`, and counts them by table; `None` if it was stopped.
///
/// # Errors
///
/// [`StorageError::Corrupt`] for the first row that does not decode, or where a table ends too soon.
pub fn count(snapshot: &ReadTx, watch: Watch<'_>) -> Result<Option<Vec<TableSum>>, StorageError> {
    let mut progress = Progress::default();
    for table in tables::all() {
        progress.rows_total += snapshot.len(table)?;
    }
    let mut sums = Vec::new();
    for table in tables::all() {
        let mut sum = TableSum { name: table.name.to_owned(), rows: 0, bytes: 0 };
        for row in snapshot.rows(table)? {
            let (key, value) = row?;
            table.check(&key, &value)?;
            sum.rows += 1;
            sum.bytes += (key.len() + value.len()) as u64;
            progress.rows += 1;
            progress.bytes += (key.len() + value.len()) as u64;
            if progress.rows.is_multiple_of(WATCH_ROWS) && watch(progress) == ControlFlow::Break(())
            {
                return Ok(None);
            }
        }
        let counted = snapshot.len(table)?;
        if counted != sum.rows {
            let reason = format!("{} rows were reached where {counted} are counted", sum.rows);
            return Err(StorageError::corrupt(table.name, reason));
        }
        sums.push(sum);
    }
    Ok(Some(sums))
}

/// The files of the blobs that `snapshot` refers to, which are in `dir`, for
/// [`Backup::files`](super::Backup::files). While they are copied, somebody must
/// [hold](crate::blob::Blobs::hold) them.
///
/// # Errors
///
/// As for every read.
pub fn blob_files(snapshot: &ReadTx, dir: &Path) -> Result<Vec<ExtraFile>, StorageError> {
    let rows = snapshot.scan(&BLOBS, Scan::all())?;
    // A row that does not decode is reported with the others of its table.
    let sound = rows.filter(|row| !matches!(row, Err(StorageError::Corrupt { .. })));
    let file = |id: crate::blob::BlobId| {
        let digits = id.to_string();
        let (head, rest) = digits.split_at(2);
        ExtraFile { name: format!("blobs/{head}/{rest}"), path: dir.join(head).join(rest) }
    };
    sound.map(|row| row.map(|((id,), _)| file(id))).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::backup::{Backup, restore, unattended};
    use crate::blob::{Blobs, link};
    use crate::store::testing;
    use crate::time::UnixMicros;

    #[test]
    fn blobs_in_use_are_backed_up_and_restored() {
        let dir = tempfile::tempdir().unwrap();
        let store = testing::open(&dir.path().join("data"));
        let blobs_dir = dir.path().join("data/blobs");
        let blobs = Blobs::open(&blobs_dir, 1 << 20).unwrap();
        let (used, unused) = (blobs.put(&b"used"[..]).unwrap(), blobs.put(&b"not"[..]).unwrap());
        let (used_id, unused_id) = (used.id(), unused.id());
        testing::write(&store, move |tx| link(tx, &used));
        let _hold = blobs.hold();
        let snapshot = store.read().unwrap();
        let files = blob_files(&snapshot, &blobs_dir).unwrap();
        assert_eq!(files.len(), 1);
        let backup = Backup::new("test 1", UnixMicros(1)).files(files);
        let (manifest, archive) = backup.write(&snapshot, Vec::new()).unwrap();
        assert!(manifest.damage.is_none());

        let into = dir.path().join("copy");
        restore(&archive[..], &into, &mut unattended).unwrap();
        let copy = testing::open(&into);
        let sums = count(&copy.read().unwrap(), &mut unattended).unwrap().unwrap();
        assert_eq!(sums, manifest.tables);
        let blobs = Blobs::open(&into.join("blobs"), 1 << 20).unwrap();
        assert_eq!(blobs.get(used_id).unwrap(), b"used");
        assert!(blobs.get(unused_id).is_err());
    }

    #[test]
    fn counting_finds_damage_and_can_be_stopped() {
        let dir = tempfile::tempdir().unwrap();
        let store = testing::open(dir.path());
        testing::write(&store, |tx| {
            for number in 0..300u32 {
                let tenant = crate::TenantId::new("acme").unwrap();
                tx.put(&crate::tables::graph::COUNTS, &(tenant, number.to_string()), &1)?;
            }
            Ok(())
        });
        let snapshot = store.read().unwrap();
        let mut watch = |_: Progress| ControlFlow::Break(());
        assert_eq!(count(&snapshot, &mut watch).unwrap(), None);
        let sums = count(&snapshot, &mut unattended).unwrap().unwrap();
        assert_eq!(sums.iter().map(|sum| sum.rows).sum::<u64>(), 301);
    }
}
