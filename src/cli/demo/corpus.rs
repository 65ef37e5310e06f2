//! The corpus: documents as requests, borders by position.

use std::collections::HashMap;

use anyhow::Context as _;
use serde::Deserialize;
use serde_json::{Map, Value, json};

/// Made by `assets/demo/make-corpus`; provenance beside it.
const COUNTRIES: &str = include_str!("../../../assets/demo/countries.jsonl");
const BORDERS: &str = include_str!("../../../assets/demo/borders.jsonl");

/// What the demo loads.
pub(super) struct Corpus {
    /// A node each, as the body of a create.
    pub(super) nodes: Vec<Value>,
    /// Edges between them.
    pub(super) edges: Vec<Edge>,
}

/// An edge between two nodes of the corpus, by their positions.
pub(super) struct Edge {
    pub(super) src: usize,
    pub(super) dst: usize,
    pub(super) rel: String,
    pub(super) props: Map<String, Value>,
}

#[derive(Deserialize)]
struct Country {
    key: String,
    title: String,
    text: String,
    metadata: Map<String, Value>,
}

#[derive(Deserialize)]
struct Border {
    src: String,
    dst: String,
    rel: String,
    props: Map<String, Value>,
}

impl Corpus {
    pub(super) fn load() -> anyhow::Result<Self> {
        let mut positions = HashMap::new();
        let mut nodes = Vec::new();
        for line in COUNTRIES.lines() {
            let Country { key, title, text, metadata } =
                serde_json::from_str(line).context("read the corpus")?;
            nodes.push(json!({
                "classes": ["Country"],
                "props": {
                    "title": title,
                    // A text has to say what it is about: the title is not part of its vector.
                    "text": format!("{title}. {text}"),
                    "external_id": format!("factbook:{key}"),
                },
                "metadata": metadata,
            }));
            positions.insert(key, nodes.len() - 1);
        }
        let position = |key: &str| {
            positions
                .get(key)
                .copied()
                .with_context(|| format!("the corpus has a border of {key:?}, which it has not"))
        };
        let edges = BORDERS
            .lines()
            .map(|line| {
                let Border { src, dst, rel, props } =
                    serde_json::from_str(line).context("read the borders")?;
                Ok(Edge { src: position(&src)?, dst: position(&dst)?, rel, props })
            })
            .collect::<anyhow::Result<_>>()?;
        Ok(Self { nodes, edges })
    }

    /// The titles of the nodes, in their order.
    pub(super) fn titles(&self) -> impl Iterator<Item = &str> {
        self.nodes.iter().map(|node| node["props"]["title"].as_str().unwrap_or("?"))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_corpus_is_whole() {
        let corpus = Corpus::load().unwrap();
        assert!(corpus.nodes.len() >= 250, "{}", corpus.nodes.len());
        assert!(corpus.edges.len() >= 600, "{}", corpus.edges.len());
        for node in &corpus.nodes {
            let text = node["props"]["text"].as_str().unwrap();
            assert!((200..=2500).contains(&text.len()), "{}", node["props"]["title"]);
            assert!(node["metadata"]["region"].is_string());
        }
        assert!(corpus.titles().any(|title| title == "Cote d'Ivoire"));
    }

    #[test]
    fn borders_lie_between_two_countries_and_are_listed_once() {
        let mut seen = std::collections::HashSet::new();
        for Edge { src, dst, rel, props } in Corpus::load().unwrap().edges {
            assert_ne!(src, dst);
            assert!(seen.insert((src, rel.clone(), dst)), "{src} {dst}");
            assert_eq!(rel, "BORDERS");
            assert!(props["length_km"].as_f64().unwrap() > 0.0);
        }
    }
}
