//! A folder of this machine.
//!
//! Every file is reached step by step from a folder that the operator allows, so that no link and no
//! rename leads out of it. Links are left alone unless the connector says otherwise; then they may
//! lead anywhere below that folder.

mod beneath;
mod walk;

use std::ffi::OsStr;
use std::io::{self, Read as _};
use std::os::unix::ffi::OsStrExt as _;
use std::path::{Component, Path, PathBuf};
use std::sync::Arc;

use activekg_storage::time::UnixMicros;
use bytes::Bytes;
use rustix::fs::Stat;

use super::globs::Globs;
use super::{Fault, FaultClass, Found, Page, Settings, SourceParts};
use crate::graph::Object;

use beneath::Beneath;

/// What addresses of files begin with.
const SCHEME: &str = "file://";

/// A folder with its files.
#[derive(Clone)]
pub(super) struct Local(Arc<Folder>);

struct Folder {
    /// The whole path of it.
    path: PathBuf,
    /// The folder that nothing leads out of, which is it or above it.
    base: PathBuf,
    /// The way from there to it.
    below: Vec<std::ffi::OsString>,
    follow: bool,
    globs: Globs,
}

impl Local {
    pub(super) fn open(settings: &Settings<'_>, parts: &SourceParts) -> Result<Self, Fault> {
        // Part by part, which leaves a slash at its end out.
        let path: PathBuf = Path::new(settings.needed("path")?).components().collect();
        let base = parts.0.folders.iter().find(|folder| path.starts_with(folder));
        let base = base.ok_or_else(|| {
            Fault::settings("path must be a folder below one of ACTIVEKG_FILE_BASEDIRS")
        })?;
        let below = path.strip_prefix(base).ok().and_then(names);
        let below = below.ok_or_else(|| Fault::settings("path must be a plain whole path"))?;
        let follow = settings.switch("follow_symlinks").unwrap_or(false);
        if follow && !beneath::CAN_FOLLOW {
            return Err(Fault::settings("follow_symlinks works on Linux only"));
        }
        let (base, globs) = (base.clone(), settings.globs.clone());
        Ok(Self(Arc::new(Folder { path, base, below, follow, globs })))
    }

    pub(super) fn path(&self) -> &Path {
        &self.0.path
    }

    pub(super) async fn list(
        &self,
        prefix: Option<&str>,
        cursor: Option<&str>,
        limit: usize,
    ) -> Result<Page, Fault> {
        let (prefix, cursor) = (prefix.unwrap_or_default().to_owned(), cursor.map(str::to_owned));
        self.blocking(move |folder| {
            let base = folder.beneath()?;
            walk::page(&base, folder, &prefix, cursor.as_deref(), limit)
        })
        .await
    }

    pub(super) async fn stat(&self, uri: &str) -> Result<Option<Found>, Fault> {
        let below = self.0.below(uri)?;
        let Some(name) = below.to_str().filter(|name| self.0.globs.take(name)) else {
            return Ok(None);
        };
        let (name, way) = (name.to_owned(), self.0.way(&below)?);
        self.blocking(move |folder| match folder.beneath()?.file(&way) {
            Ok((_, stat)) => Ok(Some(folder.found(&name, &stat))),
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
            // Something else has its name now.
            Err(error) if is_other(&error) => Ok(None),
            Err(error) => Err(fault(&error)),
        })
        .await
    }

    pub(super) async fn fetch(&self, uri: &str, max_bytes: u64) -> Result<Bytes, Fault> {
        let way = self.0.way(&self.0.below(uri)?)?;
        self.blocking(move |folder| {
            let (file, _) = folder.beneath()?.file(&way).map_err(|error| fault(&error))?;
            let mut bytes = Vec::new();
            let read = file.take(max_bytes.saturating_add(1)).read_to_end(&mut bytes);
            let read = read.map_err(|error| fault(&error))?;
            if read as u64 > max_bytes {
                Err(Fault::too_large(max_bytes))
            } else {
                Ok(bytes.into())
            }
        })
        .await
    }

    async fn blocking<T: Send + 'static>(
        &self,
        work: impl FnOnce(&Folder) -> Result<T, Fault> + Send + 'static,
    ) -> Result<T, Fault> {
        let folder = self.0.clone();
        let done = tokio::task::spawn_blocking(move || work(&folder)).await;
        done.map_err(|_| Fault::interrupted())?
    }
}

impl Folder {
    fn beneath(&self) -> Result<Beneath, Fault> {
        Beneath::open(&self.base, self.follow).map_err(|error| fault(&error))
    }

    /// Where in the folder an address leads to.
    fn below(&self, uri: &str) -> Result<PathBuf, Fault> {
        let path = uri.strip_prefix(SCHEME).map(Path::new).ok_or_else(Fault::elsewhere)?;
        let below = path.strip_prefix(&self.path).map_err(|_| Fault::elsewhere())?;
        Ok(below.to_owned())
    }

    /// The steps to a file of the folder.
    fn way(&self, below: &Path) -> Result<Vec<std::ffi::OsString>, Fault> {
        let names = names(below).ok_or_else(Fault::elsewhere)?;
        Ok(self.below.iter().cloned().chain(names).collect())
    }

    fn found(&self, below: &str, stat: &Stat) -> Found {
        let path = self.path.join(below);
        let title = path.file_name().unwrap_or(OsStr::new(below)).to_string_lossy().into_owned();
        let path = path.to_string_lossy().into_owned();
        let (seconds, nanos) = (stat.st_mtime, i64::from(stat.st_mtime_nsec as i32));
        let size = u64::try_from(stat.st_size).unwrap_or(0);
        Found {
            uri: uri(&path),
            title,
            etag: Some(format!("{seconds}.{nanos:09}-{size}")),
            generation: None,
            modified_at: Some(UnixMicros(
                seconds.saturating_mul(1_000_000).saturating_add(nanos / 1000),
            )),
            size: Some(size),
            content_type: None,
            props: Object::from_iter([("path".to_owned(), path.into())]),
        }
    }
}

/// The address of a file of this machine.
#[must_use]
pub fn uri(path: &str) -> String {
    format!("{SCHEME}{path}")
}

/// The parts of a path that only goes down.
fn names(path: &Path) -> Option<Vec<std::ffi::OsString>> {
    let parts = path.components().map(|part| match part {
        Component::Normal(name) if !name.as_bytes().is_empty() => Some(name.to_owned()),
        _ => None,
    });
    parts.collect()
}

/// Whether there is something of that name, but no file that may be read.
fn is_other(error: &io::Error) -> bool {
    matches!(
        error.kind(),
        io::ErrorKind::NotADirectory | io::ErrorKind::InvalidInput | io::ErrorKind::IsADirectory
    ) || beneath::is_link(error)
}

fn fault(error: &io::Error) -> Fault {
    match error.kind() {
        io::ErrorKind::NotFound => {
            Fault::new(FaultClass::NotFound, "there is no such file or folder")
        }
        io::ErrorKind::PermissionDenied => Fault::new(
            FaultClass::AccessDenied,
            "the file or folder may not be read by the user that the server runs as",
        ),
        _ if is_other(error) => {
            Fault::new(FaultClass::Unsupported, "it is no regular file, or behind a symbolic link")
        }
        _ => Fault::new(FaultClass::Network, format!("cannot be read: {}", error.kind())),
    }
}

#[cfg(test)]
mod tests;
