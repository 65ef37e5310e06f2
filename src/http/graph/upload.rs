//! Files that become documents.

use axum::extract::State;

use super::access::Who;
use super::failure::of_graph;
use super::wire::upload::{Upload, UploadAnswer, UploadFile, UploadedFile};
use crate::app::App;
use crate::auth::Access;
use crate::auth::tenancy::OpenTenant::NamedOrDefault;
use crate::documents::{File, Outcome};
use crate::http::error::ApiError;
use crate::http::extract::Reply;
use crate::http::multipart::FormBody;

/// POST /upload.
pub(super) async fn upload(
    State(app): State<App>,
    Who(caller): Who,
    FormBody(form): FormBody<Upload>,
) -> Result<Reply<UploadAnswer>, ApiError> {
    let Upload { files, classes, tenant_id } = form;
    let view = app.view(&caller, Access::Write, tenant_id.as_deref(), NamedOrDefault)?;
    let max = app.config.limits.upload_max_files;
    if files.len() > max {
        return Err(ApiError::bad_request(format!("Too many files (max {max})")));
    }
    let names: Vec<String> = files.iter().map(|file| file.name.clone()).collect();
    let files = files.into_iter().map(file).collect();
    let outcomes = app.intake.upload(view.tenant(), files, &classes).await;
    let outcomes = outcomes.map_err(|error| of_graph(error, Some("Upload failed")))?;
    Ok(Reply(answer(names, outcomes, app.graph.settings().report_jobs)))
}

fn file(file: UploadFile) -> File {
    let UploadFile { name, content_type, bytes } = file;
    File { name, content_type, bytes }
}

fn answer(names: Vec<String>, outcomes: Vec<Outcome>, report_jobs: bool) -> UploadAnswer {
    let mut answer = UploadAnswer {
        uploaded: 0,
        skipped: 0,
        chunks_created: 0,
        embeddings_queued: 0,
        files: Vec::with_capacity(names.len()),
    };
    for (filename, outcome) in names.into_iter().zip(outcomes) {
        let (chunks, status, reason) = match outcome {
            Outcome::Stored { chunks, queued } => {
                answer.uploaded += 1;
                answer.chunks_created += chunks;
                answer.embeddings_queued += if report_jobs { queued } else { 0 };
                (chunks, "ok".to_owned(), None)
            }
            Outcome::Skipped(reason) => {
                answer.skipped += 1;
                (0, "skipped".to_owned(), Some(reason))
            }
            Outcome::Failed(reason) => {
                answer.skipped += 1;
                (0, format!("error: {reason}"), None)
            }
        };
        answer.files.push(UploadedFile { filename, chunks, status, reason });
    }
    answer
}
