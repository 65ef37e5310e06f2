//! What a change does in the background: make the vectors that are missing, remove those of a
//! model that was dropped.

use std::collections::BTreeMap;
use std::pin::pin;
use std::time::Duration;

use activekg_storage::ids::TenantId;
use activekg_storage::tables::graph::Slot;
use activekg_storage::tables::models::{ChangeRecord, ModelsRecord, Phase};
use futures_util::future::join_all;
use tokio::select;
use tokio::time::sleep;
use tokio_util::sync::CancellationToken;
use tracing::{error, info, warn};

use super::{LOOK_EVERY, ModelChanges, Other, choice_of, lock};
use crate::embedding::{FixedEmbedder, Windows};
use crate::graph::{Fill, MadeBy, Missing, Todo};

/// Texts embedded at a time.
const BATCH: usize = 64;
/// Between two looks while no change is under way; an act ends it.
const IDLE: Duration = Duration::from_secs(60);
/// Pause after the model, the store or the index failed; it doubles.
const PAUSE: Duration = Duration::from_secs(1);
/// Longest of these.
const PAUSE_MAX: Duration = Duration::from_secs(60);
/// Batches of which all texts failed, one after the other, after which it is taken to be the
/// texts' fault.
const FAILURES_MAX: u32 = 4;

/// What looking for work came to.
enum Step {
    Worked,
    Idle(Duration),
}

impl ModelChanges {
    /// Does what a change wants done until told to stop.
    pub async fn run(self, stop: CancellationToken) {
        let mut pause = PAUSE;
        let mut failures = 0;
        while !stop.is_cancelled() {
            let mut woken = pin!(self.shared.wake.notified());
            woken.as_mut().enable(); // an act between look and wait is not missed
            let wait = match self.step(&mut failures).await {
                Ok(Step::Worked) => {
                    pause = PAUSE;
                    continue;
                }
                Ok(Step::Idle(wait)) => {
                    pause = PAUSE;
                    wait
                }
                Err(problem) => {
                    warn!("the change of the embedding model waits: {problem}");
                    *lock(&self.shared.problem) = Some(problem);
                    if self.parts.graph.store().fault().is_some() {
                        // Nothing can be written until the process starts again.
                        stop.cancelled().await;
                        return;
                    }
                    let wait = pause;
                    pause = (pause * 2).min(PAUSE_MAX);
                    wait
                }
            };
            select! {
                () = stop.cancelled() => {}
                () = woken => {}
                () = sleep(wait) => {}
            }
        }
    }

    async fn step(&self, failures: &mut u32) -> Result<Step, String> {
        let graph = &self.parts.graph;
        let models = graph.models().await.map_err(|error| error.to_string())?;
        let Some(ModelsRecord { slot, change: Some(change), .. }) = models else {
            return Ok(Step::Idle(IDLE));
        };
        if change.phase == Phase::Dropping {
            return self.remove_other(slot.other()).await;
        }
        let Some(other) = self.other_of(&change, slot.other()).await? else {
            return Ok(Step::Idle(LOOK_EVERY));
        };
        let todo = graph.missing_vectors(BATCH).await.map_err(|error| error.to_string())?;
        let Some(mut todo) = todo.filter(|todo| !todo.is_empty()) else {
            return Ok(Step::Idle(LOOK_EVERY));
        };
        let windows = graph.settings().windows;
        let fill = embed(&other.embedder, &mut todo, windows).await;
        let first = fill.iter().find_map(|(_, vector)| vector.as_ref().err());
        let all_failed = !fill.is_empty() && fill.iter().all(|(_, vector)| vector.is_err());
        if let (true, Some(error)) = (all_failed && *failures < FAILURES_MAX, first) {
            *failures += 1;
            return Err(error.clone());
        }
        if !all_failed {
            *failures = 0;
        }
        graph
            .fill(todo, fill, MadeBy::of(&other.embedder))
            .await
            .map_err(|error| error.to_string())?;
        *lock(&self.shared.problem) = None;
        Ok(Step::Worked)
    }

    /// The model that does not serve, loaded now if it is not yet: after a start. None while an
    /// act exchanges the two.
    async fn other_of(&self, change: &ChangeRecord, slot: Slot) -> Result<Option<Other>, String> {
        if let Some(other) = lock(&self.shared.other).clone() {
            return Ok((other.embedder.slot() == slot).then_some(other));
        }
        let settings = lock(&self.shared.serving).with_model(&choice_of(&change.other));
        let settings = settings.map_err(|error| error.to_string())?;
        let embedder = self.load(&settings, slot).await?;
        let model = embedder.model();
        if model.name != change.other.name || model.dim != change.other.dim as usize {
            let problem = format!(
                "{} is another model now, {} of {} numbers; drop the change and begin it anew",
                change.other.setting, model.name, model.dim
            );
            return Err(problem);
        }
        let other = Other { embedder, settings };
        *lock(&self.shared.other) = Some(other.clone());
        Ok(Some(other))
    }

    /// Removes the model that does not serve, its index and, step by step, its vectors.
    async fn remove_other(&self, slot: Slot) -> Result<Step, String> {
        // Its threads end with the last search that works with it.
        drop(lock(&self.shared.other).take());
        if self.parts.indexes.vectors(slot).is_some()
            && let Err(error) = self.close(slot).await
        {
            // The index is not asked any more; its files go at the next start.
            error!("could not remove the vector index of the dropped model: {error}");
        }
        let ended = self.parts.graph.drop_step().await.map_err(|error| error.to_string())?;
        if ended {
            *lock(&self.shared.problem) = None;
            info!("the other embedding model and its vectors are removed");
        }
        Ok(Step::Worked)
    }
}

/// The vectors of what is missing. The texts of a tenant are one job of the embedder.
async fn embed(embedder: &FixedEmbedder, todo: &mut Todo, windows: Windows) -> Fill {
    let mut tenants: BTreeMap<TenantId, Vec<Missing>> = BTreeMap::new();
    for missing in std::mem::take(&mut todo.missing) {
        tenants.entry(missing.tenant.clone()).or_default().push(missing);
    }
    let jobs = tenants.into_iter().map(|(tenant, missing)| async move {
        let texts = missing.iter().map(|missing| missing.text.clone()).collect();
        let vectors = embedder.windowed(&tenant, texts, windows).await;
        missing.into_iter().zip(vectors)
    });
    let done = join_all(jobs).await.into_iter().flatten();
    done.map(|(missing, vector)| (missing, vector.map_err(|error| error.to_string()))).collect()
}
