//! The model as a function from texts to vectors.

use std::cmp::Reverse;
use std::path::Path;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Mutex, PoisonError};
use std::thread;

use super::bert::{Arena, Bert};
use super::between::Between;
use super::folder::ModelFiles;
use super::kernels::{Isa, Kernel};
use super::linear::Form;
use super::model::{EncoderOptions, ModelInfo, Precision};
use super::tokenize::WordPieces;
use super::{EmbedError, batcher::lock, windows};

/// Tokens computed in one go. Larger gains nothing measurable, since the weights are read once
/// for each and stay in the cache, and smaller reads them more often.
pub(super) const SLICE_TOKENS: usize = 512;

/// The word pieces of one text.
pub(super) type Tokens = Vec<u32>;

/// The model, loaded. Takes about 12 MB of memory besides the file it is part of, and 43 MB with
/// [`Precision::F32`]; share it.
pub struct Encoder {
    info: ModelInfo,
    pieces: WordPieces,
    bert: Bert,
    /// Buffers of passes that are over, for those to come: as many as ran at once.
    arenas: Mutex<Vec<Arena>>,
}

impl Encoder {
    /// Loads the model that is compiled in; about 0.1 s.
    ///
    /// # Errors
    ///
    /// [`EmbedError::Processor`] if instructions are asked for that are not there.
    /// [`EmbedError::Model`], which would be a fault of the build.
    pub fn built_in(options: impl Into<EncoderOptions>) -> Result<Self, EmbedError> {
        Self::load(ModelFiles::built_in()?, options.into())
    }

    /// Loads a model of the BERT family from a folder as sentence-transformers writes it:
    /// `config.json`, `tokenizer.json` and `model.safetensors` (f16, bf16 or f32), and where they
    /// are there `modules.json`, `1_Pooling/config.json`, `sentence_bert_config.json` and
    /// `tokenizer_config.json`. The model is named after the folder. Its files are read here and not needed afterwards.
    ///
    /// # Errors
    ///
    /// [`EmbedError::Processor`] if instructions are asked for that are not there.
    /// [`EmbedError::Model`] if a file is missing, damaged, or of a model that this is none of;
    /// it names the file and the field or tensor.
    pub fn open(folder: &Path, options: impl Into<EncoderOptions>) -> Result<Self, EmbedError> {
        Self::load(ModelFiles::open(folder)?, options.into())
    }

    fn load(files: ModelFiles, options: EncoderOptions) -> Result<Self, EmbedError> {
        let ModelFiles { info, config, pooling, tokenizer, weights } = files;
        let EncoderOptions { precision, isa } = options;
        let kernel = Kernel::choose(isa)?;
        let form = match (precision, kernel.isa()) {
            (Precision::F32, _) => Form::F32,
            (Precision::Auto, Isa::Amx) => Form::Bf16,
            (Precision::Auto, _) => Form::I16,
        };
        // The two take about as long.
        let (pieces, bert) = thread::scope(|scope| {
            let pieces = scope.spawn(|| WordPieces::new(&tokenizer, info.max_tokens));
            let bert = Bert::load(&config, pooling, &weights, form, kernel);
            let panicked = |_| EmbedError::Model("tokenizer.json: reading it panicked".to_owned());
            (pieces.join().map_err(panicked), bert)
        });
        let (pieces, bert) = (pieces??, bert?);
        Ok(Self { info, pieces, bert, arenas: Mutex::default() })
    }

    /// What the vectors are.
    pub fn model(&self) -> &ModelInfo {
        &self.info
    }

    /// The instructions it computes with.
    pub fn isa(&self) -> Isa {
        self.bert.isa()
    }

    /// Word pieces of each text, cut to the window: what the time of a text grows with.
    ///
    /// # Errors
    ///
    /// [`EmbedError::Failed`] if a text cannot be split.
    pub fn count_tokens(&self, texts: &[&str]) -> Result<Vec<usize>, EmbedError> {
        texts.iter().map(|text| Ok(self.tokenize(text)?.len())).collect()
    }

    /// The parts of `text` beyond the model's window, to be embedded as texts of their own: each as
    /// long as the window and overlapping the one before by 64 word pieces, at most
    /// [`WINDOWS_MAX`](super::WINDOWS_MAX) with the first. None if the text fits the window.
    ///
    /// # Errors
    ///
    /// [`EmbedError::Failed`] if the text cannot be split.
    pub fn further_windows(&self, text: &str) -> Result<Vec<String>, EmbedError> {
        windows::further(&self.pieces, text)
    }

    /// The vectors of `texts`, in their order, each of length 1. Uses every core until it is done;
    /// blocks, so not for async threads. What lies beyond the model's window of a text is ignored.
    ///
    /// # Errors
    ///
    /// [`EmbedError::Failed`] if the computation fails for any of the texts.
    pub fn encode(&self, texts: &[&str]) -> Result<Vec<Vec<f32>>, EmbedError> {
        self.encode_on(texts, thread::available_parallelism().map_or(1, usize::from))
    }

    /// [`Encoder::encode`] on `cores` threads.
    ///
    /// # Errors
    ///
    /// [`EmbedError::Failed`] if the computation fails for any of the texts.
    pub fn encode_on(&self, texts: &[&str], cores: usize) -> Result<Vec<Vec<f32>>, EmbedError> {
        let cores = cores.max(1);
        let tokens = self.tokenize_all(texts, cores)?;

        // Longest first, so that the cores finish at about the same time.
        let mut order: Vec<usize> = (0..texts.len()).collect();
        order.sort_by_key(|&i| Reverse(tokens[i].len()));
        let slices = cut(&order, |&i| tokens[i].len());

        let next = AtomicUsize::new(0);
        let done = Mutex::new(Vec::with_capacity(texts.len()));
        let failed = Mutex::new(None);
        on_threads(cores.min(slices.len()), || {
            while let Some(&slice) = slices.get(next.fetch_add(1, Ordering::Relaxed)) {
                let batch: Vec<&[u32]> = slice.iter().map(|&i| tokens[i].as_slice()).collect();
                match self.forward(&batch, None) {
                    Ok(vectors) => lock(&done).extend(slice.iter().copied().zip(vectors)),
                    Err(error) => {
                        *lock(&failed) = Some(error);
                        return;
                    }
                }
            }
        })?;
        if let Some(error) = failed.into_inner().unwrap_or_else(PoisonError::into_inner) {
            return Err(error);
        }
        let mut done = done.into_inner().unwrap_or_else(PoisonError::into_inner);
        done.sort_unstable_by_key(|&(i, _)| i);
        Ok(done.into_iter().map(|(_, vector)| vector).collect())
    }

    /// The word pieces of `text`, cut to the window.
    pub(super) fn tokenize(&self, text: &str) -> Result<Tokens, EmbedError> {
        self.pieces.split(text)
    }

    /// The vectors of a slice of texts, on the calling thread, which runs what comes in `between`
    /// meanwhile.
    pub(super) fn forward(
        &self,
        texts: &[&[u32]],
        between: Option<&Between<'_>>,
    ) -> Result<Vec<Vec<f32>>, EmbedError> {
        let mut arena = lock(&self.arenas).pop().unwrap_or_else(Arena::new);
        let vectors = self.bert.forward(texts, &mut arena, between);
        lock(&self.arenas).push(arena);
        vectors
    }

    fn tokenize_all(&self, texts: &[&str], cores: usize) -> Result<Vec<Tokens>, EmbedError> {
        let share = texts.len().div_ceil(cores).max(1);
        thread::scope(|scope| {
            let shares: Vec<_> = texts
                .chunks(share)
                .map(|texts| {
                    scope.spawn(move || {
                        texts.iter().map(|text| self.tokenize(text)).collect::<Result<Vec<_>, _>>()
                    })
                })
                .collect();
            let mut tokens = Vec::with_capacity(texts.len());
            // All are joined first: the scope panics for one that has panicked and was not.
            for share in shares.into_iter().map(|share| share.join()).collect::<Vec<_>>() {
                let panicked = |_| EmbedError::Failed("the tokenizer panicked".to_owned());
                tokens.extend(share.map_err(panicked)??);
            }
            Ok(tokens)
        })
    }
}

/// Cuts `items` into runs of at most [`SLICE_TOKENS`] tokens, or of one item.
fn cut<T>(items: &[T], n_tokens: impl Fn(&T) -> usize) -> Vec<&[T]> {
    let mut slices = Vec::new();
    let (mut start, mut sum) = (0, 0);
    for (i, item) in items.iter().enumerate() {
        let tokens = n_tokens(item);
        if i > start && sum + tokens > SLICE_TOKENS {
            slices.push(&items[start..i]);
            (start, sum) = (i, 0);
        }
        sum += tokens;
    }
    if start < items.len() {
        slices.push(&items[start..]);
    }
    slices
}

/// Runs `work` on `n` threads at once. Several products on a core each are faster than one product
/// on all cores.
fn on_threads(n: usize, work: impl Fn() + Sync) -> Result<(), EmbedError> {
    thread::scope(|scope| {
        let threads: Vec<_> = (0..n).map(|_| scope.spawn(&work)).collect();
        // All are joined first: the scope panics for one that has panicked and was not.
        for joined in threads.into_iter().map(|thread| thread.join()).collect::<Vec<_>>() {
            joined.map_err(|_| EmbedError::Failed("the model panicked".to_owned()))?;
        }
        Ok(())
    })
}

#[cfg(test)]
mod tests {
    use std::cell::{Cell, RefCell};
    use std::sync::OnceLock;
    use std::time::{Duration, Instant};

    use base64::Engine;
    use base64::prelude::BASE64_STANDARD;
    use candle_core::{DType, Device, Tensor};
    use candle_nn::VarBuilder;
    use candle_transformers::models::bert::BertModel;
    use half::f16;
    use proptest::prelude::*;
    use serde::Deserialize;

    use super::*;
    use crate::embedding::{cosine, folder};

    fn encoder() -> &'static Encoder {
        static ENCODER: OnceLock<Encoder> = OnceLock::new();
        ENCODER.get_or_init(|| Encoder::built_in(Precision::F32).unwrap())
    }

    /// A line of `tests/data/golden/embeddings.jsonl`.
    #[derive(Deserialize)]
    struct Golden {
        text: String,
        n_tokens: usize,
        embedding: String,
    }

    impl Golden {
        fn all() -> Vec<Self> {
            include_str!("../../tests/data/golden/embeddings.jsonl")
                .lines()
                .map(|line| serde_json::from_str(line).unwrap())
                .collect()
        }

        fn vector(&self) -> Vec<f32> {
            let bytes = BASE64_STANDARD.decode(&self.embedding).unwrap();
            let numbers = bytes.chunks_exact(2);
            numbers.map(|x| f16::from_le_bytes(x.try_into().unwrap()).to_f32()).collect()
        }
    }

    /// Every golden text has the pieces and, to a cosine of `least`, the vector of the reference.
    fn agrees_with_the_reference(name: &str, encoder: &Encoder, golden: &[Golden], least: f32) {
        let texts: Vec<&str> = golden.iter().map(|golden| golden.text.as_str()).collect();
        let vectors = encoder.encode(&texts).unwrap();
        for (golden, vector) in golden.iter().zip(&vectors) {
            let n_tokens = encoder.tokenize(&golden.text).unwrap().len();
            assert_eq!(n_tokens, golden.n_tokens, "{:?}", golden.text);
            let similarity = cosine(vector, &golden.vector());
            assert!(similarity >= least, "{name}, {:?}: {similarity}", golden.text);
            let length = vector.iter().map(|x| x * x).sum::<f32>().sqrt();
            assert!((length - 1.0).abs() < 1e-5, "{name}, {:?}: {length}", golden.text);
        }
    }

    /// The encoders of every level of this processor, with the least cosine to the reference that
    /// their precision promises.
    fn all_encoders() -> impl Iterator<Item = (Isa, Precision, f32, Encoder)> {
        let there = Isa::ALL.into_iter().filter(|isa| isa.is_available());
        let all =
            there.flat_map(|isa| [(Precision::F32, isa, 0.999_99), (Precision::Auto, isa, 0.998)]);
        all.map(|(precision, isa, least)| {
            let options = EncoderOptions { precision, isa: Some(isa) };
            (isa, precision, least, Encoder::built_in(options).unwrap())
        })
    }

    #[test]
    fn vectors_are_those_of_the_reference() {
        let golden = Golden::all();
        assert_eq!(golden.len(), 500);
        // A level that is not this processor's best takes long, and a part of the texts, of all
        // lengths and scripts, tells as much of it.
        let some: Vec<Golden> = Golden::all().into_iter().step_by(25).collect();
        let best = Isa::ALL.into_iter().find(|isa| isa.is_available());
        for (isa, precision, least, encoder) in all_encoders() {
            let golden = if Some(isa) == best { &golden } else { &some };
            agrees_with_the_reference(&format!("{precision} {isa}"), &encoder, golden, least);
        }
    }

    /// Integer sums are the same with every level. What follows differs in rounding, which now and
    /// then moves a number to the next step of its scale.
    #[test]
    fn levels_that_round_alike_agree() {
        let text = ["Swept wings at a high angle of attack, measured in a wind tunnel."];
        let vector = |isa| {
            let options = EncoderOptions { precision: Precision::Auto, isa: Some(isa) };
            Encoder::built_in(options).unwrap().encode(&text).unwrap().remove(0)
        };
        let portable = vector(Isa::Portable);
        for isa in [Isa::Avx512Vnni, Isa::Avx2] {
            if !isa.is_available() {
                println!("skipped: this processor has no {isa}");
                continue;
            }
            let similarity = cosine(&vector(isa), &portable);
            assert!(similarity > 0.999_95, "{isa}: {similarity}");
        }
    }

    /// candle's own BERT on the same weights: what our kernels and layout add must be rounding.
    #[test]
    fn vectors_are_those_of_the_stock_model() {
        let weights =
            VarBuilder::from_slice_safetensors(folder::WEIGHTS, DType::F32, &Device::Cpu).unwrap();
        let config = serde_json::from_slice(include_bytes!(
            "../../assets/models/all-MiniLM-L6-v2/config.json"
        ))
        .unwrap();
        let stock = BertModel::load(weights, &config).unwrap();
        for text in ["Swept wings.", "", "東京 and a café, 3.14!", &"long text ".repeat(90)] {
            let tokens = encoder().tokenize(text).unwrap();
            let ids = Tensor::new(tokens.as_slice(), &Device::Cpu).unwrap().unsqueeze(0).unwrap();
            let types = ids.zeros_like().unwrap();
            let output = stock.forward(&ids, &types, None).unwrap();
            let mean: Vec<f32> = output.mean(1).unwrap().squeeze(0).unwrap().to_vec1().unwrap();
            let length = mean.iter().map(|x| x * x).sum::<f32>().sqrt();
            let ours = encoder().encode(&[text]).unwrap().remove(0);
            for (ours, stock) in ours.iter().zip(&mean) {
                assert!((ours - stock / length).abs() < 2e-6, "{text:?}");
            }
        }
    }

    #[test]
    fn hostile_texts_get_a_vector_in_time() {
        let texts = [
            String::new(),
            "x".repeat(1 << 20),
            "\u{0}\u{1}\u{7f}\u{85}".repeat(1 << 18),
            "\u{1f600}".repeat(1 << 18),
            "語".repeat(1 << 18),
            "\u{301}".repeat(1 << 19),
            " \t\n".repeat(1 << 19),
            "[CLS][SEP][PAD]".repeat(1 << 16),
            "a\u{fffd}\u{feff}\u{202e}".repeat(1 << 17),
        ];
        let texts: Vec<&str> = texts.iter().map(String::as_str).collect();
        let start = Instant::now();
        let vectors = encoder().encode(&texts).unwrap();
        // Far above what it takes even without optimisation; an unbounded text would exceed it.
        assert!(start.elapsed() < Duration::from_secs(60));
        for (text, vector) in texts.iter().zip(&vectors) {
            assert_eq!(vector.len(), 384);
            assert!(vector.iter().all(|x| x.is_finite()), "{:?}", text.chars().next());
        }
    }

    /// Tiles are taken away and given back, buffers are lent to both: none of it may show.
    #[test]
    fn a_pass_that_is_interrupted_makes_the_same_vectors() {
        let text = "A text of a job about pumps, valves and seals. ".repeat(12);
        let job = encoder().tokenize(&text).unwrap();
        let query = encoder().tokenize("which seal fits pump B").unwrap();
        for (isa, precision, _, encoder) in all_encoders() {
            let undisturbed = encoder.forward(&[&job, &query], None).unwrap();
            let (waiting, looks) = (AtomicUsize::new(1), Cell::new(0));
            let answers = RefCell::new(Vec::new());
            let serve = || {
                if looks.replace(looks.get() + 1) % 150 == 0 {
                    answers.borrow_mut().extend(encoder.forward(&[&query], None).unwrap());
                }
            };
            let between = Between::new(&waiting, &serve);
            let vectors = encoder.forward(&[&job, &query], Some(&between)).unwrap();
            assert_eq!(vectors, undisturbed, "{isa} {precision}");
            let answers = answers.into_inner();
            assert!(answers.len() > 3, "{isa} {precision}: {} looks", looks.get());
            assert!(answers.iter().all(|answer| cosine(answer, &undisturbed[1]) > 0.999_999));
        }
    }

    #[test]
    fn nothing_is_encoded_to_nothing() {
        assert!(encoder().encode(&[]).unwrap().is_empty());
    }

    #[test]
    fn a_token_out_of_the_vocabulary_is_an_error() {
        assert!(matches!(
            encoder().forward(&[&[101, 30_522, 102]], None),
            Err(EmbedError::Failed(_))
        ));
        assert!(matches!(encoder().forward(&[&[101; 513]], None), Err(EmbedError::Failed(_))));
        assert_eq!(encoder().forward(&[&[]], None).unwrap(), [vec![0.0; 384]]);
    }

    #[test]
    fn slices_hold_every_item_once_and_are_bounded() {
        let items = [256, 256, 200, 300, 13, 600, 2, 2];
        let slices = cut(&items, |&n| n);
        assert_eq!(slices, [&items[..2], &[200, 300], &[13], &[600], &[2, 2]]);
        assert!(cut(&[], |&n: &usize| n).is_empty());
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(16))]

        /// A text's vector does not depend on its company.
        #[test]
        fn a_text_alone_and_in_a_batch_are_the_same(texts in prop::collection::vec(".{0,80}", 1..8)) {
            let texts: Vec<&str> = texts.iter().map(String::as_str).collect();
            let together = encoder().encode(&texts).unwrap();
            for (text, together) in texts.iter().zip(&together) {
                let alone = encoder().encode(&[text]).unwrap().remove(0);
                prop_assert!(cosine(&alone, together) > 0.999_999);
            }
        }
    }
}
