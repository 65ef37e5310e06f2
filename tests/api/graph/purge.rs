//! Purges: what was deleted goes for good, and leaves receipts.

use std::io::Write as _;
use std::process::{Command, Output, Stdio};
use std::thread;

use serde_json::{Value, json};

use crate::common::token::{JWT_ENV, token};
use crate::common::{Options, Request, Server};

const PURGE: &str = "/_admin/connectors/purge_deleted";
const RECEIPTS: &str = "/_admin/connectors/purge_receipts";
const PAST: &str = "2020-01-01T00:00:00+00:00";
/// Nothing is embedded, which takes longer than everything else here.
const ENV: &[(&str, &str)] = &[("AUTO_EMBED_ON_CREATE", "false")];

/// A deleted document and its chunks, of which only the document says that it is deleted.
fn document(
    server: &Server,
    tenant: &str,
    name: &str,
    grace: Value,
    n_chunks: usize,
) -> Vec<String> {
    let node = |classes: Value, props: Value| json!({ "classes": classes, "props": props });
    let props = json!({ "external_id": name, "title": name, "deletion_grace_until": grace });
    let mut nodes = vec![node(json!(["Document", "Deleted"]), props)];
    for n in 0..n_chunks {
        let props = json!({ "parent_id": name, "chunk_index": n, "text": format!("{name} {n}") });
        nodes.push(node(json!(["Chunk"]), props));
    }
    let mut ids = Vec::new();
    for nodes in nodes.chunks(100) {
        let body = json!({ "tenant_id": tenant, "nodes": nodes });
        let answer = server.post("/nodes/batch", &body).expect(200);
        let results = answer["results"].as_array().expect("results").iter();
        ids.extend(results.map(|made| made["id"].as_str().expect("an id").to_owned()));
    }
    ids
}

fn purge(server: &Server, body: &Value) -> Value {
    server.post(PURGE, body).expect(200)
}

fn n_nodes(server: &Server, tenant: &str) -> u64 {
    let stats = server.get(&format!("/nodes?tenant_id={tenant}&limit=1")).expect(200);
    stats["total"].as_u64().expect("a number")
}

fn exists(server: &Server, tenant: &str, id: &str) -> bool {
    server.get(&format!("/nodes/{id}?tenant_id={tenant}")).status == 200
}

fn run(server: &Server, line: &str, input: Option<&str>) -> Output {
    let arguments: Vec<&str> = line.split(' ').collect();
    let mut command = Options::new(&[]).command(server.dir(), &arguments);
    let command: &mut Command =
        command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
    let mut child = command.spawn().unwrap();
    // A command that reads nothing may be gone by now.
    let _unread = child.stdin.take().unwrap().write_all(input.unwrap_or_default().as_bytes());
    child.wait_with_output().unwrap()
}

fn printed(output: &Output) -> String {
    String::from_utf8([&output.stdout[..], &output.stderr[..]].concat()).unwrap()
}

#[test]
fn a_deleted_document_goes_with_its_chunks_and_no_other_tenants() {
    let server = Server::start(ENV);
    let gone = document(&server, "acme", "gcs:acme:b/a.pdf", json!(PAST), 3);
    let other = document(&server, "harbor", "gcs:harbor:b/a.pdf", json!(PAST), 3);
    let later = document(&server, "acme", "later", json!("2999-01-01 00:00:00+00"), 2);
    document(&server, "acme", "never", json!("soon"), 0);
    let edge =
        json!({ "src": gone[1], "dst": gone[0], "rel": "DERIVED_FROM", "tenant_id": "acme" });
    server.post("/edges", &edge).expect(200);

    let one = json!({
        "purged_chunks": 3, "purged_parents": 1, "dry_run": true, "purged_edges": 1,
        "purged_versions": 0, "tenants_processed": 1, "total_purged": 4, "without_grace": 1,
    });
    let body = json!({ "tenant_id": "acme", "dry_run": true });
    assert_eq!(purge(&server, &body), one);
    assert_eq!(purge(&server, &body), one, "counting changes nothing");
    assert!(gone.iter().all(|id| exists(&server, "acme", id)));

    let mut done = one;
    done["dry_run"] = false.into();
    assert_eq!(purge(&server, &json!({ "tenant_id": "acme", "batch_size": 500 })), done);
    assert!(!gone.iter().any(|id| exists(&server, "acme", id)));
    assert!(later.iter().all(|id| exists(&server, "acme", id)));
    assert!(other.iter().all(|id| exists(&server, "harbor", id)));
    let again = purge(&server, &json!({ "tenant_id": "acme" }));
    assert_eq!((&again["total_purged"], &again["without_grace"]), (&json!(0), &json!(1)));

    let events = server.get(&format!("/events?tenant_id=acme&node_id={}", gone[0])).expect(200);
    let event = &events["events"][0];
    assert_eq!(event["type"].as_str().or(event["event_type"].as_str()), Some("purged"), "{events}");
    assert_eq!(event["payload"]["external_id"], "gcs:acme:b/a.pdf");

    let all = purge(&server, &json!({}));
    assert_eq!((&all["purged_parents"], &all["purged_chunks"]), (&json!(1), &json!(3)));
    let log = server.logged("purge cycle complete: 1 parents, 3 chunks, 1 edges, 0 versions");
    assert!(log.contains("purge cycle begins: tenant") || log.contains("purge cycle begins: acme"));
    server.logged("purge cycle: 1 deleted nodes have no readable deletion_grace_until");
    let metrics = server.get("/prometheus");
    for line in [
        "connector_purger_total{result=\"success\"} 5",
        "connector_purger_total{result=\"error\"} 0",
        "connector_purger_latency_seconds_count 5",
    ] {
        assert!(metrics.text().contains(line), "{line}");
    }
}

#[test]
fn chunks_that_fill_many_batches_leave_no_orphan_and_a_whole_chain() {
    let server = Server::start(ENV);
    document(&server, "default", "large", json!(PAST), 53);
    document(&server, "default", "small", json!(PAST), 1);
    let done = purge(&server, &json!({ "batch_size": 10 }));
    assert_eq!((&done["purged_parents"], &done["purged_chunks"]), (&json!(2), &json!(54)));
    assert_eq!(n_nodes(&server, "default"), 0);

    let list = server.get(&format!("{RECEIPTS}?limit=2")).expect(200);
    assert_eq!((&list["receipts"][1]["number"], &list["next"]), (&json!(2), &json!(2)));
    let printed = run(&server, "purge receipts", None);
    assert!(printed.status.success(), "{printed:?}");
    let receipts = String::from_utf8(printed.stdout).unwrap();
    assert!(receipts.lines().count() >= 6, "{receipts}");
    let head = receipts.lines().last().unwrap().split_once("  ").unwrap().0;
    let whole = run(&server, &format!("purge verify - --head {head}"), Some(&receipts));
    assert!(whole.status.success(), "{whole:?}");
    assert!(String::from_utf8(whole.stdout).unwrap().starts_with("default: "));
    let changed = receipts.replace("\"actor\":\"", "\"actor\":\"x");
    for (text, why) in [
        (changed.as_str(), "was changed"),
        (receipts.split_once('\n').unwrap().1, "does not follow receipt 0"),
        (receipts.trim_end().rsplit_once('\n').unwrap().0, "some are missing at the end"),
        ("nonsense\n", "is no receipt"),
    ] {
        let refused = run(&server, &format!("purge verify - --head {head}"), Some(text));
        assert!(!refused.status.success());
        let said = String::from_utf8(refused.stderr).unwrap();
        assert!(said.contains(why), "{why}: {said}");
    }
}

#[test]
fn a_purge_from_the_command_line_asks_first() {
    let server =
        Server::start(&[("AUTO_EMBED_ON_CREATE", "false"), ("PURGER_RETENTION_DAYS", "0")]);
    let kept = json!({ "classes": ["Doc", "Deleted"], "props": {
        "deleted_at": PAST, "deletion_grace_until": "2999-01-01T00:00:00Z",
    } });
    server.create(&kept);
    let counted = printed(&run(&server, "purge --dry-run", None));
    assert!(counted.starts_with("would remove 0 documents, "), "{counted}");
    let counted = printed(&run(&server, "purge --dry-run --apply-retention", None));
    assert!(counted.starts_with("would remove 1 documents, "), "{counted}");
    let refused = run(&server, "purge --apply-retention", None);
    assert!(!refused.status.success() && printed(&refused).contains("--yes"));
    let done = run(&server, "purge --apply-retention --tenant default --yes --json", None);
    let answer: Value = serde_json::from_slice(&done.stdout).unwrap();
    assert_eq!((&answer["purged_parents"], &answer["retention_changed"]), (&json!(1), &json!(1)));
    let unknown = run(&server, "purge --batch-size 0 --yes", None);
    assert!(printed(&unknown).contains("batch_size"), "{unknown:?}");
}

#[test]
fn tenants_keep_to_their_own_and_bad_bodies_are_refused() {
    let server = Options::new(&JWT_ENV).set("AUTO_EMBED_ON_CREATE", "false").start();
    let node = json!({ "classes": ["Deleted"], "props": { "deletion_grace_until": PAST } });
    let (t1, t2) = (token("t1", &["admin:refresh", "kg:write"]), token("t2", &["kg:write"]));
    for token in [&t1, &t2] {
        server.send(&Request::post("/nodes", &node).bearer(token)).expect(200);
    }
    let send = |body: &Value, token: &str| server.send(&Request::post(PURGE, body).bearer(token));
    let own = send(&json!({}), &t1).expect(200);
    assert_eq!((&own["purged_parents"], &own["tenants_processed"]), (&json!(1), &json!(1)));
    let refused = send(&json!({ "tenant_id": "t2" }), &t1).expect_detail(403);
    assert_eq!(refused, "Cross-tenant access denied");
    assert_eq!(send(&json!({}), &t2).expect_detail(403), "admin scope required");
    let foreign = Request::get(format!("{RECEIPTS}?tenant_id=t2")).bearer(&t1);
    assert_eq!(server.send(&foreign).expect_detail(403), "Cross-tenant access denied");
    let all = token("t1", &["super_admin"]);
    assert_eq!(send(&json!({ "tenant_id": null }), &all).expect(200)["purged_parents"], 1);
    for (body, field) in [
        (json!({ "batch_size": 0 }), "batch_size"),
        (json!({ "batch_size": 10_001 }), "batch_size"),
        (json!({ "dry_run": "perhaps" }), "dry_run"),
        (json!({ "tenant_id": "" }), "tenant_id"),
        (json!({ "tenant_id": 7 }), "tenant_id"),
    ] {
        let faults = send(&body, &all).expect(422);
        assert_eq!(faults["detail"][0]["loc"], json!(["body", field]), "{body}");
    }
    assert_eq!(server.get(PURGE).status, 405);
    assert_eq!(server.send(&Request::post(PURGE, &json!({}))).status, 401);
}

#[test]
fn a_purge_that_is_killed_is_taken_up_again() {
    const CHUNKS: usize = 400;
    let mut server = Server::start(ENV);
    let ids = document(&server, "default", "d", json!(PAST), CHUNKS);
    let addr = server.addr();
    let running = thread::spawn(move || {
        // It may be cut off anywhere, or be done already.
        let _answer = Request::post(PURGE, &json!({ "batch_size": 2 })).send_to(addr);
    });
    let first = &ids[1];
    let left = |server: &Server| n_nodes(server, "default");
    while left(&server) > CHUNKS as u64 * 3 / 4 {
        thread::yield_now();
    }
    server.kill();
    running.join().expect("the request ended one way or the other");
    server.start_again(&[]);
    let n_left = left(&server);
    assert!(n_left <= CHUNKS as u64 * 3 / 4, "what was committed stays: {n_left} left");
    assert_eq!(n_left > 0, exists(&server, "default", &ids[0]), "the parent goes last");
    let done = purge(&server, &json!({}));
    assert_eq!(done["purged_chunks"], n_left, "{done}");
    assert!(!exists(&server, "default", first) && !exists(&server, "default", &ids[0]));
    let receipts = String::from_utf8(run(&server, "purge receipts", None).stdout).unwrap();
    let whole = run(&server, "purge verify -", Some(&receipts));
    assert!(whole.status.success(), "{whole:?}");
    for id in &ids {
        assert_eq!(receipts.matches(id).count(), 1, "every node is in one receipt");
    }
}
