//! Connectors: what is asked of them and what is answered.

pub mod flow;
mod redact;
mod settings;
#[cfg(test)]
mod tests;

use activekg_storage::crypt::fields::Settings;
use activekg_storage::crypt::rotate::ConnectorKey;
use activekg_storage::ids::TenantId;
use activekg_storage::time::UnixMicros;
use serde::Serialize;
use serde_json::{Map, Value};

use super::{TENANT_MAX, tenant};
use crate::connectors::{Connector, LIST_MAX, Listed, Provider, Rotated};
use crate::http::extract::{Input, Query};
use crate::http::json::Document;
use crate::http::validate::{At, Checked, Item};
use crate::timestamp::{iso, parse};

/// Most connectors that one transaction of a rotation seals again.
const BATCH_MAX: i64 = 10_000;
/// As many as it takes when nobody says otherwise.
const BATCH: usize = 100;

/// Longest prefix and address that is looked at, in characters.
const NAME_MAX: usize = 4096;
/// Most objects that a trial lists.
const LIST_LIMIT: i64 = 1000;
/// As many as it lists when nobody says otherwise.
const LIST_DEFAULT: i64 = 100;

/// A connector to be registered.
pub struct Registration {
    /// Its provider.
    pub provider: Provider,
    /// The tenant it names.
    pub tenant_id: Option<String>,
    /// Its whole settings, secrets in the clear.
    pub settings: Settings,
}

impl Registration {
    /// Reads a body. Settings of Drive may stand beside the tenant instead of under `config`.
    ///
    /// # Errors
    ///
    /// Everything that is wrong with it. No secret is repeated.
    pub fn parse(provider: Provider, document: &Document) -> Checked<Self> {
        let body = &document.value;
        let at_top =
            provider == Provider::Drive && body.is_object() && body.get("config").is_none();
        let parse = || {
            whole(document)?;
            let at = At::body(body);
            let mut fields = at.fields()?;
            let tenant_id = fields.optional("tenant_id", None, tenant);
            let settings = if at_top {
                settings::whole(provider, at)?
            } else {
                fields.required("config", |at| settings::whole(provider, at))
            };
            fields.finish().map(|()| Self { provider, tenant_id, settings })
        };
        parse().map_err(redact::items)
    }
}

/// A connector to be tried out.
pub struct TrialRequest {
    /// The tenant it names.
    pub tenant_id: Option<String>,
    /// Whole settings that are not stored, secrets in the clear; `None` for those that are.
    pub settings: Option<Settings>,
    /// What of the source is looked at.
    pub look: Look,
}

/// What of a source is looked at.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Look {
    /// One object, whichever comes first.
    First,
    /// The objects below a prefix, 1 to 1000 of them.
    Below {
        /// The prefix; below the connector's own.
        prefix: String,
        /// Most objects.
        limit: usize,
    },
    /// The object of an address; and its bytes, if its type is to be found out.
    At {
        /// The address.
        uri: String,
        /// Whether its type is to be found out.
        detect: bool,
    },
}

impl TrialRequest {
    /// Reads a body.
    ///
    /// # Errors
    ///
    /// Everything that is wrong with it. No secret is repeated.
    pub fn parse(provider: Provider, document: &Document) -> Checked<Self> {
        let parse = || {
            whole(document)?;
            let mut fields = At::body(&document.value).fields()?;
            let tenant_id = fields.optional("tenant_id", None, tenant);
            let settings = fields.nullable("config", |at| settings::whole(provider, at));
            let name = |at: At<'_>| at.string_of(0, NAME_MAX);
            let (below, uri) = (fields.nullable("list", name), fields.nullable("uri", name));
            let limit = fields.optional("limit", LIST_DEFAULT, |at| at.int_in(1, LIST_LIMIT));
            let detect = fields.optional("detect", false, |at| at.bool());
            fields.finish()?;
            let look = match (below, uri) {
                (None, None) => Look::First,
                // Within the bounds it fits.
                (Some(prefix), None) => Look::Below { prefix, limit: limit as usize },
                (None, Some(uri)) => Look::At { uri, detect },
                (Some(_), Some(_)) => {
                    let why = "either a list or one uri is asked for, not both";
                    return At::body(&document.value).value_error(why);
                }
            };
            Ok(Self { tenant_id, settings, look })
        };
        parse().map_err(redact::items)
    }
}

/// Checks the settings that a change of some of them makes.
///
/// # Errors
///
/// Everything that is wrong with them, as if all had been sent. No secret is repeated.
pub fn changed(provider: Provider, settings: Settings) -> Checked<Settings> {
    let body = Value::Object(Map::from_iter([("config".to_owned(), Value::Object(settings))]));
    let checked = At::body(&body).member("config", |at| settings::whole(provider, at));
    checked.unwrap_or_else(|| Ok(Settings::new())).map_err(redact::items)
}

/// A fault of one setting that the caller may not give this value.
pub fn refused(field: &str, why: &str) -> Vec<Item> {
    let place = vec!["body".into(), "config".into(), field.into()];
    redact::items(vec![Item::new("value_error", place, format!("Value error, {why}"), Value::Null)])
}

/// Body of PATCH /_admin/connectors/{provider}/config.
pub struct ConfigChange {
    /// The tenant it names.
    pub tenant_id: Option<String>,
    /// The settings that change; null removes one.
    pub config: Settings,
}

impl Input for ConfigChange {
    fn parse(body: &Value) -> Checked<Self> {
        let parse = || {
            let mut fields = At::body(body).fields()?;
            let tenant_id = fields.optional("tenant_id", None, tenant);
            let config = fields.required("config", |at| at.object());
            fields.finish().map(|()| Self { tenant_id, config: settings::renamed(config) })
        };
        parse().map_err(redact::items)
    }
}

/// A NUL is a fault, wherever it stands.
fn whole(document: &Document) -> Checked<()> {
    document.nuls.first().map_or(Ok(()), |nul| Err(vec![nul.item()]))
}

/// Body of POST /_admin/connectors/{provider}/enable and /disable.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Switch {
    /// The tenant it names.
    pub tenant_id: String,
}

impl Input for Switch {
    fn parse(body: &Value) -> Checked<Self> {
        let mut fields = At::body(body).fields()?;
        let tenant_id = fields.required("tenant_id", |at| at.string_of(1, TENANT_MAX));
        fields.finish().map(|()| Self { tenant_id })
    }
}

/// Query of the routes that show or delete one connector.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct OwnerQuery {
    /// The tenant it names.
    pub tenant_id: String,
}

impl Query for OwnerQuery {
    fn parse(query: &Value) -> Checked<Self> {
        let mut fields = At::query(query).fields()?.with_null_for_missing();
        let tenant_id = fields.required("tenant_id", |at| at.string_of(1, TENANT_MAX));
        fields.finish().map(|()| Self { tenant_id })
    }
}

/// Query of GET /_admin/connectors/keys: which connectors have a row.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct KeysQuery {
    /// Only those of the tenant it names; the counts are of it too.
    pub tenant_id: Option<String>,
    /// Only those of this provider.
    pub provider: Option<String>,
    /// Only those that are sealed with another version of the key.
    pub not_version: Option<u32>,
    /// Only those that changed then or later.
    pub updated_since: Option<UnixMicros>,
}

impl Query for KeysQuery {
    fn parse(query: &Value) -> Checked<Self> {
        let mut fields = At::query(query).fields()?;
        let tenant_id = fields.optional("tenant_id", None, tenant);
        let provider = fields.nullable("provider", |at| at.string_of(1, TENANT_MAX));
        let not_version = fields.nullable("not_version", |at| at.int_in(0, i64::from(u32::MAX)));
        let updated_since = fields.nullable("updated_since", instant);
        // Within the bounds it fits.
        let not_version = not_version.map(|version| version as u32);
        fields.finish().map(|()| Self { tenant_id, provider, not_version, updated_since })
    }
}

fn instant(at: At<'_>) -> Checked<UnixMicros> {
    match parse(&at.string()?) {
        Some(micros) => Ok(UnixMicros(micros)),
        None => at.value_error("a time is written as 2026-02-03T10:00:00Z"),
    }
}

impl KeysQuery {
    /// Whether a connector has a row.
    #[must_use]
    pub fn wants(&self, listed: &Listed) -> bool {
        self.provider.as_ref().is_none_or(|provider| *provider == listed.provider)
            && self.not_version.is_none_or(|version| version != listed.key_version)
            && self.updated_since.is_none_or(|since| since <= listed.updated_at)
    }
}

/// Body of POST /_admin/connectors/rotate_keys.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RotateRequest {
    /// Only these providers; none is all.
    pub providers: Vec<String>,
    /// Only these tenants; none is all.
    pub tenants: Vec<TenantId>,
    /// 1 to 10,000, default 100.
    pub batch_size: usize,
    /// Only count.
    pub dry_run: bool,
}

impl Input for RotateRequest {
    fn parse(body: &Value) -> Checked<Self> {
        let mut fields = At::body(body).fields()?;
        let providers = fields
            .nullable("providers", |at| at.list_of(0, LIST_MAX, |at| at.string_of(0, TENANT_MAX)));
        let tenants = fields.nullable("tenants", |at| at.list_of(0, LIST_MAX, tenant_of));
        let tenant_id = fields.nullable("tenant_id", tenant_of);
        let batch_size = fields.optional("batch_size", BATCH, |at| {
            Ok(usize::try_from(at.int_in(1, BATCH_MAX)?).unwrap_or(BATCH))
        });
        let dry_run = fields.optional("dry_run", false, |at| at.bool());
        fields.finish()?;
        let mut tenants = tenants.unwrap_or_default();
        tenants.extend(tenant_id);
        Ok(Self { providers: providers.unwrap_or_default(), tenants, batch_size, dry_run })
    }
}

/// A name that narrows a selection. One that could not be a tenant's must not widen it to all.
fn tenant_of(at: At<'_>) -> Checked<TenantId> {
    let name = at.string()?;
    match TenantId::new(&name) {
        Ok(tenant) => Ok(tenant),
        Err(error) => at.value_error(&error.to_string()),
    }
}

/// Answer of the routes that change a connector.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct ConnectorChanged {
    /// What was done.
    pub status: &'static str,
    /// Its owner.
    pub tenant_id: String,
    /// Its provider.
    pub provider: String,
}

/// Answer of GET /_admin/connectors/.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct ConnectorList {
    /// In order of tenant and provider.
    pub connectors: Vec<ConnectorItem>,
}

/// A connector in a list.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct ConnectorItem {
    /// Its owner.
    pub tenant_id: String,
    /// Its provider.
    pub provider: String,
    /// Always empty; GET of the one connector shows it.
    pub config: Map<String, Value>,
    /// When it was first registered.
    pub created_at: String,
    /// When it last changed.
    pub updated_at: String,
    /// Whether it runs.
    pub enabled: bool,
    /// The version of the key that its secrets are sealed with.
    pub key_version: u32,
}

impl From<Listed> for ConnectorItem {
    fn from(listed: Listed) -> Self {
        let Listed { tenant, provider, enabled, key_version, created_at, updated_at } = listed;
        Self {
            tenant_id: tenant.as_str().to_owned(),
            provider,
            config: Map::new(),
            created_at: iso(created_at.get()),
            updated_at: iso(updated_at.get()),
            enabled,
            key_version,
        }
    }
}

/// Answer of GET /_admin/connectors/{provider}.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct ConnectorView {
    /// Its owner.
    pub tenant_id: String,
    /// Its provider.
    pub provider: String,
    /// Its settings, without secrets.
    pub config: Settings,
    /// Whether it runs.
    pub enabled: bool,
    /// The version of the key that its secrets are sealed with.
    pub key_version: u32,
    /// When it was first registered.
    pub created_at: String,
    /// When it last changed.
    pub updated_at: String,
}

impl ConnectorView {
    /// A connector of a tenant.
    pub fn new(tenant: &TenantId, provider: String, connector: &Connector) -> Self {
        Self {
            tenant_id: tenant.as_str().to_owned(),
            provider,
            config: settings::shown(connector.shown()),
            enabled: connector.enabled,
            key_version: connector.key_version,
            created_at: iso(connector.created_at.get()),
            updated_at: iso(connector.updated_at.get()),
        }
    }
}

/// Answer of POST /_admin/connectors/rotate_keys.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Rotation {
    /// Connectors sealed again.
    pub rotated: u64,
    /// Connectors changed meanwhile.
    pub skipped: u64,
    /// Connectors that could not be opened, and what ended the run early.
    pub errors: u64,
    /// Of a dry run: connectors that would be sealed again.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub candidates: Option<u64>,
    /// Whether it only counted.
    pub dry_run: bool,
    /// What ended it early.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub error: Option<String>,
    /// Which connectors could not be opened, the first thousand.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub failed: Vec<FailedConnector>,
}

/// A connector that could not be opened.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct FailedConnector {
    /// Its owner.
    pub tenant_id: String,
    /// Its provider.
    pub provider: String,
}

impl Rotation {
    /// Of a dry run.
    pub fn counted(candidates: u64) -> Self {
        let candidates = Some(candidates);
        Self { candidates, dry_run: true, ..Self::from(Rotated::default()) }
    }
}

impl From<Rotated> for Rotation {
    fn from(done: Rotated) -> Self {
        let Rotated { rotated, skipped, errors, failed, ended_by } = done;
        let named = |(tenant, provider): ConnectorKey| FailedConnector {
            tenant_id: tenant.as_str().to_owned(),
            provider,
        };
        Self {
            rotated,
            skipped,
            errors,
            candidates: None,
            dry_run: false,
            error: ended_by,
            failed: failed.into_iter().map(named).collect(),
        }
    }
}

/// Answer of GET /_admin/connectors/cache/health.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct CacheHealth {
    /// `ok` or `degraded`.
    pub status: &'static str,
    /// The task that follows changes; null if there is none.
    pub subscriber: Option<Subscriber>,
}

/// The task that follows changes.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Subscriber {
    /// Whether it listens.
    pub connected: bool,
    /// When it last heard of a change.
    pub last_message_ts: Option<String>,
    /// How often it was started again or fell behind.
    pub reconnects: u64,
}
