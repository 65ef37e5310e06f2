//! Opening files below a folder that nothing leads out of.

use std::ffi::{OsStr, OsString};
use std::fs::File;
use std::io;
use std::os::fd::OwnedFd;
use std::path::Path;

use rustix::fs::{AtFlags, Dir, FileType, Mode, OFlags, Stat, fstat, open, openat, statat};
use rustix::io::Errno;

/// Whether links can be followed without leaving a folder.
pub(super) const CAN_FOLLOW: bool = cfg!(target_os = "linux");

const FOLDER: OFlags = OFlags::RDONLY.union(OFlags::CLOEXEC).union(OFlags::DIRECTORY);
/// What is no file, such as a pipe, must not hold up the opening.
const FILE: OFlags = OFlags::RDONLY.union(OFlags::CLOEXEC).union(OFlags::NONBLOCK);

/// A folder that nothing leads out of.
pub(super) struct Beneath {
    folder: OwnedFd,
    follow: bool,
}

impl Beneath {
    /// The folder itself may be behind a link: it is the operator's.
    pub(super) fn open(folder: &Path, follow: bool) -> io::Result<Self> {
        Ok(Self { folder: open(folder, FOLDER, Mode::empty())?, follow })
    }

    /// A regular file.
    pub(super) fn file(&self, way: &[OsString]) -> io::Result<(File, Stat)> {
        let fd = self.reach(way, FILE)?;
        let stat = fstat(&fd)?;
        match FileType::from_raw_mode(stat.st_mode) {
            FileType::RegularFile => Ok((File::from(fd), stat)),
            _ => Err(io::ErrorKind::InvalidInput.into()),
        }
    }

    /// A folder.
    pub(super) fn folder(&self, way: &[OsString]) -> io::Result<OwnedFd> {
        self.reach(way, FOLDER)
    }

    /// What `name` in an open folder, to which `way` leads, is; a link is one unless links are
    /// followed.
    pub(super) fn look(&self, at: &OwnedFd, way: &[OsString], name: &OsStr) -> io::Result<Stat> {
        let stat = statat(at, name, AtFlags::SYMLINK_NOFOLLOW)?;
        if !self.follow || FileType::from_raw_mode(stat.st_mode) != FileType::Symlink {
            return Ok(stat);
        }
        let way: Vec<OsString> = way.iter().cloned().chain([name.to_owned()]).collect();
        Ok(fstat(self.reach(&way, FILE)?)?)
    }

    /// The names in an open folder, in the order of their bytes.
    pub(super) fn names(at: &OwnedFd) -> io::Result<Vec<OsString>> {
        use std::os::unix::ffi::OsStrExt as _;
        let mut names = Vec::new();
        for entry in Dir::read_from(at)? {
            let entry = entry?;
            let name = OsStr::from_bytes(entry.file_name().to_bytes());
            if name != "." && name != ".." {
                names.push(name.to_owned());
            }
        }
        names.sort_unstable();
        Ok(names)
    }

    #[cfg(target_os = "linux")]
    fn reach(&self, way: &[OsString], flags: OFlags) -> io::Result<OwnedFd> {
        use rustix::fs::{ResolveFlags, openat2};
        if !self.follow {
            return self.steps(way, flags);
        }
        let path: std::path::PathBuf = way.iter().collect();
        let path = if way.is_empty() { Path::new(".") } else { &path };
        let rules = ResolveFlags::BENEATH | ResolveFlags::NO_MAGICLINKS;
        Ok(openat2(&self.folder, path, flags, Mode::empty(), rules)?)
    }

    #[cfg(not(target_os = "linux"))]
    fn reach(&self, way: &[OsString], flags: OFlags) -> io::Result<OwnedFd> {
        self.steps(way, flags)
    }

    /// Step by step: a link that appears while this goes on is not followed either.
    fn steps(&self, way: &[OsString], flags: OFlags) -> io::Result<OwnedFd> {
        let Some((last, folders)) = way.split_last() else {
            return Ok(openat(&self.folder, ".", flags, Mode::empty())?);
        };
        let step = |at: &OwnedFd, name: &OsStr, flags| {
            openat(at, name, flags | OFlags::NOFOLLOW, Mode::empty())
        };
        let mut at = self.folder.try_clone()?;
        for name in folders {
            at = step(&at, name, FOLDER)?;
        }
        Ok(step(&at, last, flags)?)
    }
}

/// Whether a link was in the way, or led out of the folder.
pub(super) fn is_link(error: &io::Error) -> bool {
    [Errno::LOOP, Errno::XDEV]
        .iter()
        .any(|errno| error.raw_os_error() == Some(errno.raw_os_error()))
}
