//! Embeds again, in the background, what the rules of the text make of differently now.

use std::time::Duration;

use tokio::select;
use tokio::time::sleep;
use tokio_util::sync::CancellationToken;
use tracing::{error, info};

use crate::embedding::Embedder;
use crate::graph::{Error, Graph, Sweep};

/// Jobs that may wait for the embedder while more are queued: nodes of callers come in between.
const PENDING_MAX: u64 = 500;
/// Between two looks at a full queue.
const PAUSE: Duration = Duration::from_secs(1);
/// Between two steps, so that reading a large store is hardly noticed.
const BREATH: Duration = Duration::from_millis(10);

/// Runs the sweep once, to its end.
#[derive(Clone)]
pub struct TextSweep {
    graph: Graph,
    embedder: Embedder,
}

impl TextSweep {
    /// A sweep over the nodes of `graph`, which `embedder` embeds.
    pub fn new(graph: Graph, embedder: Embedder) -> Self {
        Self { graph, embedder }
    }

    /// Sweeps until nothing is left or it is told to stop. A store that has been swept under the
    /// same rules costs one read.
    pub async fn run(self, stop: CancellationToken) {
        let mut told = false;
        loop {
            let pause = match self.step().await {
                Ok(None) => PAUSE,
                Ok(Some(Sweep { checked, queued, done })) => {
                    if queued > 0 && !told {
                        told = true;
                        info!(
                            "texts are built by other rules now; nodes whose text differs are embedded again"
                        );
                    }
                    if done {
                        if told {
                            info!(
                                checked,
                                queued, "all texts are as the rules want them or queued"
                            );
                        }
                        return;
                    }
                    BREATH
                }
                Err(error) => {
                    error!("could not compare texts with their vectors: {error}");
                    if self.graph.store().fault().is_some() {
                        // Nothing can be written until the process starts again, which sweeps.
                        return;
                    }
                    PAUSE
                }
            };
            select! {
                () = stop.cancelled() => return,
                () = sleep(pause) => {}
            }
        }
    }

    /// One step; none while enough jobs wait.
    async fn step(&self) -> Result<Option<Sweep>, Error> {
        if self.graph.embeddings_pending().await? >= PENDING_MAX {
            return Ok(None);
        }
        let embedder = self.embedder.fixed();
        // A text that cannot be split has no windows.
        let is_long = move |text: &str| {
            embedder.further_windows(text).is_ok_and(|further| !further.is_empty())
        };
        self.graph.sweep_texts(is_long).await.map(Some)
    }
}
