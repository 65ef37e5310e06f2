//! Model folders that are damaged or made to do harm: each is refused with an error, in little
//! memory, or is a model.

use std::fs;
use std::path::Path;

use proptest::prelude::*;
use safetensors::tensor::{Dtype, TensorView};
use tempfile::TempDir;

use super::{EmbedError, Encoder, Precision};

const CONFIG: &str = r#"{"hidden_size":32,"intermediate_size":64,"num_attention_heads":2,
    "num_hidden_layers":1,"max_position_embeddings":16,"type_vocab_size":2,"vocab_size":8,
    "layer_norm_eps":1e-12,"hidden_act":"gelu","model_type":"bert"}"#;

const TOKENIZER: &str = r###"{"version":"1.0","truncation":null,"padding":null,"added_tokens":[
    {"id":2,"special":true,"content":"[CLS]","single_word":false,"lstrip":false,"rstrip":false,"normalized":false},
    {"id":3,"special":true,"content":"[SEP]","single_word":false,"lstrip":false,"rstrip":false,"normalized":false}],
    "normalizer":{"type":"BertNormalizer","clean_text":true,"handle_chinese_chars":true,"strip_accents":null,"lowercase":true},
    "pre_tokenizer":{"type":"BertPreTokenizer"},
    "post_processor":{"type":"TemplateProcessing","single":[{"SpecialToken":{"id":"[CLS]","type_id":0}},
        {"Sequence":{"id":"A","type_id":0}},{"SpecialToken":{"id":"[SEP]","type_id":0}}],"pair":[],
        "special_tokens":{"[CLS]":{"id":"[CLS]","ids":[2],"tokens":["[CLS]"]},
            "[SEP]":{"id":"[SEP]","ids":[3],"tokens":["[SEP]"]}}},
    "decoder":null,
    "model":{"type":"WordPiece","unk_token":"[UNK]","continuing_subword_prefix":"##","max_input_chars_per_word":100,
        "vocab":{"[PAD]":0,"[UNK]":1,"[CLS]":2,"[SEP]":3,"a":4,"##b":5,"pump":6,".":7}}}"###;

/// The tensors of the model: names and shapes.
fn tensors() -> Vec<(String, Vec<usize>)> {
    let mut tensors = vec![
        ("embeddings.word_embeddings.weight".to_owned(), vec![8, 32]),
        ("embeddings.position_embeddings.weight".to_owned(), vec![16, 32]),
        ("embeddings.token_type_embeddings.weight".to_owned(), vec![2, 32]),
        ("embeddings.LayerNorm.weight".to_owned(), vec![32]),
        ("embeddings.LayerNorm.bias".to_owned(), vec![32]),
    ];
    let mut layer = |part: &str, weight: Vec<usize>| {
        let bias = vec![weight[0]];
        tensors.push((format!("encoder.layer.0.{part}.weight"), weight));
        tensors.push((format!("encoder.layer.0.{part}.bias"), bias));
    };
    for part in ["query", "key", "value"] {
        layer(&format!("attention.self.{part}"), vec![32, 32]);
    }
    layer("attention.output.dense", vec![32, 32]);
    layer("attention.output.LayerNorm", vec![32]);
    layer("intermediate.dense", vec![64, 32]);
    layer("output.dense", vec![32, 64]);
    layer("output.LayerNorm", vec![32]);
    tensors
}

/// Its weights, with one tensor changed.
fn weights(change: impl Fn(&str, &mut Vec<usize>, &mut Dtype)) -> Vec<u8> {
    let tensors: Vec<_> = tensors()
        .into_iter()
        .map(|(name, mut shape)| {
            let mut dtype = Dtype::F32;
            change(&name, &mut shape, &mut dtype);
            let n = shape.iter().product::<usize>() * dtype.bitsize() / 8;
            // Small numbers in each of the types of floats.
            let data: Vec<u8> = (0..n).map(|i| (i * 37 % 61) as u8).collect();
            (name, shape, dtype, data)
        })
        .collect();
    let views = tensors.iter().map(|(name, shape, dtype, data)| {
        (name.clone(), TensorView::new(*dtype, shape.clone(), data).unwrap())
    });
    safetensors::serialize(views, None).unwrap()
}

fn sound_weights() -> Vec<u8> {
    weights(|_, _, _| {})
}

/// A safetensors file of a header as it is typed, and so many bytes of data.
fn typed(header: &str, n_data: usize) -> Vec<u8> {
    let len = (header.len() as u64).to_le_bytes();
    [&len[..], header.as_bytes(), &vec![0; n_data]].concat()
}

fn folder(config: &[u8], tokenizer: &[u8], weights: &[u8]) -> TempDir {
    let folder = tempfile::tempdir().unwrap();
    for (name, bytes) in
        [("config.json", config), ("tokenizer.json", tokenizer), ("model.safetensors", weights)]
    {
        fs::write(folder.path().join(name), bytes).unwrap();
    }
    folder
}

fn open(folder: &Path) -> Result<Encoder, EmbedError> {
    Encoder::open(folder, Precision::F32)
}

/// The complaint about a folder, which must name the file.
fn refused(config: &[u8], tokenizer: &[u8], weights: &[u8], file: &str) -> String {
    let folder = folder(config, tokenizer, weights);
    match open(folder.path()) {
        Err(EmbedError::Model(what)) => {
            assert!(what.contains(file), "{what} does not name {file}");
            what
        }
        Err(other) => panic!("{other:?} is not about the model"),
        Ok(_) => panic!("a hostile {file} was taken"),
    }
}

fn bad_config(config: &str) -> String {
    refused(config.as_bytes(), TOKENIZER.as_bytes(), &sound_weights(), "config.json")
}

fn bad_tokenizer(tokenizer: &[u8]) -> String {
    refused(CONFIG.as_bytes(), tokenizer, &sound_weights(), "tokenizer.json")
}

fn bad_weights(weights: &[u8]) -> String {
    refused(CONFIG.as_bytes(), TOKENIZER.as_bytes(), weights, "model.safetensors")
}

#[test]
fn the_sound_folder_is_a_model() {
    let folder = folder(CONFIG.as_bytes(), TOKENIZER.as_bytes(), &sound_weights());
    let encoder = open(folder.path()).unwrap();
    let info = encoder.model();
    assert_eq!((info.dim, info.max_tokens), (32, 16));
    let vector = encoder.encode(&["ab pump . unknown"]).unwrap().remove(0);
    let length = vector.iter().map(|x| x * x).sum::<f32>().sqrt();
    assert!((length - 1.0).abs() < 1e-5, "{length}");
}

#[test]
fn weights_cut_short_are_refused() {
    let whole = sound_weights();
    for len in (0..whole.len()).step_by(97).chain([1, 7, 8, 9, whole.len() - 1]) {
        bad_weights(&whole[..len]);
    }
}

#[test]
fn missing_files_are_refused_by_name() {
    for file in ["config.json", "tokenizer.json", "model.safetensors"] {
        let folder = folder(CONFIG.as_bytes(), TOKENIZER.as_bytes(), &sound_weights());
        fs::remove_file(folder.path().join(file)).unwrap();
        let Err(EmbedError::Model(what)) = open(folder.path()) else { panic!("{file}") };
        assert!(what.contains(file), "{what}");
        // A folder in place of the file is no better.
        fs::create_dir(folder.path().join(file)).unwrap();
        assert!(matches!(open(folder.path()), Err(EmbedError::Model(_))), "{file}");
    }
}

#[test]
fn tensors_of_another_shape_or_type_are_refused_by_name() {
    for (name, shape) in tensors() {
        for wrong in [vec![], vec![1], vec![0, 32], [&shape[..], &[1]].concat()] {
            if wrong != shape {
                let what = bad_weights(&weights(|tensor, shape, _| {
                    if tensor == name {
                        shape.clone_from(&wrong);
                    }
                }));
                assert!(what.contains(&name), "{what}");
            }
        }
        for wrong in [Dtype::I64, Dtype::U8, Dtype::BOOL, Dtype::F64] {
            let what = bad_weights(&weights(|tensor, _, dtype| {
                if tensor == name {
                    *dtype = wrong;
                }
            }));
            assert!(what.contains(&name), "{what}");
        }
    }
}

#[test]
fn headers_that_lie_are_refused() {
    for len in [u64::MAX, u64::MAX - 7, 1 << 63, 1 << 40, 100_000_001, 9] {
        bad_weights(&[&len.to_le_bytes()[..], b"{}"].concat());
    }
    let tensor = |shape: &str, offsets: &str| {
        typed(&format!(r#"{{"t":{{"dtype":"F32","shape":{shape},"data_offsets":{offsets}}}}}"#), 64)
    };
    for (shape, offsets) in [
        ("[16]", "[0,65]"),
        ("[16]", "[64,0]"),
        ("[16]", "[-1,63]"),
        ("[16]", "[0,18446744073709551615]"),
        ("[16]", "[18446744073709551600,18446744073709551664]"),
        ("[-16]", "[0,64]"),
        ("[4294967296,4294967296]", "[0,0]"),
        ("[18446744073709551615,18446744073709551615,16]", "[0,64]"),
        ("[4611686018427387904]", "[0,0]"),
        ("[1e3]", "[0,64]"),
        ("16", "[0,64]"),
        ("[16]", "[0]"),
        ("[16]", "null"),
    ] {
        bad_weights(&tensor(shape, offsets));
    }
    for header in ["", "[]", "nul", "{\"t\":1}", "\u{0}", "{\"t\":{}}"] {
        bad_weights(&typed(header, 64));
    }
    for open in ["[", "{\"a\":"] {
        let what = bad_weights(&typed(&open.repeat(200_000), 0));
        assert!(what.len() < 1000, "a complaint of {} bytes", what.len());
    }
}

/// Two tensors in the same bytes mean that the file is not what it says.
#[test]
fn tensors_that_overlap_are_refused() {
    let two = |a: &str, b: &str| {
        let tensor = |offsets| format!(r#"{{"dtype":"F32","shape":[8],"data_offsets":{offsets}}}"#);
        typed(&format!(r#"{{"a":{},"b":{}}}"#, tensor(a), tensor(b)), 64)
    };
    for (a, b) in [("[0,32]", "[16,48]"), ("[0,32]", "[0,32]")] {
        let what = bad_weights(&two(a, b));
        assert!(what.contains("overlap"), "{what}");
    }
}

#[test]
fn settings_that_are_absurd_are_refused() {
    for (field, values) in [
        (
            "hidden_size\":32",
            &["0", "1", "-1", "33", "1e9", "4294967296", "18446744073709551616"][..],
        ),
        ("intermediate_size\":64", &["0", "99999999999", "18446744073709551615"]),
        ("num_attention_heads\":2", &["0", "3", "64", "18446744073709551615"]),
        ("max_position_embeddings\":16", &["0", "1", "2", "15", "18446744073709551615"]),
        ("type_vocab_size\":2", &["0", "3", "18446744073709551615"]),
        ("vocab_size\":8", &["0", "9", "18446744073709551615"]),
        ("num_hidden_layers\":1", &["0", "2", "65536", "18446744073709551615", "-1"]),
        ("layer_norm_eps\":1e-12", &["-1", "1e999", "null", "\"x\""]),
        ("hidden_act\":\"gelu\"", &["\"relu\"", "3"]),
    ] {
        let (name, _) = field.split_once("\":").unwrap();
        for value in values {
            let config = CONFIG.replacen(field, &format!("{name}\":{value}"), 1);
            assert_ne!(config, CONFIG);
            let folder = folder(config.as_bytes(), TOKENIZER.as_bytes(), &sound_weights());
            let opened = open(folder.path());
            assert!(matches!(opened, Err(EmbedError::Model(_))), "{name} {value}");
        }
    }
    for config in ["", "{}", "[]", "null", &"[".repeat(200_000), &CONFIG[..90]] {
        bad_config(config);
    }
    let long = format!("{{\"x\":\"{}\"}}", "x".repeat(2 << 20));
    assert!(bad_config(&long).contains("larger than"));
}

#[test]
fn tokenizers_that_are_absurd_are_refused() {
    for tokenizer in ["", "{}", "[]", "null", &"[".repeat(200_000), &TOKENIZER[..500]] {
        bad_tokenizer(tokenizer.as_bytes());
    }
    for (from, to) in [
        ("\"WordPiece\"", "\"Abacus\""),
        ("\"vocab\":{", "\"vocab\":[{"),
        ("\"id\":2,\"special\"", "\"id\":-2,\"special\""),
        ("\"a\":4", "\"a\":4294967296"),
        ("\"ids\":[2]", "\"ids\":\"x\""),
    ] {
        let tokenizer = TOKENIZER.replacen(from, to, 1);
        assert_ne!(tokenizer, TOKENIZER);
        bad_tokenizer(tokenizer.as_bytes());
    }
    bad_tokenizer(b"\xff\xfe{}");
}

/// Word pieces that the network has no vectors for fail their text and no other.
#[test]
fn a_vocabulary_too_large_fails_only_its_texts() {
    let tokenizer = TOKENIZER.replacen("\"pump\":6", "\"pump\":6000", 1);
    let folder = folder(CONFIG.as_bytes(), tokenizer.as_bytes(), &sound_weights());
    let encoder = open(folder.path()).unwrap();
    assert!(encoder.encode(&["a ."]).is_ok());
    assert!(matches!(encoder.encode(&["pump"]), Err(EmbedError::Failed(_))));
}

/// The library for tokenizers panics at a mark that its template names and does not define: that
/// is an error too, also where several threads run into it at once.
#[test]
fn a_template_with_a_mark_that_is_not_there_is_an_error() {
    let tokenizer = TOKENIZER.replacen(
        "{\"SpecialToken\":{\"id\":\"[SEP]\"",
        "{\"SpecialToken\":{\"id\":\"[S]\"",
        1,
    );
    assert_ne!(tokenizer, TOKENIZER);
    let folder = folder(CONFIG.as_bytes(), tokenizer.as_bytes(), &sound_weights());
    match open(folder.path()) {
        Ok(encoder) => {
            let texts = ["a", "b", "pump", "."].repeat(8);
            assert!(matches!(encoder.encode_on(&texts, 4), Err(EmbedError::Failed(_))));
        }
        Err(error) => assert!(matches!(error, EmbedError::Model(_)), "{error}"),
    }
}

/// What may befall a file.
#[derive(Debug, Clone)]
enum Damage {
    Flip(prop::sample::Index, u8),
    Cut(prop::sample::Index),
    Remove(prop::sample::Index, usize),
    Insert(prop::sample::Index, Vec<u8>),
}

fn damage() -> impl Strategy<Value = Damage> {
    prop_oneof![
        4 => (any::<prop::sample::Index>(), 1..=255u8).prop_map(|(at, bits)| Damage::Flip(at, bits)),
        1 => any::<prop::sample::Index>().prop_map(Damage::Cut),
        2 => (any::<prop::sample::Index>(), 1..40usize).prop_map(|(at, n)| Damage::Remove(at, n)),
        2 => (any::<prop::sample::Index>(), "[0-9eE\\-\\[\\]{},:\"a-z\\\\]{1,20}")
            .prop_map(|(at, text)| Damage::Insert(at, text.into_bytes())),
    ]
}

impl Damage {
    fn apply(&self, bytes: &mut Vec<u8>) {
        // Headers and settings are at the front and of most interest.
        let at = |index: &prop::sample::Index| index.index(bytes.len().min(6000) + 1);
        match self {
            Self::Flip(index, bits) => {
                let at = at(index);
                if let Some(byte) = bytes.get_mut(at) {
                    *byte ^= bits;
                }
            }
            Self::Cut(index) => bytes.truncate(index.index(bytes.len() + 1)),
            Self::Remove(index, n) => {
                let at = at(index);
                bytes.drain(at..bytes.len().min(at + n));
            }
            Self::Insert(index, new) => {
                let at = at(index);
                bytes.splice(at..at, new.iter().copied());
            }
        }
    }
}

proptest! {
    /// A damaged folder is an error about the model, or a model that still makes vectors or
    /// errors of texts; never a panic.
    #[test]
    fn damaged_folders_are_errors_or_models(
        which in 0..3usize,
        damages in prop::collection::vec(damage(), 1..4),
    ) {
        let mut files =
            [CONFIG.as_bytes().to_vec(), TOKENIZER.as_bytes().to_vec(), sound_weights()];
        for damage in &damages {
            damage.apply(&mut files[which]);
        }
        let folder = folder(&files[0], &files[1], &files[2]);
        match open(folder.path()) {
            Ok(encoder) => {
                let n_numbers = encoder.model().dim;
                match encoder.encode(&["ab pump .", "", "a a a a a a a a a a a a a a a a a a"]) {
                    Ok(vectors) => {
                        prop_assert!(vectors.iter().all(|vector| vector.len() == n_numbers));
                    }
                    Err(error) => prop_assert!(matches!(error, EmbedError::Failed(_)), "{error}"),
                }
            }
            Err(error) => prop_assert!(matches!(error, EmbedError::Model(_)), "{error}"),
        }
    }
}
