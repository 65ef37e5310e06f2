//! Archives in a folder.

use std::fs::{self, File, OpenOptions};
use std::io::{self, BufWriter, Read, Write};
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::{Path, PathBuf};

use tracing::warn;

use super::name::ArchiveName;
use super::target::{Draft, Entry, Target};

/// Behind the name of an archive that is not whole yet. Left over if the process dies.
const PARTIAL: &str = ".partial";

/// Bytes gathered before the system is asked to write.
const BUFFER_BYTES: usize = 256 << 10;

/// After so many bytes the disk is asked to write, so that it need not write all of them while
/// those who change the store wait for it.
const SYNC_BYTES: u64 = 16 << 20;

/// A folder.
#[derive(Debug, Clone)]
pub(super) struct Folder {
    path: PathBuf,
}

impl Folder {
    /// The folder `path`, which is made when the first archive is.
    pub(super) fn new(path: PathBuf) -> Self {
        Self { path }
    }

    fn file(&self, name: ArchiveName) -> PathBuf {
        self.path.join(name.to_string())
    }
}

impl Target for Folder {
    fn called(&self, name: ArchiveName) -> String {
        self.file(name).display().to_string()
    }

    fn folder(&self) -> Option<&Path> {
        Some(&self.path)
    }

    fn list(&self) -> io::Result<Vec<Entry>> {
        let files = match fs::read_dir(&self.path) {
            Ok(files) => files,
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Vec::new()),
            Err(error) => return Err(error),
        };
        let mut entries = Vec::new();
        for file in files {
            let file = file?;
            let name = file.file_name().to_str().and_then(|name| name.parse().ok());
            if let Some(name) = name {
                entries.push(Entry { name, bytes: file.metadata()?.len() });
            }
        }
        entries.sort_unstable();
        Ok(entries)
    }

    fn begin(&self, name: ArchiveName) -> io::Result<Box<dyn Draft>> {
        fs::create_dir_all(&self.path)?;
        let path = self.file(name);
        if path.try_exists()? {
            return Err(io::ErrorKind::AlreadyExists.into());
        }
        let temporary = self.path.join(format!("{name}{PARTIAL}"));
        let mut options = OpenOptions::new();
        // What a process that died has left of the same name is written anew.
        let file = options.write(true).create(true).truncate(true).mode(0o600).open(&temporary)?;
        let file = BufWriter::with_capacity(BUFFER_BYTES, file);
        let draft = FileDraft {
            file,
            folder: self.path.clone(),
            temporary,
            path,
            unsynced: 0,
            published: false,
        };
        Ok(Box::new(draft))
    }

    fn read(&self, name: ArchiveName) -> io::Result<Box<dyn Read + Send>> {
        Ok(Box::new(File::open(self.file(name))?))
    }

    fn remove(&self, name: ArchiveName) -> io::Result<()> {
        fs::remove_file(self.file(name))
    }
}

struct FileDraft {
    file: BufWriter<File>,
    folder: PathBuf,
    temporary: PathBuf,
    path: PathBuf,
    unsynced: u64,
    published: bool,
}

impl Write for FileDraft {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let n_bytes = self.file.write(bytes)?;
        self.unsynced += n_bytes as u64;
        if self.unsynced >= SYNC_BYTES {
            self.file.flush()?;
            self.file.get_ref().sync_data()?;
            self.unsynced = 0;
        }
        Ok(n_bytes)
    }

    fn flush(&mut self) -> io::Result<()> {
        self.file.flush()
    }
}

impl Draft for FileDraft {
    fn close(&mut self) -> io::Result<()> {
        self.file.flush()?;
        self.file.get_ref().sync_all()
    }

    fn read_back(&self) -> io::Result<Box<dyn Read + Send>> {
        Ok(Box::new(File::open(&self.temporary)?))
    }

    fn publish(mut self: Box<Self>) -> io::Result<u64> {
        let n_bytes = self.file.get_ref().metadata()?.len();
        // A link instead of a rename: it does not replace what is there.
        fs::hard_link(&self.temporary, &self.path).or_else(|error| match error.kind() {
            io::ErrorKind::AlreadyExists => Err(error),
            // Not every file system has links.
            _ => fs::rename(&self.temporary, &self.path),
        })?;
        self.published = !self.temporary.try_exists()?;
        File::open(&self.folder)?.sync_all()?;
        Ok(n_bytes)
    }
}

impl Drop for FileDraft {
    fn drop(&mut self) {
        if self.published {
            return;
        }
        if let Err(error) = fs::remove_file(&self.temporary) {
            warn!("could not remove {}: {error}", self.temporary.display());
        }
    }
}

#[cfg(test)]
mod tests {
    use activekg_storage::UnixMicros;

    use super::*;

    fn name(second: i64) -> ArchiveName {
        ArchiveName::new(UnixMicros(second * 1_000_000), false)
    }

    fn files(dir: &Path) -> Vec<String> {
        let mut names: Vec<String> = fs::read_dir(dir)
            .unwrap()
            .map(|entry| entry.unwrap().file_name().into_string().unwrap())
            .collect();
        names.sort();
        names
    }

    #[test]
    fn an_archive_is_seen_when_it_is_published() {
        let dir = tempfile::tempdir().unwrap();
        let folder = Folder::new(dir.path().join("deep/down"));
        assert_eq!(folder.list().unwrap(), []);
        let mut draft = folder.begin(name(1)).unwrap();
        draft.write_all(b"content").unwrap();
        draft.close().unwrap();
        assert_eq!(folder.list().unwrap(), []);
        assert_eq!(io::read_to_string(draft.read_back().unwrap()).unwrap(), "content");
        assert_eq!(draft.publish().unwrap(), 7);
        assert_eq!(folder.list().unwrap(), [Entry { name: name(1), bytes: 7 }]);
        assert_eq!(files(&folder.path), [name(1).to_string()]);
        assert_eq!(io::read_to_string(folder.read(name(1)).unwrap()).unwrap(), "content");
        let taken = folder.begin(name(1)).err().unwrap();
        assert_eq!(taken.kind(), io::ErrorKind::AlreadyExists);
    }

    #[test]
    fn nothing_is_left_of_a_draft_and_other_files_are_not_touched() {
        let dir = tempfile::tempdir().unwrap();
        let folder = Folder::new(dir.path().to_owned());
        fs::write(dir.path().join("notes.txt"), "mine").unwrap();
        let mut draft = folder.begin(name(2)).unwrap();
        draft.write_all(b"half").unwrap();
        drop(draft);
        assert_eq!(files(dir.path()), ["notes.txt"]);
        assert_eq!(folder.list().unwrap(), []);
        assert!(folder.remove(name(2)).is_err());
    }
}
