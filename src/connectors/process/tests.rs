use std::fs;
use std::sync::Arc;

use activekg_storage::{ManualClock, Store, StoreOptions};
use futures_util::FutureExt as _;
use serde_json::json;
use tempfile::TempDir;

use super::*;
use crate::connectors::{Connector, Origin, SourceParts};
use crate::documents;
use crate::graph::{FreeSpace, View};

/// A folder that documents are made of.
struct Bench {
    graph: Graph,
    processor: Processor,
    place: Place,
    dir: TempDir,
    _data: TempDir,
}

fn acme() -> TenantId {
    TenantId::new("acme").unwrap()
}

fn bench() -> Bench {
    let (dir, data) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    let store = Arc::new(Store::open(data.path(), StoreOptions::default()).unwrap());
    let space = FreeSpace::new(data.path().to_owned(), Some(0)).unwrap();
    let clock = Arc::new(ManualClock::at(UnixMicros(1_000_000)));
    let graph = Graph::new(store, graph::Settings::default(), clock, space);
    let limits = documents::Limits {
        timeout: Duration::from_secs(10),
        memory_bytes: 64 << 20,
        expanded_bytes: 1 << 20,
        text_bytes: 1 << 20,
    };
    let chunking = Chunking { max_chars: 100, overlap_chars: 10 };
    let extractor = Extractor::new(limits, None);
    let processor = Processor::new(graph.clone(), extractor, chunking, 1 << 20);
    Bench { graph, processor, place: place(dir.path()), dir, _data: data }
}

fn place(folder: &std::path::Path) -> Place {
    let Value::Object(settings) = json!({ "path": folder }) else { panic!("an object") };
    let parts = SourceParts::of_folders(vec![folder.to_owned()]);
    let source = Source::open(Provider::Local, &Connector::unsaved(settings), &parts);
    let (provider, prefix) = (Provider::Local, String::new());
    Place { tenant: acme(), provider, source: source.unwrap(), prefix, max_bytes: None }
}

impl Bench {
    fn write(&self, name: &str, text: &str) {
        fs::write(self.dir.path().join(name), text).unwrap();
    }

    fn uri(&self, name: &str) -> String {
        format!("file://{}/{name}", self.dir.path().display())
    }

    async fn apply(&self, name: &str, action: Action, origin: Origin) -> Result<Effect, Failure> {
        let change = Change::new(self.uri(name), action, origin);
        Ok(self.processor.apply(&self.place, &change).await?.0)
    }

    async fn document(&self, name: &str) -> Option<KnownDocument> {
        let name = document_name(Provider::Local, &acme(), &self.uri(name));
        self.graph.known_documents(&acme(), vec![name]).await.unwrap().pop().unwrap()
    }

    async fn is_live(&self, name: &str) -> bool {
        self.document(name).await.is_some_and(|document| !document.is_deleted)
    }

    /// Somebody deletes the document.
    async fn delete_by_hand(&self, name: &str) {
        let name = document_name(Provider::Local, &acme(), &self.uri(name));
        let id = identity::node_id(&name);
        self.graph.delete(&View::of(acme()), id).await.unwrap();
    }
}

#[tokio::test]
async fn a_deletion_is_believed_when_the_source_has_the_object_no_more() {
    let bench = bench();
    bench.write("a.txt", "one");
    let applied = bench.apply("a.txt", Action::Upsert, Origin::Webhook).await;
    assert_eq!(applied.unwrap(), Effect::Created);
    // As of an older version of it, or one that was replayed long after.
    let applied = bench.apply("a.txt", Action::Deleted, Origin::Webhook).await;
    assert_eq!(applied.unwrap(), Effect::Skipped);
    assert!(bench.is_live("a.txt").await);
    bench.write("a.txt", "two and more");
    let applied = bench.apply("a.txt", Action::Deleted, Origin::Webhook).await;
    assert_eq!(applied.unwrap(), Effect::Updated, "the object is what counts");
    fs::remove_file(bench.dir.path().join("a.txt")).unwrap();
    let applied = bench.apply("a.txt", Action::Deleted, Origin::Webhook).await;
    assert_eq!(applied.unwrap(), Effect::Deleted);
    assert!(!bench.is_live("a.txt").await);
}

#[tokio::test]
async fn a_deletion_that_cannot_be_looked_into_hides_nothing() {
    let mut bench = bench();
    bench.write("a.txt", "one");
    bench.apply("a.txt", Action::Upsert, Origin::Poll).await.unwrap();
    // The connector is for another folder now.
    let elsewhere = tempfile::tempdir().unwrap();
    bench.place = place(elsewhere.path());
    let refused = bench.apply("a.txt", Action::Deleted, Origin::Webhook).await;
    assert!(matches!(refused, Err(Failure::Source(_))), "{refused:?}");
    assert!(bench.is_live("a.txt").await);
    // Where there is nothing to hide it does not matter.
    let passed = bench.apply("b.txt", Action::Deleted, Origin::Webhook).await;
    assert_eq!(passed.unwrap(), Effect::Skipped);
}

#[tokio::test]
async fn what_somebody_deleted_comes_back_when_it_is_another_or_asked_for() {
    let bench = bench();
    bench.write("a.txt", "one");
    bench.apply("a.txt", Action::Upsert, Origin::Poll).await.unwrap();
    bench.delete_by_hand("a.txt").await;
    for origin in [Origin::Poll, Origin::Webhook] {
        let applied = bench.apply("a.txt", Action::Upsert, origin).await;
        assert_eq!(applied.unwrap(), Effect::Skipped);
    }
    assert!(!bench.is_live("a.txt").await);
    bench.write("a.txt", "another text");
    let applied = bench.apply("a.txt", Action::Upsert, Origin::Poll).await;
    assert_eq!(applied.unwrap(), Effect::Created);
    bench.delete_by_hand("a.txt").await;
    let applied = bench.apply("a.txt", Action::Upsert, Origin::Ingest).await;
    assert_eq!(applied.unwrap(), Effect::Created);
    assert!(bench.is_live("a.txt").await);
}

#[tokio::test]
async fn what_its_source_deleted_comes_back_as_it_was() {
    let bench = bench();
    bench.write("a.txt", "one");
    bench.apply("a.txt", Action::Upsert, Origin::Poll).await.unwrap();
    let (path, aside) = (bench.dir.path().join("a.txt"), bench.dir.path().join("aside"));
    fs::rename(&path, &aside).unwrap();
    let applied = bench.apply("a.txt", Action::Deleted, Origin::Poll).await;
    assert_eq!(applied.unwrap(), Effect::Deleted);
    let hidden = bench.document("a.txt").await.expect("it is kept");
    assert!(hidden.is_deleted && hidden.is_deleted_by_source);
    fs::rename(&aside, &path).unwrap();
    let applied = bench.apply("a.txt", Action::Upsert, Origin::Poll).await;
    assert_eq!(applied.unwrap(), Effect::Created);
    let live = bench.document("a.txt").await.expect("it is there");
    assert!(!live.is_deleted && !live.is_deleted_by_source);
}

#[tokio::test]
async fn an_object_is_read_when_there_is_room_for_it() {
    let bench = bench();
    bench.write("a.txt", "one");
    let all = bench.processor.budget.room_for(u64::MAX).now_or_never().expect("all of it");
    let mut applying = Box::pin(bench.apply("a.txt", Action::Upsert, Origin::Poll));
    for _ in 0..50 {
        assert!((&mut applying).now_or_never().is_none());
        tokio::task::yield_now().await;
        let listed = tokio::task::spawn_blocking(|| ()).await;
        listed.unwrap();
    }
    drop(all);
    assert_eq!(applying.await.unwrap(), Effect::Created);
}

#[test]
fn documents_are_named_by_what_follows_the_scheme() {
    let acme = TenantId::new("acme").unwrap();
    for (provider, uri, name) in [
        (Provider::Gcs, "gs://docs-bucket/a/b.pdf", "gcs:acme:docs-bucket/a/b.pdf"),
        (Provider::S3, "s3://my-bucket/q1 2026.txt", "s3:acme:my-bucket/q1 2026.txt"),
        (Provider::Drive, "drive:1AbC", "drive:acme:1AbC"),
        (Provider::Http, "https://example.org/a:b", "http:acme:example.org/a:b"),
    ] {
        assert_eq!(document_name(provider, &acme, uri), name);
    }
}

#[test]
fn what_came_before_the_document_is_older() {
    let known = KnownDocument {
        etag: None,
        content_hash: None,
        generation: Some("7".to_owned()),
        sequencer: Some("0A".to_owned()),
        is_deleted: false,
        is_deleted_by_source: false,
    };
    let change = |generation: Option<&str>, sequencer: Option<&str>| Change {
        generation: generation.map(str::to_owned),
        sequencer: sequencer.map(str::to_owned),
        ..Change::new("u".to_owned(), Action::Deleted, Origin::Webhook)
    };
    for (provider, generation, sequencer, older) in [
        (Provider::Gcs, Some("6"), None, true),
        (Provider::Gcs, Some("7"), None, false),
        (Provider::Gcs, None, Some("09"), false),
        (Provider::S3, None, Some("09"), true),
        (Provider::S3, None, Some("0B"), false),
        (Provider::Local, Some("1"), Some("1"), false),
    ] {
        let change = change(generation, sequencer);
        assert_eq!(is_older(provider, &change, Some(&known)), older, "{change:?}");
        assert!(!is_older(provider, &change, None));
    }
}

#[test]
fn every_class_is_among_those_that_begin_at_zero() {
    let texts = [NoText::Empty, NoText::Unsupported, NoText::Busy].map(Failure::Text);
    let graph = Failure::from(graph::Error::Interrupted);
    for failure in texts.iter().chain([&graph]) {
        assert!(Failure::CLASSES.contains(&failure.class()), "{failure}");
        assert!(failure.to_string().starts_with(&format!("{}: ", failure.class())));
    }
    assert!(Failure::from(graph::Error::QueueFull).is_transient());
    assert!(!Failure::Text(NoText::Unsupported).is_transient());
}
