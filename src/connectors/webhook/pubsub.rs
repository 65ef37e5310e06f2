//! Messages that Google Cloud Pub/Sub pushes: what they say happened to which object.

use activekg_storage::time::UnixMicros;
use base64::Engine as _;
use base64::alphabet;
use base64::engine::{DecodePaddingMode, GeneralPurpose, GeneralPurposeConfig};
use serde_json::{Map, Value};
use time::OffsetDateTime;
use time::format_description::well_known::Rfc3339;

use super::Refused;
use super::sns::ID_MAX;
use crate::connectors::change::{Action, Change, Origin, URI_MAX};

/// Base64 with or without the signs at its end.
const LENIENT: GeneralPurpose = GeneralPurpose::new(
    &alphabet::STANDARD,
    GeneralPurposeConfig::new().with_decode_padding_mode(DecodePaddingMode::Indifferent),
);

/// A message.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Push {
    /// Its id. Messages made by hand may have none.
    pub(super) id: Option<String>,
    /// The subscription it came by.
    pub(super) subscription: String,
    /// The bucket and the name of the object.
    pub(super) bucket: String,
    pub(super) object: String,
    /// What happened to it, if that is of interest; what it is about otherwise.
    pub(super) change: Result<Change, &'static str>,
}

impl Push {
    /// Reads a body.
    pub(super) fn parse(body: &[u8], now: UnixMicros) -> Result<Self, Refused> {
        let body: Value = serde_json::from_slice(body).map_err(|_| Refused::NotAPush)?;
        let message = body.get("message").and_then(Value::as_object).ok_or(Refused::NotAPush)?;
        let nothing = Map::new();
        let attributes = match message.get("attributes") {
            None | Some(Value::Null) => &nothing,
            Some(attributes) => attributes.as_object().ok_or(Refused::NotAPush)?,
        };
        let data = match message.get("data") {
            None | Some(Value::Null) => Value::Null,
            Some(Value::String(text)) if text.is_empty() => Value::Null,
            Some(Value::String(text)) => decoded(text)?,
            Some(_) => return Err(Refused::NotAPush),
        };
        let known = |attribute: &str, member: &str| {
            text(attributes.get(attribute)).or_else(|| text(data.get(member)))
        };
        let bucket = known("bucketId", "bucket").ok_or(Refused::NotAPush)?;
        let object = known("objectId", "name").ok_or(Refused::NotAPush)?;
        let uri = format!("gs://{bucket}/{object}");
        if uri.len() > URI_MAX || uri.contains('\0') {
            return Err(Refused::NotAPush);
        }
        let id = text(message.get("messageId")).or_else(|| text(message.get("message_id")));
        if id.as_ref().is_some_and(|id| id.len() > ID_MAX) {
            return Err(Refused::NotAPush);
        }
        let at = text(data.get("updated")).or_else(|| text(attributes.get("eventTime")));
        let change = action(attributes).map(|action| Change {
            etag: text(data.get("etag")),
            generation: known("objectGeneration", "generation"),
            modified_at: Some(at.as_deref().and_then(instant).unwrap_or(now)),
            ..Change::new(uri, action, Origin::Webhook)
        });
        let subscription = text(body.get("subscription")).unwrap_or_default();
        Ok(Self { id, subscription, bucket, object, change })
    }
}

/// What an event means for documents, or why it means nothing. An object that is replaced is also
/// said to be deleted: the old generation of it is.
fn action(attributes: &Map<String, Value>) -> Result<Action, &'static str> {
    let overwritten = attributes.contains_key("overwrittenByGeneration");
    match attributes.get("eventType").and_then(Value::as_str).unwrap_or_default() {
        "OBJECT_FINALIZE" | "OBJECT_METADATA_UPDATE" => Ok(Action::Upsert),
        "OBJECT_DELETE" | "OBJECT_ARCHIVE" if overwritten => Err("overwritten"),
        "OBJECT_DELETE" | "OBJECT_ARCHIVE" => Ok(Action::Deleted),
        _ => Err("event_type"),
    }
}

fn decoded(text: &str) -> Result<Value, Refused> {
    let bytes = LENIENT.decode(text.trim()).map_err(|_| Refused::NotAPush)?;
    serde_json::from_slice(&bytes).map_err(|_| Refused::NotAPush)
}

/// A value that is text, or a number as text; generations come as both.
fn text(value: Option<&Value>) -> Option<String> {
    match value? {
        Value::String(text) if !text.is_empty() => Some(text.clone()),
        Value::Number(number) => Some(number.to_string()),
        _ => None,
    }
}

fn instant(text: &str) -> Option<UnixMicros> {
    let at = OffsetDateTime::parse(text, &Rfc3339).ok()?;
    i64::try_from(at.unix_timestamp_nanos() / 1000).ok().map(UnixMicros)
}

#[cfg(test)]
mod tests {
    use base64::engine::general_purpose::STANDARD;
    use serde_json::json;

    use super::*;

    const NOW: UnixMicros = UnixMicros(5);

    fn parse(message: Value) -> Result<Push, Refused> {
        let body = json!({ "message": message, "subscription": "projects/p/subscriptions/s" });
        Push::parse(body.to_string().as_bytes(), NOW)
    }

    fn event(kind: &str, more: Value) -> Value {
        let mut attributes =
            json!({ "bucketId": "docs", "objectId": "a/b.pdf", "eventType": kind });
        for (name, value) in more.as_object().expect("an object") {
            attributes[name] = value.clone();
        }
        json!({ "messageId": "1", "attributes": attributes })
    }

    #[test]
    fn attributes_go_before_the_resource_which_knows_the_rest() {
        let resource = json!({ "name": "other", "bucket": "other", "generation": 17, "etag": "CJ",
            "updated": "2026-01-02T03:04:05.678Z" });
        let mut message = event("OBJECT_FINALIZE", json!({}));
        message["data"] = STANDARD.encode(resource.to_string()).into();
        let push = parse(message).expect("a push");
        let change = push.change.expect("a change");
        assert_eq!((push.bucket.as_str(), push.object.as_str()), ("docs", "a/b.pdf"));
        assert_eq!(change.uri, "gs://docs/a/b.pdf");
        assert_eq!(
            (change.etag.as_deref(), change.generation.as_deref()),
            (Some("CJ"), Some("17"))
        );
        assert_eq!(change.modified_at, Some(UnixMicros(1_767_323_045_678_000)));
        assert_eq!(push.subscription, "projects/p/subscriptions/s");

        let bare =
            json!({ "message_id": 7, "data": STANDARD.encode(r#"{"name":"n","bucket":"b"}"#) });
        let push = parse(bare).expect("a push");
        assert_eq!((push.id.as_deref(), push.bucket.as_str()), (Some("7"), "b"));
        assert_eq!(push.change, Err("event_type"));
    }

    #[test]
    fn types_of_events_mean_what_happened_to_a_document() {
        let action = |kind: &str, more: Value| {
            parse(event(kind, more)).expect("a push").change.map(|change| change.action)
        };
        assert_eq!(action("OBJECT_FINALIZE", json!({})), Ok(Action::Upsert));
        assert_eq!(action("OBJECT_METADATA_UPDATE", json!({})), Ok(Action::Upsert));
        for kind in ["OBJECT_DELETE", "OBJECT_ARCHIVE"] {
            assert_eq!(action(kind, json!({})), Ok(Action::Deleted));
            let replaced = json!({ "overwrittenByGeneration": "18" });
            assert_eq!(action(kind, replaced), Err("overwritten"));
        }
        assert_eq!(action("OBJECT_OTHER", json!({})), Err("event_type"));
    }

    #[test]
    fn what_names_no_object_is_no_push() {
        for bad in [
            json!(null),
            json!({}),
            json!({ "attributes": 5 }),
            json!({ "attributes": { "bucketId": "b" } }),
            json!({ "data": "...", "attributes": { "bucketId": "b", "objectId": "o" } }),
            json!({ "data": STANDARD.encode("x"), "attributes": { "bucketId": "b", "objectId": "o" } }),
            json!({ "data": 5, "attributes": { "bucketId": "b", "objectId": "o" } }),
            json!({ "attributes": { "bucketId": "b", "objectId": "o\u{0}" } }),
            json!({ "messageId": "x".repeat(300), "attributes": { "bucketId": "b", "objectId": "o" } }),
        ] {
            assert!(matches!(parse(bad.clone()), Err(Refused::NotAPush)), "{bad}");
        }
        assert!(matches!(Push::parse(b"{", NOW), Err(Refused::NotAPush)));
    }
}
