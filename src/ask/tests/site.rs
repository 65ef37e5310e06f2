//! A place to ask questions in: a store, indexes, the model, and a writer that follows a script.

use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use activekg_index::{Metric, VectorOptions};
use activekg_storage::ids::{NodeId, TenantId};
use activekg_storage::tables::graph::Slot;
use activekg_storage::time::{ManualClock, UnixMicros};
use activekg_storage::{Store, StoreOptions};
use futures_util::StreamExt;
use futures_util::stream::{self, BoxStream};
use prometheus::Registry;
use serde_json::Value;
use tempfile::TempDir;

use super::super::{Ask, Settings, gate};
use crate::config;
use crate::embedding::{Embedder, EmbedderOptions, Encoder, Precision, Windows};
use crate::fetch::Fetcher;
use crate::graph::{self, FreeSpace, Graph, NewNode};
use crate::jobs::{EmbeddingWorker, Settlements, Supervisor};
use crate::llm::{AnswerWriter, LlmError, Snippet, Writers};
use crate::names::SystemNames;
use crate::observability::metrics::Metrics;
use crate::search::{self, Fusion, Indexer, Indexes, Search};
use crate::writes::{Patience, Waiting, Writes};

/// Writes what it is told to, and remembers from what.
#[derive(Default)]
pub(super) struct Script {
    pieces: Mutex<Vec<Result<String, ()>>>,
    calls: AtomicUsize,
    snippets: Mutex<Vec<Snippet>>,
}

impl Script {
    pub(super) fn says(&self, pieces: &[&str]) {
        let pieces = pieces.iter().map(|piece| Ok((*piece).to_owned())).collect();
        *self.pieces.lock().expect("not poisoned") = pieces;
    }

    pub(super) fn breaks_after(&self, piece: &str) {
        *self.pieces.lock().expect("not poisoned") = vec![Ok(piece.to_owned()), Err(())];
    }

    pub(super) fn calls(&self) -> usize {
        self.calls.load(Ordering::SeqCst)
    }

    pub(super) fn texts(&self) -> Vec<String> {
        let snippets = self.snippets.lock().expect("not poisoned");
        snippets.iter().map(|snippet| snippet.text.clone()).collect()
    }
}

impl AnswerWriter for Script {
    fn name(&self) -> &'static str {
        "script"
    }

    fn write(
        &self,
        _: &str,
        snippets: Vec<Snippet>,
    ) -> BoxStream<'static, Result<String, LlmError>> {
        self.calls.fetch_add(1, Ordering::SeqCst);
        *self.snippets.lock().expect("not poisoned") = snippets;
        let pieces = self.pieces.lock().expect("not poisoned").clone();
        stream::iter(pieces).map(|piece| piece.map_err(|()| LlmError::Interrupted)).boxed()
    }
}

/// A graph that embeds and indexes what is written.
pub(super) struct Site {
    pub(super) graph: Graph,
    pub(super) writes: Writes,
    pub(super) search: Search,
    pub(super) embedder: Embedder,
    pub(super) clock: ManualClock,
    _indexer: Indexer,
    _supervisor: Supervisor,
    _dir: TempDir,
}

const START: UnixMicros = UnixMicros(1_770_112_800_000_000);

impl Site {
    pub(super) async fn open() -> Self {
        let dir = TempDir::new().expect("a directory");
        let clock = ManualClock::at(START);
        let store = Arc::new(
            Store::open(&dir.path().join("db"), StoreOptions::default()).expect("a store"),
        );
        let encoder = Encoder::built_in(Precision::F32).expect("the model");
        let options = VectorOptions::new(encoder.model().dim, Metric::Cosine);
        let (indexes, opened) =
            Indexes::open(&dir.path().join("index"), &[(Slot::A, options)]).expect("indexes");
        let indexes = Arc::new(indexes);
        let indexer =
            Indexer::start(store.clone(), indexes.clone(), opened, Arc::new(clock.clone()), |_| ())
                .expect("a thread");
        let embedder = Embedder::start(encoder, EmbedderOptions::default()).expect("threads");
        let settings = graph::Settings { report_jobs: false, ..graph::Settings::default() };
        let space = FreeSpace::new(dir.path().to_owned(), Some(0)).expect("a file system");
        let graph = Graph::new(store.clone(), settings, Arc::new(clock.clone()), space);
        let settings = search::Settings {
            metric: Metric::Cosine,
            fusion: Fusion::ReciprocalRank { k: 60.0 },
            rerank_base: 20,
            weighted_factor: 2.0,
            windows: Windows::First,
        };
        let (freshness, shown) = (indexer.freshness(), Arc::new(clock.clone()));
        let search =
            Search::new(store, indexes, freshness.clone(), embedder.clone(), settings, shown);
        let settlements = Settlements::default();
        let waiting = Waiting::AtMost(Duration::from_secs(60));
        let patience = Patience { callers: waiting, administrators: waiting };
        let writes = Writes::new(graph.clone(), settlements.clone(), freshness, patience);
        crate::tls::init();
        let fetcher =
            Fetcher::new(&config::Fetch::default(), SystemNames::default()).expect("a client");
        let metrics = Metrics::new(Registry::new(), UnixMicros(0)).expect("metrics");
        let worker = EmbeddingWorker::new(
            graph.clone(),
            embedder.clone(),
            fetcher,
            settlements,
            Arc::new(metrics),
        );
        let supervisor = Supervisor::default();
        supervisor.run("embedding", move |stop| worker.clone().run(stop));
        Self {
            graph,
            writes,
            search,
            embedder,
            clock,
            _indexer: indexer,
            _supervisor: supervisor,
            _dir: dir,
        }
    }

    pub(super) async fn node(&self, tenant: &TenantId, class: &str, props: Value) -> NodeId {
        let new = NewNode {
            tenant: tenant.clone(),
            classes: vec![class.to_owned()],
            props: props.as_object().expect("an object").clone(),
            payload_ref: None,
            metadata: serde_json::Map::new(),
            refresh_policy: serde_json::Map::new(),
            triggers: Vec::new(),
        };
        self.writes.create(new).await.expect("a node").id
    }

    /// Answers in the words of `writer`, by the defaults.
    pub(super) fn ask(&self, writer: Arc<dyn AnswerWriter>) -> Ask {
        self.ask_by(Some(writer), gate::Thresholds::default())
    }

    pub(super) fn ask_by(
        &self,
        writer: Option<Arc<dyn AnswerWriter>>,
        thresholds: gate::Thresholds,
    ) -> Ask {
        let settings = Settings {
            thresholds,
            sources_max: 3,
            use_reranker: true,
            intents: true,
            cache_max: 16,
            cache_ttl: Duration::from_secs(600),
        };
        let (graph, search) = (self.graph.clone(), self.search.clone());
        let writers = Writers { main: writer, stand_in: None };
        Ask::new(graph, search, writers, settings, Arc::new(self.clock.clone()))
    }
}
