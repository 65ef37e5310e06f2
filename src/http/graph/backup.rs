//! Backups, for whoever answers for the data of all tenants.

use axum::extract::{Path, State};
use serde_json::{Value, json};

use super::access::Who;
use super::wire::backup::BackupRequest;
use crate::app::App;
use crate::auth::tenancy::OpenTenant;
use crate::auth::{Access, Caller};
use crate::backup::{self, ArchiveName, Error};
use crate::config::Place;
use crate::http::error::{ApiError, ErrorKind};
use crate::http::extract::{JsonBody, Reply};

/// POST /admin/backup.
pub(super) async fn create(
    State(app): State<App>,
    Who(caller): Who,
    JsonBody(BackupRequest { to }): JsonBody<BackupRequest>,
) -> Result<Reply<Value>, ApiError> {
    admit(&app, &caller)?;
    let to = match to {
        None => None,
        // Anybody else could have the server write wherever it can.
        Some(_) if !caller.local => {
            return Err(ApiError::new(
                ErrorKind::Forbidden,
                "only the administrator on the server's machine chooses where a backup goes",
            ));
        }
        Some(to) => {
            let refused = |fault| ApiError::new(ErrorKind::BadRequest, fault);
            let place = Place::parse(&to).map_err(refused)?;
            if matches!(&place, Place::Folder(path) if path.is_relative()) {
                return Err(refused("the folder needs a whole path".to_owned()));
            }
            let target = backup::target::open(&place, &app.config.backup.clouds);
            Some(target.map_err(|error| refused(error.to_string()))?)
        }
    };
    let created = app.backups.create(to, Box::new(|_| ())).await.map_err(failed)?;
    Ok(Reply(backup::created(&created)))
}

/// GET /admin/backups.
pub(super) async fn list(
    State(app): State<App>,
    Who(caller): Who,
) -> Result<Reply<Value>, ApiError> {
    admit(&app, &caller)?;
    let listed = app.backups.list().await.map_err(failed)?;
    let listed: Vec<Value> = listed.iter().map(backup::listed).collect();
    Ok(Reply(json!({ "backups": listed })))
}

/// POST /admin/backups/{name}/verify.
pub(super) async fn verify(
    State(app): State<App>,
    Who(caller): Who,
    Path(name): Path<String>,
) -> Result<Reply<Value>, ApiError> {
    admit(&app, &caller)?;
    let name: ArchiveName =
        name.parse().map_err(|_| ApiError::not_found("there is no such archive"))?;
    let trial = app.backups.verify(name).await.map_err(failed)?;
    Ok(Reply(backup::tried(&trial, app.clock.now())))
}

fn admit(app: &App, caller: &Caller) -> Result<(), ApiError> {
    app.view(caller, Access::Operate, None, OpenTenant::Default).map(drop)
}

fn failed(error: Error) -> ApiError {
    if let Some(fault) = error.bucket() {
        return ApiError::new(ErrorKind::Unavailable, format!("Backup failed: {fault}"));
    }
    let text = error.to_string();
    match error {
        Error::Busy => ApiError::conflict(text),
        Error::NotFound(_) => ApiError::not_found("there is no such archive"),
        Error::NoSpace { path: _, free, needed } => {
            let full = ApiError::insufficient_storage("not enough space for a backup");
            full.with_member("free_bytes", free).with_member("needed_bytes", needed)
        }
        // The archive's fault, and what its owner has to know.
        Error::NoKey
        | Error::WrongKey(_)
        | Error::Archive(_)
        | Error::Trial(_)
        | Error::NotAsWritten => ApiError::new(ErrorKind::Internal, text),
        inside @ (Error::Target(_)
        | Error::Backup(_)
        | Error::Store(_)
        | Error::Open(_)
        | Error::Panicked) => ApiError::internal("Backup failed", inside),
    }
}
