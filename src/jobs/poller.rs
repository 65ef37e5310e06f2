//! Polls connectors when they are due, and looks at what was seen to change in watched folders.

mod watch;

use std::collections::{HashMap, HashSet};
use std::path::PathBuf;
use std::sync::{Arc, Mutex, PoisonError, TryLockError};
use std::time::{Duration, Instant};

use activekg_storage::ids::TenantId;
use activekg_storage::time::{Clock, UnixMicros};
use tokio::select;
use tokio::sync::Semaphore;
use tokio::task::JoinSet;
use tokio::time::sleep;
use tokio_util::sync::CancellationToken;
use tracing::{Instrument as _, debug, error, info, warn};

use crate::connectors::change::URI_MAX;
use crate::connectors::poll::{PollError, Polled};
use crate::connectors::source::file_uri;
use crate::connectors::{Connector, Connectors, Error, Listed, Provider, Source, SourceParts};
use crate::observability::metrics::{Metrics, ScheduleKind};
use crate::refresh::RunLog;

use watch::{Hint, Watches};

/// Time between two cycles. It is read off the clock, so that one that was missed while the machine
/// slept is made when it wakes.
const PERIOD: Duration = Duration::from_secs(60);
/// How often the clock is looked at, and whether a connector is new.
const TICK: Duration = Duration::from_secs(5);
/// Least time between two such looks, however much happens in watched folders.
const TICK_MIN: Duration = Duration::from_secs(1);
/// Longest time that a source may ask to be left alone.
const WAIT_MAX: Duration = Duration::from_secs(60 * 60);
/// Connectors that are polled at the same time.
const AT_ONCE: usize = 4;

/// Polls the connectors of a provider, as long as it runs.
#[derive(Clone)]
pub struct Poller {
    provider: Provider,
    connectors: Connectors,
    parts: SourceParts,
    metrics: Arc<Metrics>,
    log: RunLog,
    clock: Arc<dyn Clock>,
    polling: Arc<Mutex<HashSet<TenantId>>>,
    /// When connectors are due, as they were when that was found.
    due: Arc<Mutex<HashMap<TenantId, Due>>>,
    /// Tells what happens in folders, where these are watched.
    watches: Option<Watches>,
    /// Where connectors look.
    folders: Arc<Mutex<HashMap<TenantId, Folder>>>,
    /// Somebody sees to it that these are watched.
    keeping: Arc<Mutex<()>>,
}

/// When a connector is due, unless it is changed before.
#[derive(Debug, Clone, Copy)]
struct Due {
    at: UnixMicros,
    updated_at: UnixMicros,
    /// The last run failed: not before then, whatever happens.
    failed: bool,
}

/// The folder of a connector, if it is one, as of when that was changed.
#[derive(Debug, Clone)]
struct Folder {
    path: Option<PathBuf>,
    updated_at: UnixMicros,
}

impl Poller {
    /// A poller of the connectors of `provider`.
    pub fn new(
        provider: Provider,
        connectors: Connectors,
        parts: SourceParts,
        metrics: Arc<Metrics>,
        log: RunLog,
        clock: Arc<dyn Clock>,
    ) -> Self {
        log.expect(Self::job(provider));
        metrics.refresh.expect(Self::job(provider), ScheduleKind::Interval);
        Self {
            provider,
            connectors,
            parts,
            metrics,
            log,
            clock,
            polling: Arc::default(),
            due: Arc::default(),
            watches: None,
            folders: Arc::default(),
            keeping: Arc::default(),
        }
    }

    /// It watches the folders of connectors as well, so that changes are seen when they happen.
    #[must_use]
    pub fn watching(self) -> Self {
        Self { watches: Some(Watches::default()), ..self }
    }

    /// The name of the poller of a provider, in metrics.
    #[must_use]
    pub const fn job(provider: Provider) -> &'static str {
        match provider {
            Provider::S3 => "s3_poller",
            Provider::Gcs => "gcs_poller",
            Provider::Drive => "drive_poller",
            Provider::Azure => "azure_poller",
            Provider::Local => "local_poller",
            Provider::Http => "http_poller",
        }
    }

    /// Polls what is due until told to stop. What is under way then is cut off: it is taken up again
    /// at the next start.
    pub async fn run(self, stop: CancellationToken) {
        let mut runs = JoinSet::new();
        let room = Arc::new(Semaphore::new(AT_ONCE));
        let mut last = None::<UnixMicros>;
        loop {
            let now = self.clock.now();
            if last.is_none_or(|last| now.since(last) >= PERIOD || now < last) {
                last = Some(now);
                let since_last = self.log.ran(Self::job(self.provider), now);
                let (job, kind) = (Self::job(self.provider), ScheduleKind::Interval);
                self.metrics.refresh.scheduled(job, kind, since_last);
            }
            if let Err(error) = self.start_due(&mut runs, &room).await {
                error!(
                    provider = self.provider.as_str(),
                    "could not see which connectors are due: {error}"
                );
            }
            while runs.try_join_next().is_some() {}
            select! {
                () = stop.cancelled() => return,
                () = sleep(TICK) => {}
                () = self.stirred() => {}
            }
        }
    }

    /// Ends when something happened in a watched folder, a little later.
    async fn stirred(&self) {
        sleep(TICK_MIN).await;
        match &self.watches {
            Some(watches) => watches.due().await,
            None => std::future::pending().await,
        }
    }

    /// Starts a run for every connector that is due and not under way.
    async fn start_due(&self, runs: &mut JoinSet<()>, room: &Arc<Semaphore>) -> Result<(), Error> {
        let mut listed = self.connectors.list(None).await?;
        listed.retain(|listed| listed.provider == self.provider.as_str() && listed.enabled);
        if let Some(watches) = &self.watches {
            self.watch(watches, &listed).await;
        }
        for Listed { tenant, updated_at, .. } in listed {
            let now = self.clock.now();
            let waits = |due: &Due| {
                now < due.at && due.updated_at == updated_at && (due.failed || !self.saw(&tenant))
            };
            if lock(&self.due).get(&tenant).is_some_and(waits)
                || lock(&self.polling).contains(&tenant)
            {
                continue;
            }
            self.metrics.polling.known(self.provider, &tenant);
            let waits_until = |at, failed| {
                lock(&self.due).insert(tenant.clone(), Due { at, updated_at, failed });
            };
            // One that does not open is logged and counted where it is opened.
            let Ok(connector) = self.connectors.get(&tenant, self.provider.as_str()).await else {
                self.metrics.polling.failed(self.provider, &tenant, "connector_init");
                waits_until(now.plus(PERIOD), true);
                continue;
            };
            let at = self.connectors.poll_due(&tenant, self.provider, &connector).await?;
            let seen = self.watches.as_ref().and_then(|watches| watches.take(&tenant));
            let what = match seen {
                _ if at <= now => Hint::Whole,
                Some(seen) => seen,
                None => {
                    waits_until(at, false);
                    continue;
                }
            };
            lock(&self.polling).insert(tenant.clone());
            let (poller, room) = (self.clone(), room.clone());
            let run = async move {
                let under_way =
                    UnderWay { tenant: tenant.clone(), polling: poller.polling.clone() };
                // The semaphore is never closed.
                let Ok(_room) = room.acquire_owned().await else { return };
                poller.poll(&tenant, &connector, what).await;
                drop(under_way);
            };
            runs.spawn(run.in_current_span());
        }
        Ok(())
    }

    /// Whether something happened in the folder of a tenant.
    fn saw(&self, tenant: &TenantId) -> bool {
        self.watches.as_ref().is_some_and(|watches| watches.is_due(tenant))
    }

    /// Watches the folders of these connectors.
    async fn watch(&self, watches: &Watches, listed: &[Listed]) {
        let mut wanted = HashMap::with_capacity(listed.len());
        for Listed { tenant, updated_at, .. } in listed {
            let known = lock(&self.folders).get(tenant).cloned();
            let folder = match known.filter(|known| known.updated_at == *updated_at) {
                Some(known) => known,
                None => {
                    let found = self.folder(tenant, *updated_at).await;
                    lock(&self.folders).insert(tenant.clone(), found.clone());
                    found
                }
            };
            wanted.extend(folder.path.map(|path| (tenant.clone(), path)));
        }
        // Walks through folders, for which no poll is to wait; the next look is soon enough for what
        // comes meanwhile.
        let (watches, keeping) = (watches.clone(), self.keeping.clone());
        tokio::task::spawn_blocking(move || {
            // A panic in there is no reason not to try again.
            if let Ok(_) | Err(TryLockError::Poisoned(_)) = &keeping.try_lock() {
                watches.keep(&wanted);
            }
        });
    }

    /// Where a connector looks that was changed then.
    async fn folder(&self, tenant: &TenantId, updated_at: UnixMicros) -> Folder {
        let Ok(connector) = self.connectors.get(tenant, self.provider.as_str()).await else {
            return Folder { path: None, updated_at };
        };
        let source = Source::open(self.provider, &connector, &self.parts);
        let path = source.ok().and_then(|source| source.folder().map(PathBuf::from));
        Folder { path, updated_at: connector.updated_at }
    }

    /// Looks at everything of a connector, or at what was seen to change.
    async fn look(
        &self,
        tenant: &TenantId,
        connector: &Connector,
        what: &Hint,
    ) -> Result<Polled, PollError> {
        let (connectors, parts) = (&self.connectors, &self.parts);
        match what {
            Hint::Whole => {
                if let Some(watches) = &self.watches {
                    watches.clear(tenant);
                }
                let started = Instant::now();
                let polled = connectors.poll(tenant, self.provider, connector, parts).await;
                let took = started.elapsed();
                self.metrics.polling.ran(self.provider, tenant, took);
                if let Some(watches) = &self.watches {
                    watches.rest(tenant, took);
                }
                polled
            }
            Hint::Files(paths) => {
                // Others cannot be taken: their names are no text.
                let uris = paths.iter().filter_map(|path| path.to_str()).map(file_uri);
                let uris: Vec<String> = uris.filter(|uri| uri.len() <= URI_MAX).collect();
                let looked = connectors.look_at(tenant, self.provider, connector, parts, &uris);
                let Some(polled) = looked.await? else {
                    if let Some(watches) = &self.watches {
                        watches.lost(tenant, Duration::ZERO);
                    }
                    return Ok(Polled::default());
                };
                Ok(polled)
            }
        }
    }

    async fn poll(&self, tenant: &TenantId, connector: &Connector, what: Hint) {
        let started = Instant::now();
        let polled = self.look(tenant, connector, &what).await;
        let duration_ms = started.elapsed().as_millis() as u64;
        let (tenant_id, provider) = (tenant, self.provider.as_str());
        match polled {
            Ok(polled) => {
                lock(&self.due).remove(tenant);
                let (seen, queued, gone) = (polled.seen, polled.queued, polled.gone);
                if queued == 0 {
                    debug!(%tenant_id, provider, seen, duration_ms, "connector polled: nothing changed");
                    return;
                }
                info!(%tenant_id, provider, seen, queued, gone, duration_ms, "connector polled");
            }
            // It was changed meanwhile, or keys were exchanged.
            Err(PollError::Off) => {
                if let Some(watches) = &self.watches {
                    watches.lost(tenant, Duration::ZERO);
                }
            }
            Err(failed) => {
                self.metrics.polling.failed(self.provider, tenant, failed.as_str());
                let wait = match &failed {
                    PollError::List(fault) => fault.retry_after.unwrap_or(PERIOD).max(PERIOD),
                    _ => PERIOD,
                };
                let wait = wait.min(WAIT_MAX);
                if let Some(watches) = &self.watches {
                    watches.lost(tenant, wait);
                }
                let at = self.clock.now().plus(wait);
                let due = Due { at, updated_at: connector.updated_at, failed: true };
                lock(&self.due).insert(tenant.clone(), due);
                let error_type = failed.as_str();
                warn!(%tenant_id, provider, error_type, "connector could not be polled: {failed}");
            }
        }
    }
}

/// Marks a connector as not under way when its run ends, however it does.
struct UnderWay {
    tenant: TenantId,
    polling: Arc<Mutex<HashSet<TenantId>>>,
}

impl Drop for UnderWay {
    fn drop(&mut self) {
        lock(&self.polling).remove(&self.tenant);
    }
}

fn lock<T>(mutex: &Mutex<T>) -> std::sync::MutexGuard<'_, T> {
    // Nothing in here is left half done by a panic.
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
