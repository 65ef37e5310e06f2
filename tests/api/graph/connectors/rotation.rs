//! Keys are exchanged while the program goes on.

use std::thread;

use activekg_storage::tables::Json;
use activekg_storage::tables::connectors::{CONFIGS, ConnectorRecord};
use activekg_storage::{Readable, Store, StoreOptions, TenantId};
use serde_json::{Value, json};

use super::{MASK, QUIET, at, register, s3};
use crate::common::{Options, Request, Server};

const V1: &str = "XJH_LEyC34c8orsnRbFR5Rvac7FF0J4ah30u7HIORXM=";
const V2: &str = "MDEyMzQ1Njc4OWFiY2RlZjAxMjM0NTY3ODlhYmNkZWY=";
const ROWS: usize = 250;
/// The connector that is damaged.
const DAMAGED: usize = 137;

fn tenant(n: usize) -> String {
    format!("t{n:03}")
}

/// A server with key 1 and a connector for each of so many tenants.
fn with_rows(n_rows: usize) -> Server {
    let server = Options::new(&QUIET).set("CONNECTOR_KEK_V1", V1).start();
    for n in 0..n_rows {
        register(&server, "s3", &tenant(n), &s3());
    }
    server
}

fn rotate(server: &Server, body: &Value) -> Value {
    server.post(&at("rotate_keys"), body).expect(200)
}

fn candidates(server: &Server) -> Value {
    rotate(server, &json!({ "dry_run": true }))["candidates"].clone()
}

fn key(n: usize) -> (TenantId, String) {
    (TenantId::new(&tenant(n)).unwrap(), "s3".to_owned())
}

/// Does something to the store of a server that is down.
fn with_store<T>(server: &Server, act: impl FnOnce(&Store) -> T) -> T {
    let store = Store::open(server.dir(), StoreOptions::default()).unwrap();
    let done = act(&store);
    store.close();
    done
}

fn record(store: &Store, n: usize) -> ConnectorRecord {
    store.read().unwrap().get(&CONFIGS, &key(n)).unwrap().expect("a connector")
}

/// Every connector but one can be read.
#[track_caller]
fn readable(server: &Server, but: Option<usize>, key_version: u64) {
    for n in (0..ROWS).filter(|n| Some(*n) != but) {
        let shown = server.get(&at(&format!("s3?tenant_id={}", tenant(n)))).expect(200);
        assert_eq!(shown["key_version"], key_version);
        assert_eq!(shown["config"]["secret_access_key"], MASK);
    }
}

#[test]
fn the_drill() {
    let mut server = with_rows(ROWS);
    assert!(server.terminate().success());
    server.start_again(&[("CONNECTOR_KEK_V2", V2), ("CONNECTOR_KEK_ACTIVE_VERSION", "2")]);
    let dry = rotate(&server, &json!({ "dry_run": true }));
    assert_eq!((&dry["candidates"], &dry["dry_run"]), (&json!(ROWS), &json!(true)));
    readable(&server, None, 1);
    let done = rotate(&server, &json!({ "batch_size": 100 }));
    let expected = json!({ "rotated": ROWS, "skipped": 0, "errors": 0, "dry_run": false });
    assert_eq!(done, expected);
    assert_eq!(candidates(&server), 0);
    assert!(server.terminate().success());
    server.start_again(&[("CONNECTOR_KEK_V1", "")]);
    readable(&server, None, 2);
    assert_eq!(candidates(&server), 0);
}

#[test]
fn the_drill_with_a_damaged_row_and_the_way_back() {
    let mut server = with_rows(ROWS);
    assert!(server.terminate().success());
    let damaged = with_store(&server, |store| {
        let mut damaged = record(store, DAMAGED);
        damaged.config = Json(damaged.config.as_str().replace("gAAAAA", "gAAAAAAA"));
        let written = damaged.clone();
        store.write_blocking(move |tx| tx.put(&CONFIGS, &key(DAMAGED), &written)).unwrap();
        damaged
    });
    server.start_again(&[("CONNECTOR_KEK_V2", V2), ("CONNECTOR_KEK_ACTIVE_VERSION", "2")]);
    assert_eq!(candidates(&server), ROWS);
    let mut keys = server.get(&at("keys")).expect(200);
    let rows = keys.as_object_mut().unwrap().remove("rows").unwrap();
    assert_eq!(rows.as_array().unwrap().len(), ROWS);
    let expected = json!({ "active_version": 2, "available_versions": [1, 2], "distribution": { "1": ROWS }, "pending": ROWS, "total": ROWS });
    assert_eq!(keys, expected);
    let none = json!({ "dry_run": true, "providers": ["azure"] });
    assert_eq!(rotate(&server, &none)["candidates"], 0);
    let one = json!({ "dry_run": true, "tenant_id": tenant(3) });
    assert_eq!(rotate(&server, &one)["candidates"], 1);

    let done = rotate(&server, &json!({ "batch_size": 100 }));
    let failed = json!([{ "tenant_id": tenant(DAMAGED), "provider": "s3" }]);
    let expected = json!({ "rotated": ROWS - 1, "skipped": 0, "errors": 1, "dry_run": false, "failed": failed });
    assert_eq!(done, expected);
    assert_eq!(candidates(&server), 1);
    server.logged(&format!("Key rotation complete: {} rotated, 1 errors (0 skipped, ", ROWS - 1));
    server.logged(&format!("Failed to rotate key for {}/s3: ", tenant(DAMAGED)));
    let metrics = server.get("/prometheus");
    for line in [
        format!("connector_rotation_total{{result=\"rotated\"}} {}", ROWS - 1),
        "connector_rotation_total{result=\"error\"} 1".to_owned(),
        "connector_rotation_batch_latency_seconds_count 1".to_owned(),
    ] {
        assert!(metrics.text().contains(&line), "{line}");
    }
    assert!(server.terminate().success());
    assert_eq!(with_store(&server, |store| record(store, DAMAGED)), damaged);

    server.start_again(&[("CONNECTOR_KEK_V1", "")]);
    server.logged("1 connector configs need KEK v1");
    readable(&server, Some(DAMAGED), 2);
    let lost = server.get(&at(&format!("s3?tenant_id={}", tenant(DAMAGED)))).expect_detail(500);
    assert_eq!(lost, format!("Config decryption failed: {}/s3", tenant(DAMAGED)));

    register(&server, "s3", &tenant(DAMAGED), &s3());
    assert!(server.terminate().success());
    server.start_again(&[("CONNECTOR_KEK_V1", V1), ("CONNECTOR_KEK_ACTIVE_VERSION", "1")]);
    let back = rotate(&server, &json!({}));
    let expected = json!({ "rotated": ROWS, "skipped": 0, "errors": 0, "dry_run": false });
    assert_eq!(back, expected);
    assert!(server.terminate().success());
    server.start_again(&[("CONNECTOR_KEK_V2", "")]);
    readable(&server, None, 1);
    assert_eq!(candidates(&server), 0);
}

#[test]
fn keys_are_listed_exchanged_and_retired_from_the_command_line() {
    let mut server = with_rows(3);
    let run = |server: &Server, line: &str, succeeds: bool| {
        let arguments: Vec<&str> = line.split(' ').collect();
        let output = Options::new(&[]).command(server.dir(), &arguments).output().unwrap();
        assert_eq!(output.status.success(), succeeds, "{line}: {output:?}");
        String::from_utf8([output.stdout, output.stderr].concat()).unwrap()
    };
    assert!(run(&server, "keys retire 1", false).contains("version 1 is the active one"));
    assert!(server.terminate().success());
    server.start_again(&[("CONNECTOR_KEK_V2", V2), ("CONNECTOR_KEK_ACTIVE_VERSION", "2")]);
    let listed = run(&server, "keys list", true);
    let rows: Vec<Vec<&str>> =
        listed.lines().skip(1).map(|line| line.split_whitespace().collect()).collect();
    assert_eq!(rows, [["1", "loaded", "3"], ["2", "active", "0"]]);
    let in_use = run(&server, "keys retire 1", false);
    assert!(in_use.contains("version 1 is still in use by 3 connectors"), "{in_use}");
    assert_eq!(run(&server, "keys rotate --dry-run --tenant t001", true), "candidates=1\n");
    let one = run(&server, "keys rotate --tenant t001 --provider s3 --batch-size 1", true);
    assert_eq!(one, "rotated=1 skipped=0 errors=0\n");
    assert_eq!(run(&server, "keys rotate", true), "rotated=2 skipped=0 errors=0\n");
    assert!(run(&server, "keys retire 1", true).contains("Unset CONNECTOR_KEK_V1 and restart"));
    assert!(run(&server, "keys status", true).contains("pending=0 total=3"));
    assert!(run(&server, "keys rotate --batch-size 0", false).contains("batch_size"));
}

#[test]
fn a_rotation_that_is_killed_is_taken_up_again() {
    const ROWS: usize = 60;
    let mut server = with_rows(ROWS);
    assert!(server.terminate().success());
    server.start_again(&[("CONNECTOR_KEK_V2", V2), ("CONNECTOR_KEK_ACTIVE_VERSION", "2")]);
    let addr = server.addr();
    let running = thread::spawn(move || {
        let request = Request::post(at("rotate_keys"), &json!({ "batch_size": 1 }));
        // It may be cut off anywhere, or be done already.
        let _answer = request.send_to(addr);
    });
    let counted = |server: &Server| candidates(server).as_u64().expect("a number");
    while counted(&server) > ROWS as u64 / 2 {
        thread::yield_now();
    }
    server.kill();
    running.join().expect("the request ended one way or the other");
    server.start_again(&[]);
    let left = counted(&server);
    assert!(left <= ROWS as u64 / 2, "what was committed stays: {left} left");
    let rest = rotate(&server, &json!({}));
    assert_eq!((&rest["rotated"], &rest["errors"]), (&json!(left), &json!(0)));
    assert!(server.terminate().success());
    server.start_again(&[("CONNECTOR_KEK_V1", "")]);
    for n in 0..ROWS {
        server.get(&at(&format!("s3?tenant_id={}", tenant(n)))).expect(200);
    }
}

#[test]
fn rows_of_the_key_status_are_chosen() {
    let server = Server::start(&[]);
    for tenant in ["acme", "harbor"] {
        let config = json!({ "urls": ["https://example.org/a"], "bearer_token": "canary-token" });
        let body = json!({ "tenant_id": tenant, "config": config });
        server.post("/_admin/connectors/http/register", &body).expect(200);
    }
    let rows = |query: &str| {
        let status = server.get(&format!("/_admin/connectors/keys{query}")).expect(200);
        let rows = status["rows"].as_array().unwrap().iter();
        let tenants: Vec<_> =
            rows.map(|row| row["tenant_id"].as_str().unwrap().to_owned()).collect();
        (status["total"].as_u64().unwrap(), tenants)
    };
    let both = vec!["acme".to_owned(), "harbor".to_owned()];
    assert_eq!(rows(""), (2, both.clone()));
    assert_eq!(rows("?tenant_id=acme"), (1, vec!["acme".to_owned()]));
    assert_eq!(rows("?provider=s3"), (2, Vec::new()));
    assert_eq!(rows("?not_version=1"), (2, Vec::new()));
    assert_eq!(rows("?not_version=2&updated_since=2000-01-01T00:00:00Z"), (2, both));
    assert_eq!(rows("?updated_since=2999-01-01T00:00:00Z"), (2, Vec::new()));
    server.get("/_admin/connectors/keys?updated_since=soon").expect(422);
}
