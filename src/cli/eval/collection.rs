//! Judged collections in files.

use std::collections::HashMap;
use std::fs;
use std::path::Path;

use anyhow::{Context, bail};
use serde::Deserialize;
use serde_json::{Map, Value};

use crate::search::eval::Gains;

/// Documents, and queries with what each document is worth to them.
#[derive(Debug)]
pub(super) struct Collection {
    pub(super) documents: Vec<Document>,
    /// Only those with judgements.
    pub(super) queries: Vec<Query>,
    /// Number of judgements that count.
    pub(super) judgements: usize,
    /// What a person should know about the files.
    pub(super) notes: Vec<String>,
}

/// A document as the properties its node would have.
#[derive(Debug)]
pub(super) struct Document {
    pub(super) props: Map<String, Value>,
}

/// A query; documents are named by their place in the collection.
#[derive(Debug)]
pub(super) struct Query {
    pub(super) text: String,
    pub(super) gains: Gains<u128>,
}

#[derive(Deserialize)]
struct DocumentLine {
    id: Id,
    #[serde(default)]
    title: String,
    text: String,
}

#[derive(Deserialize)]
struct QueryLine {
    id: Id,
    text: String,
}

/// An id, written as a string or a number.
#[derive(Deserialize)]
#[serde(untagged)]
enum Id {
    Text(String),
    Number(u64),
}

impl From<Id> for String {
    fn from(id: Id) -> Self {
        match id {
            Id::Text(text) => text,
            Id::Number(number) => number.to_string(),
        }
    }
}

impl Collection {
    /// Reads the three files. Judgements of queries or documents that are not there do not stop
    /// it: such a document counts as one that no search finds, and a note says how many there are.
    pub(super) fn read(docs: &Path, queries: &Path, qrels: &Path) -> anyhow::Result<Self> {
        let mut document_ids = HashMap::new();
        let mut documents: Vec<Document> = Vec::new();
        lines(docs, |line| {
            let DocumentLine { id, title, text } = serde_json::from_str(line)?;
            if document_ids.insert(String::from(id), documents.len() as u128).is_some() {
                bail!("a document of this id came before");
            }
            documents.push(document(title, text));
            Ok(())
        })?;
        let mut query_ids = HashMap::new();
        let mut all_queries = Vec::new();
        lines(queries, |line| {
            let QueryLine { id, text } = serde_json::from_str(line)?;
            if query_ids.insert(String::from(id), all_queries.len()).is_some() {
                bail!("a query of this id came before");
            }
            all_queries.push(Query { text, gains: Gains::new() });
            Ok(())
        })?;
        let (mut judgements, mut unknown_queries, mut unknown_documents) = (0, 0, 0);
        lines(qrels, |line| {
            let fields: Vec<&str> = line.split('\t').map(str::trim).collect();
            let &[query, document, gain] = fields.as_slice() else {
                bail!("{} fields, not query, document and gain", fields.len());
            };
            let gain: u32 = gain.parse().with_context(|| format!("the gain {gain:?}"))?;
            let Some(&query) = query_ids.get(query) else {
                unknown_queries += 1;
                return Ok(());
            };
            let id = document_ids.get(document).copied().unwrap_or_else(|| {
                unknown_documents += 1;
                u128::MAX - unknown_documents
            });
            all_queries[query].gains.insert(id, gain);
            judgements += 1;
            Ok(())
        })?;
        all_queries.retain(|query| query.gains.values().any(|&gain| gain > 0));
        if documents.is_empty() || all_queries.is_empty() {
            bail!("nothing to measure: no documents, or no query with a judgement above 0");
        }
        let mut notes = Vec::new();
        if unknown_queries > 0 {
            notes.push(format!("{unknown_queries} judgements are of queries that are not there"));
        }
        if unknown_documents > 0 {
            notes.push(format!("{unknown_documents} judged documents are not there, so not found"));
        }
        Ok(Self { documents, queries: all_queries, judgements, notes })
    }
}

/// The node of a document: `text` is title and text, as a reader would see both.
fn document(title: String, text: String) -> Document {
    let whole = if title.is_empty() { text } else { format!("{title}. {text}") };
    let mut props = Map::new();
    if !title.is_empty() {
        props.insert("title".to_owned(), Value::String(title));
    }
    props.insert("text".to_owned(), Value::String(whole));
    Document { props }
}

/// Hands each line that is not blank to `take`; an error names file and line.
fn lines(path: &Path, mut take: impl FnMut(&str) -> anyhow::Result<()>) -> anyhow::Result<()> {
    let text = fs::read_to_string(path).with_context(|| format!("read {}", path.display()))?;
    for (number, line) in (1..).zip(text.lines()) {
        if !line.trim().is_empty() {
            take(line).with_context(|| format!("{}, line {number}", path.display()))?;
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(docs: &str, queries: &str, qrels: &str) -> anyhow::Result<Collection> {
        let folder = tempfile::tempdir().unwrap();
        let file = |name: &str, text: &str| {
            let path = folder.path().join(name);
            fs::write(&path, text).unwrap();
            path
        };
        Collection::read(&file("d", docs), &file("q", queries), &file("r", qrels))
    }

    const DOCS: &str = "{\"id\":\"a\",\"title\":\"T\",\"text\":\"x\"}\n{\"id\":2,\"text\":\"y\"}\n";
    const QUERIES: &str = "{\"id\":\"1\",\"text\":\"q\"}\n{\"id\":9,\"text\":\"no judgements\"}\n";

    #[test]
    fn ids_are_matched_however_they_are_written() {
        let collection = read(DOCS, QUERIES, "1\ta\t3\n\n1\t2\t1\n7\ta\t1\n1\tgone\t2\n").unwrap();
        assert_eq!(collection.documents[0].props["text"], "T. x");
        assert_eq!(collection.documents[1].props["text"], "y");
        assert_eq!(collection.queries.len(), 1);
        let gains = &collection.queries[0].gains;
        assert_eq!((gains[&0], gains[&1], gains.len()), (3, 1, 3));
        assert_eq!((collection.judgements, collection.notes.len()), (3, 2));
    }

    #[test]
    fn faults_are_named_by_file_and_line() {
        for (docs, queries, qrels, want) in [
            ("{}", QUERIES, "", "d, line 1: missing field `id`"),
            ("\n{\"id\":[],\"text\":\"x\"}", QUERIES, "", "d, line 2"),
            ("{\"id\":1,\"text\":\"x\"}\n{\"id\":\"1\",\"text\":\"x\"}", QUERIES, "", "d, line 2"),
            (DOCS, "[", "", "q, line 1"),
            (DOCS, QUERIES, "1\ta\t1\n1 a 1", "r, line 2: 1 fields"),
            (DOCS, QUERIES, "1\ta\t-1", "r, line 1: the gain \"-1\""),
            (DOCS, QUERIES, "9\ta\t0", "nothing to measure"),
            ("", QUERIES, "1\ta\t1", "nothing to measure"),
        ] {
            let error = format!("{:#}", read(docs, queries, qrels).unwrap_err());
            assert!(error.contains(want), "{error:?} is not about {want:?}");
        }
    }
}
