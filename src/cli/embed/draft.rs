//! A file that appears when it is complete.

use std::io::{self, BufWriter, Write};
use std::path::{Path, PathBuf};

use anyhow::Context;
use tempfile::NamedTempFile;

/// A file without its name yet. Nothing is left of one that is dropped.
pub(super) struct Draft {
    file: BufWriter<NamedTempFile>,
    path: PathBuf,
}

impl Draft {
    /// A draft of the file at `path`.
    ///
    /// # Errors
    ///
    /// When no file can be made in its folder.
    pub(super) fn new(path: &Path) -> anyhow::Result<Self> {
        // In the same folder, so that the last step is a rename.
        let folder = path.parent().filter(|folder| !folder.as_os_str().is_empty());
        let temporary = temporary_in(folder.unwrap_or(Path::new(".")));
        let path = path.to_owned();
        let file = temporary.with_context(|| format!("write {}", path.display()))?;
        Ok(Self { file: BufWriter::new(file), path })
    }

    /// What fails when writing it fails.
    pub(super) fn writing(&self) -> String {
        format!("write {}", self.path.display())
    }

    /// What was written so far.
    pub(super) fn file(&mut self) -> &mut BufWriter<NamedTempFile> {
        &mut self.file
    }

    /// Makes it durable and gives it its name.
    ///
    /// # Errors
    ///
    /// When the disk fails.
    pub(super) fn publish(self) -> anyhow::Result<()> {
        let Self { file, path } = self;
        let writing = || format!("write {}", path.display());
        let file = file.into_inner().map_err(io::IntoInnerError::into_error);
        let file = file.with_context(writing)?;
        file.as_file().sync_all().with_context(writing)?;
        file.persist(&path).with_context(writing)?;
        Ok(())
    }
}

impl Write for Draft {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.file.write(bytes)
    }

    fn flush(&mut self) -> io::Result<()> {
        self.file.flush()
    }
}

/// A file that anybody may read whom the process's mask lets, as if it had been made in place.
fn temporary_in(folder: &Path) -> io::Result<NamedTempFile> {
    let mut builder = tempfile::Builder::new();
    #[cfg(unix)]
    builder.permissions(std::os::unix::fs::PermissionsExt::from_mode(0o666));
    builder.tempfile_in(folder)
}
