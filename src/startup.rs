//! From settings to a serving process, and back down.

mod connectors;
mod model;

use std::net::SocketAddr;
use std::path::Path;
use std::sync::Arc;
use std::time::Instant;

use activekg_index::{Build, Engine, Engines, HnswParams, IvfParams, Metric, VectorOptions};
use activekg_storage::crypt::KeyRing;
use activekg_storage::time::{Clock, SystemClock};
use activekg_storage::{OpenError, Recovery, Store, StoreOptions};
use anyhow::Context;
use axum::Router;
use prometheus::Registry;
use tempfile::TempDir;
use tokio::net::TcpListener;
use tokio::sync::Semaphore;
use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;
use tracing::{info, warn};

use crate::admin::AdminSocket;
use crate::app::App;
use crate::ask::{self, Ask};
use crate::auth::{Authenticator, PushVerifier};
use crate::backup::{self, Backups, Schedule};
use crate::config::{self, Config, Distance, EmbeddingSource};
use crate::connectors::keyring;
use crate::documents::chunk::Chunking;
use crate::documents::{self, Extractor, Intake};
use crate::embedding::{Embedder, ModelInfo};
use crate::fetch::Fetcher;
use crate::graph::{self, FreeSpace, Graph};
use crate::http::starting::Starting;
use crate::jobs::{
    CoverageGauges, EmbeddingWorker, KeyWatch, NodeUpgrade, Scheduler, Scrubber, Settlements,
    Supervisor, TextSweep, TriggerWorker, WebhookWorker,
};
use crate::llm::{Extractive, Writers, local_writer};
use crate::models::{self, Library, ModelChanges};
use crate::names::SystemNames;
use crate::observability::metrics::{BuildResult, IndexMetrics, Metrics, StoreMetrics};
use crate::queues::{self, Queues};
use crate::refresh::RunLog;
use crate::resp::Resp;
use crate::search::engines::engines_to_keep;
use crate::search::fuse::VECTOR_WEIGHT;
use crate::search::{self, Fusion, Indexer, Indexes, Search, VectorIndexes};
use crate::shutdown::{self, Budget};
use crate::writes::{Patience, Waiting, Writes};
use connectors::{Around, Connected};

/// Loops that take and settle embedding jobs: one embeds while another one commits.
const EMBEDDING_WORKERS: usize = 2;

/// A server that serves until it is stopped.
pub struct RunningServer {
    /// Where it listens.
    pub addr: SocketAddr,
    app: App,
    accepting: CancellationToken,
    http: JoinHandle<std::io::Result<()>>,
    admin: Option<JoinHandle<std::io::Result<()>>>,
    supervisor: Supervisor,
    indexer: Indexer,
    store: Arc<Store>,
    /// Holds the indexes where the data directory cannot be written.
    scratch: Option<TempDir>,
}

/// Serves until a signal says to stop, then goes down in order.
///
/// # Errors
///
/// When it cannot start. Data directories that cannot be used are an [`OpenError`] underneath.
pub async fn run(config: Config) -> anyhow::Result<()> {
    let server = start(config).await?;
    info!(address = %server.addr, "serving");
    shutdown::signalled().await.context("listen for signals")?;
    server.stop().await;
    Ok(())
}

/// Starts a server.
///
/// # Errors
///
/// As [`run`].
pub async fn start(config: Config) -> anyhow::Result<RunningServer> {
    let started = Instant::now();
    crate::tls::init();
    for notice in &config.notices {
        warn!("{notice}");
    }
    // The address first: a second server on it must not touch the data of the first.
    let bind = config.server.bind;
    let listener = TcpListener::bind(bind).await.with_context(|| {
        format!("cannot listen on {bind} (ACTIVEKG_BIND): another program may have the address")
    })?;
    let addr = listener.local_addr().context("read the address")?;
    let starting = Starting::default();
    let accepting = CancellationToken::new();
    // A start that fails gives the address back.
    let failing = accepting.clone().drop_guard();
    let until = accepting.clone().cancelled_owned();
    let service = starting.router().into_make_service_with_connect_info::<SocketAddr>();
    let http = axum::serve(listener, service).with_graceful_shutdown(until);
    let http = tokio::spawn(async move { http.await });
    let clock: Arc<dyn Clock> = Arc::new(SystemClock);

    let metrics = Metrics::new(Registry::new(), clock.now()).context("register metrics")?;
    let library = Library::of(&config.store.data_dir);
    let prepare = async |settings: &config::Embedding| {
        models::prepare(settings, &library, &metrics.upstream, &clock).await
    };
    // The model and the store are read at the same time, where the model is sure to be there.
    let early = match config.embedding.source {
        EmbeddingSource::BuiltIn => Some(prepare(&config.embedding).await?),
        _ => None,
    };
    let opened = tokio::task::spawn_blocking({
        let (config, starting) = (config.clone(), starting.clone());
        move || open(&config, &starting)
    });
    let Opened { store, keys, serving, engines, scratch } =
        opened.await.context("open the data directory")??;
    let embedder = match early {
        Some(early) if serving.is_configured => early,
        _ => prepare(&serving.settings).await?,
    };
    serving.check(embedder.info())?;
    let vectors = vector_options(&config, engines, embedder.info());
    let opened = tokio::task::spawn_blocking({
        let scratch = scratch.as_ref().map(|scratch| scratch.path().to_owned());
        let place = scratch.unwrap_or_else(|| config.store.data_dir.clone()).join("index");
        let slots = serving.slots(vectors);
        move || Indexes::open(&place, &slots)
    });
    let opened = opened.await.context("open the indexes")?;
    let (indexes, followed) = opened.context("open the indexes")?;
    let embedder = embedder.start(models::options(&serving.settings), serving.slot).await?;
    embedder.keep_budget_in(store.clone()).context("read the tokens of the day")?;
    let embedder = Embedder::from(embedder);
    let config = Arc::new(config);

    let indexes = Arc::new(indexes);
    let built = told_of_builds(metrics.index.clone(), config.search.distance);
    let indexer = Indexer::start(store.clone(), indexes.clone(), followed, clock.clone(), built)
        .context("start the indexer")?;
    let space = FreeSpace::new(config.store.data_dir.clone(), config.store.min_free_bytes)
        .context("ask the file system for its free space")?;
    let graph = Graph::new(store.clone(), graph_settings(&config), clock.clone(), space);
    let writable = store.fault().is_none();
    if writable {
        match graph.recover().await {
            Err(full @ graph::Error::NoSpace { .. }) => {
                warn!("interrupted jobs wait until their leases end: {full}");
            }
            recovered => recovered.context("take up interrupted jobs")?,
        }
    }
    let search = Search::new(
        store.clone(),
        indexes.clone(),
        indexer.freshness(),
        embedder.clone(),
        search_settings(&config),
        clock.clone(),
    );
    let settlements = Settlements::default();
    let patience = patience(&config);
    let writes = Writes::new(graph.clone(), settlements.clone(), indexer.freshness(), patience);
    let metrics = metrics.with_store(StoreMetrics::new(&store, queues::defs(), clock.clone()));
    let metrics = Arc::new(metrics.with_embedder(embedder.clone()));
    let extractive = Arc::new(Extractive::new(embedder.clone()));
    let local = local_writer(&config, &metrics).await;
    let writers = Writers::new(&config, extractive, local, metrics.clone(), clock.clone())
        .context("set up the writer of answers")?;
    let settings = ask::Settings::new(&config.ask);
    let ask = Ask::new(graph.clone(), search.clone(), writers, settings, clock.clone());
    let vector_indexes = VectorIndexes::new(
        store.clone(),
        indexes.clone(),
        embedder.clone(),
        config.search.distance,
        metrics.index.clone(),
        clock.clone(),
    );
    let works = config.background.embedding_worker && writable;
    let changes = ModelChanges::new(models::Parts {
        graph: graph.clone(),
        embedder: embedder.clone(),
        indexes,
        vectors,
        settings: serving.settings,
        library: library.clone(),
        upstream: metrics.upstream.clone(),
        clock: clock.clone(),
        works,
    });
    let fetcher = Fetcher::new(&config.fetch, SystemNames::default());
    let fetcher = fetcher.context("set up the client that fetches payloads")?;
    let runs = RunLog::default();
    let supervisor = Supervisor::default();
    if works {
        let worker = EmbeddingWorker::new(
            graph.clone(),
            embedder.clone(),
            fetcher,
            settlements,
            metrics.clone(),
        );
        for _ in 0..EMBEDDING_WORKERS {
            let worker = worker.clone();
            supervisor.run("embedding_worker", move |stop| worker.clone().run(stop));
        }
        let sweep = TextSweep::new(graph.clone(), embedder.clone());
        supervisor.run("text_sweep", move |stop| sweep.clone().run(stop));
        let changes = changes.clone();
        supervisor.run("model_change", move |stop| changes.clone().run(stop));
        let triggers = TriggerWorker::new(
            graph.clone(),
            embedder.clone(),
            metrics.clone(),
            runs.clone(),
            clock.clone(),
        );
        supervisor.run("trigger_worker", move |stop| triggers.clone().run(stop));
    }
    if let Some(webhook) = config.triggers.webhook.clone().filter(|_| writable) {
        let deliveries = WebhookWorker::new(store.clone(), clock.clone(), webhook);
        let deliveries = deliveries.context("set up the client that delivers triggers")?;
        supervisor.run("webhook_worker", move |stop| deliveries.clone().run(stop));
    }
    if writable {
        let upgrade = NodeUpgrade::new(graph.clone());
        supervisor.run("node_upgrade", move |stop| upgrade.clone().run(stop));
    }
    let coverage = CoverageGauges::new(graph.clone(), metrics.clone(), clock.clone());
    supervisor.run("coverage", move |stop| coverage.clone().run(stop));
    if config.background.scheduler && writable {
        let scheduler = Scheduler::new(graph.clone(), metrics.clone(), runs.clone(), clock.clone());
        supervisor.run("scheduler", move |stop| scheduler.clone().run(stop));
    }
    if let Some(every) = config.store.scrub_interval {
        let scrubber = Scrubber::new(store.clone(), metrics.clone(), clock.clone(), every);
        supervisor.run("scrub", move |stop| scrubber.clone().run(stop));
    }
    let stopping = CancellationToken::new();
    let backups = backups(&config, &store, &clock, &stopping, metrics.clone())?;
    if let Some(interval) = config.backup.interval {
        let retention = config.backup.retention;
        let schedule = Schedule::new(backups.clone(), interval, retention, clock.now());
        supervisor.run("backup", move |stop| schedule.clone().run(stop));
    }
    let authenticator = Arc::new(Authenticator::new(&config.auth));
    let push = config.webhooks.push_tokens.as_ref().map(PushVerifier::new).map(Arc::new);
    let of_google = push.iter().flat_map(|push| push.published_keys()).cloned();
    for keys in authenticator.published_keys().into_iter().chain(of_google) {
        let watch = KeyWatch::new(keys, &config.store.data_dir);
        let watch = watch.context("set up the client that reads the keys of issuers")?;
        watch.begin().await;
        supervisor.run("jwks", move |stop| watch.clone().run(stop));
    }
    let extractor = extractor(&config);
    let around = Around {
        config: &config,
        store: &store,
        keys,
        push,
        graph: &graph,
        extractor: &extractor,
        chunking: chunking(&config),
        metrics: &metrics,
        runs: &runs,
        clock: &clock,
        supervisor: &supervisor,
        stopping: &stopping,
    };
    let Connected { connectors, policy, sources, webhooks, purger, feed, workers } =
        around.connect().await?;
    let intake = Intake::new(extractor, chunking(&config), writes.clone());
    let app = App {
        authenticator,
        connector_policy: policy,
        connectors,
        sources,
        webhooks,
        purger,
        feed,
        connector_workers: workers,
        config,
        graph,
        writes,
        intake,
        search,
        vector_indexes,
        ask,
        embedder,
        models: changes,
        queues: Queues::new(store.clone(), clock.clone()),
        runs,
        metrics,
        clock,
        started,
        checking: Arc::new(Semaphore::new(1)),
        backups,
        stopping,
    };
    if let Some(bind) = app.config.resp.listen {
        let listener = TcpListener::bind(bind).await.with_context(|| {
            format!("cannot listen on {bind} (ACTIVEKG_RESP_LISTEN): another program may have the address")
        })?;
        let at = listener.local_addr().context("read the address")?;
        info!("Redis clients are answered on {at}");
        let (resp, listener) =
            (Resp::new(app.clone(), app.config.resp.password.clone()), Arc::new(listener));
        supervisor.run("resp", move |stop| resp.clone().serve(listener.clone(), stop));
    }
    let router = crate::http::router(app.clone());
    let admin = admin_socket(&app.config.store.data_dir, &router, &accepting);
    starting.ready(router);
    failing.disarm();
    let ready_ms = started.elapsed().as_millis() as u64;
    info!(address = %addr, duration_ms = ready_ms, "listening");
    Ok(RunningServer { addr, app, accepting, http, admin, supervisor, indexer, store, scratch })
}

impl RunningServer {
    /// The parts that answer requests.
    pub fn app(&self) -> &App {
        &self.app
    }

    /// Goes down in stages within one budget. What is not finished then is taken up again at the
    /// next start: it is in the store.
    pub async fn stop(self) {
        let Self { addr: _, app, accepting, http, admin, supervisor, indexer, store, scratch } =
            self;
        let budget = Budget::start(app.config.server.shutdown_grace);
        app.stopping.cancel();
        accepting.cancel();
        let drained = async {
            // How a listener ended says nothing here.
            let _ = http.await;
            if let Some(admin) = admin {
                let _ = admin.await;
            }
        };
        let patience = budget.for_stage();
        if tokio::time::timeout(patience, drained).await.is_err() {
            warn!("requests were still running after {patience:?} and were cut off");
        }
        let patience = budget.for_stage();
        if !supervisor.stop(patience).await {
            warn!(
                "workers were still busy after {patience:?}; their jobs run again at the next start"
            );
        }
        drop(app);
        let closed = tokio::task::spawn_blocking(move || {
            indexer.stop();
            store.close();
            drop(scratch);
        });
        if closed.await.is_err() {
            warn!("the store did not close cleanly; nothing acknowledged is lost");
        }
        info!("stopped");
    }
}

fn backups(
    config: &Config,
    store: &Arc<Store>,
    clock: &Arc<dyn Clock>,
    stopping: &CancellationToken,
    metrics: Arc<Metrics>,
) -> anyhow::Result<Backups> {
    let config::Backup { place, key, clouds, .. } = &config.backup;
    let target = backup::target::open(place, clouds)
        .context("use the place of the backups (ACTIVEKG_BACKUP_DIR)")?;
    let source = backup::Source {
        store: store.clone(),
        data_dir: config.store.data_dir.clone(),
        min_free_bytes: config.store.min_free_bytes,
        clock: clock.clone(),
        stopping: stopping.clone(),
    };
    Ok(Backups::new(source, target, key.clone(), Some(metrics)))
}

/// Serves the administrator of this machine as well. The server works without: then commands that
/// need it say that they find none.
fn admin_socket(
    dir: &Path,
    router: &Router,
    accepting: &CancellationToken,
) -> Option<JoinHandle<std::io::Result<()>>> {
    match AdminSocket::bind(dir) {
        Ok(socket) => {
            let until = accepting.clone().cancelled_owned();
            Some(tokio::spawn(socket.serve(router.clone(), until)))
        }
        Err(error) => {
            warn!("no admin socket, so commands on this machine do not find the server: {error}");
            None
        }
    }
}

/// What was in the data directory, but for the indexes.
struct Opened {
    store: Arc<Store>,
    keys: Option<KeyRing>,
    serving: model::Serving,
    /// The vector indexes to keep.
    engines: Engines,
    /// A folder for the indexes where nothing can be written, for as long as this lasts.
    scratch: Option<TempDir>,
}

/// Opens the data directory.
fn open(config: &Config, starting: &Starting) -> anyhow::Result<Opened> {
    let dir = &config.store.data_dir;
    std::fs::create_dir_all(dir)
        .map_err(|source| OpenError::NotWritable { path: dir.clone(), source })?;
    let told = starting.clone();
    let recovery = Recovery::told(move |done| {
        told.recovering(done);
        info!("recovering the store: {:.0} %", done * 100.0);
    });
    let store = Arc::new(Store::open(dir, StoreOptions { recovery, ..StoreOptions::default() })?);
    let serving = model::choose(&store, &config.embedding)?;
    let keys = keyring::load(&config.keys, dir, &store)?;
    let wanted = config.search.engines_at_start();
    let engines = store.read().and_then(|tx| engines_to_keep(&tx, wanted));
    let engines = engines.context("read which vector indexes to keep")?;
    if engines != wanted {
        info!("vector indexes are kept as they were ensured and dropped, not as the settings say");
    }
    let scratch = match store.fault() {
        Some(_) => Some(tempfile::tempdir().context("make a folder for the indexes")?),
        None => None,
    };
    Ok(Opened { store, keys, serving, engines, scratch })
}

/// Where nothing embeds, nobody waits.
fn patience(config: &Config) -> Patience {
    let at_most = |waits: bool| match waits && config.background.embedding_worker {
        true => Waiting::AtMost(config.embedding.sync_wait),
        false => Waiting::Never,
    };
    Patience { callers: at_most(!config.embedding.asynchronous), administrators: at_most(true) }
}

fn vector_options(config: &Config, engines: Engines, model: &ModelInfo) -> VectorOptions {
    let config::Hnsw { m, ef_construction, ef_search } = config.search.hnsw;
    let config::IvfFlat { lists, probes } = config.search.ivfflat;
    VectorOptions {
        hnsw: HnswParams { m, ef_construction, ef_search },
        ivfflat: IvfParams { lists, probes },
        engines,
        ..VectorOptions::new(model.dim, metric(config.search.distance))
    }
}

/// Measures builds of vector indexes.
fn told_of_builds(metrics: IndexMetrics, distance: Distance) -> impl Fn(Build) + Send + 'static {
    for engine in Engine::ALL {
        metrics.expect(engine.as_str(), distance.as_str());
    }
    move |Build { engine, rows: _, took, stands }| {
        let result = if stands { BuildResult::Success } else { BuildResult::Error };
        metrics.built(engine.as_str(), distance.as_str(), result, took);
    }
}

fn metric(distance: Distance) -> Metric {
    match distance {
        Distance::Cosine => Metric::Cosine,
        Distance::L2 => Metric::L2,
        Distance::Ip => Metric::InnerProduct,
    }
}

fn extractor(config: &Config) -> Extractor {
    let documents = &config.documents;
    let limits = documents::Limits {
        timeout: documents.extract_timeout,
        memory_bytes: documents.extract_memory_bytes,
        expanded_bytes: documents.extract_expanded_bytes,
        text_bytes: documents.extract_text_bytes,
    };
    Extractor::new(limits, Extractor::this_program())
}

fn chunking(config: &Config) -> Chunking {
    let config::Documents { chunk_max_chars, chunk_overlap_chars, .. } = config.documents;
    Chunking { max_chars: chunk_max_chars, overlap_chars: chunk_overlap_chars }
}

fn graph_settings(config: &Config) -> crate::graph::Settings {
    let embedding = &config.embedding;
    crate::graph::Settings {
        auto_embed: embedding.auto_embed_on_create,
        report_jobs: embedding.asynchronous,
        queue_max: embedding.queue_max_depth.unwrap_or(0),
        tenant_max: embedding.tenant_max_pending.unwrap_or(0),
        embedding_prefix: embedding.prefix_enabled,
        extraction_version: embedding.extraction_version.clone(),
        windows: embedding.windows,
        delivers: config.triggers.webhook.is_some(),
        retention: config.connectors.retention,
    }
}

fn search_settings(config: &Config) -> search::Settings {
    let search = &config.search;
    search::Settings {
        metric: metric(search.distance),
        fusion: if search.rrf_enabled {
            Fusion::ReciprocalRank { k: search.rrf_k }
        } else {
            Fusion::Weighted { vector: VECTOR_WEIGHT }
        },
        rerank_base: search.reranker_base,
        weighted_factor: search.candidate_factor,
        windows: config.embedding.windows,
    }
}
