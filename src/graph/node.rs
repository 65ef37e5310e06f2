//! A node as the program works with it, and how it is kept.

use activekg_storage::ids::{NodeId, TenantId};
use activekg_storage::tables::Json;
use activekg_storage::tables::graph::{EmbeddingStatus, NodeRecord, TEXTS, TriggerRecord};
use activekg_storage::time::UnixMicros;
use activekg_storage::{Readable, StorageError};
use serde_json::{Map, Value};

use super::{Error, text};

/// A JSON object, in the order it was sent.
pub type Object = Map<String, Value>;

/// The class that marks a node as soft-deleted.
pub const DELETED_CLASS: &str = "Deleted";

/// A pattern that a node listens to.
#[derive(Debug, Clone, PartialEq)]
pub struct Trigger {
    /// Name of the pattern.
    pub name: String,
    /// Cosine similarity from which the pattern fires.
    pub threshold: f64,
}

/// A node with its JSON parsed.
#[derive(Debug, Clone)]
pub struct Node {
    /// Its id, unique across tenants.
    pub id: NodeId,
    /// Its owner; the shared owner's rows are visible to all tenants.
    pub tenant: TenantId,
    /// Labels, 1 to 10.
    pub classes: Vec<String>,
    /// The caller's properties, with the keys that embedding stamps.
    pub props: Object,
    /// Where the text is loaded from, if not from `props`.
    pub payload_ref: Option<String>,
    /// Properties that searches filter on.
    pub metadata: Object,
    /// When and how the node refreshes itself; empty = never.
    pub refresh_policy: Object,
    /// Patterns it listens to.
    pub triggers: Vec<Trigger>,
    /// Counts what replaced its content, PUTs and documents taken in again, from 1.
    pub version: u32,
    /// Where its embedding stands.
    pub embedding_status: EmbeddingStatus,
    /// Why it failed or was skipped.
    pub embedding_error: Option<String>,
    /// Jobs started for it; stays 0 when creates wait for their embedding.
    pub embedding_attempts: u32,
    /// When the embedding status last changed.
    pub embedding_updated_at: Option<UnixMicros>,
    /// When its vector was last written.
    pub last_refreshed: Option<UnixMicros>,
    /// 1 - cosine of the last two vectors, 0 to 2.
    pub drift_score: Option<f64>,
    /// Changes whenever the text to embed may have changed.
    pub text_revision: u64,
    /// When it was created.
    pub created_at: UnixMicros,
    /// When it was last written.
    pub updated_at: UnixMicros,
    /// What `payload_ref` led to last, for readers that ask for it with [`Node::with_text`].
    pub loaded: Option<String>,
}

impl Node {
    /// The text that stands for the node: what was loaded for it, else its first inline text, or
    /// nothing.
    pub fn text(&self) -> &str {
        self.loaded.as_deref().or_else(|| text::inline(&self.props)).unwrap_or_default()
    }

    /// The node with the text that its `payload_ref` led to last.
    ///
    /// # Errors
    ///
    /// The store's own.
    pub fn with_text(mut self, tx: &impl Readable) -> Result<Self, StorageError> {
        if self.payload_ref.is_some() {
            let kept = tx.get(&TEXTS, &(self.tenant.clone(), self.id))?;
            self.loaded = kept.map(|kept| kept.text);
        }
        Ok(self)
    }

    /// The caller's stable name for the node, if it gave one.
    pub fn external_id(&self) -> Option<&str> {
        self.props.get("external_id").and_then(Value::as_str)
    }

    /// Whether the node is soft-deleted: kept and readable by id, but out of every listing,
    /// search and answer.
    pub fn is_deleted(&self) -> bool {
        self.classes.iter().any(|class| class == DELETED_CLASS)
    }

    /// Whether a vector of the node is kept.
    pub fn has_embedding(&self) -> bool {
        self.last_refreshed.is_some()
    }

    /// The drift above which an embedding writes a `refreshed` event.
    pub fn drift_threshold(&self) -> f64 {
        const DEFAULT: f64 = 0.1;
        self.refresh_policy.get("drift_threshold").and_then(Value::as_f64).unwrap_or(DEFAULT)
    }

    /// The parsed form of a stored row.
    ///
    /// # Errors
    ///
    /// [`Error::Storage`] when the JSON in the row does not parse.
    pub fn from_record(tenant: TenantId, id: NodeId, record: NodeRecord) -> Result<Self, Error> {
        let NodeRecord {
            classes,
            props,
            payload_ref,
            metadata,
            refresh_policy,
            triggers,
            external_id: _, // part of props
            version,
            embedding_status,
            embedding_error,
            embedding_attempts,
            embedding_updated_at,
            last_refreshed,
            drift_score,
            deleted: _, // follows from classes
            text_revision,
            created_at,
            updated_at,
        } = record;
        Ok(Self {
            id,
            tenant,
            classes,
            props: object(&props)?,
            payload_ref,
            metadata: object(&metadata)?,
            refresh_policy: object(&refresh_policy)?,
            triggers: triggers
                .into_iter()
                .map(|TriggerRecord { name, threshold }| Trigger { name, threshold })
                .collect(),
            version,
            embedding_status,
            embedding_error,
            embedding_attempts,
            embedding_updated_at,
            last_refreshed,
            drift_score,
            text_revision,
            created_at,
            updated_at,
            loaded: None,
        })
    }

    /// The row that keeps this node.
    pub fn to_record(&self) -> NodeRecord {
        let Self {
            id: _,     // part of the key
            tenant: _, // part of the key
            classes,
            props,
            payload_ref,
            metadata,
            refresh_policy,
            triggers,
            version,
            embedding_status,
            embedding_error,
            embedding_attempts,
            embedding_updated_at,
            last_refreshed,
            drift_score,
            text_revision,
            created_at,
            updated_at,
            loaded: _, // in a table of its own
        } = self;
        NodeRecord {
            classes: classes.clone(),
            props: json(props),
            payload_ref: payload_ref.clone(),
            metadata: json(metadata),
            refresh_policy: json(refresh_policy),
            triggers: triggers
                .iter()
                .map(|Trigger { name, threshold }| TriggerRecord {
                    name: name.clone(),
                    threshold: *threshold,
                })
                .collect(),
            external_id: self.external_id().map(str::to_owned),
            version: *version,
            embedding_status: *embedding_status,
            embedding_error: embedding_error.clone(),
            embedding_attempts: *embedding_attempts,
            embedding_updated_at: *embedding_updated_at,
            last_refreshed: *last_refreshed,
            drift_score: *drift_score,
            deleted: self.is_deleted(),
            text_revision: *text_revision,
            created_at: *created_at,
            updated_at: *updated_at,
        }
    }
}

/// The kept form of an object.
pub(crate) fn json(object: &Object) -> Json {
    Json::from(serde_json::to_string(object).expect("a JSON object always has a text form"))
}

/// The object in a kept text.
pub(crate) fn object(json: &Json) -> Result<Object, Error> {
    serde_json::from_str(json.as_str()).map_err(|error| Error::BadJson(error.to_string()))
}
