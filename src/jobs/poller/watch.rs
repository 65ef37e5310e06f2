//! Folders that are watched, so that a change is queued when it happens and not when the connector
//! of the folder is due.
//!
//! What is seen is a hint and nothing more: whoever takes one looks at the files. Where hints may
//! have been lost, the hint is to look at everything.

use std::collections::{BTreeMap, HashMap, HashSet};
use std::io;
use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use activekg_storage::ids::TenantId;
use notify::event::{AccessKind, AccessMode, CreateKind, ModifyKind, RemoveKind, RenameMode};
use notify::{Config, Event, EventKind, RecommendedWatcher, RecursiveMode, Watcher as _};
use tokio::select;
use tokio::sync::Notify;
use tokio::time::{Instant, sleep_until};
use tracing::{info, warn};

/// A file is looked at when nothing has happened to it for so long: it may still be written.
const QUIET: Duration = Duration::from_secs(1);
/// A file that never is quiet is looked at so long after something happened to it.
const PATIENCE: Duration = Duration::from_secs(30);
/// Files of one folder that hints are kept of; of more, the hint is to look at everything.
const FILES_MAX: usize = 100_000;
/// After everything was looked at, that is not done again for so many times as long.
const REST: u32 = 10;
/// Time between two attempts to watch what could not be watched, and between two beginnings.
const AGAIN_AFTER: Duration = Duration::from_secs(60);
/// Time after which a folder is watched once more: folders in it may have been missed.
const ONCE_MORE_AFTER: Duration = Duration::from_secs(15 * 60);

/// What to look at.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Hint {
    /// Everything.
    Whole,
    /// These files.
    Files(Vec<PathBuf>),
}

/// The folders of tenants that are watched. Clones share them.
#[derive(Clone, Default)]
pub(super) struct Watches {
    watcher: Arc<Mutex<Watcher>>,
    hints: Arc<Hints>,
}

#[derive(Default)]
struct Watcher {
    /// `None` while nothing is watched.
    inner: Option<RecommendedWatcher>,
    /// When that began.
    begun: Option<Instant>,
    watched: HashMap<PathBuf, Watched>,
}

/// A folder that is to be watched.
enum Watched {
    /// It is; what tells it from another of the same name, and when to make sure.
    Yes((u64, u64), Instant),
    /// It could not be, and this is when to try again.
    No(Instant),
}

#[derive(Default)]
struct Hints {
    /// By folder, and by the tenants that have it.
    folders: Mutex<BTreeMap<PathBuf, HashMap<TenantId, Pending>>>,
    /// Folders that went away, however much like them is what has their names now.
    gone: Mutex<HashSet<PathBuf>>,
    /// Folders may have come that are not watched.
    missed: AtomicBool,
    /// There is another hint, or it is due at another time.
    changed: Notify,
}

/// Hints that nobody took yet.
#[derive(Debug, Default)]
struct Pending {
    files: HashMap<PathBuf, Span>,
    whole: Option<Span>,
    /// Not everything before then.
    rests_until: Option<Instant>,
}

/// When something happened first and last.
#[derive(Debug, Clone, Copy)]
struct Span {
    first: Instant,
    last: Instant,
}

impl Span {
    fn due(self) -> Instant {
        (self.last + QUIET).min(self.first + PATIENCE)
    }
}

impl Pending {
    fn file(&mut self, path: &Path, now: Instant) {
        if self.files.len() >= FILES_MAX {
            self.everything(now);
        } else if self.whole.is_none() {
            let span = Span { first: now, last: now };
            self.files.entry(path.to_owned()).or_insert(span).last = now;
        }
    }

    fn everything(&mut self, now: Instant) {
        self.files.clear();
        self.whole.get_or_insert(Span { first: now, last: now }).last = now;
    }

    fn is_empty(&self) -> bool {
        self.whole.is_none() && self.files.is_empty()
    }

    /// When there is something to take.
    fn due(&self) -> Option<Instant> {
        let whole = self.whole.map(|span| span.due().max(self.rests_until.unwrap_or(span.first)));
        whole.or_else(|| self.files.values().map(|span| span.due()).min())
    }

    fn take(&mut self, now: Instant) -> Option<Hint> {
        if self.due().is_none_or(|due| now < due) {
            return None;
        }
        if self.whole.take().is_some() {
            return Some(Hint::Whole);
        }
        let due = self.files.extract_if(|_, span| span.due() <= now);
        Some(Hint::Files(due.map(|(path, _)| path).collect()))
    }
}

impl Watches {
    /// Watches the folders of these tenants and no others. Whose folder is watched from now on is
    /// to look at everything. May take as long as walking through all their folders does.
    pub(super) fn keep(&self, wanted: &HashMap<TenantId, PathBuf>) {
        let mut watcher = lock(&self.watcher);
        let folders: HashSet<&PathBuf> = wanted.values().collect();
        let gone = std::mem::take(&mut *lock(&self.hints.gone));
        let is_other = |(path, watched): (&PathBuf, &Watched)| {
            let same = |id: &(u64, u64)| identity(path).is_ok_and(|now| now == *id);
            let is_kept = folders.contains(path);
            !is_kept || matches!(watched, Watched::Yes(id, _) if gone.contains(path) || !same(id))
        };
        let now = Instant::now();
        let may_begin = watcher.begun.is_none_or(|begun| now >= begun + AGAIN_AFTER);
        // What no more is watched may lie in what is, or have it in it: all begin anew.
        if watcher.watched.iter().any(is_other)
            || (may_begin && self.hints.missed.swap(false, Ordering::Relaxed))
        {
            *watcher = Watcher::default();
        }
        self.hints.of_these(wanted);
        for path in folders {
            let before = match watcher.watched.get(path) {
                Some(Watched::Yes(_, again) | Watched::No(again)) if now < *again => continue,
                Some(Watched::Yes(..)) => Some(true),
                Some(Watched::No(_)) => Some(false),
                None => None,
            };
            let watched = match watcher.watch(path, &self.hints) {
                Ok(id) => {
                    if before != Some(true) {
                        info!(path = %path.display(), "watching a folder");
                        self.hints.everything(path);
                    }
                    Watched::Yes(id, now + ONCE_MORE_AFTER)
                }
                Err(error) => {
                    if before != Some(false) {
                        warn!(path = %path.display(), "a folder is not watched, its changes are found when its connector is due: {}", advice(&error));
                    }
                    Watched::No(now + AGAIN_AFTER)
                }
            };
            watcher.watched.insert(path.clone(), watched);
        }
    }

    /// Takes the hints of a tenant that are due.
    pub(super) fn take(&self, tenant: &TenantId) -> Option<Hint> {
        self.hints.of(tenant, |pending| pending.take(Instant::now())).flatten()
    }

    /// Forgets the hints of a tenant: everything is about to be looked at.
    pub(super) fn clear(&self, tenant: &TenantId) {
        self.hints.of(tenant, |pending| {
            pending.files.clear();
            pending.whole = None;
        });
    }

    /// Whether there is something to take.
    pub(super) fn is_due(&self, tenant: &TenantId) -> bool {
        let now = Instant::now();
        let is_due = |pending: &mut Pending| pending.due().is_some_and(|due| due <= now);
        self.hints.of(tenant, is_due).unwrap_or(false)
    }

    /// Everything of a tenant was looked at, which took so long.
    pub(super) fn rest(&self, tenant: &TenantId, took: Duration) {
        let until = Instant::now() + took * REST;
        self.hints.of(tenant, |pending| pending.rests_until = Some(until));
    }

    /// What was taken came to nothing, or was not enough: everything is to be looked at, after so
    /// long.
    pub(super) fn lost(&self, tenant: &TenantId, wait: Duration) {
        let now = Instant::now();
        self.hints.of(tenant, |pending| {
            pending.everything(now);
            pending.rests_until = pending.rests_until.max(Some(now + wait));
        });
    }

    /// Ends when there is something to take.
    pub(super) async fn due(&self) {
        loop {
            // A hint between look and wait is not missed.
            let mut changed = std::pin::pin!(self.hints.changed.notified());
            changed.as_mut().enable();
            let due = {
                let folders = lock(&self.hints.folders);
                folders.values().flat_map(HashMap::values).filter_map(Pending::due).min()
            };
            let Some(due) = due else {
                changed.await;
                continue;
            };
            select! {
                () = sleep_until(due) => return,
                () = changed => {}
            }
        }
    }
}

impl Watcher {
    /// Watches a folder with all in it, and not what links lead to; what tells it from another.
    fn watch(&mut self, path: &Path, hints: &Arc<Hints>) -> notify::Result<(u64, u64)> {
        let id = identity(path).map_err(notify::Error::io)?;
        // Behind a link may be anything, also what is not to be looked at.
        if path.canonicalize().map_err(notify::Error::io)? != path {
            return Err(notify::Error::generic("it is behind a symbolic link"));
        }
        if self.inner.is_none() {
            self.begun = Some(Instant::now());
            let seen = hints.clone();
            let see = move |event: notify::Result<Event>| seen.see(event);
            let config = Config::default().with_follow_symlinks(false);
            self.inner = Some(RecommendedWatcher::new(see, config)?);
        }
        if let Some(inner) = &mut self.inner {
            inner.watch(path, RecursiveMode::Recursive)?;
        }
        Ok(id)
    }
}

impl Hints {
    /// Keeps hints of these and forgets all others.
    fn of_these(&self, wanted: &HashMap<TenantId, PathBuf>) {
        let mut folders = lock(&self.folders);
        for (path, tenants) in folders.iter_mut() {
            tenants.retain(|tenant, _| wanted.get(tenant) == Some(path));
        }
        folders.retain(|_, tenants| !tenants.is_empty());
        for (tenant, path) in wanted {
            let tenants = folders.entry(path.clone()).or_default();
            if !tenants.contains_key(tenant) {
                let mut pending = Pending::default();
                pending.everything(Instant::now());
                tenants.insert(tenant.clone(), pending);
            }
        }
    }

    fn of<T>(&self, tenant: &TenantId, with: impl FnOnce(&mut Pending) -> T) -> Option<T> {
        let mut folders = lock(&self.folders);
        folders.values_mut().find_map(|tenants| tenants.get_mut(tenant)).map(with)
    }

    /// All of a folder is to be looked at.
    fn everything(&self, path: &Path) {
        let now = Instant::now();
        let mut folders = lock(&self.folders);
        let tenants = folders.get_mut(path).into_iter().flat_map(HashMap::values_mut);
        tenants.for_each(|pending| pending.everything(now));
        self.changed.notify_waiters();
    }

    fn see(&self, event: notify::Result<Event>) {
        let now = Instant::now();
        let event = match event {
            Ok(event) if !event.need_rescan() && !event.paths.is_empty() => event,
            Ok(event) if matches!(event.kind, EventKind::Access(_)) => return,
            Ok(_) => {
                self.missed.store(true, Ordering::Relaxed);
                return self.all(now);
            }
            Err(error) => {
                warn!("folders are not watched as they should: {}", advice(&error));
                return self.all(now);
            }
        };
        let went = matches!(
            event.kind,
            EventKind::Remove(_) | EventKind::Modify(ModifyKind::Name(RenameMode::From))
        );
        // Looks at the disk, for which nobody else is to wait.
        let stirs: Vec<(&PathBuf, bool)> = event
            .paths
            .iter()
            .filter_map(|path| Some((path, is_file(&event.kind, path)?)))
            .collect();
        let mut folders = lock(&self.folders);
        let mut is_first = false;
        for (path, is_file) in stirs {
            if went && folders.contains_key(path) {
                lock(&self.gone).insert(path.clone());
            }
            for folder in path.ancestors() {
                for pending in folders.get_mut(folder).into_iter().flat_map(HashMap::values_mut) {
                    is_first |= pending.is_empty();
                    match is_file && folder != path {
                        true => pending.file(path, now),
                        false => pending.everything(now),
                    }
                }
            }
        }
        // No hint is due before an older one.
        if is_first {
            self.changed.notify_waiters();
        }
    }

    /// All of all folders is to be looked at.
    fn all(&self, now: Instant) {
        let mut folders = lock(&self.folders);
        let all = folders.values_mut().flat_map(HashMap::values_mut);
        all.for_each(|pending| pending.everything(now));
        self.changed.notify_waiters();
    }
}

/// Whether an event tells of a file that may have changed, or else of a folder; `None` if nothing
/// has.
fn is_file(kind: &EventKind, path: &Path) -> Option<bool> {
    match kind {
        EventKind::Access(AccessKind::Close(AccessMode::Write)) => Some(true),
        EventKind::Access(_) => None,
        EventKind::Create(CreateKind::Folder) | EventKind::Remove(RemoveKind::Folder) => {
            Some(false)
        }
        // A folder that went is known by what was in it.
        EventKind::Modify(ModifyKind::Name(_) | ModifyKind::Metadata(_)) => {
            Some(!path.symlink_metadata().is_ok_and(|now| now.is_dir()))
        }
        EventKind::Create(_) | EventKind::Modify(_) | EventKind::Remove(_) => Some(true),
        EventKind::Any | EventKind::Other => Some(false),
    }
}

/// What tells a folder from another of the same name.
fn identity(path: &Path) -> io::Result<(u64, u64)> {
    let now = path.metadata()?;
    if !now.is_dir() {
        return Err(io::ErrorKind::NotADirectory.into());
    }
    Ok((now.dev(), now.ino()))
}

fn advice(error: &notify::Error) -> String {
    match &error.kind {
        notify::ErrorKind::MaxFilesWatch => {
            "the system watches no more folders; raise fs.inotify.max_user_watches".to_owned()
        }
        notify::ErrorKind::Io(error) if error.kind() == io::ErrorKind::NotFound => {
            "it is not there".to_owned()
        }
        // Without the paths, which the line has.
        notify::ErrorKind::Io(error) => error.to_string(),
        other => format!("{other:?}"),
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    // Nothing in here is left half done by a panic.
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(test)]
mod tests;
