//! What a model consists of, as it is written beside its files.

use std::fs::{self, File};
use std::io::{self, Read, Write as _};
use std::path::{Path, PathBuf};

use activekg_storage::time::UnixMicros;
use serde::{Deserialize, Serialize};
use sha2::{Digest as _, Sha256};

use super::Error;

/// The file that lists the others.
pub(super) const MANIFEST: &str = "model.json";
/// Longest list that is read, in bytes.
const MANIFEST_MAX: u64 = 1 << 20;
/// Bytes read at a time.
const BUFFER: usize = 1 << 20;

/// What a model does.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Kind {
    /// Turns texts into vectors.
    Embedder,
    /// Writes answers.
    Writer,
}

/// A file of a model.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Part {
    /// Its name in the model's folder; may lie one folder deeper.
    pub name: String,
    /// Its size.
    pub bytes: u64,
    /// Its SHA-256, in hexadecimal digits.
    pub sha256: String,
}

/// The list.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Manifest {
    /// What the model does.
    pub kind: Kind,
    /// When it was added, in microseconds since 1970.
    pub added_at: i64,
    /// Its files.
    pub files: Vec<Part>,
}

/// A model that is kept.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Kept {
    /// What it consists of.
    pub manifest: Manifest,
    /// What loads it: the folder of an embedder, the file of a writer.
    pub loads: PathBuf,
}

impl Kind {
    /// Its name, as it is printed.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Embedder => "embedder",
            Self::Writer => "writer",
        }
    }
}

impl Manifest {
    pub(super) fn new(kind: Kind, files: Vec<Part>, now: UnixMicros) -> Self {
        Self { kind, added_at: now.get(), files }
    }

    /// Size of all files.
    #[must_use]
    pub fn bytes(&self) -> u64 {
        self.files.iter().map(|part| part.bytes).fold(0, u64::saturating_add)
    }

    /// What loads the model in `folder`.
    pub(super) fn loads(&self, folder: &Path) -> PathBuf {
        match (self.kind, self.files.first()) {
            (Kind::Writer, Some(file)) => folder.join(&file.name),
            _ => folder.to_owned(),
        }
    }

    /// The list in `folder`; `None` if there is none.
    pub(super) fn read(folder: &Path) -> Result<Option<Self>, Error> {
        let path = folder.join(MANIFEST);
        let file = match File::open(&path) {
            Ok(file) => file,
            Err(error) if error.kind() == io::ErrorKind::NotFound => {
                if !folder.is_dir() {
                    return Ok(None);
                }
                return Err(Error::Damaged { path, reason: "it is missing".to_owned() });
            }
            Err(error) => return Err(Error::io(&path, error)),
        };
        let mut text = Vec::new();
        file.take(MANIFEST_MAX).read_to_end(&mut text).map_err(|error| Error::io(&path, error))?;
        let damaged = |reason: String| Error::Damaged { path: path.clone(), reason };
        let manifest: Self =
            serde_json::from_slice(&text).map_err(|error| damaged(error.to_string()))?;
        if manifest.files.is_empty() {
            return Err(damaged("it lists nothing".to_owned()));
        }
        for part in &manifest.files {
            if !part.stays_inside() {
                return Err(damaged(format!("{:?} is not a file of the model", part.name)));
            }
        }
        Ok(Some(manifest))
    }

    pub(super) fn write(&self, folder: &Path) -> Result<(), Error> {
        let path = folder.join(MANIFEST);
        let text = serde_json::to_vec_pretty(self).expect("a manifest always has a JSON form");
        let written = File::create(&path).and_then(|mut file| {
            file.write_all(&text)?;
            file.sync_all()
        });
        written.map_err(|error| Error::io(&path, error))
    }
}

impl Part {
    /// Whether its name leads nowhere but into the model's folder.
    fn stays_inside(&self) -> bool {
        let plain = |name: &str| {
            !name.is_empty() && !name.starts_with('.') && !name.contains(['/', '\\', '\0'])
        };
        match self.name.split_once('/') {
            Some((folder, file)) => plain(folder) && plain(file),
            None => plain(&self.name),
        }
    }

    /// Compares the file in `folder` with what it was; the reason if it differs.
    pub(super) fn compare(&self, folder: &Path, read: &impl Fn(u64)) -> Result<(), String> {
        let path = folder.join(&self.name);
        let bytes = fs::metadata(&path).map_err(|error| error.to_string())?.len();
        if bytes != self.bytes {
            return Err(format!("has {bytes} bytes, had {}", self.bytes));
        }
        let file = File::open(&path).map_err(|error| error.to_string())?;
        let (_, sha256) =
            copy_and_digest(file, io::sink(), read).map_err(|error| error.to_string())?;
        if sha256 == self.sha256 { Ok(()) } else { Err("its SHA-256 is another".to_owned()) }
    }
}

/// Copies all of `from`, telling `copied` of each step. The size and the SHA-256 of what went by.
pub(super) fn copy_and_digest(
    mut from: impl Read,
    mut to: impl io::Write,
    copied: &impl Fn(u64),
) -> io::Result<(u64, String)> {
    let mut digest = Sha256::new();
    let mut buffer = vec![0; BUFFER];
    let mut bytes = 0;
    loop {
        let n = match from.read(&mut buffer) {
            Ok(0) => break,
            Ok(n) => n,
            Err(error) if error.kind() == io::ErrorKind::Interrupted => continue,
            Err(error) => return Err(error),
        };
        digest.update(&buffer[..n]);
        to.write_all(&buffer[..n])?;
        bytes += n as u64;
        copied(n as u64);
    }
    let sha256 = digest.finalize().iter().map(|byte| format!("{byte:02x}")).collect();
    Ok((bytes, sha256))
}
