//! Looking what changed at a source, and queueing it.
//!
//! A source with feeds tells what changed. Any other is listed whole, and each object is compared
//! with what was queued of it before: what differs is queued again, and what is listed no more is
//! queued as deleted once the source has confirmed that it is gone. What is queued and what is
//! remembered of it are one transaction, so that a run that is cut off skips nothing and repeats
//! nothing; the next one begins anew.

mod pass;

use std::future::Future;
use std::time::Duration;

use activekg_storage::ids::TenantId;
use activekg_storage::tables::connectors::{CONFIGS, CURSORS, CursorRecord, settings_at};
use activekg_storage::time::UnixMicros;
use activekg_storage::{Readable, StorageError, WriteTx};
use futures_util::future::join_all;

use super::source::{Fault, FaultClass, News, Source, SourceParts};
use super::{Action, Change, Connector, Connectors, Error, Found, Origin, Provider, queue};

/// Pages of one run at most: a source that never ends is not listed for ever.
const PAGES_MAX: usize = 100_000;

/// Objects of one listing at most: each is remembered, in a few bytes, until the end of it.
const OBJECTS_MAX: usize = 5_000_000;
/// Objects that a source is asked for at the same time.
const AT_ONCE: usize = 16;
/// Objects that are looked up before their changes are queued, in one transaction.
const STEP: usize = 500;
/// Longest run: others wait for its place.
const RUN_MAX: Duration = Duration::from_secs(4 * 60 * 60);

/// What a run did.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Polled {
    /// Objects that were seen.
    pub seen: u64,
    /// Changes that were queued.
    pub queued: u64,
    /// Of these, objects that are gone.
    pub gone: u64,
    /// Objects that cannot be taken.
    pub unusable: u64,
}

/// Why a run ended early. What it queued before stays queued.
#[derive(Debug, thiserror::Error)]
pub enum PollError {
    /// No client can be made of the settings.
    #[error("{0}")]
    Init(Fault),
    /// The source could not be listed.
    #[error("{0}")]
    List(#[from] Fault),
    /// The connector cannot be read, or what was found could not be queued.
    #[error(transparent)]
    Store(#[from] Error),
    /// The connector was deleted, turned off or changed meanwhile.
    #[error("the connector was turned off or changed")]
    Off,
}

impl PollError {
    /// The label of it.
    #[must_use]
    pub const fn as_str(&self) -> &'static str {
        match self {
            Self::Init(_) => "connector_init",
            Self::List(_) => "list_changes",
            Self::Store(_) | Self::Off => "cursor_save",
        }
    }
}

impl From<StorageError> for PollError {
    fn from(error: StorageError) -> Self {
        Self::Store(error.into())
    }
}

/// One run over one connector.
struct Run<'a> {
    connectors: &'a Connectors,
    tenant: &'a TenantId,
    provider: Provider,
    /// When the settings were written that the source is of.
    version: UnixMicros,
    source: Source,
    polled: Polled,
}

impl Connectors {
    /// When a connector is to be polled next, as far as its last whole run says; at once if there
    /// was none.
    ///
    /// # Errors
    ///
    /// The store's own.
    pub async fn poll_due(
        &self,
        tenant: &TenantId,
        provider: Provider,
        connector: &Connector,
    ) -> Result<UnixMicros, Error> {
        let seconds = connector.shown().get("poll_interval_seconds").and_then(|n| n.as_u64());
        let interval = Duration::from_secs(seconds.unwrap_or(900));
        let last = self.cursor(tenant, provider, "").await?.map(|record| record.updated_at);
        // One that was given other settings since is looked at again.
        let settings_at = self.settings_at(tenant, provider, connector).await?;
        let last = last.filter(|last| *last >= settings_at);
        Ok(last.map_or(UnixMicros(i64::MIN), |last| last.plus(interval)))
    }

    /// Looks once what changed at the source of a connector, and queues it.
    ///
    /// # Errors
    ///
    /// As [`PollError`] says.
    pub async fn poll(
        &self,
        tenant: &TenantId,
        provider: Provider,
        connector: &Connector,
        parts: &SourceParts,
    ) -> Result<Polled, PollError> {
        let run = self.run(tenant, provider, connector, parts).await?;
        within(RUN_MAX, run.whole()).await
    }

    /// Looks at these objects of a connector, which somebody saw change, and queues those that did.
    /// `None` where one is gone below which others are known: everything has to be looked at.
    ///
    /// # Errors
    ///
    /// As [`PollError`] says.
    pub async fn look_at(
        &self,
        tenant: &TenantId,
        provider: Provider,
        connector: &Connector,
        parts: &SourceParts,
        uris: &[String],
    ) -> Result<Option<Polled>, PollError> {
        let run = self.run(tenant, provider, connector, parts).await?;
        within(RUN_MAX, run.named(uris)).await
    }

    async fn run<'a>(
        &'a self,
        tenant: &'a TenantId,
        provider: Provider,
        connector: &Connector,
        parts: &SourceParts,
    ) -> Result<Run<'a>, PollError> {
        let source = Source::open(provider, connector, parts).map_err(PollError::Init)?;
        let version = self.settings_at(tenant, provider, connector).await?;
        let polled = Polled::default();
        Ok(Run { connectors: self, tenant, provider, version, source, polled })
    }

    /// Since when a connector has its settings.
    async fn settings_at(
        &self,
        tenant: &TenantId,
        provider: Provider,
        connector: &Connector,
    ) -> Result<UnixMicros, Error> {
        let key = (tenant.clone(), provider.as_str().to_owned());
        let (inner, updated_at) = (self.0.clone(), connector.updated_at);
        super::blocking(move || Ok(settings_at(&inner.store.read()?, &key, updated_at)?)).await
    }

    /// How far a feed or a listing of a connector has come.
    ///
    /// # Errors
    ///
    /// The store's own.
    pub(super) async fn cursor(
        &self,
        tenant: &TenantId,
        provider: Provider,
        scope: &str,
    ) -> Result<Option<CursorRecord>, Error> {
        let key = (tenant.clone(), provider.as_str().to_owned(), scope.to_owned());
        let inner = self.0.clone();
        super::blocking(move || Ok(inner.store.read()?.get(&CURSORS, &key)?)).await
    }
}

impl Run<'_> {
    async fn whole(mut self) -> Result<Polled, PollError> {
        let feeds = self.source.feeds();
        if feeds.is_empty() {
            let cursor = self.pass().await?;
            self.keep(vec![(String::new(), cursor)]).await?;
            return Ok(self.polled);
        }
        let mut cursors = Vec::with_capacity(feeds.len());
        for feed in feeds {
            let known = self.connectors.cursor(self.tenant, self.provider, &feed).await?;
            // Other settings let in other objects, of which no feed tells.
            let known = known.filter(|record| record.updated_at >= self.version);
            cursors.push((feed, known.map(|record| record.cursor)));
        }
        let mut list_again = cursors.iter().any(|(_, cursor)| cursor.is_none());
        if !list_again {
            for (feed, cursor) in &cursors {
                match self.follow(feed, cursor.clone().unwrap_or_default()).await {
                    Ok(false) => {}
                    // The listing sees what the other feeds tell of as well.
                    Ok(true) => {
                        list_again = true;
                        break;
                    }
                    // The feed does not go back that far any more.
                    Err(PollError::List(Fault {
                        class: FaultClass::NotFound | FaultClass::Settings | FaultClass::Unsupported,
                        ..
                    })) => list_again = true,
                    Err(error) => return Err(error),
                }
            }
        }
        if list_again {
            // The feeds first: what happens during the listing comes after these cursors.
            let mut from_now = Vec::with_capacity(cursors.len());
            for (feed, _) in cursors {
                let cursor = self.source.feed_from_now(&feed).await?;
                from_now.push((feed, cursor));
            }
            self.pass().await?;
            self.keep(from_now).await?;
        }
        Ok(self.polled)
    }

    /// Queues what a feed tells of, to its end or until folders moved; whether they did. Then the
    /// feed has no cursor until the source has been listed, however often that fails.
    async fn follow(&mut self, feed: &str, mut cursor: String) -> Result<bool, PollError> {
        for _ in 0..PAGES_MAX {
            let news = self.source.feed(feed, &cursor).await?;
            if news.moved {
                self.drop_cursor(feed).await?;
                return Ok(true);
            }
            let (more, next) = (news.more, news.cursor.clone());
            self.take_news(feed, news).await?;
            if !more {
                return Ok(false);
            }
            cursor = next;
        }
        Err(endless().into())
    }

    async fn drop_cursor(&self, feed: &str) -> Result<(), PollError> {
        let key = (self.tenant.clone(), self.provider.as_str().to_owned(), feed.to_owned());
        let dropped = self.connectors.0.store.write(move |tx| tx.remove(&CURSORS, &key));
        dropped.await?;
        Ok(())
    }

    /// Looks at so many objects, and queues those that changed.
    async fn named(mut self, uris: &[String]) -> Result<Option<Polled>, PollError> {
        for uris in uris.chunks(STEP) {
            let (mut found, mut gone) = (Vec::new(), Vec::new());
            for (uri, now) in self.looked_up(uris).await {
                match now {
                    Ok(Some(object)) => found.push(object),
                    Ok(None) => gone.push(uri.clone()),
                    // The next poll finds what cannot be told now.
                    Err(_) => {}
                }
            }
            for uri in &gone {
                if self.knows_below(uri).await? {
                    return Ok(None);
                }
            }
            self.take_in(found, gone, None).await?;
        }
        Ok(Some(self.polled))
    }

    /// What the source has at these addresses, a few of which are asked for at a time.
    async fn looked_up<'u>(
        &self,
        uris: &'u [String],
    ) -> Vec<(&'u String, Result<Option<Found>, Fault>)> {
        let mut asked = Vec::with_capacity(uris.len());
        for uris in uris.chunks(AT_ONCE) {
            let found = join_all(uris.iter().map(|uri| self.source.stat(uri))).await;
            asked.extend(uris.iter().zip(found));
        }
        asked
    }

    /// Queues a part of a feed and keeps its cursor.
    async fn take_news(&mut self, feed: &str, news: News) -> Result<(), PollError> {
        let News { found, gone, cursor, more: _, moved: _ } = news;
        self.take_in(found, gone, Some((feed.to_owned(), cursor))).await
    }

    /// Queues what is not as it is remembered, and in the same transaction keeps the cursor of a
    /// feed that told of it.
    async fn take_in(
        &mut self,
        found: Vec<Found>,
        gone: Vec<String>,
        cursor: Option<(String, String)>,
    ) -> Result<(), PollError> {
        self.polled.seen += found.len() as u64;
        let (tenant, provider, version) = (self.tenant.clone(), self.provider, self.version);
        let now = self.connectors.0.clock.now();
        let written = self.connectors.0.store.write(move |tx| {
            still_on(tx, &tenant, provider, version)?;
            let mut changes = Vec::new();
            for found in &found {
                if pass::remember(tx, &tenant, provider, found, now)? {
                    changes.push(upsert(found));
                }
            }
            let n_changed = changes.len();
            for uri in gone {
                // Feeds tell of everything that the account sees.
                if pass::forget(tx, &tenant, provider, &uri)? {
                    changes.push(Change::new(uri, Action::Deleted, Origin::Poll));
                }
            }
            queue::enqueue(tx, &tenant, provider, &changes, now)?;
            if let Some((feed, cursor)) = cursor {
                keep(tx, &tenant, provider, &feed, cursor, now)?;
            }
            Ok::<_, PollError>((changes.len(), changes.len() - n_changed))
        });
        let (queued, gone) = written.await?.value;
        self.polled.queued += queued as u64;
        self.polled.gone += gone as u64;
        Ok(())
    }

    async fn keep(&self, cursors: Vec<(String, String)>) -> Result<(), PollError> {
        let (tenant, provider, version) = (self.tenant.clone(), self.provider, self.version);
        let now = self.connectors.0.clock.now();
        let written = self.connectors.0.store.write(move |tx| {
            still_on(tx, &tenant, provider, version)?;
            for (scope, cursor) in cursors {
                keep(tx, &tenant, provider, &scope, cursor, now)?;
            }
            Ok::<_, PollError>(())
        });
        written.await?;
        Ok(())
    }
}

fn keep(
    tx: &mut WriteTx<'_>,
    tenant: &TenantId,
    provider: Provider,
    scope: &str,
    cursor: String,
    now: UnixMicros,
) -> Result<(), StorageError> {
    let key = (tenant.clone(), provider.as_str().to_owned(), scope.to_owned());
    tx.put(&CURSORS, &key, &CursorRecord { cursor, updated_at: now })
}

/// Whether the connector is there, runs and has the settings of this `version`: what one that was
/// deleted or changed finds is not kept.
fn still_on(
    tx: &impl Readable,
    tenant: &TenantId,
    provider: Provider,
    version: UnixMicros,
) -> Result<(), PollError> {
    let key = (tenant.clone(), provider.as_str().to_owned());
    match tx.get(&CONFIGS, &key)? {
        Some(record) if record.enabled && settings_at(tx, &key, record.updated_at)? == version => {
            Ok(())
        }
        _ => Err(PollError::Off),
    }
}

fn upsert(found: &Found) -> Change {
    Change {
        etag: found.etag.clone(),
        generation: found.generation.clone(),
        modified_at: found.modified_at,
        ..Change::new(found.uri.clone(), Action::Upsert, Origin::Poll)
    }
}

/// What a run comes to in this time. What it queued before it is cut off stays queued.
async fn within<T>(
    most: Duration,
    run: impl Future<Output = Result<T, PollError>>,
) -> Result<T, PollError> {
    tokio::time::timeout(most, run).await.unwrap_or_else(|_| {
        let why = format!("not done after {} s; narrow the source with a prefix", most.as_secs());
        Err(Fault::new(FaultClass::Timeout, why).into())
    })
}

fn endless() -> Fault {
    Fault {
        class: FaultClass::Network,
        message: "the source has no end; narrow it with a prefix".to_owned(),
        retry_after: None,
    }
}

#[cfg(test)]
mod tests;
