//! The archives that are there: what they are, and how long they stay. Everything here blocks.

use std::io::{self, Read};
use std::time::Duration;

use activekg_storage::backup as archive;
use activekg_storage::crypt::StreamKey;
use activekg_storage::time::UnixMicros;
use tracing::{info, warn};

use super::sealed::opened;
use super::target::Target;
use super::{ArchiveName, Error, Listed};

/// The archives in `target`, newest first, with what each says of itself.
///
/// # Errors
///
/// When the place cannot be read.
pub fn list(target: &dyn Target, key: Option<&StreamKey>) -> Result<Vec<Listed>, Error> {
    let entries = target.list().map_err(Error::Target)?;
    let listed = entries.into_iter().rev().map(|entry| {
        let about = read(target, entry.name, key)
            .and_then(|archive| archive::about(archive).map_err(Error::from));
        Listed {
            name: entry.name,
            path: target.called(entry.name),
            bytes: entry.bytes,
            about: about.map_err(|error| error.to_string()),
        }
    });
    Ok(listed.collect())
}

/// Opens an archive in `target`.
///
/// # Errors
///
/// [`Error::NotFound`], or it cannot be read.
pub fn read(
    target: &dyn Target,
    name: ArchiveName,
    key: Option<&StreamKey>,
) -> Result<Box<dyn Read + Send>, Error> {
    let bytes = target.read(name).map_err(|error| match error.kind() {
        io::ErrorKind::NotFound => Error::NotFound(target.called(name)),
        _ => Error::Target(error),
    })?;
    opened(bytes, key)
}

/// Removes archives older than `keep`, and returns them. The newest one that is whole always stays,
/// and whatever is newer; while none is, nothing is removed.
///
/// # Errors
///
/// When the place cannot be read.
pub fn prune(
    target: &dyn Target,
    key: Option<&StreamKey>,
    now: UnixMicros,
    keep: Duration,
) -> Result<Vec<ArchiveName>, Error> {
    let entries = target.list().map_err(Error::Target)?;
    let is_old = |name: ArchiveName| now.since(name.at()) > keep;
    if !entries.iter().any(|entry| is_old(entry.name)) {
        return Ok(Vec::new());
    }
    let is_whole = |name| {
        let whole = read(target, name, key).and_then(|archive| {
            Ok(archive::check(archive, &mut archive::unattended)?.damage.is_none())
        });
        match whole {
            Ok(whole) => whole,
            Err(error) => {
                warn!("{} is of no use: {error}", target.called(name));
                false
            }
        }
    };
    let Some(kept) = entries.iter().rev().map(|entry| entry.name).find(|name| is_whole(*name))
    else {
        warn!("no old backup is removed: none of those that are there is whole");
        return Ok(Vec::new());
    };
    let mut removed = Vec::new();
    for name in entries.into_iter().map(|entry| entry.name) {
        if name >= kept || !is_old(name) {
            continue;
        }
        match target.remove(name) {
            Ok(()) => removed.push(name),
            Err(error) => warn!("could not remove {}: {error}", target.called(name)),
        }
    }
    if !removed.is_empty() {
        info!(n_removed = removed.len(), "removed old backups");
    }
    Ok(removed)
}
