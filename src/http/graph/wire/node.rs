//! Nodes: creating, batches, replacing, and how one is shown.

use serde::Serialize;
use serde_json::{Map, Value};
use uuid::Uuid;

use super::policy::{self, Trigger};
use super::tenant;
use crate::http::extract::Input;
use crate::http::json::{Document, Step};
use crate::http::validate::{At, Checked, Fields, Item};

/// Classes of a node at most.
const CLASSES_MAX: usize = 10;
/// Characters in a class at most.
const CLASS_LENGTH_MAX: usize = 100;
/// Characters in a payload reference at most, blanks around it included.
const PAYLOAD_REF_MAX: usize = 500;
/// Nodes in a batch at most; the operator may set a lower limit.
pub const BATCH_MAX: usize = 500;

/// Body of POST /nodes.
#[derive(Debug, Clone, PartialEq)]
pub struct NodeCreate {
    /// 1 to 10 labels of at most 100 characters.
    pub classes: Vec<String>,
    /// The caller's properties.
    pub props: Map<String, Value>,
    /// Where the text is loaded from, without blanks around it.
    pub payload_ref: Option<String>,
    /// Properties that searches filter on.
    pub metadata: Map<String, Value>,
    /// When and how the node refreshes itself; its schedule, if any, is usable.
    pub refresh_policy: Map<String, Value>,
    /// Patterns it listens to, each name once.
    pub triggers: Vec<Trigger>,
    /// The tenant it names.
    pub tenant_id: Option<String>,
    /// Whether fields are extracted from its text.
    pub extract: Option<bool>,
    /// Whether that happens before it is embedded.
    pub extract_before_embed: Option<bool>,
}

impl NodeCreate {
    fn check(at: At<'_>) -> Checked<Self> {
        let mut fields = at.fields()?;
        let node = Self {
            classes: fields.required("classes", classes),
            props: fields.required("props", |at| at.object()),
            payload_ref: fields.nullable("payload_ref", payload_ref).flatten(),
            metadata: fields.optional("metadata", Map::new(), |at| at.object()),
            refresh_policy: fields.optional("refresh_policy", Map::new(), policy::refresh_policy),
            triggers: fields.optional("triggers", Vec::new(), policy::triggers),
            tenant_id: fields.optional("tenant_id", None, tenant),
            extract: fields.nullable("extract", |at| at.bool()),
            extract_before_embed: fields.nullable("extract_before_embed", |at| at.bool()),
        };
        fields.finish().map(|()| node)
    }
}

impl Input for NodeCreate {
    fn parse(body: &Value) -> Checked<Self> {
        Self::check(At::body(body))
    }
}

/// Body of POST /nodes/batch.
#[derive(Debug, Clone, PartialEq)]
pub struct NodeBatch {
    /// 1 to 500 nodes, in order.
    pub nodes: Vec<BatchItem>,
    /// The tenant of those that name none.
    pub tenant_id: Option<String>,
    /// Whether the nodes after a failed one are still written.
    pub continue_on_error: bool,
    /// For the nodes that do not say.
    pub extract: Option<bool>,
    /// For the nodes that do not say.
    pub extract_before_embed: Option<bool>,
}

/// One node of a batch.
#[derive(Debug, Clone, PartialEq)]
pub struct BatchItem {
    /// What was sent.
    pub node: NodeCreate,
    /// Why it cannot be stored. Such a node fails alone.
    pub refused: Option<&'static str>,
}

impl Input for NodeBatch {
    fn parse(body: &Value) -> Checked<Self> {
        let mut fields = At::body(body).fields()?;
        let item = |at: At<'_>| NodeCreate::check(at).map(|node| BatchItem { node, refused: None });
        let batch = Self {
            nodes: fields.required("nodes", |at| at.list_of(1, BATCH_MAX, item)),
            tenant_id: fields.optional("tenant_id", None, tenant),
            continue_on_error: fields.optional("continue_on_error", true, |at| at.bool()),
            extract: fields.nullable("extract", |at| at.bool()),
            extract_before_embed: fields.nullable("extract_before_embed", |at| at.bool()),
        };
        fields.finish().map(|()| batch)
    }

    /// A node with a NUL fails alone, as a node that cannot be stored does.
    fn parse_document(document: &Document) -> Checked<Self> {
        let mut refused = Vec::new();
        for nul in &document.nuls {
            match nul.path.as_slice() {
                [Step::Key(key), Step::Index(index)] if key == "nodes" => refused.push(*index),
                _ => return Err(vec![nul.item()]),
            }
        }
        let mut batch = Self::parse(&document.value)?;
        for index in refused {
            if let Some(item) = batch.nodes.get_mut(index) {
                item.refused = Some("NUL characters are not allowed");
            }
        }
        Ok(batch)
    }
}

/// Body of PUT /nodes/{id}: each member replaces the stored one whole, absent and null leave it.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct NodePut {
    /// New labels.
    pub classes: Option<Vec<String>>,
    /// New properties.
    pub props: Option<Map<String, Value>>,
    /// A new payload reference; a blank one removes it.
    pub payload_ref: Option<Option<String>>,
    /// New filterable properties.
    pub metadata: Option<Map<String, Value>>,
    /// A new refresh policy.
    pub refresh_policy: Option<Map<String, Value>>,
    /// New triggers.
    pub triggers: Option<Vec<Trigger>>,
    /// The tenant it names.
    pub tenant_id: Option<String>,
}

impl Input for NodePut {
    fn parse(body: &Value) -> Checked<Self> {
        let mut fields: Fields<'_> = At::body(body).fields()?;
        let put = Self {
            classes: fields.nullable("classes", classes),
            props: fields.nullable("props", |at| at.object()),
            payload_ref: fields.nullable("payload_ref", payload_ref),
            metadata: fields.nullable("metadata", |at| at.object()),
            refresh_policy: fields.nullable("refresh_policy", policy::refresh_policy),
            triggers: fields.nullable("triggers", policy::triggers),
            tenant_id: fields.optional("tenant_id", None, tenant),
        };
        fields.finish().map(|()| put)
    }
}

pub(super) fn classes(at: At<'_>) -> Checked<Vec<String>> {
    let classes = at.list_of(1, CLASSES_MAX, |at| at.string())?;
    if classes.iter().any(|class| class.chars().count() > CLASS_LENGTH_MAX) {
        return at.value_error("Class names must be strings under 100 characters");
    }
    Ok(classes)
}

/// Nothing for a blank one: it names no place.
fn payload_ref(at: At<'_>) -> Checked<Option<String>> {
    let text = at.string_of(0, PAYLOAD_REF_MAX)?;
    let trimmed = text.trim_matches(super::is_blank);
    Ok((!trimmed.is_empty()).then(|| trimmed.to_owned()))
}

impl crate::http::json::Nul {
    /// The fault of a body that has this NUL.
    pub(crate) fn item(&self) -> Item {
        Item::json_invalid("NUL character in string", self.offset)
    }
}

/// Answer of POST /nodes.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct NodeCreated {
    /// The new node.
    pub id: Uuid,
    /// Where its embedding stands, when jobs are reported.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub embedding_status: Option<&'static str>,
    /// The job that embeds it, when jobs are reported.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub job_id: Option<Uuid>,
}

/// Answer of POST /nodes/batch.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct BatchAnswer {
    /// Nodes written.
    pub created: usize,
    /// Nodes refused.
    pub failed: usize,
    /// One for each node that was tried, in order.
    pub results: Vec<BatchResult>,
}

/// What became of one node of a batch.
#[derive(Debug, Clone, PartialEq, Serialize)]
#[serde(untagged)]
pub enum BatchResult {
    /// It was written.
    Created {
        /// The new node.
        id: Uuid,
        /// Its owner.
        tenant_id: String,
        /// Where its embedding stands, when jobs are reported.
        embedding_status: Option<&'static str>,
        /// The job that embeds it, when jobs are reported.
        job_id: Option<Uuid>,
    },
    /// It was not.
    Failed {
        /// A generic cause.
        error: String,
        /// Who would have owned it.
        tenant_id: String,
    },
}

/// A node as GET and PUT show it.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct NodeView {
    /// Its id.
    pub id: Uuid,
    /// Labels.
    pub classes: Vec<String>,
    /// The caller's properties and the stamps of embedding.
    pub props: Map<String, Value>,
    /// Where its text is loaded from.
    pub payload_ref: Option<String>,
    /// Properties that searches filter on.
    pub metadata: Map<String, Value>,
    /// When and how it refreshes itself.
    pub refresh_policy: Map<String, Value>,
    /// Patterns it listens to.
    pub triggers: Vec<Trigger>,
    /// Counts the PUTs, from 1.
    pub version: u32,
    /// Where its embedding stands.
    pub embedding_status: &'static str,
    /// Why it failed or was skipped.
    pub embedding_error: Option<String>,
    /// Jobs started for it.
    pub embedding_attempts: u32,
    /// When the status last changed.
    pub embedding_updated_at: Option<String>,
}

/// A node in a listing.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct NodeSummary {
    /// Its id.
    pub id: Uuid,
    /// Labels.
    pub classes: Vec<String>,
    /// Whether it has a vector.
    pub has_embedding: bool,
    /// Where its embedding stands.
    pub embedding_status: &'static str,
    /// Why it failed or was skipped.
    pub embedding_error: Option<String>,
    /// Jobs started for it.
    pub embedding_attempts: u32,
    /// Its properties, when asked for.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub props: Option<Map<String, Value>>,
}

/// Answer of GET /nodes.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct NodeList {
    /// One page, by id.
    pub nodes: Vec<NodeSummary>,
    /// Nodes that match, on all pages.
    pub total: u64,
    /// Size of a page.
    pub limit: usize,
    /// Nodes before this page.
    pub offset: usize,
}

/// Answer of GET /nodes/by-external-id.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct ExternalNode {
    /// Its id.
    pub id: Uuid,
    /// Its owner.
    pub tenant_id: String,
    /// Labels.
    pub classes: Vec<String>,
    /// Its properties.
    pub props: Map<String, Value>,
    /// Properties that searches filter on.
    pub metadata: Map<String, Value>,
    /// Where its text is loaded from.
    pub payload_ref: Option<String>,
}

/// Answer of DELETE /nodes/{id}.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct NodeDeleted {
    /// The node.
    pub id: Uuid,
    /// `deleted`.
    pub status: &'static str,
    /// Whether nothing of it is left.
    pub hard: bool,
}

/// Answer of POST /nodes/{id}/refresh.
#[derive(Debug, Clone, PartialEq, Serialize)]
#[serde(untagged)]
pub enum RefreshAnswer {
    /// It waited.
    Done(NodeRefreshed),
    /// It did not.
    Queued(RefreshQueued),
}

/// Answer of POST /nodes/{id}/refresh that waited.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct NodeRefreshed {
    /// The node.
    pub id: Uuid,
    /// 1 - cosine of the old and the new vector.
    pub drift_score: Option<f64>,
    /// When the vector was written.
    pub last_refreshed: Option<String>,
    /// The event, if the drift was above the node's threshold.
    pub event_id: Option<Uuid>,
}

/// Answer of POST /nodes/{id}/refresh that did not wait.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct RefreshQueued {
    /// The node.
    pub id: Uuid,
    /// `queued`.
    pub status: &'static str,
    /// The job.
    pub job_id: Uuid,
}

/// Answer of GET /nodes/{id}/versions.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct VersionList {
    /// The node that was asked for, as it was written.
    pub node_id: String,
    /// Newest first.
    pub versions: Vec<VersionView>,
    /// How many.
    pub count: usize,
}

/// One embedding of a node.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct VersionView {
    /// 0 is the newest.
    pub version_index: usize,
    /// How far it moved from the one before.
    pub drift_score: Option<f64>,
    /// When it was written.
    pub created_at: String,
    /// The payload reference at that time.
    pub embedding_ref: Option<String>,
}
