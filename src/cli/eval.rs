//! `activekg eval`: how well each way of searching does on judged queries.

mod collection;
mod searched;

use std::path::PathBuf;

use serde_json::{Map, Value, json};

use super::embed::model::Model;
use crate::config::options::ModelOptions;
use crate::embedding::Windows;
use crate::search::eval::{NDCG_DEPTH, Quality, RECALL_DEPTH};
use crate::search::fuse::{Fusion, VECTOR_WEIGHT};
use collection::Collection;
use searched::{Searched, embed};

/// The contract's damping of reciprocal ranks.
const RRF_K: f32 = 60.0;

/// Indexes the documents as nodes are indexed, in a temporary folder, and searches them as
/// /search does: by vectors, by words (BM25), and by both (hybrid). Prints nDCG@10 (graded gain,
/// log2 discount), recall@100 and MRR, times 100, averaged over the queries with judgements.
#[derive(clap::Args)]
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
    /// Of a document longer than the model's window: first, mean of all windows, or best window
    #[arg(long, value_name = "NAME", default_value_t = Windows::First)]
    windows: Windows,
    #[command(flatten)]
    model: ModelOptions,
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
/// A file that cannot be read, a bad line, named by its number, a model that cannot be used, or no
/// disk for the index.
pub(super) fn run(args: EvalArgs) -> anyhow::Result<()> {
    let EvalArgs { docs, queries, qrels, json, windows, model } = args;
    let collection = Collection::read(&docs, &queries, &qrels)?;
    for note in &collection.notes {
        eprintln!("activekg: {note}");
    }
    let model = Model::open(&model)?;
    let qualities = measure(&model, windows, &collection)?;
    let Collection { documents, queries, judgements, notes: _ } = &collection;
    let model = &model.info().name;
    let counts = format!("{} documents, {} judged queries", documents.len(), queries.len());
    if json {
        let mut object = Map::from_iter([
            ("model".to_owned(), json!(model)),
            ("windows".to_owned(), json!(windows.to_string())),
            ("documents".to_owned(), json!(documents.len())),
            ("queries".to_owned(), json!(queries.len())),
            ("judgements".to_owned(), json!(judgements)),
        ]);
        for ((name, _, _), quality) in METHODS.iter().zip(&qualities) {
            object.insert((*name).to_owned(), figures(quality));
        }
        println!("{}", Value::Object(object));
    } else {
        println!("{counts}, {model}, windows: {windows}\n");
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
fn measure(
    model: &Model,
    windows: Windows,
    collection: &Collection,
) -> anyhow::Result<Vec<Quality>> {
    let searched = Searched::new(model, windows, collection)?;

    let queries: Vec<&str> = collection.queries.iter().map(|query| query.text.as_str()).collect();
    let embedded = embed(model, &queries, "queries")?;
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

#[cfg(test)]
mod tests {
    use std::path::Path;

    use super::*;
    use crate::embedding::{Encoder, Precision};
    use crate::search::eval::Gains;
    use collection::{Document, Query};

    fn model(precision: Precision) -> Model {
        Model::Here(Box::new(Encoder::built_in(precision).unwrap()))
    }

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
        let model = model(Precision::F32);
        for (_, windows) in Windows::NAMES {
            for quality in measure(&model, windows, &collection).unwrap() {
                assert_eq!(quality, Quality { ndcg: 1.0, recall: 1.0, mrr: 1.0 });
            }
        }
        assert_eq!(figures(&Quality { ndcg: 0.35049, recall: 1.0, mrr: 0.0 })["ndcg@10"], 35.0);
    }

    /// What only the end of a document says is found by its windows, and not by its start.
    #[test]
    fn the_end_of_a_long_document_counts_with_its_windows() {
        let start = "The lift of a swept wing at low speed. ".repeat(60);
        let document =
            |text: String| Document { props: Map::from_iter([("text".to_owned(), text.into())]) };
        let end = "Wash two leeks and cut them into rings. Peel the potatoes. Melt butter in a \
            large pot and add the leeks. Boil the soup until the potatoes are soft. Serve the leek \
            and potato soup with bread. ";
        let end = end.repeat(6);
        let long = document(format!("{start}{end}"));
        let others = ["Cleaning a kitchen.", "A plate of beans.", "Painting a fence."];
        let others = others.map(|text| document(text.to_owned()));
        let collection = Collection {
            documents: std::iter::once(long).chain(others).collect(),
            queries: vec![Query {
                text: "leek and potato soup".to_owned(),
                gains: Gains::from([(0, 1)]),
            }],
            judgements: 1,
            notes: Vec::new(),
        };
        let model = model(Precision::F32);
        let mrr = |windows| measure(&model, windows, &collection).unwrap()[0].mrr;
        assert!(mrr(Windows::First) < 1.0);
        assert_eq!(mrr(Windows::Best), 1.0);
        assert!(mrr(Windows::Mean) >= mrr(Windows::First));
    }

    /// At least what other programs reach on the whole collection. By default only the first 15
    /// queries are asked, of the documents judged for them and 60 more, which is easier;
    /// `CRANFIELD_QUERIES=225` asks all, of all documents.
    #[test]
    fn cranfield_is_searched_as_well_as_elsewhere() {
        // Tests run in the root of the checkout.
        let folder = Path::new("tests/data/cranfield");
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
        let model = model(Precision::Auto);
        let qualities = measure(&model, Windows::First, &collection).unwrap();
        for ((least, quality), (name, _, _)) in
            [0.350, 0.325, 0.370, 0.380].into_iter().zip(&qualities).zip(METHODS)
        {
            assert!(quality.ndcg >= least, "{name}: {quality:?}");
        }
    }
}
