//! Finding the archive that is meant.

use std::path::{Path, PathBuf};

use activekg_storage::crypt::StreamKey;
use anyhow::{Context as _, bail};
use serde_json::Value;

use super::Where;
use crate::backup::target::{self, Target};
use crate::backup::{self, ArchiveName};
use crate::config::{self, Place};

/// An archive, opened.
pub(super) struct Found {
    pub(super) bytes: Box<dyn std::io::Read + Send>,
    /// What people call it.
    pub(super) path: String,
    /// A folder with room beside it, or for what has none.
    pub(super) beside: PathBuf,
}

/// Runs `work` on the configured place, in a thread that may block.
pub(super) async fn blocking<T: Send + 'static>(
    settings: &config::Backup,
    work: impl FnOnce(&dyn Target, Option<&StreamKey>) -> T + Send + 'static,
) -> anyhow::Result<T> {
    let target = target::open(&settings.place, &settings.clouds).context("use the place")?;
    let key = settings.key.clone();
    let done = tokio::task::spawn_blocking(move || work(&*target, key.as_deref()));
    done.await.context("wait for the work")
}

pub(super) async fn list(at: &Where) -> anyhow::Result<Vec<Value>> {
    let (_, settings) = at.settings()?;
    let listed = blocking(&settings, backup::list).await??;
    Ok(listed.iter().map(backup::listed).collect())
}

/// The path or address of the newest archive in the configured place.
pub(super) async fn newest(settings: &config::Backup) -> anyhow::Result<String> {
    let newest = blocking(settings, |target, _| {
        let entries = target.list()?;
        Ok::<_, std::io::Error>(entries.last().map(|entry| target.called(entry.name)))
    });
    let newest = newest.await?.context("list the archives")?;
    newest.context("there is no archive; make one with `activekg backup create`")
}

/// Opens the archive that `wanted` means: a path, an address, or the name, stamp or day of one in
/// the configured place, of which the latest counts.
pub(super) async fn archive(settings: &config::Backup, wanted: &str) -> anyhow::Result<Found> {
    let temporary = std::env::temp_dir();
    if let Some((place, name)) = address(wanted)? {
        let settings = config::Backup { place, ..settings.clone() };
        let bytes = open(&settings, name).await?;
        return Ok(Found { bytes, path: wanted.to_owned(), beside: temporary });
    }
    let path = Path::new(wanted.strip_prefix("file://").unwrap_or(wanted));
    if path.is_file() || path.components().count() > 1 {
        let (file, key) = (path.to_owned(), settings.key.clone());
        let opened = tokio::task::spawn_blocking(move || backup::open_file(&file, key.as_deref()));
        let bytes = opened.await.context("wait for the work")??;
        let whole = std::path::absolute(path).context("find the working directory")?;
        let beside = whole.parent().unwrap_or(Path::new("/")).to_owned();
        return Ok(Found { bytes, path: path.display().to_string(), beside });
    }
    let named = wanted.to_owned();
    let (name, path, beside) = blocking(settings, move |target, _| {
        let entries = target.list()?;
        let meant = entries.into_iter().rev().find(|entry| entry.name.is_meant_by(&named));
        let beside = target.folder().map(Path::to_owned);
        Ok::<_, std::io::Error>(meant.map(|entry| (entry.name, target.called(entry.name), beside)))
    })
    .await?
    .context("list the archives")?
    .with_context(|| format!("there is no archive {wanted}; see `activekg backup list`"))?;
    let bytes = open(settings, name).await?;
    Ok(Found { bytes, path, beside: beside.unwrap_or(temporary) })
}

async fn open(
    settings: &config::Backup,
    name: ArchiveName,
) -> anyhow::Result<Box<dyn std::io::Read + Send>> {
    Ok(blocking(settings, move |target, key| backup::read(target, name, key)).await??)
}

/// The bucket and the name in an address of an object.
fn address(wanted: &str) -> anyhow::Result<Option<(Place, ArchiveName)>> {
    let Some((_, rest)) = wanted.split_once("://") else { return Ok(None) };
    if wanted.starts_with("file://") {
        return Ok(None);
    }
    let Some((_, file)) = rest.rsplit_once('/') else {
        bail!("{wanted} names no archive in the bucket");
    };
    let name = file.parse().with_context(|| format!("{file:?}"))?;
    let bucket = wanted.strip_suffix(file).unwrap_or(wanted);
    let place = Place::parse(bucket).map_err(anyhow::Error::msg)?;
    Ok(Some((place, name)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn addresses_are_told_from_paths_and_names() {
        let (place, name) =
            address("s3://bucket/kg/activekg_20260203_100000.tar.zst").unwrap().unwrap();
        assert_eq!(place, Place::Bucket("s3://bucket/kg".to_owned()));
        assert_eq!(name.to_string(), "activekg_20260203_100000.tar.zst");
        for other in ["2026-02-03", "/mnt/a/b", "file:///mnt/a/b"] {
            assert!(address(other).unwrap().is_none(), "{other}");
        }
        assert!(address("s3://bucket/kg/notes.txt").is_err());
        assert!(address("s3://bucket").is_err());
    }
}
