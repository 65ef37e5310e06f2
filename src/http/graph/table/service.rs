//! Routes that no token is needed for.

use super::{HTML, JSON_ANY, open};
use crate::http::routes::{Answer, Route};

pub(super) const ROUTES: &[Route] = &[
    open("/health", "Say that the process is alive", JSON_ANY),
    open("/readyz", "Say whether everything serves", JSON_ANY),
    open("/metrics", "Show metrics, as JSON unless Accept asks for text", JSON_ANY),
    open("/prometheus", "Show metrics in the exposition format", Answer::Text("text/plain")),
    open("/openapi.json", "Describe this API", JSON_ANY),
    open("/docs", "Show this API in a browser", HTML),
    open("/redoc", "Show this API in a browser", HTML),
    open("/demo", "Try it in a browser", HTML),
];
