//! The settings of a connector, checked field by field as the provider's table says.

use activekg_storage::crypt::fields::Settings;
use reqwest::Url;
use serde_json::Value;
use tracing::warn;

use crate::connectors::{
    Field, GLOBS_BYTES, IfUnset, Kind, LIST_MAX, Provider, REDACTED, SECRET_MAX, TEXT_MAX,
};
use crate::http::validate::{At, Checked};

/// The two names of one setting: the one it is kept under, and the other.
const PATH: &str = "credentials_path";
const PATH_ALIAS: &str = "service_account_json_path";

/// Characters of names that are told of in a warning, and names, at most.
const NAME_TOLD_MAX: usize = 64;
const NAMES_TOLD_MAX: usize = 20;

/// Whole settings. Members that the provider does not know are left out, and logged once.
pub(super) fn whole(provider: Provider, at: At<'_>) -> Checked<Settings> {
    let Value::Object(given) = at.value else {
        return at.fault(
            "model_attributes_type",
            "Input should be a valid dictionary or object to extract fields from",
        );
    };
    warn_of_unknown(provider, given);
    let given = Value::Object(renamed(given.clone()));
    at.instead(&given, |at| checked(provider, at))
}

fn checked(provider: Provider, at: At<'_>) -> Checked<Settings> {
    let given = |name: &str| at.value.get(name).is_some_and(|value| !value.is_null());
    let mut settings = Settings::new();
    let mut fields = at.fields()?;
    for field in provider.fields() {
        let needed = field.if_unset == IfUnset::Required
            || match (provider, field.name) {
                // One half of a pair of keys is good for nothing.
                (Provider::S3, "access_key_id") => {
                    given("secret_access_key") || given("session_token")
                }
                (Provider::S3, "secret_access_key") => given("access_key_id"),
                (Provider::Drive, "credentials") => !given(PATH),
                _ => false,
            };
        let value = if needed {
            Some(fields.required(field.name, |at| value(field, at)))
        } else {
            fields.nullable(field.name, |at| value(field, at))
        };
        if let Some(value) = value.or_else(|| unset(field.if_unset)) {
            settings.insert(field.name.to_owned(), value);
        }
    }
    fields.finish().map(|()| settings)
}

/// What is stored where nothing is given.
fn unset(if_unset: IfUnset) -> Option<Value> {
    match if_unset {
        IfUnset::Required | IfUnset::Absent => None,
        IfUnset::Null => Some(Value::Null),
        IfUnset::Text(text) => Some(text.into()),
        IfUnset::Int(number) => Some(number.into()),
        IfUnset::Bool(flag) => Some(flag.into()),
    }
}

fn value(field: &Field, at: At<'_>) -> Checked<Value> {
    let least = usize::from(field.if_unset == IfUnset::Required);
    match field.kind {
        Kind::Text => at.string_of(least, TEXT_MAX).map(Value::from),
        Kind::Secret { min } => secret(min, at),
        Kind::Url => url(at),
        Kind::Urls => at.list_of(1, LIST_MAX, url).map(Value::from),
        Kind::Path => path(at),
        Kind::Bool => at.bool().map(Value::from),
        Kind::Int { min, max } => at.int_in(min, max).map(Value::from),
        Kind::Texts => texts(at),
        Kind::Globs => globs(at),
        Kind::Topics => at.list_of(0, LIST_MAX, topic).map(Value::from),
        Kind::Map => map(at),
    }
}

fn secret(min: usize, at: At<'_>) -> Checked<Value> {
    if at.value == REDACTED {
        return at.value_error("this stands for a secret that is there, and none is");
    }
    if at.value.is_object() {
        let length = at.value.to_string().chars().count();
        if length > SECRET_MAX {
            return at.value_error(&format!("a secret has at most {SECRET_MAX} characters"));
        }
        return Ok(at.value.clone());
    }
    at.string_of(min, SECRET_MAX).map(Value::from)
}

fn url(at: At<'_>) -> Checked<Value> {
    let text = at.string_of(1, TEXT_MAX)?;
    match Url::parse(&text) {
        Ok(url) if !url.username().is_empty() || url.password().is_some() => {
            at.value_error("an address holds no user and no password")
        }
        Ok(url) if matches!(url.scheme(), "http" | "https") && url.has_host() => Ok(text.into()),
        _ => at.value_error("an address begins with http:// or https://"),
    }
}

fn path(at: At<'_>) -> Checked<Value> {
    let text = at.string_of(1, TEXT_MAX)?;
    if text.starts_with('/') { Ok(text.into()) } else { at.value_error("a path begins with /") }
}

fn texts(at: At<'_>) -> Checked<Value> {
    at.list_of(0, LIST_MAX, |at| at.string_of(1, TEXT_MAX)).map(Value::from)
}

fn globs(at: At<'_>) -> Checked<Value> {
    let list = at.list_of(0, LIST_MAX, |at| at.string_of(1, TEXT_MAX))?;
    if list.iter().map(String::len).sum::<usize>() > GLOBS_BYTES {
        return at.value_error(&format!("a list of patterns has at most {GLOBS_BYTES} bytes"));
    }
    Ok(list.into())
}

fn topic(at: At<'_>) -> Checked<Value> {
    let text = at.string_of(1, TEXT_MAX)?;
    if is_topic(&text) {
        return Ok(text.into());
    }
    at.value_error("a topic is projects/<project>/topics/<topic>, or the ARN of an SNS topic; a subscription is projects/<project>/subscriptions/<subscription>")
}

/// Whether this names a topic of Pub/Sub or of SNS, or a subscription of the former.
fn is_topic(text: &str) -> bool {
    let names = |parts: &[&str]| {
        let is_name = |part: &&str| {
            !part.is_empty()
                && part.bytes().all(|b| b.is_ascii_alphanumeric() || b"-_.~+%".contains(&b))
        };
        parts.iter().all(is_name)
    };
    let slashes: Vec<&str> = text.split('/').collect();
    let colons: Vec<&str> = text.split(':').collect();
    match (&slashes[..], &colons[..]) {
        (["projects", project, "topics" | "subscriptions", topic], _) => names(&[project, topic]),
        (_, ["arn", partition, "sns", region, account, topic]) => {
            names(&[partition, region, account, topic])
        }
        _ => false,
    }
}

fn map(at: At<'_>) -> Checked<Value> {
    let members = at.object()?;
    if members.len() > LIST_MAX {
        return at.value_error(&format!("there may be at most {LIST_MAX} members"));
    }
    if members.values().all(|value| value.as_str().is_some_and(|text| text.len() <= TEXT_MAX)) {
        return Ok(members.into());
    }
    at.value_error("every member is a text")
}

/// The settings under the names they are kept under.
pub(super) fn renamed(mut given: Settings) -> Settings {
    if let Some(path) = given.shift_remove(PATH_ALIAS)
        && given.get(PATH).is_none_or(Value::is_null)
    {
        given.insert(PATH.to_owned(), path);
    }
    given
}

/// The settings as they are answered: what has two names, under both.
pub(super) fn shown(settings: &Settings) -> Settings {
    let mut shown = settings.clone();
    if let Some(path) = settings.get(PATH) {
        shown.insert(PATH_ALIAS.to_owned(), path.clone());
    }
    shown
}

fn warn_of_unknown(provider: Provider, given: &Settings) {
    let known = |name: &str| {
        [PATH_ALIAS, "tenant_id"].contains(&name)
            || provider.fields().any(|field| field.name == name)
    };
    let unknown = given.keys().filter(|name| !known(name));
    let unknown: Vec<String> = unknown
        .take(NAMES_TOLD_MAX)
        .map(|name| name.chars().take(NAME_TOLD_MAX).collect())
        .collect();
    if !unknown.is_empty() {
        let provider = provider.as_str();
        warn!(provider, names = ?unknown, "settings that a {provider} connector does not have are ignored");
    }
}
