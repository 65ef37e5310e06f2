//! POST /v1/embeddings.

use std::sync::Arc;

use axum::extract::State;
use axum::http::HeaderValue;
use axum::http::header::RETRY_AFTER;
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;

use super::super::access::Who;
use super::super::wire::openai::{
    EmbeddingUsage, EmbeddingView, EmbeddingsAnswer, EmbeddingsRequest, Encoding, VectorView,
    estimated_tokens,
};
use crate::app::App;
use crate::auth::Access;
use crate::auth::tenancy::OpenTenant::NamedOrDefault;
use crate::embedding::{EmbedError, FixedEmbedder};
use crate::graph::View;
use crate::http::error::ApiError;
use crate::http::extract::{JsonBody, Reply};

/// What a client reads of a failure inside.
const FAILED: &str = "Embedding failed";

/// POST /v1/embeddings. Each vector is the one that a node of this text has: of what the model
/// reads of its beginning.
pub(in crate::http::graph) async fn create(
    State(app): State<App>,
    Who(caller): Who,
    JsonBody(body): JsonBody<EmbeddingsRequest>,
) -> Result<Reply<EmbeddingsAnswer>, ApiError> {
    let EmbeddingsRequest { input, encoding, dimensions, tenant_id } = body;
    let view = app.view(&caller, Access::Read, tenant_id.as_deref(), NamedOrDefault)?;
    let embedder = app.embedder.fixed();
    let dim = embedder.model().dim;
    if dimensions.is_some_and(|wanted| usize::try_from(wanted) != Ok(dim)) {
        let name = &embedder.model().name;
        let message = format!("dimensions: the vectors of {name} have {dim} numbers, no others");
        return Err(ApiError::bad_request(message));
    }
    let tokens = count_tokens(&embedder, input.clone()).await?;
    let vectors = vectors(&embedder, &view, input).await.map_err(of_embedding)?;
    let view = |(index, vector): (usize, Vec<f32>)| {
        let embedding = match encoding {
            Encoding::Float => VectorView::Float(vector),
            Encoding::Base64 => {
                let bytes: Vec<u8> =
                    vector.iter().flat_map(|number| number.to_le_bytes()).collect();
                VectorView::Base64(STANDARD.encode(bytes))
            }
        };
        EmbeddingView { object: "embedding", index, embedding }
    };
    Ok(Reply(EmbeddingsAnswer {
        object: "list",
        data: vectors.into_iter().enumerate().map(view).collect(),
        model: embedder.model().name.clone(),
        usage: EmbeddingUsage { prompt_tokens: tokens, total_tokens: tokens },
    }))
}

/// One text is most likely a query, which somebody waits for; several are work for later.
async fn vectors(
    embedder: &FixedEmbedder,
    view: &View,
    texts: Vec<String>,
) -> Result<Vec<Vec<f32>>, EmbedError> {
    match texts.as_slice() {
        [text] => Ok(vec![embedder.query(text).await?.to_vec()]),
        _ => embedder.batch(view.tenant(), texts).await,
    }
}

/// What the model reads of `texts`; estimated where only a service knows.
async fn count_tokens(
    embedder: &Arc<FixedEmbedder>,
    texts: Vec<String>,
) -> Result<usize, ApiError> {
    let embedder = embedder.clone();
    let counted = tokio::task::spawn_blocking(move || {
        let estimated = || texts.iter().map(|text| estimated_tokens(text)).sum();
        embedder.count_tokens(&texts).map(|tokens| tokens.unwrap_or_else(estimated))
    });
    let counted = counted.await.map_err(|error| ApiError::internal(FAILED, error))?;
    counted.map_err(of_embedding)
}

fn of_embedding(error: EmbedError) -> ApiError {
    match error {
        EmbedError::Busy => ApiError::unavailable("Too many queries wait for the model already")
            .with_header(RETRY_AFTER, HeaderValue::from_static("1")),
        inside @ (EmbedError::Stopped | EmbedError::Remote(_) | EmbedError::Budget { .. }) => {
            ApiError::unavailable("The embedding model does not answer now").with_source(inside)
        }
        inside @ (EmbedError::Model(_) | EmbedError::Processor(_) | EmbedError::Failed(_)) => {
            ApiError::internal(FAILED, inside)
        }
    }
}
