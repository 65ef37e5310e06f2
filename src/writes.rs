//! Changes to the graph, answered when the caller may rely on them.
//!
//! With jobs reported, a change is answered as soon as it is durable. Without, the caller waits
//! until the embedding is settled and both indexes show it, but never longer than a limit: then
//! it is answered all the same, with the node still queued.

use std::time::Duration;

use activekg_storage::Seq;
use activekg_storage::ids::{JobId, NodeId};
use activekg_storage::time::UnixMicros;

use crate::graph::{
    Created, Embedded, Error, Graph, NewDocument, NewNode, Node, NodeChanges, NodeOutcome, Taken,
    View, Work,
};
use crate::jobs::{Settlements, queue_due};
use crate::search::Freshness;

/// Whether and how long a change waits for its embedding.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Waiting {
    /// The job is reported instead.
    Never,
    /// At most so long.
    AtMost(Duration),
}

/// Writes to the graph and waits for what follows.
#[derive(Clone)]
pub struct Writes {
    graph: Graph,
    settlements: Settlements,
    freshness: Freshness,
    waiting: Patience,
}

/// Who waits for how long.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Patience {
    /// Callers that change nodes.
    pub callers: Waiting,
    /// Administrators that have nodes refreshed, and are told how many were.
    pub administrators: Waiting,
}

/// What refreshes of many nodes came to, as far as the caller waited.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct ManyRefreshed {
    /// Nodes with a new vector.
    pub refreshed: usize,
    /// Nodes whose job is not settled yet.
    pub waiting: usize,
}

/// What a refresh came to, as far as the caller waited.
#[derive(Debug, Clone, PartialEq)]
pub enum Refreshed {
    /// It will be done by this job.
    Queued(JobId),
    /// It was done.
    Done {
        /// 1 - cosine of the old and the new vector.
        drift: f64,
        /// When.
        at: UnixMicros,
        /// The event that tells of it, if there is one.
        event: Option<activekg_storage::ids::EventId>,
    },
    /// The node has no text.
    Skipped,
    /// It failed for good; the node says why.
    Failed,
    /// The node was deleted meanwhile.
    Gone,
}

impl Writes {
    /// Writes to `graph`.
    pub fn new(
        graph: Graph,
        settlements: Settlements,
        freshness: Freshness,
        waiting: Patience,
    ) -> Self {
        Self { graph, settlements, freshness, waiting }
    }

    /// Creates a node.
    ///
    /// # Errors
    ///
    /// Those of [`Graph::create`].
    pub async fn create(&self, new: NewNode) -> Result<Created, Error> {
        let (created, seq) = self.graph.create(new).await?;
        self.wait(created.job.into_iter().collect(), seq).await;
        Ok(created)
    }

    /// Creates nodes, and waits for all.
    ///
    /// # Errors
    ///
    /// Those of [`Graph::create_many`].
    pub async fn create_many(
        &self,
        new: Vec<NewNode>,
        go_on: bool,
    ) -> Result<Vec<NodeOutcome>, Error> {
        let (outcomes, seq) = self.graph.create_many(new, go_on).await?;
        let jobs = outcomes.iter().flatten().filter_map(|created| created.job).collect();
        self.wait(jobs, seq).await;
        Ok(outcomes)
    }

    /// Changes a node; the node as it is when the wait is over.
    ///
    /// # Errors
    ///
    /// Those of [`Graph::update`].
    pub async fn update(&self, view: &View, id: NodeId, to: NodeChanges) -> Result<Node, Error> {
        let (_, job, seq) = self.graph.update(view, id, to).await?;
        self.wait(job.into_iter().collect(), seq).await;
        self.graph.node(view, id).await
    }

    /// Takes in documents, and waits for all.
    ///
    /// # Errors
    ///
    /// Those of [`Graph::take_in`].
    pub async fn take_in(
        &self,
        documents: Vec<NewDocument>,
    ) -> Result<Vec<Result<Taken, Error>>, Error> {
        let (outcomes, seq) = self.graph.take_in(documents).await?;
        let jobs = outcomes.iter().flatten().flat_map(|taken| taken.jobs.clone()).collect();
        self.wait(jobs, seq).await;
        Ok(outcomes)
    }

    /// Embeds a node again.
    ///
    /// # Errors
    ///
    /// Those of [`Graph::refresh`].
    pub async fn refresh(&self, view: &View, id: NodeId, work: Work) -> Result<Refreshed, Error> {
        let (job, seq) = self.graph.refresh(view, id, work).await?;
        let mut settled = self.wait(vec![job], seq).await;
        Ok(match settled.pop() {
            Some(Embedded::Ready { drift, at, event }) => Refreshed::Done { drift, at, event },
            Some(Embedded::Skipped) => Refreshed::Skipped,
            Some(Embedded::Failed) => Refreshed::Failed,
            Some(Embedded::Gone) => Refreshed::Gone,
            Some(Embedded::Again) | None => Refreshed::Queued(job),
        })
    }

    /// Embeds nodes again; those that the caller cannot change are left out.
    ///
    /// # Errors
    ///
    /// Those of [`Graph::refresh_many`].
    pub async fn refresh_many(
        &self,
        view: &View,
        nodes: Vec<(NodeId, Work)>,
    ) -> Result<ManyRefreshed, Error> {
        let (jobs, seq) = self.graph.refresh_many(view, nodes).await?;
        let n_jobs = jobs.len();
        let settled = self.wait_for(self.waiting.administrators, jobs, seq).await;
        let ready = |outcome: &&Embedded| matches!(outcome, Embedded::Ready { .. });
        let refreshed = settled.iter().filter(ready).count();
        Ok(ManyRefreshed { refreshed, waiting: n_jobs - settled.len() })
    }

    /// Embeds again what is due of the caller's tenant; how many nodes that is.
    ///
    /// # Errors
    ///
    /// Those of [`Graph::refresh_due`].
    pub async fn refresh_due(&self, view: &View) -> Result<usize, Error> {
        let jobs = queue_due(&self.graph, Some(view.tenant().clone())).await?;
        let (n_jobs, seq) = (jobs.len(), self.graph.store().last_seq());
        self.wait_for(self.waiting.administrators, jobs, seq).await;
        Ok(n_jobs)
    }

    /// Waits for the jobs and for both indexes, if this is how changes are answered; what the
    /// jobs came to that were settled in time.
    async fn wait(&self, jobs: Vec<JobId>, written: Seq) -> Vec<Embedded> {
        self.wait_for(self.waiting.callers, jobs, written).await
    }

    async fn wait_for(&self, waiting: Waiting, jobs: Vec<JobId>, written: Seq) -> Vec<Embedded> {
        let Waiting::AtMost(limit) = waiting else { return Vec::new() };
        if jobs.is_empty() {
            return Vec::new();
        }
        let mut settled = Vec::with_capacity(jobs.len());
        let all = async {
            let mut seq = written;
            for job in jobs {
                let told = self.settlements.of(job).await;
                seq = seq.max(told.seq);
                settled.push(told.outcome);
            }
            self.freshness.vectors(seq).await;
            self.freshness.text(seq).await;
        };
        // Running into the limit is an answer too: the node is then still queued.
        let _ = tokio::time::timeout(limit, all).await;
        settled
    }
}
