//! Which vector indexes there are: as the settings say, until somebody says otherwise.
//!
//! What is ensured or dropped while the program runs is remembered in the store and holds from then
//! on, over restarts too. Of a type nobody spoke of the settings decide at every start.

use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use activekg_index::{Engine, EngineState, Engines};
use activekg_storage::tables::graph::Slot;
use activekg_storage::tables::search::{VECTOR_INDEXES, VectorIndexRecord};
use activekg_storage::time::Clock;
use activekg_storage::{Readable, StorageError, Store, WriteTx};

use super::Error;
use super::indexes::Indexes;
use crate::config::Distance;
use crate::embedding::Embedder;
use crate::observability::metrics::{BuildResult, IndexMetrics};

/// The name of the index of a type over vectors that are compared by `distance`, as clients know it
/// from the database that the program replaces.
#[must_use]
pub fn index_name(engine: Engine, distance: Distance) -> String {
    let distance = match distance {
        Distance::Cosine => "cos",
        Distance::L2 => "l2",
        Distance::Ip => "ip",
    };
    format!("idx_nodes_embedding_{}_{distance}", engine.as_str())
}

/// The engines to keep: those of the settings, but for what was ensured or dropped since.
///
/// # Errors
///
/// As for every read.
pub fn engines_to_keep(tx: &impl Readable, settings: Engines) -> Result<Engines, StorageError> {
    let mut engines = settings;
    for engine in Engine::ALL {
        let decided = tx.get(&VECTOR_INDEXES, &(engine.as_str().to_owned(),))?;
        engines = match decided.map(|record| record.kept) {
            Some(true) => engines.with(engine),
            Some(false) => engines.without(engine),
            None => engines,
        };
    }
    Ok(engines)
}

/// What was done to the vector indexes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Changed {
    /// Those in place now.
    pub existing: Engines,
    /// Those being built because of this, or already for another reason, or put in place at once
    /// where there is nothing to build yet.
    pub created: Engines,
    /// Those that were there and are not any more.
    pub dropped: Engines,
}

/// What to do to some of the vector indexes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Change {
    /// Have them, and leave alone those there are.
    Ensure,
    /// Have them, built anew.
    Rebuild,
    /// Have them no more.
    Drop,
}

/// The vector indexes, for those who look after them.
#[derive(Clone)]
pub struct VectorIndexes {
    store: Arc<Store>,
    indexes: Arc<Indexes>,
    embedder: Embedder,
    distance: Distance,
    metrics: IndexMetrics,
    clock: Arc<dyn Clock>,
    /// Held by whoever decides, from the store to the indexes.
    deciding: Arc<Mutex<()>>,
}

impl VectorIndexes {
    /// The vector indexes of `indexes`. Which of their slots serves says `embedder`.
    pub fn new(
        store: Arc<Store>,
        indexes: Arc<Indexes>,
        embedder: Embedder,
        distance: Distance,
        metrics: IndexMetrics,
        clock: Arc<dyn Clock>,
    ) -> Self {
        Self { store, indexes, embedder, distance, metrics, clock, deciding: Arc::default() }
    }

    /// How far each is, of the vectors that searches work with.
    #[must_use]
    pub fn states(&self) -> [(Engine, EngineState); 2] {
        let slot = self.slot();
        Engine::ALL.map(|engine| (engine, self.state(slot, engine)))
    }

    /// Those that searches go through, or would if scans were not quicker.
    #[must_use]
    pub fn existing(&self) -> Engines {
        let states = self.states().into_iter();
        states.filter(|(_, state)| state.is_in_place()).map(|(engine, _)| engine).collect()
    }

    /// Changes some of them. What has to be built is built in the background.
    ///
    /// # Errors
    ///
    /// The store's own, before anything is changed.
    pub async fn change(&self, change: Change, engines: Engines) -> Result<Changed, Error> {
        let this = self.clone();
        tokio::task::spawn_blocking(move || this.change_blocking(change, engines))
            .await
            .map_err(|_| Error::Interrupted)?
    }

    fn change_blocking(&self, change: Change, engines: Engines) -> Result<Changed, Error> {
        let _alone = self.deciding.lock().unwrap_or_else(PoisonError::into_inner);
        self.decide(engines, change != Change::Drop)?;
        let kept = self.indexes.engines();
        let (slot, mut changed) = (self.slot(), Changed::default());
        match change {
            Change::Drop => {
                changed.dropped = engines.iter().filter(|&engine| kept.contains(engine)).collect();
                self.indexes.keep(engines.iter().fold(kept, Engines::without));
            }
            Change::Ensure | Change::Rebuild => {
                let there = |engine| self.state(slot, engine).is_in_place();
                let mut anew = Engines::NONE;
                for engine in engines.iter() {
                    let rejected = self.state(slot, engine) == EngineState::Rejected;
                    if rejected || change == Change::Rebuild {
                        anew = anew.with(engine);
                    }
                    if there(engine) && change == Change::Ensure {
                        let metric = self.distance.as_str();
                        let took = Duration::ZERO;
                        self.metrics.built(engine.as_str(), metric, BuildResult::Duplicate, took);
                    } else {
                        changed.created = changed.created.with(engine);
                    }
                }
                self.indexes.keep(engines.iter().fold(kept, Engines::with));
                self.indexes.forget(anew);
            }
        }
        changed.existing = self.existing();
        Ok(changed)
    }

    /// Remembers a decision, unless the store has it already.
    fn decide(&self, engines: Engines, kept: bool) -> Result<(), Error> {
        let tx = self.store.read()?;
        let mut news = Vec::new();
        for engine in engines.iter() {
            let key = (engine.as_str().to_owned(),);
            if tx.get(&VECTOR_INDEXES, &key)?.is_none_or(|record| record.kept != kept) {
                news.push(key);
            }
        }
        drop(tx);
        if news.is_empty() {
            return Ok(());
        }
        let record = VectorIndexRecord { kept, decided_at: self.clock.now() };
        let write = move |tx: &mut WriteTx<'_>| -> Result<(), StorageError> {
            news.iter().try_for_each(|key| tx.put(&VECTOR_INDEXES, key, &record))
        };
        self.store.write_blocking(write)?;
        Ok(())
    }

    /// Where the vectors are that searches work with.
    fn slot(&self) -> Slot {
        self.embedder.fixed().slot()
    }

    fn state(&self, slot: Slot, engine: Engine) -> EngineState {
        self.indexes.vectors(slot).map_or(EngineState::Off, |set| set.state(engine))
    }
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::AtomicBool;

    use activekg_index::{Metric, VectorOp, VectorOptions};
    use activekg_storage::StoreOptions;
    use activekg_storage::time::{ManualClock, UnixMicros};
    use prometheus::Registry;
    use tempfile::TempDir;

    use super::*;
    use crate::embedding::{EmbedderOptions, Encoder, Precision};
    use crate::observability::metrics::Metrics;

    /// More than are sealed at once.
    const VECTORS: u128 = 5000;

    struct Place {
        _dir: TempDir,
        store: Arc<Store>,
        indexes: Arc<Indexes>,
        metrics: Metrics,
        managed: VectorIndexes,
    }

    /// Vectors that are never scanned where there is an index, with these indexes.
    fn place(engines: Engines) -> Place {
        let dir = TempDir::new().expect("a directory");
        let store = Store::open(&dir.path().join("db"), StoreOptions::default()).expect("a store");
        let store = Arc::new(store);
        let options =
            VectorOptions { engines, exact_limit: 0, ..VectorOptions::new(4, Metric::L2) };
        let (indexes, _) =
            Indexes::open(&dir.path().join("index"), &[(Slot::A, options)]).expect("indexes");
        let indexes = Arc::new(indexes);
        let set = indexes.vectors(Slot::A).expect("the slot is open");
        let put = |id: u128| VectorOp::Put {
            id,
            tenant: "a".to_owned(),
            values: (0..4).map(|n| ((id * 7919) >> (n * 3)) as u8 as f32).collect(),
        };
        set.apply(&(0..VECTORS).map(put).collect::<Vec<_>>()).expect("apply");
        set.commit(1).expect("commit");
        set.maintain().expect("seal");
        let encoder = Encoder::built_in(Precision::F32).expect("the model");
        let embedder = Embedder::start(encoder, EmbedderOptions::default()).expect("threads");
        let metrics = Metrics::new(Registry::new(), UnixMicros(0)).expect("metrics");
        let managed = VectorIndexes::new(
            store.clone(),
            indexes.clone(),
            embedder,
            Distance::L2,
            metrics.index.clone(),
            Arc::new(ManualClock::at(UnixMicros(0))),
        );
        Place { _dir: dir, store, indexes, metrics, managed }
    }

    impl Place {
        fn change(&self, change: Change, engines: impl Into<Engines>) -> Changed {
            self.managed.change_blocking(change, engines.into()).expect("a change")
        }

        fn build(&self) {
            let set = self.indexes.vectors(Slot::A).expect("the slot is open");
            set.build(&AtomicBool::new(false), &|_| ()).expect("build");
        }

        fn kept_after_restart(&self, settings: Engines) -> Engines {
            engines_to_keep(&self.store.read().expect("read"), settings).expect("read")
        }
    }

    fn both() -> Engines {
        Engine::ALL.into_iter().collect()
    }

    #[test]
    fn an_index_is_there_once_it_is_built() {
        let place = place(Engines::NONE);
        let lists: Engines = Engine::IvfFlat.into();
        let begun = Changed { created: lists, ..Changed::default() };
        assert_eq!(place.change(Change::Ensure, lists), begun);
        assert_eq!(place.change(Change::Ensure, lists), begun, "still being built");
        place.build();
        let there = Changed { existing: lists, ..Changed::default() };
        assert_eq!(place.change(Change::Ensure, lists), there);
        let text = place.metrics.prometheus_text();
        let series = "activekg_vector_index_build_seconds_count\
                      {metric=\"l2\",result=\"duplicate\",type=\"ivfflat\"} 1";
        assert!(text.contains(series), "{text}");

        // The other one comes beside it, and neither goes when the other is ensured.
        let beside =
            Changed { existing: lists, created: Engine::Hnsw.into(), ..Changed::default() };
        assert_eq!(place.change(Change::Ensure, both()), beside);
        place.build();
        assert_eq!(place.managed.existing(), both());

        let anew = Changed { existing: Engine::Hnsw.into(), created: lists, ..Changed::default() };
        assert_eq!(place.change(Change::Rebuild, lists), anew);
        place.build();
        let dropped = Changed { dropped: both(), ..Changed::default() };
        assert_eq!(place.change(Change::Drop, both()), dropped);
        assert_eq!(place.change(Change::Drop, both()), Changed::default());
    }

    #[test]
    fn what_was_decided_holds_and_the_settings_decide_the_rest() {
        let place = place(Engine::Hnsw.into());
        let settings = [Engines::NONE, Engine::Hnsw.into(), Engine::IvfFlat.into(), both()];
        assert_eq!(settings.map(|engines| place.kept_after_restart(engines)), settings);
        place.change(Change::Drop, Engine::Hnsw);
        for engines in settings {
            assert_eq!(place.kept_after_restart(engines), engines.without(Engine::Hnsw));
        }
        place.change(Change::Ensure, Engine::IvfFlat);
        assert_eq!(place.kept_after_restart(both()), Engine::IvfFlat.into());
        place.change(Change::Rebuild, Engine::Hnsw);
        assert_eq!(place.kept_after_restart(Engines::NONE), both());
    }

    #[test]
    fn names_are_those_that_clients_know() {
        assert_eq!(index_name(Engine::Hnsw, Distance::Cosine), "idx_nodes_embedding_hnsw_cos");
        assert_eq!(index_name(Engine::IvfFlat, Distance::Ip), "idx_nodes_embedding_ivfflat_ip");
    }
}
