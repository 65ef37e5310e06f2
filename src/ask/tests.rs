//! Questions to a real graph with real indexes and the built-in model; the writer is a script,
//! but in one test.

mod site;

use activekg_storage::ids::TenantId;
use futures_util::StreamExt;
use serde_json::json;

use super::answer::{NOTHING_FOUND, Report};
use super::*;
use crate::graph::{NewEdge, NodeChanges, View};
use crate::llm::{CANNOT_TELL, Extractive};
use site::{Script, Site};

fn tenant(name: &str) -> TenantId {
    TenantId::new(name).expect("a name")
}

fn question(text: &str) -> Question {
    Question { text: text.to_owned(), max_results: 5, weighted: true }
}

fn report(answer: &Answer) -> &Report {
    match &answer.outcome {
        Outcome::Answered(report) => report,
        other => panic!("not answered: {other:?}"),
    }
}

const PUMP: &str = "Centrifugal pump maintenance requires checking the mechanical seal and the bearing temperature every week.";
const VALVE: &str = "To repair gate valve A, order the seal kit SK-7 and replace the packing before the pressure test.";
const LOGIN: &str = "Users cannot log in after the certificate was renewed on the identity server.";

#[tokio::test]
async fn an_answer_cites_what_it_was_written_from() {
    let site = Site::open().await;
    let (t, other) = (tenant("t"), tenant("other"));
    let script = Arc::new(Script::default());
    let ask = site.ask(script.clone());
    let view = View::of(t.clone());
    let which = || question("Which seal kit does gate valve A need?");

    let empty = ask.answer(&view, which()).await.expect("an answer");
    assert_eq!((empty.text.as_str(), empty.confidence), (NOTHING_FOUND, 0.0));
    assert_eq!(empty.outcome.score_type().as_str(), "rrf_fused");

    let pump = site.node(&t, "Doc", json!({ "text": PUMP })).await;
    // Another key holds the text, and it is used all the same.
    let valve = site.node(&t, "Doc", json!({ "content": VALVE })).await;
    site.node(&t, "Ticket", json!({ "text": LOGIN })).await;
    let hidden = site
        .node(&other, "Doc", json!({ "text": "Gate valve A needs the secret seal kit SK-9." }))
        .await;
    let (rel, props) = ("DERIVED_FROM".to_owned(), serde_json::Map::new());
    let edge = NewEdge { src: valve, rel, dst: pump, props };
    site.graph.connect(&view, edge).await.expect("an edge");

    site.clock.advance(Duration::from_secs(129_600));
    script.says(&["It needs kit SK-7 ", "[0]."]);
    let answer = ask.answer(&view, which()).await.expect("an answer");
    assert_eq!(answer.text, "It needs kit SK-7 [0].");
    let [citation] = answer.citations.as_slice() else { panic!("{:?}", answer.citations) };
    assert_eq!((citation.node, citation.age_days), (valve, Some(1.5)));
    assert_eq!(citation.lineage, [(pump, 1)]);
    let figures = report(&answer);
    assert_eq!(figures.searched, 3);
    assert_eq!(figures.first_cited, Some(0));
    assert!(figures.fit.top <= 0.033, "the fused score is reported: {:?}", figures.fit);
    assert!(figures.fit.top_vector > 0.6, "{:?}", figures.fit);
    assert!(answer.confidence > 0.6, "{}", answer.confidence);
    assert_eq!(script.texts()[0], VALVE);
    assert!(script.texts().iter().all(|text| !text.contains("SK-9")));

    // The same question again is not written again, but is as old as it is.
    site.clock.advance(Duration::from_secs(300));
    let again = ask.answer(&view, which()).await.expect("an answer");
    assert_eq!((again.text, again.citations.len(), script.calls()), (answer.text, 1, 1));

    // Another tenant's question is its own, from its own nodes.
    script.says(&["Kit SK-9 [0]."]);
    let theirs = ask.answer(&View::of(other), which()).await.expect("an answer");
    assert_eq!((theirs.citations[0].node, script.calls()), (hidden, 2));

    // A changed text is asked about anew.
    let props = json!({ "content": VALVE.replace("SK-7", "SK-8") });
    let changes = NodeChanges { props: props.as_object().cloned(), ..NodeChanges::default() };
    site.writes.update(&view, valve, changes).await.expect("a change");
    script.says(&["Kit SK-8 [0]."]);
    let changed = ask.answer(&view, which()).await.expect("an answer");
    assert_eq!((changed.text.as_str(), script.calls()), ("Kit SK-8 [0].", 3));
}

#[tokio::test]
async fn what_does_not_fit_is_refused_and_what_hardly_fits_has_one_source() {
    let site = Site::open().await;
    let t = tenant("t");
    site.node(&t, "Doc", json!({ "text": PUMP })).await;
    site.node(&t, "Doc", json!({ "text": VALVE })).await;
    let script = Arc::new(Script::default());
    script.says(&["Nonsense [0]."]);
    let ask = site.ask(script.clone());
    let view = View::of(t.clone());

    let refused =
        ask.answer(&view, question("Who won the chess championship?")).await.expect("an answer");
    assert_eq!((refused.text.as_str(), refused.confidence), (CANNOT_TELL, 0.2));
    assert!(
        matches!(refused.outcome, Outcome::TooWeak { searched: 2, .. }),
        "{:?}",
        refused.outcome
    );
    assert_eq!(script.calls(), 0);

    let thresholds =
        gate::Thresholds { refuse_cosine: -1.0, narrow_cosine: 0.99, refuse_fused: None };
    let narrow = site.ask_by(Some(script.clone()), thresholds);
    let answer =
        narrow.answer(&view, question("How is a pump maintained?")).await.expect("an answer");
    assert_eq!((report(&answer).searched, script.texts().len()), (1, 1));
    assert!(answer.confidence <= 0.6);
}

#[tokio::test]
async fn intents_find_by_class_and_are_set_aside_where_they_find_nothing() {
    let site = Site::open().await;
    let t = tenant("t");
    let script = Arc::new(Script::default());
    script.says(&["That one [0]."]);
    let ask = site.ask(script.clone());
    let view = View::of(t.clone());

    let oil = site
        .node(
            &t,
            "Country",
            json!({ "text": "Oil plays the leading role in the economy of Norway." }),
        )
        .await;
    let misread =
        ask.answer(&view, question("What role does oil play in Norway?")).await.expect("an answer");
    let figures = report(&misread);
    assert_eq!((figures.intent, figures.classes), (Some("entity_job"), None));
    assert_eq!((figures.must_have_terms.len(), figures.term_gating), (0, None));
    assert_eq!(misread.citations[0].node, oil);

    let job = json!({ "job_title": "Machine learning engineer", "text": "We are hiring a machine learning engineer with PyTorch experience.", "status": "open" });
    let open = site.node(&t, "Job", job.clone()).await;
    let mut filled = job;
    filled["status"] = json!("filled");
    site.node(&t, "Job", filled).await;
    site.node(&t, "Job", json!({ "text": "Cook for the canteen." })).await;
    let positions = ask
        .answer(&view, question("What ML engineer positions are open?"))
        .await
        .expect("an answer");
    let figures = report(&positions);
    assert_eq!((figures.intent, figures.structured), (Some("open_positions"), 1));
    assert_eq!((positions.citations[0].node, figures.fit.top), (open, 1.0));
    assert!(positions.confidence >= 0.85);

    let ticket =
        json!({ "text": "The reporting dashboard has a performance problem: queries time out." });
    let ticket = site.node(&t, "Ticket", ticket).await;
    let issues = || question("What are the main performance issues reported?");
    let recent = ask.answer(&view, issues()).await.expect("an answer");
    assert_eq!((report(&recent).structured, recent.citations[0].node), (1, ticket));
    site.clock.advance(Duration::from_secs(31 * 86_400));
    let late = ask.answer(&view, issues()).await.expect("an answer");
    assert_eq!(report(&late).structured, 0);

    let articles = ask.answer(&view, question("Which article is about machine learning?")).await;
    assert_eq!(report(&articles.expect("an answer")).classes, None);
    site.node(&t, "Article", json!({ "text": "An article about machine learning in practice." }))
        .await;
    let articles = ask
        .answer(&view, question("Which article is about machine learning?"))
        .await
        .expect("an answer");
    assert_eq!(report(&articles).classes, Some(&["Article"][..]));
    assert_eq!(report(&articles).searched, 1);
}

#[tokio::test]
async fn a_stream_ends_with_the_answer_or_with_a_failure() {
    let site = Site::open().await;
    let t = tenant("t");
    let script = Arc::new(Script::default());
    let ask = site.ask(script.clone());
    let events = async |text: &str| {
        let stream = ask.stream(View::of(t.clone()), question(text)).expect("answers are on");
        stream.collect::<Vec<_>>().await
    };

    let empty = events("Which seal kit does gate valve A need?").await;
    assert!(matches!(empty.as_slice(), [Event::Final(answer)] if answer.text == NOTHING_FOUND));

    let valve = site.node(&t, "Doc", json!({ "text": VALVE })).await;
    script.says(&["It needs ", "SK-7 [0]."]);
    for pieces in [&["It needs ", "SK-7 [0]."][..], &["It needs SK-7 [0]."][..]] {
        let events = events("Which seal kit does gate valve A need?").await;
        let [Event::Context { nodes, top_similarity }, tokens @ .., Event::Final(last)] =
            events.as_slice()
        else {
            panic!("{events:?}");
        };
        assert_eq!((nodes.as_slice(), *top_similarity), (&[valve][..], report(last).fit.top));
        let told: Vec<&str> = tokens
            .iter()
            .map(|event| match event {
                Event::Token(text) => text.as_str(),
                other => panic!("{other:?}"),
            })
            .collect();
        assert_eq!(told, pieces);
        assert_eq!((last.text.as_str(), last.citations.len()), ("It needs SK-7 [0].", 1));
    }
    assert_eq!(script.calls(), 1, "the second is from memory");

    script.breaks_after("It ");
    let broken = events("What does the pressure test of gate valve A need?").await;
    assert!(
        matches!(
            broken.as_slice(),
            [Event::Context { .. }, Event::Token(_), Event::Failed(Error::Writer(_))]
        ),
        "{broken:?}"
    );
    let failed =
        ask.answer(&View::of(t.clone()), question("What about the test of gate valve A?")).await;
    assert!(matches!(failed, Err(Error::Writer(_))));
}

#[tokio::test]
async fn the_extractive_writer_answers_with_citations() {
    let site = Site::open().await;
    let t = tenant("t");
    let ask = site.ask(Arc::new(Extractive::new(site.embedder.clone())));
    let pump = site.node(&t, "Doc", json!({ "text": PUMP })).await;
    site.node(&t, "Doc", json!({ "text": VALVE })).await;
    let view = View::of(t);
    let answer = ask
        .answer(&view, question("How often should the bearing temperature of a pump be checked?"));
    let answer = answer.await.expect("an answer");
    assert!(answer.text.starts_with(PUMP.trim_end_matches('.')), "{}", answer.text);
    assert_eq!(answer.citations[0].node, pump);
}

#[tokio::test]
async fn answers_can_be_off() {
    let site = Site::open().await;
    let off = site.ask_by(None, gate::Thresholds::default());
    let view = View::of(tenant("t"));
    assert_eq!(off.writer_name(), None);
    let refused = off.answer(&view, question("q?")).await.expect_err("answers are off");
    let text =
        "LLM provider not enabled. Set LLM_ENABLED=true and configure LLM_BACKEND/LLM_MODEL.";
    assert_eq!(refused.to_string(), text);
    assert!(matches!(off.stream(view, question("q?")), Err(Error::Off)));
}
