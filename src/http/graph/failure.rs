//! What the errors of the areas are in HTTP.

use activekg_storage::StorageError;

use crate::graph;
use crate::http::error::ApiError;
use crate::search;

/// What to do about a disk that fails.
const UNAVAILABLE: &str = "Storage unavailable: writes are refused until the disk has been checked and the server restarted";

/// The answer to an error of the graph. Where the cause is inside, the client reads `prefix` and
/// no more; without a prefix the answer is the one of an unexpected error.
pub(super) fn of_graph(error: graph::Error, prefix: Option<&'static str>) -> ApiError {
    let text = error.to_string();
    match error {
        graph::Error::NodeNotFound => ApiError::not_found(text),
        graph::Error::ExternalIdTaken { existing } => {
            ApiError::conflict(text).with_member("id", existing.to_string())
        }
        graph::Error::PatternNotFound(_) => ApiError::not_found(text),
        graph::Error::EdgeExists | graph::Error::TooManyPatterns => ApiError::conflict(text),
        graph::Error::QueueFull | graph::Error::TenantQueueFull => ApiError::too_many(text, 1),
        graph::Error::NoSpace { .. } => ApiError::insufficient_storage(text),
        graph::Error::Storage(inside @ StorageError::Unavailable { .. }) => {
            ApiError::unavailable(UNAVAILABLE).with_source(inside)
        }
        inside @ (graph::Error::BadJson(_)
        | graph::Error::Storage(_)
        | graph::Error::Interrupted) => match prefix {
            Some(prefix) => ApiError::internal(prefix, inside),
            None => ApiError::unhandled(inside),
        },
    }
}

/// The answer to an error of a search.
pub(super) fn of_search(error: search::Error, prefix: &'static str) -> ApiError {
    match error {
        search::Error::Graph(error) => of_graph(error, Some(prefix)),
        inside => ApiError::internal(prefix, inside),
    }
}
