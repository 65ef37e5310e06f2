//! The file that log lines go to as well.

use std::fs::{File, Metadata, OpenOptions};
use std::io::{self, Write};
use std::os::unix::fs::{MetadataExt as _, OpenOptionsExt as _};
use std::path::PathBuf;
use std::sync::{Arc, Mutex, PoisonError};

use activekg_storage::time::Clock;
use serde_json::json;

use crate::timestamp;

/// A file that lines are appended to.
///
/// A file that was moved away, as by logrotate, is left with what it has, and a new one is begun under
/// the name. Lines that cannot be written are lost, and the next one that can is preceded by one that
/// says how many.
pub struct LogFile {
    path: PathBuf,
    clock: Arc<dyn Clock>,
    open: Mutex<Open>,
}

struct Open {
    file: File,
    /// What the file system knows it by.
    identity: (u64, u64),
    n_lost: u64,
    /// Whether the file may end in a part of a line.
    torn: bool,
}

impl LogFile {
    /// Opens the file at `path`, and makes it if there is none: for the user of the process to write,
    /// for the group to read.
    ///
    /// # Errors
    ///
    /// The file system's own.
    pub fn open(path: PathBuf, clock: Arc<dyn Clock>) -> io::Result<Self> {
        let (file, identity) = append_to(&path)?;
        let open = Mutex::new(Open { file, identity, n_lost: 0, torn: false });
        Ok(Self { path, clock, open })
    }

    /// Opens what has the name now. The old file is kept when that fails.
    ///
    /// # Errors
    ///
    /// The file system's own.
    pub fn reopen(&self) -> io::Result<()> {
        let (file, identity) = append_to(&self.path)?;
        let mut open = self.open.lock().unwrap_or_else(PoisonError::into_inner);
        (open.file, open.identity, open.torn) = (file, identity, false);
        Ok(())
    }

    /// Appends a line, which ends in a line feed.
    fn append(&self, line: &[u8]) {
        let mut open = self.open.lock().unwrap_or_else(PoisonError::into_inner);
        let stays = |there: &Metadata| identity(there) == open.identity;
        if !self.path.metadata().as_ref().is_ok_and(stays)
            && let Ok((file, identity)) = append_to(&self.path)
        {
            (open.file, open.identity, open.torn) = (file, identity, false);
        }
        let mut bytes = Vec::new();
        if open.torn {
            bytes.push(b'\n');
        }
        if open.n_lost > 0 {
            bytes.extend(self.lost(open.n_lost));
        }
        bytes.extend_from_slice(line);
        match open.file.write_all(&bytes) {
            Ok(()) => (open.n_lost, open.torn) = (0, false),
            Err(_) => (open.n_lost, open.torn) = (open.n_lost + 1, true),
        }
    }

    fn lost(&self, n: u64) -> Vec<u8> {
        let line = json!({
            "timestamp": timestamp::iso(self.clock.now().get()),
            "level": "WARNING",
            "logger": module_path!(),
            "message": format!("{n} lines before this one could not be written to this file"),
        });
        format!("{line}\n").into_bytes()
    }
}

/// Takes a whole line at a time, and never fails: who logs can do nothing about it.
impl Write for &LogFile {
    fn write(&mut self, line: &[u8]) -> io::Result<usize> {
        self.append(line);
        Ok(line.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

fn append_to(path: &PathBuf) -> io::Result<(File, (u64, u64))> {
    let file = OpenOptions::new().append(true).create(true).mode(0o640).open(path)?;
    let identity = identity(&file.metadata()?);
    Ok((file, identity))
}

fn identity(file: &Metadata) -> (u64, u64) {
    (file.dev(), file.ino())
}

#[cfg(test)]
mod tests {
    use std::fs;
    use std::os::unix::fs::symlink;
    use std::path::Path;

    use activekg_storage::time::SystemClock;
    use serde_json::Value;

    use super::*;

    fn opened(path: &Path) -> LogFile {
        LogFile::open(path.to_owned(), Arc::new(SystemClock)).unwrap()
    }

    fn say(log: &LogFile, line: &str) {
        let mut writer = log;
        writer.write_all(format!("{line}\n").as_bytes()).unwrap();
    }

    #[test]
    fn lines_follow_what_is_there() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("app.log");
        fs::write(&path, "old\n").unwrap();
        say(&opened(&path), "new");
        assert_eq!(fs::read_to_string(&path).unwrap(), "old\nnew\n");
    }

    #[test]
    fn a_file_that_is_moved_away_gets_a_successor() {
        let dir = tempfile::tempdir().unwrap();
        let (path, moved) = (dir.path().join("app.log"), dir.path().join("app.log.1"));
        let log = opened(&path);
        say(&log, "one");
        fs::rename(&path, &moved).unwrap();
        say(&log, "two");
        fs::remove_file(&path).unwrap();
        log.reopen().unwrap();
        assert_eq!(fs::read_to_string(&path).unwrap(), "");
        say(&log, "three");
        assert_eq!(fs::read_to_string(&moved).unwrap(), "one\n");
        assert_eq!(fs::read_to_string(&path).unwrap(), "three\n");
    }

    #[test]
    fn without_a_successor_the_old_file_is_written_to() {
        let dir = tempfile::tempdir().unwrap();
        let (folder, moved) = (dir.path().join("logs"), dir.path().join("old"));
        fs::create_dir(&folder).unwrap();
        let log = opened(&folder.join("app.log"));
        fs::rename(&folder, &moved).unwrap();
        assert!(log.reopen().is_err());
        say(&log, "still here");
        assert_eq!(fs::read_to_string(moved.join("app.log")).unwrap(), "still here\n");
    }

    #[test]
    fn a_full_disk_loses_lines_and_the_file_says_so() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("app.log");
        symlink("/dev/full", &path).unwrap();
        let log = opened(&path);
        say(&log, "one");
        say(&log, "two");
        fs::remove_file(&path).unwrap();
        say(&log, "three");
        say(&log, "four");
        let text = fs::read_to_string(&path).unwrap();
        let lines: Vec<&str> = text.lines().collect();
        let told: Value = serde_json::from_str(lines[0]).unwrap();
        assert_eq!(told["message"], "2 lines before this one could not be written to this file");
        assert_eq!(lines[1..], ["three", "four"]);
    }
}
