//! Events of S3: what they say happened to which object.

use serde_json::Value;

use crate::connectors::change::{Action, Change, Origin, URI_MAX};
use activekg_storage::time::UnixMicros;

/// Most records of one message; SNS carries 256 KiB, in which far fewer fit.
const RECORDS_MAX: usize = 10_000;

/// An object that something happened to.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Event {
    pub(super) bucket: String,
    pub(super) key: String,
    pub(super) change: Change,
}

/// The records of a message, as far as they tell of documents.
pub(super) fn events(message: &Value, now: UnixMicros) -> Vec<Event> {
    let records = message.get("Records").and_then(Value::as_array);
    let records = records.map(Vec::as_slice).unwrap_or_default();
    records.iter().take(RECORDS_MAX).filter_map(|record| event(record, now)).collect()
}

fn event(record: &Value, now: UnixMicros) -> Option<Event> {
    let action = action(record.get("eventName")?.as_str()?)?;
    let s3 = record.get("s3")?;
    let bucket = s3.get("bucket")?.get("name")?.as_str().filter(|name| !name.is_empty())?;
    let object = s3.get("object")?;
    let key = form_decoded(object.get("key")?.as_str()?)?;
    if key.is_empty() || key.contains('\0') {
        return None;
    }
    let uri = format!("s3://{bucket}/{key}");
    if uri.len() > URI_MAX {
        return None;
    }
    let text = |name: &str| object.get(name).and_then(Value::as_str).map(str::to_owned);
    let change = Change {
        etag: text("eTag").filter(|etag| !etag.is_empty()),
        sequencer: text("sequencer"),
        modified_at: Some(now),
        ..Change::new(uri, action, Origin::Webhook)
    };
    Some(Event { bucket: bucket.to_owned(), key, change })
}

/// What an event means for documents; `None` if nothing.
fn action(name: &str) -> Option<Action> {
    let name = name.strip_prefix("s3:").unwrap_or(name);
    match name.split(':').next().unwrap_or_default() {
        "ObjectCreated" => Some(Action::Upsert),
        "ObjectRemoved" | "LifecycleExpiration" => Some(Action::Deleted),
        "ObjectRestore" if name == "ObjectRestore:Completed" => Some(Action::Upsert),
        _ => None,
    }
}

/// A key as it was before it was written like the field of a form; `None` if that is not UTF-8.
fn form_decoded(text: &str) -> Option<String> {
    let mut decoded = Vec::with_capacity(text.len());
    let mut rest = text.as_bytes();
    while let [first, tail @ ..] = rest {
        let (byte, tail) = match (first, tail) {
            (b'+', _) => (b' ', tail),
            (b'%', [high, low, after @ ..]) => match (digit(*high), digit(*low)) {
                (Some(high), Some(low)) => (high << 4 | low, after),
                _ => (b'%', tail),
            },
            (byte, _) => (*byte, tail),
        };
        decoded.push(byte);
        rest = tail;
    }
    String::from_utf8(decoded).ok()
}

fn digit(byte: u8) -> Option<u8> {
    char::from(byte).to_digit(16).and_then(|digit| u8::try_from(digit).ok())
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use serde_json::json;

    use super::*;

    fn one(name: &str, key: &str) -> Option<Event> {
        let record = json!({ "eventName": name, "s3": { "bucket": { "name": "docs" },
            "object": { "key": key, "eTag": "e1", "sequencer": "0055AED6DCD90281E5" } } });
        event(&record, UnixMicros(7))
    }

    #[test]
    fn names_of_events_mean_what_happened_to_a_document() {
        for (name, expected) in [
            ("ObjectCreated:Put", Some(Action::Upsert)),
            ("s3:ObjectCreated:CompleteMultipartUpload", Some(Action::Upsert)),
            ("ObjectRemoved:DeleteMarkerCreated", Some(Action::Deleted)),
            ("LifecycleExpiration:Delete", Some(Action::Deleted)),
            ("ObjectRestore:Completed", Some(Action::Upsert)),
            ("ObjectRestore:Post", None),
            ("ObjectTagging:Put", None),
            ("ObjectAcl:Put", None),
            ("Replication:OperationFailedReplication", None),
            ("ObjectCreatedX:Put", None),
            ("", None),
        ] {
            assert_eq!(one(name, "k").map(|event| event.change.action), expected, "{name}");
        }
    }

    #[test]
    fn keys_come_as_fields_of_forms() {
        let event = one("ObjectCreated:Put", "docs/a+b%20c%2B.txt").expect("an event");
        assert_eq!(event.key, "docs/a b c+.txt");
        assert_eq!(event.change.uri, "s3://docs/docs/a b c+.txt");
        assert_eq!(event.change.etag.as_deref(), Some("e1"));
        for bad in ["", "a%00b", "%FF"] {
            assert_eq!(one("ObjectCreated:Put", bad), None, "{bad}");
        }
        assert_eq!(one("ObjectCreated:Put", "100%+%zz").expect("an event").key, "100% %zz");
        assert_eq!(one("ObjectCreated:Put", &"k".repeat(URI_MAX)), None);
    }

    #[test]
    fn what_cannot_be_understood_is_passed_over() {
        let message = json!({ "Records": [5, {}, { "eventName": "ObjectCreated:Put", "s3": {} }] });
        assert_eq!(events(&message, UnixMicros(0)), []);
        for none in [json!({}), json!({ "Event": "s3:TestEvent" }), json!([]), json!(null)] {
            assert_eq!(events(&none, UnixMicros(0)), []);
        }
    }

    proptest! {
        #[test]
        fn an_encoded_key_comes_back(key in any::<String>()) {
            let encoded: String = key.bytes().map(|byte| format!("%{byte:02X}")).collect();
            prop_assert_eq!(form_decoded(&encoded), Some(key));
        }

        #[test]
        fn decoding_never_panics(text in any::<String>()) {
            let _ = form_decoded(&text);
        }
    }
}
