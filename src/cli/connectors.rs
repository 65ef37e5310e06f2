//! `activekg connectors`: looking after the connectors of a running server.

mod ingest;
mod look;
mod set;

use std::io::Read as _;
use std::time::{Duration, SystemTime};

use anyhow::{Context as _, bail};
use clap::builder::PossibleValuesParser;
use clap::{Args, Subcommand};
use serde_json::{Value, json};
use time::OffsetDateTime;
use time::format_description::well_known::Rfc3339;

use super::queue::common::{Common, Consent, age, print, query_value};
use super::remote::Client;
use crate::connectors::Provider;
use crate::refresh::schedule::parse_interval;

const CONNECTORS: &str = "/_admin/connectors";

/// Columns that a list may have.
const COLUMNS: [&str; 7] =
    ["tenant_id", "provider", "bucket", "enabled", "key_version", "created_at", "updated_at"];

/// Look after the connectors of a running server
///
/// With tokens on, --url needs a token with the scope admin:refresh, and super_admin for other tenants; the server on
/// this machine needs none.
#[derive(Args)]
pub(super) struct ConnectorsArgs {
    #[command(subcommand)]
    command: ConnectorsCommand,
}

#[derive(Subcommand)]
enum ConnectorsCommand {
    /// List the connectors, a line each
    List(Box<ListArgs>),
    /// Print a connector as JSON, without its secrets
    Get(Box<OneArgs>),
    /// Register a connector, in place of the one there may be
    Register(Box<RegisterArgs>),
    /// Change settings of a connector; the others stay as they are
    Set(Box<set::SetArgs>),
    /// Try out whether a connector can read its source
    Test(Box<look::TestArgs>),
    /// Look at one object of a source
    Stat(Box<look::StatArgs>),
    /// Let a connector run
    Enable(Box<OneArgs>),
    /// Let a connector run no more
    Disable(Box<OneArgs>),
    /// Take in what a connector's source holds
    ///
    /// With tokens on it takes the scope super_admin.
    Ingest(Box<ingest::IngestArgs>),
    /// Take in what a connector's source has held for long
    Backfill(Box<ingest::BackfillArgs>),
    /// Delete a connector; its documents stay
    ///
    /// Asks first, and leaves an entry in the audit trail.
    Delete(Box<DeleteArgs>),
}

#[derive(Args)]
struct ListArgs {
    /// Only connectors of this tenant
    #[arg(long, value_name = "TENANT")]
    tenant: Option<String>,
    /// Only connectors that are sealed with another version of the key
    #[arg(long, value_name = "VERSION")]
    not_version: Option<u32>,
    /// Only connectors that changed within this time: 30m, 12h, 7d
    #[arg(long, value_name = "AGE", value_parser = age)]
    updated_since: Option<String>,
    /// What to print of each
    #[arg(
        long,
        value_name = "COLUMNS",
        value_delimiter = ',',
        value_parser = PossibleValuesParser::new(COLUMNS),
        default_value = "tenant_id,provider,enabled,key_version,updated_at"
    )]
    columns: Vec<String>,
    #[command(flatten)]
    common: Common,
}

/// One connector.
#[derive(Args)]
struct OneArgs {
    /// Its provider
    #[arg(value_parser = PossibleValuesParser::new(Provider::ALL.map(Provider::as_str)))]
    provider: String,
    /// Its tenant
    #[arg(long, value_name = "TENANT", default_value = "default")]
    tenant: String,
    #[command(flatten)]
    common: Common,
}

#[derive(Args)]
struct RegisterArgs {
    /// File with its settings as a JSON object, or - for the standard input
    #[arg(long, value_name = "FILE")]
    config: String,
    #[command(flatten)]
    one: OneArgs,
}

#[derive(Args)]
struct DeleteArgs {
    #[command(flatten)]
    one: OneArgs,
    #[command(flatten)]
    consent: Consent,
}

impl OneArgs {
    fn path(&self, rest: &str) -> String {
        format!("{CONNECTORS}/{}{rest}", self.provider)
    }

    /// The path with the tenant in its query.
    fn owned_path(&self, rest: &str) -> String {
        format!("{}?tenant_id={}", self.path(rest), query_value(&self.tenant))
    }
}

pub(super) fn run(args: &ConnectorsArgs) -> anyhow::Result<()> {
    super::runtime()?.block_on(async {
        match &args.command {
            ConnectorsCommand::List(args) => list(args).await,
            ConnectorsCommand::Get(one) => {
                let shown = one.common.remote.needed_server()?.get(&one.owned_path("")).await?;
                print(&one.common, &shown, &format!("{}\n", serde_json::to_string_pretty(&shown)?))
            }
            ConnectorsCommand::Register(args) => register(args).await,
            ConnectorsCommand::Set(args) => set::set(args).await,
            ConnectorsCommand::Test(args) => look::test(args).await,
            ConnectorsCommand::Stat(args) => look::stat(args).await,
            ConnectorsCommand::Enable(one) => switch(one, "/enable").await,
            ConnectorsCommand::Disable(one) => switch(one, "/disable").await,
            ConnectorsCommand::Ingest(args) => ingest::ingest(args).await,
            ConnectorsCommand::Backfill(args) => ingest::backfill(args).await,
            ConnectorsCommand::Delete(args) => {
                let DeleteArgs { one, consent } = &**args;
                let server = one.common.remote.needed_server()?;
                consent.ask(&format!("delete connector {}/{}", one.tenant, one.provider))?;
                told(one, &server.delete(&one.owned_path("/config")).await?)
            }
        }
    })
}

async fn register(args: &RegisterArgs) -> anyhow::Result<()> {
    let RegisterArgs { config, one } = args;
    let text = if config == "-" {
        let mut text = String::new();
        std::io::stdin().read_to_string(&mut text).context("read the standard input")?;
        text
    } else {
        std::fs::read_to_string(config).with_context(|| format!("read {config}"))?
    };
    // What is wrong is not repeated: it may be next to a secret.
    let Ok(settings @ Value::Object(_)) = serde_json::from_str::<Value>(&text) else {
        bail!("the settings are not a JSON object");
    };
    let body = json!({ "tenant_id": one.tenant, "config": settings });
    let server = one.common.remote.needed_server()?;
    told(one, &server.post(&one.path("/register"), &body).await?)
}

async fn switch(one: &OneArgs, act: &str) -> anyhow::Result<()> {
    let body = json!({ "tenant_id": one.tenant });
    told(one, &one.common.remote.needed_server()?.post(&one.path(act), &body).await?)
}

fn told(one: &OneArgs, answer: &Value) -> anyhow::Result<()> {
    let status = answer["status"].as_str().unwrap_or("done");
    print(&one.common, answer, &format!("{status} {}/{}\n", one.tenant, one.provider))
}

async fn list(args: &ListArgs) -> anyhow::Result<()> {
    let ListArgs { tenant, not_version, updated_since, columns, common } = args;
    let server = common.remote.needed_server()?;
    let answer = server.get(&format!("{CONNECTORS}/")).await?;
    let since = updated_since.as_deref().and_then(parse_interval).map(ago);
    let mut wanted = Vec::new();
    for connector in answer["connectors"].as_array().map_or(&[][..], Vec::as_slice) {
        let updated = connector["updated_at"].as_str();
        let updated = updated.and_then(|at| OffsetDateTime::parse(at, &Rfc3339).ok());
        let fits = tenant.as_ref().is_none_or(|tenant| connector["tenant_id"] == **tenant)
            && not_version.is_none_or(|version| connector["key_version"] != version)
            && since.is_none_or(|since| updated.is_some_and(|updated| updated >= since));
        if fits {
            wanted.push(connector.clone());
        }
    }
    if columns.iter().any(|column| column == "bucket") {
        for connector in &mut wanted {
            connector["bucket"] = bucket(&server, connector).await;
        }
    }
    let mut text = format!("{}\n", columns.join("\t"));
    for connector in &wanted {
        let cells = columns.iter().map(|column| match &connector[column.as_str()] {
            Value::String(text) => text.clone(),
            Value::Null => "-".to_owned(),
            other => other.to_string(),
        });
        text.push_str(&format!("{}\n", cells.collect::<Vec<_>>().join("\t")));
    }
    print(common, &json!({ "connectors": wanted }), &text)
}

/// The bucket of a listed connector; null for one without, and for one that does not open.
async fn bucket(server: &Client, connector: &Value) -> Value {
    let part = |name: &str| connector[name].as_str().unwrap_or_default();
    let (provider, tenant) = (part("provider"), query_value(part("tenant_id")));
    let shown = server.get(&format!("{CONNECTORS}/{provider}?tenant_id={tenant}")).await;
    let field = Provider::named(provider).and_then(Provider::bucket_field);
    match (shown, field) {
        (Ok(shown), Some(field)) => shown["config"][field].clone(),
        _ => Value::Null,
    }
}

/// The instant so long ago.
fn ago(age: Duration) -> OffsetDateTime {
    let then = SystemTime::now().checked_sub(age);
    then.map_or(OffsetDateTime::UNIX_EPOCH, OffsetDateTime::from)
}
