//! Messages of SNS, really signed, and the folder with the certificate they are verified with.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use ring::digest::{SHA1_FOR_LEGACY_USE_ONLY, SHA256, digest};
use rsa::pkcs8::DecodePrivateKey as _;
use rsa::{Pkcs1v15Sign, RsaPrivateKey};
use serde_json::{Value, json};

use super::of_checkout;

/// The key that the certificates `valid` and `expired` are for.
pub(crate) const KEY: &str = include_str!("../../src/auth/tests/rsa_private.pem");

/// What names the digest before it is signed (RFC 8017, 9.2).
const SHA1_INFO: [u8; 15] = [0x30, 33, 0x30, 9, 6, 5, 0x2b, 0x0e, 3, 2, 0x1a, 5, 0, 4, 20];
const SHA256_INFO: [u8; 19] =
    [0x30, 49, 0x30, 13, 6, 9, 0x60, 0x86, 0x48, 1, 0x65, 3, 4, 2, 1, 5, 0, 4, 32];

/// The folder of certificates.
pub(crate) fn folder() -> String {
    of_checkout("tests/data/sns").display().to_string()
}

/// The topic of a tenant.
pub(crate) fn topic(tenant: &str) -> String {
    format!("arn:aws:sns:eu-west-1:000000000000:activekg-s3-{tenant}")
}

/// A record of an event about an object.
pub(crate) fn record(event: &str, bucket: &str, key: &str, sequencer: &str) -> Value {
    json!({ "eventVersion": "2.1", "eventSource": "aws:s3", "eventName": event,
        "s3": { "bucket": { "name": bucket },
            "object": { "key": key, "eTag": "e1", "sequencer": sequencer } } })
}

/// A notification of these records, not signed yet.
pub(crate) fn notification(id: &str, topic: &str, records: &[Value]) -> Value {
    json!({
        "Type": "Notification", "MessageId": id, "TopicArn": topic,
        "Subject": "Amazon S3 Notification",
        "Message": json!({ "Records": records }).to_string(),
        "Timestamp": "2026-01-02T03:04:05.678Z",
        "UnsubscribeURL": "https://sns.eu-west-1.amazonaws.com/?Action=Unsubscribe",
    })
}

/// The message with a signature of this version, by the key of the certificate of this name.
pub(crate) fn signed(message: &Value, version: &str, certificate: &str) -> Value {
    let order: &[&str] = match message["Type"].as_str() {
        Some("Notification") => {
            &["Message", "MessageId", "Subject", "Timestamp", "TopicArn", "Type"]
        }
        _ => &["Message", "MessageId", "SubscribeURL", "Timestamp", "Token", "TopicArn", "Type"],
    };
    let there = order.iter().filter_map(|name| Some((name, message[*name].as_str()?)));
    let text: String = there.map(|(name, value)| format!("{name}\n{value}\n")).collect();
    let (algorithm, info) = match version {
        "1" => (&SHA1_FOR_LEGACY_USE_ONLY, &SHA1_INFO[..]),
        _ => (&SHA256, &SHA256_INFO[..]),
    };
    let digest = digest(algorithm, text.as_bytes());
    let padding = Pkcs1v15Sign { hash_len: Some(digest.as_ref().len()), prefix: info.into() };
    let key = RsaPrivateKey::from_pkcs8_pem(KEY).expect("a key");
    let signature = key.sign(padding, digest.as_ref()).expect("signed");
    let mut message = message.clone();
    message["SignatureVersion"] = version.into();
    message["Signature"] = STANDARD.encode(signature).into();
    message["SigningCertURL"] =
        format!("https://sns.eu-west-1.amazonaws.com/SimpleNotificationService-{certificate}.pem")
            .into();
    message
}
