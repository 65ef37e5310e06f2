//! The forward pass: from tokens to the scores of the next one.

mod attention;
mod math;
mod rope;
#[cfg(test)]
mod tests;

use rayon::ThreadPool;
use rayon::prelude::*;

use super::gguf::{GgufError, ModelFile};
use super::kernels::{Kernels, Part};
use super::matrix::{Blocks, LANES, Matrix};
use super::shape::{Family, Shape};
use super::weights::{Layer, Linear, Norm, Weights};
use attention::{Cache, Range};
use rope::Rope;

/// Tokens that go through the layers together, at most: enough to use weights many times once they
/// are unpacked, few enough to stop soon when nobody waits any more.
const CHUNK: usize = 128;

/// Fewer blocks of weights than this are not worth a second thread.
const PARALLEL_MIN: usize = 64;

/// A model and the text it has read.
pub struct Decoder {
    shape: Shape,
    weights: Weights,
    kernels: Kernels,
    pool: ThreadPool,
    ropes: Vec<Rope>,
    cache: Cache,
    buffers: Vec<Buffer>,
    scores: Vec<f32>,
}

/// Room for one thread's share of the tokens.
#[derive(Default)]
struct Buffer {
    parts: Vec<Part>,
    normed: Vec<f32>,
    qkv: Vec<f32>,
    attended: Vec<f32>,
    inner: Vec<f32>,
    out: Vec<f32>,
    weights: Vec<f32>,
    tile: Vec<[f32; LANES]>,
}

/// Who shares the work of a product.
#[derive(Clone, Copy, PartialEq)]
enum Sharing {
    /// This thread does it: the others have tokens of their own.
    Alone,
    /// All threads, each some rows.
    All,
}

impl Decoder {
    /// Loads the model in `file` to run it with `kernels` on `threads` threads.
    ///
    /// # Errors
    ///
    /// When the model is not one that can be run, or threads cannot be started.
    pub fn load(file: &ModelFile, kernels: Kernels, threads: usize) -> Result<Self, GgufError> {
        let shape = Shape::read(&file.header.metadata)?;
        let weights = Weights::load(file, &shape)?;
        let pool = rayon::ThreadPoolBuilder::new()
            .num_threads(threads)
            .thread_name(|i| format!("llm-{i}"))
            .build()
            .map_err(|error| GgufError::Io(std::io::Error::other(error)))?;
        let factors = weights.rope_factors.as_deref();
        let mut ropes = vec![Rope::new(&shape, shape.rope_base, shape.rope_scale, factors)];
        if let Some(window) = shape.window {
            ropes.push(Rope::new(&shape, window.rope_base, 1.0, None));
        }
        let cache = Cache::new(shape.layers, shape.kv_heads, shape.head_size);
        let buffers = Vec::new();
        Ok(Self { shape, weights, kernels, pool, ropes, cache, buffers, scores: Vec::new() })
    }

    /// Its hyperparameters.
    pub fn shape(&self) -> &Shape {
        &self.shape
    }

    /// Tokens it knows; ids are below.
    pub fn vocabulary(&self) -> usize {
        self.weights.vocabulary()
    }

    /// Tokens read since the last [`Decoder::forget`].
    pub fn position(&self) -> usize {
        self.cache.len()
    }

    /// Forgets all that was read.
    pub fn forget(&mut self) {
        self.cache.clear();
    }

    /// Reads `tokens`, which are not none and below [`Decoder::vocabulary`], after what was read
    /// before, and gives a score for each possible next one. Between pieces of the text it asks
    /// `go_on`; `None` when that said no, then what was read is to be forgotten.
    pub fn read(&mut self, tokens: &[u32], mut go_on: impl FnMut() -> bool) -> Option<&[f32]> {
        let mut chunks = tokens.chunks(CHUNK).peekable();
        while let Some(chunk) = chunks.next() {
            if !go_on() {
                return None;
            }
            let last = chunks.peek().is_none();
            let Self { shape, weights, kernels, pool, ropes, cache, buffers, scores } = self;
            let threads = pool.current_num_threads();
            buffers.resize_with(threads, Buffer::default);
            let pass = Pass { shape, weights, kernels: *kernels, ropes, threads };
            pool.install(|| pass.run(chunk, cache, buffers, last.then_some(scores)));
        }
        Some(&self.scores)
    }
}

/// What is the same for all layers of a pass.
struct Pass<'a> {
    shape: &'a Shape,
    weights: &'a Weights,
    kernels: Kernels,
    ropes: &'a [Rope],
    threads: usize,
}

impl Pass<'_> {
    fn run(
        &self,
        tokens: &[u32],
        cache: &mut Cache,
        buffers: &mut [Buffer],
        scores: Option<&mut Vec<f32>>,
    ) {
        let width = self.shape.width;
        let first = cache.len();
        let mut x = vec![0.0; tokens.len() * width];
        for (token, x) in tokens.iter().zip(x.chunks_exact_mut(width)) {
            self.weights.embedding.row(*token as usize, x);
            x.iter_mut().for_each(|x| *x *= self.shape.embedding_scale);
        }
        // Many tokens are shared out among the threads; for few, the rows of matrices are.
        let (share, sharing) = if tokens.len() < 2 * self.threads || self.threads == 1 {
            let sharing = if self.threads == 1 { Sharing::Alone } else { Sharing::All };
            (tokens.len(), sharing)
        } else {
            (tokens.len().div_ceil(self.threads), Sharing::Alone)
        };
        for (number, layer) in self.weights.layers.iter().enumerate() {
            let local = self.shape.local(number);
            let rope = &self.ropes[usize::from(local.is_some())];
            let window = local.map(|window| window.size);
            let work = |(i, (x, buffer)): (usize, (&mut [f32], &mut Buffer))| {
                self.queries(layer, rope, first + i * share, x, buffer, sharing);
            };
            let shares = x.chunks_mut(share * width).zip(buffers.iter_mut()).enumerate();
            self.each(shares.collect(), sharing, work);
            for buffer in &buffers[..tokens.len().div_ceil(share)] {
                self.remember(number, cache, &buffer.qkv);
            }
            let cache = &*cache;
            let work = |(i, (x, buffer)): (usize, (&mut [f32], &mut Buffer))| {
                let range = Range { first: first + i * share, window };
                self.attend(number, layer, cache, range, x, buffer, sharing);
            };
            let shares = x.chunks_mut(share * width).zip(buffers.iter_mut()).enumerate();
            self.each(shares.collect(), sharing, work);
        }
        cache.advance(tokens.len());
        if let (Some(scores), Some(buffer)) = (scores, buffers.first_mut()) {
            let last = &x[x.len() - width..];
            self.norm(&self.weights.norm, last, &mut buffer.normed);
            let sharing = if self.threads == 1 { Sharing::Alone } else { Sharing::All };
            let Buffer { parts, normed, tile, .. } = buffer;
            match &self.weights.head {
                Some(head) => self.linear(head, normed, parts, tile, scores, sharing),
                None => {
                    let matrix = &self.weights.embedding;
                    self.product(matrix, normed, parts, tile, scores, sharing);
                }
            }
            scores.truncate(self.weights.vocabulary());
            // In 8 bits what is no number passes for 0, so the scores would not show it.
            if !normed.iter().all(|x| x.is_finite()) {
                scores.fill(f32::NAN);
            }
        }
    }

    /// Does `work` for each of the `shares`, all at once if they are one thread's each.
    fn each<T: Send>(&self, shares: Vec<T>, sharing: Sharing, work: impl Fn(T) + Send + Sync) {
        match sharing {
            Sharing::Alone if self.threads > 1 => shares.into_par_iter().for_each(work),
            _ => shares.into_iter().for_each(work),
        }
    }

    /// Queries, keys and values of the tokens in `x`, the first of which is at `position`.
    fn queries(
        &self,
        layer: &Layer,
        rope: &Rope,
        position: usize,
        x: &[f32],
        buffer: &mut Buffer,
        sharing: Sharing,
    ) {
        let Shape { heads, kv_heads, head_size, epsilon, .. } = *self.shape;
        self.norm(&layer.attention_norm, x, &mut buffer.normed);
        let Buffer { parts, normed, qkv, tile, .. } = buffer;
        self.linear(&layer.qkv, normed, parts, tile, qkv, sharing);
        let stride = (heads + 2 * kv_heads) * head_size;
        for (i, qkv) in qkv.chunks_exact_mut(stride).enumerate() {
            let (queries, rest) = qkv.split_at_mut(heads * head_size);
            let keys = &mut rest[..kv_heads * head_size];
            if let Some((query_norm, key_norm)) = &layer.head_norms {
                for query in queries.chunks_exact_mut(head_size) {
                    math::rms_norm(query, query_norm, epsilon);
                }
                for key in keys.chunks_exact_mut(head_size) {
                    math::rms_norm(key, key_norm, epsilon);
                }
            }
            let angles = rope.angles(position + i);
            for head in queries.chunks_exact_mut(head_size).chain(keys.chunks_exact_mut(head_size))
            {
                rope.turn(&angles, head);
            }
            queries.iter_mut().for_each(|query| *query *= self.shape.query_scale);
        }
    }

    /// Keeps keys and values for the tokens that come later.
    fn remember(&self, layer: usize, cache: &mut Cache, qkv: &[f32]) {
        let Shape { heads, kv_heads, head_size, .. } = *self.shape;
        for qkv in qkv.chunks_exact((heads + 2 * kv_heads) * head_size) {
            let (keys, values) = qkv[heads * head_size..].split_at(kv_heads * head_size);
            cache.push(layer, keys, values);
        }
    }

    /// Attention and the feed-forward part, added to `x`.
    #[expect(clippy::too_many_arguments, reason = "a step of a pipeline, called in one place")]
    fn attend(
        &self,
        number: usize,
        layer: &Layer,
        cache: &Cache,
        range: Range,
        x: &mut [f32],
        buffer: &mut Buffer,
        sharing: Sharing,
    ) {
        let Shape { heads, kv_heads, head_size, epsilon, width, .. } = *self.shape;
        let Buffer { parts, normed, qkv, attended, inner, out, weights, tile } = buffer;
        let stride = (heads + 2 * kv_heads) * head_size;
        attended.clear();
        attended.resize(x.len() / width * heads * head_size, 0.0);
        let rows = qkv.chunks_exact(stride).zip(attended.chunks_exact_mut(heads * head_size));
        for (i, (qkv, attended)) in rows.enumerate() {
            let range = Range { first: range.first + i, ..range };
            let heads = qkv.chunks_exact(head_size).zip(attended.chunks_exact_mut(head_size));
            for (head, (query, out)) in heads.enumerate() {
                let head = head / self.shape.sharing();
                cache.attend(self.kernels, number, head, range, query, weights, out);
            }
        }
        self.linear(&layer.output, attended, parts, tile, out, sharing);
        if let Some(norm) = &layer.post_attention {
            out.chunks_exact_mut(width).for_each(|row| math::rms_norm(row, norm, epsilon));
        }
        // Side by side, both parts see the same norm, which is still in `normed`.
        math::add(x, out);
        if let Some(norm) = &layer.inner_norm {
            self.norm(norm, x, normed);
        }
        self.linear(&layer.up, normed, parts, tile, inner, sharing);
        let rows = if layer.gated { 2 * self.shape.inner } else { self.shape.inner };
        for (i, _) in x.chunks_exact(width).enumerate() {
            // Results move to the front: row `i` ends before row `i` of the input begins.
            let from = i * rows;
            match (layer.gated, self.shape.family) {
                (false, _) => math::gelu(&mut inner[from..from + rows]),
                (true, family) => {
                    let (gate, value) = inner[from..from + rows].split_at_mut(self.shape.inner);
                    match family {
                        Family::Gemma3 => math::gelu(gate),
                        _ => math::silu(gate),
                    }
                    math::multiply(gate, value);
                    inner.copy_within(from..from + self.shape.inner, i * self.shape.inner);
                }
            }
        }
        inner.truncate(x.len() / width * self.shape.inner);
        self.linear(&layer.down, inner, parts, tile, out, sharing);
        if let Some(norm) = &layer.post_inner {
            out.chunks_exact_mut(width).for_each(|row| math::rms_norm(row, norm, epsilon));
        }
        math::add(x, out);
    }

    fn norm(&self, norm: &Norm, x: &[f32], out: &mut Vec<f32>) {
        out.clear();
        out.extend_from_slice(x);
        for row in out.chunks_exact_mut(self.shape.width) {
            match &norm.bias {
                None => math::rms_norm(row, &norm.weight, self.shape.epsilon),
                Some(bias) => math::layer_norm(row, &norm.weight, bias, self.shape.epsilon),
            }
        }
    }

    fn linear(
        &self,
        linear: &Linear,
        x: &[f32],
        parts: &mut Vec<Part>,
        tile: &mut Vec<[f32; LANES]>,
        out: &mut Vec<f32>,
        sharing: Sharing,
    ) {
        self.product(&linear.matrix, x, parts, tile, out, sharing);
        if let Some(bias) = &linear.bias {
            out.chunks_exact_mut(bias.len()).for_each(|row| math::add(row, bias));
        }
    }

    /// The products of `matrix` with each of the vectors in `x`, one after the other in `out`.
    fn product(
        &self,
        matrix: &Matrix,
        x: &[f32],
        parts: &mut Vec<Part>,
        tile: &mut Vec<[f32; LANES]>,
        out: &mut Vec<f32>,
        sharing: Sharing,
    ) {
        parts.clear();
        Part::quantise(x, parts);
        let n = x.len() / matrix.columns;
        let groups = matrix.rows.div_ceil(LANES);
        tile.clear();
        tile.resize(groups * n, [0.0; LANES]);
        let group = |(group, out): (usize, &mut [[f32; LANES]])| {
            let range = group * matrix.width()..(group + 1) * matrix.width();
            match &matrix.blocks {
                Blocks::Four(blocks) => self.kernels.four(&blocks[range], parts, out),
                Blocks::Eight(blocks) => self.kernels.eight(&blocks[range], parts, out),
            }
        };
        if sharing == Sharing::All && groups * matrix.width() >= PARALLEL_MIN {
            let least = groups.div_ceil(self.threads);
            tile.par_chunks_mut(n).enumerate().with_min_len(least).for_each(group);
        } else {
            tile.chunks_mut(n).enumerate().for_each(group);
        }
        // The tile is by groups of rows, the result by vectors.
        out.clear();
        out.resize(n * matrix.rows, 0.0);
        for (i, row) in out.chunks_exact_mut(matrix.rows).enumerate() {
            for (group, out) in row.chunks_mut(LANES).enumerate() {
                out.copy_from_slice(&tile[group * n + i][..out.len()]);
            }
        }
    }
}
