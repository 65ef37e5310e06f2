//! One tenant never sees, changes or learns anything of another.

use serde_json::{Value, json};

use super::text_of;
use crate::common::token::{JWT_ENV, token};
use crate::common::{Answer, Request, Server};

struct Tenant<'a> {
    server: &'a Server,
    token: String,
}

impl Tenant<'_> {
    fn send(&self, request: Request) -> Answer {
        self.server.send(&request.bearer(&self.token))
    }

    fn create(&self, node: &Value) -> String {
        text_of(&self.send(Request::post("/nodes", node)).expect(200)["id"])
    }
}

/// Two tenants of a server, with all scopes but the one that crosses tenants.
fn two(server: &Server) -> [Tenant<'_>; 2] {
    ["t1", "t2"]
        .map(|tenant| Tenant { server, token: token(tenant, &["admin:refresh", "read", "write"]) })
}

fn secret() -> Value {
    json!({ "classes": ["Secret"], "props": { "text": "the vault code is swordfish", "external_id": "vault" },
            "metadata": { "k": 1 }, "refresh_policy": { "drift_threshold": -1 } })
}

#[test]
fn every_route_that_takes_an_id_hides_anothers() {
    let server = Server::start(&JWT_ENV);
    let [one, two] = two(&server);
    let id = one.create(&secret());
    let mine = two.create(&json!({ "classes": ["Doc"], "props": { "text": "mine" } }));
    let before = one.send(Request::get(format!("/nodes/{id}"))).expect(200);

    for request in [
        Request::get(format!("/nodes/{id}")),
        Request::get(format!("/nodes/{id}?tenant_id=t1")),
        Request::put(format!("/nodes/{id}"), &json!({ "props": {} })),
        Request::put(format!("/nodes/{id}"), &json!({ "props": {}, "tenant_id": "t1" })),
        Request::delete(format!("/nodes/{id}")),
        Request::delete(format!("/nodes/{id}?hard=true&tenant_id=t1")),
        Request::new("POST", format!("/nodes/{id}/refresh")),
        Request::get("/nodes/by-external-id?external_id=vault&tenant_id=t1"),
        Request::post("/edges", &json!({ "src": mine, "dst": id, "rel": "R", "tenant_id": "t1" })),
        Request::post("/edges", &json!({ "src": id, "dst": mine, "rel": "R" })),
        Request::post("/edges", &json!({ "src": id, "dst": id, "rel": "R" })),
    ] {
        let at = format!("{} {}", request.method, request.target);
        assert_eq!(two.send(request).expect(404), json!({ "detail": "Node not found" }), "{at}");
    }
    for (path, list) in [
        (format!("/nodes/{id}/versions"), "versions"),
        (format!("/lineage/{id}?tenant_id=t1"), "ancestors"),
        (format!("/events?node_id={id}&tenant_id=t1"), "events"),
        ("/events".to_owned(), "events"),
    ] {
        let body = two.send(Request::get(path.clone())).expect(200);
        let rows = body[list].as_array().expect("a list");
        assert!(rows.iter().all(|row| row["node_id"] != id.as_str()), "{path}: {body}");
    }
    let requeued = two.send(Request::post(
        "/admin/embedding/requeue",
        &json!({ "node_ids": [id], "tenant_id": "t1" }),
    ));
    assert_eq!(requeued.expect(200)["requested"], 0);
    assert_eq!(
        one.send(Request::get(format!("/nodes/{id}"))).expect(200),
        before,
        "nothing was changed"
    );
}

#[test]
fn no_search_answer_list_or_count_shows_anothers() {
    let server = Server::start(&JWT_ENV);
    let [one, two] = two(&server);
    let id = one.create(&secret());
    let mine = two.create(&json!({ "classes": ["Doc"], "props": { "text": "mine" } }));

    for mode in ["vector", "hybrid", "bm25"] {
        let search = json!({ "query": "vault code swordfish", "mode": mode, "tenant_id": "t1" });
        let answer = two.send(Request::post("/search", &search));
        assert!(
            !answer.text().contains(&id) && !answer.text().contains("the vault"),
            "{mode}: {}",
            answer.text()
        );
        let own = one.send(Request::post("/search", &search)).expect(200);
        assert_eq!(own["results"][0]["id"], id, "{mode}");
    }
    for path in ["/ask", "/ask/stream"] {
        let question = json!({ "question": "What is the vault code?", "tenant_id": "t1" });
        let answer = two.send(Request::post(path, &question));
        assert!(
            !answer.text().contains("swordfish") && !answer.text().contains(&id),
            "{path}: {}",
            answer.text()
        );
        assert!(one.send(Request::post(path, &question)).text().contains("swordfish"), "{path}");
    }
    let list = two.send(Request::get("/nodes?tenant_id=t1")).expect(200);
    assert_eq!((&list["total"], &list["nodes"][0]["id"]), (&json!(1), &json!(mine)));
    for (path, pointer) in [
        ("/admin/embedding/status?tenant_id=t1", "/status_counts/ready"),
        ("/debug/search_sanity", "/total_nodes"),
        ("/debug/embed_info", "/counts/total_nodes"),
    ] {
        let body = two.send(Request::get(path)).expect(200);
        assert_eq!(body.pointer(pointer), Some(&json!(1)), "{path}: {body}");
    }
    let explained = two.send(Request::get("/debug/search_explain?query=swordfish&use_hybrid=true"));
    assert!(!explained.text().contains(&id), "{}", explained.text());
}

#[test]
fn a_body_cannot_choose_the_tenant() {
    let server = Server::start(&JWT_ENV);
    let [one, two] = two(&server);
    let mut node = secret();
    node["tenant_id"] = "t1".into();
    let id = two.create(&node);
    one.send(Request::get(format!("/nodes/{id}"))).expect(404);
    two.send(Request::get(format!("/nodes/{id}"))).expect(200);
    // The same external id of another tenant is no conflict, and tells nothing.
    one.create(&secret());
    let batch = json!({ "nodes": [{ "classes": ["D"], "props": {}, "tenant_id": "t1" }], "tenant_id": "t1" });
    let body = two.send(Request::post("/nodes/batch", &batch)).expect(200);
    assert_eq!(body["results"][0]["tenant_id"], "t2");
}

#[test]
fn without_tokens_the_named_tenant_is_used() {
    let server = Server::start(&[("ACTIVEKG_DEV_TENANT", "dev")]);
    let mut node = secret();
    for tenant in ["acme", "dev"] {
        node["tenant_id"] = tenant.into();
        node["props"]["text"] = format!("the vault code of {tenant} is swordfish").into();
        server.create(&node);
    }
    assert_eq!(server.get("/nodes").expect(200)["total"], 0, "that is the tenant `default`");
    assert_eq!(server.get("/nodes?tenant_id=acme").expect(200)["total"], 1);
    let ask = |body: Value| text_of(&server.post("/ask", &body).expect(200)["answer"]);
    assert!(ask(json!({ "question": "What is the vault code?" })).contains("dev"));
    assert!(
        ask(json!({ "question": "What is the vault code?", "tenant_id": "acme" })).contains("acme")
    );
    let (kind, loc, _) = server
        .post("/search", &json!({ "query": "x", "tenant_id": "t".repeat(101) }))
        .expect_fault();
    assert_eq!((kind.as_str(), loc), ("string_too_long", json!(["body", "tenant_id"])));
}
