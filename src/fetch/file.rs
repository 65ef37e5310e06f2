//! Texts from files.

use std::fs::File;
use std::io::{self, Read};
use std::os::fd::OwnedFd;
use std::path::{Component, Path, PathBuf};
use std::sync::Arc;

use rustix::fs::{FileType, Mode, OFlags, fstat, open, openat};

use super::FetchError;

/// Reads files below some folders.
#[derive(Clone)]
pub(super) struct Files {
    folders: Arc<[PathBuf]>,
    max_bytes: usize,
}

impl Files {
    pub(super) fn new(folders: &[PathBuf], max_bytes: usize) -> Self {
        Self { folders: folders.into(), max_bytes }
    }

    /// The text of a file, by what follows `file://`.
    pub(super) async fn text(&self, rest: &str) -> Result<String, FetchError> {
        let path = PathBuf::from(rest.strip_prefix("localhost").unwrap_or(rest));
        let files = self.clone();
        let read = tokio::task::spawn_blocking(move || files.read(&path)).await;
        read.map_err(|_| FetchError::failed("the process stops"))?
    }

    fn read(&self, path: &Path) -> Result<String, FetchError> {
        if self.folders.is_empty() {
            return Err(FetchError::refused(
                "file:// is off; ACTIVEKG_FILE_BASEDIRS names folders",
            ));
        }
        let outside = || FetchError::refused("the file is not below ACTIVEKG_FILE_BASEDIRS");
        let found = self.folders.iter().find_map(|folder| {
            let below = path.strip_prefix(folder).ok()?;
            Some((folder, below))
        });
        let (folder, below) = found.ok_or_else(outside)?;
        let names = below.components().map(|component| match component {
            Component::Normal(name) => Ok(name),
            _ => Err(outside()),
        });
        let names = names.collect::<Result<Vec<_>, _>>()?;
        let file = walk(folder, &names).map_err(|error| match error.kind() {
            io::ErrorKind::NotFound => FetchError::failed("there is no such file"),
            io::ErrorKind::PermissionDenied => FetchError::failed("the file may not be read"),
            _ => FetchError::refused("the file is no regular file, or behind a symbolic link"),
        })?;
        let mut bytes = Vec::new();
        let most = self.max_bytes as u64;
        let read = file.take(most).read_to_end(&mut bytes);
        read.map_err(|_| FetchError::failed("the file cannot be read"))?;
        Ok(String::from_utf8_lossy(&bytes).into_owned())
    }
}

/// Opens a file below `folder`, step by step, so that no step leads elsewhere: a link that appears
/// while this goes on is not followed either.
fn walk(folder: &Path, names: &[&std::ffi::OsStr]) -> io::Result<File> {
    let Some((last, folders)) = names.split_last() else {
        return Err(io::ErrorKind::IsADirectory.into());
    };
    const STEP: OFlags = OFlags::RDONLY.union(OFlags::CLOEXEC).union(OFlags::NOFOLLOW);
    // The operator's own folder may be behind a link.
    let flags = OFlags::RDONLY | OFlags::CLOEXEC | OFlags::DIRECTORY;
    let mut at: OwnedFd = open(folder, flags, Mode::empty())?;
    for name in folders {
        at = openat(&at, *name, STEP | OFlags::DIRECTORY, Mode::empty())?;
    }
    // What is no file, such as a pipe, must not hold up the opening.
    let file = openat(&at, *last, STEP | OFlags::NONBLOCK, Mode::empty())?;
    match FileType::from_raw_mode(fstat(&file)?.st_mode) {
        FileType::RegularFile => Ok(File::from(file)),
        _ => Err(io::ErrorKind::InvalidInput.into()),
    }
}

#[cfg(test)]
mod tests {
    use std::fs;
    use std::os::unix::fs::symlink;

    use super::*;

    fn refused(files: &Files, path: &Path) -> bool {
        matches!(files.read(path), Err(FetchError::Refused(_)))
    }

    #[test]
    fn files_below_the_folders_are_read_up_to_a_limit() {
        let dir = tempfile::tempdir().unwrap();
        fs::create_dir(dir.path().join("sub")).unwrap();
        fs::write(dir.path().join("sub/a.txt"), b"pump \xff manual").unwrap();
        let files = Files::new(&[dir.path().to_owned()], 8);
        assert_eq!(files.read(&dir.path().join("sub/a.txt")).unwrap(), "pump \u{fffd} m");
        let missing = files.read(&dir.path().join("b.txt"));
        assert!(matches!(missing, Err(FetchError::Failed(_))));
    }

    #[test]
    fn nothing_leads_out_of_the_folders() {
        let outside = tempfile::tempdir().unwrap();
        fs::write(outside.path().join("secret"), "x").unwrap();
        let dir = tempfile::tempdir().unwrap();
        symlink(outside.path(), dir.path().join("link")).unwrap();
        symlink(outside.path().join("secret"), dir.path().join("file")).unwrap();
        fs::create_dir(dir.path().join("sub")).unwrap();
        let files = Files::new(&[dir.path().to_owned()], 100);
        let at = |below: &str| dir.path().join(below);
        for path in [
            at("link/secret"),
            at("file"),
            at("sub"),
            at("sub/../../secret"),
            at(".."),
            at(""),
            outside.path().join("secret"),
            PathBuf::from("/etc/passwd"),
            PathBuf::from("secret"),
            PathBuf::from("/dev/zero"),
        ] {
            assert!(refused(&files, &path), "{}", path.display());
        }
        // A folder whose name begins alike is another one.
        let beside = PathBuf::from(format!("{}-x/secret", dir.path().display()));
        assert!(refused(&files, &beside));
    }

    #[test]
    fn a_pipe_does_not_hold_it_up() {
        let dir = tempfile::tempdir().unwrap();
        let pipe = dir.path().join("pipe");
        rustix::fs::mknodat(rustix::fs::CWD, &pipe, FileType::Fifo, Mode::from_raw_mode(0o600), 0)
            .unwrap();
        assert!(refused(&Files::new(&[dir.path().to_owned()], 100), &pipe));
    }

    #[test]
    fn without_folders_no_file_is_read() {
        assert!(refused(&Files::new(&[], 100), Path::new("/etc/hostname")));
    }
}
