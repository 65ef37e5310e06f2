//! What is taken, and what is never repeated.

use serde_json::json;

use super::*;
use crate::connectors::REDACTED;

fn parsed(provider: Provider, body: Value) -> Result<Value, Value> {
    let document = Document { value: body, nuls: Vec::new() };
    let parsed = Registration::parse(provider, &document);
    let parsed = parsed.map(|registration| registration.settings.into());
    parsed.map_err(|items| items.iter().map(Item::to_value).collect())
}

fn settings(provider: Provider, config: Value) -> Result<Value, Value> {
    parsed(provider, json!({ "config": config }))
}

/// The last step of the place of each fault, with its type.
fn faults(provider: Provider, config: Value) -> Vec<(String, String)> {
    let faults = settings(provider, config).expect_err("it is wrong");
    let text = |value: &Value| value.as_str().unwrap_or_default().to_owned();
    let place = |item: &Value| {
        text(item["loc"].as_array().and_then(|loc| loc.get(2)).unwrap_or(&item["loc"]))
    };
    faults.as_array().unwrap().iter().map(|item| (place(item), text(&item["type"]))).collect()
}

const SECRET: &str = "canary/canary/canary/canary/canary/";

#[test]
fn what_is_left_out_has_its_default_and_what_is_unknown_is_left_out() {
    let s3 = json!({ "bucket": "b", "access_key_id": "AKIAVECTOREXAMPLE1", "secret_access_key": SECRET, "colour": "blue" });
    assert_eq!(
        settings(Provider::S3, s3),
        Ok(json!({
            "bucket": "b", "prefix": "", "region": "us-east-1", "access_key_id": "AKIAVECTOREXAMPLE1",
            "secret_access_key": SECRET, "enabled": true, "poll_interval_seconds": 900,
        }))
    );
    let gcs = settings(Provider::Gcs, json!({ "bucket": "b", "service_account_json_path": "/a" }));
    assert_eq!(
        gcs,
        Ok(json!({
            "bucket": "b", "prefix": "", "project": null, "credentials_path": "/a",
            "credentials_json": null, "enabled": true, "poll_interval_seconds": 900,
        }))
    );
    for (provider, least) in [
        (Provider::Azure, json!({ "container": "c", "connection_string": SECRET })),
        (Provider::Local, json!({ "path": "/srv" })),
        (Provider::Http, json!({ "urls": ["https://example.org/feed"] })),
        (Provider::Drive, json!({ "credentials": { "type": "service_account" } })),
        (Provider::Drive, json!({ "credentials_path": "/secrets/a.json" })),
    ] {
        assert!(settings(provider, least.clone()).is_ok(), "{least}");
    }
}

#[test]
fn settings_of_drive_may_stand_at_the_top() {
    let body =
        json!({ "tenant_id": "acme", "credentials_path": "/secrets/a.json", "page_size": 7 });
    let found = parsed(Provider::Drive, body.clone()).expect("accepted");
    assert_eq!((&found["page_size"], found.get("tenant_id")), (&json!(7), None));
    assert!(parsed(Provider::Gcs, body).is_err());
}

#[test]
fn every_fault_has_its_place() {
    let fault = |place: &str, kind: &str| (place.to_owned(), kind.to_owned());
    let s3 = json!({ "bucket": "", "access_key_id": "short", "poll_interval_seconds": 59, "endpoint": "ftp://x" });
    assert_eq!(
        faults(Provider::S3, s3),
        [
            fault("bucket", "string_too_short"),
            fault("access_key_id", "string_too_short"),
            fault("secret_access_key", "missing"),
            fault("endpoint", "value_error"),
            fault("poll_interval_seconds", "greater_than_equal"),
        ]
    );
    assert_eq!(faults(Provider::Drive, json!({})), [fault("credentials", "missing")]);
    assert_eq!(faults(Provider::Local, json!({ "path": "srv" })), [fault("path", "value_error")]);
    assert_eq!(faults(Provider::Http, json!({ "urls": [] })), [fault("urls", "too_short")]);
    assert_eq!(
        faults(Provider::Http, json!({ "urls": ["https://a.example", "https://u:p@b.example"] })),
        [fault("urls", "value_error")]
    );
    let placeholder = json!({ "bucket": "b", "credentials_json": REDACTED });
    assert_eq!(faults(Provider::Gcs, placeholder), [fault("credentials_json", "value_error")]);
    assert!(settings(Provider::S3, json!("text")).is_err());
    assert!(parsed(Provider::S3, json!([])).is_err());
}

#[test]
fn topics_are_of_pubsub_or_sns() {
    let with = |topic: &str| {
        settings(Provider::Gcs, json!({ "bucket": "b", "topic_allowlist": [topic] })).is_ok()
    };
    for good in [
        "projects/p-1/topics/t",
        "projects/p-1/subscriptions/s",
        "arn:aws:sns:eu-west-1:000000000000:t",
        "arn:aws-cn:sns:cn-north-1:1:t",
    ] {
        assert!(with(good), "{good}");
    }
    for bad in [
        "",
        "t",
        "projects//topics/t",
        "projects/p/topics/",
        "projects/p/topics/a/b",
        "arn:aws:sqs:e:1:t",
        "arn:aws:sns:e:1:",
    ] {
        assert!(!with(bad), "{bad}");
    }
}

#[test]
fn no_fault_repeats_a_secret() {
    let bodies = [
        json!({ "config": { "prefix": "p/", "access_key_id": SECRET, "secret_access_key": SECRET } }),
        json!({ "config": { "bucket": "b", "secret_access_key": [SECRET] } }),
        json!({ "config": { "bucket": 1, "secretAccessKey": SECRET, "nested": { "password": SECRET } } }),
        json!({ "config": { "bucket": "b", "endpoint": format!("https://user:{SECRET}@host") } }),
        json!({ "config": SECRET }),
        json!({ "config": [SECRET] }),
        json!({ "secret_access_key": SECRET }),
        json!({ "connection_string": SECRET, "credentials": [SECRET], "urls": [format!("x{SECRET}")] }),
        json!(SECRET),
        json!([SECRET]),
    ];
    for body in bodies {
        for provider in Provider::ALL {
            let Err(faults) = parsed(provider, body.clone()) else { continue };
            assert!(!faults.to_string().contains("canary"), "{faults}");
        }
        if let Err(items) = ConfigChange::parse(&body).map(|_| ()) {
            let faults: Value = items.iter().map(Item::to_value).collect();
            assert!(!faults.to_string().contains("canary"), "{faults}");
        }
    }
    let plain = settings(Provider::S3, json!({ "prefix": "p/", "password": SECRET }));
    let faults = plain.expect_err("no bucket");
    assert_eq!(faults[0]["input"], json!({ "prefix": "p/", "password": REDACTED }));
}

#[test]
fn a_selection_that_names_nobody_is_refused_and_not_widened() {
    let parse = |body: Value| RotateRequest::parse(&body);
    let all = parse(json!({})).expect("accepted");
    assert_eq!(
        (all.tenants.len(), all.providers.len(), all.batch_size, all.dry_run),
        (0, 0, 100, false)
    );
    let none = json!({ "providers": null, "tenants": null, "tenant_id": null });
    assert_eq!(parse(none), Ok(all));
    let both = parse(json!({ "tenants": ["a"], "tenant_id": "b" })).expect("accepted");
    assert_eq!(both.tenants.iter().map(TenantId::as_str).collect::<Vec<_>>(), ["a", "b"]);
    for bad in [
        json!({ "tenant_id": "" }),
        json!({ "tenant_id": 7 }),
        json!({ "tenants": [" "] }),
        json!({ "tenants": ["x".repeat(101)] }),
        json!({ "tenants": "a" }),
        json!({ "batch_size": 0 }),
        json!({ "batch_size": 10_001 }),
        json!({ "dry_run": "perhaps" }),
        Value::Null,
        json!([]),
    ] {
        assert!(parse(bad.clone()).is_err(), "{bad}");
    }
}
