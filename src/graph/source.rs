//! Documents of sources: what is known of one, when it is gone there, when only what is said of it
//! changed.

use activekg_storage::changes::{Change, ChangeKind};
use activekg_storage::ids::TenantId;
use activekg_storage::tables::graph::{EXTERNAL_IDS, NODES, NodeRecord};
use activekg_storage::time::UnixMicros;
use activekg_storage::{Readable, WriteTx, queue};
use serde_json::Value;

use super::embedded::QUEUE;
use super::slots::Key;
use super::{Error, Graph, Node, Object, delete, document, row};

/// What is known of a document by what was said of it when it was taken in.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct KnownDocument {
    /// The source's tag of the content.
    pub etag: Option<String>,
    /// The SHA-256 of the text, in hexadecimal.
    pub content_hash: Option<String>,
    /// The generation of the object.
    pub generation: Option<String>,
    /// The place of the latest change among those of the object.
    pub sequencer: Option<String>,
    /// It is soft-deleted.
    pub is_deleted: bool,
    /// It is so because its source had the object no more, and not because somebody deleted it.
    pub is_deleted_by_source: bool,
}

/// Whether somebody, and not its source, deleted the node of a row.
#[must_use]
pub fn is_deleted_by_hand(record: &NodeRecord) -> bool {
    record.deleted
        && !serde_json::from_str(record.props.as_str())
            .is_ok_and(|props: Object| delete::is_by_source(&props))
}

impl Graph {
    /// What is known of a tenant's documents of these names; `None` for those that are not there.
    ///
    /// # Errors
    ///
    /// The store's own.
    pub async fn known_documents(
        &self,
        tenant: &TenantId,
        names: Vec<String>,
    ) -> Result<Vec<Option<KnownDocument>>, Error> {
        let tenant = tenant.clone();
        self.reading(move |tx| {
            let known = names.into_iter().map(|name| {
                let Some((_, node)) = find(tx, &tenant, name)? else { return Ok(None) };
                let text =
                    |name: &str| node.props.get(name).and_then(Value::as_str).map(str::to_owned);
                Ok(Some(KnownDocument {
                    etag: text("etag"),
                    content_hash: text("content_hash"),
                    generation: text("generation"),
                    sequencer: text("sequencer"),
                    is_deleted: node.is_deleted(),
                    is_deleted_by_source: delete::is_by_source(&node.props),
                }))
            });
            known.collect()
        })
        .await
    }

    /// Soft-deletes a document with its chunks because its source has the object no more: they leave every listing, search and answer at once,
    /// and keep their vectors until they are purged. False if it is not there, or deleted already. A
    /// full disk does not stop it.
    ///
    /// # Errors
    ///
    /// The store's own.
    pub async fn delete_document(&self, tenant: &TenantId, name: &str) -> Result<bool, Error> {
        let (now, retention) = (self.clock.now(), self.settings.retention);
        let (tenant, name) = (tenant.clone(), name.to_owned());
        let deleted = self.store.make_room(move |tx| -> Result<bool, Error> {
            let Some((key, parent)) = find(tx, &tenant, name.clone())? else { return Ok(false) };
            let chunks = document::chunks_from(tx, &tenant, &name, parent.id, 0)?;
            let chunks = chunks.into_iter().map(|id| (tenant.clone(), id));
            let mut any = false;
            for key in std::iter::once(key).chain(chunks) {
                any |= hide(tx, &key, now, retention)?;
            }
            Ok(any)
        });
        Ok(deleted.await?.value)
    }

    /// Writes down what a source says now of a document whose text is the same as before: `said`
    /// takes the place of properties of the parent node, null removes one. False if it is not there.
    ///
    /// # Errors
    ///
    /// [`Error::NoSpace`], the store's own.
    pub async fn describe_document(
        &self,
        tenant: &TenantId,
        name: &str,
        said: Object,
    ) -> Result<bool, Error> {
        let now = self.clock.now();
        self.space.check(now)?;
        let (tenant, name) = (tenant.clone(), name.to_owned());
        let described = self.store.write(move |tx| -> Result<bool, Error> {
            let Some((key, mut node)) = find(tx, &tenant, name.clone())? else { return Ok(false) };
            let before = node.to_record();
            for (name, value) in &said {
                if value.is_null() {
                    node.props.shift_remove(name);
                } else {
                    node.props.insert(name.clone(), value.clone());
                }
            }
            node.updated_at = now;
            row::write(tx, &key, Some(&before), &node.to_record())?;
            let kind = ChangeKind::NodeText(node.id);
            tx.log(Change { at: now, tenant: tenant.clone(), kind })?;
            Ok(true)
        });
        Ok(described.await?.value)
    }
}

/// The node of this name.
fn find(tx: &impl Readable, tenant: &TenantId, name: String) -> Result<Option<(Key, Node)>, Error> {
    let Some(id) = tx.get(&EXTERNAL_IDS, &(tenant.clone(), name))? else { return Ok(None) };
    let key = (tenant.clone(), id);
    let Some(record) = tx.get(&NODES, &key)? else { return Ok(None) };
    let node = Node::from_record(tenant.clone(), id, record)?;
    Ok(Some((key, node)))
}

/// Soft-deletes one node; false if it was so already.
fn hide(
    tx: &mut WriteTx<'_>,
    key: &Key,
    now: UnixMicros,
    retention: std::time::Duration,
) -> Result<bool, Error> {
    let Some(before) = tx.get(&NODES, key)?.filter(|node| !node.deleted) else { return Ok(false) };
    let (tenant, id) = key;
    let mut node = Node::from_record(tenant.clone(), *id, before.clone())?;
    delete::mark(&mut node, now, retention);
    delete::by_source(&mut node);
    row::write(tx, key, Some(&before), &node.to_record())?;
    queue::remove_by_key(tx, &QUEUE, tenant, &id.to_string())?;
    tx.log(Change { at: now, tenant: tenant.clone(), kind: ChangeKind::NodeRemoved(*id) })?;
    Ok(true)
}
