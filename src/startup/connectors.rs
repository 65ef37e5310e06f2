//! What connectors are made of: the parts that answer requests, and the jobs behind them.

use std::sync::Arc;

use activekg_storage::crypt::KeyRing;
use activekg_storage::time::Clock;
use activekg_storage::{StorageError, Store};
use anyhow::Context;
use tokio_util::sync::CancellationToken;
use tracing::warn;

use crate::auth::PushVerifier;
use crate::config::Config;
use crate::connectors::{
    self, Connectors, Feed, Places, Policy, Processor, Provider, Purger, SourceParts, Throttle,
    Webhooks, webhook,
};
use crate::documents::Extractor;
use crate::documents::chunk::Chunking;
use crate::graph::Graph;
use crate::jobs::{ConnectorWorker, Crew, Poller, PurgeSchedule, Supervisor};
use crate::observability::metrics::Metrics;
use crate::refresh::RunLog;
use crate::shutdown::to_finish;

/// What they are made with.
pub(super) struct Around<'a> {
    pub(super) config: &'a Config,
    pub(super) store: &'a Arc<Store>,
    /// The keys that seal secrets.
    pub(super) keys: Option<KeyRing>,
    /// Tells whose the tokens of pushed messages are.
    pub(super) push: Option<Arc<PushVerifier>>,
    pub(super) graph: &'a Graph,
    pub(super) extractor: &'a Extractor,
    pub(super) chunking: Chunking,
    pub(super) metrics: &'a Arc<Metrics>,
    pub(super) runs: &'a RunLog,
    pub(super) clock: &'a Arc<dyn Clock>,
    pub(super) supervisor: &'a Supervisor,
    pub(super) stopping: &'a CancellationToken,
}

/// The parts that answer requests.
pub(super) struct Connected {
    pub(super) connectors: Connectors,
    pub(super) policy: Arc<Policy>,
    pub(super) sources: SourceParts,
    pub(super) webhooks: Webhooks,
    pub(super) purger: Purger,
    pub(super) feed: Feed,
    pub(super) workers: Crew,
}

impl Around<'_> {
    /// Makes the parts and begins the jobs.
    pub(super) async fn connect(mut self) -> anyhow::Result<Connected> {
        let connectors = self.connectors().await?;
        let sources = SourceParts::new(self.config, self.clock.clone());
        let sources = sources.context("set up the clients that read the sources of connectors")?;
        if self.schedules() {
            self.poll(&connectors, &sources);
        }
        let throttle = Throttle::new(self.config.connectors.worker.rate);
        let places = Places::new(connectors.clone(), sources.clone(), throttle);
        let workers = self.work(&places).await?;
        Ok(Connected {
            policy: Arc::new(Policy::new(&self.config.connectors, &self.config.fetch)),
            webhooks: self.webhooks()?,
            purger: self.purger(),
            feed: Feed::new(self.store.clone(), self.graph.clone(), places, self.clock.clone()),
            connectors,
            sources,
            workers,
        })
    }

    /// Whether what is due by the clock is done here.
    fn schedules(&self) -> bool {
        self.config.background.scheduler && self.store.fault().is_none()
    }

    async fn connectors(&mut self) -> anyhow::Result<Connectors> {
        let parts = connectors::Parts {
            store: self.store.clone(),
            keys: self.keys.take().map(Arc::new),
            metrics: self.metrics.clone(),
            clock: self.clock.clone(),
            stopping: self.stopping.clone(),
        };
        let connectors = Connectors::new(parts, &self.config.connectors);
        connectors.warm_up().await.context("read the connectors")?;
        if self.config.connectors.cache_subscriber {
            let followed = connectors.clone();
            let follow = move |stop| followed.clone().follow_changes(stop);
            self.supervisor.run("cache_subscriber", follow);
        }
        Ok(connectors)
    }

    fn poll(&self, connectors: &Connectors, sources: &SourceParts) {
        let off = |provider| provider == Provider::Gcs && !self.config.background.gcs_poller;
        for provider in Provider::ALL.into_iter().filter(|provider| !off(*provider)) {
            let poller = Poller::new(
                provider,
                connectors.clone(),
                sources.clone(),
                self.metrics.clone(),
                self.runs.clone(),
                self.clock.clone(),
            );
            let watches = provider == Provider::Local && self.config.background.file_watcher;
            let poller = if watches { poller.watching() } else { poller };
            let poll = move |stop| poller.clone().run(stop);
            self.supervisor.run(Poller::job(provider), poll);
        }
    }

    async fn work(&self, places: &Places) -> anyhow::Result<Crew> {
        let settings = &self.config.connectors;
        let processor = Processor::new(
            self.graph.clone(),
            self.extractor.clone(),
            self.chunking,
            settings.max_file_bytes,
        );
        let worker = ConnectorWorker::new(
            self.store.clone(),
            (places.clone(), processor),
            (settings.worker, to_finish(self.config.server.shutdown_grace)),
            self.metrics.clone(),
            self.clock.clone(),
        );
        let crew = Crew::new(self.supervisor.clone(), worker.clone());
        if self.config.background.connector_worker && self.store.fault().is_none() {
            match worker.recover().await {
                Err(full @ StorageError::Full { .. }) => {
                    warn!("interrupted connector items wait until their leases end: {full}");
                }
                recovered => recovered.context("take up interrupted connector items")?,
            }
            crew.begin(settings.worker.concurrency);
        }
        Ok(crew)
    }

    fn webhooks(&mut self) -> anyhow::Result<Webhooks> {
        let parts = webhook::Parts {
            store: self.store.clone(),
            metrics: self.metrics.clone(),
            clock: self.clock.clone(),
            push: self.push.take(),
        };
        let has_tokens = self.config.auth.jwt.is_some();
        let webhooks = Webhooks::new(parts, self.config.webhooks.clone(), has_tokens);
        webhooks.context("set up the client that fetches certificates of SNS")
    }

    fn purger(&self) -> Purger {
        let purger = Purger::new(
            self.graph.clone(),
            self.metrics.clone(),
            self.clock.clone(),
            self.config.purge,
            self.stopping.clone(),
        );
        if self.schedules() {
            let nightly = PurgeSchedule::new(
                purger.clone(),
                self.graph.clone(),
                self.metrics.clone(),
                self.runs.clone(),
                self.clock.clone(),
            );
            self.supervisor.run("purger", move |stop| nightly.clone().run(stop));
        }
        purger
    }
}
