//! A connector's settings, opened.

use activekg_storage::crypt::fields::{self, FieldNotOpened, SECRET_FIELDS, Settings};
use activekg_storage::crypt::{KeyRing, Secret};
use activekg_storage::tables::connectors::ConnectorRecord;
use activekg_storage::time::UnixMicros;
use serde_json::Value;

/// What stands for a secret that is there. In a change of settings it means: as it is.
pub const REDACTED: &str = "***REDACTED***";

/// A connector with its secrets in the clear. It has no `Debug`, and cannot be serialized; what may
/// be seen of the settings is [`Connector::shown`].
pub struct Connector {
    /// Whether it runs.
    pub enabled: bool,
    /// The version of the key that its secrets are sealed with.
    pub key_version: u32,
    /// When it was first registered.
    pub created_at: UnixMicros,
    /// When it last changed.
    pub updated_at: UnixMicros,
    shown: Settings,
    secrets: Vec<(&'static str, Secret)>,
}

/// Why stored settings cannot be used.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum NotOpened {
    /// They are not the JSON object they were written as.
    #[error("the stored settings are not a JSON object")]
    NotSettings,
    /// No loaded key opens a secret.
    #[error(transparent)]
    Field(#[from] FieldNotOpened),
}

impl Connector {
    /// Opens what is stored.
    ///
    /// # Errors
    ///
    /// If the text is no object or a secret does not open; a sealed text never passes for a secret.
    pub fn open(record: &ConnectorRecord, ring: &KeyRing) -> Result<Self, NotOpened> {
        let ConnectorRecord { config, enabled, bucket: _, key_version, created_at, updated_at } =
            record;
        let mut shown: Settings =
            serde_json::from_str(config.as_str()).map_err(|_| NotOpened::NotSettings)?;
        let secrets = fields::open(&shown, ring, *key_version)?;
        redact(&mut shown);
        Ok(Self {
            enabled: *enabled,
            key_version: *key_version,
            created_at: *created_at,
            updated_at: *updated_at,
            shown,
            secrets,
        })
    }

    /// A connector that is not stored, with these settings, secrets in the clear.
    #[must_use]
    pub fn unsaved(mut settings: Settings) -> Self {
        let secrets = fields::in_clear(&settings);
        redact(&mut settings);
        let never = UnixMicros(0);
        Self {
            enabled: true,
            key_version: 0,
            created_at: never,
            updated_at: never,
            shown: settings,
            secrets,
        }
    }

    /// The settings with [`REDACTED`] for every secret.
    #[must_use]
    pub fn shown(&self) -> &Settings {
        &self.shown
    }

    /// A secret; `None` if it is not set, or is not text.
    #[must_use]
    pub fn secret(&self, field: &str) -> Option<&str> {
        let found = self.secrets.iter().find(|(name, _)| *name == field);
        found.and_then(|(_, secret)| secret.reveal_text())
    }

    /// The settings with a change to them, secrets in the clear: a null removes a setting, and
    /// [`REDACTED`] leaves a secret as it is.
    #[must_use]
    pub fn changed(&self, change: &Settings) -> Settings {
        let mut changed = self.shown.clone();
        for (name, value) in change {
            if value.is_null() {
                changed.shift_remove(name);
            } else {
                changed.insert(name.clone(), value.clone());
            }
        }
        for (field, secret) in &self.secrets {
            if changed.get(*field).is_some_and(|value| value == REDACTED)
                && let Some(text) = secret.reveal_text()
            {
                changed.insert((*field).to_owned(), text.into());
            }
        }
        changed
    }
}

/// Puts [`REDACTED`] in place of every secret there is.
pub fn redact(settings: &mut Settings) {
    for field in SECRET_FIELDS {
        if let Some(value) = settings.get_mut(field)
            && !is_empty(value)
        {
            *value = REDACTED.into();
        }
    }
}

/// What is null or empty text is no secret.
fn is_empty(value: &Value) -> bool {
    value.is_null() || value.as_str().is_some_and(str::is_empty)
}

#[cfg(test)]
mod tests {
    use activekg_storage::crypt::Kek;
    use activekg_storage::tables::Json;
    use proptest::prelude::*;
    use serde_json::json;

    use super::*;

    fn ring() -> KeyRing {
        let key = Kek::parse("AAECAwQFBgcICQoLDA0ODxAREhMUFRYXGBkaGxwdHh8=").unwrap();
        KeyRing::new([(1, key)].into(), 1).unwrap()
    }

    fn object(value: Value) -> Settings {
        let Value::Object(settings) = value else { panic!("an object") };
        settings
    }

    fn record(settings: &Settings) -> ConnectorRecord {
        let mut sealed = settings.clone();
        fields::seal(&mut sealed, &ring(), UnixMicros(1));
        ConnectorRecord {
            config: Json(Value::Object(sealed).to_string()),
            enabled: true,
            bucket: None,
            key_version: 1,
            created_at: UnixMicros(1),
            updated_at: UnixMicros(2),
        }
    }

    fn opened(settings: Value) -> Connector {
        Connector::open(&record(&object(settings)), &ring()).expect("it opens")
    }

    #[test]
    fn what_is_shown_holds_no_secret_and_keeps_its_order() {
        let connector = opened(json!({
            "bucket": "docs", "access_key_id": "AKIA", "session_token": "", "prefix": "",
            "credentials_json": {"private_key": "k"}, "token": null,
        }));
        let shown = Value::Object(connector.shown().clone()).to_string();
        assert_eq!(
            shown,
            r#"{"bucket":"docs","access_key_id":"***REDACTED***","session_token":"","prefix":"","credentials_json":"***REDACTED***","token":null}"#
        );
        assert_eq!(connector.secret("access_key_id"), Some("AKIA"));
        assert_eq!(connector.secret("credentials_json"), Some(r#"{"private_key":"k"}"#));
        assert_eq!((connector.secret("session_token"), connector.secret("bucket")), (None, None));
    }

    #[test]
    fn a_change_keeps_replaces_and_removes() {
        let connector =
            opened(json!({"bucket": "docs", "prefix": "a/", "password": "old", "token": "t"}));
        let change = object(json!({"prefix": null, "password": "new", "token": REDACTED, "x": 1}));
        let changed = Value::Object(connector.changed(&change));
        assert_eq!(changed, json!({"bucket": "docs", "password": "new", "token": "t", "x": 1}));
        let nothing = Value::Object(connector.changed(&Settings::new()));
        let whole = json!({"bucket": "docs", "prefix": "a/", "password": "old", "token": "t"});
        assert_eq!(nothing, whole);
    }

    #[test]
    fn what_does_not_open_is_an_error() {
        let mut other = record(&object(json!({"password": "p"})));
        let key = Kek::parse("ICEiIyQlJicoKSorLC0uLzAxMjM0NTY3ODk6Ozw9Pj8=").unwrap();
        let ring = KeyRing::new([(1, key)].into(), 1).unwrap();
        assert!(matches!(Connector::open(&other, &ring), Err(NotOpened::Field(_))));
        other.config = Json("[]".to_owned());
        assert!(matches!(Connector::open(&other, &ring), Err(NotOpened::NotSettings)));
    }

    proptest! {
        /// Sealed and opened, every secret is what it was, and none is to be seen.
        #[test]
        fn secrets_come_back_and_are_never_shown(
            secrets in prop::collection::btree_map(0..SECRET_FIELDS.len(), "[a-z]{12,40}", 0..6),
            plain in prop::collection::btree_map("[A-Z]{1,6}", "[0-9]{0,10}", 0..4),
        ) {
            let named: Vec<_> = secrets.iter().map(|(n, text)| (SECRET_FIELDS[*n], text)).collect();
            let mut settings = Settings::new();
            settings.extend(plain.iter().map(|(name, text)| (name.clone(), text.clone().into())));
            settings.extend(named.iter().map(|(name, text)| ((*name).to_owned(), Value::from((*text).clone()))));
            let stored = record(&settings);
            let connector = Connector::open(&stored, &ring()).expect("it opens");
            let shown = Value::Object(connector.shown().clone()).to_string();
            for (name, text) in &named {
                prop_assert_eq!(connector.secret(name), Some(text.as_str()));
                prop_assert!(!shown.contains(text.as_str()) && !stored.config.as_str().contains(text.as_str()));
            }
            prop_assert_eq!(connector.changed(&Settings::new()), settings);
        }
    }
}
