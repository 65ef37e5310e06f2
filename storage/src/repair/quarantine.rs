//! Where a repair puts what it cannot vouch for.

use std::fs::{self, File, OpenOptions};
use std::io::{self, BufWriter, Write};
use std::path::Path;

use serde::Serialize;

use crate::open;
use crate::walk::shown;

/// What is known of the rows: a line of JSON each.
pub(super) const LIST: &str = "rows.jsonl";

/// Their bytes, one after the other: key, value.
pub(super) const BYTES: &str = "rows.bin";

/// A folder of damaged rows.
pub(super) struct Quarantine {
    list: BufWriter<File>,
    bytes: BufWriter<File>,
    /// Bytes written so far.
    at: u64,
}

#[derive(Serialize)]
struct Line<'a> {
    table: &'a str,
    /// For people.
    key: String,
    reason: &'a str,
    /// Offset of the key in the other file; the value follows.
    offset: u64,
    key_bytes: usize,
    value_bytes: usize,
}

impl Quarantine {
    /// Makes the folder, which must not be there.
    pub(super) fn create(folder: &Path) -> io::Result<Quarantine> {
        if let Some(parent) = folder.parent() {
            fs::create_dir_all(parent)?;
        }
        fs::create_dir(folder)?;
        let create = |name| {
            let mut options = OpenOptions::new();
            open::private(options.write(true).create_new(true)).open(folder.join(name))
        };
        let (list, bytes) = (BufWriter::new(create(LIST)?), BufWriter::new(create(BYTES)?));
        Ok(Quarantine { list, bytes, at: 0 })
    }

    /// Adds a row.
    pub(super) fn keep(
        &mut self,
        table: &str,
        key: &[u8],
        value: &[u8],
        reason: &str,
    ) -> io::Result<()> {
        let (key_bytes, value_bytes) = (key.len(), value.len());
        let offset = self.at;
        let line = Line { table, key: shown(key), reason, offset, key_bytes, value_bytes };
        serde_json::to_writer(&mut self.list, &line)?;
        self.list.write_all(b"\n")?;
        self.bytes.write_all(key)?;
        self.bytes.write_all(value)?;
        self.at += (key_bytes + value_bytes) as u64;
        Ok(())
    }

    /// Makes it durable.
    pub(super) fn finish(self) -> io::Result<()> {
        for file in [self.list, self.bytes] {
            file.into_inner()?.sync_all()?;
        }
        Ok(())
    }
}
