//! Events of Google Cloud Storage, pushed by Pub/Sub.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use jsonwebtoken::jwk::Jwk;
use jsonwebtoken::{Algorithm, EncodingKey, Header};
use serde_json::{Value, json};

use super::{metric, queued, register};
use crate::common::page::Page;
use crate::common::token::{JWT_ENV, unix_now};
use crate::common::{Answer, Options, Request, Server};

const SECRET: &str = "a-secret-of-pubsub-tests";
const TOPIC: &str = "projects/p/topics/activekg-gcs-default";
const RSA: &str = include_str!("../../../../src/auth/tests/rsa_private.pem");
const AUDIENCE: &str = "https://kg.example/_webhooks/gcs";
const ACCOUNT: &str = "push@p.iam.gserviceaccount.com";

fn options() -> Options {
    Options::new(&[("RUN_CONNECTOR_WORKER", "false"), ("PUBSUB_VERIFY_SECRET", SECRET)])
}

fn event(id: Option<&str>, kind: &str, bucket: &str, object: &str) -> Value {
    let resource = json!({ "bucket": bucket, "name": object, "generation": "7", "etag": "CJ" });
    let mut message = json!({
        "publishTime": "2026-02-03T10:00:00Z",
        "data": STANDARD.encode(resource.to_string()),
        "attributes": { "bucketId": bucket, "objectId": object, "eventType": kind,
            "objectGeneration": "7", "notificationConfig": "projects/_/buckets/b/notificationConfigs/1" },
    });
    if let Some(id) = id {
        message["messageId"] = id.into();
    }
    json!({ "message": message, "subscription": "projects/p/subscriptions/push-activekg-gcs-harbor" })
}

fn push(body: &Value) -> Request {
    Request::post("/_webhooks/gcs", body)
}

fn send(server: &Server, body: &Value) -> Answer {
    server.send(&push(body).header("x-pubsub-token", SECRET))
}

fn verified(server: &Server, result: &str) -> f64 {
    metric(server, &format!("webhook_pubsub_verify_total{{provider=\"gcs\",result=\"{result}\"}}"))
}

#[test]
fn a_secret_comes_in_a_header_or_the_query() {
    let server = options().start();
    let body = event(Some("1"), "OBJECT_FINALIZE", "test-bucket", "docs/sample.pdf");
    let answer = server
        .send(&push(&body).header("x-pubsub-token", SECRET).header("x-goog-topic", TOPIC))
        .expect(200);
    assert_eq!(answer, json!({ "status": "queued", "count": 1, "tenant_id": "default" }));
    let upsert = ("gs://test-bucket/docs/sample.pdf".to_owned(), "upsert".to_owned());
    assert_eq!(queued(&server, "gcs", "default"), [upsert]);
    let by_query = format!("/_webhooks/gcs?token={SECRET}&topic={TOPIC}");
    let answer = server.send(&Request::post(by_query, &body)).expect(200);
    assert_eq!(answer, json!({ "status": "duplicate" }));
    assert_eq!(metric(&server, "webhook_replay_total "), 1.0);
    assert_eq!(verified(&server, "secret_ok"), 2.0);

    let wrong = push(&body).header("x-pubsub-token", "wrong");
    assert_eq!(server.send(&wrong).expect_detail(403), "Invalid Pub/Sub token");
    assert_eq!(server.send(&push(&body)).expect_detail(403), "Invalid Pub/Sub token");
    assert_eq!(verified(&server, "signature_invalid"), 1.0);
    assert_eq!(verified(&server, "missing_token"), 1.0);
    let log = server.logged("webhook verification failed");
    assert!(!log.contains(SECRET), "{log}");
}

#[test]
fn what_is_no_message_is_refused_and_what_means_nothing_is_not() {
    let server = options().start();
    let with = |name: &str, value: Value| {
        let mut body = event(Some("1"), "OBJECT_FINALIZE", "b", "o");
        body["message"][name] = value;
        body
    };
    let no_object = event(None, "OBJECT_FINALIZE", "b", "");
    for bad in
        [json!({}), json!([]), with("data", json!("...")), with("data", json!("eA==")), no_object]
    {
        assert_eq!(send(&server, &bad).expect_detail(400), "Invalid Pub/Sub message", "{bad}");
    }
    let mut replaced = event(Some("2"), "OBJECT_DELETE", "b", "o");
    replaced["message"]["attributes"]["overwrittenByGeneration"] = "8".into();
    assert_eq!(send(&server, &replaced).expect(200)["status"], "ignored");
    let other = event(Some("3"), "OBJECT_SOMETHING", "b", "o");
    let ignored = json!({ "status": "ignored", "reason": "event_type" });
    assert_eq!(send(&server, &other).expect(200), ignored);
    assert_eq!(queued(&server, "gcs", "harbor"), []);

    // By hand a message may have no id: then it counts every time.
    let deleted = event(None, "OBJECT_DELETE", "b", "o");
    for _ in 0..2 {
        let answer = send(&server, &deleted).expect(200);
        assert_eq!(answer, json!({ "status": "queued", "count": 1, "tenant_id": "harbor" }));
    }
    let item = ("gs://b/o".to_owned(), "deleted".to_owned());
    assert_eq!(queued(&server, "gcs", "harbor"), [item], "an object has one item");
}

#[test]
fn the_bucket_leads_to_its_tenants_and_their_lists_decide() {
    let server = options().start();
    let listing = |topics: &[&str]| json!({ "bucket": "docs", "topic_allowlist": topics });
    register(&server, "gcs", "acme", &listing(&["projects/p/topics/a"]));
    let body = |id: &str| event(Some(id), "OBJECT_FINALIZE", "docs", "x.pdf");
    let by = |topic: &str, id: &str| {
        let request = push(&body(id)).header("x-pubsub-token", SECRET);
        server.send(&request.header("x-goog-topic", topic))
    };
    assert_eq!(by("projects/p/topics/a", "1").expect(200)["tenant_id"], "acme");
    let refused = by("projects/p/topics/b", "2");
    assert_eq!(refused.expect_detail(403), "Topic not allowed for tenant");
    let series = r#"webhook_topic_rejected_total{provider="gcs",tenant="acme"}"#;
    assert_eq!(metric(&server, series), 1.0);
    server.logged("topic rejected: topic not in allowlist");
    // A real push names no topic: its sender is known, and the list cannot be checked.
    assert_eq!(send(&server, &body("3")).expect(200)["tenant_id"], "acme");
    server.logged("cannot be checked");

    // Two on one bucket: whoever lists the topic is meant, and all who do not say.
    register(&server, "gcs", "best", &listing(&["projects/p/topics/b"]));
    assert_eq!(by("projects/p/topics/b", "4").expect(200)["tenant_id"], "best");
    let both = send(&server, &body("5")).expect(200);
    assert_eq!((&both["tenants"], &both["count"]), (&json!(["acme", "best"]), &json!(2)));

    // The subscription's name leads to a tenant whose connector is about another bucket.
    register(&server, "gcs", "harbor", &json!({ "bucket": "others" }));
    let foreign = event(Some("6"), "OBJECT_FINALIZE", "foreign", "x.pdf");
    let ignored = json!({ "status": "ignored", "reason": "bucket" });
    assert_eq!(send(&server, &foreign).expect(200), ignored);
    assert_eq!(queued(&server, "gcs", "harbor"), []);
}

#[test]
fn strict_servers_want_to_know_the_topic() {
    let server = options().set("WEBHOOK_TOPIC_STRICT", "true").start();
    let subscription = "projects/p/subscriptions/push-activekg-gcs-harbor";
    let config = |topic: &str| json!({ "bucket": "docs", "topic_allowlist": [topic] });
    let body = event(Some("1"), "OBJECT_FINALIZE", "docs", "x.pdf");
    register(&server, "gcs", "acme", &config("projects/p/topics/a"));
    assert_eq!(send(&server, &body).expect_detail(403), "Topic not allowed for tenant");
    register(&server, "gcs", "acme", &config(subscription));
    assert_eq!(send(&server, &body).expect(200)["tenant_id"], "acme");
}

#[test]
fn nothing_is_taken_unverified_where_tokens_are_needed() {
    let body = event(Some("1"), "OBJECT_FINALIZE", "b", "o");
    let server = Server::start(&[]);
    assert_eq!(server.send(&push(&body)).expect(200)["status"], "queued");
    assert_eq!(verified(&server, "skipped"), 1.0);
    let mut server = Options::new(&JWT_ENV).start();
    assert_eq!(server.send(&push(&body)).expect_detail(403), "Invalid Pub/Sub token");
    server.terminate();
    server.start_again(&[("PUBSUB_ALLOW_UNVERIFIED", "true")]);
    assert_eq!(server.send(&push(&body)).expect(200)["status"], "queued");
}

fn identity(change: &Value) -> String {
    let key = EncodingKey::from_rsa_pem(RSA.as_bytes()).expect("a key");
    let mut claims = json!({ "iss": "https://accounts.google.com", "aud": AUDIENCE, "sub": "1",
        "email": ACCOUNT, "email_verified": true, "iat": unix_now(), "exp": unix_now() + 3600 });
    for (name, value) in change.as_object().expect("claims") {
        claims[name] = value.clone();
    }
    let mut header = Header::new(Algorithm::RS256);
    header.kid = Some("g".to_owned());
    jsonwebtoken::encode(&header, &claims, &key).expect("signed")
}

#[test]
fn identity_tokens_of_google_count_for_their_audience_and_account() {
    let key = EncodingKey::from_rsa_pem(RSA.as_bytes()).expect("a key");
    let jwk = Jwk::from_encoding_key(&key, Algorithm::RS256).expect("a public part");
    let mut jwk = serde_json::to_value(jwk).expect("JSON");
    jwk["kid"] = "g".into();
    let page = Page::new(&json!({ "keys": [jwk] }).to_string());
    let server = Options::new(&JWT_ENV)
        .set("PUBSUB_OIDC_AUDIENCE", AUDIENCE)
        .set("PUBSUB_OIDC_SERVICE_ACCOUNTS", ACCOUNT)
        .set("PUBSUB_OIDC_JWKS", &page.url())
        .set("PUBSUB_VERIFY_SECRET", SECRET)
        .start();
    let body = event(Some("1"), "OBJECT_FINALIZE", "b", "o");
    let with = |change: Value| server.send(&push(&body).bearer(&identity(&change)));
    assert_eq!(with(json!({})).expect(200)["status"], "queued");
    assert_eq!(verified(&server, "oidc_ok"), 1.0);
    for (change, result) in [
        (json!({ "aud": "https://other" }), "audience_mismatch"),
        (json!({ "iss": "https://other" }), "signature_invalid"),
        (json!({ "email": "other@p.iam.gserviceaccount.com" }), "signature_invalid"),
        (json!({ "email_verified": false }), "signature_invalid"),
        (json!({ "exp": unix_now() - 3600 }), "signature_invalid"),
    ] {
        let before = verified(&server, result);
        assert_eq!(with(change.clone()).expect_detail(403), "Invalid Pub/Sub token", "{change}");
        assert_eq!(verified(&server, result), before + 1.0, "{change}");
    }
    // One of the two is enough.
    let wrong = identity(&json!({ "aud": "https://other" }));
    let request = push(&body).bearer(&wrong).header("x-pubsub-token", SECRET);
    assert_eq!(server.send(&request).expect(200)["status"], "duplicate");
}

#[test]
fn tokens_that_cannot_be_checked_now_may_come_again() {
    let server = Options::new(&[("PUBSUB_OIDC_AUDIENCE", AUDIENCE)])
        .set("PUBSUB_OIDC_JWKS", "/nowhere/keys.json")
        .start();
    let body = event(Some("1"), "OBJECT_FINALIZE", "b", "o");
    let answer = server.send(&push(&body).bearer(&identity(&json!({}))));
    assert_eq!(answer.expect_detail(503), "Signature verification unavailable");
    assert_eq!(verified(&server, "jwks_unavailable"), 1.0);
}
