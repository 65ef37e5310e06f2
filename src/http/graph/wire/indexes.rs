//! Looking after the vector indexes.

use serde::Serialize;
use serde_json::Value;

use crate::http::extract::Input;
use crate::http::validate::{At, Checked};

/// Types one call may list.
const TYPES_MAX: usize = 10;
/// Characters in a word at most.
const WORD_MAX: usize = 100;

/// Body of POST /admin/indexes. What the words mean is the route's to say.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct IndexesRequest {
    /// What to do.
    pub action: String,
    /// The types to do it to; those of the settings if not given.
    pub types: Option<Vec<String>>,
    /// How the vectors are compared; as the settings say if not given.
    pub metric: Option<String>,
}

impl Input for IndexesRequest {
    fn parse(body: &Value) -> Checked<Self> {
        let word = |at: At<'_>| at.string_of(1, WORD_MAX);
        let mut fields = At::body(body).fields()?;
        let action = fields.required("action", word);
        let types = fields.nullable("types", |at| at.list_of(1, TYPES_MAX, word));
        let metric = fields.nullable("metric", word);
        fields.finish().map(|()| Self { action, types, metric })
    }
}

/// Answer of /admin/indexes.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct IndexesAnswer {
    /// What was done.
    pub action: &'static str,
    /// How the vectors are compared.
    pub metric: &'static str,
    /// The types it was done to.
    pub requested: Vec<&'static str>,
    /// The indexes that are in place now.
    pub existing: Vec<String>,
    /// Those that are new or are being built.
    pub created: Vec<String>,
    /// Those that are gone.
    pub dropped: Vec<String>,
}
