//! Looking after the store while it is in use: what `activekg db` asks a running server.

use std::convert::Infallible;
use std::sync::Arc;

use activekg_storage::check::{self, CheckOptions};
use activekg_storage::scrub::{self, Scrub};
use activekg_storage::{ReadTx, Readable, Scan, Store, changes, queue};
use axum::body::Body;
use axum::extract::State;
use axum::http::{HeaderValue, StatusCode};
use axum::response::Response;
use bytes::Bytes;
use futures_util::stream;
use serde_json::{Value, json};
use tokio::sync::{OwnedSemaphorePermit, mpsc};

use super::access::Who;
use crate::app::App;
use crate::auth::Access;
use crate::auth::tenancy::OpenTenant;
use crate::graph;
use crate::http::dialect::with_type;
use crate::http::error::ApiError;
use crate::http::extract::{Input, JsonBody, Reply};
use crate::http::validate::{At, Checked};
use crate::queues;

/// Lines that wait for a client which reads slowly.
const LINES: usize = 16;
/// Rows looked at through one snapshot.
const STEP_ROWS: u64 = 10_000;
/// The same in bytes.
const STEP_BYTES: u64 = 8 << 20;

/// The type of an answer in lines of JSON.
const JSON_LINES: HeaderValue = HeaderValue::from_static("application/x-ndjson");

/// The body of a check.
pub(super) struct CheckRequest {
    isolation: bool,
}

impl Input for CheckRequest {
    fn parse(body: &Value) -> Checked<Self> {
        if body.is_null() {
            return Ok(Self { isolation: false });
        }
        let mut fields = At::body(body).fields()?;
        let isolation = fields.optional("isolation", false, |at| at.bool());
        fields.finish()?;
        Ok(Self { isolation })
    }
}

/// POST /_admin/db/check: compares every row with its checksum and rows with each other. Answers in
/// lines of JSON, `{"table", "rows"}` as it goes on and `{"report"}` at the end.
pub(super) async fn check(
    State(app): State<App>,
    Who(caller): Who,
    JsonBody(request): JsonBody<CheckRequest>,
) -> Result<Response, ApiError> {
    app.view(&caller, Access::Operate, None, OpenTenant::Default)?;
    let Ok(permit) = app.checking.clone().try_acquire_owned() else {
        return Err(ApiError::conflict("A check is under way already"));
    };
    let (lines, mut sent) = mpsc::channel(LINES);
    let store = app.graph.store().clone();
    let data_dir = app.config.store.data_dir.clone();
    tokio::task::spawn_blocking(move || {
        let file_bytes = data_dir.join("store.redb").metadata().map_or(0, |file| file.len());
        let work = Work { store, lines, isolation: request.isolation, _permit: permit };
        // Without anybody to tell, the work is not needed either.
        let _ = work.run(file_bytes);
    });
    let lines = stream::poll_fn(move |cx| sent.poll_recv(cx));
    let lines = futures_util::StreamExt::map(lines, Ok::<Bytes, Infallible>);
    Ok(with_type(StatusCode::OK, JSON_LINES, Body::from_stream(lines)))
}

/// A check under way.
struct Work {
    store: Arc<Store>,
    lines: mpsc::Sender<Bytes>,
    isolation: bool,
    _permit: OwnedSemaphorePermit,
}

/// The client has gone away.
struct Gone;

impl Work {
    fn run(&self, file_bytes: u64) -> Result<(), Gone> {
        match self.report(file_bytes)? {
            Ok(report) => self.tell(&json!({ "report": report })),
            Err(error) => self.tell(&json!({ "error": format!("check the store: {error}") })),
        }
    }

    fn report(&self, file_bytes: u64) -> Result<Result<Value, graph::Error>, Gone> {
        let mut scrub = Scrub::default();
        loop {
            let step = match scrub.step(&self.store, STEP_ROWS, STEP_BYTES) {
                Ok(step) => step,
                Err(error) => return Ok(Err(error.into())),
            };
            let Some(table) = step.table else { break };
            self.tell(&json!({ "table": table, "rows": step.rows }))?;
        }
        self.tell(&json!({ "table": "what rows say of each other" }))?;
        let compared = self.store.read().map_err(graph::Error::from).and_then(|tx| {
            let options = CheckOptions { isolation: self.isolation };
            let mut report = check::compare(&tx, scrub.into_reports(), options)?;
            report.file_bytes = file_bytes;
            let counters = if report.is_sound() { graph::wrong_counters(&tx)? } else { Vec::new() };
            Ok((report, counters))
        });
        Ok(compared.map(|(report, counters)| {
            let sound = report.is_sound() && counters.is_empty();
            let mut report = json!(report);
            report["sound"] = sound.into();
            report["counters"] = json!(counters);
            report
        }))
    }

    fn tell(&self, line: &Value) -> Result<(), Gone> {
        self.lines.blocking_send(format!("{line}\n").into()).map_err(|_| Gone)
    }
}

/// GET /_admin/db/stats: what each table holds.
pub(super) async fn stats(
    State(app): State<App>,
    Who(caller): Who,
) -> Result<Reply<Value>, ApiError> {
    app.view(&caller, Access::Operate, None, OpenTenant::Default)?;
    let store = app.graph.store().clone();
    let path = app.config.store.data_dir.join("store.redb");
    let work = move || -> Result<Value, activekg_storage::StorageError> {
        let tx = store.read()?;
        let mut stats = json!({ "tables": scrub::census(&tx) });
        stats["file_bytes"] = path.metadata().map_or(0, |file| file.len()).into();
        stats["change_log"] = change_log(&tx)?;
        for def in queues::defs() {
            stats["queues"][def.name] = json!(queue::depths(&tx, &def)?);
        }
        Ok(stats)
    };
    let done = tokio::task::spawn_blocking(work).await.map_err(ApiError::unhandled)?;
    Ok(Reply(done.map_err(|error| ApiError::internal("Stats failed", error))?))
}

/// The ends of the change log, and who follows it.
fn change_log(tx: &ReadTx) -> Result<Value, activekg_storage::StorageError> {
    let consumers = changes::consumers(tx)?;
    let consumers = consumers.into_iter().map(|consumer| (consumer.name, json!(consumer.seq)));
    Ok(json!({
        "oldest": tx.first(&changes::CHANGES, Scan::all())?.map(|((seq,), _)| seq),
        "newest": changes::newest(tx)?,
        "consumers": consumers.collect::<serde_json::Map<_, _>>(),
    }))
}

/// GET /_admin/db/activity: who reads, who waits, how commits go.
pub(super) async fn activity(
    State(app): State<App>,
    Who(caller): Who,
) -> Result<Reply<Value>, ApiError> {
    app.view(&caller, Access::Operate, None, OpenTenant::Default)?;
    let store = app.graph.store();
    let (stats, readers) = (store.stats(), store.readers());
    Ok(Reply(json!({
        "writable": stats.writable,
        "fault": store.fault().map(|fault| fault.to_string()),
        "readers": {
            "open": readers.n_open,
            "oldest_seconds": readers.oldest.map(|age| age.as_secs_f64()),
        },
        "writer": {
            "waiting": stats.n_waiting,
            "commits": stats.commits,
            "changes": stats.changes,
            "changes_failed": stats.changes_failed,
            "rows": stats.rows,
            "changes_per_commit": stats.batch_changes.mean(),
            "commit_seconds_mean": stats.commit_seconds.mean(),
            "commit_seconds_max": stats.commit_max.as_secs_f64(),
        },
        "last_seq": store.last_seq(),
        "uptime_seconds": app.started.elapsed().as_secs_f64(),
    })))
}
