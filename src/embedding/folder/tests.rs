//! Small models in folders, against the network computed by definition.

use std::fs;
use std::path::PathBuf;

use safetensors::tensor::{Dtype, TensorView};
use tempfile::TempDir;

use super::super::{Encoder, EncoderOptions, Isa, Precision, cosine};
use super::*;

const LAYERS: usize = 2;
const POSITIONS: usize = 12;
const WORDS: usize = 8;
const EPSILON: f64 = 1e-5;

/// A model of random weights: tensors by name, with their shapes.
#[derive(Clone)]
struct Tiny {
    hidden: usize,
    inner: usize,
    heads: usize,
    tensors: Vec<(String, Vec<usize>, Vec<f32>)>,
}

impl Tiny {
    fn new(hidden: usize, inner: usize, heads: usize) -> Self {
        let mut model = Self { hidden, inner, heads, tensors: Vec::new() };
        let mut state = 7u64;
        let mut add = |name: &str, shape: &[usize], middle: f32, width: f32| {
            let mut number = || {
                state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
                middle + ((state >> 40) as f32 / (1 << 24) as f32 - 0.5) * width
            };
            let numbers = (0..shape.iter().product()).map(|_| number()).collect();
            model.tensors.push((name.to_owned(), shape.to_vec(), numbers));
        };
        add("embeddings.word_embeddings.weight", &[WORDS, hidden], 0.0, 2.0);
        add("embeddings.position_embeddings.weight", &[POSITIONS, hidden], 0.0, 2.0);
        add("embeddings.token_type_embeddings.weight", &[2, hidden], 0.0, 2.0);
        add("embeddings.LayerNorm.weight", &[hidden], 1.0, 0.5);
        add("embeddings.LayerNorm.bias", &[hidden], 0.0, 0.5);
        for i in 0..LAYERS {
            for (part, outputs, inputs) in [
                ("attention.self.query", hidden, hidden),
                ("attention.self.key", hidden, hidden),
                ("attention.self.value", hidden, hidden),
                ("attention.output.dense", hidden, hidden),
                ("intermediate.dense", inner, hidden),
                ("output.dense", hidden, inner),
            ] {
                add(&format!("encoder.layer.{i}.{part}.weight"), &[outputs, inputs], 0.0, 0.9);
                add(&format!("encoder.layer.{i}.{part}.bias"), &[outputs], 0.0, 0.5);
            }
            for part in ["attention.output.LayerNorm", "output.LayerNorm"] {
                add(&format!("encoder.layer.{i}.{part}.weight"), &[hidden], 1.0, 0.5);
                add(&format!("encoder.layer.{i}.{part}.bias"), &[hidden], 0.0, 0.5);
            }
        }
        model
    }

    fn numbers(&self, name: &str) -> Vec<f64> {
        let tensor = self.tensors.iter().find(|(other, ..)| other == name).unwrap();
        tensor.2.iter().map(|&x| f64::from(x)).collect()
    }

    /// The tensor's numbers, to be changed.
    fn change(&mut self, name: &str) -> &mut [f32] {
        &mut self.tensors.iter_mut().find(|(other, ..)| other == name).unwrap().2
    }

    /// Weights times `x`, and the bias.
    fn linear(&self, name: &str, x: &[f64]) -> Vec<f64> {
        let weight = self.numbers(&format!("{name}.weight"));
        let rows = weight.chunks(x.len()).zip(self.numbers(&format!("{name}.bias")));
        rows.map(|(row, bias)| dot(row, x) + bias).collect()
    }

    fn norm(&self, name: &str, x: &[f64]) -> Vec<f64> {
        let n = x.len() as f64;
        let mean = x.iter().sum::<f64>() / n;
        let variance = x.iter().map(|x| (x - mean).powi(2)).sum::<f64>() / n;
        let gains = self.numbers(&format!("{name}.weight"));
        let shifts = self.numbers(&format!("{name}.bias"));
        let scaled = x.iter().map(|x| (x - mean) / (variance + EPSILON).sqrt());
        scaled.zip(gains).zip(shifts).map(|((x, gain), shift)| x * gain + shift).collect()
    }

    /// The tokens' last vectors.
    fn tokens(&self, ids: &[usize]) -> Vec<Vec<f64>> {
        let h = self.hidden;
        let words = self.numbers("embeddings.word_embeddings.weight");
        let positions = self.numbers("embeddings.position_embeddings.weight");
        let types = self.numbers("embeddings.token_type_embeddings.weight");
        let sum = |at: usize, id: usize| -> Vec<f64> {
            (0..h).map(|i| words[id * h + i] + positions[at * h + i] + types[i]).collect()
        };
        let embedded = ids.iter().enumerate().map(|(at, &id)| sum(at, id));
        let mut x: Vec<Vec<f64>> =
            embedded.map(|sum| self.norm("embeddings.LayerNorm", &sum)).collect();
        for i in 0..LAYERS {
            let layer = |part: &str| format!("encoder.layer.{i}.{part}");
            let all = |part: &str, x: &[Vec<f64>]| -> Vec<Vec<f64>> {
                x.iter().map(|x| self.linear(&layer(part), x)).collect()
            };
            let (q, k, v) = (
                all("attention.self.query", &x),
                all("attention.self.key", &x),
                all("attention.self.value", &x),
            );
            let mut attended = vec![vec![0.0; h]; x.len()];
            let size = h / self.heads;
            for head in (0..h).step_by(size).map(|at| at..at + size) {
                for (t, out) in attended.iter_mut().enumerate() {
                    let score = |k: &Vec<f64>| {
                        dot(&q[t][head.clone()], &k[head.clone()]) / (size as f64).sqrt()
                    };
                    let weights: Vec<f64> = k.iter().map(|k| score(k).exp()).collect();
                    let all: f64 = weights.iter().sum();
                    for at in head.clone() {
                        out[at] = v.iter().zip(&weights).map(|(v, w)| v[at] * w / all).sum();
                    }
                }
            }
            let out = all("attention.output.dense", &attended);
            x = self.add_and_norm(&layer("attention.output.LayerNorm"), &x, &out);
            let mut inner = all("intermediate.dense", &x);
            inner.iter_mut().flatten().for_each(|x| *x = gelu(*x));
            let out = all("output.dense", &inner);
            x = self.add_and_norm(&layer("output.LayerNorm"), &x, &out);
        }
        x
    }

    fn add_and_norm(&self, name: &str, x: &[Vec<f64>], y: &[Vec<f64>]) -> Vec<Vec<f64>> {
        let sum = |(x, y): (&Vec<f64>, &Vec<f64>)| -> Vec<f64> {
            x.iter().zip(y).map(|(x, y)| x + y).collect()
        };
        x.iter().zip(y).map(|both| self.norm(name, &sum(both))).collect()
    }

    /// The text's vector, of length 1.
    fn vector(&self, ids: &[usize], pooling: Pooling) -> Vec<f32> {
        let tokens = self.tokens(ids);
        let pooled: Vec<f64> = match pooling {
            Pooling::First => tokens[0].clone(),
            Pooling::Mean => {
                (0..self.hidden).map(|i| tokens.iter().map(|token| token[i]).sum()).collect()
            }
        };
        let length = dot(&pooled, &pooled).sqrt();
        pooled.iter().map(|x| (x / length) as f32).collect()
    }

    /// As a folder, its tensors' names with `prefix`, beside further files.
    fn folder(&self, prefix: &str, further: &[(&str, &str)]) -> TempDir {
        let Self { hidden, inner, heads, .. } = self;
        let config = format!(
            r#"{{"hidden_size":{hidden},"intermediate_size":{inner},"num_attention_heads":{heads},
            "num_hidden_layers":{LAYERS},"max_position_embeddings":{POSITIONS},"type_vocab_size":2,
            "vocab_size":{WORDS},"layer_norm_eps":{EPSILON},"hidden_act":"gelu","model_type":"bert"}}"#
        );
        let bytes: Vec<_> = self
            .tensors
            .iter()
            .map(|(name, shape, numbers)| {
                let bytes: Vec<u8> = numbers.iter().flat_map(|x| x.to_le_bytes()).collect();
                (format!("{prefix}{name}"), shape.clone(), bytes)
            })
            .collect();
        let views = bytes.iter().map(|(name, shape, bytes)| {
            (name, TensorView::new(Dtype::F32, shape.clone(), bytes).unwrap())
        });
        let weights = safetensors::serialize(views, None).unwrap();
        let folder = tempfile::tempdir().unwrap();
        let write = |name: &str, bytes: &[u8]| {
            let path = folder.path().join(name);
            fs::create_dir_all(path.parent().unwrap()).unwrap();
            fs::write(path, bytes).unwrap();
        };
        write("config.json", config.as_bytes());
        write("tokenizer.json", TOKENIZER_JSON.as_bytes());
        write("model.safetensors", &weights);
        further.iter().for_each(|(name, text)| write(name, text.as_bytes()));
        folder
    }

    fn opened(&self, further: &[(&str, &str)]) -> Encoder {
        Encoder::open(self.folder("", further).path(), Precision::F32).unwrap()
    }

    /// Why a folder with these files is refused.
    fn refused(&self, further: &[(&str, &str)]) -> String {
        match Encoder::open(self.folder("", further).path(), Precision::F32) {
            Err(error) => error.to_string(),
            Ok(_) => panic!("{further:?} was taken"),
        }
    }
}

/// Words `a` to `d` are tokens 4 to 7, 2 and 3 the marks around them.
const TOKENIZER_JSON: &str = r###"{"version":"1.0","truncation":null,"padding":null,"added_tokens":[],
    "normalizer":null,"pre_tokenizer":{"type":"WhitespaceSplit"},
    "post_processor":{"type":"TemplateProcessing","single":[{"SpecialToken":{"id":"[CLS]","type_id":0}},
        {"Sequence":{"id":"A","type_id":0}},{"SpecialToken":{"id":"[SEP]","type_id":0}}],"pair":[],
        "special_tokens":{"[CLS]":{"id":"[CLS]","ids":[2],"tokens":["[CLS]"]},
            "[SEP]":{"id":"[SEP]","ids":[3],"tokens":["[SEP]"]}}},
    "decoder":null,
    "model":{"type":"WordPiece","unk_token":"[UNK]","continuing_subword_prefix":"##","max_input_chars_per_word":100,
        "vocab":{"[PAD]":0,"[UNK]":1,"[CLS]":2,"[SEP]":3,"a":4,"b":5,"c":6,"d":7}}}"###;

const TEXT: &str = "b a d c a";
const IDS: [usize; 7] = [2, 5, 4, 7, 6, 4, 3];

fn dot(a: &[f64], b: &[f64]) -> f64 {
    a.iter().zip(b).map(|(a, b)| a * b).sum()
}

/// `x · Φ(x)`, with `Φ` as the integral of the density by Simpson's rule.
fn gelu(x: f64) -> f64 {
    const STEPS: usize = 400;
    let step = x / STEPS as f64;
    let density = |i: usize| (-(i as f64 * step).powi(2) / 2.0).exp();
    let weight = |i: usize| match i {
        0 | STEPS => 1.0,
        i if i % 2 == 1 => 4.0,
        _ => 2.0,
    };
    let area: f64 = (0..=STEPS).map(|i| weight(i) * density(i)).sum::<f64>() * step / 3.0;
    x * (0.5 + area / (2.0 * std::f64::consts::PI).sqrt())
}

fn one(encoder: &Encoder, text: &str) -> Vec<f32> {
    encoder.encode(&[text]).unwrap().remove(0)
}

fn assert_close(got: &[f32], want: &[f32], what: &str) {
    for (x, y) in got.iter().zip(want) {
        assert!((x - y).abs() < 1e-5, "{what}: {x} {y}");
    }
    assert_eq!(got.len(), want.len());
}

const POOLING_FILE: &str = "1_Pooling/config.json";

#[test]
fn vectors_are_those_of_the_definition_at_every_level() {
    // Sizes that fill whole lines, and some that fill nothing.
    for (hidden, inner, heads) in [(64, 128, 2), (32, 96, 1), (36, 50, 3), (20, 17, 5)] {
        let model = Tiny::new(hidden, inner, heads);
        let folder = model.folder("", &[]);
        let want = model.vector(&IDS, Pooling::Mean);
        for isa in Isa::ALL.into_iter().filter(|isa| isa.is_available()) {
            let what = format!("{isa}, {hidden} {inner} {heads}");
            let open = |precision| {
                let options = EncoderOptions { precision, isa: Some(isa) };
                Encoder::open(folder.path(), options).unwrap()
            };
            assert_close(&one(&open(Precision::F32), TEXT), &want, &what);
            let similarity = cosine(&one(&open(Precision::Auto), TEXT), &want);
            assert!(similarity > 0.999, "{what}: {similarity}");
        }
    }
}

#[test]
fn pooling_is_what_the_folder_says() {
    let model = Tiny::new(32, 64, 2);
    let (mean, first) = (model.vector(&IDS, Pooling::Mean), model.vector(&IDS, Pooling::First));
    assert!(cosine(&mean, &first) < 0.99, "the two differ");
    assert_close(&one(&model.opened(&[]), TEXT), &mean, "no settings");
    for (settings, want) in [
        ("{}", &mean),
        (r#"{"pooling_mode_mean_tokens":true,"pooling_mode_cls_token":false}"#, &mean),
        (r#"{"pooling_mode_cls_token":true,"pooling_mode_mean_tokens":false}"#, &first),
        (r#"{"pooling_mode_mean_tokens":false,"pooling_mode_mean_sqrt_len_tokens":true}"#, &mean),
        (r#"{"embedding_dimension":32,"pooling_mode":"mean","include_prompt":true}"#, &mean),
        (r#"{"pooling_mode":"cls"}"#, &first),
        (r#"{"pooling_mode":["mean_sqrt_len_tokens"]}"#, &mean),
    ] {
        assert_close(&one(&model.opened(&[(POOLING_FILE, settings)]), TEXT), want, settings);
    }
    for settings in [
        r#"{"pooling_mode_cls_token":true}"#,
        r#"{"pooling_mode_mean_tokens":false}"#,
        r#"{"pooling_mode_max_tokens":true}"#,
        r#"{"pooling_mode":"max"}"#,
        r#"{"pooling_mode":["mean","cls"]}"#,
        r#"{"pooling_mode":[]}"#,
        r#"{"pooling_mode":7}"#,
    ] {
        let reason = model.refused(&[(POOLING_FILE, settings)]);
        assert!(reason.contains(POOLING_FILE), "{settings}: {reason}");
    }
}

#[test]
fn names_may_have_the_prefix_of_a_larger_model() {
    let model = Tiny::new(32, 64, 2);
    let folder = model.folder("bert.", &[]);
    let encoder = Encoder::open(folder.path(), Precision::F32).unwrap();
    assert_close(&one(&encoder, TEXT), &model.vector(&IDS, Pooling::Mean), "bert.");
    let Err(EmbedError::Model(reason)) =
        Encoder::open(model.folder("roberta.", &[]).path(), Precision::F32)
    else {
        panic!("another prefix was taken")
    };
    assert!(reason.contains("embeddings.word_embeddings.weight"), "{reason}");
}

#[test]
fn positions_and_the_first_type_count_and_other_types_do_not() {
    let model = Tiny::new(32, 64, 2);
    let vector = one(&model.opened(&[]), TEXT);
    let changed = |name: &str, row: usize| {
        let mut other = model.clone();
        other.change(name)[row * 32..][..32].reverse();
        let vector = one(&other.opened(&[]), TEXT);
        assert_close(&vector, &other.vector(&IDS, Pooling::Mean), name);
        vector
    };
    let types = "embeddings.token_type_embeddings.weight";
    let positions = "embeddings.position_embeddings.weight";
    assert!(cosine(&changed(types, 0), &vector) < 0.999);
    assert_eq!(changed(types, 1), vector);
    assert!(cosine(&changed(positions, 6), &vector) < 0.999);
    assert_eq!(changed(positions, 7), vector, "a position behind the last token");
    assert!(cosine(&one(&model.opened(&[]), "a b d c a"), &vector) < 0.999, "order counts");
}

#[test]
fn vectors_have_length_1_whether_or_not_the_folder_normalises() {
    let model = Tiny::new(32, 64, 2);
    let module = |kind: &str, path: &str| {
        format!(
            r#"{{"idx":0,"name":"0","path":"{path}","type":"sentence_transformers.models.{kind}"}}"#
        )
    };
    let two = [module("Transformer", ""), module("Pooling", "1_Pooling")].join(",");
    let want = model.vector(&IDS, Pooling::Mean);
    for modules in [format!("[{two}]"), format!("[{two},{}]", module("Normalize", "2_Normalize"))] {
        assert_close(&one(&model.opened(&[("modules.json", &modules)]), TEXT), &want, &modules);
    }
    for further in [module("Dense", "2_Dense"), module("Pooling", "3_Pooling")] {
        let reason = model.refused(&[("modules.json", &format!("[{two},{further}]"))]);
        let told = reason.contains("modules.json")
            && (reason.contains("Dense") || reason.contains("3_Pooling"));
        assert!(told, "{reason}");
    }
}

#[test]
fn what_is_behind_the_window_is_not_read() {
    let model = Tiny::new(32, 64, 2);
    let long = "a b c d ".repeat(9);
    let ids = |window: usize| {
        let inner = [4, 5, 6, 7].into_iter().cycle().take(window - 2);
        [2].into_iter().chain(inner).chain([3]).collect::<Vec<usize>>()
    };
    let (sentences, tokenizer) = ("sentence_bert_config.json", "tokenizer_config.json");
    for (further, window) in [
        (&[][..], POSITIONS),
        (&[(sentences, r#"{"max_seq_length":5}"#)], 5),
        (&[(sentences, r#"{"max_seq_length":3}"#)], 3),
        (&[(sentences, r#"{"max_seq_length":512}"#)], POSITIONS),
        (&[(sentences, r#"{"max_seq_length":null}"#)], POSITIONS),
        (&[(sentences, "{}"), (tokenizer, r#"{"model_max_length":7}"#)], 7),
        (&[(sentences, r#"{"max_seq_length":5}"#), (tokenizer, r#"{"model_max_length":7}"#)], 5),
        (&[(tokenizer, r#"{"model_max_length":1000000000000000019884624838656}"#)], POSITIONS),
        (&[(tokenizer, "{}")], POSITIONS),
    ] {
        let encoder = model.opened(further);
        assert_eq!(encoder.model().max_tokens, window, "{further:?}");
        let want = model.vector(&ids(window), Pooling::Mean);
        assert_close(&one(&encoder, &long), &want, &format!("{further:?}"));
    }
    for (file, settings) in [
        (sentences, r#"{"max_seq_length":2}"#),
        (sentences, r#"{"max_seq_length":-1}"#),
        (tokenizer, r#"{"model_max_length":2}"#),
        (tokenizer, r#"{"model_max_length":-7}"#),
        (tokenizer, r#"{"model_max_length":"7"}"#),
    ] {
        assert!(model.refused(&[(file, settings)]).contains(file), "{settings}");
    }
}

#[test]
fn a_model_is_named_after_its_folder() {
    let folder = Tiny::new(32, 64, 2).folder("", &[]);
    let name = folder.path().file_name().unwrap().to_string_lossy().into_owned();
    let roundabout: PathBuf = folder.path().join("..").join(&name).join(".");
    let encoder = Encoder::open(&roundabout, Precision::F32).unwrap();
    assert_eq!((encoder.model().name.as_str(), encoder.model().dim), (name.as_str(), 32));
}
