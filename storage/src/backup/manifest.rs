//! What an archive says of itself: before the parts, and after them.

use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};

use crate::time::UnixMicros;

/// The format of archives this version writes, and the newest it reads.
pub const ARCHIVE_FORMAT: u64 = 1;

/// Largest `about.json` or `manifest.json`, in bytes: the parts of 50 TB fit.
pub(crate) const DOCUMENT_MAX: u64 = 512 << 20;

/// Most damaged rows that are named; the others are only counted.
pub(crate) const NAMED_MAX: usize = 1000;

/// The first part of an archive, `about.json`: what it is a backup of.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct About {
    /// [`ARCHIVE_FORMAT`] of the program that wrote it.
    pub format: u64,
    /// That program's name and version.
    pub program: String,
    /// When the snapshot was taken: everything acknowledged before is in it.
    pub created_at_us: UnixMicros,
    /// The [`FORMAT`](crate::FORMAT) of the store.
    pub store_format: u64,
    /// The newest number in the change log; nothing if that entry cannot be read.
    pub last_seq: Option<u64>,
    /// Rows of all tables, as the store counts them.
    pub rows: u64,
}

/// The last part of an archive, `manifest.json`: what must be in it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Manifest {
    /// The same as at the beginning.
    pub about: About,
    /// The tables, in the order they were written.
    pub tables: Vec<TableSum>,
    /// Every other part, in the order they are in.
    pub parts: Vec<Part>,
    /// Versions of the keys that its sealed rows need, upwards. The keys are never inside.
    pub key_versions: Vec<u32>,
    /// What could not be read, or not be trusted.
    pub damage: Damage,
}

/// A table in an archive.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct TableSum {
    /// Its name.
    pub name: String,
    /// Its sound rows, all of which are in the archive.
    pub rows: u64,
    /// Bytes of their keys and values.
    pub bytes: u64,
}

/// A part of an archive: a member of the tar file.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Part {
    /// Its path.
    pub name: String,
    /// Rows in it, if it holds rows.
    pub rows: Option<u64>,
    /// Its size.
    pub bytes: u64,
    /// SHA-256 of its bytes, in hexadecimal digits.
    pub sha256: String,
}

/// What was wrong with the store when it was backed up.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct Damage {
    /// Rows that do not decode. Their bytes are kept in the archive, beside the tables, and are not
    /// restored.
    pub rows: u64,
    /// The first thousand of them.
    pub named: Vec<DamagedRow>,
    /// Tables of which a part could not be reached.
    pub tables: Vec<DamagedTable>,
    /// Files that were not there, or were not what their name says.
    pub files: Vec<String>,
}

impl Damage {
    /// Whether there is none.
    #[must_use]
    pub fn is_none(&self) -> bool {
        *self == Damage::default()
    }
}

/// A row that does not decode.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct DamagedRow {
    /// Its table.
    pub table: String,
    /// SHA-256 of its key, in hexadecimal digits: keys can hold what nobody should read in a log.
    pub key_sha256: String,
}

/// A table whose rows could not all be read.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct DamagedTable {
    /// Its name.
    pub table: String,
    /// How many rows could not be reached, as far as the store's own count can be trusted.
    pub missing: u64,
    /// What stopped the reader.
    pub reason: String,
}

/// The document `value` as the bytes of a part.
pub(crate) fn encode(value: &impl Serialize) -> Vec<u8> {
    let mut bytes = serde_json::to_vec_pretty(value)
        .expect("strings, numbers and lists of them are always JSON");
    bytes.push(b'\n');
    bytes
}

/// The document in the bytes of a part.
pub(crate) fn decode<T: DeserializeOwned>(bytes: &[u8]) -> Result<T, String> {
    serde_json::from_slice(bytes).map_err(|error| error.to_string())
}

/// The archive's format, whatever else its first part says.
pub(crate) fn format(about: &[u8]) -> Result<u64, String> {
    #[derive(Deserialize)]
    struct Format {
        format: u64,
    }
    decode::<Format>(about).map(|about| about.format)
}

pub(crate) fn hex(bytes: &[u8]) -> String {
    let digit = |nibble: u8| char::from(b"0123456789abcdef"[usize::from(nibble)]);
    bytes.iter().flat_map(|byte| [digit(byte >> 4), digit(byte & 15)]).collect()
}
