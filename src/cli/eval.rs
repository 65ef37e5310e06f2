//! `activekg eval`: how well each way of searching does on judged queries.

mod collection;

use std::collections::HashMap;
use std::io::{self, IsTerminal};
use std::path::PathBuf;

use activekg_index::{
    FactFilter, Hit, Metric, TextDoc, TextIndex, TextOp, TextOptions, TextQuery, VectorOp,
    VectorOptions, VectorQuery, VectorSet,
};
use anyhow::Context;
use indicatif::{ProgressBar, ProgressStyle};
use serde_json::{Map, Value, json};

use crate::embedding::{Encoder, EncoderOptions, Isa, Precision};
use crate::graph::text;
use crate::search::eval::{NDCG_DEPTH, Quality, RECALL_DEPTH};
use crate::search::fuse::{self, Fusion, VECTOR_WEIGHT};
use collection::Collection;

/// The one owner of everything in the temporary index.
const TENANT: &str = "eval";
/// Texts embedded between two moves of the progress bar.
const CHUNK: usize = 64;
/// The contract's damping of reciprocal ranks, and least depth of the lists that are fused.
const RRF_K: f32 = 60.0;
const RERANKER_BASE: usize = 20;

/// Indexes the documents as nodes are indexed, in a temporary folder, and searches them as
/// /search does: by vectors, by words (BM25), and by both (hybrid). Prints nDCG@10 (graded gain,
/// log2 discount), recall@100 and MRR, times 100, averaged over the queries with judgements.
#[derive(Debug, clap::Args)]
pub(super) struct EvalArgs {
    /// Documents, one JSON object {"id", "title", "text"} a line; the title is optional
    #[arg(long, value_name = "FILE")]
    docs: PathBuf,
    /// Queries, one JSON object {"id", "text"} a line
    #[arg(long, value_name = "FILE")]
    queries: PathBuf,
    /// Judgements, one a line: query id, document id, gain (0 = useless), with tabs between
    #[arg(long, value_name = "FILE")]
    qrels: PathBuf,
    /// Print one JSON object
    #[arg(long)]
    json: bool,
    /// f32, or auto for the fastest arithmetic of this processor
    #[arg(long, env = "EMBEDDING_PRECISION", value_name = "PRECISION", default_value = "auto")]
    precision: Precision,
    /// Instructions: amx, avx512vnni, avx2 or portable; the best of this processor if not given
    #[arg(long, env = "ACTIVEKG_CPU", value_name = "NAME", hide_short_help = true)]
    cpu: Option<Isa>,
}

/// A way of searching.
#[derive(Debug, Clone, Copy)]
enum Method {
    Vector,
    Bm25,
    Hybrid(Fusion),
}

/// The ways that are compared: the name for programs, what it is, and the way.
const METHODS: [(&str, &str, Method); 4] = [
    ("vector", "vector", Method::Vector),
    ("bm25", "BM25", Method::Bm25),
    (
        "hybrid",
        "hybrid, reciprocal ranks (the default)",
        Method::Hybrid(Fusion::ReciprocalRank { k: RRF_K }),
    ),
    (
        "hybrid_weighted",
        "hybrid, weighted (HYBRID_RRF_ENABLED=false)",
        Method::Hybrid(Fusion::Weighted { vector: VECTOR_WEIGHT }),
    ),
];

/// Runs the command.
///
/// # Errors
///
/// A file that cannot be read, a bad line, named by its number, or no disk for the index.
pub(super) fn run(args: EvalArgs) -> anyhow::Result<()> {
    let EvalArgs { docs, queries, qrels, json, precision, cpu } = args;
    let collection = Collection::read(&docs, &queries, &qrels)?;
    for note in &collection.notes {
        eprintln!("activekg: {note}");
    }
    let encoder = Encoder::built_in(EncoderOptions { precision, isa: cpu })?;
    let qualities = measure(&encoder, &collection)?;
    let Collection { documents, queries, judgements, notes: _ } = &collection;
    let model = &encoder.model().name;
    let counts = format!("{} documents, {} judged queries", documents.len(), queries.len());
    if json {
        let mut object = Map::from_iter([
            ("model".to_owned(), json!(model)),
            ("documents".to_owned(), json!(documents.len())),
            ("queries".to_owned(), json!(queries.len())),
            ("judgements".to_owned(), json!(judgements)),
        ]);
        for ((name, _, _), quality) in METHODS.iter().zip(&qualities) {
            object.insert((*name).to_owned(), figures(quality));
        }
        println!("{}", Value::Object(object));
    } else {
        println!("{counts}, {model}\n");
        println!("{:<46} {:>8} {:>11} {:>6}", "x 100", "nDCG@10", "recall@100", "MRR");
        for ((_, title, _), Quality { ndcg, recall, mrr }) in METHODS.iter().zip(&qualities) {
            let [ndcg, recall, mrr] = [ndcg, recall, mrr].map(|share| share * 100.0);
            println!("{title:<46} {ndcg:>8.1} {recall:>11.1} {mrr:>6.1}");
        }
    }
    Ok(())
}

/// The figures times 100, to one decimal.
fn figures(quality: &Quality) -> Value {
    let Quality { ndcg, recall, mrr } = quality;
    let [ndcg, recall, mrr] = [ndcg, recall, mrr].map(|share| (share * 1000.0).round() / 10.0);
    json!({ "ndcg@10": ndcg, "recall@100": recall, "mrr": mrr })
}

/// The quality of each of [`METHODS`], in their order.
fn measure(encoder: &Encoder, collection: &Collection) -> anyhow::Result<Vec<Quality>> {
    let folder = tempfile::tempdir().context("make a temporary folder for the index")?;
    let opened = TextIndex::open(&folder.path().join("text"), TextOptions::default());
    let (words, _) = opened.context("make the text index")?;
    let options = VectorOptions::new(encoder.model().dim, Metric::Cosine);
    let opened = VectorSet::open(&folder.path().join("vectors"), options);
    let (vectors, _) = opened.context("make the vector index")?;
    let searched = Searched { words, vectors };
    searched.fill(encoder, collection)?;

    let queries: Vec<&str> = collection.queries.iter().map(|query| query.text.as_str()).collect();
    let embedded = embed(encoder, &queries, "queries")?;
    let lists = |method, top_k| -> anyhow::Result<Vec<Vec<u128>>> {
        let search = |(query, vector): (&&str, &Vec<f32>)| {
            let hits = searched.find(method, query, vector, top_k)?;
            Ok(hits.into_iter().take(top_k).map(|hit| hit.id).collect())
        };
        queries.iter().zip(&embedded).map(search).collect()
    };
    let quality = |lists: &[Vec<u128>]| {
        let judged = lists.iter().zip(&collection.queries);
        Quality::mean(judged.map(|(ranked, query)| (ranked.as_slice(), &query.gains)))
    };
    METHODS
        .iter()
        .map(|&(_, _, method)| {
            // How deep the fused lists go depends on the number of hits asked for, so the first
            // page is what a search for a page gives.
            let (page, deep) = (lists(method, NDCG_DEPTH)?, lists(method, RECALL_DEPTH)?);
            Ok(Quality { ndcg: quality(&page).ndcg, ..quality(&deep) })
        })
        .collect()
}

/// Both indexes.
struct Searched {
    words: TextIndex,
    vectors: VectorSet,
}

impl Searched {
    /// Indexes the documents; the id of each is its place in the collection.
    fn fill(&self, encoder: &Encoder, collection: &Collection) -> anyhow::Result<()> {
        let documents = &collection.documents;
        let texts: Vec<&str> =
            documents.iter().map(|document| text::inline(&document.props).unwrap_or("")).collect();
        let embedded = embed(encoder, &texts, "documents")?;
        let mut words = Vec::with_capacity(documents.len());
        let mut vectors = Vec::with_capacity(documents.len());
        let numbered = (0u128..).zip(documents).zip(&texts).zip(embedded);
        for (((id, document), body), values) in numbered {
            words.push(TextOp::Put(TextDoc {
                id,
                tenant: TENANT.to_owned(),
                title: text::title(&document.props).unwrap_or_default().to_owned(),
                body: (*body).to_owned(),
                ..TextDoc::default()
            }));
            // A node without text is not embedded.
            if !body.trim().is_empty() {
                vectors.push(VectorOp::Put { id, tenant: TENANT.to_owned(), values });
            }
        }
        self.words.apply(&words).context("index the words")?;
        self.words.commit(1).context("index the words")?;
        self.vectors.apply(&vectors).context("index the vectors")
    }

    fn find(
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

    fn near(&self, vector: &[f32], k: usize) -> anyhow::Result<Vec<Hit>> {
        let query = VectorQuery { vector, k, tenants: &[TENANT], among: None, ef: None };
        self.vectors.search(&query).context("search by vector")
    }

    fn worded(&self, text: &str, limit: usize) -> anyhow::Result<Vec<Hit>> {
        let facts = FactFilter::default();
        let query = TextQuery { text, tenants: &[TENANT], limit, facts: &facts };
        self.words.search(&query).context("search by words")
    }
}

/// The vectors of `texts`; equal texts are computed once.
fn embed(encoder: &Encoder, texts: &[&str], what: &'static str) -> anyhow::Result<Vec<Vec<f32>>> {
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
        vectors.extend(encoder.encode(chunk)?);
        progress.inc(chunk.len() as u64);
    }
    progress.finish_and_clear();
    Ok(texts.iter().map(|text| vectors[places[text]].clone()).collect())
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use super::*;

    #[test]
    fn the_document_that_answers_is_found_each_way() {
        let folder = tempfile::tempdir().unwrap();
        let file = |name: &str, text: &str| {
            let path = folder.path().join(name);
            std::fs::write(&path, text).unwrap();
            path
        };
        let docs = file(
            "docs.jsonl",
            r#"{"id":"a","title":"Pumps","text":"How to replace the seal of a pump."}
{"id":"b","title":"Cooking","text":"A soup of leeks and potatoes."}
{"id":"c","text":"The lift of a swept wing at low speed."}
"#,
        );
        let queries = file(
            "queries.jsonl",
            "{\"id\":1,\"text\":\"pump seal\"}\n{\"id\":\"2\",\"text\":\"swept wing lift\"}\n",
        );
        let qrels = file("qrels.tsv", "1\ta\t4\n2\tc\t1\n2\tb\t0\n");
        let collection = Collection::read(&docs, &queries, &qrels).unwrap();
        let encoder = Encoder::built_in(Precision::F32).unwrap();
        for quality in measure(&encoder, &collection).unwrap() {
            assert_eq!(quality, Quality { ndcg: 1.0, recall: 1.0, mrr: 1.0 });
        }
        assert_eq!(figures(&Quality { ndcg: 0.35049, recall: 1.0, mrr: 0.0 })["ndcg@10"], 35.0);
    }

    /// At least what other programs reach on the whole collection. By default only the first 15
    /// queries are asked, of the documents judged for them and 60 more, which is easier;
    /// `CRANFIELD_QUERIES=225` asks all, of all documents.
    #[test]
    fn cranfield_is_searched_as_well_as_elsewhere() {
        let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/data/cranfield");
        let [docs, queries, qrels] =
            ["docs.jsonl", "queries.jsonl", "qrels.tsv"].map(|name| folder.join(name));
        let mut collection = Collection::read(&docs, &queries, &qrels).unwrap();
        assert_eq!((collection.documents.len(), collection.queries.len()), (1400, 225));
        assert!(collection.notes.is_empty(), "{:?}", collection.notes);
        let asked = std::env::var("CRANFIELD_QUERIES").map_or(15, |n| n.parse().unwrap());
        if asked < collection.queries.len() {
            collection.queries.truncate(asked);
            for (id, document) in (0u128..).zip(&mut collection.documents) {
                let judged = collection.queries.iter().any(|query| query.gains.contains_key(&id));
                if !judged && id >= 60 {
                    document.props.clear();
                }
            }
        }
        let encoder = Encoder::built_in(Precision::Auto).unwrap();
        let qualities = measure(&encoder, &collection).unwrap();
        for ((least, quality), (name, _, _)) in
            [0.350, 0.325, 0.370, 0.380].into_iter().zip(&qualities).zip(METHODS)
        {
            assert!(quality.ndcg >= least, "{name}: {quality:?}");
        }
    }
}
