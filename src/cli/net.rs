//! `activekg net`: the services that a running server is set to use.

use std::time::Duration;

use anyhow::bail;
use clap::{Args, Subcommand};
use reqwest::Url;
use serde_json::{Value, json};
use tokio::net::TcpStream;
use tokio::time::timeout;

use super::queue::common::{Common, print};
use super::remote::Client;
use super::settings::{CONFIG, given};
use crate::http::routes::encode_path;

/// Longest wait for one connection.
const CONNECT_MAX: Duration = Duration::from_secs(5);

/// Try the services that a running server is set to use
#[derive(Args)]
pub(super) struct NetArgs {
    #[command(subcommand)]
    command: NetCommand,
}

#[derive(Subcommand)]
enum NetCommand {
    /// Connect from this machine to every address in the settings and in the connectors
    ///
    /// Nothing is sent. Exits with 1 if one cannot be reached.
    Check(Box<Common>),
}

pub(super) fn run(args: &NetArgs) -> anyhow::Result<()> {
    let NetCommand::Check(common) = &args.command;
    super::runtime()?.block_on(check(common))
}

async fn check(common: &Common) -> anyhow::Result<()> {
    let server = common.remote.needed_server()?;
    let settings = server.get(CONFIG).await?;
    let mut places: Vec<(String, Url)> = Vec::new();
    for (name, value) in given(&settings) {
        let urls = value.split(',').filter_map(address);
        places.extend(urls.map(|url| (name.to_owned(), url)));
    }
    places.extend(of_connectors(&server).await?);
    let (mut results, mut text, mut n_failed) = (Vec::new(), String::new(), 0);
    for (name, url) in &places {
        let place = format!("{}:{}", host(url), url.port_or_known_default().unwrap_or(443));
        let problem = connect(&place).await.err();
        n_failed += usize::from(problem.is_some());
        let said = problem.as_deref().unwrap_or("ok");
        text.push_str(&format!("{name}\t{place}\t{said}\n"));
        results.push(json!({ "setting": name, "address": place, "problem": problem }));
    }
    if places.is_empty() {
        text.push_str("no addresses are set\n");
    }
    print(common, &json!({ "checked": results }), &text)?;
    if n_failed > 0 {
        bail!("{n_failed} of {} addresses cannot be reached", places.len());
    }
    Ok(())
}

/// The addresses that connectors name.
async fn of_connectors(server: &Client) -> anyhow::Result<Vec<(String, Url)>> {
    let list = server.get("/_admin/connectors/").await?;
    let mut places = Vec::new();
    for connector in list["connectors"].as_array().map_or(&[][..], Vec::as_slice) {
        let part = |name: &str| connector[name].as_str().unwrap_or_default();
        let (provider, tenant) = (part("provider"), part("tenant_id"));
        let path = encode_path(tenant).replace('/', "%2F");
        let path = format!("/_admin/connectors/{provider}?tenant_id={path}");
        // One that does not open has no addresses that could be tried.
        let Ok(shown) = server.get(&path).await else { continue };
        for value in shown["config"].as_object().into_iter().flatten().map(|(_, value)| value) {
            let texts = value.as_array().map_or(std::slice::from_ref(value), Vec::as_slice);
            let urls = texts.iter().filter_map(Value::as_str).filter_map(address);
            places.extend(urls.map(|url| (format!("{provider}/{tenant}"), url)));
        }
    }
    Ok(places)
}

/// The address, if a value is one.
fn address(value: &str) -> Option<Url> {
    let url = Url::parse(value.trim()).ok()?;
    (matches!(url.scheme(), "http" | "https") && url.has_host()).then_some(url)
}

fn host(url: &Url) -> &str {
    url.host_str().unwrap_or_default()
}

async fn connect(place: &str) -> Result<(), String> {
    match timeout(CONNECT_MAX, TcpStream::connect(place)).await {
        Ok(Ok(_)) => Ok(()),
        Ok(Err(error)) => Err(error.to_string()),
        Err(_) => Err(format!("no answer within {} s", CONNECT_MAX.as_secs())),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn addresses_are_told_from_other_values() {
        for value in ["true", "127.0.0.1:8000", "/srv/kg", "s3://bucket/prefix", "file:///a"] {
            assert!(address(value).is_none(), "{value}");
        }
        let url = address(" https://***@api.example:8443/v1?*** ").expect("an address");
        assert_eq!((host(&url), url.port()), ("api.example", Some(8443)));
    }
}
