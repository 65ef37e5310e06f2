//! What connectors bring in: from a change of a file to what searches show.

use std::collections::BTreeMap;
use std::fs;
use std::thread;
use std::time::Duration;

use activekg_storage::ids::NodeId;
use activekg_storage::tables::graph::{EDGES, EmbeddingStatus, NODES};
use activekg_storage::{Readable as _, Scan, Store, StoreOptions};
use rand::rngs::StdRng;
use rand::{Rng as _, SeedableRng as _};
use serde_json::{Value, json};

use super::site::{Site, counted};
use super::{at, register};
use crate::common::token::{JWT_ENV, token};
use crate::common::{Answer, Request};

#[test]
fn files_become_documents_change_go_and_come_back() {
    let site = Site::registered("default");
    site.write("ferry.txt", "The ferry leaves at noon.");
    site.write("zeppelin.txt", "The zeppelin lands at dusk.");
    let dry = site.ingest(&json!({}));
    assert_eq!((&dry["status"], &dry["would_queue"]), (&json!("dry_run"), &json!(2)));
    assert_eq!((&dry["total_found"], &dry["next_cursor"]), (&json!(2), &Value::Null));
    assert_eq!(site.settled("default")["pending"], 0, "nothing was queued");

    let taken = site.take("default");
    assert_eq!((&taken["status"], &taken["queued_count"]), (&json!("queued"), &json!(2)));
    assert_eq!(taken["queue_key"], "connector:local:default:queue");
    site.finds("ferry", &["ferry.txt"]);
    let document = site.document("default", "ferry.txt");
    let props = &document["props"];
    assert_eq!((&props["title"], &props["is_parent"]), (&json!("ferry.txt"), &json!(true)));
    assert_eq!(props["size"], 25);
    assert_eq!(props["content_hash"].as_str().map(str::len), Some(64));
    assert!(props["etag"].is_string() && props["modified_at"].is_string(), "{document}");

    let again = site.take("default");
    assert_eq!((&again["queued_count"], &again["skipped_count"]), (&json!(0), &json!(2)));
    site.touch("default", &["ferry.txt"]);
    site.server.logged("ETag unchanged");

    site.write("ferry.txt", "The ferry leaves at ten, the bus at eleven.");
    assert_eq!(site.take("default")["queued_count"], 1);
    site.finds("bus", &["ferry.txt"]);
    assert_eq!(site.found("noon"), [""; 0]);
    assert_eq!(site.document("default", "ferry.txt")["id"], document["id"], "in place");

    fs::remove_file(site.folder.join("ferry.txt")).unwrap();
    site.touch("default", &["ferry.txt"]);
    assert_eq!(site.found("ferry bus"), [""; 0], "hidden at once");
    let hidden = site.document("default", "ferry.txt");
    assert!(hidden["classes"].as_array().unwrap().contains(&json!("Deleted")), "{hidden}");
    assert!(hidden["props"]["deletion_grace_until"].is_string(), "{hidden}");
    let ask = json!({ "question": "When does the ferry leave?", "tenant_id": "default" });
    let answer = site.server.post("/ask", &ask).expect(200);
    assert!(!answer["answer"].to_string().contains("at ten"), "{answer}");

    site.write("ferry.txt", "The ferry leaves at ten, the bus at eleven.");
    assert_eq!(site.take("default")["queued_count"], 1);
    site.finds("bus", &["ferry.txt"]);
    let revived = site.document("default", "ferry.txt");
    assert_eq!(revived["classes"], json!(["Document"]));
    assert!(revived["props"].get("deleted_at").is_none(), "{revived}");

    let of = |result| {
        let labels = format!("provider=\"local\",result=\"{result}\",tenant=\"default\"");
        counted(&site.server, &format!("connector_worker_processed_total{{{labels}}}"))
    };
    assert_eq!(["created", "updated", "deleted"].map(of), [3.0, 1.0, 1.0]);
    assert!(of("skipped") >= 1.0);
    let labels = "provider=\"local\",tenant=\"default\"";
    assert_eq!(counted(&site.server, &format!("connector_ingest_total{{{labels}}}")), 4.0);
    assert_eq!(counted(&site.server, &format!("connector_worker_queue_depth{{{labels}}}")), 0.0);
}

/// The chunks of a file, in order: id, text, version.
fn chunks(site: &Site, name: &str) -> Vec<(String, String, u64)> {
    let path = site.folder.join(name);
    let mut chunks = Vec::new();
    for index in 0.. {
        let external = format!("local:default:{}%23chunk{index}", path.display());
        let query = format!("/nodes/by-external-id?tenant_id=default&external_id={external}");
        let answer = site.server.get(&query);
        if answer.status == 404 {
            return chunks;
        }
        let node = answer.expect(200);
        let text = node["props"]["text"].as_str().unwrap().to_owned();
        let id = node["id"].as_str().unwrap().to_owned();
        chunks.push((id, text, node["version"].as_u64().unwrap_or(0)));
    }
    unreachable!("a document has so many chunks")
}

#[test]
fn a_shorter_text_has_fewer_chunks_and_keeps_the_same_ones() {
    let site = Site::registered("default");
    let sentences = |n: usize| -> String { (0..n).map(|n| format!("Sentence {n:05}. ")).collect() };
    site.write("long.txt", &sentences(1500));
    site.take("default");
    let before = chunks(&site, "long.txt");
    assert_eq!(before.len(), 4);
    site.write("long.txt", &sentences(700));
    site.take("default");
    let after = chunks(&site, "long.txt");
    assert_eq!(after.len(), 2, "surplus chunks are gone");
    assert_eq!(after[0].0, before[0].0);
    assert_eq!(after[0].1, before[0].1, "the first one is the same");

    // The same text with another time: only what is said of it changes.
    let hash = site.document("default", "long.txt")["props"]["content_hash"].clone();
    let file = fs::File::open(site.folder.join("long.txt")).unwrap();
    let hour = Duration::from_secs(3600);
    file.set_modified(std::time::SystemTime::now() - hour).unwrap();
    site.touch("default", &["long.txt"]);
    site.server.logged("content hash unchanged");
    let document = site.document("default", "long.txt");
    assert_eq!(document["props"]["content_hash"], hash);
    assert_eq!(chunks(&site, "long.txt"), after);
}

#[test]
fn what_no_connector_can_work_on_is_held_until_one_can() {
    let site = Site::registered("default");
    site.write("a.txt", "The anchor is heavy.");
    let owner = json!({ "tenant_id": "default" });
    site.server.post(&at("local/disable"), &owner).expect(200);
    let refused = site.server.post(&at("local/ingest"), &json!({})).expect_detail(400);
    assert_eq!(refused, "local connector not registered for tenant");
    site.server.post(&at("local/enable"), &owner).expect(200);

    // Nothing of the queue is leased while it is paused, so the item is there to be held.
    site.switch("pause");
    site.ingest(&json!({ "dry_run": false }));
    site.server.post(&at("local/disable"), &owner).expect(200);
    let status = site.settled("default");
    assert_eq!((&status["held"], &status["pending"]), (&json!(1), &json!(1)));
    let peeked = site.server.get(&at("local/queue?tenant_id=default&from=oldest&limit=1"));
    let peeked = peeked.expect(200);
    assert_eq!((&peeked["depth"], &peeked["items"][0]["state"]), (&json!(1), &json!("held")));
    assert_eq!(peeked["items"][0]["held"], "no_config");
    assert_eq!(peeked["items"][0]["item"]["uri"], site.uri("a.txt"));
    assert_eq!(peeked["items"][0]["item"]["operation"], "upsert");
    assert_eq!(peeked["items"][0]["item"]["source"], "ingest");

    site.switch("resume");
    assert_eq!(site.settled("default")["held"], 1, "it stays held");
    site.server.post(&at("local/enable"), &owner).expect(200);
    let status = Request::get(at("local/queue-status?tenant_id=default"));
    site.server.until(&status, |answer| answer.json()["pending"] == 0);
    site.finds("anchor", &["a.txt"]);

    site.switch("pause");
    site.write("b.txt", "The boat is light.");
    site.ingest(&json!({ "dry_run": false }));
    site.server.delete(&at("local/config?tenant_id=default")).expect(200);
    assert_eq!(site.settled("default")["held"], 1);
    site.switch("resume");
    site.register("default");
    site.server.until(&status, |answer| answer.json()["pending"] == 0);
    site.finds("boat", &["b.txt"]);
}

#[test]
fn what_cannot_be_taken_in_is_kept_with_its_reason() {
    let site = Site::new(&[("CONNECTOR_MAX_FILE_SIZE_MB", "1")]);
    site.register("default");
    site.write("good.txt", "The good one.");
    site.write("blank.txt", " \n ");
    site.write("large.txt", &"x".repeat((1 << 20) + 1));
    site.take("default");
    site.finds("good", &["good.txt"]);
    let inspect = at("dlq/inspect/local/default");
    let dead = site.server.get(&inspect).expect(200);
    assert_eq!(
        (&dead["queue_key"], &dead["depth"]),
        (&json!("connector:local:default:dlq"), &json!(2))
    );
    let mut letters = dead["items"].as_array().unwrap().clone();
    letters.sort_by_key(|letter| letter["item"]["uri"].as_str().map(str::to_owned));
    let classes: Vec<&Value> = letters.iter().map(|letter| &letter["error_class"]).collect();
    assert_eq!(classes, [&json!("extract_failed"), &json!("too_large")]);
    for letter in &letters {
        assert_eq!((&letter["reason"], &letter["attempts"]), (&json!("permanent"), &json!(1)));
        assert_eq!(
            (&letter["provider"], &letter["tenant_id"]),
            (&json!("local"), &json!("default"))
        );
        assert_eq!(
            (&letter["operation"], &letter["item"]["operation"]),
            (&json!("upsert"), &json!("upsert"))
        );
        assert!(letter["failed_at"].is_string() && letter["timestamp"] == letter["failed_at"]);
    }
    site.server.logged("ingestion failed");
    let labels = "provider=\"local\",tenant=\"default\"";
    assert_eq!(counted(&site.server, &format!("connector_dlq_depth{{{labels}}}")), 2.0);
    let dead = "provider=\"local\",reason=\"permanent\",tenant=\"default\"";
    assert_eq!(counted(&site.server, &format!("connector_dlq_total{{{dead}}}")), 2.0);
    let none = site.server.get(&format!("{inspect}?reason=exhausted")).expect(200);
    assert_eq!(none["items"], json!([]));

    site.write("blank.txt", "No longer blank.");
    let one = json!({ "id": letters[0]["id"] });
    let replayed = site.server.post(&at("dlq/replay/local/default"), &one).expect(200);
    assert_eq!(replayed, json!({ "replayed": 1, "superseded": 0 }));
    site.finds("longer", &["blank.txt"]);
    let cleared =
        site.server.send(&Request::new("POST", at("dlq/clear/local/default"))).expect(200);
    assert_eq!(cleared, json!({ "purged": 1, "remaining": 0 }));
}

#[test]
fn a_backfill_stops_at_its_limit_and_goes_on_where_it_stopped() {
    let site = Site::registered("default");
    for n in 0..7 {
        site.write(&format!("{n}.txt"), &format!("Number {n} of the files."));
    }
    let body = json!({ "max_items": 5, "batch_size": 2, "dry_run": false });
    let first = site.ingest(&body);
    assert_eq!((&first["queued_count"], &first["total_found"]), (&json!(5), &json!(5)));
    let cursor = first["next_cursor"].as_str().expect("there is more");
    let rest = site.ingest(&json!({ "cursor": cursor, "dry_run": false, "skip_existing": false }));
    let bad = site.server.post(&at("local/ingest"), &json!({ "cursor": "../x" }));
    assert_eq!(bad.expect_detail(400), "cursor is not one of this connector");
    let long = site.server.post(&at("local/ingest"), &json!({ "cursor": "a/".repeat(9000) }));
    assert_ne!(long.status, 422, "cursors may be long: {}", long.text());
    assert_eq!((&rest["queued_count"], &rest["next_cursor"]), (&json!(2), &Value::Null));
    site.settled("default");

    let dry = json!({ "dry_run": true });
    let nothing = site.server.post(&at("local/backfill"), &dry).expect(200);
    let expected = json!({
        "status": "ok", "found": 7, "next_cursor": null, "queued": 0, "skipped": 7,
        "tenant_id": "default", "provider": "local", "queue_key": "connector:local:default:queue",
    });
    assert_eq!(nothing, expected);
    site.write("0.txt", "Another text.");
    let one = site.server.send(&Request::new("POST", at("local/backfill"))).expect(200);
    assert_eq!((&one["queued"], &one["skipped"]), (&json!(1), &json!(6)));
    for (provider, body) in
        [("s3", json!({})), ("ftp", json!({})), ("local", json!({"tenant_id": "other"}))]
    {
        let refused = site.server.post(&at(&format!("{provider}/backfill")), &body);
        assert_eq!(
            refused.expect_detail(400),
            format!("{provider} connector not registered for tenant")
        );
    }
    let cursor = site.server.get(&at("local/cursor?tenant_id=default")).expect(200);
    assert_eq!((&cursor["provider"], &cursor["tenant_id"]), (&json!("local"), &json!("default")));
    let health = site.server.get("/health").expect(200);
    assert_eq!(health["components"]["workers"]["connector"]["running"], 4);
}

#[test]
fn a_backfill_that_passes_much_by_ends_in_the_middle_of_a_page() {
    let site = Site::registered("default");
    for n in 0..9 {
        site.write(&format!("{n}.txt"), &format!("Number {n} of the files."));
    }
    site.touch("default", &["0.txt", "1.txt", "2.txt", "5.txt"]);
    let mut body = json!({ "max_items": 2, "batch_size": 8, "dry_run": true });
    let mut queued = Vec::new();
    loop {
        let answer = site.ingest(&body);
        let told = |name: &str| answer[name].as_u64().unwrap();
        queued.push((told("would_queue"), told("total_found")));
        if answer["next_cursor"].is_null() {
            break;
        }
        body["cursor"] = answer["next_cursor"].clone();
    }
    // 3 and 4 after three others; 6 and 7 after one; 8.
    assert_eq!(queued, [(2, 6), (2, 2), (1, 1)]);
}

#[test]
fn waiting_changes_can_be_thrown_away() {
    let site = Site::registered("default");
    site.switch("pause");
    for n in 0..3 {
        site.write(&format!("{n}.txt"), "text");
    }
    site.ingest(&json!({ "dry_run": false }));
    let queue = at("local/queue?tenant_id=default");
    let newest = site.server.get(&format!("{queue}&from=newest&limit=2")).expect(200);
    assert_eq!((&newest["depth"], newest["items"].as_array().map(Vec::len)), (&json!(3), Some(2)));
    assert_eq!(site.server.delete(&queue).status, 422, "it must say what goes");
    let kept = site.server.delete(&format!("{queue}&keep=1")).expect(200);
    assert_eq!(kept, json!({ "purged": 2, "remaining": 1 }));
    let all = site.server.delete(&format!("{queue}&all=true")).expect(200);
    assert_eq!(all, json!({ "purged": 1, "remaining": 0 }));
}

#[test]
fn only_operators_see_queues_of_others() {
    let mut env = JWT_ENV.to_vec();
    env.push(("RUN_CONNECTOR_WORKER", "false"));
    let site = Site::new(&env);
    let admin = token("acme", &["admin:refresh"]);
    let operator = token("root", &["super_admin"]);
    let send = |request: Request, token: &str| site.server.send(&request.bearer(token));
    let status = |tenant: &str| Request::get(at(&format!("local/queue-status?tenant_id={tenant}")));
    assert_eq!(send(status("acme"), &admin).expect(200)["tenant_id"], "acme");
    assert_eq!(send(status("harbor"), &admin).expect_detail(403), "Cross-tenant access denied");
    assert_eq!(send(status("harbor"), &operator).expect(200)["pending"], 0);
    let ingest = || Request::post(at("local/ingest"), &json!({ "tenant_id": "acme" }));
    assert_eq!(send(ingest(), &admin).expect_detail(403), "super_admin scope required");
    assert_eq!(
        send(ingest(), &operator).expect_detail(400),
        "local connector not registered for tenant"
    );
    let inspect = || Request::get(at("dlq/inspect/local/acme"));
    assert_eq!(send(inspect(), &admin).expect_detail(403), "super_admin scope required");
    assert_eq!(send(inspect(), &operator).expect(200)["depth"], 0);
    assert_eq!(send(Request::get(at("dlq/inspect/ftp/acme")), &operator).status, 400);
    let backfill = Request::post(at("local/backfill"), &json!({ "tenant_id": "harbor" }));
    assert_eq!(send(backfill, &admin).expect_detail(403), "Cross-tenant access denied");
    assert_eq!(
        site.server.get("/health").expect(200)["components"]["workers"]["connector"]["running"],
        0
    );
}

/// What became of the files of a folder, by what the store holds. The server must be stopped.
fn check_taken_in(site: &Site, n_files: usize) {
    let store = Store::open(site.server.dir(), StoreOptions::default()).unwrap();
    let snapshot = store.read().unwrap();
    let (mut documents, mut chunks, mut edges) =
        (BTreeMap::new(), BTreeMap::new(), BTreeMap::<NodeId, Vec<NodeId>>::new());
    for row in snapshot.scan(&NODES, Scan::all()).unwrap() {
        let ((_, id), node) = row.unwrap();
        let props: Value = serde_json::from_str(node.props.as_str()).unwrap();
        let status = node.embedding_status;
        if node.classes == ["Document"] {
            assert_eq!(status, EmbeddingStatus::Skipped, "{props}");
            assert!(documents.insert(id, node.external_id.unwrap()).is_none());
        } else {
            assert_eq!(
                (&node.classes[..], status),
                (&["Chunk".to_owned()][..], EmbeddingStatus::Ready)
            );
            chunks.insert(id, props["parent_id"].as_str().unwrap().to_owned());
        }
    }
    for row in snapshot.scan(&EDGES, Scan::all()).unwrap() {
        let ((_, from, rel, to), _) = row.unwrap();
        assert_eq!(rel, "DERIVED_FROM");
        edges.entry(to).or_default().push(from);
    }
    drop(snapshot);
    store.close();
    assert_eq!((documents.len(), chunks.len(), edges.len()), (n_files, n_files, n_files));
    for (id, external) in documents {
        let [chunk] = edges[&id][..] else { panic!("{external} has {:?}", edges[&id]) };
        assert_eq!(chunks[&chunk], external);
    }
}

#[test]
fn a_folder_is_watched() {
    let site = Site::new(&[("RUN_SCHEDULER", "true")]);
    site.write("early.txt", "The lantern was lit early.");
    // It is not due again before the test ends.
    let config = json!({ "path": site.folder, "poll_interval_seconds": 3600 });
    register(&site.server, "local", "default", &config);
    site.finds("lantern", &["early.txt"]);
    site.server.logged("watching a folder");
    site.write("late.txt", "The lantern was lit late.");
    site.finds("lantern", &["early.txt", "late.txt"]);
    fs::create_dir(site.folder.join("attic")).unwrap();
    site.write("attic/old.txt", "An old lantern.");
    site.finds("lantern", &["early.txt", "late.txt", "old.txt"]);
    site.write("late.txt", "No light at all.");
    fs::remove_file(site.folder.join("early.txt")).unwrap();
    site.finds("lantern", &["old.txt"]);
    fs::remove_dir_all(site.folder.join("attic")).unwrap();
    site.finds("lantern", &[]);
}

#[test]
fn a_killed_server_takes_up_what_was_queued() {
    const FILES: usize = 1000;
    const KILLS: usize = 8;
    let mut site = Site::new(&[("RUN_EMBEDDING_WORKER", "true")]);
    site.register("default");
    for n in 0..FILES {
        site.write(&format!("{n}.txt"), &format!("Number {n}."));
    }
    let mut random = StdRng::seed_from_u64(0x5EED);
    site.ingest(&json!({ "dry_run": false, "batch_size": 500 }));
    for _ in 0..KILLS {
        // The kill may come at any moment; none is waited for.
        thread::sleep(Duration::from_millis(random.random_range(0..=400)));
        site.server.kill();
        site.server.start_again(&[]);
    }
    let status = Request::get(at("local/queue-status?tenant_id=default"));
    let left = |answer: &Answer| answer.json()["pending"].as_u64().unwrap();
    let done = site.server.until(&status, |answer| left(answer) == 0).expect(200);
    assert_eq!((&done["dlq"], &done["leased"]), (&json!(0), &json!(0)));
    let again = site.ingest(&json!({ "dry_run": true }));
    assert_eq!((&again["would_queue"], &again["skipped_count"]), (&json!(0), &json!(FILES)));
    let embedding = Request::get("/admin/embedding/status");
    site.server.until(&embedding, |answer| {
        answer.json()["status_counts"] == json!({ "ready": FILES, "skipped": FILES })
    });
    let queues = site.server.get("/admin/queues").expect(200);
    for queue in queues["queues"].as_array().unwrap() {
        let none = json!({ "ready": 0, "delayed": 0, "leased": 0, "held": 0, "dead": 0 });
        assert_eq!(queue["depths"], none, "{queue}");
    }
    assert!(site.server.terminate().success());
    check_taken_in(&site, FILES);
}

#[test]
fn a_source_that_hangs_keeps_no_other_waiting() {
    // Connections are made, and nothing ever comes back.
    let silent = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let site =
        Site::new(&[("CONNECTOR_WORKER_CONCURRENCY", "1"), ("CONNECTOR_WORKER_BATCH_SIZE", "4")]);
    let endpoint = format!("http://{}", silent.local_addr().unwrap());
    let s3 = json!({ "bucket": "docs", "endpoint": endpoint, "access_key_id": "AKIAIOSFODNN7EXAMPLE",
        "secret_access_key": "x".repeat(40) });
    register(&site.server, "s3", "slow", &s3);
    let uris: Vec<String> = (0..8).map(|n| format!("s3://docs/{n}.txt")).collect();
    let body = json!({ "tenant_id": "slow", "dry_run": false, "uris": uris });
    site.server.post(&at("s3/ingest"), &body).expect(200);
    let stats = Request::get("/admin/queues/connector:s3");
    let leased = |answer: &Answer| answer.json()["depths"]["leased"].clone();
    site.server.until(&stats, |answer| leased(answer) == 3);

    site.register("default");
    for n in 0..3 {
        site.write(&format!("{n}.txt"), &format!("Number {n} of the files."));
    }
    site.take("default");
    assert_eq!(leased(&site.server.send(&stats)), 3, "they still hang, and are no more");
    assert_eq!(site.document("default", "2.txt")["props"]["title"], "2.txt");
}
