//! The network: a BERT encoder over the tokens of several texts at once.
//!
//! The tokens of all texts stand end to end in one matrix, a row a token, without padding: the
//! matrix products do not care where one text ends, and attention is computed text by text. The
//! products are candle's; what lies between them is done in place by [`super::kernels`].

use std::ops::Range;

use candle_core::{CpuStorage, InplaceOp1, InplaceOp2, Layout, Tensor};
use serde::Deserialize;

use super::weights::{HalfTable, Weights, matrix, transposed};
use super::{EmbedError, kernels};

/// The fields of `config.json` that shape the network.
#[derive(Debug, Clone, Deserialize)]
pub(super) struct Config {
    pub(super) hidden_size: usize,
    pub(super) intermediate_size: usize,
    pub(super) num_attention_heads: usize,
    pub(super) num_hidden_layers: usize,
    pub(super) max_position_embeddings: usize,
    pub(super) type_vocab_size: usize,
    pub(super) vocab_size: usize,
    pub(super) layer_norm_eps: f32,
    pub(super) hidden_act: String,
}

impl Config {
    pub(super) fn parse(json: &[u8]) -> Result<Self, EmbedError> {
        let config: Self = serde_json::from_slice(json)
            .map_err(|error| EmbedError::Model(format!("config.json: {error}")))?;
        if config.hidden_act != "gelu" {
            return Err(EmbedError::Model(format!("no activation named {:?}", config.hidden_act)));
        }
        if config.num_attention_heads == 0
            || !config.hidden_size.is_multiple_of(config.num_attention_heads)
        {
            return Err(EmbedError::Model("the heads do not divide the hidden size".to_owned()));
        }
        Ok(config)
    }
}

/// The weights, f32 but for the word vectors, which stay where they are in f16.
pub(super) struct Bert {
    config: Config,
    words: HalfTable<'static>,
    /// Position vectors with the vector of token type 0 added, row by row.
    positions: Vec<f32>,
    norm: Norm,
    layers: Vec<Layer>,
}

struct Layer {
    /// Query, key and value side by side; the queries are divided by the root of the head size
    /// already.
    qkv: Linear,
    attended: Linear,
    attended_norm: Norm,
    up: Linear,
    down: Linear,
    down_norm: Norm,
}

struct Linear {
    /// One row an input, which is the file's matrix transposed. The products of short texts are
    /// several times as fast this way round.
    weight: Tensor,
    bias: Vec<f32>,
}

struct Norm {
    gain: Vec<f32>,
    shift: Vec<f32>,
    epsilon: f32,
}

impl Bert {
    pub(super) fn load(config: Config, file: &'static [u8]) -> Result<Self, EmbedError> {
        let weights = Weights::open(file)?;
        let hidden = config.hidden_size;
        let words =
            weights.half_table("embeddings.word_embeddings.weight", config.vocab_size, hidden)?;
        let mut positions = weights.vec(
            "embeddings.position_embeddings.weight",
            &[config.max_position_embeddings, hidden],
        )?;
        let types = weights
            .vec("embeddings.token_type_embeddings.weight", &[config.type_vocab_size, hidden])?;
        let type_0 =
            types.get(..hidden).ok_or_else(|| EmbedError::Model("no token types".into()))?;
        kernels::add_bias(&mut positions, type_0);
        let norm = Norm::load(&weights, "embeddings.LayerNorm", &config)?;
        let layers = (0..config.num_hidden_layers)
            .map(|i| Layer::load(&weights, &format!("encoder.layer.{i}"), &config))
            .collect::<Result<_, _>>()?;
        Ok(Self { config, words, positions, norm, layers })
    }

    /// The vector of each text: the mean of its tokens' vectors, scaled to length 1. Products run
    /// in parallel on the rayon pool it is called on.
    pub(super) fn forward(&self, texts: &[&[u32]]) -> Result<Vec<Vec<f32>>, EmbedError> {
        let mut rows = Vec::with_capacity(texts.len());
        let mut n_tokens = 0;
        for text in texts {
            rows.push(n_tokens..n_tokens + text.len());
            n_tokens += text.len();
        }
        if n_tokens == 0 {
            return Ok(vec![vec![0.0; self.config.hidden_size]; texts.len()]);
        }
        let mut x = matrix(self.look_up(texts, n_tokens)?, n_tokens, self.config.hidden_size)?;
        for layer in &self.layers {
            x = layer.forward(x, &rows, &self.config)?;
        }
        let x = x.flatten_all()?.to_vec1::<f32>()?;
        Ok(rows.into_iter().map(|rows| self.pool(&x, rows)).collect())
    }

    fn look_up(&self, texts: &[&[u32]], n_tokens: usize) -> Result<Vec<f32>, EmbedError> {
        let hidden = self.config.hidden_size;
        let mut x = Vec::with_capacity(n_tokens * hidden);
        for text in texts {
            let positions = self
                .positions
                .get(..text.len() * hidden)
                .ok_or_else(|| EmbedError::Failed(format!("{} tokens in one text", text.len())))?;
            for (&token, position) in text.iter().zip(positions.chunks_exact(hidden)) {
                let start = x.len();
                x.extend_from_slice(position);
                if !self.words.add_row(token as usize, &mut x[start..]) {
                    return Err(EmbedError::Failed(format!(
                        "token {token} is not in the vocabulary"
                    )));
                }
            }
        }
        kernels::normalize(&mut x, &self.norm.gain, &self.norm.shift, self.norm.epsilon);
        Ok(x)
    }

    fn pool(&self, x: &[f32], rows: Range<usize>) -> Vec<f32> {
        let hidden = self.config.hidden_size;
        let mut mean = vec![0.0f32; hidden];
        for row in x[rows.start * hidden..rows.end * hidden].chunks_exact(hidden) {
            for (sum, x) in mean.iter_mut().zip(row) {
                *sum += x;
            }
        }
        // The length divides the count of tokens out. A text without tokens stays all zero.
        let length = mean.iter().map(|x| x * x).sum::<f32>().sqrt();
        if length > 0.0 {
            for x in &mut mean {
                *x /= length;
            }
        }
        mean
    }
}

impl Layer {
    fn load(weights: &Weights<'_>, name: &str, config: &Config) -> Result<Self, EmbedError> {
        let (hidden, inner) = (config.hidden_size, config.intermediate_size);
        let linear = |part: &str, outputs, inputs| {
            Linear::load(weights, &format!("{name}.{part}"), outputs, inputs)
        };
        let norm = |part: &str| Norm::load(weights, &format!("{name}.{part}"), config);
        Ok(Self {
            qkv: Self::load_qkv(weights, &format!("{name}.attention.self"), config)?,
            attended: linear("attention.output.dense", hidden, hidden)?,
            attended_norm: norm("attention.output.LayerNorm")?,
            up: linear("intermediate.dense", inner, hidden)?,
            down: linear("output.dense", hidden, inner)?,
            down_norm: norm("output.LayerNorm")?,
        })
    }

    fn load_qkv(weights: &Weights<'_>, name: &str, config: &Config) -> Result<Linear, EmbedError> {
        let hidden = config.hidden_size;
        let scale = 1.0 / ((hidden / config.num_attention_heads) as f32).sqrt();
        let (mut weight, mut bias) = (Vec::with_capacity(3 * hidden * hidden), Vec::new());
        for (part, scale) in [("query", scale), ("key", 1.0), ("value", 1.0)] {
            let part_weight = weights.vec(&format!("{name}.{part}.weight"), &[hidden, hidden])?;
            weight.extend(part_weight.iter().map(|x| x * scale));
            let part_bias = weights.vec(&format!("{name}.{part}.bias"), &[hidden])?;
            bias.extend(part_bias.iter().map(|x| x * scale));
        }
        let weight = matrix(transposed(&weight, hidden), hidden, 3 * hidden)?;
        Ok(Linear { weight, bias })
    }

    fn forward(
        &self,
        x: Tensor,
        texts: &[Range<usize>],
        config: &Config,
    ) -> Result<Tensor, EmbedError> {
        let attention = self.attention(&x, texts, config)?;
        let attended = self.attended.product(&attention)?;
        self.attended_norm.apply(&attended, &x, &self.attended.bias)?;
        let up = self.up.product(&attended)?;
        up.inplace_op1(&AddBiasGelu(&self.up.bias))?;
        let down = self.down.product(&up)?;
        self.down_norm.apply(&down, &attended, &self.down.bias)?;
        Ok(down)
    }

    fn attention(
        &self,
        x: &Tensor,
        texts: &[Range<usize>],
        config: &Config,
    ) -> Result<Tensor, EmbedError> {
        let (hidden, heads) = (config.hidden_size, config.num_attention_heads);
        let qkv = self.qkv.product(x)?;
        qkv.inplace_op1(&AddBias(&self.qkv.bias))?;
        let mut attended = Vec::with_capacity(texts.len());
        for text in texts.iter().filter(|text| !text.is_empty()) {
            let qkv = qkv.narrow(0, text.start, text.len())?;
            let qkv = qkv.reshape((text.len(), 3, heads, hidden / heads))?;
            // Views of heads × tokens × head size; the products take them with their strides.
            let part = |i| qkv.narrow(1, i, 1)?.squeeze(1)?.transpose(0, 1);
            let (q, k, v) = (part(0)?, part(1)?, part(2)?);
            let scores = q.matmul(&k.transpose(1, 2)?)?;
            scores.inplace_op1(&Softmax(text.len()))?;
            attended.push(scores.matmul(&v)?.transpose(0, 1)?.reshape((text.len(), hidden))?);
        }
        Ok(Tensor::cat(&attended, 0)?)
    }
}

impl Linear {
    fn load(
        weights: &Weights<'_>,
        name: &str,
        outputs: usize,
        inputs: usize,
    ) -> Result<Self, EmbedError> {
        let weight = weights.vec(&format!("{name}.weight"), &[outputs, inputs])?;
        let weight = matrix(transposed(&weight, inputs), inputs, outputs)?;
        Ok(Self { weight, bias: weights.vec(&format!("{name}.bias"), &[outputs])? })
    }

    /// `x` times the weights, without the bias: that is added in the pass that follows anyway.
    fn product(&self, x: &Tensor) -> Result<Tensor, EmbedError> {
        Ok(x.matmul(&self.weight)?)
    }
}

impl Norm {
    fn load(weights: &Weights<'_>, name: &str, config: &Config) -> Result<Self, EmbedError> {
        let hidden = [config.hidden_size];
        Ok(Self {
            gain: weights.vec(&format!("{name}.weight"), &hidden)?,
            shift: weights.vec(&format!("{name}.bias"), &hidden)?,
            epsilon: config.layer_norm_eps,
        })
    }

    /// Normalises `x + residual + bias` into `x`.
    fn apply(&self, x: &Tensor, residual: &Tensor, bias: &[f32]) -> Result<(), EmbedError> {
        x.inplace_op1(&AddBias(bias))?;
        Ok(x.inplace_op2(residual, &AddAndNormalize(self))?)
    }
}

struct AddBias<'a>(&'a [f32]);
struct AddBiasGelu<'a>(&'a [f32]);
struct AddAndNormalize<'a>(&'a Norm);
/// Over rows of this width.
struct Softmax(usize);

impl InplaceOp1 for AddBias<'_> {
    fn name(&self) -> &'static str {
        "add-bias"
    }

    fn cpu_fwd(&self, storage: &mut CpuStorage, layout: &Layout) -> candle_core::Result<()> {
        kernels::add_bias(slice_mut(storage, layout)?, self.0);
        Ok(())
    }
}

impl InplaceOp1 for AddBiasGelu<'_> {
    fn name(&self) -> &'static str {
        "add-bias-gelu"
    }

    fn cpu_fwd(&self, storage: &mut CpuStorage, layout: &Layout) -> candle_core::Result<()> {
        kernels::add_bias_gelu(slice_mut(storage, layout)?, self.0);
        Ok(())
    }
}

impl InplaceOp1 for Softmax {
    fn name(&self) -> &'static str {
        "softmax"
    }

    fn cpu_fwd(&self, storage: &mut CpuStorage, layout: &Layout) -> candle_core::Result<()> {
        kernels::softmax(slice_mut(storage, layout)?, self.0);
        Ok(())
    }
}

impl InplaceOp2 for AddAndNormalize<'_> {
    fn name(&self) -> &'static str {
        "add-and-normalize"
    }

    fn cpu_fwd(
        &self,
        x: &mut CpuStorage,
        x_layout: &Layout,
        residual: &CpuStorage,
        residual_layout: &Layout,
    ) -> candle_core::Result<()> {
        let Norm { gain, shift, epsilon } = self.0;
        let (start, end) = contiguous(residual_layout)?;
        let residual = &residual.as_slice::<f32>()?[start..end];
        kernels::add_and_normalize(slice_mut(x, x_layout)?, residual, gain, shift, *epsilon);
        Ok(())
    }
}

fn slice_mut<'a>(
    storage: &'a mut CpuStorage,
    layout: &Layout,
) -> candle_core::Result<&'a mut [f32]> {
    let (start, end) = contiguous(layout)?;
    match storage {
        CpuStorage::F32(numbers) => Ok(&mut numbers[start..end]),
        _ => candle_core::bail!("not f32"),
    }
}

fn contiguous(layout: &Layout) -> candle_core::Result<(usize, usize)> {
    match layout.contiguous_offsets() {
        Some(range) => Ok(range),
        None => candle_core::bail!("not contiguous"),
    }
}

impl From<candle_core::Error> for EmbedError {
    fn from(error: candle_core::Error) -> Self {
        Self::Failed(error.to_string())
    }
}
