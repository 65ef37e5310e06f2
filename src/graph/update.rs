//! Changing a node.

use activekg_storage::changes::{Change, ChangeKind};
use activekg_storage::ids::{JobId, NodeId};
use activekg_storage::tables::Json;
use activekg_storage::tables::graph::{
    EXTERNAL_IDS, EmbeddingStatus, NODES, TEXTS, VERSIONS, VersionRecord,
};
use activekg_storage::{Readable, Seq, WriteTx, queue};
use serde_json::{Value, json};

use super::embedded::{self, QUEUE, STAMPS};
use super::node::{self, Object};
use super::{Error, Graph, Node, Trigger, View, delete, fire, row, text};

/// What a PUT replaces; what is `None` stays as it is.
#[derive(Debug, Clone, Default)]
pub struct NodeChanges {
    /// Labels.
    pub classes: Option<Vec<String>>,
    /// The caller's properties.
    pub props: Option<Object>,
    /// Where the text is loaded from; `Some(None)` = from the props again.
    pub payload_ref: Option<Option<String>>,
    /// Properties that searches filter on.
    pub metadata: Option<Object>,
    /// When and how the node refreshes itself.
    pub refresh_policy: Option<Object>,
    /// Patterns it listens to.
    pub triggers: Option<Vec<Trigger>>,
}

impl Graph {
    /// Changes a node of the caller's own tenant: keeps the old state as a version, and queues an
    /// embedding if the text to embed is another. Returns the node as it then is, and the job.
    ///
    /// # Errors
    ///
    /// [`Error::NodeNotFound`] (also for shared nodes, which are read-only),
    /// [`Error::ExternalIdTaken`], the queue limits, [`Error::NoSpace`], the store's own.
    pub async fn update(
        &self,
        view: &View,
        id: NodeId,
        changes: NodeChanges,
    ) -> Result<(Node, Option<JobId>, Seq), Error> {
        let now = self.clock.now();
        self.space.check(now)?;
        let tenant = view.tenant().clone();
        let settings = self.settings.clone();
        let job = JobId::at(now);
        let committed = self
            .store
            .write(move |tx| -> Result<(Node, Option<JobId>), Error> {
                let key = (tenant.clone(), id);
                let before = tx.get(&NODES, &key)?.ok_or(Error::NodeNotFound)?;
                let old = Node::from_record(tenant.clone(), id, before.clone())?;
                let mut node = old.clone();
                apply(&mut node, changes.clone());
                if old.is_deleted() && !node.is_deleted() {
                    delete::unmark(&mut node);
                }
                node.version += 1;
                node.updated_at = now;
                let prefix = settings.embedding_prefix;
                let same_text = source(&old, prefix) == source(&node, prefix);
                let reembed =
                    settings.auto_embed && !node.is_deleted() && (!same_text || old.is_deleted());
                if reembed {
                    embedded::admit(tx, &settings, std::iter::once(&tenant))?;
                }
                rename(tx, &old, &node)?;
                if same_text {
                    keep_stamps(&old, &mut node);
                } else {
                    node.text_revision += 1;
                }
                if node.is_deleted() {
                    delete::stamp(&mut node, now, settings.retention);
                    queue::remove_by_key(tx, &QUEUE, &tenant, &id.to_string())?;
                }
                let job = if reembed {
                    node.embedding_status = EmbeddingStatus::Queued;
                    node.embedding_error = None;
                    node.embedding_updated_at = Some(now);
                    Some(embedded::enqueue(tx, &tenant, id, embedded::Work::automatic(job), now)?)
                } else {
                    None
                };
                if old.payload_ref != node.payload_ref {
                    tx.remove(&TEXTS, &key)?; // of what it led to before
                }
                if job.is_none() && old.triggers != node.triggers {
                    fire::check_node(tx, &key, now)?;
                }
                let snapshot = VersionRecord { snapshot: snapshot(&old), created_at: now };
                tx.put(&VERSIONS, &(tenant.clone(), id, old.version), &snapshot)?;
                let after = node.to_record();
                row::write(tx, &key, Some(&before), &after)?;
                let kind = if node.is_deleted() {
                    ChangeKind::NodeRemoved(id)
                } else {
                    ChangeKind::NodeText(id)
                };
                tx.log(Change { at: now, tenant: tenant.clone(), kind })?;
                if old.is_deleted() && !node.is_deleted() {
                    tx.log(Change {
                        at: now,
                        tenant: tenant.clone(),
                        kind: ChangeKind::NodeVector(id),
                    })?;
                }
                Ok((node, job))
            })
            .await?;
        let (node, job) = committed.value;
        Ok((node, job, committed.seq))
    }
}

/// Replaces what `changes` names.
fn apply(node: &mut Node, changes: NodeChanges) {
    let NodeChanges { classes, props, payload_ref, metadata, refresh_policy, triggers } = changes;
    if let Some(classes) = classes {
        node.classes = classes;
    }
    if let Some(props) = props {
        node.props = props;
    }
    if let Some(payload_ref) = payload_ref {
        node.payload_ref = payload_ref;
    }
    if let Some(metadata) = metadata {
        node.metadata = metadata;
    }
    if let Some(refresh_policy) = refresh_policy {
        node.refresh_policy = refresh_policy;
    }
    if let Some(triggers) = triggers {
        node.triggers = triggers;
    }
}

/// Carries over what the embedding stamped into the props: it still holds for the same text.
pub(super) fn keep_stamps(old: &Node, new: &mut Node) {
    for key in STAMPS {
        if let (Some(value), false) = (old.props.get(key), new.props.contains_key(key)) {
            new.props.insert(key.to_owned(), value.clone());
        }
    }
}

/// What decides the text that is embedded.
pub(super) fn source(node: &Node, prefix: bool) -> (Option<&str>, String) {
    (node.payload_ref.as_deref(), text::to_embed(node, node.text(), prefix))
}

/// Moves the node's external id, if it has another one now.
pub(super) fn rename(tx: &mut WriteTx<'_>, old: &Node, new: &Node) -> Result<(), Error> {
    if old.external_id() == new.external_id() {
        return Ok(());
    }
    if let Some(name) = new.external_id() {
        let key = (new.tenant.clone(), name.to_owned());
        if let Some(existing) = tx.get(&EXTERNAL_IDS, &key)? {
            return Err(Error::ExternalIdTaken { existing });
        }
        tx.put(&EXTERNAL_IDS, &key, &new.id)?;
    }
    if let Some(name) = old.external_id() {
        tx.remove(&EXTERNAL_IDS, &(old.tenant.clone(), name.to_owned()))?;
    }
    Ok(())
}

/// The state a PUT replaced.
fn snapshot(node: &Node) -> Json {
    let triggers: Vec<Value> = node
        .triggers
        .iter()
        .map(|Trigger { name, threshold }| json!({ "name": name, "threshold": threshold }))
        .collect();
    let mut snapshot = Object::new();
    snapshot.insert("classes".to_owned(), json!(node.classes));
    snapshot.insert("props".to_owned(), Value::Object(node.props.clone()));
    snapshot.insert("payload_ref".to_owned(), json!(node.payload_ref));
    snapshot.insert("metadata".to_owned(), Value::Object(node.metadata.clone()));
    snapshot.insert("refresh_policy".to_owned(), Value::Object(node.refresh_policy.clone()));
    snapshot.insert("triggers".to_owned(), Value::Array(triggers));
    node::json(&snapshot)
}
