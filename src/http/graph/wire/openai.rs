//! What OpenAI's clients send and read.
//!
//! Members that are not listed are passed over: clients send many, and new ones every year. A
//! member that would change the answer, and cannot, is refused.

pub mod chat;

use serde::Serialize;
use serde_json::Value;

use super::tenant;
use crate::http::extract::Input;
use crate::http::validate::{At, Checked};

/// Texts of one request.
const INPUTS_MAX: usize = 2048;
/// Characters of a text.
const INPUT_MAX: usize = 100_000;
/// What a list of token ids is answered with.
const TOKENS: &str = "Token ids are not taken, as they belong to another model: send the text";

/// How a vector is written.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Encoding {
    /// A list of numbers.
    Float,
    /// Little-endian 32-bit floats in base64.
    Base64,
}

/// Body of POST /v1/embeddings.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct EmbeddingsRequest {
    /// 1 to 2048 texts of 1 to 100,000 characters.
    pub input: Vec<String>,
    /// How the vectors are written.
    pub encoding: Encoding,
    /// The length wanted of a vector.
    pub dimensions: Option<i64>,
    /// The tenant it names.
    pub tenant_id: Option<String>,
}

impl Input for EmbeddingsRequest {
    fn parse(body: &Value) -> Checked<Self> {
        const ENCODINGS: [(&str, Encoding); 2] =
            [("float", Encoding::Float), ("base64", Encoding::Base64)];
        let mut fields = At::body(body).fields()?;
        let input = fields.required("input", texts);
        fields.nullable("model", |at| at.string());
        let encoding = fields.nullable("encoding_format", |at| at.one_of(&ENCODINGS));
        let dimensions = fields.nullable("dimensions", |at| at.int_in(1, i64::MAX));
        let tenant_id = fields.optional("tenant_id", None, tenant);
        fields.finish()?;
        let encoding = encoding.unwrap_or(Encoding::Float);
        Ok(Self { input, encoding, dimensions, tenant_id })
    }
}

fn texts(at: At<'_>) -> Checked<Vec<String>> {
    let text = |at: At<'_>| at.string_of(1, INPUT_MAX);
    match at.value {
        Value::Array(items) if items.iter().any(|item| item.is_number() || item.is_array()) => {
            at.value_error(TOKENS)
        }
        Value::Array(_) => at.list_of(1, INPUTS_MAX, text),
        _ => text(at).map(|text| vec![text]),
    }
}

/// Answer of POST /v1/embeddings.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct EmbeddingsAnswer {
    /// `list`.
    pub object: &'static str,
    /// In the order of the texts.
    pub data: Vec<EmbeddingView>,
    /// The model that served.
    pub model: String,
    /// Tokens the model has read.
    pub usage: EmbeddingUsage,
}

/// The vector of one text.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct EmbeddingView {
    /// `embedding`.
    pub object: &'static str,
    /// Which text.
    pub index: usize,
    /// Its vector.
    pub embedding: VectorView,
}

/// A vector, written as it was asked for.
#[derive(Debug, Clone, PartialEq, Serialize)]
#[serde(untagged)]
pub enum VectorView {
    /// Numbers.
    Float(Vec<f32>),
    /// Little-endian 32-bit floats in base64.
    Base64(String),
}

/// Tokens of a request for vectors.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
pub struct EmbeddingUsage {
    /// Tokens read.
    pub prompt_tokens: usize,
    /// The same.
    pub total_tokens: usize,
}

/// Answer of GET /v1/models.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct ModelList {
    /// `list`.
    pub object: &'static str,
    /// What serves.
    pub data: Vec<ModelView>,
}

/// A model that serves.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct ModelView {
    /// Its name.
    pub id: String,
    /// `model`.
    pub object: &'static str,
    /// Since when it can serve: the start of the process, in seconds since 1970.
    pub created: i64,
    /// `activekg`.
    pub owned_by: &'static str,
}

/// Tokens of a text that no tokenizer is there for: a quarter of its characters, rounded up. The
/// rule of thumb that OpenAI gives for English.
pub fn estimated_tokens(text: &str) -> usize {
    text.chars().count().div_ceil(CHARS_PER_TOKEN)
}

/// Characters that count as one token where tokens are estimated.
pub const CHARS_PER_TOKEN: usize = 4;

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn texts_come_alone_or_as_a_list() {
        let read = |body: Value| EmbeddingsRequest::parse(&body).expect("a request");
        assert_eq!(read(json!({ "input": "a", "model": "x" })).input, ["a"]);
        let list = read(json!({ "input": ["a", "b"], "encoding_format": "base64", "user": 7 }));
        assert_eq!((list.input.len(), list.encoding), (2, Encoding::Base64));
    }

    #[test]
    fn what_is_no_text_is_refused() {
        for bad in [
            json!({}),
            json!({ "input": "" }),
            json!({ "input": [] }),
            json!({ "input": ["a", ""] }),
            json!({ "input": null }),
            json!({ "input": vec!["a"; INPUTS_MAX + 1] }),
            json!({ "input": "a".repeat(INPUT_MAX + 1) }),
            json!({ "input": "a", "encoding_format": "hex" }),
            json!({ "input": "a", "dimensions": 0 }),
        ] {
            assert!(EmbeddingsRequest::parse(&bad).is_err(), "{bad}");
        }
        for tokens in [json!([1, 2, 3]), json!([[1, 2], [3]])] {
            let faults = EmbeddingsRequest::parse(&json!({ "input": tokens })).expect_err("tokens");
            assert_eq!(faults[0].sentence(), format!("input: Value error, {TOKENS}"));
        }
    }

    #[test]
    fn four_characters_are_a_token() {
        assert_eq!(["", "a", "abcd", "日本語の本"].map(estimated_tokens), [0, 1, 1, 2]);
    }
}
