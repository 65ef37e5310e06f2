//! The file that says which files make up a set, and up to which change.

use std::path::Path;
use std::{fs, io};

use serde::{Deserialize, Serialize};

use super::{Engine, Metric};
use crate::{IndexError, files};

pub(super) const NAME: &str = "manifest";
/// First word of the first line; the second is the checksum of the rest.
const MAGIC: &str = "activekg-vectors-1";

/// What the last commit consists of.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Manifest {
    pub(super) dim: usize,
    pub(super) metric: Metric,
    /// The caller's number of the last change that is in.
    pub(super) seq: Option<u64>,
    /// Above every file number in use.
    pub(super) next_file: u32,
    /// Changes since the newest segment; absent until there is one.
    pub(super) log: Option<LogRef>,
    pub(super) segments: Vec<SegmentRef>,
}

/// The part of a log that is committed.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct LogRef {
    pub(super) file: u32,
    pub(super) bytes: u64,
}

/// A sealed segment.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct SegmentRef {
    pub(super) file: u32,
    /// Of its header.
    pub(super) checksum: u32,
    /// The rows that were dead when the log began.
    pub(super) dead: Option<DeadRef>,
}

/// A file of dead rows.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct DeadRef {
    pub(super) file: u32,
    pub(super) count: usize,
}

impl Manifest {
    pub(super) fn new(dim: usize, metric: Metric) -> Self {
        Self { dim, metric, seq: None, next_file: 1, log: None, segments: Vec::new() }
    }

    /// A file number that was never used.
    pub(super) fn take_file(&mut self) -> u32 {
        self.next_file += 1;
        self.next_file - 1
    }

    /// Replaces the manifest in `dir`; this is the moment of a commit.
    pub(super) fn save(&self, dir: &Path) -> io::Result<()> {
        let body = serde_json::to_string(self).map_err(io::Error::other)?;
        let checksum = crc32c::crc32c(body.as_bytes());
        let text = format!("{MAGIC} {checksum:08x}\n{body}");
        files::replace(&dir.join(NAME), text.as_bytes(), true)
    }

    /// Reads the manifest in `dir`; `None` if there is none.
    pub(super) fn load(dir: &Path) -> Result<Option<Self>, IndexError> {
        let path = dir.join(NAME);
        let bytes = match fs::read(&path) {
            Ok(bytes) => bytes,
            Err(e) if e.kind() == io::ErrorKind::NotFound => return Ok(None),
            Err(e) => return Err(IndexError::io(&path, &e)),
        };
        let damaged = |reason: &str| IndexError::damaged(&path, reason);
        let text = std::str::from_utf8(&bytes).map_err(|_| damaged("not text"))?;
        let (head, body) = text.split_once('\n').ok_or_else(|| damaged("cut short"))?;
        let checksum =
            head.strip_prefix(MAGIC).ok_or_else(|| damaged("not a manifest of this version"))?;
        if checksum != format!(" {:08x}", crc32c::crc32c(body.as_bytes())) {
            return Err(damaged("checksum does not match"));
        }
        let manifest = serde_json::from_str(body).map_err(|e| damaged(&e.to_string()))?;
        Ok(Some(manifest))
    }

    /// The names of all files it refers to, and of those that may stand beside them.
    pub(super) fn file_names(&self) -> Vec<String> {
        let mut names: Vec<String> = self.log.iter().map(|log| log_name(log.file)).collect();
        for segment in &self.segments {
            names.push(segment_name(segment.file));
            names.extend(Engine::ALL.map(|engine| engine_name(segment.file, engine)));
            names.extend(segment.dead.iter().map(|dead| dead_name(dead.file)));
        }
        names
    }
}

pub(super) fn log_name(file: u32) -> String {
    format!("{file:08}.log")
}

pub(super) fn segment_name(file: u32) -> String {
    format!("{file:08}.seg")
}

/// An engine of a segment. It can be built again from it, so no commit depends on it.
pub(super) fn engine_name(file: u32, engine: Engine) -> String {
    let kind = match engine {
        Engine::Hnsw => "hnsw",
        Engine::IvfFlat => "ivf",
    };
    format!("{file:08}.{kind}")
}

pub(super) fn dead_name(file: u32) -> String {
    format!("{file:08}.dead")
}

/// Whether a name is one of those above, or of a file that was to become one.
pub(super) fn is_ours(name: &str) -> bool {
    name == "manifest.tmp"
        || name.split_once('.').is_some_and(|(number, kind)| {
            number.len() >= 8
                && number.bytes().all(|b| b.is_ascii_digit())
                && matches!(kind, "log" | "seg" | "hnsw" | "ivf" | "dead" | "tmp")
        })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_changed_byte_and_every_cut_is_noticed() {
        let dir = tempfile::tempdir().unwrap();
        assert_eq!(Manifest::load(dir.path()).unwrap(), None);
        let mut manifest = Manifest::new(3, Metric::L2);
        manifest.seq = Some(u64::MAX);
        manifest.log = Some(LogRef { file: manifest.take_file(), bytes: 99 });
        manifest.save(dir.path()).unwrap();
        assert_eq!(Manifest::load(dir.path()).unwrap(), Some(manifest));
        let path = dir.path().join(NAME);
        let good = fs::read(&path).unwrap();
        for at in 0..good.len() {
            let mut bad = good.clone();
            bad[at] ^= 1;
            fs::write(&path, &bad).unwrap();
            assert!(Manifest::load(dir.path()).is_err(), "byte {at}");
            fs::write(&path, &good[..at]).unwrap();
            assert!(Manifest::load(dir.path()).is_err(), "cut at {at}");
        }
    }
}
