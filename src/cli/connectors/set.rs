//! `activekg connectors set`: changing single settings of a connector.

use std::io::Read;

use anyhow::{Context as _, bail};
use clap::Args;
use serde_json::{Map, Value, json};

use super::{OneArgs, told};
use crate::connectors::{Kind, Provider};

/// Longest value of a setting that is read from a file, in bytes.
const VALUE_MAX: u64 = 1 << 20;

#[derive(Args)]
pub(super) struct SetArgs {
    #[command(flatten)]
    one: OneArgs,
    /// What changes: name=value, name=@file for what a file holds, name=@- for the standard input;
    /// name= takes a setting away. Settings that are no text are written as JSON
    #[arg(required = true, value_name = "NAME=VALUE")]
    settings: Vec<String>,
}

pub(super) async fn set(args: &SetArgs) -> anyhow::Result<()> {
    let SetArgs { one, settings } = args;
    let provider = Provider::named(&one.provider).context("the provider is not known")?;
    let config = parsed(provider, settings, &mut std::io::stdin())?;
    let body = json!({ "tenant_id": one.tenant, "config": config });
    let server = one.common.remote.needed_server()?;
    told(one, &server.patch(&one.path("/config"), &body).await?)
}

/// The settings that were typed. What is wrong names the setting, never its value: it may be a secret.
fn parsed(
    provider: Provider,
    settings: &[String],
    stdin: &mut impl Read,
) -> anyhow::Result<Map<String, Value>> {
    let mut config = Map::new();
    for setting in settings {
        let Some((name, text)) = setting.split_once('=') else {
            bail!("a setting is written as name=value");
        };
        let given = match text.strip_prefix('@') {
            Some("-") => read(&mut *stdin).context("read the standard input")?,
            Some(file) => std::fs::File::open(file)
                .map_err(anyhow::Error::from)
                .and_then(read)
                .with_context(|| format!("read {file}"))?,
            None => text.to_owned(),
        };
        if config.insert(name.to_owned(), value(provider, name, given)?).is_some() {
            bail!("{name} is given twice");
        }
    }
    Ok(config)
}

fn read(from: impl Read) -> anyhow::Result<String> {
    let mut text = String::new();
    from.take(VALUE_MAX + 1).read_to_string(&mut text)?;
    if text.len() as u64 > VALUE_MAX {
        bail!("it has more than {VALUE_MAX} bytes");
    }
    // Editors end files with a line feed, which is no part of a key.
    Ok(text.trim_end_matches(['\n', '\r']).to_owned())
}

/// A value as its setting wants it. The server has the last word.
fn value(provider: Provider, name: &str, text: String) -> anyhow::Result<Value> {
    if text.is_empty() {
        return Ok(Value::Null);
    }
    let field = provider.fields().find(|field| field.name == name);
    match field.map(|field| &field.kind) {
        Some(Kind::Text | Kind::Path | Kind::Url | Kind::Secret { .. }) => Ok(text.into()),
        // Names that are not of the table are aliases, and those are texts.
        None => Ok(text.into()),
        Some(_) => {
            let value = serde_json::from_str(&text);
            value.ok().with_context(|| format!("{name} is no text: write it as JSON"))
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn set(settings: &[&str], stdin: &str) -> anyhow::Result<Value> {
        let settings: Vec<String> = settings.iter().map(|text| (*text).to_owned()).collect();
        parsed(Provider::Gcs, &settings, &mut stdin.as_bytes()).map(Value::Object)
    }

    #[test]
    fn values_are_typed_read_or_taken_away() {
        let dir = tempfile::tempdir().unwrap();
        let key = dir.path().join("key.json");
        std::fs::write(&key, "{\"type\": \"service_account\"}\n").unwrap();
        let from_file = format!("credentials_json=@{}", key.display());
        let found = set(&[&from_file, "prefix=a=b", "project=", "poll_interval_seconds=60"], "");
        let expected = json!({
            "credentials_json": "{\"type\": \"service_account\"}",
            "prefix": "a=b", "project": null, "poll_interval_seconds": 60,
        });
        assert_eq!(found.unwrap(), expected);
        let found = set(&["credentials_json=@-"], "secret\n").unwrap();
        assert_eq!(found, json!({ "credentials_json": "secret" }));
    }

    #[test]
    fn what_is_wrong_is_named_without_its_value() {
        let canary = "canary-of-a-secret";
        for bad in [
            vec![canary.to_owned()],
            vec![format!("enabled={canary}")],
            vec![format!("prefix={canary}"), "prefix=b".to_owned()],
            vec!["prefix=@/none/there".to_owned()],
        ] {
            let bad: Vec<&str> = bad.iter().map(String::as_str).collect();
            let said = format!("{:#}", set(&bad, "").unwrap_err());
            assert!(!said.contains(canary), "{said}");
        }
        let long = "x".repeat(VALUE_MAX as usize + 1);
        assert!(set(&["prefix=@-"], &long).is_err());
    }
}
