//! Events of S3: signed by SNS, or sent by a server that speaks its protocol.

use serde_json::{Value, json};

use super::{metric, queued, register};
use crate::common::sns::{folder, notification, record, signed, topic};
use crate::common::sns_host::SnsHost;
use crate::common::token::JWT_ENV;
use crate::common::{Answer, Options, Request, Server};

const CREATED: &str = "ObjectCreated:Put";
const REMOVED: &str = "ObjectRemoved:Delete";

/// A server that takes signatures of the tests' own SNS.
fn options() -> Options {
    Options::new(&[("RUN_CONNECTOR_WORKER", "false")]).set("WEBHOOK_SNS_CERT_DIR", &folder())
}

fn send(server: &Server, message: &Value) -> Answer {
    // As SNS does it.
    let request = Request::new("POST", "/_webhooks/s3");
    server.send(&request.header("content-type", "text/plain; charset=UTF-8").json(message))
}

fn created(id: &str, key: &str) -> Value {
    notification(id, &topic("harbor"), &[record(CREATED, "docs", key, "0055AED6DCD90281E5")])
}

fn s3(bucket: &str, prefix: &str) -> Value {
    json!({ "bucket": bucket, "prefix": prefix })
}

fn verified(server: &Server, result: &str) -> f64 {
    metric(server, &format!("webhook_sns_verify_total{{result=\"{result}\"}}"))
}

#[test]
fn both_versions_of_signatures_are_taken_once() {
    let server = options().start();
    for version in ["1", "2"] {
        let message =
            signed(&created(&format!("m-{version}"), &format!("k{version}+x")), version, "valid");
        let answer = send(&server, &message).expect(200);
        assert_eq!(answer, json!({ "status": "queued", "count": 1, "tenant_id": "harbor" }));
        assert_eq!(send(&server, &message).expect(200), json!({ "status": "duplicate" }));
    }
    let upsert = |uri: &str| (uri.to_owned(), "upsert".to_owned());
    assert_eq!(
        queued(&server, "s3", "harbor"),
        [upsert("s3://docs/k1 x"), upsert("s3://docs/k2 x")]
    );
    assert_eq!((verified(&server, "success"), verified(&server, "failed")), (4.0, 0.0));
    assert_eq!(metric(&server, "webhook_replay_total "), 2.0);
}

#[test]
fn what_sns_did_not_sign_is_refused() {
    let server = options().start();
    let good = signed(&created("m", "k"), "2", "valid");
    let with = |name: &str, value: &str| {
        let mut message = good.clone();
        message[name] = value.into();
        message
    };
    let mut unsigned = good.clone();
    unsigned.as_object_mut().unwrap().remove("Signature");
    let refused = [
        with("Message", r#"{"Records":[]}"#),
        with("TopicArn", &topic("default")),
        with("MessageId", "other"),
        with("Subject", "other"),
        with("SignatureVersion", "1"),
        with("Signature", "AAAA"),
        with("Signature", "?"),
        with("SigningCertURL", "https://evil.s3.amazonaws.com/SimpleNotificationService-valid.pem"),
        with(
            "SigningCertURL",
            "http://sns.eu-west-1.amazonaws.com/SimpleNotificationService-valid.pem",
        ),
        signed(&created("m", "k"), "2", "other"),
        signed(&created("m", "k"), "2", "expired"),
        unsigned,
    ];
    for message in &refused {
        assert_eq!(send(&server, message).expect_detail(403), "Invalid signature", "{message}");
    }
    assert_eq!(verified(&server, "failed"), refused.len() as f64);
    server.logged("webhook verification failed");

    // Not now is not never: SNS sends such a message again.
    let elsewhere = signed(&created("m", "k"), "2", "notthere");
    let detail = send(&server, &elsewhere).expect_detail(503);
    assert_eq!(detail, "Signature verification unavailable");
    assert_eq!(verified(&server, "timeout"), 1.0);
    let version = send(&server, &with("SignatureVersion", "7")).expect_detail(400);
    assert_eq!(version, "Unsupported signature version: 7");
    assert_eq!(metric(&server, r#"webhook_sig_version_invalid_total{version="7"}"#), 1.0);
    for (body, detail) in [
        ("not json", "Invalid JSON"),
        ("[]", "Invalid JSON"),
        (r#"{"Type":"SubscriptionConfirmation"}"#, "Missing SubscribeURL"),
        ("{}", "Unknown message type"),
    ] {
        let answer = server.send(&Request::new("POST", "/_webhooks/s3").raw(body));
        assert_eq!(answer.expect_detail(400), detail);
    }
    assert_eq!(queued(&server, "s3", "harbor"), []);
    // None of the refused messages has used up the id of the real one.
    assert_eq!(send(&server, &good).expect(200)["status"], "queued");
}

#[test]
fn a_signature_may_be_in_headers() {
    let server = options().start();
    let message = signed(&created("m", "k"), "2", "valid");
    let mut bare = message.clone();
    let mut request = Request::new("POST", "/_webhooks/s3");
    for (name, header) in [
        ("Signature", "x-amz-sns-message-signature"),
        ("SigningCertURL", "x-amz-sns-signing-cert-url"),
        ("SignatureVersion", "x-amz-sns-message-signature-version"),
    ] {
        bare.as_object_mut().unwrap().remove(name);
        request = request.header(header, message[name].as_str().unwrap());
    }
    assert_eq!(server.send(&request.json(&bare)).expect(200)["count"], 1);
}

#[test]
fn a_topic_speaks_for_tenants_that_list_it() {
    let server = JWT_ENV.iter().fold(options(), |options, (name, value)| options.set(name, value));
    let server = server
        .set(
            "WEBHOOK_TOPIC_ALLOWLIST",
            r#"{"harbor": ["arn:aws:sns:eu-west-1:*:activekg-s3-harbor"]}"#,
        )
        .start();
    let event = |id: &str, topic: &str| {
        signed(&notification(id, topic, &[record(CREATED, "docs", "k", "01")]), "1", "valid")
    };
    assert_eq!(send(&server, &event("1", &topic("harbor"))).expect(200)["tenant_id"], "harbor");
    let foreign = "arn:aws:sns:us-east-1:666666666666:activekg-s3-harbor";
    // With tokens on, a tenant that lists nothing is spoken for by nobody.
    for topic in [foreign, &topic("other"), "arn:aws:sns:eu-west-1:000000000000:t"] {
        let detail = send(&server, &event("2", topic)).expect_detail(403);
        assert_eq!(detail, "TopicArn not allowed for tenant", "{topic}");
    }
    let series = r#"webhook_topic_rejected_total{provider="s3",tenant="harbor"}"#;
    assert_eq!(metric(&server, series), 1.0);
    server.logged("topic rejected: topic not in allowlist");
    // A message that was refused may come again by the right topic.
    assert_eq!(send(&server, &event("2", &topic("harbor"))).expect(200)["status"], "queued");
}

#[test]
fn the_list_of_a_connector_goes_before_the_one_that_is_set() {
    let server =
        options().set("WEBHOOK_TOPIC_ALLOWLIST", r#"{"default": ["*:*:*:*:*:*"]}"#).start();
    let own = json!({ "bucket": "docs", "topic_allowlist": ["arn:aws:sns:eu-west-1:1:other"] });
    register(&server, "s3", "harbor", &own);
    let series = r#"webhook_topic_rejected_total{provider="s3",tenant="harbor"}"#;
    assert!(server.get("/prometheus").text().contains(series), "there at zero from the start");
    let message = signed(&created("m", "k"), "2", "valid");
    assert_eq!(send(&server, &message).expect_detail(403), "TopicArn not allowed for tenant");
    assert_eq!(metric(&server, series), 1.0);
}

#[test]
fn events_are_bound_to_the_bucket_and_prefix_of_the_tenant() {
    let server = options().start();
    register(&server, "s3", "harbor", &s3("docs", "manuals/"));
    let records = [
        record(CREATED, "docs", "manuals/a%2Bb.txt", "01"),
        record("s3:LifecycleExpiration:Delete", "docs", "manuals/old.txt", "01"),
        record("ObjectTagging:Put", "docs", "manuals/tagged.txt", "01"),
        record(CREATED, "docs", "private/x.txt", "01"),
        record(CREATED, "other", "manuals/x.txt", "01"),
    ];
    let message = signed(&notification("m", &topic("harbor"), &records), "1", "valid");
    let answer = send(&server, &message).expect(200);
    let expected = json!({ "status": "queued", "count": 2, "tenant_id": "harbor", "ignored": 2 });
    assert_eq!(answer, expected);
    let item = |uri: &str, operation: &str| (uri.to_owned(), operation.to_owned());
    assert_eq!(
        queued(&server, "s3", "harbor"),
        [item("s3://docs/manuals/a+b.txt", "upsert"), item("s3://docs/manuals/old.txt", "deleted")]
    );
    let test = json!({ "Type": "Notification", "MessageId": "t", "TopicArn": topic("harbor"),
        "Timestamp": "2026-01-02T03:04:05.678Z", "Message": r#"{"Event":"s3:TestEvent"}"# });
    let answer = send(&server, &signed(&test, "2", "valid")).expect(200);
    assert_eq!(answer, json!({ "status": "queued", "count": 0, "tenant_id": "harbor" }));
    let mut other = test;
    other["Message"] = "not json".into();
    let detail = send(&server, &signed(&other, "2", "valid")).expect_detail(400);
    assert_eq!(detail, "Invalid S3 event format");
}

#[test]
fn an_older_event_of_an_object_is_no_news() {
    let server = options().start();
    let event = |id: &str, event: &str, sequencer: &str| {
        let records = [record(event, "docs", "k", sequencer)];
        send(&server, &signed(&notification(id, &topic("harbor"), &records), "2", "valid"))
            .expect(200)["count"]
            .clone()
    };
    assert_eq!(event("1", REMOVED, "0F"), 1);
    assert_eq!(event("2", CREATED, "E"), 0, "shorter is less");
    assert_eq!(event("3", CREATED, "10"), 1);
    assert_eq!(queued(&server, "s3", "harbor"), [("s3://docs/k".to_owned(), "upsert".to_owned())]);
}

#[test]
fn subscriptions_wait_for_an_operator() {
    let server = options().start();
    let url = format!(
        "https://sns.eu-west-1.amazonaws.com/?Action=ConfirmSubscription&TopicArn={}&Token=t",
        topic("harbor")
    );
    let message = json!({ "Type": "SubscriptionConfirmation", "MessageId": "s", "Token": "t",
        "TopicArn": topic("harbor"), "Message": "confirm", "SubscribeURL": url,
        "Timestamp": "2026-01-02T03:04:05.678Z" });
    let answer = send(&server, &signed(&message, "1", "valid")).expect(200);
    assert_eq!(answer, json!({ "status": "subscription_pending", "url": url }));
    server.logged(&url);
    assert_eq!(send(&server, &message).expect_detail(403), "Invalid signature");
    let mut end = message;
    end["Type"] = "UnsubscribeConfirmation".into();
    let answer = send(&server, &signed(&end, "2", "valid")).expect(200);
    assert_eq!(answer, json!({ "status": "unsubscribed" }));
}

#[test]
fn certificates_are_fetched_from_sns_once_and_subscriptions_confirmed_there() {
    let host = SnsHost::start();
    let server = host.known_to(Options::new(&[("RUN_CONNECTOR_WORKER", "false")]));
    let server = server.set("WEBHOOK_SNS_AUTO_CONFIRM", "true").start();
    for n in 0..3 {
        let message = signed(&created(&format!("m{n}"), &format!("k{n}")), "2", "valid");
        assert_eq!(send(&server, &message).expect(200)["count"], 1);
    }
    let certificate = "/SimpleNotificationService-valid.pem";
    assert_eq!(host.asked(), [certificate]);
    let missing = signed(&created("m", "k"), "2", "nowhere");
    for _ in 0..2 {
        let detail = send(&server, &missing).expect_detail(503);
        assert_eq!(detail, "Signature verification unavailable");
    }
    assert_eq!(host.asked().len(), 3, "what was not there is asked for again");

    let confirmation = |topic_arn: &str, host: &str| {
        let url =
            format!("https://{host}/?Action=ConfirmSubscription&TopicArn={topic_arn}&Token=t");
        let message = json!({ "Type": "SubscriptionConfirmation", "MessageId": "s", "Token": "t",
            "TopicArn": topic("harbor"), "Message": "confirm", "SubscribeURL": url,
            "Timestamp": "2026-01-02T03:04:05.678Z" });
        send(&server, &signed(&message, "1", "valid")).expect(200)["status"].clone()
    };
    let sns = "sns.eu-west-1.amazonaws.com";
    assert_eq!(confirmation(&topic("other"), sns), "subscription_pending");
    assert_eq!(confirmation(&topic("harbor"), "sns.example.com"), "subscription_pending");
    assert_eq!(host.asked().len(), 3, "neither is an address to be opened");
    assert_eq!(confirmation(&topic("harbor"), sns), "subscription_confirmed");
    assert!(server.log().contains("do not open it: https://sns.example.com/"));
    let asked = host.asked();
    assert!(asked[3].starts_with("/?Action=ConfirmSubscription&TopicArn=arn:aws:sns"), "{asked:?}");
}

#[test]
fn what_was_answered_outlasts_a_crash() {
    let dir = tempfile::tempdir().unwrap();
    let mut server = options().dir(dir.path()).start();
    for n in 0..5 {
        let message = signed(&created(&format!("m{n}"), &format!("k{n}")), "2", "valid");
        assert_eq!(send(&server, &message).expect(200)["count"], 1);
        server.kill();
        server.start_again(&[]);
        assert_eq!(send(&server, &message).expect(200), json!({ "status": "duplicate" }));
        let items = queued(&server, "s3", "harbor");
        assert_eq!(items.len(), n + 1);
        assert_eq!(items[n].0, format!("s3://docs/k{n}"));
    }
}

#[test]
fn servers_of_the_same_protocol_show_a_token() {
    let server = options().set("WEBHOOK_S3_TOKEN", "a-token-of-the-tests").start();
    register(&server, "s3", "acme", &s3("docs", ""));
    register(&server, "s3", "harbor", &s3("docs", "manuals/"));
    let body = json!({ "EventName": "s3:ObjectCreated:Put", "Key": "docs/manuals/a.txt",
        "Records": [record("s3:ObjectCreated:Put", "docs", "manuals/a.txt", "01")] });
    let request = Request::post("/_webhooks/s3", &body);
    assert_eq!(server.send(&request).expect_detail(403), "Invalid webhook token");
    let wrong = request.clone().bearer("another-token");
    assert_eq!(server.send(&wrong).expect_detail(403), "Invalid webhook token");
    let answer = server.send(&request.clone().bearer("a-token-of-the-tests")).expect(200);
    let expected = json!({ "status": "queued", "count": 2, "tenant_id": "acme",
        "tenants": ["acme", "harbor"] });
    assert_eq!(answer, expected);
    for tenant in ["acme", "harbor"] {
        assert_eq!(queued(&server, "s3", tenant).len(), 1, "{tenant}");
    }
    let nobodys = json!({ "Records": [record(CREATED, "unknown", "a.txt", "01")] });
    let request = Request::post("/_webhooks/s3", &nobodys).bearer("a-token-of-the-tests");
    assert_eq!(server.send(&request).expect(200)["tenant_id"], "default");
    assert!(!server.log().contains("a-token-of-the-tests"));
}

#[test]
fn without_a_token_set_nobody_speaks_for_such_a_server() {
    let server = options().start();
    let body = json!({ "Records": [record(CREATED, "docs", "a.txt", "01")] });
    for request in [
        Request::post("/_webhooks/s3", &body),
        Request::post("/_webhooks/s3", &body).bearer(""),
        Request::post("/_webhooks/s3", &body).bearer("x"),
    ] {
        assert_eq!(server.send(&request).expect_detail(403), "Invalid webhook token");
    }
}
