//! Changing the embedding model.

use serde_json::Value;

use super::tenant;
use crate::http::extract::Input;
use crate::http::validate::{At, Checked};
use crate::models::SAMPLE_MAX;

/// Queries of a comparison that does not say how many it wants.
const SAMPLE_DEFAULT: usize = 100;

/// Body of POST /admin/model/change.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ChangeRequest {
    /// The embedder; default the one in this process.
    pub backend: Option<String>,
    /// The model, as `EMBEDDING_MODEL` names it.
    pub model: String,
    /// The address of its service.
    pub base_url: Option<String>,
    /// Numbers in a vector.
    pub dimensions: Option<u32>,
}

impl Input for ChangeRequest {
    fn parse(body: &Value) -> Checked<Self> {
        let mut fields = At::body(body).fields()?;
        let backend = fields.nullable("backend", |at| at.string_of(1, 64));
        let model = fields.required("model", |at| at.string_of(1, 1024));
        let base_url = fields.nullable("base_url", |at| at.string_of(1, 2048));
        let dimensions = fields.nullable("dimensions", |at| at.int_in(1, 16_384));
        let dimensions = dimensions.and_then(|n| u32::try_from(n).ok());
        fields.finish().map(|()| Self { backend, model, base_url, dimensions })
    }
}

/// Body of POST /admin/model/switch, which may be left out.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct SwitchRequest {
    /// Whether nodes that could not be embedded may be left out; default no.
    pub accept_missing: bool,
}

impl Input for SwitchRequest {
    fn parse(body: &Value) -> Checked<Self> {
        if body.is_null() {
            return Ok(Self::default());
        }
        let mut fields = At::body(body).fields()?;
        let accept_missing = fields.optional("accept_missing", false, |at| at.bool());
        fields.finish().map(|()| Self { accept_missing })
    }
}

/// Body of POST /admin/model/compare, which may be left out.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CompareRequest {
    /// Queries taken from nodes; default 100.
    pub sample: usize,
    /// Queries to take instead, to be searched for among the nodes of `tenant_id`.
    pub queries: Vec<String>,
    /// Their tenant.
    pub tenant_id: Option<String>,
}

impl Default for CompareRequest {
    fn default() -> Self {
        Self { sample: SAMPLE_DEFAULT, queries: Vec::new(), tenant_id: None }
    }
}

impl Input for CompareRequest {
    fn parse(body: &Value) -> Checked<Self> {
        if body.is_null() {
            return Ok(Self::default());
        }
        let most = SAMPLE_MAX as i64;
        let whole = At::body(body);
        let mut fields = whole.fields()?;
        let sample = fields.optional("sample", SAMPLE_DEFAULT as i64, |at| at.int_in(1, most));
        let queries = fields.nullable("queries", |at| at.list(|at| at.string_of(1, 8192)));
        let tenant_id = fields.optional("tenant_id", None, tenant);
        fields.finish()?;
        let queries = queries.unwrap_or_default();
        Ok(Self { sample: usize::try_from(sample).unwrap_or(1), queries, tenant_id })
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn a_change_names_a_model() {
        let parsed = ChangeRequest::parse(&json!({"model": "e5", "dimensions": 384})).unwrap();
        assert_eq!((parsed.model.as_str(), parsed.dimensions), ("e5", Some(384)));
        for bad in [
            json!({}),
            json!({"model": ""}),
            json!({"model": 5}),
            json!({"model": "m", "dimensions": 0}),
            json!({"model": "m", "backend": ""}),
        ] {
            assert!(ChangeRequest::parse(&bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn bodies_that_may_be_left_out_have_defaults() {
        assert_eq!(SwitchRequest::parse(&Value::Null), Ok(SwitchRequest::default()));
        assert_eq!(CompareRequest::parse(&Value::Null), Ok(CompareRequest::default()));
        assert_eq!(CompareRequest::parse(&json!({})), Ok(CompareRequest::default()));
        assert!(CompareRequest::parse(&json!({"sample": 0})).is_err());
        assert!(CompareRequest::parse(&json!({"sample": SAMPLE_MAX + 1})).is_err());
        assert!(SwitchRequest::parse(&json!({"accept_missing": "maybe"})).is_err());
    }
}
