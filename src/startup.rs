//! From settings to a serving process, and back down.

use std::net::SocketAddr;
use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, Instant};

use activekg_index::{Engine, HnswParams, Metric, VectorOptions};
use activekg_storage::time::{Clock, SystemClock};
use activekg_storage::{OpenError, Store, StoreOptions};
use anyhow::Context;
use prometheus::Registry;
use tokio::net::TcpListener;
use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;
use tracing::{info, warn};

use crate::app::App;
use crate::ask::Ask;
use crate::auth::Authenticator;
use crate::config::{self, Config, Distance};
use crate::embedding::{BUILT_IN, Embedder, EmbedderOptions, Encoder, Precision};
use crate::graph::{FreeSpace, Graph};
use crate::jobs::{EmbeddingWorker, Settlements, Supervisor};
use crate::llm::Extractive;
use crate::observability::metrics::Metrics;
use crate::search::fuse::VECTOR_WEIGHT;
use crate::search::{self, Fusion, Indexer, Indexes, Search};
use crate::shutdown::{self, Budget};
use crate::writes::{Waiting, Writes};

/// Longest time requests may take after the last one was let in.
const DRAIN_MAX: Duration = Duration::from_secs(10);
/// Longest time workers may take to finish what they hold.
const WORKERS_MAX: Duration = Duration::from_secs(10);
/// Loops that take and settle embedding jobs: one embeds while another one commits.
const EMBEDDING_WORKERS: usize = 2;

/// A server that serves until it is stopped.
pub struct RunningServer {
    /// Where it listens.
    pub addr: SocketAddr,
    app: App,
    accepting: CancellationToken,
    http: JoinHandle<std::io::Result<()>>,
    supervisor: Supervisor,
    indexer: Indexer,
    store: Arc<Store>,
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
    for notice in &config.notices {
        warn!("{notice}");
    }
    // The address first: a second server on it must not touch the data of the first.
    let bind = config.server.bind;
    let listener = TcpListener::bind(bind).await.with_context(|| {
        format!("cannot listen on {bind} (ACTIVEKG_BIND): another program may have the address")
    })?;
    let addr = listener.local_addr().context("read the address")?;
    let config = Arc::new(config);
    let clock: Arc<dyn Clock> = Arc::new(SystemClock);

    let precision = match config.embedding.precision {
        config::Precision::F32 => Precision::F32,
        config::Precision::Auto => Precision::Auto,
    };
    // The model and the store are read at the same time.
    let encoder = tokio::task::spawn_blocking(move || Encoder::built_in(precision));
    let data_dir = config.store.data_dir.clone();
    let opened = tokio::task::spawn_blocking({
        let config = config.clone();
        move || open(&data_dir, &config)
    });
    let (store, indexes, followed) = opened.await.context("open the data directory")??;
    let encoder = encoder.await.context("load the model")?.context("load the model")?;
    let embedder =
        Embedder::start(encoder, EmbedderOptions::default()).context("start the embedder")?;

    let indexes = Arc::new(indexes);
    let indexer =
        Indexer::start(store.clone(), indexes.clone(), followed).context("start the indexer")?;
    let space = FreeSpace::new(config.store.data_dir.clone(), config.store.min_free_bytes)
        .context("ask the file system for its free space")?;
    let graph = Graph::new(store.clone(), graph_settings(&config), clock.clone(), space);
    graph.recover().await.context("take up interrupted jobs")?;
    let search = Search::new(
        store.clone(),
        indexes,
        indexer.freshness(),
        embedder.clone(),
        search_settings(&config.search),
        clock.clone(),
    );
    let settlements = Settlements::default();
    let waits = !config.embedding.asynchronous && config.background.embedding_worker;
    let waiting = if waits { Waiting::AtMost(config.embedding.sync_wait) } else { Waiting::Never };
    let writes = Writes::new(graph.clone(), settlements.clone(), indexer.freshness(), waiting);
    let metrics = Arc::new(Metrics::new(Registry::new(), clock.now()).context("register metrics")?);
    let writer = Arc::new(Extractive::new(embedder.clone()));
    let ask = Ask::new(graph.clone(), search.clone(), writer, &config, clock.clone());
    let supervisor = Supervisor::default();
    if config.background.embedding_worker {
        let worker = EmbeddingWorker::new(graph.clone(), embedder.clone(), settlements);
        for _ in 0..EMBEDDING_WORKERS {
            let worker = worker.clone();
            supervisor.run("embedding", move |stop| worker.clone().run(stop));
        }
    }
    let app = App {
        authenticator: Arc::new(Authenticator::new(&config.auth)),
        config,
        graph,
        writes,
        search,
        ask,
        embedder,
        metrics,
        clock,
        started,
        stopping: CancellationToken::new(),
    };
    let accepting = CancellationToken::new();
    let router = crate::http::router(app.clone());
    let until = accepting.clone().cancelled_owned();
    let http = tokio::spawn(async move {
        let service = router.into_make_service_with_connect_info::<SocketAddr>();
        axum::serve(listener, service).with_graceful_shutdown(until).await
    });
    let ready_ms = started.elapsed().as_millis() as u64;
    info!(address = %addr, duration_ms = ready_ms, "listening");
    Ok(RunningServer { addr, app, accepting, http, supervisor, indexer, store })
}

impl RunningServer {
    /// The parts that answer requests.
    pub fn app(&self) -> &App {
        &self.app
    }

    /// Goes down in stages within one budget. What is not finished then is taken up again at the
    /// next start: it is in the store.
    pub async fn stop(self) {
        let Self { addr: _, app, accepting, http, supervisor, indexer, store } = self;
        let budget = Budget::start();
        app.stopping.cancel();
        accepting.cancel();
        if tokio::time::timeout(budget.at_most(DRAIN_MAX), http).await.is_err() {
            warn!("requests were still running after {DRAIN_MAX:?} and were cut off");
        }
        if !supervisor.stop(budget.at_most(WORKERS_MAX)).await {
            warn!(
                "workers were still busy after {WORKERS_MAX:?}; their jobs run again at the next start"
            );
        }
        drop(app);
        let closed = tokio::task::spawn_blocking(move || {
            indexer.stop();
            store.close();
        });
        if closed.await.is_err() {
            warn!("the store did not close cleanly; nothing acknowledged is lost");
        }
        info!("stopped");
    }
}

/// Opens everything in the data directory.
fn open(dir: &Path, config: &Config) -> anyhow::Result<(Arc<Store>, Indexes, search::Opened)> {
    std::fs::create_dir_all(dir)
        .map_err(|source| OpenError::NotWritable { path: dir.to_owned(), source })?;
    let store = Arc::new(Store::open(dir, StoreOptions::default())?);
    let (indexes, followed) =
        Indexes::open(&dir.join("index"), vector_options(config)).context("open the indexes")?;
    Ok((store, indexes, followed))
}

fn vector_options(config: &Config) -> VectorOptions {
    let config::Hnsw { m, ef_construction, ef_search } = config.search.hnsw;
    VectorOptions {
        hnsw: HnswParams { m, ef_construction, ef_search },
        engine: Engine::Hnsw,
        ..VectorOptions::new(BUILT_IN.dim, metric(config.search.distance))
    }
}

fn metric(distance: Distance) -> Metric {
    match distance {
        Distance::Cosine => Metric::Cosine,
        Distance::L2 => Metric::L2,
        Distance::Ip => Metric::InnerProduct,
    }
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
    }
}

fn search_settings(search: &config::Search) -> search::Settings {
    search::Settings {
        metric: metric(search.distance),
        fusion: if search.rrf_enabled {
            Fusion::ReciprocalRank { k: search.rrf_k }
        } else {
            Fusion::Weighted { vector: VECTOR_WEIGHT }
        },
        rerank_base: search.reranker_base,
        weighted_factor: search.candidate_factor,
    }
}
