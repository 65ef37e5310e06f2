//! Backups: archives of the whole store, taken while it is in use, kept in a folder or a bucket,
//! checked, tried out and removed in time.
//!
//! What is in an archive is for [`activekg_storage::backup`] to say. Here is where archives go, what
//! they are called, when they are made and how long they stay.

mod bucket;
mod error;
mod fault;
mod folder;
mod json;
mod keep;
mod name;
mod schedule;
mod sealed;
pub mod target;
mod trial;

use std::io::BufReader;
use std::ops::ControlFlow;
use std::path::PathBuf;
use std::sync::{Arc, Mutex, TryLockError};
use std::time::{Duration, Instant};

use activekg_storage::Store;
use activekg_storage::backup::{self as archive, About, Backup, Manifest, Progress};
use activekg_storage::crypt::StreamKey;
use activekg_storage::time::{Clock, UnixMicros};
use tokio_util::sync::CancellationToken;
use tracing::{error, info};

pub use error::Error;
pub use fault::BucketFault;
pub use json::{created, listed, tried};
pub use keep::{list, prune, read};
pub use name::{ArchiveName, NotAnArchiveName};
pub use schedule::Schedule;
pub use sealed::open_file;
use sealed::{Writer, opened};
use target::{Draft, Target};
pub use trial::{Trial, trial};

use crate::graph::FreeSpace;
use crate::observability::build_info;
use crate::observability::metrics::Metrics;

/// Times that a second which already has an archive is passed over.
const SECONDS_MAX: u32 = 60;

/// Bytes of rows between two looks at the free space.
const LOOK_BYTES: u64 = 32 << 20;

/// Told how far it is, with no power over it.
pub type Report = Box<dyn FnMut(Progress) + Send>;

/// What is backed up, and by whom.
pub struct Source {
    /// The store.
    pub store: Arc<Store>,
    /// The folder it is in.
    pub data_dir: PathBuf,
    /// Free space below which no backup goes on; `None` for the usual floor.
    pub min_free_bytes: Option<u64>,
    /// Tells the time.
    pub clock: Arc<dyn Clock>,
    /// Ends what is under way.
    pub stopping: CancellationToken,
}

/// The backups of one store. Clones are the same.
#[derive(Clone)]
pub struct Backups(Arc<Inner>);

struct Inner {
    source: Source,
    target: Arc<dyn Target>,
    key: Option<Arc<StreamKey>>,
    metrics: Option<Arc<Metrics>>,
    busy: Mutex<()>,
}

/// An archive that was made.
#[derive(Debug, Clone)]
pub struct Created {
    /// Its name.
    pub name: ArchiveName,
    /// Its path or address.
    pub path: String,
    /// Its size.
    pub bytes: u64,
    /// What it holds.
    pub manifest: Manifest,
    /// How long it took, the check included.
    pub took: Duration,
}

/// An archive in a list.
#[derive(Debug, Clone)]
pub struct Listed {
    /// Its name.
    pub name: ArchiveName,
    /// Its path or address.
    pub path: String,
    /// Its size.
    pub bytes: u64,
    /// What it says of itself, or why that cannot be read.
    pub about: Result<About, String>,
}

impl Backups {
    /// Backups of `source` that go to `target`, encrypted to `key` if there is one.
    #[must_use]
    pub fn new(
        source: Source,
        target: Arc<dyn Target>,
        key: Option<Arc<StreamKey>>,
        metrics: Option<Arc<Metrics>>,
    ) -> Self {
        Self(Arc::new(Inner { source, target, key, metrics, busy: Mutex::default() }))
    }

    /// Where archives go.
    #[must_use]
    pub fn target(&self) -> &Arc<dyn Target> {
        &self.0.target
    }

    /// Makes an archive in `to`, which is the usual place if it is `None`, reads it back and checks
    /// it before it gets its name. In a thread of its own that yields to everybody else's.
    ///
    /// # Errors
    ///
    /// [`Error::Busy`] while another one is being made.
    pub async fn create(
        &self,
        to: Option<Arc<dyn Target>>,
        report: Report,
    ) -> Result<Created, Error> {
        let backups = self.clone();
        let made = in_background("backup", move || {
            let busy = match backups.0.busy.try_lock() {
                Ok(busy) => busy,
                Err(TryLockError::Poisoned(poisoned)) => poisoned.into_inner(),
                Err(TryLockError::WouldBlock) => return Err(Error::Busy),
            };
            let target = to.unwrap_or_else(|| backups.0.target.clone());
            let made = backups.0.make(&*target, report);
            drop(busy);
            backups.0.note(&made);
            made
        });
        made.await?
    }

    /// The archives in the usual place, newest first.
    ///
    /// # Errors
    ///
    /// When the place cannot be read.
    pub async fn list(&self) -> Result<Vec<Listed>, Error> {
        let Self(inner) = self.clone();
        in_background("backup-list", move || list(&*inner.target, inner.key.as_deref())).await?
    }

    /// Restores an archive into a temporary folder and tries the copy out.
    ///
    /// # Errors
    ///
    /// What is wrong with the archive or the copy.
    pub async fn verify(&self, name: ArchiveName) -> Result<Trial, Error> {
        let Self(inner) = self.clone();
        let beside = inner.target.folder().unwrap_or(&inner.source.data_dir).to_owned();
        let opened =
            in_background("backup-open", move || read(&*inner.target, name, inner.key.as_deref()));
        trial(opened.await??, &beside).await
    }

    /// Removes archives in the usual place that are older than `keep`, and returns them.
    ///
    /// # Errors
    ///
    /// When the place cannot be read.
    pub async fn prune(&self, keep: Duration) -> Result<Vec<ArchiveName>, Error> {
        let Self(inner) = self.clone();
        in_background("backup-prune", move || {
            let now = inner.source.clock.now();
            prune(&*inner.target, inner.key.as_deref(), now, keep)
        })
        .await?
    }

    /// When the newest archive in the usual place was made.
    async fn newest(&self) -> Result<Option<UnixMicros>, Error> {
        let Self(inner) = self.clone();
        let listed = in_background("backup-list", move || inner.target.list());
        let entries = listed.await?.map_err(Error::Target)?;
        Ok(entries.last().map(|entry| entry.name.at()))
    }
}

/// Runs `work` in a thread of its own that yields to everybody else's.
async fn in_background<T: Send + 'static>(
    name: &str,
    work: impl FnOnce() -> T + Send + 'static,
) -> Result<T, Error> {
    let (send, receive) = tokio::sync::oneshot::channel();
    let thread = std::thread::Builder::new().name(name.to_owned()).spawn(move || {
        archive::yield_to_others();
        // Whoever asked may have gone away; the work is done all the same.
        drop(send.send(work()));
    });
    thread.map_err(Error::Target)?;
    receive.await.map_err(|_| Error::Panicked)
}

impl Inner {
    fn make(&self, target: &dyn Target, report: Report) -> Result<Created, Error> {
        let Source { store, data_dir, clock, .. } = &self.source;
        let started = Instant::now();
        self.refuse_if_full(target)?;
        let snapshot = store.read()?;
        let taken_at = clock.now();
        let (name, draft) = self.begin(target, ArchiveName::new(taken_at, self.key.is_some()))?;
        let path = target.called(name);
        let out = Writer::new(draft, self.key.as_deref()).map_err(Error::Target)?;
        let files = archive::blob_files(&snapshot, &data_dir.join("blobs"))?;
        let mut full = None;
        let mut watch = self.watch(target, report, &mut full);
        let backup = Backup::new(&format!("activekg {}", build_info::VERSION), taken_at)
            .files(files)
            .watched(&mut watch);
        let written = backup.write(&snapshot, out);
        drop(watch);
        drop(snapshot);
        let (manifest, out) = match (written, full) {
            (Ok(written), _) => written,
            (Err(_), Some(full)) => return Err(full),
            (Err(error), None) => return Err(error.into()),
        };
        let mut draft = out.finish().map_err(Error::Target)?;
        draft.close().map_err(Error::Target)?;
        self.check(&*draft, &manifest)?;
        let bytes = draft.publish().map_err(Error::Target)?;
        Ok(Created { name, path, bytes, manifest, took: started.elapsed() })
    }

    /// Begins the archive `name`, or that of the next second that has none.
    fn begin(
        &self,
        target: &dyn Target,
        mut name: ArchiveName,
    ) -> Result<(ArchiveName, Box<dyn Draft>), Error> {
        for _ in 0..SECONDS_MAX {
            match target.begin(name) {
                Ok(draft) => return Ok((name, draft)),
                Err(error) if error.kind() == std::io::ErrorKind::AlreadyExists => {}
                Err(error) => return Err(Error::Target(error)),
            }
            name = name.next();
        }
        Err(Error::Busy)
    }

    /// Reads back what was written: a disk may have kept something else.
    fn check(&self, draft: &dyn Draft, manifest: &Manifest) -> Result<(), Error> {
        let back = BufReader::new(draft.read_back().map_err(Error::Target)?);
        let back = opened(Box::new(back), self.key.as_deref())?;
        let stopping = &self.source.stopping;
        let found = archive::check(back, &mut |_| go_on(!stopping.is_cancelled()))?;
        if found == *manifest { Ok(()) } else { Err(Error::NotAsWritten) }
    }

    /// Reports, and stops at the end of the process or of the space.
    fn watch<'a>(
        &'a self,
        target: &'a dyn Target,
        mut report: Report,
        full: &'a mut Option<Error>,
    ) -> impl FnMut(Progress) -> ControlFlow<()> + 'a {
        let mut looked_at = 0;
        move |progress| {
            report(progress);
            if progress.bytes - looked_at >= LOOK_BYTES {
                looked_at = progress.bytes;
                *full = self.space(target, 0).err();
            }
            go_on(full.is_none() && !self.source.stopping.is_cancelled())
        }
    }

    /// Refuses what would probably not fit: as much as the newest archive and a quarter, or, before
    /// the first one, as much as the store.
    fn refuse_if_full(&self, target: &dyn Target) -> Result<(), Error> {
        if target.folder().is_none() {
            return Ok(());
        }
        let newest = target.list().map_err(Error::Target)?.last().map(|entry| entry.bytes);
        let expected = match newest {
            Some(bytes) => bytes + bytes / 4,
            None => std::fs::metadata(self.source.data_dir.join("store.redb"))
                .map_or(0, |file| file.len()),
        };
        self.space(target, expected)
    }

    /// Whether `bytes` more leave the floor free where `target` is.
    fn space(&self, target: &dyn Target, bytes: u64) -> Result<(), Error> {
        let Some(mut folder) = target.folder() else { return Ok(()) };
        // A folder that is not there yet is in the file system of the first one above that is.
        while !folder.exists() {
            match folder.parent() {
                Some(parent) if !parent.as_os_str().is_empty() => folder = parent,
                _ => return Ok(()),
            }
        }
        let floor = FreeSpace::floor(folder, self.source.min_free_bytes).map_err(Error::Target)?;
        let free = fs4::available_space(folder).map_err(Error::Target)?;
        let needed = floor.saturating_add(bytes);
        if free >= needed {
            return Ok(());
        }
        Err(Error::NoSpace { path: folder.to_owned(), free, needed })
    }

    /// Counts and logs how a backup ended.
    fn note(&self, made: &Result<Created, Error>) {
        match made {
            Ok(Created { path, bytes, manifest, took, .. }) => {
                let duration_ms = took.as_millis() as u64;
                let rows: u64 = manifest.tables.iter().map(|table| table.rows).sum();
                info!(path, bytes, rows, duration_ms, "made a backup");
                if !manifest.damage.is_none() {
                    error!(
                        path,
                        "the backup lacks what is damaged in the store: {}",
                        damage(manifest)
                    );
                }
                if let Some(metrics) = &self.metrics {
                    let at = manifest.about.created_at_us;
                    metrics.backup.made(at, *took, *bytes);
                }
            }
            Err(Error::Busy) => {}
            Err(failed) => {
                error!("a backup failed: {failed}");
                if let Some(metrics) = &self.metrics {
                    metrics.backup.failed();
                }
            }
        }
    }
}

fn go_on(yes: bool) -> ControlFlow<()> {
    if yes { ControlFlow::Continue(()) } else { ControlFlow::Break(()) }
}

/// What is damaged, in one line.
#[must_use]
pub fn damage(manifest: &Manifest) -> String {
    let damage = &manifest.damage;
    let tables: Vec<&str> = damage.tables.iter().map(|table| table.table.as_str()).collect();
    let mut parts = vec![format!("{} rows do not decode", damage.rows)];
    if !tables.is_empty() {
        parts.push(format!("tables not whole: {}", tables.join(", ")));
    }
    if !damage.files.is_empty() {
        parts.push(format!("{} files missing or changed", damage.files.len()));
    }
    parts.join("; ")
}

#[cfg(test)]
mod tests;
