//! The secret fields of a connector's settings: which they are, and how they are sealed.
//!
//! Every secret is sealed by itself, at the top level only. What is null or empty stays as it is; a
//! secret that is not text is sealed as its compact JSON.

use serde_json::{Map, Value};
use zeroize::{Zeroize as _, Zeroizing};

use super::{DecryptionFailed, KeyRing, Secret, is_sealed};
use crate::time::UnixMicros;

/// The fields that are secrets, whatever the provider.
pub const SECRET_FIELDS: [&str; 18] = [
    "access_key_id",
    "secret_access_key",
    "api_key",
    "password",
    "token",
    "credentials",
    "secret_key",
    "access_key",
    "session_token",
    "credentials_json",
    "connection_string",
    "account_key",
    "sas_token",
    "client_secret",
    "refresh_token",
    "private_key",
    "webhook_secret",
    "bearer_token",
];

/// Settings as JSON.
pub type Settings = Map<String, Value>;

/// A secret that no loaded key opens. Nothing was changed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("{failed} ({field})", failed = DecryptionFailed)]
pub struct FieldNotOpened {
    /// The field.
    pub field: &'static str,
}

/// The secrets there are, as text.
fn secrets(settings: &Settings) -> impl Iterator<Item = (&'static str, Zeroizing<String>)> {
    SECRET_FIELDS.into_iter().filter_map(|field| {
        let text = match settings.get(field)? {
            Value::Null => return None,
            Value::String(text) => text.clone(),
            other => other.to_string(),
        };
        (!text.is_empty()).then(|| (field, Zeroizing::new(text)))
    })
}

/// Puts a sealed secret in place of what was there, which is zeroed.
fn replace(settings: &mut Settings, field: &str, token: String) {
    if let Some(Value::String(old)) = settings.get_mut(field) {
        old.zeroize();
    }
    settings.insert(field.to_owned(), Value::String(token));
}

/// Seals every secret of settings that come from outside, where all are in the clear, with the
/// active key.
pub fn seal(settings: &mut Settings, ring: &KeyRing, now: UnixMicros) {
    let secrets: Vec<_> = secrets(settings).collect();
    for (field, text) in secrets {
        replace(settings, field, ring.seal(text.as_bytes(), now).token);
    }
}

/// The secrets of settings that come from outside, where all are in the clear.
#[must_use]
pub fn in_clear(settings: &Settings) -> Vec<(&'static str, Secret)> {
    secrets(settings).map(|(field, text)| (field, Secret::new(text.as_bytes().to_vec()))).collect()
}

/// The secrets of stored settings, of which each is sealed with the key of `version` or another one,
/// or still in the clear.
///
/// # Errors
///
/// [`FieldNotOpened`] for the first that no key opens. A sealed text never passes for a secret.
pub fn open(
    settings: &Settings,
    ring: &KeyRing,
    version: u32,
) -> Result<Vec<(&'static str, Secret)>, FieldNotOpened> {
    let opened = secrets(settings).map(|(field, text)| {
        if !is_sealed(&text) {
            return Ok((field, Secret::new(text.as_bytes().to_vec())));
        }
        match ring.open(&text, version) {
            Ok(opened) => Ok((field, opened.secret)),
            Err(DecryptionFailed) => Err(FieldNotOpened { field }),
        }
    });
    opened.collect()
}

/// Seals every secret of stored settings again, with the active key.
///
/// # Errors
///
/// As for [`open`]; nothing was changed then.
pub fn reseal(
    settings: &mut Settings,
    ring: &KeyRing,
    version: u32,
    now: UnixMicros,
) -> Result<(), FieldNotOpened> {
    for (field, secret) in open(settings, ring, version)? {
        replace(settings, field, ring.seal(secret.reveal(), now).token);
    }
    Ok(())
}

/// Whether some secret is sealed.
#[must_use]
pub fn any_sealed(settings: &Settings) -> bool {
    secrets(settings).any(|(_, text)| is_sealed(&text))
}

/// Whether some secret is in the clear, or sealed with another key than the active one although the
/// settings say `version`.
#[must_use]
pub fn any_outdated(settings: &Settings, ring: &KeyRing, version: u32) -> bool {
    // Versions are trusted where they can be: telling by the token costs as much as opening it.
    let look = ring.is_ambiguous(version);
    version != ring.active()
        || secrets(settings).any(|(_, text)| !is_sealed(&text) || look && !ring.is_current(&text))
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;
    use crate::crypt::Kek;

    const NOW: UnixMicros = UnixMicros(1_770_000_000_000_000);

    fn ring(active: u32) -> KeyRing {
        let keys = [
            (1, "AAECAwQFBgcICQoLDA0ODxAREhMUFRYXGBkaGxwdHh8="),
            (2, "ICEiIyQlJicoKSorLC0uLzAxMjM0NTY3ODk6Ozw9Pj8="),
        ];
        let keys = keys.map(|(version, text)| (version, Kek::parse(text).unwrap()));
        KeyRing::new(keys.into(), active).unwrap()
    }

    fn settings(value: Value) -> Settings {
        let Value::Object(settings) = value else { panic!("not an object") };
        settings
    }

    fn opened(settings: &Settings, version: u32) -> Vec<(&'static str, String)> {
        let opened = open(settings, &ring(2), version).unwrap();
        opened
            .iter()
            .map(|(field, secret)| (*field, secret.reveal_text().unwrap().to_owned()))
            .collect()
    }

    #[test]
    fn only_secrets_are_sealed_and_order_stays() {
        let plain = settings(json!({
            "bucket": "docs", "secret_access_key": "s3cret", "token": "", "password": null,
            "credentials": {"type": "service_account", "n": 1}, "nested": {"password": "seen"},
        }));
        let mut sealed = plain.clone();
        seal(&mut sealed, &ring(1), NOW);
        assert!(sealed.keys().eq(plain.keys()));
        for (field, value) in &sealed {
            let secret = ["secret_access_key", "credentials"].contains(&field.as_str());
            assert_eq!(*value != plain[field], secret, "{field}");
            assert_eq!(value.as_str().is_some_and(is_sealed), secret, "{field}");
        }
        let secrets = [
            ("secret_access_key", "s3cret".to_owned()),
            ("credentials", r#"{"type":"service_account","n":1}"#.to_owned()),
        ];
        assert_eq!(opened(&sealed, 1), secrets);
        assert_eq!(opened(&sealed, 2), secrets, "the version is only a hint");

        reseal(&mut sealed, &ring(2), 1, NOW).unwrap();
        assert_eq!(opened(&sealed, 2), secrets, "sealed once, not twice");
        assert!(!any_outdated(&sealed, &ring(2), 2) && any_outdated(&sealed, &ring(2), 1));
    }

    #[test]
    fn every_listed_field_is_sealed() {
        let mut all: Settings =
            SECRET_FIELDS.map(|field| (field.to_owned(), json!("x"))).into_iter().collect();
        assert_eq!(all.len(), SECRET_FIELDS.len(), "no field is listed twice");
        seal(&mut all, &ring(1), NOW);
        assert!(all.values().all(|value| value.as_str().is_some_and(is_sealed)));
    }

    #[test]
    fn one_that_does_not_open_leaves_all_as_they_were() {
        let mut sealed = settings(json!({"password": "one", "api_key": "two"}));
        seal(&mut sealed, &ring(1), NOW);
        sealed["password"] = json!("gAAAAAunreadable");
        let before = sealed.clone();
        let error = reseal(&mut sealed, &ring(2), 1, NOW).unwrap_err();
        assert_eq!(error.to_string(), "Decryption failed with all available KEKs (password)");
        assert_eq!(sealed, before);
    }

    #[test]
    fn secrets_in_the_clear_are_found_and_sealed() {
        let mut mixed = settings(json!({"password": "clear"}));
        assert!(!any_sealed(&mixed) && any_outdated(&mixed, &ring(2), 2));
        reseal(&mut mixed, &ring(2), 2, NOW).unwrap();
        assert!(any_sealed(&mixed) && !any_outdated(&mixed, &ring(2), 2));
        assert_eq!(opened(&mixed, 2), [("password", "clear".to_owned())]);
    }
}
