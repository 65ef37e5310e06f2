//! Connectors and the keys that seal their secrets.

mod cloud;
mod flow;
mod purging;
mod rotation;
mod site;
pub(super) mod sources;
mod waiting;

use activekg_storage::tables::auth::AUDIT;
use activekg_storage::{Readable, Scan, Store, StoreOptions};
use serde_json::{Value, json};

use crate::common::token::{JWT_ENV, token};
use crate::common::{Answer, Options, Request, Server};

/// Nobody looks at the sources that these connectors name.
const QUIET: [(&str, &str); 1] = [("RUN_SCHEDULER", "false")];
const CONNECTORS: &str = "/_admin/connectors";
const MASK: &str = "***REDACTED***";
const CANARY: &str = "canary/canary/canary/canary/canary/canary";

fn s3() -> Value {
    json!({
        "bucket": "docs", "prefix": "a/", "access_key_id": "AKIACANARYCANARY",
        "secret_access_key": CANARY,
    })
}

fn at(rest: &str) -> String {
    format!("{CONNECTORS}/{rest}")
}

fn register(server: &Server, provider: &str, tenant: &str, config: &Value) {
    let body = json!({ "tenant_id": tenant, "config": config });
    let answer = server.post(&at(&format!("{provider}/register")), &body).expect(200);
    let expected = json!({ "status": "registered", "tenant_id": tenant, "provider": provider });
    assert_eq!(answer, expected);
}

fn patch(server: &Server, provider: &str, body: &Value) -> Answer {
    let target = at(&format!("{provider}/config"));
    server.send(&Request::new("PATCH", target).json(body))
}

#[test]
fn a_connector_is_registered_shown_changed_and_deleted() {
    let server = Server::start(&QUIET);
    register(&server, "s3", "acme", &s3());
    let shown = server.get(&at("s3?tenant_id=acme")).expect(200);
    let config = &shown["config"];
    assert_eq!((&config["bucket"], &config["region"]), (&json!("docs"), &json!("us-east-1")));
    assert_eq!(
        (&config["access_key_id"], &config["secret_access_key"]),
        (&json!(MASK), &json!(MASK))
    );
    assert_eq!((&shown["enabled"], &shown["key_version"]), (&json!(true), &json!(1)));

    let change = json!({ "tenant_id": "acme", "config": { "prefix": null, "region": "eu-west-1", "secret_access_key": MASK } });
    let changed = patch(&server, "s3", &change).expect(200);
    assert_eq!(changed, json!({ "status": "updated", "tenant_id": "acme", "provider": "s3" }));
    let after = server.get(&at("s3?tenant_id=acme")).expect(200);
    assert_eq!(
        (&after["config"]["prefix"], &after["config"]["region"]),
        (&json!(""), &json!("eu-west-1"))
    );
    assert_eq!(after["config"]["secret_access_key"], MASK);
    assert_eq!(after["created_at"], shown["created_at"]);
    let wrong =
        json!({ "tenant_id": "acme", "config": { "bucket": null, "poll_interval_seconds": 5 } });
    let faults = patch(&server, "s3", &wrong).expect(422);
    let places: Vec<&Value> =
        faults["detail"].as_array().unwrap().iter().map(|f| &f["loc"]).collect();
    assert_eq!(
        places,
        [&json!(["body", "config", "bucket"]), &json!(["body", "config", "poll_interval_seconds"])]
    );
    assert_eq!(server.get(&at("s3?tenant_id=acme")).expect(200), after, "nothing was changed");

    let owner = json!({ "tenant_id": "acme" });
    for (act, enabled) in [("disable", false), ("enable", true)] {
        let answer = server.post(&at(&format!("s3/{act}")), &owner).expect(200);
        assert_eq!(answer["status"], format!("{act}d"));
        let shown = server.get(&at("s3?tenant_id=acme")).expect(200);
        assert_eq!(
            (&shown["enabled"], &shown["config"]["enabled"]),
            (&json!(enabled), &json!(enabled))
        );
    }
    for list in ["", "/"] {
        let listed = server.get(&format!("{CONNECTORS}{list}")).expect(200);
        assert_eq!(listed["connectors"][0]["config"], json!({}));
        assert_eq!(listed["connectors"].as_array().map(Vec::len), Some(1));
    }
    let gone = server.delete(&at("s3/config?tenant_id=acme")).expect(200);
    assert_eq!(gone, json!({ "status": "deleted", "tenant_id": "acme", "provider": "s3" }));
    let missing = "Connector not found: acme/s3";
    assert_eq!(server.get(&at("s3?tenant_id=acme")).expect_detail(404), missing);
    assert_eq!(server.delete(&at("s3/config?tenant_id=acme")).expect_detail(404), missing);
    assert_eq!(server.post(&at("s3/enable"), &owner).expect_detail(404), missing);
    assert_eq!(patch(&server, "s3", &change).expect_detail(404), missing);
}

#[test]
fn every_provider_has_its_settings() {
    let server = Options::new(&QUIET).set("ACTIVEKG_FILE_BASEDIRS", "/srv/docs").start();
    let account = json!({ "type": "service_account", "private_key": CANARY });
    for (provider, config) in [
        ("s3", json!({ "bucket": "b", "endpoint": "http://127.0.0.1:9000" })),
        ("gcs", json!({ "bucket": "b", "credentials_json": account })),
        ("drive", json!({ "credentials": account, "folder_id": "f" })),
        ("azure", json!({ "container": "c", "connection_string": CANARY })),
        ("local", json!({ "path": "/srv/docs/manuals" })),
        ("http", json!({ "urls": ["https://example.org/feed"], "bearer_token": CANARY })),
    ] {
        register(&server, provider, "acme", &config);
        let shown = server.get(&at(&format!("{provider}?tenant_id=acme"))).expect(200);
        assert!(!shown.to_string().contains("canary"), "{shown}");
        for (name, value) in config.as_object().unwrap() {
            let secret = value.to_string().contains("canary");
            assert_eq!(shown["config"][name], if secret { json!(MASK) } else { value.clone() });
        }
    }
    let top = json!({ "tenant_id": "other", "service_account_json_path": "/secrets/a.json" });
    server.post(&at("drive/register"), &top).expect(200);
    let shown = server.get(&at("drive?tenant_id=other")).expect(200);
    for name in ["credentials_path", "service_account_json_path"] {
        assert_eq!(shown["config"][name], "/secrets/a.json");
    }
    assert_eq!(server.post(&at("ftp/register"), &top).expect_detail(404), "Not Found");
    for bad in [
        ("local", json!({ "path": "/etc" })),
        ("local", json!({ "path": "/srv/docs/../../etc" })),
        ("s3", json!({ "bucket": "b", "endpoint": "http://169.254.169.254/" })),
        ("gcs", json!({ "bucket": "b", "topic_allowlist": ["t"] })),
        ("http", json!({ "urls": ["file:///etc/passwd"] })),
    ] {
        let body = json!({ "tenant_id": "bad", "config": bad.1 });
        server.post(&at(&format!("{}/register", bad.0)), &body).expect(422);
        server.get(&at(&format!("{}?tenant_id=bad", bad.0))).expect(404);
    }
}

#[test]
fn a_tenant_has_its_own_connectors_and_no_others() {
    let server = Options::new(&JWT_ENV).set("RUN_SCHEDULER", "false").start();
    let as_tenant = |tenant: &str, scopes: &[&str], request: Request| {
        server.send(&request.bearer(&token(tenant, scopes)))
    };
    let admin = |tenant: &str, request: Request| as_tenant(tenant, &["admin:refresh"], request);
    let body = json!({ "config": s3() });
    admin("t1", Request::post(at("s3/register"), &body)).expect(200);
    let owned = json!({ "tenant_id": "t1", "config": s3() });
    let t1 = json!({ "tenant_id": "t1" });
    for request in [
        Request::get(at("s3?tenant_id=t1")),
        Request::post(at("s3/register"), &owned),
        Request::new("PATCH", at("s3/config")).json(&owned),
        Request::delete(at("s3/config?tenant_id=t1")),
        Request::post(at("s3/disable"), &t1),
        Request::post(at("rotate_keys"), &t1),
    ] {
        let denied = admin("t2", request.clone()).expect_detail(403);
        assert_eq!(denied, "Cross-tenant access denied", "{}", request.target);
        let lacking = as_tenant("t1", &["kg:write"], request.clone()).expect_detail(403);
        assert_eq!(lacking, "admin scope required", "{}", request.target);
    }
    let all = admin("t1", Request::post(at("rotate_keys"), &json!({ "dry_run": true })));
    assert_eq!(all.expect_detail(403), "super_admin scope required");
    let none = admin("t2", Request::get(at("s3?tenant_id=t2"))).expect_detail(404);
    assert_eq!(none, "Connector not found: t2/s3");
    let listed = |scopes: &[&str]| {
        let listed = as_tenant("t2", scopes, Request::get(at(""))).expect(200);
        listed["connectors"].as_array().map(Vec::len)
    };
    assert_eq!((listed(&["admin:refresh"]), listed(&["super_admin"])), (Some(0), Some(1)));
    let sealed = |scopes: &[&str]| {
        as_tenant("t2", scopes, Request::get(at("keys"))).expect(200)["total"].clone()
    };
    assert_eq!((sealed(&["admin:refresh"]), sealed(&["super_admin"])), (json!(0), json!(1)));
    let shown = as_tenant("t2", &["super_admin"], Request::get(at("s3?tenant_id=t1"))).expect(200);
    assert_eq!((&shown["tenant_id"], &shown["enabled"]), (&json!("t1"), &json!(true)));
    let counted = server.get("/prometheus");
    assert!(
        counted.text().contains(r#"activekg_access_violations_total{type="cross_tenant_query"} 6"#)
    );
}

#[test]
fn only_who_runs_the_server_lends_its_files_hosts_and_credentials() {
    let server = Options::new(&JWT_ENV)
        .set("RUN_SCHEDULER", "false")
        .set("CONNECTOR_ENDPOINT_ALLOWLIST", "minio.example")
        .start();
    let try_as = |scope: &str, provider: &str, config: &Value| {
        let request =
            Request::post(at(&format!("{provider}/register")), &json!({ "config": config }));
        server.send(&request.bearer(&token("t1", &[scope])))
    };
    let mut listed = s3();
    listed["endpoint"] = json!("https://minio.example:9000");
    try_as("admin:refresh", "s3", &listed).expect(200);
    let mut elsewhere = s3();
    elsewhere["endpoint"] = json!("http://10.0.0.1:9000");
    for (provider, config, field) in [
        ("s3", elsewhere, "endpoint"),
        ("s3", json!({ "bucket": "b" }), "access_key_id"),
        ("gcs", json!({ "bucket": "b" }), "credentials_json"),
        ("gcs", json!({ "bucket": "b", "credentials_path": "/etc/passwd" }), "credentials_path"),
        ("drive", json!({ "credentials_path": "/secrets/../etc/passwd" }), "credentials_path"),
    ] {
        let (_, place, _) = try_as("admin:refresh", provider, &config).expect_fault();
        assert_eq!(place, json!(["body", "config", field]));
        try_as("super_admin", provider, &config).expect(200);
    }
    let inside = json!({ "bucket": "b", "credentials_path": "/etc/activekg/harbor.json" });
    try_as("admin:refresh", "gcs", &inside).expect(200);
}

#[test]
fn bodies_are_json_whatever_they_say_unless_a_page_sends_them() {
    let server = Server::start(&QUIET);
    let form = Request::new("POST", at("rotate_keys"))
        .header("content-type", "application/x-www-form-urlencoded")
        .raw(r#"{"tenant_id":"default","dry_run":true}"#);
    assert_eq!(server.send(&form).expect(200)["candidates"], 0);
    let page = form.clone().header("origin", "https://evil.example");
    server.send(&page).expect(415);
    let honest = Request::post(at("rotate_keys"), &json!({ "dry_run": true }));
    server.send(&honest.header("origin", "https://app.example")).expect(200);
    let (kind, _, _) = server.send(&form.raw("tenant_id=default")).expect_fault();
    assert_eq!(kind, "json_invalid");
}

#[test]
fn fixed_paths_are_no_providers() {
    let server = Server::start(&QUIET);
    for (method, path, allow) in [
        ("GET", "rotate_keys?tenant_id=x", "POST"),
        ("POST", "keys", "GET"),
        ("POST", "cache/health", "GET"),
        ("DELETE", "s3?tenant_id=x", "GET"),
        ("GET", "s3/config", "DELETE, PATCH"),
    ] {
        let answer = server.send(&Request::new(method, at(path)));
        assert_eq!((answer.status, answer.header("allow")), (405, Some(allow)), "{path}");
    }
    for absent in ["s3/sync", "s3/runs"] {
        assert_eq!(server.post(&at(absent), &json!({})).expect_detail(404), "Not Found");
    }
}

#[test]
fn the_cache_tells_how_it_is_and_can_be_emptied() {
    let server = Server::start(&QUIET);
    register(&server, "s3", "acme", &s3());
    let health = Request::get(at("cache/health"));
    let heard =
        server.until(&health, |answer| answer.json()["subscriber"]["last_message_ts"].is_string());
    let heard = heard.expect(200);
    assert_eq!((&heard["status"], &heard["subscriber"]["connected"]), (&json!("ok"), &json!(true)));
    assert!(heard["subscriber"]["last_message_ts"].as_str().unwrap().ends_with('Z'));
    server.get(&at("s3?tenant_id=acme")).expect(200);
    server.get(&at("s3?tenant_id=acme")).expect(200);
    let flushed = server.post(&at("cache/flush"), &json!({})).expect(200);
    assert_eq!(flushed, json!({ "status": "flushed", "entries": 1 }));
    let metrics = server.get("/prometheus");
    for line in [
        r#"connector_config_cache_hits_total{provider="s3"} 1"#,
        r#"connector_config_cache_misses_total{provider="s3"} 1"#,
        r#"connector_config_invalidate_total{operation="upsert"} 1"#,
        r#"connector_config_invalidate_total{operation="rotate"} 0"#,
        r#"connector_rotation_total{result="error"} 0"#,
    ] {
        assert!(metrics.text().contains(line), "{line}");
    }
    let off = Options::new(&QUIET).set("CONNECTOR_CACHE_SUBSCRIBER", "false").start();
    let health = off.get(&at("cache/health")).expect(200);
    assert_eq!(health, json!({ "status": "degraded", "subscriber": null }));
}

#[test]
fn the_command_line_looks_after_connectors() {
    let server = Server::start(&QUIET);
    let run = |line: &str, succeeds: bool| {
        let arguments: Vec<&str> = line.split(' ').collect();
        let output = Options::new(&[]).command(server.dir(), &arguments).output().unwrap();
        assert_eq!(output.status.success(), succeeds, "{line}: {output:?}");
        String::from_utf8([output.stdout, output.stderr].concat()).unwrap()
    };
    let file = server.dir().join("s3.json");
    std::fs::write(&file, s3().to_string()).unwrap();
    let register = format!("connectors register s3 --tenant acme --config {}", file.display());
    assert_eq!(run(&register, true), "registered acme/s3\n");
    std::fs::write(&file, CANARY).unwrap();
    assert!(!run(&register, false).contains("canary"));
    let listed = run("connectors list --columns tenant_id,provider,bucket,key_version", true);
    assert_eq!(listed, "tenant_id\tprovider\tbucket\tkey_version\nacme\ts3\tdocs\t1\n");
    let count = |filter: &str| run(&format!("connectors list {filter}"), true).lines().count() - 1;
    assert_eq!((count("--not-version 1"), count("--not-version 2")), (0, 1));
    assert_eq!((count("--updated-since 1h"), count("--tenant other")), (1, 0));
    let shown = run("connectors get s3 --tenant acme", true);
    assert!(shown.contains(MASK) && !shown.to_lowercase().contains("canary"), "{shown}");
    assert_eq!(run("connectors disable s3 --tenant acme", true), "disabled acme/s3\n");
    assert_eq!(run("connectors enable s3 --tenant acme", true), "enabled acme/s3\n");
    assert!(run("connectors delete s3 --tenant acme", false).contains("--yes"));
    assert_eq!(run("connectors delete s3 --tenant acme --yes", true), "deleted acme/s3\n");
    assert!(run("connectors get s3 --tenant acme", false).contains("Connector not found: acme/s3"));
}

/// The acts in the audit trail, oldest first. The server must be stopped.
fn audited(server: &Server) -> Vec<String> {
    let store = Store::open(server.dir(), StoreOptions::default()).unwrap();
    let acts = {
        let tx = store.read().unwrap();
        let rows = tx.scan(&AUDIT, Scan::all()).unwrap().map(|row| row.unwrap().1);
        rows.map(|entry| {
            assert!(!entry.details.as_str().to_lowercase().contains("canary"));
            entry.action
        })
        .collect()
    };
    store.close();
    acts
}

#[test]
fn no_secret_is_answered_logged_counted_or_stored_in_the_clear() {
    let dir = tempfile::tempdir().unwrap();
    let log = dir.path().join("app.log");
    let mut server = Options::new(&[("LOG_LEVEL", "DEBUG"), ("RUN_EMBEDDING_WORKER", "false")])
        .set("ACTIVEKG_LOG_FILE", log.to_str().unwrap())
        .start();
    let mut said = String::new();
    let mut hear = |text: &str| said.push_str(text);
    register(&server, "s3", "acme", &s3());
    register(
        &server,
        "gcs",
        "acme",
        &json!({ "bucket": "b", "credentials_json": CANARY, "colour": CANARY }),
    );
    // A poll and an item fail at a service that says the key in its refusal.
    let mut refused = s3();
    refused["endpoint"] = format!("http://{}", sources::refusing()).into();
    register(&server, "s3", "harbor", &refused);
    let uris = json!({ "tenant_id": "harbor", "dry_run": false, "uris": ["s3://docs/a/b.txt"] });
    server.post(&at("s3/ingest"), &uris).expect(200);
    let status = Request::get(at("s3/queue-status?tenant_id=harbor"));
    server.until(&status, |answer| answer.json()["dlq"] == 1);
    let logged = || std::fs::read_to_string(&log).unwrap();
    for told in ["ingestion failed for good", "connector could not be polled"] {
        let of_harbor = |line: &str| line.contains(told) && line.contains("harbor");
        server.until(&status, |_| logged().lines().any(of_harbor));
    }
    for request in [
        Request::get(at("dlq/inspect/s3/harbor")),
        Request::post(at("s3/test"), &json!({ "tenant_id": "harbor" })),
        Request::post(at("s3/backfill"), &json!({ "tenant_id": "harbor" })),
        Request::get("/admin/queues/connector:s3/dead"),
        Request::get(at("s3?tenant_id=acme")),
        Request::get(at("")),
        Request::get(at("keys")),
        Request::post(at("s3/register"), &json!({ "config": { "secret_access_key": CANARY } })),
        Request::post(
            at("s3/register"),
            &json!({ "config": { "bucket": "b", "access_key_id": [CANARY] } }),
        ),
        Request::post(at("s3/register"), &json!({ "config": CANARY })),
        Request::post(at("s3/register"), &json!({ "secret_access_key": CANARY })),
        Request::post(at("drive/register"), &json!({ "credentials": CANARY, "page_size": 0 })),
        Request::new("PATCH", at("s3/config")).json(
            &json!({ "tenant_id": "acme", "config": { "session_token": CANARY, "bucket": 7 } }),
        ),
        Request::new("PATCH", at("s3/config"))
            .json(&json!({ "tenant_id": "acme", "config": { "session_token": CANARY } })),
        Request::new("POST", at("s3/register"))
            .raw(format!("{{\"config\":{{\"secret_access_key\":\"{CANARY}\\u0000\"}}}}")),
        Request::new("POST", at("s3/register"))
            .raw(format!("{{\"config\":{{\"secret_access_key\":\"{CANARY}\"")),
        Request::post(at("rotate_keys"), &json!({})),
        Request::get("/prometheus"),
        Request::get("/metrics"),
    ] {
        hear(server.send(&request).text());
    }
    assert!(server.terminate().success());
    // All of it is there, from the first line on.
    for part in ["listening", r#""level":"DEBUG""#, "stopped"] {
        assert!(logged().contains(part), "{part}");
    }
    hear(&logged());
    assert!(!said.to_lowercase().contains("canary"), "{said}");
    let acts = audited(&server);
    assert_eq!(acts.iter().filter(|act| *act == "connector.register").count(), 3);
    assert_eq!(acts.iter().filter(|act| *act == "connector.update").count(), 1);
    assert_eq!(acts.iter().filter(|act| *act == "connector.rotate_keys").count(), 1);
    let stored = std::fs::read(server.dir().join("store.redb")).unwrap();
    for secret in [CANARY, "AKIACANARYCANARY"] {
        let found = stored.windows(secret.len()).any(|window| window == secret.as_bytes());
        assert!(!found, "{secret} is in the store file");
    }
}
