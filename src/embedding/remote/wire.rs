//! What is sent to a service, and what its answers mean.

use serde::Deserialize;
use serde_json::{Value, json};

use crate::upstream::Failure;

/// The protocol of a service.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Dialect {
    /// `POST /embeddings`, as OpenAI has it.
    OpenAi,
    /// `POST /api/embed`, as Ollama has it.
    Ollama,
}

#[derive(Deserialize)]
struct OpenAiAnswer {
    data: Vec<OpenAiVector>,
    usage: Option<OpenAiUsage>,
}

#[derive(Deserialize)]
struct OpenAiVector {
    embedding: Vec<f32>,
    index: Option<usize>,
}

#[derive(Deserialize)]
struct OpenAiUsage {
    total_tokens: Option<u64>,
}

#[derive(Deserialize)]
struct OllamaAnswer {
    embeddings: Vec<Vec<f32>>,
    prompt_eval_count: Option<u64>,
}

impl Dialect {
    /// What the service is called in errors, logs and metrics.
    pub fn service(self) -> &'static str {
        match self {
            Self::OpenAi => "openai_embeddings",
            Self::Ollama => "ollama_embeddings",
        }
    }

    /// Where embeddings are asked for, below the service's address.
    pub(super) fn path(self) -> &'static str {
        match self {
            Self::OpenAi => "/embeddings",
            Self::Ollama => "/api/embed",
        }
    }

    /// A request for the vectors of `texts`, of `dimensions` numbers each if that is to be said.
    pub(super) fn request(self, model: &str, texts: &[&str], dimensions: Option<usize>) -> Value {
        let mut request = match self {
            Self::OpenAi => json!({ "model": model, "input": texts, "encoding_format": "float" }),
            Self::Ollama => json!({ "model": model, "input": texts, "truncate": true }),
        };
        if let Some(dimensions) = dimensions {
            request["dimensions"] = dimensions.into();
        }
        request
    }

    /// The vectors of an answer in the order of the texts, each of length 1, and the tokens it
    /// says it took.
    ///
    /// # Errors
    ///
    /// [`Failure::NoSense`] unless there are `n` vectors of `dim` finite numbers.
    pub(super) fn read(
        self,
        answer: &[u8],
        n: usize,
        dim: usize,
    ) -> Result<(Vec<Vec<f32>>, Option<u64>), Failure> {
        let no_sense = |_| Failure::NoSense("no embeddings are in it".to_owned());
        let (mut vectors, tokens) = match self {
            Self::OpenAi => {
                let OpenAiAnswer { mut data, usage } =
                    serde_json::from_slice(answer).map_err(no_sense)?;
                if data.iter().all(|vector| vector.index.is_some()) {
                    data.sort_by_key(|vector| vector.index);
                    let indexes = data.iter().enumerate();
                    if indexes.into_iter().any(|(i, vector)| vector.index != Some(i)) {
                        return Err(Failure::NoSense("its indexes are not 0, 1, 2, ..".to_owned()));
                    }
                }
                let vectors: Vec<_> = data.into_iter().map(|vector| vector.embedding).collect();
                (vectors, usage.and_then(|usage| usage.total_tokens))
            }
            Self::Ollama => {
                let OllamaAnswer { embeddings, prompt_eval_count } =
                    serde_json::from_slice(answer).map_err(no_sense)?;
                (embeddings, prompt_eval_count)
            }
        };
        if vectors.len() != n {
            let found = vectors.len();
            return Err(Failure::NoSense(format!("{found} embeddings for {n} texts")));
        }
        for vector in &mut vectors {
            if vector.len() != dim {
                return Err(Failure::NoSense(format!(
                    "embeddings of {} numbers, and {dim} are expected; set EMBEDDING_DIMENSIONS to what the model has",
                    vector.len()
                )));
            }
            normalise(vector)?;
        }
        Ok((vectors, tokens))
    }
}

/// Scales a vector to length 1; one of zeros stays.
fn normalise(vector: &mut [f32]) -> Result<(), Failure> {
    let length = vector.iter().map(|&x| f64::from(x) * f64::from(x)).sum::<f64>().sqrt();
    if !length.is_finite() {
        return Err(Failure::NoSense("an embedding with numbers that are none".to_owned()));
    }
    if length > 0.0 {
        vector.iter_mut().for_each(|x| *x = (f64::from(*x) / length) as f32);
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(dialect: Dialect, answer: Value) -> Result<(Vec<Vec<f32>>, Option<u64>), String> {
        let read = dialect.read(answer.to_string().as_bytes(), 2, 2);
        read.map_err(|failure| failure.to_string())
    }

    #[test]
    fn vectors_come_in_the_order_of_the_texts_and_of_length_one() {
        let answer = json!({"data": [{"index": 1, "embedding": [0.0, 2.0]}, {"index": 0, "embedding": [3.0, 4.0]}],
                            "usage": {"prompt_tokens": 7, "total_tokens": 7}});
        let expected = vec![vec![0.6, 0.8], vec![0.0, 1.0]];
        assert_eq!(read(Dialect::OpenAi, answer), Ok((expected.clone(), Some(7))));
        let answer = json!({"embeddings": [[3.0, 4.0], [0.0, 9.0]], "prompt_eval_count": 5});
        assert_eq!(read(Dialect::Ollama, answer), Ok((expected, Some(5))));
        let zeros = json!({"embeddings": [[0.0, 0.0], [1e-30, 0.0]]});
        assert_eq!(read(Dialect::Ollama, zeros), Ok((vec![vec![0.0, 0.0], vec![1.0, 0.0]], None)));
    }

    #[test]
    fn what_does_not_fit_is_refused() {
        let refused = |answer: Value, part: &str| {
            let error = read(Dialect::OpenAi, answer).unwrap_err();
            assert!(error.contains(part), "{error}");
        };
        let vector =
            |index: usize, embedding: Value| json!({"index": index, "embedding": embedding});
        refused(json!({"data": [vector(0, json!([1, 0]))]}), "1 embeddings for 2 texts");
        let three: Vec<Value> = (0..3).map(|i| vector(i, json!([1, 0]))).collect();
        refused(json!({"data": three}), "3 embeddings for 2 texts");
        let wide = [vector(0, json!([1, 0])), vector(1, json!([1, 0, 0]))];
        refused(json!({"data": wide}), "EMBEDDING_DIMENSIONS");
        let twice = [vector(1, json!([1, 0])), vector(1, json!([1, 0]))];
        refused(json!({"data": twice}), "indexes");
        refused(
            json!({"data": [vector(0, json!([1, null])), vector(1, json!([1, 0]))]}),
            "no embeddings",
        );
        let huge = [vector(0, json!([1e39, 0])), vector(1, json!([1, 0]))];
        refused(json!({ "data": huge }), "no embeddings");
        for none in [f32::NAN, f32::INFINITY] {
            assert!(normalise(&mut [none, 1.0]).is_err());
        }
        refused(json!({"error": "no"}), "no embeddings");
        assert!(Dialect::Ollama.read(b"<html>", 1, 2).is_err());
    }
}
