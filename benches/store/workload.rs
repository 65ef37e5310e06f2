//! What the benches of the store write: the rows that creating a node writes.

use std::time::Duration;

use activekg_storage::queue::{self, NewJob, QueueDef};
use activekg_storage::tables::Json;
use activekg_storage::tables::graph::{EmbeddingStatus, NODES, NodeRecord, add_count, note_tenant};
use activekg_storage::{
    Change, ChangeKind, JobId, NodeId, StorageError, TenantId, UnixMicros, WriteTx,
};

pub(crate) const EMBED: QueueDef = QueueDef {
    name: "embed",
    lease: Duration::from_secs(300),
    max_attempts: 5,
    backoff_base: Duration::from_secs(1),
    backoff_cap: Duration::from_secs(60),
    ..QueueDef::named("embed")
};

/// Numbers that look random and are the same at every run (SplitMix64).
#[derive(Debug, Clone)]
pub(crate) struct Random(pub(crate) u64);

impl Random {
    pub(crate) fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9E37_79B9_7F4A_7C15);
        let mut mixed = self.0;
        mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
        mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
        mixed ^ (mixed >> 31)
    }

    pub(crate) fn id(&mut self) -> u128 {
        u128::from(self.next()) << 64 | u128::from(self.next())
    }
}

/// What ids look like, which decides how many pages a commit writes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Ids {
    /// Random: every row goes to a page of its own. The same at every run.
    Random,
    /// They begin with the time: rows go side by side.
    Time,
}

/// A node to create.
#[derive(Debug, Clone)]
pub(crate) struct NewNode {
    pub(crate) tenant: TenantId,
    pub(crate) node: NodeId,
    pub(crate) job: JobId,
    pub(crate) text_bytes: usize,
    pub(crate) now: UnixMicros,
}

impl NewNode {
    pub(crate) fn draw(
        random: &mut Random,
        ids: Ids,
        tenant: &TenantId,
        text_bytes: usize,
        now: UnixMicros,
    ) -> NewNode {
        let (node, job) = match ids {
            Ids::Random => (NodeId::from_u128(random.id()), JobId::from_u128(random.id())),
            Ids::Time => (NodeId::at(now), JobId::at(now)),
        };
        NewNode { tenant: tenant.clone(), node, job, text_bytes, now }
    }

    /// Writes its row, its counters, its change-log entry and its embedding job.
    pub(crate) fn create(self, tx: &mut WriteTx<'_>) -> Result<(), StorageError> {
        let NewNode { tenant, node, job, text_bytes, now } = self;
        tx.put(&NODES, &(tenant.clone(), node), &record(text_bytes, now))?;
        note_tenant(tx, &tenant, now)?;
        add_count(tx, &tenant, "nodes", 1)?;
        add_count(tx, &tenant, "status.queued", 1)?;
        tx.log(Change { at: now, tenant: tenant.clone(), kind: ChangeKind::NodeText(node) })?;
        let job = NewJob {
            id: job,
            tenant,
            key: Some(node.to_string()),
            payload: format!(r#"{{"node":{}}}"#, node.as_u128()).into_bytes(),
            rank: None,
            run_at: None,
            now,
        };
        queue::enqueue(tx, &EMBED, job).map(drop)
    }
}

fn record(text_bytes: usize, now: UnixMicros) -> NodeRecord {
    const WORDS: &str = "the quick brown fox jumps over the lazy dog and goes on to the next row ";
    let text: String = WORDS.chars().cycle().take(text_bytes).collect();
    NodeRecord {
        classes: vec!["Document".to_owned()],
        props: Json(format!(r#"{{"title":"A title","text":"{text}"}}"#)),
        payload_ref: None,
        metadata: Json::default(),
        refresh_policy: Json::default(),
        triggers: Vec::new(),
        external_id: None,
        version: 1,
        embedding_status: EmbeddingStatus::Queued,
        embedding_error: None,
        embedding_attempts: 0,
        embedding_updated_at: Some(now),
        last_refreshed: None,
        drift_score: None,
        deleted: false,
        text_revision: 1,
        created_at: now,
        updated_at: now,
    }
}
