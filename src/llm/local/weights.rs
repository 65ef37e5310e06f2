//! The weights of a model, in the order the forward pass uses them.

use super::gguf::{GgufError, ModelFile, TensorInfo};
use super::matrix::{self, Matrix};
use super::shape::{Family, Shape};

/// A norm: of root mean square, or of mean and variance if it has a bias.
pub struct Norm {
    /// A factor a number.
    pub weight: Vec<f32>,
    /// A summand a number.
    pub bias: Option<Vec<f32>>,
}

/// A product and what is added to it.
pub struct Linear {
    /// The matrix.
    pub matrix: Matrix,
    /// The summands, if there are any.
    pub bias: Option<Vec<f32>>,
}

/// A layer.
pub struct Layer {
    /// Before attention.
    pub attention_norm: Norm,
    /// Queries, keys and values, in this order.
    pub qkv: Linear,
    /// Norm of each head of queries and of keys, if there is one.
    pub head_norms: Option<(Vec<f32>, Vec<f32>)>,
    /// After attention.
    pub output: Linear,
    /// Before what attention gave is added, if there is one.
    pub post_attention: Option<Vec<f32>>,
    /// Before the feed-forward part; absent when it runs beside attention.
    pub inner_norm: Option<Norm>,
    /// Into the feed-forward part: gate and value, or the value alone.
    pub up: Linear,
    /// Whether `up` has a gate, in its first half.
    pub gated: bool,
    /// Out of it.
    pub down: Linear,
    /// Before what it gave is added, if there is one.
    pub post_inner: Option<Vec<f32>>,
}

/// All weights.
pub struct Weights {
    /// A row for each token.
    pub embedding: Matrix,
    /// The layers.
    pub layers: Vec<Layer>,
    /// After the last layer.
    pub norm: Norm,
    /// From the last layer to a score for each token; absent where the embedding serves.
    pub head: Option<Linear>,
    /// What rotary frequencies are divided by, one a pair; mostly absent.
    pub rope_factors: Option<Vec<f32>>,
}

impl Weights {
    /// Loads the weights of a model of `shape`.
    ///
    /// # Errors
    ///
    /// When a tensor is missing, has another shape, or cannot be read.
    pub fn load(file: &ModelFile, shape: &Shape) -> Result<Self, GgufError> {
        let from = Source { file, shape };
        let embedding = from.tensor("token_embd.weight")?;
        if embedding.columns != shape.width {
            return Err(misshapen("token_embd.weight", embedding, "the width of the model"));
        }
        let vocabulary = embedding.rows;
        let embedding = Matrix::load(file, &[("token_embd.weight", embedding)])?;
        let layers: Result<_, _> = (0..shape.layers).map(|layer| from.layer(layer)).collect();
        let head = match file.tensor("output.weight") {
            Some(_) => Some(from.linear(&["output"], shape.width, &[vocabulary])?),
            None => None,
        };
        let rope_factors = from.optional_vector("rope_freqs.weight", shape.rope_size / 2)?;
        let norm = from.norm("output_norm")?;
        Ok(Self { embedding, layers: layers?, norm, head, rope_factors })
    }

    /// Tokens that have an embedding.
    pub fn vocabulary(&self) -> usize {
        self.embedding.rows
    }
}

struct Source<'a> {
    file: &'a ModelFile,
    shape: &'a Shape,
}

impl<'a> Source<'a> {
    fn layer(&self, layer: usize) -> Result<Layer, GgufError> {
        let Shape { family, width, heads, kv_heads, head_size, inner, .. } = *self.shape;
        let (queries, keys) = (heads * head_size, kv_heads * head_size);
        let name = |part: &str| format!("blk.{layer}.{part}");
        let names = |parts: &[&str]| parts.iter().map(|part| name(part)).collect::<Vec<_>>();
        let linear = |parts: &[&str], columns, rows: &[usize]| {
            let names = names(parts);
            let names: Vec<&str> = names.iter().map(String::as_str).collect();
            self.linear(&names, columns, rows)
        };
        let vector = |part: &str, len| self.vector(&name(&format!("{part}.weight")), len);
        let joint = matches!(family, Family::Phi2 | Family::Phi3);
        let qkv = if joint {
            linear(&["attn_qkv"], width, &[queries + 2 * keys])?
        } else {
            linear(&["attn_q", "attn_k", "attn_v"], width, &[queries, keys, keys])?
        };
        let head_norms = match family {
            Family::Qwen3 | Family::Gemma3 => {
                Some((vector("attn_q_norm", head_size)?, vector("attn_k_norm", head_size)?))
            }
            Family::Llama | Family::Qwen2 | Family::Phi2 | Family::Phi3 => None,
        };
        let gated = family != Family::Phi2;
        let up = match family {
            Family::Phi2 => linear(&["ffn_up"], width, &[inner])?,
            Family::Phi3 => linear(&["ffn_up"], width, &[2 * inner])?,
            _ => linear(&["ffn_gate", "ffn_up"], width, &[inner, inner])?,
        };
        let (post_attention, post_inner) = if family == Family::Gemma3 {
            (Some(vector("post_attention_norm", width)?), Some(vector("post_ffw_norm", width)?))
        } else {
            (None, None)
        };
        let inner_norm = match family {
            Family::Phi2 => None,
            _ => Some(self.norm(&name("ffn_norm"))?),
        };
        Ok(Layer {
            attention_norm: self.norm(&name("attn_norm"))?,
            qkv,
            head_norms,
            output: linear(&["attn_output"], queries, &[width])?,
            post_attention,
            inner_norm,
            up,
            gated,
            down: linear(&["ffn_down"], inner, &[width])?,
            post_inner,
        })
    }

    fn tensor(&self, name: &str) -> Result<&'a TensorInfo, GgufError> {
        let missing = || GgufError::Damaged(format!("there is no tensor {name}"));
        self.file.tensor(name).ok_or_else(missing)
    }

    fn norm(&self, name: &str) -> Result<Norm, GgufError> {
        let width = self.shape.width;
        let weight = self.vector(&format!("{name}.weight"), width)?;
        let bias = match self.shape.family {
            Family::Phi2 => Some(self.vector(&format!("{name}.bias"), width)?),
            _ => None,
        };
        Ok(Norm { weight, bias })
    }

    /// The matrices called `names`, of so many rows each, one below the other.
    fn linear(&self, names: &[&str], columns: usize, rows: &[usize]) -> Result<Linear, GgufError> {
        let mut weights = Vec::with_capacity(names.len());
        let (mut bias, mut biased) = (Vec::new(), false);
        for (name, rows) in names.iter().zip(rows) {
            let weight = format!("{name}.weight");
            let tensor = self.tensor(&weight)?;
            if (tensor.columns, tensor.rows) != (columns, *rows) {
                return Err(misshapen(&weight, tensor, &format!("{columns} by {rows}")));
            }
            weights.push((*name, tensor));
            match self.optional_vector(&format!("{name}.bias"), *rows)? {
                Some(numbers) => {
                    biased = true;
                    bias.extend(numbers);
                }
                None => bias.resize(bias.len() + rows, 0.0),
            }
        }
        Ok(Linear { matrix: Matrix::load(self.file, &weights)?, bias: biased.then_some(bias) })
    }

    fn vector(&self, name: &str, len: usize) -> Result<Vec<f32>, GgufError> {
        self.tensor(name)?;
        Ok(self.optional_vector(name, len)?.unwrap_or_default())
    }

    fn optional_vector(&self, name: &str, len: usize) -> Result<Option<Vec<f32>>, GgufError> {
        let Some(tensor) = self.file.tensor(name) else {
            return Ok(None);
        };
        if (tensor.columns, tensor.rows) != (len, 1) {
            return Err(misshapen(name, tensor, &format!("{len} numbers")));
        }
        let mut bytes = vec![0; tensor.row_bytes()];
        self.file.rows(tensor, 0, &mut bytes)?;
        matrix::numbers(tensor, &bytes).map(Some)
    }
}

fn misshapen(name: &str, tensor: &TensorInfo, wanted: &str) -> GgufError {
    let TensorInfo { columns, rows, .. } = tensor;
    GgufError::Damaged(format!("tensor {name} has {rows} rows of {columns}, not {wanted}"))
}
