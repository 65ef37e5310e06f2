//! Brings the nodes of a store that an older version wrote up to this one, in the background.

use std::time::Duration;

use tokio::select;
use tokio::time::sleep;
use tokio_util::sync::CancellationToken;
use tracing::error;

use crate::graph::Graph;

/// Between two steps, so that going through a large store is hardly noticed.
const BREATH: Duration = Duration::from_millis(10);
/// After a step that failed.
const PAUSE: Duration = Duration::from_secs(60);

/// Goes through all nodes once in the life of a store.
#[derive(Clone)]
pub struct NodeUpgrade {
    graph: Graph,
}

impl NodeUpgrade {
    /// An upgrade of the nodes of `graph`.
    pub fn new(graph: Graph) -> Self {
        Self { graph }
    }

    /// Goes on until all are done or it is told to stop.
    pub async fn run(self, stop: CancellationToken) {
        loop {
            let pause = match self.graph.upgrade_nodes().await {
                Ok(true) => return,
                Ok(false) => BREATH,
                Err(error) => {
                    error!("could not bring older nodes up to date: {error}");
                    if self.graph.store().fault().is_some() {
                        // Nothing can be written until the process starts again, which goes on.
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
}
