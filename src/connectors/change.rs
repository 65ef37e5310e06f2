//! What happened to an object of a source: an item of a connector's queue.
//!
//! An item is JSON, so that one written by another version, or handed in from outside, is read as
//! far as it is understood.

use activekg_storage::ids::TenantId;
use activekg_storage::queue::Rank;
use activekg_storage::time::UnixMicros;
use serde_json::{Map, Value, json};
use time::OffsetDateTime;
use time::format_description::well_known::Rfc3339;
use uuid::Uuid;

use super::Provider;
use crate::timestamp::{self, iso};

/// Longest URI, in bytes.
pub const URI_MAX: usize = 4096;

/// What happened to an object of a source.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Change {
    /// Which object: `s3://bucket/key`, `gs://bucket/object`, `file:///folder/file`, ...
    pub uri: String,
    /// What happened.
    pub action: Action,
    /// The object's tag afterwards, if whoever tells of the change knows it.
    pub etag: Option<String>,
    /// Its generation, a number in decimal, where the source counts them.
    pub generation: Option<String>,
    /// The change's place among those of the object, a number in hexadecimal, where the source says.
    pub sequencer: Option<String>,
    /// When it happened.
    pub modified_at: Option<UnixMicros>,
    /// Who tells of it.
    pub origin: Origin,
    /// The request that asked for it.
    pub job_id: Option<Uuid>,
}

/// What happens to objects.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Action {
    /// It is new, or not what it was.
    Upsert,
    /// It is gone.
    Deleted,
}

impl Action {
    /// The word in items.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Upsert => "upsert",
            Self::Deleted => "deleted",
        }
    }
}

/// Who tells of a change.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Origin {
    /// The source itself.
    Webhook,
    /// A listing of the source, made every so often.
    Poll,
    /// A request to take everything in.
    Ingest,
    /// A request to take in what is older than the connector.
    Backfill,
    /// Somebody by hand.
    Manual,
}

impl Origin {
    const ALL: [Self; 5] = [Self::Webhook, Self::Poll, Self::Ingest, Self::Backfill, Self::Manual];

    /// Whether somebody asks for the object, rather than that something was noticed about it.
    #[must_use]
    pub fn is_asked_for(self) -> bool {
        match self {
            Self::Webhook | Self::Poll => false,
            Self::Ingest | Self::Backfill | Self::Manual => true,
        }
    }

    /// The word in items.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Webhook => "webhook",
            Self::Poll => "poll",
            Self::Ingest => "ingest",
            Self::Backfill => "backfill",
            Self::Manual => "manual",
        }
    }
}

/// Why an item cannot be worked on, ever.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum NotAChange {
    /// It is not JSON.
    #[error("the item is not JSON")]
    Parse,
    /// A member is missing or has a value of another kind.
    #[error("the item's {0}")]
    Member(&'static str),
}

impl Change {
    /// The change `action` of the object at `uri`, of which nothing else is known.
    #[must_use]
    pub fn new(uri: String, action: Action, origin: Origin) -> Self {
        Self {
            uri,
            action,
            etag: None,
            generation: None,
            sequencer: None,
            modified_at: None,
            origin,
            job_id: None,
        }
    }

    /// The item, enqueued for `tenant` at `now`. Members that are not known are left out.
    #[must_use]
    pub fn item(&self, tenant: &TenantId, now: UnixMicros) -> Value {
        let Self { uri, action, etag, generation, sequencer, modified_at, origin, job_id } = self;
        let mut item = Map::new();
        item.insert("uri".to_owned(), uri.as_str().into());
        item.insert("operation".to_owned(), action.as_str().into());
        let known = [
            ("etag", etag.clone()),
            ("generation", generation.clone()),
            ("sequencer", sequencer.clone()),
            ("modified_at", modified_at.map(|at| iso(at.get()))),
            ("job_id", job_id.map(|id| id.to_string())),
        ];
        for (name, value) in known {
            if let Some(value) = value {
                item.insert(name.to_owned(), value.into());
            }
        }
        item.insert("tenant_id".to_owned(), tenant.as_str().into());
        item.insert("source".to_owned(), origin.as_str().into());
        item.insert("enqueued_at".to_owned(), iso(now.get()).into());
        Value::Object(item)
    }

    /// Reads an item. Members that are not known are passed over, an operation other than
    /// `deleted` means that the object may have changed.
    ///
    /// # Errors
    ///
    /// [`NotAChange`] if it is not JSON, has no URI, or a member of the wrong kind.
    pub fn parse(item: &[u8]) -> Result<Self, NotAChange> {
        let item: Value = serde_json::from_slice(item).map_err(|_| NotAChange::Parse)?;
        let Value::Object(item) = item else {
            return Err(NotAChange::Member("JSON is not an object"));
        };
        let uri = text(&item, "uri", "uri is not text")?
            .filter(|uri| !uri.is_empty() && uri.len() <= URI_MAX)
            .ok_or(NotAChange::Member("uri is missing, empty or too long"))?;
        let operation = text(&item, "operation", "operation is not text")?;
        let action = match operation.as_deref() {
            Some("deleted") => Action::Deleted,
            _ => Action::Upsert,
        };
        let modified_at = text(&item, "modified_at", "modified_at is not text")?;
        let modified_at = modified_at.map(|at| instant(&at)).transpose()?;
        let source = text(&item, "source", "source is not text")?;
        let origin = source
            .and_then(|source| Origin::ALL.into_iter().find(|origin| origin.as_str() == source));
        let job_id = text(&item, "job_id", "job_id is not text")?;
        Ok(Self {
            uri,
            action,
            etag: text(&item, "etag", "etag is not text")?,
            generation: text(&item, "generation", "generation is not text")?,
            sequencer: text(&item, "sequencer", "sequencer is not text")?,
            modified_at,
            origin: origin.unwrap_or(Origin::Manual),
            job_id: job_id.and_then(|id| id.parse().ok()),
        })
    }

    /// How new the change is among those of the object, as far as the source says. Two that say it
    /// in different ways cannot be compared, so each provider has one way; times are none, for an
    /// object may be replaced by an older one.
    #[must_use]
    pub fn rank(&self, provider: Provider) -> Option<Rank> {
        match provider {
            Provider::S3 => of_hexadecimal(self.sequencer.as_deref()?),
            Provider::Gcs => self.generation.as_deref()?.parse().ok().map(Rank::of_number),
            Provider::Drive | Provider::Azure | Provider::Local | Provider::Http => None,
        }
    }
}

/// Sequencers compare as if the shorter one began with zeros.
fn of_hexadecimal(digits: &str) -> Option<Rank> {
    let n = digits.len();
    if n == 0 || n > Rank::MAX || !digits.bytes().all(|digit| digit.is_ascii_hexdigit()) {
        return None;
    }
    Some(Rank::of_bytes(format!("{digits:0>64}").to_ascii_uppercase().as_bytes()))
}

/// A member that is text, absent or null.
fn text(
    item: &Map<String, Value>,
    name: &str,
    fault: &'static str,
) -> Result<Option<String>, NotAChange> {
    match item.get(name) {
        None | Some(Value::Null) => Ok(None),
        Some(Value::String(text)) => Ok(Some(text.clone())),
        // Some tell generations as numbers.
        Some(Value::Number(number)) if name == "generation" => Ok(Some(number.to_string())),
        Some(_) => Err(NotAChange::Member(fault)),
    }
}

fn instant(text: &str) -> Result<UnixMicros, NotAChange> {
    let at = OffsetDateTime::parse(text, &Rfc3339)
        .map_err(|_| NotAChange::Member("modified_at is not an instant"))?;
    let micros = i64::try_from(at.unix_timestamp_nanos() / 1000);
    micros.map(UnixMicros).map_err(|_| NotAChange::Member("modified_at is out of range"))
}

/// An item as people read it; null if it is not JSON.
#[must_use]
pub fn shown(payload: &[u8]) -> Value {
    serde_json::from_slice(payload).unwrap_or(json!(null))
}

/// When an item was made, if it says so.
#[must_use]
pub fn came_at(payload: &[u8]) -> Option<UnixMicros> {
    shown(payload).get("enqueued_at")?.as_str().and_then(timestamp::parse).map(UnixMicros)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn tenant() -> TenantId {
        TenantId::new("harbor").unwrap()
    }

    #[test]
    fn an_item_says_what_is_known() {
        let change = Change {
            etag: Some("abc".to_owned()),
            modified_at: Some(UnixMicros(1_767_323_045_000_001)),
            ..Change::new("gs://b/a.pdf".to_owned(), Action::Deleted, Origin::Webhook)
        };
        assert_eq!(
            change.item(&tenant(), UnixMicros(0)).to_string(),
            r#"{"uri":"gs://b/a.pdf","operation":"deleted","etag":"abc","modified_at":"2026-01-02T03:04:05.000001+00:00","tenant_id":"harbor","source":"webhook","enqueued_at":"1970-01-01T00:00:00+00:00"}"#
        );
    }

    #[test]
    fn an_item_says_when_it_came() {
        let change = Change::new("s3://b/k".to_owned(), Action::Upsert, Origin::Webhook);
        let item = change.item(&tenant(), UnixMicros(1_767_323_045_000_001)).to_string();
        assert_eq!(came_at(item.as_bytes()), Some(UnixMicros(1_767_323_045_000_001)));
        for other in [r#"{"uri":"s3://b/k"}"#, r#"{"enqueued_at":"once"}"#, "?"] {
            assert_eq!(came_at(other.as_bytes()), None);
        }
    }

    #[test]
    fn items_of_others_are_read_as_far_as_they_are_understood() {
        let read = |item: &str| Change::parse(item.as_bytes());
        let plain = Change::new("s3://b/k".to_owned(), Action::Upsert, Origin::Manual);
        for item in [
            r#"{"uri":"s3://b/k"}"#,
            r#"{"uri":"s3://b/k","operation":"created","etag":null,"attempts":2}"#,
            r#"{"uri":"s3://b/k","operation":"updated","source":"a newer one","later":{"a":[]}}"#,
        ] {
            assert_eq!(read(item), Ok(plain.clone()), "{item}");
        }
        assert_eq!(read("uri"), Err(NotAChange::Parse));
        for item in [
            "[]",
            "{}",
            r#"{"uri":7}"#,
            r#"{"uri":""}"#,
            r#"{"uri":"s3://b/k","etag":{}}"#,
            r#"{"uri":"s3://b/k","modified_at":"yesterday"}"#,
        ] {
            assert!(matches!(read(item), Err(NotAChange::Member(_))), "{item}");
        }
    }

    #[test]
    fn ranks_compare_as_the_source_counts() {
        let change = |sequencer: &str, generation: &str| Change {
            sequencer: Some(sequencer.to_owned()),
            generation: Some(generation.to_owned()),
            ..Change::new("u".to_owned(), Action::Upsert, Origin::Webhook)
        };
        let s3 = |sequencer| change(sequencer, "").rank(Provider::S3);
        assert!(s3("FF") < s3("0100"));
        assert_eq!(s3("00ab"), s3("AB"));
        assert_eq!((s3(""), s3("no number")), (None, None));
        let gcs = |generation| change("", generation).rank(Provider::Gcs);
        assert!(gcs("9") < gcs("1767323045000001"));
        assert_eq!(gcs("-1"), None);
        assert_eq!(change("FF", "1").rank(Provider::Local), None);
    }

    proptest! {
        #[test]
        fn an_item_is_read_as_it_was_written(
            uri in "[a-z:/ ü]{1,30}",
            deleted: bool,
            tags in prop::collection::vec(prop::option::of("[a-zA-Z0-9\"]{0,9}"), 3),
            modified_at in prop::option::of(0..4_000_000_000_000_000i64),
            job in prop::option::of(any::<u128>()),
            origin in 0..5usize,
        ) {
            let change = Change {
                uri,
                action: if deleted { Action::Deleted } else { Action::Upsert },
                etag: tags[0].clone(),
                generation: tags[1].clone(),
                sequencer: tags[2].clone(),
                modified_at: modified_at.map(UnixMicros),
                origin: Origin::ALL[origin],
                job_id: job.map(Uuid::from_u128),
            };
            let item = change.item(&tenant(), UnixMicros(5)).to_string();
            prop_assert_eq!(Change::parse(item.as_bytes()), Ok(change));
        }

        #[test]
        fn no_bytes_are_too_odd(item in prop::collection::vec(any::<u8>(), 0..60)) {
            let _ = Change::parse(&item);
        }
    }
}
