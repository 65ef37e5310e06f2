//! `activekg status`: how the running server is.

use std::fmt::Write as _;

use anyhow::bail;
use serde_json::{Value, json};

use super::bus::{self, CHANNEL};
use super::queue::common::{Common, print};
use super::queue::table;

pub(super) fn run(common: &Common) -> anyhow::Result<()> {
    super::runtime()?.block_on(status(common))
}

async fn status(common: &Common) -> anyhow::Result<()> {
    let server = common.remote.needed_server()?;
    let health = server.get("/health").await?;
    let (is_ready, ready) = server.look("/readyz").await?;
    let ready: Value = serde_json::from_str(&ready).unwrap_or_default();
    let bus = server.get(bus::HEALTH).await?;
    let queues = server.get("/admin/queues").await?;
    let mut text = format!(
        "server  {}, version {}, up for {:.0} s\n",
        health["status"].as_str().unwrap_or("-"),
        health["version"].as_str().unwrap_or("-"),
        health["uptime_seconds"].as_f64().unwrap_or(0.0),
    );
    let problems = ready["problems"].as_array().map_or(&[][..], Vec::as_slice);
    let problems: Vec<&str> = problems.iter().filter_map(Value::as_str).collect();
    let _ = match is_ready {
        true => writeln!(text, "ready   yes"),
        false => writeln!(text, "ready   no: {}", problems.join("; ")),
    };
    let _ = writeln!(text, "bus     {} {CHANNEL}", bus["status"].as_str().unwrap_or("-"));
    text.push_str(&table(&queues));
    let answer = json!({
        "health": health, "ready": is_ready, "problems": problems, "bus": bus,
        "queues": queues["queues"],
    });
    print(common, &answer, &text)?;
    if !is_ready {
        bail!("the server is not ready");
    }
    Ok(())
}
