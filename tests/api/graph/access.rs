//! Who may do what: tokens, scopes, and what is checked before what.

use serde_json::json;

use super::{NOBODY, doc};
use crate::common::token::{JWT_ENV, SECRET, signed, token};
use crate::common::{Answer, Form, Options, Request, Server};

const MISSING: &str = "Missing Authorization header. JWT required for this endpoint.";

/// A backup that nobody made.
const ARCHIVE: &str = "activekg_20200101_000000.tar.zst";

/// A valid request to every route that needs a token, and the scope it needs where routes have
/// scopes of their own.
fn guarded() -> Vec<(Request, &'static str)> {
    let query = json!({ "query": "x" });
    let question = json!({ "question": "x" });
    let pattern = json!({ "name": "x", "example_text": "x" });
    let edge = json!({ "src": NOBODY, "dst": NOBODY, "rel": "R" });
    let chat = json!({ "messages": [{ "role": "user", "content": "x" }] });
    let owner = json!({ "tenant_id": "t1" });
    let connector = json!({ "config": { "urls": ["http://127.0.0.1:9/"] } });
    let rotation = json!({ "tenant_id": "t1", "dry_run": true });
    let ping = json!({ "jsonrpc": "2.0", "id": 1, "method": "ping" });
    vec![
        (Request::get("/nodes"), "search:read"),
        (Request::get(format!("/nodes/{NOBODY}")), "search:read"),
        (Request::get("/nodes/by-external-id?external_id=x"), "search:read"),
        (Request::get(format!("/nodes/{NOBODY}/versions")), "search:read"),
        (Request::get(format!("/lineage/{NOBODY}")), "search:read"),
        (Request::get("/events"), "search:read"),
        (Request::get(format!("/graph/neighbors?id={NOBODY}")), "search:read"),
        (Request::get(format!("/graph/path?from={NOBODY}&to={NOBODY}")), "search:read"),
        (Request::get(format!("/graph/subgraph?id={NOBODY}")), "search:read"),
        (Request::get("/v1/models"), "search:read"),
        (Request::post("/v1/embeddings", &json!({ "input": "x" })), "search:read"),
        (Request::post("/v1/chat/completions", &chat), "ask:read"),
        (Request::post("/mcp", &ping), ""),
        (Request::post("/search", &query), "search:read"),
        (Request::post("/ask", &question), "ask:read"),
        (Request::post("/ask/stream", &question), "ask:read"),
        (Request::post("/nodes", &doc("x")), "kg:write"),
        (Request::post("/nodes/batch", &json!({ "nodes": [doc("x")] })), "kg:write"),
        (Request::put(format!("/nodes/{NOBODY}"), &json!({})), "kg:write"),
        (Request::delete(format!("/nodes/{NOBODY}")), "kg:write"),
        (Request::new("POST", format!("/nodes/{NOBODY}/refresh")), "kg:write"),
        (Request::post("/edges", &edge), "kg:write"),
        (Request::get("/triggers"), "search:read"),
        (Request::post("/triggers", &pattern), "kg:write"),
        (Request::delete("/triggers/x"), "kg:write"),
        (Request::get("/admin/anomalies"), "search:read"),
        (Request::new("POST", "/admin/refresh"), "admin:refresh"),
        (Request::get("/_admin/metrics_summary"), "admin:refresh"),
        (Form::default().file("a.txt", "text/plain", "x").upload(), "kg:write"),
        (Request::get("/admin/embedding/status"), "admin:refresh"),
        (Request::post("/admin/embedding/requeue", &json!({})), "admin:refresh"),
        (Request::get("/admin/extraction/status"), "admin:refresh"),
        (Request::post("/admin/extraction/requeue", &json!({})), "admin:refresh"),
        (Request::get("/debug/dbinfo"), "admin:refresh"),
        (Request::get("/debug/search_sanity"), "admin:refresh"),
        (Request::get("/debug/search_explain?query=x"), "admin:refresh"),
        (Request::post("/debug/search_explain", &query), "admin:refresh"),
        (Request::get("/debug/embed_info"), "admin:refresh"),
        (Request::get("/_admin/embed_info"), "admin:refresh"),
        (Request::get("/admin/indexes"), "admin:refresh"),
        (Request::post("/admin/indexes", &json!({ "action": "list" })), "admin:refresh"),
        (Request::new("POST", "/admin/migrate"), "admin:refresh"),
        (Request::get("/admin/db_status"), "admin:refresh"),
        (Request::get("/_admin/embed_class_coverage"), "admin:refresh"),
        (Request::get("/_admin/drift_histogram"), "admin:refresh"),
        (
            Request::post("/_admin/metrics/retrieval_uplift", &json!({ "values": {} })),
            "admin:refresh",
        ),
        (Request::get("/_admin/security/limits"), ""),
        (Request::get("/_admin/connectors/"), "admin:refresh"),
        (Request::get("/_admin/connectors/cache/health"), ""),
        (Request::new("POST", "/_admin/connectors/cache/flush"), "admin:refresh"),
        (Request::get("/_admin/connectors/keys"), "admin:refresh"),
        (Request::post("/_admin/connectors/rotate_keys", &rotation), "admin:refresh"),
        (Request::post("/_admin/connectors/purge_deleted", &rotation), "admin:refresh"),
        (Request::get("/_admin/connectors/purge_receipts"), "admin:refresh"),
        (Request::get("/_admin/connectors/http?tenant_id=t1"), "admin:refresh"),
        (Request::post("/_admin/connectors/http/register", &connector), "admin:refresh"),
        (Request::new("PATCH", "/_admin/connectors/http/config").json(&connector), "admin:refresh"),
        (Request::delete("/_admin/connectors/http/config?tenant_id=t1"), "admin:refresh"),
        (Request::post("/_admin/connectors/http/test", &connector), "admin:refresh"),
        (Request::post("/_admin/connectors/http/enable", &owner), "admin:refresh"),
        (Request::post("/_admin/connectors/http/disable", &owner), "admin:refresh"),
        (Request::get("/_admin/config"), "super_admin"),
        (Request::get("/_admin/stats/ingest"), "admin:refresh"),
        (Request::get("/_admin/stats/deleted"), "admin:refresh"),
        (Request::post("/_admin/connectors/http/ingest", &owner), "super_admin"),
        (Request::post("/_admin/connectors/http/backfill", &owner), "admin:refresh"),
        (Request::get("/_admin/connectors/http/queue-status?tenant_id=t1"), "admin:refresh"),
        (Request::get("/_admin/connectors/http/queue"), "super_admin"),
        (Request::delete("/_admin/connectors/http/queue?all=true"), "super_admin"),
        (Request::get("/_admin/connectors/http/cursor?tenant_id=t1"), "admin:refresh"),
        (Request::get("/_admin/connectors/dlq/inspect/http/t1"), "super_admin"),
        (Request::post("/_admin/connectors/dlq/replay/http/t1", &json!({})), "super_admin"),
        (Request::post("/_admin/connectors/dlq/clear/http/t1", &json!({})), "super_admin"),
        (Request::post("/_admin/db/check", &json!({})), "super_admin"),
        (Request::get("/_admin/db/stats"), "super_admin"),
        (Request::get("/_admin/db/activity"), "super_admin"),
        (Request::get("/admin/backups"), "super_admin"),
        (Request::post(format!("/admin/backups/{ARCHIVE}/verify"), &json!({})), "super_admin"),
        (Request::post("/admin/backup", &json!({})), "super_admin"),
        (Request::get("/admin/model"), "super_admin"),
        (Request::post("/admin/model/change", &json!({ "model": "m" })), "super_admin"),
        (Request::delete("/admin/model/change"), "super_admin"),
        (Request::post("/admin/model/compare", &json!({})), "super_admin"),
        (Request::post("/admin/model/switch", &json!({})), "super_admin"),
        (Request::post("/admin/model/roll-back", &json!({})), "super_admin"),
        (Request::get("/admin/queues"), "super_admin"),
        (Request::get("/admin/queues/embedding"), "super_admin"),
        (Request::get("/admin/queues/embedding/items"), "super_admin"),
        (Request::delete("/admin/queues/embedding/items?all=true"), "super_admin"),
        (Request::new("POST", "/admin/queues/embedding/pause"), "super_admin"),
        (Request::new("POST", "/admin/queues/embedding/resume"), "super_admin"),
        (Request::get("/admin/queues/embedding/dead"), "super_admin"),
        (Request::delete("/admin/queues/embedding/dead"), "super_admin"),
        (Request::post("/admin/queues/embedding/dead/replay", &json!({})), "super_admin"),
        (Request::get("/_admin/audit"), "admin:refresh"),
        (Request::get("/_admin/workers"), "super_admin"),
        (Request::post("/_admin/workers/connector/scale", &json!({ "workers": 1 })), "super_admin"),
        (Request::new("POST", "/_admin/workers/connector/restart"), "super_admin"),
    ]
}

/// What a token without this scope is told. Scripts for connectors know other words.
fn lacking(request: &Request, scope: &str) -> String {
    if request.target.starts_with("/_admin/connectors") {
        let named = if scope == "super_admin" { scope } else { "admin" };
        return format!("{named} scope required");
    }
    format!("Insufficient permissions. Required scope: {scope}")
}

/// The sentence of a refusal, in whichever of the shapes that paths have.
#[track_caller]
fn said(answer: &Answer, status: u16) -> String {
    let body = answer.expect(status);
    let text = body["detail"].as_str().or_else(|| body["error"]["message"].as_str());
    text.unwrap_or_else(|| panic!("no sentence: {body}")).to_owned()
}

const OPEN: [&str; 11] = [
    "/health",
    "/readyz",
    "/metrics",
    "/prometheus",
    "/openapi.json",
    "/docs",
    "/redoc",
    "/demo",
    "/debug/intent?q=x",
    "/_webhooks/s3/health",
    "/_webhooks/gcs/health",
];

/// Routes whose callers show who they are by other means than a token; `webhooks.rs` has them.
const SIGNED: [&str; 2] = ["POST /_webhooks/s3", "POST /_webhooks/gcs"];

#[test]
fn a_token_is_needed_where_the_contract_says() {
    let server = Server::start(&JWT_ENV);
    for (request, needed) in guarded() {
        let at = format!("{} {}", request.method, request.target);
        assert_eq!(said(&server.send(&request), 401), MISSING, "{at}");
        let bad = said(&server.send(&request.clone().bearer("garbage")), 401);
        assert!(bad.starts_with("Invalid JWT token: "), "{at}: {bad}");
        let scope = if needed == "super_admin" { needed } else { "admin:refresh" };
        let good = server.send(&request.bearer(&token("t1", &[scope])));
        assert!(![401, 403].contains(&good.status), "{at}: {}", good.text());
    }
    for path in OPEN {
        assert_eq!(server.get(path).status, 200, "{path}");
    }
}

#[test]
fn every_route_of_the_description_is_guarded_or_open() {
    let server = Server::start(&JWT_ENV);
    let description = server.get("/openapi.json").expect(200);
    let known: Vec<String> = guarded()
        .iter()
        .map(|(request, _)| {
            let path = request.target.split('?').next().unwrap_or_default();
            let path = path.replace(NOBODY, "{id}").replace(ARCHIVE, "{name}");
            let path = path.replace("/queues/embedding", "/queues/{queue}");
            let path = path.replace("/workers/connector", "/workers/{queue}");
            let path = path.replace("/connectors/http", "/connectors/{provider}");
            let path = path.replace("/http/t1", "/{provider}/{tenant}");
            let path = path.replace("/triggers/x", "/triggers/{name}");
            format!("{} {path}", request.method)
        })
        .chain(
            OPEN.iter().map(|path| format!("GET {}", path.split('?').next().unwrap_or_default())),
        )
        .chain(SIGNED.map(str::to_owned))
        .collect();
    let described = description["paths"].as_object().expect("paths").iter();
    for (path, methods) in described {
        for method in methods.as_object().expect("methods").keys() {
            let route = format!("{} {path}", method.to_uppercase());
            assert!(known.contains(&route), "{route} is in no table of this file");
        }
    }
}

#[test]
fn administration_needs_its_scope() {
    let server = Server::start(&JWT_ENV);
    for (request, scope) in guarded() {
        let at = format!("{} {}", request.method, request.target);
        let without =
            server.send(&request.clone().bearer(&token("t1", &["kg:write", "xadmin:refresh"])));
        if ["admin:refresh", "super_admin"].contains(&scope) {
            assert_eq!(said(&without, 403), lacking(&request, scope), "{at}");
        } else {
            assert_ne!(without.status, 403, "{at}");
        }
        let all = server.send(&request.bearer(&token("t1", &["super_admin"])));
        assert_ne!(all.status, 403, "{at}");
    }
}

#[test]
fn scopes_can_be_asked_of_every_route() {
    let server = Options::new(&JWT_ENV).set("AUTHZ_MODE", "scopes").start();
    for (request, needed) in guarded() {
        let at = format!("{} {}", request.method, request.target);
        for scope in [
            "search:read",
            "ask:read",
            "kg:write",
            "admin:refresh",
            "super_admin",
            "read",
            "write",
            "nodes:write",
            "",
            "SEARCH:READ",
        ] {
            let implied: &[&str] = match scope {
                "super_admin" => &["search:read", "ask:read", "kg:write", "admin:refresh"],
                "read" => &["search:read", "ask:read"],
                "write" | "nodes:write" => &["kg:write"],
                other => &[other],
            };
            let allowed = needed.is_empty() || scope == needed || implied.contains(&needed);
            let answer = server.send(&request.clone().bearer(&token("t1", &[scope])));
            if allowed {
                assert_ne!(answer.status, 403, "{at} with {scope:?}");
            } else {
                assert_eq!(said(&answer, 403), lacking(&request, needed), "{at} with {scope:?}");
            }
        }
    }
}

#[test]
fn scopes_come_as_a_list_or_as_words_and_exactly() {
    let server = Server::start(&JWT_ENV);
    let with = |scopes: serde_json::Value| {
        let mut claims =
            json!({ "sub": "s", "tenant_id": "t1", "aud": "activekg", "exp": "now+60" });
        claims.as_object_mut().unwrap().extend(scopes.as_object().unwrap().clone());
        let token = signed("HS256", SECRET, &claims);
        server.send(&Request::get("/debug/dbinfo").bearer(&token)).status
    };
    for good in [
        json!({ "scopes": ["admin:refresh"] }),
        json!({ "scopes": "read admin:refresh" }),
        json!({ "scope": "admin:refresh read" }),
        json!({ "scopes": [1, "admin:refresh"] }),
    ] {
        assert_eq!(with(good.clone()), 200, "{good}");
    }
    for bad in [
        json!({}),
        json!({ "scopes": 5 }),
        json!({ "scopes": {} }),
        json!({ "scopes": ["admin"] }),
        json!({ "scopes": "xadmin:refreshx" }),
        json!({ "scopes": [], "scope": "admin:refresh" }),
        json!({ "scope": ["admin:refresh"] }),
        json!({ "scopes": ["Admin:Refresh"] }),
    ] {
        assert_eq!(with(bad.clone()), 403, "{bad}");
    }
}

#[test]
fn bad_tokens_say_what_is_bad_about_them() {
    let server = Options::new(&JWT_ENV).set("JWT_ISSUER", "https://issuer.example").start();
    let base = json!({ "sub": "s", "tenant_id": "t1", "aud": "activekg", "iss": "https://issuer.example", "iat": "now-5", "exp": "now+60" });
    let with = |algorithm: &str, key: &str, change: serde_json::Value| {
        let mut claims = base.clone();
        claims.as_object_mut().unwrap().extend(change.as_object().unwrap().clone());
        let claims = claims.as_object().unwrap().iter().filter(|(_, value)| *value != "absent");
        let claims = claims.map(|(name, value)| (name.clone(), value.clone())).collect();
        server.send(&Request::get("/nodes").bearer(&signed(
            algorithm,
            key,
            &serde_json::Value::Object(claims),
        )))
    };
    assert_eq!(with("HS256", SECRET, json!({})).status, 200);
    assert_eq!(with("HS256", SECRET, json!({ "exp": "now-10" })).status, 200, "within the leeway");
    for (change, detail) in [
        (json!({ "exp": "now-60" }), "JWT token has expired"),
        (json!({ "exp": "absent" }), r#"Invalid JWT token: Token is missing the "exp" claim"#),
        (json!({ "aud": "other" }), "JWT token has invalid audience"),
        (json!({ "aud": "absent" }), r#"Invalid JWT token: Token is missing the "aud" claim"#),
        (json!({ "iss": "https://evil.example" }), "JWT token has invalid issuer"),
        (json!({ "iss": "absent" }), r#"Invalid JWT token: Token is missing the "iss" claim"#),
        (json!({ "nbf": "now+90" }), "Invalid JWT token: The token is not yet valid (nbf)"),
        (json!({ "iat": "now+90" }), "Invalid JWT token: The token is not yet valid (iat)"),
        (json!({ "tenant_id": "absent" }), "Missing tenant_id claim in JWT"),
        (json!({ "sub": "absent" }), "Missing sub (actor_id) claim in JWT"),
    ] {
        assert_eq!(with("HS256", SECRET, change.clone()).expect_detail(401), detail, "{change}");
    }
    const NOT_ALLOWED: &str = "Invalid JWT token: The specified alg value is not allowed";
    assert_eq!(with("none", "", json!({})).expect_detail(401), NOT_ALLOWED);
    assert_eq!(with("HS512", SECRET, json!({})).expect_detail(401), NOT_ALLOWED);
    let forged = with("HS256", "another-secret-0123456789abcdef-0123456789", json!({}));
    assert_eq!(forged.expect_detail(401), "Invalid JWT token: Signature verification failed");
    assert_eq!(
        with("HS256", SECRET, json!({ "tenant_id": "__quarantine__" })).expect_detail(403),
        "Reserved tenant_id"
    );
}

#[test]
fn tokens_may_be_signed_with_a_private_key() {
    const PRIVATE: &str = include_str!("../../../src/auth/tests/rsa_private.pem");
    const PUBLIC: &str = include_str!("../../../src/auth/tests/rsa_public.pem");
    let server = Server::start(&[("JWT_ENABLED", "true"), ("JWT_PUBLIC_KEY", PUBLIC)]);
    let claims = json!({ "sub": "s", "tenant_id": "t1", "aud": "activekg", "exp": crate::common::token::unix_now() + 60 });
    let key = jsonwebtoken::EncodingKey::from_rsa_pem(PRIVATE.as_bytes()).unwrap();
    let header = jsonwebtoken::Header::new(jsonwebtoken::Algorithm::RS256);
    let good = jsonwebtoken::encode(&header, &claims, &key).unwrap();
    assert_eq!(server.send(&Request::get("/nodes").bearer(&good)).status, 200);
    // The public key as a secret is the oldest of forgeries.
    let forged = signed("HS256", PUBLIC, &claims);
    let refused = server.send(&Request::get("/nodes").bearer(&forged)).expect_detail(401);
    assert_eq!(refused, "Invalid JWT token: The specified alg value is not allowed");
}

#[test]
fn checks_come_in_the_order_of_the_contract() {
    let server = Options::new(&JWT_ENV).set("MAX_REQUEST_SIZE_BYTES", "2000").start();
    let large = "x".repeat(3000);
    let plain = token("t1", &[]);
    // Path and method before size, size before token, token before body, body before scope.
    assert_eq!(server.send(&Request::new("POST", "/nowhere").raw(large.clone())).status, 404);
    assert_eq!(server.send(&Request::new("PATCH", "/nodes").raw(large.clone())).status, 405);
    assert_eq!(server.send(&Request::new("POST", "/nodes").raw(large.clone())).status, 413);
    assert_eq!(
        server.send(&Request::new("POST", "/nodes").raw(large.clone()).chunked()).status,
        413
    );
    assert_eq!(server.send(&Request::new("POST", "/nodes").raw("{")).status, 401);
    assert_eq!(server.send(&Request::new("POST", "/nodes").raw("{").bearer("bad")).status, 401);
    let requeue = |body: &str| {
        server
            .send(&Request::new("POST", "/admin/embedding/requeue").raw(body).bearer(&plain))
            .status
    };
    assert_eq!(requeue("{"), 422);
    assert_eq!(requeue(r#"{"limit":"x"}"#), 422);
    assert_eq!(requeue("{}"), 403);
}

#[test]
fn violations_are_counted() {
    let server = Server::start(&JWT_ENV);
    let count = |kind: &str| {
        let text = server.get("/prometheus");
        let sample = format!("activekg_access_violations_total{{type=\"{kind}\"}} ");
        let line =
            text.text().lines().find_map(|line| line.strip_prefix(&sample).map(str::to_owned));
        line.map_or(0.0, |value| value.parse::<f64>().unwrap())
    };
    let t1 = token("t1", &[]);
    server.get("/nodes").expect(401);
    server.send(&Request::get("/debug/dbinfo").bearer(&t1)).expect(403);
    server.send(&Request::get("/nodes?tenant_id=t2").bearer(&t1)).expect(200);
    let mut node = doc("x");
    node["tenant_id"] = "t2".into();
    server.send(&Request::post("/nodes", &node).bearer(&t1)).expect(200);
    for (kind, expected) in
        [("missing_token", 1.0), ("scope_denied", 1.0), ("cross_tenant_query", 2.0)]
    {
        assert_eq!(count(kind), expected, "{kind}");
    }
}
