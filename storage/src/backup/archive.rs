//! Reading an archive, and believing nothing of it before it is checked.

use std::io::Read;
use std::ops::ControlFlow;

use super::error::{ArchiveError, damaged};
use super::manifest::{self, About, DOCUMENT_MAX, Manifest, Part, TableSum};
use super::part::{self, Kind};
use super::parts::{CHUNK, Parts};
use super::{Progress, Watch};
use crate::codec;
use crate::error::StorageError;
use crate::open::FORMAT;
use crate::table::TableInfo;
use crate::tables;

/// Rows between two looks at the [`Watch`].
const WATCH_ROWS: u64 = 256;

/// What is done with what an archive holds. Nothing may come of it before the whole is read.
pub(crate) trait Sink {
    /// A row whose checksum fits.
    fn row(&mut self, table: &str, key: &[u8], value: &[u8]) -> Result<(), ArchiveError>;

    /// A file begins.
    fn file(&mut self, name: &str) -> Result<(), ArchiveError>;

    /// More of the file.
    fn bytes(&mut self, bytes: &[u8]) -> Result<(), ArchiveError>;

    /// The file is whole.
    fn end_file(&mut self) -> Result<(), ArchiveError>;
}

/// The first part of an archive.
///
/// # Errors
///
/// [`ArchiveError`]: also if a newer version wrote it.
pub(crate) fn first<R: Read>(archive: R) -> Result<About, ArchiveError> {
    Parts::open(archive).map(|(_, about)| about)
}

/// Reads an archive to its end, gives `sink` what is in it, and returns what it says it holds once
/// that is found to be so.
///
/// # Errors
///
/// [`ArchiveError`], or what the sink returned.
pub(crate) fn walk<R: Read>(
    archive: R,
    sink: &mut impl Sink,
    watch: Watch<'_>,
) -> Result<Manifest, ArchiveError> {
    let (mut parts, about) = Parts::open(archive)?;
    let progress = Progress { rows_total: about.rows, ..Progress::default() };
    let mut walk = Walk {
        exact: about.store_format == FORMAT,
        about,
        sink,
        watch,
        progress,
        sums: tables::all().map(|table| empty_sum(table.name)).collect(),
        previous: [None, None],
        key: Vec::new(),
        value: Vec::new(),
    };
    let text = loop {
        let kind = parts.next()?;
        match kind {
            Kind::Rows { .. } | Kind::Damaged { .. } => walk.rows(&mut parts, &kind)?,
            Kind::File => walk.file(&mut parts)?,
            Kind::Manifest => break parts.document(DOCUMENT_MAX)?,
        }
    };
    let decoded = manifest::decode::<Manifest>(&text);
    let manifest = decoded.map_err(|reason| damaged(part::MANIFEST, reason))?;
    // The manifest does not list itself.
    parts.list.pop();
    walk.compare(&manifest, &parts.list)?;
    parts.finish()?;
    Ok(manifest)
}

fn empty_sum(name: &str) -> TableSum {
    TableSum { name: name.to_owned(), rows: 0, bytes: 0 }
}

struct Walk<'a, S> {
    about: About,
    /// The rows are of the present format, so that they can be decoded.
    exact: bool,
    sink: &'a mut S,
    watch: Watch<'a>,
    progress: Progress,
    sums: Vec<TableSum>,
    /// The parts of rows before this one: of sound rows, of damaged ones.
    previous: [Option<Kind>; 2],
    /// Of the row before, then of the present one.
    key: Vec<u8>,
    value: Vec<u8>,
}

impl<S: Sink> Walk<'_, S> {
    fn rows<R: Read>(&mut self, parts: &mut Parts<R>, kind: &Kind) -> Result<(), ArchiveError> {
        let (Kind::Rows { table, number } | Kind::Damaged { table, number }) = kind else {
            return Ok(());
        };
        let sound = matches!(kind, Kind::Rows { .. });
        let previous = &mut self.previous[usize::from(!sound)];
        if !follows(previous.as_ref(), kind) {
            return Err(damaged(&parts.name, "it is out of order"));
        }
        *previous = Some(kind.clone());
        let info = if self.exact { tables::find(table) } else { None };
        let sum = self.sum(table);
        // Damaged keys are in no order, and their parts come between those of sound rows.
        let (mut spare_key, mut spare_value) = (Vec::new(), Vec::new());
        let mut first = *number == 0;
        while parts.left > 0 {
            if sound {
                parts.row(&mut self.key, &mut self.value, !first)?;
                first = false;
                fits(info, &self.key, &self.value).map_err(|reason| parts.wrong_row(&reason))?;
                self.sink.row(table, &self.key, &self.value)?;
                let sum = &mut self.sums[sum];
                sum.rows += 1;
                sum.bytes += (self.key.len() + self.value.len()) as u64;
            } else {
                parts.row(&mut spare_key, &mut spare_value, false)?;
            }
            self.progress.rows += 1;
            if self.progress.rows.is_multiple_of(WATCH_ROWS) {
                self.look(parts.bytes)?;
            }
        }
        parts.end(true)
    }

    fn file<R: Read>(&mut self, parts: &mut Parts<R>) -> Result<(), ArchiveError> {
        self.sink.file(&parts.name)?;
        let mut chunk = vec![0; CHUNK];
        while parts.left > 0 {
            let most = chunk.len().min(usize::try_from(parts.left).unwrap_or(usize::MAX));
            parts.take(&mut chunk[..most])?;
            self.sink.bytes(&chunk[..most])?;
            self.look(parts.bytes)?;
        }
        self.sink.end_file()?;
        parts.end(false)
    }

    fn look(&mut self, bytes: u64) -> Result<(), ArchiveError> {
        self.progress.bytes = bytes;
        match (self.watch)(self.progress) {
            ControlFlow::Continue(()) => Ok(()),
            ControlFlow::Break(()) => Err(ArchiveError::Stopped),
        }
    }

    /// Index of a table's sum.
    fn sum(&mut self, table: &str) -> usize {
        let known = self.sums.iter().position(|sum| sum.name == table);
        known.unwrap_or_else(|| {
            self.sums.push(empty_sum(table));
            self.sums.len() - 1
        })
    }

    /// Whether what was read is what the manifest says.
    fn compare(&self, manifest: &Manifest, parts: &[Part]) -> Result<(), ArchiveError> {
        let Manifest { about, tables, parts: listed, key_versions: _, damage: _ } = manifest;
        if *about != self.about {
            return Err(damaged(part::MANIFEST, "it is of another backup"));
        }
        for (number, there) in parts.iter().enumerate() {
            match listed.get(number) {
                Some(said) if said == there => {}
                Some(said) if said.name == there.name => {
                    return Err(damaged(&there.name, "its SHA-256 or size is another"));
                }
                _ => return Err(damaged(&there.name, "the manifest does not list it here")),
            }
        }
        if let Some(missing) = listed.get(parts.len()) {
            return Err(damaged(&missing.name, "it is missing"));
        }
        let holds = |sums: &[TableSum], sum: &TableSum| sum.rows == 0 || sums.contains(sum);
        let all = |of: &[TableSum], within: &[TableSum]| of.iter().all(|sum| holds(within, sum));
        if !all(tables, &self.sums) || !all(&self.sums, tables) {
            return Err(damaged(part::MANIFEST, "its row counts are not those of the parts"));
        }
        Ok(())
    }
}

/// Whether a part of rows may come after `previous`.
fn follows(previous: Option<&Kind>, kind: &Kind) -> bool {
    match (previous, kind) {
        (Some(Kind::Rows { table: before, number: last }), Kind::Rows { table, number })
        | (Some(Kind::Damaged { table: before, number: last }), Kind::Damaged { table, number })
            if before == table =>
        {
            last.checked_add(1) == Some(*number)
        }
        (_, Kind::Rows { number, .. } | Kind::Damaged { number, .. }) => *number == 0,
        _ => false,
    }
}

fn fits(info: Option<&TableInfo>, key: &[u8], value: &[u8]) -> Result<(), String> {
    match info {
        Some(info) => info.check(key, value).map_err(|error| match error {
            StorageError::Corrupt { reason, .. } => reason,
            other => other.to_string(),
        }),
        // Of an older format, which is brought up to date when the store is opened.
        None => codec::open(key, value).map(drop).map_err(|error| error.to_string()),
    }
}
