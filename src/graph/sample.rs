//! Queries that nodes themselves suggest.

use activekg_storage::ids::{NodeId, TenantId};
use activekg_storage::tables::graph::NODES;
use activekg_storage::{Readable, Scan};

use super::{Error, Graph, Node, counts, text};

/// Longest query, in characters.
const LENGTH_MAX: usize = 200;

/// A text to search for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SampledQuery {
    /// Whose nodes to search.
    pub tenant: TenantId,
    /// What to search for.
    pub text: String,
    /// The node it was taken from.
    pub node: Option<NodeId>,
}

impl Graph {
    /// A query from each of about `n` embedded nodes, spread evenly over all in order of their
    /// keys: the title, else the first sentence.
    ///
    /// # Errors
    ///
    /// The store's own.
    pub async fn sample_queries(&self, n: usize) -> Result<Vec<SampledQuery>, Error> {
        self.reading(move |tx| {
            let every = (counts::listed(tx)? as usize / n.max(1)).max(1);
            let mut queries = Vec::new();
            for row in tx.scan(&NODES, Scan::all())?.step_by(every) {
                let ((tenant, id), record) = row?;
                if record.deleted || record.last_refreshed.is_none() {
                    continue;
                }
                let node = Node::from_record(tenant.clone(), id, record)?;
                if let Some(text) = query_of(&node) {
                    queries.push(SampledQuery { tenant, text, node: Some(id) });
                }
                if queries.len() == n {
                    break;
                }
            }
            Ok(queries)
        })
        .await
    }
}

/// What one would ask for to find the node.
fn query_of(node: &Node) -> Option<String> {
    let title = text::title(&node.props).filter(|title| !title.trim().is_empty());
    let words = title.unwrap_or_else(|| first_sentence(node.text()));
    let words: String = words.trim().chars().take(LENGTH_MAX).collect();
    (!words.is_empty()).then_some(words)
}

/// Up to the first end of a sentence or line.
fn first_sentence(text: &str) -> &str {
    let text = text.trim_start();
    let ends = [". ", "? ", "! ", "\n"];
    let end = ends.iter().filter_map(|end| text.find(end)).min();
    end.map_or(text, |end| &text[..=end])
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_first_sentence_ends_with_its_mark() {
        assert_eq!(first_sentence(" Does it lift? Yes."), "Does it lift?");
        assert_eq!(first_sentence("One line\nand another."), "One line\n");
        assert_eq!(first_sentence("3.5 m"), "3.5 m");
        assert_eq!(first_sentence(""), "");
    }
}
