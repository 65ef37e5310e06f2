//! What each command does.

use activekg_storage::StorageError;
use serde_json::{Value, json};

use super::frame::{Reply, Words};
use super::key::{Key, matches};
use super::lists::{List, names};
use crate::app::App;
use crate::connectors::{Change, queue as changes};
use crate::graph;
use crate::queues::Error;

/// The one channel there is.
const CHANNEL: &str = "connector:config:changed";

/// Carries out a command of somebody who may.
pub(super) async fn run(app: &App, words: &Words) -> Reply {
    let Some((name, arguments)) = words.split_first() else { return unknown("") };
    let name = String::from_utf8_lossy(name).to_ascii_uppercase();
    match dispatch(app, &name, arguments).await {
        Ok(reply) => reply,
        Err(error) => Reply::refused(error),
    }
}

fn unknown(name: &str) -> Reply {
    Reply::refused(format!("unknown command '{name}'"))
}

async fn dispatch(app: &App, name: &str, arguments: &[Vec<u8>]) -> Result<Reply, Error> {
    let wrong = || {
        Reply::refused(format!("wrong number of arguments for '{}' command", name.to_lowercase()))
    };
    Ok(match (name, arguments) {
        ("PING", []) => Reply::Simple("PONG"),
        ("PING", [text]) => Reply::text(String::from_utf8_lossy(text)),
        ("SELECT", [n]) if n == b"0" => Reply::Simple("OK"),
        ("SELECT", [_]) => Reply::refused("DB index is out of range"),
        ("LLEN" | "ZCARD", [key]) => Reply::count(len(app, key).await?),
        ("LINDEX", [key, at]) => index(app, key, at).await?,
        ("LRANGE", [key, start, stop]) => range(app, key, start, stop).await?,
        ("LTRIM", [key, start, stop]) => trim(app, key, start, stop).await?,
        ("LPUSH", [key, items @ ..]) if !items.is_empty() => push(app, key, items).await?,
        ("DEL", keys) if !keys.is_empty() => clear(app, keys).await?,
        ("EXISTS", keys) if !keys.is_empty() => exists(app, keys).await?,
        ("GET", [key]) => get(app, key).await?,
        ("KEYS", [pattern]) => Reply::Array(found(app, pattern).await?),
        ("SCAN", [cursor, rest @ ..]) => scan(app, cursor, rest).await?,
        ("SMEMBERS", [key]) => members(app, key).await?,
        ("PUBSUB", [what]) if what.eq_ignore_ascii_case(b"channels") => channels(app, b"*"),
        ("PUBSUB", [what, pattern]) if what.eq_ignore_ascii_case(b"channels") => {
            channels(app, pattern)
        }
        ("PUBLISH", [channel, message]) => publish(app, channel, message),
        ("FLUSHDB", _) => {
            // Of a cache, and of nothing else.
            let _n_forgotten = app.connectors.flush();
            Reply::Simple("OK")
        }
        ("INFO", _) => Reply::text(info(app)),
        (
            "PING" | "SELECT" | "LLEN" | "ZCARD" | "LINDEX" | "LRANGE" | "LTRIM" | "LPUSH" | "DEL"
            | "EXISTS" | "GET" | "KEYS" | "SCAN" | "SMEMBERS" | "PUBSUB" | "PUBLISH",
            _,
        ) => wrong(),
        _ => unknown(name),
    })
}

fn number(text: &[u8]) -> Option<i64> {
    std::str::from_utf8(text).ok()?.parse().ok()
}

fn not_a_number() -> Reply {
    Reply::refused("value is not an integer or out of range")
}

async fn len(app: &App, key: &[u8]) -> Result<u64, Error> {
    let Some(key) = Key::parse(key) else { return Ok(0) };
    match List::of(app, &key)? {
        Some(list) => list.len().await,
        None => Ok(0),
    }
}

async fn range(app: &App, key: &[u8], start: &[u8], stop: &[u8]) -> Result<Reply, Error> {
    let (Some(start), Some(stop)) = (number(start), number(stop)) else {
        return Ok(not_a_number());
    };
    let Some(key) = Key::parse(key) else { return Ok(Reply::Array(Vec::new())) };
    match List::of(app, &key)? {
        Some(list) => list.range(start, stop).await,
        None => Ok(Reply::Array(Vec::new())),
    }
}

async fn index(app: &App, key: &[u8], at: &[u8]) -> Result<Reply, Error> {
    let Some(n) = number(at) else { return Ok(not_a_number()) };
    // Beyond the beginning there is nothing; a range would begin with the first.
    if n < 0 && n.unsigned_abs() > len(app, key).await? {
        return Ok(Reply::Bulk(None));
    }
    Ok(match range(app, key, at, at).await? {
        Reply::Array(mut one) => one.pop().unwrap_or(Reply::Bulk(None)),
        refused => refused,
    })
}

/// Keeps the first items, which are the newest.
async fn trim(app: &App, key: &[u8], start: &[u8], stop: &[u8]) -> Result<Reply, Error> {
    let (Some(start), Some(stop)) = (number(start), number(stop)) else {
        return Ok(not_a_number());
    };
    let Some(key) = Key::parse(key) else { return Ok(Reply::Simple("OK")) };
    let Some(list) = List::of(app, &key)? else { return Ok(Reply::Simple("OK")) };
    let keep = match (start, stop) {
        (0, -1) => return Ok(Reply::Simple("OK")),
        (0, stop) if stop >= 0 => stop.unsigned_abs() + 1,
        (start, stop) if start > 0 && (0..start).contains(&stop) => 0,
        _ => return Ok(Reply::refused("only the newest items can be kept: LTRIM key 0 n")),
    };
    Ok(match list.trim(keep).await? {
        true => Reply::Simple("OK"),
        false => Reply::refused("only queues of changes can be trimmed"),
    })
}

async fn push(app: &App, key: &[u8], items: &[Vec<u8>]) -> Result<Reply, Error> {
    let Some(Key::Changes(provider, tenant)) = Key::parse(key) else {
        return Ok(Reply::refused(
            "only queues of changes, connector:PROVIDER:TENANT:queue, take items",
        ));
    };
    let mut found = Vec::with_capacity(items.len());
    for item in items {
        match Change::parse(item) {
            Ok(change) => found.push(change),
            Err(error) => return Ok(Reply::refused(error)),
        }
    }
    let (owner, now) = (tenant.clone(), app.clock.now());
    let pushed = app.graph.store().write(move |tx| -> Result<usize, StorageError> {
        changes::enqueue(tx, &owner, provider, &found, now)
    });
    pushed.await?;
    Ok(Reply::count(len(app, key).await?))
}

async fn clear(app: &App, keys: &[Vec<u8>]) -> Result<Reply, Error> {
    let mut cleared = 0;
    for key in keys {
        let Some(key) = Key::parse(key) else { continue };
        let list = List::of(app, &key)?;
        let done = match &list {
            Some(list) => list.clear().await?,
            None => None,
        };
        match done {
            Some(n) => cleared += i64::from(n > 0),
            None => return Ok(Reply::refused("only lists of dead letters can be deleted")),
        }
    }
    Ok(Reply::Integer(cleared))
}

/// What a counter stands at; nothing for one that is not there.
async fn counter(app: &App, key: &Key) -> Result<Option<u64>, Error> {
    let pending = match key {
        Key::Pending(node) => {
            let (graph, node) = (app.graph.clone(), *node);
            u64::from(graph.has_job(node).await.map_err(of_graph)?)
        }
        Key::TenantPending(tenant) => {
            let counts = app.graph.status_counts(Some(tenant.clone())).await;
            counts.map_err(of_graph)?.pending
        }
        _ => 0,
    };
    Ok((pending > 0).then_some(pending))
}

fn of_graph(error: graph::Error) -> Error {
    match error {
        graph::Error::Storage(error) => Error::Storage(error),
        _ => Error::Interrupted,
    }
}

async fn exists(app: &App, keys: &[Vec<u8>]) -> Result<Reply, Error> {
    let mut n = 0;
    for name in keys {
        let Some(key) = Key::parse(name) else { continue };
        let is_there = match key {
            Key::Pending(_) | Key::TenantPending(_) => counter(app, &key).await?.is_some(),
            Key::ActiveTenants => !active(app).await?.is_empty(),
            _ => len(app, name).await? > 0,
        };
        n += i64::from(is_there);
    }
    Ok(Reply::Integer(n))
}

async fn get(app: &App, key: &[u8]) -> Result<Reply, Error> {
    match Key::parse(key) {
        Some(key @ (Key::Pending(_) | Key::TenantPending(_))) => {
            Ok(Reply::Bulk(counter(app, &key).await?.map(|n| n.to_string())))
        }
        Some(_) => {
            let text = "WRONGTYPE Operation against a key holding the wrong kind of value";
            Ok(Reply::Error(text.to_owned()))
        }
        None => Ok(Reply::Bulk(None)),
    }
}

async fn found(app: &App, pattern: &[u8]) -> Result<Vec<Reply>, Error> {
    let mut names = names(app).await?;
    if !active(app).await?.is_empty() {
        names.push(Key::ActiveTenants.to_string());
    }
    names.retain(|name| matches(pattern, name.as_bytes()));
    Ok(names.into_iter().map(Reply::text).collect())
}

/// Everything in one go: there are few names.
async fn scan(app: &App, cursor: &[u8], rest: &[Vec<u8>]) -> Result<Reply, Error> {
    if number(cursor).is_none() {
        return Ok(Reply::refused("invalid cursor"));
    }
    let mut pattern: &[u8] = b"*";
    for pair in rest.chunks(2) {
        match pair {
            [name, value] if name.eq_ignore_ascii_case(b"match") => pattern = value,
            [name, _] if name.eq_ignore_ascii_case(b"count") => {}
            _ => return Ok(Reply::refused("syntax error")),
        }
    }
    Ok(Reply::Array(vec![Reply::text("0"), Reply::Array(found(app, pattern).await?)]))
}

/// The connectors that run, as scripts know them.
async fn active(app: &App) -> Result<Vec<Value>, Error> {
    let listed = app.connectors.list(None).await;
    let listed = listed.map_err(|error| match error {
        crate::connectors::Error::Storage(error) => Error::Storage(error),
        _ => Error::Interrupted,
    })?;
    let running = listed.into_iter().filter(|connector| connector.enabled);
    let named = running.map(|connector| {
        json!({ "provider": connector.provider, "tenant_id": connector.tenant.as_str() })
    });
    Ok(named.collect())
}

async fn members(app: &App, key: &[u8]) -> Result<Reply, Error> {
    if Key::parse(key) != Some(Key::ActiveTenants) {
        return Ok(Reply::Array(Vec::new()));
    }
    let members = active(app).await?;
    Ok(Reply::Array(members.into_iter().map(|one| Reply::text(one.to_string())).collect()))
}

fn channels(app: &App, pattern: &[u8]) -> Reply {
    let listens = app.connectors.subscriber().is_some_and(|subscriber| subscriber.connected);
    let fits = listens && matches(pattern, CHANNEL.as_bytes());
    Reply::Array(fits.then(|| Reply::text(CHANNEL)).into_iter().collect())
}

/// Takes a message as the bus does; how many listen.
fn publish(app: &App, channel: &[u8], message: &[u8]) -> Reply {
    if channel != CHANNEL.as_bytes() {
        return Reply::Integer(0);
    }
    Reply::Integer(i64::from(app.connectors.hear(message)))
}

fn info(app: &App) -> String {
    format!(
        "# Server\r\nredis_version:7.0.0\r\nserver_name:activekg\r\nactivekg_version:{}\r\nprocess_id:{}\r\nuptime_in_seconds:{}\r\n",
        app.config.server.version,
        std::process::id(),
        app.started.elapsed().as_secs()
    )
}
