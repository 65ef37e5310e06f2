//! A model as somebody hands it over: a folder or a file.

use std::fs::{self, File};
use std::path::{Path, PathBuf};

use super::Error;
use super::manifest::{Kind, Part, copy_and_digest};

/// Files an embedder cannot do without.
const NEEDED: [&str; 3] = ["config.json", "tokenizer.json", "model.safetensors"];
/// Files that go along if they are there: how vectors are pooled, how much is read, and what
/// people may do with the model.
const FURTHER: [&str; 9] = [
    "1_Pooling/config.json",
    "modules.json",
    "sentence_bert_config.json",
    "tokenizer_config.json",
    "README.md",
    "LICENSE",
    "LICENSE.txt",
    "LICENSE.md",
    "NOTICE",
];

/// What is to be copied.
pub(super) struct Source {
    kind: Kind,
    folder: PathBuf,
    /// Names in the folder; the one that is loaded comes first.
    names: Vec<String>,
    bytes: u64,
}

impl Source {
    /// Looks at `path`.
    pub(super) fn at(path: &Path) -> Result<Self, Error> {
        let not_a_model = |reason: String| Error::NotAModel { path: path.to_owned(), reason };
        let found = fs::metadata(path).map_err(|error| Error::io(path, error))?;
        let (kind, folder, names) = if found.is_dir() {
            let names = of_folder(path).map_err(not_a_model)?;
            (Kind::Embedder, path.to_owned(), names)
        } else {
            let name = path.file_name().and_then(|name| name.to_str()).unwrap_or_default();
            if !name.to_ascii_lowercase().ends_with(".gguf") || name.starts_with('.') {
                let reason = "neither a folder with model.safetensors nor a .gguf file";
                return Err(not_a_model(reason.to_owned()));
            }
            let folder = path.parent().unwrap_or(Path::new("")).to_owned();
            (Kind::Writer, folder, vec![name.to_owned()])
        };
        let mut bytes = 0_u64;
        for name in &names {
            let file = folder.join(name);
            let found = fs::metadata(&file).map_err(|error| Error::io(&file, error))?;
            if !found.is_file() {
                return Err(not_a_model(format!("{name} is not a file")));
            }
            bytes = bytes.saturating_add(found.len());
        }
        Ok(Self { kind, folder, names, bytes })
    }

    pub(super) fn kind(&self) -> Kind {
        self.kind
    }

    /// Size of all that is copied.
    pub(super) fn bytes(&self) -> u64 {
        self.bytes
    }

    /// Copies it into the folder `to`, to the disk.
    pub(super) fn copy_to(&self, to: &Path, copied: impl Fn(u64)) -> Result<Vec<Part>, Error> {
        let mut parts = Vec::with_capacity(self.names.len());
        for name in &self.names {
            let (from, to) = (self.folder.join(name), to.join(name));
            let parent = to.parent().unwrap_or(&to);
            fs::create_dir_all(parent).map_err(|error| Error::io(parent, error))?;
            let source = File::open(&from).map_err(|error| Error::io(&from, error))?;
            let target = File::create_new(&to).map_err(|error| Error::io(&to, error))?;
            let (bytes, sha256) = copy_and_digest(source, &target, &copied)
                .and_then(|done| target.sync_all().map(|()| done))
                .map_err(|error| Error::io(&to, error))?;
            super::sync_folder(parent)?;
            parts.push(Part { name: name.clone(), bytes, sha256 });
        }
        Ok(parts)
    }
}

/// The files of an embedder in `folder`, or what is missing.
fn of_folder(folder: &Path) -> Result<Vec<String>, String> {
    let there = |name: &&str| folder.join(name).exists();
    let missing: Vec<&str> = NEEDED.into_iter().filter(|name| !there(name)).collect();
    if !missing.is_empty() {
        return Err(format!("the folder lacks {}", missing.join(", ")));
    }
    Ok(NEEDED.into_iter().chain(FURTHER.into_iter().filter(there)).map(str::to_owned).collect())
}
