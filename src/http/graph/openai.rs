//! The routes that OpenAI's clients know: vectors, answers, models.

pub(super) mod chat;
mod cut;
pub(super) mod embeddings;

use axum::extract::State;

use super::access::Who;
use super::wire::openai::{ModelList, ModelView};
use crate::app::App;
use crate::ask::WriterName;
use crate::auth::Access;
use crate::auth::tenancy::OpenTenant::NamedOrDefault;
use crate::http::error::ApiError;
use crate::http::extract::Reply;

/// GET /v1/models: the embedder, and the writer of answers unless answers are off.
pub(super) async fn models(
    State(app): State<App>,
    Who(caller): Who,
) -> Result<Reply<ModelList>, ApiError> {
    app.view(&caller, Access::Read, None, NamedOrDefault)?;
    let up = i64::try_from(app.started.elapsed().as_secs()).unwrap_or(i64::MAX);
    let created = unix_now(&app).saturating_sub(up);
    let names = [Some(app.embedder.fixed().model().name.clone()), writer(&app)];
    let view = |id| ModelView { id, object: "model", created, owned_by: "activekg" };
    let data = names.into_iter().flatten().map(view).collect();
    Ok(Reply(ModelList { object: "list", data }))
}

/// The name of what writes answers: its model, else its kind; none when answers are off.
fn writer(app: &App) -> Option<String> {
    let WriterName { backend, model } = app.ask.writer_name()?;
    Some(model.unwrap_or_else(|| backend.to_owned()))
}

/// Seconds since 1970.
fn unix_now(app: &App) -> i64 {
    app.clock.now().get().div_euclid(1_000_000)
}
