//! Model files made by tests: a few kilobytes, random weights, everything in place.

use std::io::Write as _;

use candle_core::quantized::{GgmlDType, QTensor};
use candle_core::{Device, Tensor};
use tempfile::NamedTempFile;

use super::gguf::Value;

/// A file being made.
#[derive(Debug, Clone, Default)]
pub struct Sample {
    /// Its metadata, in order.
    pub entries: Vec<(String, Value)>,
    /// Its tensors: name, dimensions, type, bytes.
    pub tensors: Vec<(String, Vec<usize>, u32, Vec<u8>)>,
    state: u64,
}

/// Numbers of a token's vector.
pub const WIDTH: usize = 64;
/// Numbers inside a feed-forward part.
pub const INNER: usize = 96;
/// Layers.
pub const LAYERS: usize = 2;
/// Heads of queries.
pub const HEADS: usize = 4;
/// Heads of keys and values.
pub const KV_HEADS: usize = 2;
/// Longest text, in tokens.
pub const CONTEXT: usize = 8192;

/// The vocabulary of samples: three special tokens, the bytes, some words.
pub fn tokens() -> Vec<String> {
    let special = ["<unk>", "<s>", "</s>", "<|user|>"].map(str::to_owned);
    let bytes = (0..=255).map(|byte| format!("<0x{byte:02X}>"));
    let letters = ('a'..='z').map(|letter| letter.to_string());
    let words = ["\u{2581}", "th", "the", "\u{2581}the", "in", "ing", "\u{2581}a", "er"];
    let mut tokens: Vec<String> = special.into_iter().chain(bytes).chain(letters).collect();
    tokens.extend(words.map(str::to_owned));
    tokens
}

impl Sample {
    /// A model of the family `arch` with weights of the type `kind`, complete.
    pub fn model(arch: &str, kind: GgmlDType) -> Self {
        let mut sample = Self { state: 42, ..Self::default() };
        let n = |n: usize| Value::Integer(n as i128);
        sample.entry("general.architecture", Value::Text(arch.to_owned()));
        let head = if arch == "gemma3" { 32 } else { WIDTH / HEADS };
        for (name, value) in [
            ("context_length", n(CONTEXT)),
            ("embedding_length", n(WIDTH)),
            ("block_count", n(LAYERS)),
            ("feed_forward_length", n(INNER)),
            ("attention.head_count", n(HEADS)),
            ("attention.head_count_kv", n(if arch == "phi2" { HEADS } else { KV_HEADS })),
            ("attention.key_length", n(head)),
            ("attention.value_length", n(head)),
            ("rope.dimension_count", n(if arch == "phi2" { head / 2 } else { head })),
            ("rope.freq_base", Value::Float(10_000.0)),
            ("attention.layer_norm_epsilon", Value::Float(1e-5)),
            ("attention.layer_norm_rms_epsilon", Value::Float(1e-5)),
        ] {
            sample.entry(&format!("{arch}.{name}"), value);
        }
        if arch == "gemma3" {
            sample.entry("gemma3.attention.sliding_window", n(8));
        }
        // candle's Qwen3 takes it for the type of its rotary angles.
        sample.entry("general.dtype", n(0));
        sample.vocabulary();
        sample.weights(arch, kind, head);
        sample
    }

    /// Sets an entry of the metadata.
    pub fn entry(&mut self, name: &str, value: Value) {
        self.entries.retain(|(other, _)| other != name);
        self.entries.push((name.to_owned(), value));
    }

    fn vocabulary(&mut self) {
        let tokens = tokens();
        let kind = |(id, _): (usize, &String)| match id {
            0 => 2,
            1..=3 => 3,
            4..260 => 6,
            _ => 1,
        };
        let scores = (0..tokens.len()).map(|id| -(id as f32)).collect();
        let kinds = tokens.iter().enumerate().map(kind).collect();
        for (name, value) in [
            ("model", Value::Text("llama".to_owned())),
            ("scores", Value::Floats(scores)),
            ("token_type", Value::Integers(kinds)),
            ("bos_token_id", Value::Integer(1)),
            ("eos_token_id", Value::Integer(2)),
            ("unknown_token_id", Value::Integer(0)),
            ("tokens", Value::Texts(tokens)),
        ] {
            self.entry(&format!("tokenizer.ggml.{name}"), value);
        }
        let template = "{{ bos_token }}{% for m in messages %}<|user|>{{ m.content }}{% endfor %}";
        self.entry("tokenizer.chat_template", Value::Text(template.to_owned()));
    }

    fn weights(&mut self, arch: &str, kind: GgmlDType, head: usize) {
        let kv = if arch == "phi2" { HEADS } else { KV_HEADS } * head;
        let queries = HEADS * head;
        let vocabulary = tokens().len();
        self.matrix("token_embd.weight", &[vocabulary, WIDTH], kind);
        self.norm("output_norm", WIDTH, arch);
        if matches!(arch, "phi2" | "phi3") {
            self.matrix("output.weight", &[vocabulary, WIDTH], kind);
        }
        if arch == "phi2" {
            self.vector("output.bias", vocabulary, 0.0);
        }
        for layer in 0..LAYERS {
            let name = |part: &str| format!("blk.{layer}.{part}");
            let mut linear = |part: &str, rows, columns, bias: bool| {
                self.matrix(&name(&format!("{part}.weight")), &[rows, columns], kind);
                if bias {
                    self.vector(&name(&format!("{part}.bias")), rows, 0.0);
                }
            };
            let phi2 = arch == "phi2";
            if matches!(arch, "phi2" | "phi3") {
                linear("attn_qkv", queries + 2 * kv, WIDTH, phi2);
            } else {
                linear("attn_q", queries, WIDTH, arch == "qwen2");
                linear("attn_k", kv, WIDTH, arch == "qwen2");
                linear("attn_v", kv, WIDTH, arch == "qwen2");
                linear("ffn_gate", INNER, WIDTH, false);
            }
            linear("attn_output", WIDTH, queries, phi2);
            linear("ffn_up", if arch == "phi3" { 2 * INNER } else { INNER }, WIDTH, phi2);
            linear("ffn_down", WIDTH, INNER, phi2);
            self.norm(&name("attn_norm"), WIDTH, arch);
            if arch != "phi2" {
                self.norm(&name("ffn_norm"), WIDTH, arch);
            }
            if matches!(arch, "qwen3" | "gemma3") {
                self.norm(&name("attn_q_norm"), head, arch);
                self.norm(&name("attn_k_norm"), head, arch);
            }
            if arch == "gemma3" {
                self.norm(&name("post_attention_norm"), WIDTH, arch);
                self.norm(&name("post_ffw_norm"), WIDTH, arch);
            }
        }
    }

    fn norm(&mut self, name: &str, len: usize, arch: &str) {
        self.vector(&format!("{name}.weight"), len, 1.0);
        if arch == "phi2" {
            self.vector(&format!("{name}.bias"), len, 0.0);
        }
    }

    /// The next `n` numbers of its random source, -0.25 to 0.25.
    pub fn numbers(&mut self, n: usize) -> Vec<f32> {
        let mut number = || {
            self.state = self
                .state
                .wrapping_mul(6_364_136_223_846_793_005)
                .wrapping_add(1_442_695_040_888_963_407);
            ((self.state >> 40) as f32 / (1_u64 << 24) as f32 - 0.5) * 0.5
        };
        (0..n).map(|_| number()).collect()
    }

    fn vector(&mut self, name: &str, len: usize, about: f32) {
        let bytes =
            self.numbers(len).iter().flat_map(|number| (about + number).to_le_bytes()).collect();
        self.tensors.push((name.to_owned(), vec![len], 0, bytes));
    }

    /// Adds a matrix of random numbers.
    pub fn matrix(&mut self, name: &str, dims: &[usize], kind: GgmlDType) {
        let numbers = self.numbers(dims.iter().product());
        let tensor = Tensor::from_vec(numbers, dims, &Device::Cpu).unwrap();
        let tensor = QTensor::quantize(&tensor, kind).unwrap();
        let code = match kind {
            GgmlDType::F32 => 0,
            GgmlDType::F16 => 1,
            GgmlDType::Q4_0 => 2,
            GgmlDType::Q4_1 => 3,
            GgmlDType::Q5_0 => 6,
            GgmlDType::Q5_1 => 7,
            GgmlDType::Q8_0 => 8,
            GgmlDType::Q2K => 10,
            GgmlDType::Q3K => 11,
            GgmlDType::Q4K => 12,
            GgmlDType::Q5K => 13,
            GgmlDType::Q6K => 14,
            GgmlDType::BF16 => 30,
            kind => panic!("{kind:?} is in no file"),
        };
        let bytes = tensor.data().unwrap().into_owned();
        self.tensors.push((name.to_owned(), dims.to_vec(), code, bytes));
    }

    /// The file.
    pub fn bytes(&self) -> Vec<u8> {
        let mut out = b"GGUF\x03\0\0\0".to_vec();
        let text = |out: &mut Vec<u8>, text: &str| {
            out.extend((text.len() as u64).to_le_bytes());
            out.extend(text.as_bytes());
        };
        out.extend((self.tensors.len() as u64).to_le_bytes());
        out.extend((self.entries.len() as u64).to_le_bytes());
        for (name, value) in &self.entries {
            text(&mut out, name);
            let kind = |out: &mut Vec<u8>, kind: u32| out.extend(kind.to_le_bytes());
            match value {
                Value::Integer(number) => {
                    kind(&mut out, 4);
                    out.extend((*number as u32).to_le_bytes());
                }
                Value::Float(number) => {
                    kind(&mut out, 6);
                    out.extend((*number as f32).to_le_bytes());
                }
                Value::Bool(switch) => {
                    kind(&mut out, 7);
                    out.push(u8::from(*switch));
                }
                Value::Text(value) => {
                    kind(&mut out, 8);
                    text(&mut out, value);
                }
                Value::Integers(numbers) => {
                    kind(&mut out, 9);
                    kind(&mut out, 5);
                    out.extend((numbers.len() as u64).to_le_bytes());
                    out.extend(numbers.iter().flat_map(|n| (*n as i32).to_le_bytes()));
                }
                Value::Floats(numbers) => {
                    kind(&mut out, 9);
                    kind(&mut out, 6);
                    out.extend((numbers.len() as u64).to_le_bytes());
                    out.extend(numbers.iter().flat_map(|n| n.to_le_bytes()));
                }
                Value::Texts(texts) => {
                    kind(&mut out, 9);
                    kind(&mut out, 8);
                    out.extend((texts.len() as u64).to_le_bytes());
                    texts.iter().for_each(|value| text(&mut out, value));
                }
            }
        }
        let mut offset = 0;
        for (name, dims, code, bytes) in &self.tensors {
            text(&mut out, name);
            out.extend((dims.len() as u32).to_le_bytes());
            out.extend(dims.iter().rev().flat_map(|dim| (*dim as u64).to_le_bytes()));
            out.extend(code.to_le_bytes());
            out.extend((offset as u64).to_le_bytes());
            offset += bytes.len().next_multiple_of(32);
        }
        for (_, _, _, bytes) in &self.tensors {
            out.resize(out.len().next_multiple_of(32), 0);
            out.extend(bytes);
        }
        out
    }

    /// The file, on disk.
    pub fn file(&self) -> NamedTempFile {
        let mut file = NamedTempFile::with_suffix(".gguf").unwrap();
        file.write_all(&self.bytes()).unwrap();
        file
    }
}
