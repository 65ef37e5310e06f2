//! Writing an archive.

use std::collections::BTreeSet;
use std::fs::File;
use std::io::{self, Read, Write};
use std::ops::ControlFlow;
use std::path::PathBuf;

use sha2::{Digest, Sha256};

use super::error::BackupError;
use super::manifest::{
    ARCHIVE_FORMAT, About, Damage, DamagedRow, DamagedTable, Manifest, NAMED_MAX, TableSum, encode,
    hex,
};
use super::out::Out;
use super::part::{self, Kind};
use super::tar;
use super::{Progress, Watch, unattended};
use crate::error::StorageError;
use crate::open;
use crate::read::{RawRows, ReadTx};
use crate::table::TableInfo;
use crate::time::UnixMicros;
use crate::{changes, tables};

/// How hard to compress: what costs the least beside the reading.
const LEVEL: i32 = 1;

/// Rows between two looks at the [`Watch`].
const WATCH_ROWS: u64 = 256;

/// Bytes of a file read at once.
const CHUNK: usize = 256 << 10;

/// A file that goes into the archive beside the rows.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ExtraFile {
    /// `blobs/`, the first two digits of its SHA-256, `/`, the other 62.
    pub name: String,
    /// Where it is. It must not change meanwhile.
    pub path: PathBuf,
}

/// A backup to be taken.
pub struct Backup<'a> {
    program: String,
    created_at: UnixMicros,
    level: i32,
    files: Vec<ExtraFile>,
    watch: Option<Watch<'a>>,
}

impl<'a> Backup<'a> {
    /// A backup by `program`, a name and a version, of a snapshot taken at `created_at`.
    #[must_use]
    pub fn new(program: &str, created_at: UnixMicros) -> Backup<'a> {
        let program = program.to_owned();
        Backup { program, created_at, level: LEVEL, files: Vec::new(), watch: None }
    }

    /// Compresses at `level` of zstd, 1 (the default, the fastest) to 19.
    #[must_use]
    pub fn level(mut self, level: i32) -> Backup<'a> {
        self.level = level.clamp(1, 19);
        self
    }

    /// Adds `files`, in this order. The caller sees to it that none goes away meanwhile.
    #[must_use]
    pub fn files(mut self, files: Vec<ExtraFile>) -> Backup<'a> {
        self.files = files;
        self
    }

    /// Tells `watch` how far it is.
    #[must_use]
    pub fn watched(mut self, watch: Watch<'a>) -> Backup<'a> {
        self.watch = Some(watch);
        self
    }

    /// Writes the archive to `out`, which is flushed but not synced, and returns it.
    ///
    /// Reads row after row of `snapshot` in this thread, with 16 MiB and one row in memory; writers
    /// do not wait for it. While the snapshot is held the store's file grows by what is replaced.
    ///
    /// A row that does not decode is counted and named in [`Manifest::damage`] and goes into a part
    /// of its own; where a table cannot be read on, the next table follows. Whoever asked for the
    /// backup must look whether there is damage.
    ///
    /// # Errors
    ///
    /// [`BackupError`].
    pub fn write<W: Write>(self, snapshot: &ReadTx, out: W) -> Result<(Manifest, W), BackupError> {
        let Backup { program, created_at, level, files, watch } = self;
        let mut counts = Vec::new();
        for table in tables::all() {
            counts.push((table, snapshot.len(table)?));
        }
        let about = About {
            format: ARCHIVE_FORMAT,
            program,
            created_at_us: created_at,
            store_format: open::format_of(snapshot)?.unwrap_or(open::FORMAT),
            last_seq: changes::newest(snapshot).ok().map(|seq| seq.0),
            rows: counts.iter().map(|(_, rows)| rows).sum(),
        };
        let mut unattended = unattended;
        let mut writer = Writer {
            out: Out::new(out, level, created_at).map_err(BackupError::Write)?,
            watch: watch.unwrap_or(&mut unattended),
            progress: Progress { rows_total: about.rows, ..Progress::default() },
            key_versions: BTreeSet::new(),
            damage: Damage::default(),
        };
        writer.out.part(part::ABOUT, None, &encode(&about))?;
        let mut sums = Vec::new();
        for (table, rows) in counts {
            sums.push(writer.table(snapshot, table, rows)?);
        }
        for file in &files {
            writer.file(file)?;
        }
        let Writer { out, key_versions, damage, .. } = writer;
        out.finish(|parts| Manifest {
            about,
            tables: sums,
            parts,
            key_versions: key_versions.into_iter().collect(),
            damage,
        })
    }
}

struct Writer<'a, W: Write> {
    out: Out<W>,
    watch: Watch<'a>,
    progress: Progress,
    key_versions: BTreeSet<u32>,
    damage: Damage,
}

impl<W: Write> Writer<'_, W> {
    /// Writes a table that should have `expected` rows.
    fn table(
        &mut self,
        snapshot: &ReadTx,
        table: &'static TableInfo,
        expected: u64,
    ) -> Result<TableSum, BackupError> {
        let mut sum = TableSum { name: table.name.to_owned(), rows: 0, bytes: 0 };
        let mut n_damaged = 0;
        let stopped = match snapshot.rows(table) {
            Ok(rows) => self.rows(table, rows, &mut sum, &mut n_damaged)?,
            Err(error) => Some(error),
        };
        let reached = sum.rows + n_damaged;
        let reason = match stopped {
            // Not about this table, and nothing else will be read any better.
            Some(error @ (StorageError::Unavailable { .. } | StorageError::Closed)) => {
                return Err(error.into());
            }
            Some(error) => Some(error.to_string()),
            None => (reached != expected)
                .then(|| format!("{reached} rows were reached where {expected} are counted")),
        };
        if let Some(reason) = reason {
            tracing::error!(table = table.name, "could not back up a table whole: {reason}");
            self.damage.tables.push(DamagedTable {
                table: table.name.to_owned(),
                missing: expected.saturating_sub(reached),
                reason,
            });
        }
        Ok(sum)
    }

    /// Writes the rows that can be reached; returns what stopped it before the end.
    fn rows(
        &mut self,
        table: &'static TableInfo,
        rows: RawRows<'_>,
        sum: &mut TableSum,
        n_damaged: &mut u64,
    ) -> Result<Option<StorageError>, BackupError> {
        let name = |table: &TableInfo| table.name.to_owned();
        let mut part = Rows::new(Kind::Rows { table: name(table), number: 0 });
        let mut damaged = Rows::new(Kind::Damaged { table: name(table), number: 0 });
        let mut stopped = None;
        for row in rows {
            let (key, value) = match row {
                Ok(row) => row,
                Err(error) => {
                    stopped = Some(error);
                    break;
                }
            };
            match table.key_version(&key, &value) {
                Ok(version) => {
                    self.key_versions.extend(version);
                    sum.rows += 1;
                    sum.bytes += (key.len() + value.len()) as u64;
                    part.push(&key, &value, &mut self.out)?;
                }
                Err(error) => {
                    *n_damaged += 1;
                    self.damaged_row(table, &key, &error);
                    damaged.push(&key, &value, &mut self.out)?;
                }
            }
            self.progress.rows += 1;
            if self.progress.rows.is_multiple_of(WATCH_ROWS) {
                self.look()?;
            }
        }
        part.close(&mut self.out)?;
        damaged.close(&mut self.out)?;
        Ok(stopped)
    }

    fn damaged_row(&mut self, table: &TableInfo, key: &[u8], error: &StorageError) {
        self.damage.rows += 1;
        let key_sha256 = hex(&Sha256::digest(key));
        if self.damage.named.len() < NAMED_MAX {
            tracing::error!(table = table.name, key_sha256, "a row cannot be backed up: {error}");
            let table = table.name.to_owned();
            self.damage.named.push(DamagedRow { table, key_sha256 });
        }
    }

    fn file(&mut self, file: &ExtraFile) -> Result<(), BackupError> {
        let ExtraFile { name, path } = file;
        let failed = |source| BackupError::File { path: path.clone(), source };
        let mut from = match File::open(path) {
            Ok(from) => from,
            Err(error) if error.kind() == io::ErrorKind::NotFound => {
                tracing::error!("could not back up {}: it is not there", path.display());
                self.damage.files.push(name.clone());
                return Ok(());
            }
            Err(error) => return Err(failed(error)),
        };
        let size = from.metadata().map_err(failed)?.len();
        if size > tar::SIZE_MAX || !part::is_file(name) {
            let reason = format!("it cannot be in an archive as {name:?}");
            return Err(failed(io::Error::other(reason)));
        }
        let mut member = self.out.begin(name, size)?;
        let mut chunk = vec![0; CHUNK];
        let mut left = size;
        while left > 0 {
            let most = chunk.len().min(usize::try_from(left).unwrap_or(usize::MAX));
            from.read_exact(&mut chunk[..most]).map_err(failed)?;
            self.out.more(&mut member, &chunk[..most])?;
            left -= most as u64;
            self.look()?;
        }
        let sha256 = self.out.end(member, None)?;
        if !name.bytes().filter(|byte| *byte != b'/').skip("blobs".len()).eq(sha256.bytes()) {
            tracing::error!("{} is not what its name says", path.display());
            self.damage.files.push(name.clone());
        }
        Ok(())
    }

    fn look(&mut self) -> Result<(), BackupError> {
        self.progress.bytes = self.out.bytes;
        match (self.watch)(self.progress) {
            ControlFlow::Continue(()) => Ok(()),
            ControlFlow::Break(()) => Err(BackupError::Stopped),
        }
    }
}

/// The part of rows that is being filled.
struct Rows {
    kind: Kind,
    bytes: Vec<u8>,
    rows: u64,
}

impl Rows {
    fn new(kind: Kind) -> Rows {
        Rows { kind, bytes: Vec::new(), rows: 0 }
    }

    fn push<W: Write>(
        &mut self,
        key: &[u8],
        value: &[u8],
        out: &mut Out<W>,
    ) -> Result<(), BackupError> {
        part::push_row(&mut self.bytes, key, value);
        self.rows += 1;
        if self.bytes.len() >= part::ROWS_BYTES { self.close(out) } else { Ok(()) }
    }

    /// Writes the part, if there is anything in it, and begins the next.
    fn close<W: Write>(&mut self, out: &mut Out<W>) -> Result<(), BackupError> {
        if self.rows > 0
            && let Some(name) = self.kind.rows_name()
        {
            out.part(&name, Some(self.rows), &self.bytes)?;
        }
        self.bytes.clear();
        self.rows = 0;
        if let Kind::Rows { number, .. } | Kind::Damaged { number, .. } = &mut self.kind {
            *number += 1;
        }
        Ok(())
    }
}
