//! A model folder from bytes of any kind: it must be a model or an error; never a panic, never
//! more memory than libFuzzer allows.
#![no_main]

use std::fs;

use activekg::embedding::{Encoder, Precision};
use libfuzzer_sys::fuzz_target;

// The first two lines are config.json and tokenizer.json, the rest is model.safetensors.
fuzz_target!(|input: &[u8]| {
    let mut parts = input.splitn(3, |&byte| byte == b'\n');
    let folder = tempfile::tempdir().expect("the system gives a directory");
    for name in ["config.json", "tokenizer.json", "model.safetensors"] {
        let bytes = parts.next().unwrap_or_default();
        fs::write(folder.path().join(name), bytes).expect("the directory takes a file");
    }
    if let Ok(encoder) = Encoder::open(folder.path(), Precision::F32) {
        drop(encoder.encode(&["", "a text of some words, 3.14 and 東京"]));
    }
});
