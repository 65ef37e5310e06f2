//! The hyperparameters of a model, checked.

use std::ops::RangeInclusive;

use super::gguf::{GgufError, Metadata};

/// Families of models there is a forward pass for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Family {
    /// Llama, and all that were made like it: Mistral, SmolLM2, TinyLlama.
    Llama,
    /// Qwen2 and Qwen2.5: Llama with biases before attention.
    Qwen2,
    /// Qwen3: queries and keys are normed.
    Qwen3,
    /// Gemma 3: norms on both sides, most layers see a window only.
    Gemma3,
    /// Phi-1.5 and Phi-2: layer norms, attention and feed-forward side by side.
    Phi2,
    /// Phi-3 and Phi-3.5: Llama with joint matrices.
    Phi3,
}

impl Family {
    fn named(name: &str) -> Option<Self> {
        Some(match name {
            "llama" => Self::Llama,
            "qwen2" => Self::Qwen2,
            "qwen3" => Self::Qwen3,
            "gemma3" => Self::Gemma3,
            "phi2" => Self::Phi2,
            "phi3" => Self::Phi3,
            _ => return None,
        })
    }
}

/// Layers that attend to the last positions only.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Window {
    /// Positions seen, the own one included.
    pub size: usize,
    /// Every so many-th layer sees everything.
    pub every: usize,
    /// Base of the rotary angles of these layers.
    pub rope_base: f32,
}

/// What a model looks like.
#[derive(Debug, Clone, PartialEq)]
pub struct Shape {
    /// Its family.
    pub family: Family,
    /// Layers.
    pub layers: usize,
    /// Numbers that stand for a token between layers.
    pub width: usize,
    /// Heads of queries.
    pub heads: usize,
    /// Heads of keys and values; divides `heads`.
    pub kv_heads: usize,
    /// Numbers of a head.
    pub head_size: usize,
    /// Width of the feed-forward part.
    pub inner: usize,
    /// Longest text the model was made for, in tokens.
    pub context: usize,
    /// Keeps norms from dividing by zero.
    pub epsilon: f32,
    /// Numbers of a head that are rotated; even.
    pub rope_size: usize,
    /// Base of the rotary angles.
    pub rope_base: f32,
    /// What positions are multiplied by.
    pub rope_scale: f32,
    /// Pairs that rotate are neighbours (0, 1), else half a head apart (0, n/2).
    pub rope_neighbours: bool,
    /// Layers with a window, if there are any.
    pub window: Option<Window>,
    /// What products of queries and keys are multiplied by.
    pub query_scale: f32,
    /// What embeddings are multiplied by.
    pub embedding_scale: f32,
}

impl Shape {
    /// Reads the hyperparameters.
    ///
    /// # Errors
    ///
    /// When the family is unknown, a number is missing or out of any sensible range, or the model
    /// needs what is not built in.
    pub fn read(metadata: &Metadata) -> Result<Self, GgufError> {
        let name = metadata
            .text("general.architecture")
            .ok_or_else(|| GgufError::damaged("it does not name its architecture"))?;
        let Some(family) = Family::named(name) else {
            let known = "llama, qwen2, qwen3, gemma3, phi2 and phi3";
            return Err(GgufError::Unsupported(format!(
                "its architecture is {name:.40?}; {known} are supported"
            )));
        };
        let numbers = Numbers { metadata, name };
        let heads = numbers.count("attention.head_count", 1..=1024)?;
        let kv_heads = numbers.count_or("attention.head_count_kv", heads, 1..=1024)?;
        if !heads.is_multiple_of(kv_heads) {
            let reason = format!("it has {heads} heads for {kv_heads} heads of keys");
            return Err(GgufError::Damaged(reason));
        }
        if numbers.count_or("expert_count", 0, 0..=4096)? > 0 {
            return Err(GgufError::unsupported("it is a mixture of experts"));
        }
        let width = numbers.count("embedding_length", 1..=65_536)?;
        let layers = numbers.count("block_count", 1..=512)?;
        let head_size = numbers.count_or("attention.key_length", width / heads, 1..=1024)?;
        if numbers.count_or("attention.value_length", head_size, 1..=1024)? != head_size {
            return Err(GgufError::unsupported("its keys and values differ in length"));
        }
        let rope_size = numbers.count_or("rope.dimension_count", head_size, 2..=1024)?;
        if rope_size > head_size || !rope_size.is_multiple_of(2) {
            return Err(GgufError::Damaged(format!("it rotates {rope_size} of {head_size}")));
        }
        let epsilon = match family {
            Family::Phi2 => numbers.number("attention.layer_norm_epsilon", 1e-5)?,
            _ => numbers.number("attention.layer_norm_rms_epsilon", 1e-5)?,
        };
        let base = if family == Family::Gemma3 { 1e6 } else { 1e4 };
        let scale = if family == Family::Gemma3 && layers == 62 {
            // The largest of the family, 27B, divides by the share of a head in the width.
            (width / heads) as f32
        } else {
            head_size as f32
        };
        Ok(Self {
            family,
            layers,
            width,
            heads,
            kv_heads,
            head_size,
            inner: numbers.count("feed_forward_length", 1..=1 << 20)?,
            context: numbers.count("context_length", 1..=1 << 30)?,
            epsilon,
            rope_size,
            rope_base: numbers.number("rope.freq_base", base)?,
            rope_scale: numbers.rope_scale()?,
            rope_neighbours: family == Family::Llama,
            window: numbers.window(family)?,
            query_scale: 1.0 / scale.sqrt(),
            embedding_scale: if family == Family::Gemma3 { (width as f32).sqrt() } else { 1.0 },
        })
    }

    /// Whether `layer` sees a window only.
    pub fn local(&self, layer: usize) -> Option<Window> {
        self.window.filter(|window| !(layer + 1).is_multiple_of(window.every))
    }

    /// Heads of queries that share a head of keys.
    pub fn sharing(&self) -> usize {
        self.heads / self.kv_heads
    }
}

/// The numbers of one architecture.
struct Numbers<'a> {
    metadata: &'a Metadata,
    name: &'a str,
}

impl Numbers<'_> {
    fn count(&self, key: &str, range: RangeInclusive<usize>) -> Result<usize, GgufError> {
        let key = format!("{}.{key}", self.name);
        let found = self.metadata.unsigned(&key).and_then(|count| usize::try_from(count).ok());
        found
            .filter(|count| range.contains(count))
            .ok_or_else(|| GgufError::Damaged(format!("{key} is missing or not from {range:?}")))
    }

    fn count_or(
        &self,
        key: &str,
        default: usize,
        range: RangeInclusive<usize>,
    ) -> Result<usize, GgufError> {
        match self.metadata.get(&format!("{}.{key}", self.name)) {
            Some(_) => self.count(key, range),
            None if range.contains(&default) => Ok(default),
            None => self.count(key, range),
        }
    }

    fn number(&self, key: &str, default: f64) -> Result<f32, GgufError> {
        let key = format!("{}.{key}", self.name);
        let found = self.metadata.float(&key).unwrap_or(default) as f32;
        if !found.is_finite() || found <= 0.0 {
            return Err(GgufError::Damaged(format!("{key} is {found}")));
        }
        Ok(found)
    }

    /// Positions are squeezed by models that were trained so; other ways of reaching further are
    /// not built in, because they change short texts too.
    fn rope_scale(&self) -> Result<f32, GgufError> {
        let kind = self.metadata.text(&format!("{}.rope.scaling.type", self.name));
        match kind {
            Some("linear") => Ok(1.0 / self.number("rope.scaling.factor", 1.0)?),
            None | Some("none") => Ok(1.0),
            Some(kind) => Err(GgufError::Unsupported(format!(
                "it scales rotary positions by {kind:.40?}; none and linear are supported"
            ))),
        }
    }

    fn window(&self, family: Family) -> Result<Option<Window>, GgufError> {
        if family != Family::Gemma3 {
            return Ok(None);
        }
        let size = self.count("attention.sliding_window", 1..=1 << 24)?;
        let every = self.count_or("attention.sliding_window_pattern", 6, 1..=512)?;
        let rope_base = self.number("rope.local_freq_base", 1e4)?;
        Ok(Some(Window { size, every, rope_base }))
    }
}

#[cfg(test)]
mod tests {
    use super::super::gguf::Value;
    use super::*;

    fn metadata(changes: &[(&str, Value)]) -> Metadata {
        let count = |n: i128| Value::Integer(n);
        let mut values = vec![
            ("general.architecture".to_owned(), Value::Text("llama".to_owned())),
            ("llama.attention.head_count".to_owned(), count(4)),
            ("llama.attention.head_count_kv".to_owned(), count(2)),
            ("llama.embedding_length".to_owned(), count(64)),
            ("llama.block_count".to_owned(), count(2)),
            ("llama.feed_forward_length".to_owned(), count(96)),
            ("llama.context_length".to_owned(), count(128)),
        ];
        values.extend(changes.iter().map(|(name, value)| ((*name).to_owned(), value.clone())));
        Metadata::from_iter(values)
    }

    #[test]
    fn what_is_not_said_has_a_default() {
        let shape = Shape::read(&metadata(&[])).unwrap();
        assert_eq!((shape.head_size, shape.rope_size, shape.sharing()), (16, 16, 2));
        assert_eq!((shape.query_scale, shape.rope_scale, shape.window), (0.25, 1.0, None));
    }

    #[test]
    fn senseless_numbers_are_refused() {
        let refused = [
            ("general.architecture", Value::Text("mamba".to_owned()), "mamba"),
            ("llama.attention.head_count", Value::Integer(0), "head_count"),
            ("llama.attention.head_count", Value::Integer(-1), "head_count"),
            ("llama.attention.head_count", Value::Text("4".to_owned()), "head_count"),
            ("llama.attention.head_count_kv", Value::Integer(3), "heads of keys"),
            ("llama.attention.key_length", Value::Integer(1 << 40), "key_length"),
            ("llama.attention.value_length", Value::Integer(8), "differ in length"),
            ("llama.block_count", Value::Integer(i128::from(u64::MAX)), "block_count"),
            ("llama.rope.dimension_count", Value::Integer(7), "rotates"),
            ("llama.rope.dimension_count", Value::Integer(32), "rotates"),
            ("llama.rope.freq_base", Value::Float(f64::NAN), "freq_base"),
            ("llama.rope.scaling.type", Value::Text("yarn".to_owned()), "yarn"),
            ("llama.expert_count", Value::Integer(8), "experts"),
        ];
        for (name, value, word) in refused {
            let error = Shape::read(&metadata(&[(name, value)])).unwrap_err().to_string();
            assert!(error.contains(word), "{name}: {error}");
        }
    }

    #[test]
    fn every_sixth_layer_of_gemma_sees_everything() {
        let mut values = metadata(&[])
            .into_iter()
            .map(|(name, value)| (name.replace("llama.", "gemma3."), value))
            .collect::<Vec<_>>();
        values.retain(|(name, _)| name != "general.architecture");
        values.push(("general.architecture".to_owned(), Value::Text("gemma3".to_owned())));
        values.push(("gemma3.attention.sliding_window".to_owned(), Value::Integer(32)));
        let shape = Shape::read(&Metadata::from_iter(values)).unwrap();
        let seeing: Vec<usize> = (0..14).filter(|layer| shape.local(*layer).is_none()).collect();
        assert_eq!(seeing, [5, 11]);
        assert_eq!(shape.embedding_scale, 8.0);
    }
}
