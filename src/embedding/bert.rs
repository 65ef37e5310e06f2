//! The network: a BERT encoder over the tokens of several texts at once.
//!
//! The tokens of all texts stand end to end in one matrix, a row a token, without padding: the
//! matrix products do not care where one text ends, and attention is computed text by text. One
//! forward pass runs on one thread.

use std::ops::Range;
use std::thread;

use super::EmbedError;
use super::attention::{self, Heads};
use super::between::Between;
use super::folder::{Config, Pooling};
use super::kernels::{
    Affine, BLOCK, Isa, Kernel, Line, Session, add_and_normalize, add_bias, lend, normalize,
};
use super::linear::{Form, Linear, Matrix, Scratch, Then, stride};
use super::parts::Parts;
use super::weights::{Table, Weights};

/// Rows that go through the products one after the other while they are in the cache.
const BAND: usize = 256;

/// The weights.
pub(super) struct Bert {
    kernel: Kernel,
    hidden: usize,
    heads: Heads,
    pooling: Pooling,
    words: Table,
    /// Position vectors with the vector of token type 0 added, row by row.
    positions: Vec<f32>,
    norm: Affine,
    layers: Vec<Layer>,
}

struct Layer {
    /// Query, key and value side by side; the queries are divided by the root of the head size
    /// already.
    qkv: Linear,
    attended: Linear,
    attended_norm: Affine,
    up: Linear,
    down: Linear,
    down_norm: Affine,
}

/// The buffers of a forward pass. They grow to what the largest pass takes and are then used
/// again: no pass allocates but for its result.
pub(super) struct Arena {
    /// The tokens' vectors between layers.
    x: Vec<f32>,
    qkv: Vec<f32>,
    attended: Vec<f32>,
    /// The same two in bf16.
    qkv_parts: Parts,
    attended_lines: Vec<Line>,
    /// Of a band: inside of the last two products of a layer, and what comes of a product.
    inner: Vec<f32>,
    /// The same in bf16.
    lines: Vec<Line>,
    out: Vec<f32>,
    texts: Vec<Range<usize>>,
    scratch: Scratch,
    attention: attention::Scratch,
}

impl Arena {
    pub(super) fn new() -> Self {
        Self {
            x: Vec::new(),
            qkv: Vec::new(),
            attended: Vec::new(),
            qkv_parts: Parts::default(),
            attended_lines: Vec::new(),
            inner: Vec::new(),
            lines: Vec::new(),
            out: Vec::new(),
            texts: Vec::new(),
            scratch: Scratch::default(),
            attention: attention::Scratch::default(),
        }
    }
}

impl Bert {
    pub(super) fn load(
        config: &Config,
        pooling: Pooling,
        weights: &Weights,
        form: Form,
        kernel: Kernel,
    ) -> Result<Self, EmbedError> {
        let hidden = config.hidden_size;
        let words =
            weights.table("embeddings.word_embeddings.weight", config.vocab_size, hidden)?;
        let mut positions = weights.vec(
            "embeddings.position_embeddings.weight",
            &[config.max_position_embeddings, hidden],
        )?;
        let types = weights
            .vec("embeddings.token_type_embeddings.weight", &[config.type_vocab_size, hidden])?;
        add_bias(kernel, &mut positions, hidden, &types[..hidden]);
        let norm = norm(weights, "embeddings.LayerNorm", config)?;
        let heads = config.num_attention_heads;
        let heads = Heads { n: heads, size: hidden / heads };
        let layers = load_layers(weights, config, form)?;
        Ok(Self { kernel, hidden, heads, pooling, words, positions, norm, layers })
    }

    pub(super) fn isa(&self) -> Isa {
        self.kernel.isa()
    }

    /// The vector of each text, scaled to length 1. A text without tokens has one of zeros. Lets
    /// run what comes in `between`.
    pub(super) fn forward(
        &self,
        texts: &[&[u32]],
        arena: &mut Arena,
        between: Option<&Between<'_>>,
    ) -> Result<Vec<Vec<f32>>, EmbedError> {
        let n_tokens: usize = texts.iter().map(|text| text.len()).sum();
        arena.texts.clear();
        let mut start = 0;
        for text in texts {
            arena.texts.push(start..start + text.len());
            start += text.len();
        }
        self.look_up(texts, lend(&mut arena.x, n_tokens * stride(self.hidden), 0.0))?;
        let session = Session::new(self.kernel, between);
        for layer in &self.layers {
            layer.forward(&session, self.heads, n_tokens, arena);
        }
        drop(session);
        Ok(arena.texts.iter().map(|text| self.pool(&arena.x, text.clone())).collect())
    }

    fn look_up(&self, texts: &[&[u32]], x: &mut [f32]) -> Result<(), EmbedError> {
        let hidden = self.hidden;
        let mut rows = x.chunks_exact_mut(stride(hidden));
        for text in texts {
            let positions = self
                .positions
                .get(..text.len() * hidden)
                .ok_or_else(|| EmbedError::Failed(format!("{} tokens in one text", text.len())))?;
            for ((&token, position), row) in
                text.iter().zip(positions.chunks_exact(hidden)).zip(&mut rows)
            {
                let (row, rest) = row.split_at_mut(hidden);
                row.copy_from_slice(position);
                rest.fill(0.0);
                if !self.words.add_row(token as usize, row) {
                    return Err(EmbedError::Failed(format!(
                        "token {token} is not in the vocabulary"
                    )));
                }
            }
        }
        normalize(self.kernel, x, stride(hidden), &self.norm);
        Ok(())
    }

    fn pool(&self, x: &[f32], rows: Range<usize>) -> Vec<f32> {
        let rows = match self.pooling {
            Pooling::Mean => rows,
            Pooling::First => rows.start..rows.end.min(rows.start + 1),
        };
        let stride = stride(self.hidden);
        let mut mean = vec![0.0f32; self.hidden];
        for row in x[rows.start * stride..rows.end * stride].chunks_exact(stride) {
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
    fn load(
        weights: &Weights,
        name: &str,
        config: &Config,
        form: Form,
    ) -> Result<Self, EmbedError> {
        let (hidden, inner) = (config.hidden_size, config.intermediate_size);
        let linear = |part: &str, outputs, inputs| {
            let weight = weights.vec(&format!("{name}.{part}.weight"), &[outputs, inputs])?;
            let bias = weights.vec(&format!("{name}.{part}.bias"), &[outputs])?;
            Ok::<_, EmbedError>(Linear::new(form, &weight, bias))
        };
        let norm = |part: &str| norm(weights, &format!("{name}.{part}"), config);
        Ok(Self {
            qkv: load_qkv(weights, &format!("{name}.attention.self"), config, form)?,
            attended: linear("attention.output.dense", hidden, hidden)?,
            attended_norm: norm("attention.output.LayerNorm")?,
            up: linear("intermediate.dense", inner, hidden)?,
            down: linear("output.dense", hidden, inner)?,
            down_norm: norm("output.LayerNorm")?,
        })
    }

    fn forward(&self, session: &Session<'_>, heads: Heads, n_tokens: usize, arena: &mut Arena) {
        let kernel = session.kernel();
        let in_lines = heads.fit_lines(self.qkv.form());
        if in_lines {
            self.attend_lines(session, heads, n_tokens, arena);
        } else {
            self.attend(session, heads, n_tokens, arena);
        }
        let Arena { x, attended, attended_lines, inner, lines, out, scratch, .. } = arena;
        let width = self.attended.stride();
        let floats = if self.up.form() == Form::Bf16 { 0 } else { BAND * self.up.stride() };
        let inner = lend(inner, floats, 0.0);
        let out = lend(out, BAND * width, 0.0);
        for rows in bands(n_tokens) {
            let n = rows.len();
            let band = rows.start * width..rows.end * width;
            let x = &mut x[band.clone()];
            let out = &mut out[..band.len()];
            if in_lines {
                let lines = &attended_lines[rows.start * heads.n * heads.depth()..];
                self.attended.apply_lines(session, lines, n, scratch, out);
            } else {
                let input = Matrix { numbers: &attended[band], rows: n };
                self.attended.apply(session, input, Then::Nothing, scratch, out);
            }
            add_and_normalize(kernel, x, out, width, &self.attended_norm);
            let input = Matrix { numbers: x, rows: n };
            if self.up.apply_gelu_to_lines(session, input, scratch, lines) {
                self.down.apply_lines(session, lines, n, scratch, out);
            } else {
                self.up.apply(session, input, Then::Gelu, scratch, inner);
                let input = Matrix { numbers: inner, rows: n };
                self.down.apply(session, input, Then::Nothing, scratch, out);
            }
            add_and_normalize(kernel, x, out, width, &self.down_norm);
        }
    }

    /// Queries, keys and values of all tokens, and what becomes of them.
    fn attend(&self, session: &Session<'_>, heads: Heads, n_tokens: usize, arena: &mut Arena) {
        let Arena { x, qkv, attended, texts, scratch, attention, .. } = arena;
        let (width, qkv_width) = (self.attended.stride(), self.qkv.stride());
        let qkv = lend(qkv, n_tokens * qkv_width, 0.0);
        for rows in bands(n_tokens) {
            let input = Matrix { numbers: &x[rows.start * width..], rows: rows.len() };
            let out = &mut qkv[rows.start * qkv_width..rows.end * qkv_width];
            self.qkv.apply(session, input, Then::Nothing, scratch, out);
        }
        let attended = lend(attended, n_tokens * width, 0.0);
        for text in texts.iter().filter(|text| !text.is_empty()) {
            heads.attend(session, self.qkv.form(), qkv, text.clone(), attention, attended);
        }
    }

    /// [`Layer::attend`] in bf16.
    fn attend_lines(
        &self,
        session: &Session<'_>,
        heads: Heads,
        n_tokens: usize,
        arena: &mut Arena,
    ) {
        let Arena { x, qkv_parts, attended_lines, texts, scratch, attention, .. } = arena;
        let (width, depth) = (self.attended.stride(), heads.depth());
        qkv_parts.arrange(3 * heads.n, depth, texts);
        for rows in bands(n_tokens) {
            let input = Matrix { numbers: &x[rows.start * width..], rows: rows.len() };
            self.qkv.apply_to_parts(session, input, scratch, rows.start, qkv_parts);
        }
        let n_lines = n_tokens.next_multiple_of(BLOCK) * heads.n * depth;
        let out = lend(attended_lines, n_lines, Line::ZERO);
        for text in texts.iter().filter(|text| !text.is_empty()) {
            heads.attend_lines(session, qkv_parts, text, &mut attention.of_lines, out);
        }
    }
}

/// `n` rows in bands.
fn bands(n: usize) -> impl Iterator<Item = Range<usize>> {
    (0..n).step_by(BAND).map(move |start| start..n.min(start + BAND))
}

/// All layers, each core reading and packing its share.
fn load_layers(weights: &Weights, config: &Config, form: Form) -> Result<Vec<Layer>, EmbedError> {
    let n = config.num_hidden_layers;
    let load = |i| Layer::load(weights, &format!("encoder.layer.{i}"), config, form);
    let cores = thread::available_parallelism().map_or(1, usize::from);
    let share = n.div_ceil(cores).max(1);
    thread::scope(|scope| {
        let shares: Vec<_> = (0..n)
            .step_by(share)
            .map(|first| {
                let layers = first..n.min(first + share);
                scope.spawn(move || layers.map(load).collect::<Result<Vec<_>, _>>())
            })
            .collect();
        let mut layers = Vec::new();
        // All are joined first: the scope panics for one that has panicked and was not.
        for share in shares.into_iter().map(|share| share.join()).collect::<Vec<_>>() {
            let panicked = |_| EmbedError::Failed("reading the model panicked".to_owned());
            layers.extend(share.map_err(panicked)??);
        }
        Ok(layers)
    })
}

fn load_qkv(
    weights: &Weights,
    name: &str,
    config: &Config,
    form: Form,
) -> Result<Linear, EmbedError> {
    let hidden = config.hidden_size;
    let scale = 1.0 / ((hidden / config.num_attention_heads) as f32).sqrt();
    let (mut weight, mut bias) = (Vec::new(), Vec::new());
    for (part, scale) in [("query", scale), ("key", 1.0), ("value", 1.0)] {
        let part_weight = weights.vec(&format!("{name}.{part}.weight"), &[hidden, hidden])?;
        weight.extend(part_weight.iter().map(|x| x * scale));
        let part_bias = weights.vec(&format!("{name}.{part}.bias"), &[hidden])?;
        bias.extend(part_bias.iter().map(|x| x * scale));
    }
    Ok(Linear::new(form, &weight, bias))
}

fn norm(weights: &Weights, name: &str, config: &Config) -> Result<Affine, EmbedError> {
    let hidden = [config.hidden_size];
    Ok(Affine {
        gain: weights.vec(&format!("{name}.weight"), &hidden)?,
        shift: weights.vec(&format!("{name}.bias"), &hidden)?,
        epsilon: config.layer_norm_eps,
    })
}
