//! Documents: a parent node, a node for each chunk of its text, and the edges between them.
//!
//! A document is written by its name as often as one likes. What is there and the same is left
//! alone, with its vector; what differs is changed in place; chunks that it no longer has go, with
//! everything that belongs to them.

use std::ops::Range;

use activekg_storage::changes::{Change, ChangeKind};
use activekg_storage::ids::{JobId, NodeId, TenantId};
use activekg_storage::tables::graph::{
    EDGES, EDGES_IN, EXTERNAL_IDS, EdgeRecord, EmbeddingStatus, NODES,
};
use activekg_storage::time::UnixMicros;
use activekg_storage::{Readable, Scan, Seq, WriteTx};
use serde_json::{Value, json};

use super::lineage::DERIVED_FROM;
use super::node::{self, Object};
use super::update::{keep_stamps, rename, source};
use super::{Error, Graph, NewNode, Node, Settings, create, delete, embedded, row};
use crate::documents::identity;

/// The class of every chunk.
const CHUNK: &str = "Chunk";
/// The class of parents that their chunks do not share.
const DOCUMENT: &str = "Document";
/// Why parents have no vector: their text is that of their chunks.
const NO_TEXT: &str = "empty_text";
/// Marks of soft-deleted nodes.
const MARKS: [&str; 2] = ["deleted_at", "deletion_grace_until"];

/// A document to be written.
#[derive(Debug, Clone)]
pub struct NewDocument {
    /// Its owner.
    pub tenant: TenantId,
    /// Its name, with the tenant in it; the ids follow from it. See [`identity::external_id`].
    pub external_id: String,
    /// What to call it.
    pub title: String,
    /// Labels of the parent; the chunks have them too, but for `Document`.
    pub classes: Vec<String>,
    /// Properties of the parent, besides those that every parent has.
    pub props: Object,
    /// Properties of the chunks, besides those that every chunk has.
    pub chunk_props: Object,
    /// Its text, in order.
    pub chunks: Vec<NewChunk>,
}

/// A chunk to be written.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct NewChunk {
    /// Its words.
    pub text: String,
    /// Which characters of the document's text it is.
    pub chars: Range<usize>,
}

/// A document that was taken in.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Taken {
    /// Its parent node.
    pub id: NodeId,
    /// What was done.
    pub change: DocumentChange,
    /// The chunks it has.
    pub chunks: usize,
    /// The jobs that embed those of them that need it.
    pub jobs: Vec<JobId>,
}

/// What taking in a document did.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum DocumentChange {
    /// It was not there, or only deleted.
    Created,
    /// Something of it differed.
    Updated,
    /// Nothing of it differed.
    Unchanged,
}

/// A document with its nodes made.
struct Plan {
    name: String,
    parent: Node,
    chunks: Vec<(Node, Object, JobId)>,
}

/// What became of one node.
struct Written {
    is_new: bool,
    is_changed: bool,
    wants_vector: bool,
}

impl Graph {
    /// Writes documents in order, each in whole or not at all, all in one transaction. A document
    /// that is refused for a fault of its own does not stop the others. The sequence number is that
    /// of the commit.
    ///
    /// # Errors
    ///
    /// The queue limits, counted for what has to be embedded of all documents together: then
    /// nothing is written; [`Error::NoSpace`], the store's own. Of a document:
    /// [`Error::ExternalIdTaken`] when other nodes of its tenant have the names of its own.
    pub async fn take_in(
        &self,
        documents: Vec<NewDocument>,
    ) -> Result<(Vec<Result<Taken, Error>>, Seq), Error> {
        let now = self.clock.now();
        self.space.check(now)?;
        let plans: Vec<Plan> = documents.into_iter().map(|new| self.plan(new, now)).collect();
        let settings = self.settings.clone();
        let committed = self
            .store
            .write(move |tx| -> Result<Vec<Result<Taken, Error>>, Error> {
                let mut outcomes = Vec::with_capacity(plans.len());
                for plan in &plans {
                    match write(tx, plan, &settings, now) {
                        Err(refused @ Error::ExternalIdTaken { .. }) => outcomes.push(Err(refused)),
                        Err(fault) => return Err(fault),
                        taken => outcomes.push(taken),
                    }
                }
                admit_and_queue(tx, &plans, &mut outcomes, &settings, now)?;
                Ok(outcomes)
            })
            .await?;
        Ok((committed.value, committed.seq))
    }

    /// The nodes that a document becomes.
    fn plan(&self, new: NewDocument, now: UnixMicros) -> Plan {
        let NewDocument { tenant, external_id, title, classes, props, chunk_props, chunks } = new;
        let total = chunks.len();
        let of_chunk = chunk_classes(&classes);
        let plain = |classes, props| NewNode {
            tenant: tenant.clone(),
            classes,
            props,
            payload_ref: None,
            metadata: Object::new(),
            refresh_policy: Object::new(),
            triggers: Vec::new(),
        };
        let chunks = chunks.into_iter().enumerate().map(|(index, chunk)| {
            let NewChunk { text, chars } = chunk;
            let name = identity::chunk(&external_id, index);
            let id = identity::node_id(&name);
            let mut props = object([
                ("text", text.into()),
                ("chunk_index", index.into()),
                ("total_chunks", total.into()),
                ("parent_id", external_id.as_str().into()),
                ("parent_title", title.as_str().into()),
                ("external_id", name.into()),
            ]);
            props.extend(chunk_props.clone());
            let edge = object([
                ("chunk_index", index.into()),
                ("total_chunks", total.into()),
                ("char_start", chars.start.into()),
                ("char_end", chars.end.into()),
            ]);
            (self.made(id, plain(of_chunk.clone(), props), now), edge, JobId::at(now))
        });
        let chunks = chunks.collect();
        let mut whole = object([
            ("title", title.as_str().into()),
            ("external_id", external_id.as_str().into()),
        ]);
        whole.extend(props);
        whole.extend(object([("is_parent", json!(true)), ("has_chunks", json!(total > 0))]));
        let mut parent = self.made(identity::node_id(&external_id), plain(classes, whole), now);
        parent.embedding_status = EmbeddingStatus::Skipped;
        parent.embedding_error = Some(NO_TEXT.to_owned());
        Plan { name: external_id, parent, chunks }
    }
}

fn object<const N: usize>(members: [(&str, Value); N]) -> Object {
    members.into_iter().map(|(name, value)| (name.to_owned(), value)).collect()
}

/// The labels of the chunks of a parent with these.
fn chunk_classes(classes: &[String]) -> Vec<String> {
    let shared = classes.iter().filter(|class| ![CHUNK, DOCUMENT].contains(&class.as_str()));
    std::iter::once(CHUNK.to_owned()).chain(shared.cloned()).collect()
}

/// Writes one document; its jobs are named and not yet queued.
fn write(
    tx: &mut WriteTx<'_>,
    plan: &Plan,
    settings: &Settings,
    now: UnixMicros,
) -> Result<Taken, Error> {
    let Plan { name, parent, chunks } = plan;
    let nodes = std::iter::once(parent).chain(chunks.iter().map(|(node, ..)| node));
    for node in nodes {
        refuse_taken(tx, node)?;
    }
    let top = put(tx, parent, settings, now)?;
    let mut is_changed = top.is_changed;
    let mut jobs = Vec::new();
    for (node, edge, job) in chunks {
        let written = put(tx, node, settings, now)?;
        is_changed |= written.is_changed | connect(tx, node, parent.id, edge, now)?;
        if written.wants_vector {
            jobs.push(*job);
        }
    }
    is_changed |= remove_surplus(tx, name, parent, chunks.len(), now)? > 0;
    let change = match (top.is_new, is_changed) {
        (true, _) => DocumentChange::Created,
        (false, true) => DocumentChange::Updated,
        (false, false) => DocumentChange::Unchanged,
    };
    Ok(Taken { id: parent.id, change, chunks: chunks.len(), jobs })
}

/// Queues the jobs that the outcomes name, if there is room for all of them.
fn admit_and_queue(
    tx: &mut WriteTx<'_>,
    plans: &[Plan],
    outcomes: &mut [Result<Taken, Error>],
    settings: &Settings,
    now: UnixMicros,
) -> Result<(), Error> {
    let jobs = outcomes.iter().map(|outcome| outcome.as_ref().map_or(0, |taken| taken.jobs.len()));
    let tenants =
        plans.iter().zip(jobs).flat_map(|(plan, n)| std::iter::repeat_n(&plan.parent.tenant, n));
    embedded::admit(tx, settings, tenants)?;
    for (plan, outcome) in plans.iter().zip(outcomes) {
        let Ok(Taken { jobs, .. }) = outcome else { continue };
        // Both are in the order of the chunks.
        let mut jobs = jobs.iter_mut().peekable();
        for (node, _, named) in &plan.chunks {
            let Some(job) = jobs.next_if(|job| *job == named) else { continue };
            let work = embedded::Work::automatic(*named);
            // A node that waits already keeps the job that it has.
            *job = embedded::enqueue(tx, &node.tenant, node.id, work, now)?;
        }
    }
    Ok(())
}

/// Refuses a name that another node of the tenant has.
fn refuse_taken(tx: &WriteTx<'_>, node: &Node) -> Result<(), Error> {
    let Some(name) = node.external_id() else { return Ok(()) };
    match tx.get(&EXTERNAL_IDS, &(node.tenant.clone(), name.to_owned()))? {
        Some(existing) if existing != node.id => Err(Error::ExternalIdTaken { existing }),
        Some(_) | None => Ok(()),
    }
}

/// Writes a node in place of the one that is there, if it differs in labels or properties.
/// Everything else that is kept of it stays. A deleted node is revived.
fn put(
    tx: &mut WriteTx<'_>,
    new: &Node,
    settings: &Settings,
    now: UnixMicros,
) -> Result<Written, Error> {
    let key = (new.tenant.clone(), new.id);
    let has_text = !new.text().is_empty();
    let embeds = has_text && settings.auto_embed && !new.is_deleted();
    let Some(before) = tx.get(&NODES, &key)? else {
        create::insert(tx, new, None, now)?;
        return Ok(Written { is_new: true, is_changed: true, wants_vector: embeds });
    };
    let old = Node::from_record(new.tenant.clone(), new.id, before.clone())?;
    let mut node = Node { classes: new.classes.clone(), props: new.props.clone(), ..old.clone() };
    if old.is_deleted() && node.is_deleted() {
        for mark in MARKS {
            node.props.extend(old.props.get(mark).map(|at| (mark.to_owned(), at.clone())));
        }
    }
    let prefix = settings.embedding_prefix;
    let same_text = source(&old, prefix) == source(&node, prefix);
    if same_text {
        keep_stamps(&old, &mut node);
    } else {
        node.text_revision += 1;
    }
    let is_revived = old.is_deleted() && !node.is_deleted();
    let wants_vector = embeds
        && match old.embedding_status {
            EmbeddingStatus::Failed | EmbeddingStatus::Skipped => true,
            EmbeddingStatus::Ready => !same_text,
            // What waits is embedded by the text it has then; deleting took it out of the queue.
            EmbeddingStatus::Queued | EmbeddingStatus::Processing => !same_text || is_revived,
        };
    let is_changed = node.classes != old.classes || node.props != old.props;
    if !is_changed && !wants_vector {
        return Ok(Written { is_new: false, is_changed, wants_vector });
    }
    rename(tx, &old, &node)?;
    if wants_vector {
        node.embedding_status = EmbeddingStatus::Queued;
        node.embedding_error = None;
        node.embedding_updated_at = Some(now);
    }
    if is_changed {
        node.version += 1;
    }
    node.updated_at = now;
    let after = node.to_record();
    row::write(tx, &key, Some(&before), &after)?;
    let mut log = |kind| tx.log(Change { at: now, tenant: new.tenant.clone(), kind });
    if node.is_deleted() {
        log(ChangeKind::NodeRemoved(new.id))?;
    } else {
        log(ChangeKind::NodeText(new.id))?;
    }
    if is_revived {
        log(ChangeKind::NodeVector(new.id))?;
    }
    Ok(Written { is_new: is_revived, is_changed, wants_vector })
}

/// Writes the edge from a chunk to its parent; whether it differs from the one that was there.
fn connect(
    tx: &mut WriteTx<'_>,
    chunk: &Node,
    parent: NodeId,
    props: &Object,
    now: UnixMicros,
) -> Result<bool, Error> {
    let rel = DERIVED_FROM.to_owned();
    let key = (chunk.tenant.clone(), chunk.id, rel.clone(), parent);
    let props = node::json(props);
    let before = tx.get(&EDGES, &key)?;
    if before.as_ref().is_some_and(|edge| edge.props == props) {
        return Ok(false);
    }
    let created_at = before.map_or(now, |edge| edge.created_at);
    tx.put(&EDGES, &key, &EdgeRecord { props, created_at })?;
    tx.put(&EDGES_IN, &(chunk.tenant.clone(), parent, rel, chunk.id), &())?;
    Ok(true)
}

/// Removes the chunks from number `n` on; how many. Other nodes that derive from the parent stay.
fn remove_surplus(
    tx: &mut WriteTx<'_>,
    document: &str,
    parent: &Node,
    n: usize,
    now: UnixMicros,
) -> Result<usize, Error> {
    let surplus = chunks_from(tx, &parent.tenant, document, parent.id, n)?;
    for id in &surplus {
        delete::purge(tx, &parent.tenant, *id, now)?;
    }
    Ok(surplus.len())
}

/// The chunks of a document from number `n` on, in no order. Other nodes that derive from the parent
/// are none of them.
pub(super) fn chunks_from(
    tx: &WriteTx<'_>,
    tenant: &TenantId,
    document: &str,
    parent: NodeId,
    n: usize,
) -> Result<Vec<NodeId>, Error> {
    let edges = tx.scan(&EDGES_IN, Scan::prefix(&(tenant.clone(), parent)))?;
    let derived = edges.map(|row| row.map(|((_, _, _, src), ())| src));
    let mut chunks = Vec::new();
    for id in derived.collect::<Result<Vec<_>, _>>()? {
        let node = tx.get(&NODES, &(tenant.clone(), id))?;
        let Some(name) = node.and_then(|node| node.external_id) else { continue };
        let index = identity::chunk_index(document, &name);
        if index.is_some_and(|index| index >= n) && identity::node_id(&name) == id {
            chunks.push(id);
        }
    }
    // One that has other edges to the parent as well was found by each.
    chunks.sort_unstable();
    chunks.dedup();
    Ok(chunks)
}
