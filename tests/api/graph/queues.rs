//! Looking after queues, over HTTP and by command.

use std::process::Output;

use activekg_storage::queue::{self, DeadReason, QueueDef};
use activekg_storage::tables::auth::AUDIT;
use activekg_storage::{Readable as _, Scan, Store, StoreOptions, UnixMicros};
use serde_json::{Value, json};

use super::doc;
use crate::common::token::{JWT_ENV, token, unix_now};
use crate::common::{Options, Request, Server};

/// Jobs wait and nobody does them.
const QUEUED: [(&str, &str); 2] = [("EMBEDDING_ASYNC", "true"), ("RUN_EMBEDDING_WORKER", "false")];
const ITEMS: &str = "/admin/queues/embedding/items";
const DEAD: &str = "/admin/queues/embedding/dead";
const REPLAY: &str = "/admin/queues/embedding/dead/replay";

/// A document of a tenant.
fn owned(tenant: &str, text: &str) -> Value {
    let mut node = doc(text);
    node["tenant_id"] = tenant.into();
    node
}

/// Runs `activekg <line>` on the server's data.
fn run(server: &Server, line: &str) -> Output {
    let words: Vec<&str> = line.split(' ').collect();
    Options::new(&[]).command(server.dir(), &words).output().unwrap()
}

/// What a command prints that must do well.
#[track_caller]
fn out(server: &Server, line: &str) -> String {
    let output = run(server, line);
    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
    assert!(output.status.success(), "{line}: {}", text(&output.stderr));
    text(&output.stdout)
}

/// What a command says that must fail with this code.
#[track_caller]
fn fault(server: &Server, line: &str, code: i32) -> String {
    let output = run(server, line);
    assert_eq!(output.status.code(), Some(code), "{line}");
    String::from_utf8_lossy(&output.stderr).into_owned()
}

fn keys(answer: &Value) -> Vec<String> {
    let items = answer["items"].as_array().expect("a list of items");
    items.iter().map(|item| super::text_of(&item["key"])).collect()
}

fn status(server: &Server, id: &str, tenant: &str) -> (String, Value) {
    let node = server.get(&format!("/nodes/{id}?tenant_id={tenant}")).expect(200);
    (super::text_of(&node["embedding_status"]), node["embedding_error"].clone())
}

/// The acts in the audit trail, oldest first, with who did them. The server must be stopped.
fn audit(server: &Server) -> Vec<(String, String, Value)> {
    let store = Store::open(server.dir(), StoreOptions::default()).unwrap();
    let found = {
        let tx = store.read().unwrap();
        let rows = tx.scan(&AUDIT, Scan::all()).unwrap().map(|row| row.unwrap().1);
        rows.map(|entry| {
            assert_eq!(entry.object, "embedding");
            (entry.actor, entry.action, serde_json::from_str(entry.details.as_str()).unwrap())
        })
        .collect()
    };
    store.close();
    found
}

#[test]
fn waiting_items_are_shown_and_purged() {
    let mut server = Server::start(&QUEUED);
    let ids: Vec<String> = (0..4).map(|n| server.create(&owned("acme", &format!("{n}")))).collect();
    let other = server.create(&owned("other", "else"));

    let all = server.get("/admin/queues").expect(200);
    let names: Vec<_> =
        all["queues"].as_array().unwrap().iter().map(|queue| &queue["queue"]).collect();
    assert_eq!(names[..3], ["embedding", "triggers", "trigger_webhooks"]);
    assert_eq!(names[3..].len(), 6, "one for each kind of source: {names:?}");
    let queue = &all["queues"][0];
    assert_eq!((&queue["queue"], &queue["paused"]), (&json!("embedding"), &json!(false)));
    let depths = json!({ "ready": 5, "delayed": 0, "leased": 0, "held": 0, "dead": 0 });
    assert_eq!((&queue["depths"], &queue["evicted"]), (&depths, &json!(0)));
    assert!(queue["oldest_age_seconds"].as_f64().is_some_and(|age| age > 0.0), "{queue}");
    let shown = server.get("/admin/queues/embedding").expect(200);
    assert_eq!((&shown["depths"], &shown["n_tenants"]), (&depths, &json!(2)));
    assert_eq!(shown["tenants"][0]["tenant_id"], "acme", "the longest line first");
    assert_eq!(shown["tenants"][1]["depths"]["ready"], 1);
    let one = server.get("/admin/queues/embedding?tenant_id=nobody").expect(200);
    assert_eq!(one["tenants"][0]["depths"]["ready"], 0);

    let first = server.get(&format!("{ITEMS}?tenant_id=acme&limit=1")).expect(200);
    assert_eq!((&first["queue_key"], &first["depth"]), (&json!("embedding:queue"), &json!(4)));
    let item = &first["items"][0];
    assert_eq!((&item["state"], &item["attempts"]), (&json!("ready"), &json!(0)));
    assert_eq!(item["item"], json!({ "node_id": ids[0], "requested_by": null }));
    let newest = server.get(&format!("{ITEMS}?from=newest&limit=2")).expect(200);
    assert_eq!(keys(&newest), [other.as_str(), ids[3].as_str()], "of all tenants");

    for vague in ["", "?tenant_id=acme", "?all=false"] {
        let (kind, place, _) = server.delete(&format!("{ITEMS}{vague}")).expect_fault();
        assert_eq!((kind.as_str(), place), ("value_error", json!(["query"])), "{vague}");
    }
    for bad in ["?keep=-1", "?keep=x", "?older_than=7", "?older_than=0d", "?all=perhaps"] {
        assert_eq!(server.delete(&format!("{ITEMS}{bad}")).status, 422, "{bad}");
    }
    assert_eq!(server.delete(&format!("{ITEMS}?all=true&keep=1")).status, 422);
    assert_eq!(server.get(&format!("{ITEMS}?from=middle")).status, 422);
    assert_eq!(server.get(&format!("{ITEMS}?limit=-1")).status, 422);

    let purge = |query: &str| server.delete(&format!("{ITEMS}?{query}")).expect(200);
    assert_eq!(purge("older_than=7d"), json!({ "purged": 0, "remaining": 5 }));
    assert_eq!(purge("tenant_id=acme&keep=1"), json!({ "purged": 3, "remaining": 1 }));
    assert_eq!(keys(&server.get(ITEMS).expect(200)), [ids[3].as_str(), other.as_str()]);
    assert_eq!(status(&server, &ids[0], "acme"), ("failed".to_owned(), json!("job_purged")));
    assert_eq!(status(&server, &ids[3], "acme"), ("queued".to_owned(), Value::Null));
    let requeued = server.post("/admin/embedding/requeue", &json!({ "tenant_id": "acme" }));
    assert_eq!(requeued.expect(200)["enqueued"], 3);
    assert_eq!(purge("all=true"), json!({ "purged": 5, "remaining": 0 }));

    server.terminate();
    let told = audit(&server);
    let expected = [
        json!({ "older_than_seconds": 604_800, "purged": 0 }),
        json!({ "keep": 1, "purged": 3 }),
        json!({ "purged": 5 }),
    ];
    assert_eq!(told.len(), expected.len());
    for ((actor, action, details), expected) in told.into_iter().zip(expected) {
        let act = (actor.as_str(), action.as_str(), details);
        assert_eq!(act, ("dev_user", "queue.purge", expected));
    }
}

#[test]
fn unknown_queues_are_not_found() {
    let server = Server::start(&QUEUED);
    let base = "/admin/queues/nothing";
    for request in [
        Request::get(base),
        Request::get(format!("{base}/items")),
        Request::delete(format!("{base}/items?all=true")),
        Request::new("POST", format!("{base}/pause")),
        Request::new("POST", format!("{base}/resume")),
        Request::get(format!("{base}/dead")),
        Request::delete(format!("{base}/dead")),
        Request::post(format!("{base}/dead/replay"), &json!({})),
    ] {
        let at = format!("{} {}", request.method, request.target);
        assert_eq!(
            server.send(&request).expect(404),
            json!({ "detail": "Queue not found" }),
            "{at}"
        );
    }
}

#[test]
fn an_operator_sees_every_tenant_and_is_named() {
    let mut env = QUEUED.to_vec();
    env.extend(JWT_ENV);
    let mut server = Server::start(&env);
    for tenant in ["acme", "other"] {
        let create = Request::post("/nodes", &doc(tenant)).bearer(&token(tenant, &["kg:write"]));
        server.send(&create).expect(200);
    }
    let operator = token("acme", &["super_admin"]);
    let send = |request: Request| server.send(&request.bearer(&operator)).expect(200);
    assert_eq!(send(Request::get(ITEMS))["depth"], 2);
    let other = send(Request::get(format!("{ITEMS}?tenant_id=other")));
    assert_eq!((&other["depth"], &other["items"][0]["tenant_id"]), (&json!(1), &json!("other")));
    assert_eq!(
        send(Request::delete(format!("{ITEMS}?tenant_id=other&all=true"))),
        json!({ "purged": 1, "remaining": 0 })
    );
    assert_eq!(send(Request::get(ITEMS))["items"][0]["tenant_id"], "acme");
    let refused = Request::delete(format!("{ITEMS}?all=true"));
    let refused = server.send(&refused.bearer(&token("acme", &["admin:refresh"])));
    assert_eq!(refused.expect_detail(403), "Insufficient permissions. Required scope: super_admin");
    // The administrator of the machine needs no token.
    assert_eq!(out(&server, "queue purge embedding acme --all --yes"), "purged 1, 0 remain\n");

    server.terminate();
    let actors: Vec<String> = audit(&server).into_iter().map(|(actor, ..)| actor).collect();
    assert_eq!(actors, ["user-of-acme", "local administrator"]);
}

#[test]
fn a_paused_queue_embeds_nothing_and_a_resumed_one_does() {
    let mut server = Server::start(&[("EMBEDDING_ASYNC", "true")]);
    let switch = |way: &str| {
        let path = format!("/admin/queues/embedding/{way}");
        server.send(&Request::new("POST", path)).expect(200)
    };
    let paused = json!({ "queue": "embedding", "paused": true, "changed": true });
    assert_eq!(switch("pause"), paused);
    assert_eq!(switch("pause")["changed"], false);
    let ids: Vec<String> = (0..3).map(|n| server.create(&doc(&format!("paused {n}")))).collect();
    assert_eq!(out(&server, "queue depth embedding"), "3\n");
    let metrics = server.get("/prometheus");
    assert!(metrics.text().contains("activekg_queue_paused{queue=\"embedding\"} 1"));

    // A pause outlives the process. A worker begins by looking for work, so once the server is
    // ready again it has had its chance; nothing was attempted.
    server.terminate();
    server.start_again(&[]);
    let listed = out(&server, "queue list");
    let words: Vec<&str> = listed.lines().nth(1).unwrap().split_whitespace().collect();
    assert_eq!(words[..4], ["embedding", "paused", "3", "0"], "{listed}");
    for id in &ids {
        let node = server.get(&format!("/nodes/{id}")).expect(200);
        assert_eq!(
            (&node["embedding_status"], &node["embedding_attempts"]),
            (&json!("queued"), &json!(0))
        );
    }
    assert_eq!(out(&server, "queue resume embedding"), "embedding: running\n");
    assert_eq!(out(&server, "queue resume embedding"), "embedding: running, as before\n");
    server.until(&Request::get("/admin/embedding/status"), |answer| {
        answer.json()["status_counts"] == json!({ "ready": 3 })
    });

    server.terminate();
    let told: Vec<(String, Value)> =
        audit(&server).into_iter().map(|(_, action, details)| (action, details)).collect();
    let expected = [("pause", true), ("pause", false), ("resume", true), ("resume", false)];
    let expected =
        expected.map(|(verb, changed)| (format!("queue.{verb}"), json!({ "changed": changed })));
    assert_eq!(told, expected);
}

/// Gives up the jobs that wait, first come first, each for one of `reasons`. No request makes the
/// embedder fail, so this is done while no server runs.
fn give_up(server: &mut Server, reasons: &[DeadReason]) {
    const QUEUE: QueueDef = QueueDef::named("embedding");
    server.terminate();
    let begun = unix_now() * 1_000_000;
    let store = Store::open(server.dir(), StoreOptions::default()).unwrap();
    for (n, reason) in reasons.iter().copied().enumerate() {
        let change = move |tx: &mut activekg_storage::WriteTx<'_>| {
            let now = UnixMicros(begun + i64::try_from(n).unwrap());
            let leased = queue::lease(tx, &QUEUE, now, 1)?.remove(0);
            queue::bury(tx, &QUEUE, &leased, reason, "put there", now)
        };
        store.write_blocking(change).unwrap();
    }
    store.close();
    server.start_again(&[]);
}

#[test]
fn dead_letters_are_listed_replayed_and_cleared() {
    use DeadReason::{CrashLoop, Exhausted, Permanent};
    let mut server = Server::start(&QUEUED);
    let ids: Vec<String> = (0..4).map(|n| server.create(&doc(&format!("{n}")))).collect();
    give_up(&mut server, &[Exhausted, Permanent, Exhausted, CrashLoop]);

    let letters = server.get(DEAD).expect(200);
    assert_eq!((&letters["depth"], keys(&letters)[0].as_str()), (&json!(4), ids[3].as_str()));
    let letter = &letters["items"][0];
    assert_eq!(
        (&letter["state"], &letter["reason"], &letter["error"], &letter["tenant_id"]),
        (&json!("dead"), &json!("crash_loop"), &json!("put there"), &json!("default"))
    );
    assert_eq!(letter["item"]["node_id"], ids[3].as_str());
    let get = |query: &str| keys(&server.get(&format!("{DEAD}?{query}")).expect(200));
    assert_eq!(get("from=oldest&limit=1"), [ids[0].as_str()]);
    assert_eq!(get("reason=exhausted"), [ids[2].as_str(), ids[0].as_str()]);
    assert_eq!(get("tenant_id=nobody"), [""; 0]);
    for bad in ["reason=boredom", "id=7", "limit=x", "from=here"] {
        assert_eq!(server.get(&format!("{DEAD}?{bad}")).status, 422, "{bad}");
    }
    for bad in [json!({ "reason": "boredom" }), json!({ "id": 7 }), json!([])] {
        assert_eq!(server.post(REPLAY, &bad).status, 422, "{bad}");
    }

    // A job for the second node comes meanwhile: its letter is out of date.
    server.post(&format!("/nodes/{}/refresh", ids[1]), &json!({})).expect(200);
    let replay = |body: Value| server.post(REPLAY, &body).expect(200);
    let done =
        |replayed: u64, superseded: u64| json!({ "replayed": replayed, "superseded": superseded });
    assert_eq!(replay(json!({ "tenant_id": "nobody" })), done(0, 0));
    assert_eq!(replay(json!({ "id": letter["id"] })), done(1, 0));
    assert_eq!(status(&server, &ids[3], "default").0, "queued");
    assert_eq!(replay(json!({ "reason": "permanent" })), done(0, 1));
    assert_eq!(replay(json!({})), done(2, 1));
    let left = server.delete(&format!("{DEAD}?reason=exhausted")).expect(200);
    assert_eq!(left, json!({ "purged": 0, "remaining": 1 }));
    for bad in ["keep=x", "older_than=soon", "reason=boredom"] {
        assert_eq!(server.delete(&format!("{DEAD}?{bad}")).status, 422, "{bad}");
    }
    assert_eq!(server.delete(DEAD).expect(200), json!({ "purged": 1, "remaining": 0 }));
    // A body may be left out.
    assert_eq!(server.send(&Request::new("POST", REPLAY)).expect(200), done(0, 0));

    server.terminate();
    server.start_again(&[("RUN_EMBEDDING_WORKER", "true")]);
    server.until(&Request::get("/admin/embedding/status"), |answer| {
        answer.json()["status_counts"] == json!({ "ready": 4 })
    });
    server.terminate();
    let told: Vec<String> = audit(&server).into_iter().map(|(_, action, _)| action).collect();
    let (replays, clears) = ("queue.dead.replay", "queue.dead.clear");
    assert_eq!(told, [replays, replays, replays, replays, clears, clears, replays]);
}

#[test]
fn commands_look_after_a_running_server() {
    let mut server = Server::start(&QUEUED);
    let ids: Vec<String> = (0..6).map(|n| server.create(&owned("acme", &format!("{n}")))).collect();
    server.create(&owned("other", "else"));
    assert_eq!(out(&server, "queue depth embedding"), "7\n");
    assert_eq!(out(&server, "queue depth embedding acme"), "6\n");
    assert_eq!(out(&server, "queue depth embedding nobody"), "0\n");
    let depths: Value =
        serde_json::from_str(&out(&server, "queue depth embedding acme --json")).unwrap();
    assert_eq!((&depths["ready"], &depths["dead"]), (&json!(6), &json!(0)));

    let oldest: Value =
        serde_json::from_str(&out(&server, "queue peek embedding acme --oldest")).unwrap();
    assert_eq!((&oldest["node_id"], &oldest["state"]), (&json!(ids[0]), &json!("ready")));
    let two = out(&server, "queue peek embedding acme --newest --limit 2");
    let two: Vec<Value> = two.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    assert_eq!((&two[0]["node_id"], &two[1]["node_id"]), (&json!(ids[5]), &json!(ids[4])));

    // Nobody can be asked here.
    let unasked = fault(&server, "queue purge embedding acme --keep 4", 1);
    assert!(unasked.contains("--yes") && unasked.contains("newest 4"), "{unasked}");
    assert!(unasked.trim_end().lines().count() == 1, "{unasked}");
    fault(&server, "queue purge embedding acme", 2);
    assert_eq!(out(&server, "queue depth embedding acme"), "6\n", "nothing was purged");
    let kept = out(&server, "queue purge embedding acme --keep 4 --yes");
    assert_eq!(kept, "purged 2, 4 remain\n");
    let aged = out(&server, "queue purge embedding --older-than 7d --yes --json");
    let aged: Value = serde_json::from_str(&aged).unwrap();
    assert_eq!(aged, json!({ "purged": 0, "remaining": 5 }));
    let unknown = fault(&server, "queue peek nothing", 1);
    assert!(unknown.contains("Queue not found"), "{unknown}");

    give_up(&mut server, &[DeadReason::Exhausted; 3]);
    let letters = out(&server, "dlq list embedding --limit 11");
    let letters: Vec<Value> =
        letters.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    assert_eq!(letters.len(), 3);
    assert_eq!(
        (&letters[0]["reason"], &letters[0]["state"]),
        (&json!("exhausted"), &json!("dead"))
    );
    let id = super::text_of(&letters[0]["id"]);
    assert_eq!(out(&server, &format!("dlq replay embedding --id {id}")), "replayed 1\n");
    assert_eq!(out(&server, "dlq replay embedding --reason parse"), "replayed 0\n");
    let unasked = fault(&server, "dlq clear embedding", 1);
    assert!(unasked.contains("--yes"), "{unasked}");
    assert_eq!(out(&server, "dlq clear embedding --keep 1 --yes"), "purged 1, 1 remain\n");
    assert_eq!(out(&server, "dlq clear embedding --yes"), "purged 1, 0 remain\n");
    assert_eq!(out(&server, "dlq list embedding"), "");

    // The same over the network.
    let url = format!("--url http://{}", server.addr());
    assert_eq!(out(&server, &format!("queue depth embedding {url}")), "3\n");

    server.terminate();
    for line in ["queue list", "queue purge embedding --all --yes", "dlq list embedding"] {
        let said = fault(&server, line, 1);
        assert!(said.contains("no server runs on"), "{said}");
        assert_eq!(said.trim_end().lines().count(), 1, "{said}");
    }
    assert!(audit(&server).iter().all(|(actor, ..)| actor == "local administrator"));
}
