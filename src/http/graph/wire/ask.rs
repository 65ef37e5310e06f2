//! Questions and their cited answers.

use serde::Serialize;
use serde_json::{Map, Value};
use uuid::Uuid;

use super::{sentence, tenant};
use crate::http::extract::Input;
use crate::http::validate::{At, Checked};

/// Characters in a question at most, before blanks are collapsed.
const QUESTION_MAX: usize = 1000;
/// Results an answer may build on.
const RESULTS_MAX: i64 = 20;

/// Body of POST /ask and POST /ask/stream.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct AskRequest {
    /// Not blank; blanks collapsed.
    pub question: String,
    /// Results the answer may build on, 1 to 20, default 5.
    pub max_results: usize,
    /// The tenant it names.
    pub tenant_id: Option<String>,
    /// Whether age and drift lower the scores of vector hits.
    pub use_weighted_score: bool,
}

impl Input for AskRequest {
    fn parse(body: &Value) -> Checked<Self> {
        let mut fields = At::body(body).fields()?;
        let question = fields
            .required("question", |at| sentence(at, QUESTION_MAX, "Question cannot be empty"));
        let max_results = fields.nullable("max_results", |at| at.int_in(1, RESULTS_MAX));
        let tenant_id = fields.optional("tenant_id", None, tenant);
        let use_weighted_score = fields.optional("use_weighted_score", true, |at| at.bool());
        fields.finish()?;
        let max_results = usize::try_from(max_results.unwrap_or(5)).unwrap_or(1);
        Ok(Self { question, max_results, tenant_id, use_weighted_score })
    }
}

/// Answer of POST /ask.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct AskAnswer {
    /// With indexes into what was found, in square brackets.
    pub answer: String,
    /// What the answer names, by index.
    pub citations: Vec<CitationView>,
    /// 0 to 1, 3 decimal places.
    pub confidence: f64,
    /// The figures of how it came about, in order.
    pub metadata: Map<String, Value>,
}

/// A node an answer rests on.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct CitationView {
    /// The node.
    pub node_id: Uuid,
    /// Labels.
    pub classes: Vec<String>,
    /// How far its last embedding moved.
    pub drift_score: Option<f64>,
    /// Days since its last embedding, 2 decimal places.
    pub age_days: Option<f64>,
    /// Where it came from.
    pub lineage: Vec<LineageStep>,
}

/// An ancestor of a cited node.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct LineageStep {
    /// The ancestor.
    pub ancestor: Uuid,
    /// Steps away, from 1.
    pub depth: u32,
}
