//! `activekg connectors test` and `stat`: looking at the source of a connector, as it is now.

use anyhow::{Context as _, bail};
use clap::{Args, value_parser};
use serde_json::{Value, json};

use super::{Common, OneArgs, print};
use crate::connectors::Provider;

#[derive(Args)]
pub(super) struct TestArgs {
    /// List the objects below this prefix [default: look at one object only]
    #[arg(long, value_name = "PREFIX")]
    list: Option<String>,
    /// List at most so many, 1 to 1000
    #[arg(long, value_name = "N", default_value_t = 100, value_parser = value_parser!(u16).range(1..=1000))]
    limit: u16,
    #[command(flatten)]
    one: OneArgs,
}

#[derive(Args)]
pub(super) struct StatArgs {
    /// Address of the object, such as s3://bucket/key
    #[arg(long, value_name = "URI")]
    uri: String,
    /// Read the object, and tell its type by its bytes
    #[arg(long)]
    detect: bool,
    /// Tenant of the connector that reads it
    #[arg(long, value_name = "TENANT", default_value = "default")]
    tenant: String,
    #[command(flatten)]
    common: Common,
}

pub(super) async fn test(args: &TestArgs) -> anyhow::Result<()> {
    let TestArgs { list, limit, one } = args;
    let body = json!({ "tenant_id": one.tenant, "list": list, "limit": limit });
    let answer = tried(&one.common, &one.provider, &body).await?;
    let mut text = String::new();
    for object in answer["objects"].as_array().map_or(&[][..], Vec::as_slice) {
        text.push_str(&row(object));
    }
    if answer["more"] == true {
        text.push_str("there are more\n");
    }
    if list.is_none() {
        text = format!("{}\n", answer["message"].as_str().unwrap_or("done"));
    }
    print(&one.common, &answer, &text)
}

pub(super) async fn stat(args: &StatArgs) -> anyhow::Result<()> {
    let StatArgs { uri, detect, tenant, common } = args;
    let provider = Provider::of_uri(uri).with_context(|| {
        format!("no provider has addresses like {uri}; they begin with s3://, gs://, drive://, azure://, file://, https:// or http://")
    })?;
    let body = json!({ "tenant_id": tenant, "uri": uri, "detect": detect });
    let answer = tried(common, provider.as_str(), &body).await?;
    let object = &answer["object"];
    let mut text = row(object);
    if let Some(detected) = object["detected_type"].as_str() {
        text.push_str(&format!("by its bytes: {detected}\n"));
    }
    print(common, &answer, &text)
}

/// What the trial of a connector says, if it is a success.
async fn tried(common: &Common, provider: &str, body: &Value) -> anyhow::Result<Value> {
    let server = common.remote.needed_server()?;
    let answer = server.post(&format!("{}/{provider}/test", super::CONNECTORS), body).await?;
    if answer["status"] != "success" {
        let part = |name: &str| answer[name].as_str().unwrap_or("unknown");
        bail!("{}: {}", part("error_type"), part("message"));
    }
    Ok(answer)
}

/// Size, type, version, time of the last change, and address of an object.
fn row(object: &Value) -> String {
    let cells =
        ["size", "content_type", "etag", "modified_at", "uri"].map(|name| match &object[name] {
            Value::String(text) => text.clone(),
            Value::Null => "-".to_owned(),
            other => other.to_string(),
        });
    format!("{}\n", cells.join("\t"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_object_is_a_line() {
        let object = json!({ "uri": "gs://b/k", "size": 41, "content_type": "text/plain" });
        assert_eq!(row(&object), "41\ttext/plain\t-\t-\tgs://b/k\n");
    }
}
