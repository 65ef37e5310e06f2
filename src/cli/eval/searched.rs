//! A collection in the indexes of the server, in a temporary folder.

use std::collections::{HashMap, HashSet};
use std::io::{self, IsTerminal};

use activekg_index::{
    FactFilter, Hit, Metric, TextDoc, TextIndex, TextOp, TextOptions, TextQuery, VectorOp,
    VectorOptions, VectorQuery, VectorSet,
};
use anyhow::Context;
use indicatif::{ProgressBar, ProgressStyle};
use tempfile::TempDir;

use super::Method;
use super::collection::Collection;
use crate::cli::embed::model::Model;
use crate::embedding::{WINDOWS_MAX, Windows, mean};
use crate::graph::text;
use crate::search::fuse;

/// The one owner of everything in the temporary index.
const TENANT: &str = "eval";
/// Texts embedded between two moves of the progress bar.
const CHUNK: usize = 64;
/// The contract's least depth of the lists that are fused.
const RERANKER_BASE: usize = 20;
/// Where in the id of a vector the number of its window begins; below is its document's.
const WINDOW_BIT: u32 = 64;

/// Both indexes.
pub(super) struct Searched {
    words: TextIndex,
    vectors: VectorSet,
    /// Vectors a document has at most.
    windows_max: usize,
    _folder: TempDir,
}

impl Searched {
    /// Indexes the documents; the id of each is its place in the collection.
    ///
    /// # Errors
    ///
    /// When the model fails, or the disk.
    pub(super) fn new(
        model: &Model,
        windows: Windows,
        collection: &Collection,
    ) -> anyhow::Result<Self> {
        let folder = tempfile::tempdir().context("make a temporary folder for the index")?;
        let opened = TextIndex::open(&folder.path().join("text"), TextOptions::default());
        let (words, _) = opened.context("make the text index")?;
        let options = VectorOptions::new(model.info().dim, Metric::Cosine);
        let opened = VectorSet::open(&folder.path().join("vectors"), options);
        let (vectors, _) = opened.context("make the vector index")?;
        let windows_max = if windows == Windows::Best { WINDOWS_MAX } else { 1 };
        let searched = Self { words, vectors, windows_max, _folder: folder };
        searched.fill(model, windows, collection)?;
        Ok(searched)
    }

    fn fill(&self, model: &Model, windows: Windows, collection: &Collection) -> anyhow::Result<()> {
        let documents = &collection.documents;
        let bodies: Vec<&str> =
            documents.iter().map(|document| text::inline(&document.props).unwrap_or("")).collect();
        let mut words = Vec::with_capacity(documents.len());
        // The windows of all documents, and of which each is.
        let mut parts: Vec<(u128, String)> = Vec::new();
        for ((id, document), body) in (0u128..).zip(documents).zip(&bodies) {
            words.push(TextOp::Put(TextDoc {
                id,
                tenant: TENANT.to_owned(),
                title: text::title(&document.props).unwrap_or_default().to_owned(),
                body: (*body).to_owned(),
                ..TextDoc::default()
            }));
            // A node without text is not embedded.
            if body.trim().is_empty() {
                continue;
            }
            parts.push((id, (*body).to_owned()));
            if windows != Windows::First {
                let further = model.further_windows(body)?;
                parts.extend(further.into_iter().map(|part| (id, part)));
            }
        }
        let texts: Vec<&str> = parts.iter().map(|(_, part)| part.as_str()).collect();
        let embedded = embed(model, &texts, "documents")?;
        let mut of_document: Vec<(u128, Vec<Vec<f32>>)> = Vec::new();
        for ((id, _), vector) in parts.iter().zip(embedded) {
            match of_document.last_mut() {
                Some((last, vectors)) if last == id => vectors.push(vector),
                _ => of_document.push((*id, vec![vector])),
            }
        }
        let mut vectors = Vec::with_capacity(parts.len());
        for (document, mut windowed) in of_document {
            if windows == Windows::Mean {
                windowed = vec![mean(&windowed)];
            }
            for (window, values) in (0u128..).zip(windowed) {
                let id = document | window << WINDOW_BIT;
                vectors.push(VectorOp::Put { id, tenant: TENANT.to_owned(), values });
            }
        }
        self.words.apply(&words).context("index the words")?;
        self.words.commit(1).context("index the words")?;
        self.vectors.apply(&vectors).context("index the vectors")
    }

    /// The first hits of a way of searching, `top_k` or more where there are as many.
    ///
    /// # Errors
    ///
    /// When an index fails.
    pub(super) fn find(
        &self,
        method: Method,
        query: &str,
        vector: &[f32],
        top_k: usize,
    ) -> anyhow::Result<Vec<Hit>> {
        match method {
            Method::Vector => self.near(vector, top_k),
            Method::Bm25 => self.worded(query, top_k),
            Method::Hybrid(fusion) => {
                let depth = fuse::depth(top_k, true, RERANKER_BASE);
                Ok(fusion.fuse(&self.near(vector, depth)?, &self.worded(query, depth)?))
            }
        }
    }

    /// The `k` nearest documents, each by its nearest window.
    fn near(&self, vector: &[f32], k: usize) -> anyhow::Result<Vec<Hit>> {
        let windows = k * self.windows_max;
        let query = VectorQuery { vector, k: windows, tenants: &[TENANT], among: None, ef: None };
        let mut hits = self.vectors.search(&query).context("search by vector")?;
        let mut seen = HashSet::new();
        for hit in &mut hits {
            hit.id &= (1 << WINDOW_BIT) - 1;
        }
        hits.retain(|hit| seen.insert(hit.id));
        hits.truncate(k);
        Ok(hits)
    }

    fn worded(&self, text: &str, limit: usize) -> anyhow::Result<Vec<Hit>> {
        let facts = FactFilter::default();
        let query = TextQuery { text, tenants: &[TENANT], limit, facts: &facts };
        self.words.search(&query).context("search by words")
    }
}

/// The vectors of `texts`; equal texts are computed once.
///
/// # Errors
///
/// When the model fails for any of them.
pub(super) fn embed(
    model: &Model,
    texts: &[&str],
    what: &'static str,
) -> anyhow::Result<Vec<Vec<f32>>> {
    let mut places = HashMap::new();
    let mut distinct = Vec::new();
    for &text in texts {
        places.entry(text).or_insert_with(|| {
            distinct.push(text);
            distinct.len() - 1
        });
    }
    let progress = if io::stderr().is_terminal() {
        let style =
            ProgressStyle::with_template("{msg} {bar:30} {human_pos}/{human_len} {per_sec}");
        let style = style.context("make a progress bar")?;
        ProgressBar::new(distinct.len() as u64).with_style(style).with_message(what)
    } else {
        ProgressBar::hidden()
    };
    let mut vectors = Vec::with_capacity(distinct.len());
    for chunk in distinct.chunks(CHUNK) {
        vectors.extend(model.encode(chunk)?);
        progress.inc(chunk.len() as u64);
    }
    progress.finish_and_clear();
    Ok(texts.iter().map(|text| vectors[places[text]].clone()).collect())
}
