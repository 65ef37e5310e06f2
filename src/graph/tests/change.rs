//! The vectors of two models side by side.

use activekg_storage::tables::graph::{BEHIND, BehindRecord, VECTORS_B, WindowsMode};
use activekg_storage::tables::models::{ModelRecord, Phase};
use proptest::prelude::*;

use super::*;
use crate::embedding::{FurtherWindows, TextVector};

fn model(name: &str) -> ModelRecord {
    ModelRecord {
        backend: "sentence-transformers".to_owned(),
        setting: name.to_owned(),
        base_url: None,
        dimensions: None,
        name: name.to_owned(),
        dim: 2,
    }
}

fn by(name: &str, slot: Slot) -> MadeBy {
    MadeBy { model: name.to_owned(), dim: 2, slot }
}

/// What a model of these tests makes of a text: it tells the model and the text apart.
fn vector(model: &str, text: &str) -> Vec<f32> {
    let sum = text.bytes().fold(7_u32, |sum, byte| sum.wrapping_mul(31) + u32::from(byte));
    vec![(sum % 1000) as f32 + 1.0, model.len() as f32]
}

impl Bench {
    /// Embeds what is queued by the model that serves.
    async fn work(&self, model: &str, slot: Slot) {
        let (batch, _) = self.graph.take(100).await.expect("taken");
        let results = batch.into_iter().map(|job| {
            let vector = vector(model, job.text.as_deref().unwrap_or_default());
            (job, Ok(vector.into()))
        });
        self.graph.settle(results.collect(), by(model, slot)).await.expect("settled");
    }

    /// Makes up to `n` vectors of the other model; whether there was anything to do.
    async fn fill(&self, model: &str, slot: Slot, n: usize) -> bool {
        let todo = self.graph.missing_vectors(n).await.expect("looked");
        let Some(mut todo) = todo.filter(|todo| !todo.is_empty()) else { return false };
        let missing = std::mem::take(&mut todo.missing);
        let fill = missing.into_iter().map(|missing| {
            let vector = vector(model, &missing.text);
            (missing, Ok(vector.into()))
        });
        self.graph.fill(todo, fill.collect(), by(model, slot)).await.expect("filled");
        true
    }

    async fn begin(&self, from: &str, to: &str) {
        self.graph.begin_change(model(from), model(to), "root").await.expect("begun");
    }

    async fn drop_all(&self) {
        self.graph.drop_other_model("root").await.expect("begun");
        while !self.graph.drop_step().await.expect("removed") {}
    }

    async fn write(&self, id: NodeId, text: &str) {
        let props = Some(object(json!({ "text": text })));
        let to = NodeChanges { props, ..NodeChanges::default() };
        self.graph.update(&view("acme"), id, to).await.expect("changed");
    }

    /// The vector of a node in a slot.
    fn vector_in(&self, slot: Slot, id: NodeId) -> Option<Vec<f32>> {
        let tx = self.graph.store().read().expect("a snapshot");
        let row = tx.get(slot.vectors(), &(tenant("acme"), id)).expect("read");
        row.map(|row| row.values)
    }

    fn marks(&self) -> Vec<(NodeId, BehindRecord)> {
        let tx = self.graph.store().read().expect("a snapshot");
        let rows = tx.scan(&BEHIND, Scan::all()).expect("rows");
        rows.map(|row| row.map(|((_, id), mark)| (id, mark)).expect("a row")).collect()
    }
}

#[tokio::test]
async fn a_change_fills_keeps_up_switches_goes_back_and_ends() {
    let bench = bench(settings());
    let graph = &bench.graph;
    let first = bench.create("acme", json!({"text": "pump"})).await;
    let second = bench.create("acme", json!({"text": "valve"})).await;
    bench.work("old", Slot::A).await;
    bench.begin("old", "new").await;
    assert!(matches!(
        graph.begin_change(model("old"), model("third"), "root").await,
        Err(ChangeError::UnderWay(_))
    ));
    let early = graph.switch_models(false, false, "root").await;
    assert!(matches!(early, Err(ChangeError::Behind { filled: false, .. })), "{early:?}");
    while bench.fill("new", Slot::B, 1).await {}
    for (id, text) in [(first, "pump"), (second, "valve")] {
        assert_eq!(bench.vector_in(Slot::B, id), Some(vector("new", text)));
        assert_eq!(bench.vector_in(Slot::A, id), Some(vector("old", text)), "untouched");
    }

    // Written after the walk: the job marks it, and the switch waits for it.
    let third = bench.create("acme", json!({"text": "seal"})).await;
    bench.write(first, "impeller").await;
    bench.work("old", Slot::A).await;
    let waiting = graph.switch_models(false, false, "root").await;
    assert!(
        matches!(waiting, Err(ChangeError::Behind { behind: 2, failed: 0, filled: true, .. })),
        "{waiting:?}"
    );
    assert!(bench.fill("new", Slot::B, 10).await);
    assert!(matches!(
        graph.switch_models(true, false, "root").await,
        Err(ChangeError::Phase("the old model serves; there is no way back"))
    ));
    graph.switch_models(false, false, "root").await.expect("switched");
    let models = graph.models().await.expect("read").expect("models");
    assert_eq!((models.serving.name.as_str(), models.slot), ("new", Slot::B));
    assert_eq!(models.change.as_ref().map(|change| change.phase), Some(Phase::Switched));
    assert_eq!(models.left, [model("old")]);
    assert_eq!(bench.vector_in(Slot::B, third), Some(vector("new", "seal")));

    // Now the old one is kept up to date.
    bench.write(second, "gate").await;
    bench.work("new", Slot::B).await;
    assert_eq!(bench.marks().len(), 1);
    assert!(bench.fill("old", Slot::A, 10).await);
    assert_eq!(bench.vector_in(Slot::A, second), Some(vector("old", "gate")));
    graph.switch_models(true, false, "root").await.expect("went back");
    graph.switch_models(false, false, "root").await.expect("switched again");
    bench.drop_all().await;
    let models = graph.models().await.expect("read").expect("models");
    assert_eq!((models.serving.name.as_str(), models.change), ("new", None));
    let tx = graph.store().read().expect("a snapshot");
    assert_eq!(tx.scan(&VECTORS, Scan::all()).expect("rows").count(), 0);
    assert_eq!(tx.scan(&VECTORS_B, Scan::all()).expect("rows").count(), 3);
    assert!(matches!(graph.drop_other_model("root").await, Err(ChangeError::None)));
}

#[tokio::test]
async fn a_job_that_the_old_model_did_goes_round_again_after_the_switch() {
    let bench = bench(settings());
    let id = bench.create("acme", json!({"text": "pump"})).await;
    bench.work("old", Slot::A).await;
    bench.begin("old", "new").await;
    while bench.fill("new", Slot::B, 10).await {}
    bench.write(id, "valve").await;
    let (batch, _) = bench.graph.take(10).await.expect("taken");
    bench.graph.switch_models(false, false, "root").await.expect("switched");
    let results = batch.into_iter().map(|job| (job, Ok(vector("old", "valve").into()))).collect();
    let (settled, _) = bench.graph.settle(results, by("old", Slot::A)).await.expect("settled");
    assert_eq!(settled[0].1, Embedded::Again);
    assert_eq!(bench.vector_in(Slot::A, id), Some(vector("old", "pump")), "as it was");
    bench.work("new", Slot::B).await;
    assert_eq!(bench.vector_in(Slot::B, id), Some(vector("new", "valve")));
    assert_counters_hold(&bench.graph.store().read().expect("a snapshot"), &tenant("acme"));
}

#[tokio::test]
async fn a_text_that_fails_is_tried_later_and_may_be_left_out() {
    let bench = bench(settings());
    let bad = bench.create("acme", json!({"text": "bad"})).await;
    bench.create("acme", json!({"text": "good"})).await;
    bench.work("old", Slot::A).await;
    bench.begin("old", "new").await;
    let mut attempts = 0;
    loop {
        let todo = bench.graph.missing_vectors(10).await.expect("looked").expect("a change");
        if todo.is_empty() {
            let Some(wait) = todo.due_in else { break };
            assert!(bench.graph.missing_vectors(10).await.expect("looked").expect("it").is_empty());
            bench.clock.advance(wait);
            if attempts == 5 {
                break;
            }
            continue;
        }
        let mut todo = todo;
        let fill = std::mem::take(&mut todo.missing).into_iter().map(|missing| {
            let vector = match missing.node == bad {
                true => Err("too strange".to_owned()),
                false => Ok(vector("new", &missing.text).into()),
            };
            attempts += usize::from(missing.node == bad);
            (missing, vector)
        });
        let fill = fill.collect();
        bench.graph.fill(todo, fill, by("new", Slot::B)).await.expect("filled");
    }
    assert_eq!(bench.graph.behind().await.expect("counted"), (1, 1));
    assert_eq!(bench.marks()[0].1.error.as_deref(), Some("too strange"));
    let refused = bench.graph.switch_models(false, false, "root").await;
    assert!(matches!(refused, Err(ChangeError::Behind { behind: 1, failed: 1, .. })));
    bench.graph.switch_models(false, true, "root").await.expect("switched");
    let node = bench.graph.node(&view("acme"), bad).await.expect("a node");
    assert_eq!(node.embedding_status, EmbeddingStatus::Queued, "the new model gets a try");
    bench.work("new", Slot::B).await;
    assert_eq!(bench.vector_in(Slot::B, bad), Some(vector("new", "bad")));
}

#[tokio::test]
async fn what_is_deleted_or_emptied_meanwhile_leaves_nothing_behind() {
    let bench = bench(settings());
    let ids = [
        bench.create("acme", json!({"text": "a"})).await,
        bench.create("acme", json!({"text": "b"})).await,
        bench.create("acme", json!({"text": "c"})).await,
    ];
    bench.work("old", Slot::A).await;
    bench.begin("old", "new").await;
    while bench.fill("new", Slot::B, 10).await {}
    bench.write(ids[0], "a2").await;
    bench.write(ids[1], "b2").await;
    bench.work("old", Slot::A).await;
    assert_eq!(bench.marks().len(), 2);
    bench.graph.remove(&view("acme"), ids[0]).await.expect("removed");
    bench.graph.delete(&view("acme"), ids[1]).await.expect("deleted");
    bench.write(ids[2], "").await;
    bench.work("old", Slot::A).await;
    while bench.fill("new", Slot::B, 10).await {}
    assert!(bench.marks().is_empty());
    for slot in Slot::ALL {
        assert_eq!(bench.vector_in(slot, ids[0]), None);
        assert_eq!(bench.vector_in(slot, ids[2]), None);
    }
    bench.graph.switch_models(false, false, "root").await.expect("switched");
}

#[tokio::test]
async fn windows_that_are_treated_otherwise_are_made_again_in_both_slots() {
    let bench = bench(settings());
    let id = bench.create("acme", json!({"text": "a long text"})).await;
    bench.work("old", Slot::A).await;
    bench.begin("old", "new").await;
    while bench.fill("new", Slot::B, 10).await {}
    assert!(bench.marks().is_empty());
    bench.graph.refresh(&view("acme"), id, Work::queued()).await.expect("queued");
    bench.work("old", Slot::A).await;
    assert!(bench.marks().is_empty(), "the same text, treated alike");

    bench.graph.refresh(&view("acme"), id, Work::queued()).await.expect("queued");
    let (batch, _) = bench.graph.take(10).await.expect("taken");
    let further = FurtherWindows { mode: WindowsMode::Best, vectors: vec![vec![1.0, 2.0]] };
    let whole = TextVector { values: vector("old", "a long text"), windows: Some(further) };
    let results = batch.into_iter().map(|job| (job, Ok(whole.clone()))).collect();
    bench.graph.settle(results, by("old", Slot::A)).await.expect("settled");
    assert_eq!(bench.marks().len(), 1);
    assert!(bench.fill("new", Slot::B, 10).await, "though its text is the same");
    assert!(bench.marks().is_empty());
    bench.graph.remove(&view("acme"), id).await.expect("removed");
    let tx = bench.graph.store().read().expect("a snapshot");
    for slot in Slot::ALL {
        assert_eq!(tx.scan(slot.windows(), Scan::all()).expect("rows").count(), 0);
    }
}

/// Something that may happen while models change.
#[derive(Debug, Clone)]
enum Act {
    Create(u8),
    Write(usize, u8),
    Delete(usize),
    Remove(usize),
    Work,
    Fill(usize),
    Switch,
    Back,
    Drop,
    Begin,
}

fn act() -> impl Strategy<Value = Act> {
    prop_oneof![
        4 => any::<u8>().prop_map(Act::Create),
        4 => (0..20_usize, any::<u8>()).prop_map(|(at, text)| Act::Write(at, text)),
        1 => (0..20_usize).prop_map(Act::Delete),
        1 => (0..20_usize).prop_map(Act::Remove),
        4 => Just(Act::Work),
        4 => (1..4_usize).prop_map(Act::Fill),
        2 => Just(Act::Switch),
        1 => Just(Act::Back),
        1 => Just(Act::Drop),
        2 => Just(Act::Begin),
    ]
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(24))]

    /// Whatever happens in whatever order: once both models have done what there is to do, every
    /// node has the vector of its present text by each of them, and nothing else has one.
    #[test]
    fn both_slots_follow_the_texts(acts in prop::collection::vec(act(), 1..60)) {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        runtime.block_on(async {
            let bench = bench(settings());
            let mut texts: Vec<(NodeId, Option<String>)> = Vec::new();
            let (mut serving, mut slot) = ("m".to_owned(), Slot::A);
            let mut other: Option<String> = None;
            let mut switched = false;
            for act in acts {
                match act {
                    Act::Create(text) => {
                        let text = format!("text {text}");
                        let id = bench.create("acme", json!({ "text": text })).await;
                        texts.push((id, Some(text)));
                    }
                    Act::Write(at, text) => {
                        let Some((id, Some(old))) = texts.get_mut(at) else { continue };
                        *old = format!("text {text}");
                        bench.write(*id, old).await;
                    }
                    Act::Delete(at) => {
                        let Some((id, text @ Some(_))) = texts.get_mut(at) else { continue };
                        *text = None;
                        bench.graph.delete(&view("acme"), *id).await.expect("deleted");
                    }
                    Act::Remove(at) => {
                        let Some((id, text @ Some(_))) = texts.get_mut(at) else { continue };
                        *text = None;
                        bench.graph.remove(&view("acme"), *id).await.expect("removed");
                    }
                    Act::Work => bench.work(&serving, slot).await,
                    Act::Fill(n) => {
                        if let Some(other) = &other {
                            bench.fill(other, slot.other(), n).await;
                        }
                    }
                    Act::Switch | Act::Back => {
                        let back = matches!(act, Act::Back);
                        let done = bench.graph.switch_models(back, false, "root").await.is_ok();
                        if done {
                            prop_assert_eq!(back, switched);
                            switched = !switched;
                            std::mem::swap(&mut serving, other.as_mut().expect("a change"));
                            slot = slot.other();
                        }
                    }
                    Act::Drop => {
                        if other.take().is_some() {
                            bench.drop_all().await;
                            switched = false;
                        }
                    }
                    Act::Begin => {
                        if other.is_none() {
                            // A name of another length, so that its vectors are others.
                            let new = format!("{serving}m");
                            bench.begin(&serving, &new).await;
                            other = Some(new);
                        }
                    }
                }
            }
            bench.work(&serving, slot).await;
            if let Some(other) = &other {
                while bench.fill(other, slot.other(), 3).await {}
                prop_assert!(bench.marks().is_empty());
            }
            for (id, text) in &texts {
                let Some(text) = text else { continue };
                prop_assert_eq!(bench.vector_in(slot, *id), Some(vector(&serving, text)));
                let expected = other.as_ref().map(|other| vector(other, text));
                prop_assert_eq!(bench.vector_in(slot.other(), *id), expected);
            }
            if other.is_some() {
                bench.graph.switch_models(switched, false, "root").await.expect("all is there");
            }
            Ok(())
        })?;
    }
}
