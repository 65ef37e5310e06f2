//! Whether nodes can be found by their words: a question for restored data, whose indexes are not
//! built yet.

use std::path::Path;

use activekg_index::{FactFilter, IndexError, TextIndex, TextOp, TextOptions, TextQuery, terms};

use super::indexer::document;
use crate::graph::Node;

/// Indexes the words of `nodes` in the new folder `dir`, looks each one up by its own, and returns
/// how many there are with any words.
///
/// # Errors
///
/// When the index cannot be made, or a node is not found.
pub fn find_again(dir: &Path, nodes: &[Node]) -> Result<usize, IndexError> {
    let (index, _) = TextIndex::open(dir, TextOptions::default())?;
    let documents: Vec<_> = nodes.iter().map(document).collect();
    let puts: Vec<TextOp> = documents.iter().cloned().map(TextOp::Put).collect();
    index.apply(&puts)?;
    index.commit(1)?;
    let everything = FactFilter::default();
    let mut found = 0;
    for document in &documents {
        let query = TextQuery {
            text: &document.body,
            tenants: &[document.tenant.as_str()],
            limit: documents.len(),
            facts: &everything,
        };
        let hits = index.search(&query)?;
        if hits.iter().any(|hit| hit.id == document.id) {
            found += 1;
        } else if !terms(&document.body).is_empty() {
            let reason = format!("node {:x} is not found by its own words", document.id);
            return Err(IndexError::Damaged { path: dir.to_owned(), reason });
        }
    }
    Ok(found)
}
