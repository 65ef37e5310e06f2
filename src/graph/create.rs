//! New nodes, alone or many at a time.

use activekg_storage::ids::{JobId, NodeId, TenantId};
use activekg_storage::tables::graph::{EXTERNAL_IDS, EmbeddingStatus, note_tenant};
use activekg_storage::time::UnixMicros;
use activekg_storage::{Change, ChangeKind, Readable, Seq, WriteTx};

use super::{Error, Graph, Node, Object, Trigger, embedded, row};

/// Error text of nodes that nobody asked to embed.
pub(super) const AUTO_EMBED_OFF: &str = "auto_embed_disabled";

/// A node to be written.
#[derive(Debug, Clone)]
pub struct NewNode {
    /// Its owner.
    pub tenant: TenantId,
    /// Labels, 1 to 10.
    pub classes: Vec<String>,
    /// The caller's properties.
    pub props: Object,
    /// Where its text is loaded from, if not from `props`.
    pub payload_ref: Option<String>,
    /// Properties that searches filter on.
    pub metadata: Object,
    /// When and how it refreshes itself.
    pub refresh_policy: Object,
    /// Patterns it listens to.
    pub triggers: Vec<Trigger>,
}

/// A node that was written.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Created {
    /// Its id.
    pub id: NodeId,
    /// Its owner.
    pub tenant: TenantId,
    /// Where its embedding stands.
    pub status: EmbeddingStatus,
    /// The job that will embed it, if one will.
    pub job: Option<JobId>,
}

/// What became of one node of many.
pub type NodeOutcome = Result<Created, Error>;

impl Graph {
    /// Writes a node and, when text is embedded by itself, the job that embeds it. The sequence
    /// number is that of the commit.
    ///
    /// # Errors
    ///
    /// [`Error::ExternalIdTaken`], the queue limits, [`Error::NoSpace`], the store's own.
    pub async fn create(&self, new: NewNode) -> Result<(Created, Seq), Error> {
        let (mut outcomes, seq) = self.create_many(vec![new], true).await?;
        let outcome = outcomes.pop().expect("one node gives one outcome");
        Ok((outcome?, seq))
    }

    /// Writes nodes in order, in one transaction. A node that is refused for a fault of its own
    /// does not stop the others, unless `go_on` is off: then the outcomes end with it, and what
    /// came before it stays.
    ///
    /// # Errors
    ///
    /// The queue limits, counted for all nodes together, [`Error::NoSpace`], the store's own.
    pub async fn create_many(
        &self,
        new: Vec<NewNode>,
        go_on: bool,
    ) -> Result<(Vec<NodeOutcome>, Seq), Error> {
        let now = self.clock.now();
        self.space.check(now)?;
        let made = |new| self.made(NodeId::at(now), new, now);
        let nodes: Vec<Node> = new.into_iter().map(made).collect();
        let jobs: Vec<JobId> = nodes.iter().map(|_| JobId::at(now)).collect();
        let settings = self.settings.clone();
        let committed = self
            .store
            .write(move |tx| -> Result<Vec<NodeOutcome>, Error> {
                if settings.auto_embed {
                    embedded::admit(tx, &settings, nodes.iter().map(|node| &node.tenant))?;
                }
                let mut outcomes = Vec::with_capacity(nodes.len());
                for (node, job) in nodes.iter().zip(&jobs) {
                    let job = settings.auto_embed.then_some(*job);
                    let outcome = insert(tx, node, job, now);
                    match outcome {
                        Err(error @ Error::Storage(_)) => return Err(error),
                        Err(error) => {
                            outcomes.push(Err(error));
                            if !go_on {
                                break;
                            }
                        }
                        created => outcomes.push(created),
                    }
                }
                Ok(outcomes)
            })
            .await?;
        Ok((committed.value, committed.seq))
    }

    /// The node that `new` becomes, with this id.
    pub(super) fn made(&self, id: NodeId, new: NewNode, now: UnixMicros) -> Node {
        let NewNode { tenant, classes, props, payload_ref, metadata, refresh_policy, triggers } =
            new;
        let (status, error) = if self.settings.auto_embed {
            (EmbeddingStatus::Queued, None)
        } else {
            (EmbeddingStatus::Skipped, Some(AUTO_EMBED_OFF.to_owned()))
        };
        let mut node = Node {
            id,
            tenant,
            classes,
            props,
            payload_ref,
            metadata,
            refresh_policy,
            triggers,
            version: 1,
            embedding_status: status,
            embedding_error: error,
            embedding_attempts: 0,
            embedding_updated_at: Some(now),
            last_refreshed: None,
            drift_score: None,
            text_revision: 1,
            created_at: now,
            updated_at: now,
            loaded: None,
        };
        if node.is_deleted() {
            super::delete::stamp(&mut node, now, self.settings.retention);
        }
        node
    }
}

/// Writes one node with its names, counters, change and job, if it is to have one; checks before it
/// writes.
pub(super) fn insert(
    tx: &mut WriteTx<'_>,
    node: &Node,
    job: Option<JobId>,
    now: UnixMicros,
) -> Result<Created, Error> {
    let tenant = node.tenant.clone();
    if let Some(external_id) = node.external_id() {
        let key = (tenant.clone(), external_id.to_owned());
        if let Some(existing) = tx.get(&EXTERNAL_IDS, &key)? {
            return Err(Error::ExternalIdTaken { existing });
        }
        tx.put(&EXTERNAL_IDS, &key, &node.id)?;
    }
    let record = node.to_record();
    row::write(tx, &(tenant.clone(), node.id), None, &record)?;
    note_tenant(tx, &tenant, now)?;
    tx.log(Change { at: now, tenant: tenant.clone(), kind: ChangeKind::NodeText(node.id) })?;
    let job = match job {
        Some(job) => {
            Some(embedded::enqueue(tx, &tenant, node.id, embedded::Work::automatic(job), now)?)
        }
        None => None,
    };
    Ok(Created { id: node.id, tenant, status: node.embedding_status, job })
}
