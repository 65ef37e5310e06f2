//! The graph: nodes, edges, events, vectors, and what is remembered of their past.

use serde::{Deserialize, Serialize};

use super::Json;
use crate::codec::{Glance, Record, SkippedText, floats};
use crate::error::StorageError;
use crate::ids::{EventId, NodeId, TenantId};
use crate::read::Readable;
use crate::table::{Scan, Table, TableInfo};
use crate::time::UnixMicros;
use crate::write::WriteTx;

/// (tenant) -> tenant. All tenants that ever wrote, in order of their names.
pub const TENANTS: Table<(TenantId,), TenantRecord> = Table::new("graph.tenants");

/// (tenant, node) -> node. One node; a tenant's nodes in order of their ids.
pub const NODES: Table<(TenantId, NodeId), NodeRecord> = Table::new("graph.nodes");

/// (tenant, external id) -> node. The node that has an external id; one at most.
pub const EXTERNAL_IDS: Table<(TenantId, String), NodeId> = Table::new("graph.external_ids");

/// (tenant, source, relation, target) -> edge. One edge; what leads away from a node, by relation.
pub const EDGES: Table<(TenantId, NodeId, String, NodeId), EdgeRecord> = Table::new("graph.edges");

/// (tenant, target, relation, source). What leads to a node, by relation. A row for every edge.
pub const EDGES_IN: Table<(TenantId, NodeId, String, NodeId), ()> = Table::new("graph.edges_in");

/// (tenant, time, event) -> event. A tenant's events in order of time, either way.
pub const EVENTS: Table<(TenantId, UnixMicros, EventId), EventRecord> = Table::new("graph.events");

/// (tenant, node, time, event). A node's events in order of time. A row for every event.
pub const NODE_EVENTS: Table<(TenantId, NodeId, UnixMicros, EventId), ()> =
    Table::new("graph.node_events");

/// (tenant, node) -> vector. A node's embedding in the first slot; all of a tenant's, to build its
/// index. See [`Slot`].
pub const VECTORS: Table<(TenantId, NodeId), VectorRecord> = Table::new("graph.vectors");

/// (tenant, node) -> vector. A node's embedding in the second slot.
pub const VECTORS_B: Table<(TenantId, NodeId), VectorRecord> = Table::new("graph.vectors_b");

/// (tenant, node) -> windows. Beside the vector in the first slot, where the text is longer than the
/// model reads and more of it was embedded.
pub const WINDOWS: Table<(TenantId, NodeId), WindowsRecord> = Table::new("graph.windows");

/// (tenant, node) -> windows. The same beside the vector in the second slot.
pub const WINDOWS_B: Table<(TenantId, NodeId), WindowsRecord> = Table::new("graph.windows_b");

/// (tenant, node) -> what was tried. Nodes whose vector in the slot that does not serve is not of
/// their present text, while there is such a slot.
pub const BEHIND: Table<(TenantId, NodeId), BehindRecord> = Table::new("graph.behind");

/// (tenant, node) -> text. The text that was embedded, where it is not in the node's facts.
pub const TEXTS: Table<(TenantId, NodeId), TextRecord> = Table::new("graph.texts");

/// (tenant, node, time) -> what a refresh did to a node's embedding. A node's, by time.
pub const HISTORY: Table<(TenantId, NodeId, UnixMicros), HistoryRecord> =
    Table::new("graph.history");

/// (tenant, node, version) -> the node as it was. A node's versions in order, either way.
pub const VERSIONS: Table<(TenantId, NodeId, u32), VersionRecord> = Table::new("graph.versions");

/// (tenant, name) -> count. Kept in the transactions that change what they count.
pub const COUNTS: Table<(TenantId, String), u64> = Table::new("graph.counts");

/// (name) -> how far a sweep is that goes over all nodes. A handful of rows.
pub const SWEEPS: Table<(String,), SweepRecord> = Table::new("graph.sweeps");

/// (tenant, name) -> pattern. What nodes listen for, by name.
pub const PATTERNS: Table<(TenantId, String), PatternRecord> = Table::new("graph.patterns");

/// (tenant, pattern, node). The nodes that listen for a pattern, whether there is one of that name
/// or not. A row for every trigger of a node that is not deleted.
pub const LISTENERS: Table<(TenantId, String, NodeId), ()> = Table::new("graph.listeners");

/// (tenant, node, pattern) -> what it fired for last.
pub const FIRED: Table<(TenantId, NodeId, String), FiredRecord> = Table::new("graph.fired");

/// (due, tenant, node). Nodes in the order in which they are to be refreshed, of all tenants: the
/// scheduler reads its beginning and nothing else.
pub const DUE: Table<(UnixMicros, TenantId, NodeId), ()> = Table::new("graph.due");

/// (tenant, node) -> when it is to be refreshed. Leads to its row in [`DUE`].
pub const DUE_OF: Table<(TenantId, NodeId), DueRecord> = Table::new("graph.due_of");

pub(crate) const TABLES: &[TableInfo] = &[
    TableInfo::of(&TENANTS),
    TableInfo::of(&NODES),
    TableInfo::of(&EXTERNAL_IDS),
    TableInfo::of(&EDGES),
    TableInfo::of(&EDGES_IN),
    TableInfo::of(&EVENTS),
    TableInfo::of(&NODE_EVENTS),
    TableInfo::of(&VECTORS),
    TableInfo::of(&VECTORS_B),
    TableInfo::of(&WINDOWS),
    TableInfo::of(&WINDOWS_B),
    TableInfo::of(&BEHIND),
    TableInfo::of(&TEXTS),
    TableInfo::of(&HISTORY),
    TableInfo::of(&VERSIONS),
    TableInfo::of(&COUNTS),
    TableInfo::of(&SWEEPS),
    TableInfo::of(&PATTERNS),
    TableInfo::of(&LISTENERS),
    TableInfo::of(&FIRED),
    TableInfo::of(&DUE),
    TableInfo::of(&DUE_OF),
];

/// A tenant that has written something.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct TenantRecord {
    /// Its first write.
    pub created_at: UnixMicros,
}

impl Record for TenantRecord {
    const FORMAT: u8 = 1;
}

/// A node.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct NodeRecord {
    /// What kinds of thing it is.
    pub classes: Vec<String>,
    /// Its facts: a JSON object.
    pub props: Json,
    /// Where its content can be fetched.
    pub payload_ref: Option<String>,
    /// What is known about its facts: a JSON object.
    pub metadata: Json,
    /// When it is to be refreshed: a JSON object.
    pub refresh_policy: Json,
    /// What to look for in it.
    pub triggers: Vec<TriggerRecord>,
    /// Its name in the system it came from.
    pub external_id: Option<String>,
    /// Counts its versions, from 1.
    pub version: u32,
    /// How far its embedding is.
    pub embedding_status: EmbeddingStatus,
    /// Why the latest attempt to embed it failed.
    pub embedding_error: Option<String>,
    /// Attempts to embed its present text.
    pub embedding_attempts: u32,
    /// When `embedding_status` last changed.
    pub embedding_updated_at: Option<UnixMicros>,
    /// When it was last refreshed.
    pub last_refreshed: Option<UnixMicros>,
    /// How far its embedding moved at the latest refresh: 1 - cosine, 0 to 2.
    pub drift_score: Option<f64>,
    /// It was deleted, and is kept.
    pub deleted: bool,
    /// Counts changes of the text that is embedded, so that a late embedding is recognised.
    pub text_revision: u64,
    /// When it was created.
    pub created_at: UnixMicros,
    /// When it last changed.
    pub updated_at: UnixMicros,
}

impl Record for NodeRecord {
    const FORMAT: u8 = 1;
}

/// What tells whether a node is listed.
#[derive(Debug, Clone, PartialEq, Deserialize)]
pub struct NodeGlance {
    _classes: Vec<SkippedText>,
    _props: SkippedText,
    _payload_ref: Option<SkippedText>,
    _metadata: SkippedText,
    _refresh_policy: SkippedText,
    _triggers: Vec<(SkippedText, f64)>,
    _external_id: Option<SkippedText>,
    _version: u32,
    _embedding_status: EmbeddingStatus,
    _embedding_error: Option<SkippedText>,
    _embedding_attempts: u32,
    _embedding_updated_at: Option<UnixMicros>,
    /// See [`NodeRecord::last_refreshed`].
    pub last_refreshed: Option<UnixMicros>,
    _drift_score: Option<f64>,
    /// See [`NodeRecord::deleted`].
    pub deleted: bool,
    _text_revision: u64,
    _created_at: UnixMicros,
    _updated_at: UnixMicros,
}

impl Glance for NodeGlance {
    type Of = NodeRecord;
}

/// A pattern that a node watches for.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct TriggerRecord {
    /// Name of the pattern.
    pub name: String,
    /// Least similarity that fires it, -1 to 1.
    pub threshold: f64,
}

/// How far a node's embedding is. Variants are stored by position: new ones go last.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub enum EmbeddingStatus {
    /// Waits for a worker.
    Queued,
    /// A worker has it.
    Processing,
    /// It is there and belongs to the present text.
    Ready,
    /// It was given up.
    Failed,
    /// There is nothing to embed.
    Skipped,
}

/// Values of tables that lead to a node.
impl Record for NodeId {
    const FORMAT: u8 = 1;
}

/// An edge.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct EdgeRecord {
    /// Its facts: a JSON object.
    pub props: Json,
    /// When it was created.
    pub created_at: UnixMicros,
}

impl Record for EdgeRecord {
    const FORMAT: u8 = 1;
}

/// Something that happened to a node.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct EventRecord {
    /// The node.
    pub node: NodeId,
    /// What happened.
    pub kind: String,
    /// Particulars: a JSON document.
    pub payload: Json,
    /// Who did it.
    pub actor_id: Option<String>,
    /// What kind of actor that is.
    pub actor_type: Option<String>,
}

impl Record for EventRecord {
    const FORMAT: u8 = 1;
}

/// The embedding of a node.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct VectorRecord {
    /// The model that made it.
    pub model: String,
    /// The node's [`text_revision`](NodeRecord::text_revision) it was made from.
    pub text_revision: u64,
    /// SHA-256 of the text it was made from.
    pub text_sha256: [u8; 32],
    /// The vector.
    #[serde(with = "floats")]
    pub values: Vec<f32>,
}

impl Record for VectorRecord {
    const FORMAT: u8 = 1;
}

/// What was embedded of a text beyond the first window.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct WindowsRecord {
    /// What became of the windows.
    pub mode: WindowsMode,
    /// The vectors of the further windows, one after another, each as long as the node's.
    #[serde(with = "floats")]
    pub values: Vec<f32>,
}

impl Record for WindowsRecord {
    const FORMAT: u8 = 1;
}

/// What became of the windows of a text. Variants are stored by position.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub enum WindowsMode {
    /// The node's vector is the mean of all; none is kept by itself.
    Mean,
    /// The node's vector is the first window's, and the others are kept.
    Best,
}

/// One of two places for the vectors of a model. While the model is being changed both are filled,
/// and searches work with one of them. Variants are stored by position.
#[derive(
    Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default, Serialize, Deserialize,
)]
pub enum Slot {
    /// [`VECTORS`], where every store begins.
    #[default]
    A,
    /// [`VECTORS_B`].
    B,
}

impl Slot {
    /// Both.
    pub const ALL: [Slot; 2] = [Slot::A, Slot::B];

    /// The vectors in it.
    #[must_use]
    pub fn vectors(self) -> &'static Table<(TenantId, NodeId), VectorRecord> {
        match self {
            Self::A => &VECTORS,
            Self::B => &VECTORS_B,
        }
    }

    /// The further windows beside those vectors.
    #[must_use]
    pub fn windows(self) -> &'static Table<(TenantId, NodeId), WindowsRecord> {
        match self {
            Self::A => &WINDOWS,
            Self::B => &WINDOWS_B,
        }
    }

    /// The other one.
    #[must_use]
    pub fn other(self) -> Slot {
        match self {
            Self::A => Self::B,
            Self::B => Self::A,
        }
    }
}

/// A node whose vector in the other slot is to be made.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct BehindRecord {
    /// Attempts that failed.
    pub attempts: u32,
    /// Not before this instant.
    pub due: Option<UnixMicros>,
    /// Why the latest attempt failed.
    pub error: Option<String>,
}

impl Record for BehindRecord {
    const FORMAT: u8 = 1;
}

/// The text of a node.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct TextRecord {
    /// The text.
    pub text: String,
}

impl Record for TextRecord {
    const FORMAT: u8 = 1;
}

/// What a refresh did to a node's embedding.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct HistoryRecord {
    /// How far it moved: 1 - cosine, 0 to 2; nothing at the first.
    pub drift: Option<f64>,
    /// Where the embedding is kept, if it is.
    pub embedding_ref: Option<String>,
}

impl Record for HistoryRecord {
    const FORMAT: u8 = 1;
}

/// A node as it once was.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct VersionRecord {
    /// The node: a JSON object.
    pub snapshot: Json,
    /// When the version came to be.
    pub created_at: UnixMicros,
}

impl Record for VersionRecord {
    const FORMAT: u8 = 1;
}

/// How far a sweep over all nodes is. It is begun anew when its rules are others.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct SweepRecord {
    /// What it holds nodes against.
    pub rules: String,
    /// The last node looked at; nothing before the first.
    pub at: Option<(TenantId, NodeId)>,
    /// Nodes looked at.
    pub checked: u64,
    /// Nodes that were not as the rules want them.
    pub found: u64,
    /// When it had looked at all.
    pub finished_at: Option<UnixMicros>,
}

impl Record for SweepRecord {
    const FORMAT: u8 = 1;
}

/// Something that nodes listen for.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct PatternRecord {
    /// A text that is an example of it.
    pub example_text: String,
    /// What it is for.
    pub description: Option<String>,
    /// Counts the changes of `example_text`, over all patterns that had this name.
    pub revision: u64,
    /// The model that made the vector.
    pub model: String,
    /// The vector of `example_text`.
    #[serde(with = "floats")]
    pub values: Vec<f32>,
    /// When it was first registered.
    pub created_at: UnixMicros,
    /// When it was last registered.
    pub updated_at: UnixMicros,
}

impl Record for PatternRecord {
    const FORMAT: u8 = 1;
}

/// What a pattern last fired for at a node: it does so once.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct FiredRecord {
    /// SHA-256 of the node's text.
    pub text_sha256: [u8; 32],
    /// The pattern's [`revision`](PatternRecord::revision).
    pub revision: u64,
}

impl Record for FiredRecord {
    const FORMAT: u8 = 1;
}

/// When a node is to be refreshed.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct DueRecord {
    /// The instant.
    pub at: UnixMicros,
    /// Refreshes in a row that failed.
    pub failures: u32,
}

impl Record for DueRecord {
    const FORMAT: u8 = 1;
}

/// Adds `delta` to the counter `name` and returns what it stands at. It does not go below zero.
///
/// # Errors
///
/// As for every read, or a fault of the disk.
pub fn add_count(
    tx: &mut WriteTx<'_>,
    tenant: &TenantId,
    name: &str,
    delta: i64,
) -> Result<u64, StorageError> {
    let key = (tenant.clone(), name.to_owned());
    let before = tx.get(&COUNTS, &key)?.unwrap_or(0);
    let after = before.saturating_add_signed(delta);
    if after != before {
        tx.put(&COUNTS, &key, &after)?;
    }
    Ok(after)
}

/// What the counter `name` stands at.
///
/// # Errors
///
/// As for every read.
pub fn count(tx: &impl Readable, tenant: &TenantId, name: &str) -> Result<u64, StorageError> {
    let key = (tenant.clone(), name.to_owned());
    Ok(tx.get(&COUNTS, &key)?.unwrap_or(0))
}

/// Notes that `tenant` has written something, unless that is known.
///
/// # Errors
///
/// As for every read, or a fault of the disk.
pub fn note_tenant(
    tx: &mut WriteTx<'_>,
    tenant: &TenantId,
    now: UnixMicros,
) -> Result<(), StorageError> {
    let key = (tenant.clone(),);
    if !tx.contains(&TENANTS, &key)? {
        tx.put(&TENANTS, &key, &TenantRecord { created_at: now })?;
    }
    Ok(())
}

/// All tenants that ever wrote, [`TenantId::shared`] included if it did.
///
/// # Errors
///
/// As for every read.
pub fn tenants(tx: &impl Readable) -> Result<Vec<TenantId>, StorageError> {
    tx.scan(&TENANTS, Scan::all())?.map(|row| row.map(|((tenant,), _)| tenant)).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::codec;

    #[test]
    fn a_glance_sees_what_the_record_has() {
        let text = |text: &str| Json(text.to_owned());
        let bare = NodeRecord {
            classes: Vec::new(),
            props: text("{}"),
            payload_ref: None,
            metadata: text("{}"),
            refresh_policy: text("{}"),
            triggers: Vec::new(),
            external_id: None,
            version: 1,
            embedding_status: EmbeddingStatus::Queued,
            embedding_error: None,
            embedding_attempts: 0,
            embedding_updated_at: None,
            last_refreshed: None,
            drift_score: None,
            deleted: false,
            text_revision: 1,
            created_at: UnixMicros(0),
            updated_at: UnixMicros(0),
        };
        let full = NodeRecord {
            classes: vec!["Document".to_owned(), "Öl".to_owned()],
            props: Json(format!(r#"{{"text":"{}"}}"#, "long ".repeat(2_000))),
            payload_ref: Some("file:///a".to_owned()),
            triggers: vec![TriggerRecord { name: "fire".to_owned(), threshold: 0.85 }],
            external_id: Some("doc".to_owned()),
            embedding_status: EmbeddingStatus::Failed,
            embedding_error: Some("none".to_owned()),
            embedding_updated_at: Some(UnixMicros(-5)),
            last_refreshed: Some(UnixMicros(1_770_000_000_000_001)),
            drift_score: Some(0.5),
            deleted: true,
            ..bare.clone()
        };
        for record in [bare, full] {
            let bytes = codec::encode(b"key", &record).unwrap();
            let seen: NodeGlance = codec::glance(b"key", &bytes).unwrap();
            assert_eq!(
                (seen.deleted, seen.last_refreshed),
                (record.deleted, record.last_refreshed)
            );
            assert!(codec::glance::<NodeGlance>(b"other", &bytes).is_err());
            assert!(codec::glance::<NodeGlance>(b"key", &bytes[..bytes.len() - 1]).is_err());
        }
    }
}
