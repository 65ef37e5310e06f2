//! What changed nodes are now, for the indexes.

use std::collections::BTreeMap;

use activekg_index::{TextDoc, TextOp, VectorOp};
use activekg_storage::changes::{ChangeKind, ChangeRecord};
use activekg_storage::ids::{NodeId, TenantId};
use activekg_storage::tables::graph::{NODES, NodeRecord, Slot, VectorRecord, WindowsRecord};
use activekg_storage::{ReadTx, Readable, Seq, StorageError};

use super::{Progress, StepError};
use crate::graph::{self, Node, text};
use crate::search::{facts, windows};

/// Changes for the indexes.
#[derive(Default)]
pub(super) struct Batch {
    /// Nodes they are of.
    pub(super) nodes: usize,
    pub(super) text: Vec<TextOp>,
    pub(super) vectors: BTreeMap<Slot, Vec<VectorOp>>,
}

impl Batch {
    /// Adds what a node is now to the indexes that want it: words if `text`, and the slots that
    /// are given, each with its vector if it has one.
    pub(super) fn node(
        &mut self,
        tx: &ReadTx,
        (tenant, id): (&TenantId, NodeId),
        record: Option<NodeRecord>,
        vectors: Vec<InSlot>,
        text: bool,
    ) -> Result<(), graph::Error> {
        self.nodes += 1;
        let live = record.filter(|record| !record.deleted);
        for InSlot { slot, vector, windows } in vectors {
            let ops = self.vectors.entry(slot).or_default();
            let mut op = |id, values: Option<Vec<f32>>| {
                let tenant = || tenant.as_str().to_owned();
                ops.push(match values {
                    Some(values) => VectorOp::Put { id, tenant: tenant(), values },
                    None => VectorOp::Remove { id },
                });
            };
            let vector = vector.filter(|_| live.is_some());
            let further = windows.filter(|_| vector.is_some()).map_or(Vec::new(), |w| w.values);
            let dim = vector.as_ref().map_or(1, |vector| vector.values.len().max(1));
            let mut further = further.chunks_exact(dim).map(<[f32]>::to_vec);
            op(id.as_u128(), vector.map(|vector| vector.values));
            for n in 0..windows::FURTHER_MAX {
                if let Some(window) = windows::entry(id.as_u128(), n) {
                    op(window, further.next());
                }
            }
        }
        if text {
            self.text.push(match live {
                Some(record) => {
                    let node = Node::from_record(tenant.clone(), id, record)?.with_text(tx)?;
                    TextOp::Put(document(&node))
                }
                None => TextOp::Remove { id: id.as_u128() },
            });
        }
        Ok(())
    }
}

/// What a node has in a slot.
pub(super) struct InSlot {
    slot: Slot,
    vector: Option<VectorRecord>,
    windows: Option<WindowsRecord>,
}

/// A node's vectors in each slot. All slots are read, for one may be taken into use between this
/// and the writing.
pub(super) fn slots(tx: &ReadTx, key: &(TenantId, NodeId)) -> Result<Vec<InSlot>, StorageError> {
    let in_slot = |slot: Slot| {
        let vector = tx.get(slot.vectors(), key)?;
        let windows = if vector.is_some() { tx.get(slot.windows(), key)? } else { None };
        Ok(InSlot { slot, vector, windows })
    };
    Slot::ALL.into_iter().map(in_slot).collect()
}

/// The last state of each changed node, once.
pub(super) fn gather(
    tx: &ReadTx,
    changes: Vec<(Seq, ChangeRecord)>,
    applied: Progress,
) -> Result<Batch, StepError> {
    let mut nodes: BTreeMap<(TenantId, NodeId), (bool, bool)> = BTreeMap::new();
    for (seq, ChangeRecord { at: _, tenant, kind }) in changes {
        let (id, text, vectors) = match kind {
            ChangeKind::NodeText(id) => (id, true, false),
            ChangeKind::NodeVector(id) => (id, false, true),
            ChangeKind::NodeRemoved(id) => (id, true, true),
        };
        let wanted = nodes.entry((tenant, id)).or_default();
        wanted.0 |= text && seq > applied.text;
        wanted.1 |= vectors && seq > applied.vectors;
    }
    let mut batch = Batch::default();
    for ((tenant, id), (text, vectors)) in nodes {
        let key = (tenant.clone(), id);
        let record = tx.get(&NODES, &key)?;
        let vectors = if vectors { slots(tx, &key)? } else { Vec::new() };
        batch.node(tx, (&tenant, id), record, vectors, text)?;
    }
    Ok(batch)
}

/// The words and facts of a node.
pub(in crate::search) fn document(node: &Node) -> TextDoc {
    TextDoc {
        id: node.id.as_u128(),
        tenant: node.tenant.as_str().to_owned(),
        title: text::title(&node.props).unwrap_or_default().to_owned(),
        body: node.text().to_owned(),
        metadata: if node.metadata.is_empty() {
            String::new()
        } else {
            serde_json::to_string(&node.metadata).expect("a JSON object always has a text form")
        },
        facts: facts::of(node),
    }
}
