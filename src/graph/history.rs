//! The embeddings a node has had.

use activekg_storage::ids::NodeId;
use activekg_storage::tables::graph::HISTORY;
use activekg_storage::time::UnixMicros;
use activekg_storage::{Readable, Scan};

use super::{Error, Graph, View, read};

/// One embedding of a node.
#[derive(Debug, Clone, PartialEq)]
pub struct HistoryEntry {
    /// 1 - cosine to the embedding before it, 0 for the first.
    pub drift: Option<f64>,
    /// Where the text came from, if not from the props.
    pub embedding_ref: Option<String>,
    /// When it was written.
    pub created_at: UnixMicros,
}

impl Graph {
    /// The embeddings a node has had, newest first, at most `limit`; none for a node that the
    /// caller cannot see.
    ///
    /// # Errors
    ///
    /// The store's own.
    pub async fn history(
        &self,
        view: &View,
        id: NodeId,
        limit: usize,
    ) -> Result<Vec<HistoryEntry>, Error> {
        let owners = view.owners();
        self.reading(move |tx| {
            let Some((owner, _)) = read::find(tx, &owners, id)? else { return Ok(Vec::new()) };
            let scan = Scan::prefix(&(owner, id)).reversed();
            tx.scan(&HISTORY, scan)?
                .take(limit)
                .map(|row| {
                    let ((_, _, created_at), record) = row?;
                    let (drift, embedding_ref) = (record.drift, record.embedding_ref);
                    Ok(HistoryEntry { drift, embedding_ref, created_at })
                })
                .collect()
        })
        .await
    }
}
